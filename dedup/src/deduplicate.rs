//! One deduplication of a corpus in memory, from entries to removals: ids, exact hashes, bands, then proof.
//!
//! It is the steps of the larger pipeline in a row ([`Arranger`], [`join_band`], [`Forest`], [`Verifier`]), which a caller
//! with more documents than memory runs one by one. It reads no text until a pair is proposed, and publishes nothing.

use std::io;
use std::path::Path;

use thiserror::Error;

use crate::arrange::{Arranged, Arranger, NO_ORDINAL};
use crate::band_join::join_band;
use crate::cluster::{Decided, Member, Verifier};
use crate::entry::{Entry, Options, TextError, Texts, VerifyMode};
use crate::forest::Forest;
use crate::outcome::{ClusterReport, ClusterSummary, LARGEST_CLUSTERS, Outcome, SourceLoss, check_losses};
use crate::sketch::Sketcher;
use crate::spec::SpecError;

/// Finds the documents to remove: first all but the newest entry of an id, then exact copies, then those that bands or their
/// own records propose and a direct comparison proves.
///
/// Of two documents the one of higher priority is kept ([`crate::Profile`]). The result depends on the entries as a set: not
/// on their order (but for entries with equal id and version, where the first given stays), not on `memory_bytes` and not on
/// the number of threads. `scratch` must exist; it is used only for what exceeds the budget, and for files without a name.
///
/// # Errors
/// [`DedupError::SourceLoss`] if verified removals take more than `max_source_loss` of a source's characters (same ids and
/// exact copies are not counted); otherwise bad settings or entries, the scratch folder, or a text.
pub fn deduplicate(
    entries: &[Entry],
    sources: &[String],
    options: &Options,
    scratch: &Path,
    texts: &dyn Texts,
) -> Result<Outcome, DedupError> {
    let sketcher = Sketcher::new(options.spec)?;
    options.check()?;
    check_entries(entries, sources, options)?;

    let mut arranger = Arranger::new(options.memory_bytes, scratch);
    for entry in entries {
        arranger.push(&entry.profile(), &entry.links)?;
    }
    let arranged = arranger.finish()?;
    let (roots, candidates) = propose(entries, &arranged, options, scratch)?;
    let members = members(entries, &arranged, &roots);
    let clusters: Vec<&[Member]> = clusters(&members, &arranged, &roots).collect();
    let decided = Verifier::new(texts, &sketcher, options.verify).decide_all(&clusters)?;

    let report = report(entries, &clusters, &decided);
    let comparisons = decided.iter().map(|d| d.comparisons).sum();
    let mut losses = totals(entries, sources);
    for removal in decided.iter().flat_map(|d| &d.removals) {
        let entry = &entries[removal.dropped as usize];
        losses[usize::from(entry.source)].add(entry.characters);
    }
    check_losses(&losses, options.max_source_loss, &report)?;
    let mut removals = arranged.removals;
    removals.extend(decided.into_iter().flat_map(|d| d.removals));
    removals.sort_unstable_by_key(|removal| removal.dropped);
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
    #[error("dedup: got {got} documents, expected at most {}; deduplicate in parts", u32::MAX - 1)]
    TooManyEntries {
        /// Number of entries.
        got: usize,
    },
    /// The scratch folder failed.
    #[error("dedup: scratch folder not usable; free space there or name another with --scratch")]
    Scratch(#[from] io::Error),
    /// A text could not be read.
    #[error("{document}: text needed for a comparison")]
    Text {
        /// Its id or its place.
        document: String,
        /// The cause.
        source: TextError,
    },
    /// A text is not the one that was sketched.
    #[error("{document}: text differs from the one sketched; its object changed, run \"mellama verify\"")]
    TextChanged {
        /// Its id or its place.
        document: String,
    },
    /// Verified removals take too much of a source; nothing must be published.
    #[error(
        "source \"{source_name}\": verified removals take {share:.4} of its characters, max_source_loss is {limit}; nothing is \
         published. Mark the source `templated`, or raise max_source_loss after a look at its largest clusters: {clusters}"
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

impl Options {
    /// Checks the shares.
    ///
    /// # Errors
    /// [`DedupError::Option`] for one outside 0 to 1.
    pub fn check(&self) -> Result<(), DedupError> {
        let min_similarity = match self.verify {
            VerifyMode::Strict => 1.0,
            VerifyMode::Tolerant { min_similarity } => min_similarity,
        };
        for (key, got) in [("min_similarity", min_similarity), ("max_source_loss", self.max_source_loss)] {
            // The range refuses NaN too.
            if !(0.0..=1.0).contains(&got) {
                return Err(DedupError::Option { key, got });
            }
        }
        Ok(())
    }
}

/// The root of each ordinal that shares a set with another, and the number of pairs that the bands proposed.
fn propose(entries: &[Entry], arranged: &Arranged, options: &Options, scratch: &Path) -> Result<(Vec<u32>, u64), DedupError> {
    let mut forest = Forest::new(entries.len() as u32);
    let mut candidates = 0;
    let joined = |&(entry, ordinal): &(&Entry, u32)| ordinal != NO_ORDINAL && entry.profile().has_bands();
    let expected = arranged.ordinals.iter().filter(|&&ordinal| ordinal != NO_ORDINAL).count();
    for band in 0..options.spec.bands as usize {
        let documents = entries.iter().zip(arranged.ordinals.iter().copied()).filter(joined);
        let records = documents.map(|(entry, ordinal)| Ok::<_, io::Error>((entry.sketch.bands[band], ordinal)));
        candidates += join_band(records, expected, options.memory_bytes, scratch, &mut |a, b| forest.join(a, b))?;
    }
    for link in &arranged.links {
        forest.join(arranged.ordinals[link.dependent as usize], arranged.ordinals[link.owner as usize]);
    }
    Ok((forest.into_roots(), candidates))
}

/// The members of all clusters, by root, then by ordinal.
fn members(entries: &[Entry], arranged: &Arranged, roots: &[u32]) -> Vec<Member> {
    let mut order: Vec<(u32, u32, u32)> = Vec::new();
    for (number, &ordinal) in (0u32..).zip(&arranged.ordinals) {
        let root = roots.get(ordinal as usize).copied().unwrap_or(NO_ORDINAL);
        if root != NO_ORDINAL {
            order.push((root, ordinal, number));
        }
    }
    order.sort_unstable();
    let member = |&(_, _, number): &(u32, u32, u32)| {
        let (entry, profile) = (&entries[number as usize], entries[number as usize].profile());
        let link = arranged.links.binary_search_by_key(&number, |link| link.dependent);
        Member {
            number,
            source: entry.source,
            group: entry.group,
            words: profile.words,
            exact: profile.exact,
            form: entry.form,
            released: entry.release.is_some(),
            owner: link.ok().map(|found| (arranged.links[found].owner, arranged.links[found].kind)),
        }
    };
    order.iter().map(member).collect()
}

/// The clusters that hold a document of this run.
fn clusters<'m>(members: &'m [Member], arranged: &'m Arranged, roots: &'m [u32]) -> impl Iterator<Item = &'m [Member]> {
    let root = |member: &Member| roots[arranged.ordinals[member.number as usize] as usize];
    let clusters = members.chunk_by(move |a, b| root(a) == root(b));
    clusters.filter(|cluster| cluster.iter().any(|member| !member.released))
}

