//! `cpt`: continual pre-training on the published shards.

use mellama_shards::ShardSet;
use mellama_train::trainer::{Heldout, HeldoutSource, Kind};

use crate::context::Context;
use crate::failure::{Failure, chain};
use crate::stage::{Stage, TaskOutput};
use crate::training::{self, Training};

/// Trains from the model of the recipe.
pub(crate) fn run_task(context: &Context<'_>) -> Result<TaskOutput, Failure> {
    let data = context.manifest(Stage::Publish)?;
    let open = |part: &str| {
        let wanted = format!("shards/cpt/{part}-");
        let objects: Vec<_> = data.objects.iter().filter(|o| o.key.starts_with(&wanted)).cloned().collect();
        ShardSet::open(context.workdir, &objects).map_err(|e| Failure::Verification(chain(&e)))
    };
    let heldout = open("heldout")?;
    let sources = &context.corpus().source;
    let heldout_sources =
        sources.iter().map(|s| HeldoutSource { name: s.name.clone(), domain: s.domain.to_string() }).collect();
    let kept = (!training::is_empty(&heldout)).then_some(Heldout { sequences: &heldout, sources: heldout_sources });
    let sensitivity = context.file.recipe.sensitivities();
    let highest = sources.iter().filter_map(|s| sensitivity.get(&s.name)).max();
    let training = Training {
        kind: Kind::Cpt,
        spec: context.file.recipe.train.clone().expect("the stage runs only with [train]"),
        base: training::starting_weights(context)?,
        data: &data,
        sequences: open("train")?,
        heldout: kept,
        source_names: sources.iter().map(|s| s.name.clone()).collect(),
        sensitivity: highest.map_or("open", |s| s.as_str()).to_owned(),
    };
    training.run(context)
}
