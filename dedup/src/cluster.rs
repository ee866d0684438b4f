//! Decides, inside one proposed cluster, which documents a kept one makes superfluous. This is the only place where a
//! near-duplicate is removed.
//!
//! Members come in priority order. Each is compared with the root, the document of highest priority; if that proves
//! nothing, with one other representative, the one whose signature is most alike, which must have an equal token
//! sequence. A member without a proof is kept and becomes a representative. So a cluster of n documents takes at most
//! 2·(n − 1) comparisons, and a removed document was always compared with one that is kept.

use rayon::iter::{IntoParallelRefIterator, ParallelIterator};

use crate::comparison::{Lexicon, TokenText, fold, holds_all, jaccard, numeric_tokens};
use crate::deduplicate::DedupError;
use crate::entry::{Entry, Removal, Rule, Texts, VerifyMode};
use crate::sketch::{Sketcher, equal_rows, exact_hash};

/// Most representatives of one cluster, the root included.
const MAX_REPRESENTATIVES: usize = 32;

/// Most characters of the representatives of one cluster. A longer root is the only one.
const MAX_REPRESENTATIVE_CHARACTERS: usize = 2_000_000;

/// Members of a large cluster that are compared with the root at once.
const BATCH_MEMBERS: usize = 64;

/// Whether a cluster is decided by several threads, and alone: then `BATCH_MEMBERS` texts are held at once.
pub(crate) fn is_large<T>(cluster: &[T]) -> bool {
    const LARGE_CLUSTER: usize = 512;
    cluster.len() > LARGE_CLUSTER
}

/// Proves or refuses the pairs of one cluster after another.
pub(crate) struct Verifier<'a> {
    pub(crate) entries: &'a [Entry],
    pub(crate) texts: &'a dyn Texts,
    pub(crate) sketcher: &'a Sketcher,
    pub(crate) mode: VerifyMode,
}

/// What was decided in one cluster.
pub(crate) struct Decided {
    pub(crate) removals: Vec<Removal>,
    pub(crate) comparisons: u64,
}

/// The document of highest priority, with what the comparisons with it need.
struct Root {
    index: usize,
    shingles: Vec<u64>,
    /// `Strict` only.
    tokens: Option<TokenText>,
    /// `Tolerant` only.
    numbers: Vec<Box<str>>,
}

/// A kept document of the cluster other than the root.
struct Representative {
    index: usize,
    tokens: Vec<u32>,
    signature: Vec<u64>,
}

/// A document that is being decided.
struct Member {
    index: usize,
    text: String,
    folded: String,
}

/// A member after the comparison with the root.
enum Compared {
    Proved(Removal),
    Open(Member),
}

/// The representatives of a cluster and the numbers of their tokens.
struct Kept {
    lexicon: Lexicon,
    others: Vec<Representative>,
    characters: usize,
}

impl Kept {
    fn has_room_for(&self, characters: usize) -> bool {
        // The root is one of them.
        self.others.len() + 1 < MAX_REPRESENTATIVES && self.characters + characters <= MAX_REPRESENTATIVE_CHARACTERS
    }

    /// The representative with the most equal rows; of several the one of highest priority.
    fn most_alike(&self, signature: &[u64]) -> Option<&Representative> {
        let alike = |r: &Representative| equal_rows(&r.signature, signature);
        self.others.iter().reduce(|best, next| if alike(next) > alike(best) { next } else { best })
    }
}

