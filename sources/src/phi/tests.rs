//! Tables of texts with their expected hits, and properties of scanning and masking.

use proptest::prelude::*;

use super::*;

/// Hits written as `kind=text`.
fn found(text: &str) -> Vec<String> {
    scan(text).into_iter().map(|hit| format!("{}={}", hit.kind, &text[hit.range])).collect()
}

fn check(text: &str, expected: &[&str]) {
    assert_eq!(found(text), expected, "{text:?}");
}

#[test]
fn contact_details_are_found() {
    check("mail jane.doe+x@mail.example.org, please", &["email=jane.doe+x@mail.example.org"]);
    check("see https://example.org/a?b=1. Then", &["url=https://example.org/a?b=1"]);
    check("at www.example.com/path)", &["url=www.example.com/path"]);
    check("(617) 555-1234", &["phone=(617) 555-1234"]);
    check("617-555-1234 or 617.555.1234", &["phone=617-555-1234", "phone=617.555.1234"]);
    check("+1 617-555-1234", &["phone=+1 617-555-1234"]);
    check("+44 20 7946 0958", &["phone=+44 20 7946 0958"]);
    check("pager #31234.", &["phone=31234"]);
    check("call her at 555-1234", &["phone=555-1234"]);
    check("Fax: 617-555-9999", &["fax=617-555-9999"]);
    check("tel 617 555 1212", &["phone=617 555 1212"]);
    check("from 192.168.10.7 and 2001:db8:0:0:0:0:2:1", &["ip-address=192.168.10.7", "ip-address=2001:db8:0:0:0:0:2:1"]);
}

#[test]
fn numbers_are_found_after_their_word() {
    check("SSN 123-45-6789", &["social-security=123-45-6789"]);
    check("social security number: 123456789", &["social-security=123456789"]);
    check("MRN: 00123456", &["record-number=00123456"]);
    check("Medical Record #: A-445566", &["record-number=A-445566"]);
    check("Unit No: 112-23-34", &["record-number=112-23-34"]);
    check("Member ID: XYZ123456789", &["health-plan=XYZ123456789"]);
    check("account number 99887766", &["account=99887766"]);
    check("DEA# AB1234567", &["licence=AB1234567"]);
    check("license number D1234567", &["licence=D1234567"]);
    check("VIN 1HGCM82633A004352", &["vehicle=1HGCM82633A004352"]);
    check("serial number SN-00991", &["device=SN-00991"]);
    check("Boston, MA 02115", &["postal-code=02115"]);
    check("Springfield Illinois 62704-1234", &["postal-code=62704-1234"]);
}

#[test]
fn dates_finer_than_a_year_are_found() {
    check("on 3/14/2012", &["date=3/14/2012"]);
    check("3/14/12-3/16/12", &["date=3/14/12", "date=3/16/12"]);
    check("14.03.2012", &["date=14.03.2012"]);
    check("2012-03-14T10:00", &["date=2012-03-14"]);
    check("seen 11/2010", &["date=11/2010"]);
    check("admitted on 3/14 with pain", &["date=3/14"]);
    check("March 14, 2012", &["date=March 14, 2012"]);
    check("14 March 2012", &["date=14 March 2012"]);
    check("the 3rd of May", &["date=3rd of May"]);
    check("in March 2012", &["date=March 2012"]);
    check("Sept. 3rd", &["date=Sept. 3rd"]);
    check("14-Mar-2012", &["date=14-Mar-2012"]);
}

#[test]
fn ages_over_89_are_found() {
    check("a 94-year-old man", &["age=94"]);
    check("94 y.o. woman", &["age=94"]);
    check("102 yo F", &["age=102"]);
    check("aged 91", &["age=91"]);
    check("Age: 90", &["age=90"]);
    check("an 89-year-old man aged 45", &[]);
}

#[test]
fn what_the_list_names_is_found_in_its_other_spellings() {
    check("DOB: 3-14-52, age 60", &["date=3-14-52"]);
    check("D.O.B. 3/14/1952", &["date=3/14/1952"]);
    check("Date of birth: 03.14.52", &["date=03.14.52"]);
    check("born 3-14-52 in Boston", &["date=3-14-52"]);
    check("since August, last March and in Sept", &["date=August", "date=March", "date=Sept"]);
    check("mid-June 2012 it may march in august company", &["date=June 2012"]);
    check("a ninety-four-year-old woman", &["age=ninety-four"]);
    check("One hundred and two years old", &["age=One hundred and two"]);
    check("ninety years of age, a nonagenarian", &["age=ninety", "age=nonagenarian"]);
    check("90 y/o M, 91 y.o., 92yo, 93 yrs old", &["age=90", "age=91", "age=92", "age=93"]);
    check("license plate 7ABC123 or license plate number ABC 1234", &["vehicle=7ABC123", "vehicle=ABC 1234"]);
    check("SSN xxx-xx-1234", &["social-security=1234"]);
    check("last four of SSN: 9876", &["social-security=9876"]);
    check("Accession #: 12345678, CSN: 300123456", &["record-number=12345678", "record-number=300123456"]);
    check("lives at 12 N. Main Street, Springfield", &["address=12 N. Main Street"]);
    check("1600 Old Mill Rd", &["address=1600 Old Mill Rd"]);
    check("44 Elm St., Boston", &["address=44 Elm St.,"]);
    check("P.O. Box 1234", &["address=1234"]);
}

