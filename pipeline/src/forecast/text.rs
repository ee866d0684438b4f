//! A forecast for people: a table of sources, the mixture and what would have to change, stages, memory, training.
//!
//! It works nothing out; every figure is the forecast's.

use super::{Forecast, MixtureForecast, SourceForecast, StageForecast, TokenizerForecast, TrainingForecast};
use crate::plan::{SEQUENTIAL_PART_BYTES, TASK_INPUT_BYTES};
use crate::separators::Separators;

/// Width of the column of names, which longer names overrun.
const NAME_WIDTH: usize = 24;

impl Forecast {
    /// For people.
    pub fn text(&self) -> String {
        let mut lines = vec![format!("{}: output to {}", self.name, self.workdir), String::new()];
        lines.push(format!(
            "{:<NAME_WIDTH$} {:<11} {:<11} {:>8} {:>16} {:>16} {:>16} {:>8} {:>5}",
            "source", "domain", "sensitivity", "objects", "bytes", "supply tokens", "quota tokens", "epochs", "max"
        ));
        lines.extend(self.sources.iter().map(source));
        let unknown = self.sources.iter().filter_map(|source| source.unknown.as_ref()).chain(&self.unknown);
        lines.extend(unknown.map(|why| format!("  unknown: {why}")));
        lines.extend(self.warnings.iter().map(|warning| format!("  warning: {warning}")));
        lines.extend(self.tokenizer.iter().map(tokenizer));
        if let Some(forecast) = &self.mixture {
            lines.extend(mixture(forecast));
            lines.extend(passes(&self.sources, forecast.refusal.is_some()));
        }
        lines.push(String::new());
        lines.push(self.stages_text());
        lines.push(format!(
            "\nmemory: {} MiB a worker; requests to read the inputs once: {}; a task reads at most {} MiB of input, one object that cannot be cut, \
             or {} GiB of one that is read from its beginning, behind what lies before",
            self.memory_bytes_per_worker >> 20,
            number(self.input_requests),
            TASK_INPUT_BYTES >> 20,
            SEQUENTIAL_PART_BYTES >> 30
        ));
        lines.extend(self.run_requests.iter().map(|least| {
            format!("object storage: an undisturbed run of it asks for {} reads and {} writes at least", least.get, least.put)
        }));
        lines.extend(self.training.iter().flat_map(TrainingForecast::lines));
        lines.join("\n")
    }

    /// The stages for people, a line each.
    pub fn stages_text(&self) -> String {
        self.stages.iter().map(stage).collect::<Vec<_>>().join("\n")
    }
}

fn number(value: Option<u64>) -> String {
    value.map_or("unknown".to_owned(), |value| value.to_string())
}

fn epochs(value: Option<f64>) -> String {
    value.map_or("unknown".to_owned(), |epochs| format!("{epochs:.3}"))
}

fn source(s: &SourceForecast) -> String {
    format!(
        "{:<NAME_WIDTH$} {:<11} {:<11} {:>8} {:>16} {:>16} {:>16} {:>8} {:>5}",
        s.source,
        s.domain,
        s.sensitivity,
        number(s.objects),
        number(s.bytes),
        number(s.supply_tokens),
        number(s.quota_tokens),
        epochs(s.epochs),
        s.max_epochs
    )
}

fn tokenizer(t: &TokenizerForecast) -> String {
    let separators = t.separators.map_or_else(|| "begin and end token unknown".to_owned(), Separators::text);
    let note = t.note.as_ref().filter(|_| t.separators.is_none()).map_or(String::new(), |note| format!(" ({note})"));
    let encoder = match t.encoder {
        Some("own") => "; encoded by mellama",
        Some(_) => "; encoded by the tokenizers library, many times slower",
        None => "",
    };
    format!("\ntokenizer {}: {separators}{encoder}{note}", t.path)
}

fn mixture(m: &MixtureForecast) -> Vec<String> {
    let quotas: Vec<String> = m.quotas.iter().map(|(domain, tokens)| format!("{domain} {tokens}")).collect();
    let asked: u64 = m.quotas.values().sum();
    let tokens = match (&m.refusal, m.total) {
        (Some(_), _) if asked > 0 => format!("refused; asked for are {asked} tokens"),
        (Some(_), _) => "refused".to_owned(),
        (None, total) => format!("{} tokens", number(total)),
    };
    let quotas = if quotas.is_empty() { String::new() } else { format!("; {}", quotas.join(", ")) };
    let mut lines = vec![format!("\nmixture: {tokens}{quotas}")];
    for d in &m.domains {
        lines.push(format!(
            "  {:<11} weight {:<4} supply {}, quota {}, epochs {}; the allowed epochs give {}",
            d.domain,
            d.weight,
            d.supply_tokens,
            number(d.quota_tokens),
            epochs(d.epochs),
            d.capped_tokens
        ));
    }
    if !m.unknown.is_empty() {
        let sources = m.unknown.join(", ");
        lines.push(format!("  supply unknown: {sources}; give expected_tokens, or run until tokenize has counted"));
    }
    lines.extend(m.refusal.iter().map(|refusal| format!("  refused: {}", refusal.trim_start_matches("mixture: "))));
    lines
}

/// Where the supply is from, what is held out, and how the last pass over each source ends.
fn passes(sources: &[SourceForecast], refused: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(from) = sources.iter().find_map(|source| source.supply_from) {
        let heldout: u64 = sources.iter().filter_map(|source| source.heldout_tokens).sum();
        lines.push(format!("supply is {from}, once, without {heldout} tokens held out"));
    }
    if refused && sources.iter().any(|source| source.epochs.is_some()) {
        lines.push("quotas and epochs of the sources are those needed".to_owned());
    }
    for s in sources {
        if let Some((full, rest)) = s.full_epochs.zip(s.remainder_tokens).filter(|(_, rest)| *rest > 0) {
            let passes = if full > 0 { format!("{full} full passes and ") } else { String::new() };
            lines.push(format!("  {}: {passes}{rest} tokens of a pass, the last document cut to end there", s.source));
        }
    }
    lines
}

fn stage(s: &StageForecast) -> String {
    let state = if s.complete { "done" } else { "to do" };
    let shown = |wave: &(u64, u64)| if wave.1 - wave.0 == 1 { wave.0.to_string() } else { format!("{}-{}", wave.0, wave.1 - 1) };
    let waves = s.waves.iter().map(shown).collect::<Vec<_>>().join(", ");
    let waves = if s.waves.len() > 1 { format!("; in waves {waves}") } else { String::new() };
    format!("{:<14} {:>8} tasks  {state}{waves}", s.stage, number(s.tasks))
}
