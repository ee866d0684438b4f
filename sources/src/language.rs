//! The language of a text, from its first 2,000 characters: script first, then function words.
//!
//! It answers only on positive evidence: `None` means "cannot tell", never "not English". Lists of laboratory values,
//! clinical shorthand, tables and formulas have few function words and are left undecided on purpose, so that a rule
//! built on this detector cannot throw them away. It does not tell dialects apart, and names the Cyrillic, Arabic and
//! Devanagari scripts by their most common language where letters of a neighbour do not show another.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Characters looked at, from the start of the text.
pub const SAMPLE_CHARACTERS: usize = 2_000;
/// Letters of one script needed before a script alone names the language.
const MIN_SCRIPT_LETTERS: usize = 5;
/// Function words needed: this many words' worth that are of one language only, and this share of all words.
const MIN_EVIDENCE: f64 = 3.0;
/// English needs little density (shorthand is English too), the others as much as running text always has.
const MIN_ENGLISH_SHARE: f64 = 0.04;
const MIN_OTHER_SHARE: f64 = 0.15;
/// The best language must have this many times the evidence of the next one.
const MIN_MARGIN: f64 = 1.5;

/// Function words by language. A word that stands in several lists counts for each in equal parts. Words that English
/// clinical text is full of (no, per, a, in, on, is, was, or, as, an, am, die, sin, me, we, do) are only in the English list.
const FUNCTION_WORDS: [(&str, &str); 15] = [
    (
        "en",
        "the of and to in is was for with that on as by are were be this from or an at which have has had not been it \
         we his her he she they their our you your no but will would can could should may all who what when if there than \
         then these those after before during between into about more also any some such other patient patients history \
         denies hx pt s p w o c year old per a i",
    ),
    (
        "de",
        "der und das den von mit dem des ist im für auf ein eine nicht sich auch werden bei zu wird sind aus nach oder einer \
         einen einem zur zum über als wie dass durch wurde wurden nur noch kann haben ich sie es wir vor bis unter zwischen",
    ),
    (
        "fr",
        "le la les des et est un une du dans que qui pour par sur avec pas au aux ce cette sont plus ne se il elle nous vous \
         leur ont été être mais ou où comme chez ces sans entre après de en",
    ),
    (
        "es",
        "el la los las del y que en un una por con para es se lo como más pero sus su al este esta son fue ha han entre sobre \
         también hay ser está cuando muy sin donde qué si porque esto puede cómo de",
    ),
    (
        "it",
        "il lo la gli le di che e un una per con non del della dei delle nel nella sono è si da al alla anche come più questo \
         questa ha dal dalla essere stato tra ma",
    ),
    (
        "pt",
        "o os as da do das dos que e em um uma para com não por mais foi ao são na no nas nos como mas seu sua pelo pela é ou \
         também entre ser quando muito já está de",
    ),
    (
        "nl",
        "de het een van en zijn met voor niet dat op te aan ook er bij uit worden wordt door naar dit maar om als werd deze nog \
         hebben heeft kan hij zij ik je deze tussen",
    ),
    (
        "sv",
        "och att det som en är av för på med den till inte har ett om var från vid eller så kan han hon de men efter mellan \
         genom",
    ),
    ("da", "og at det som en er af for på med den til ikke har et om var fra ved eller så kan han hun de men efter mellem blev"),
    ("nb", "og å det som en er av for på med den til ikke har et om var fra ved eller så kan han hun de men etter mellom ble"),
    ("fi", "ja on ei että oli se hän ovat kuin myös mutta joka ole tai sen niin kun mukaan jos vain ovat sitä"),
    ("pl", "i w na z do nie się że jest to od o jak po przez dla oraz są był była ale tak które który lub przy może jego ich"),
    ("cs", "a v na se že je s z do o k i jako za pro ale by po jsou které který byl nebo bylo při jeho od jsme"),
    ("ro", "și de în la cu din care pe pentru nu este un o a fi mai că au fost sau se prin după ca sunt este între"),
    ("tr", "ve bir bu için ile de da olarak olan gibi daha çok ne en var mi ama sonra kadar olduğu veya"),
];

