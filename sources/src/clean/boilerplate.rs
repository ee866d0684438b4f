//! Lines that are no content: licences and copyright notices, publishers' tails, and the furniture of web pages.
//!
//! A line goes as a whole or not at all. Its first sentence must begin as a known statement does, and each further sentence
//! must be one too or continue it; a line that says anything else stays, as does a sentence that merely mentions copyright.

use std::sync::LazyLock;

use regex::{Regex, RegexSet};

/// Longest line that is looked at, in bytes; licences with their addresses are shorter.
const MAX_LINE_BYTES: usize = 1_000;

/// How a statement begins. Each is anchored, in any case.
const STATEMENTS: [&str; 14] = [
    r"(?:copyright[:,]? *)?© *(?:copyright )?(?:(?:19|20)[0-9]{2}\b|the authors?\b|crown\b|owned by\b|by the authors?\b)",
    r"copyright[:,]? *(?:\(c\) *)?(?:(?:19|20)[0-9]{2}(?:$|,? by\b|[,;.]? (?-i:\p{Lu}))|(?:is )?held by the authors?\b)",
    r"all rights (?:are )?reserved\b.{0,60}$",
    r"this is an? open[- ]access (?:article|paper|publication|work)\b",
    r"this (?:article|work|paper|publication) is (?:protected by copyright|an open[- ]access article)\b",
    r"this (?:article|work|paper|publication|content) is (?:licen[cs]ed|distributed|published|made available) under (?:a|an|the) (?:terms of (?:a|the) )?(?:creative commons|cc[- ]by)",
    r"(?:published|publication) by (?:elsevier|john wiley|wiley|springer|blackwell|oxford university press|cambridge university press|bmj|biomed central|mosby|s\. karger|karger|thieme|sage|taylor|lippincott|wolters)[a-z]*(?:[ .,&-]|ltd|limited|inc|gmbh|bv|b\.v|plc|llc|co|ag|publishing|publications|group|sons|science|masson|press|ireland|verlag|and francis|williams|wilkins|kluwer|health|university|sas)*$",
    r"no part of this (?:publication|article|work|book) may be reproduced\b",
    r"for (?:commercial re-?use|permissions?|reprints?),? (?:please )?(?:e-?mail|contact|visit)\b",
    r"(?:to view a copy of this licen[cs]e|permission to make digital or hard copies|permission is hereby granted, free of charge)\b",
    r"(?:this (?:web ?)?site|we|our (?:web ?)?site) uses? cookies(?:[.!]?$| (?:on (?:this|our)|to (?:improve|give|provide|ensure|personali[sz]e|offer|enhance|help|analy[sz]e|deliver))\b)",
    r"by (?:continuing to (?:use|browse)|using|browsing) (?:this|our|the) (?:web ?)?site\b",
    r"(?:skip to (?:main )?content|back to top|share this (?:article|page|story)|accept (?:all )?cookies|(?:cookie|privacy) (?:policy|settings)|terms of (?:use|service)|terms (?:and|&) conditions|click here to subscribe|view full text|download pdf|advertisement)[.!]?$",
    r"home(?: ?[|>»·] ?[a-z&' -]{1,30}){2,}$",
];

/// How a sentence behind a statement continues it.
const CONTINUATIONS: [&str; 6] = [
    r"(?:which permits|provided the original|provided that|the creative commons|\(?https?://|\(?www\.|see (?:also )?https?://)",
    r"(?:published|licensee|distributed|printed) (?:by|under|in)\b[^.]{0,80}\.?$",
    r"(?:no )?(?:commercial |non-?commercial |unrestricted )?(?:re-?use|use|distribution|reproduction)(?:,| and| or| is| permitted| in)\b.{0,200}\b(?:permitted|licen[cs]e|cited|permission|credited)\b.{0,60}$",
    r"(?:this|it) is (?:a work of|an? (?:us|u\.s\.) government work|in the public domain)",
    r"(?:we|you) (?:use them|can (?:accept|change|manage)|agree)\b.{0,160}$",
    r"\(?(?:cc|creative commons|creativecommons)\b.{0,100}$",
];

/// A name: capitalized words with what joins them.
const NAME: &str = r"^(?:(?:\p{Lu}[\p{L}\p{N}&'’-]*|of|the|and|for|on|behalf|by|in|&|et|al|[0-9]{4})[.,;:)]* *){1,14}$";

