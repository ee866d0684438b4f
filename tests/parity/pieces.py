"""Text of the reference readers: lines made of pieces, some of which an intended difference writes in another way.

It knows neither XML nor mellama.
"""

import itertools
import re
import unicodedata
from dataclasses import dataclass, field

# Never in a document: a boundary that only a rule may turn into something else.
BOUNDARY = "\ue002"
MATH = "mathml"
NFC = "nfc"
# What a formula's layout adds or turns into other signs; letters, digits and operators have to stay.
LAYOUT = set(" _^()[]{}|/√,;\u2061\u2062\u2063\u2064\u00a0")


@dataclass(frozen=True)
class Piece:
    """A run of text: `plain` as it stands in the file, `shown` where `rule` is applied."""

    plain: str
    rule: str | None = None
    shown: str = ""

    def text(self, rules):
        return self.shown if self.rule and self.rule in rules else self.plain


@dataclass
class Unit:
    """One line that a reader finds: a title, heading, paragraph, list item or caption."""

    part: str
    kind: str
    line: int
    pieces: list = field(default_factory=list)
    exempt: str | None = None

    def rules(self):
        return sorted({piece.rule for piece in self.pieces if piece.rule and piece.plain != piece.shown})

    def everything(self):
        """Every rule applied, formulas as their bare symbols."""
        return rendered(self.pieces, set(self.rules()) - {MATH} | {NFC})


def rendered(pieces, rules):
    """One line with single spaces."""
    text = "".join(piece.text(rules) for piece in pieces)
    return one_line(unicodedata.normalize("NFC", text) if NFC in rules else text)


def one_line(text):
    return " ".join(text.split())


def rules_that_explain(unit, line):
    """The smallest set of rules under which the unit reads like the line, or None."""
    names = [*unit.rules(), NFC]
    for size in range(len(names) + 1):
        for rules in itertools.combinations(names, size):
            if reads_like(unit, set(rules), line):
                return rules
    return None


def reads_like(unit, rules, line):
    if MATH not in rules:
        return rendered(unit.pieces, rules) == line
    around, formulas = around_formulas(unit.pieces, rules)
    pattern = "(.*?)".join(map(re.escape, around))
    found = re.fullmatch(pattern, line)
    return found is not None and all(map(same_symbols, formulas, found.groups()))


def around_formulas(pieces, rules):
    """The text before, between and after the formulas, and these; formulas with nothing between them are one."""
    mark = BOUNDARY + "m"
    marked = [Piece(mark) if piece.rule == MATH else piece for piece in pieces]
    first, *after = rendered(marked, rules - {MATH}).split(mark)
    around, formulas = [first], []
    for formula, text in zip((piece.plain for piece in pieces if piece.rule == MATH), after, strict=True):
        if formulas and not around[-1].strip():
            formulas[-1] += formula
            around[-1] = text
        else:
            formulas.append(formula)
            around.append(text)
    return around, formulas


def same_symbols(one, other):
    return symbols(one) == symbols(other)


def symbols(text):
    """Letters, digits and operators of a formula, without accents and layout."""
    split = unicodedata.normalize("NFKD", text)
    return [sign for sign in split if not unicodedata.combining(sign) and not sign.isspace() and sign not in LAYOUT]


def skeleton(text):
    """Letters and digits only: what two spellings of one line share."""
    return "".join(sign for sign in unicodedata.normalize("NFKD", text) if sign.isalnum())
