"""Does with datatrove what throughput.py times: texts of JSON lines to shuffled, tokenized files. Prints one line of JSON.

    peers.py datatrove FOLDER OUT --tokenizer tokenizer.json --workers 2
"""

import argparse
import json
import sys
import time
from pathlib import Path


def main():
    options = arguments()
    print(json.dumps(datatrove(options)))
    return 0


def arguments():
    parser = argparse.ArgumentParser(description="peers of mellama's shards")
    parser.add_argument("tool", choices=["datatrove"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args()


def datatrove(options):
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer, DocumentTokenizerMerger

    files = len(list(options.folder.glob("*.jsonl.zst")))
    reader = JsonlReader(str(options.folder), compression="zstd", glob_pattern="*.jsonl.zst", doc_progress=False)
    part = {name: str(options.out / name) for name in ("tokens", "local", "merged", "logs")}
    tokenizer = str(options.tokenizer)
    encode = DocumentTokenizer(
        output_folder=part["tokens"],
        local_working_dir=part["local"],
        tokenizer_name_or_path=tokenizer,
        eos_token="</s>",
        shuffle_documents=True,
        seed=42,
        upload_block_size=None,
    )
    merge = DocumentTokenizerMerger(
        input_folder=part["tokens"], output_folder=part["merged"], save_filename="merged", shuffle=True, seed=42
    )
    seconds = {}
    for name, tasks, pipeline in (("tokens", files, [reader, encode]), ("merged", 1, [merge])):
        begin = time.perf_counter()
        logs = f"{part['logs']}/{name}"
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=min(options.workers, tasks), logging_dir=logs).run()
        seconds[name] = time.perf_counter() - begin
    size = sum(one.stat().st_size for one in Path(part["merged"]).rglob("*.ds"))
    return {"seconds": seconds, "tokens": size // 2}


if __name__ == "__main__":
    sys.exit(main())
