//! Documents by what a person calls them: ids of the corpus and names of records, found in what `ingest` wrote.
//!
//! It reads ids and meta data, never a text, and needs the work folder alone.

mod records;
mod removed;

use std::collections::{BTreeMap, BTreeSet};

use mellama_shards::key_of_text;
use mellama_storage::{ObjectEntry, StageManifest, Stores, TaskCommit, Workdir};
use serde::Deserialize;

use crate::conversations;
use crate::failure::Failure;
use crate::names;
use crate::plan::{KEYS_SINCE, PLAN_FORMAT};
use crate::recipe::{Recipe, SourceRecipe};
use crate::stage::Stage;
use crate::status;

pub(crate) use records::Record;
pub(crate) use removed::{RemovedRow, removed};

/// Kinds of names of works.
const LITERATURE: [&str; 3] = ["pmid", "pmcid", "doi"];
/// Longest id that is asked for, in bytes.
pub(crate) const MAX_ID_BYTES: usize = 2048;

/// A work folder with the recipe that it was made from.
#[derive(Debug)]
pub(crate) struct Folder {
    pub workdir: Workdir,
    /// Plan id.
    pub plan: String,
    pub recipe: Recipe,
    /// Format of the plan.
    format: u32,
    /// Source of each ingest task, an index into the recipe's.
    tasks: Vec<usize>,
}

/// What of `plan.json` is needed; the rest is of no concern.
#[derive(Deserialize)]
struct Planned {
    format: u32,
    recipe: Recipe,
    ingest: Vec<PlannedTask>,
}

#[derive(Deserialize)]
struct PlannedTask {
    source: usize,
}

impl Folder {
    /// Opens a folder that a run wrote.
    ///
    /// # Errors
    /// `Failure::Policy` when nothing was run there or its plan is of another version; `Failure::Verification` when it is damaged.
    pub(crate) fn open(stores: &Stores, uri: &str) -> Result<Folder, Failure> {
        let (workdir, plan) = status::open(stores, uri)?;
        let value = workdir.read_plan()?.unwrap_or_default();
        let planned: Planned = serde_json::from_value(value).map_err(|_| {
            Failure::Policy(format!("{uri}: plan.json: made by another version of mellama; use the one that ran the recipe"))
        })?;
        let tasks = planned.ingest.iter().map(|task| task.source).collect();
        Ok(Folder { workdir, plan, recipe: planned.recipe, format: planned.format, tasks })
    }

    /// [`Folder::open`] of a folder whose tables have the keys of documents.
    ///
    /// # Errors
    /// As `open`; `Failure::Policy` when an earlier version, or one to come, wrote it.
    pub(crate) fn open_with_keys(stores: &Stores, uri: &str) -> Result<Folder, Failure> {
        let folder = Folder::open(stores, uri)?;
        if !folder.has_keys() {
            return Err(Failure::Policy(format!(
                "{uri}: was made by another version of mellama (plan format {}, this one writes {PLAN_FORMAT}); \
                 use that version, or run the recipe with this one in another work folder",
                folder.format
            )));
        }
        Ok(folder)
    }

    /// Whether the tables of documents and conversations have their keys.
    pub(crate) fn has_keys(&self) -> bool {
        (KEYS_SINCE..=PLAN_FORMAT).contains(&self.format)
    }

    pub(crate) fn uri(&self) -> &str {
        self.workdir.store().uri()
    }

    /// Sources of the corpus; none in a recipe without one.
    pub(crate) fn sources(&self) -> &[SourceRecipe] {
        self.recipe.corpus.as_ref().map_or(&[], |corpus| &corpus.source)
    }

    /// The source of an ingest task, with its index.
    pub(crate) fn source_of(&self, task: u64) -> Option<(usize, &SourceRecipe)> {
        let index = *self.tasks.get(usize::try_from(task).ok()?)?;
        Some((index, self.sources().get(index)?))
    }

    /// The manifest of a stage as it holds now, if the stage is finished.
    ///
    /// # Errors
    /// As `Workdir::effective_manifest`.
    pub(crate) fn manifest(&self, stage: Stage) -> Result<Option<StageManifest>, Failure> {
        Ok(self.workdir.effective_manifest(&self.plan, stage.name())?)
    }

    /// Objects of a finished stage under a prefix; none where it is not finished.
    ///
    /// # Errors
    /// As `manifest`.
    pub(crate) fn objects(&self, stage: Stage, prefix: &str) -> Result<Vec<ObjectEntry>, Failure> {
        let objects = self.manifest(stage)?.map(|manifest| manifest.objects).unwrap_or_default();
        Ok(objects.into_iter().filter(|entry| entry.key.starts_with(prefix)).collect())
    }

