//! Invented records of every published shape of RedPajama, the Pile and S2ORC.

use super::{context, documents, items, outline, read, rejects};
use crate::document::{Document, text_id};
use crate::options::ReadOptions;
use crate::reader::{Format, Limits};

fn one(format: Format, line: &str) -> Document {
    let found = read(format, line.as_bytes());
    assert!(rejects(&found).is_empty(), "{:?}", outline(&found));
    documents(&found)[0].clone()
}

/// Id, title, licence, year and one entry of the meta data of a record.
fn check(line: &str, id: &str, title: Option<&str>, licence: &str, meta: (&str, Option<&str>)) {
    let document = one(Format::Redpajama, line);
    assert_eq!((document.native_id.as_str(), document.title.as_deref()), (id, title), "{line}");
    assert_eq!((document.licence.as_deref(), document.year), (Some(licence), None), "{line}");
    assert_eq!(document.meta.get(meta.0).map(String::as_str), meta.1, "{line}");
    assert!(!document.meta.contains_key("quality_signals") && !document.meta.contains_key("raw_content"));
}

#[test]
fn redpajama_records_of_every_subset() {
    let arxiv = r#"{"text": "T", "meta": {"timestamp": "2017-11-07", "yymm": "1711", "arxiv_id": "1711.02000", "language": "en", "url": "https://arxiv.org/abs/1711.02000"}}"#;
    check(arxiv, "1711.02000", None, "stated", ("yymm", Some("1711")));
    let book = r#"{"text": "T", "meta": {"short_book_title": "A Tale", "publication_date": 1859, "url": "http://books.example.org/98"}}"#;
    check(book, "http://books.example.org/98", Some("A Tale"), "stated", ("publication_date", Some("1859")));
    let title_only = r#"{"text": "T", "meta": {"title": "Another Tale"}}"#;
    check(title_only, &text_id("T"), Some("Another Tale"), "stated", ("title", Some("Another Tale")));
    let c4 = r#"{"text": "T", "meta": {"timestamp": "2019-04-25T12:57:54Z", "source": "c4", "language": "en", "url": "https://example.org/p"}}"#;
    check(c4, "https://example.org/p@2019-04-25T12:57:54Z", None, "stated", ("source", Some("c4")));
    let crawl = r#"{"text": "T", "pred_label": "__label__wiki", "pred_label_prob": 0.7, "wiki_prob": 0.7, "source": "cc/2019-30/en_middle_0053.json.gz/line40"}"#;
    check(crawl, &text_id("T"), None, "stated", ("source", Some("cc/2019-30/en_middle_0053.json.gz/line40")));
    let code = r#"{"text": "T", "meta": {"content_hash": "0f", "timestamp": "", "source": "github", "line_count": 3, "repo_name": "a/b", "id": "99", "path": "x.py", "license": "mit", "language": [{"name": "Python", "bytes": "12"}, {"name": "C", "bytes": "3"}]}}"#;
    check(code, "0f", None, "mit", ("language", Some("Python; C")));
    let exchange = r#"{"text": "Q: A: T", "meta": {"language": "en", "url": "https://stack.example.com/questions/12", "timestamp": "2023-03-29", "source": "stackexchange", "question_score": "7", "question_id": 12}}"#;
    check(exchange, "stack.example.com/12", None, "stated", ("question_score", Some("7")));
    let wiki = r#"{"text": "T", "meta": {"title": "Heart", "url": "https://en.wiki.example.org/wiki/Heart", "language": "en", "timestamp": "20230320"}}"#;
    check(wiki, "https://en.wiki.example.org/wiki/Heart@20230320", Some("Heart"), "stated", ("language", Some("en")));
    let slim = r#"{"text": "T", "meta": {"redpajama_set_name": "RedPajamaC4"}}"#;
    check(slim, &text_id("T"), None, "stated", ("redpajama_set_name", Some("RedPajamaC4")));
}

