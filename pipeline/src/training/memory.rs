//! Whether a training fits this machine, asked before the corpus is made: its arena is planned as the engine lays it out, and what
//! else has the machine's memory is estimated.

use mellama_train::gpu::{Gpu, Unopened, cuda};
use mellama_train::hf::ModelConfig;
use mellama_train::lora::LoraSpec;
use mellama_train::trainer::{DeviceKind, TrainSpec, check_memory};
use mellama_train::{Precision, Shape};

use crate::context::Context;
use crate::failure::{Failure, chain};
use crate::stage::Stage;

/// Bytes of a value.
const VALUE_BYTES: u64 = 4;
/// Values a trained parameter has: weight, gradient, two moments; in bf16 the processor keeps the whole weight besides; and in the
/// copy that checkpoints are written from.
const TRAINED_VALUES: u64 = 4;
const WHOLE_VALUES: u64 = 1;
const COPIED_VALUES: u64 = 3;

/// A training whose memory is asked for.
struct Asked<'a> {
    /// Its model, as the recipe names it.
    name: &'a str,
    shape: &'a Shape,
    spec: TrainSpec,
    /// Tokens of a sequence; none where the recipe does not say.
    length: Option<u32>,
}

/// Refuses a model whose training takes more than the machine has, for the stages named.
///
/// # Errors
/// `Failure::Policy` with the numbers, and what would fit where anything does.
pub(crate) fn check(context: &Context<'_>, stages: &[Stage]) -> Result<(), Failure> {
    let machine = machine_bytes();
    let Some((name, shape)) = shape(context)? else { return Ok(()) };
    let recipe = &context.file.recipe;
    let packed = recipe.corpus.as_ref().and_then(|corpus| corpus.pack.as_ref()).map(|pack| pack.sequence_length);
    for stage in stages {
        let asked = match stage {
            Stage::Cpt => recipe.train.clone().map(|spec| (spec, packed)),
            _ => recipe.instruct.as_ref().map(|instruct| (instruct.spec(), instruct.sequence_length.or(packed))),
        };
        let Some((spec, length)) = asked else { continue };
        let asked = Asked { name: &name, shape: &shape, spec, length };
        if let Some(available) = machine {
            asked.check_machine(available)?;
        }
        // A card that is not there is told by who asks for it.
        let card = if asked.spec.device == DeviceKind::Cuda { cuda::cards().ok() } else { None };
        if let Some(card) = card.iter().flatten().next() {
            Gpu::new(Unopened(card.clone()), &shape).map_err(|error| Failure::Policy(format!("{name}: {}", chain(&error))))?;
            asked.check_arena(cuda::most_arena_bytes(card), &format!("card {}", card.name))?;
        }
    }
    Ok(())
}

impl Asked<'_> {
    /// Refuses what cannot be trained with so much of the processor's memory.
    fn check_machine(&self, available: u64) -> Result<(), Failure> {
        let Self { name, shape, spec, .. } = self;
        let needed = least_bytes(shape, spec);
        if needed > available {
            return Err(Failure::Policy(format!(
                "{name}: training takes at least {:.1} GB here, beside its activations; the machine has {:.1} GB. Take a larger machine \
                 or a smaller model, or make the corpus alone with --until publish",
                needed as f64 / 1e9,
                available as f64 / 1e9
            )));
        }
        if spec.device == DeviceKind::Cuda {
            return Ok(());
        }
        self.check_arena(available - beside_arena(shape, spec.lora.as_ref()), "machine")
    }

    /// Refuses an arena that is larger than so many bytes of `place`.
    fn check_arena(&self, available: u64, place: &str) -> Result<(), Failure> {
        let Some(length) = self.length else { return Ok(()) };
        // A sequence longer than the model's positions is refused by who compares them, with other words.
        let shape = Shape { max_positions: self.shape.max_positions.max(length as usize), ..self.shape.clone() };
        let fits = check_memory(&self.spec, &shape, length as usize, available);
        fits.map_err(|error| {
            let text = chain(&error);
            Failure::Policy(format!("{}: {place}: {text}; or make the corpus alone with --until publish", self.name))
        })
    }
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
        return beside_arena(shape, lora);
    }
    // Those that are frozen are in the arena, too.
    let frozen = if lora.is_some() { all } else { 0 };
    let whole = if spec.precision == Precision::Bf16 { WHOLE_VALUES } else { 0 };
    VALUE_BYTES * (frozen + (TRAINED_VALUES + whole) * trained) + beside_arena(shape, lora)
}

