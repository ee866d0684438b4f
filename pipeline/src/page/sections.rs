//! The sections of the report, each from the manifests of its stages; a stage that did not run has no section.

use std::collections::BTreeMap;

use maud::{Markup, html};
use mellama_storage::{Counts, StageManifest};
use mellama_train::trainer::HeldoutRecord;
use serde_json::Value;

use super::Report;
use super::charts::{self, Series};
use crate::placements::Part;
use crate::runner;
use crate::stage::Stage;
use crate::stages::instruct_data::InstructFacts;
use crate::stages::mix::{MixFacts, ShareFacts};
use crate::training::TrainFacts;
use crate::training::metrics::Metrics;

/// Scores by task: task name and the facts of its commit.
pub(crate) type Evaluations = Vec<(String, Value)>;

pub(super) fn manifest<'r>(report: &'r Report<'_>, stage: Stage) -> Option<&'r StageManifest> {
    report.manifests.iter().find(|m| m.stage == stage.name())
}

fn facts<T: serde::de::DeserializeOwned>(report: &Report<'_>, stage: Stage) -> Option<T> {
    serde_json::from_value(manifest(report, stage)?.facts.clone()).ok()
}

/// Digits in groups of three.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !text.is_empty() {
            text.push('\u{202f}');
        }
        text.push_str(std::str::from_utf8(group).expect("digits"));
    }
    text
}

pub(super) fn number(value: &Value) -> String {
    value.as_u64().map_or_else(|| value.as_f64().map_or("–".into(), |v| format!("{v:.4}")), count)
}

pub(super) fn tiles(report: &Report<'_>) -> Markup {
    let ingest = manifest(report, Stage::Ingest).map(|m| m.counts);
    let mix: Option<MixFacts> = facts(report, Stage::Mix);
    let published = report.figures.part(Part::Train).map(|train| train.published.tokens);
    let train: Option<TrainFacts> = facts(report, Stage::Cpt);
    html! {
        div.tiles {
            @if let Some(counts) = ingest {
                div.tile { b { (count(counts.read.documents)) } "records read" }
                div.tile { b { (count(counts.written.documents)) } "documents" }
            }
            @if let Some(tokens) = published.or(mix.map(|mix| mix.total)) { div.tile { b { (count(tokens)) } "training tokens published" } }
            @if let Some(train) = train {
                div.tile { b { (count(train.parameters)) } "parameters" }
                @if let Some(loss) = train.last_loss { div.tile { b { (format!("{loss:.3}")) } "last pre-training loss" } }
            }
            @for (task, value) in &report.evaluations {
                @if let Some(score) = last_accuracy(value) { div.tile { b { (format!("{:.1} %", 100.0 * score)) } (task) " accuracy" } }
            }
        }
    }
}

/// Accuracy of the most trained model of a task.
fn last_accuracy(value: &Value) -> Option<f64> {
    value["models"].as_array()?.last()?["accuracy"].as_f64()
}

/// Where every record went, source by source.
pub(super) fn funnel(report: &Report<'_>) -> Markup {
    let Some(ingest) = manifest(report, Stage::Ingest) else { return html! {} };
    let removed = manifest(report, Stage::Dedup).map(|m| m.facts["removed"].clone()).unwrap_or_default();
    let tokens = manifest(report, Stage::Tokenize).map(|m| m.facts["sources"].clone()).unwrap_or_default();
    html! {
        h2 { "Where every record went" }
        div.scroll { table {
            thead { tr { th { "source" } th { "domain" } th { "sensitivity" } th { "read" } th { "rejected" } th { "dropped by rules" } th { "withdrawn, duplicates, leaks" } th { "kept" } th { "tokens" } th { "held out" } th { "" } } }
            tbody { @for (name, domain, sensitivity) in &report.sources {
                @let counts: Counts = serde_json::from_value(ingest.facts["sources"][name]["counts"].clone()).unwrap_or_default();
                @let gone: u64 = removed[name].as_object().map_or(0, |reasons| reasons.iter().filter(|(r, _)| *r != "contaminated-cut").filter_map(|(_, n)| n.as_u64()).sum());
                @let read = counts.read.documents.max(1) as f64;
                tr {
                    td { (name) } td { (domain) } td { (sensitivity) }
                    td { (count(counts.read.documents)) } td { (count(counts.rejected.documents)) } td { (count(counts.dropped.documents)) }
                    td { (count(gone)) } td { (count(counts.written.documents - gone)) }
                    td { (number(&tokens[name]["tokens"])) } td { (number(&tokens[name]["heldout_tokens"])) }
                    td { (charts::bar((counts.written.documents - gone) as f64 / read, gone as f64 / read)) }
                }
            } }
        } }
        p.soft { "Bar: kept, then removed as withdrawn, duplicate or leak, as shares of the records read. Every stage balances: read = written + dropped + rejected." }
    }
}

