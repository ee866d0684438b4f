"""Trains models of the same shapes with mellama and with PyTorch on the processor, in turn, and prints tokens a second.

    head_to_head.py           table on standard output
    head_to_head.py --write   and in bench/results/train-cpu.md

It builds mellama's half (release) and makes the environment of the trainer's parity tests under the target folder (bench/setup,
tests/parity/requirements-training.txt; PyTorch's wheel for Linux is the CUDA build, 6 GB). f32, two threads, a fresh process
each time.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
sys.path.insert(0, str(PROJECT / "bench"))

from machine import processor  # noqa: E402

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", PROJECT / "target"))
RESULTS = PROJECT / "bench" / "results" / "train-cpu.md"
# Name; C, F, L, H, K, V, sequences, length of a sequence.
SHAPES = [
    ("10M, 8 x 256", (256, 704, 8, 4, 4, 8192, 8, 256)),
    ("10M, 2 x 1024", (256, 704, 8, 4, 2, 8192, 2, 1024)),
    ("29M, 4 x 256", (512, 1408, 6, 8, 8, 8192, 4, 256)),
]


def main():
    options = arguments()
    subprocess.run(
        ["cargo", "build", "--quiet", "--release", "--package", "mellama-train", "--example", "train-speed"],
        cwd=PROJECT, check=True,
    )
    python = environment(options.environment)
    ours = TARGET / "release" / "examples" / "train-speed"
    load = os.getloadavg()[0]
    rows, tables = [], []
    for name, sizes in SHAPES:
        sizes = [str(size) for size in sizes]
        samples = {"mellama": [], "pytorch": []}
        for _ in range(options.repetitions):
            threads = {**os.environ, "RAYON_NUM_THREADS": str(options.threads)}
            samples["mellama"].append(run([ours, *sizes, str(options.steps)], threads))
            peer = [python, HERE / "peer.py", *sizes, str(options.steps), str(options.threads)]
            samples["pytorch"].append(run(peer, dict(os.environ)))
        rows.append((name, samples))
        tables.append((name, run([ours, *sizes, str(options.steps), "--table"], threads)))
    page = report(options, load, rows, tables, versions(python))
    print(page)
    if options.write:
        RESULTS.write_text(page, encoding="utf-8")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6, help="the first one is not counted")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--environment", type=Path, default=TARGET / "train-env")
    return parser.parse_args()


def environment(folder):
    wanted = PROJECT / "tests" / "parity" / "requirements-training.txt"
    subprocess.run([PROJECT / "bench" / "setup", folder, wanted], check=True)
    return folder / "bin" / "python"


def run(command, variables):
    output = subprocess.run(command, env=variables, stdout=subprocess.PIPE, check=True).stdout
    return json.loads(output)


def versions(python):
    code = "import torch, transformers; print(torch.__version__, transformers.__version__)"
    torch, transformers = subprocess.run([python, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return f"PyTorch {torch}, transformers {transformers}, Python {platform.python_version()}"


def rate(sample):
    """Tokens a second of the median step, the first one left out."""
    return sample["tokens"] / statistics.median(sample["seconds"][1:])


def spread(samples):
    rates = sorted(rate(sample) for sample in samples)
    return f"{statistics.median(rates):,.0f} ({rates[0]:,.0f}–{rates[-1]:,.0f})"


def report(options, load, rows, tables, peers):
    command = f"bench/train-cpu/head_to_head.py --repetitions {options.repetitions} --steps {options.steps}"
    lines = [
        "# Training on the processor, head to head",
        "",
        f"- machine: {processor()}, {os.cpu_count()} cores, {options.threads} threads, load {load:.1f} before",
        f"- versions: {peers}",
        f"- command: `{command}`",
        f"- date: {datetime.date.today()}",
        "",
        "One step is forward, backward, clipping and AdamW in f32, on the same shapes. Each run is a new process; runs of the two",
        "take turns. A run's figure is its median step without the first; the ratio is that of the medians, and of each pair.",
        "",
        "| Model, batch | Parameters | mellama, tokens/s | PyTorch, tokens/s | Ratio (of pairs) |",
        "|---|---|---|---|---|",
    ]
    for name, samples in rows:
        ours, theirs = samples["mellama"], samples["pytorch"]
        assert ours[0]["parameters"] == theirs[0]["parameters"], "the two train the same model"
        ratio = statistics.median(map(rate, ours)) / statistics.median(map(rate, theirs))
        pairs = sorted(rate(one) / rate(other) for one, other in zip(ours, theirs))
        lines.append(
            f"| {name} | {ours[0]['parameters']:,} | {spread(ours)} | {spread(theirs)} | {ratio:.2f} ({pairs[0]:.2f}–{pairs[-1]:.2f}) |"
        )
    lines += ["", "Where mellama's time goes, share of a step by operation:", ""]
    names = sorted({key for _, sample in tables for key in sample["seconds_by_operation"]})
    totals = [sum(sample["seconds_by_operation"].values()) for _, sample in tables]
    shares = {
        key: [sample["seconds_by_operation"].get(key, 0.0) / total for (_, sample), total in zip(tables, totals)]
        for key in names
    }
    lines.append("| Operation | " + " | ".join(name for name, _ in tables) + " |")
    lines.append("|---" * (len(tables) + 1) + "|")
    for key in sorted(names, key=lambda key: -shares[key][0]):
        if max(shares[key]) >= 0.001:
            lines.append(f"| `{key}` | " + " | ".join(f"{share:.1%}" for share in shares[key]) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
