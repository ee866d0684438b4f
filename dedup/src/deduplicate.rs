//! One deduplication from entries to removals: ids, exact hashes, bands, then proof.
//!
//! It reads no text until a pair is proposed, and publishes nothing: the caller writes the decisions.

use std::io;
use std::path::Path;

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use thiserror::Error;

use crate::band_join::{Partitioning, join_band};
use crate::cluster::{Decided, Verifier, is_large};
use crate::entry::{Entry, Options, Removal, Rule, TextError, Texts, VerifyMode};
use crate::outcome::{ClusterReport, ClusterSummary, LARGEST_CLUSTERS, Outcome, SourceLoss};
use crate::priority::{by_priority, exact_copies, same_ids};
use crate::sketch::Sketcher;
use crate::spec::SpecError;
use crate::union_find::UnionFind;

/// Finds the documents to remove: first all but the newest entry of an id, then exact copies, then near-duplicates that
/// the bands propose and a direct comparison proves.
///
/// Of two documents the one of higher priority is kept: smaller rank, then more words, then more characters, then the
/// smaller id (bytes). The result
/// depends on the entries as a set: not on their order (but for entries with equal id and version, where the first given
/// stays), not on `memory_bytes` and not on the number of threads. `scratch` must exist; it is used only when the records
/// of one band exceed the budget, and for files without a name.
///
/// # Errors
/// [`DedupError::SourceLoss`] if verified near-duplicates take more than `max_source_loss` of a source's characters
/// (same ids and exact copies are not counted); otherwise bad settings or entries, the scratch folder, or a text.
pub fn deduplicate(
    entries: &[Entry],
    sources: &[String],
    options: &Options,
    scratch: &Path,
    texts: &dyn Texts,
) -> Result<Outcome, DedupError> {
    let sketcher = Sketcher::new(options.spec)?;
    check_options(options)?;
    check_entries(entries, sources, options)?;

    let mut removals = same_ids(entries);
    let mut order = by_priority(entries);
    retain(&mut order, &removals);
    let exact = exact_copies(entries, &order);
    retain(&mut order, &exact);
    removals.extend(exact);
    order.retain(|&index| {
        let entry = &entries[index as usize];
        !entry.exact_only && !entry.sketch.bands.is_empty()
    });

    let (links, candidates) = propose(entries, &order, options, scratch)?;
    let verifier = Verifier { entries, texts, sketcher: &sketcher, mode: options.verify };
    let clusters: Vec<&[(u32, u32)]> = links.chunk_by(|a, b| a.0 == b.0).collect();
    let decided = decide(&verifier, &order, &clusters)?;

    let report = report(entries, &order, &clusters, &decided);
    let comparisons = decided.iter().map(|d| d.comparisons).sum();
    removals.extend(decided.into_iter().flat_map(|d| d.removals));
    removals.sort_unstable_by_key(|removal| removal.dropped);
    let losses = losses(entries, sources, &removals);
    check_losses(&losses, options.max_source_loss, &report)?;
    Ok(Outcome { removals, clusters: report, losses, candidates, comparisons })
}

/// Why a deduplication stopped. No variant holds document text.
#[derive(Debug, Error)]
pub enum DedupError {
    /// Bands, rows or shingle words out of their limits.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Another setting out of its limits.
    #[error("dedup: {key}: got {got}, expected a share from 0 to 1")]
    Option {
        /// Name of the recipe key.
        key: &'static str,
        /// Its value.
        got: f64,
    },
    /// An entry that cannot come from a sketcher of this spec or names no source.
    #[error("{id}: {problem}; sketch the documents again with this recipe")]
    Entry {
        /// Document id.
        id: String,
        /// What is wrong with it.
        problem: String,
    },
    /// More entries than ordinals.
    #[error("dedup: got {got} documents, expected at most {}; deduplicate in parts", u32::MAX)]
    TooManyEntries {
        /// Number of entries.
        got: usize,
    },
    /// The scratch folder failed.
    #[error("dedup: scratch folder not usable; free space there or name another with --scratch")]
    Scratch(#[source] io::Error),
    /// A text could not be read.
    #[error("{id}: text needed for a comparison")]
    Text {
        /// Document id.
        id: String,
        /// The cause.
        source: TextError,
    },
    /// A text is not the one that was sketched.
    #[error("{id}: text differs from the one sketched; its object changed, run \"mellama verify\"")]
    TextChanged {
        /// Document id.
        id: String,
    },
    /// Verified near-duplicates take too much of a source; nothing must be published.
    #[error(
        "{source_name}: near-duplicates take {share:.4} of its characters, expected at most {limit}; \
         mark it `templated`, or raise max_source_loss after a look at its largest clusters"
    )]
    SourceLoss {
        /// Name of the source with the largest share.
        source_name: String,
        /// Share of its characters in verified removals.
        share: f64,
        /// The limit.
        limit: f64,
        /// The largest clusters, ids only.
        clusters: Box<ClusterReport>,
        /// The losses of all sources.
        losses: Vec<SourceLoss>,
    },
}

/// Links (root, ordinal) of all clusters, ascending, and the number of proposed pairs. Ordinals are positions in `order`.
fn propose(entries: &[Entry], order: &[u32], options: &Options, scratch: &Path) -> Result<(Vec<(u32, u32)>, u64), DedupError> {
    let cut = Partitioning::new(order.len(), options.memory_bytes);
    let mut sets = UnionFind::new(order.len() as u32);
    let mut candidates = 0;
    for band in 0..options.spec.bands as usize {
        let keys = order.iter().map(|&index| entries[index as usize].sketch.bands[band]);
        candidates += join_band(keys, cut, scratch, &mut |a, b| sets.join(a, b)).map_err(DedupError::Scratch)?;
    }
    Ok((sets.clustered(), candidates))
}

