//! Verdicts by rule, the recipe table, and the properties of cleaning.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::document::{Domain, Origin, Sensitivity};

fn document(text: &str) -> Document {
    Document {
        id: "s:1".into(),
        version: 1,
        source: "s".into(),
        domain: Domain::Clinical,
        native_id: "1".into(),
        licence: None,
        sensitivity: Sensitivity::Open,
        title: None,
        text: text.into(),
        year: None,
        origin: Origin { object: "o".into(), byte_offset: 0 },
        meta: BTreeMap::new(),
    }
}

fn check(text: &str, cleaning: &Cleaning, expected: Verdict) {
    assert_eq!(Cleaner::new(Some(cleaning)).clean(&mut document(text)), expected, "{text:?}");
}

fn dropped(text: &str, cleaning: &Cleaning, reason: DropReason) {
    check(text, cleaning, Verdict::Drop(reason));
}

#[test]
fn without_a_table_only_the_normal_form_changes() {
    let text = "\u{feff}e\u{301}\r\n\r\n\r\n\0[** x **] Dr. Smith 617-555-1234 ";
    let mut subject = document(text);
    subject.title = Some("e\u{301}".into());
    assert_eq!(Cleaner::new(None).clean(&mut subject), Verdict::Keep);
    assert_eq!(subject.text, text.replace("e\u{301}", "\u{e9}"));
    assert_eq!(subject.title.as_deref(), Some("\u{e9}"));
    let mut empty = document("");
    assert_eq!(Cleaner::new(None).clean(&mut empty), Verdict::Keep);
}

#[test]
fn each_rule_drops_with_its_reason() {
    let rules = Cleaning::default();
    check("The lungs are clear without effusion.", &rules, Verdict::Keep);
    dropped(" \r\n\u{feff}", &rules, DropReason::TooFewCharacters);
    dropped("Too short a text", &rules, DropReason::TooFewWords);
    dropped("one two three four five six", &Cleaning { max_words: 5, ..rules.clone() }, DropReason::TooManyWords);
    dropped(&"abcdefghijklmnopqrst ".repeat(12), &rules, DropReason::LongWords);
    check("Noncontributory otherwise, unremarkable cholecystectomy postoperatively", &rules, Verdict::Keep);
    dropped("1 2 3 4 5 6 7 8 9 a b", &rules, DropReason::FewAlphabeticWords);
    dropped("a# #b c## ##d #e# #f# g## h## i## j##", &rules, DropReason::ManySymbols);
    dropped(&"normal sinus rhythm\n".repeat(4), &rules, DropReason::RepeatedLines);
    dropped(&"a b c d e f g h i j k l ".repeat(9), &rules, DropReason::RepeatedNgrams);
    let english = Cleaning { languages: vec!["en".into()], ..rules };
    dropped("Der Patient wurde mit Schmerzen in die Klinik aufgenommen und nicht operiert.", &english, DropReason::Language);
    check("CV: RRR no m/r/g Lungs CTAB Abd soft NT/ND", &english, Verdict::Keep);
}

#[test]
fn a_policy_decides_on_identifiers() {
    let text = "Call Dr. Smith at 617-555-1234 before noon.";
    let with = |phi| Cleaning { phi, ..Cleaning::default() };
    check(text, &with(PhiPolicy::Off), Verdict::Keep);
    dropped(text, &with(PhiPolicy::Drop), DropReason::Phi);
    check("Call the clinic before noon please.", &with(PhiPolicy::Drop), Verdict::Keep);

    let mut reported = document(text);
    assert_eq!(Cleaner::new(Some(&with(PhiPolicy::Report))).clean(&mut reported), Verdict::Keep);
    assert_eq!(reported.text, text);
    assert_eq!(reported.meta["phi"], "name:9-14 phone:18-30");
    assert_eq!(reported.meta["phi_hits"], "2");

    let mut masked = document(text);
    masked.title = Some("Dr. Smith".into());
    assert_eq!(Cleaner::new(Some(&with(PhiPolicy::Mask))).clean(&mut masked), Verdict::Keep);
    assert_eq!(masked.text, "Call Dr. [NAME] at [PHONE] before noon.");
    assert_eq!(masked.title.as_deref(), Some("Dr. [NAME]"));
}

#[test]
fn an_identifier_in_the_title_counts() {
    let mut subject = document("Call the clinic before noon please.");
    subject.title = Some("Letter of Dr. Smith".into());
    let rules = Cleaning { phi: PhiPolicy::Drop, ..Cleaning::default() };
    assert_eq!(Cleaner::new(Some(&rules)).clean(&mut subject), Verdict::Drop(DropReason::Phi));
}

