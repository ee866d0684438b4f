//! The documents and conversations that a request means, by key, and what had stood for them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use mellama_sources::CONVERSATION_VERSION;

use super::request::Asked;
use super::{CopyOf, Outcome};
use crate::conversations;
use crate::decisions;
use crate::documents::Place;
use crate::failure::Failure;
use crate::lookup::{self, Folder, RemovedRow, Wanted, is_literature};
use crate::stage::Stage;

/// Documents of one retraction: its record is one put.
const MAX_DOCUMENTS: usize = 100_000;

/// A document, or a conversation, to take out.
#[derive(Debug, Clone)]
pub(super) struct Subject {
    pub id: String,
    pub version: u32,
    /// The ids that asked for it.
    pub asked: BTreeSet<String>,
    /// The rules by which records of it had been dropped; empty where it was not.
    pub dropped: BTreeSet<String>,
}

/// What was asked for and found, by document key.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    pub documents: BTreeMap<u128, Subject>,
    /// Those that had been dropped as duplicates.
    pub copies: Vec<CopyOf>,
    /// Keys of the records of this run that stand in the places of `copies`, by id.
    pub kept: BTreeMap<String, BTreeSet<u128>>,
}

impl Subjects {
    /// Looks everything up. Each id of the command line must be found; of the others, those that are not are noted in `outcome`.
    ///
    /// # Errors
    /// `Failure::Policy` for an unknown id; `Failure::Verification` for damaged objects.
    pub(super) fn find(folder: &Folder, asked: &Asked, copies: bool, outcome: &mut Outcome) -> Result<Subjects, Failure> {
        let mut subjects = Subjects::default();
        let mut wanted = asked.ids.clone();
        wanted.extend(&asked.listed);
        subjects.works(folder, &wanted, &asked.alone())?;
        subjects.conversations(folder, &wanted)?;
        let found: BTreeSet<&String> = subjects.documents.values().flat_map(|subject| &subject.asked).collect();
        if let Some(unknown) = asked.ids.asked().iter().find(|id| !found.contains(id)) {
            return Err(Failure::Policy(format!(
                "{}: id {unknown:?}: in no document of {}; nothing was changed; look with \"mellama inspect {} --id ID\"",
                folder.uri(),
                searched(folder),
                folder.uri()
            )));
        }
        outcome.asked = wanted.asked().len() as u64;
        outcome.unknown = wanted.asked().iter().filter(|id| !found.contains(id)).cloned().collect();
        subjects.copies = subjects.copies(folder)?;
        let here = subjects.copies.iter().filter(|copy| copy.kept_release.is_empty());
        let kept = Wanted::exactly(here.map(|copy| copy.kept_id.clone()).collect::<Vec<_>>());
        if !kept.is_empty() {
            for (record, _) in lookup::find(folder, &kept)? {
                subjects.kept.entry(record.id).or_default().insert(record.key);
            }
        }
        if copies {
            subjects.corpus(folder, &kept, &BTreeSet::new())?;
        }
        if subjects.documents.len() > MAX_DOCUMENTS {
            let found = subjects.documents.len();
            return Err(Failure::Policy(format!(
                "retract: {found} documents, at most {MAX_DOCUMENTS} at once; give them in parts"
            )));
        }
        Ok(subjects)
    }

    /// Documents of the corpus. A PMID, PMCID or DOI means the work: the records that the records found say to be the same, such as
    /// the full text of a citation, go with them. Ids in `alone` mean no more than they say.
    fn works(&mut self, folder: &Folder, wanted: &Wanted, alone: &BTreeSet<String>) -> Result<(), Failure> {
        let mut names = self.corpus(folder, wanted, alone)?;
        let mut known: BTreeSet<String> = wanted.names().cloned().collect();
        loop {
            names.retain(|name, _| known.insert(name.clone()));
            if names.is_empty() {
                return Ok(());
            }
            names = self.corpus(folder, &Wanted::by_names(names), alone)?;
        }
    }

