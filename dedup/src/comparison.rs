//! Direct comparison of two texts: the rules that prove that one may be removed because the other is kept.
//!
//! Tokens are runs of non-whitespace in the NFC text, lowercased per scalar, with punctuation, signs and numbers kept.
//! Compatibility forms are not folded here, because 10³ and 103 must differ. Tokens are compared as text: each
//! distinct one of the representatives has a number, and a token without a number is in none of them.

use std::collections::HashMap;
use std::sync::Arc;

use unicode_normalization::UnicodeNormalization;

use crate::normal::NormalForm;

/// Below this many tokens a text says too little by itself: only an equal token sequence proves anything.
const MIN_HELD_TOKENS: usize = 3;

/// A text has few tokens for its length if they have more characters than this on average.
const MEAN_TOKEN_CHARACTERS: usize = 20;

/// Least character-5 Jaccard similarity of such texts, as a fraction.
const CHARACTER_SIMILARITY: (usize, usize) = (9, 10);

/// A text made ready for token comparison.
pub(crate) fn fold(text: &str, form: NormalForm) -> String {
    form.replace_placeholders(text).nfc().flat_map(char::to_lowercase).collect()
}

/// Numbers for the distinct tokens of the representatives of one cluster.
#[derive(Default)]
pub(crate) struct Lexicon {
    numbers: HashMap<Arc<str>, u32>,
    tokens: Vec<Arc<str>>,
}

impl Lexicon {
    /// Token numbers of a folded text; new tokens get new numbers.
    pub(crate) fn add(&mut self, folded: &str) -> Vec<u32> {
        let Self { numbers, tokens } = self;
        let mut number = |token: &str| {
            if let Some(&number) = numbers.get(token) {
                return number;
            }
            let number = tokens.len() as u32;
            let shared: Arc<str> = token.into();
            tokens.push(Arc::clone(&shared));
            numbers.insert(shared, number);
            number
        };
        folded.split_whitespace().map(&mut number).collect()
    }

    /// Token numbers of a folded text, or none if one of its tokens is new.
    pub(crate) fn find(&self, folded: &str) -> Option<Vec<u32>> {
        folded.split_whitespace().map(|token| self.numbers.get(token).copied()).collect()
    }

    /// The distinct runs of 5 characters of the tokens joined by one space, ascending; each packed, 21 bits a character.
    fn character_grams(&self, tokens: &[u32]) -> Vec<u128> {
        const RUN: u32 = 5;
        const MASK: u128 = (1 << (21 * RUN)) - 1;
        let mut grams = Vec::new();
        let (mut packed, mut seen) = (0u128, 0u32);
        for &token in tokens {
            for scalar in self.tokens[token as usize].chars().chain([' ']) {
                packed = (packed << 21 | u128::from(u32::from(scalar))) & MASK;
                seen += 1;
                if seen >= RUN {
                    grams.push(packed);
                }
            }
        }
        grams.sort_unstable();
        grams.dedup();
        grams
    }
}

/// The tokens of a text and what the strict rules need of them.
pub(crate) struct TokenText {
    tokens: Vec<u32>,
    characters: usize,
}

impl TokenText {
    /// Takes the token numbers of a text and the lexicon that gave them.
    pub(crate) fn new(tokens: Vec<u32>, lexicon: &Lexicon) -> Self {
        let characters = tokens.iter().map(|&t| lexicon.tokens[t as usize].chars().count()).sum();
        Self { tokens, characters }
    }

    fn has_few_tokens(&self) -> bool {
        self.characters > self.tokens.len() * MEAN_TOKEN_CHARACTERS
    }
}

