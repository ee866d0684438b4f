"""Writes the source of which nothing may be seen outside the data: invented notes with a mark in every field.

It makes no other input: the rest of the recipes reads the fixtures of the project.
"""

from __future__ import annotations

import csv
import secrets
from dataclasses import dataclass
from pathlib import Path

COLUMNS = "ROW_ID SUBJECT_ID HADM_ID CHARTDATE CHARTTIME STORETIME CATEGORY DESCRIPTION CGID ISERROR TEXT"


@dataclass(frozen=True)
class Marks:
    """Words that occur nowhere else: in texts, in other fields, and in what stands for a credential."""

    text: str
    field: str
    secret: str

    @classmethod
    def draw(cls) -> Marks:
        """New ones, so that no left-over of an earlier run can be taken for one of this run, nor hide one."""
        return cls(*(f"{kind}{secrets.token_hex(8)}" for kind in ("seenmark", "fieldmark", "credential")))

    def all(self) -> tuple[str, str, str]:
        return (self.text, self.field, self.secret)


def write_private_source(folder: Path, marks: Marks) -> None:
    """Good notes, an exact and a near copy, and records that are rejected: every way that a text can go."""
    sentence = "The patient {mark} walked {number} metres with one rest and ate well on day {number}."
    notes = [
        " ".join(sentence.format(mark=marks.text, number=100 * note + line) for line in range(12)) for note in range(20)
    ]
    notes.append(notes[0])
    notes.append(f"{notes[1]} Seen again {marks.text}.")
    with (folder / "private.csv").open("w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(COLUMNS.split())
        for row, text in enumerate(notes, start=1):
            kept = [f"Nursing {marks.field}", f"Report {marks.field}", "", ""]
            writer.writerow([row, 80_000 + row, 180_000 + row, "2150-03-02", "", "", *kept, f"{text}\n{marks.text}"])
        # An erroneous note, and records with too few and too many columns.
        writer.writerow([900, 1, 1, "", "", "", marks.field, marks.field, "", "1", f"{marks.text} was in error"])
        writer.writerow([901, marks.text])
        writer.writerow([902, 1, 1, "", "", "", marks.field, marks.field, "", "", marks.text, marks.text, marks.text])