#[test]
fn redpajama_records_of_the_second_version() {
    let raw = r#"{"url": "https://example.org/", "date_download": "2023-02-08T10:00:00Z", "digest": "sha1:ABC", "length": 1, "nlines": 1, "source_domain": "example.org", "title": "Page", "raw_content": "T", "cc_segment": "crawl-data/x.warc.gz", "language": "en", "language_score": 0.9, "perplexity": 300.1, "bucket": "head"}"#;
    check(raw, "sha1:ABC", Some("Page"), "stated", ("bucket", Some("head")));
    let loaded = r#"{"raw_content": "T", "doc_id": "2023-06/0000/en_head.json.gz/0", "meta": "{\"url\": \"https://example.org/\", \"partition\": \"head_middle\", \"language\": \"en\", \"digest\": \"sha1:ABC\"}", "quality_signals": "{\"ccnet_length\": [[0, 1, 1.0]]}"}"#;
    check(loaded, "2023-06/0000/en_head.json.gz/0", None, "stated", ("partition", Some("head_middle")));
    let no_id = r#"{"raw_content": "T", "meta": "{\"url\": \"https://example.org/\", \"digest\": \"sha1:DEF\"}"}"#;
    check(no_id, "sha1:DEF", None, "stated", ("url", Some("https://example.org/")));
}

