//! The benchmark and the instructions: questions about the facts of the corpus, with right and wrong answers.

use serde::Serialize;

use crate::expected::{BenchmarkExpectation, InstructionExpectation};
use crate::generator::Generator;
use crate::phrases::{fill, plain_statement, question_stem, words_of};
use crate::world::{CONDITIONS, Condition, Relation};

/// A benchmark row in the layout of Me-LLaMA's sets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Unique id.
    pub id: String,
    /// The whole prompt.
    pub query: String,
    /// The right choice.
    pub answer: String,
    /// Four choices.
    pub choices: Vec<String>,
    /// Place of the right one, from 0.
    pub gold: usize,
}

/// A question of many words, which the overlap check finds in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LongItem {
    /// Id of its row.
    pub id: String,
    /// The question.
    pub question: String,
}

/// Long questions and the condition that each is about. Every one is a text of its own.
const LONG: [(usize, &str); 8] = [
    (
        0,
        "A {#20-80} year old rope maker from the hills came home from market with drenched sheets after eleven bad nights; which drug should the duty doctor write on the chart?",
    ),
    (
        4,
        "Since early spring a retired clock painter spills her tea and cannot thread a needle; which medicine would her ward sister most likely fetch from the cupboard?",
    ),
    (
        7,
        "A young baker who kneads dough for six hours scratches both hands until they bleed at weekends; what should the pharmacist hand across the counter?",
    ),
    (
        10,
        "After two wet winters a bell ringer can no longer climb the tower stairs without long rests on every landing; which treatment is named in the hospital guide?",
    ),
    (
        13,
        "Three cousins who shared one cottage all looked like old parchment by harvest time and lost all taste for bread; what would you prescribe for each of them?",
    ),
    (
        16,
        "A cheese grader was sent home because every wheel smelled of nothing at all to him from Monday to Friday; which drug belongs in the letter to his doctor?",
    ),
    (
        20,
        "During every long sermon a choir boy hiccups so loudly that the organist must stop and begin the same hymn again; which pills does the village nurse keep for this?",
    ),
    (
        23,
        "A ferry hand feels a tight iron band around his ribs whenever he hauls the rope against a strong evening tide; which drug should travel in his coat pocket?",
    ),
];

/// The benchmark: rows, those of its items that a leak can be found of, and what is expected.
pub struct Benchmark {
    /// One row an item.
    pub rows: Vec<Row>,
    /// The long ones.
    pub long: Vec<LongItem>,
}

/// Writes the benchmark: each condition's drug, eight each of the other relations, and the long questions.
pub fn write_benchmark() -> Benchmark {
    let mut generator = Generator::named("benchmark");
    let mut rows = Vec::new();
    for (number, condition) in CONDITIONS.iter().enumerate() {
        let other = [Relation::Symptom, Relation::Gene, Relation::Organ][number % 3];
        for relation in [Relation::Drug, other] {
            let id = format!("{}-{number:02}", relation.name());
            rows.push(row(id, question_stem(condition, relation), number, relation, &mut generator));
        }
    }
    let mut long = Vec::new();
    for (number, (condition, template)) in LONG.iter().enumerate() {
        let question = fill(template, &[], &mut generator);
        let id = format!("case-{number:02}");
        rows.push(row(id.clone(), question.clone(), *condition, Relation::Drug, &mut generator));
        long.push(LongItem { id, question });
    }
    Benchmark { rows, long }
}

fn row(id: String, query: String, condition: usize, relation: Relation, generator: &mut Generator) -> Row {
    let answer = relation.of(&CONDITIONS[condition]).to_owned();
    let mut others: Vec<usize> = (0..CONDITIONS.len()).filter(|other| *other != condition).collect();
    generator.shuffle(&mut others);
    let mut choices: Vec<String> = others[..3].iter().map(|other| relation.of(&CONDITIONS[*other]).to_owned()).collect();
    let gold = generator.below(4) as usize;
    choices.insert(gold, answer.clone());
    Row { id, query, answer, choices, gold }
}

impl Benchmark {
    /// JSON lines.
    ///
    /// # Panics
    /// Never: rows are plain strings and numbers.
    pub fn json_lines(&self) -> String {
        let line = |row: &Row| serde_json::to_string(row).expect("rows are plain") + "\n";
        self.rows.iter().map(line).collect()
    }

