//! Sections of clinical notes, found by their headings: discharge summaries and radiology reports of MIMIC-III and MIMIC-IV.
//!
//! A heading begins a line and ends in a colon. Known names are headings whatever follows; others only when the colon ends the
//! line and the name is in capitals or, behind a blank line, in title case. It finds places and changes no text; what stands
//! before the first heading belongs to no section.

use std::collections::HashSet;
use std::sync::LazyLock;

/// Longest name of a heading, in bytes.
const MAX_NAME_BYTES: usize = 60;
/// Most words of a name.
const MAX_NAME_WORDS: usize = 8;
/// Least letters of a name that is not known.
const MIN_NAME_LETTERS: usize = 4;
/// Most sections of one note; later headings belong to the last one.
const MAX_SECTIONS: usize = 256;
/// Most sections, and bytes, of a summary.
const MAX_SUMMARY_SECTIONS: usize = 64;
const MAX_SUMMARY_BYTES: usize = 4_096;

/// Names that are headings whatever follows the colon.
const KNOWN: [&str; 87] = [
    "ADDENDUM",
    "ADMISSION DATE",
    "ADMISSION DIAGNOSIS",
    "ADMISSION LABS",
    "ADMISSION MEDICATIONS",
    "ADMISSION PHYSICAL EXAM",
    "ALLERGIES",
    "ASSESSMENT",
    "ASSESSMENT AND PLAN",
    "ASSESSMENT/PLAN",
    "ATTENDING",
    "BRIEF HOSPITAL COURSE",
    "CARDIAC HISTORY",
    "CHIEF COMPLAINT",
    "CLINICAL HISTORY",
    "CLINICAL INDICATION",
    "COMPARISON",
    "COMPARISONS",
    "COMPLICATIONS",
    "CONCLUSION",
    "CONCLUSIONS",
    "CONDITION AT DISCHARGE",
    "CONDITION ON DISCHARGE",
    "CONTRAST",
    "DATE OF BIRTH",
    "DISCHARGE CONDITION",
    "DISCHARGE DATE",
    "DISCHARGE DIAGNOSES",
    "DISCHARGE DIAGNOSIS",
    "DISCHARGE DISPOSITION",
    "DISCHARGE EXAM",
    "DISCHARGE INSTRUCTIONS",
    "DISCHARGE LABS",
    "DISCHARGE MEDICATIONS",
    "DISCHARGE PHYSICAL EXAM",
    "DISPOSITION",
    "DOSE",
    "EXAM",
    "EXAMINATION",
    "FACILITY",
    "FAMILY HISTORY",
    "FINAL DIAGNOSIS",
    "FINAL REPORT",
    "FINDINGS",
    "FINDINGS/IMPRESSION",
    "FOLLOW-UP",
    "FOLLOW-UP INSTRUCTIONS",
    "FOLLOWUP INSTRUCTIONS",
    "HISTORY",
    "HISTORY OF PRESENT ILLNESS",
    "HOSPITAL COURSE",
    "IMAGING",
    "IMPRESSION",
    "INDICATION",
    "INDICATIONS",
    "LABORATORY DATA",
    "LABORATORY STUDIES",
    "MAJOR SURGICAL OR INVASIVE PROCEDURE",
    "MEDICATIONS",
    "MEDICATIONS AT HOME",
    "MEDICATIONS ON ADMISSION",
    "MEDICATIONS ON DISCHARGE",
    "MICROBIOLOGY",
    "NOTIFICATION",
    "OPERATIONS",
    "PAST MEDICAL HISTORY",
    "PAST SURGICAL HISTORY",
    "PERTINENT RESULTS",
    "PHYSICAL EXAM",
    "PHYSICAL EXAMINATION",
    "PLAN",
    "PREOPERATIVE MEDICATIONS",
    "PRINCIPAL DIAGNOSIS",
    "PROCEDURE",
    "PROCEDURES",
    "REASON FOR EXAM",
    "REASON FOR EXAMINATION",
    "REASON FOR THIS EXAMINATION",
    "RECOMMENDATION",
    "RECOMMENDATIONS",
    "REPORT",
    "REVIEW OF SYSTEMS",
    "SECONDARY DIAGNOSES",
    "SERVICE",
    "SOCIAL HISTORY",
    "TECHNIQUE",
    "WET READ",
];

