//! `report`: the page that a person opens, from the manifests of the stages before it.

use std::io::Write;

use mellama_storage::{Counts, Key, StageManifest, Tally};
use mellama_train::trainer::Kind;
use serde_json::Value;

use crate::context::Context;
use crate::failure::Failure;
use crate::figures::Figures;
use crate::page::{self, Report};
use crate::stage::{Stage, TaskOutput};
use crate::trained;
use crate::training::metrics::{self, Metrics};

/// The page's name.
const PAGE: &str = "report.html";

/// Writes `report.html`.
pub(crate) fn run_task(context: &Context<'_>) -> Result<TaskOutput, Failure> {
    let recipe = &context.file.recipe;
    let stages: Vec<Stage> = Stage::of(recipe).into_iter().filter(|stage| *stage != Stage::Report).collect();
    let manifests = stages.iter().map(|stage| context.manifest(*stage)).collect::<Result<Vec<_>, _>>()?;
    let records = |stage: Stage, kind: Kind| {
        if stages.contains(&stage) { metrics::read(context, kind) } else { Ok(Metrics::default()) }
    };
    let mut evaluations = Vec::new();
    if stages.contains(&Stage::Evaluate) {
        for commit in context.commits(Stage::Evaluate)? {
            evaluations.push((commit.facts["task"].as_str().unwrap_or_default().to_owned(), commit.facts));
        }
    }
    let find = |stage: Stage| manifests.iter().find(|manifest: &&StageManifest| manifest.stage == stage.name());
    let retractions = context.workdir.read_retractions(&context.plan.id)?;
    let figures = Figures::of(find(Stage::Publish), find(Stage::InstructData), &retractions)?;
    let sources = recipe.corpus.iter().flat_map(|corpus| &corpus.source);
    let report = Report {
        name: &recipe.name,
        seed: recipe.seed,
        version: env!("CARGO_PKG_VERSION"),
        sources: sources.map(|s| (s.name.clone(), s.domain.to_string(), s.resolved_sensitivity().to_string())).collect(),
        cpt: records(Stage::Cpt, Kind::Cpt)?,
        instruct: records(Stage::Instruct, Kind::Instruct)?,
        manifests,
        evaluations,
        figures,
        models: trained::before(context.workdir, &context.plan.id, None)?,
    };
    let html = page::render(&report);
    let there = context.workdir.store().read(&Key::new(PAGE)?, None, None);
    if there.is_ok_and(|there| there != html.as_bytes()) {
        // No commit names it: an attempt left it that was killed, and a retraction has changed the figures since.
        context.workdir.store().delete(&Key::new(PAGE)?)?;
    }
    let mut part = context.workdir.part()?;
    part.write_all(html.as_bytes()).map_err(|e| Failure::writing(PAGE, &e))?;
    let entry = part.finish_named(PAGE, 1)?;
    let seen = Tally { documents: stages.len() as u64, bytes: 0 };
    let counts = Counts { read: seen, written: seen, ..Counts::default() };
    Ok(TaskOutput { objects: vec![entry], counts, facts: Value::Null })
}
