//! Decides, inside one proposed cluster, which documents a kept one makes superfluous. This is the only place where a
//! document is removed because of what its text says.
//!
//! Members come in priority order. First those that their own records link to another member. Then each is compared with
//! the root, the document of highest priority; if that proves nothing, it goes only if a member that is kept has exactly its
//! tokens. What is not proved is kept, however many members it shares bands with. So a cluster takes at most a few
//! comparisons a member, and bands that chain unlike documents together remove nothing.
//!
//! Notes of one source are compared inside a subject, and then the rest of them with what other sources hold.

use std::collections::{BTreeMap, HashMap, HashSet};

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};
use xxhash_rust::xxh3::xxh3_128;

use crate::carried::Carrier;
use crate::comparison::{Lexicon, TokenText, containment, fold, holds_all, jaccard, numeric_tokens};
use crate::deduplicate::DedupError;
use crate::entry::{Removal, Rule, Texts, VerifyMode};
use crate::links::LinkKind;
use crate::normal::NormalForm;
use crate::sketch::{Sketcher, exact_hash};

/// Members of a large cluster that are compared with the root at once.
const BATCH_MEMBERS: usize = 64;

/// Documents of earlier releases that are read for one cluster; the others stay as they are, and a new text that only they
/// stand for, but for case and whitespace, is kept.
pub const MAX_RELEASED_READ: usize = 1024;

/// A note with fewer words than this is mostly template: it goes only if it is almost equal, too.
const SHORT_NOTE_WORDS: u32 = 100;

/// Least Jaccard similarity of a short note and what stands for it.
const SHORT_NOTE_SIMILARITY: f64 = 0.95;

/// Least share of a preprint's shingles that its article has: two texts of one work, not a wrong link.
const PREPRINT_CONTAINMENT: f64 = 0.3;

/// Whether a cluster is decided by several threads, and alone: then `BATCH_MEMBERS` texts are held at once.
pub(crate) fn is_large<T>(cluster: &[T]) -> bool {
    const LARGE_CLUSTER: usize = 512;
    cluster.len() > LARGE_CLUSTER
}

/// One document of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Document number.
    pub number: u32,
    /// As [`crate::Profile::source`].
    pub source: u16,
    /// As [`crate::Profile::group`].
    pub group: u64,
    /// As [`crate::Profile::words`].
    pub words: u32,
    /// As [`crate::Profile::exact`].
    pub exact: [u8; 16],
    /// As [`crate::Profile::form`].
    pub form: NormalForm,
    /// Kept in an earlier release.
    pub released: bool,
    /// The number of the document that stands for it by what their records say.
    pub owner: Option<(u32, LinkKind)>,
}

/// What was decided in one cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decided {
    /// Removals in the order in which they were decided; every member at most once.
    pub removals: Vec<Removal>,
    /// Pairs that were compared.
    pub comparisons: u64,
}

/// Proves or refuses the pairs of one cluster after another.
pub struct Verifier<'a> {
    texts: &'a dyn Texts,
    sketcher: &'a Sketcher,
    mode: VerifyMode,
}

/// A cluster while it is decided. Members are named by their place in it.
struct Cluster<'c> {
    members: &'c [Member],
    gone: Vec<bool>,
    /// Another member was removed because of it.
    keeps: Vec<bool>,
    decided: Decided,
}

/// Members of a cluster that are compared with one root.
struct Part<'p> {
    members: &'p [Member],
    root: Root,
    /// Members that stay whatever is found.
    fixed: HashSet<usize>,
    /// Whether the first may stand for the second.
    comparable: fn(&Member, &Member) -> bool,
}

/// A text that was read.
struct Read {
    text: String,
    folded: String,
}

/// The document of highest priority, with what the comparisons with it need.
struct Root {
    index: usize,
    shingles: Vec<u64>,
    lexicon: Lexicon,
    tokens: TokenText,
    /// `Tolerant` only.
    numbers: Vec<Box<str>>,
}

/// A member after the comparison with the root.
enum Compared {
    Proved(Removal),
    /// Hash of its token sequence.
    Open(u128),
}

impl Cluster<'_> {
    fn remove(&mut self, index: usize, keeper: usize, removal: Removal) {
        self.gone[index] = true;
        self.keeps[keeper] = true;
        self.decided.removals.push(removal);
    }

    fn standing(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|&index| !self.gone[index]).collect()
    }
}

