"""Makes the inputs of the deduplication benchmarks; the same bytes for the same seed, data and Python packages.

    make_corpus.py speed DATA OUT      OUT/speed/*.jsonl.zst and OUT/speed.json: about 187 MB of text of the JATS articles in
                                       DATA/jats, 4,146 documents, of which 775 are byte-identical copies of others;
                                       with --times N, N times as many of each, and files
    make_corpus.py quality OUT         OUT/quality/corpus.jsonl and truth.jsonl: invented text with known copies

The articles are few, so each is taken again and again with a fifth of its words replaced by words of other articles: the
variants of one article have a Jaccard similarity of 0.06 over 5-word shingles and no tool takes them for duplicates. Word
lengths, punctuation and the number of distinct words stay those of articles. Needs the packages of requirements.txt.
"""

import argparse
import json
import random
from pathlib import Path

import invented

SEED = 20261121
SPEED_BYTES = 187_000_000
# As in the measurement that the bars were taken from: 3,371 texts, 775 more documents in 528 groups of 2 to 4.
DISTINCT_TEXTS = 3371
COPIED_TEXTS = 528
COPIES = 775
FILES = 20
REPLACED_SHARE = 0.2
ZSTD_LEVEL = 3


def main():
    options = arguments()
    if options.what == "speed":
        write_speed(options)
    else:
        invented.write(options.out / "quality", random.Random(SEED), options.bases)


def arguments():
    parser = argparse.ArgumentParser(description="inputs for bench/dedup/head_to_head.py and dedup-quality")
    parts = parser.add_subparsers(dest="what", required=True)
    speed = parts.add_parser("speed", help="articles for timing")
    speed.add_argument("data", type=Path, help="folder with jats/")
    speed.add_argument("out", type=Path, help="folder to write to")
    speed.add_argument("--near", type=int, default=0, help="documents more that are others without their last 20 words")
    speed.add_argument("--times", type=int, default=1, help="so many times the documents")
    quality = parts.add_parser("quality", help="invented text with truth")
    quality.add_argument("out", type=Path, help="folder to write to")
    quality.add_argument("--bases", type=int, default=invented.BASES, help="texts with a copy in every bin of similarity")
    return parser.parse_args()


# Speed


def write_speed(options):
    times, near, files = options.times, options.near, FILES * options.times
    generator = random.Random(SEED)
    articles = [words for path in sorted((options.data / "jats").rglob("*ml")) if (words := article_words(path))]
    pool = [word for words in articles for word in words]
    texts = distinct_texts(articles, pool, generator, times)
    documents = texts + copies_of(texts, generator, times) + [shortened(texts[pick(generator, len(texts))]) for _ in range(near)]
    invented.shuffle(documents, generator)
    folder = options.out / "speed"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        mine = documents[number * len(documents) // files : (number + 1) * len(documents) // files]
        first = number * len(documents) // files
        write_packed(folder / f"{number:02}.jsonl.zst", [(f"doc{first + at:05}", text) for at, text in enumerate(mine)])
    facts = {
        "documents": len(documents),
        "distinct": len(texts),
        "copies": COPIES * times,
        "near": near,
        "times": times,
        "text_bytes": sum(len(text.encode()) for text in documents),
        "articles": len(articles),
    }
    (options.out / "speed.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts))


def article_words(path):
    """The words of the titles and paragraphs of the body; a paragraph ends with a line break on its last word."""
    from lxml import etree

    root = etree.parse(str(path), etree.XMLParser(resolve_entities=False, huge_tree=True, recover=True)).getroot()
    words = []
    for body in root.iter("{*}body") if root is not None else ():
        for one in body.iter("{*}title", "{*}p"):
            if found := "".join(one.itertext()).split():
                words += [*found[:-1], found[-1] + "\n\n"]
    return words


def distinct_texts(articles, pool, generator, times):
    """Variants of the articles in turn, cut so that together they have about the wanted bytes."""
    wanted = times * SPEED_BYTES * DISTINCT_TEXTS / (DISTINCT_TEXTS + COPIES)
    whole = sum(len(joined(articles[at % len(articles)]).encode()) for at in range(times * DISTINCT_TEXTS))
    # The articles are longer or shorter than those of the bars' corpus: all are cut or lengthened in one proportion.
    share = wanted / whole
    texts = []
    for at in range(times * DISTINCT_TEXTS):
        words = resized(articles[at % len(articles)], share, articles[(at + 1) % len(articles)])
        texts.append(joined(replaced(words, pool, generator)))
    return texts


def resized(words, share, more):
    count = max(20, round(len(words) * share))
    while len(words) < count:
        words = words + more
    return words[:count]


def replaced(words, pool, generator):
    words = list(words)
    for at in range(len(words)):
        if generator.random() < REPLACED_SHARE:
            words[at] = pool[pick(generator, len(pool))]
    return words


def joined(words):
    return " ".join(words).replace("\n\n ", "\n\n").strip()


def copies_of(texts, generator, times):
    """Byte-identical copies: at least one of each of the chosen texts, at most three."""
    order = list(range(len(texts)))
    invented.shuffle(order, generator)
    chosen = [number for number in order[: times * COPIED_TEXTS] for _ in range(3)]
    first, further = chosen[::3], chosen[1::3] + chosen[2::3]
    invented.shuffle(further, generator)
    return [texts[number] for number in first + further[: times * (COPIES - COPIED_TEXTS)]]


def shortened(text):
    return text.rsplit(" ", 20)[0]


def write_packed(path, documents):
    import zstandard

    lines = "".join(json.dumps({"id": id_, "text": text}, ensure_ascii=False) + "\n" for id_, text in documents)
    path.write_bytes(zstandard.ZstdCompressor(level=ZSTD_LEVEL).compress(lines.encode()))


def pick(generator, count):
    return invented.pick(generator, count)


if __name__ == "__main__":
    main()
