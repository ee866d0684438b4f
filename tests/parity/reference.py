"""Titles, abstracts, paragraphs, headings, list items and captions of PubMed and JATS files, read with lxml.

Written from the documentation of the two DTDs, not from mellama's code. It reads no metadata but titles, no tables,
footnotes or references, and says nothing about what mellama ought to do beyond the rules in differences.md.
"""

import re
from dataclasses import dataclass

from lxml import etree

from pieces import BOUNDARY, MATH, NFC, Piece, Unit, rendered

# Not text of the article: tables, notes, references, pictures, and what describes these.
LEFT_OUT = {
    "ack", "alt-text", "colgroup", "copyright-statement", "fn", "fn-group", "graphic", "index-term", "inline-graphic",
    "inline-media", "kwd-group", "long-desc", "object-id", "permissions", "private-char", "ref-list",
    "related-article", "related-object", "sec-meta", "table", "table-wrap-foot",
}  # fmt: skip
# Elements that end the line before them and begin one.
LINES = {
    "answer": "paragraph", "disp-quote": "quote", "explanation": "paragraph", "p": "paragraph", "question": "paragraph",
    "speech": "paragraph", "statement": "paragraph", "subtitle": "heading", "title": "heading", "verse-group": "verse",
    "verse-line": "verse",
}  # fmt: skip
# Abstracts beside the one that sums the article up.
OTHER_ABSTRACTS = {"author-highlights", "graphical", "precis", "short", "teaser", "toc", "video", "web-summary"}
# A number, a sign with a number or letter behind it, or a letter that mathematics writes as an exponent.
POWER = re.compile(r"\s*(?:\.?[0-9]|[+\-−–‐‑].*[^\W_]|[nNmkx]\s*$)", re.DOTALL)
NOT_AVAILABLE = re.compile(r"\[Not Available\]\.?")
PUBMED_ROOTS = {"PubmedArticleSet", "PubmedBookArticleSet", "MedlineCitationSet"}
PUBMED_RECORDS = {"PubmedArticle", "PubmedBookArticle", "MedlineCitation"}
UNSPOKEN = {"annotation", "annotation-xml", "mphantom", "mprescripts", "none"}
ACCENTS = set("¯‾_―^ˆ~˜→⃗˙.¨")


@dataclass
class Record:
    """An article or citation: its lines in the order of the file, and the element they were read from."""

    units: list
    element: etree._Element


def records(path, kind):
    """Every record of a file; None when the file is not well-formed XML of this kind."""
    try:
        root = etree.parse(str(path), etree.XMLParser(resolve_entities=False, huge_tree=True)).getroot()
    except etree.XMLSyntaxError:
        return None
    return {"pubmed-xml": pubmed_records, "jats": jats_records}[kind](root)


def local(element):
    """Name without namespace; empty for comments and processing instructions."""
    return etree.QName(element).localname if isinstance(element.tag, str) else ""


def child(element, name):
    return next((one for one in element if local(one) == name), None)


def pubmed_records(root):
    if local(root) in PUBMED_RECORDS:
        return [Record(citation_units(root), root)]
    if local(root) not in PUBMED_ROOTS:
        return None
    return [Record(citation_units(one), one) for one in root if local(one) in PUBMED_RECORDS]


def jats_records(root):
    if local(root) == "article":
        return [Record(article_units(root), root)]
    if local(root) != "pmc-articleset":
        return None
    return [Record(article_units(one), one) for one in root if local(one) == "article"]


# PubMed


def citation_units(record):
    if local(record) == "PubmedBookArticle":
        article = record.find("BookDocument")
    else:
        citation = record if local(record) == "MedlineCitation" else record.find("MedlineCitation")
        article = None if citation is None else citation.find("Article")
    if article is None:
        return []
    return citation_title(article) + citation_abstract(article)


def citation_title(article):
    """The English title, else the original one, else the book's; `[Not Available]` is none."""
    units = []
    for path in ("ArticleTitle", "VernacularTitle", "Book/BookTitle"):
        for element in article.findall(path):
            unit = Unit("title", "title", element.sourceline, inline(element))
            if not unit.everything():
                continue
            if NOT_AVAILABLE.fullmatch(unit.everything()):
                unit.exempt = "not-available"
                units.append(unit)
                continue
            return [*units, unit]
    return units


def citation_abstract(article):
    units = []
    for element in article.findall("Abstract/AbstractText"):
        walk = Walk("abstract")
        label = (element.get("Label") or "").strip().rstrip(":").strip()
        if label and label != "UNLABELLED":
            walk.prefix = [Piece("", "abstract-label", f"{label}: ")]
        walk.mixed(element, "paragraph")
        walk.end()
        units += walk.units
    return units


# JATS


def article_units(article):
    meta = article.find("front/article-meta")
    units = []
    if meta is not None:
        units += article_title(meta)
        for abstract in meta.findall("abstract"):
            units += abstract_units(abstract)
    for name in ("body", "floats-group"):
        for part in article.findall(name):
            walk = Walk("body")
            walk.mixed(part, "paragraph")
            walk.end()
            units += walk.units
    return units


