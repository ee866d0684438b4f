//! The decisions of one mode, the checks of each removal, and the tables of what the modes remove.

use std::fmt::Write as _;
use std::path::Path;

use mellama_dedup::{Options, Outcome, Removal, Rule, SketchSpec, VerifyMode, deduplicate};

use crate::corpus::{Corpus, Group, Pair};
use crate::words::{jaccard, lost_gram, numbers, stands_in_order};

/// Beginning of the kinds in which a value moved to where the same words stand around it: no proof by numbers and shingles sees
/// that.
const MOVED: &str = "moved-";
/// Kinds that differ in a word: `tolerant` compares numbers.
const IN_WORDS: [&str; 3] = ["value-laterality", "value-negation", "value-unit"];

/// Similarities from which on the cost of strictness is told.
const FROM: [f64; 6] = [0.8, 0.85, 0.9, 0.95, 0.99, 1.0];

/// What one mode removed.
pub(crate) struct Decisions {
    mode: VerifyMode,
    outcome: Outcome,
    removed: Vec<bool>,
}

impl Decisions {
    pub(crate) fn of(corpus: &Corpus, mode: VerifyMode) -> Result<Self, String> {
        let options = Options { spec: SketchSpec::default(), verify: mode, max_source_loss: 1.0, memory_bytes: 1 << 30 };
        // With this much memory the scratch folder is not touched.
        let outcome = deduplicate(&corpus.entries, &["corpus".into()], &options, Path::new("unused"), corpus)
            .map_err(|error| error.to_string())?;
        let mut removed = vec![false; corpus.texts.len()];
        for removal in &outcome.removals {
            removed[removal.dropped as usize] = true;
        }
        Ok(Self { mode, outcome, removed })
    }

    fn name(&self) -> &'static str {
        match self.mode {
            VerifyMode::Strict => "strict",
            VerifyMode::Tolerant { .. } => "tolerant",
        }
    }

    /// Bars that this mode misses.
    pub(crate) fn missed(&self, corpus: &Corpus, name: &str) -> Vec<String> {
        let line = |problem: &str, ids: &str| format!("{name}: {}: {problem}: {ids}", self.name());
        let mut missed = Vec::new();
        for removal in &self.outcome.removals {
            if let Some(problem) = self.problem(corpus, removal) {
                missed.push(line(
                    problem,
                    &format!("{} for {}", corpus.ids[removal.dropped as usize], corpus.ids[removal.kept as usize]),
                ));
            }
        }
        for group in &corpus.groups {
            let gone = self.gone(corpus, group);
            if group.kind.starts_with("exact") && gone + 1 != group.ids.len() {
                missed.push(line("an exact copy is kept", &group.ids[0]));
            }
            if group.keep && gone > 0 && self.must_see(group) {
                missed.push(line("a clinical value is lost", &group.ids[0]));
            }
        }
        missed
    }

    /// Whether the mode promises to keep what is in the group.
    fn must_see(&self, group: &Group) -> bool {
        let in_words = IN_WORDS.contains(&group.kind.as_str());
        self.mode == VerifyMode::Strict || !(in_words || group.kind.starts_with(MOVED))
    }

    /// Why a removal is not proved.
    fn problem(&self, corpus: &Corpus, removal: &Removal) -> Option<&'static str> {
        let pair = [removal.dropped as usize, removal.kept as usize];
        let [dropped, kept] = pair.map(|index| corpus.texts[index].as_str());
        let [ours, theirs] = pair.map(|index| &corpus.shingles[index]);
        let similarity = jaccard(ours, theirs);
        let near_kept_is_gone = removal.rule != Rule::Exact && self.removed[pair[1]];
        match removal.rule {
            _ if near_kept_is_gone => Some("compared with a removed document"),
            _ if (similarity - removal.similarity).abs() > 1e-12 => Some("another similarity than measured"),
            Rule::Exact if !dropped.split_whitespace().eq(kept.split_whitespace()) => Some("not an exact copy"),
            Rule::Strict if lost_gram(dropped, kept) => Some("a 3-gram is lost"),
            Rule::Tolerant if numbers(dropped) != numbers(kept) => Some("a number differs"),
            Rule::Tolerant => match self.mode {
                VerifyMode::Tolerant { min_similarity } if similarity >= min_similarity => None,
                _ => Some("similarity below the threshold"),
            },
            Rule::SameId | Rule::FullText | Rule::Preprint => Some("ids are unique here, and no record names another"),
            Rule::Exact | Rule::Strict => None,
        }
    }

    /// Removed documents of a group.
    fn gone(&self, corpus: &Corpus, group: &Group) -> usize {
        group.ids.iter().filter(|id| self.removed[corpus.index(id)]).count()
    }

    /// Removed documents of a group whose tokens do not stand in the kept document in their order.
    fn moved(&self, corpus: &Corpus, group: &Group) -> usize {
        let removals = &self.outcome.removals;
        let removal =
            |id: &String| removals.binary_search_by_key(&(corpus.index(id) as u32), |r| r.dropped).ok().map(|at| removals[at]);
        let in_order = |r: Removal| stands_in_order(&corpus.texts[r.dropped as usize], &corpus.texts[r.kept as usize]);
        group.ids.iter().filter_map(removal).filter(|&r| !in_order(r)).count()
    }
}

/// How many pairs lose one of their documents.
pub(crate) fn cost_table(pairs: &[Pair], strict: &Decisions, tolerant: &Decisions) -> String {
    let mut table =
        String::from("| Jaccard at least | Pairs | `strict` removes one | `tolerant` removes one |\n|---|---|---|---|\n");
    for from in FROM {
        let alike: Vec<&Pair> = pairs.iter().filter(|pair| pair.similarity >= from).collect();
        let resolved = |decisions: &Decisions| {
            let count = alike.iter().filter(|pair| decisions.removed[pair.a] || decisions.removed[pair.b]).count();
            format!("{count} ({:.1} %)", 100.0 * count as f64 / alike.len().max(1) as f64)
        };
        writeln!(table, "| {from:.2} | {} | {} | {} |", alike.len(), resolved(strict), resolved(tolerant))
            .expect("a string takes all");
    }
    table
}

/// Removed documents by the way in which they were made.
pub(crate) fn kind_table(corpus: &Corpus, strict: &Decisions, tolerant: &Decisions) -> String {
    let mut kinds: Vec<&str> = corpus.groups.iter().map(|group| group.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut table = String::from(
        "| Kind | Groups | Copies | Differ in a clinical value | `strict` removes | of these in another order \
         | `tolerant` removes |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for kind in kinds {
        let groups: Vec<&Group> = corpus.groups.iter().filter(|group| group.kind == kind).collect();
        let copies: usize = groups.iter().map(|group| group.ids.len() - 1).sum();
        let gone = |decisions: &Decisions| groups.iter().map(|group| decisions.gone(corpus, group)).sum::<usize>();
        let moved: usize = groups.iter().map(|group| strict.moved(corpus, group)).sum();
        let keep = if groups.iter().all(|group| group.keep) { "yes" } else { "no" };
        let (strict, tolerant) = (gone(strict), gone(tolerant));
        writeln!(table, "| {kind} | {} | {copies} | {keep} | {strict} | {moved} | {tolerant} |", groups.len())
            .expect("a string takes all");
    }
    table
}