pub(super) fn rejects(report: &Report<'_>) -> Markup {
    let Some(ingest) = manifest(report, Stage::Ingest) else { return html! {} };
    let mut rows: Vec<(String, &str, String, u64)> = Vec::new();
    for (name, _, _) in &report.sources {
        let kinds = [
            ("rejected", "rejects"),
            ("dropped", "drops"),
            ("notice", "withdrawals"),
            ("changed", "changes"),
            ("removed inside", "removed"),
            ("identifier found", "phi"),
        ];
        for (kind, key) in kinds {
            for (reason, n) in ingest.facts["sources"][name]["facts"][key].as_object().into_iter().flatten() {
                rows.push((name.clone(), kind, reason.clone(), n.as_u64().unwrap_or(0)));
            }
        }
    }
    if rows.is_empty() {
        return html! {};
    }
    html! {
        h2 { "Rejects, drops, notices, changes and identifiers, by reason" }
        div.scroll { table {
            thead { tr { th { "source" } th { "what" } th { "reason" } th { "count" } } }
            tbody { @for (source, kind, reason, n) in &rows { tr { td { (source) } td { (kind) } td { (reason) } td { (count(*n)) } } } }
        } }
        p.soft { "Places (object and byte offset) are in rejects/, drops/, phi/ and withdrawals/; texts are not. Changes count documents by rule, dropped ones too." }
    }
}

/// Sources whose records replace each other: what was revised, deleted and retracted.
pub(super) fn sequence(report: &Report<'_>) -> Markup {
    let facts = manifest(report, Stage::Dedup).map(|m| &m.facts["sequence"]);
    let Some(sources) = facts.and_then(Value::as_object) else { return html! {} };
    html! {
        h2 { "Revisions, deletions and retractions" }
        div.scroll { table {
            thead { tr { th { "source" } th { "records" } th { "notices of deletion" } th { "of retraction" } th { "replaced" } th { "deleted" } th { "retracted" } th { "replaced by a dropped record" } } }
            tbody { @for (source, facts) in sources {
                @let removed = |reason: &str| number(&Value::from(facts["removed"][reason].as_u64().unwrap_or(0)));
                tr {
                    td { (source) } td { (number(&facts["records"])) } td { (number(&facts["notices"]["deleted"])) } td { (number(&facts["notices"]["retracted"])) }
                    td { (removed("same-id")) } td { (removed("deleted")) } td { (removed("retracted")) } td { (removed("superseded")) }
                }
            } }
        } }
        p.soft { "Documents removed, but for records and notices. A retracted record itself is among the drops of its source." }
    }
}