impl<'a> Verifier<'a> {
    /// A verifier that reads `texts` and proves by `mode`; `sketcher` is the one that made the sketches.
    pub fn new(texts: &'a dyn Texts, sketcher: &'a Sketcher, mode: VerifyMode) -> Self {
        Self { texts, sketcher, mode }
    }

    /// Decides clusters, each given in priority order. Large ones go one after another, each on all threads; small ones side
    /// by side, each on one. So the texts in memory stay few.
    ///
    /// # Errors
    /// A text cannot be read, or is not the text that was sketched.
    pub fn decide_all(&self, clusters: &[&[Member]]) -> Result<Vec<Decided>, DedupError> {
        let mut decided = Vec::with_capacity(clusters.len());
        for run in clusters.chunk_by(|a, b| is_large(a) == is_large(b)) {
            if is_large(run[0]) {
                for cluster in run {
                    decided.push(self.decide(cluster)?);
                }
            } else {
                decided.extend(run.par_iter().map(|cluster| self.decide(cluster)).collect::<Result<Vec<_>, _>>()?);
            }
        }
        Ok(decided)
    }

    fn decide(&self, members: &[Member]) -> Result<Decided, DedupError> {
        let mut cluster =
            Cluster { members, gone: vec![false; members.len()], keeps: vec![false; members.len()], decided: Decided::default() };
        self.decide_links(&mut cluster)?;
        // Notes with a subject by source and subject; everything else together.
        let mut parts: BTreeMap<Option<(u16, u64)>, Vec<usize>> = BTreeMap::new();
        for index in cluster.standing() {
            let member = &members[index];
            parts.entry((member.group != 0).then_some((member.source, member.group))).or_default().push(index);
        }
        let is_grouped = parts.keys().any(Option::is_some);
        for part in parts.values() {
            if let [root, others @ ..] = part.as_slice() {
                self.decide_part(&mut cluster, *root, others, |_, _| true)?;
                self.decide_by_longest(&mut cluster, *root, others)?;
            }
        }
        if is_grouped {
            self.decide_across_sources(&mut cluster)?;
        }
        Ok(cluster.decided)
    }

    /// Members that their records link to another one.
    fn decide_links(&self, cluster: &mut Cluster<'_>) -> Result<(), DedupError> {
        if cluster.members.iter().all(|member| member.owner.is_none()) {
            return Ok(());
        }
        let places: HashMap<u32, usize> = (0..).zip(cluster.members).map(|(index, member)| (member.number, index)).collect();
        let mut keepers: HashMap<usize, usize> = HashMap::new();
        // Preprints first: an abstract must be held by the text that stands for the work in the end.
        for wanted in [LinkKind::Preprint, LinkKind::FullText] {
            for index in 0..cluster.members.len() {
                let Some((owner, kind)) = cluster.members[index].owner else { continue };
                let Some(mut kept) = places.get(&owner).copied().filter(|_| kind == wanted) else { continue };
                while let Some(&next) = keepers.get(&kept) {
                    kept = next;
                }
                // Two records that each call the other its article keep one of them.
                if kept == index || cluster.members[index].released {
                    continue;
                }
                cluster.decided.comparisons += 1;
                if let Some(removal) = self.compare_linked(&cluster.members[index], &cluster.members[kept], kind)? {
                    keepers.insert(index, kept);
                    cluster.remove(index, kept, removal);
                }
            }
        }
        Ok(())
    }

    fn compare_linked(&self, member: &Member, owner: &Member, kind: LinkKind) -> Result<Option<Removal>, DedupError> {
        let (text, stands) = (self.read(member)?.text, self.read(owner)?.text);
        let (ours, theirs) = (self.sketcher.shingles(&text, member.form), self.sketcher.shingles(&stands, owner.form));
        let (similarity, containment) = (jaccard(&ours, &theirs), containment(&ours, &theirs));
        let (rule, proved) = match kind {
            LinkKind::Preprint => (Rule::Preprint, containment >= PREPRINT_CONTAINMENT),
            LinkKind::FullText => {
                let least = match self.mode {
                    VerifyMode::Strict => 1.0,
                    VerifyMode::Tolerant { min_similarity } => min_similarity,
                };
                (Rule::FullText, Carrier::new(&stands, owner.form).carries(&text, member.form, least))
            }
        };
        Ok(proved.then_some(Removal { dropped: member.number, kept: owner.number, rule, similarity, containment }))
    }

