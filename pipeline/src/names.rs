//! Names that records go by outside their source, of corpus documents and of benchmark items alike: `pmid:123`,
//! `mimic-iv/subject:10000032`. Where a document and an item have a name in common, the item was made from that record.
//!
//! Numbers of patients, stays, notes and studies mean something in one release only, so their names begin with it. Where
//! nothing states the release, the published form of the numbers tells it; what neither does has no such name. It reads no text.

use mellama_sources::Document;
use mellama_sources::record_names::{doi, pmcid, pmid};

/// Releases as readers and items state them.
const RELEASES: [(&str, Release); 3] =
    [("mimic-iii", Release::Mimic3), ("mimic-iv", Release::Mimic4), ("mimic-cxr", Release::MimicCxr)];
/// Columns of PMIDs in benchmarks and tables, in lower case.
const PMID_FIELDS: [&str; 5] = ["pmid", "pubmed_id", "pubmedid", "pubmed", "pubid"];
/// Columns of PMCIDs.
const PMCID_FIELDS: [&str; 3] = ["pmcid", "pmc_id", "pmc"];
/// Columns that hold an id of some kind, which its form must tell.
const ID_FIELDS: [&str; 7] = ["id", "document_id", "doc_id", "article_id", "index", "guid", "pairid"];
/// Kinds of names that mean something in a release.
const KINDS: [&str; 4] = ["note", "subject", "hadm", "study"];
/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 600;

/// Whose numbers a patient, a stay, a note or a study has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Release {
    Mimic3,
    Mimic4,
    /// Its patients are those of MIMIC-IV, its studies its own.
    MimicCxr,
}

/// The names of a corpus document, ascending, each once. `id_field` is what its source calls its native id, in lower case.
pub(crate) fn of_document(document: &Document, id_field: &str) -> Vec<String> {
    let field = |name: &str| document.meta.get(name).or_else(|| (name == id_field).then_some(&document.native_id)).cloned();
    let mut names = literature(&field);
    names.extend(clinical(&field));
    in_order(names)
}

/// The names that an item's fields give of the records it was made from, ascending, each once. `field` takes lower-case
/// names; in a set made `from_pubmed` an id of digits alone is a PMID.
pub(crate) fn of_item(field: &impl Fn(&str) -> Option<String>, from_pubmed: bool) -> Vec<String> {
    let mut names = literature(field);
    names.extend(ID_FIELDS.iter().filter_map(|name| of_id(&field(name)?, from_pubmed)));
    names.extend(clinical(field));
    in_order(names)
}

