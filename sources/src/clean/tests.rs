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
        domain: Domain::Biomedical,
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
    assert_eq!(Cleaner::new(Some(cleaning)).clean(&mut document(text)).verdict, expected, "{text:?}");
}

fn dropped(text: &str, cleaning: &Cleaning, reason: DropReason) {
    check(text, cleaning, Verdict::Drop(reason));
}

#[test]
fn without_a_table_only_the_normal_form_changes() {
    let text = "\u{feff}e\u{301}\r\n\r\n\r\n\0[** x **] Dr. Smith 617-555-1234 ";
    let mut subject = document(text);
    subject.title = Some("e\u{301}".into());
    assert_eq!(Cleaner::new(None).clean(&mut subject).verdict, Verdict::Keep);
    assert_eq!(subject.text, text.replace("e\u{301}", "\u{e9}"));
    assert_eq!(subject.title.as_deref(), Some("\u{e9}"));
    let mut empty = document("");
    assert_eq!(Cleaner::new(None).clean(&mut empty).verdict, Verdict::Keep);
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
    dropped("-- ++ == ** ## -- ++ == abcdefghijkl abcdefghijklm", &rules, DropReason::FewAlphabeticWords);
    dropped("1 2 3 4 5 6 7 8 9 a b", &rules, DropReason::ManyDigits);
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
    let with = |phi: PhiPolicy| Cleaning { phi: phi.into(), ..Cleaning::default() };
    check(text, &with(PhiPolicy::Off), Verdict::Keep);
    dropped(text, &with(PhiPolicy::Reject), DropReason::Phi);
    check("Call the clinic before noon please.", &with(PhiPolicy::Reject), Verdict::Keep);

    let mut reported = document(text);
    let found = Cleaner::new(Some(&with(PhiPolicy::Report))).clean(&mut reported);
    assert_eq!((found.verdict, found.phi.text.len()), (Verdict::Keep, 2));
    assert_eq!(reported.text, text);
    assert_eq!(reported.meta["phi"], "name:9-14 phone:18-30");
    assert_eq!(reported.meta["phi_hits"], "2");

    let mut masked = document(text);
    masked.title = Some("Dr. Smith".into());
    let found = Cleaner::new(Some(&with(PhiPolicy::Mask))).clean(&mut masked);
    assert_eq!(found.verdict, Verdict::Keep);
    assert_eq!((found.phi.text.len(), found.phi.title.len()), (2, 1));
    assert!(found.changes.iter().eq([Change::PhiMasked]));
    assert_eq!(masked.text, "Call Dr. [NAME] at [PHONE] before noon.");
    assert_eq!(masked.title.as_deref(), Some("Dr. [NAME]"));
}

#[test]
fn an_identifier_in_the_title_counts() {
    let mut subject = document("Call the clinic before noon please.");
    subject.title = Some("Letter of Dr. Smith".into());
    let rules = Cleaning { phi: PhiPolicy::Reject.into(), ..Cleaning::default() };
    assert_eq!(Cleaner::new(Some(&rules)).clean(&mut subject).verdict, Verdict::Drop(DropReason::Phi));
}

#[test]
fn laboratory_tables_and_vital_signs_are_no_noise() {
    let counts = "LABS\nWBC  RBC  Hgb  Hct  Plt\n03-01 12.3* 4.10 12.1 36.2 250\n03-02 11.0 4.02* 11.9 35.8 241\n03-03 9.8 3.99 11.7 35.0 233";
    let hour = |hour: u32| format!("{hour:02}:00  T 98.{}  HR {}  BP 120/80  RR 16  SpO2 98%", hour % 10, 70 + hour);
    let vitals = (0..24).map(hour).collect::<Vec<_>>().join("\n");
    let pipes = "Na | 138 | 135-145\nK | 4.1 | 3.5-5.0\nCl | 101 | 98-107\nGlucose | 180 H | 70-110\n";
    for table in [counts, &vitals, pipes] {
        check(table, &Cleaning::default(), Verdict::Keep);
    }
    // Columns of numbers without a name are.
    let columns = (10..40).map(|row| format!("{row}.31 {}.62", row + 40)).collect::<Vec<_>>().join("\n");
    dropped(&columns, &Cleaning::default(), DropReason::ManyDigits);
}

