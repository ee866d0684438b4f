//! The language of a text, from its first 2,000 characters: `whatlang` proposes, guards decide.
//!
//! It answers only on positive evidence: `None` means "cannot tell", never "not English". Trigrams take lists of diagnoses for
//! Latin and shorthand for Catalan, so a Latin-script language other than English is named only where the text is long enough
//! and both its halves say the same. Latin and Esperanto are never named. It does not tell dialects apart.

use whatlang::{Info, Lang, Script};

/// Characters looked at, from the start of the text.
pub const SAMPLE_CHARACTERS: usize = 2_000;
/// Letters needed where the script is not Latin: that alone says that the text is not English.
const MIN_SCRIPT_LETTERS: usize = 5;
/// Letters needed of an English text that is English in both halves, without the detector being sure.
const MIN_ENGLISH_LETTERS: usize = 40;
/// Letters needed of another language in Latin script.
const MIN_LATIN_LETTERS: usize = 60;
/// Letters and confidence that stand in for the detector being sure.
const MANY_LETTERS: usize = 300;
const MIN_CONFIDENCE: f64 = 0.4;

/// Languages that are told apart: the detector's codes (ISO 639-3) and ours (ISO 639-1), sorted by ours.
const CODES: [(&str, &str); 60] = [
    ("afr", "af"),
    ("amh", "am"),
    ("ara", "ar"),
    ("aze", "az"),
    ("bel", "be"),
    ("bul", "bg"),
    ("ben", "bn"),
    ("cat", "ca"),
    ("ces", "cs"),
    ("cym", "cy"),
    ("dan", "da"),
    ("deu", "de"),
    ("ell", "el"),
    ("eng", "en"),
    ("spa", "es"),
    ("est", "et"),
    ("pes", "fa"),
    ("fin", "fi"),
    ("fra", "fr"),
    ("guj", "gu"),
    ("heb", "he"),
    ("hin", "hi"),
    ("hrv", "hr"),
    ("hun", "hu"),
    ("hye", "hy"),
    ("ind", "id"),
    ("ita", "it"),
    ("jpn", "ja"),
    ("kat", "ka"),
    ("khm", "km"),
    ("kan", "kn"),
    ("kor", "ko"),
    ("lit", "lt"),
    ("lav", "lv"),
    ("mkd", "mk"),
    ("mal", "ml"),
    ("mar", "mr"),
    ("mya", "my"),
    ("nob", "nb"),
    ("nep", "ne"),
    ("nld", "nl"),
    ("pan", "pa"),
    ("pol", "pl"),
    ("por", "pt"),
    ("ron", "ro"),
    ("rus", "ru"),
    ("sin", "si"),
    ("slk", "sk"),
    ("slv", "sl"),
    ("srp", "sr"),
    ("swe", "sv"),
    ("tam", "ta"),
    ("tel", "te"),
    ("tha", "th"),
    ("tur", "tr"),
    ("ukr", "uk"),
    ("urd", "ur"),
    ("uzb", "uz"),
    ("vie", "vi"),
    ("cmn", "zh"),
];

/// ISO 639-1 codes that [`detect`] can return, sorted.
pub const LANGUAGES: [&str; CODES.len()] = {
    let mut codes = [""; CODES.len()];
    let mut place = 0;
    while place < codes.len() {
        codes[place] = CODES[place].1;
        place += 1;
    }
    codes
};

/// The language of `text` as an ISO 639-1 code, or `None` where the evidence does not decide.
pub fn detect(text: &str) -> Option<&'static str> {
    let sample = sample_of(text);
    let found = whatlang::detect(sample)?;
    let code = code_of(found.lang())?;
    is_decided(sample, &found).then_some(code)
}

fn code_of(language: Lang) -> Option<&'static str> {
    CODES.iter().find(|codes| codes.0 == language.code()).map(|codes| codes.1)
}

fn is_decided(sample: &str, found: &Info) -> bool {
    let letters = sample.chars().filter(|c| c.is_alphabetic()).count();
    if found.script() != Script::Latin {
        let latin = sample.chars().filter(char::is_ascii_alphabetic).count();
        return letters - latin >= MIN_SCRIPT_LETTERS && latin * 2 < letters;
    }
    let sure = found.is_reliable();
    if found.lang() == Lang::Eng {
        return sure || (letters >= MIN_ENGLISH_LETTERS && halves_agree(sample, found.lang()));
    }
    let likely = letters >= MANY_LETTERS && found.confidence() >= MIN_CONFIDENCE;
    letters >= MIN_LATIN_LETTERS && (sure || likely) && halves_agree(sample, found.lang())
}

