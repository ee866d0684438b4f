//! The PubMed and JATS readers against broken, cut and hostile bytes: they end, without a panic, and keep what is good.

use std::io::{BufReader, Cursor, Write};

use crate::{Domain, Fields, Format, Input, Item, Limits, Sensitivity, SourceContext, open};
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

fn context() -> SourceContext {
    SourceContext {
        name: "hostile".to_string(),
        domain: Domain::Biomedical,
        sensitivity: Sensitivity::Dua,
        licence: None,
        fields: Fields::default(),
        read: crate::options::ReadOptions::default(),
        object: "object".to_string(),
    }
}

fn items_in_pieces(format: Format, bytes: &[u8], piece: usize) -> Vec<Item> {
    let reader = BufReader::with_capacity(piece, Cursor::new(bytes.to_vec()));
    let mut reader = open(format, context(), Input::Stream(Box::new(reader)), &Limits::default()).unwrap();
    let mut items = Vec::new();
    while let Some(item) = reader.next() {
        items.push(item.unwrap());
        assert!(items.len() <= bytes.len() + 1, "more items than bytes");
    }
    items
}

fn items(format: Format, bytes: &[u8]) -> Vec<Item> {
    items_in_pieces(format, bytes, 1 << 16)
}

fn documents(items: &[Item]) -> Vec<String> {
    let texts = items.iter().filter_map(|item| match item {
        Item::Document(document) => Some(format!("{} {}", document.id, document.text)),
        Item::Reject(_) | Item::Withdrawal(_) => None,
    });
    texts.collect()
}

fn reasons(items: &[Item]) -> Vec<String> {
    let reasons = items.iter().filter_map(|item| match item {
        Item::Document(_) | Item::Withdrawal(_) => None,
        Item::Reject(reject) => Some(reject.reason.to_string()),
    });
    reasons.collect()
}

fn citation(id: u32, title: &str) -> String {
    format!(
        "<PubmedArticle><MedlineCitation><PMID Version=\"1\">{id}</PMID><Article><ArticleTitle>{title}</ArticleTitle>\
         <Abstract><AbstractText Label=\"A\">x &lt; <i>y</i> &#945;é</AbstractText></Abstract></Article></MedlineCitation></PubmedArticle>\n"
    )
}

fn citations(count: u32) -> String {
    let records: String = (1..=count).map(|id| citation(id, "T<!-- c --><![CDATA[<]]>")).collect();
    format!(
        "<?xml version=\"1.0\"?>\n<!DOCTYPE PubmedArticleSet [<!ENTITY a \"b\">]>\n<PubmedArticleSet>\n{records}</PubmedArticleSet>\n"
    )
}

fn article(body: &str) -> String {
    format!(
        "<article><front><article-meta><title-group><article-title>T</article-title></title-group></article-meta></front><body>{body}</body></article>"
    )
}

