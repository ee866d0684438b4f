//! Names as a listing gives them. XML cannot hold every character that a key may have, so names come percent-encoded.

/// A name of a listing as it is; `None` when it is no text.
pub(crate) fn decoded(name: &str, is_encoded: bool) -> Option<String> {
    if !is_encoded {
        return Some(name.to_owned());
    }
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hex(rest.next()?)? << 4 | hex(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_11_names_come_back() {
        let check = |name: &str, expected: Option<&str>| assert_eq!(decoded(name, true).as_deref(), expected, "{name}");
        check("a/b", Some("a/b"));
        check("a+b%2Bc", Some("a b+c"));
        check("100%25", Some("100%"));
        check("%C3%A9", Some("é"));
        check("new%0Aline", Some("new\nline"));
        check("%C3", None);
        check("%", None);
        check("%4", None);
        check("%zz", None);
        assert_eq!(decoded("a+b%20", false).as_deref(), Some("a+b%20"));
    }
}
