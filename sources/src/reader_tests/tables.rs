//! CSV, MIMIC notes and plain text.

use super::{context, documents, items, outline, read};
use crate::document::text_id;
use crate::reader::{Fields, Format, Item, Limits};

fn csv_with(text: &str, fields: Fields) -> Vec<Item> {
    let mut context = context("notes.csv");
    context.fields = fields;
    items(Format::Csv, context, text.as_bytes().to_vec(), &Limits::default())
}

#[test]
fn csv_records_become_documents() {
    let text = "id,text,Title,ward\n7,\"two\nlines, \"\"q\"\"\",Ti,ICU\n,second,,\n";
    let found = csv_with(text, Fields::default());
    assert_eq!(outline(&found), ["19 7".to_owned(), format!("47 {}", text_id("second"))]);
    let first = documents(&found)[0];
    assert_eq!((first.text.as_str(), first.title.as_deref()), ("two\nlines, \"q\"", Some("Ti")));
    assert_eq!(first.meta["ward"], "ICU");
    assert_eq!(documents(&found)[1].title, None);
}

#[test]
fn columns_found_in_another_case_are_no_meta_data() {
    let found = csv_with("ID,TEXT,Title,ward\n7,called 555-123-4567,T,ICU\n", Fields::default());
    let document = documents(&found)[0];
    assert_eq!((document.native_id.as_str(), document.text.as_str()), ("7", "called 555-123-4567"));
    assert_eq!(document.meta.keys().collect::<Vec<_>>(), ["ward"]);
}

#[test]
fn csv_columns_are_named_by_the_recipe() {
    let fields = Fields { id: Some("key".into()), text: Some("note".into()), year: Some("y".into()), ..Fields::default() };
    let found = csv_with("key;note;y\n1;a,b;2011\n;c;2012\n", fields.clone());
    assert_eq!(outline(&found), ["11 1", "22+8 missing-field: field key"]);
    assert_eq!(documents(&found)[0].year, Some(2011));
    assert_eq!(outline(&csv_with("id,note,y\n1,a,2011\n2,b,2012\n", fields)), ["0+0 missing-field: field key"]);
    assert_eq!(outline(&csv_with("id,body\n1,a\n", Fields::default())), ["0+0 missing-field: field text"]);
}

#[test]
fn bad_csv_records_are_rejected_and_the_file_goes_on() {
    let mut bytes = b"id,text\n1,a\n2,b,c\n3\n".to_vec();
    bytes.extend_from_slice(b"4,\xe9t\xe9\n5,\"\"\n6,\"x\"y\n7,ok\n8,\"open");
    let found = items(Format::Csv, context("a.csv"), bytes, &Limits::default());
    let expected = [
        "8 1",
        "12+6 malformed-csv: 3 fields, header has 2",
        "18+2 malformed-csv: 1 fields, header has 2",
        "20+6 invalid-utf8",
        "26+5 empty-record",
        "31+7 malformed-csv: text behind a closing quote",
        "38 7",
        "43+7 truncated-record",
    ];
    assert_eq!(outline(&found), expected);
}

#[test]
fn csv_objects_without_a_usable_header_are_one_reject() {
    assert_eq!(outline(&csv_with("", Fields::default())), ["0+0 empty-object"]);
    let found = items(Format::Csv, context("a.csv"), b"id,te\xffxt\n1,a\n".to_vec(), &Limits::default());
    assert_eq!(outline(&found), ["0+0 invalid-utf8"]);
}

#[test]
fn tab_separated_objects_are_known_by_their_name() {
    let text = b"id\ttext,with\n1\ta\n".to_vec();
    for object in ["a.TSV.gz", "a.tsv", "a.tab.bz2", "a.tsv.XZ", "a.tsv.zst"] {
        let mut context = context(object);
        context.fields.text = Some("text,with".into());
        assert_eq!(outline(&items(Format::Csv, context, text.clone(), &Limits::default())), ["13 1"], "{object}");
    }
}

const MIMIC_3: &str = "\"ROW_ID\",\"SUBJECT_ID\",\"HADM_ID\",\"CHARTDATE\",\"CHARTTIME\",\"STORETIME\",\"CATEGORY\",\"DESCRIPTION\",\"CGID\",\"ISERROR\",\"TEXT\"
174,22532,167853,2151-08-04,,,\"Discharge summary\",\"Report\",,,\"Admission Date:  [**2151-7-16**]

