//! Names that a record goes by outside its source (`pmid:123`, `pmcid:PMC123`, `doi:10.1/x`), each in one spelling.
//!
//! It knows forms, not registers: whether a number was ever given to a record is not asked.

/// Most digits of a PMID or PMCID.
const MAX_DIGITS: usize = 10;
/// Longest DOI, in bytes.
const MAX_DOI_BYTES: usize = 512;
/// Most names that one record lists of others.
const MAX_LINKS: usize = 16;
/// What may stand before a DOI, in lower case.
const DOI_PREFIXES: [&str; 5] = ["https://", "http://", "dx.doi.org/", "doi.org/", "doi:"];

/// The digits of a PMID, without zeros before them.
pub fn pmid(written: &str) -> Option<String> {
    digits(written.trim()).map(str::to_owned)
}

/// A PMCID as `PMC123`, without a version, from `PMC123`, `pmc123.2` or `123`.
pub fn pmcid(written: &str) -> Option<String> {
    let written = written.trim();
    let number = without_prefix(written, "pmc").unwrap_or(written);
    let number = match number.split_once('.') {
        Some((number, version)) if digits(version).is_some() => number,
        Some(_) => return None,
        None => number,
    };
    digits(number).map(|digits| format!("PMC{digits}"))
}

/// A DOI in lower case without its resolver: from `10.1/X`, `doi:10.1/X` or `https://doi.org/10.1/X`. Marks of a sentence at
/// its end go.
pub fn doi(written: &str) -> Option<String> {
    let mut rest = written.trim();
    for prefix in DOI_PREFIXES {
        rest = without_prefix(rest, prefix).unwrap_or(rest).trim_start();
    }
    let doi = rest.trim_end_matches(['.', ',', ';']).to_lowercase();
    let (registrant, suffix) = doi.strip_prefix("10.")?.split_once('/')?;
    let registered = !registrant.is_empty() && registrant.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let usable = !suffix.is_empty() && !doi.chars().any(|one| one.is_whitespace() || one.is_control());
    (registered && usable && doi.len() <= MAX_DOI_BYTES).then_some(doi)
}

/// Names of other records for a meta entry: separated by spaces, in the order given, each once; `None` where there are none.
pub(crate) fn links(names: impl IntoIterator<Item = String>) -> Option<String> {
    let mut links: Vec<String> = Vec::new();
    for name in names {
        if !links.contains(&name) && links.len() < MAX_LINKS {
            links.push(name);
        }
    }
    (!links.is_empty()).then(|| links.join(" "))
}

fn digits(written: &str) -> Option<&str> {
    let number = written.trim_start_matches('0');
    let valid = (1..=MAX_DIGITS).contains(&number.len()) && written.bytes().all(|byte| byte.is_ascii_digit());
    valid.then_some(number)
}

/// What stands behind a prefix in any case.
fn without_prefix<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pmids() {
        for (written, expected) in
            [("123", Some("123")), (" 0123 ", Some("123")), ("0", None), ("", None), ("12a", None), ("12345678901", None)]
        {
            assert_eq!(pmid(written).as_deref(), expected, "{written}");
        }
    }

    #[test]
    fn pmcids() {
        for (written, expected) in [
            ("PMC123", Some("PMC123")),
            ("pmc123.2", Some("PMC123")),
            ("123", Some("PMC123")),
            ("PMC", None),
            ("PMC12.x", None),
            ("MC12", None),
            ("é12", None),
        ] {
            assert_eq!(pmcid(written).as_deref(), expected, "{written}");
        }
    }

    #[test]
    fn dois() {
        for (written, expected) in [
            ("10.1000/AbC(1)x", Some("10.1000/abc(1)x")),
            ("doi: 10.1101/2023.03.21.1.", Some("10.1101/2023.03.21.1")),
            ("https://doi.org/10.1/x", Some("10.1/x")),
            ("HTTP://dx.doi.org/10.1/x/y", Some("10.1/x/y")),
            ("10.1000.10/x", Some("10.1000.10/x")),
            ("10.1000/", None),
            ("10.a/x", None),
            ("10./x", None),
            ("11.1000/x", None),
            ("10.1000/a b", None),
            ("é", None),
        ] {
            assert_eq!(doi(written).as_deref(), expected, "{written}");
        }
        assert_eq!(doi(&format!("10.1/{}", "x".repeat(MAX_DOI_BYTES))), None);
    }

    #[test]
    fn links_are_listed_once_and_bounded() {
        let check = |names: &[&str], expected: Option<&str>| {
            assert_eq!(links(names.iter().map(ToString::to_string)).as_deref(), expected);
        };
        check(&[], None);
        check(&["pmid:2", "doi:10.1/x", "pmid:2"], Some("pmid:2 doi:10.1/x"));
        let many = links((0..100).map(|number| format!("pmid:{number}"))).unwrap();
        assert_eq!(many.split(' ').count(), MAX_LINKS);
    }
}