    /// The commits of a finished stage, in task order; none where it is not finished.
    ///
    /// # Errors
    /// As `manifest`; `Failure::Verification` when one that the manifest lists is gone.
    pub(crate) fn commits(&self, stage: Stage) -> Result<Vec<TaskCommit>, Failure> {
        let tasks = self.workdir.read_manifest(&self.plan, stage.name())?.map_or(0, |manifest| manifest.tasks);
        let missing = |task: u64| {
            let uri = self.uri();
            Failure::Verification(format!("{uri}: commit {task} of stage {stage} is missing; run \"mellama verify\""))
        };
        let read = |task| self.workdir.read_commit(&self.plan, stage.name(), task)?.ok_or_else(|| missing(task));
        (0..tasks).map(read).collect()
    }
}

/// What is looked for, each id once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    /// As they were asked for, in the spelling that names have.
    asked: BTreeSet<String>,
    /// Document ids as tables have them.
    exact: BTreeSet<String>,
    /// Names of records, with the id that asked for each.
    names: BTreeMap<String, String>,
    /// Document keys, with the id that asked for each.
    keys: BTreeMap<u128, String>,
}

impl Wanted {
    /// Reads ids as a person writes them.
    ///
    /// # Errors
    /// `Failure::Policy` for one that can be none.
    pub(crate) fn of<'i>(ids: impl IntoIterator<Item = &'i str>) -> Result<Wanted, Failure> {
        let mut wanted = Wanted::default();
        for id in ids {
            wanted.add(id).map_err(|problem| Failure::Policy(format!("id {:?}: {problem}", shown(id))))?;
        }
        Ok(wanted)
    }

    /// Adds an id, or says why it is none.
    ///
    /// # Errors
    /// What is wrong with it, and what an id may be.
    pub(crate) fn add(&mut self, id: &str) -> Result<(), &'static str> {
        let id = id.trim();
        if id.len() > MAX_ID_BYTES || id.chars().any(char::is_control) {
            return Err("too long, or with control characters; give SOURCE:ID, pmid:, pmcid:, doi:, note: or key:");
        }
        let Some((kind, value)) = id.split_once(':').filter(|(kind, value)| !kind.is_empty() && !value.is_empty()) else {
            return Err("not an id; give SOURCE:ID, pmid:123, pmcid:PMC123, doi:10.1/x, note:ID or key:KEY");
        };
        // People write PMID:123 as well as pmid:123.
        let literature = LITERATURE.into_iter().find(|known| kind.eq_ignore_ascii_case(known));
        let stated = literature.map_or_else(|| names::stated(id), |kind| names::stated(&format!("{kind}:{value}")));
        if literature.is_some() && stated.is_none() {
            return Err("not a PMID, PMCID or DOI; give one id, as pmid:123, pmcid:PMC123 or doi:10.1/x");
        }
        let spelled = stated.clone().unwrap_or_else(|| id.to_owned());
        if kind == "key"
            && let Some(key) = key_of_text(value)
        {
            self.keys.insert(key, spelled.clone());
        }
        if kind == "note" {
            self.names.extend(names::of_note(value.trim()).into_iter().map(|name| (name, spelled.clone())));
        }
        self.names.extend(stated.map(|name| (name, spelled.clone())));
        self.asked.insert(spelled);
        Ok(())
    }

    /// These document ids and no names.
    pub(crate) fn exactly(ids: impl IntoIterator<Item = String>) -> Wanted {
        Wanted { exact: ids.into_iter().collect(), ..Wanted::default() }
    }

    /// The records that go by these names, each with the id that asks for it.
    pub(crate) fn by_names(names: BTreeMap<String, String>) -> Wanted {
        Wanted { asked: names.values().cloned().collect(), names, ..Wanted::default() }
    }

    /// The id that asks for a document id. Ids may end in spaces, which exports pad columns with and nobody sees or writes.
    pub(crate) fn asks_for(&self, id: &str) -> Option<&String> {
        self.exact.get(id).or_else(|| self.asked.get(id.trim()))
    }

    /// Adds a name by which `id`, which is asked for, may be known too.
    pub(crate) fn add_name(&mut self, name: String, id: &str) {
        self.names.entry(name).or_insert_with(|| id.to_owned());
    }

    /// Adds what another asks for.
    pub(crate) fn extend(&mut self, other: &Wanted) {
        self.asked.extend(other.asked.iter().cloned());
        self.exact.extend(other.exact.iter().cloned());
        self.names.extend(other.names.iter().map(|(name, id)| (name.clone(), id.clone())));
        self.keys.extend(other.keys.iter().map(|(key, id)| (*key, id.clone())));
    }

    /// Document keys that are asked for, with the id that did.
    pub(crate) fn keys(&self) -> &BTreeMap<u128, String> {
        &self.keys
    }

    /// Names of records that are asked for, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.names.keys()
    }

    /// What was asked for, in order.
    pub(crate) fn asked(&self) -> &BTreeSet<String> {
        &self.asked
    }

    /// True when nothing is.
    pub(crate) fn is_empty(&self) -> bool {
        self.asked.is_empty() && self.exact.is_empty()
    }
}

