//! The named character references of HTML, the predefined five of XML among them, by name.
//!
//! The list is that of the HTML standard (§ "Named character references", names with their semicolon), one a line: the
//! name, then its code points in hexadecimal. Entities declared in a document type are no part of it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

const LIST: &str = include_str!("entities.txt");

static BY_NAME: LazyLock<BTreeMap<&'static str, String>> = LazyLock::new(|| {
    let entries = LIST.lines().filter_map(|line| {
        let (name, codes) = line.split_once(' ')?;
        Some((name, codes.split(' ').filter_map(character).collect()))
    });
    entries.collect()
});

/// The one or two characters that `&name;` stands for.
pub(crate) fn named_entity(name: &str) -> Option<&'static str> {
    BY_NAME.get(name).map(String::as_str)
}

fn character(code: &str) -> Option<char> {
    u32::from_str_radix(code, 16).ok().and_then(char::from_u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Option<&str>) {
        assert_eq!(named_entity(name), expected, "{name}");
    }

    #[test]
    fn known_names() {
        check("lt", Some("<"));
        check("gt", Some(">"));
        check("amp", Some("&"));
        check("quot", Some("\""));
        check("apos", Some("'"));
        check("nbsp", Some("\u{a0}"));
        check("alpha", Some("α"));
        check("Alpha", Some("Α"));
        check("ge", Some("≥"));
        check("plusmn", Some("±"));
        check("Dstrok", Some("Đ"));
        check("NotEqualTilde", Some("\u{2242}\u{338}"));
    }

    #[test]
    fn unknown_names() {
        check("", None);
        check("ALPHA", None);
        check("xxe", None);
        check("#65", None);
    }

    #[test]
    fn every_line_is_read() {
        // The standard lists 2,231 names, 106 of them without a semicolon.
        assert_eq!(BY_NAME.len(), 2_125);
        assert_eq!(LIST.lines().count(), 2_125);
        for (name, characters) in BY_NAME.iter() {
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{name}");
            assert!(matches!(characters.chars().count(), 1 | 2), "{name}");
        }
    }
}
