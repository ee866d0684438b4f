//! Document keys as text: the one spelling in which they are shown, asked for and recorded.
//!
//! How a key is made is not known here; to shards it is 16 opaque bytes.

/// Hexadecimal digits of a key.
const DIGITS: usize = 32;

/// A key as 32 lower-case hexadecimal digits: its 16 bytes in the order in which every table holds them, so that the bytes of a
/// Parquet column in hexadecimal are the same text.
pub fn key_text(key: u128) -> String {
    format!("{:032x}", key.swap_bytes())
}

/// The key that 32 hexadecimal digits, of either case, spell.
pub fn key_of_text(text: &str) -> Option<u128> {
    let is_key = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_key.then(|| u128::from_str_radix(text, 16).ok()).flatten().map(u128::swap_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_texts_of_keys() {
        let check = |key: u128, text: &str| {
            assert_eq!(key_text(key), text);
            assert_eq!(key_of_text(text), Some(key));
        };
        check(0, "00000000000000000000000000000000");
        check(1, "01000000000000000000000000000000");
        check(0xff << 120, "000000000000000000000000000000ff");
        check(u128::from_le_bytes(*b"0123456789abcdef"), "30313233343536373839616263646566");
    }

    #[test]
    fn the_text_is_the_stored_bytes() {
        for key in [0, 1, u128::MAX, 0x4d3f_bbf2_b483_0ea1_f394_86c2_8331_895d] {
            let digits = key_text(key).into_bytes();
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            assert_eq!(digits.chunks(2).map(byte).collect::<Vec<_>>(), key.to_le_bytes());
        }
    }

    #[test]
    fn what_is_no_key_is_none() {
        assert_eq!(key_of_text("0100000000000000000000000000000A"), key_of_text("0100000000000000000000000000000a"));
        for text in
            ["", "ff", "000000000000000000000000000000fg", "+00000000000000000000000000000ff", "é0000000000000000000000000000ff"]
        {
            assert_eq!(key_of_text(text), None, "{text}");
        }
        assert_eq!(key_of_text(&"0".repeat(33)), None);
    }
}
