"""Compares mellama's documents with what two independent readers, lxml and pubmed_parser, find in the same files.

Every line that lxml finds has to be in the document, in order, and every line of the document has to be accounted for.
What may differ is listed in differences.md; anything else ends this with exit 1. It compares text only: ids, years,
licences and other metadata are not its matter, and it never changes a file of the data.

    readers.py MELLAMA DATA     for example target/release/mellama ../shared/data
"""

import argparse
import re
import sys
import tempfile
from collections import Counter
from difflib import SequenceMatcher
from pathlib import Path

import documents
import peer
import reference
from pieces import rules_that_explain, skeleton

# The rules are the first column of the list's tables.
LISTED = set(re.findall(r"^\| `([a-z-]+)`", Path(__file__).with_name("differences.md").read_text(encoding="utf-8"), re.MULTILINE))
EXAMPLES = 40
EXCERPT_CHARACTERS = 60


class Tally:
    """Counts, and the first examples of what nothing explains."""

    def __init__(self):
        self.counts = Counter()
        self.unexplained = Counter()
        self.examples = []

    def intended(self, what, rule):
        """A difference by a rule; one that is not in differences.md is a fault."""
        self.counts[f"{what}: {rule}"] += 1
        if rule not in LISTED:
            self.fault("a rule that differences.md does not list", rule, "")

    def fault(self, kind, place, detail):
        self.unexplained[kind] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append((kind, place, detail))


def main():
    options = arguments()
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="mellama-parity-") as folder:
        work = documents.ingest(options.mellama.resolve(), options.data.resolve(), Path(folder))
        for kind, source in documents.SOURCES.items():
            compare_source(kind, options.data.resolve() / source, documents.outcomes(work, source), tally)
    report(tally)
    return 1 if tally.unexplained else 0


def arguments():
    parser = argparse.ArgumentParser(description="text parity of mellama's documents with lxml and pubmed_parser")
    parser.add_argument("mellama", type=Path, help="the binary")
    parser.add_argument("data", type=Path, help="folder with pubmed/ and jats/")
    return parser.parse_args()


def compare_source(kind, folder, outcomes, tally):
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        tally.counts["files"] += 1
        compare_file(kind, path, outcomes.get(str(path), []), tally)


def compare_file(kind, path, rows, tally):
    found = reference.records(path, kind)
    if found is None:
        tally.counts["files that are not of their format"] += 1
        if any(rows) or not rows:
            tally.fault("a file that lxml cannot read is no reject", path.name, "")
        return
    if len(found) != len(rows):
        tally.fault("records of a file", path.name, f"lxml {len(found)}, mellama {len(rows)}")
        return
    for number, (record, row) in enumerate(zip(found, rows, strict=True)):
        compare_record(f"{path.name}#{number}", record, row, tally)
        if row is not None:
            peer.compare(kind, path, number, record, documents.lines_of(row), tally)


def compare_record(place, record, row, tally):
    tally.counts["records"] += 1
    kept = [unit for unit in record.units if not unit.exempt]
    if row is None or not kept:
        tally.counts["records without text"] += 1
        if row is not None or kept:
            tally.fault("only one of the two finds text", place, "")
        return
    for unit in record.units:
        if unit.exempt:
            tally.intended("left out", unit.exempt)
    compare_lines(place, kept, documents.lines_of(row), tally)
    compare_title(place, kept, row, tally)


def compare_title(place, units, row, tally):
    """The column `title`; the same title is also the first line of the text."""
    title = next((unit for unit in units if unit.part == "title"), None)
    if (title is None) != (row["title"] is None):
        tally.fault("title column", place, "one of the two has none")
    elif title is not None and rules_that_explain(title, row["title"]) is None:
        tally.fault("title column", place, difference(title.everything(), row["title"]))


def compare_lines(place, units, lines, tally):
    for one, other in aligned(units, lines):
        if one is None:
            tally.fault("a line only mellama has", place, other[:EXCERPT_CHARACTERS])
        elif other is None:
            tally.fault(f"a line mellama lacks: {one.part} {one.kind}", at(place, one), one.everything()[:EXCERPT_CHARACTERS])
        else:
            compare_line(place, one, other, tally)


def compare_line(place, unit, line, tally):
    tally.counts["lines"] += 1
    tally.counts[f"lines: {unit.part} {unit.kind}"] += 1
    rules = rules_that_explain(unit, line)
    if rules is None:
        tally.fault(f"another text: {unit.part} {unit.kind}", at(place, unit), difference(unit.everything(), line))
        return
    tally.counts["lines that are equal" if not rules else "lines that are equal up to intended differences"] += 1
    for rule in rules:
        tally.intended("intended", rule)


def aligned(units, lines):
    """Pairs of a unit and a line in order; None stands for one that is missing."""
    keys = [skeleton(unit.everything()) for unit in units]
    matcher = SequenceMatcher(None, keys, [skeleton(line) for line in lines], autojunk=False)
    for tag, first, last, begin, end in matcher.get_opcodes():
        if tag == "equal":
            yield from zip(units[first:last], lines[begin:end], strict=True)
        else:
            yield from paired(units[first:last], lines[begin:end])


def paired(units, lines):
    """A stretch without equal letters: lines that a rule explains are pairs, the rest by position."""
    if len(units) == len(lines):
        yield from zip(units, lines, strict=True)
        return
    for unit in units:
        hit = next((index for index, line in enumerate(lines) if rules_that_explain(unit, line) is not None), None)
        if hit is None:
            yield unit, None
            continue
        yield from ((None, line) for line in lines[:hit])
        yield unit, lines[hit]
        lines = lines[hit + 1 :]
    yield from ((None, line) for line in lines)


def at(place, unit):
    return f"{place} line {unit.line}"


def difference(wanted, got):
    """Where two texts part, with a few words of both."""
    pairs = enumerate(zip(wanted, got, strict=False))
    same = next((index for index, (one, two) in pairs if one != two), min(len(wanted), len(got)))
    begin, half = max(0, same - 8), EXCERPT_CHARACTERS // 2
    return f"lxml {wanted[begin : begin + half]!r}, mellama {got[begin : begin + half]!r}"


def report(tally):
    for name, count in sorted(tally.counts.items()):
        print(f"{count:8}  {name}")
    print(f"{sum(tally.unexplained.values()):8}  unexplained")
    for name, count in tally.unexplained.most_common():
        print(f"{count:8}  unexplained: {name}")
    for kind, place, detail in tally.examples:
        print(f"{place}: {kind}: {detail}")


if __name__ == "__main__":
    sys.exit(main())
