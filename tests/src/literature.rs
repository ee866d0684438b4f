//! Invented research texts: abstracts for PubMed, sections for full articles. It knows no file format.

use crate::generator::Generator;
use crate::phrases::{fill, statement, statements, words_of};
use crate::world::{CONDITIONS, Condition, Relation};

/// A citation's text. Sections of an abstract without labels have an empty one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abstract {
    /// Place of its condition in [`CONDITIONS`].
    pub condition: usize,
    /// Title, with its full stop.
    pub title: String,
    /// Label and sentences of each section.
    pub sections: Vec<(String, Vec<String>)>,
}

impl Abstract {
    /// Title and sections as a reader makes them: labels before the text, blank lines between.
    pub fn text(&self) -> String {
        let mut paragraphs = vec![self.title.clone()];
        for (label, sentences) in &self.sections {
            let text = sentences.join(" ");
            paragraphs.push(if label.is_empty() { text } else { format!("{label}: {text}") });
        }
        paragraphs.join("\n\n")
    }

    /// The same text without its last sentence: every part of it is in the whole one.
    ///
    /// # Panics
    /// When the last section has fewer than two sentences.
    #[must_use]
    pub fn shortened(&self) -> Self {
        let mut short = self.clone();
        let (_, last) = short.sections.last_mut().expect("an abstract has sections");
        assert!(last.len() > 1, "nothing would be left of the last section");
        last.pop();
        short
    }
}

const TITLES: [&str; 10] = [
    "{d} in {c}: a trial in {#3-19} clinics.",
    "A cohort of {#90-990} people with {c}.",
    "{S} and the {o} in {c}.",
    "The gene {g} in families with {c}.",
    "Long follow-up of {c} after {d}.",
    "Dose of {d} and outcome in {c}: {#2-9} years of data.",
    "What {s} tells about {c}: a study of {#40-400} cases.",
    "Changes of the {o} in early {c}.",
    "{c} in {place}: a survey of {#11-99} villages.",
    "Does {d} protect the {o} in {c}?",
];
const PLACES: [&str; 16] = [
    "Halvern",
    "Ostbury",
    "the Teth valley",
    "North Arrin",
    "Castermoor",
    "the Lorrin islands",
    "Vell",
    "Dunhaven",
    "Pereth",
    "Old Marrick",
    "the Sarn coast",
    "Upper Brenn",
    "Tollgate",
    "Kilvern",
    "East Quay",
    "Mossend",
];
const AIMS: [&str; 8] = [
    "We asked whether early treatment changes the course of the disease.",
    "The aim was to count relapses over {#2-9} years in {place}.",
    "We compared two doses in a randomised trial at {#3-19} centres.",
    "This study looked for signs that come before the disease.",
    "We set out to measure how the {o} recovers.",
    "Little is known about patients above {#55-80} years, so we studied them.",
    "We tested a simple blood test in {place}.",
    "The question was whether a shorter course is enough.",
];
const METHODS: [&str; 10] = [
    "We followed {#40-980} patients from {place} for {#4-96} weeks.",
    "A total of {#40-980} adults were randomised in blocks of {#4-12}.",
    "Blood was taken at week {#1-9} and week {#10-52}.",
    "Each patient kept a diary for {#12-90} days.",
    "Two readers scored {#100-990} images of the {o} without knowing the group.",
    "The dose was {#5-95} mg twice a day for {#2-30} weeks.",
    "We sequenced {g} in {#20-480} relatives.",
    "Records of {#3-29} hospitals in {place} were searched.",
    "Patients with fewer than {#2-6} visits were left out.",
    "The primary outcome was time to relapse, measured in days.",
];
const RESULTS: [&str; 12] = [
    "Relapse occurred in {%2-39} % of the treated group and in {%40-79} % of the others (p < 0.0{#1-4}).",
    "The median time to recovery was {%3-60} weeks (95 % interval {%1-2} to {%61-90}).",
    "The hazard ratio was 0.{#21-79} after {#6-60} months.",
    "{S} improved within {#2-21} days in {#20-480} patients.",
    "Mean serum levels fell from {%40-99} to {%5-39} µmol/l.",
    "A changed {g} was present in {#11-97} of {#98-480} families.",
    "Images showed smaller lesions of the {o} in {%40-95} % of cases.",
    "Side effects were mild: rash in {#1-29} and nausea in {#1-29} patients.",
    "No death was related to treatment among {#40-980} people.",
    "Scores rose by {%1-19} points (standard error {%0-1}).",
    "Adherence was {%60-98} % at month {#2-24}.",
    "The effect was the same above and below {#40-70} years of age.",
];
const CONCLUSIONS: [&str; 6] = [
    "Larger trials in {place} should confirm this.",
    "We suggest a check of the {o} every {#2-12} months.",
    "These results support early treatment.",
    "A shorter course may be enough for most patients.",
    "Screening of relatives seems useful.",
    "Care in {place} has changed since.",
];
const LABELS: [&str; 4] = ["BACKGROUND", "METHODS", "RESULTS", "CONCLUSION"];

