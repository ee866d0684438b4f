"""Makes large inputs for the reader benchmarks by repeating the JATS and PubMed files of a data folder.

    make_inputs.py DATA OUT           OUT/jats/ (copies of all articles), OUT/pubmed.xml, OUT/pubmed.xml.gz; 200 MB each
    make_inputs.py DATA OUT --big     besides: OUT/pubmed-big.xml, OUT/jats-big.tar.gz (an article a member) and
                                      OUT/jats-big.xml.gz (one pmc-articleset), 2 GB of XML each

Citations are copied as they stand; those that pubmed_parser cannot read are left out, so that every reader gets the same
file. Repeated records keep their ids: the files are for timing and memory, not for duplicates or realistic vocabularies.
"""

import argparse
import gzip
import io
import itertools
import shutil
import tarfile
from pathlib import Path

from lxml import etree

MEGABYTE = 1_000_000
INPUT_BYTES = 200 * MEGABYTE
BIG_BYTES = 2_000 * MEGABYTE
GZIP_LEVEL = 6
# The big archives measure memory only; a low level saves minutes.
BIG_GZIP_LEVEL = 1
HEAD = b'<?xml version="1.0" encoding="UTF-8"?>\n<PubmedArticleSet>\n'
FOOT = b"</PubmedArticleSet>\n"


def main():
    options = arguments()
    options.out.mkdir(parents=True, exist_ok=True)
    articles = sorted(one for one in (options.data / "jats").rglob("*ml") if one.is_file())
    found = citations(options.data / "pubmed")
    copy_articles(articles, options.out / "jats", INPUT_BYTES)
    write_citations(found, options.out / "pubmed.xml", INPUT_BYTES)
    compress(options.out / "pubmed.xml", options.out / "pubmed.xml.gz")
    if options.big:
        write_citations(found, options.out / "pubmed-big.xml", BIG_BYTES)
        write_archive(articles, options.out / "jats-big.tar.gz", BIG_BYTES)
        write_set(articles, options.out / "jats-big.xml.gz", BIG_BYTES)


def arguments():
    parser = argparse.ArgumentParser(description="large inputs for bench/readers.py")
    parser.add_argument("data", type=Path, help="folder with pubmed/ and jats/")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--big", action="store_true", help="2 GB inputs too")
    return parser.parse_args()


def citations(folder):
    """The bytes of every citation that has an article in a journal."""
    found = []
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        try:
            root = etree.parse(str(path), etree.XMLParser(resolve_entities=False, huge_tree=True)).getroot()
        except etree.XMLSyntaxError:
            continue
        for one in root.iter("PubmedArticle"):
            if readable(one):
                found.append(etree.tostring(one, encoding="UTF-8", xml_declaration=False, with_tail=False) + b"\n")
    return found


def readable(citation):
    """Has everything that pubmed_parser takes for granted."""
    needed = ["PMID", "Article/Journal/JournalIssue/PubDate", "MedlineJournalInfo"]
    medline = citation.find("MedlineCitation")
    return medline is not None and all(medline.find(path) is not None for path in needed)


def repeated(items, at_least, size):
    """The items again and again until their sizes sum to so many bytes."""
    total = 0
    for item in itertools.cycle(items):
        if total >= at_least:
            return
        total += size(item)
        yield item


def copy_articles(articles, folder, at_least):
    """Whole rounds of all articles, each round in a folder of its own; the first is the list that is read repeatedly."""
    rounds = -(-at_least // sum(one.stat().st_size for one in articles))
    for number in range(rounds):
        into = folder / f"{number:02}"
        into.mkdir(parents=True, exist_ok=True)
        for article in articles:
            shutil.copyfile(article, into / f"{article.parent.name}-{article.stem}.xml")


def write_citations(found, path, at_least):
    with path.open("wb") as file:
        file.write(HEAD)
        file.writelines(repeated(found, at_least, len))
        file.write(FOOT)


def compress(path, into):
    with path.open("rb") as plain, gzip.GzipFile(into, "wb", GZIP_LEVEL, mtime=0) as packed:
        shutil.copyfileobj(plain, packed, MEGABYTE)


def write_archive(articles, path, at_least):
    contents = [(f"{one.parent.name}-{one.stem}.xml", one.read_bytes()) for one in articles]
    with tarfile.open(path, "w:gz", compresslevel=BIG_GZIP_LEVEL) as archive:
        for number, (name, text) in enumerate(repeated(contents, at_least, lambda item: len(item[1]))):
            member = tarfile.TarInfo(f"{number:07}-{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))


def write_set(articles, path, at_least):
    contents = [etree.tostring(etree.parse(str(one)).getroot(), encoding="UTF-8", xml_declaration=False) for one in articles]
    with gzip.GzipFile(path, "wb", BIG_GZIP_LEVEL, mtime=0) as file:
        file.write(b"<pmc-articleset>\n")
        file.writelines(repeated(contents, at_least, len))
        file.write(b"</pmc-articleset>\n")


if __name__ == "__main__":
    main()
