"""Runs mellama's ingest on the sample data and reads its documents and rejects, object by object.

It judges nothing, and reads no stage but `ingest`.
"""

import json
import subprocess
from collections import defaultdict

import pyarrow.parquet as parquet

from pieces import one_line

SOURCES = {"pubmed-xml": "pubmed", "jats": "jats"}


def ingest(mellama, data, folder):
    """Runs `ingest` over both folders of the data; the work folder."""
    recipe, work = folder / "recipe.toml", folder / "work"
    recipe.write_text(recipe_text(data, work), encoding="utf-8")
    subprocess.run([mellama, "run", recipe, "--until", "ingest", "--quiet"], check=True)
    return work


def recipe_text(data, work):
    parts = [f'name = "parity"\nworkdir = {json.dumps(str(work))}\n']
    for name, below in SOURCES.items():
        inputs = json.dumps([f"{data / below}/**"])
        parts.append(
            f'[[corpus.source]]\nname = "{below}"\nformat = "{name}"\ninputs = {inputs}\n'
            'domain = "biomedical"\nmax_rejects = 1.0\nread = { retracted = "keep" }\n'
        )
    return "\n".join(parts)


def outcomes(work, source):
    """By object: the documents and rejects of a source in the order of their offsets; a reject is None."""
    found = defaultdict(list)
    for path in sorted((work / "documents" / source).glob("*.parquet")):
        for row in parquet.read_table(path, columns=["origin_object", "origin_offset", "title", "text"]).to_pylist():
            found[row["origin_object"]].append((row["origin_offset"], row))
    for path in sorted((work / "rejects" / source).glob("*.jsonl")):
        for text in path.read_text(encoding="utf-8").splitlines():
            reject = json.loads(text)
            found[reject["object"]].append((reject["byte_offset"], None))
    return {name: [row for _, row in sorted(rows, key=lambda one: one[0])] for name, rows in found.items()}


def lines_of(row):
    """The lines of a document's text, each with single spaces."""
    return [one for one in map(one_line, row["text"].split("\n")) if one]
