//! The section on benchmarks: what was looked for and what not, who holds it, and how much the rest shares.

use maud::{Markup, html};
use serde_json::Value;

use super::Report;
use super::sections::{count, manifest, number};
use crate::stage::Stage;

pub(super) fn section(report: &Report<'_>) -> Markup {
    let Some(found) = manifest(report, Stage::Dedup).map(|m| &m.facts["contamination"]).filter(|v| v.is_object()) else {
        return html! {};
    };
    let sets: Vec<(&String, &Value)> = found["benchmarks"].as_object().into_iter().flatten().collect();
    html! {
        h2 { "Benchmarks kept out" }
        p {
            (number(&found["documents"])) " documents hold a benchmark item, by " (number(&found["ngram"])) "-word n-grams (at least "
            (number(&Value::from((100.0 * found["min_share"].as_f64().unwrap_or(0.0)).round() as u64))) " % of a part) or by the name of a record (policy: "
            (found["policy"].as_str().unwrap_or("")) "); " (number(&found["documents_partial"])) " more share less. "
            (number(&found["items_unchecked"])) " items are too short to check and name no record."
        }
        (items(&sets))
        (matrix(report, found, &sets))
        (partial(&sets))
        p.soft { (number(&found["boilerplate_grams"])) " n-grams in more than 10 documents count as boilerplate. Ids, items and shares of every document are in contamination/; texts are not." }
    }
}

/// Items and documents of each benchmark.
fn items(sets: &[(&String, &Value)]) -> Markup {
    let columns =
        ["items", "items_by_ngram", "items_by_id", "items_unchecked", "items_boilerplate", "items_found", "items_found_by_id"];
    let taken = |set: &Value, what: &str| match set[what]["documents"].as_u64().unwrap_or(0) {
        0 => "0".to_owned(),
        documents => format!("{} ({} bytes)", count(documents), number(&set[what]["bytes"])),
    };
    html! {
        div.scroll { table {
            thead { tr {
                th { "benchmark" } th { "items" } th { "checked by n-grams" } th { "by name" } th { "not checked" } th { "only boilerplate" } th { "found" } th { "of these by name" }
                th { "documents removed" } th { "cut" } th { "reported" } th { "sharing less" }
            } }
            tbody { @for (name, set) in sets { tr {
                td { (name) } @for column in columns { td { (number(&set[column])) } }
                @for what in ["removed", "cut", "reported"] { td { (taken(set, what)) } }
                td { (number(&set["documents_partial"])) }
            } } }
        } }
    }
}

/// Source × benchmark: documents that hold an item, and how many items.
fn matrix(report: &Report<'_>, found: &Value, sets: &[(&String, &Value)]) -> Markup {
    let cell = |source: &str, set: &str| match found["source_by_benchmark"][source][set].as_u64().unwrap_or(0) {
        0 => "0".to_owned(),
        documents => format!("{} ({})", count(documents), number(&found["source_by_benchmark_items"][source][set])),
    };
    html! {
        h3 { "Source × benchmark" }
        div.scroll { table {
            thead { tr { th { "source" } @for (set, _) in sets { th { (set) } } } }
            tbody { @for (source, _, _) in &report.sources { tr { td { (source) } @for (set, _) in sets { td { (cell(source, set)) } } } } }
        } }
        p.soft { "Documents that hold an item, and in brackets the items." }
    }
}

/// How much the documents share that hold no item whole.
fn partial(sets: &[(&String, &Value)]) -> Markup {
    let some = |set: &Value| set["documents_partial"].as_u64().unwrap_or(0) > 0;
    if !sets.iter().any(|(_, set)| some(set)) {
        return html! {};
    }
    html! {
        h3 { "Documents that share less, by the greatest share of an item's part" }
        div.scroll { table {
            thead { tr { th { "benchmark" } @for tenth in 0..10 { th { (tenth * 10) "–" (tenth * 10 + 10) " %" } } } }
            tbody { @for (name, set) in sets.iter().filter(|(_, set)| some(set)) { tr {
                td { (name) } @for tenth in 0..10 { td { (number(&set["partial_by_tenth"][tenth])) } }
            } } }
        } }
    }
}