He said \"\"no\"\".
\"
175,13702,107527,2118-06-14,,,\"Nursing\",\"Report\",,1,\"wrong patient\"
176,13702,107527,2118-06-14,2118-06-14 10:00:00,,\"Nursing\",\"Report\",12,,\"  \"
";

#[test]
fn mimic_3_notes_are_read_by_their_header() {
    let found = read(Format::MimicNotes, MIMIC_3.as_bytes());
    let record = MIMIC_3.find("174,").unwrap();
    let second = MIMIC_3.find("175,").unwrap();
    let third = MIMIC_3.find("176,").unwrap();
    let expected = [
        format!("{record} 174"),
        format!("{second}+{} marked-erroneous", third - second),
        format!("{third}+{} empty-record", MIMIC_3.len() - third),
    ];
    assert_eq!(outline(&found), expected);
    let note = documents(&found)[0];
    assert_eq!(note.text, "Admission Date:  [**2151-7-16**]\n\nHe said \"no\".\n");
    assert_eq!((note.year, note.title.as_deref()), (None, None));
    let meta: Vec<(&str, &str)> = note.meta.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let expected = [
        ("category", "Discharge summary"),
        ("chartdate", "2151-08-04"),
        ("description", "Report"),
        ("hadm_id", "167853"),
        ("note_id", "174"),
        ("release", "mimic-iii"),
        ("subject_id", "22532"),
    ];
    assert_eq!(meta, expected);
}

#[test]
fn mimic_4_notes_are_read_by_their_header() {
    let text = "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text\n\
                10000032-DS-21,10000032,22595853,DS,21,2180-05-07 00:00:00,2180-05-09 15:26:00,\" \nName:  ___\n\"\n";
    let found = read(Format::MimicNotes, text.as_bytes());
    let note = documents(&found)[0];
    assert_eq!(note.native_id, "10000032-DS-21");
    assert_eq!(note.text, " \nName:  ___\n");
    let meta: Vec<&str> =
        ["release", "note_id", "note_type", "subject_id", "hadm_id"].iter().map(|name| note.meta[*name].as_str()).collect();
    assert_eq!(meta, ["mimic-iv", "10000032-DS-21", "DS", "10000032", "22595853"]);
    assert_eq!(note.year, None);
}

#[test]
fn mimic_4_details_are_checked_and_give_nothing() {
    let good = "note_id,subject_id,field_name,field_value,field_ordinal\n10000032-RR-14,10000032,exam_code,A,1\n";
    assert_eq!(outline(&read(Format::MimicNotes, good.as_bytes())), [""; 0]);
    let ragged = format!("{good}10000032-RR-14,10000032\n10000032-RR-15,10000032,author,\"___\",1\n10000032-RR-15,\"1");
    let expected = [
        format!("{}+24 malformed-csv: 2 fields, header has 5", good.len()),
        format!("{}+17 truncated-record", ragged.len() - 17),
    ];
    assert_eq!(outline(&read(Format::MimicNotes, ragged.as_bytes())), expected);
}

#[test]
fn other_tables_are_no_mimic_notes() {
    let found = read(Format::MimicNotes, b"id,text\n1,a\n");
    assert_eq!(found.len(), 1);
    assert!(outline(&found)[0].starts_with("0+0 unknown-layout"));
}

#[test]
fn plain_text_is_one_document_named_by_its_object() {
    let found = items(Format::Text, context("notes/a b.txt"), "\u{feff}One\r\ntwo".into(), &Limits::default());
    let document = documents(&found)[0];
    assert_eq!((document.native_id.as_str(), document.text.as_str()), ("notes/a b.txt", "One\r\ntwo"));
    assert_eq!(document.title, None);
    assert_eq!(outline(&read(Format::Text, b"")), ["0+0 empty-object"]);
    assert_eq!(outline(&read(Format::Text, b" \n")), ["0+2 empty-record"]);
    assert_eq!(outline(&read(Format::Text, b"a\xffb")), ["0+3 invalid-utf8"]);
    let limits = Limits { record_bytes: 3, ..Limits::default() };
    let found = items(Format::Text, context("o"), b"abcd".to_vec(), &limits);
    assert_eq!(outline(&found), ["0+4 over-limit: record_bytes = 3"]);
}
