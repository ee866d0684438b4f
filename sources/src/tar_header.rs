//! Headers of a tar: the 512-byte block, and the records of a PAX extended header.
//!
//! It only takes bytes apart; [`crate::tar`] reads them and decides what is refused.

use crate::reject::RejectReason;

/// Bytes of a header; content is padded to a multiple of it.
pub(crate) const BLOCK_BYTES: usize = 512;

/// One header as it is stored.
pub(crate) type Block = [u8; BLOCK_BYTES];

/// What a block says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) name: Vec<u8>,
    pub(crate) size: u64,
    /// The type flag, `0` for the NUL of old archives.
    pub(crate) kind: u8,
}

impl Header {
    /// Checks the sum of the block and takes it apart; else what is wrong with it.
    pub(crate) fn parse(block: &Block) -> Result<Self, &'static str> {
        if !has_checksum(block) {
            return Err("a tar header with a wrong checksum");
        }
        let size = number(&block[124..136]).ok_or("a tar header with an unreadable size")?;
        let kind = if block[156] == 0 { b'0' } else { block[156] };
        let mut name = text(&block[..100]).to_vec();
        // GNU tar keeps times where POSIX has the front of the path.
        let prefix = if &block[257..263] == b"ustar\0" { text(&block[345..500]) } else { b"" };
        if !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        Ok(Self { name, size, kind })
    }

    /// Whether content follows the header; else its size, if any, is that of something else.
    pub(crate) fn has_content(&self) -> bool {
        !matches!(self.kind, b'1'..=b'6')
    }
}

/// What the headers before an entry's own say of it.
#[derive(Debug, Default)]
pub(crate) struct Extended {
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) sparse: bool,
    pub(crate) refused: Option<RejectReason>,
}

impl Extended {
    /// Takes the records of a PAX header; later ones count. Other keys do not matter here.
    pub(crate) fn take(&mut self, content: &[u8]) -> Result<(), &'static str> {
        for_each_record(content, |key, value| {
            match key {
                // An empty value takes the record back.
                b"path" if value.is_empty() => self.name = None,
                b"path" => self.name = Some(value.to_vec()),
                b"size" if value.is_empty() => self.size = None,
                b"size" => self.size = Some(decimal(value).ok_or("a PAX header with an unreadable size")?),
                _ => self.sparse |= key.starts_with(b"GNU.sparse."),
            }
            Ok(())
        })
    }

    /// Global records are ignored, but nobody could follow an archive whose members all have one size.
    pub(crate) fn check_global(content: &[u8]) -> Result<(), &'static str> {
        for_each_record(content, |key, _| if key == b"size" { Err("a global PAX header with a size") } else { Ok(()) })
    }

    pub(crate) fn take_long_name(&mut self, mut name: Vec<u8>) {
        name.truncate(text(&name).len());
        self.name = Some(name);
    }
}

/// Records are `LENGTH KEY=VALUE\n`, the length in decimal and of the whole record.
fn for_each_record(
    mut content: &[u8],
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    const WRONG: &str = "a PAX header that is no list of records";
    while !content.is_empty() {
        let space = content.iter().take(20).position(|&byte| byte == b' ').ok_or(WRONG)?;
        let length = decimal(&content[..space]).and_then(|length| usize::try_from(length).ok()).ok_or(WRONG)?;
        let record = content.get(space + 1..length).ok_or(WRONG)?;
        let record = record.strip_suffix(b"\n").ok_or(WRONG)?;
        let equals = record.iter().position(|&byte| byte == b'=').ok_or(WRONG)?;
        take(&record[..equals], &record[equals + 1..])?;
        content = &content[length..];
    }
    Ok(())
}

/// Up to the first NUL.
fn text(field: &[u8]) -> &[u8] {
    &field[..field.iter().position(|&byte| byte == 0).unwrap_or(field.len())]
}

/// The sum of all bytes with the sum itself as blanks; very old archives add signed bytes.
fn has_checksum(block: &Block) -> bool {
    let summed = |index: usize| if (148..156).contains(&index) { b' ' } else { block[index] };
    let unsigned: u64 = (0..BLOCK_BYTES).map(|index| u64::from(summed(index))).sum();
    let signed: i64 = (0..BLOCK_BYTES).map(|index| i64::from(summed(index) as i8)).sum();
    let field = &block[148..156];
    let written = field.iter().any(u8::is_ascii_digit).then(|| number(field)).flatten();
    written.is_some_and(|sum| sum == unsigned || i64::try_from(sum) == Ok(signed))
}

/// Octal digits between blanks or NULs, or a binary number behind a first bit of one. An empty field is zero.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        return binary(field);
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let begin = field.iter().position(|byte| !blank(byte)).unwrap_or(field.len());
    let digits = &field[begin..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    let mut value = 0_u64;
    for &digit in digits {
        if !matches!(digit, b'0'..=b'7') {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(u64::from(digit - b'0'))?;
    }
    rest.iter().all(blank).then_some(value)
}

/// Big-endian without its first bit; never negative, and below 2^63.
fn binary(field: &[u8]) -> Option<u64> {
    if field[0] & 0x40 != 0 {
        return None;
    }
    let mut value = u64::from(field[0] & 0x3f);
    for &byte in &field[1..] {
        if value >> 55 != 0 {
            return None;
        }
        value = value << 8 | u64::from(byte);
    }
    Some(value)
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let valid = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    valid.then(|| std::str::from_utf8(digits).ok()?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_LIST: &str = "a PAX header that is no list of records";

    #[test]
    fn numbers() {
        let check = |field: &[u8], expected: Option<u64>| assert_eq!(number(field), expected, "{field:?}");
        check(b"00000000017\0", Some(15));
        check(b"   17 \0", Some(15));
        check(b"77777777777 ", Some((1 << 33) - 1));
        check(&[0; 12], Some(0));
        check(b"18", None);
        check(b"-1", None);
        check(b"1 1", None);
        check(b"7777777777777777777777777", None);
        check(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0], Some(1 << 33));
        check(&[0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], Some((1 << 63) - 1));
        check(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0], None);
        check(&[0xff; 12], None);
    }

    #[test]
    fn extended_records() {
        let check = |content: &str, expected: Result<(Option<&str>, Option<u64>, bool), &str>| {
            let mut found = Extended::default();
            let taken = found.take(content.as_bytes()).map(|()| {
                let name = found.name.as_deref().map(|name| std::str::from_utf8(name).unwrap());
                (name, found.size, found.sparse)
            });
            assert_eq!(taken, expected, "{content:?}");
        };
        check("", Ok((None, None, false)));
        check("12 path=a=b\n11 size=99\n", Ok((Some("a=b"), Some(99), false)));
        check("11 path=ab\n8 path=\n", Ok((None, None, false)));
        check("11 path=ab\n9 path=c\n", Ok((Some("c"), None, false)));
        check("11 path=ab\n7 path=\n", Err(NO_LIST));
        check("22 GNU.sparse.major=1\n", Ok((None, None, true)));
        check("10 size=-1\n", Err(NO_LIST));
        check("11 size=-1\n", Err("a PAX header with an unreadable size"));
        check("11 size=1x\n", Err("a PAX header with an unreadable size"));
        check("99999999999999999999 path=a\n", Err(NO_LIST));
        check("99 path=a\n", Err(NO_LIST));
        check("0 path=a\n", Err(NO_LIST));
        check("3 a\n", Err(NO_LIST));
        assert!(Extended::check_global(b"18 comment=a word\n").is_ok());
        assert!(Extended::check_global(b"9 size=1\n").is_err());
    }
}
