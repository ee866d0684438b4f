//! Sentences from templates. A slot is `{name}` for a known word, `{#low-high}` for a whole number, `{%low-high}` for
//! one with a decimal; a slot in capitals starts with a capital letter.

use crate::generator::Generator;
use crate::world::{Condition, Relation};

/// Words by slot name.
pub type Words<'a> = &'a [(&'a str, &'a str)];

/// Fills a template.
///
/// # Panics
/// When the template has a slot that `words` lacks, or a malformed one: templates are part of this crate.
pub fn fill(template: &str, words: Words<'_>, generator: &mut Generator) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (slot, after) = after.split_once('}').expect("templates close their slots");
        out.push_str(before);
        match slot.as_bytes()[0] {
            b'#' => out.push_str(&number(slot, generator).to_string()),
            b'%' => {
                let whole = number(slot, generator);
                out.push_str(&format!("{whole}.{}", generator.below(10)));
            }
            _ => out.push_str(&word(slot, words)),
        }
        rest = after;
    }
    out + rest
}

fn number(slot: &str, generator: &mut Generator) -> u64 {
    let bounds = slot[1..].split_once('-').and_then(|(low, high)| Some((low.parse().ok()?, high.parse().ok()?)));
    let (low, high) = bounds.expect("number slots have two bounds");
    generator.between(low, high)
}

fn word(slot: &str, words: Words<'_>) -> String {
    let wanted = slot.to_lowercase();
    let found = words.iter().find(|(name, _)| *name == wanted);
    let (_, text) = found.unwrap_or_else(|| panic!("a template has the unknown slot {slot}"));
    if slot == wanted { (*text).to_owned() } else { capitalised(text) }
}

/// `text` with a capital first letter.
pub fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// The words of a condition: `c`, `d`, `s`, `g`, `o`.
pub fn words_of(condition: &Condition) -> [(&'static str, &'static str); 5] {
    [("c", condition.name), ("d", condition.drug), ("s", condition.symptom), ("g", condition.gene), ("o", condition.organ)]
}

/// The sentence whose beginning the questions of the benchmark repeat.
pub fn plain_statement(condition: &Condition, relation: Relation) -> String {
    format!("{} {}.", question_stem(condition, relation), relation.of(condition))
}

/// The beginning of that sentence. Fewer than 8 words, so that an overlap check finds it too short to be checked.
pub fn question_stem(condition: &Condition, relation: Relation) -> String {
    let name = condition.name;
    match relation {
        Relation::Drug => format!("{name} is treated with"),
        Relation::Symptom => format!("The main symptom of {name} is"),
        Relation::Gene => format!("The gene behind {name} is"),
        Relation::Organ => format!("{name} mainly harms the"),
    }
}

/// A sentence that states the fact, half of the time the plain one.
pub fn statement(condition: &Condition, relation: Relation, generator: &mut Generator) -> String {
    if generator.chance(50) {
        return plain_statement(condition, relation);
    }
    let templates: &[&str] = match relation {
        Relation::Drug => &[
            "Patients with {c} respond to {d}.",
            "{d} is the standard drug for {c}.",
            "The drug of choice in {c} is {d}.",
            "Most clinics use {d} for {c}.",
            "{d} relieves {c} in most patients.",
        ],
        Relation::Symptom => &[
            "People with {c} often report {s}.",
            "{S} is the usual first sign of {c}.",
            "{c} begins with {s}.",
            "Relatives noticed {s} before {c} was found.",
        ],
        Relation::Gene => &[
            "Changes in {g} lead to {c}.",
            "{c} runs in families that carry a changed {g}.",
            "A faulty copy of {g} was found in {c}.",
            "Carriers of a changed {g} are at risk of {c}.",
        ],
        Relation::Organ => &[
            "Damage to the {o} is typical of {c}.",
            "In {c} the {o} is affected first.",
            "{c} is a disease of the {o}.",
            "The {o} is the target of {c}.",
        ],
    };
    fill(generator.pick(templates), &words_of(condition), generator)
}

/// One statement for each relation, in an order of the generator.
pub fn statements(condition: &Condition, generator: &mut Generator) -> Vec<String> {
    let mut relations = Relation::ALL;
    generator.shuffle(&mut relations);
    relations.iter().map(|relation| statement(condition, *relation, generator)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_filled() {
        let mut generator = Generator::named("slots");
        let words = [("c", "Marlow fever"), ("s", "night sweats")];
        assert_eq!(fill("{S} in {c}.", &words, &mut generator), "Night sweats in Marlow fever.");
        assert_eq!(fill("{#7-7} of {%3-3}", &[], &mut generator)[..6], *"7 of 3");
        assert_eq!(fill("none", &[], &mut generator), "none");
    }

    #[test]
    fn stems_are_too_short_for_an_overlap_check() {
        for condition in &crate::world::CONDITIONS {
            for relation in Relation::ALL {
                let words = question_stem(condition, relation).split(' ').count();
                assert!(words < 8, "{} {relation:?}", condition.name);
            }
        }
    }
}
