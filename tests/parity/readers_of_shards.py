"""The shards themselves as pyarrow, pandas, DuckDB and datasets read them, and what mellama says of them."""

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass

import duckdb
import numpy
import pandas
import pyarrow.parquet

# datasets is to read files, not to ask a hub or draw bars.
os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_DISABLE_PROGRESS_BARS="1")

SPLITS = {
    "train": "shards/cpt/train-*.parquet",
    "heldout": "shards/cpt/heldout-*.parquet",
    "instruct": "shards/instruct/train-*.parquet",
}


@dataclass
class Sequences:
    """All sequences of a split: arrays of N rows and T columns, and lists for each row."""

    ids: numpy.ndarray
    real: numpy.ndarray
    trained: numpy.ndarray
    ends: list
    documents: list
    offsets: list


def compare(work, split, pattern, tally):
    """Reads a split in four ways, which agree in every value, and returns it."""
    paths = sorted(work.glob(pattern))
    rows = [row for path in paths for row in pyarrow.parquet.read_table(path, page_checksum_verification=True).to_pylist()]
    for name, other in (("pandas", by_pandas(paths)), ("duckdb", by_duckdb(paths)), ("datasets", by_datasets(work, paths))):
        assert len(other) == len(rows), (name, split)
        for one, two in zip(rows, other, strict=True):
            assert one.keys() == two.keys()
            for column in one:
                assert plain(one[column]) == plain(two[column]), (name, split, column)
        tally[f"{name}: values of shards equal to pyarrow's"] += sum(len(row["tokens"]) for row in rows)
    return arrays(rows)


def plain(value):
    if value is None or (isinstance(value, float) and numpy.isnan(value)):
        return None
    return [bytes(one) if isinstance(one, bytes | bytearray | memoryview) else int(one) for one in value]


def by_pandas(paths):
    return [row for path in paths for row in pandas.read_parquet(path).to_dict("records")]


def by_duckdb(paths):
    table = duckdb.sql(f"SELECT * FROM read_parquet({[str(path) for path in paths]})")
    return [dict(zip(table.columns, row, strict=True)) for row in table.fetchall()]


def by_datasets(work, paths):
    from datasets import load_dataset

    with tempfile.TemporaryDirectory(prefix="mellama-datasets-") as cache:
        files = [str(path) for path in paths]
        return list(load_dataset("parquet", data_files=files, split="train", cache_dir=cache))


def rows_of_configuration(work, name, split):
    """Rows that the header of the dataset card leads to."""
    from datasets import load_dataset

    with tempfile.TemporaryDirectory(prefix="mellama-datasets-") as cache:
        return len(load_dataset(str(work), name, split=split, cache_dir=cache))


def arrays(rows):
    ids = numpy.array([row["tokens"] for row in rows], numpy.int64)
    filled = numpy.array([row["segment_ends"][-1] for row in rows])
    real = numpy.arange(ids.shape[1])[None, :] < filled[:, None]
    assert (ids[~real] == 0).all(), "padding is id 0"
    masks = [row["loss_mask"] if row["loss_mask"] is not None else list(real[index]) for index, row in enumerate(rows)]
    trained = numpy.array(masks, bool)
    assert not trained[~real].any()
    columns = ([row[name] for row in rows] for name in ("segment_ends", "segment_documents", "segment_offsets"))
    return Sequences(ids, real, trained, *columns)


LINE = re.compile(r"^ +(\d+)\.\.(\d+) +(\S+) document (?:.+ )?([0-9a-f]{32}) from token (\d+) epoch (\d+)(?: trained (\d+))?: (.*)$")


def compare_with_inspect(mellama, paths, sequences, tally):
    """Boundaries, documents, offsets and counts of the mask as `mellama inspect` shows them; first ids where it may."""
    row, segment = -1, 0
    for path in paths:
        told = subprocess.run([mellama, "inspect", path, "--rows", "1000000"], capture_output=True, text=True, check=True).stdout
        for line in told.splitlines()[2:]:
            if line.startswith("sequence "):
                row, segment = row + 1, 0
                continue
            start, end, _, document, offset, _, trained, ids = LINE.match(line).groups()
            start, end = int(start), int(end)
            assert sequences.ends[row][segment] == end and sequences.offsets[row][segment] == int(offset)
            assert sequences.documents[row][segment].hex() == document
            assert trained is None or int(trained) == sequences.trained[row, start:end].sum()
            if not ids.startswith("tokens not shown"):
                shown = [int(one) for one in ids.removesuffix(" ...").split()]
                assert shown == sequences.ids[row, start : start + len(shown)].tolist()
                tally["inspect: first ids of segments equal"] += len(shown)
            segment += 1
            tally["inspect: segments equal"] += 1
    assert row + 1 == len(sequences.ends)


def compare_with_runs(work, tally):
    """Every segment of the corpus shards holds the ids of its document in the token runs that it was packed from."""
    runs = {}
    for index in sorted(work.glob("tokens/*/*-index-*.parquet")):
        task = index.name.split("-")[0]
        (tokens,) = index.parent.glob(f"{task}-*.tokens")
        ids = numpy.fromfile(tokens, numpy.uint16)
        for row in pyarrow.parquet.read_table(index).to_pylist():
            runs[row["key"]] = ids[row["offset"] : row["offset"] + row["length"]]
    for split in ("train", "heldout"):
        rows = [row for path in sorted(work.glob(SPLITS[split])) for row in pyarrow.parquet.read_table(path).to_pylist()]
        for row in rows:
            start = 0
            for end, document, offset in zip(row["segment_ends"], row["segment_documents"], row["segment_offsets"], strict=True):
                run = runs[document][offset : offset + end - start]
                assert run.tolist() == row["tokens"][start:end]
                tally["shards: ids equal to those of their token runs"] += end - start
                start = end