/// Whether each half of the words, taken alone, looks like the language.
fn halves_agree(sample: &str, language: Lang) -> bool {
    let words: Vec<&str> = sample.split_whitespace().collect();
    let (first, second) = words.split_at(words.len() / 2);
    [first, second].iter().all(|half| whatlang::detect_lang(&half.join(" ")) == Some(language))
}

/// The first [`SAMPLE_CHARACTERS`] characters.
fn sample_of(text: &str) -> &str {
    match text.char_indices().nth(SAMPLE_CHARACTERS) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

/// Whether `c` is written without spaces between words, so that each such character counts as one word.
pub(crate) fn is_unspaced(c: char) -> bool {
    matches!(u32::from(c),
        0xe00..=0xe7f | 0x3041..=0x30ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x2_0000..=0x3_ffff)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(detect(text), expected, "{text}");
    }

    #[test]
    fn running_text_is_named() {
        check("The patient was admitted with chest pain and was treated for it.", Some("en"));
        check("Der Patient wurde mit Schmerzen in die Klinik aufgenommen und nach der Untersuchung entlassen.", Some("de"));
        check("Le patient a été admis dans le service pour des douleurs et il est sorti après deux jours.", Some("fr"));
        check("El paciente fue ingresado por dolor en el pecho y se le dio el alta con la medicación.", Some("es"));
        check("Il paziente è stato ricoverato per dolore al torace e dimesso con la terapia nella giornata.", Some("it"));
        check("O paciente foi internado com dor no peito e não foi operado; os exames são normais.", Some("pt"));
        check("De patiënt werd met pijn op de borst opgenomen en is niet geopereerd door het team.", Some("nl"));
        check("Pacjent został przyjęty z bólem w klatce i nie był operowany, ale jest w domu.", Some("pl"));
        check("Patienten inkom med bröstsmärta och behandlades med morfin innan han skrevs ut till hemmet.", Some("sv"));
    }

    #[test]
    fn scripts_are_named() {
        check("你好，请问你是谁", Some("zh"));
        check("患者は胸の痛みで入院しました。", Some("ja"));
        check("환자는 흉통으로 입원했습니다", Some("ko"));
        check("Больной поступил с болью в груди", Some("ru"));
        check("Хворий надійшов із болем у грудях", Some("uk"));
        check("Ο ασθενής εισήχθη με πόνο", Some("el"));
        check("المريض يعاني من ألم", Some("ar"));
    }

    #[test]
    fn shorthand_tables_and_formulas_are_never_another_language() {
        for text in [
            "",
            "Na 138 K 4.1 Cl 102 HCO3 24 BUN 12 Cr 0.9",
            "CV: RRR, no m/r/g. Lungs: CTAB. Abd: soft, NT/ND, +BS. Ext: no c/c/e",
            "A&Ox3 PERRLA EOMI VSS afebrile SpO2 98% RA",
            "1. ASA 81 mg PO qd 2. Lasix 40 mg PO bid 3. KCl 20 mEq PO qd",
            "x = 3; y = f(x); e = de la",
            "Oxycodone, Lasix, Plavix, Zofran and acetaminophen.",
            "Angina, asthma, cataracts, status post colectomy, and peripheral vascular insufficiency.",
            "1.  Chronic sinusitis. 2.  Nephropathy. 3.  Status post transurethral resection.",
            "Numerous granulomata anterior inferior segment, right lung.",
            "DIET: Low sodium, fluid restriction, nutrition consult, calorie counts in progress.",
            "α β γ δ ε, IL-1β, TNF-α and IFN-γ in serum",
            "Staphylococcus aureus, Escherichia coli, Klebsiella pneumoniae, Pseudomonas aeruginosa, Candida albicans",
            "Amoxicillin clavulanate, piperacillin tazobactam, trimethoprim sulfamethoxazole, vancomycin, linezolid, colistin",
        ] {
            assert!(matches!(detect(text), None | Some("en")), "{text}: {:?}", detect(text));
        }
    }

    #[test]
    fn only_the_first_characters_count() {
        let text = format!("{}{}", "the patient was seen by the doctor and ".repeat(80), "der und die das ".repeat(4000));
        check(&text, Some("en"));
    }

    #[test]
    fn every_code_is_one_of_the_detector_and_they_are_sorted() {
        assert!(LANGUAGES.is_sorted());
        for (code, _) in CODES {
            assert!(Lang::from_code(code).is_some(), "{code}");
        }
        assert_eq!((code_of(Lang::Lat), code_of(Lang::Epo)), (None, None));
    }
}