    /// Compares `others` with `root`, then with the members of `others` that are kept, where `comparable` allows it.
    fn decide_part(
        &self,
        cluster: &mut Cluster<'_>,
        root: usize,
        others: &[usize],
        comparable: fn(&Member, &Member) -> bool,
    ) -> Result<(), DedupError> {
        let members = cluster.members;
        let others = worth_reading(members, others);
        if others.iter().all(|&index| members[index].released) {
            return Ok(());
        }
        // A member that others were compared with must itself stay: so every removal names a document that is kept.
        let stays = |index: &usize| members[*index].released || cluster.keeps[*index];
        let fixed: HashSet<usize> = others.iter().copied().filter(stays).collect();
        let part = Part { members, root: self.root(members, root)?, fixed, comparable };
        let mut kept: HashMap<u128, Vec<usize>> = HashMap::new();
        for batch in others.chunks(if is_large(&others) { BATCH_MEMBERS } else { 1 }) {
            // The root's verdict does not depend on the others, so a batch can ask for it at once.
            let compared: Vec<Compared> = match batch {
                [one] => vec![self.compare_root(&part, *one)?],
                many => many.par_iter().map(|&index| self.compare_root(&part, index)).collect::<Result<_, _>>()?,
            };
            cluster.decided.comparisons += batch.len() as u64;
            for (&index, compared) in batch.iter().zip(compared) {
                match compared {
                    Compared::Proved(removal) => cluster.remove(index, root, removal),
                    Compared::Open(tokens) => self.compare_kept(cluster, &part, index, kept.entry(tokens).or_default())?,
                }
            }
        }
        Ok(())
    }

    /// The longest of those that are left, where the root is a shorter text of a preferred source, may hold others.
    fn decide_by_longest(&self, cluster: &mut Cluster<'_>, root: usize, others: &[usize]) -> Result<(), DedupError> {
        let members = cluster.members;
        let standing: Vec<usize> = others.iter().copied().filter(|&index| !cluster.gone[index]).collect();
        // Of equally long ones the preferred, so that none of them goes for a lesser one.
        let longest = standing.iter().copied().rev().max_by_key(|&index| members[index].words);
        let Some(longest) = longest.filter(|&index| members[index].words > members[root].words) else { return Ok(()) };
        let left: Vec<usize> = standing.into_iter().filter(|&index| index > longest).collect();
        self.decide_part(cluster, longest, &left, |_, _| true)
    }

    /// Notes that no note of their subject stands for, with what other sources hold: with the preferred document of all, then
    /// those of its own source with the preferred one of another.
    fn decide_across_sources(&self, cluster: &mut Cluster<'_>) -> Result<(), DedupError> {
        let members = cluster.members;
        let standing = cluster.standing();
        let [first, others @ ..] = standing.as_slice() else { return Ok(()) };
        let source = members[*first].source;
        let Some(&second) = others.iter().find(|&&index| members[index].source != source) else { return Ok(()) };
        self.decide_part(cluster, *first, others, |a, b| a.source != b.source)?;
        if cluster.gone[second] {
            return Ok(());
        }
        let left: Vec<usize> =
            cluster.standing().into_iter().filter(|&index| index > second && members[index].source == source).collect();
        self.decide_part(cluster, second, &left, |a, b| a.source != b.source)
    }

    /// Compares a member with the root.
    fn compare_root(&self, part: &Part<'_>, index: usize) -> Result<Compared, DedupError> {
        let (member, stands) = (&part.members[index], &part.members[part.root.index]);
        let read = self.read(member)?;
        if !part.fixed.contains(&index)
            && (part.comparable)(stands, member)
            && let Some((similarity, containment)) = self.prove(&part.root, stands, member, &read)
        {
            let (dropped, kept, rule) = (member.number, stands.number, self.rule(member, stands));
            return Ok(Compared::Proved(Removal { dropped, kept, rule, similarity, containment }));
        }
        Ok(Compared::Open(token_hash(&read.folded)))
    }

    /// Compares a member with the kept ones that have its tokens, at most one a source.
    fn compare_kept(
        &self,
        cluster: &mut Cluster<'_>,
        part: &Part<'_>,
        index: usize,
        equal: &mut Vec<usize>,
    ) -> Result<(), DedupError> {
        let member = &part.members[index];
        let found = equal.iter().copied().find(|&other| (part.comparable)(&part.members[other], member));
        if let Some(other) = found.filter(|_| !part.fixed.contains(&index)) {
            cluster.decided.comparisons += 1;
            let removal = self.compare_equal(member, &part.members[other])?;
            cluster.remove(index, other, removal);
        } else if equal.iter().all(|&other| part.members[other].source != member.source) {
            equal.push(index);
        }
        Ok(())
    }

