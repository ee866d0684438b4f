"""Encodes one text with mellama, tokenizers, gigatoken and sentencepiece in one run, and prints what each took.

    head_to_head.py INPUTS               INPUTS/speed of bench/dedup/make_corpus.py; table on standard output
    head_to_head.py INPUTS --write       and in bench/results/tokenize.md
    head_to_head.py INPUTS --part-mb 10  less text for the tools that need minutes

It needs no package itself: it makes an environment of its own under the target folder (bench/setup, requirements.txt). All
tools run one after the other, and that again and again, each time in a new process. Texts are in memory before the clock
starts. The vocabularies are LLaMA-2's and GPT-2's of the sample data and one of 128,000 tokens that is trained here on the text
with Llama 3's pattern; ids of all tools are compared by their number and checksum.
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
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
sys.path.insert(0, str(PROJECT / "bench"))

from machine import processor, version  # noqa: E402

RESULTS = PROJECT / "bench" / "results" / "tokenize.md"
MEGABYTE = 1_000_000
REPETITIONS = 3
THREADS = 2
PART_MB = 30
WARNING_LOAD = 0.5


@dataclass(frozen=True)
class Case:
    """One tool with one vocabulary. The command prints one line of JSON."""

    vocabulary: str
    tool: str
    command: tuple
    threads: int
    texts: Path


def main():
    options = arguments()
    python = environment(options.environment)
    with tempfile.TemporaryDirectory(prefix="tokenize-", dir=options.inputs) as folder:
        folder = Path(folder)
        whole, part = texts(python, options, folder)
        vocabularies = written_vocabularies(python, options, folder, part)
        cases = all_cases(options, python, whole, part, vocabularies)
        load = os.getloadavg()[0]
        samples = interleaved(cases, options.repetitions)
        llama = options.data / "tokenizer" / "llama-2-tokenizer.model"
        long = output((options.bench, llama, "--long")), output((options.bench, vocabularies["GPT-2"], "--long"))
    check_ids(samples)
    page = "\n".join([*heading(options, python, load), *table(samples), *ratios(samples), *long_texts(long), ""])
    print(page)
    if options.write:
        RESULTS.write_text(page, encoding="utf-8")
    return 0


def arguments():
    parser = argparse.ArgumentParser(description="mellama's tokenizer against others")
    release = PROJECT / "target" / "release"
    data = os.environ.get("MELLAMA_SAMPLE_DATA", PROJECT.parent / "shared" / "data")
    parser.add_argument("inputs", type=Path, help="folder that make_corpus.py speed wrote to")
    parser.add_argument("--data", type=Path, default=Path(data), help="the sample data, for its vocabularies")
    parser.add_argument("--mellama", type=Path, default=release / "mellama")
    parser.add_argument("--bench", type=Path, default=release / "examples" / "tokenize-bench")
    parser.add_argument("--environment", type=Path, default=PROJECT / "target" / "bench-tokenize-env")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    parser.add_argument("--part-mb", type=int, default=PART_MB, help="text of tokenizers and sentencepiece, in MB")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name} into bench/results")
    options = parser.parse_args()
    for name in ("inputs", "data", "mellama", "bench", "environment"):
        setattr(options, name, getattr(options, name).resolve())
    return options


def environment(folder):
    """The Python of the peers' environment, which is made if it is not complete."""
    subprocess.run([PROJECT / "bench" / "setup", folder, HERE / "requirements.txt"], check=True)
    return str(folder / "bin" / "python")


