"""Times JSON lines to published shards, in a folder and in a bucket of a server on this machine: what object storage costs.

    throughput.py INPUTS TOKENIZER              INPUTS/speed of bench/dedup/make_corpus.py speed --times 4
    throughput.py INPUTS TOKENIZER --write      and in bench/results/bucket.md

The server is the tests' own (`cargo build --release -p mellama-tests --bin s3-server`), over a folder beside the other work
folder, on the same cores: what it takes is lacking to the run. TOKENIZER is LLaMA-2's tokenizer.json. Runs in the folder and in
the bucket take turns, each in a new process; input comes from the page cache.
"""

import argparse
import contextlib
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
sys.path.insert(0, str(PROJECT / "bench"))
sys.path.insert(0, str(PROJECT / "bench" / "shards"))

import throughput as shards  # noqa: E402
from machine import processor, version  # noqa: E402
from timing import TICKS_PER_SECOND, Run  # noqa: E402

RESULTS = PROJECT / "bench" / "results" / "bucket.md"
KEYS = {"AWS_ACCESS_KEY_ID": "test-key-id", "AWS_SECRET_ACCESS_KEY": "test-secret", "AWS_EC2_METADATA_DISABLED": "true"}
KINDS = ("get", "put", "begin", "part", "complete", "head", "list")


@dataclass
class Sample:
    seconds: float
    cpu_seconds: float
    server_cpu_seconds: float
    requests: dict


def main():
    options = arguments()
    inputs = options.inputs / "speed"
    noted = shards.noted_inputs(inputs)
    load = os.getloadavg()[0]
    samples = {"folder": [], "bucket": []}
    for number in range(options.repetitions):
        for place, found in samples.items():
            print(f"round {number + 1} of {options.repetitions}: {place}", file=sys.stderr)
            found.append(job(options, inputs, place))
    page = "\n".join([*heading(options, load, noted), *table(samples, noted["text_bytes"]), "", *asked(samples["bucket"][-1]), ""])
    print(page)
    if options.write:
        RESULTS.write_text(page, encoding="utf-8")
    return 0


def arguments():
    parser = argparse.ArgumentParser(description="JSON lines to published shards, in a folder and in a bucket")
    parser.add_argument("inputs", type=Path, help="folder that bench/dedup/make_corpus.py speed wrote to")
    parser.add_argument("tokenizer", type=Path, help="tokenizer.json of LLaMA-2")
    parser.add_argument("--mellama", type=Path, default=PROJECT / "target" / "release" / "mellama")
    parser.add_argument("--server", type=Path, default=PROJECT / "target" / "release" / "s3-server")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} into bench/results")
    options = parser.parse_args()
    for name in ("inputs", "tokenizer", "mellama", "server"):
        setattr(options, name, getattr(options, name).resolve())
    return options


def job(options, inputs, place):
    """One run in a new folder or a new bucket."""
    with tempfile.TemporaryDirectory(prefix="run-", dir=options.inputs) as folder:
        recipe = Path(folder, "recipe.toml")
        recipe.write_text(shards.recipe(options, inputs, True), encoding="utf-8")
        if place == "folder":
            return timed(options, folder, str(Path(folder, "work")), None)
        with served(options, folder) as server:
            return timed(options, folder, "s3://bench/work", server)


@contextlib.contextmanager
def served(options, folder):
    """The server with one bucket; its address is in the environment meanwhile."""
    Path(folder, "served", "bench").mkdir(parents=True)
    server = subprocess.Popen([options.server, Path(folder, "served")], stdout=subprocess.PIPE, text=True)
    try:
        os.environ.update(KEYS, AWS_ENDPOINT_URL_S3=server.stdout.readline().strip())
        yield server
    finally:
        server.terminate()
        server.wait()


def timed(options, folder, workdir, server):
    how = ("--threads", str(shards.THREADS), "--memory", shards.MEMORY, "--quiet", "--json", "--workdir", workdir)
    run = Run((str(options.mellama), "run", "recipe.toml", "--until", "publish", *how), folder, None)
    results = json.loads(run.finish(f"run --workdir {workdir}").splitlines()[-1])
    requests = {kind: sum(stage.get("requests", {}).get(kind, 0) for stage in results) for kind in KINDS}
    return Sample(run.seconds, run.cpu_seconds, processor_seconds(server), requests)


def processor_seconds(server):
    """What a process took so far."""
    if server is None:
        return 0.0
    fields = Path(f"/proc/{server.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


# The page


def heading(options, load, noted):
    times = f" --times {noted['times']}" if noted.get("times", 1) > 1 else ""
    busy = ", which is not idle" if load > shards.WARNING_LOAD else ""
    return [
        "# JSON lines to shards in a bucket",
        "",
        f"- machine: {processor()}, {os.cpu_count()} cores, load {load:.1f} before{busy}",
        f"- versions: mellama {version(options.mellama)}, s3s-fs 0.14.1 as the server, on the same cores",
        f"- command: `bench/bucket/throughput.py INPUTS TOKENIZER --repetitions {options.repetitions}`, inputs of "
        f"`bench/dedup/make_corpus.py speed{times}`, LLaMA-2's `tokenizer.json`",
        f"- date: {datetime.date.today().isoformat()}",
        "",
        f"{noted['documents']} documents, {noted['text_bytes'] / shards.MEGABYTE:.1f} MB of text in compressed JSON lines, to shards "
        f"with verified deduplication, {shards.THREADS} threads, `--memory {shards.MEMORY}`. Medians of interleaved runs, each in a "
        "new process; the share is of the rate in a folder.",
        "",
    ]


def table(samples, text_bytes):
    lines = [
        "| Work folder | Runs | Seconds | Range | MB/s | Share | CPU seconds | of the server |",
        "|---|---|---|---|---|---|---|---|",
    ]
    folder = statistics.median(one.seconds for one in samples["folder"])
    for place, found in samples.items():
        seconds = statistics.median(one.seconds for one in found)
        low, high = min(one.seconds for one in found), max(one.seconds for one in found)
        own = statistics.median(one.cpu_seconds for one in found)
        server = statistics.median(one.server_cpu_seconds for one in found)
        lines.append(
            f"| {place} | {len(found)} | {seconds:.2f} | {low:.2f}–{high:.2f} | {text_bytes / shards.MEGABYTE / seconds:.1f} "
            f"| {folder / seconds:.2f} | {own:.1f} | {server:.1f} |"
        )
    return lines


def asked(sample):
    return ["Requests of a run in the bucket: " + ", ".join(f"{count} {kind.upper()}" for kind, count in sample.requests.items()) + "."]


if __name__ == "__main__":
    sys.exit(main())
