//! What a person asks to retract: ids on the command line, lists of ids, and the marks of PubMed's own update files.
//!
//! It looks nothing up in the corpus.

use std::collections::BTreeSet;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use mellama_sources::{
    Document, Domain, Fields, Format, Input, Item, Limits, ReadOptions, RejectReason, Sensitivity, SourceContext,
    WithdrawalReason,
};
use serde::Serialize;

use crate::failure::{Failure, chain};
use mellama_storage::Stores;

use crate::location::Location;
use crate::lookup::Wanted;
use crate::names;

/// Places of records that could not be read that are told, of each file.
const SHOWN_PLACES: usize = 10;
/// Longest list of ids, in bytes.
const MAX_LIST_BYTES: u64 = 64 << 20;
/// Limits beyond which an object is not read further.
const ENDING_LIMITS: [&str; 4] = ["object_bytes", "expansion_ratio", "zstd_window_log", "xz_memory_bytes"];
/// Read buffer on an update file, in bytes.
const READ_BUFFER_BYTES: usize = 1 << 20;

/// What to retract.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Ids of which each must be found.
    pub ids: Vec<String>,
    /// Files: lists of ids one a line, and PubMed XML (`.xml`, `.xml.gz`), whose own marks name the PMIDs. What they name and the
    /// corpus lacks is counted.
    pub files: Vec<PathBuf>,
    /// Retract what stands for a document that was dropped as a duplicate, too.
    pub copies: bool,
}

/// What PubMed files said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Marks {
    /// PMIDs marked as retracted.
    pub retracted: u64,
    /// PMIDs of `DeleteCitation`.
    pub deleted: u64,
    /// Records that could not be read; they may hold marks.
    pub rejected: u64,
    /// Where the first of them lie: file, byte of the decompressed stream, reason.
    pub places: Vec<String>,
}

/// The request with its files read.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Ids of which each must be found.
    pub ids: Wanted,
    /// PMIDs that PubMed deletes.
    deleted: BTreeSet<String>,
    /// Ids that a person asks for in a list, and PMIDs that PubMed marks as retracted.
    meant: BTreeSet<String>,
    /// Ids of files.
    pub listed: Wanted,
    /// What PubMed files said, where there was one.
    pub marks: Option<Marks>,
}

impl Asked {
    pub(super) fn read(stores: &Stores, request: &Request) -> Result<Asked, Failure> {
        let mut asked = Asked { ids: Wanted::of(request.ids.iter().map(String::as_str))?, ..Asked::default() };
        for path in &request.files {
            let place = Location::of(path);
            if is_pubmed(path) { asked.pubmed(stores, &place)? } else { asked.list(stores, &place)? }
        }
        if asked.ids.is_empty() && request.files.is_empty() {
            return Err(Failure::Policy("retract: nothing to retract; give --id or --from".into()));
        }
        Ok(asked)
    }

    /// Ids that mean no more than they say: those that nothing but a deletion asks for. Of two citations of one article PubMed
    /// deletes one.
    pub(super) fn alone(&self) -> BTreeSet<String> {
        let is_meant = |id: &&String| self.meant.contains(*id) || self.ids.asked().contains(*id);
        self.deleted.iter().filter(|id| !is_meant(id)).cloned().collect()
    }

