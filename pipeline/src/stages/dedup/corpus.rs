//! The documents of a deduplication by number: those of earlier releases first, then this run's in the order of its ingest
//! tasks and their rows. It holds where they lie and nothing of each.

use std::collections::BTreeMap;

use mellama_dedup::{Links, NormalForm, Profile, id_key};
use mellama_storage::{ObjectEntry, TaskCommit, Workdir};

use crate::context::Context;
use crate::documents::{self, Place};
use crate::failure::Failure;
use crate::releases::Release;
use crate::signatures;
use crate::stage::Stage;
use crate::stages::ingest::{facts_of, normal_form};

/// What a deduplication reads: this run's ingest commits, and the releases it is compared with.
pub(super) struct Inputs {
    pub(super) commits: Vec<TaskCommit>,
    pub(super) releases: Vec<Release>,
}

/// Documents of one ingest task, of this run or of a release.
pub(super) struct Part<'a> {
    pub(super) workdir: &'a Workdir,
    pub(super) signatures: &'a ObjectEntry,
    pub(super) documents: &'a ObjectEntry,
    pub(super) task: u32,
    pub(super) release: Option<u16>,
    pub(super) source: u16,
    pub(super) form: NormalForm,
    pub(super) exact_only: bool,
    pub(super) rank: u16,
    /// Number of its first document.
    pub(super) first: u32,
    pub(super) rows: u32,
}

/// All parts in the order of their numbers.
pub(super) struct Corpus<'a> {
    pub(super) parts: Vec<Part<'a>>,
    /// Names of the sources of this run, then of those that only releases have.
    pub(super) sources: Vec<String>,
    pub(super) documents: u32,
}

impl Inputs {
    pub(super) fn read(context: &Context<'_>) -> Result<Inputs, Failure> {
        let releases = context
            .plan
            .releases
            .iter()
            .map(|planned| Release::open(context.file.stores(), planned))
            .collect::<Result<_, _>>()?;
        Ok(Inputs { commits: context.commits(Stage::Ingest)?, releases })
    }
}

impl<'a> Corpus<'a> {
    pub(super) fn of(context: &Context<'a>, inputs: &'a Inputs) -> Result<Corpus<'a>, Failure> {
        let sources = context.corpus().source.iter().map(|source| source.name.clone()).collect();
        let mut corpus = Corpus { parts: Vec::new(), sources, documents: 0 };
        for (index, release) in (0u16..).zip(&inputs.releases) {
            for commit in &release.commits {
                let name = facts_of(commit)?.source;
                let (form, exact_only, rank) = release.source(&name)?;
                let source = corpus.source(&name)?;
                corpus.push(&release.workdir, commit, |part| {
                    (part.release, part.source, part.rank) = (Some(index), source, rank);
                    (part.form, part.exact_only) = (form, exact_only);
                })?;
            }
        }
        for commit in &inputs.commits {
            let index = context.plan.ingest[commit.task as usize].source;
            let source = &context.corpus().source[index];
            corpus.push(context.workdir, commit, |part| {
                part.source = index as u16;
                (part.form, part.exact_only) = (normal_form(source.domain), source.templated);
                part.rank = source.rank.unwrap_or(index as u16);
            })?;
        }
        Ok(corpus)
    }

    /// The index of a source by its name, so that a source keeps its subjects over the releases.
    fn source(&mut self, name: &str) -> Result<u16, Failure> {
        let found = self.sources.iter().position(|known| known == name);
        let index = found.unwrap_or_else(|| {
            self.sources.push(name.to_owned());
            self.sources.len() - 1
        });
        u16::try_from(index).map_err(|_| Failure::Policy("dedup: more than 65,536 sources; name fewer releases".into()))
    }

    fn push(&mut self, workdir: &'a Workdir, commit: &'a TaskCommit, fill: impl FnOnce(&mut Part<'a>)) -> Result<(), Failure> {
        let Some(documents) = documents::object_of(commit) else { return Ok(()) };
        let signatures = commit.objects.iter().find(|entry| entry.key.starts_with("signatures/"));
        let signatures = signatures
            .ok_or_else(|| Failure::Verification(format!("{}: no signatures beside it; run ingest again", documents.key)))?;
        let total = u64::from(self.documents) + signatures.records;
        if total >= u64::from(u32::MAX) {
            return Err(Failure::Policy(format!(
                "dedup: {total} documents or more, expected fewer than 2^32 - 1; split the corpus"
            )));
        }
        let mut part = Part {
            workdir,
            signatures,
            documents,
            task: commit.task as u32,
            release: None,
            source: 0,
            form: NormalForm::Plain,
            exact_only: false,
            rank: 0,
            first: self.documents,
            rows: signatures.records as u32,
        };
        fill(&mut part);
        self.documents = total as u32;
        self.parts.push(part);
        Ok(())
    }

    /// The part that holds a number.
    pub(super) fn part(&self, number: u32) -> &Part<'a> {
        &self.parts[self.parts.partition_point(|part| part.first <= number) - 1]
    }

    /// The number of a document of this run, if its task wrote any.
    pub(super) fn number(&self, place: Place) -> Option<u32> {
        let parts = &self.parts[self.parts.partition_point(|part| part.release.is_some())..];
        let found = parts.binary_search_by_key(&place.task, |part| part.task).ok()?;
        (place.row < parts[found].rows).then(|| parts[found].first + place.row)
    }
}

impl Part<'_> {
    /// Calls `visit` with the number, the profile and the links of each document in order.
    pub(super) fn for_each_profile(
        &self,
        mut visit: impl FnMut(u32, &Profile, &Links) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut number = self.first;
        signatures::for_each(self.workdir, self.signatures, |row| {
            let profile = Profile {
                key: id_key(&row.id),
                release: self.release,
                source: self.source,
                rank: self.rank,
                abridged: row.abridged,
                version: row.version,
                words: row.words,
                characters: row.characters,
                quality: row.quality.min(u32::from(u16::MAX)) as u16,
                exact: row.exact,
                group: row.group,
                form: self.form,
                exact_only: self.exact_only,
            };
            number += 1;
            visit(number - 1, &profile, &row.links)
        })?;
        if number == self.first + self.rows {
            return Ok(());
        }
        let found = number - self.first;
        Err(Failure::Verification(format!("{}: {found} rows, its commit lists {}", self.signatures.key, self.rows)))
    }
}

/// Rows of each task that a release removed, whole documents only.
pub(super) fn removed_of(release: &Release) -> Result<BTreeMap<u32, Vec<u32>>, Failure> {
    let mut removed: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in release.dedup.objects.iter().filter(|entry| entry.key.starts_with("removed/")) {
        super::for_each_removed(&release.workdir, entry, |task, row, out| {
            if out == super::Removed::Whole {
                removed.entry(task).or_default().push(row);
            }
        })?;
    }
    for rows in removed.values_mut() {
        rows.sort_unstable();
    }
    Ok(removed)
}
