//! The report page: one self-contained HTML file from the manifests. No script, no network, no text of any document.
//!
//! Everything is escaped by the template engine; charts are inline SVG with their numbers beside them in tables.

mod charts;
mod contamination;
mod retractions;
mod sections;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use mellama_storage::StageManifest;

use crate::figures::Figures;
use crate::trained::TrainedBefore;
use crate::training::metrics::Metrics;

pub(crate) use retractions::with_retractions;
pub(crate) use sections::Evaluations;

/// Everything that the page shows.
pub(crate) struct Report<'a> {
    /// The run's name.
    pub name: &'a str,
    /// Seed of everything drawn.
    pub seed: u64,
    /// Version of the program.
    pub version: &'a str,
    /// Sources in recipe order: name, domain, sensitivity.
    pub sources: Vec<(String, String, String)>,
    /// Finished stages in order.
    pub manifests: Vec<StageManifest>,
    /// Records of continual pre-training and of instruction tuning.
    pub cpt: Metrics,
    /// The same of instruction tuning.
    pub instruct: Metrics,
    /// Scores.
    pub evaluations: Evaluations,
    /// Figures of the shards, with the retractions before the page was written.
    pub figures: Figures,
    /// Checkpoints that were trained on other shards.
    pub models: Vec<TrainedBefore>,
}

/// Style of the page; readable without colour, and on paper.
const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1c2733;--soft:#5b6b7b;--line:#d7dee5;--mark:#0b6e99;--warm:#b8560f;--paper:#fff;--band:#f4f7f9}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9fb0c0;--line:#33404d;--mark:#5bb8e0;--warm:#eaa26a;--paper:#10171e;--band:#18222c}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:74rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.7rem;margin:0 0 .2rem}h2{font-size:1.2rem;margin:2.2rem 0 .6rem;border-bottom:1px solid var(--line);padding-bottom:.2rem}
p{margin:.4rem 0}.soft{color:var(--soft)}code{font-family:ui-monospace,monospace;font-size:.85em;overflow-wrap:anywhere}
.scroll{overflow-x:auto}table+table,.scroll+.scroll{margin-top:1.2rem}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:.3rem .6rem;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}thead th{color:var(--soft);font-weight:600;font-size:.85rem;white-space:normal;vertical-align:bottom}
tbody tr:nth-child(even){background:var(--band)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.8rem;margin:1rem 0}
.tile{border:1px solid var(--line);border-radius:.5rem;padding:.7rem .9rem}.tile b{display:block;font-size:1.35rem}
svg{max-width:100%;height:auto}td svg{max-width:none;width:7rem}svg text{fill:var(--soft);font:12px system-ui,sans-serif}
.axis{stroke:var(--line)}.curve{fill:none;stroke:var(--mark);stroke-width:2}.bar{fill:var(--mark)}.bar2{fill:var(--warm)}
";

/// Renders the page.
pub(crate) fn render(report: &Report<'_>) -> String {
    let page: Markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (report.name) " – mellama report" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (report.name) }
                p.soft { "mellama " (report.version) " · seed " (report.seed) }
                (sections::tiles(report))
                (retractions::section(&report.figures, &report.models))
                (sections::funnel(report))
                (sections::rejects(report))
                (sections::sequence(report))
                (sections::duplicates(report))
                (contamination::section(report))
                (sections::mixture(report))
                (sections::shards(report))
                (sections::instruction_data(report))
                (sections::training(report))
                (sections::scores(report))
                (sections::digests(report))
            }
        }
    };
    page.into_string()
}
