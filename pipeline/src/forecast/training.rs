//! What continual pre-training comes to: parameters, FLOPs, a layout that fits the cluster, its memory, time and GPU-hours.
//!
//! All of it follows from the recipe and the model's sizes; nothing here looks at a GPU.

use std::collections::BTreeMap;

use mellama_train::Shape;
use mellama_train::engine::Recompute;
use mellama_train::hf::ModelConfig;
use mellama_train::planner::{A100, Chosen, Machine, MemoryNeed, StepTime, TokenFlops, Wanted, Warning, choose, gpu_hours};
use mellama_train::trainer::TrainSpec;
use serde::Serialize;

use crate::recipe::RecipeFile;

/// Model FLOPs utilizations that GPU-hours are given for.
const UTILIZATIONS: [f64; 3] = [0.30, 0.45, 0.60];
/// Vocabulary assumed for a named shape while the tokenizer is unknown: LLaMA-2's.
const ASSUMED_VOCABULARY: usize = 32_000;
/// What the paper says of its larger model: more than so many A100-hours for so many tokens.
const PAPER: (&str, u64, u64) = ("llama-2-70b", 129_000_000_000, 100_000);
/// Tokens of a sequence that the paper's figures are checked at; it does not say.
const PAPER_LENGTH: u64 = 4096;

/// Cost of continual pre-training.
#[derive(Debug, Clone, Serialize)]
pub struct TrainingForecast {
    /// Shape or checkpoint.
    pub model: String,
    /// Parameters; null when the checkpoint is absent.
    pub parameters: Option<u64>,
    /// Those that a token is multiplied with: all but norms and the embedding.
    pub matrix_parameters: Option<u64>,
    /// Parameters that are trained: all, or the adapters'.
    pub trained_parameters: Option<u64>,
    /// Tokens trained on; null when unknown.
    pub tokens: Option<u64>,
    /// Sequences a step.
    pub batch_sequences: u64,
    /// Optimizer steps, null when unknown. Counted without padding.
    pub steps: Option<u64>,
    /// FLOP per token as the `PaLM` paper counts them, 6·Nm + 12·L·C·T.
    pub flops_per_token: Option<u64>,
    /// FLOP per token as 6·N.
    pub flops_per_token_6n: Option<u64>,
    /// FLOP per token with attention to earlier tokens only, 6·Nm + 6·L·C·T.
    pub flops_per_token_causal: Option<u64>,
    /// A100 hours by utilization ("0.45": hours); empty when unknown.
    pub a100_hours: BTreeMap<String, f64>,
    /// A layout on the cluster of `train.parallel`; null when the sizes are unknown.
    pub layout: Option<LayoutForecast>,
    /// The paper's own figures, checked by the same arithmetic.
    pub paper_check: PaperCheck,
}

/// How the ranks of a cluster would share the training, and what follows.
#[derive(Debug, Clone, Serialize)]
pub struct LayoutForecast {
    /// The GPU.
    pub gpu: &'static str,
    /// GPUs.
    pub gpus: u64,
    /// Ranks that share each matrix.
    pub tensor_parallel: u64,
    /// Ranks with batches of their own.
    pub data_parallel: u64,
    /// ZeRO stage.
    pub zero: u8,
    /// Bytes of an element of gradients, masters and moments.
    pub bytes_of_elements: [f64; 3],
    /// What is computed again.
    pub recompute: Recompute,
    /// Sequences at once on a rank.
    pub micro_batch_sequences: u64,
    /// Micro-batches a step.
    pub accumulation: u64,
    /// Bytes of a rank.
    pub memory: MemoryNeed,
    /// Bytes of its card.
    pub card_bytes: f64,
    /// Whether it fits.
    pub fits: bool,
    /// Bytes of a checkpoint: masters and moments of what is trained.
    pub checkpoint_bytes: f64,
    /// Seconds of a step by part, and traffic, none of it hidden.
    pub step: StepTime,
    /// Utilization by the `PaLM` count that this speed is.
    pub mfu_palm: f64,
    /// GPU-hours of the whole training at this speed; null when the tokens are unknown.
    pub gpu_hours: Option<f64>,
    /// Days of it on these GPUs.
    pub days: Option<f64>,
    /// What a person should look at.
    pub warnings: Vec<Warning>,
}

/// More than 100,000 A100-hours for 129 billion tokens through the 70B model: at most what utilization that is.
#[derive(Debug, Clone, Serialize)]
pub struct PaperCheck {
    /// The model.
    pub model: &'static str,
    /// Tokens.
    pub tokens: u64,
    /// Hours, at least.
    pub a100_hours: u64,
    /// Utilization at most, by the `PaLM` count at 4,096 tokens a sequence.
    pub mfu_palm: f64,
    /// Utilization at most, by 6·N.
    pub mfu_6n: f64,
}

