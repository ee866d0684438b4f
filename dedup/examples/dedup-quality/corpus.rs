//! A corpus in memory with what is known of it, its sketches, and the similarity of all its pairs.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use mellama_dedup::{Entry, NormalForm, SketchSpec, Sketcher, TextError, Texts};
use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;
use serde::Deserialize;

use crate::words::{Shingle, Vocabulary};

/// Pairs below this are not kept: the curve is looked at from here on.
const LEAST_SIMILARITY: f64 = 0.35;

/// Documents that were made alike in one way.
#[derive(Deserialize)]
pub(crate) struct Group {
    /// How.
    pub(crate) kind: String,
    /// Ids, the first one that of the text that the others were made from.
    pub(crate) ids: Vec<String>,
    /// They differ in a clinical value.
    pub(crate) keep: bool,
}

/// Two documents and their measured similarity; `a` < `b`.
pub(crate) struct Pair {
    pub(crate) a: usize,
    pub(crate) b: usize,
    pub(crate) similarity: f64,
}

#[derive(Deserialize)]
struct Document {
    id: String,
    text: String,
}

/// Texts by index, and all that is measured of them.
pub(crate) struct Corpus {
    pub(crate) ids: Vec<String>,
    pub(crate) texts: Vec<String>,
    pub(crate) groups: Vec<Group>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) shingles: Vec<Vec<Shingle>>,
    indexes: HashMap<String, usize>,
}

impl Texts for Corpus {
    fn text(&self, number: u32) -> Result<String, TextError> {
        Ok(self.texts[number as usize].clone())
    }
}

impl Corpus {
    /// The files of `make_corpus.py quality`.
    pub(crate) fn generated(folder: &Path) -> Result<Self, String> {
        let documents: Vec<Document> = lines(&folder.join("corpus.jsonl"))?;
        Self::new(documents, lines(&folder.join("truth.jsonl"))?)
    }

    /// One of the article sets: `ID TEXT` a line, and `ID ID` a true pair.
    pub(crate) fn articles(folder: &Path, name: &str) -> Result<Self, String> {
        let text = |ending: &str| read(&folder.join(format!("{name}.{ending}")));
        let split = |line: &str| line.split_once(' ').map(|(a, b)| (a.to_owned(), b.trim().to_owned()));
        let documents = text("train")?.lines().filter_map(split).map(|(id, text)| Document { id, text }).collect();
        let group = |(a, b)| Group { kind: "inserted word".into(), ids: vec![a, b], keep: false };
        let groups = text("truth")?.lines().filter_map(split).map(group).collect();
        Self::new(documents, groups)
    }

    fn new(documents: Vec<Document>, groups: Vec<Group>) -> Result<Self, String> {
        let sketcher = Sketcher::new(SketchSpec::default()).map_err(|error| error.to_string())?;
        let entries = documents.par_iter().map(|document| entry(document, &sketcher)).collect();
        let mut vocabulary = Vocabulary::default();
        let shingles = documents.iter().map(|document| vocabulary.shingles(&document.text)).collect();
        let (ids, texts): (Vec<String>, Vec<String>) = documents.into_iter().map(|document| (document.id, document.text)).unzip();
        let indexes: HashMap<String, usize> = ids.iter().cloned().zip(0..).collect();
        match groups.iter().flat_map(|group| &group.ids).find(|id| !indexes.contains_key(*id)) {
            Some(id) => Err(format!("{id}: named by the truth, and not in the corpus; make both again")),
            None => Ok(Self { ids, texts, groups, entries, shingles, indexes }),
        }
    }

    /// Index of an id that the corpus has.
    pub(crate) fn index(&self, id: &str) -> usize {
        self.indexes[id]
    }

    /// All pairs of at least 0.35: for each document the shingles that it has in common with each later one are counted.
    pub(crate) fn similar_pairs(&self) -> Vec<Pair> {
        let mut holders: Vec<(Shingle, u32)> = Vec::new();
        for (index, shingles) in (0u32..).zip(&self.shingles) {
            holders.extend(shingles.iter().map(|&shingle| (shingle, index)));
        }
        holders.par_sort_unstable();
        // For each shingle of a document the documents after it that have the shingle too.
        let mut later: Vec<Vec<&[(Shingle, u32)]>> = vec![Vec::new(); self.texts.len()];
        for group in holders.chunk_by(|a, b| a.0 == b.0) {
            for (at, (_, index)) in group.iter().enumerate() {
                later[*index as usize].push(&group[at + 1..]);
            }
        }
        let of_document = |common: &mut Vec<u32>, a: usize| self.pairs_of(a, &later[a], common);
        (0..self.texts.len()).into_par_iter().map_init(|| vec![0; self.texts.len()], of_document).flatten().collect()
    }

    /// Pairs of one document; `common` holds a count for each document, all 0 before and after.
    fn pairs_of(&self, a: usize, later: &[&[(Shingle, u32)]], common: &mut [u32]) -> Vec<Pair> {
        let mut others = Vec::new();
        for (_, b) in later.iter().copied().flatten() {
            if common[*b as usize] == 0 {
                others.push(*b as usize);
            }
            common[*b as usize] += 1;
        }
        others.sort_unstable();
        let mut pairs = Vec::new();
        for b in others {
            let common = std::mem::take(&mut common[b]) as usize;
            let similarity = common as f64 / (self.shingles[a].len() + self.shingles[b].len() - common) as f64;
            if similarity >= LEAST_SIMILARITY {
                pairs.push(Pair { a, b, similarity });
            }
        }
        pairs
    }

    /// The pairs of which the documents do not differ in a clinical value by their making, and the others.
    pub(crate) fn by_meaning(&self, pairs: Vec<Pair>) -> (Vec<Pair>, Vec<Pair>) {
        let mut group_of = vec![None; self.texts.len()];
        for (number, group) in self.groups.iter().enumerate().filter(|(_, group)| group.keep) {
            for id in &group.ids {
                group_of[self.index(id)] = Some(number);
            }
        }
        pairs.into_iter().partition(|pair| group_of[pair.a].is_none() || group_of[pair.a] != group_of[pair.b])
    }

    /// Whether two documents share a band key.
    pub(crate) fn is_candidate(&self, pair: &Pair) -> bool {
        let bands = |index: usize| &self.entries[index].sketch.bands;
        bands(pair.a).iter().zip(bands(pair.b)).any(|(x, y)| x == y)
    }
}

/// The only place where an entry is made.
fn entry(document: &Document, sketcher: &Sketcher) -> Entry {
    Entry {
        id: document.id.clone(),
        characters: document.text.chars().count() as u64,
        sketch: sketcher.sketch(&document.text, NormalForm::Plain),
        ..Entry::default()
    }
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn lines<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<Vec<T>, String> {
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|_| format!("{}: line {}: not as expected", path.display(), number + 1))
    };
    read(path)?.lines().enumerate().map(parse).collect()
}