pub(super) fn duplicates(report: &Report<'_>) -> Markup {
    let Some(found) = manifest(report, Stage::Dedup).map(|m| &m.facts["duplicates"]).filter(|v| v.is_object()) else {
        return html! {};
    };
    let rules: BTreeMap<String, u64> = serde_json::from_value(found["rules"].clone()).unwrap_or_default();
    html! {
        h2 { "Duplicates" }
        p { "Bands proposed " (number(&found["candidates"])) " pairs in " (number(&found["clusters"]["clusters"])) " clusters; " (number(&found["comparisons"])) " direct comparisons decided, " (number(&found["released_documents"])) " documents of earlier runs beside them (" (found["verify"].as_str().unwrap_or("")) ", hash specification " (number(&found["spec_version"])) ")." }
        div.scroll { table {
            thead { tr { th { "rule" } th { "documents removed" } } }
            tbody { @for (rule, n) in &rules { tr { td { (rule) } td { (count(*n)) } } } }
        } }
        @if let Some(clusters) = found["clusters"]["largest"].as_array().filter(|clusters| !clusters.is_empty()) {
            p { "The largest clusters. A large one is no loss by itself: only what was proved is removed." }
            div.scroll { table {
                thead { tr { th { "preferred document" } th { "documents" } th { "removed" } th { "their characters" } } }
                tbody { @for cluster in clusters { tr { td { (cluster["keeper"].as_str().unwrap_or("")) } td { (number(&cluster["documents"])) } td { (number(&cluster["removed"])) } td { (number(&cluster["removed_characters"])) } } } }
            } }
        }
        @if let Some(losses) = found["losses"].as_array() {
            div.scroll { table {
                thead { tr { th { "source" } th { "removed after a comparison" } th { "share of its characters" } } }
                tbody { @for loss in losses { tr { td { (loss["source"].as_str().unwrap_or("")) } td { (number(&loss["documents"])) } td { (format!("{:.2} %", 100.0 * loss["share"].as_f64().unwrap_or(0.0))) } } } }
            } }
        }
    }
}

pub(super) fn mixture(report: &Report<'_>) -> Markup {
    let Some(mix) = facts::<MixFacts>(report, Stage::Mix) else { return html! {} };
    // Where whole sequences are published, what stands in those over the quota is not used.
    let used = |share: &ShareFacts| {
        let published = report.figures.sources.iter().find(|figures| figures.source == share.source);
        published.map_or(share.quota, |figures| figures.published)
    };
    let epochs = |share: &ShareFacts| {
        if used(share) == share.quota { share.epochs } else { used(share) as f64 / share.supply.max(1) as f64 }
    };
    html! {
        h2 { "Mixture" }
        p { (count(mix.total)) " tokens: " @for (domain, tokens) in &mix.quotas { (domain) " " (count(*tokens)) "; " } "unit " (mix.unit) "." }
        div.scroll { table {
            thead { tr { th { "source" } th { "domain" } th { "tokens available" } th { "tokens used" } th { "epochs" } th { "" } } }
            tbody { @for share in &mix.sources { tr {
                td { (share.source) } td { (share.domain) } td { (count(share.supply)) } td { (count(used(share))) } td { (format!("{:.3}", epochs(share))) }
                td { (charts::bar(used(share) as f64 / mix.total.max(1) as f64, 0.0)) }
            } } }
        } }
    }
}

pub(super) fn shards(report: &Report<'_>) -> Markup {
    let Some(found) = manifest(report, Stage::Publish).map(|m| &m.facts["parts"]) else { return html! {} };
    html! {
        h2 { "Shards" }
        div.scroll { table {
            thead { tr { th { "part" } th { "shards" } th { "sequences" } th { "tokens" } th { "padding" } th { "segments" } } }
            tbody { @for part in ["train", "heldout"] { tr { td { (part) } @for key in ["shards", "sequences", "tokens", "padding", "segments"] { td { (number(&found[part][key])) } } } } }
        } }
    }
}

pub(super) fn instruction_data(report: &Report<'_>) -> Markup {
    let Some(found) = facts::<InstructFacts>(report, Stage::InstructData) else { return html! {} };
    html! {
        h2 { "Instruction data" }
        p { (count(found.sequences)) " sequences of " (count(u64::from(found.sequence_length))) " tokens; " (count(found.trained_tokens)) " of " (count(found.tokens)) " tokens are learned from; template " (found.template) "; " (count(found.too_long)) " conversations were longer than a sequence." }
        div.scroll { table {
            thead { tr { th { "source" } th { "read" } th { "rejected" } th { "too long" } th { "kept" } } }
            tbody { @for (name, counts) in &found.sources { tr { td { (name) } td { (count(counts.read.documents)) } td { (count(counts.rejected.documents)) } td { (count(counts.dropped.documents)) } td { (count(counts.written.documents)) } } } }
        } }
    }
}