    /// Documents of the corpus as they are asked for. Of those that are asked for by a name in the literature, their names of that
    /// kind, with the id that asked.
    fn corpus(
        &mut self,
        folder: &Folder,
        wanted: &Wanted,
        alone: &BTreeSet<String>,
    ) -> Result<BTreeMap<String, String>, Failure> {
        let mut names = BTreeMap::new();
        if wanted.is_empty() || folder.sources().is_empty() {
            return Ok(names);
        }
        let mut removed: BTreeMap<u32, Vec<RemovedRow>> = BTreeMap::new();
        for (record, asked) in lookup::find(folder, wanted)? {
            let Place { task, row } = record.place;
            let of_task = match removed.entry(task) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert(lookup::removed(folder, task)?),
            };
            let found = of_task.binary_search_by_key(&row, |removed| removed.row).ok().map(|at| &of_task[at]);
            let dropped = found.filter(|removed| removed.is_whole).map(|removed| removed.reason.clone());
            if let Some(of_work) = asked.iter().find(|id| is_literature(id) && !alone.contains(*id)) {
                let of_record = record.names.into_iter().filter(|name| is_literature(name));
                names.extend(of_record.map(|name| (name, of_work.clone())));
            }
            self.add(record.key, record.id, record.version, asked).dropped.extend(dropped);
        }
        Ok(names)
    }

    /// The copies of the documents with these ids, marked where all that stands in their place is retracted too.
    pub(super) fn standing(&self, ids: &BTreeSet<&str>, is_retracted: &dyn Fn(&u128) -> bool) -> Vec<CopyOf> {
        let copies = self.copies.iter().filter(|copy| ids.contains(copy.id.as_str()));
        let all_retracted = |copy: &CopyOf| {
            let mut keys = self.kept.get(&copy.kept_id).into_iter().flatten();
            copy.kept_release.is_empty() && keys.all(is_retracted)
        };
        copies.map(|copy| CopyOf { kept_retracted: all_retracted(copy), ..copy.clone() }).collect()
    }

    fn conversations(&mut self, folder: &Folder, wanted: &Wanted) -> Result<(), Failure> {
        for (listed, asked) in conversations::find(folder, wanted)? {
            self.add(listed.key, listed.id, CONVERSATION_VERSION, asked);
        }
        Ok(())
    }

    fn add(&mut self, key: u128, id: String, version: u32, asked: BTreeSet<String>) -> &mut Subject {
        let new = || Subject { id, version, asked: BTreeSet::new(), dropped: BTreeSet::new() };
        let subject = self.documents.entry(key).or_insert_with(new);
        subject.asked.extend(asked);
        subject
    }

    /// What stands for the subjects that had been dropped as duplicates; sorted. Decisions are of ids: of two records of one id
    /// that one rule dropped, what stands for either is named.
    fn copies(&self, folder: &Folder) -> Result<Vec<CopyOf>, Failure> {
        let subjects = self.documents.values();
        let dropped: BTreeSet<(&str, &str)> =
            subjects.flat_map(|subject| subject.dropped.iter().map(|rule| (subject.id.as_str(), rule.as_str()))).collect();
        if dropped.is_empty() {
            return Ok(Vec::new());
        }
        let (mut copies, mut of_one_id) = (BTreeSet::new(), BTreeSet::new());
        decisions::for_each(&folder.workdir, &folder.objects(Stage::Dedup, "decisions/")?, |decision| {
            if dropped.contains(&(decision.dropped_id, decision.rule)) {
                let of = if decision.kept_id == decision.dropped_id { &mut of_one_id } else { &mut copies };
                of.insert(CopyOf {
                    id: decision.dropped_id.to_owned(),
                    kept_id: decision.kept_id.to_owned(),
                    rule: decision.rule.to_owned(),
                    kept_release: decision.kept_release.to_owned(),
                    kept_retracted: false,
                });
            }
        })?;
        if !of_one_id.is_empty() {
            // Asked by its id, what stands there goes with it; asked by a key or another name, it may stay.
            let ids = Wanted::exactly(of_one_id.iter().map(|copy| copy.id.clone()));
            let records = lookup::find(folder, &ids)?.into_iter().map(|(record, _)| record);
            let staying: BTreeSet<String> =
                records.filter(|record| !self.documents.contains_key(&record.key)).map(|record| record.id).collect();
            copies.extend(of_one_id.into_iter().filter(|copy| !copy.kept_release.is_empty() || staying.contains(&copy.id)));
        }
        Ok(copies.into_iter().collect())
    }
}

/// What an id was looked for in.
pub(crate) fn searched(folder: &Folder) -> String {
    let corpus = folder.sources().iter().map(|source| source.name.as_str());
    let instruct = folder.recipe.instruct.iter().flat_map(|instruct| &instruct.source).map(|source| source.name.as_str());
    corpus.chain(instruct).collect::<Vec<_>>().join(", ")
}