impl Verifier<'_> {
    /// Decides a cluster, given as entry indexes in priority order.
    ///
    /// # Errors
    /// A text cannot be read, or is not the text that was sketched.
    pub(crate) fn decide(&self, cluster: &[usize]) -> Result<Decided, DedupError> {
        let mut decided = Decided { removals: Vec::new(), comparisons: 0 };
        let [root, members @ ..] = cluster else {
            return Ok(decided);
        };
        let (root, mut kept) = self.start(*root)?;
        for batch in members.chunks(if is_large(cluster) { BATCH_MEMBERS } else { 1 }) {
            // The root's verdict does not depend on the other representatives, so a batch can ask for it at once.
            let compare = |&index: &usize| self.compare_root(index, &root, &kept.lexicon);
            let compared: Vec<Compared> = match batch {
                [one] => vec![compare(one)?],
                many => many.par_iter().map(compare).collect::<Result<_, _>>()?,
            };
            decided.comparisons += batch.len() as u64;
            for compared in compared {
                let removal = match compared {
                    Compared::Proved(removal) => Some(removal),
                    Compared::Open(member) => self.compare_other(&member, &mut kept, &mut decided.comparisons)?,
                };
                decided.removals.extend(removal);
            }
        }
        Ok(decided)
    }

    /// Compares a member with the root.
    fn compare_root(&self, index: usize, root: &Root, lexicon: &Lexicon) -> Result<Compared, DedupError> {
        let member = self.member(index)?;
        Ok(match self.compare(root, &member, lexicon) {
            Some(similarity) => Compared::Proved(self.removal(index, root.index, similarity)),
            None => Compared::Open(member),
        })
    }

    /// Compares a member that the root does not prove with the most alike representative. Without a proof the member
    /// becomes a representative, if the limits allow it.
    fn compare_other(&self, member: &Member, kept: &mut Kept, comparisons: &mut u64) -> Result<Option<Removal>, DedupError> {
        let characters = member.text.chars().count();
        // A token that no representative has leaves no equal sequence to look for.
        let tokens = kept.lexicon.find(&member.folded);
        if tokens.is_none() && !kept.has_room_for(characters) {
            return Ok(None);
        }
        let signature = self.sketcher.signature(&member.text, self.entries[member.index].form);
        if let Some(tokens) = tokens
            && let Some(other) = kept.most_alike(&signature)
        {
            *comparisons += 1;
            if other.tokens == tokens {
                let similarity = self.similarity(other.index, member)?;
                return Ok(Some(self.removal(member.index, other.index, similarity)));
            }
        }
        if kept.has_room_for(characters) {
            kept.characters += characters;
            kept.others.push(Representative { index: member.index, tokens: kept.lexicon.add(&member.folded), signature });
        }
        Ok(None)
    }

    fn member(&self, index: usize) -> Result<Member, DedupError> {
        let entry = &self.entries[index];
        let text = self.texts.text(index).map_err(|source| DedupError::Text { id: entry.id.clone(), source })?;
        // A text that is not the one sketched would make every proof worthless.
        if exact_hash(&text) != entry.sketch.exact {
            return Err(DedupError::TextChanged { id: entry.id.clone() });
        }
        let folded = fold(&text, entry.form);
        Ok(Member { index, text, folded })
    }

    /// Reads the root, which is the first representative.
    fn start(&self, index: usize) -> Result<(Root, Kept), DedupError> {
        let member = self.member(index)?;
        let mut kept = Kept { lexicon: Lexicon::default(), others: Vec::new(), characters: member.text.chars().count() };
        let tokens = kept.lexicon.add(&member.folded);
        let strict = self.mode == VerifyMode::Strict;
        let root = Root {
            index,
            shingles: self.shingles(&member),
            tokens: strict.then(|| TokenText::new(tokens, &kept.lexicon)),
            numbers: if strict { Vec::new() } else { numeric_tokens(&member.folded) },
        };
        Ok((root, kept))
    }

    /// The similarity of the member and the root, if the rules of the mode prove the member superfluous.
    fn compare(&self, root: &Root, member: &Member, lexicon: &Lexicon) -> Option<f64> {
        match self.mode {
            VerifyMode::Strict => {
                let tokens = TokenText::new(lexicon.find(&member.folded)?, lexicon);
                let proved = holds_all(root.tokens.as_ref()?, &tokens, lexicon);
                proved.then(|| jaccard(&root.shingles, &self.shingles(member)))
            }
            VerifyMode::Tolerant { min_similarity } => {
                let similarity = jaccard(&root.shingles, &self.shingles(member));
                let proved = similarity >= min_similarity && root.numbers == numeric_tokens(&member.folded);
                proved.then_some(similarity)
            }
        }
    }

    /// The similarity of the member and a representative, whose text is read again for it: such removals are rare.
    fn similarity(&self, representative: usize, member: &Member) -> Result<f64, DedupError> {
        let representative = self.member(representative)?;
        Ok(jaccard(&self.shingles(&representative), &self.shingles(member)))
    }

    fn shingles(&self, member: &Member) -> Vec<u64> {
        self.sketcher.shingles(&member.text, self.entries[member.index].form)
    }

    fn removal(&self, dropped: usize, kept: usize, similarity: f64) -> Removal {
        let rule = match self.mode {
            VerifyMode::Strict => Rule::Strict,
            VerifyMode::Tolerant { .. } => Rule::Tolerant,
        };
        Removal { dropped, kept, rule, similarity }
    }
}
