//! Undoes text that was encoded as UTF-8 and read as Windows-1252 or Latin-1: `Ã©` to `é`, `â€™` to `’`, `Î¼g` to `μg`.
//!
//! Conservative: a run of characters beyond ASCII is decoded as a whole or not at all, every character that comes out must
//! be an expected one, and runs that a person may have written (`Å²`, `AMANHÃ…`) stay. What was damaged further, by a lost
//! byte or a space in place of a no-break space, stays damaged.

/// Levels of wrong encoding that one repair may peel off at once, where the levels between are no text.
const LEVELS: usize = 4;

/// Repairs every run of a text and says whether there was one. Decoding a run at least halves its characters, so the work
/// over all rounds is linear; the result of a repair is repaired no further by another.
pub(super) fn repair(text: &mut String) -> bool {
    if text.is_ascii() {
        return false;
    }
    let bytes = text.as_bytes();
    let mut output = String::new();
    let (mut copied, mut place) = (0, 0);
    while let Some(start) = bytes[place..].iter().position(|b| !b.is_ascii()).map(|found| place + found) {
        let end = bytes[start..].iter().position(u8::is_ascii).map_or(bytes.len(), |found| start + found);
        let around = Around { before: start.checked_sub(1).map(|i| bytes[i]), after: bytes.get(end).copied() };
        if let Some(repaired) = repair_run(&text[start..end], around) {
            output.push_str(&text[copied..start]);
            output.push_str(&repaired);
            copied = end;
        }
        place = end;
    }
    if copied == 0 {
        return false;
    }
    output.push_str(&text[copied..]);
    *text = output;
    true
}

/// The ASCII bytes beside a run.
#[derive(Clone, Copy)]
struct Around {
    before: Option<u8>,
    after: Option<u8>,
}

/// The run decoded as often as it can be.
fn repair_run(run: &str, around: Around) -> Option<String> {
    let mut repaired = decode_to_text(run, around)?;
    while let Some(deeper) = decode_to_text(&repaired, around) {
        repaired = deeper;
    }
    Some(repaired)
}

/// The nearest level at which the run is text.
fn decode_to_text(run: &str, around: Around) -> Option<String> {
    if may_be_meant(run, around) {
        return None;
    }
    let mut level = decode(run)?;
    for _ in 1..LEVELS {
        if is_text(&level) {
            return Some(level);
        }
        level = decode(&level)?;
    }
    is_text(&level).then_some(level)
}

/// One level: the bytes that the characters stand for, as UTF-8.
fn decode(run: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(run.len() / 2);
    for c in run.chars() {
        bytes.push(byte_of(c)?);
    }
    String::from_utf8(bytes).ok()
}

/// The byte of a character in Windows-1252, and in Latin-1 where that has a control character.
fn byte_of(c: char) -> Option<u8> {
    /// Characters of the bytes 80 to 9F in Windows-1252; a space where it has none.
    const HIGH: &str = "€ ‚ƒ„…†‡ˆ‰Š‹Œ Ž  ‘’“”•–—˜™š›œ žŸ";
    match c {
        '\u{80}'..='\u{ff}' => Some(c as u8),
        ' ' => None,
        _ => HIGH.chars().position(|high| high == c).map(|place| 0x80 + place as u8),
    }
}

/// Whether all characters are of kinds that damaged text is known to have been. Scripts of their own need two letters.
fn is_text(decoded: &str) -> bool {
    let mut letters_of_scripts = 0;
    for c in decoded.chars() {
        match u32::from(c) {
            // Combining marks would join what stands before the run.
            0x20d0..=0x20ff | 0x302a..=0x302f | 0x3099..=0x309a => return false,
            0xa0..=0x17f
            | 0x192
            | 0x2c6
            | 0x2dc
            | 0x386..=0x3ce
            | 0x1e00..=0x27bf
            | 0xfb00..=0xfb06
            | 0xfeff
            | 0xfffd
            | 0x1_d400..=0x1_d7ff
            | 0x1_f300..=0x1_faff => {}
            0x400..=0x45f | 0x3000..=0x9fff | 0xac00..=0xd7a3 => letters_of_scripts += 1,
            _ => return false,
        }
    }
    letters_of_scripts != 1
}

/// Whether a run may stand as it was written: a letter with the punctuation behind a word, or a length in ångström.
fn may_be_meant(run: &str, around: Around) -> bool {
    let mut rest = run.chars();
    let Some(first) = rest.next() else { return true };
    let is = |byte: Option<u8>, kind: fn(&u8) -> bool| byte.is_some_and(|b| kind(&b));
    let inside_word = is(around.before, u8::is_ascii_lowercase) && is(around.after, u8::is_ascii_lowercase);
    if first == 'Å' && rest.clone().all(|c| matches!(c, '²' | '³' | '¹' | '°' | '·' | '±' | '\u{a0}')) {
        return !inside_word;
    }
    if !rest.all(is_closing) {
        return false;
    }
    match first {
        'Ä' | 'Å' | 'Æ' => !is(around.before, u8::is_ascii_lowercase),
        // "AMANHÃ…" is Portuguese, "5 Ã— 10" and "voilÃ " are damage.
        c if c.is_uppercase() => is(around.before, u8::is_ascii_uppercase) && !is(around.after, u8::is_ascii_uppercase),
        _ => true,
    }
}

