//! What is known of the fixtures from their construction, as `expected.json` says it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The whole of `expected.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// By the name that a recipe should give the source.
    pub sources: BTreeMap<String, SourceExpectation>,
    /// The instruction file.
    pub instructions: InstructionExpectation,
    /// The benchmark file.
    pub benchmark: BenchmarkExpectation,
    /// Ids in the tokenizer.
    pub vocabulary_size: u32,
}

/// One source of documents. Ids are native ids.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceExpectation {
    /// Format name of a recipe.
    pub format: String,
    /// Glob, relative to the fixtures.
    pub inputs: String,
    /// `biomedical`, `clinical` or `general`.
    pub domain: String,
    /// Records in the files: documents and rejects.
    pub records: u64,
    /// Records that become documents.
    pub documents: u64,
    /// Records that are rejected, by code.
    pub rejects: BTreeMap<String, u64>,
    /// Older versions of a native id (each is removed when the newest is kept).
    pub older_versions: Vec<String>,
    /// Pairs of equal text, white space aside: one of each pair is removed. Text of a pair is equal to no third one.
    pub exact_pairs: Vec<[String; 2]>,
    /// Of those, pairs that differ in white space.
    pub whitespace_pairs: u64,
    /// `[shorter, longer]`: the shorter text is wholly in the longer one and is removed by the strict rule.
    pub near_pairs: Vec<[String; 2]>,
    /// Pairs that differ in one number only: both must be kept.
    pub must_keep_pairs: Vec<[String; 2]>,
    /// Documents that hold the whole question of a benchmark item.
    pub contaminated: Vec<Leak>,
    /// Documents that hold less than 80 % of one: reported, kept.
    pub partly_contaminated: Vec<Leak>,
    /// Native ids whose PubMed id is also that of an article in `pmc`.
    pub also_in_pmc: Vec<String>,
}

impl SourceExpectation {
    /// An expectation without records.
    pub fn new(format: &str, inputs: &str, domain: &str) -> Self {
        Self { format: format.to_owned(), inputs: inputs.to_owned(), domain: domain.to_owned(), ..Self::default() }
    }

    /// Counts a document.
    pub fn document(&mut self) {
        self.records += 1;
        self.documents += 1;
    }

    /// Counts a reject.
    pub fn reject(&mut self, code: &str) {
        self.records += 1;
        *self.rejects.entry(code.to_owned()).or_default() += 1;
    }

    /// Documents that are left after the removal of older versions, equal and contained texts.
    pub fn kept_after_dedup(&self) -> u64 {
        let removed = self.older_versions.len() + self.exact_pairs.len() + self.near_pairs.len();
        self.documents - removed as u64
    }
}

/// A benchmark question in a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Leak {
    /// Native id of the document.
    pub document: String,
    /// Id of the benchmark item.
    pub item: String,
}

/// The instruction file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstructionExpectation {
    /// Lines of the file.
    pub records: u64,
    /// Lines that are conversations.
    pub conversations: u64,
    /// Of those, with more than one answer.
    pub multi_turn: u64,
    /// Lines without an answer.
    pub without_answer: u64,
}

/// The benchmark file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchmarkExpectation {
    /// Items.
    pub items: u64,
    /// Items whose question is long enough for the 13-word check.
    pub checkable: u64,
    /// Items of which some document holds the whole question.
    pub leaked: u64,
}