def output(command):
    found = subprocess.run([str(one) for one in command], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        last = found.stderr.splitlines()[-3:]
        raise SystemExit(f"{' '.join(map(str, command))}: exit {found.returncode}: " + " | ".join(last))
    return found.stdout


def texts(python, options, folder):
    """All texts as plain JSON lines, and the first of them up to the part's size."""
    whole, part = folder / "whole.jsonl", folder / "part.jsonl"
    unpack = HERE.parent / "dedup" / "peers.py"
    with whole.open("wb") as file:
        subprocess.run([python, unpack, "texts", options.inputs / "speed"], stdout=file, check=True)
    left = options.part_mb * MEGABYTE
    with whole.open("rb") as source, part.open("wb") as file:
        for line in source:
            left -= len(line)
            if left < 0:
                break
            file.write(line)
    return whole, part


def written_vocabularies(python, options, folder, part):
    found = {"GPT-2": folder / "gpt2.json", "Llama 3's pattern": folder / "invented.json"}
    gguf = options.data / "tokenizer" / "ggml-vocab-gpt-2.gguf"
    output((python, HERE / "peers.py", "gpt2", gguf, found["GPT-2"]))
    output((python, HERE / "peers.py", "train", part, found["Llama 3's pattern"]))
    return found


# What is timed


def all_cases(options, python, whole, part, vocabularies):
    folder = options.data / "tokenizer"
    json_file, model = folder / "llama-2-tokenizer.json", folder / "llama-2-tokenizer.model"

    def mellama(vocabulary, kind, path, threads, given):
        command = (options.bench, path, given, "--threads", threads)
        return Case(vocabulary, f"mellama, {kind}", command, threads, given)

    def peer(vocabulary, tool, path, given, passes):
        command = (python, HERE / "peers.py", tool, path, given, "--threads", THREADS, "--passes", passes)
        return Case(vocabulary, tool, command, THREADS, given)

    cases = []
    for vocabulary, path in [("LLaMA-2", json_file), *vocabularies.items()]:
        for threads in (THREADS, 1):
            cases.append(mellama(vocabulary, path.name.rsplit(".")[-1], path, threads, whole))
        if vocabulary == "LLaMA-2":
            cases += [mellama(vocabulary, "model", model, threads, whole) for threads in (THREADS, 1)]
        cases.append(peer(vocabulary, "gigatoken", path, whole, 2))
        cases.append(mellama(vocabulary, path.name.rsplit(".")[-1], path, THREADS, part))
        cases.append(peer(vocabulary, "huggingface", path, part, 2))
    cases.append(peer("LLaMA-2", "sentencepiece", model, part, 1))
    return cases


def interleaved(cases, repetitions):
    """Samples by case: every case once, then every case again."""
    samples = {case: [] for case in cases}
    for number in range(repetitions):
        for case in cases:
            print(f"round {number + 1} of {repetitions}: {case.vocabulary}, {case.tool}, {case.threads}", file=sys.stderr)
            samples[case].append(json.loads(output(case.command).splitlines()[-1]))
    return samples


def check_ids(samples):
    """Ids of one text with one vocabulary are the same with every tool."""
    found = {}
    for case, runs in samples.items():
        for one in runs:
            key = (case.vocabulary, case.texts)
            ids = (one["tokens"], one["crc32"])
            if found.setdefault(key, ids) != ids:
                raise SystemExit(f"{case.vocabulary}, {case.tool}: other ids than the first tool")


# The page


def heading(options, python, load):
    busy = ", which is not idle: compare MB by CPU second" if load > WARNING_LOAD else ""
    command = f"`bench/tokenize/head_to_head.py INPUTS --repetitions {options.repetitions} --part-mb {options.part_mb}`"
    return [
        "# Tokenizers, head to head",
        "",
        f"- machine: {processor()}, {os.cpu_count()} cores, load {load:.1f} before{busy}",
        f"- versions: mellama {version(options.mellama)}, {peer_versions(python)}, Python {platform.python_version()}",
        f"- command: {command}, inputs of `bench/dedup/make_corpus.py speed`",
        f"- date: {datetime.date.today().isoformat()}",
        "",
        "MB are 10^6 bytes of text; documents are encoded one by one, without special tokens, all ids kept in memory. `cold` is "
        "the loading of the tokenizer file and the first pass of a new process, `warm` its second pass. MB/CPU s is the text by the "
        "processor time of all threads, which other work on the machine changes less. Medians of interleaved "
        "runs; ranges are those of the runs. All tools gave the same ids for the same text and vocabulary.",
        "",
    ]


def peer_versions(python):
    names = ("tokenizers", "gigatoken", "sentencepiece")
    program = f"from importlib.metadata import version as v; print(', '.join(f'{{n}} {{v(n)}}' for n in {names!r}))"
    return output((python, "-c", program)).strip()


def speeds(runs, warm, clock="seconds"):
    """MB by second of each run; `clock` is `seconds` or `cpu_seconds`."""
    found = []
    for one in runs:
        seconds = one[clock][-1] if warm else one["load_" + clock] + one[clock][0]
        found.append(one["bytes"] / MEGABYTE / seconds)
    return found


def shown(values):
    return f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})"


def table(samples):
    lines = [
        "| Vocabulary | Tool | Threads | Text MB | Load s | Cold MB/s | Warm MB/s | Cold MB/CPU s | Warm MB/CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case, runs in samples.items():
        load = statistics.median(one["load_seconds"] for one in runs)
        has_warm = len(runs[0]["seconds"]) > 1
        cells = []
        for clock in ("seconds", "cpu_seconds"):
            cells += [shown(speeds(runs, False, clock)), shown(speeds(runs, True, clock)) if has_warm else "–"]
        lines.append(
            f"| {case.vocabulary} | {case.tool} | {case.threads} | {runs[0]['bytes'] / MEGABYTE:.1f} | {load:.2f} "
            f"| {' | '.join(cells)} |"
        )
    return lines


def ratios(samples):
    """mellama from tokenizer.json by the peers, on the same text and threads, run by run."""
    lines = ["", "mellama from `tokenizer.json` by others on 2 threads, medians and ranges of the runs:", ""]
    lines += ["| Vocabulary | Other | Text MB | Cold | Warm | Cold, CPU | Warm, CPU |", "|---|---|---|---|---|---|---|"]
    for case, runs in samples.items():
        if case.tool not in ("huggingface", "gigatoken"):
            continue
        same = (case.vocabulary, "mellama, json", THREADS, case.texts)
        own = next(found for one, found in samples.items() if (one.vocabulary, one.tool, one.threads, one.texts) == same)
        cells = []
        for clock, warm in [("seconds", False), ("seconds", True), ("cpu_seconds", False), ("cpu_seconds", True)]:
            pairs = zip(speeds(own, warm, clock), speeds(runs, warm, clock), strict=True)
            cells.append(shown([ours / theirs for ours, theirs in pairs]))
        lines.append(f"| {case.vocabulary} | {case.tool} | {runs[0]['bytes'] / MEGABYTE:.1f} | {' | '.join(cells)} |")
    return lines


def long_texts(long):
    names = ("LLaMA-2", "GPT-2")
    lines = []
    for name, lengths in zip(names, long, strict=True):
        lines += ["", f"Texts without an end of a word, {name}, one thread, one run:", "", *lengths.splitlines()]
    return lines


if __name__ == "__main__":
    sys.exit(main())