    /// A list: one id a line; empty lines and those that begin with `#` are passed over.
    fn list(&mut self, stores: &Stores, place: &Location) -> Result<(), Failure> {
        let shown = place.to_string();
        if matches!(place, Location::Path(path) if path.is_dir()) {
            return Err(Failure::Policy(format!("{shown}: a folder; give a list of ids, or files of PubMed one by one")));
        }
        let unreadable = |e| Failure::Policy(format!("{shown}: cannot be read: {}", chain(&e)));
        let bytes = place.open(stores).map_err(unreadable)?.size_bytes();
        if bytes > MAX_LIST_BYTES {
            return Err(Failure::Policy(format!(
                "{shown}: {bytes} bytes, a list has at most {MAX_LIST_BYTES}; give it in parts"
            )));
        }
        let text = String::from_utf8(place.read(stores).map_err(unreadable)?)
            .map_err(|_| Failure::Policy(format!("{shown}: not UTF-8 text; a list has one id a line")))?;
        // Editors of some systems put a byte order mark before the first line, which no terminal shows.
        for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                let wrong = |problem| Failure::Policy(format!("{shown}: line {number}: {problem}"));
                let mut one = Wanted::default();
                one.add(line).map_err(wrong)?;
                self.meant.extend(one.asked().iter().cloned());
                self.listed.extend(&one);
            }
        }
        Ok(())
    }

    /// The PMIDs that a PubMed file marks: citations that say so of themselves, notices of retraction, deletions.
    fn pubmed(&mut self, stores: &Stores, place: &Location) -> Result<(), Failure> {
        let shown = place.to_string();
        let file = place.open(stores).map_err(|e| Failure::Policy(format!("{shown}: cannot be read: {}", chain(&e))))?;
        let context = SourceContext {
            name: "pubmed".into(),
            domain: Domain::Biomedical,
            sensitivity: Sensitivity::Open,
            licence: None,
            fields: Fields::default(),
            read: ReadOptions::default(),
            object: shown.clone(),
        };
        let input = Input::Stream(Box::new(BufReader::with_capacity(READ_BUFFER_BYTES, file)));
        let failed = |e: &dyn std::error::Error| Failure::Storage(chain(e));
        let mut reader = mellama_sources::open(Format::PubmedXml, context, input, &Limits::default()).map_err(|e| failed(&e))?;
        let (mut retracted, mut deleted, mut rejected, mut records) = (BTreeSet::new(), BTreeSet::new(), 0, 0_u64);
        let mut places = Vec::new();
        while let Some(item) = reader.next() {
            match item.map_err(|e| failed(&e))? {
                Item::Document(document) => {
                    records += 1;
                    if document.meta.get("retracted").is_some_and(|mark| mark == "true") {
                        self.names_of(&document);
                        retracted.insert(document.native_id);
                    }
                }
                Item::Withdrawal(notice) => {
                    records += 1;
                    let marks = if notice.reason == WithdrawalReason::Deleted { &mut deleted } else { &mut retracted };
                    marks.insert(notice.native_id);
                }
                // It was read, and its marks came before it.
                Item::Reject(reject) if reject.reason == RejectReason::EmptyRecord => records += 1,
                Item::Reject(reject) => {
                    if let Some(problem) = unread_end(&reject.reason) {
                        return Err(Failure::Input(format!(
                            "{shown}: {problem}; what it marks after that is not known, so nothing was changed; fetch the file again"
                        )));
                    }
                    rejected += 1;
                    if places.len() < SHOWN_PLACES {
                        places.push(format!("{shown}: byte {}: {}", reject.byte_offset, reject.reason.code()));
                    }
                }
            }
        }
        if records == 0 && rejected > 0 {
            return Err(Failure::Input(format!(
                "{shown}: no record of PubMed could be read, {rejected} rejected; check the file"
            )));
        }
        self.deleted.extend(deleted.iter().map(|pmid| format!("pmid:{pmid}")));
        self.meant.extend(retracted.iter().map(|pmid| format!("pmid:{pmid}")));
        for pmid in retracted.union(&deleted) {
            self.listed.add(&format!("pmid:{pmid}")).map_err(|problem| Failure::Input(format!("{shown}: PMID: {problem}")))?;
        }
        let marks = self.marks.get_or_insert_default();
        marks.retracted += retracted.len() as u64;
        marks.deleted += deleted.len() as u64;
        marks.rejected += rejected;
        marks.places.extend(places);
        Ok(())
    }

    /// The PMCID and the DOI of a marked citation: the full text may have no PMID.
    fn names_of(&mut self, citation: &Document) {
        let pmid = format!("pmid:{}", citation.native_id);
        for kind in ["pmcid", "doi"] {
            if let Some(name) = citation.meta.get(kind).and_then(|value| names::stated(&format!("{kind}:{value}"))) {
                self.listed.add_name(name, &pmid);
            }
        }
    }
}

/// Why a file was not read to its end, where the reader says so by this reject.
fn unread_end(reason: &RejectReason) -> Option<String> {
    match reason {
        RejectReason::TruncatedStream { compression } => Some(format!("ends early: the {compression} stream has no end mark")),
        RejectReason::TruncatedRecord => Some("ends early: inside a record, or before the end of the root element".into()),
        RejectReason::CorruptStream { compression } => Some(format!("damaged: the {compression} stream does not decode")),
        RejectReason::TrailingGarbage { compression } => {
            Some(format!("damaged: after the {compression} stream come bytes that are none"))
        }
        RejectReason::OverLimit { limit, value } if ENDING_LIMITS.contains(&limit.as_str()) => {
            Some(format!("not read to its end: over the limit {limit} of {value}"))
        }
        _ => None,
    }
}

