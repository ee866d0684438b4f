//! The closing summary of a run: what came of it, where it lies, what to do next.

use std::collections::BTreeMap;

use mellama_storage::{Counts, Request, StageManifest, Usage};
use serde_json::Value;

use crate::failure::Failure;
use crate::figures::{Figures, PartFigures};
use crate::placements::Part;
use crate::runner::StageResult;
use crate::session::Session;
use crate::stage::Stage;
use crate::stages::mix::MixFacts;
use crate::training::TrainFacts;
use crate::wording::counted;

/// The summary of a run.
///
/// # Errors
/// `Failure::Verification` when a manifest is damaged.
pub fn text(session: &Session, results: &[StageResult]) -> Result<String, Failure> {
    let mut lines = vec![String::new()];
    lines.push(format!("{:<14} {:>10} {:>10} {:>9} {:>9}  digest", "stage", "read", "written", "dropped", "rejected"));
    for result in results {
        let Counts { read, written, dropped, rejected } = result.counts;
        let digest = result.digest.as_deref().map_or("", |digest| &digest[..16]);
        lines.push(format!(
            "{:<14} {:>10} {:>10} {:>9} {:>9}  {digest}",
            result.stage, read.documents, written.documents, dropped.documents, rejected.documents
        ));
    }
    lines.push(String::new());
    for result in results {
        lines.extend(detail(session, result.stage)?);
    }
    let usage = session.file.stores().usage();
    if !usage.is_nothing() {
        lines.push(requests(&usage));
    }
    lines.extend(next(session, results));
    Ok(lines.join("\n"))
}

/// The summary of one stage.
///
/// # Errors
/// As `text`.
pub fn stage_text(session: &Session, result: &StageResult) -> Result<String, Failure> {
    let mut lines = detail(session, result.stage)?;
    lines.push(format!("{}: complete, manifest {}", result.stage, result.manifest));
    Ok(lines.join("\n"))
}

/// What was asked of buckets.
fn requests(usage: &Usage) -> String {
    format!(
        "requests: {} GET ({} bytes), {} PUT and {} parts ({} bytes), {} HEAD, {} LIST, {} DELETE; {} repeated, {} refused to slow down",
        usage.of(Request::Get),
        usage.read_bytes,
        [Request::Put, Request::Begin, Request::Complete].map(|kind| usage.of(kind)).iter().sum::<u64>(),
        usage.of(Request::Part),
        usage.written_bytes,
        usage.of(Request::Head),
        usage.of(Request::List),
        usage.of(Request::Delete),
        usage.retries,
        usage.throttled
    )
}

fn detail(session: &Session, stage: &str) -> Result<Vec<String>, Failure> {
    let Some(manifest) = session.workdir.read_manifest(&session.plan.id, stage)? else { return Ok(Vec::new()) };
    let mut lines = Vec::new();
    if stage == Stage::Dedup.name() {
        lines.extend(removals(&manifest.facts["removed"]));
    }
    if stage == Stage::Mix.name()
        && let Ok(facts) = serde_json::from_value::<MixFacts>(manifest.facts.clone())
    {
        let quotas: Vec<String> = facts.quotas.iter().map(|(domain, tokens)| format!("{domain} {tokens}")).collect();
        lines.push(format!("tokens: {} in all: {}", facts.total, quotas.join(", ")));
        let used = facts.sources.iter().filter(|share| share.quota > 0);
        lines.extend(used.map(|share| {
            let most = facts.max_epochs.get(&share.source).copied().unwrap_or(1);
            format!("epochs: {} {:.3} of at most {most}, {} tokens", share.source, share.epochs, share.quota)
        }));
    }
    if stage == Stage::Publish.name() {
        lines.extend(shards(session, &manifest)?);
    }
    if (stage == Stage::Cpt.name() || stage == Stage::Instruct.name())
        && let Ok(facts) = serde_json::from_value::<TrainFacts>(manifest.facts.clone())
    {
        let loss = |loss: Option<f64>| loss.map_or("-".to_owned(), |loss| format!("{loss:.3}"));
        let (first, last) = (loss(facts.first_loss), loss(facts.last_loss));
        lines.push(format!("{stage}: {} steps, loss {first} to {last}", facts.steps));
    }
    if stage == Stage::Evaluate.name() {
        lines.extend(crate::stages::evaluate::lines(&manifest.facts));
    }
    Ok(lines)
}