/// Abbreviations and the names that they stand for.
const ABBREVIATIONS: [(&str, &str); 6] = [
    ("CC", "CHIEF COMPLAINT"),
    ("HPI", "HISTORY OF PRESENT ILLNESS"),
    ("PMH", "PAST MEDICAL HISTORY"),
    ("PMHX", "PAST MEDICAL HISTORY"),
    ("PSH", "PAST SURGICAL HISTORY"),
    ("ROS", "REVIEW OF SYSTEMS"),
];

/// Words of a title that need no capital.
const SMALL_WORDS: [&str; 12] = ["a", "an", "and", "at", "by", "for", "in", "of", "on", "or", "the", "to"];

static KNOWN_NAMES: LazyLock<HashSet<&'static str>> = LazyLock::new(|| KNOWN.into_iter().collect());

/// A section of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Name in capitals, white space collapsed, common abbreviations written out.
    pub name: String,
    /// First byte of the heading.
    pub start: usize,
    /// Byte behind the section: the next heading, or the end of the text.
    pub end: usize,
}

/// The sections of a note, in order, at most 256.
pub fn find(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let (mut place, mut after_blank) = (0, true);
    for line in text.split_inclusive('\n') {
        let indent = line.len() - line.trim_start().len();
        if let Some(name) = heading(line.trim(), after_blank).filter(|_| sections.len() < MAX_SECTIONS) {
            if let Some(last) = sections.last_mut() {
                last.end = place + indent;
            }
            sections.push(Section { name, start: place + indent, end: text.len() });
        }
        after_blank = line.trim().is_empty();
        place += line.len();
    }
    sections
}

/// `NAME@start` of the first sections, separated by `; `; nothing where there is no heading.
pub fn summary(text: &str) -> Option<String> {
    let mut summary = String::new();
    for section in find(text).iter().take(MAX_SUMMARY_SECTIONS) {
        let entry = format!("{}@{}", section.name, section.start);
        if summary.len() + entry.len() + 2 > MAX_SUMMARY_BYTES {
            break;
        }
        summary += if summary.is_empty() { "" } else { "; " };
        summary += &entry;
    }
    (!summary.is_empty()).then_some(summary)
}

/// The name of the heading that a line begins with.
fn heading(line: &str, after_blank: bool) -> Option<String> {
    let colon = line.bytes().take(MAX_NAME_BYTES + 1).position(|b| b == b':')?;
    let written = line[..colon].trim_end();
    let allowed = |c: char| c.is_ascii_alphabetic() || matches!(c, ' ' | '/' | '-' | '&' | '(' | ')' | ',' | '\'');
    if !written.starts_with(|c: char| c.is_ascii_uppercase()) || !written.chars().all(allowed) {
        return None;
    }
    let words: Vec<&str> = written.split_ascii_whitespace().collect();
    if words.len() > MAX_NAME_WORDS {
        return None;
    }
    let name = words.join(" ").to_ascii_uppercase();
    let in_capitals = written == written.to_ascii_uppercase();
    if let Some((_, full)) = ABBREVIATIONS.iter().find(|(short, _)| in_capitals && *short == name) {
        return Some((*full).to_owned());
    }
    if KNOWN_NAMES.contains(name.as_str()) {
        return Some(name);
    }
    let ends_line = colon + 1 == line.len();
    let letters = name.bytes().filter(u8::is_ascii_alphabetic).count();
    let titled = after_blank && words.iter().all(|word| is_title_word(word));
    (ends_line && letters >= MIN_NAME_LETTERS && (in_capitals || titled)).then_some(name)
}