/// The training of a recipe. Before shards are there sequences are counted without padding.
pub(super) fn forecast(
    file: &RecipeFile,
    vocabulary: Option<u32>,
    tokens: Option<u64>,
    published: Option<u64>,
) -> Option<TrainingForecast> {
    let (model, train) = (file.recipe.model.as_ref()?, file.recipe.train.as_ref()?);
    let shape = match (&model.shape, &model.checkpoint) {
        (Some(name), _) => Shape::named(name, vocabulary.map_or(ASSUMED_VOCABULARY, |ids| ids as usize)).ok(),
        (None, Some(folder)) => checkpoint_shape(file, folder),
        (None, None) => None,
    };
    let length = file.recipe.corpus.as_ref().and_then(|c| c.pack.as_ref()).map(|pack| u64::from(pack.sequence_length));
    let sequences = published.or_else(|| Some(tokens?.div_ceil(length?)));
    let steps =
        train.steps.or_else(|| sequences.map(|n| n.saturating_mul(u64::from(train.epochs)).div_ceil(train.batch_sequences)));
    let seen = match (train.steps, length) {
        (Some(steps), Some(length)) => Some(steps.saturating_mul(train.batch_sequences).saturating_mul(length)),
        _ => tokens.map(|tokens| tokens.saturating_mul(u64::from(train.epochs))),
    };
    let sized = shape.as_ref().zip(length);
    let flops = sized.map(|(shape, length)| TokenFlops::of(shape, length));
    let hours = |utilization: f64| {
        let ((shape, length), tokens) = sized.zip(seen)?;
        Some((format!("{utilization:.2}"), gpu_hours(shape, tokens as f64, utilization, A100.peak_flops, length)))
    };
    let trained = |shape: &Shape| train.lora.as_ref().map_or(shape.parameter_count(), |lora| lora.parameter_count(shape));
    Some(TrainingForecast {
        model: model.shape.clone().or_else(|| model.checkpoint.clone()).unwrap_or_default(),
        parameters: shape.as_ref().map(Shape::parameter_count),
        matrix_parameters: shape.as_ref().map(Shape::matrix_parameter_count),
        trained_parameters: shape.as_ref().map(trained),
        tokens: seen,
        batch_sequences: train.batch_sequences,
        steps,
        flops_per_token: flops.map(|flops| flops.palm),
        flops_per_token_6n: flops.map(|flops| flops.six_n),
        flops_per_token_causal: flops.map(|flops| flops.causal),
        a100_hours: UTILIZATIONS.into_iter().filter_map(hours).collect(),
        layout: sized.and_then(|(shape, length)| layout(train, shape, length, seen)),
        paper_check: PaperCheck::new(),
    })
}

fn checkpoint_shape(file: &RecipeFile, folder: &str) -> Option<Shape> {
    let bytes = file.resolve(folder).ok()?.join("config.json").read(file.stores()).ok()?;
    ModelConfig::parse(&bytes).ok().map(|config| config.shape)
}

/// What fits the cluster; a micro-batch of one sequence, the default, leaves the choice to the planner.
fn layout(train: &TrainSpec, shape: &Shape, length: u64, tokens: Option<u64>) -> Option<LayoutForecast> {
    let machine = train.parallel.machine().ok()?;
    let chosen = choose(&Wanted {
        shape,
        machine: &machine,
        gpus: train.parallel.gpus,
        length,
        batch_sequences: train.batch_sequences,
        lora: train.lora.as_ref(),
        tensor_parallel: train.parallel.tensor_parallel,
        zero: train.parallel.zero,
        micro_batch_sequences: Some(train.micro_batch_sequences).filter(|&sequences| sequences > 1),
        recompute: Some(train.recompute).filter(|&mode| mode != Recompute::default()),
        moments: Some(train.moments).filter(|moments| !moments.is_default()),
    });
    Some(described(train, shape, (length, tokens), &machine, chosen))
}

fn described(
    train: &TrainSpec,
    shape: &Shape,
    (length, tokens): (u64, Option<u64>),
    machine: &Machine,
    chosen: Chosen,
) -> LayoutForecast {
    let (layout, rate) = (chosen.layout, chosen.time.tokens_per_second_per_gpu);
    let gpu_hours = tokens.map(|tokens| tokens as f64 / rate / 3600.0);
    let trained = train.lora.as_ref().map_or(shape.parameter_count(), |lora| lora.parameter_count(shape));
    LayoutForecast {
        gpu: machine.name,
        gpus: layout.ranks(),
        tensor_parallel: layout.tensor_parallel,
        data_parallel: layout.data_parallel,
        zero: layout.zero.into(),
        bytes_of_elements: [layout.sizes.gradients, layout.sizes.master, layout.sizes.moment],
        recompute: chosen.recompute,
        micro_batch_sequences: chosen.micro_batch_sequences,
        accumulation: chosen.accumulation,
        memory: chosen.memory,
        card_bytes: machine.card_bytes,
        fits: chosen.fits,
        checkpoint_bytes: trained as f64 * (4.0 + 2.0 * layout.sizes.moment),
        step: chosen.time,
        mfu_palm: rate * TokenFlops::of(shape, length).palm as f64 / machine.peak_flops,
        gpu_hours,
        days: gpu_hours.map(|hours| hours / layout.ranks() as f64 / 24.0),
        warnings: chosen.warnings,
    }
}

