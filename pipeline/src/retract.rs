//! `retract`: documents out of published shards, their quota refilled by the continuation of the order, a sealed record of it.
//!
//! It rewrites shards alone. What `ingest`, `tokenize` and `pack` published stays as it is, and models that were trained before
//! stay trained.

mod facts;
mod outcome;
mod request;
mod rewrite;
mod subjects;
mod supply;
mod texts;

use std::collections::{BTreeMap, BTreeSet};

use mellama_shards::key_text;
use mellama_shards::lineage::Placement;
use mellama_shards::mixture::DOMAIN_NAMES;
use mellama_shards::refill::{self, Hole};
use mellama_storage::{AttemptId, Replacement, Retraction, RetractionOutcome, Stores};
use rayon::prelude::{IntoParallelRefIterator, ParallelIterator};

use crate::failure::Failure;
use crate::lookup::Folder;
use crate::observer::{Observer, Unit};
use crate::placements::{self, Part, Shard};
use crate::stage::Stage;
use crate::stages::mix::domain_index;
use crate::strays;
use crate::wording::counted;

pub use facts::{CopyOf, PartChange, RetractedDocument, RetractionFacts, SourceChange, facts_of};
pub(crate) use facts::{keys_of, retracted_keys};
pub use outcome::Outcome;
use request::Asked;
pub use request::{Marks, Request};
use rewrite::{Draft, Gap, rewrite};
pub(crate) use subjects::searched;
use subjects::{Subject, Subjects};
use texts::Texts;

/// Tries against retractions that other processes record meanwhile. Each lost one is another's record, so somebody gets on.
const MAX_TRIES: u32 = 128;

/// Shards that are written before the first of them is published; each is an open file.
const MAX_DRAFTS: usize = 256;

/// Takes documents out of the shards of a work folder.
///
/// # Errors
/// `Failure::Policy` when there are no shards yet, or an id is unknown; `Failure::Verification` for damage, with nothing changed;
/// `Failure::Input` for a PubMed file that is none, or ends early; `Failure::Temporary` when other retractions keep coming first.
pub fn retract(stores: &Stores, uri: &str, request: &Request, observer: &dyn Observer) -> Result<Outcome, Failure> {
    let folder = Folder::open_with_keys(stores, uri)?;
    check_published(&folder)?;
    let asked = Asked::read(stores, request)?;
    observer.begin("retract", 0, Unit::Tasks);
    strays::sweep(&folder.workdir, &folder.plan)?;
    // Drafts of retractions that were killed hold tokens.
    mellama_storage::sweep(&**folder.workdir.store())?;
    let mut outcome = Outcome::new(&folder, asked.marks.clone());
    let subjects = Subjects::find(&folder, &asked, request.copies, &mut outcome)?;
    for _ in 0..MAX_TRIES {
        let records = folder.workdir.read_retractions(&folder.plan)?;
        let gone = keys_of(&records)?;
        let (already, fresh): (Vec<_>, Vec<_>) = subjects.documents.iter().partition(|(key, _)| gone.contains(key));
        outcome.already = already.into_iter().map(|(_, subject)| subject.id.clone()).collect();
        outcome.already.sort();
        if fresh.is_empty() {
            outcome.copies = subjects.standing(&outcome.already_ids(), &|key| gone.contains(key));
            strays::sweep(&folder.workdir, &folder.plan)?;
            return Ok(outcome);
        }
        let fresh = fresh.iter().map(|(key, _)| **key).collect();
        let work = Work { folder: &folder, subjects: &subjects, fresh, gone, number: records.len() as u64 };
        // What fails under another retraction that was recorded meanwhile, for it has deleted shards that are read or were just
        // written, begins again on top of it.
        let (record, facts) = match work.attempt(&records, observer) {
            Ok(Some(done)) => done,
            Ok(None) => continue,
            Err(_) if folder.workdir.read_retractions(&folder.plan)?.len() > records.len() => continue,
            Err(failure) => return Err(failure),
        };
        outcome.deleted = strays::sweep(&folder.workdir, &folder.plan)?;
        outcome.recorded(record, facts);
        let again = subjects.standing(&outcome.already_ids(), &|key| work.fresh.contains(key) || work.gone.contains(key));
        outcome.copies.extend(again);
        observer.end("retract", &counted(outcome.documents.len() as u64, "document"));
        return Ok(outcome);
    }
    strays::sweep(&folder.workdir, &folder.plan)?;
    Err(overtaken(&folder))
}