/// An abstract about the condition with that place in [`CONDITIONS`], of 110 to 190 words.
pub fn write_abstract(condition: usize, generator: &mut Generator) -> Abstract {
    let subject = &CONDITIONS[condition];
    let say = |templates: &[&str], generator: &mut Generator| one(templates, subject, generator);
    let title = say(&TITLES, generator);
    let facts = statements(subject, generator);
    let mut background = facts[..2].to_vec();
    background.push(say(&AIMS, generator));
    let methods = distinct(&METHODS, 2 + generator.below(2), subject, generator);
    let mut results = distinct(&RESULTS, 3 + generator.below(2), subject, generator);
    results.push(facts[2].clone());
    let mut conclusion = vec![facts[3].clone()];
    let relation = generator.pick(&Relation::ALL);
    conclusion.push(statement(subject, relation, generator));
    conclusion.push(one(&CONCLUSIONS, subject, generator));
    let parts = [background, methods, results, conclusion];
    let sections = if generator.chance(35) {
        LABELS.iter().map(|label| (*label).to_owned()).zip(parts).collect()
    } else {
        vec![(String::new(), parts.concat())]
    };
    Abstract { condition, title, sections }
}

/// A section of an article: its heading and paragraphs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Heading.
    pub heading: &'static str,
    /// Paragraphs, plain.
    pub paragraphs: Vec<String>,
}

/// The body of an article about a condition, of 550 to 800 words.
pub fn write_body(condition: &Condition, generator: &mut Generator) -> Vec<Section> {
    let plan: [(&'static str, usize, &[&str]); 4] =
        [("Introduction", 3, &AIMS), ("Methods", 3, &METHODS), ("Results", 3, &RESULTS), ("Discussion", 3, &CONCLUSIONS)];
    let mut body = Vec::new();
    for (heading, count, templates) in plan {
        let mut paragraphs = Vec::new();
        for _ in 0..count {
            let mut sentences = distinct(templates, 3, condition, generator);
            sentences.extend(distinct(&RESULTS, 1, condition, generator));
            let facts = statements(condition, generator);
            sentences.extend_from_slice(&facts[..2 + generator.below(2) as usize]);
            generator.shuffle(&mut sentences);
            paragraphs.push(sentences.join(" "));
        }
        body.push(Section { heading, paragraphs });
    }
    body
}

/// One sentence from a list of templates.
pub fn one(templates: &[&str], condition: &Condition, generator: &mut Generator) -> String {
    let place = generator.pick(&PLACES);
    let template = generator.pick(templates);
    let [c, d, s, g, o] = words_of(condition);
    fill(template, &[c, d, s, g, o, ("place", place)], generator)
}

/// Sentences from different templates of a list.
fn distinct(templates: &[&str], count: u64, condition: &Condition, generator: &mut Generator) -> Vec<String> {
    let mut order: Vec<&str> = templates.to_vec();
    generator.shuffle(&mut order);
    order.truncate(count as usize);
    order.iter().map(|template| one(&[template], condition, generator)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abstracts_have_the_length_of_abstracts_and_all_four_facts() {
        let mut generator = Generator::named("abstracts");
        for number in 0..200 {
            let written = write_abstract(number % CONDITIONS.len(), &mut generator);
            let text = written.text();
            let words = text.split_whitespace().count();
            assert!((80..=200).contains(&words), "{words} words: {text}");
            for relation in Relation::ALL {
                let fact = relation.of(&CONDITIONS[written.condition]);
                let found = text.to_lowercase().contains(&fact.to_lowercase());
                assert!(found, "{fact} is missing: {text}");
            }
            let short = written.shortened().text();
            assert!(text.starts_with(&short) && short.len() < text.len());
        }
    }
}