impl PaperCheck {
    fn new() -> Self {
        let (model, tokens, a100_hours) = PAPER;
        let shape = Shape::named(model, ASSUMED_VOCABULARY).expect("a name of the list");
        let flops = TokenFlops::of(&shape, PAPER_LENGTH);
        let share = |flops: u64| tokens as f64 * flops as f64 / (a100_hours as f64 * 3600.0) / A100.peak_flops;
        Self { model, tokens, a100_hours, mfu_palm: share(flops.palm), mfu_6n: share(flops.six_n) }
    }
}

impl TrainingForecast {
    /// For people.
    pub(super) fn lines(&self) -> Vec<String> {
        let number = |value: Option<u64>| value.map_or("unknown".to_owned(), |value| value.to_string());
        let mut lines = vec![format!(
            "\ntraining: {}, {} parameters ({} in matrices, {} trained), {} tokens in {} steps of {} sequences",
            self.model,
            number(self.parameters),
            number(self.matrix_parameters),
            number(self.trained_parameters),
            number(self.tokens),
            number(self.steps),
            self.batch_sequences
        )];
        if let (Some(palm), Some(six), Some(causal)) =
            (self.flops_per_token, self.flops_per_token_6n, self.flops_per_token_causal)
        {
            lines.push(format!("  FLOP per token: {palm} (PaLM), {six} (6N), {causal} (causal attention)"));
        }
        for (utilization, hours) in &self.a100_hours {
            lines.push(format!("  at {utilization} of an A100's dense bf16 rate (PaLM count): {hours:.2} GPU-hours"));
        }
        lines.extend(self.layout.iter().flat_map(LayoutForecast::lines));
        let check = &self.paper_check;
        lines.push(format!(
            "  check: {} tokens through {} in more than {} A100-hours, as published, are at most {:.2} % MFU (PaLM), {:.2} % (6N)",
            check.tokens,
            check.model,
            check.a100_hours,
            100.0 * check.mfu_palm,
            100.0 * check.mfu_6n
        ));
        lines
    }
}

impl LayoutForecast {
    fn lines(&self) -> Vec<String> {
        let gigabytes = |bytes: f64| format!("{:.1}", bytes / 1e9);
        let (memory, parts) = (self.memory, self.step.micro_batch);
        let mode = serde_json::to_value(self.recompute).ok();
        let mode = mode.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default();
        let [gradients, master, moment] = self.bytes_of_elements;
        let mut lines = vec![
            format!(
                "  on {} {}: {} data-parallel x {} tensor-parallel ranks, ZeRO-{}, recompute {mode}, {} sequences at once, {} times a step; \
                 gradients, masters, moments in {gradients}, {master}, {moment} bytes",
                self.gpus,
                self.gpu,
                self.data_parallel,
                self.tensor_parallel,
                self.zero,
                self.micro_batch_sequences,
                self.accumulation
            ),
            format!(
                "  GB a rank: state {} + activations {} + work {}, with 3 % {} of {}; a checkpoint {} in all",
                gigabytes(memory.state_bytes),
                gigabytes(memory.activation_bytes),
                gigabytes(memory.work_bytes),
                gigabytes(memory.total_bytes),
                gigabytes(self.card_bytes),
                gigabytes(self.checkpoint_bytes)
            ),
            format!(
                "  ms a micro-batch: products {:.0}, attention {:.0}, elementwise {:.0}, optimizer {:.0}, recompute {:.0}; GB sent: {} tensor-parallel a micro-batch, {} data-parallel",
                1e3 * parts.gemm,
                1e3 * parts.attention,
                1e3 * parts.elementwise,
                1e3 * parts.optimizer,
                1e3 * parts.recompute,
                gigabytes(self.step.tensor_parallel_bytes),
                gigabytes(self.step.data_parallel_bytes)
            ),
        ];
        let days = self.gpu_hours.zip(self.days);
        let whole = days.map_or(String::new(), |(hours, days)| format!("; {hours:.0} GPU-hours, {days:.1} days"));
        lines.push(format!(
            "  computed: {:.1} s a step, {:.0} tokens/s a GPU, MFU {:.1} % (PaLM){whole}",
            self.step.seconds,
            self.step.tokens_per_second_per_gpu,
            100.0 * self.mfu_palm
        ));
        lines.extend(self.warnings.iter().map(|warning| format!("  warning: {}", warning.text)));
        lines
    }
}