/// Whether `survivor` holds all of `member`; all of these must be true:
/// 1. the member's tokens stand in the survivor in one piece (a member of fewer than 3 tokens: equal sequences). So the
///    survivor is not shorter, has every 3-gram of the member, and says everything in the member's order: a value that moved
///    to another day or side of the note is a loss;
/// 2. if either text has few tokens for its length, their character-5 Jaccard similarity is at least 0.9.
pub(crate) fn holds_all(survivor: &TokenText, member: &TokenText, lexicon: &Lexicon) -> bool {
    if member.tokens.len() < MIN_HELD_TOKENS {
        return survivor.tokens == member.tokens;
    }
    if !occurs(&member.tokens, &survivor.tokens) {
        return false;
    }
    if survivor.has_few_tokens() || member.has_few_tokens() {
        let (a, b) = (lexicon.character_grams(&survivor.tokens), lexicon.character_grams(&member.tokens));
        let (common, all) = overlap(&a, &b);
        return common * CHARACTER_SIMILARITY.1 >= all * CHARACTER_SIMILARITY.0;
    }
    true
}

/// The tokens of a folded text that hold a number, ascending, each as often as it occurs. Quotation marks, brackets and
/// sentence marks around a number do not count; its sign, unit and decimal mark do.
pub(crate) fn numeric_tokens(folded: &str) -> Vec<Box<str>> {
    const OPENING: [char; 7] = ['(', '[', '{', '"', '\'', '“', '‘'];
    const CLOSING: [char; 13] = [')', ']', '}', '"', '\'', '”', '’', '.', ',', ';', ':', '!', '?'];
    let mut numbers: Vec<Box<str>> = folded
        .split_whitespace()
        .filter(|token| token.contains(char::is_numeric))
        .map(|token| token.trim_start_matches(OPENING).trim_end_matches(CLOSING).into())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// Jaccard similarity of two ascending sets; 1 for two empty ones.
pub(crate) fn jaccard<T: Ord>(a: &[T], b: &[T]) -> f64 {
    let (common, all) = overlap(a, b);
    if all == 0 { 1.0 } else { common as f64 / all as f64 }
}

/// Share of the ascending set `part` that is in `whole`; 1 for an empty part.
pub(crate) fn containment<T: Ord>(part: &[T], whole: &[T]) -> f64 {
    let (common, _) = overlap(part, whole);
    if part.is_empty() { 1.0 } else { common as f64 / part.len() as f64 }
}

/// Sizes of the intersection and the union of two ascending sets.
fn overlap<T: Ord>(a: &[T], b: &[T]) -> (usize, usize) {
    let (mut i, mut j, mut common) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => {
                common += 1;
                i += 1;
                j += 1;
            }
        }
    }
    (common, a.len() + b.len() - common)
}

/// Whether `needle` occurs in `text` in one piece: Knuth, Morris and Pratt 1977, linear for any input.
fn occurs(needle: &[u32], text: &[u32]) -> bool {
    if needle.is_empty() {
        return true;
    }
    let fallback = borders(needle);
    let mut matched = 0;
    for &token in text {
        while matched > 0 && needle[matched] != token {
            matched = fallback[matched - 1];
        }
        if needle[matched] == token {
            matched += 1;
        }
        if matched == needle.len() {
            return true;
        }
    }
    false
}

