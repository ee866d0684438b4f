//! PubMed as a sequence: a baseline and the update files behind it, in which later records replace earlier ones.
//!
//! The citations are invented here. What stands at the end is read from what the run says that it removed.

use std::collections::BTreeMap;
use std::path::Path;

use crate::project::{Project, run, succeed};

/// A recipe with one PubMed source; `read` and the tables behind it differ from test to test.
fn recipe(read: &str, more: &str) -> String {
    format!(
        "name = \"sequence\"\nworkdir = \"out\"\n[[corpus.source]]\nname = \"p\"\nformat = \"pubmed-xml\"\n\
         inputs = [\"data/*.xml\"]\ndomain = \"biomedical\"\n{read}\n{more}"
    )
}

fn citation(pmid: u64, version: u32, text: &str) -> String {
    format!(
        "<PubmedArticle><MedlineCitation><PMID Version=\"{version}\">{pmid}</PMID><Article><ArticleTitle>Report {pmid}\
         </ArticleTitle><Abstract><AbstractText>{text}</AbstractText></Abstract></Article></MedlineCitation></PubmedArticle>\n"
    )
}

/// An abstract that no other number has a near copy of.
fn text(number: u64) -> String {
    (0..40).map(|i| format!("word{}", (number * 131 + i * 17) % 9973)).collect::<Vec<_>>().join(" ")
}

fn file(records: &[String]) -> Vec<u8> {
    format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<PubmedArticleSet>\n{}</PubmedArticleSet>\n", records.concat())
        .into_bytes()
}

/// Writes the files `data/pubmed-N.xml` in their order.
fn project(recipe: &str, files: &[&[String]]) -> Project {
    let project = Project::with_recipe(recipe);
    for (number, records) in files.iter().enumerate() {
        project.write(&format!("data/pubmed-{number}.xml"), &file(records));
    }
    project
}

/// Rows of the one ingest task that were removed, with the reason. Rows are documents in the order of the files.
fn removed(project: &Project) -> BTreeMap<u64, String> {
    let folder = Path::new(&project.workdir()).join("removed");
    let table = std::fs::read_dir(folder).expect("there").next().expect("one table").expect("an entry").path();
    let shown = succeed(&["inspect", &table.display().to_string(), "--rows", "1000"]).stdout;
    let row = |line: &str| {
        let row = line.split_whitespace().skip_while(|word| *word != "row").nth(1)?.parse().ok()?;
        Some((row, line.split('"').nth(1)?.to_owned()))
    };
    shown.lines().filter(|line| line.contains("reason")).filter_map(row).collect()
}

fn check(project: &Project, expected: &[(u64, &str)]) {
    project.succeed(&["--threads", "2"]);
    let expected: BTreeMap<u64, String> = expected.iter().map(|(row, reason)| (*row, (*reason).to_owned())).collect();
    assert_eq!(removed(project), expected);
    let counts = project.json("manifests/dedup.json")["counts"].clone();
    assert_eq!(counts["dropped"]["documents"].as_u64(), Some(expected.len() as u64));
}

/// The digest of what each stage published.
fn published(project: &Project) -> serde_json::Value {
    project.json("_SUCCESS")["published"].clone()
}

/// Citations 1 to 3, then 2 revised under its version, then 2 revised again and 3 as a new version.
fn revised() -> [Vec<String>; 3] {
    let record = |pmid, version, number| citation(pmid, version, &text(number));
    [
        vec![record(1, 1, 1), record(2, 1, 2), record(3, 1, 3)],
        vec![record(2, 1, 12)],
        vec![record(2, 1, 22), record(3, 2, 3), record(4, 1, 4)],
    ]
}

#[test]
fn the_last_revision_stands_with_and_without_deduplication() {
    let [baseline, first, second] = revised();
    let files: [&[String]; 3] = [&baseline, &first, &second];
    for more in ["", "[corpus.dedup]\n"] {
        let project = project(&recipe("", more), &files);
        check(&project, &[(1, "same-id"), (2, "same-id"), (3, "same-id")]);
        let facts = project.json("manifests/dedup.json")["facts"].clone();
        assert_eq!(facts["sequence"]["p"]["records"].as_u64(), Some(7));
        assert_eq!(facts["removed"]["p"]["same-id"].as_u64(), Some(3));
        assert_eq!(facts["duplicates"].is_object(), !more.is_empty());
        let html = std::fs::read_to_string(Path::new(&project.workdir()).join("report.html")).expect("there");
        assert!(html.contains("Revisions, deletions and retractions"));
    }
}

#[test]
fn a_later_record_of_a_lower_version_does_not_stand() {
    let files = [vec![citation(1, 2, &text(1))], vec![citation(1, 1, &text(2))]];
    check(&project(&recipe("", ""), &[&files[0], &files[1]]), &[(1, "same-id")]);
}

#[test]
fn a_replaced_record_keeps_no_copy_out() {
    // 2 is the longer copy of the first text of 1: were the replaced record still there, 2 would go for it.
    let copy = format!("{} and so on", text(1));
    let files = [vec![citation(1, 1, &copy), citation(2, 1, &copy)], vec![citation(1, 1, &text(9))]];
    let titles =
        |records: &[String]| records.iter().map(|r| r.replace("Report 1", "A").replace("Report 2", "A")).collect::<Vec<_>>();
    let (first, second) = (titles(&files[0]), titles(&files[1]));
    check(&project(&recipe("", "[corpus.dedup]\n"), &[&first, &second]), &[(0, "same-id")]);
}

