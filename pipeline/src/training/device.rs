//! The card that a training asks for: whether it is there before any work is done, and what its failures are to the caller.

use std::path::Path;

use mellama_train::gpu::{DeviceError, cuda};
use mellama_train::trainer::DeviceKind;

use crate::context::Context;
use crate::failure::{Failure, chain};
use crate::stage::Stage;

/// What a device says before the first step is the machine's or the recipe's; what it says later is a failure, and not asked here.
pub(super) fn failure(error: &DeviceError, text: String) -> Failure {
    match error {
        DeviceError::NoDriver { .. }
        | DeviceError::NoCard
        | DeviceError::NoSuchCard { .. }
        | DeviceError::OldDriver { .. }
        | DeviceError::Architecture { .. }
        | DeviceError::NoLibrary { .. }
        | DeviceError::BadLibrary { .. }
        | DeviceError::Memory(_)
        | DeviceError::Workspace { .. }
        | DeviceError::Unfit { .. } => Failure::Policy(text),
        _ => Failure::Failed(text),
    }
}

/// Whether the card that stages ask for is there, asked before the corpus is made.
///
/// # Errors
/// `Failure::Policy` with what is missing.
pub(crate) fn check(context: &Context<'_>, stages: &[Stage]) -> Result<(), Failure> {
    let recipe = &context.file.recipe;
    let device = |stage: &Stage| match stage {
        Stage::Cpt => recipe.train.as_ref().map(|spec| spec.device),
        _ => recipe.instruct.as_ref().map(|instruct| instruct.device),
    };
    if !stages.iter().any(|stage| device(stage) == Some(DeviceKind::Cuda)) {
        return Ok(());
    }
    cuda::cards().map(|_| ()).map_err(|error| failure(&error, chain(&error)))
}

/// Makes NVIDIA's libraries in a folder those that are used.
///
/// # Errors
/// `Failure::Policy` when none of them opens.
pub fn use_cuda_libraries(folder: &Path) -> Result<(), Failure> {
    let name = folder.display();
    cuda::open_from(folder).map(|_| ()).map_err(|error| Failure::Policy(format!("--cuda-libs {name}: {}", chain(&error))))
}
