//! A corpus in memory with deterministic pseudo-random texts, and a deduplication of it by id.

use std::sync::atomic::{AtomicUsize, Ordering};

use mellama_dedup::{
    DedupError, Entry, Links, NormalForm, Options, Outcome, SketchSpec, Sketcher, TextError, Texts, VerifyMode, deduplicate,
};

/// One document before it is sketched.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) source: u16,
    pub(crate) rank: u16,
    pub(crate) version: u32,
    pub(crate) form: NormalForm,
    pub(crate) exact_only: bool,
    pub(crate) release: Option<u16>,
    pub(crate) abridged: bool,
    pub(crate) group: u64,
    pub(crate) links: Links,
}

impl Sample {
    /// A plain text of source 0.
    pub(crate) fn new(id: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            text: text.into(),
            source: 0,
            rank: 0,
            version: 1,
            form: NormalForm::Plain,
            exact_only: false,
            release: None,
            abridged: false,
            group: 0,
            links: Links::default(),
        }
    }
}

/// Texts by entry index; counts how often one was asked for.
pub(crate) struct InMemory<'a> {
    pub(crate) texts: &'a [Sample],
    pub(crate) reads: AtomicUsize,
}

impl Texts for InMemory<'_> {
    fn text(&self, number: u32) -> Result<String, TextError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(self.texts[number as usize].text.clone())
    }

    fn name(&self, number: u32) -> String {
        self.texts[number as usize].id.clone()
    }
}

/// Strict, no loss limit, memory for everything.
pub(crate) fn strict() -> Options {
    Options { spec: SketchSpec::default(), verify: VerifyMode::Strict, max_source_loss: 1.0, memory_bytes: 1 << 30 }
}

/// Tolerant at 0.95.
pub(crate) fn tolerant() -> Options {
    Options { verify: VerifyMode::Tolerant { min_similarity: 0.95 }, ..strict() }
}

pub(crate) fn entries(texts: &[Sample], spec: SketchSpec) -> Vec<Entry> {
    let sketcher = Sketcher::new(spec).unwrap();
    let entry = |text: &Sample| Entry {
        id: text.id.clone(),
        source: text.source,
        version: text.version,
        rank: text.rank,
        characters: text.text.chars().count() as u64,
        form: text.form,
        exact_only: text.exact_only,
        release: text.release,
        abridged: text.abridged,
        group: text.group,
        links: text.links.clone(),
        quality: 0,
        sketch: sketcher.sketch(&text.text, text.form),
    };
    texts.iter().map(entry).collect()
}

/// Sources named s0, s1, s2.
pub(crate) fn sources() -> Vec<String> {
    (0..3).map(|i| format!("s{i}")).collect()
}

pub(crate) fn try_run(texts: &[Sample], options: &Options) -> Result<Outcome, DedupError> {
    let scratch = tempfile::tempdir().unwrap();
    let source = InMemory { texts, reads: AtomicUsize::new(0) };
    let entries = entries(texts, options.spec);
    let outcome = deduplicate(&entries, &sources(), options, scratch.path(), &source);
    let left = std::fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(left, 0, "files left in the scratch folder");
    outcome
}

pub(crate) fn run(texts: &[Sample], options: &Options) -> Outcome {
    try_run(texts, options).unwrap()
}

/// Removals as "dropped kept rule", sorted.
pub(crate) fn by_id(texts: &[Sample], outcome: &Outcome) -> Vec<String> {
    let mut lines: Vec<String> = outcome
        .removals
        .iter()
        .map(|r| format!("{} {} {}", texts[r.dropped as usize].id, texts[r.kept as usize].id, r.rule.as_str()))
        .collect();
    lines.sort();
    lines
}

/// A small generator (xorshift), so that texts are the same on every machine.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    /// Prose-like words from a vocabulary of 5,000, a full stop now and then.
    pub(crate) fn prose(&mut self, words: usize) -> String {
        let word = |random: &mut Self| {
            let stop = if random.below(12) == 0 { "." } else { "" };
            format!("w{}{stop}", random.below(5000))
        };
        (0..words).map(|_| word(self)).collect::<Vec<_>>().join(" ")
    }

    /// Fisher and Yates.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
