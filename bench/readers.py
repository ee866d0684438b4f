"""Times mellama's readers head to head with lxml, pubmed_parser and plain inflating, on inputs of make_inputs.py.

    readers.py INPUTS                       table on standard output
    readers.py INPUTS --write               and in bench/results/readers.md
    readers.py INPUTS --big                 and peak memory of ingest on the 2 GB inputs

All readers run in one go, one after the other, and that again and again, each time in a new process, so that whatever
else the machine does meets all of them. The readers count documents and bytes and keep nothing; files come from the page
cache after an unmeasured first round. It compares speed and memory, not text: that is tests/parity/readers.py.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from machine import processor, version

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "readers.md"
MEGABYTE = 1_000_000
REPETITIONS = 5


@dataclass(frozen=True)
class Case:
    """One thing that is timed. The first of a group is what the others are compared with."""

    group: str
    name: str
    command: tuple
    xml_bytes: int
    # An ingest has a recipe's format and inputs, and is timed from outside; the others print their own seconds.
    ingest: tuple | None = None


@dataclass(frozen=True)
class Sample:
    seconds: float
    peak_bytes: int
    documents: int


def main():
    options = arguments()
    cases = reader_cases(options) + ingest_cases(options)
    there = [case for case in cases if Path(case.command[0]).exists()]
    for case in cases:
        if case not in there:
            print(f"not run: {case.group}: {case.name}: {case.command[0]} is not there", file=sys.stderr)
    head = heading(options)
    samples = interleaved(there, options.repetitions, options.inputs)
    big = interleaved(big_cases(options), 1, options.inputs, warm_up=False) if options.big else {}
    page = "\n".join([*head, *table(samples), *memory_table(big), ""])
    print(page)
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(page, encoding="utf-8")
    return 0


def arguments():
    parser = argparse.ArgumentParser(description="mellama's readers against others")
    release = HERE.parent / "target" / "release"
    parser.add_argument("inputs", type=Path, help="folder written by make_inputs.py")
    parser.add_argument("--mellama", type=Path, default=release / "mellama")
    parser.add_argument("--read-bench", type=Path, default=release / "examples" / "read-bench")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--big", action="store_true", help="peak memory on the 2 GB inputs too")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} into bench/results")
    options = parser.parse_args()
    options.inputs, options.mellama = options.inputs.resolve(), options.mellama.resolve()
    options.read_bench = options.read_bench.resolve()
    return options


# What is timed


def reader_cases(options):
    ours = (str(options.read_bench),)
    peer = (sys.executable, str(HERE / "peers.py"))
    articles = sorted(str(one) for one in (options.inputs / "jats" / "00").iterdir())
    rounds = len(list((options.inputs / "jats").iterdir()))
    jats = ("--repeat", str(rounds), *articles)
    jats_bytes = rounds * sum(Path(one).stat().st_size for one in articles)
    plain, packed = options.inputs / "pubmed.xml", options.inputs / "pubmed.xml.gz"
    size, plain, packed = plain.stat().st_size, str(plain), str(packed)
    one, two, gz = "JATS, one thread", "PubMed, one thread", "PubMed, .xml.gz"
    return [
        Case(one, "mellama", (*ours, "jats", *jats), jats_bytes),
        Case(one, "lxml", (*peer, "lxml-jats", *jats), jats_bytes),
        Case(one, "pubmed_parser", (*peer, "pubmed_parser-jats", *jats), jats_bytes),
        Case(two, "mellama", (*ours, "pubmed-xml", plain), size),
        Case(two, "lxml", (*peer, "lxml-pubmed", plain), size),
        Case(two, "pubmed_parser (reads .gz only)", (*peer, "pubmed_parser-pubmed", packed), size),
        Case(gz, "mellama, two threads", (*ours, "pubmed-xml", "--two-threads", packed), size),
        Case(gz, "mellama, one thread", (*ours, "pubmed-xml", packed), size),
        Case(gz, "mellama, inflating only", (*ours, "inflate", packed), size),
        Case(gz, "Python gzip, inflating only", (*peer, "gzip", packed), size),
        Case(gz, "Python zlib, inflating only", (*peer, "zlib", packed), size),
    ]


def ingest_cases(options):
    folder = options.inputs / "jats"
    size = sum(one.stat().st_size for one in folder.rglob("*.xml"))
    return [
        Case("whole ingest of JATS", f"--threads {threads}", ingest(options, threads), size, ("jats", str(folder)))
        for threads in (1, 2)
    ]


def big_cases(options):
    inputs = {"pubmed-big.xml": "pubmed-xml", "jats-big.xml.gz": "jats", "jats-big.tar.gz": "pmc-tar"}
    return [
        Case("big", name, ingest(options, 2), 0, (form, str(options.inputs / name))) for name, form in inputs.items()
    ]


def ingest(options, threads):
    return (str(options.mellama), "run", "recipe.toml", "--until", "ingest", "--quiet", "--threads", str(threads))


# Timing


def interleaved(cases, repetitions, inputs, warm_up=True):
    """Samples by case: every case once, then every case again; a first round is not counted."""
    samples = {case: [] for case in cases}
    for number in range(repetitions + warm_up):
        for case in cases:
            sample = measured(case, inputs)
            if number >= warm_up:
                samples[case].append(sample)
    return samples


def measured(case, inputs):
    """One run in a new process, in a folder that is removed after it."""
    with tempfile.TemporaryDirectory(prefix="run-", dir=inputs) as folder:
        if case.ingest:
            Path(folder, "recipe.toml").write_text(recipe(*case.ingest), encoding="utf-8")
        begin = time.perf_counter()
        output, peak_bytes = finished(case, folder)
        seconds = time.perf_counter() - begin
        if case.ingest:
            return Sample(seconds, peak_bytes, ingested(Path(folder)))
    printed = json.loads(output.splitlines()[-1])
    return Sample(printed["seconds"], peak_bytes, printed.get("documents", 0))


def finished(case, folder):
    process = subprocess.Popen(case.command, cwd=folder, stdout=subprocess.PIPE)
    output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise SystemExit(f"{case.group}: {case.name}: exit {process.returncode}")
    # Linux counts kilobytes.
    return output, usage.ru_maxrss * 1024


def recipe(form, inputs):
    return (
        'name = "bench"\nworkdir = "work"\n\n[[corpus.source]]\nname = "bench"\ndomain = "biomedical"\n'
        f'format = "{form}"\ninputs = [{json.dumps(inputs)}]\nmax_rejects = 1.0\n'
    )


def ingested(folder):
    manifest = json.loads((folder / "work" / "manifests" / "ingest.json").read_text(encoding="utf-8"))
    return manifest["counts"]["written"]["documents"]


# The page


def heading(options):
    peers = ", ".join(f"{name} {metadata.version(name)}" for name in ("lxml", "pubmed_parser"))
    wide = " --big" if options.big else ""
    return [
        "# Readers, head to head",
        "",
        f"- machine: {processor()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before",
        f"- versions: mellama {version(options.mellama)}, {peers}, Python {platform.python_version()}",
        f"- command: `bench/readers.py INPUTS --repetitions {options.repetitions}{wide}`, inputs of `bench/make_inputs.py`",
        f"- date: {datetime.date.today().isoformat()}",
        "",
        f"MB are 10^6 bytes of XML after inflating. Median and range of {options.repetitions} interleaved runs, each in a new "
        "process; readers without the start of their process, ingest with it. The ratio is the group's first line to this one.",
        "",
    ]


def table(samples):
    lines = ["| Group | Reader | MB/s | Range | Ratio | Peak MB | Documents |", "|---|---|---|---|---|---|---|"]
    firsts = {}
    for case, found in samples.items():
        speeds = sorted(case.xml_bytes / MEGABYTE / one.seconds for one in found)
        speed = statistics.median(speeds)
        first = firsts.setdefault(case.group, speed)
        peak = max(one.peak_bytes for one in found) / MEGABYTE
        lines.append(
            f"| {case.group} | {case.name} | {speed:.1f} | {speeds[0]:.1f}–{speeds[-1]:.1f} | {first / speed:.2f} "
            f"| {peak:.0f} | {found[0].documents} |"
        )
    return lines


def memory_table(samples):
    if not samples:
        return []
    lines = ["", "Ingest of large inputs, two threads:", "", "| Input | Peak MB | Seconds | Documents |", "|---|---|---|---|"]
    for case, (one,) in samples.items():
        documents = one.documents or "none: this version does not read it"
        lines.append(f"| {case.name} | {one.peak_bytes / MEGABYTE:.0f} | {one.seconds:.1f} | {documents} |")
    return lines


if __name__ == "__main__":
    sys.exit(main())