fn is_title_word(word: &str) -> bool {
    SMALL_WORDS.contains(&word) || word.trim_start_matches('(').starts_with(|c: char| c.is_ascii_uppercase()) || word == "&"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &[&str]) {
        let found = find(text);
        let names: Vec<&str> = found.iter().map(|section| section.name.as_str()).collect();
        assert_eq!(names, expected, "{text:?}");
    }

    #[test]
    fn a_discharge_summary_is_cut_at_its_headings() {
        let text = " \nName:  ___   Unit No:   ___\n \nAdmission Date:  ___   Discharge Date:   ___\n \nService: MEDICINE\n \n\
                    Allergies: \nPenicillins\n \nAttending: ___.\n \nChief Complaint:\nchest pain\n \n\
                    Major Surgical or Invasive Procedure:\nnone\n\n \nHistory of Present Illness:\nA man came at 10:30 AM.\n \n\
                    Past Medical History:\n1. HTN\n \nPertinent Results:\nNa: 138\nK: 4.1\n \nBrief Hospital Course:\n\
                    ACUTE ISSUES:\n# Chest pain: resolved\n \nDischarge Disposition:\nHome\n \nFollowup Instructions:\n___\n";
        check(
            text,
            &[
                "ADMISSION DATE",
                "SERVICE",
                "ALLERGIES",
                "ATTENDING",
                "CHIEF COMPLAINT",
                "MAJOR SURGICAL OR INVASIVE PROCEDURE",
                "HISTORY OF PRESENT ILLNESS",
                "PAST MEDICAL HISTORY",
                "PERTINENT RESULTS",
                "BRIEF HOSPITAL COURSE",
                "ACUTE ISSUES",
                "DISCHARGE DISPOSITION",
                "FOLLOWUP INSTRUCTIONS",
            ],
        );
        let complaint = find(text).into_iter().find(|section| section.name == "CHIEF COMPLAINT").unwrap();
        assert_eq!(&text[complaint.start..complaint.end], "Chief Complaint:\nchest pain\n \n");
    }

    #[test]
    fn a_radiology_report_is_cut_at_its_headings() {
        let text = "EXAMINATION:  CHEST (PA AND LAT)\n\nINDICATION:  ___ year old woman with cough  // pneumonia?\n\n\
                    TECHNIQUE:  Chest PA and lateral\n\nCOMPARISON:  None.\n\n   FINDINGS:\n\nThe lungs are clear.\n\n\
                    IMPRESSION: \n\nNo acute process.";
        check(text, &["EXAMINATION", "INDICATION", "TECHNIQUE", "COMPARISON", "FINDINGS", "IMPRESSION"]);
        let findings = find(text).remove(4);
        assert!(text[findings.start..findings.end].starts_with("FINDINGS:\n\nThe lungs"));
        let places = summary("HPI: pain\nPLAN: rest").unwrap();
        assert_eq!(places, "HISTORY OF PRESENT ILLNESS@0; PLAN@10");
    }

    #[test]
    fn lines_that_are_no_headings() {
        for text in [
            "Dr. Smith: please call",
            "Dr. Smith:",
            "10:30 AM",
            "At 10:30 the patient",
            "Na: 138",
            "NA: 138",
            "HEENT: NC/AT, PERRL",
            "BP: 120/80",
            "CV: RRR",
            "PT: INR 1.1",
            "http://example.org",
            "Lungs: clear",
            "the plan: rest",
            "He was told the following:",
            "Text before\nWound Care:",
            "IMPRESSION of the team was good",
            "1. PLAN: rest",
            "[**2151-7-16**] 10:20 AM:",
            "A VERY LONG LINE IN CAPITALS THAT GOES ON AND ON AND ON UNTIL THE COLON:",
            "ONE TWO THREE FOUR FIVE SIX SEVEN EIGHT NINE:",
            "",
        ] {
            check(text, &[]);
        }
        check("Wound Care:\nkeep dry", &["WOUND CARE"]);
        assert_eq!(summary("nothing here"), None);
    }

    #[test]
    fn sections_and_summaries_are_bounded() {
        let text = "PLAN: rest\n".repeat(10_000);
        assert_eq!(find(&text).len(), MAX_SECTIONS);
        assert_eq!(find(&text).last().unwrap().end, text.len());
        assert_eq!(summary(&text).unwrap().matches("PLAN@").count(), MAX_SUMMARY_SECTIONS);
        assert!(KNOWN.is_sorted());
    }

    proptest! {
        #[test]
        fn sections_lie_in_order(text in "(PLAN:|Findings: |\n|é|[A-Z]{1,5}:\n|\\PC{0,4}){0,20}") {
            let mut end = None;
            for section in find(&text) {
                prop_assert!(section.start < section.end && end.is_none_or(|end| end == section.start));
                prop_assert!(text.is_char_boundary(section.start) && text.is_char_boundary(section.end));
                end = Some(section.end);
            }
            prop_assert!(end.is_none_or(|end| end == text.len()));
        }
    }
}