fn overtaken(folder: &Folder) -> Failure {
    let uri = folder.uri();
    Failure::Temporary(format!("{uri}: other retractions came first {MAX_TRIES} times; run the same command again"))
}

fn record(folder: &Folder, before: &[Retraction], replaced: Vec<Replacement>, facts: &RetractionFacts) -> Retraction {
    Retraction {
        plan: folder.plan.clone(),
        number: before.len() as u64,
        previous: before.last().map(Retraction::digest),
        replaced,
        facts: serde_json::to_value(facts).expect("plain data"),
        attempt: AttemptId::generate().to_string(),
    }
}

/// Shards must be there: a document that is taken out before would come in with them.
fn check_published(folder: &Folder) -> Result<(), Failure> {
    let wanted = Stage::of(&folder.recipe);
    let stages: Vec<Stage> = [Stage::Publish, Stage::InstructData].into_iter().filter(|stage| wanted.contains(stage)).collect();
    let uri = folder.uri();
    if stages.is_empty() {
        return Err(Failure::Policy(format!("{uri}: its recipe makes no shards; there is nothing to retract from")));
    }
    for stage in stages {
        if folder.workdir.read_manifest(&folder.plan, stage.name())?.is_none() {
            return Err(Failure::Policy(format!(
                "{uri}: stage {stage} is not finished; finish it with \"mellama run RECIPE --until {stage}\", then retract"
            )));
        }
    }
    Ok(())
}

/// One try: everything is worked out against the records that are there.
struct Work<'a> {
    folder: &'a Folder,
    subjects: &'a Subjects,
    /// Keys to retract now.
    fresh: BTreeSet<u128>,
    /// Keys retracted before.
    gone: BTreeSet<u128>,
    /// Number of the record to put.
    number: u64,
}

