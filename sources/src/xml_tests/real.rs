//! The PubMed and JATS readers over real files. The counts were made independently, by another XML parser.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Document, Domain, Fields, Format, Input, Item, Limits, Reject, Sensitivity, SourceContext, open};

/// Sample data beside the project; absent on most machines.
fn data(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(folder);
    if path.is_dir() {
        return Some(path);
    }
    println!("not run: no sample data");
    None
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Documents and rejects of every file in a folder, objects named by their path below it.
fn read(folder: &str, format: Format) -> Option<(Vec<Document>, Vec<Reject>)> {
    let folder = data(folder)?;
    let (mut documents, mut rejects) = (Vec::new(), Vec::new());
    for path in files(&folder) {
        let context = SourceContext {
            name: "real".to_string(),
            domain: Domain::Biomedical,
            sensitivity: Sensitivity::Open,
            licence: None,
            fields: Fields::default(),
            read: crate::options::ReadOptions::default(),
            object: path.strip_prefix(&folder).unwrap().to_string_lossy().into_owned(),
        };
        let input = Input::from_bytes(fs::read(&path).unwrap());
        let mut reader = open(format, context, input, &Limits::default()).unwrap();
        while let Some(item) = reader.next() {
            match item.unwrap() {
                Item::Document(document) => documents.push(document),
                Item::Reject(reject) => rejects.push(reject),
                Item::Withdrawal(_) => {}
            }
        }
    }
    Some((documents, rejects))
}

fn by_folder(objects: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for object in objects {
        *counts.entry(object.split('/').next().unwrap().to_string()).or_default() += 1;
    }
    counts
}

fn counts(pairs: &[(&str, usize)]) -> BTreeMap<String, usize> {
    pairs.iter().map(|&(name, count)| (name.to_string(), count)).collect()
}

fn one<'d>(documents: &'d [Document], native_id: &str) -> &'d Document {
    let mut found = documents.iter().filter(|document| document.native_id == native_id);
    let first = found.next().unwrap_or_else(|| panic!("no document {native_id}"));
    assert!(found.next().is_none(), "two documents {native_id}");
    first
}

#[test]
fn pubmed_files() {
    let Some((documents, rejects)) = read("pubmed", Format::PubmedXml) else {
        return;
    };
    let expected = counts(&[("biopython", 8), ("jabref", 10), ("metapub", 163), ("pubtrends", 13), ("titipata", 1)]);
    assert_eq!(by_folder(documents.iter().map(|document| document.origin.object.clone())), expected);
    let rejected: Vec<_> =
        rejects.iter().map(|reject| format!("{}@{} {}", reject.object, reject.byte_offset, reject.reason)).collect();
    assert_eq!(
        rejected,
        [
            "biopython/efetch_pmc.xml@159 not-pubmed: root element pmc-articleset",
            "biopython/pubmed3.html@0 not-pubmed: root element html",
            "jabref/MedlineImporterTestBookArticleSet.xml@2588 empty-record",
            "jabref/MedlineImporterTestMalformedEntry.xml@19 malformed-xml: a record that is never closed",
            "jabref/MedlineImporterTestMinimalEntry.xml@19 empty-record",
            "jabref/MedlinePlainImporterTestInvalidFormat.xml@0 not-xml",
        ]
    );
}