/// For each prefix of `needle` the length of its longest proper border.
fn borders(needle: &[u32]) -> Vec<usize> {
    let mut borders = vec![0; needle.len()];
    let mut length = 0;
    for at in 1..needle.len() {
        while length > 0 && needle[length] != needle[at] {
            length = borders[length - 1];
        }
        if needle[length] == needle[at] {
            length += 1;
        }
        borders[at] = length;
    }
    borders
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_holds(survivor: &str, member: &str, expected: bool) {
        let mut lexicon = Lexicon::default();
        let survivor_tokens = lexicon.add(&fold(survivor, NormalForm::Plain));
        let survivor_text = TokenText::new(survivor_tokens, &lexicon);
        let held = lexicon
            .find(&fold(member, NormalForm::Plain))
            .is_some_and(|tokens| holds_all(&survivor_text, &TokenText::new(tokens, &lexicon), &lexicon));
        assert_eq!(held, expected, "{survivor:?} holds {member:?}");
    }

    const NOTE: &str = "Given aspirin 81 mg daily, lisinopril 10 mg at night and no beta blocker (asthma).";

    #[test]
    fn a_copy_is_held() {
        check_holds(NOTE, NOTE, true);
        check_holds(NOTE, &NOTE.to_uppercase(), true);
        check_holds(NOTE, &NOTE.replace(' ', "\n\t"), true);
        check_holds("cafe\u{301} au lait", "caf\u{e9} au lait", true);
    }

    #[test]
    fn a_part_is_held_by_the_whole_but_not_the_other_way() {
        let part = "lisinopril 10 mg at night";
        check_holds(NOTE, part, true);
        check_holds(part, NOTE, false);
    }

    #[test]
    fn one_changed_token_blocks() {
        for (old, new) in [
            ("81", "80"),
            ("10 mg", "-10 mg"),
            ("10 mg", "10 g"),
            ("daily,", "daily"),
            ("no beta", "beta"),
            ("(asthma)", "asthma"),
            ("night", "night,"),
        ] {
            let changed = NOTE.replace(old, new);
            assert_ne!(changed, NOTE);
            check_holds(NOTE, &changed, false);
            check_holds(&changed, NOTE, false);
        }
        // NFKC would make these equal; they are not.
        check_holds("less than 10³ cells seen", "less than 103 cells seen", false);
    }

    #[test]
    fn the_same_tokens_in_another_order_block() {
        check_holds("a b c d e", "a b d c e", false);
        // Two blocks that change places lose the 3-grams over the seam.
        check_holds("a b c d e f", "d e f a b c", false);
    }

    #[test]
    fn under_three_tokens_only_equality() {
        check_holds("normal chest x-ray today", "normal", false);
        check_holds("normal chest x-ray today", "normal chest", false);
        check_holds("normal chest", "Normal  CHEST", true);
        check_holds("normal", "normal", true);
        check_holds("a b c", "a b c", true);
    }

    #[test]
    fn a_survivor_with_fewer_tokens_blocks() {
        // All 3-grams of the member are in the survivor, but it says the round once less.
        check_holds("a b c a b c a b", "a b c a b c a b c a b", false);
        check_holds("a b c a b c a b c a b", "a b c a b c a b", true);
        // Not repetitive: the member goes once round 20 tokens and on to the third, the survivor to the second.
        let round = "a b c d e f g h i j k l m n o p q r s t";
        check_holds(&format!("{round} a b"), &format!("{round} a b c"), false);
    }

    #[test]
    fn the_pieces_must_stand_together() {
        // The survivor has every 3-gram of the member, but "x" stands between its rounds.
        let member = "a b c a b c a b c";
        check_holds("a b c a b c x a b c a b c y", member, false);
        check_holds("x a b c a b c a b c y", member, true);
        check_holds("x y z a b c d e f", "a b c d", true);
    }

    #[test]
    fn a_value_that_moved_blocks() {
        let survivor = "On day one the temperature was 37.2 at noon. On day two the temperature was 38.9 at noon.";
        // Every 3-gram of both is in the survivor: exchanged values, and the first day with the value of the second.
        check_holds(survivor, "On day two the temperature was 37.2 at noon.", false);
        check_holds(survivor, "On day one the temperature was 38.9 at noon.", false);
        check_holds(survivor, "On day one the temperature was 37.2 at noon.", true);
        check_holds(survivor, "the temperature was 38.9 at noon. On day one the temperature was 37.2 at noon.", false);
    }

    #[test]
    fn few_long_tokens_need_alike_characters() {
        let long = |c: char| c.to_string().repeat(60);
        let member = format!("{} {} {}", long('a'), long('b'), long('c'));
        // Contained, but a tenth of the survivor's text is something else: 15 of its 5-character runs in 30.
        let survivor = format!("{member} {}", long('d'));
        check_holds(&survivor, &member, false);
        check_holds(&member, &member, true);
        // Three more tokens of one character each: the mean stays over 20, the runs differ little enough only at first.
        let varied: String = (0..200u32).map(|i| char::from_u32(0x4E00 + i * 7).unwrap()).collect();
        let chinese = format!("{varied} 甲 乙");
        check_holds(&format!("{chinese} 丙"), &chinese, true);
        check_holds(&format!("{chinese} {}", varied.chars().rev().collect::<String>()), &chinese, false);
    }

    fn check_occurs(needle: &[u32], text: &[u32]) {
        let expected = needle.is_empty() || text.windows(needle.len()).any(|w| w == needle);
        assert_eq!(occurs(needle, text), expected, "{needle:?} in {text:?}");
    }

    #[test]
    fn occurrence_equals_a_plain_search_on_every_short_text() {
        // All needles of up to 4 and texts of up to 7 tokens over two tokens.
        let all = |longest: u32| {
            (0..=longest)
                .flat_map(|length| (0..1u32 << length).map(move |bits| (0..length).map(|i| bits >> i & 1).collect::<Vec<u32>>()))
        };
        for needle in all(4) {
            for text in all(7) {
                check_occurs(&needle, &text);
            }
        }
        check_occurs(&[0, 0, 1, 0, 0, 2], &[0, 0, 1, 0, 0, 1, 0, 0, 2]);
    }

    fn check_numbers(text: &str, expected: &[&str]) {
        let numbers = numeric_tokens(&fold(text, NormalForm::Plain));
        let numbers: Vec<&str> = numbers.iter().map(AsRef::as_ref).collect();
        assert_eq!(numbers, expected, "{text:?}");
    }

    #[test]
    fn numeric_tokens_keep_sign_unit_and_count() {
        check_numbers("no number", &[]);
        check_numbers("5 apples, 5 pears.", &["5", "5"]);
        check_numbers("(in 2007), \"2007.\" 2007", &["2007", "2007", "2007"]);
        check_numbers("-5 5 +5 <5 5% $5 0.5 5mg", &["$5", "+5", "-5", "0.5", "5", "5%", "5mg", "<5"]);
        check_numbers("10³ and ½", &["10³", "½"]);
        check_numbers("COVID-19", &["covid-19"]);
    }

    #[test]
    fn jaccard_of_sets() {
        let check = |a: &[u8], b: &[u8], expected: f64| {
            assert!((jaccard(a, b) - expected).abs() < f64::EPSILON, "{a:?} {b:?}");
        };
        check(&[], &[], 1.0);
        check(&[1], &[], 0.0);
        check(&[1, 2, 3], &[1, 2, 3], 1.0);
        check(&[1, 2, 3], &[2, 3, 4], 0.5);
        check(&[1, 3, 5], &[2, 4, 6], 0.0);
    }

    #[test]
    fn containment_of_sets() {
        let check = |part: &[u8], whole: &[u8], expected: f64| {
            assert!((containment(part, whole) - expected).abs() < f64::EPSILON, "{part:?} {whole:?}");
        };
        check(&[], &[], 1.0);
        check(&[], &[1], 1.0);
        check(&[1], &[], 0.0);
        check(&[1, 2], &[1, 2, 3], 1.0);
        check(&[1, 2, 3, 4], &[4], 0.25);
    }

    #[test]
    fn clinical_placeholders_are_equal() {
        let a = fold("Dr. [**Name 7**] saw her on [**2150-1-1**].", NormalForm::Clinical);
        let b = fold("Dr. ___ saw her on ___.", NormalForm::Clinical);
        assert_eq!(a, b);
        assert_ne!(fold("on ___.", NormalForm::Plain), fold("on [**x**].", NormalForm::Plain));
    }
}
