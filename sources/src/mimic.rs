//! MIMIC notes as `PhysioNet` publishes them: `NOTEEVENTS.csv` of MIMIC-III, `discharge.csv` and `radiology.csv` of MIMIC-IV-Note.
//!
//! The release is told from the header, in any order and case of its columns. Patient, stay, kind and times go into the meta
//! data; the year stays empty, because dates are shifted. Text is taken verbatim, marks of de-identification included.
//!
//! `discharge_detail.csv` and `radiology_detail.csv` hold fields of notes (an author, a code of an examination), many rows a
//! note and no text of one. They are not joined to the notes, which would need all of one file in memory: their rows are
//! checked, malformed ones are rejects as everywhere, and good ones give nothing, so that a pattern may name the whole folder.

use crate::csv::{CsvTable, HeaderState};
use crate::input::Input;
use crate::reader::{Item, Limits, ReadError, Reader, SourceContext};
use crate::reject::RejectReason;
use crate::row::{Cell, Columns, Meta, Row};

/// Columns of a release.
#[derive(Debug)]
struct Release {
    id: &'static str,
    /// Columns that must be there, the text aside.
    needed: &'static [&'static str],
    meta: &'static [&'static str],
    /// `1` in it marks a note as written in error.
    error: Option<&'static str>,
    /// Whose numbers patients, stays and notes have.
    name: &'static str,
}

const TEXT: &str = "text";
/// The meta entry that says which release a note is of.
pub(crate) const RELEASE: &str = "release";
const MIMIC_3: Release = Release {
    id: "row_id",
    needed: &["row_id", "subject_id", "category", "iserror"],
    meta: &["subject_id", "hadm_id", "category", "description", "chartdate", "charttime", "storetime", "cgid"],
    error: Some("iserror"),
    name: "mimic-iii",
};
const MIMIC_4: Release = Release {
    id: "note_id",
    needed: &["note_id", "subject_id", "note_type"],
    meta: &["subject_id", "hadm_id", "note_type", "note_seq", "charttime", "storetime"],
    error: None,
    name: "mimic-iv",
};

/// Columns of the `_detail` files of MIMIC-IV-Note.
const DETAIL: [&str; 5] = ["note_id", "subject_id", "field_name", "field_value", "field_ordinal"];

/// What the header says that a table holds.
#[derive(Debug, Clone, Copy)]
enum Content {
    Notes(&'static Release),
    Details,
}

/// Reads MIMIC notes.
///
/// `native_id` is `ROW_ID` of MIMIC-III and `note_id` of MIMIC-IV-Note. Meta: `release` (`mimic-iii` or `mimic-iv`, whose
/// numbers are others), `note_id`, and where the row has them `subject_id`, `hadm_id`, `category` or `note_type`, and times.
#[derive(Debug)]
pub struct MimicReader {
    table: CsvTable,
    content: Option<Content>,
}

impl MimicReader {
    /// Opens an object and reads its first line.
    ///
    /// # Errors
    /// [`ReadError`] when the first bytes cannot be had.
    pub fn open(context: SourceContext, input: Input, limits: &Limits) -> Result<Self, ReadError> {
        Ok(Self { table: CsvTable::open(context, input, Some(b','), limits)?, content: None })
    }

    fn find_content(&self) -> Option<Content> {
        let has = |name: &&str| self.table.index(name).is_some();
        let release = [&MIMIC_3, &MIMIC_4].into_iter().find(|release| release.needed.iter().chain([&TEXT]).all(has));
        release.map(Content::Notes).or_else(|| DETAIL.iter().all(has).then_some(Content::Details))
    }
}

impl Reader for MimicReader {
    fn next(&mut self) -> Option<Result<Item, ReadError>> {
        match self.table.read_header() {
            Ok(HeaderState::Known | HeaderState::New) => {}
            Ok(HeaderState::Ended) => return None,
            Ok(HeaderState::Bad(item)) => return Some(Ok(*item)),
            Err(error) => return Some(Err(error)),
        }
        if self.content.is_none() {
            self.content = self.find_content();
        }
        let release = match self.content {
            Some(Content::Notes(release)) => release,
            Some(Content::Details) => return self.table.next_reject(),
            None => {
                let expected = "the columns of NOTEEVENTS (row_id, …, text) or of MIMIC-IV-Note (note_id, …, text)";
                return Some(Ok(self.table.refuse(RejectReason::UnknownLayout { expected: expected.to_owned() })));
            }
        };
        self.table.next_with(|table, offset, bytes| {
            if is_marked(table, release) {
                return Item::Reject(table.context.reject(offset, bytes, RejectReason::MarkedErroneous));
            }
            row_of(table, release).into_item(&table.context, &columns_of(release), offset, bytes)
        })
    }

    fn pass_to(&mut self, offset: u64) {
        self.table.pass_to(offset);
    }
}

fn is_marked(table: &CsvTable, release: &Release) -> bool {
    let Some(Cell::Scalar(mark)) = release.error.map(|column| table.cell(column)) else {
        return false;
    };
    matches!(mark.trim(), "1" | "1.0")
}

fn columns_of(release: &Release) -> Columns {
    Columns {
        id: release.id.to_owned(),
        id_required: true,
        text: TEXT.to_owned(),
        title: String::new(),
        year: None,
        licence: None,
        version: None,
    }
}

fn row_of(table: &CsvTable, release: &Release) -> Row {
    let mut meta = Meta::default();
    meta.insert(RELEASE, release.name);
    if let Cell::Scalar(id) = table.cell(release.id) {
        meta.insert("note_id", id.trim());
    }
    for name in release.meta {
        if let Cell::Scalar(value) = table.cell(name) {
            meta.insert(name, value.trim());
        }
    }
    Row { id: table.cell(release.id), text: table.cell(TEXT), meta, ..Row::default() }
}