/// Whether a name is of a work: a PMID, a PMCID, a DOI.
pub(crate) fn is_literature(name: &str) -> bool {
    LITERATURE.iter().any(|kind| name.split_once(':').is_some_and(|(found, _)| found == *kind))
}

/// An id for a message: one line, cut.
fn shown(id: &str) -> String {
    const SHOWN: usize = 80;
    id.chars().take(SHOWN).collect()
}

/// Reads the records that `ingest` wrote and returns those that are wanted, in the order of the corpus, each with the ids that
/// asked for it.
///
/// # Errors
/// `Failure::Policy` before `ingest` is finished; `Failure::Verification` for damaged objects.
pub(crate) fn find(folder: &Folder, wanted: &Wanted) -> Result<Vec<(Record, BTreeSet<String>)>, Failure> {
    records::find(folder, wanted)
}

/// The ids that `documents` name by key, from the indexes of the token runs and the table of conversations; keys that are in none
/// are left out.
///
/// # Errors
/// `Failure::Verification` for damaged tables.
pub(crate) fn ids_of(folder: &Folder, documents: &BTreeSet<u128>) -> Result<BTreeMap<u128, String>, Failure> {
    let mut found = BTreeMap::new();
    for commit in folder.commits(Stage::Tokenize)? {
        let Some(index) = crate::token_runs::index(&folder.workdir, &commit)? else { continue };
        let rows: Vec<(usize, u128)> = (0..)
            .zip(index.entries())
            .filter(|(_, entry)| documents.contains(&entry.key))
            .map(|(row, entry)| (row, entry.key))
            .collect();
        if !rows.is_empty() {
            let ids = index.read_ids().map_err(|e| Failure::reading("", &e))?;
            found.extend(rows.into_iter().map(|(row, key)| (key, ids[row].clone())));
        }
    }
    conversations::for_each(folder, |listed| {
        if documents.contains(&listed.key) {
            found.insert(listed.key, listed.id);
        }
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_as_people_write_them() {
        let check = |id: &str, asked: &str, names: &[&str]| {
            let wanted = Wanted::of([id]).unwrap();
            assert_eq!(wanted.asked.iter().collect::<Vec<_>>(), [asked], "{id}");
            assert_eq!(wanted.names.keys().collect::<Vec<_>>(), names, "{id}");
        };
        check(" pmid:0012 ", "pmid:12", &["pmid:12"]);
        check("pmcid:99", "pmcid:PMC99", &["pmcid:PMC99"]);
        check("doi:10.1/X", "doi:10.1/x", &["doi:10.1/x"]);
        check("pmc:PMC99/a:b", "pmc:PMC99/a:b", &[]);
        check("mimic-iv/subject:10000032", "mimic-iv/subject:10000032", &["mimic-iv/subject:10000032"]);
        check("note:174", "note:174", &["mimic-iii/note:174", "mimic-iv/note:174", "note:174"]);
        check("key:000000000000000000000000000000ff", "key:000000000000000000000000000000ff", &[]);
        check("PMID: 12", "pmid:12", &["pmid:12"]);
        check("Note:174", "Note:174", &[]);
        for id in ["pmid:x", "PMID:1, pmid:2", "pmcid:", "doi:x"] {
            assert!(Wanted::of([id]).is_err(), "{id}");
        }
    }

    #[test]
    fn keys_are_32_digits() {
        let key = |id: &str| Wanted::of([id]).unwrap().keys.keys().copied().collect::<Vec<_>>();
        assert_eq!(key("key:ff000000000000000000000000000000"), [255]);
        for id in ["key:ff", "key:000000000000000000000000000000fg", "key:+00000000000000000000000000000ff"] {
            assert_eq!(key(id), Vec::<u128>::new(), "{id}");
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for id in ["", "123", "pmid:", ":1", "a\nb:1", "no colon"] {
            assert!(Wanted::of([id]).is_err(), "{id:?}");
        }
        assert!(Wanted::of([format!("a:{}", "x".repeat(MAX_ID_BYTES)).as_str()]).is_err());
    }
}
