"""Reads files once or several times with another reader and prints what read-bench prints: one JSON line.

    peers.py lxml-jats|lxml-pubmed|pubmed_parser-jats|pubmed_parser-pubmed|gzip|zlib [--repeat N] FILE…

The seconds are those of the reading alone, without the start of the interpreter. `bytes` are those of the files.
Nothing is kept of the records but counts, as in read-bench.
"""

import argparse
import gzip
import json
import sys
import time
import zlib
from pathlib import Path

CHUNK_BYTES = 1 << 20


def main():
    parser = argparse.ArgumentParser(description="times another reader")
    parser.add_argument("reader", choices=sorted(READERS))
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("files", nargs="+")
    options = parser.parse_args()
    read = READERS[options.reader]()
    documents = text_bytes = 0
    begin = time.perf_counter()
    for _ in range(options.repeat):
        for path in options.files:
            for text in read(path):
                documents += 1
                text_bytes += text
    seconds = time.perf_counter() - begin
    size = options.repeat * sum(Path(path).stat().st_size for path in options.files)
    print(json.dumps({"bytes": size, "documents": documents, "seconds": seconds, "text_bytes": text_bytes}))
    return 0


# Each returns a function from a path to the lengths of its records' texts. Imports stand inside: gzip needs no peer.


def lxml_jats():
    from lxml import etree

    def flat(element):
        return " ".join("".join(element.itertext()).split())

    def article(root):
        meta = root.find("front/article-meta")
        record = {
            "title": flat(title) if (title := meta.find("title-group/article-title")) is not None else "",
            "ids": {one.get("pub-id-type"): one.text for one in meta.iterfind("article-id")},
            "year": meta.findtext("pub-date/year"),
            "licence": flat(licence) if (licence := meta.find("permissions/license")) is not None else "",
            "abstract": [flat(one) for part in meta.iterfind("abstract") for one in part.iter("title", "p")],
        }
        body = root.find("body")
        record["body"] = [] if body is None else [flat(one) for one in body.iter("title", "p")]
        return record

    def read(path):
        for _, root in etree.iterparse(path, events=("end",), tag="article", huge_tree=True):
            record = article(root)
            text = "\n\n".join([record["title"], *record["abstract"], *record["body"]])
            root.clear()
            yield len(text)

    return read


def lxml_pubmed():
    from lxml import etree

    def flat(element):
        return " ".join("".join(element.itertext()).split())

    def citation(element):
        medline = element.find("MedlineCitation")
        article = medline.find("Article")
        title = article.find("ArticleTitle")
        return {
            "pmid": medline.findtext("PMID"),
            "title": "" if title is None else flat(title),
            "abstract": [(one.get("Label"), flat(one)) for one in article.iterfind("Abstract/AbstractText")],
            "year": article.findtext("Journal/JournalIssue/PubDate/Year"),
            "journal": article.findtext("Journal/Title"),
            "mesh": [one.text for one in medline.iterfind("MeshHeadingList/MeshHeading/DescriptorName")],
            "ids": {one.get("IdType"): one.text for one in element.iterfind("PubmedData/ArticleIdList/ArticleId")},
        }

    def read(path):
        for _, element in etree.iterparse(path, events=("end",), tag="PubmedArticle", huge_tree=True):
            record = citation(element)
            sections = [f"{label}: {text}" if label else text for label, text in record["abstract"]]
            element.clear()
            while element.getprevious() is not None:
                del element.getparent()[0]
            yield len("\n\n".join([record["title"], *sections]))

    return read


def pubmed_parser_jats():
    import pubmed_parser

    def read(path):
        try:
            front = pubmed_parser.parse_pubmed_xml(path)
        except KeyError:
            # It gives up after reading an article without a year of the date types it knows.
            front = {"full_title": "", "abstract": ""}
        paragraphs = pubmed_parser.parse_pubmed_paragraph(path, all_paragraph=True)
        yield len("\n\n".join([front["full_title"], front["abstract"], *(one["text"] for one in paragraphs)]))

    return read


def pubmed_parser_pubmed():
    import pubmed_parser

    def read(path):
        for record in pubmed_parser.parse_medline_xml(path):
            yield len(record["title"]) + 2 + len(record["abstract"])

    return read


def gzip_only():
    def read(path):
        with gzip.open(path, "rb") as file:
            yield sum(map(len, iter(lambda: file.read(CHUNK_BYTES), b"")))

    return read


def zlib_only():
    def read(path):
        inflate = zlib.decompressobj(wbits=31)
        with open(path, "rb") as file:
            yield sum(len(inflate.decompress(chunk)) for chunk in iter(lambda: file.read(CHUNK_BYTES), b""))

    return read


READERS = {
    "gzip": gzip_only,
    "lxml-jats": lxml_jats,
    "lxml-pubmed": lxml_pubmed,
    "pubmed_parser-jats": pubmed_parser_jats,
    "pubmed_parser-pubmed": pubmed_parser_pubmed,
    "zlib": zlib_only,
}

if __name__ == "__main__":
    sys.exit(main())
