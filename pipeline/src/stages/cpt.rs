//! `cpt`: continual pre-training on the published shards.

use mellama_sources::Sensitivity;
use mellama_train::trainer::{Heldout, HeldoutSource, Kind};

use crate::context::Context;
use crate::failure::Failure;
use crate::model_card::TrainedOn;
use crate::recipe::SourceRecipe;
use crate::stage::{Stage, TaskOutput};
use crate::training::{self, Training};

/// Trains from the model of the recipe.
pub(crate) fn run_task(context: &Context<'_>) -> Result<TaskOutput, Failure> {
    let data = context.manifest(Stage::Publish)?;
    let train = training::open_shards(context, &data, "shards/cpt/train-")?;
    let train = train.ok_or_else(|| {
        Failure::Policy("cpt: the mixture has no sequence to train on; raise mixture.tokens or lower pack.heldout".into())
    })?;
    let heldout = training::open_shards(context, &data, "shards/cpt/heldout-")?;
    let sources = &context.corpus().source;
    let heldout_sources = sources.iter().map(|s| HeldoutSource { name: s.name.clone(), domain: s.domain.to_string() }).collect();
    let kept = heldout.as_ref().map(|set| Heldout { sequences: set, sources: heldout_sources });
    let inherited = training::starting_sensitivity(context)?;
    let highest = sources.iter().map(SourceRecipe::resolved_sensitivity).chain([inherited]).max();
    let training = Training {
        kind: Kind::Cpt,
        spec: context.file.recipe.train.clone().expect("the stage runs only with [train]"),
        base: training::starting_weights(context)?,
        data: &data,
        sequences: train,
        heldout: kept,
        sources: sources.iter().map(TrainedOn::of_corpus).collect(),
        sensitivity: highest.unwrap_or(Sensitivity::Open),
        template: None,
    };
    training.run(context)
}