struct Known {
    statements: RegexSet,
    continuations: RegexSet,
    name: Regex,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let set = |patterns: &[&str]| {
        let anchored = patterns.iter().map(|pattern| format!("^(?i:{pattern})"));
        RegexSet::new(anchored).expect("the table is constant and a test compiles it")
    };
    Known { statements: set(&STATEMENTS), continuations: set(&CONTINUATIONS), name: Regex::new(NAME).expect("constant") }
});

/// Removes every line that is boilerplate, with its line end, and counts them.
pub(super) fn remove(text: &mut String) -> u64 {
    let mut output = String::new();
    let (mut removed, mut copied, mut place) = (0, 0, 0);
    for line in text.split_inclusive('\n') {
        let end = place + line.len();
        if is_boilerplate(line.trim()) {
            output.push_str(&text[copied..place]);
            copied = end;
            removed += 1;
        }
        place = end;
    }
    if removed > 0 {
        output.push_str(&text[copied..]);
        *text = output;
    }
    removed
}

fn is_boilerplate(line: &str) -> bool {
    if line.len() > MAX_LINE_BYTES {
        return false;
    }
    let mut sentences = sentences(line);
    let Some(first) = sentences.next() else { return false };
    let further = |sentence: &str| {
        KNOWN.statements.is_match(sentence) || KNOWN.continuations.is_match(sentence) || KNOWN.name.is_match(sentence)
    };
    KNOWN.statements.is_match(first) && sentences.all(further)
}

/// A line cut behind each full stop that a space follows.
fn sentences(line: &str) -> impl Iterator<Item = &str> {
    line.split_inclusive(". ").map(str::trim).filter(|sentence| !sentence.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: bool) {
        assert_eq!(is_boilerplate(line), expected, "{line:?}");
        let mut text = format!("Before.\n{line}\nAfter.");
        assert_eq!(remove(&mut text), u64::from(expected));
        assert_eq!(text.contains(line), !expected);
        assert_eq!(remove(&mut text), 0, "twice");
    }

    #[test]
    fn licences_and_notices_go() {
        for line in [
            "© 2010 Smith et al.",
            "© 2010 Smith et al; licensee BioMed Central Ltd.",
            "Copyright © 2015 The Authors. Published by Elsevier Inc. All rights reserved.",
            "Copyright 2009 by the American Thoracic Society.",
            "© 2012 Wiley Periodicals, Inc. J. Cell. Biochem.",
            "© The Author(s) 2014. Published by Oxford University Press on behalf of the Society.",
            "All rights reserved.",
            "This is an open-access article distributed under the terms of the Creative Commons Attribution License, which permits \
             unrestricted use, distribution, and reproduction in any medium, provided the original author and source are credited.",
            "This is an Open Access article distributed under the terms of the Creative Commons Attribution License \
             (http://creativecommons.org/licenses/by/2.0), which permits unrestricted use.",
            "This article is protected by copyright. All rights reserved.",
            "For commercial re-use, please contact journals.permissions@example.org",
            "Published by Elsevier Ltd.",
            "We use cookies to improve this page. By using this site you agree.",
            "Skip to main content",
            "Home | About us | Contact",
            "Privacy Policy",
        ] {
            check(line, true);
        }
    }

    #[test]
    fn content_stays() {
        for line in [
            "Copyright law protects the authors of questionnaires.",
            "The scale is under copyright and was used with permission.",
            "© 2010 Smith et al. We studied 120 patients with asthma.",
            "© is the sign of copyright.",
            "(c) 2010 patients were seen",
            "Published by Elsevier in 2010, the atlas shows normal anatomy.",
            "This is an open-label article of faith.",
            "All rights of patients were explained.",
            "Home",
            "Home with services",
            "Discharge disposition: Home | Condition: stable",
            "Home medications > 5 | reviewed: 3",
            "We use cookies in the reward task; children were given two.",
            "Copyright 2009 was asked about: how many authors kept it?",
            "All rights reserved. Patients improved.",
            "The privacy policy of the hospital was followed.",
            "Terms of use were accepted by all participants.",
        ] {
            check(line, false);
        }
    }

    #[test]
    fn long_lines_and_many_lines_are_bounded() {
        check(&format!("© 2010 {}", "A".repeat(MAX_LINE_BYTES)), false);
        let mut text = "© 2010 Smith\n".repeat(50_000);
        assert_eq!(remove(&mut text), 50_000);
        assert_eq!(text, "");
    }
}