def article_title(meta):
    title, subtitle = meta.find("title-group/article-title"), meta.find("title-group/subtitle")
    if title is None:
        return []
    pieces = inline(title)
    if subtitle is not None:
        stop = ": " if text_of(title)[-1:].isalnum() else " "
        pieces += [Piece(BOUNDARY, "subtitle", stop), *inline(subtitle)]
    unit = Unit("title", "title", title.sourceline, pieces)
    return [unit] if unit.everything() else []


def abstract_units(abstract):
    walk = Walk("abstract")
    if abstract.get("abstract-type") in OTHER_ABSTRACTS:
        walk.exempt = "other-abstract"
    walk.mixed(abstract, "paragraph")
    walk.end()
    return walk.units


# Mixed content


def text_of(element):
    """An element on one line with every rule applied."""
    return rendered(inline(element), {piece.rule for piece in inline(element)} - {MATH} | {NFC})


def inline(element):
    """The pieces of an element that should be one line; several lines are parted by a boundary."""
    walk = Walk("")
    walk.mixed(element, "line")
    walk.end()
    return joined([shown_or_not(unit) for unit in walk.units], Piece(BOUNDARY, "one-line", " "))


def shown_or_not(unit):
    """The pieces of a line; those of an exempt one are there until its rule takes them away."""
    if unit.exempt is None:
        return unit.pieces
    return [Piece(rendered(unit.pieces, set()), unit.exempt, "")]


def joined(lists, between):
    pieces = []
    for one in lists:
        pieces += [between, *one] if pieces else one
    return pieces


class Walk:
    """Collects the lines of an element."""

    def __init__(self, part):
        self.part = part
        self.units = []
        self.pieces = []
        self.prefix = []
        self.exempt = None
        self.items = 0
        self.kind, self.source_line = "paragraph", 0
        # Digits that come next would be read as one number with those before.
        self.border = False

    def end(self):
        """Ends a line; one without text is none."""
        kind = "item" if self.items else self.kind
        unit = Unit(self.part, kind, self.source_line, self.prefix + self.pieces, self.exempt)
        if rendered(self.pieces, set()) or rendered(self.pieces, set(unit.rules())):
            self.units.append(unit)
            self.prefix = []
        self.pieces = []

    def add(self, plain, rule=None, shown=""):
        if self.border and plain:
            self.border = False
            if plain[0].isdecimal() and self.so_far()[-1:].isdecimal():
                self.pieces.append(Piece(BOUNDARY, "digits-apart", " "))
        self.pieces.append(Piece(plain, rule, shown))

    def whole(self, element, kind, pieces):
        """A line that is known at once."""
        self.end()
        self.kind, self.source_line, self.pieces = kind, element.sourceline, pieces
        self.end()

    def mixed(self, element, kind):
        self.kind, self.source_line = kind, element.sourceline
        self.add(element.text or "")
        for one in element:
            self.element(one)
            self.kind, self.source_line = kind, element.sourceline
            self.add(one.tail or "")

    def element(self, element):
        name = local(element)
        handler = HANDLERS.get(name)
        if handler is not None:
            handler(self, element)
        elif name in LINES:
            self.end()
            self.mixed(element, LINES[name])
            self.end()
        elif isinstance(element, etree._Entity):
            self.add(element.text)
        elif name and name not in LEFT_OUT:
            self.mixed(element, self.kind)

    # Blocks

    def section(self, element):
        self.end()
        begin = len(self.units)
        self.whole(element, "heading", headed(element, "title", " "))
        headings = self.units[begin:]
        for one in element:
            if local(one) not in {"label", "title"}:
                self.element(one)
        self.end()
        if all(unit.exempt for unit in self.units[begin + len(headings) :]):
            for unit in headings:
                unit.exempt = unit.exempt or "empty-section"

    def figure(self, element):
        """A figure or table: its caption, then what else is no picture or table, for example figures inside it."""
        if child(element, "caption") is not None:
            self.whole(element, "caption", headed(element, "caption", ". "))
        self.beside_caption(element)

    def box(self, element):
        self.whole(element, "caption", headed(element, "caption", ". "))
        self.beside_caption(element)

    def beside_caption(self, element):
        self.end()
        for one in element:
            if local(one) not in {"label", "caption"}:
                self.element(one)
        self.end()

    def list(self, element):
        self.end()
        if child(element, "title") is not None:
            self.whole(element, "heading", inline(child(element, "title")))
        items = [one for one in element if local(one) == "list-item"]
        for number, item in enumerate(items, 1):
            self.item(item, f"{number}." if element.get("list-type") == "order" else "-")

    def item(self, element, mark):
        label = child(element, "label")
        mark = text_of(label) if label is not None and text_of(label) else mark
        self.prefix = [*self.prefix, Piece("", "list-mark", f"{mark} ")]
        self.items += 1
        for one in element:
            if local(one) != "label":
                self.element(one)
        self.end()
        self.items -= 1
        self.prefix = []

    def definitions(self, element):
        self.end()
        if child(element, "title") is not None:
            self.whole(element, "heading", inline(child(element, "title")))
        for item in (one for one in element if local(one) == "def-item"):
            sides = [self.side(item, "term", ", "), self.side(item, "def", " ")]
            self.whole(item, "item", joined([side for side in sides if side], Piece(BOUNDARY, "definition", ": ")))

    def side(self, item, name, between):
        found = [inline(one) for one in item if local(one) == name]
        return joined(found, Piece(BOUNDARY, "definition", between))

    def code(self, element):
        """Several lines are lines of their own, one runs on in the text."""
        lines = "".join(element.itertext()).strip("\r\n").splitlines()
        if len(lines) < 2:
            self.mixed(element, self.kind)
            return
        for line in lines:
            self.whole(element, "code", [Piece(line)])

    def supplement(self, element):
        self.exempted(element, "supplement")

    def attribution(self, element):
        self.exempted(element, "attribution")

    def exempted(self, element, rule):
        self.end()
        before, self.exempt = self.exempt, self.exempt or rule
        self.mixed(element, "paragraph")
        self.end()
        self.exempt = before

    # Inside a line

    def math(self, element):
        self.add(formula(element), MATH)

    def tex(self, element):
        self.add("".join(element.itertext()), "tex")

    def alternatives(self, element):
        """One thing in several forms."""
        math = child(element, "math")
        if math is None:
            self.mixed(element, self.kind)
        else:
            self.math(math)

    def gap(self, _element):
        self.add(BOUNDARY, "break", " ")

    def display(self, element):
        self.add("", "formula-space", " ")
        self.mixed(element, self.kind)
        self.add("", "formula-space", " ")

    def label(self, element):
        self.mixed(element, self.kind)
        self.add("", "label-space", " ")

    def reference(self, element):
        if child(element, "sup") is not None:
            self.citation_space()
        self.border = True
        self.mixed(element, self.kind)
        self.border = True

    def superscript(self, element):
        text = "".join(element.itertext())
        if next((one for one in element.iter() if local(one) == "xref"), None) is not None:
            self.citation_space()
        elif self.so_far()[-1:].isdecimal() and POWER.match(text):
            self.add(BOUNDARY, "power", "^")
        elif re.search(r"[0-9][.,]$", self.so_far()) and text[:1].isdecimal():
            self.add(BOUNDARY, "digits-apart", " ")
        self.mixed(element, self.kind)
        self.border = True

    def subscript(self, element):
        text = "".join(element.itertext()).strip()
        if self.so_far()[-1:].isdecimal() and re.match(r"[0-9]\S", text):
            self.add(BOUNDARY, "index", "_")
        self.mixed(element, self.kind)
        self.border = len(text) > 1

    def citation_space(self):
        if not self.so_far().endswith(("(", "[")):
            self.add(BOUNDARY, "citation-space", " ")

    def so_far(self):
        return "".join(piece.text({piece.rule}) if piece.rule != MATH else piece.plain for piece in self.pieces)


