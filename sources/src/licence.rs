//! The licence of a JATS article as a short code, from its `permissions`.
//!
//! It reports what is stated; whether a licence is allowed is the recipe's matter.

use std::borrow::Cow;

use crate::names::Name;
use crate::prose::line_of;
use crate::xml::Element;

/// Characters kept of a statement that is not recognized.
const STATEMENT_CHARACTERS: usize = 200;
/// Characters after "Creative Commons Attribution" that may belong to the licence's name.
const NAME_CHARACTERS: usize = 80;

/// The licence of an article: the first Creative Commons address found becomes a code as `CC-BY-4.0`, `CC-BY-NC-3.0` or
/// `CC0-1.0`; a licence that is only named, as "Creative Commons Attribution License", a code without a version; else the
/// stated address or the first 200 characters of the statement.
pub(crate) fn licence_of(meta: Element<'_>) -> Option<String> {
    let licences: Vec<_> = meta.named(Name::Permissions).flat_map(|part| part.named(Name::License)).collect();
    let addresses: Vec<String> = licences.iter().flat_map(|licence| addresses(*licence)).collect();
    if let Some(code) = addresses.iter().find_map(|address| code_of_address(address)) {
        return Some(code);
    }
    let statements: Vec<_> = licences.iter().map(|licence| line_of(*licence)).collect();
    let words = licences.iter().filter_map(|licence| licence.attribute("license-type"));
    let named = statements.iter().find_map(|text| code_of_address(text).or_else(|| code_of_name(text)));
    if let Some(code) = named.or_else(|| words.into_iter().find_map(|kind| code_of_kind(&kind))) {
        return Some(code);
    }
    let stated = addresses.into_iter().chain(statements).find(|text| !text.trim().is_empty())?;
    Some(stated.trim().chars().take(STATEMENT_CHARACTERS).collect())
}

/// Every address in a licence, in order, its own first.
fn addresses(licence: Element<'_>) -> Vec<String> {
    let mut found: Vec<String> = licence.attribute("href").into_iter().map(Cow::into_owned).collect();
    for element in licence.descendants(|name| name == Name::LicenseRef) {
        found.extend(element.attribute("href").map(Cow::into_owned));
        if element.name() == Name::LicenseRef {
            found.push(line_of(element));
        }
    }
    found
}

/// `…creativecommons.org/licenses/by-nc/4.0/…` anywhere in a text.
fn code_of_address(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (_, path) = text.split_once("creativecommons.org/")?;
    let mut parts = path.split(|one: char| !(one.is_ascii_alphanumeric() || matches!(one, '-' | '.')) || one == '/');
    let (kind, name) = (parts.next()?, parts.next()?);
    let version = parts.next().map(|version| version.trim_end_matches('.')).filter(|version| is_version(version));
    let base = match (kind, name) {
        ("publicdomain", "zero") => "CC0".to_string(),
        ("publicdomain", "mark") => "PDM".to_string(),
        ("licenses", name) if name.split('-').all(|part| matches!(part, "by" | "nc" | "nd" | "sa")) => {
            format!("CC-{}", name.to_ascii_uppercase())
        }
        _ => return None,
    };
    Some(with_version(base, version))
}

/// "Creative Commons Attribution-NonCommercial 4.0 International License" or "CC BY-NC 4.0" in a statement.
fn code_of_name(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    if let Some((_, rest)) = text.split_once("creative commons attribution") {
        let named: String = rest.chars().take(NAME_CHARACTERS).collect();
        // The name ends where the licence is called one.
        let named = named.split("licen").next().unwrap_or_default();
        let letters: String = named.chars().filter(char::is_ascii_alphabetic).collect();
        let mut base = "CC-BY".to_string();
        for (word, part) in [("noncommercial", "-NC"), ("sharealike", "-SA"), ("noderiv", "-ND")] {
            if letters.contains(word) {
                base += part;
            }
        }
        return Some(with_version(base, named.split_whitespace().find(|word| is_version(word))));
    }
    let start = ["cc by", "cc-by", "cc0"].into_iter().filter_map(|word| text.find(word)).min()?;
    code_of_kind(text[start..].split([')', '(', ',', ';']).next()?)
}

