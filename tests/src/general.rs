//! The general files: invented everyday texts in RedPajama's layout, as Common Crawl, `StackExchange` and Wikipedia parts.

use serde_json::json;

use crate::expected::SourceExpectation;
use crate::generator::Generator;
use crate::phrases::fill;

const RECORDS: usize = 330;

/// What a text is about: nouns and sentences of its own.
struct Topic {
    title: &'static str,
    things: [&'static str; 6],
    sentences: [&'static str; 8],
}

const TOPICS: [Topic; 8] = [
    Topic {
        title: "Baking with {thing}",
        things: ["rye flour", "oat flakes", "sour milk", "plum jam", "wild honey", "barley malt"],
        sentences: [
            "Mix {#100-900} grams of {thing} with {#50-450} grams of warm water.",
            "Let the dough rest for {#20-90} minutes under a damp cloth.",
            "The oven should be at {#160-240} degrees before the loaf goes in.",
            "A crust made with {thing} keeps for {#2-9} days.",
            "My aunt always added a spoon of {thing} at the end.",
            "Knead by hand for {#5-25} minutes, then fold the dough twice.",
            "The crumb was soft and the smell filled the whole house.",
            "Do not open the door during the first {#10-30} minutes.",
        ],
    },
    Topic {
        title: "The garden in spring: {thing}",
        things: ["tulips", "broad beans", "pear trees", "lavender", "onions", "ivy"],
        sentences: [
            "Plant the {thing} {#5-40} centimetres apart in loose soil.",
            "Water twice a week when there is less than {#3-19} millimetres of rain.",
            "Snails ate {#2-30} of my plants in a single night.",
            "The {thing} on the south wall flowered {#3-20} days early.",
            "Cover the bed with straw until the last frost has gone.",
            "A neighbour gave me {#4-48} seedlings in return for eggs.",
            "By June the {thing} had reached my shoulder.",
            "Compost is ready after {#4-14} months if you turn it.",
        ],
    },
    Topic {
        title: "Notes from the railway: the {thing}",
        things: ["night train", "branch line", "goods yard", "signal box", "old viaduct", "station clock"],
        sentences: [
            "The {thing} near {place} was opened {#40-160} years ago.",
            "Trains to {place} leave at {#5-22} minutes past the hour.",
            "The journey takes {#30-190} minutes and crosses {#2-29} bridges.",
            "A ticket costs {#3-60} crowns, children pay half.",
            "Snow closed the line for {#2-12} days last winter.",
            "The guard knew the {thing} better than anyone in {place}.",
            "Passengers waited on the platform with soup and newspapers.",
            "Engineers replaced {#100-900} sleepers in one week.",
        ],
    },
    Topic {
        title: "Football in {place}: the {thing}",
        things: ["home side", "youth team", "second half", "cup match", "new keeper", "away game"],
        sentences: [
            "The {thing} drew a crowd of {#200-9000} to the ground in {place}.",
            "They lost by {#1-4} goals after leading at the break.",
            "The captain scored in minute {#2-89} from outside the box.",
            "Rain turned the pitch into a pond before kick-off.",
            "It was the {thing} that everyone talked about on the bus.",
            "The coach changed {#2-5} players and nothing helped.",
            "Supporters sang for {#10-80} minutes without a pause.",
            "The next match against {place} is in {#3-20} days.",
        ],
    },
    Topic {
        title: "How do I repair a {thing}?",
        things: ["bicycle chain", "kitchen tap", "wooden chair", "radio", "tent pole", "garden gate"],
        sentences: [
            "I bought the {thing} {#2-30} years ago and it squeaks.",
            "First take out the {#2-12} screws at the back.",
            "Use a drop of oil and wait {#5-55} minutes.",
            "A new part costs about {#4-90} crowns in {place}.",
            "Do not force the {thing}, the thread is soft brass.",
            "I tried glue, wire and tape before I read the manual.",
            "Measure twice: mine was {#3-40} millimetres too short.",
            "It has worked for {#2-18} months since then.",
        ],
    },
    Topic {
        title: "{place} and its {thing}",
        things: ["market hall", "town library", "river port", "stone bridge", "grain store", "weather tower"],
        sentences: [
            "{place} is a town of {#900-99000} people on the river Arl.",
            "Its {thing} was built by {#30-700} workers in {#2-19} years.",
            "The council meets every {#2-9} weeks in a room above the bakery.",
            "The {thing} burned down and was rebuilt in brick.",
            "Fishing and weaving employed {#20-80} % of families.",
            "A road of {#5-120} kilometres joins it to {place}.",
            "The museum shows {#40-900} objects, most of them spoons.",
            "Storks nest on the {thing} from March to August.",
        ],
    },
    Topic {
        title: "A walk along the {thing}",
        things: ["sea wall", "canal", "ridge", "forest track", "dune path", "mill stream"],
        sentences: [
            "The {thing} is {#3-28} kilometres long and easy to follow.",
            "We started at {place} with bread, cheese and {#2-6} apples.",
            "After {#20-170} minutes the fog lifted over the {thing}.",
            "A bench marks the highest point, {#40-950} metres up.",
            "Sheep blocked the gate and took their time.",
            "The ferry back to {place} runs until {#5-9} in the evening.",
            "We counted {#3-70} herons and one fox.",
            "My boots were wet for {#2-4} days.",
        ],
    },
    Topic {
        title: "Learning to play the {thing}",
        things: ["fiddle", "accordion", "tin whistle", "harp", "hand drum", "bass viol"],
        sentences: [
            "I practised the {thing} for {#10-90} minutes every day.",
            "The first tune took me {#2-15} weeks.",
            "A good {thing} costs more than {#100-2000} crowns.",
            "Our teacher from {place} taps the beat with a spoon.",
            "We played at {#2-25} weddings that summer.",
            "Strings break when the room is below {#5-15} degrees.",
            "The trick is to count to {#3-9} before you breathe.",
            "Now the neighbours ask for songs instead of silence.",
        ],
    },
];
const PLACES: [&str; 12] = [
    "Halvern",
    "Ostbury",
    "Castermoor",
    "Vell",
    "Dunhaven",
    "Pereth",
    "Old Marrick",
    "Upper Brenn",
    "Tollgate",
    "Kilvern",
    "East Quay",
    "Mossend",
];

/// The files before compression, texts, and what is expected of them.
pub struct General {
    /// Name and JSON lines of each file.
    pub files: Vec<(String, String)>,
    /// Text of each document.
    pub texts: Vec<String>,
    /// Expectation of the source.
    pub expected: SourceExpectation,
}

fn write_text(topic: &Topic, generator: &mut Generator) -> String {
    let thing = generator.pick(&topic.things);
    let say = |template: &str, generator: &mut Generator| {
        let place = generator.pick(&PLACES);
        fill(template, &[("thing", thing), ("place", place)], generator)
    };
    let mut out = say(topic.title, generator) + "\n\n";
    for paragraph in 0..3 {
        let mut sentences: Vec<&str> = topic.sentences.to_vec();
        generator.shuffle(&mut sentences);
        let sentences: Vec<String> = sentences[..4].iter().map(|template| say(template, generator)).collect();
        out += &sentences.join(" ");
        out += if paragraph < 2 { "\n" } else { "" };
    }
    out
}

/// The part of RedPajama that a record belongs to; its meta data give its native id.
fn meta(number: usize) -> (serde_json::Value, String) {
    match number % 3 {
        0 => {
            let url = format!("https://pages.example/{number}");
            let id = format!("{url}@2021-05-01T00:00:00Z");
            (json!({"timestamp": "2021-05-01T00:00:00Z", "url": url, "language": "en", "source": "c4"}), id)
        }
        1 => {
            let id = format!("repair.example/{number}");
            let url = format!("https://repair.example/questions/{number}");
            (json!({"language": "en", "url": url, "question_id": number.to_string(), "source": "stackexchange"}), id)
        }
        _ => {
            let url = format!("https://encyclopedia.example/wiki/{number}");
            (json!({"title": format!("Page {number}"), "url": url, "language": "en", "source": "wikipedia"}), url.clone())
        }
    }
}

/// Writes the files: texts, copies, and lines that are no records.
pub fn write() -> General {
    let mut generator = Generator::named("general");
    let mut expected = SourceExpectation::new("redpajama", "general/*.jsonl.zst", "general");
    let mut texts: Vec<String> = (0..RECORDS).map(|number| write_text(&TOPICS[number % TOPICS.len()], &mut generator)).collect();
    plant(&mut texts, &mut expected);
    let mut lines = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        lines.push(json!({"text": text, "meta": meta(number).0}).to_string());
        expected.document();
        let odd = match number {
            60 => Some(("{\"text\": \"a line that is cut, \"meta\": {", "malformed-json")),
            120 => Some(("{\"meta\": {\"url\": \"https://pages.example/none\"}}", "missing-field")),
            180 => Some(("{\"text\": [\"a list\"], \"meta\": {}}", "wrong-type")),
            240 => Some(("{\"text\": \" \\n\\t \", \"meta\": {}}", "empty-record")),
            _ => None,
        };
        if let Some((line, code)) = odd {
            lines.push(line.to_owned());
            expected.reject(code);
        }
    }
    let half = lines.len() / 2;
    let files = [("general-00000.jsonl.zst", &lines[..half]), ("general-00001.jsonl.zst", &lines[half..])];
    let files = files.map(|(name, lines)| (name.to_owned(), lines.join("\n") + "\n"));
    General { files: files.into(), texts, expected }
}

/// Adds equal, blank-separated, contained and one-number-changed copies.
fn plant(texts: &mut Vec<String>, expected: &mut SourceExpectation) {
    let add = |texts: &mut Vec<String>, from: usize, text: String| {
        texts.push(text);
        [meta(from).1, meta(texts.len() - 1).1]
    };
    for from in 0..4 {
        let text = texts[from].clone();
        expected.exact_pairs.push(add(texts, from, text));
    }
    for from in 10..13 {
        let text = texts[from].replace(". ", ".\n\n  ") + " \n";
        expected.exact_pairs.push(add(texts, from, text));
        expected.whitespace_pairs += 1;
    }
    for from in 20..25 {
        let at = texts[from].rfind(". ").expect("a text has sentences") + 1;
        let text = texts[from][..at].to_owned();
        let [longer, shorter] = add(texts, from, text);
        expected.near_pairs.push([shorter, longer]);
    }
    for from in 30..34 {
        let at = texts[from].rfind(|c: char| c.is_ascii_digit()).expect("a text has numbers");
        let digit = texts[from].as_bytes()[at];
        let other = char::from(if digit == b'9' { b'1' } else { digit + 1 });
        let mut text = texts[from].clone();
        text.replace_range(at..=at, &other.to_string());
        expected.must_keep_pairs.push(add(texts, from, text));
    }
}
