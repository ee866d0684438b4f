"""Deduplicates one input with mellama, datatrove and rensa in one run, and prints what each took and kept.

    head_to_head.py INPUTS                        INPUTS/speed of make_corpus.py; table on standard output
    head_to_head.py INPUTS --write                and in bench/results/dedup.md
    head_to_head.py INPUTS --datatrove-share 0.1  datatrove, which needs minutes, on a tenth of the files

It needs no package itself: it makes an environment of its own under the target folder (bench/setup, requirements.txt). All
tools run one after the other, and that again and again, each time in a new process in a folder that is removed after it.
Input comes from the page cache. Seconds are those of the whole process; memory is the resident memory of the process and all
that it started, added up twenty times a second. Where other work shares the machine, compare CPU seconds.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
sys.path.insert(0, str(PROJECT / "bench"))

from machine import processor, version  # noqa: E402
from timing import Run  # noqa: E402

RESULTS = PROJECT / "bench" / "results" / "dedup.md"
MEGABYTE = 1_000_000
REPETITIONS = 3
THREADS = 2
MEMORY = "2GiB"
WARNING_LOAD = 0.5


@dataclass(frozen=True)
class Case:
    """One thing that is timed. Of the commands, which run in turn, the last one's last line may be JSON with counts."""

    name: str
    commands: tuple
    inputs: Path
    threads: int
    repetitions: int
    recipe: str | None = None
    # Seconds of the tool alone, by their names in the JSON; none: those of the process.
    own_seconds: tuple = ()
    # Reads plain JSON lines of the inputs from standard input.
    takes_texts: bool = False


@dataclass
class Sample:
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    survivors: int | None


@dataclass
class Inputs:
    """What was measured of a folder once."""

    documents: int = 0
    text_bytes: int = 0
    distinct: int = 0


def main():
    options = arguments()
    python = environment(options.environment)
    whole = options.inputs / "speed"
    with tempfile.TemporaryDirectory(prefix="share-", dir=options.inputs) as folder:
        part = share(whole, options.datatrove_share, Path(folder))
        cases = all_cases(options, python, whole, part)
        facts = {path: measured_inputs(python, path) for path in {case.inputs for case in cases}}
        load = os.getloadavg()[0]
        samples = interleaved(cases, options)
    page = "\n".join([*heading(options, python, load), *table(samples, facts), *notes(facts, whole), ""])
    print(page)
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(page, encoding="utf-8")
    return 0


def arguments():
    parser = argparse.ArgumentParser(description="mellama's deduplication against others")
    release = PROJECT / "target" / "release"
    parser.add_argument("inputs", type=Path, help="folder that make_corpus.py speed wrote to")
    parser.add_argument("--mellama", type=Path, default=release / "mellama")
    parser.add_argument("--sign-bench", type=Path, default=release / "examples" / "sign-bench")
    parser.add_argument("--environment", type=Path, default=PROJECT / "target" / "bench-dedup-env")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--datatrove-repetitions", type=int, default=1)
    parser.add_argument("--datatrove-share", type=float, default=1.0, help="share of the files that datatrove reads; 0: not run")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} into bench/results")
    options = parser.parse_args()
    for name in ("inputs", "mellama", "sign_bench", "environment"):
        setattr(options, name, getattr(options, name).resolve())
    return options


def environment(folder):
    """The Python of the peers' environment, which is made if it is not complete."""
    subprocess.run([PROJECT / "bench" / "setup", folder, HERE / "requirements.txt"], check=True)
    return str(folder / "bin" / "python")


def share(whole, wanted, folder):
    """A folder with a share of the files; none for 0."""
    files = sorted(whole.glob("*.jsonl.zst"))
    if not files:
        raise SystemExit(f"{whole}: no .jsonl.zst files; make them with make_corpus.py speed")
    if wanted <= 0:
        return None
    if wanted >= 1:
        return whole
    for path in files[: max(1, round(wanted * len(files)))]:
        shutil.copyfile(path, folder / path.name)
    return folder


