//! Trains the fixtures' tokenizer: byte-pair merges over words, written as a `tokenizer.json` in LLaMA-2's style. The
//! same texts give the same bytes; equal counts are decided by the smaller pair.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Ids of the file.
pub const VOCABULARY_SIZE: usize = 1024;
/// A space at the beginning of a word.
const MARK: char = '\u{2581}';
/// Characters that occur less often are left to byte fallback.
const CHARACTER_COUNT_MIN: u64 = 40;

/// A word as pieces, and how often it occurs.
struct Word {
    pieces: Vec<u32>,
    count: u64,
}

/// Trains on `texts` and writes the file.
///
/// # Panics
/// When the texts have too few different words to fill the vocabulary.
pub fn train<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let counts = count_words(texts);
    let characters = frequent_characters(&counts);
    let mut pieces: Vec<String> = characters.iter().map(char::to_string).collect();
    let ids: HashMap<char, u32> = characters.iter().copied().zip(0..).collect();
    let mut words: Vec<Word> = Vec::new();
    for (word, count) in &counts {
        // A word is cut at what never merges: digits, signs and characters that byte fallback writes.
        for part in word.split(|c: char| !merges(c) || !ids.contains_key(&c)) {
            let part: Vec<u32> = part.chars().map(|c| ids[&c]).collect();
            if part.len() > 1 {
                words.push(Word { pieces: part, count: *count });
            }
        }
    }
    let mut merges = Vec::new();
    while merges.len() + characters.len() + 259 < VOCABULARY_SIZE {
        let (left, right) = best_pair(&words, &pieces).expect("the texts have enough words");
        let joined = format!("{}{}", pieces[left as usize], pieces[right as usize]);
        merges.push((pieces[left as usize].clone(), pieces[right as usize].clone()));
        pieces.push(joined);
        let id = pieces.len() as u32 - 1;
        for word in &mut words {
            word.join(left, right, id);
        }
    }
    let (single, joined) = pieces.split_at(characters.len());
    write(joined, single, &merges)
}

/// Whether a character may be part of a longer piece.
fn merges(character: char) -> bool {
    character == MARK || character.is_alphabetic()
}

/// Words with a leading mark. A line break is a word's end and no word's part.
fn count_words<'a>(texts: impl Iterator<Item = &'a str>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for text in texts {
        let marked = format!("{MARK}{}", text.replace(' ', &MARK.to_string()));
        let mut word = String::new();
        for character in marked.chars() {
            if character == MARK || character == '\n' {
                *counts.entry(std::mem::take(&mut word)).or_default() += 1;
            }
            if character != '\n' {
                word.push(character);
            }
        }
        *counts.entry(word).or_default() += 1;
    }
    counts.remove("");
    counts
}

fn frequent_characters(counts: &BTreeMap<String, u64>) -> Vec<char> {
    let mut characters: BTreeMap<char, u64> = BTreeMap::new();
    for (word, count) in counts {
        for character in word.chars().filter(|character| !character.is_control()) {
            *characters.entry(character).or_default() += count;
        }
    }
    let all: BTreeSet<char> = (' '..='~').filter(|c| *c != ' ').chain([MARK]).collect();
    let frequent = characters.into_iter().filter(|(_, count)| *count >= CHARACTER_COUNT_MIN);
    frequent.map(|(character, _)| character).chain(all).collect::<BTreeSet<char>>().into_iter().collect()
}

/// The most frequent pair; of equals the one whose texts come first.
fn best_pair(words: &[Word], pieces: &[String]) -> Option<(u32, u32)> {
    let mut counts: BTreeMap<(u32, u32), u64> = BTreeMap::new();
    for word in words {
        for pair in word.pieces.windows(2) {
            *counts.entry((pair[0], pair[1])).or_default() += word.count;
        }
    }
    let text = |id: u32| pieces[id as usize].as_str();
    let best = counts.into_iter().max_by(|(a, a_count), (b, b_count)| {
        let order = (text(b.0), text(b.1)).cmp(&(text(a.0), text(a.1)));
        a_count.cmp(b_count).then(order)
    });
    best.map(|(pair, _)| pair)
}

impl Word {
    fn join(&mut self, left: u32, right: u32, joined: u32) {
        let mut at = 0;
        while at + 1 < self.pieces.len() {
            if self.pieces[at] == left && self.pieces[at + 1] == right {
                self.pieces[at] = joined;
                self.pieces.remove(at + 1);
            }
            at += 1;
        }
    }
}

/// The file: ids 0 to 2 control tokens, 3 to 258 bytes, then joined pieces in order of merging, then characters.
fn write(joined: &[String], characters: &[String], merges: &[(String, String)]) -> String {
    let text = |text: &str| serde_json::to_string(text).expect("a string is JSON");
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let control = ["<unk>", "<s>", "</s>"];
    let tokens = control.map(str::to_owned).into_iter().chain(bytes);
    let tokens = tokens.chain(joined.iter().cloned()).chain(characters.iter().cloned());
    let vocabulary: Vec<String> = tokens.zip(0_u32..).map(|(token, id)| format!("{}: {id}", text(&token))).collect();
    let merges: Vec<String> = merges.iter().map(|(left, right)| format!("[{}, {}]", text(left), text(right))).collect();
    let added: Vec<String> = control
        .iter()
        .zip(0_u32..)
        .map(|(token, id)| {
            format!(
                "{{\"id\": {id}, \"content\": \"{token}\", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \
                 \"normalized\": false, \"special\": true}}"
            )
        })
        .collect();
    format!(
        "{{\"version\": \"1.0\",\n\"truncation\": null,\n\"padding\": null,\n\"added_tokens\": [\n{}],\n\"normalizer\": {{\"type\": \
         \"Sequence\", \"normalizers\": [{{\"type\": \"Prepend\", \"prepend\": \"{MARK}\"}}, {{\"type\": \"Replace\", \"pattern\": \
         {{\"String\": \" \"}}, \"content\": \"{MARK}\"}}]}},\n\"pre_tokenizer\": null,\n\"post_processor\": null,\n\"decoder\": \
         {{\"type\": \"Sequence\", \"decoders\": [{{\"type\": \"Replace\", \"pattern\": {{\"String\": \"{MARK}\"}}, \"content\": \
         \" \"}}, {{\"type\": \"ByteFallback\"}}, {{\"type\": \"Fuse\"}}, {{\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \
         \"stop\": 0}}]}},\n\"model\": {{\"type\": \"BPE\", \"dropout\": null, \"unk_token\": \"<unk>\", \
         \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, \"fuse_unk\": true, \"byte_fallback\": true, \
         \"ignore_merges\": false,\n\"vocab\": {{\n{}}},\n\"merges\": [\n{}]}}}}\n",
        added.join(",\n"),
        vocabulary.join(",\n"),
        merges.join(",\n"),
    )
}