impl Work<'_> {
    /// Writes the shards and puts the record; `None` when another retraction came first.
    fn attempt(&self, before: &[Retraction], observer: &dyn Observer) -> Result<Option<(String, RetractionFacts)>, Failure> {
        let texts = Texts::read(self.folder, before)?;
        for text in &texts.strange {
            observer.warn(&format!("{text}: not as it was published; left as it is, its figures are not those of the shards"));
        }
        let (replaced, facts) = self.run(observer)?;
        let mut record = record(self.folder, before, replaced, &facts);
        record.replaced.extend(texts::rewritten(self.folder, texts, before, &record)?);
        Ok(match self.folder.workdir.put_retraction(&record)? {
            RetractionOutcome::Recorded => Some((record.key(), facts)),
            RetractionOutcome::Overtaken => None,
        })
    }

    fn run(&self, observer: &dyn Observer) -> Result<(Vec<Replacement>, RetractionFacts), Failure> {
        let shards = placements::shards(self.folder)?;
        let found = placements::find(&self.folder.workdir, &shards, &self.fresh)?;
        let mut gaps: Vec<Vec<Gap>> = found.into_iter().map(|of_shard| of_shard.into_iter().map(gap).collect()).collect();
        if self.folder.recipe.corpus.as_ref().is_some_and(|corpus| corpus.mixture.is_some()) {
            self.refill(&shards, &mut gaps)?;
        }
        let touched: Vec<(&Shard, &[Gap])> =
            shards.iter().zip(&gaps).filter(|(_, gaps)| !gaps.is_empty()).map(|(shard, gaps)| (shard, gaps.as_slice())).collect();
        observer.grow(touched.len() as u64);
        // All are written and proved before the first one is published. More than can be open at once are written twice.
        if touched.len() > MAX_DRAFTS {
            observer.grow(touched.len() as u64);
            touched.par_iter().try_for_each(|(shard, gaps)| self.draft(shard, gaps, observer).map(drop))?;
        }
        let (mut replaced, mut changes) = (Vec::new(), Vec::new());
        for together in touched.chunks(MAX_DRAFTS) {
            let drafts: Vec<Result<Draft, Failure>> =
                together.par_iter().map(|(shard, gaps)| self.draft(shard, gaps, observer)).collect();
            let drafts = drafts.into_iter().collect::<Result<Vec<_>, _>>()?;
            for ((shard, _), draft) in together.iter().zip(drafts) {
                changes.push((draft.sequences_left_out, draft.segments_filled));
                let new = draft.publish(self.number)?;
                replaced.push(Replacement::object(shard.part.stage().name(), shard.entry.clone(), new));
            }
        }
        Ok((replaced, self.facts(&touched, &changes)?))
    }

    fn draft(&self, shard: &Shard, gaps: &[Gap], observer: &dyn Observer) -> Result<Draft, Failure> {
        observer.stopped().map_or(Ok(()), |signal| Err(Failure::Stopped(signal)))?;
        let draft = rewrite(self.folder, shard, gaps)?;
        observer.advance(1);
        Ok(draft)
    }

    /// Fills the gaps of the training shards, domain by domain.
    fn refill(&self, shards: &[Shard], gaps: &mut [Vec<Gap>]) -> Result<(), Failure> {
        let sources = self.folder.sources();
        let all: BTreeSet<u128> = self.fresh.union(&self.gone).copied().collect();
        for domain in 0..DOMAIN_NAMES.len() {
            let of_domain: Vec<u16> =
                (0..).zip(sources).filter(|(_, s)| domain_index(s.domain) == domain).map(|(i, _)| i).collect();
            let train = shards.iter().zip(gaps.iter_mut()).filter(|(shard, _)| shard.part == Part::Train);
            let mut holes: Vec<&mut Hole> = train
                .flat_map(|(_, gaps)| gaps.iter_mut().map(|gap| &mut gap.hole))
                .filter(|hole| of_domain.contains(&hole.source))
                .collect();
            refill::fill(&mut holes, &of_domain, |source| supply::continuation(self.folder, shards, &all, source))?;
        }
        Ok(())
    }

    /// What the record says; of each shard that is touched `changes` are the sequences left out and the segments filled in.
    fn facts(&self, touched: &[(&Shard, &[Gap])], changes: &[(u64, u64)]) -> Result<RetractionFacts, Failure> {
        let mut facts =
            RetractionFacts { copies: self.copies(), checkpoints: checkpoints(self.folder)?, ..RetractionFacts::default() };
        let has_quota = self.folder.recipe.corpus.as_ref().is_some_and(|corpus| corpus.mixture.is_some());
        let mut pieces: BTreeMap<u128, (u64, u64)> = BTreeMap::new();
        for ((shard, gaps), (left_out, filled)) in touched.iter().zip(changes) {
            let part = facts.parts.entry(shard.part.name().to_owned()).or_default();
            part.shards += 1;
            part.sequences += left_out;
            *part.segments_filled.get_or_insert_default() += filled;
            for gap in *gaps {
                let (tokens, short) = (u64::from(gap.hole.tokens), u64::from(gap.hole.short()));
                part.segments += 1;
                part.tokens += tokens;
                part.refilled += tokens - short;
                let of_document = pieces.entry(gap.placement.document).or_default();
                *of_document = (of_document.0 + 1, of_document.1 + tokens);
                if shard.part == Part::Train {
                    part.short += if has_quota { short } else { 0 };
                    self.count_sources(gap, &mut facts.sources);
                }
            }
        }
        let mut asked = BTreeSet::new();
        for key in &self.fresh {
            let Subject { id, version, asked: by, .. } = &self.subjects.documents[key];
            asked.extend(by.iter().cloned());
            let (segments, tokens) = pieces.get(key).copied().unwrap_or_default();
            facts.documents.push(RetractedDocument { id: id.clone(), version: *version, key: key_text(*key), segments, tokens });
        }
        facts.documents.sort();
        facts.asked = asked.into_iter().collect();
        Ok(facts)
    }

    fn count_sources(&self, gap: &Gap, sources: &mut BTreeMap<String, SourceChange>) {
        let name = |source: u16| self.folder.sources().get(usize::from(source)).map_or_else(String::new, |s| s.name.clone());
        sources.entry(name(gap.hole.source)).or_default().tokens += u64::from(gap.hole.tokens);
        for piece in &gap.hole.filling {
            sources.entry(name(piece.run.source)).or_default().refilled += u64::from(piece.length);
        }
    }

    /// Copies of what is retracted now.
    fn copies(&self) -> Vec<CopyOf> {
        let ids = self.fresh.iter().map(|key| self.subjects.documents[key].id.as_str()).collect();
        self.subjects.standing(&ids, &|key| self.fresh.contains(key) || self.gone.contains(key))
    }
}

fn gap(placement: Placement) -> Gap {
    let tokens = placement.tokens.end - placement.tokens.start;
    Gap { hole: Hole::new(placement.source, tokens), placement }
}

/// Checkpoints that are complete.
fn checkpoints(folder: &Folder) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    for object in mellama_storage::list_all(&**folder.workdir.store(), "checkpoints/") {
        found.extend(object?.key.as_str().strip_suffix("/manifest.json").map(str::to_owned));
    }
    Ok(found)
}
