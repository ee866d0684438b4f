//! PubMedQA (Jin and others, EMNLP 2019): `ori_pqal.json`, 1,000 labelled questions keyed by PMID, and the official
//! ground-truth file whose 500 ids are the test set.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};

use crate::item::RawItem;
use crate::prompt::pubmedqa_prompt;
use crate::rows::problem_of;

/// The three answers, in the order of choices.
const LABELS: [&str; 3] = ["yes", "no", "maybe"];

#[derive(Deserialize)]
struct Record {
    #[serde(rename = "QUESTION")]
    question: String,
    #[serde(rename = "CONTEXTS")]
    contexts: Vec<String>,
    final_decision: String,
}

/// What is wrong with the two files together; ids only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PubmedqaProblem {
    #[error("line {line}: {problem}")]
    Json { line: usize, problem: &'static str },
    #[error("ground truth: line {line}: {problem}")]
    TruthJson { line: usize, problem: &'static str },
    #[error("ground truth: {absent} of {all} ids are not in the data, first {first:?}; use the files of one release")]
    TruthAbsent { absent: usize, all: usize, first: String },
    #[error("ground truth: {differing} of {all} labels differ from the data, first {first:?}; use the files of one release")]
    TruthDiffers { differing: usize, all: usize, first: String },
}

/// Reads the questions; with a ground-truth file, only those that it lists.
pub(crate) fn parse(data: &[u8], truth: Option<&[u8]>) -> Result<Vec<RawItem>, PubmedqaProblem> {
    let json = |error: serde_json::Error| PubmedqaProblem::Json { line: error.line(), problem: problem_of(&error) };
    let Pairs(records) = serde_json::from_slice::<Pairs<Record>>(data).map_err(json)?;
    let Some(truth) = truth else {
        return Ok(records.into_iter().map(item).collect());
    };
    let json = |error: serde_json::Error| PubmedqaProblem::TruthJson { line: error.line(), problem: problem_of(&error) };
    let Pairs(truth) = serde_json::from_slice::<Pairs<String>>(truth).map_err(json)?;
    compare(&records, &truth)?;
    let listed: BTreeMap<String, String> = truth.into_iter().collect();
    Ok(records.into_iter().filter(|(id, _)| listed.contains_key(id)).map(item).collect())
}

fn item((id, record): (String, Record)) -> RawItem {
    let gold = LABELS.iter().position(|label| *label == record.final_decision);
    RawItem {
        id,
        prompt: pubmedqa_prompt(&record.contexts, &record.question),
        choices: LABELS.map(str::to_owned).to_vec(),
        gold: gold.map_or(Some(-1), |gold| i64::try_from(gold).ok()),
        answer: None,
    }
}

/// Every id of the ground truth must be in the data, with the same label.
fn compare(records: &[(String, Record)], truth: &[(String, String)]) -> Result<(), PubmedqaProblem> {
    let decisions: BTreeMap<&str, &str> =
        records.iter().map(|(id, record)| (id.as_str(), record.final_decision.as_str())).collect();
    let all = truth.len();
    let absent: Vec<&String> = truth.iter().map(|(id, _)| id).filter(|id| !decisions.contains_key(id.as_str())).collect();
    if let Some(&first) = absent.first() {
        return Err(PubmedqaProblem::TruthAbsent { absent: absent.len(), all, first: first.clone() });
    }
    let differs = |(id, label): &&(String, String)| decisions.get(id.as_str()) != Some(&label.as_str());
    let differing: Vec<&(String, String)> = truth.iter().filter(differs).collect();
    match differing.first() {
        Some((first, _)) => Err(PubmedqaProblem::TruthDiffers { differing: differing.len(), all, first: first.clone() }),
        None => Ok(()),
    }
}

/// The members of a JSON object in their order, a repeated name included: a map would lose it.
struct Pairs<T>(Vec<(String, T)>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(std::marker::PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for Members<T> {
            type Value = Pairs<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object keyed by id")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<T>, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members(std::marker::PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::{PubmedqaProblem, parse};
    use crate::item::check;

    const DATA: &str = r#"{"11":{"QUESTION":"Q one?","CONTEXTS":["A.","B."],"LABELS":[],"final_decision":"no"},
        "22":{"QUESTION":"Q two?","CONTEXTS":["C."],"final_decision":"maybe"}}"#;

    #[test]
    fn questions_become_items() {
        let items = check(parse(DATA.as_bytes(), None).unwrap()).ok().unwrap().items;
        assert_eq!(items.iter().map(|item| (item.id.as_str(), item.gold)).collect::<Vec<_>>(), [("11", 1), ("22", 2)]);
        assert_eq!(items[0].choices, ["yes", "no", "maybe"]);
        assert!(items[0].prompt.contains("A.\nB.") && items[0].prompt.contains("Q one?"));
    }

    #[test]
    fn the_ground_truth_restricts_and_is_compared() {
        let with = |truth: &str| parse(DATA.as_bytes(), Some(truth.as_bytes())).map(|items| items.len());
        assert_eq!(with(r#"{"22":"maybe"}"#), Ok(1));
        let first = |id: &str| id.to_owned();
        let absent = PubmedqaProblem::TruthAbsent { absent: 1, all: 2, first: first("33") };
        assert_eq!(with(r#"{"22":"maybe","33":"yes"}"#), Err(absent));
        let differs = PubmedqaProblem::TruthDiffers { differing: 1, all: 1, first: first("11") };
        assert_eq!(with(r#"{"11":"yes"}"#), Err(differs));
        assert!(matches!(with("[]"), Err(PubmedqaProblem::TruthJson { line: 1, .. })));
    }

    #[test]
    fn case_46_a_repeated_id_and_an_unknown_label_are_found() {
        let twice = DATA.replace("22", "11");
        let problems = check(parse(twice.as_bytes(), None).unwrap()).map(|_| ()).unwrap_err();
        assert_eq!(problems.to_string(), "duplicated id: 1 of 2 items, first \"11\"");
        let label = DATA.replace("maybe", "perhaps");
        let problems = check(parse(label.as_bytes(), None).unwrap()).map(|_| ()).unwrap_err();
        assert_eq!(problems.to_string(), "gold out of range: 1 of 2 items, first \"22\"");
    }

    #[test]
    fn the_official_files_have_the_published_counts() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/benchmarks/pubmedqa");
        let (Ok(data), Ok(truth)) =
            (std::fs::read(folder.join("ori_pqal.json")), std::fs::read(folder.join("test_ground_truth.json")))
        else {
            println!("not run: the public PubMedQA files are absent");
            return;
        };
        let counts = |truth: Option<&[u8]>| {
            let items = check(parse(&data, truth).unwrap()).ok().unwrap().items;
            [0, 1, 2].map(|gold| items.iter().filter(|item| item.gold == gold).count())
        };
        assert_eq!(counts(None), [552, 338, 110]);
        assert_eq!(counts(Some(&truth)), [276, 169, 55]);
    }
}