/// The name that an id has by its form: a name as it is, a PMCID, a DOI, a sentence of a citation (`12345678_3`, of seven
/// digits or more, so that a number of a row is none), and in a set made `from_pubmed` a PMID.
pub(crate) fn of_id(id: &str, from_pubmed: bool) -> Option<String> {
    let id = id.trim();
    let fewest = if from_pubmed { 5 } else { 7 };
    let is_pmid = |digits: &&str| (fewest..=8).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    let sentence = id.split_once('_').filter(|(_, number)| {
        let number = number.strip_prefix('s').unwrap_or(number);
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    let citation = sentence.map(|(citation, _)| citation).or(Some(id).filter(|id| from_pubmed && id.len() >= 7));
    if let Some(pmid) = citation.filter(is_pmid).and_then(pmid) {
        return Some(format!("pmid:{pmid}"));
    }
    if id.starts_with("PMC") {
        return pmcid(id).map(|pmcid| format!("pmcid:{pmcid}"));
    }
    if id.contains("10.") && id.contains('/') {
        return doi(id).map(|doi| format!("doi:{doi}"));
    }
    stated(id)
}

/// A name as a person writes it, in the spelling that names have here: `pmid:0123`, `mimic-iv/subject:10000032`.
pub(crate) fn stated(name: &str) -> Option<String> {
    let (kind, value) = name.trim().split_once(':')?;
    let value = value.trim();
    let usable = !value.is_empty() && name.len() <= MAX_NAME_BYTES && !value.chars().any(char::is_control);
    match kind {
        "pmid" => pmid(value).map(|pmid| format!("pmid:{pmid}")),
        "pmcid" => pmcid(value).map(|pmcid| format!("pmcid:{pmcid}")),
        "doi" => doi(value).map(|doi| format!("doi:{doi}")),
        "note" => usable.then(|| format!("note:{value}")),
        _ => {
            let (release, kind_in_it) = kind.split_once('/')?;
            let known = RELEASES.iter().any(|(name, _)| *name == release) && KINDS.contains(&kind_in_it);
            (known && usable).then(|| format!("{kind}:{value}"))
        }
    }
}

/// The names that a note of this id may have, whatever its release.
pub(crate) fn of_note(id: &str) -> Vec<String> {
    let spaces = ["mimic-iii/note:", "mimic-iv/note:", "note:"];
    spaces.iter().map(|space| format!("{space}{id}")).collect()
}

fn literature(field: &impl Fn(&str) -> Option<String>) -> Vec<String> {
    let values = |fields: &'static [&'static str]| fields.iter().filter_map(|name| field(name));
    let pmids = values(&PMID_FIELDS).filter_map(|value| pmid(whole(&value))).map(|pmid| format!("pmid:{pmid}"));
    let pmcids = values(&PMCID_FIELDS).filter_map(|value| pmcid(&value)).map(|pmcid| format!("pmcid:{pmcid}"));
    let dois = values(&["doi"]).filter_map(|value| doi(&value)).map(|doi| format!("doi:{doi}"));
    pmids.chain(pmcids).chain(dois).collect()
}

/// Names of a note, its patient, its stay and its study.
fn clinical(field: &impl Fn(&str) -> Option<String>) -> Vec<String> {
    let note =
        field("note_id").map(|note| note.trim().to_owned()).filter(|note| !note.is_empty() && note.len() <= MAX_NAME_BYTES);
    let number = |name: &str, letter: char| number_of(&field(name)?, letter);
    let (subject, hadm) = (number("subject_id", 'p'), number("hadm_id", 'h'));
    let (study, row) = (number("study_id", 's'), number("row_id", 'r'));
    let found = Numbers { note, subject, hadm, study, row };
    let stated = field("release").and_then(|stated| RELEASES.iter().find(|(name, _)| *name == stated.trim()));
    let Some(release) = stated.map(|(_, release)| *release).or_else(|| found.release()) else {
        // Notes of other collections (i2b2): their ids meet only in sources that state no release either.
        return found
            .note
            .filter(|note| !note.chars().any(char::is_control))
            .map(|note| format!("note:{note}"))
            .into_iter()
            .collect();
    };
    found.names(release)
}

/// What the fields of a note say, in digits but for its id.
struct Numbers {
    note: Option<String>,
    subject: Option<String>,
    hadm: Option<String>,
    study: Option<String>,
    row: Option<String>,
}

impl Numbers {
    /// The release whose published form the numbers have: stays of six digits from 1 and of eight from 2, notes as
    /// `10000032-DS-21`, studies of eight digits from 5, patients of eight from 1; a patient of at most five beside a row.
    fn release(&self) -> Option<Release> {
        let has = |value: &Option<String>, length: usize, first: char| {
            value.as_ref().is_some_and(|value| value.len() == length && value.starts_with(first))
        };
        let small = self.subject.as_ref().is_some_and(|subject| subject.len() <= 5);
        if has(&self.hadm, 6, '1') || (small && self.row.is_some()) {
            return Some(Release::Mimic3);
        }
        if has(&self.study, 8, '5') {
            return Some(Release::MimicCxr);
        }
        let is_mimic_4 = self.note.as_deref().is_some_and(is_note_of_mimic_4) || has(&self.hadm, 8, '2');
        (is_mimic_4 || has(&self.subject, 8, '1')).then_some(Release::Mimic4)
    }

    fn names(self, release: Release) -> Vec<String> {
        let (patients, others) = match release {
            Release::Mimic3 => ("mimic-iii", "mimic-iii"),
            Release::Mimic4 => ("mimic-iv", "mimic-iv"),
            Release::MimicCxr => ("mimic-iv", "mimic-cxr"),
        };
        let note = match release {
            Release::Mimic3 => self.note.and_then(|note| number_of(&note, 'r')).or(self.row),
            Release::Mimic4 | Release::MimicCxr => self.note.filter(|note| is_note_of_mimic_4(note)),
        };
        let study = self.study.filter(|_| release != Release::Mimic3);
        let parts = [
            (patients, "note", note),
            (patients, "subject", self.subject),
            (patients, "hadm", self.hadm),
            (if release == Release::Mimic4 { "mimic-cxr" } else { others }, "study", study),
        ];
        parts.into_iter().filter_map(|(space, kind, value)| Some(format!("{space}/{kind}:{}", value?))).collect()
    }
}

/// `10000032-DS-21`: patient, kind, number.
fn is_note_of_mimic_4(note: &str) -> bool {
    let parts: Vec<&str> = note.split('-').collect();
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    matches!(parts[..], [patient, kind, number]
        if patient.len() == 8 && digits(patient) && digits(number)
            && kind.len() == 2 && kind.bytes().all(|byte| byte.is_ascii_uppercase()))
}

/// The digits of a number, which a letter may stand before (`p10000032`) and a table's `.0` behind.
fn number_of(written: &str, letter: char) -> Option<String> {
    let written = written.trim();
    pmid(whole(written.strip_prefix(letter).unwrap_or(written)))
}

/// A whole number without the `.0` that tables of numbers put behind it.
fn whole(written: &str) -> &str {
    written.strip_suffix(".0").unwrap_or(written)
}

fn in_order(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(fields: &[(&str, &str)], expected: &[&str]) {
        check_in(fields, false, expected);
    }

    fn check_in(fields: &[(&str, &str)], from_pubmed: bool, expected: &[&str]) {
        let field = |wanted: &str| fields.iter().find(|(name, _)| *name == wanted).map(|(_, value)| (*value).to_owned());
        assert_eq!(of_item(&field, from_pubmed), expected, "{fields:?}");
    }

    #[test]
    fn records_of_the_literature() {
        check(&[("pmid", "0012"), ("pubid", "12"), ("doi", "https://doi.org/10.1/A")], &["doi:10.1/a", "pmid:12"]);
        check(&[("pmid", "12345678.0"), ("pmcid", "99")], &["pmcid:PMC99", "pmid:12345678"]);
        check(&[("article_id", "PMC123")], &["pmcid:PMC123"]);
        check(&[("id", "10.1/x")], &["doi:10.1/x"]);
        check(&[("pmid", "none"), ("doi", "unknown")], &[]);
    }

    #[test]
    fn ids_are_told_by_their_form() {
        check(&[("document_id", "12345678_3")], &["pmid:12345678"]);
        check(&[("index", "12345678_s0")], &["pmid:12345678"]);
        check(&[("id", "pmid:77")], &["pmid:77"]);
        // Numbers of rows and of conversations are no PMIDs.
        for id in ["12", "12345678", "12345_6", "1234567_x", "a_1", "q1", "note:", "colour:red", "mimic-v/subject:1"] {
            check(&[("id", id)], &[]);
        }
        // In sets made from PubMed those of seven digits are; rows have fewer.
        check_in(&[("id", "12345678")], true, &["pmid:12345678"]);
        check_in(&[("id", "99999_1")], true, &["pmid:99999"]);
        check_in(&[("id", "211268")], true, &[]);
    }

    #[test]
    fn patients_are_those_of_a_release() {
        check(
            &[("subject_id", "10000032"), ("study_id", "50414267")],
            &["mimic-cxr/study:50414267", "mimic-iv/subject:10000032"],
        );
        check(
            &[("subject_id", "p10000032"), ("study_id", "s50414267")],
            &["mimic-cxr/study:50414267", "mimic-iv/subject:10000032"],
        );
        check(
            &[("note_id", "10000032-DS-21"), ("subject_id", "10000032"), ("hadm_id", "22595853.0")],
            &["mimic-iv/hadm:22595853", "mimic-iv/note:10000032-DS-21", "mimic-iv/subject:10000032"],
        );
        check(
            &[("row_id", "174"), ("subject_id", "22532"), ("hadm_id", "167853")],
            &["mimic-iii/hadm:167853", "mimic-iii/note:174", "mimic-iii/subject:22532"],
        );
        check(&[("subject_id", "22532"), ("release", "mimic-iii")], &["mimic-iii/subject:22532"]);
        check(&[("subject_id", "22532"), ("row_id", "5")], &["mimic-iii/note:5", "mimic-iii/subject:22532"]);
    }

    #[test]
    fn numbers_of_unknown_releases_name_nothing() {
        check(&[("subject_id", "22532")], &[]);
        check(&[("study_id", "12"), ("subject_id", "3")], &[]);
        check(&[("row_id", "12")], &[]);
        check(&[("note_id", "0105")], &["note:0105"]);
        check(&[("note_id", "a\nb")], &[]);
    }

    #[test]
    fn names_that_are_stated_are_spelled_alike() {
        for (written, expected) in [
            ("pmid: 007", Some("pmid:7")),
            ("doi:10.1/X", Some("doi:10.1/x")),
            ("pmcid:5", Some("pmcid:PMC5")),
            ("mimic-iii/subject:22532", Some("mimic-iii/subject:22532")),
            ("note:0105", Some("note:0105")),
            ("subject:22532", None),
            ("mimic-iii/pmid:1", None),
            ("7", None),
        ] {
            assert_eq!(stated(written).as_deref(), expected, "{written}");
        }
    }
}