/// `.xml`, or `.xml.gz`, in any case.
fn is_pubmed(path: &Path) -> bool {
    let is = |path: &Path, wanted: &str| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(wanted));
    is(path, "xml") || (is(path, "gz") && path.file_stem().is_some_and(|stem| is(Path::new(stem), "xml")))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn asked(name: &str, text: &str) -> Result<Asked, Failure> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Asked::read(&Stores::default(), &Request { files: vec![path], ..Request::default() })
    }

    #[test]
    fn lists_have_one_id_a_line() {
        let list = asked("ids.txt", "# of the journal\npmid:007\n\n  s:1  \r\npmid:7\n").unwrap();
        assert_eq!(list.listed.asked().iter().collect::<Vec<_>>(), ["pmid:7", "s:1"]);
        assert!(list.ids.is_empty() && list.marks.is_none());
        let Failure::Policy(message) = asked("ids.txt", "pmid:1\nwhat is this\n").unwrap_err() else { panic!("exit 2") };
        assert!(message.contains("line 2") && !message.contains("what"), "{message}");
    }

    #[test]
    fn marks_of_pubmed_are_types_links_notices_and_deletions() {
        let citation = |pmid: u32, inside: &str| {
            format!(
                "<PubmedArticle><MedlineCitation><PMID Version=\"1\">{pmid}</PMID><Article><ArticleTitle>T</ArticleTitle>\
                 <Abstract><AbstractText>a b c</AbstractText></Abstract>{inside}</MedlineCitation></PubmedArticle>"
            )
        };
        let links = |kind: &str, pmid: u32| {
            format!(
                "</Article><CommentsCorrectionsList><CommentsCorrections RefType=\"{kind}\"><RefSource>x</RefSource>\
                 <PMID Version=\"1\">{pmid}</PMID></CommentsCorrections></CommentsCorrectionsList>"
            )
        };
        let kind = "<PublicationTypeList><PublicationType UI=\"D016441\">Retracted Publication</PublicationType>\
                    </PublicationTypeList></Article>";
        let records = [
            citation(1, "</Article>"),
            citation(2, kind),
            citation(3, &links("RetractionIn", 99)),
            citation(4, &links("RetractionOf", 5)),
            citation(6, &links("ErratumIn", 7)),
            "<PubmedArticle><broken></PubmedArticle>".to_owned(),
            "<DeleteCitation><PMID Version=\"1\">8</PMID><PMID Version=\"1\">2</PMID></DeleteCitation>".to_owned(),
        ];
        let read = asked("update.xml", &format!("<PubmedArticleSet>{}</PubmedArticleSet>", records.concat())).unwrap();
        assert_eq!(read.listed.asked().iter().collect::<Vec<_>>(), ["pmid:2", "pmid:3", "pmid:5", "pmid:8"]);
        let marks = read.marks.unwrap();
        assert_eq!((marks.retracted, marks.deleted, marks.rejected, marks.places.len()), (3, 2, 1, 1));
        assert!(matches!(asked("update.xml", "no xml at all"), Err(Failure::Input(_))));
    }

    #[test]
    fn a_file_that_ends_early_or_is_damaged_is_refused() {
        let record = |pmid: u32| {
            format!(
                "<PubmedArticle><MedlineCitation><PMID Version=\"1\">{pmid}</PMID><Article><ArticleTitle>T</ArticleTitle></Article></MedlineCitation></PubmedArticle>"
            )
        };
        let text = format!(
            "<?xml version=\"1.0\"?><PubmedArticleSet>{}<DeleteCitation><PMID>8</PMID></DeleteCitation></PubmedArticleSet>",
            (1..400).map(record).collect::<String>()
        );
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(text.as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let check = |name: &str, bytes: &[u8], said: Option<&str>| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            match (Asked::read(&Stores::default(), &Request { files: vec![path], ..Request::default() }), said) {
                (Ok(_), None) => {}
                (Err(Failure::Input(message)), Some(said)) => {
                    assert!(message.contains(name) && message.contains(said), "{message}");
                }
                (other, said) => panic!("{name}: expected {said:?}, got {other:?}"),
            }
        };
        check("whole.xml.gz", &packed, None);
        check("whole.xml", text.as_bytes(), None);
        for cut in [packed.len() - 1, packed.len() - 9, packed.len() / 2, 40] {
            check("cut.xml.gz", &packed[..cut], Some("ends early"));
        }
        for cut in [text.len() - 4, text.len() - 60, text.len() / 2] {
            check("cut.xml", &text.as_bytes()[..cut], Some("ends early"));
        }
        let mut damaged = packed.clone();
        let last = damaged.len() - 6;
        damaged[last] ^= 1;
        check("damaged.xml.gz", &damaged, Some("damaged"));
        check("followed.xml.gz", &[&packed[..], b"none"].concat(), Some("damaged"));
        check("twice.xml.gz", &[&packed[..packed.len()], &packed[..4]].concat(), Some("ends early"));
    }

    #[test]
    fn nothing_to_retract_is_refused() {
        assert!(matches!(Asked::read(&Stores::default(), &Request::default()), Err(Failure::Policy(_))));
        let absent = Request { files: vec!["/nowhere/ids.txt".into()], ..Request::default() };
        assert!(matches!(Asked::read(&Stores::default(), &absent), Err(Failure::Policy(_))));
    }
}