/// Bytes that a training on the processor takes beside its arena.
fn beside_arena(shape: &Shape, lora: Option<&LoraSpec>) -> u64 {
    let all = shape.parameter_count();
    // The weights as they were loaded are kept for merging adapters; without any, they are dropped once the engine has them.
    lora.map_or(VALUE_BYTES * COPIED_VALUES * all, |lora| VALUE_BYTES * (all + COPIED_VALUES * lora.parameter_count(shape)))
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

    use super::{Asked, least_bytes, of_meminfo};

    #[test]
    fn memory_is_read_and_counted() {
        assert_eq!(of_meminfo("MemTotal:       1024 kB\nMemFree: 1 kB\nSwapTotal:  1 kB\n"), Some((1024 * 1024, 1024)));
        assert_eq!(of_meminfo("nothing"), None);
        let shape = Shape::named("llama-2-7b", 32_000).unwrap();
        let all = TrainSpec::cpt();
        assert_eq!(least_bytes(&shape, &all), 28 * 6_738_415_616);
        let narrow = TrainSpec { precision: Precision::Bf16, ..all.clone() };
        assert_eq!(least_bytes(&shape, &narrow), 32 * 6_738_415_616);
        assert_eq!(least_bytes(&shape, &TrainSpec { device: DeviceKind::Cuda, ..narrow }), 12 * 6_738_415_616);
        let lora = LoraSpec { rank: 8, ..LoraSpec::default() };
        assert_eq!(least_bytes(&shape, &TrainSpec { lora: Some(lora), ..all }), 8 * 6_738_415_616 + 28 * 19_988_480);
    }

    #[test]
    fn an_arena_that_does_not_fit_is_refused_with_what_would() {
        let shape = Shape::named("llama-2-7b", 32_000).unwrap();
        let spec = TrainSpec { batch_sequences: 64, micro_batch_sequences: 16, ..TrainSpec::cpt() };
        let asked = |spec: TrainSpec, length| Asked { name: "llama-2-7b", shape: &shape, spec, length };
        let check = |asked: Asked<'_>, gigabytes: u64, expected: &[&str]| {
            let told = asked.check_machine(gigabytes * 1_000_000_000).map_err(|failure| failure.to_string());
            let told = told.err().unwrap_or_default();
            assert!(told.is_empty() == expected.is_empty() && expected.iter().all(|part| told.contains(part)), "{told}");
        };
        let fitting =
            ["llama-2-7b: machine: memory: ", "what fits is recompute = \"sel-a\" with micro_batch_sequences = ", "--until"];
        check(asked(spec.clone(), Some(4096)), 260, &fitting);
        check(asked(spec.clone(), Some(4096)), 189, &["nothing of it fits, the least is recompute = \"full\""]);
        check(asked(spec.clone(), Some(4096)), 100, &["training takes at least 188.7 GB"]);
        check(asked(spec.clone(), Some(4096)), 2_000, &[]);
        check(asked(spec.clone(), None), 189, &[]);
        // A card has the arena, the machine has what is beside it.
        let on_card = TrainSpec { device: DeviceKind::Cuda, ..spec };
        check(asked(on_card.clone(), Some(4096)), 189, &[]);
        let told = asked(on_card, Some(4096)).check_arena(140_000_000_000, "card X").unwrap_err().to_string();
        assert!(told.contains("card X: memory: ") && told.contains("what fits is recompute"), "{told}");
    }
}