#[test]
fn pubmed_contents() {
    let Some((documents, _)) = read("pubmed", Format::PubmedXml) else {
        return;
    };
    let labelled = one(&documents, "27797938");
    assert!(labelled.text.starts_with("Leucocyte telomere length, genetic variants at the TERT gene region and risk of pancreatic cancer.\n\nOBJECTIVE: Telomere shortening occurs"));
    assert_eq!(labelled.text.split("\n\n").count(), 5);
    assert_eq!(labelled.meta["pmcid"], "PMC5442267");
    assert_eq!(labelled.meta["doi"], "10.1136/gutjnl-2016-312510");
    assert!(labelled.meta["mesh"].starts_with("Adenocarcinoma/epidemiology/genetics; Adult; "));
    assert_eq!(labelled.year, Some(2017));
    let title_alone = one(&documents, "12091962");
    assert_eq!(title_alone.text, "The treatment of AIDS behind the walls of correctional facilities.");
    let formula = one(&documents, "32759406");
    assert!(formula.text.contains("∑_(i = 1)^n"), "{}", formula.text);
    // The bytes at the offset are the record's.
    let folder = data("pubmed").unwrap();
    for document in &documents {
        let bytes = fs::read(folder.join(&document.origin.object)).unwrap();
        let record = &bytes[document.origin.byte_offset as usize..];
        let known: [&[u8]; 3] = [b"<PubmedArticle>", b"<PubmedBookArticle>", b"<MedlineCitation"];
        assert!(known.iter().any(|tag| record.starts_with(tag)), "{}", document.id);
    }
}

#[test]
fn jats_files() {
    let Some((documents, rejects)) = read("jats", Format::Jats) else {
        return;
    };
    assert_eq!(rejects, []);
    let expected = counts(&[("peerj", 3), ("s2orc", 3), ("tigr2ess", 150), ("titipata", 8)]);
    assert_eq!(by_folder(documents.iter().map(|document| document.origin.object.clone())), expected);
    let mut licences = BTreeMap::new();
    for document in documents.iter().filter(|document| document.origin.object.starts_with("tigr2ess")) {
        *licences.entry(document.licence.clone().unwrap_or_default()).or_insert(0) += 1;
        let name = document.origin.object.trim_start_matches("tigr2ess/").trim_end_matches(".xml");
        assert_eq!(document.native_id, name);
    }
    let codes: Vec<_> = licences.iter().map(|(code, count)| format!("{code} {count}")).collect();
    assert_eq!(codes, TIGR2ESS_LICENCES);
}

/// Each of these articles is CC BY or CC0, as its collector says.
const TIGR2ESS_LICENCES: [&str; 4] = ["CC-BY-2.0 1", "CC-BY-3.0 3", "CC-BY-4.0 145", "CC0-1.0 1"];

#[test]
fn jats_contents() {
    let Some((documents, _)) = read("jats", Format::Jats) else {
        return;
    };
    let article = one(&documents, "PMC3166277");
    assert_eq!(article.title.as_deref(), Some("Factors influencing lysis time stochasticity in bacteriophage λ"));
    let paragraphs: Vec<_> = article.text.split("\n\n").collect();
    assert_eq!(paragraphs[1], "Background");
    assert!(paragraphs[2].starts_with("Despite identical genotypes and seemingly uniform environments"));
    assert!(paragraphs.contains(&"Table 1. Effects of holin allelic sequences on the stochasticity of lysis time."));
    assert!(article.text.contains("(adjusted R2 = 0.363)"));
    assert_eq!((article.year, article.meta["pmid"].as_str()), (Some(2011), "21810267"));
    for document in &documents {
        for unwanted in ["<p>", "</", "\\documentclass", "\\usepackage", "&amp;", "\n\n\n", " \n\n"] {
            assert!(!document.text.contains(unwanted), "{}: {unwanted:?}", document.id);
        }
        assert!(document.text.len() > 2_000, "{}", document.id);
    }
}

/// Two citations of the sample update a preprint: found with the sample's own element names, by another parser.
#[test]
fn articles_name_their_preprints() {
    let Some((documents, _)) = read("pubmed", Format::PubmedXml) else { return };
    let links: BTreeMap<&str, &str> = documents
        .iter()
        .filter_map(|document| Some((document.native_id.as_str(), document.meta.get("published_from")?.as_str())))
        .collect();
    assert_eq!(links.keys().copied().collect::<Vec<_>>(), ["36156117", "39345789"]);
    assert_eq!(links["39345789"], "pmid:36993193 doi:10.1101/2023.03.21.23286947");
}