#[test]
fn notes_keep_what_stands_under_another_date() {
    let note =
        "The patient was seen on the ward, was comfortable at rest, had no fever, and took all of the medication as written.";
    let days = format!("Day 1:\n\n{note}\n\nDay 2:\n\n{note}");
    let mut subject = Document { domain: Domain::Clinical, ..document(&days) };
    assert_eq!(Cleaner::new(Some(&Cleaning::default())).clean(&mut subject).changes, Changes::default());
    assert_eq!(subject.text, days);
    let mut article = document(&days);
    assert_eq!(Cleaner::new(Some(&Cleaning::default())).clean(&mut article).changes.repeated_paragraphs, 1);
}

#[test]
fn meta_data_hold_no_identifier_either() {
    let meta = [("contact", "Dr. Smith 617-555-1234"), ("ward", "7 East")];
    let outcome = |policy: PhiPolicy, sensitivity| {
        let mut subject = Document { sensitivity, ..document("Call the clinic before noon please.") };
        subject.meta = meta.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let found = Cleaner::new(Some(&Cleaning { phi: policy.into(), ..Cleaning::default() })).clean(&mut subject);
        assert_eq!((found.verdict, subject.meta["ward"].as_str()), (Verdict::Keep, "7 East"));
        (subject.meta["contact"].clone(), found.changes.has(Change::PhiMetaMasked))
    };
    for policy in [PhiPolicy::Mask, PhiPolicy::Reject] {
        assert_eq!(outcome(policy, Sensitivity::Phi), ("Dr. [NAME] [PHONE]".to_owned(), true));
    }
    assert_eq!(outcome(PhiPolicy::Report, Sensitivity::Phi), (meta[0].1.to_owned(), false));
    let mut bare = Document { sensitivity: Sensitivity::Phi, ..document("Call the clinic before noon please.") };
    bare.meta.insert("contact".to_owned(), meta[0].1.to_owned());
    Cleaner::new(None).clean(&mut bare);
    assert_eq!(bare.meta["contact"], "Dr. [NAME] [PHONE]");
}

#[test]
fn the_default_policy_follows_the_sensitivity_and_fails_closed() {
    let text = "Call Dr. Smith at 617-555-1234 before noon.";
    let outcome = |cleaning: Option<&Cleaning>, sensitivity| {
        let mut subject = Document { sensitivity, ..document(text) };
        let found = Cleaner::new(cleaning).clean(&mut subject);
        (found.verdict, found.phi.policy, found.phi.text.len(), subject.meta.len())
    };
    let rejected = (Verdict::Drop(DropReason::Phi), PhiPolicy::Reject, 2, 0);
    let unseen = (Verdict::Keep, PhiPolicy::Off, 0, 0);
    let table = Cleaning::default();
    assert_eq!(outcome(Some(&table), Sensitivity::Open), unseen);
    assert_eq!(outcome(Some(&table), Sensitivity::Dua), (Verdict::Keep, PhiPolicy::Report, 2, 2));
    assert_eq!(outcome(Some(&table), Sensitivity::Phi), rejected);
    assert_eq!(outcome(None, Sensitivity::Open), unseen);
    assert_eq!(outcome(None, Sensitivity::Dua), unseen);
    assert_eq!(outcome(None, Sensitivity::Phi), rejected);
    let off = Cleaning { phi: PhiPolicy::Off.into(), ..Cleaning::default() };
    assert_eq!(outcome(Some(&off), Sensitivity::Phi), unseen);
}

