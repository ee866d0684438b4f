//! Checks across keys that TOML types cannot hold: names, ranges, combinations. First fault wins, with its key and a remedy.

use std::collections::BTreeSet;

use mellama_shards::mixture::planned_quotas;
use mellama_shards::template::Template;
use mellama_sources::Limits;
use mellama_storage::foreign_scheme;
use mellama_train::shape::SHAPE_NAMES;
use mellama_train::trainer::TrainSpec;
use serde_json::Value;

use super::parse::{RecipeError, RecipeFile};
use super::sections::{CorpusRecipe, InstructRecipe, MixtureRecipe, ModelRecipe, Recipe, SourceRecipe, TotalRecipe};
use super::storage::StorageRecipe;

/// Longest sequence that is packed, in tokens.
const MAX_SEQUENCE_LENGTH: u32 = 1 << 20;
/// Most tokens that a source is expected to have: 2^50, some 4 PB of text.
const MAX_EXPECTED_TOKENS: u64 = 1 << 50;
/// Most sources of one recipe: their index is stored in two bytes.
const MAX_SOURCES: usize = 4096;

/// Longest time that a request is given, in seconds.
const MAX_SECONDS: u64 = 86_400;
/// Most requests under way at once; each takes a thread and up to 8 MiB.
const MAX_CONCURRENCY: u64 = 1024;

/// Window logarithms that zstd knows.
const ZSTD_WINDOW_LOGS: std::ops::RangeInclusive<u32> = 10..=31;

/// Checks a parsed recipe.
///
/// # Errors
/// `RecipeError::Value` with the key and what to do.
pub(super) fn check(file: &RecipeFile) -> Result<(), RecipeError> {
    let checker = Checker { path: file.path.display().to_string() };
    let recipe = &file.recipe;
    checker.that(!recipe.name.trim().is_empty(), "name", || "empty; give the run a name".into())?;
    checker.that(!recipe.workdir.trim().is_empty(), "workdir", || "empty; give a folder".into())?;
    checker.names(recipe.corpus.iter().flat_map(|c| &c.source).map(|s| &s.name), "corpus.source.name")?;
    checker.names(recipe.instruct.iter().flat_map(|i| &i.source).map(|s| &s.name), "instruct.source.name")?;
    checker.names(recipe.evaluate.iter().flat_map(|e| &e.task).map(|t| &t.name), "evaluate.task.name")?;
    if let Some(storage) = &recipe.storage {
        checker.storage(storage)?;
    }
    let without_storage = Recipe { storage: None, ..recipe.clone() };
    checker.places("", &serde_json::to_value(&without_storage).unwrap_or_default())?;
    if let Some(corpus) = &recipe.corpus {
        checker.corpus(corpus)?;
    }
    if let Some(model) = &recipe.model {
        checker.model(model)?;
    }
    if let Some(train) = &recipe.train {
        checker.spec(train, "train")?;
        checker.that(recipe.model.is_some(), "train", || "there is no [model] to train; add one".into())?;
        let packs = recipe.corpus.as_ref().is_some_and(|corpus| corpus.pack.is_some());
        checker.that(packs, "train", || "there are no shards to train on; add [corpus.pack]".into())?;
    }
    if let Some(instruct) = &recipe.instruct {
        checker.instruct(instruct)?;
    }
    let tokenizer = recipe.corpus.as_ref().is_some_and(|corpus| corpus.tokenizer.is_some());
    let instructs = recipe.instruct.as_ref().is_some_and(|instruct| !instruct.source.is_empty());
    checker.that(!instructs || tokenizer, "instruct", || "conversations become tokens; add [corpus.tokenizer]".into())?;
    if let Some(evaluate) = &recipe.evaluate {
        let has_model = recipe.model.is_some() || evaluate.checkpoint.is_some();
        checker.that(has_model, "evaluate", || "there is no model to score; add [model] or evaluate.checkpoint".into())?;
        checker.that(tokenizer, "evaluate", || "scoring needs a tokenizer; add [corpus.tokenizer]".into())?;
        let template = evaluate.template.parse::<Template>();
        checker.that(template.is_ok(), "evaluate.template", || {
            format!("\"{}\" is not known; use mellama, llama2-chat or none", evaluate.template)
        })?;
    }
    Ok(())
}

