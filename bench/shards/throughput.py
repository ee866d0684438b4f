"""Times JSON lines to published shards: read, tokenize, mix, shuffle, pack, write; and where the time goes.

    throughput.py INPUTS TOKENIZER                   INPUTS/speed of bench/dedup/make_corpus.py speed --times 4
    throughput.py INPUTS TOKENIZER --write           and in bench/results/shards.md
    throughput.py INPUTS TOKENIZER --datatrove-share 0.1   datatrove, which needs minutes, on a tenth of the files

TOKENIZER is LLaMA-2's tokenizer.json. All cases run one after the other, and that again and again, each in a new process and a
folder that is removed after it. Input comes from the page cache. Seconds are those of the whole process, memory is resident
memory, added up twenty times a second. Where other work shares the machine, compare CPU seconds. datatrove tokenizes with
Hugging Face's library, shuffles inside each file and merges; it neither mixes nor packs.
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

RESULTS = PROJECT / "bench" / "results" / "shards.md"
MEGABYTE = 1_000_000
THREADS = 2
MEMORY = "512MiB"
WARNING_LOAD = 0.5
CORPUS_STAGES = ("ingest", "dedup", "tokenize", "mix", "pack", "publish")


@dataclass(frozen=True)
class Case:
    """One whole job. With stages, each is a process of its own and timed alone."""

    name: str
    threads: int
    with_dedup: bool
    stages: bool = False


@dataclass
class Sample:
    seconds: float
    cpu_seconds: float
    peak_bytes: int


def main():
    options = arguments()
    whole = options.inputs / "speed"
    inputs = noted_inputs(whole)
    text_bytes, documents = inputs["text_bytes"], inputs["documents"]
    load = os.getloadavg()[0]
    cases = [Case(name, threads, dedup) for name, dedup in JOBS for threads in (THREADS, 1)]
    samples = {case: [] for case in cases}
    stages = {stage: [] for stage in CORPUS_STAGES}
    for number in range(options.repetitions):
        for case in cases:
            print(f"round {number + 1} of {options.repetitions}: {case.name}, {case.threads} threads", file=sys.stderr)
            samples[case].append(whole_job(case, options, whole))
        for stage, sample in stage_by_stage(options, whole).items():
            stages[stage].append(sample)
    facts = last_facts(options, whole)
    page = [*heading(options, load, inputs), *table(samples, text_bytes, documents), *stage_table(stages, text_bytes)]
    page += ["", *facts_lines(facts), *peer_lines(options, whole), ""]
    print("\n".join(page))
    if options.write:
        RESULTS.write_text("\n".join(page), encoding="utf-8")
    return 0


JOBS = (("JSON lines to shards", False), ("JSON lines to shards, with verified deduplication", True))


def arguments():
    parser = argparse.ArgumentParser(description="JSON lines to published shards")
    parser.add_argument("inputs", type=Path, help="folder that bench/dedup/make_corpus.py speed wrote to")
    parser.add_argument("tokenizer", type=Path, help="tokenizer.json of LLaMA-2")
    parser.add_argument("--mellama", type=Path, default=PROJECT / "target" / "release" / "mellama")
    parser.add_argument("--environment", type=Path, default=PROJECT / "target" / "bench-dedup-env")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--datatrove-share", type=float, default=0.0, help="share of the files that datatrove reads; 0: not run")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} into bench/results")
    options = parser.parse_args()
    for name in ("inputs", "tokenizer", "mellama", "environment"):
        setattr(options, name, getattr(options, name).resolve())
    return options


def noted_inputs(folder):
    """What make_corpus.py noted of its files; reading them fills the page cache."""
    if not list(folder.glob("*.jsonl.zst")):
        raise SystemExit(f"{folder}: no .jsonl.zst files; make them with bench/dedup/make_corpus.py speed")
    for path in folder.glob("*.jsonl.zst"):
        path.read_bytes()
    return json.loads(folder.with_suffix(".json").read_text(encoding="utf-8"))


def recipe(options, inputs, with_dedup):
    dedup = "\n[corpus.dedup]\n" if with_dedup else ""
    return (
        'name = "bench"\nworkdir = "work"\n\n[[corpus.source]]\nname = "speed"\ndomain = "biomedical"\nformat = "jsonl"\n'
        f"inputs = [{json.dumps(str(inputs / '*.jsonl.zst'))}]\n{dedup}"
        f"\n[corpus.tokenizer]\npath = {json.dumps(str(options.tokenizer))}\n"
        '\n[corpus.mixture]\ntokens = "all"\nbiomedical = 1\n\n[corpus.pack]\nsequence_length = 4096\n'
    )


def whole_job(case, options, inputs):
    with folder_of(options, inputs, case.with_dedup) as folder:
        return timed(options, folder, ("run", "recipe.toml", "--until", "publish"), case.threads)


def stage_by_stage(options, inputs):
    """Each stage of the job with deduplication on one thread, a process each."""
    with folder_of(options, inputs, True) as folder:
        return {stage: timed(options, folder, ("stage", stage, "recipe.toml"), 1) for stage in CORPUS_STAGES}


def last_facts(options, inputs):
    """What the shards of the job without deduplication hold."""
    with folder_of(options, inputs, False) as folder:
        timed(options, folder, ("run", "recipe.toml", "--until", "publish"), THREADS)
        manifest = json.loads(Path(folder, "work", "manifests", "publish.json").read_text(encoding="utf-8"))
        files = sum(one.stat().st_size for one in Path(folder, "work", "shards").rglob("*.parquet"))
        return {"parts": manifest["facts"]["parts"], "bytes": files}


def folder_of(options, inputs, with_dedup):
    folder = tempfile.TemporaryDirectory(prefix="run-", dir=options.inputs)
    Path(folder.name, "recipe.toml").write_text(recipe(options, inputs, with_dedup), encoding="utf-8")
    return folder


def timed(options, folder, arguments, threads):
    how = ("--quiet", "--threads", str(threads), "--memory", MEMORY)
    run = Run((str(options.mellama), *arguments, *how), folder, None)
    run.finish(" ".join(arguments))
    return Sample(run.seconds, run.cpu_seconds, run.peak_bytes)


# The page


def heading(options, load, inputs):
    times = f" --times {inputs['times']}" if inputs.get("times", 1) > 1 else ""
    share = f" --datatrove-share {options.datatrove_share:g}" if options.datatrove_share else ""
    busy = ", which is not idle: compare CPU seconds" if load > WARNING_LOAD else ""
    return [
        "# JSON lines to shards",
        "",
        f"- machine: {processor()}, {os.cpu_count()} cores, load {load:.1f} before{busy}",
        f"- versions: mellama {version(options.mellama)}, Python {platform.python_version()}",
        f"- command: `bench/shards/throughput.py INPUTS TOKENIZER --repetitions {options.repetitions}{share}`, inputs of "
        f"`bench/dedup/make_corpus.py speed{times}`, LLaMA-2's `tokenizer.json`",
        f"- date: {datetime.date.today().isoformat()}",
        "",
        f"{inputs['documents']} documents, {inputs['text_bytes'] / MEGABYTE:.1f} MB of text in compressed JSON lines, are read, tokenized, mixed, shuffled, packed into sequences of 4,096 and written as shards, with "
        f"`--memory {MEMORY}`. MB are 10^6 bytes of text. Medians of interleaved runs, each in a new process; the range is that of "
        "the seconds. MB/CPU s is the text by the processor time.",
        "",
    ]


def table(samples, text_bytes, documents):
    lines = [
        "| Job | Threads | Runs | Seconds | Range | docs/s | MB/s | MB/s/core | MB/CPU s | Peak MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    megabytes = text_bytes / MEGABYTE
    for case, found in samples.items():
        seconds = statistics.median(one.seconds for one in found)
        cpu_seconds = statistics.median(one.cpu_seconds for one in found)
        low, high = min(one.seconds for one in found), max(one.seconds for one in found)
        lines.append(
            f"| {case.name} | {case.threads} | {len(found)} | {seconds:.2f} | {low:.2f}–{high:.2f} | {documents / seconds:.0f} "
            f"| {megabytes / seconds:.1f} | {megabytes / seconds / case.threads:.1f} | {megabytes / cpu_seconds:.1f} "
            f"| {max(one.peak_bytes for one in found) / MEGABYTE:.0f} |"
        )
    return lines


def stage_table(stages, text_bytes):
    lines = [
        "",
        "Where the time goes: the stages with deduplication on one thread, a process each.",
        "",
        "| Stage | Seconds | CPU seconds | Share of CPU | MB/CPU s | Peak MB |",
        "|---|---|---|---|---|---|",
    ]
    median = {stage: statistics.median(one.cpu_seconds for one in found) for stage, found in stages.items()}
    whole = sum(median.values())
    for stage, found in stages.items():
        seconds = statistics.median(one.seconds for one in found)
        rate = text_bytes / MEGABYTE / max(median[stage], 0.01)
        peak = max(one.peak_bytes for one in found) / MEGABYTE
        lines.append(
            f"| {stage} | {seconds:.2f} | {median[stage]:.2f} | {100 * median[stage] / whole:.0f} % | {rate:.0f} | {peak:.0f} |"
        )
    return lines


def facts_lines(facts):
    lines = []
    for part, found in facts["parts"].items():
        filled = found["tokens"] + found["padding"]
        share = 100 * found["padding"] / max(filled, 1)
        lines.append(
            f"- {part}: {found['shards']} shards, {found['sequences']} sequences, {found['tokens']} tokens, padding {share:.3f} %"
        )
    lines.append(f"- shards: {facts['bytes'] / MEGABYTE:.1f} MB")
    return lines


# datatrove


def peer_lines(options, whole):
    if options.datatrove_share <= 0:
        return ["", "Not run: datatrove (`--datatrove-share`)."]
    subprocess.run(
        [PROJECT / "bench" / "setup", options.environment, PROJECT / "bench" / "dedup" / "requirements.txt"], check=True
    )
    python = str(options.environment / "bin" / "python")
    with tempfile.TemporaryDirectory(prefix="share-", dir=options.inputs) as folder:
        files = sorted(whole.glob("*.jsonl.zst"))
        for path in files[: max(1, round(options.datatrove_share * len(files)))]:
            shutil.copyfile(path, Path(folder, path.name))
        unpack = HERE.parent / "dedup" / "peers.py"
        listed = subprocess.run([python, unpack, "texts", folder], stdout=subprocess.PIPE, check=True).stdout
        text_bytes = sum(len(json.loads(line)["text"].encode()) for line in listed.splitlines())
        command = (python, str(HERE / "peers.py"), "datatrove", folder, f"{folder}/out", "--tokenizer", str(options.tokenizer))
        run = Run((*command, "--workers", str(THREADS)), folder, None)
        run.finish("datatrove")
    megabytes = text_bytes / MEGABYTE
    installed = "from importlib.metadata import version as v; print(f'datatrove {v(\"datatrove\")}, tokenizers {v(\"tokenizers\")}')"
    shown = subprocess.run([python, "-c", installed], capture_output=True, text=True, check=True).stdout.strip()
    return [
        "",
        f"{shown}, {THREADS} workers, {megabytes:.1f} MB of the text, tokenized, shuffled and merged: {run.seconds:.1f} s, "
        f"{megabytes / run.seconds:.1f} MB/s, {megabytes / run.seconds / THREADS:.1f} MB/s/core, "
        f"{megabytes / run.cpu_seconds:.1f} MB/CPU s, peak {run.peak_bytes / MEGABYTE:.0f} MB.",
    ]


if __name__ == "__main__":
    sys.exit(main())