#[test]
fn the_table_takes_defaults_and_refuses_unknown_keys() {
    let read = |json: &str| serde_json::from_str::<Cleaning>(json);
    assert_eq!(read("{}").unwrap(), Cleaning::default());
    let table = read(r#"{"languages": ["en"], "min_words": 50, "deidentification": "placeholder", "phi": "mask"}"#).unwrap();
    assert_eq!(table.min_words, 50);
    assert_eq!(table.deidentification, Deidentification::Placeholder);
    assert_eq!(table.phi, PhiPolicy::Mask);
    assert_eq!(table.max_words, 1_000_000);
    assert!(read(r#"{"min_word": 50}"#).unwrap_err().to_string().contains("min_words"));
    assert!(read(r#"{"phi": "hide"}"#).is_err());
    let back: Cleaning = serde_json::from_str(&serde_json::to_string(&table).unwrap()).unwrap();
    assert_eq!(back, table);
}

#[test]
fn impossible_thresholds_are_refused() {
    let base = Cleaning::default();
    assert_eq!(base.check(), Ok(()));
    let refused = |cleaning: Cleaning, key: &str| {
        let message = cleaning.check().unwrap_err().to_string();
        assert!(message.starts_with(&format!("corpus.clean.{key}: ")), "{message}");
    };
    refused(Cleaning { max_symbol_share: 1.5, ..base.clone() }, "max_symbol_share");
    refused(Cleaning { min_alphabetic_share: f64::NAN, ..base.clone() }, "min_alphabetic_share");
    refused(Cleaning { min_words: 9, max_words: 8, ..base.clone() }, "min_words");
    refused(Cleaning { max_word_length_mean: 0.0, ..base.clone() }, "max_word_length_mean");
    refused(Cleaning { languages: vec!["english".into()], ..base }, "languages");
}

#[test]
fn reasons_serialize_as_their_codes() {
    for reason in DropReason::ALL {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
    }
}

#[test]
fn case_33_unicode_attacks_are_stable_and_bounded() {
    for text in [
        format!("a{}", "\u{301}".repeat(100_000)),
        format!("a{}", "\u{301}\u{323}".repeat(50_000)),
        "\u{202e}\u{2066}".repeat(10_000),
        "\u{212b}\u{1e9b}\u{323}ｆｕｌｌ раура1".to_owned(),
    ] {
        for cleaning in [None, Some(Cleaning::default())] {
            let cleaner = Cleaner::new(cleaning.as_ref());
            let mut subject = document(&text);
            cleaner.clean(&mut subject);
            let once = subject.text.clone();
            cleaner.clean(&mut subject);
            assert_eq!(subject.text, once);
        }
    }
}

fn any_cleaning() -> impl Strategy<Value = Cleaning> {
    let deidentification =
        prop_oneof![Just(Deidentification::Keep), Just(Deidentification::Normalize), Just(Deidentification::Placeholder)];
    let phi = prop_oneof![Just(PhiPolicy::Off), Just(PhiPolicy::Report), Just(PhiPolicy::Drop), Just(PhiPolicy::Mask)];
    (deidentification, phi, any::<[bool; 3]>(), 0..3_u64).prop_map(|(deidentification, phi, flags, min_words)| Cleaning {
        deidentification,
        phi,
        strip_control: flags[0],
        normalize_newlines: flags[1],
        collapse_blank_lines: flags[2],
        min_words,
        ..Cleaning::default()
    })
}

fn any_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("[**".to_owned()),
        Just("**]".to_owned()),
        Just("___".to_owned()),
        Just("Dr. Smith ".to_owned()),
        Just("MRN: ".to_owned()),
        Just("3/14/2012".to_owned()),
        Just("617-555-1234".to_owned()),
        Just("\r".to_owned()),
        Just("\n".to_owned()),
        Just("\u{301}".to_owned()),
        Just("\u{200b}".to_owned()),
        "[a-zA-Z0-9 ./:,-]{1,6}",
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn cleaning_twice_is_cleaning_once(text in any_text(), cleaning in any_cleaning()) {
        let cleaner = Cleaner::new(Some(&cleaning));
        let mut once = document(&text);
        if cleaner.clean(&mut once) == Verdict::Keep {
            let mut twice = once.clone();
            prop_assert_eq!(cleaner.clean(&mut twice), Verdict::Keep);
            prop_assert_eq!(&twice.text, &once.text);
            prop_assert_eq!(&twice.meta, &once.meta);
        }
    }
}
