//! Predicates over 64 bytes at once, one bit a byte.
//!
//! Plain loops over arrays of a fixed length, which the compiler makes vector code of for every target. Nothing here
//! knows of scalars that are not ASCII.

/// Bytes looked at together.
pub(crate) const LANES: usize = 64;

/// 64 bytes of a text, as its bytes stand there: a scalar may begin before them or end behind them.
pub(crate) type Lanes = [u8; LANES];

/// The 64 bytes of `bytes` from `at`; behind its end zeros follow. `at` is at most its length.
pub(crate) fn lanes_at(bytes: &[u8], at: usize) -> (Lanes, usize) {
    let rest = &bytes[at..];
    if let Some(lanes) = rest.first_chunk() {
        return (*lanes, LANES);
    }
    let mut lanes = [0; LANES];
    lanes[..rest.len()].copy_from_slice(rest);
    (lanes, rest.len())
}

/// Bit i says whether byte i is not ASCII.
pub(crate) fn non_ascii(lanes: &Lanes) -> u64 {
    gather(lanes)
}

/// Bit i says whether byte i is the first of a scalar that is not ASCII.
pub(crate) fn lead_bytes(lanes: &Lanes) -> u64 {
    gather(&lanes.map(|byte| mark(byte >= 0xC0)))
}

/// Bit i says whether byte i is a lowercase ASCII letter, a digit, or not ASCII.
pub(crate) fn word_bytes(lanes: &Lanes) -> u64 {
    gather(&lanes.map(|byte| mark(byte.is_ascii_lowercase() | byte.is_ascii_digit() | !byte.is_ascii())))
}

/// Bit i says whether byte i is ASCII whitespace, as `char::is_whitespace` has it (vertical tab too).
pub(crate) fn whitespace(lanes: &Lanes) -> u64 {
    gather(&lanes.map(|byte| mark((byte == b' ') | (byte.wrapping_sub(b'\t') < 5))))
}

/// The bytes with ASCII whitespace made spaces.
pub(crate) fn spaced(lanes: &Lanes) -> Lanes {
    lanes.map(|byte| if byte.wrapping_sub(b'\t') < 5 { b' ' } else { byte })
}

/// The bytes with ASCII capitals made small.
pub(crate) fn lowercase(lanes: &Lanes) -> Lanes {
    lanes.map(|byte| byte | (u8::from(byte.is_ascii_uppercase()) << 5))
}

fn mark(property: bool) -> u8 {
    u8::from(property) << 7
}

/// The highest bit of each byte.
fn gather(marks: &Lanes) -> u64 {
    const HIGHEST: u64 = 0x8080_8080_8080_8080;
    // The product moves the bit of byte k from 8k + 7 to 56 + k; no two partial products meet in one bit.
    const COLLECT: u64 = 0x0002_0408_1020_4081;
    let (words, _) = marks.as_chunks();
    let mut bits = 0;
    for (index, word) in words.iter().enumerate() {
        let byte = (u64::from_le_bytes(*word) & HIGHEST).wrapping_mul(COLLECT) >> 56;
        bits |= byte << (8 * index);
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each byte value at each position, among bytes that have the property and bytes that have not.
    fn check(mask: fn(&Lanes) -> u64, property: fn(u8) -> bool) {
        for value in 0..=255 {
            for position in 0..LANES {
                for around in [0, b' ', b'a', 0xFF] {
                    let mut lanes = [around; LANES];
                    lanes[position] = value;
                    let bits = mask(&lanes);
                    for (index, &byte) in lanes.iter().enumerate() {
                        assert_eq!(bits >> index & 1 == 1, property(byte), "{byte} at {index}");
                    }
                }
            }
        }
    }

    #[test]
    fn masks_equal_the_predicates() {
        check(non_ascii, |byte| byte >= 0x80);
        check(lead_bytes, |byte| byte >= 0xC0);
        check(word_bytes, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte >= 0x80);
        check(whitespace, |byte| byte < 0x80 && char::from(byte).is_whitespace());
    }

    #[test]
    fn capitals_become_small_and_whitespace_spaces() {
        for value in 0..=255u8 {
            let is_space = value < 0x80 && char::from(value).is_whitespace();
            assert_eq!(spaced(&[value; LANES]), [if is_space { b' ' } else { value }; LANES]);
            assert_eq!(lowercase(&[value; LANES]), [value.to_ascii_lowercase(); LANES]);
        }
    }

    #[test]
    fn behind_the_end_are_zeros() {
        let bytes = [7; 100];
        assert_eq!(lanes_at(&bytes, 0), ([7; LANES], LANES));
        let (lanes, length) = lanes_at(&bytes, 90);
        assert_eq!((length, lanes[..10].to_vec(), lanes[10..].to_vec()), (10, vec![7; 10], vec![0; 54]));
        assert_eq!(lanes_at(&bytes, 100), ([0; LANES], 0));
    }
}