#[test]
fn pile_records_keep_their_set() {
    let line = r#"{"text": "An abstract.", "meta": {"pile_set_name": "PubMed Abstracts"}}"#;
    let document = one(Format::Pile, line);
    assert_eq!(document.native_id, text_id("An abstract."));
    assert_eq!(document.meta["pile_set_name"], "PubMed Abstracts");
    let named = one(Format::Pile, r#"{"text": "T", "meta": "{\"pile_set_name\": \"FreeLaw\", \"id\": 7}", "more": "x"}"#);
    assert_eq!((named.native_id.as_str(), named.meta["more"].as_str()), ("7", "x"));
    let mut own = context("o");
    own.fields.id = Some("meta.key".into());
    let found = items(Format::Pile, own, br#"{"text": "T", "meta": {"key": "k1"}}"#.to_vec(), &Limits::default());
    assert_eq!(documents(&found)[0].native_id, "k1");
    let bad = read(
        Format::Pile,
        b"{\"meta\": {\"pile_set_name\": \"A\"}}\n{\"text\": \"T\", \"meta\": \"no object\"}\n{\"text\": \" \"}",
    );
    let codes: Vec<&str> = rejects(&bad).iter().map(|reject| reject.reason.code()).collect();
    assert_eq!(codes, ["missing-field", "malformed-json", "empty-record"]);
}

#[test]
fn sets_are_selected_by_name() {
    let pile = one(Format::Pile, r#"{"text": "T", "meta": {"pile_set_name": "PubMed Central"}}"#);
    let slim = one(Format::Redpajama, r#"{"text": "T", "meta": {"redpajama_set_name": "RedPajamaC4"}}"#);
    let none = one(Format::Pile, r#"{"text": "T"}"#);
    let selected = |sets: &[&str]| {
        let options = ReadOptions { sets: sets.iter().map(|set| (*set).to_owned()).collect(), ..ReadOptions::default() };
        [&pile, &slim, &none].map(|document| options.selects(document))
    };
    assert_eq!(selected(&[]), [true, true, true]);
    assert_eq!(selected(&["PubMed Central", "PubMed Abstracts"]), [true, false, false]);
    assert_eq!(selected(&["RedPajamaC4"]), [false, true, false]);
    let first = one(Format::Redpajama, r#"{"text": "T", "meta": {}, "red_pajama_subset": "arxiv"}"#);
    assert!(ReadOptions { sets: vec!["arxiv".to_owned()], ..ReadOptions::default() }.selects(&first));
}

#[test]
fn s2orc_of_2020_is_put_together() {
    let line = r#"{"paper_id": "18980380", "title": "On α", "pmid": 12, "doi": "10.1/x", "year": 2008, "abstract": [{"section": "Abstract", "text": "Short.", "cite_spans": []}], "body_text": [{"section": "Introduction", "text": "One."}, {"section": "Introduction", "text": "Two."}, {"section": "", "text": "Loose."}, {"section": "Results", "text": " Three. "}], "bib_entries": {"BIBREF0": {"title": "not kept"}}}"#;
    let document = one(Format::S2orc, line);
    assert_eq!(document.text, "On α\n\nShort.\n\nIntroduction\n\nOne.\n\nTwo.\n\nLoose.\n\nResults\n\nThree.");
    assert_eq!((document.native_id.as_str(), document.title.as_deref()), ("18980380", Some("On α")));
    assert_eq!((document.year, document.meta["pmid"].as_str(), document.meta["doi"].as_str()), (Some(2008), "12", "10.1/x"));
    let older = r#"{"paper_id": "77", "metadata": {"title": "Old", "year": "2001", "pmc_id": "55"}, "grobid_parse": {"abstract": [{"text": "A."}], "body_text": [{"text": "B.", "section": null}]}}"#;
    let document = one(Format::S2orc, older);
    assert_eq!(
        (document.text.as_str(), document.year, document.meta["pmcid"].as_str()),
        ("Old\n\nA.\n\nB.", Some(2001), "PMC55")
    );
    assert_eq!(one(Format::S2orc, r#"{"paper_id": "1", "title": "Only", "abstract": "A."}"#).text, "Only\n\nA.");
}

#[test]
fn doc2json_is_put_together() {
    let line = r#"{"paper_id": "N18-3011", "header": {"generated_with": "S2ORC 1.0.0"}, "title": "T", "year": "2018", "identifiers": {"arxiv_id": "1805.02262", "doi": null}, "abstract": "A.", "pdf_parse": {"paper_id": "N18-3011", "abstract": [{"text": "not twice", "section": "Abstract"}], "body_text": [{"text": "P1.", "sec_num": "1", "section": "Introduction"}, {"text": "P2.", "sec_num": "2.1", "section": "Data"}], "back_matter": [], "ref_entries": {}}}"#;
    let document = one(Format::S2orc, line);
    assert_eq!(document.text, "T\n\nA.\n\n1 Introduction\n\nP1.\n\n2.1 Data\n\nP2.");
    assert_eq!(document.meta["arxiv_id"], "1805.02262");
}

#[test]
fn datasets_are_cut_by_code_points() {
    let text = "Über β\\nSmith\\nAbstract 😀 one.\\n1 Intro\\nFirst é.\\nSecond.\\nReferences";
    let annotations = r#"{"title": "[{\"start\": 0, \"end\": 6}]", "author": "[{\"start\": 7, \"end\": 12}]", "abstract": "[{\"start\": 13, \"end\": 28}]", "section_header": "[{\"start\": 29, \"end\": 36, \"attributes\": {\"n\": \"1\"}}]", "paragraph": "[{\"start\": \"13\", \"end\": \"28\"}, {\"start\": 37, \"end\": 45}, {\"start\": 46, \"end\": 53}]", "bib_entry": null}"#;
    let line = format!(
        r#"{{"corpusid": 123, "externalids": {{"pubmed": "9", "pubmedcentral": "8", "doi": "10.2/y", "arxiv": null}}, "content": {{"source": {{"oainfo": {{"license": "CCBY"}}}}, "text": "{text}", "annotations": {annotations}}}, "updated": "x"}}"#
    );
    let document = one(Format::S2orc, &line);
    assert_eq!(document.text, "Über β\n\nAbstract 😀 one.\n\n1 Intro\n\nFirst é.\n\nSecond.");
    assert_eq!((document.title.as_deref(), document.licence.as_deref()), (Some("Über β"), Some("CCBY")));
    let meta = |key: &str| document.meta[key].clone();
    assert_eq!([meta("corpusid"), meta("pmid"), meta("pmcid"), meta("doi")], ["123", "9", "PMC8", "10.2/y"]);
    // As the published records spell it.
    assert_eq!(one(Format::S2orc, &line.replace("section_header", "sectionheader")).text, document.text);
    let newer = r#"{"corpusid": 5, "title": "N", "year": 2021, "body": {"text": "Body.", "annotations": {"paragraph": [{"start": 0, "end": 5}]}}}"#;
    assert_eq!(one(Format::S2orc, newer).text, "N\n\nBody.");
    let bare = r#"{"corpusId": 6, "content": {"text": "All of it.", "annotations": {}}}"#;
    assert_eq!(one(Format::S2orc, bare).text, "All of it.");
}

#[test]
fn spans_over_each_other_give_their_text_once() {
    let paper = |spans: &str| {
        let line = format!(
            r#"{{"corpusid": 1, "content": {{"text": "Title one two three", "annotations": {{"title": [{{"start": 0, "end": 5}}], {spans}}}}}}}"#
        );
        one(Format::S2orc, &line).text
    };
    let span = |begin: usize, end: usize| format!(r#"{{"start": {begin}, "end": {end}}}"#);
    let spans = [span(0, 4), span(6, 13), span(6, 19), span(10, 13), span(6, 9)].join(",");
    assert_eq!(paper(&format!(r#""paragraph": [{spans}]"#)), "Title\n\none\n\ntwo\n\nthree");
    let many = vec![span(6, 19); 20_000].join(",");
    assert_eq!(paper(&format!(r#""abstract": [{many}], "paragraph": [{many}]"#)), "Title\n\none two three");
}

#[test]
fn pes2o_records_are_whole() {
    let line = r#"{"id": "4", "text": "Title\n\nText.", "source": "s2ag/train", "version": "v2", "added": "2023-03-01T00:00:00.000Z", "created": "2005-01-01T00:00:00.000Z"}"#;
    let document = one(Format::S2orc, line);
    assert_eq!((document.native_id.as_str(), document.text.as_str(), document.year), ("4", "Title\n\nText.", Some(2005)));
    assert_eq!((document.meta["source"].as_str(), document.version), ("s2ag/train", 1));
}

#[test]
fn papers_that_cannot_be_read_are_rejects() {
    let check = |line: &str, code: &str| {
        let found = read(Format::S2orc, line.as_bytes());
        assert_eq!(rejects(&found)[0].reason.code(), code, "{line}");
    };
    check(r#"{"text": "T"}"#, "unknown-layout");
    check(r#"{"paper_id": "1"}"#, "empty-record");
    check(r#"{"paper_id": null, "title": "T"}"#, "missing-field");
    check(r#"{"paper_id": "1", "body_text": "T"}"#, "wrong-type");
    check(r#"{"paper_id": "1", "body_text": [{"text": 5}]}"#, "wrong-type");
    check(r#"{"corpusid": 1, "content": {"text": null}}"#, "empty-record");
    check(r#"{"corpusid": 1, "content": null}"#, "missing-field");
    let annotated =
        |spans: &str| format!(r#"{{"corpusid": 1, "content": {{"text": "abc", "annotations": {{"title": {spans}}}}}}}"#);
    check(&annotated(r#""[{\"start\": 0, \"end\": 9}]""#), "invalid-value");
    check(&annotated(r#"[{"start": 2, "end": 1}]"#), "invalid-value");
    check(&annotated(r#"[{"start": -1, "end": 1}]"#), "wrong-type");
    check(&annotated(r#""[{""#), "malformed-json");
    check(&annotated(&format!("\"{}\"", "[".repeat(1_000))), "over-limit");
    check(r#"{"id": {}, "text": "T", "source": "s", "added": "a"}"#, "wrong-type");
}