struct Checker {
    path: String,
}

impl Checker {
    fn that(&self, holds: bool, key: &str, problem: impl FnOnce() -> String) -> Result<(), RecipeError> {
        if holds {
            return Ok(());
        }
        Err(RecipeError::Value { path: self.path.clone(), key: key.into(), problem: problem() })
    }

    fn one_of(&self, found: &str, known: &[&str], key: &str) -> Result<(), RecipeError> {
        self.that(known.contains(&found), key, || format!("\"{found}\" is not known; use one of: {}", known.join(", ")))
    }

    /// Of what a recipe says nothing is an address of another kind, whatever the key.
    fn places(&self, key: &str, value: &Value) -> Result<(), RecipeError> {
        match value {
            Value::String(text) => {
                let scheme = foreign_scheme(text);
                let problem = || {
                    let scheme = scheme.unwrap_or_default().to_ascii_lowercase();
                    format!("an address of {scheme}:// is given; give a path or s3://BUCKET/NAME")
                };
                self.that(scheme.is_none(), key, problem)
            }
            Value::Array(values) => values.iter().try_for_each(|value| self.places(key, value)),
            // A licence may well be an address, and so may the names of fields.
            Value::Object(members) => members
                .iter()
                .filter(|(name, _)| !["licence", "fields"].contains(&name.as_str()))
                .try_for_each(|(name, value)| {
                    let below = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                    self.places(&below, value)
                }),
            _ => Ok(()),
        }
    }

    fn share(&self, value: f64, key: &str) -> Result<(), RecipeError> {
        self.that((0.0..=1.0).contains(&value), key, || format!("{value}: expected a share from 0 to 1"))
    }