/// What is decided in each cluster. Large ones go one after another, each on all threads; small ones side by side, each
/// on one. So the texts in memory stay few.
fn decide(verifier: &Verifier<'_>, order: &[u32], clusters: &[&[(u32, u32)]]) -> Result<Vec<Decided>, DedupError> {
    let indexes = |links: &[(u32, u32)]| -> Vec<usize> { links.iter().map(|link| order[link.1 as usize] as usize).collect() };
    let mut decided = Vec::with_capacity(clusters.len());
    for run in clusters.chunk_by(|a, b| is_large(a) == is_large(b)) {
        if is_large(run[0]) {
            for links in run {
                decided.push(verifier.decide(&indexes(links))?);
            }
        } else {
            let side_by_side = run.par_iter().map(|links| verifier.decide(&indexes(links)));
            decided.extend(side_by_side.collect::<Result<Vec<_>, _>>()?);
        }
    }
    Ok(decided)
}

/// Takes the dropped entries out of `order`.
fn retain(order: &mut Vec<u32>, removals: &[Removal]) {
    let mut dropped: Vec<usize> = removals.iter().map(|removal| removal.dropped).collect();
    dropped.sort_unstable();
    order.retain(|&index| dropped.binary_search(&(index as usize)).is_err());
}

fn report(entries: &[Entry], order: &[u32], clusters: &[&[(u32, u32)]], decided: &[Decided]) -> ClusterReport {
    let mut by_size: Vec<usize> = (0..clusters.len()).collect();
    // Clusters stand in the order of their roots, so a stable sort ends ties by priority.
    by_size.sort_by_key(|&c| std::cmp::Reverse(clusters[c].len()));
    let largest = by_size.iter().take(LARGEST_CLUSTERS).map(|&c| ClusterSummary {
        keeper: entries[order[clusters[c][0].0 as usize] as usize].id.clone(),
        documents: clusters[c].len() as u64,
        removed: decided[c].removals.len() as u64,
        removed_characters: decided[c].removals.iter().map(|removal| entries[removal.dropped].characters).sum(),
    });
    ClusterReport {
        clusters: clusters.len() as u64,
        documents: clusters.iter().map(|c| c.len() as u64).sum(),
        largest: largest.collect(),
    }
}

fn losses(entries: &[Entry], sources: &[String], removals: &[Removal]) -> Vec<SourceLoss> {
    let mut losses: Vec<SourceLoss> = sources
        .iter()
        .map(|source| SourceLoss { source: source.clone(), documents: 0, characters: 0, total_characters: 0, share: 0.0 })
        .collect();
    for entry in entries {
        losses[entry.source as usize].total_characters += entry.characters;
    }
    for removal in removals {
        if matches!(removal.rule, Rule::Strict | Rule::Tolerant) {
            let entry = &entries[removal.dropped];
            let loss = &mut losses[entry.source as usize];
            loss.documents += 1;
            loss.characters += entry.characters;
        }
    }
    for loss in &mut losses {
        // An empty source has lost nothing.
        loss.share = loss.characters as f64 / loss.total_characters.max(1) as f64;
    }
    losses
}

/// Names the source with the largest share over the limit; of equal ones the first.
fn check_losses(losses: &[SourceLoss], limit: f64, clusters: &ClusterReport) -> Result<(), DedupError> {
    let over = losses.iter().filter(|loss| loss.share > limit);
    match over.reduce(|worst, next| if next.share > worst.share { next } else { worst }) {
        None => Ok(()),
        Some(worst) => Err(DedupError::SourceLoss {
            source_name: worst.source.clone(),
            share: worst.share,
            limit,
            clusters: Box::new(clusters.clone()),
            losses: losses.to_vec(),
        }),
    }
}

fn check_options(options: &Options) -> Result<(), DedupError> {
    let min_similarity = match options.verify {
        VerifyMode::Strict => 1.0,
        VerifyMode::Tolerant { min_similarity } => min_similarity,
    };
    let shares = [("min_similarity", min_similarity), ("max_source_loss", options.max_source_loss)];
    for (key, got) in shares {
        // The range refuses NaN too.
        if !(0.0..=1.0).contains(&got) {
            return Err(DedupError::Option { key, got });
        }
    }
    Ok(())
}

fn check_entries(entries: &[Entry], sources: &[String], options: &Options) -> Result<(), DedupError> {
    if u32::try_from(entries.len()).is_err() {
        return Err(DedupError::TooManyEntries { got: entries.len() });
    }
    let bands = options.spec.bands as usize;
    for entry in entries {
        let got = entry.sketch.bands.len();
        let problem = if entry.source as usize >= sources.len() {
            format!("source {}, expected less than {}", entry.source, sources.len())
        } else if got != bands && got != 0 {
            format!("{got} band keys, expected {bands}")
        } else if (got == 0) != (entry.sketch.words == 0) {
            format!("{got} band keys for {} words", entry.sketch.words)
        } else {
            continue;
        };
        return Err(DedupError::Entry { id: entry.id.clone(), problem });
    }
    Ok(())
}