/// `CC BY-NC 4.0`, `cc-by` and the like.
fn code_of_kind(kind: &str) -> Option<String> {
    let kind = kind.to_ascii_lowercase();
    let mut words = kind.split([' ', '-', '_']).filter(|word| !word.is_empty());
    let base = match words.next()? {
        "cc0" => "CC0".to_string(),
        "ccby" => "CC-BY".to_string(),
        "cc" if words.next()? == "by" => "CC-BY".to_string(),
        _ => return None,
    };
    let mut code = base;
    let mut version = None;
    for word in words {
        match word {
            "nc" | "nd" | "sa" => {
                code.push('-');
                code.push_str(&word.to_ascii_uppercase());
            }
            _ => {
                version = Some(word.trim_end_matches('.')).filter(|word| is_version(word));
                break;
            }
        }
    }
    Some(with_version(code, version))
}

fn with_version(base: String, version: Option<&str>) -> String {
    match version {
        Some(version) => format!("{base}-{version}"),
        None => base,
    }
}

/// A digit, a stop and a digit.
fn is_version(text: &str) -> bool {
    matches!(text.as_bytes(), [major, b'.', minor] if major.is_ascii_digit() && minor.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::Limits;
    use crate::xml::Tree;

    fn check(licence: &str, expected: Option<&str>) {
        let xml = format!("<article-meta><permissions>{licence}</permissions></article-meta>");
        let tree = Tree::parse(&xml, &Limits::default()).unwrap();
        assert_eq!(licence_of(tree.root()).as_deref(), expected, "{licence}");
    }

    #[test]
    fn addresses_become_codes() {
        let by = "https://creativecommons.org/licenses/by/4.0/";
        check(&format!("<license xlink:href='{by}'/>"), Some("CC-BY-4.0"));
        check(&format!("<license><ali:license_ref>{by}legalcode</ali:license_ref></license>"), Some("CC-BY-4.0"));
        check(
            "<license><license-p>x (http://creativecommons.org/licenses/by-nc-nd/3.0).</license-p></license>",
            Some("CC-BY-NC-ND-3.0"),
        );
        check("<license xlink:href='http://creativecommons.org/publicdomain/zero/1.0/'/>", Some("CC0-1.0"));
        // The text's licence comes before that of the data.
        let both = "<license><license-p><ext-link xlink:href='http://creativecommons.org/licenses/by/4.0/'/>, data \
            <ext-link xlink:href='http://creativecommons.org/publicdomain/zero/1.0/'/></license-p></license>";
        check(both, Some("CC-BY-4.0"));
    }

    #[test]
    fn names_become_codes() {
        let text = |text: &str| format!("<license><license-p>{text}</license-p></license>");
        check(&text("under the Creative Commons Attribution License, which permits noncommercial"), Some("CC-BY"));
        check(&text("Creative Commons Attribution-NonCommercial 4.0 International License"), Some("CC-BY-NC-4.0"));
        check(&text("Creative Commons Attribution Non-Commercial No Derivatives licence"), Some("CC-BY-NC-ND"));
        check(&text("This is under CC BY-NC-SA 4.0."), Some("CC-BY-NC-SA-4.0"));
        check("<license license-type='cc-by'><license-p>Open.</license-p></license>", Some("CC-BY"));
    }

    #[test]
    fn others_are_reported_as_stated() {
        check("<license license-type='open-access'><license-p>Read  freely.</license-p></license>", Some("Read freely."));
        check(
            "<license xlink:href='https://example.org/terms'><license-p>Read.</license-p></license>",
            Some("https://example.org/terms"),
        );
        check("<copyright-statement>© A</copyright-statement>", None);
        let nested = format!("<license>{}x{}</license>", "<license_ref>".repeat(200), "</license_ref>".repeat(200));
        let tree = Tree::parse(&nested, &Limits::default()).unwrap();
        assert_eq!(addresses(tree.root()), ["x"]);
        let long = format!("<license><license-p>{}</license-p></license>", "é".repeat(500));
        check(&long, Some("é".repeat(200).as_str()));
    }
}