    fn names<'a>(&self, names: impl Iterator<Item = &'a String>, key: &str) -> Result<(), RecipeError> {
        let mut seen = BTreeSet::new();
        for name in names {
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
            let valid = !name.is_empty() && name.len() <= 100 && name.chars().all(allowed) && !name.starts_with('.');
            self.that(valid, key, || format!("\"{name}\": use lower-case letters, digits, \"-\", \"_\" and \".\""))?;
            self.that(seen.insert(name), key, || format!("\"{name}\" is used twice; names must be unique"))?;
        }
        self.that(seen.len() <= MAX_SOURCES, key, || format!("{} sources, the limit is {MAX_SOURCES}", seen.len()))
    }

    fn storage(&self, storage: &StorageRecipe) -> Result<(), RecipeError> {
        let positive = [
            ("attempt_seconds", storage.attempt_seconds, MAX_SECONDS),
            ("deadline_seconds", storage.deadline_seconds, MAX_SECONDS),
            ("concurrency", storage.concurrency as u64, MAX_CONCURRENCY),
        ];
        for (key, value, most) in positive {
            self.that((1..=most).contains(&value), &format!("storage.{key}"), || format!("{value}: expected 1 to {most}"))?;
        }
        self.that(storage.kms || storage.kms_key.is_none(), "storage.kms_key", || "without kms = true; add it".into())?;
        let endpoint = storage.endpoint.as_deref().map(|endpoint| mellama_storage::check_endpoint(endpoint, storage.allow_http));
        let problem = endpoint.and_then(Result::err).map(|error| error.to_string());
        self.that(problem.is_none(), "storage.endpoint", || problem.clone().unwrap_or_default())
    }

    fn corpus(&self, corpus: &CorpusRecipe) -> Result<(), RecipeError> {
        let wants_text = corpus.clean.is_some()
            || corpus.dedup.is_some()
            || corpus.decontaminate.is_some()
            || corpus.mixture.is_some()
            || corpus.pack.is_some();
        let has_source = !corpus.source.is_empty() || (!wants_text && corpus.tokenizer.is_some());
        self.that(has_source, "corpus.source", || "no source; add one [[corpus.source]]".into())?;
        corpus.source.iter().try_for_each(|source| self.source(source))?;
        if let Some(dedup) = &corpus.dedup {
            crate::stages::dedup::spec(dedup).validate().or_else(|e| self.that(false, "corpus.dedup", || e.to_string()))?;
            self.one_of(&dedup.verify, &["strict", "tolerant"], "corpus.dedup.verify")?;
            self.share(dedup.min_similarity, "corpus.dedup.min_similarity")?;
            self.share(dedup.max_source_loss, "corpus.dedup.max_source_loss")?;
        }
        if let Some(decontaminate) = &corpus.decontaminate {
            let key = "corpus.decontaminate.ngram";
            self.that((1..=64).contains(&decontaminate.ngram), key, || {
                format!("{}: expected 1 to 64 words", decontaminate.ngram)
            })?;
            self.one_of(&decontaminate.policy, &["drop", "cut", "report"], "corpus.decontaminate.policy")?;
            self.share(decontaminate.min_share, "corpus.decontaminate.min_share")?;
        }
        if let Some(clean) = &corpus.clean {
            clean.check().or_else(|e| self.that(false, "corpus.clean", || e.to_string()))?;
        }
        corpus.limits.iter().try_for_each(|limits| self.limits(limits))?;
        self.packing(corpus)
    }

    fn limits(&self, limits: &Limits) -> Result<(), RecipeError> {
        let known = [
            ("record_bytes", limits.record_bytes),
            ("depth", limits.depth as u64),
            ("elements", limits.elements as u64),
            ("attributes", limits.attributes as u64),
            ("object_bytes", limits.object_bytes),
            ("expansion_ratio", limits.expansion_ratio),
            ("expansion_free_bytes", limits.expansion_free_bytes),
            ("xz_memory_bytes", limits.xz_memory_bytes),
            ("member_name_bytes", limits.member_name_bytes as u64),
            ("member_header_bytes", limits.member_header_bytes as u64),
        ];
        for (key, value) in known {
            self.that(value > 0, &format!("corpus.limits.{key}"), || {
                "0: expected at least 1; leave it out for the default".into()
            })?;
        }
        let (log, known) = (limits.zstd_window_log, ZSTD_WINDOW_LOGS);
        self.that(known.contains(&log), "corpus.limits.zstd_window_log", || {
            format!("{log}: expected {} to {}", known.start(), known.end())
        })
    }

    fn packing(&self, corpus: &CorpusRecipe) -> Result<(), RecipeError> {
        if let Some(mixture) = &corpus.mixture {
            self.mixture(mixture, &corpus.source)?;
            let length = corpus.pack.as_ref().map_or(1, |pack| pack.sequence_length);
            self.quotas(mixture, length)?;
            let key = "corpus.mixture";
            self.that(corpus.tokenizer.is_some(), key, || "a mixture counts tokens; add [corpus.tokenizer]".into())?;
        }
        let Some(pack) = &corpus.pack else { return Ok(()) };
        let key = "corpus.pack.sequence_length";
        let length = pack.sequence_length;
        self.that((8..=MAX_SEQUENCE_LENGTH).contains(&length), key, || format!("{length}: expected 8 to {MAX_SEQUENCE_LENGTH}"))?;
        self.one_of(&pack.method, &["best-fit", "concatenate"], "corpus.pack.method")?;
        self.share(pack.heldout, "corpus.pack.heldout")?;
        self.that(corpus.mixture.is_none() || pack.heldout < 1.0, "corpus.pack.heldout", || {
            "1: every document would be held out and none left for the mixture; give a smaller share".into()
        })?;
        self.that(pack.shard_sequences > 0, "corpus.pack.shard_sequences", || "0: expected at least 1".into())?;
        self.that(corpus.tokenizer.is_some(), "corpus.pack", || "packing needs tokens; add [corpus.tokenizer]".into())
    }

    fn source(&self, source: &SourceRecipe) -> Result<(), RecipeError> {
        let format = source.format.parse::<mellama_sources::Format>();
        if let Err(error) = format {
            return self.that(false, "corpus.source.format", || format!("source \"{}\": {error}", source.name));
        }
        let has_sets = ["pile", "redpajama"].contains(&source.format.as_str());
        self.that(has_sets || source.read.sets.is_empty(), "corpus.source.read.sets", || {
            format!("source \"{}\": {} has no sets; leave the key out, or use pile or redpajama", source.name, source.format)
        })?;
        let key = "corpus.source.inputs";
        self.that(!source.inputs.is_empty(), key, || format!("source \"{}\" has no input", source.name))?;
        self.that(source.max_epochs >= 1, "corpus.source.max_epochs", || {
            format!("0 in source \"{}\": expected at least 1; leave the source out to use none of it", source.name)
        })?;
        let key = "corpus.source.expected_tokens";
        let some = source.expected_tokens.is_none_or(|tokens| (1..=MAX_EXPECTED_TOKENS).contains(&tokens));
        self.that(some, key, || format!("source \"{}\": expected 1 to {MAX_EXPECTED_TOKENS}", source.name))?;
        self.share(source.max_rejects, "corpus.source.max_rejects")
    }

    fn mixture(&self, mixture: &MixtureRecipe, sources: &[SourceRecipe]) -> Result<(), RecipeError> {
        let some = mixture.weights().iter().any(|(_, weight)| *weight > 0);
        self.that(some, "corpus.mixture", || "every weight is 0; give biomedical, clinical or general a weight".into())?;
        for (domain, weight) in mixture.weights() {
            let has_source = sources.iter().any(|source| source.domain == domain);
            self.that(weight == 0 || has_source, &format!("corpus.mixture.{domain}"), || {
                format!("weight {weight}, but no source has the domain \"{domain}\"; add one, or leave the weight out")
            })?;
        }
        self.one_of(&mixture.unit, &["tokens", "sequences"], "corpus.mixture.unit")?;
        let some = mixture.tokens != TotalRecipe::Tokens(0);
        self.that(some, "corpus.mixture.tokens", || "0: expected at least 1, or \"all\"".into())?;
        if let TotalRecipe::Word(word) = &mixture.tokens {
            let problem = || format!("\"{word}\": expected a number of tokens or \"all\"");
            self.that(word == "all", "corpus.mixture.tokens", problem)?;
        }
        Ok(())
    }

    /// What is wrong whatever the supply.
    fn quotas(&self, mixture: &MixtureRecipe, sequence_length: u32) -> Result<(), RecipeError> {
        let planned = planned_quotas(&mixture.spec(sequence_length));
        let problem = planned.as_ref().err().map(|error| error.to_string().trim_start_matches("mixture: ").to_owned());
        self.that(planned.is_ok(), "corpus.mixture", || problem.unwrap_or_default())?;
        let some = planned.ok().flatten().is_none_or(|quotas| quotas.iter().any(|quota| *quota > 0));
        self.that(some, "corpus.mixture.tokens", || {
            format!("less than one sequence of {sequence_length} tokens; give more, or unit = \"tokens\"")
        })
    }

    fn model(&self, model: &ModelRecipe) -> Result<(), RecipeError> {
        let some = model.shape.is_some() || model.checkpoint.is_some();
        self.that(some, "model", || "give shape, checkpoint or both".into())?;
        model.shape.iter().try_for_each(|shape| self.one_of(shape, &SHAPE_NAMES, "model.shape"))
    }

    fn instruct(&self, instruct: &InstructRecipe) -> Result<(), RecipeError> {
        self.one_of(&instruct.template, &["mellama", "llama2-chat", "none"], "instruct.template")?;
        let length = instruct.sequence_length.unwrap_or(8);
        let problem = || format!("{length}: expected 8 to {MAX_SEQUENCE_LENGTH}");
        self.that((8..=MAX_SEQUENCE_LENGTH).contains(&length), "instruct.sequence_length", problem)?;
        for source in &instruct.source {
            self.one_of(&source.format, &["jsonl", "json"], "instruct.source.format")?;
            self.share(source.max_rejects, "instruct.source.max_rejects")?;
        }
        self.spec(&instruct.spec(), "instruct")
    }

    fn spec(&self, spec: &TrainSpec, part: &str) -> Result<(), RecipeError> {
        spec.check().or_else(|e| self.that(false, part, || e.to_string()))
    }
}
