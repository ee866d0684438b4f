"""Second comparison: titles, abstracts and body paragraphs as pubmed_parser gives them.

pubmed_parser is compared only where it keeps the whole text: it looks two levels deep, puts every abstract of an article
into one text, and gives up on some citations. White space, `^`, `_` and colons are left out of this comparison, because
pubmed_parser keeps none of them as mellama does; the comparison with lxml looks at these.
"""

import gzip
import re
import tempfile
import unicodedata

import pubmed_parser
from lxml import etree

from reference import LEFT_OUT, local

# A paragraph with one of these inside is cut by one of the two; one inside the others is no text of the article.
NOT_PLAIN = LEFT_OUT | {
    "alternatives", "boxed-text", "code", "def-list", "disp-formula", "disp-quote", "fig", "inline-formula", "list",
    "math", "media", "supplementary-material", "table-wrap", "tex-math", "title",
}  # fmt: skip
OUTSIDE = {
    "fn", "media", "permissions", "response", "sub-article", "supplementary-material", "table", "table-wrap-foot",
}  # fmt: skip
MARK_IN_PLAIN_TEXT = re.compile(r"[\s:^_]+")


def compare(kind, path, number, record, lines, tally):
    """One record; `lines` are those of mellama's document."""
    place = f"{path.name}#{number}"
    if kind == "jats":
        article(place, path, record, lines, tally)
    else:
        citation(place, record, lines, tally)


def squeezed(text):
    return MARK_IN_PLAIN_TEXT.sub("", unicodedata.normalize("NFC", text))


def parts_of(record, lines):
    """Title line and abstract lines of the document, told by how many lines lxml found."""
    kept = [unit for unit in record.units if not unit.exempt]
    titles = sum(unit.part == "title" for unit in kept)
    abstracts = sum(unit.part == "abstract" for unit in kept)
    return " ".join(lines[:titles]), " ".join(lines[titles : titles + abstracts])


def judged(name, place, wanted, got, reason, tally):
    """Counts a comparison; `reason` says why pubmed_parser's text cannot be relied on, if so."""
    if squeezed(wanted) == squeezed(got):
        tally.counts[f"pubmed_parser: equal {name}"] += 1
    elif reason:
        tally.counts[f"pubmed_parser: {name} not compared: {reason}"] += 1
    else:
        tally.fault(f"pubmed_parser: another {name}", place, f"pubmed_parser {wanted[:30]!r}, mellama {got[:30]!r}")


# JATS


def article(place, path, record, lines, tally):
    front(place, path, record, lines, tally)
    text = squeezed(" ".join(lines))
    paragraphs = pubmed_parser.parse_pubmed_paragraph(str(path), all_paragraph=True)
    for element, paragraph in zip(record.element.xpath("//body//p"), paragraphs, strict=True):
        body_paragraph(f"{place} line {element.sourceline}", element, paragraph["text"], text, tally)


def front(place, path, record, lines, tally):
    try:
        found = pubmed_parser.parse_pubmed_xml(str(path))
    except KeyError:
        tally.counts["pubmed_parser: front not compared: it gives up (no year of ppub or collection)"] += 1
        return
    title, abstract = parts_of(record, lines)
    judged("title", place, found["full_title"], title, unreliable(record, "title"), tally)
    judged("abstract", place, found["abstract"], abstract, unreliable(record, "abstract"), tally)


def body_paragraph(place, element, wanted, text, tally):
    reason = not_plain(element)
    if reason:
        tally.counts[f"pubmed_parser: paragraph not compared: {reason}"] += 1
    elif squeezed(wanted) in text:
        tally.counts["pubmed_parser: equal paragraph"] += 1
    else:
        tally.fault("pubmed_parser: a paragraph mellama lacks", place, wanted.strip()[:60])


def not_plain(element):
    if OUTSIDE & {local(one) for one in element.iterancestors()}:
        return "outside the text"
    names = {local(one) for one in element.iterdescendants()}
    if names & NOT_PLAIN:
        return "something other than text inside"
    if not shallow(element) or (element.tail or "").strip():
        return "markup inside markup"
    return None


def shallow(element):
    """No markup inside markup and no comments, which pubmed_parser cuts or takes for text."""
    return all(local(one) and len(one) == 0 for one in element)


def unreliable(record, part):
    units = [unit for unit in record.units if unit.part == part]
    rules = {rule for unit in units for rule in unit.rules()}
    if any(unit.exempt for unit in units):
        return "more than one abstract"
    return next((rule for rule in ("mathml", "list-mark", "label", "subtitle") if rule in rules), None)


# PubMed


def citation(place, record, lines, tally):
    if local(record.element) != "PubmedArticle":
        tally.counts["pubmed_parser: record not compared: no PubmedArticle"] += 1
        return
    found = parsed(record.element)
    if found is None:
        tally.counts["pubmed_parser: record not compared: it gives up"] += 1
        return
    title, abstract = parts_of(record, lines)
    article_element = record.element.find("MedlineCitation/Article")
    judged("title", place, found["title"], title, citation_title(article_element), tally)
    judged("abstract", place, found["abstract"], abstract, citation_abstract(article_element), tally)


def parsed(element):
    """What pubmed_parser makes of one citation; it reads gzip files only."""
    with tempfile.NamedTemporaryFile(suffix=".xml.gz") as file:
        file.write(gzip.compress(b"<PubmedArticleSet>" + etree.tostring(element) + b"</PubmedArticleSet>", 1))
        file.flush()
        try:
            return next(iter(pubmed_parser.parse_medline_xml(file.name)))
        except (AttributeError, KeyError, TypeError, ValueError):
            return None


def citation_title(article):
    title = article.find("ArticleTitle")
    if title is None or "[Not Available]" in "".join(title.itertext()):
        return "no title in English"
    return None if shallow(title) else "markup inside markup"


def citation_abstract(article):
    texts = article.findall("Abstract/AbstractText")
    if not all(map(shallow, texts)):
        return "markup inside markup"
    if len(texts) == 1 and texts[0].get("Label"):
        return "a single label"
    if any(one.get("Label") == "UNLABELLED" for one in texts):
        return "UNLABELLED"
    return "no abstract text" if article.find("Abstract") is not None and not texts else None
