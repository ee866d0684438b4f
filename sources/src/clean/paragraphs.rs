//! Later copies of a paragraph of prose inside one document.
//!
//! A paragraph is a block of lines between blank lines, compared without the white space around it. Only prose counts:
//! tables, forms, medication lists and whatever is short may repeat, because the repetition says something there.

use std::collections::HashSet;

/// Least number of words in a paragraph of prose.
const MIN_WORDS: usize = 12;
/// Of every ten words at least so many hold letters only, punctuation at their ends aside.
const MIN_PLAIN_OF_TEN: usize = 7;

/// Removes every paragraph of prose with `least` characters or more that stood before, and counts them.
pub(super) fn remove_repeated(text: &mut String, least: u64) -> u64 {
    let mut seen: HashSet<&str> = HashSet::new();
    let mut output = String::new();
    let (mut removed, mut copied) = (0, 0);
    for block in blocks(text) {
        let paragraph = text[block.clone()].trim();
        // Bytes first: characters are never more.
        let long = paragraph.len() as u64 >= least && paragraph.chars().count() as u64 >= least;
        if long && is_prose(paragraph) && !seen.insert(paragraph) {
            output.push_str(&text[copied..block.start]);
            copied = block.end;
            removed += 1;
        }
    }
    if removed > 0 {
        output.push_str(&text[copied..]);
        *text = output;
    }
    removed
}

/// Blocks of lines that are not blank, line ends included.
fn blocks(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut blocks: Vec<std::ops::Range<usize>> = Vec::new();
    let (mut place, mut inside) = (0, false);
    for line in text.split_inclusive('\n') {
        let blank = line.trim().is_empty();
        match blocks.last_mut() {
            Some(block) if inside && !blank => block.end += line.len(),
            _ if !blank => blocks.push(place..place + line.len()),
            _ => {}
        }
        inside = !blank;
        place += line.len();
    }
    blocks
}

fn is_prose(paragraph: &str) -> bool {
    if paragraph.contains(['\t', '|']) || paragraph.contains("   ") {
        return false;
    }
    let (mut words, mut plain) = (0, 0);
    for word in paragraph.split_whitespace() {
        words += 1;
        let core = word.trim_matches(|c: char| !c.is_alphanumeric());
        plain += usize::from(!core.is_empty() && core.chars().all(|c| c.is_alphabetic() || matches!(c, '-' | '’' | '\'')));
    }
    words >= MIN_WORDS && plain * 10 >= words * MIN_PLAIN_OF_TEN
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROSE: &str = "The patient was seen in clinic and reported that the pain had become much better over the last weeks, \
                         without fever or chills.";

    fn check(text: &str, expected: &str, count: u64) {
        let mut cleaned = text.to_owned();
        assert_eq!(remove_repeated(&mut cleaned, 100), count, "{text:?}");
        assert_eq!(cleaned, expected);
        assert_eq!(remove_repeated(&mut cleaned, 100), 0, "twice");
    }

    #[test]
    fn later_copies_of_prose_go() {
        check(&format!("{PROSE}\n\nPlan: rest.\n\n {PROSE}\n\nEnd"), &format!("{PROSE}\n\nPlan: rest.\n\n\nEnd"), 1);
        check(&format!("{PROSE}\n\n{PROSE}\n\n{PROSE}"), &format!("{PROSE}\n\n\n"), 2);
    }

    #[test]
    fn other_repetitions_stay() {
        let short = "Sinus rhythm. No acute distress.";
        check(&format!("{short}\n\n{short}"), &format!("{short}\n\n{short}"), 0);
        let table =
            "Na 138 K 4.1 Cl 102 HCO3 24 BUN 12 Cr 0.9 Glucose 101 WBC 7.2 Hgb 13.1 Plt 220 INR 1.1 PTT 30 Mg 2.0 Phos 3.1";
        check(&format!("{table}\n\n{table}"), &format!("{table}\n\n{table}"), 0);
        let columns = "sodium and potassium   were normal in this sample of blood that was taken early in the morning after a \
                       night of fasting";
        check(&format!("{columns}\n\n{columns}"), &format!("{columns}\n\n{columns}"), 0);
        // Lines of one block are no paragraphs of their own, and a word more makes another paragraph.
        check(&format!("{PROSE}\n{PROSE}"), &format!("{PROSE}\n{PROSE}"), 0);
        check(&format!("{PROSE}\n\n{PROSE} Yes."), &format!("{PROSE}\n\n{PROSE} Yes."), 0);
    }

    #[test]
    fn many_paragraphs_take_linear_time() {
        let mut text = format!("{PROSE}\n\n").repeat(20_000);
        assert_eq!(remove_repeated(&mut text, 100), 19_999);
    }
}
