//! Damages valid samples: a few changes each, of bytes, words and whole stretches.

use crate::random::Random;

/// Bytes of the longest case before compression.
const MOST_BYTES: usize = 200_000;

/// One of the samples, or two spliced, with up to a dozen changes; now and then words alone.
pub(crate) fn mutated(random: &mut Random, samples: &[Vec<u8>], words: &[&str]) -> Vec<u8> {
    let mut bytes = match random.below(8) {
        0 => soup(random, words),
        1 => {
            let (first, second) = (random.one_of(samples).clone(), random.one_of(samples).clone());
            let (end, begin) = (random.below(first.len() + 1), random.below(second.len() + 1));
            [&first[..end], &second[begin..]].concat()
        }
        2 => {
            let times = 1 + random.below(20);
            random.one_of(samples).repeat(times)
        }
        _ => random.one_of(samples).clone(),
    };
    for _ in 0..random.below(12) {
        change(random, &mut bytes, words);
        bytes.truncate(MOST_BYTES);
    }
    bytes
}

/// Words in any order.
fn soup(random: &mut Random, words: &[&str]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.below(200) {
        if random.below(12) == 0 {
            bytes.push(random.next() as u8);
        } else {
            bytes.extend_from_slice(random.one_of(words).as_bytes());
        }
    }
    bytes
}

/// One change.
pub(crate) fn change(random: &mut Random, bytes: &mut Vec<u8>, words: &[&str]) {
    let place = random.below(bytes.len() + 1);
    match random.below(9) {
        0 if place < bytes.len() => bytes[place] ^= 1 << random.below(8),
        1 if place < bytes.len() => bytes[place] = random.next() as u8,
        2 | 3 => drop(bytes.splice(place..place, random.one_of(words).bytes())),
        4 => {
            let range = random.range(bytes.len());
            bytes.drain(range);
        }
        5 => {
            let range = random.range(bytes.len());
            let most = *random.one_of(&[4, 4, 4, 4, 4, 4, 4, 2_000]);
            let times = 1 + random.below(most);
            let length = (range.len() * times).min(MOST_BYTES);
            let stretch: Vec<u8> = bytes[range].iter().copied().cycle().take(length).collect();
            bytes.splice(place..place, stretch);
        }
        6 => {
            let (range, other) = (random.range(bytes.len()), random.range(bytes.len()));
            let stretch = bytes[other].to_vec();
            bytes.splice(range, stretch);
        }
        7 if random.below(4) == 0 => bytes.truncate(place),
        _ => {
            let most = *random.one_of(&[20, 20, 20, 20, 20, 70_000]);
            let long = random.below(most);
            let byte = *random.one_of(b"a <\"\n,{[&\\9\xff\0\xc3");
            bytes.splice(place..place, std::iter::repeat_n(byte, long));
        }
    }
}
