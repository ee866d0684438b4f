//! One question with its choices, and the checks that a set of them must pass.
//!
//! Nothing here prints a prompt or a choice: data may be sensitive.

use std::collections::BTreeSet;
use std::fmt;

/// One multiple-choice question. Deliberately without `Debug`: its text stays out of logs and panics.
#[derive(Clone, PartialEq, Eq)]
pub struct Item {
    /// Its id in the data file.
    pub id: String,
    /// The finished prompt.
    pub prompt: String,
    /// The answers to choose from, at least two, none empty.
    pub choices: Vec<String>,
    /// Index of the right one.
    pub gold: usize,
}

/// An item as read, before it is known to be usable.
pub(crate) struct RawItem {
    pub(crate) id: String,
    pub(crate) prompt: String,
    pub(crate) choices: Vec<String>,
    /// `None` when absent, or not a number.
    pub(crate) gold: Option<i64>,
    /// The answer's text, where the data give it besides.
    pub(crate) answer: Option<String>,
}

/// How many items break which rule, with the first id of each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ItemProblems {
    /// Items in all.
    pub items: u64,
    /// (rule, items that break it, id of the first).
    pub found: Vec<(&'static str, u64, String)>,
}

impl ItemProblems {
    fn note(&mut self, rule: &'static str, id: &str) {
        match self.found.iter_mut().find(|(known, ..)| *known == rule) {
            Some((_, count, _)) => *count += 1,
            None => self.found.push((rule, 1, id.to_owned())),
        }
    }
}

impl fmt::Display for ItemProblems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (rule, count, first)) in self.found.iter().enumerate() {
            let separator = if at > 0 { "; " } else { "" };
            write!(formatter, "{separator}{rule}: {count} of {} items, first {first:?}", self.items)?;
        }
        Ok(())
    }
}

/// Items that passed, and how many give an answer text that is not their gold choice.
pub(crate) struct Checked {
    pub(crate) items: Vec<Item>,
    pub(crate) answer_mismatches: u64,
}

/// Checks all items together.
pub(crate) fn check(raw: Vec<RawItem>) -> Result<Checked, ItemProblems> {
    let mut problems = ItemProblems { items: raw.len() as u64, found: Vec::new() };
    let mut seen = BTreeSet::new();
    let mut checked = Checked { items: Vec::with_capacity(raw.len()), answer_mismatches: 0 };
    for item in raw {
        if !seen.insert(item.id.clone()) {
            problems.note("duplicated id", &item.id);
            continue;
        }
        match gold_of(&item) {
            Err(rule) => problems.note(rule, &item.id),
            Ok(gold) => {
                let differs = item.answer.as_ref().is_some_and(|answer| answer.trim() != item.choices[gold].trim());
                checked.answer_mismatches += u64::from(differs);
                checked.items.push(Item { id: item.id, prompt: item.prompt, choices: item.choices, gold });
            }
        }
    }
    if problems.found.is_empty() { Ok(checked) } else { Err(problems) }
}

fn gold_of(item: &RawItem) -> Result<usize, &'static str> {
    if item.prompt.trim().is_empty() {
        return Err("empty prompt");
    }
    if item.choices.is_empty() {
        return Err("no choices, so nothing to compare likelihoods of");
    }
    if item.choices.len() < 2 {
        return Err("a single choice");
    }
    if item.choices.iter().any(|choice| choice.trim().is_empty()) {
        return Err("empty choice");
    }
    if item.choices.iter().collect::<BTreeSet<_>>().len() < item.choices.len() {
        return Err("equal choices");
    }
    let gold = item.gold.ok_or("gold is not a number (multi-label tasks are generated, not chosen)")?;
    usize::try_from(gold).ok().filter(|&gold| gold < item.choices.len()).ok_or("gold out of range")
}

/// The `limit` items whose ids hash lowest, in their order; all of them without a limit.
pub(crate) fn select(items: Vec<Item>, limit: Option<u64>) -> Vec<Item> {
    let Some(limit) = limit.filter(|&limit| limit < items.len() as u64) else {
        return items;
    };
    let hash = |item: &Item| *blake3::hash(item.id.as_bytes()).as_bytes();
    let mut hashes: Vec<[u8; 32]> = items.iter().map(hash).collect();
    hashes.sort_unstable();
    let lowest: BTreeSet<[u8; 32]> = hashes.into_iter().take(limit as usize).collect();
    items.into_iter().filter(|item| lowest.contains(&hash(item))).collect()
}

#[cfg(test)]
mod tests {
    use super::{Item, RawItem, check, select};

    fn raw(id: &str, choices: &[&str], gold: Option<i64>) -> RawItem {
        let choices = choices.iter().map(ToString::to_string).collect();
        RawItem { id: id.to_owned(), prompt: "prompt".to_owned(), choices, gold, answer: None }
    }

    fn problems(items: Vec<RawItem>) -> String {
        check(items).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn case_46_unusable_items_are_counted_by_rule() {
        let yes_no = ["yes", "no"];
        let items = vec![
            raw("a", &yes_no, Some(0)),
            raw("a", &yes_no, Some(1)),
            raw("b", &yes_no, Some(2)),
            raw("c", &yes_no, Some(-1)),
            raw("d", &[], Some(0)),
            raw("e", &yes_no, None),
            raw("f", &["x", " "], Some(0)),
            raw("g", &["x"], Some(0)),
            raw("h", &["x", "x"], Some(0)),
        ];
        let expected = "duplicated id: 1 of 9 items, first \"a\"; gold out of range: 2 of 9 items, first \"b\"; \
            no choices, so nothing to compare likelihoods of: 1 of 9 items, first \"d\"; \
            gold is not a number (multi-label tasks are generated, not chosen): 1 of 9 items, first \"e\"; \
            empty choice: 1 of 9 items, first \"f\"; a single choice: 1 of 9 items, first \"g\"; \
            equal choices: 1 of 9 items, first \"h\"";
        assert_eq!(problems(items), expected);
    }

    #[test]
    fn sound_items_pass_and_differing_answers_are_counted() {
        let mut second = raw("b", &["yes", "no"], Some(1));
        second.answer = Some("yes".to_owned());
        let mut third = raw("c", &["yes", "no"], Some(1));
        third.answer = Some(" no\n".to_owned());
        let checked = check(vec![raw("a", &["yes", "no"], Some(0)), second, third]).ok().unwrap();
        assert_eq!((checked.items.len(), checked.answer_mismatches), (3, 1));
        assert_eq!(checked.items[1].gold, 1);
    }

    #[test]
    fn a_limit_takes_the_same_items_whatever_the_order_of_the_file() {
        let item = |id: usize| Item { id: format!("id-{id}"), prompt: String::new(), choices: Vec::new(), gold: 0 };
        let ids = |items: Vec<Item>| items.into_iter().map(|item| item.id).collect::<Vec<_>>();
        let forward = ids(select((0..50).map(item).collect(), Some(7)));
        let mut backward = ids(select((0..50).rev().map(item).collect(), Some(7)));
        backward.reverse();
        assert_eq!((forward.len(), &forward), (7, &backward));
        assert_ne!(forward, (0..7).map(|id| format!("id-{id}")).collect::<Vec<_>>());
        assert_eq!(select((0..5).map(item).collect(), Some(9)).len(), 5);
    }
}
