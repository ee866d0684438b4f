//! One pass over the documents objects of a run, all columns but the text: which records are asked for, and where they lie.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, FixedSizeBinaryArray, RecordBatch, StringArray, UInt32Array, UInt64Array};
use mellama_sources::{Document, Origin, Sensitivity};
use mellama_storage::TaskCommit;
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};

use super::{Folder, Wanted};
use crate::documents::{self, Place};
use crate::failure::Failure;
use crate::recipe::SourceRecipe;
use crate::stage::Stage;
use crate::{overlaps, tables};

/// What is read of a documents object.
const COLUMNS: [&str; 9] =
    ["id", "version", "source", "native_id", "sensitivity", "origin_object", "origin_offset", "meta", "key"];

/// A document as `ingest` wrote it, without its text.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub place: Place,
    /// The documents object, by its key.
    pub object: String,
    pub id: String,
    pub version: u32,
    /// Index of the source in the recipe.
    pub source: usize,
    pub sensitivity: Sensitivity,
    /// Names that the record goes by, such as `pmid:1`.
    pub names: Vec<String>,
    pub origin: Origin,
    /// Document key.
    pub key: u128,
}

pub(super) fn find(folder: &Folder, wanted: &Wanted) -> Result<Vec<(Record, BTreeSet<String>)>, Failure> {
    if folder.workdir.read_manifest(&folder.plan, Stage::Ingest.name())?.is_none() {
        let uri = folder.uri();
        return Err(Failure::Policy(format!("{uri}: stage ingest is not finished; run \"mellama run\" on its recipe first")));
    }
    let commits = folder.commits(Stage::Ingest)?;
    let found: Vec<_> = commits.par_iter().map(|commit| of_task(folder, wanted, commit)).collect::<Result<_, Failure>>()?;
    Ok(found.into_iter().flatten().collect())
}

fn of_task(folder: &Folder, wanted: &Wanted, commit: &TaskCommit) -> Result<Vec<(Record, BTreeSet<String>)>, Failure> {
    let (Some(entry), Some((index, source))) = (documents::object_of(commit), folder.source_of(commit.task)) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    let mut row = 0;
    for batch in tables::stream(&folder.workdir, entry, &COLUMNS)? {
        let columns = Columns::of(&batch?)?;
        for at in 0..columns.ids.len() {
            let key = tables::key(&columns.keys, at)?;
            let names = columns.names(at, source, key, wanted)?;
            let asked = columns.asked(at, &names, key, wanted);
            if !asked.is_empty() {
                let place = Place { task: commit.task as u32, row };
                let object = entry.key.clone();
                found.push((columns.record(at, Record { place, object, source: index, names, key, ..EMPTY })?, asked));
            }
            row += 1;
        }
    }
    Ok(found)
}

const EMPTY: Record = Record {
    place: Place { task: 0, row: 0 },
    object: String::new(),
    id: String::new(),
    version: 0,
    source: 0,
    sensitivity: Sensitivity::Phi,
    names: Vec::new(),
    origin: Origin { object: String::new(), byte_offset: 0 },
    key: 0,
};

/// The columns of one batch.
struct Columns {
    ids: StringArray,
    versions: UInt32Array,
    sources: StringArray,
    native_ids: StringArray,
    sensitivities: StringArray,
    objects: StringArray,
    offsets: UInt64Array,
    metas: StringArray,
    keys: FixedSizeBinaryArray,
}

impl Columns {
    fn of(batch: &RecordBatch) -> Result<Columns, Failure> {
        let text = |name: &str| tables::column::<StringArray>(batch, name).cloned();
        Ok(Columns {
            ids: text("id")?,
            versions: tables::column::<UInt32Array>(batch, "version")?.clone(),
            sources: text("source")?,
            native_ids: text("native_id")?,
            sensitivities: text("sensitivity")?,
            objects: text("origin_object")?,
            offsets: tables::column::<UInt64Array>(batch, "origin_offset")?.clone(),
            metas: text("meta")?,
            keys: tables::column::<FixedSizeBinaryArray>(batch, "key")?.clone(),
        })
    }

    /// The names of a record, which only a search by names, or a hit, needs.
    fn names(&self, at: usize, source: &SourceRecipe, key: u128, wanted: &Wanted) -> Result<Vec<String>, Failure> {
        let is_asked = wanted.asks_for(self.ids.value(at)).is_some() || wanted.keys.contains_key(&key);
        if wanted.names.is_empty() && !is_asked {
            return Ok(Vec::new());
        }
        let meta: BTreeMap<String, String> = serde_json::from_str(self.metas.value(at)).map_err(|_| {
            Failure::Verification(format!("{}: meta is no JSON object of strings; run \"mellama verify\"", self.ids.value(at)))
        })?;
        let document = Document {
            id: self.ids.value(at).to_owned(),
            version: self.versions.value(at),
            source: self.sources.value(at).to_owned(),
            domain: source.domain,
            native_id: self.native_ids.value(at).to_owned(),
            licence: None,
            sensitivity: source.resolved_sensitivity(),
            title: None,
            text: String::new(),
            year: None,
            origin: Origin { object: String::new(), byte_offset: 0 },
            meta,
        };
        Ok(overlaps::names_by(source, &document))
    }

    /// The ids that ask for a record: its own, its key, or one of its names.
    fn asked(&self, at: usize, names: &[String], key: u128, wanted: &Wanted) -> BTreeSet<String> {
        let own = wanted.asks_for(self.ids.value(at)).cloned();
        let by_key = wanted.keys.get(&key).cloned();
        own.into_iter().chain(by_key).chain(names.iter().filter_map(|name| wanted.names.get(name)).cloned()).collect()
    }

    fn record(&self, at: usize, known: Record) -> Result<Record, Failure> {
        let (id, version) = (self.ids.value(at).to_owned(), self.versions.value(at));
        let sensitivity = Sensitivity::from_name(self.sensitivities.value(at)).ok_or_else(|| {
            Failure::Verification(format!("{}: sensitivity: not a level; run \"mellama verify\"", known.object))
        })?;
        Ok(Record {
            id,
            version,
            sensitivity,
            origin: Origin { object: self.objects.value(at).to_owned(), byte_offset: self.offsets.value(at) },
            ..known
        })
    }
}