pub(super) fn training(report: &Report<'_>) -> Markup {
    html! {
        (curve(report, Stage::Cpt, "Continual pre-training", &report.cpt))
        (curve(report, Stage::Instruct, "Instruction tuning", &report.instruct))
    }
}

fn curve(report: &Report<'_>, stage: Stage, title: &str, records: &Metrics) -> Markup {
    let Some(found) = facts::<TrainFacts>(report, stage) else { return html! {} };
    let points = records.steps.iter().filter_map(|r| Some((r.step as f64, r.loss?))).collect();
    let loss = |loss: Option<f64>| loss.map_or("–".to_owned(), |loss| format!("{loss:.4}"));
    html! {
        h2 { (title) }
        p { (count(found.steps)) " steps from " code { (found.base) } ", " (count(found.tokens)) " tokens seen, loss " (loss(found.first_loss)) " to " (loss(found.last_loss)) ", " (count(found.skipped_steps)) " steps skipped, sensitivity " (found.sensitivity) "." }
        (charts::curves(&[Series { name: "loss".to_owned(), points }], "training loss by step"))
        @if let Some(heldout) = &found.heldout {
            @let domains = heldout_curves(&records.heldout);
            @if domains.iter().any(|series| series.points.len() > 1) {
                p { "Loss on what was held out, by domain:" }
                (charts::curves(&domains, "held-out loss by step and domain"))
            }
            div.scroll { table {
                thead { tr { th { "held out" } th { "loss" } th { "tokens" } } }
                tbody { @for (domain, mean) in &heldout.domains { tr { td { (domain) } td { (loss(mean.loss)) } td { (count(mean.tokens)) } } } }
            } }
        }
    }
}

/// A curve a domain.
fn heldout_curves(records: &[HeldoutRecord]) -> Vec<Series> {
    let mut domains: BTreeMap<&String, Vec<(f64, f64)>> = BTreeMap::new();
    for record in records {
        for (domain, mean) in &record.domains {
            domains.entry(domain).or_default().extend(mean.loss.map(|loss| (record.steps_done as f64, loss)));
        }
    }
    domains.into_iter().map(|(name, points)| Series { name: name.clone(), points }).collect()
}

pub(super) fn scores(report: &Report<'_>) -> Markup {
    if report.evaluations.is_empty() {
        return html! {};
    }
    let decimal = |value: &Value| value.as_f64().map_or("–".to_owned(), |v| format!("{v:.4}"));
    html! {
        h2 { "Scores" }
        div.scroll { table {
            thead { tr { th { "task" } th { "model" } th { "items" } th { "accuracy" } th { "± standard error" } th { "length-normalized" } th { "macro-F1" } th { "by chance" } } }
            tbody { @for (task, value) in &report.evaluations { @for model in value["models"].as_array().into_iter().flatten() { tr {
                td { (task) } td { (model["model"].as_str().unwrap_or("")) } td { (number(&model["items"])) }
                td { (decimal(&model["accuracy"])) } td { (decimal(&model["accuracy_stderr"])) } td { (decimal(&model["accuracy_norm"])) } td { (decimal(&model["macro_f1"])) } td { (decimal(&model["chance"])) }
            } } } }
        } }
        p.soft { "Log-likelihood multiple choice; profile strict-1. Every item's answer is in evaluation/, by id." }
    }
}

pub(super) fn digests(report: &Report<'_>) -> Markup {
    html! {
        h2 { "Digests" }
        div.scroll { table {
            thead { tr { th { "stage" } th { "tasks" } th { "objects" } th { "digest of what it published" } } }
            tbody { @for manifest in &report.manifests { tr { td { (manifest.stage) } td { (count(manifest.tasks)) } td { (manifest.objects.len()) } td { code { (runner::digest(manifest)) } } } } }
        } }
        p.soft { "Equal inputs, recipe and seed give equal digests, whatever the threads, the memory, the tasks or the interruptions." }
    }
}

#[cfg(test)]
mod tests {
    use super::count;

    #[test]
    fn digits_are_grouped() {
        for (value, expected) in [(0, "0"), (999, "999"), (1000, "1\u{202f}000"), (1_234_567, "1\u{202f}234\u{202f}567")] {
            assert_eq!(count(value), expected);
        }
    }
}