    /// What is expected of it when `leaked` of the long items stand in documents.
    pub fn expected(&self, leaked: u64) -> BenchmarkExpectation {
        let items = self.rows.len() as u64;
        BenchmarkExpectation { items, checkable: self.long.len() as u64, leaked }
    }
}

#[derive(Serialize)]
struct Alpaca<'a> {
    instruction: &'a str,
    input: &'a str,
    output: &'a str,
}

#[derive(Serialize)]
struct Conversations<'a> {
    id: String,
    conversations: Vec<Turn<'a>>,
}

#[derive(Serialize)]
struct Turn<'a> {
    from: &'a str,
    value: &'a str,
}

/// Asks for a relation in one of two ways.
fn question(condition: &Condition, relation: Relation, way: usize) -> String {
    let templates = match relation {
        Relation::Drug => ["What is {c} treated with?", "Name the drug for {c}."],
        Relation::Symptom => ["What is the main symptom of {c}?", "How does {c} show itself?"],
        Relation::Gene => ["Which gene is behind {c}?", "Name the gene of {c}."],
        Relation::Organ => ["Which organ does {c} harm?", "Where does {c} do harm?"],
    };
    fill(templates[way], &words_of(condition), &mut Generator::new(0))
}

/// Writes the instructions: two for each fact in Alpaca's layout, conversations of two questions, one without answer.
///
/// # Panics
/// Never: records are plain strings.
pub fn write_instructions() -> (String, InstructionExpectation) {
    let mut generator = Generator::named("instructions");
    let mut expected = InstructionExpectation::default();
    let mut lines = Vec::new();
    for condition in &CONDITIONS {
        for relation in Relation::ALL {
            for way in 0..2 {
                let (asked, answer) = (question(condition, relation, way), plain_statement(condition, relation));
                let short = "Answer the question in one sentence.";
                let (instruction, input) = if way == 0 { (asked.as_str(), "") } else { (short, asked.as_str()) };
                let record = Alpaca { instruction, input, output: &answer };
                lines.push(serde_json::to_string(&record).expect("records are plain"));
                expected.conversations += 1;
            }
        }
    }
    for (number, condition) in CONDITIONS.iter().enumerate().step_by(2) {
        let relations = [Relation::ALL[number % 4], Relation::ALL[(number + 1) % 4]];
        let asked = relations.map(|relation| question(condition, relation, 0));
        let answers = relations.map(|relation| plain_statement(condition, relation));
        let mut conversations = Vec::new();
        for (asked, answer) in asked.iter().zip(&answers) {
            conversations.push(Turn { from: "human", value: asked });
            conversations.push(Turn { from: "gpt", value: answer });
        }
        let record = Conversations { id: format!("talk-{number:02}"), conversations };
        lines.push(serde_json::to_string(&record).expect("records are plain"));
        expected.conversations += 1;
        expected.multi_turn += 1;
    }
    let unanswered = Alpaca { instruction: "What is Marlow fever called in the north?", input: "", output: "" };
    lines.push(serde_json::to_string(&unanswered).expect("records are plain"));
    expected.without_answer = 1;
    generator.shuffle(&mut lines);
    expected.records = lines.len() as u64;
    (lines.join("\n") + "\n", expected)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_have_four_different_choices_and_the_right_one_in_place() {
        let benchmark = write_benchmark();
        let ids: BTreeSet<&String> = benchmark.rows.iter().map(|row| &row.id).collect();
        assert_eq!((ids.len(), benchmark.rows.len()), (56, 56));
        let mut golds = [0; 4];
        for row in &benchmark.rows {
            let choices: BTreeSet<&String> = row.choices.iter().collect();
            assert_eq!((choices.len(), &row.choices[row.gold]), (4, &row.answer), "{}", row.id);
            golds[row.gold] += 1;
        }
        assert!(golds.iter().all(|count| *count >= 7), "{golds:?}");
    }

    #[test]
    fn long_questions_share_no_run_of_13_words() {
        let mut seen = BTreeSet::new();
        for item in write_benchmark().long {
            let words: Vec<&str> = item.question.split(' ').collect();
            assert!(words.len() >= 20, "{}", item.id);
            for run in words.windows(13) {
                assert!(seen.insert(run.join(" ")), "{}", item.id);
            }
        }
    }
}
