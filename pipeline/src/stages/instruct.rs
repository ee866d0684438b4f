//! `instruct`: instruction tuning on masked conversations, from the pre-trained model of this run where there is one.

use mellama_sources::Sensitivity;
use mellama_train::trainer::{Base, Kind};

use crate::context::Context;
use crate::failure::Failure;
use crate::model_card::TrainedOn;
use crate::stage::{Stage, TaskOutput};
use crate::training::{self, Training};

/// Trains adapters, or all weights, on the instruction shards.
pub(crate) fn run_task(context: &Context<'_>) -> Result<TaskOutput, Failure> {
    let data = context.manifest(Stage::InstructData)?;
    let recipe = context.file.recipe.instruct.as_ref().expect("the stage runs only with [instruct]");
    let sequences = training::open_shards(context, &data, "shards/instruct/train-")?;
    let sequences = sequences.ok_or_else(|| {
        Failure::Policy(
            "instruct: no conversation is left to train on; look into rejects/, or raise instruct.sequence_length".into(),
        )
    })?;
    let (base, inherited) = base(context)?;
    let own = recipe.source.iter().map(|s| s.sensitivity.unwrap_or(Sensitivity::Open)).max();
    let sensitivity = own.unwrap_or(Sensitivity::Open).max(inherited);
    let training = Training {
        kind: Kind::Instruct,
        spec: recipe.spec(),
        base,
        data: &data,
        sequences,
        heldout: None,
        sources: recipe.source.iter().map(TrainedOn::of_conversations).collect(),
        sensitivity,
        template: recipe.template.parse().ok(),
    };
    training.run(context)
}

/// The weights to tune and the sensitivity that they carry.
fn base(context: &Context<'_>) -> Result<(Base, Sensitivity), Failure> {
    if !Stage::of(&context.file.recipe).contains(&Stage::Cpt) {
        return Ok((training::starting_weights(context)?, training::starting_sensitivity(context)?));
    }
    let facts = training::facts_of(context, Stage::Cpt)?;
    let model = training::published_model(context, Stage::Cpt, &facts.model_folder)?;
    let inherited = Sensitivity::from_name(&facts.sensitivity).unwrap_or(Sensitivity::Phi);
    Ok((Base::loaded(model, facts.model_folder), inherited))
}