#[test]
fn a_revision_that_a_rule_drops_takes_the_place_of_the_older_text() {
    let files = [vec![citation(1, 1, &text(1)), citation(2, 1, &text(2))], vec![citation(1, 1, "")]];
    let project = project(&recipe("", "[corpus.clean]\nmin_words = 10\n"), &[&files[0], &files[1]]);
    check(&project, &[(0, "superseded")]);
}

#[test]
fn determinism_of_a_sequence_by_threads_and_tasks() {
    let [baseline, first, second] = revised();
    let project = project(&recipe("", "[corpus.dedup]\n"), &[&baseline, &first, &second]);
    project.succeed(&["--threads", "1"]);
    let expected = published(&project);
    for threads in ["2", "5"] {
        std::fs::remove_dir_all(project.workdir()).expect("removed");
        project.succeed(&["--threads", threads]);
        assert_eq!(published(&project), expected, "{threads} threads");
    }
    std::fs::remove_dir_all(project.workdir()).expect("removed");
    for stage in ["ingest", "dedup", "report"] {
        let ended = run(&["stage", stage, &project.recipe(), "--workdir", &project.workdir()]);
        assert_eq!(ended.code, 0, "{}", ended.stderr);
    }
    assert_eq!(published(&project), expected, "task by task");
}

/// The list at the end of an update file.
fn deletions(pmids: &[u64]) -> String {
    let one = |pmid: &u64| format!("<PMID Version=\"1\">{pmid}</PMID>");
    format!("<DeleteCitation>{}</DeleteCitation>\n", pmids.iter().map(one).collect::<String>())
}

/// A notice of retraction, itself a citation.
fn notice(pmid: u64, retracts: u64) -> String {
    let corrections = format!(
        "</Article><CommentsCorrectionsList><CommentsCorrections RefType=\"RetractionOf\"><RefSource>J Inv. 1999</RefSource>\
         <PMID Version=\"1\">{retracts}</PMID></CommentsCorrections></CommentsCorrectionsList>"
    );
    citation(pmid, 1, &text(pmid)).replace("</Article>", &corrections)
}

/// A citation that says of itself that it was retracted.
fn retracted(pmid: u64) -> String {
    let types = "</Abstract><PublicationTypeList><PublicationType UI=\"D016428\">Journal Article</PublicationType>\
                 <PublicationType UI=\"D016441\">Retracted Publication</PublicationType></PublicationTypeList>";
    citation(pmid, 1, &text(pmid + 100)).replace("</Abstract>", types)
}

fn plain(pmid: u64) -> String {
    citation(pmid, 1, &text(pmid))
}

#[test]
fn a_deletion_takes_what_stands_before_it() {
    let baseline = vec![plain(1), plain(2), plain(3)];
    let update = vec![plain(4), deletions(&[2, 4, 77])];
    let project = project(&recipe("", ""), &[&baseline, &update]);
    check(&project, &[(1, "deleted"), (3, "deleted")]);
    assert_eq!(
        project.json("manifests/ingest.json")["facts"]["sources"]["p"]["facts"]["withdrawals"]["deleted"].as_u64(),
        Some(3)
    );
    let folder = Path::new(&project.workdir()).join("withdrawals/p");
    let notices = std::fs::read_dir(folder).expect("there").next().expect("one file").expect("an entry").path();
    let notices = std::fs::read_to_string(notices).expect("JSON lines");
    assert_eq!(notices.lines().count(), 3);
    assert!(notices.lines().all(|line| line.contains("\"object\":\"data/pubmed-1.xml\"") && line.contains("\"deleted\"")));
}

#[test]
fn a_deleted_citation_that_comes_again_stands() {
    let files = [vec![plain(1), plain(2)], vec![deletions(&[2])], vec![citation(2, 1, &text(22))], vec![plain(5)]];
    let files: Vec<&[String]> = files.iter().map(Vec::as_slice).collect();
    for more in ["", "[corpus.dedup]\n"] {
        check(&project(&recipe("", more), &files), &[(1, "deleted")]);
    }
}

#[test]
fn a_retraction_reaches_older_and_later_records() {
    // Rows: 1, 2, 3 and the notice 9 for 2; the retracted record of 1 is dropped; then 2 comes once more.
    let files = [vec![plain(1), plain(2), plain(3)], vec![notice(9, 2), retracted(1)], vec![citation(2, 2, &text(22))]];
    let files: Vec<&[String]> = files.iter().map(Vec::as_slice).collect();
    let project = project(&recipe("", "[corpus.dedup]\n"), &files);
    check(&project, &[(0, "retracted"), (1, "retracted"), (4, "retracted")]);
    let facts = project.json("manifests/ingest.json")["facts"]["sources"]["p"]["facts"].clone();
    assert_eq!(facts["drops"]["retracted"].as_u64(), Some(1));
}

#[test]
fn retracted_articles_are_kept_where_the_recipe_says_so() {
    let files = [vec![plain(1), plain(2), plain(3)], vec![notice(9, 2), retracted(1)]];
    let project = project(&recipe("read = { retracted = \"keep\" }", ""), &[&files[0], &files[1]]);
    check(&project, &[(0, "same-id")]);
}
