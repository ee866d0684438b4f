"""Shards and exports of the quickstart, read by others: pyarrow, pandas, DuckDB, datasets, and the six formats' readers.

Every id, boundary, mask and count is compared with what mellama's shards hold, and every id of the shards with the token runs
they were packed from. It changes nothing but a temporary folder.

    exports.py MELLAMA RECIPE     for example target/debug/mellama recipes/quickstart.toml
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy
import pyarrow.parquet

import layouts
import peers
import readers_of_shards

OBJECT_TOKENS = 20_000  # several objects of each export
CONFIGURATIONS = {
    ("cpt", "train"): readers_of_shards.SPLITS["train"],
    ("cpt", "validation"): readers_of_shards.SPLITS["heldout"],
    ("instruct", "train"): readers_of_shards.SPLITS["instruct"],
}
FORMATS = ["megatron", "mds", "ds", "llmc", "olmo", "litdata"]


def main():
    mellama, recipe = (Path(argument).resolve() for argument in sys.argv[1:3])
    tally = Counter()
    with tempfile.TemporaryDirectory(prefix="mellama-parity-") as folder:
        work = Path(folder) / "run"
        call(mellama, "run", recipe, "--workdir", work, "--until", "instruct-data", "--quiet")
        for split, pattern in readers_of_shards.SPLITS.items():
            sequences = readers_of_shards.compare(work, split, pattern, tally)
            readers_of_shards.compare_with_inspect(mellama, sorted((work).glob(pattern)), sequences, tally)
            for name in FORMATS:
                export(mellama, work, split, name, sequences, Path(folder) / f"{split}-{name}", tally)
        readers_of_shards.compare_with_runs(work, tally)
        card(work, tally)
    for name, count in sorted(tally.items()):
        print(f"{count:9}  {name}")
    return 0


def call(*arguments, code=0):
    ended = subprocess.run([str(argument) for argument in arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == code, (arguments, ended.returncode, ended.stderr[-2000:])
    return ended.stdout


def export(mellama, work, split, name, sequences, to, tally):
    """Writes one export and has its reader take it; formats without masks refuse instructions."""
    arguments = [mellama, "export", work, "--format", name, "--to", to, "--split", split, "--object-tokens", OBJECT_TOKENS, "--json"]
    if split == "instruct" and name not in ("mds", "ds", "olmo"):
        call(*arguments, code=2)
        tally[f"{name}: instructions refused"] += 1
        return
    told = json.loads(call(*arguments).splitlines()[-1])
    call(mellama, "verify", to)
    length, fill = told["sequence_length"], told["fill_token"]
    wanted = sequences.ids.copy()
    wanted[~sequences.real] = fill
    windows = read(name, to, split, length, sequences, tally)
    assert windows.shape == wanted.shape and (windows == wanted).all(), (name, split)
    tally[f"{name}: ids equal through its reader"] += windows.size
    objects = json.loads((to / "manifest.json").read_text())["parts"]
    assert split != "train" or len(objects) > 5, "several objects"
    lineage(to, sequences, wanted, tally)


def read(name, to, split, length, sequences, tally):
    width = 2  # the vocabulary of the quickstart fits
    if name == "megatron":
        return layouts.megatron(to, split, length)
    if name == "llmc":
        return layouts.llmc(to, split, length)
    if name == "litdata":
        return peers.litdata(to, length).astype(numpy.int64)
    if name == "olmo":
        windows, masks, rows = layouts.olmo(to, split, length, width)
        assert (masks == sequences.trained).all()
        ends = [len([row for row in of_file if row[2] != "padding"]) for of_file in rows]
        assert sum(ends) == sum(len(one) for one in sequences.ends)
        tally["olmo: masks equal through its reader"] += masks.size
        return windows
    if name == "ds":
        windows, positions = peers.ds(to, length, width)
        assert (positions == restarting(sequences, length)).all()
        loss = numpy.concatenate([numpy.frombuffer(path.read_bytes(), numpy.uint8) for path in sorted(to.glob("*.ds.loss"))])
        assert (loss.reshape(-1, length) == sequences.trained).all()
        tally["ds: positions equal through its reader"] += positions.size
        return windows
    samples = peers.mds(to)
    if split == "instruct":
        assert (numpy.stack([sample["loss_mask"] for sample in samples]) == sequences.trained).all()
        numbers = numpy.stack([sample["segment_ids"] for sample in samples])
        assert (numbers == segment_numbers(sequences, length)).all()
        tally["mds: masks and segment ids equal through its reader"] += numbers.size
    return numpy.stack([sample["tokens"] for sample in samples]).astype(numpy.int64)


def restarting(sequences, length):
    """Position ids that restart where a segment, or the padding, begins."""
    positions = numpy.empty((len(sequences.ends), length), numpy.int64)
    for row, ends in enumerate(sequences.ends):
        start = 0
        for end in [*ends, length]:
            positions[row, start:end] = numpy.arange(end - start)
            start = end
    return positions


def segment_numbers(sequences, length):
    numbers = numpy.full((len(sequences.ends), length), -1)
    for row, ends in enumerate(sequences.ends):
        for number, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            numbers[row, start:end] = number
    return numbers


def lineage(to, sequences, wanted, tally):
    """Bytes of every segment, where the lineage says they are, are its ids; every document is in the table."""
    documents = set()
    for path in sorted((to / "lineage").rglob("*.parquet")):
        if path.name == "documents.parquet":
            continue
        table = pyarrow.parquet.read_table(path).to_pylist()
        data = (to / table[0]["object"]).read_bytes()
        for row in table:
            length = wanted.shape[1]
            ids = numpy.frombuffer(data[row["byte_start"] : row["byte_end"]], numpy.uint16)
            window = wanted[row["window"]]
            start = (row["token_start"]) % length
            assert (ids == window[start : start + len(ids)]).all() and row["token_end"] - row["token_start"] == len(ids)
            documents.add(row["document"])
            tally["lineage: segments found by their bytes"] += 1
    assert documents == {key for keys in sequences.documents for key in keys}
    listed = to / "lineage" / "documents.parquet"
    if listed.exists():
        table = pyarrow.parquet.read_table(listed).to_pylist()
        assert {row["document"] for row in table} == documents and all(row["id"].startswith(row["source"]) for row in table)
        tally["lineage: documents with id and source"] += len(table)


def card(work, tally):
    """The snippets of the dataset card run as they stand, and find as many sequences as there are."""
    text = (work / "README.md").read_text()
    snippets = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(snippets) >= 3, "the card shows how it is read"
    for snippet in snippets:
        code = "import os, sys\nos.chdir(sys.argv[1])\n" + snippet
        ended = subprocess.run([sys.executable, "-c", code, str(work)], capture_output=True, text=True, check=False)
        assert ended.returncode == 0, (snippet, ended.stderr[-2000:])
        tally["card: snippets that run"] += 1
    for (name, split), pattern in CONFIGURATIONS.items():
        rows = sum(pyarrow.parquet.read_metadata(path).num_rows for path in work.glob(pattern))
        assert readers_of_shards.rows_of_configuration(work, name, split) == rows > 0, (name, split)
        tally["card: rows of its configurations, through datasets"] += rows


if __name__ == "__main__":
    sys.exit(main())
