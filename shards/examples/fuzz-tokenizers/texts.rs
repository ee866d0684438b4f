//! Texts that encoders differ on if they differ at all. It encodes nothing.

use crate::random::Random;

/// Pieces of notes, of markup and of Unicode that patterns and vocabularies treat specially.
const PIECES: &[&str] = &[
    " ",
    "  ",
    "   ",
    "\n",
    "\r\n",
    "\r",
    "\t",
    "\u{b}",
    "\u{c}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{3000}",
    "\u{2581}",
    "\u{2581}\u{2581}",
    "\u{200b}",
    "\u{feff}",
    "\0",
    "\u{1}",
    "\u{7f}",
    "</s>",
    "<s>",
    "<unk>",
    "<|endoftext|>",
    "<|begin_of_text|>",
    "<0x0A>",
    "<0xE2>",
    "'s",
    "'S",
    "'\u{17f}",
    "'re",
    "'RE",
    "'ve",
    "'Ve",
    "'ll",
    "'lL",
    "'d",
    "'t",
    "'",
    "''",
    "I'm",
    "it's",
    "😀",
    "👩\u{200d}⚕\u{fe0f}",
    "\u{1f1e9}\u{1f1ea}",
    "\u{e9}",
    "e\u{301}",
    "\u{301}",
    "\u{301}\u{308}",
    "\u{b5}g",
    "\u{3bc}g",
    "\u{b0}C",
    "\u{fb01}",
    "漢字",
    "患者",
    "ひらがな",
    "한국어",
    "Ж",
    "\u{5e9}\u{5dc}",
    "\u{627}\u{644}",
    "\u{939}\u{93f}",
    "\u{e01}\u{e33}",
    "patient",
    "Patient",
    " patient",
    "HbA1c",
    "mg",
    " mg",
    "40",
    "3.5",
    "1234567",
    "\u{664}\u{665}",
    "\u{b2}",
    "\u{bd}",
    "\u{2167}",
    "[** Name **]",
    "___",
    "the",
    " the",
    "ing",
    ",",
    ".",
    "...",
    "!!",
    "=====",
    "p<0.05",
    "\u{3b2}",
    "\u{2013}",
    "\u{2019}s",
    "a b",
    "ab",
    "zzyzx",
    " zzyzx",
    "\u{fffd}",
    "\u{10ffff}",
    "\u{d7ff}",
    "\u{e000}",
    "\u{2c6}",
    "\u{aa}",
    "\u{345}",
    "\u{16ee}",
    "\u{1d7d8}",
];

/// A text for one case. `tokens` are texts of the vocabulary in question.
pub(crate) fn text(random: &mut Random, tokens: &[String]) -> String {
    let mut text = String::new();
    for _ in 0..=random.below(3) {
        match random.below(8) {
            0 => pieces(random, &mut text),
            1 => characters(random, &mut text, &[0..0x20, 0x20..0x80]),
            2 => characters(random, &mut text, &[0..0x250, 0x300..0x370, 0x2000..0x2070, 0xfe00..0xff00]),
            3 => characters(random, &mut text, &[0..0x1_0000, 0..0x11_0000]),
            4 => soup(random, &mut text),
            5 => run(random, &mut text),
            6 => vocabulary(random, &mut text, tokens),
            _ => words(random, &mut text),
        }
    }
    text
}

fn pieces(random: &mut Random, text: &mut String) {
    for _ in 0..random.below(40) {
        text.push_str(random.one_of::<&str>(PIECES));
    }
}

fn characters(random: &mut Random, text: &mut String, ranges: &[std::ops::Range<u32>]) {
    for _ in 0..random.below(60) {
        let range = random.one_of(ranges).clone();
        let code = range.start + random.below((range.end - range.start) as usize) as u32;
        text.extend(char::from_u32(code));
    }
}

/// Bytes made UTF-8, with U+FFFD where they were not; leading bytes are frequent.
fn soup(random: &mut Random, text: &mut String) {
    let byte = |random: &mut Random| match random.below(4) {
        0 => 0xc2 + random.below(0x33) as u8,
        1 | 2 => 0x80 + random.below(0x40) as u8,
        _ => random.below(256) as u8,
    };
    let bytes: Vec<u8> = (0..random.below(80)).map(|_| byte(random)).collect();
    text.push_str(&String::from_utf8_lossy(&bytes));
}

/// A piece or two again and again, sometimes thousands of times.
fn run(random: &mut Random, text: &mut String) {
    let mut unit = (*random.one_of(PIECES)).to_owned();
    if random.below(3) == 0 {
        unit += random.one_of::<&str>(PIECES);
    }
    let longest = *random.one_of(&[5, 70, 70, 600, 4000]);
    text.push_str(&unit.repeat(random.below(longest)));
}

fn vocabulary(random: &mut Random, text: &mut String, tokens: &[String]) {
    for _ in 0..random.below(40) {
        text.push_str(random.one_of::<String>(tokens));
    }
}

/// Words of letters that merge, with spaces, digits and points.
fn words(random: &mut Random, text: &mut String) {
    for _ in 0..random.below(60) {
        for _ in 0..random.below(14) {
            text.push(char::from(*random.one_of(b"aaabbcdeeefghiiilmnnnooprrssstttuuvwxyzTPEAS0123")));
        }
        text.push_str(random.one_of::<&str>(&[" ", " ", " ", ", ", ". ", "  ", "\n", "-", "'s ", "/", ""]));
    }
}