/// What the training shards hold, where that is not what the mixture says: whole sequences, or retractions.
fn shards(session: &Session, manifest: &StageManifest) -> Result<Vec<String>, Failure> {
    let records = session.workdir.read_retractions(&session.plan.id)?;
    let figures = Figures::of(Some(manifest), None, &records)?;
    let Some(PartFigures { published, now, .. }) = figures.part(Part::Train) else { return Ok(Vec::new()) };
    let corpus = session.file.recipe.corpus.as_ref();
    let mut lines = Vec::new();
    if corpus.and_then(|corpus| corpus.mixture.as_ref()).is_some_and(|mixture| mixture.unit == "sequences") {
        lines.push(format!("published: {} whole sequences, {} tokens for training", published.sequences, published.tokens));
    }
    if !records.is_empty() {
        let (documents, sequences, tokens) = (counted(figures.documents(), "document"), now.sequences, now.tokens);
        lines.push(format!(
            "retracted since: {documents}; {sequences} sequences, {tokens} tokens for training now, {} when published",
            published.tokens
        ));
        let changed = figures.sources.iter().filter(|source| source.taken + source.refilled > 0);
        lines.extend(changed.map(|source| {
            format!("retracted since: {} {} tokens now, {} when published", source.source, source.now(), source.published)
        }));
    }
    Ok(lines)
}

/// Removed documents by reason, over all sources.
fn removals(removed: &Value) -> Option<String> {
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for (reason, count) in removed.as_object()?.values().filter_map(Value::as_object).flatten() {
        *reasons.entry(reason).or_default() += count.as_u64().unwrap_or(0);
    }
    let reasons: Vec<String> = reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    (!reasons.is_empty()).then(|| format!("removed: {}", reasons.join(", ")))
}

/// Where things are and what to type next.
fn next(session: &Session, results: &[StageResult]) -> Vec<String> {
    let workdir = session.workdir_path();
    let shown = workdir.display();
    let done = |stage: Stage| results.iter().any(|r| r.stage == stage.name() && r.complete);
    let mut lines = vec![String::new(), format!("everything is in  {shown}")];
    if done(Stage::Publish) {
        lines.push(format!("  shards          {shown}/shards/cpt/    (open with pandas, DuckDB or datasets)"));
        lines.push(format!("  dataset card    {shown}/README.md"));
    }
    if let Some(folder) = model_folder(session) {
        lines.push(format!("  model           {shown}/{folder}"));
    }
    if done(Stage::Report) {
        let remark = if shown.to_string().contains("://") { "" } else { "    (open it in a browser)" };
        lines.push(format!("  report          {shown}/report.html{remark}"));
    }
    lines.push(String::new());
    lines.push("next:".into());
    lines.push(format!("  mellama verify {shown}"));
    if let Some(shard) = first_shard(session) {
        lines.push(format!("  mellama inspect {shown}/{shard}"));
    }
    if let Some(folder) = model_folder(session) {
        lines.push(format!("  mellama generate {shown}/{folder} --prompt \"...\" --greedy"));
    }
    lines
}

/// Name of the first shard of the training part.
fn first_shard(session: &Session) -> Option<String> {
    let manifest = session.workdir.read_manifest(&session.plan.id, Stage::Publish.name()).ok()??;
    let manifest = session.workdir.after_retractions(manifest).ok()?;
    manifest.objects.into_iter().map(|object| object.key).find(|key| key.starts_with("shards/cpt/train-"))
}

/// Folder of the most trained model of the run.
pub(crate) fn model_folder(session: &Session) -> Option<String> {
    [Stage::Instruct, Stage::Cpt].into_iter().find_map(|stage| {
        let manifest = session.workdir.read_manifest(&session.plan.id, stage.name()).ok()??;
        serde_json::from_value::<TrainFacts>(manifest.facts).ok().map(|facts| facts.model_folder)
    })
}