fn numbered(count: u32, piece: fn(u32) -> String) -> String {
    (0..count).map(piece).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn case_26_entities_are_never_expanded() {
    let bomb =
        "<!ENTITY a \"&b;&b;&b;&b;\"><!ENTITY b SYSTEM \"file:///etc/passwd\"><!ENTITY % p SYSTEM \"http://127.0.0.1:1/x\"> %p;";
    for reference in ["&a;", "&b;", "&a;&a;"] {
        let xml = format!("<!DOCTYPE article [{bomb}]>{}", article(&format!("<p>{reference}</p>")));
        let found = items(Format::Jats, xml.as_bytes());
        assert_eq!(documents(&found), [""; 0]);
        // The source is not open, so its names are not shown.
        assert_eq!(reasons(&found), ["undefined-entity: (not shown)"]);
    }
    // Declared and not used: the article is read without them.
    let xml = format!("<!DOCTYPE article [{bomb}]>{}", article("<p>x</p>"));
    assert_eq!(documents(&items(Format::Jats, xml.as_bytes())).len(), 1);
}

#[test]
fn case_27_depth_attributes_and_namespaces() {
    let levels = 1_000_000;
    let deep = article(&format!("{}x{}", "<p>".repeat(levels), "</p>".repeat(levels)));
    assert_eq!(reasons(&items(Format::Jats, deep.as_bytes())), ["over-limit: depth = 256"]);
    assert_eq!(
        reasons(&items(Format::Jats, "<article><p>".repeat(levels).as_bytes()))[0],
        "malformed-xml: a record that is never closed"
    );
    assert_eq!(reasons(&items(Format::PubmedXml, "<PubmedArticleSet>".repeat(1_000).as_bytes())), ["over-limit: depth = 256"]);
    let attributes = numbered(100_000, |number| format!(" a{number}=\"\""));
    assert_eq!(reasons(&items(Format::Jats, article(&format!("<p{attributes}/>")).as_bytes())), ["over-limit: attributes = 256"]);
    let spaces = numbered(300, |number| format!(" xmlns:n{number}=\"u\""));
    assert_eq!(reasons(&items(Format::Jats, article(&format!("<p{spaces}/>")).as_bytes())), ["over-limit: attributes = 256"]);
    let near = article(&format!("{}x{}", "<bold>".repeat(250), "</bold>".repeat(250)));
    assert_eq!(documents(&items(Format::Jats, near.as_bytes())).len(), 1);
    let scripts = format!("{}x{}", "<sup>".repeat(250), "</sup>".repeat(250));
    assert_eq!(documents(&items(Format::Jats, article(&scripts).as_bytes())).len(), 1);
    let formula = format!("<math>{}x{}</math>", "<mfrac><mi>a</mi>".repeat(240), "</mfrac>".repeat(240));
    assert_eq!(documents(&items(Format::Jats, article(&formula).as_bytes())).len(), 1);
}

#[test]
fn case_27_every_truncation_keeps_a_prefix() {
    let xml = citations(5);
    let whole = documents(&items(Format::PubmedXml, xml.as_bytes()));
    assert_eq!(whole.len(), 5);
    for length in 0..xml.trim_end().len() {
        let found = items(Format::PubmedXml, &xml.as_bytes()[..length]);
        let kept = documents(&found);
        assert_eq!(kept, whole[..kept.len()], "{length} bytes");
        assert_eq!(reasons(&found).len(), 1, "{length} bytes: {:?}", reasons(&found));
    }
    let stored = gzip(&citations(2_000).into_bytes());
    let whole = documents(&items(Format::PubmedXml, &stored));
    assert_eq!(whole.len(), 2_000);
    for part in 0..50 {
        let found = items(Format::PubmedXml, &stored[..stored.len() * part / 50]);
        let kept = documents(&found);
        assert_eq!(kept, whole[..kept.len()], "{part}/50");
        assert_eq!(reasons(&found), [if part == 0 { "empty-object" } else { "truncated-stream: gzip" }], "{part}/50");
    }
}

#[test]
fn case_32_invalid_utf8_costs_one_record() {
    let xml = citations(3);
    for damage in [&b"\xc0\xaf"[..], b"\xff", b"\xed\xa0\x80", b"\xe9"] {
        let mut bytes = xml.clone().into_bytes();
        let position = xml.find(">2</PMID>").unwrap() + ">2</PMID><Article><ArticleTitle>".len();
        bytes.splice(position..position, damage.iter().copied());
        let found = items(Format::PubmedXml, &bytes);
        assert_eq!(documents(&found).len(), 2);
        assert_eq!(reasons(&found), ["invalid-utf8"]);
    }
    let latin: Vec<u8> = b"<?xml version='1.0' encoding='ISO-8859-1'?><article><body><p>caf\xe9</p></body></article>".to_vec();
    assert!(documents(&items(Format::Jats, &latin))[0].ends_with(" café"));
}

#[test]
fn damaged_records_cost_themselves() {
    let damages: [fn(&str) -> String; 5] = [
        |record| record.replace("</ArticleTitle>", ""),
        |record| record.replace("</PubmedArticle>", ""),
        |record| record.replace("<Article>", "<Article <"),
        |record| record.replace("&lt;", "&nonsense;"),
        |record| record.replace("</MedlineCitation>", "</PubmedArticle>"),
    ];
    for (index, damage) in damages.iter().enumerate() {
        let records = [citation(1, "a"), damage(&citation(2, "b")), citation(3, "c"), citation(4, "d")];
        let found = items(Format::PubmedXml, format!("<PubmedArticleSet>{}</PubmedArticleSet>", records.concat()).as_bytes());
        let ids: Vec<_> = documents(&found).iter().map(|document| document[8..9].to_string()).collect();
        assert_eq!(ids, ["1", "3", "4"], "damage {index}");
        assert_eq!(reasons(&found).len(), 1, "damage {index}: {:?}", reasons(&found));
    }
}

#[test]
fn case_41_rejects_hold_no_text() {
    let canary = "CANARY";
    let records = [
        format!("<PubmedArticle>{canary}</PubmedArticle>"),
        format!("<PubmedArticle><{canary}></PubmedArticle>"),
        format!("<PubmedArticle><a {canary}=></a></PubmedArticle>"),
        format!("<PubmedArticle>{canary} & </PubmedArticle>"),
        format!("<MedlineCitation><PMID>{canary}</PMID><Article><ArticleTitle>x</ArticleTitle></Article></MedlineCitation>"),
        canary.to_string(),
    ];
    for record in records {
        let found = items(Format::PubmedXml, format!("<PubmedArticleSet>{record}</PubmedArticleSet>").as_bytes());
        assert_eq!(found.len(), 1, "{record}");
        assert!(!format!("{found:?}").contains(canary), "{record}");
    }
}

/// Bytes that look enough like the formats to reach deep into the readers.
fn xml_like() -> impl Strategy<Value = Vec<u8>> {
    let words = prop::sample::select(vec![
        "<PubmedArticleSet>",
        "</PubmedArticleSet>",
        "<PubmedArticle>",
        "</PubmedArticle>",
        "<MedlineCitation>",
        "</MedlineCitation>",
        "<PMID Version='1'>",
        "</PMID>",
        "<Article>",
        "</Article>",
        "<ArticleTitle>",
        "</ArticleTitle>",
        "<article>",
        "</article>",
        "<body>",
        "</body>",
        "<sec>",
        "</sec>",
        "<p>",
        "</p>",
        "<sup>",
        "</sup>",
        "<math>",
        "</math>",
        "<mfrac>",
        "</mfrac>",
        "<list>",
        "</list>",
        "<list-item>",
        "</list-item>",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "<?",
        "?>",
        "<!DOCTYPE a [",
        "]>",
        "&lt;",
        "&",
        "&#x",
        ";",
        "<",
        ">",
        "/",
        "\"",
        "'",
        "=",
        "12",
        " ",
        "é",
        "<a/>",
        "<mi>",
        "</mi>",
    ]);
    let piece = prop_oneof![9 => words.prop_map(|word| word.as_bytes().to_vec()), 1 => prop::collection::vec(any::<u8>(), 0..4)];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_end_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        items(Format::PubmedXml, &bytes);
        items(Format::Jats, &bytes);
        items(Format::Jats, &[b"\x1f\x8b\x08".to_vec(), bytes.clone()].concat());
        items(Format::Jats, &[b"\x28\xb5\x2f\xfd".to_vec(), bytes].concat());
    }

    #[test]
    fn determinism_whatever_the_pieces(bytes in xml_like(), piece in 1_usize..40) {
        for format in [Format::PubmedXml, Format::Jats] {
            let whole = items(format, &bytes);
            prop_assert_eq!(&items_in_pieces(format, &bytes, piece), &whole);
            prop_assert_eq!(&items_in_pieces(format, &bytes, 1), &whole);
            prop_assert_eq!(items(format, &gzip(&bytes)), whole);
        }
    }
}
