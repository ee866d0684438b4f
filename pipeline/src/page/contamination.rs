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
            "Not checked, because too short and naming no record: " (number(&found["items_unchecked"])) " items."
        }
        (items(&sets))
        (documents(&sets))
        (matrix(report, found, &sets))
        (partial(&sets))
        p.soft { (number(&found["boilerplate_grams"])) " n-grams in more than 10 documents count as boilerplate. Ids, items and shares of every document are in contamination/; texts are not." }
    }
}

/// Which items of each benchmark could be looked for, and which were found.
fn items(sets: &[(&String, &Value)]) -> Markup {
    let columns =
        ["items", "items_by_ngram", "items_by_id", "items_unchecked", "items_boilerplate", "items_found", "items_found_by_id"];
    html! {
        div.scroll { table {
            thead { tr { th { "items of" } th { "all" } th { "checked by n-grams" } th { "by name" } th { "not checked" } th { "boilerplate" } th { "found" } th { "by name" } } }
            tbody { @for (name, set) in sets { tr { td { (name) } @for column in columns { td { (number(&set[column])) } } } } }
        } }
    }
}

/// What became of the documents that hold an item of a benchmark, or share less with one.
fn documents(sets: &[(&String, &Value)]) -> Markup {
    let taken = |set: &Value, what: &str| match set[what]["documents"].as_u64().unwrap_or(0) {
        0 => "–".to_owned(),
        documents => format!("{} ({} bytes)", count(documents), number(&set[what]["bytes"])),
    };
    html! {
        div.scroll { table {
            thead { tr { th { "documents holding items of" } th { "removed" } th { "cut" } th { "reported" } th { "sharing less" } } }
            tbody { @for (name, set) in sets { tr {
                td { (name) } @for what in ["removed", "cut", "reported"] { td { (taken(set, what)) } }
                td { (number(&set["documents_partial"])) }
            } } }
        } }
    }
}

/// Source × benchmark: documents that hold an item, and how many items. Benchmarks are the rows, for there are more of them.
fn matrix(report: &Report<'_>, found: &Value, sets: &[(&String, &Value)]) -> Markup {
    let cell = |source: &str, set: &str| match found["source_by_benchmark"][source][set].as_u64().unwrap_or(0) {
        0 => "–".to_owned(),
        documents => format!("{} ({})", count(documents), number(&found["source_by_benchmark_items"][source][set])),
    };
    html! {
        h3 { "Source × benchmark" }
        div.scroll { table {
            thead { tr { th { "benchmark" } @for (source, _, _) in &report.sources { th { (source) } } } }
            tbody { @for (set, _) in sets { tr { td { (set) } @for (source, _, _) in &report.sources { td { (cell(source, set)) } } } } }
        } }
        p.soft { "Documents of the source that hold an item, and in brackets the items. A document counts in every benchmark that it holds an item of." }
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