#[test]
fn spellings_that_only_look_like_them() {
    for text in [
        "ninety percent of one hundred patients, one hundred years ago",
        "over 89 years, aged 89, 89 y/o, eighty-nine-year-old",
        "2 Drug Court Programs, 5 Days, 10 Main Findings, 3 Street drugs",
        "a 1.5 Smith Street ratio, 5 mg Drive",
        "plate 5 cm, growth plate L4, license plate holder",
        "GenBank accession number AB123456, accession no. GSE1234",
        "fin 12, HAR test, fin: 12",
        "in may, last march, during the march",
        "the last four of 1234, last 4 days",
        "po box, PO bid 5",
        "alpha-amylase (EC 3.2.1.1), EC: 2.7.1.1",
        "approved by Institutional Review Board, reviewed by European Food Safety Authority",
    ] {
        check(text, &[]);
    }
}

#[test]
fn names_after_titles_and_labels_are_found() {
    check("seen by Dr. Smith today", &["name=Smith"]);
    check("Mr. John Q. Public was", &["name=John Q. Public"]);
    check("Mrs O'Neil-Brown.", &["name=O'Neil-Brown"]);
    check("Dr. Müller", &["name=Müller"]);
    check("Patient name: Doe, Jane", &["name=Doe, Jane"]);
    check("Electronically signed by: Jane A. Roe", &["name=Jane A. Roe"]);
    check("Dr. de la Cruz and Mr. van der Berg", &["name=de la Cruz", "name=van der Berg"]);
    check("Attending: Doe,Jane", &["name=Doe,Jane"]);
}

#[test]
fn clinical_numbers_are_not_identifiers() {
    for text in [
        "BP 120/80, HR 72, RR 12/14, T 37.5",
        "120/80/70 and 7.35/45/90",
        "strength 5/5 throughout, 2/6 systolic murmur, on 1/2 tablet",
        "improved from 3/5 to 5/5, pain 10/10",
        "Na 138-145, K 3.5-5.0, range 10-12-14",
        "aspirin 81 mg, heparin 5000 units, 1-2 tabs q4-6h prn",
        "WBC 12.3/uL, 1.2.3, ratio 1/3, 24/7, 3-5 days",
        "in 2012, 2010-2012, 2010/2011, since 1999",
        "may 5 patients, May increase to 20 mg, MAY 5 mg",
        "90 mg, 95%, 120 ml, >90 years of follow-up, for 90 years",
        "ICD 250.00, LOINC 1234-5, DOI 10.1016/j.cell.2012.03.014",
        "std::vector<int> a::b",
        "MR brain, MS Contin, severe MR. The patient, MS. The patient",
        "Dr. was called, Mr. and the Dr. The patient",
        "call 911, cell count 12000, ext rotation 45",
        "MA 2 mg, IN 10000 UNITS, CO 55",
        "chart reviewed, account for 5 of 10, plan: 40 mg, lot of 5000",
        "12:30:45, 10:20:30:40",
        "version 1.2.3.4",
    ] {
        check(text, &[]);
    }
}

#[test]
fn marks_of_deidentification_are_not_hits() {
    check("on [**2151-7-16**] Dr. [**Last Name (STitle) 123**] at [**Telephone/Fax (1) 12345**]", &[]);
    check("Dr. ___ on ___ MRN: ___ Attending: ___.", &[]);
    check("[**Hospital1 18**] 617-555-1234", &["phone=617-555-1234"]);
}

#[test]
fn overlapping_hits_are_one() {
    let text = "http://example.org/2012-03-14/x and 2012-03-14";
    check(text, &["url=http://example.org/2012-03-14/x", "date=2012-03-14"]);
}

#[test]
fn masks_are_not_hits_and_masking_settles() {
    for kind in PhiKind::ALL {
        assert!(scan(kind.mask()).is_empty(), "{kind}");
    }
    assert_eq!(mask("Dr. Smith saw MRN 12345678 on 3/14/2012").unwrap(), "Dr. [NAME] saw MRN [RECORD NUMBER] on [DATE]");
}

#[test]
fn kinds_serialize_as_their_names() {
    for kind in PhiKind::ALL {
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
}

#[test]
fn long_hostile_texts_are_scanned_in_linear_time() {
    // Each would be quadratic or worse for a backtracking matcher; here the sizes simply have to pass.
    for unit in ["a@", "1/", "[**", "617-", "Dr. A", "MRN: ", "+1 2", "1:", "9 "] {
        let text = unit.repeat(400_000 / unit.len());
        let hits = scan(&text);
        assert!(hits.iter().all(|hit| hit.range.end <= text.len()));
    }
}

proptest! {
    #[test]
    fn any_text_gives_sorted_hits_on_character_borders(text in "\\PC{0,80}|[0-9/. \\-:@a-zA-Z\\[\\]*é]{0,120}") {
        let mut end = 0;
        for hit in scan(&text) {
            prop_assert!(hit.range.start >= end && hit.range.start < hit.range.end);
            prop_assert!(text.is_char_boundary(hit.range.start) && text.is_char_boundary(hit.range.end));
            end = hit.range.end;
        }
        if let Some(masked) = mask(&text) {
            prop_assert!(scan(&masked).is_empty());
        }
    }
}
