//! Layouts of benchmark files: what is taken of each, and which records it names. All records are invented.

use super::*;

fn items(name: &str, text: &str) -> Vec<BenchmarkItem> {
    parse(name, text.as_bytes().to_vec()).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// (id, parts, ids of records) of each item.
fn check(name: &str, text: &str, expected: &[(&str, &[&str], &[&str])]) {
    let found: Vec<(String, Vec<String>, Vec<String>)> =
        items(name, text).into_iter().map(|i| (i.item, i.parts, i.excluded_ids)).collect();
    let owned = |list: &[&str]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected: Vec<_> = expected.iter().map(|(id, parts, ids)| ((*id).to_owned(), owned(parts), owned(ids))).collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn rows_of_me_llama_and_lines_with_questions() {
    check(
        "data/set.jsonl",
        "{\"id\":\"q1\",\"query\":\"Do it.\\nWhy so?\",\"answer\":\"a\",\"choices\":[\"a\",\"b\"],\"gold\":0}\n",
        &[("q1", &["Do it.", "Why so?", "a", "b", "a"], &[])],
    );
    let two = "{\"question\":\"Q?\",\"options\":{\"A\":\"x\"},\"pmid\":7}\n\n{\"question\":\"R?\"}\n";
    check("set.jsonl", two, &[("7", &["Q?", "x"], &["pmid:7"]), ("3", &["R?"], &[])]);
    check("set.json", "[{\"question\":\"Q?\"},{\"id\":5,\"sentence\":\"S.\"}]", &[("1", &["Q?"], &[]), ("5", &["S."], &[])]);
}

#[test]
fn pubmedqa_by_key_by_column_and_as_a_list() {
    let keyed = "{\"12\":{\"QUESTION\":\"Q?\",\"CONTEXTS\":[\"c1\",\"c2\"],\"LABELS\":[\"AIM\"],\"LONG_ANSWER\":\"L\"}}";
    check("ori_pqal.json", keyed, &[("12", &["Q?", "c1", "c2", "L"], &["pmid:12"])]);
    let column = "{\"pubid\":1234567,\"question\":\"Q?\",\"context\":{\"contexts\":[\"c\"],\"labels\":[\"AIM\"],\"meshes\":[\"M\"]},\
        \"long_answer\":\"L\"}";
    check("pubmedqa.jsonl", column, &[("1234567", &["Q?", "c", "L"], &["pmid:1234567"])]);
    let truth = "{\"1234567\":\"yes\",\"7654321\":\"no\"}";
    check("test_ground_truth.json", truth, &[("1234567", &[], &["pmid:1234567"]), ("7654321", &[], &["pmid:7654321"])]);
    // Keys of another kind are numbers of the file.
    check("other.json", "{\"12\":{\"text\":\"t\"}}", &[("12", &["t"], &[])]);
}

#[test]
fn sets_made_from_citations() {
    check("hoc.jsonl", "{\"document_id\":\"12345678_3\",\"text\":\"S.\"}", &[("12345678_3", &["S."], &["pmid:12345678"])]);
    check("hoc_test.tsv", "index\tlabels\tsentence\n12345678_s0\tx\tS.\n", &[("12345678_s0", &["S."], &["pmid:12345678"])]);
    check("data/hoc/text/12345678.txt", "One.\nTwo.\n", &[("12345678", &["One. Two."], &["pmid:12345678"])]);
    assert_eq!(items("data/hoc/text/12345678.txt", "One.")[0].benchmark, "hoc");
    check(
        "bionli.csv",
        "pmid,supp_set,conclusion,label_cat\n1234567,\"a, b\",c,pos\n",
        &[("1234567", &["a, b", "c"], &["pmid:1234567"])],
    );
    let summary = "{\"article_id\":\"PMC12\",\"article_text\":[\"one .\",\"two .\"],\"abstract_text\":[\"<S> three . </S>\"],\
        \"section_names\":[\"INTRO\"]}";
    check("PubmedSumm.jsonl", summary, &[("PMC12", &["one . two .", "  three .  "], &["pmcid:PMC12"])]);
}

#[test]
fn sets_made_from_notes() {
    check(
        "mimic_cxr_sum.jsonl",
        "{\"subject_id\":10000032,\"study_id\":\"s50414267\",\"dicom\":\"0-1\",\"findings\":[\"Clear .\",\"No rib .\"],\"impression\":\"None\"}",
        &[("s50414267", &["Clear . No rib .", "None"], &["mimic-cxr/study:50414267", "mimic-iv/subject:10000032"])],
    );
    check(
        "mednli.jsonl",
        "{\"pairID\":\"2a-b\",\"sentence1\":\"P\",\"sentence2\":\"H\",\"gold_label\":\"neutral\",\"made_from\":[\"mimic-iii/subject:7\",\"x:1\"]}",
        &[("2a-b", &["P", "H"], &["mimic-iii/subject:7"])],
    );
    let emrqa = "{\"data\":[{\"title\":\"t\",\"paragraphs\":[{\"note_id\":\"0105\",\"context\":[\"A\\n\",\"B\\n\"],\"qas\":[{\"id\":[\"1\"],\
        \"question\":[\"Q?\",\"R?\"],\"answers\":[{\"text\":\"B\",\"answer_start\":[2,0],\"evidence\":\"B b\"}]}]}]}]}";
    let mut found = items("emrqa.json", emrqa).remove(0);
    found.parts.sort();
    assert_eq!((found.item.as_str(), &found.excluded_ids[..]), ("0105", &["note:0105".to_owned()][..]));
    assert_eq!(found.parts, ["A B", "B", "B b", "Q?", "R?"]);
    check("i2b2/record-7.txt", "Note.", &[("record-7", &["Note."], &["note:record-7"])]);
}

#[test]
fn compressed_files_are_read_and_archives_are_refused() {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gz, b"{\"question\":\"Q?\"}\n").expect("memory");
    let found = parse("a/set.jsonl.gz", gz.finish().expect("memory")).expect("readable");
    assert_eq!((found[0].benchmark.as_str(), found[0].item.as_str()), ("set", "1"));
    let message = parse("hoc.tar", vec![0; 1024]).expect_err("no benchmark").to_string();
    assert!(message.contains("hoc.tar") && message.contains("unpack archives"), "{message}");
}

#[test]
fn unreadable_items_name_their_place() {
    for (name, text, expected) in [
        ("set.jsonl", "{\"question\":\"Q\"}\nnope\n", "line 2: not JSON"),
        ("set.jsonl", "{\"question\":\"Q\"}\n3\n", "line 2: not a JSON object"),
        ("set.json", "[1]\n", "item 1: not a JSON object"),
        ("set.json", "{\"a\":{\"gold\":1}}", "item a: no question"),
        ("set.jsonl", "", "no item"),
        ("set.csv", "id,text\n1\n", "byte 8"),
    ] {
        let text = text.as_bytes().to_vec();
        let message = parse(name, text).map_or_else(|e| e.to_string(), |items| panic!("{name}: {} items", items.len()));
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

#[test]
fn ids_that_no_report_should_hold_are_replaced() {
    let long = format!("{{\"id\":\"{}\",\"question\":\"Q?\"}}", "x".repeat(MAX_ID_BYTES + 1));
    check("set.jsonl", &long, &[("1", &["Q?"], &[])]);
}
