//! Whether a training can fit this machine at all, asked before the corpus is made. What it takes exactly is known when its engine
//! is laid out, before the first step.

use mellama_train::hf::ModelConfig;
use mellama_train::trainer::{DeviceKind, TrainSpec};
use mellama_train::{Precision, Shape};

use crate::context::Context;
use crate::failure::{Failure, chain};
use crate::recipe::InstructRecipe;
use crate::stage::Stage;

/// Bytes of a value.
const VALUE_BYTES: u64 = 4;
/// Values a trained parameter has: weight, gradient, two moments; in bf16 the processor keeps the whole weight besides; and in the
/// copy that checkpoints are written from.
const TRAINED_VALUES: u64 = 4;
const WHOLE_VALUES: u64 = 1;
const COPIED_VALUES: u64 = 3;

/// Refuses a model whose training takes more than the machine has, for the stages named.
///
/// # Errors
/// `Failure::Policy` with both numbers.
pub(crate) fn check(context: &Context<'_>, stages: &[Stage]) -> Result<(), Failure> {
    let Some(available) = machine_bytes() else { return Ok(()) };
    let Some((name, shape)) = shape(context)? else { return Ok(()) };
    let recipe = &context.file.recipe;
    let of_stage = |stage: &Stage| match stage {
        Stage::Cpt => recipe.train.clone(),
        _ => recipe.instruct.as_ref().map(InstructRecipe::spec),
    };
    let needs = stages.iter().filter_map(of_stage).map(|spec| least_bytes(&shape, &spec));
    let Some(needed) = needs.max() else { return Ok(()) };
    if needed <= available {
        return Ok(());
    }
    Err(Failure::Policy(format!(
        "{name}: training takes at least {:.1} GB here, beside its activations; the machine has {:.1} GB. Take a larger machine or a \
         smaller model, or make the corpus alone with --until publish",
        needed as f64 / 1e9,
        available as f64 / 1e9
    )))
}

/// The model that is trained, where it is named and can be read.
fn shape(context: &Context<'_>) -> Result<Option<(String, Shape)>, Failure> {
    let Some(model) = &context.file.recipe.model else { return Ok(None) };
    if let Some(folder) = &model.checkpoint {
        let bytes = context.file.resolve(folder)?.join("config.json").read(context.file.stores()).ok();
        let config = bytes.and_then(|bytes| ModelConfig::parse(&bytes).ok());
        return Ok(config.map(|config| (folder.clone(), config.shape)));
    }
    let (Some(name), true) = (&model.shape, context.plan.tokenizer.is_some()) else { return Ok(None) };
    let vocabulary = context.tokenizer()?.vocabulary_size() as usize;
    let shape = Shape::named(name, vocabulary).map_err(|e| Failure::Policy(chain(&e)))?;
    Ok(Some((name.clone(), shape)))
}

/// Bytes of weights, gradients, moments and the copy, without activations; of the weights as they are loaded and the copy alone,
/// where a card has the rest.
fn least_bytes(shape: &Shape, spec: &TrainSpec) -> u64 {
    let (all, lora) = (shape.parameter_count(), spec.lora.as_ref());
    let trained = lora.map_or(all, |lora| lora.parameter_count(shape));
    if spec.device == DeviceKind::Cuda {
        return VALUE_BYTES * (all + COPIED_VALUES * trained);
    }
    // The weights as they were loaded are kept for merging adapters; without any, they are dropped once the engine has them.
    let frozen = if lora.is_some() { 2 * all } else { 0 };
    let whole = if spec.precision == Precision::Bf16 { WHOLE_VALUES } else { 0 };
    VALUE_BYTES * (frozen + (TRAINED_VALUES + whole + COPIED_VALUES) * trained)
}

/// Memory and swap of the machine, or of the container that limits it; none where the system does not tell.
fn machine_bytes() -> Option<u64> {
    let (memory, swap) = of_meminfo(&std::fs::read_to_string("/proc/meminfo").ok()?)?;
    let limit = |name: &str| std::fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse::<u64>().ok();
    let least = |machine: u64, container: Option<u64>| container.map_or(machine, |limit| limit.min(machine));
    Some(least(memory, limit("memory.max")) + least(swap, limit("memory.swap.max")))
}

/// Memory and swap.
fn of_meminfo(text: &str) -> Option<(u64, u64)> {
    let line = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
    };
    Some((line("MemTotal:")?, line("SwapTotal:").unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use mellama_train::lora::LoraSpec;
    use mellama_train::trainer::{DeviceKind, TrainSpec};
    use mellama_train::{Precision, Shape};

    use super::{least_bytes, of_meminfo};

    #[test]
    fn memory_is_read_and_counted() {
        assert_eq!(of_meminfo("MemTotal:       1024 kB\nMemFree: 1 kB\nSwapTotal:  1 kB\n"), Some((1024 * 1024, 1024)));
        assert_eq!(of_meminfo("nothing"), None);
        let shape = Shape::named("llama-2-7b", 32_000).unwrap();
        let all = TrainSpec::cpt();
        assert_eq!(least_bytes(&shape, &all), 28 * 6_738_415_616);
        let narrow = TrainSpec { precision: Precision::Bf16, ..all.clone() };
        assert_eq!(least_bytes(&shape, &narrow), 32 * 6_738_415_616);
        assert_eq!(least_bytes(&shape, &TrainSpec { device: DeviceKind::Cuda, ..narrow }), 16 * 6_738_415_616);
        let lora = LoraSpec { rank: 8, ..LoraSpec::default() };
        assert_eq!(least_bytes(&shape, &TrainSpec { lora: Some(lora), ..all }), 8 * 6_738_415_616 + 28 * 19_988_480);
    }
}