/// What stands directly behind a word.
fn is_closing(c: char) -> bool {
    matches!(c, '”' | '“' | '’' | '‘' | '…' | '–' | '—' | '™' | '»' | '›' | '\u{a0}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn repaired(text: &str) -> String {
        let mut text = text.to_owned();
        let changed = repair(&mut text);
        let once = text.clone();
        assert!(!repair(&mut text), "twice");
        assert!(changed || once == text);
        text
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(repaired(text), expected, "{text:?}");
    }

    /// What a reader of the wrong encoding makes of a text.
    fn damage(text: &str) -> String {
        let windows = |byte: u8| (0x80..0xa0).contains(&byte).then(|| (0x2013..0x2123).chain([0x20ac, 0x152, 0x153, 0x160]));
        let wide = |byte: u8| {
            let known = "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ".chars().find(|c| byte_of(*c) == Some(byte));
            windows(byte).and(known).unwrap_or(char::from(byte))
        };
        text.bytes().map(|byte| if byte < 0x80 { char::from(byte) } else { wide(byte) }).collect()
    }

    #[test]
    fn known_damage_is_repaired() {
        check("cafÃ© naÃ¯ve dÃ©jÃ\u{a0} vu", "café naïve déjà vu");
        check("patientâ€™s â€œfeverâ€\u{9d} 5â€“10 â€¦", "patient’s “fever” 5–10 …");
        check("Î¼g, Âµg, Â°C, Â± 2, 37Â°, Â½", "μg, µg, °C, ± 2, 37°, ½");
        check("5 Ã— 10âˆ’3 m2, â‰¥ 3, â‰¤5, Î”G, TNF-Î±, IL-1Î²", "5 × 10−3 m2, ≥ 3, ≤5, ΔG, TNF-α, IL-1β");
        check("ÃƒÂ© and Ã¢â‚¬â„¢ and Ã¢Â\u{80}Â\u{99}", "é and ’ and ’");
        check("Ã…ngstrÃ¶m, GÃ¶ttingen, StraÃŸe, CÃ”TE", "Ångström, Göttingen, Straße, CÔTE");
        check("bÄ™dÄ… cÅ“ur mÅ¯j", "będą cœur můj");
        check("ÐŸÐ°Ñ†Ð¸ÐµÐ½Ñ‚", "Пациент");
        check("ï»¿Text eï¬ƒcient", "\u{feff}Text eﬃcient");
    }

    #[test]
    fn every_language_survives_damage_and_repair() {
        for text in [
            "L’élève français a été hospitalisé à l’Hôtel-Dieu, où l’on soigne les cœurs.",
            "O paciente não apresentou alterações; evolução após a internação: ótima.",
            "Der Patient wurde über Nacht beatmet; Größe 1,80 m, Körpergewicht häufig erhöht.",
            "Patienten fick åter feber på natten; överförd från hjärtkliniken.",
            "El niño acudió por cefalea; exploración: ¿rigidez? no.",
            "20 µg/mL ± 3 °C, ≥ 5 × 10⁹/L, α-tocopherol, CO₂, ½ tablet, 10–20 mg",
        ] {
            check(&damage(text), text);
            check(&damage(&damage(text)), text);
        }
    }

    #[test]
    fn what_was_written_stays() {
        for text in [
            "café, naïve, déjà vu, voilà…”, É ou ê, CAFÉ”, « ÉTÉ », Noël»",
            "AMANHÃ… IRMÃ” SÃO, NÃO, Ãrea, MANHÃ— disse, coração, mãe, pão, avô",
            "Straße“, GRÖSSE“, „Ä“ und „Ö“, süß–sauer, ÄÖÜäöüß",
            "Æ’s ash, på Å… en ö, Åäö, 2 Å”",
            "120 Å², 3 Å³, 1.5 Å–2.0 Å, Å·mol, 3.5 Å\u{a0}resolution, Å±0.1",
            "bệnh nhân đã được điều trị, là”, lâ…”",
            "Ο ασθενής, Больной, 患者, “Â”, Â, Ã, â, ã, â”",
            "37 °C, ±2, µg, μg, m², ½, © 2010, § 3, «Ñ»",
            "está»…, Úžasný, říká, żółć, Dvořák’s",
            "ß“ É” À» Ç” Ô»",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn deep_damage_is_peeled_in_linear_time() {
        let mut text = "é".repeat(2_000);
        for _ in 0..6 {
            text = damage(&text);
        }
        assert!(repaired(&text) == "é".repeat(2_000));
        assert!(repaired(&"Ã".repeat(300_000)) == "Ã".repeat(300_000));
    }

    proptest! {
        #[test]
        fn repair_is_idempotent(text in "[ÃÂÅÎâ€™©°±²a-z \u{80}-\u{bf}]{0,40}|\\PC{0,30}") {
            repaired(&text);
        }

        #[test]
        fn damaged_words_come_back(text in "([a-z]{1,4}[éèüöñçãæøβμ°½–’“]{1,2}[a-z]{1,4} ){1,6}") {
            prop_assert_eq!(repaired(&damage(&text)), text);
        }
    }
}