/// ISO 639-1 codes that [`detect`] can return, sorted.
pub const LANGUAGES: [&str; 32] = [
    "ar", "bg", "bn", "cs", "da", "de", "el", "en", "es", "fa", "fi", "fr", "he", "hi", "hy", "it", "ja", "ka", "ko", "nb", "nl",
    "pl", "pt", "ro", "ru", "sv", "ta", "te", "th", "tr", "uk", "zh",
];

static WORDS: LazyLock<HashMap<&'static str, Vec<usize>>> = LazyLock::new(|| {
    let mut words: HashMap<&'static str, Vec<usize>> = HashMap::new();
    for (index, (_, list)) in FUNCTION_WORDS.iter().enumerate() {
        for word in list.split_ascii_whitespace() {
            let owners = words.entry(word).or_default();
            if !owners.contains(&index) {
                owners.push(index);
            }
        }
    }
    words
});

/// The language of `text` as an ISO 639-1 code, or `None` where the evidence does not decide.
pub fn detect(text: &str) -> Option<&'static str> {
    let sample = sample_of(text);
    let scripts = ScriptCounts::of(sample);
    match scripts.dominant() {
        Some(Script::Latin) => detect_latin(sample),
        Some(script) => scripts.language(script, sample),
        None => None,
    }
}

/// The first [`SAMPLE_CHARACTERS`] characters.
fn sample_of(text: &str) -> &str {
    match text.char_indices().nth(SAMPLE_CHARACTERS) {
        Some((end, _)) => &text[..end],
        None => text,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    Latin,
    Cyrillic,
    Greek,
    Hebrew,
    Arabic,
    Devanagari,
    Bengali,
    Tamil,
    Telugu,
    Thai,
    Georgian,
    Armenian,
    Hangul,
    Kana,
    Han,
}

const SCRIPTS: usize = Script::Han as usize + 1;
const SCRIPT_ORDER: [Script; SCRIPTS] = [
    Script::Latin,
    Script::Cyrillic,
    Script::Greek,
    Script::Hebrew,
    Script::Arabic,
    Script::Devanagari,
    Script::Bengali,
    Script::Tamil,
    Script::Telugu,
    Script::Thai,
    Script::Georgian,
    Script::Armenian,
    Script::Hangul,
    Script::Kana,
    Script::Han,
];

fn script_of(c: char) -> Option<Script> {
    let script = match u32::from(c) {
        0x41..=0x5a | 0x61..=0x7a | 0xc0..=0x24f | 0x1e00..=0x1eff => Script::Latin,
        0x370..=0x3ff | 0x1f00..=0x1fff => Script::Greek,
        0x400..=0x52f => Script::Cyrillic,
        0x531..=0x58f => Script::Armenian,
        0x590..=0x5ff => Script::Hebrew,
        0x600..=0x6ff | 0x750..=0x77f | 0xfb50..=0xfdff | 0xfe70..=0xfefe => Script::Arabic,
        0x900..=0x97f => Script::Devanagari,
        0x980..=0x9ff => Script::Bengali,
        0xb80..=0xbff => Script::Tamil,
        0xc00..=0xc7f => Script::Telugu,
        0xe00..=0xe7f => Script::Thai,
        0x10a0..=0x10ff => Script::Georgian,
        0x1100..=0x11ff | 0xac00..=0xd7af => Script::Hangul,
        0x3041..=0x30ff => Script::Kana,
        0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x2_0000..=0x3_ffff => Script::Han,
        _ => return None,
    };
    Some(script)
}

/// Whether `c` is written without spaces between words, so that each such character counts as one word.
pub(crate) fn is_unspaced(c: char) -> bool {
    matches!(script_of(c), Some(Script::Han | Script::Kana | Script::Thai))
}

struct ScriptCounts([usize; SCRIPTS]);

impl ScriptCounts {
    fn of(sample: &str) -> Self {
        let mut counts = [0; SCRIPTS];
        for script in sample.chars().filter_map(script_of) {
            counts[script as usize] += 1;
        }
        Self(counts)
    }

    /// The script of more than half of the letters; an ideograph or syllable weighs as two letters.
    fn dominant(&self) -> Option<Script> {
        let weight = |s: Script| {
            let factor = if matches!(s, Script::Han | Script::Kana | Script::Hangul) { 2 } else { 1 };
            self.0[s as usize] * factor
        };
        let total: usize = SCRIPT_ORDER.iter().map(|s| weight(*s)).sum();
        let japanese = weight(Script::Kana) + weight(Script::Han);
        if japanese * 2 > total {
            return Some(if self.0[Script::Kana as usize] * 20 >= self.0[Script::Han as usize].max(1) {
                Script::Kana
            } else {
                Script::Han
            });
        }
        SCRIPT_ORDER.into_iter().find(|s| weight(*s) * 2 > total)
    }

    fn language(&self, script: Script, sample: &str) -> Option<&'static str> {
        let letters = self.0[script as usize] + if script == Script::Kana { self.0[Script::Han as usize] } else { 0 };
        if letters < MIN_SCRIPT_LETTERS {
            return None;
        }
        let has = |marks: &str| sample.chars().filter(|c| marks.contains(*c)).count() * 100 >= letters;
        Some(match script {
            Script::Latin => return None,
            Script::Cyrillic if has("іїєґІЇЄҐ") => "uk",
            Script::Cyrillic if has("ъЪ") && !has("ыэЫЭ") => "bg",
            Script::Cyrillic => "ru",
            Script::Greek => "el",
            Script::Hebrew => "he",
            Script::Arabic if has("پچژگ") => "fa",
            Script::Arabic => "ar",
            Script::Devanagari => "hi",
            Script::Bengali => "bn",
            Script::Tamil => "ta",
            Script::Telugu => "te",
            Script::Thai => "th",
            Script::Georgian => "ka",
            Script::Armenian => "hy",
            Script::Hangul => "ko",
            Script::Kana => "ja",
            Script::Han => "zh",
        })
    }
}