#[test]
fn policies_are_a_word_or_a_table() {
    let read = |json: &str| serde_json::from_str::<PhiPolicies>(json);
    assert_eq!(read("\"mask\"").unwrap(), PhiPolicy::Mask.into());
    assert_eq!(read("\"drop\"").unwrap(), PhiPolicy::Reject.into());
    assert_eq!(read("{}").unwrap(), PhiPolicies::default());
    let table = read(r#"{"open": "report", "phi": "mask"}"#).unwrap();
    assert_eq!(table, PhiPolicies { open: PhiPolicy::Report, dua: PhiPolicy::Report, phi: PhiPolicy::Mask });
    assert_eq!(read(&serde_json::to_string(&table).unwrap()).unwrap(), table);
    assert!(read(r#"{"public": "off"}"#).unwrap_err().to_string().contains("`open`"));
    assert!(read("\"hide\"").unwrap_err().to_string().contains("`reject`"));
    assert!(read("3").unwrap_err().to_string().contains("off, report, mask or reject"));
}

/// Texts whose meaning hangs on single characters, each as it must come out.
const MEANINGFUL: [&str; 24] = [
    "Levothyroxine 50 µg daily, not 50 mg; digoxin 125 mcg",
    "Both spellings stay: \u{b5}g and \u{3bc}g, \u{3a9} of resistance",
    "TNF-α, IFN-γ, β-blocker, Δ = 5, λ 405 nm, κ light chain, ζ",
    "BSA 1.73 m², eGFR 60 mL/min/1.73 m², 10⁻³ mol·L⁻¹, 10³ cells",
    "CO₂ retention, HCO₃⁻ 24, H₂O, SpO₂ 98 %, Ca²⁺ and Na⁺",
    "Vancomycin 0.5 mg/kg q8h, 1/2 tab qhs, 1½ tablets, ¼ strength",
    "Troponin <5 ng/L, CRP >100, INR ≥ 2 and platelets ≤ 50, about ≈ 3",
    "WBC 2×10^9/L, 5 × 10⁹/L, 3 ± 0.5 mmol/L, 4 ÷ 2",
    "Ages 18–65, 5–10 mg, pages 12—14, 3‑fold, 2 − 1 = 1, −3 °C",
    "Temperature 38.5 °C, 101.3 °F, 37,5 °C; Kreatinin 1,2 mg/dl",
    "eﬃcacy and eﬀect as a typesetter's ligatures ﬁ ﬂ",
    "Pain 7/10, BP 120/80 mmHg, HR 72, RR 16, T 98.6, O2 sat 98% RA",
    "Å resolution 2.1 Å, area 120 Å², 1 ‰, 5 ‰, 3 ppm, Ø 12 mm",
    "№ 5, § 218, † p < 0.05, ‡ p < 0.01, * versus placebo, ¶ note",
    "A→B, ↑ K, ↓ Na, ⇒ stop, ∅ rash, ∞, √2, ∑, ∫, ∂, ≠, ≡",
    "x̄ = 5.2 and p̂ = 0.3 keep their marks",
    "Ménière’s disease, Sjögren’s, Guillain–Barré, naïve, Köhler",
    "“Quoted” and ‘quoted’ and «quoted» … and – dashes — too",
    "Ⅳ nerve, grade Ⅱ, ① first, ㎎ is one character, ℃ another",
    "1\u{202f}000\u{a0}IU with its thin and no-break spaces",
    "Na  138   K  4.1   Cl  102   HCO3  24   (columns keep their spaces)",
    "Sodium\t138\tmmol/L\t135-145 keeps its tabs here",
    "BILIRUBIN .3 mg, 0.30 mg, 3.0 mg and 30 mg differ",
    "fluorescein Na⁺/K⁺-ATPase 50 % v/v, pH 7.35–7.45, pCO₂ 40",
];

#[test]
fn rules_never_change_what_a_text_means() {
    // Shares are not looked at here: two of the lines have more numbers than words, and dropping is counted, not silent.
    let cleaner = Cleaner::new(Some(&Cleaning { min_alphabetic_share: 0.0, ..Cleaning::default() }));
    for text in MEANINGFUL {
        let mut subject = document(text);
        let found = cleaner.clean(&mut subject);
        assert_eq!((subject.text.as_str(), found.changes), (text, Changes::default()));
    }
}

#[test]
fn laboratory_tables_and_lists_survive_the_default_rules() {
    for text in [
        "[LABS]\nNa 138  K 4.1  Cl 102  HCO3 24  BUN 12  Cr 0.9  Glc 101\nWBC 7.2  Hgb 13.1  Hct 39.2  Plt 220",
        "02:15AM BLOOD WBC-5.6 RBC-3.25* Hgb-10.0* Hct-30.1* MCV-93 MCH-30.8 MCHC-33.2 RDW-14.5 Plt Ct-210",
        "02:15AM BLOOD Glucose-101 UreaN-12 Creat-0.9 Na-138 K-4.1 Cl-102 HCO3-24 AnGap-16",
        "VS: T 98.6 HR 72 BP 120/80 RR 16 SpO2 98% RA, I/O 1200/900",
        "Sodium\t138\tmmol/L\t135-145\nPotassium\t4.1\tmmol/L\t3.5-5.0\nChloride\t102\tmmol/L\t98-107",
        "1. Aspirin 81 mg PO daily 2. Metoprolol 25 mg PO BID 3. Lisinopril 10 mg 4. Heparin 5000 units SC TID",
        "ABG 7.35/40/90/24 on 2L NC, lactate 1.2, repeat 7.38/42/88/25, then 7.40/38/95/23 on RA",
    ] {
        let mut subject = document(text);
        let found = Cleaner::new(Some(&Cleaning::default())).clean(&mut subject);
        assert_eq!((found.verdict, subject.text.as_str()), (Verdict::Keep, text));
    }
    let numbers = "120384a 239485b 349585c 459505d 569506e 679607f 789708g 899809h 909910i 110001k";
    dropped(numbers, &Cleaning::default(), DropReason::ManyDigits);
    check(numbers, &Cleaning { max_digit_share: 1.0, ..Cleaning::default() }, Verdict::Keep);
}

#[test]
fn each_change_has_its_counter() {
    let prose = "The patient was seen in clinic and reported that the pain had become much better over the last few weeks, \
                 without any fever or chills.";
    let text = format!("cafÃ© e\u{301}\u{200b} \r\n\n\n© 2010 Smith et al.\n\n{prose}\n\n{prose}\n\n[** x **] 617-555-1234");
    let rules = Cleaning { deidentification: Deidentification::Normalize, phi: PhiPolicy::Mask.into(), ..Cleaning::default() };
    let mut subject = document(&text);
    subject.meta.insert("contact".into(), "617-555-1234".into());
    let found = Cleaner::new(Some(&rules)).clean(&mut subject);
    assert!(found.changes.iter().eq(Change::ALL), "{:?}", found.changes);
    assert_eq!((found.changes.boilerplate_lines, found.changes.repeated_paragraphs), (1, 1));
    assert_eq!(subject.text, format!("café é\n\n{prose}\n\n___ [PHONE]"));
    let mut again = subject.clone();
    let found = Cleaner::new(Some(&rules)).clean(&mut again);
    assert_eq!((found.changes, again), (Changes::default(), subject));
}

#[test]
fn titles_are_not_taken_for_boilerplate() {
    let mut subject = document("The policy was read by all five participants.");
    subject.title = Some("Privacy policy ".into());
    Cleaner::new(Some(&Cleaning::default())).clean(&mut subject);
    assert_eq!(subject.title.as_deref(), Some("Privacy policy"));
}

#[test]
fn the_table_takes_defaults_and_refuses_unknown_keys() {
    let read = |json: &str| serde_json::from_str::<Cleaning>(json);
    assert_eq!(read("{}").unwrap(), Cleaning::default());
    let table = read(r#"{"languages": ["en"], "min_words": 50, "deidentification": "placeholder", "phi": "mask"}"#).unwrap();
    assert_eq!(table.min_words, 50);
    assert_eq!(table.deidentification, Deidentification::Placeholder);
    assert_eq!(table.phi, PhiPolicy::Mask.into());
    assert_eq!(table.normalize_spaces, Spaces::Ends);
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
    refused(Cleaning { max_digit_share: -0.1, ..base.clone() }, "max_digit_share");
    refused(Cleaning { min_repeated_paragraph_characters: 0, ..base.clone() }, "min_repeated_paragraph_characters");
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
    let phi = prop_oneof![Just(PhiPolicy::Off), Just(PhiPolicy::Report), Just(PhiPolicy::Reject), Just(PhiPolicy::Mask)];
    let spaces = prop_oneof![Just(Spaces::Off), Just(Spaces::Ends), Just(Spaces::All)];
    let more = (spaces, 0..3_u64);
    (deidentification, phi, any::<[bool; 6]>(), more).prop_map(|(deidentification, phi, flags, (spaces, min_words))| Cleaning {
        deidentification,
        phi: phi.into(),
        normalize_spaces: spaces,
        fix_mojibake: flags[3],
        drop_boilerplate: flags[4],
        drop_repeated_paragraphs: flags[5],
        min_repeated_paragraph_characters: 10,
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
        Just("Ã".to_owned()),
        Just("©".to_owned()),
        Just("â€™".to_owned()),
        Just("\u{85}\u{a0}".to_owned()),
        Just("\n\n".to_owned()),
        Just("\n© 2010 Smith\n".to_owned()),
        Just("\n\nand so the words of this paragraph of prose were said once and again and again\n\n".to_owned()),
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
        if cleaner.clean(&mut once).verdict == Verdict::Keep {
            let mut twice = once.clone();
            let again = cleaner.clean(&mut twice);
            prop_assert_eq!((again.verdict, again.changes), (Verdict::Keep, Changes::default()));
            prop_assert_eq!(&twice.text, &once.text);
            prop_assert_eq!(&twice.meta, &once.meta);
        }
    }
}