fn report(entries: &[Entry], clusters: &[&[Member]], decided: &[Decided]) -> ClusterReport {
    let mut by_size: Vec<usize> = (0..clusters.len()).collect();
    // Clusters stand in the order of their roots, so a stable sort ends ties by priority.
    by_size.sort_by_key(|&c| std::cmp::Reverse(clusters[c].len()));
    let entry = |number: u32| &entries[number as usize];
    let largest = by_size.iter().take(LARGEST_CLUSTERS).map(|&c| ClusterSummary {
        keeper: entry(clusters[c][0].number).id.clone(),
        documents: clusters[c].len() as u64,
        removed: decided[c].removals.len() as u64,
        removed_characters: decided[c].removals.iter().map(|removal| entry(removal.dropped).characters).sum(),
    });
    ClusterReport {
        clusters: clusters.len() as u64,
        documents: clusters.iter().map(|c| c.len() as u64).sum(),
        largest: largest.collect(),
    }
}

/// What each source has, nothing of it lost. Documents of earlier releases belong to no source of this run.
fn totals(entries: &[Entry], sources: &[String]) -> Vec<SourceLoss> {
    let named = |source: &String| SourceLoss { source: source.clone(), ..SourceLoss::default() };
    let mut losses: Vec<SourceLoss> = sources.iter().map(named).collect();
    for entry in entries.iter().filter(|entry| entry.release.is_none()) {
        losses[usize::from(entry.source)].total_characters += entry.characters;
    }
    losses
}

fn check_entries(entries: &[Entry], sources: &[String], options: &Options) -> Result<(), DedupError> {
    if entries.len() >= u32::MAX as usize {
        return Err(DedupError::TooManyEntries { got: entries.len() });
    }
    let bands = options.spec.bands as usize;
    for entry in entries {
        let refuse = |problem: String| Err(DedupError::Entry { id: entry.id.clone(), problem });
        if usize::from(entry.source) >= sources.len() {
            return refuse(format!("source {}, expected less than {}", entry.source, sources.len()));
        }
        let keys = entry.sketch.bands.len();
        if keys != 0 && keys != bands {
            return refuse(format!("{keys} band keys, expected {bands}"));
        }
        if (keys == 0) != (entry.sketch.words == 0) {
            return refuse(format!("{keys} band keys for {} words", entry.sketch.words));
        }
    }
    Ok(())
}