fn detect_latin(sample: &str) -> Option<&'static str> {
    // A word counts in full for how much of the text is of the language, and in parts for which language it is.
    let mut evidence = [0.0_f64; FUNCTION_WORDS.len()];
    let mut coverage = [0_u32; FUNCTION_WORDS.len()];
    let mut words = 0_u32;
    for word in sample.split(|c: char| !c.is_alphabetic()).filter(|w| !w.is_empty()) {
        words += 1;
        let lower: Cow<'_, str> = if word.contains(char::is_uppercase) { word.to_lowercase().into() } else { word.into() };
        if let Some(owners) = WORDS.get(lower.as_ref()) {
            for owner in owners {
                evidence[*owner] += 1.0 / owners.len() as f64;
                coverage[*owner] += 1;
            }
        }
    }
    let best = (0..evidence.len()).max_by(|a, b| evidence[*a].total_cmp(&evidence[*b]).then(b.cmp(a)))?;
    let next = (0..evidence.len()).filter(|i| *i != best).map(|i| evidence[i]).fold(0.0, f64::max);
    let language = FUNCTION_WORDS[best].0;
    let needed = if language == "en" { MIN_ENGLISH_SHARE } else { MIN_OTHER_SHARE };
    let decided = evidence[best] >= MIN_EVIDENCE
        && f64::from(coverage[best]) >= needed * f64::from(words)
        && evidence[best] >= MIN_MARGIN * next;
    decided.then_some(language)
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
    fn every_language_of_the_list_is_known() {
        for (code, words) in FUNCTION_WORDS {
            assert!(LANGUAGES.contains(&code), "{code}");
            assert!(words.split_ascii_whitespace().all(|w| w.chars().all(char::is_alphabetic)), "{code}");
        }
    }
}
