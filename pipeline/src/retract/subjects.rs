//! The documents and conversations that a request means, by key, and what had stood for them.

use std::collections::{BTreeMap, BTreeSet};

use mellama_sources::CONVERSATION_VERSION;

use super::request::Asked;
use super::{CopyOf, Outcome};
use crate::conversations;
use crate::decisions;
use crate::failure::Failure;
use crate::lookup::{self, Folder, Wanted};
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
}

/// What was asked for and found, by document key.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    pub documents: BTreeMap<u128, Subject>,
    /// Those that had been dropped as duplicates.
    pub copies: Vec<CopyOf>,
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
        subjects.corpus(folder, &wanted)?;
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
        subjects.copies = copies_of(folder, &subjects.documents.values().map(|subject| subject.id.as_str()).collect())?;
        if copies {
            let here = subjects.copies.iter().filter(|copy| copy.kept_release.is_empty());
            let kept: Vec<String> = here.map(|copy| copy.kept_id.clone()).collect();
            subjects.corpus(folder, &Wanted::exactly(kept))?;
        }
        if subjects.documents.len() > MAX_DOCUMENTS {
            let found = subjects.documents.len();
            return Err(Failure::Policy(format!(
                "retract: {found} documents, at most {MAX_DOCUMENTS} at once; give them in parts"
            )));
        }
        Ok(subjects)
    }

    /// Documents of the corpus.
    fn corpus(&mut self, folder: &Folder, wanted: &Wanted) -> Result<(), Failure> {
        if wanted.is_empty() || folder.sources().is_empty() {
            return Ok(());
        }
        for (record, asked) in lookup::find(folder, wanted)? {
            self.add(record.key, record.id, record.version, asked);
        }
        Ok(())
    }

    fn conversations(&mut self, folder: &Folder, wanted: &Wanted) -> Result<(), Failure> {
        for (listed, asked) in conversations::find(folder, wanted)? {
            self.add(listed.key, listed.id, CONVERSATION_VERSION, asked);
        }
        Ok(())
    }

    fn add(&mut self, key: u128, id: String, version: u32, asked: BTreeSet<String>) {
        let subject = self.documents.entry(key).or_insert_with(|| Subject { id, version, asked: BTreeSet::new() });
        subject.asked.extend(asked);
    }
}

/// What an id was looked for in.
pub(crate) fn searched(folder: &Folder) -> String {
    let corpus = folder.sources().iter().map(|source| source.name.as_str());
    let instruct = folder.recipe.instruct.iter().flat_map(|instruct| &instruct.source).map(|source| source.name.as_str());
    corpus.chain(instruct).collect::<Vec<_>>().join(", ")
}

/// Those of `ids` that had been dropped as duplicates, with what stands in their place; sorted.
fn copies_of(folder: &Folder, ids: &BTreeSet<&str>) -> Result<Vec<CopyOf>, Failure> {
    let mut copies = BTreeSet::new();
    decisions::for_each(&folder.workdir, &folder.objects(Stage::Dedup, "decisions/")?, |decision| {
        // Records of one id go together.
        if ids.contains(decision.dropped_id) && decision.kept_id != decision.dropped_id {
            copies.insert(CopyOf {
                id: decision.dropped_id.to_owned(),
                kept_id: decision.kept_id.to_owned(),
                rule: decision.rule.to_owned(),
                kept_release: decision.kept_release.to_owned(),
            });
        }
    })?;
    Ok(copies.into_iter().collect())
}