def headed(element, name, stop):
    """A title or caption after its label."""
    label, title = child(element, "label"), child(element, name)
    titled = [] if title is None else inline(title)
    if label is None:
        return titled
    marked = text_of(label)
    if not titled or not marked:
        return titled or inline(label)
    return [Piece("", "label", marked + (stop if marked[-1].isalnum() else " ")), *titled]


def formula(element):
    """The symbols of a formula in the order in which they are written."""
    name = local(element)
    if not name or name in UNSPOKEN:
        return ""
    parts = list(element)
    if name == "mover" and len(parts) == 2 and formula(parts[1]).strip() in ACCENTS:
        return formula(parts[0])
    if name == "semantics":
        return formula(parts[0])
    if name == "mroot" and len(parts) == 2:
        return f"{formula(parts[0])}1{formula(parts[1])}"
    if name == "mmultiscripts":
        parts = before_the_base(parts)
    inner = (element.text or "") + "".join(formula(one) + (one.tail or "") for one in parts)
    return element.get("open", "(") + inner + element.get("close", ")") if name == "mfenced" else inner


def before_the_base(parts):
    """Left scripts first, as they are read."""
    split = next((index for index, one in enumerate(parts) if local(one) == "mprescripts"), len(parts))
    return parts[split + 1 :] + parts[:split]


HANDLERS = {
    "DispFormula": Walk.display,
    "alternatives": Walk.alternatives,
    "attrib": Walk.attribution,
    "boxed-text": Walk.box,
    "br": Walk.gap,
    "break": Walk.gap,
    "chem-struct-wrap": Walk.figure,
    "code": Walk.code,
    "def-list": Walk.definitions,
    "disp-formula": Walk.display,
    "disp-formula-group": Walk.display,
    "fig": Walk.figure,
    "label": Walk.label,
    "list": Walk.list,
    "math": Walk.math,
    "media": Walk.supplement,
    "preformat": Walk.code,
    "sec": Walk.section,
    "sub": Walk.subscript,
    "sup": Walk.superscript,
    "supplementary-material": Walk.supplement,
    "table-wrap": Walk.figure,
    "tex-math": Walk.tex,
    "xref": Walk.reference,
}