def measured_inputs(python, folder):
    """Documents, bytes of text and distinct texts of a folder; reading it also fills the page cache."""
    lines = subprocess.Popen([python, HERE / "peers.py", "texts", folder], stdout=subprocess.PIPE)
    found, distinct = Inputs(), set()
    for line in lines.stdout:
        text = json.loads(line)["text"].encode()
        found.documents += 1
        found.text_bytes += len(text)
        distinct.add(hash(text))
    if lines.wait() != 0:
        raise SystemExit(f"{folder}: not readable")
    found.distinct = len(distinct)
    return found


# What is timed


def all_cases(options, python, whole, part):
    peer = (python, str(HERE / "peers.py"))
    repetitions = options.repetitions
    cases = mellama_cases(options, whole)
    if options.sign_bench.exists():
        command = ((str(options.sign_bench),),)
        cases.append(
            Case("mellama, signing alone", command, whole, 1, repetitions, own_seconds=("signing",), takes_texts=True)
        )
    else:
        print(f"not run: signing alone: {options.sign_bench} is not there", file=sys.stderr)
    rensa = "rensa: words and shingles in Python, R-MinHash, index"
    cases.append(Case(rensa, ((*peer, "rensa", str(whole)),), whole, 1, repetitions))
    alone = "rensa, signing alone (shingles are there)"
    cases.append(
        Case(alone, ((*peer, "rensa-signing", str(whole)),), whole, 1, repetitions, own_seconds=("signing",))
    )
    if part is not None:
        command = (*peer, "datatrove", str(part), "out", "--workers", str(THREADS))
        cases.append(Case("datatrove, four stages", (command,), part, THREADS, options.datatrove_repetitions))
    return cases


def mellama_cases(options, whole):
    cases = []
    for threads in (THREADS, 1):
        commands = (mellama_run(options, "dedup", threads),)
        cases.append(Case("mellama, ingest and dedup", commands, whole, threads, options.repetitions, recipe(whole, True)))
    commands = (mellama_run(options, "ingest", THREADS),)
    cases.append(
        Case("mellama, ingest without `[corpus.dedup]`", commands, whole, THREADS, options.repetitions, recipe(whole, False))
    )
    return cases


def mellama_run(options, until, threads):
    how = ("--quiet", "--threads", str(threads), "--memory", MEMORY)
    return (str(options.mellama), "run", "recipe.toml", "--until", until, *how)


def recipe(inputs, with_dedup):
    source = (
        'name = "bench"\nworkdir = "work"\n\n[[corpus.source]]\nname = "speed"\ndomain = "general"\nformat = "jsonl"\n'
        f"inputs = [{json.dumps(str(inputs / '*.jsonl.zst'))}]\n"
    )
    return source + ("\n[corpus.dedup]\n" if with_dedup else "")


# Timing


def interleaved(cases, options):
    """Samples by case: every case once, then every case again that is not done."""
    samples = {case: [] for case in cases}
    rounds = max(case.repetitions for case in cases)
    for number in range(rounds):
        for case in cases:
            if number < case.repetitions:
                print(f"round {number + 1} of {rounds}: {case.name}", file=sys.stderr)
                samples[case].append(measured(case, options))
    return samples


def measured(case, options):
    with tempfile.TemporaryDirectory(prefix="run-", dir=options.inputs) as folder:
        if case.recipe:
            Path(folder, "recipe.toml").write_text(case.recipe, encoding="utf-8")
        seconds = cpu_seconds = 0.0
        peak_bytes, output = 0, b""
        for command in case.commands:
            run = Run(command, folder, texts_of(case, options))
            output = run.finish(case.name)
            seconds, cpu_seconds = seconds + run.seconds, cpu_seconds + run.cpu_seconds
            peak_bytes = max(peak_bytes, run.peak_bytes)
        printed = {} if case.recipe else json.loads(output.splitlines()[-1])
        if case.own_seconds:
            seconds = sum(printed["seconds"][name] for name in case.own_seconds)
            cpu_seconds = sum(printed["cpu_seconds"][name] for name in case.own_seconds)
        return Sample(seconds, cpu_seconds, peak_bytes, survivors(case, Path(folder), printed))