    /// Similarity and containment of a member in the root, if the rules of the mode prove it superfluous.
    fn prove(&self, root: &Root, stands: &Member, member: &Member, read: &Read) -> Option<(f64, f64)> {
        let scores = || {
            let shingles = self.sketcher.shingles(&read.text, member.form);
            (jaccard(&root.shingles, &shingles), containment(&shingles, &root.shingles))
        };
        let scores = match self.mode_of(stands, member) {
            VerifyMode::Strict => {
                let tokens = TokenText::new(root.lexicon.find(&read.folded)?, &root.lexicon);
                holds_all(&root.tokens, &tokens, &root.lexicon).then(scores)?
            }
            VerifyMode::Tolerant { min_similarity } => {
                let scores = scores();
                (scores.0 >= min_similarity && root.numbers == numeric_tokens(&read.folded)).then_some(scores)?
            }
        };
        let is_short = member.form == NormalForm::Clinical && member.words < SHORT_NOTE_WORDS;
        (!is_short || scores.0 >= SHORT_NOTE_SIMILARITY).then_some(scores)
    }

    /// The removal of a member whose tokens are those of another.
    fn compare_equal(&self, member: &Member, kept: &Member) -> Result<Removal, DedupError> {
        let shingles = |member: &Member| Ok::<_, DedupError>(self.sketcher.shingles(&self.read(member)?.text, member.form));
        let (ours, theirs) = (shingles(member)?, shingles(kept)?);
        let (similarity, containment) = (jaccard(&ours, &theirs), containment(&ours, &theirs));
        Ok(Removal { dropped: member.number, kept: kept.number, rule: self.rule(member, kept), similarity, containment })
    }

    fn rule(&self, member: &Member, kept: &Member) -> Rule {
        match self.mode_of(member, kept) {
            VerifyMode::Strict => Rule::Strict,
            VerifyMode::Tolerant { .. } => Rule::Tolerant,
        }
    }

    fn read(&self, member: &Member) -> Result<Read, DedupError> {
        let document = || self.texts.name(member.number);
        let text = self.texts.text(member.number).map_err(|source| DedupError::Text { document: document(), source })?;
        // A text that is not the one sketched would make every proof worthless.
        if exact_hash(&text) != member.exact {
            return Err(DedupError::TextChanged { document: document() });
        }
        let folded = fold(&text, member.form);
        Ok(Read { text, folded })
    }

    /// What proves a pair: clinical text is never compared tolerantly, where a changed side or unit is a changed fact.
    fn mode_of(&self, a: &Member, b: &Member) -> VerifyMode {
        if a.form == NormalForm::Clinical || b.form == NormalForm::Clinical { VerifyMode::Strict } else { self.mode }
    }

    fn root(&self, members: &[Member], index: usize) -> Result<Root, DedupError> {
        let member = &members[index];
        let read = self.read(member)?;
        let mut lexicon = Lexicon::default();
        let tokens = lexicon.add(&read.folded);
        let is_strict = self.mode_of(member, member) == VerifyMode::Strict;
        Ok(Root {
            index,
            shingles: self.sketcher.shingles(&read.text, member.form),
            tokens: TokenText::new(tokens, &lexicon),
            lexicon,
            numbers: if is_strict { Vec::new() } else { numeric_tokens(&read.folded) },
        })
    }
}

/// All of `others` but the documents of earlier releases beyond a number: those stay, and reading them costs.
fn worth_reading(members: &[Member], others: &[usize]) -> Vec<usize> {
    let mut released = 0;
    let read = |&index: &usize| {
        released += usize::from(members[index].released);
        !members[index].released || released <= MAX_RELEASED_READ
    };
    others.iter().copied().filter(read).collect()
}

/// XXH3-128 of the tokens of a folded text, each behind a space. Equal texts up to case and whitespace have equal hashes;
/// two others at odds of 1 to 2¹²⁸.
fn token_hash(folded: &str) -> u128 {
    let mut tokens = String::with_capacity(folded.len() + 1);
    for token in folded.split_whitespace() {
        tokens.push(' ');
        tokens.push_str(token);
    }
    xxh3_128(tokens.as_bytes())
}
