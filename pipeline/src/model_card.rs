//! The model card beside weights: a `README.md` whose front matter says how sensitive the data were that the weights learned from.
//!
//! Weights inherit the highest level of everything that they were made of, also when they are copied, converted or merged.

use mellama_sources::Sensitivity;
use mellama_train::trainer::{Kind, TrainSpec};

use crate::recipe::{InstructSource, SourceRecipe};

/// Name of the card.
pub(crate) const CARD: &str = "README.md";
/// Largest card that is read.
pub(crate) const CARD_LIMIT_BYTES: u64 = 1 << 20;

/// The card of weights made by `made` (one sentence) out of what is named.
pub(crate) fn write(title: &str, made: &str, sensitivity: Sensitivity) -> Vec<u8> {
    format!("{}\n# {title}\n\n{made}\n\n{}\n", front(None, sensitivity), release(sensitivity)).into_bytes()
}

/// One source that weights learned from.
#[derive(Debug, Clone)]
pub(crate) struct TrainedOn {
    /// Its name.
    pub name: String,
    /// Its domain; conversations have none.
    pub domain: Option<String>,
    /// How sensitive it is.
    pub sensitivity: Sensitivity,
    /// Licence of records that name none.
    pub licence: Option<String>,
}

impl TrainedOn {
    /// A source of the corpus.
    pub(crate) fn of_corpus(source: &SourceRecipe) -> Self {
        let (name, licence) = (source.name.clone(), source.licence.clone());
        Self { name, domain: Some(source.domain.to_string()), sensitivity: source.resolved_sensitivity(), licence }
    }

    /// A source of conversations.
    pub(crate) fn of_conversations(source: &InstructSource) -> Self {
        let (name, licence) = (source.name.clone(), source.licence.clone());
        Self { name, domain: None, sensitivity: source.sensitivity.unwrap_or(Sensitivity::Open), licence }
    }
}

/// Where trained weights come from.
pub(crate) struct Lineage<'a> {
    /// Name of the recipe.
    pub recipe: &'a str,
    /// Its seed.
    pub seed: u64,
    /// Which training.
    pub kind: Kind,
    /// What the weights started from, and the digest of those weights.
    pub base: (&'a str, &'a str),
    /// Digest of the shards.
    pub data_digest: &'a str,
    /// Digest of the tokenizer's file.
    pub tokenizer_digest: &'a str,
    /// The sources.
    pub sources: &'a [TrainedOn],
    /// Hyper-parameters.
    pub spec: &'a TrainSpec,
    /// What lies in the folder.
    pub form: Form,
}

/// What a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A model all of whose weights were trained.
    Model,
    /// Adapters alone.
    Adapters,
    /// The model with its adapters folded in.
    Merged,
}

/// The card of a checkpoint: what it was trained from, on and how. The same for every checkpoint of a run.
pub(crate) fn trained(lineage: &Lineage<'_>, sensitivity: Sensitivity) -> Vec<u8> {
    let Lineage { recipe, seed, spec, .. } = lineage;
    let training = match lineage.kind {
        Kind::Cpt => "continual pre-training",
        Kind::Instruct => "instruction tuning",
    };
    let what = match lineage.form {
        Form::Model => format!("{training} of all weights. The step stands in `manifest.json`"),
        Form::Adapters => format!(
            "{training} of adapters (LoRA), for the base weights below. The step stands in `manifest.json`; the last checkpoint has the \
             model with these folded in under `merged/`"
        ),
        Form::Merged => format!("{training} of adapters (LoRA), folded into the base weights below"),
    };
    let sources: String = lineage.sources.iter().map(row).collect();
    let numbers = serde_json::to_string_pretty(spec).expect("settings are JSON");
    let library = (lineage.form == Form::Adapters).then_some("peft");
    format!(
        "{}\n# {}\n\nMade by mellama: {what}.\n\n{}\n\n## Lineage\n\n\
         | what | digest (BLAKE3) |\n|---|---|\n\
         | base weights, `{}` | `{}` |\n| shards | `{}` |\n| tokenizer | `{}` |\n\n\
         | source | domain | sensitivity | licence |\n|---|---|---|---|\n{sources}\n\
         Records that name a licence of their own keep it; `README.md` of the run's folder counts them.\n\n\
         ## Training\n\nSeed {seed}.\n\n```json\n{numbers}\n```\n",
        front(library, sensitivity),
        escape(recipe),
        release(sensitivity),
        escape(lineage.base.0),
        lineage.base.1,
        lineage.data_digest,
        lineage.tokenizer_digest,
    )
    .into_bytes()
}

fn row(source: &TrainedOn) -> String {
    let domain = source.domain.as_deref().unwrap_or("conversations");
    let licence = source.licence.as_deref().unwrap_or("per record");
    format!("| {} | {domain} | {} | {} |\n", escape(&source.name), source.sensitivity, escape(licence))
}

/// Text of a recipe inside a cell or a heading.
fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace(['\r', '\n', '`'], " ")
}

/// The front matter, which [`sensitivity`] reads.
fn front(library: Option<&str>, sensitivity: Sensitivity) -> String {
    let library = library.unwrap_or("transformers");
    format!("---\nlibrary_name: {library}\npipeline_tag: text-generation\nsensitivity: {sensitivity}\n---\n")
}

/// Who may have weights of this level.
fn release(sensitivity: Sensitivity) -> &'static str {
    match sensitivity {
        Sensitivity::Open => {
            "The data that it is known to be made from are open. What the licence of the original weights asks holds here too."
        }
        Sensitivity::Dua => {
            "It was made from data under a data use agreement and inherits it: whoever is given these weights needs the same \
             agreement."
        }
        Sensitivity::Phi => {
            "It was made from data with identifying health information. It may not leave the place where those data may be."
        }
    }
}

/// The level that a card's front matter names; none where it names none.
pub(crate) fn sensitivity(card: &[u8]) -> Option<Sensitivity> {
    let text = std::str::from_utf8(card).ok()?;
    let mut lines = text.lines();
    (lines.next()?.trim_end() == "---").then_some(())?;
    let mut front = lines.take_while(|line| line.trim_end() != "---");
    let named = front.find_map(|line| line.strip_prefix("sensitivity:"))?;
    // A level that nobody knows is the highest.
    Some(Sensitivity::from_name(named.trim()).unwrap_or(Sensitivity::Phi))
}

#[cfg(test)]
mod tests {
    use mellama_sources::Sensitivity;

    use super::{sensitivity, write};

    #[test]
    fn the_level_written_is_read_back() {
        for level in [Sensitivity::Open, Sensitivity::Dua, Sensitivity::Phi] {
            assert_eq!(sensitivity(&write("A model", "Made by a test.", level)), Some(level));
        }
    }

    #[test]
    fn cards_of_others_name_none_and_unknown_levels_are_the_highest() {
        let check = |card: &str, expected: Option<Sensitivity>| assert_eq!(sensitivity(card.as_bytes()), expected, "{card}");
        check("# A model\n\nsensitivity: dua\n", None);
        check("---\nlicense: mit\n---\nsensitivity: dua\n", None);
        check("---\nsensitivity: secret\n---\n", Some(Sensitivity::Phi));
        check("---\r\nsensitivity: dua\r\n---\r\n", Some(Sensitivity::Dua));
        check("", None);
    }
}
