"""Deduplicates JSON lines with another tool and prints one line of JSON about it.

    peers.py datatrove FOLDER OUT --workers N    signatures, buckets, clusters and filter of datatrove; survivors into OUT
    peers.py rensa FOLDER                        words and shingles in Python, R-MinHash and its index in rensa; one thread
    peers.py rensa-signing FOLDER                the same without the index
    peers.py texts FOLDER                        no tool: the files as plain JSON lines on standard output

FOLDER holds .jsonl.zst files of `id` and `text`. The setting is that of mellama: 14 bands of 8 rows over shingles of 5 words.
`seconds` are those of the tool without the start of the interpreter; head_to_head.py times the process.
"""

import argparse
import io
import itertools
import json
import re
import sys
import time
from pathlib import Path

BANDS, ROWS, SHINGLE_WORDS = 14, 8, 5
PERMUTATIONS = BANDS * ROWS
BATCH_DOCUMENTS = 256
CHUNK_BYTES = 1 << 20
WORD = re.compile(r"[^\W_]+")


def main():
    parser = argparse.ArgumentParser(description="deduplicates with another tool")
    parser.add_argument("tool", choices=sorted(TOOLS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    found = TOOLS[options.tool](options)
    if found is not None:
        print(json.dumps(found))
    return 0


def texts(folder):
    import orjson
    import zstandard

    for path in sorted(folder.glob("*.jsonl.zst")):
        with zstandard.open(path, "rb") as file:
            for line in io.BufferedReader(file, CHUNK_BYTES):
                yield orjson.loads(line)["text"]


def print_texts(options):
    import zstandard

    for path in sorted(options.folder.glob("*.jsonl.zst")):
        with zstandard.open(path, "rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                sys.stdout.buffer.write(chunk)


def datatrove(options):
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.hashing import HashConfig

    setting = MinhashConfig(SHINGLE_WORDS, BANDS, ROWS, hash_config=HashConfig(precision=64))
    files = len(list(options.folder.glob("*.jsonl.zst")))
    reader = JsonlReader(str(options.folder), compression="zstd", glob_pattern="*.jsonl.zst", doc_progress=False)
    part = {name: str(options.out / name) for name in ("signatures", "buckets", "removed", "survivors", "logs")}
    writer = JsonlWriter(part["survivors"], output_filename="${rank}.jsonl.zst", compression="zstd")
    stages = [
        ("signatures", files, [reader, MinhashDedupSignature(part["signatures"], config=setting)]),
        ("buckets", BANDS, [MinhashDedupBuckets(part["signatures"], part["buckets"], config=setting, lines_to_buffer=-1)]),
        ("clusters", 1, [MinhashDedupCluster(part["buckets"], part["removed"], config=setting, lines_to_buffer=-1)]),
        ("filter", files, [reader, MinhashDedupFilter(part["removed"]), writer]),
    ]
    seconds = {}
    for name, tasks, pipeline in stages:
        begin = time.perf_counter()
        logs = f"{part['logs']}/{name}"
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=min(options.workers, tasks), logging_dir=logs).run()
        seconds[name] = time.perf_counter() - begin
    # Each removed document is four bytes.
    removed = sum(one.stat().st_size for one in Path(part["removed"]).glob("*.remove")) // 4
    documents = sum(1 for _ in texts(options.folder))
    return {"seconds": seconds, "documents": documents, "survivors": documents - removed}


def shingles(text):
    words = WORD.findall(text.lower())
    if len(words) < SHINGLE_WORDS:
        return [" ".join(words)] if words else []
    return [" ".join(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1)]


def rensa_signing(options):
    return rensa(options, with_index=False)


def rensa(options, with_index=True):
    from rensa import RMinHash, RMinHashLSH

    index = RMinHashLSH(threshold=0.8, num_perm=PERMUTATIONS, num_bands=BANDS)
    spent = {}
    counts = {"documents": 0, "text_bytes": 0, "survivors": 0}
    source = texts(options.folder)
    while batch := timed(spent, "read", lambda: list(itertools.islice(source, BATCH_DOCUMENTS))):
        found = timed(spent, "shingles", lambda: [shingles(text) for text in batch])
        signatures = timed(spent, "signing", lambda: RMinHash.from_token_sets(found, num_perm=PERMUTATIONS, seed=1))
        counts["text_bytes"] += sum(len(text.encode()) for text in batch)
        if with_index:
            counts["survivors"] += timed(spent, "index", lambda: sum(kept(index, one, counts) for one in signatures))
        else:
            counts["documents"] += len(batch)
    seconds = {name: wall for name, (wall, _) in spent.items()}
    return {"seconds": seconds, "cpu_seconds": {name: cpu for name, (_, cpu) in spent.items()}, **counts}


def kept(index, signature, counts):
    """Whether no kept document shares a band with this one; then it is the first of its kind."""
    counts["documents"] += 1
    if index.query(signature):
        return False
    index.insert(counts["documents"], signature)
    return True


def timed(spent, name, work):
    begin, begin_cpu = time.perf_counter(), time.process_time()
    result = work()
    seconds, cpu_seconds = spent.get(name, (0.0, 0.0))
    spent[name] = (seconds + time.perf_counter() - begin, cpu_seconds + time.process_time() - begin_cpu)
    return result


TOOLS = {
    "datatrove": datatrove,
    "rensa": rensa,
    "rensa-signing": rensa_signing,
    "texts": print_texts,
}

if __name__ == "__main__":
    sys.exit(main())