def texts_of(case, options):
    if not case.takes_texts:
        return None
    python = str(options.environment / "bin" / "python")
    return subprocess.Popen([python, HERE / "peers.py", "texts", case.inputs], stdout=subprocess.PIPE)


def survivors(case, folder, printed):
    """Documents that are left, or none where the tool decides nothing."""
    if case.recipe is None:
        return printed.get("survivors") or None
    manifest = folder / "work" / "manifests" / "dedup.json"
    if not manifest.exists():
        return None
    counts = json.loads(manifest.read_text(encoding="utf-8"))["counts"]
    return counts["read"]["documents"] - counts["dropped"]["documents"]


# The page


def heading(options, python, load):
    command = f"`bench/dedup/head_to_head.py INPUTS --repetitions {options.repetitions}"
    command += f" --datatrove-share {options.datatrove_share:g}" + "`"
    busy = ", which is not idle: compare CPU seconds" if load > WARNING_LOAD else ""
    return [
        "# Deduplication, head to head",
        "",
        f"- machine: {processor()}, {os.cpu_count()} cores, load {load:.1f} before{busy}",
        f"- versions: mellama {version(options.mellama)}, {peer_versions(python)}, Python {platform.python_version()}",
        f"- command: {command}, inputs of `bench/dedup/make_corpus.py speed`",
        f"- date: {datetime.date.today().isoformat()}",
        "",
        "14 bands of 8 rows over shingles of 5 words. MB are 10^6 bytes of text. Medians of interleaved runs, each in a new "
        "process; the range is that of the seconds. MB/s/core is MB/s by threads or workers; MB/CPU s is the text by the "
        "processor time of the process and all that it started, which other work on the machine changes little. Rows of "
        "`signing alone` leave reading out; their memory is that of the whole process. mellama proves near-duplicates by "
        "comparing texts and writes its documents and decisions; the others remove what shares a band, and rensa writes nothing.",
        "",
    ]


def peer_versions(python):
    program = "from importlib.metadata import version as v; print(', '.join(f'{n} {v(n)}' for n in ('datatrove', 'rensa')))"
    return subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def table(samples, facts):
    lines = [
        "| Tool | Threads | Runs | Seconds | Range | docs/s | MB/s | MB/s/core | MB/CPU s | Peak MB | Survivors |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case, found in samples.items():
        inputs = facts[case.inputs]
        seconds = statistics.median(one.seconds for one in found)
        cpu_seconds = statistics.median(one.cpu_seconds for one in found)
        megabytes = inputs.text_bytes / MEGABYTE
        low, high = min(one.seconds for one in found), max(one.seconds for one in found)
        kept = found[0].survivors
        lines.append(
            f"| {case.name} | {case.threads} | {len(found)} | {seconds:.2f} | {low:.2f}–{high:.2f} "
            f"| {inputs.documents / seconds:.0f} | {megabytes / seconds:.1f} | {megabytes / seconds / case.threads:.1f} "
            f"| {megabytes / cpu_seconds:.1f} | {max(one.peak_bytes for one in found) / MEGABYTE:.0f} "
            f"| {'–' if kept is None else f'{kept} of {inputs.documents}'} |"
        )
    return lines


def notes(facts, whole):
    lines = [
        "",
        "Not run here: duplodocus, which no package index has. Published figure on another 2-core machine, for another 187 MB "
        "of PMC text of 4,146 documents: whole job in memory 7.3 s, 25.6 MB/s, 12.8 MB/s/core, 3,372 survivors of 3,371 texts.",
        "",
        "Inputs:",
        "",
    ]
    for path, found in sorted(facts.items(), key=lambda item: -item[1].documents):
        name = "all files" if path == whole else "the share that datatrove read"
        lines.append(
            f"- {name}: {found.text_bytes / MEGABYTE:.1f} MB of text, {found.documents} documents, {found.distinct} distinct"
        )
    return lines


if __name__ == "__main__":
    sys.exit(main())
