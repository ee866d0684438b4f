//! The clinical files: invented notes in the layouts of MIMIC-III's NOTEEVENTS and MIMIC-IV's discharge table.

use crate::expected::{Leak, SourceExpectation};
use crate::generator::Generator;
use crate::literature::one;
use crate::phrases::{fill, statement, words_of};
use crate::questions::LongItem;
use crate::world::{CONDITIONS, Condition, Relation};

/// A note before it is a row.
#[derive(Clone, Debug)]
struct Note {
    subject: u64,
    category: &'static str,
    description: &'static str,
    text: String,
}

/// A table's CSV, the texts of its good rows, and what is expected of them.
pub struct Table {
    /// CSV with a header.
    pub csv: String,
    /// Text of each document.
    pub texts: Vec<String>,
    /// Expectation of the source.
    pub expected: SourceExpectation,
}

/// How a release marks what was taken out.
#[derive(Clone, Copy)]
enum Marks {
    /// `[**Last Name 12**]`
    Brackets,
    /// `___`
    Underscores,
}

impl Marks {
    fn mark(self, what: &str, generator: &mut Generator) -> String {
        match self {
            Self::Underscores => "___".to_owned(),
            Self::Brackets if what == "date" => {
                let (year, month) = (generator.between(2101, 2199), generator.between(1, 12));
                format!("[**{year}-{month}-{}**]", generator.between(1, 28))
            }
            Self::Brackets => format!("[**{what} {}**]", generator.between(1, 99_999)),
        }
    }
}

const COURSE: [&str; 12] = [
    "On day {#2-9} the dose of {d} was raised to {#10-90} mg.",
    "{S} had eased by day {#2-9}.",
    "Vital signs: pulse {#55-120}, pressure {#95-170}/{#50-95}, temperature {%36-39}.",
    "White cells {%3-19}, platelets {#90-440}.",
    "Ultrasound of the {o} showed a change of {#3-39} mm.",
    "Slept {#3-9} hours with one waking.",
    "Ate {#30-95} % of each meal and drank {%1-3} litres.",
    "Walked {#10-190} metres with one rest.",
    "A test for {g} was sent to the laboratory.",
    "Family asked about the outlook and was told what is known.",
    "No fall, no rash, no new pain.",
    "Fluid balance was minus {#100-900} ml over the shift.",
];

/// A note of admission to discharge, of 110 to 170 words.
fn long_note(condition: &Condition, marks: Marks, generator: &mut Generator) -> String {
    let [c, d, s, g, o] = words_of(condition);
    let name = marks.mark("Known lastname", generator);
    let hospital = marks.mark("Hospital", generator);
    let (admitted, left) = (marks.mark("date", generator), marks.mark("date", generator));
    let words = [c, d, s, g, o, ("name", &*name), ("hospital", &*hospital), ("in", &*admitted), ("out", &*left)];
    let mut out = fill(
        "Admission Date: {in}    Discharge Date: {out}\n\nService: MEDICINE\n\nHISTORY OF PRESENT ILLNESS:\n{name} is a \
         {#19-88} year old patient with {c}, seen at {hospital} with {s} for {#2-40} days.\n\nHOSPITAL COURSE:\n",
        &words,
        generator,
    );
    let mut course: Vec<&str> = COURSE.to_vec();
    generator.shuffle(&mut course);
    let mut sentences: Vec<String> = course[..7].iter().map(|template| one(&[template], condition, generator)).collect();
    sentences.push(statement(condition, Relation::Drug, generator));
    sentences.push(statement(condition, generator.pick(&Relation::ALL), generator));
    out += &sentences.join(" ");
    out += &fill(
        "\n\nDISCHARGE MEDICATIONS:\n1. {d} {#5-95} mg by mouth every {#4-24} hours\n2. Vitamin drops {#1-9} ml daily\n\n\
         FOLLOW UP: clinic in {#1-12} weeks, patient said \"I feel better\".\n",
        &words,
        generator,
    );
    out
}

/// A radiology report in which only one number is not the template's.
fn template_report(number: u64) -> String {
    format!(
        "CHEST PORTABLE AP\n\nREASON: routine check after line placement.\n\nFINDINGS: The line ends {number} mm above the carina. \
         The heart is of normal size. The lungs are clear. There is no effusion and no free air.\n\nIMPRESSION: No acute process."
    )
}

fn nursing_note(condition: &Condition, generator: &mut Generator) -> String {
    let mut course: Vec<&str> = COURSE.to_vec();
    generator.shuffle(&mut course);
    let mut text = fill("NPN {#7-19}:00. Patient with {c}. ", &words_of(condition), generator);
    for template in &course[..4] {
        text += &one(&[template], condition, generator);
        text += "\n";
    }
    text + &statement(condition, generator.pick(&Relation::ALL), generator)
}

/// MIMIC-III's table: notes of all kinds, copies, copied-forward notes, marked errors and a ragged row.
pub fn write_noteevents(leak: &LongItem) -> Table {
    let mut generator = Generator::named("noteevents");
    let mut expected = SourceExpectation::new("mimic-notes", "notes/NOTEEVENTS.csv.gz", "clinical");
    let mut notes = Vec::new();
    for number in 0..60 {
        let condition = &CONDITIONS[number % CONDITIONS.len()];
        let text = long_note(condition, Marks::Brackets, &mut generator);
        notes.push(Note { subject: 70_000 + number as u64, category: "Discharge summary", description: "Report", text });
    }
    for number in 0..44 {
        let condition = &CONDITIONS[number * 5 % CONDITIONS.len()];
        let text = nursing_note(condition, &mut generator);
        notes.push(Note { subject: 70_000 + number as u64, category: "Nursing", description: "Report", text });
    }
    for number in 0..24 {
        let text = template_report(11 + number);
        notes.push(Note { subject: 71_000 + number, category: "Radiology", description: "CHEST (PORTABLE AP)", text });
    }
    plant(&mut notes, leak, &mut expected);
    let mut csv =
        "\"ROW_ID\",\"SUBJECT_ID\",\"HADM_ID\",\"CHARTDATE\",\"CHARTTIME\",\"STORETIME\",\"CATEGORY\",\"DESCRIPTION\",\"CGID\",\
        \"ISERROR\",\"TEXT\"\n"
            .to_owned();
    for (number, note) in notes.iter().enumerate() {
        csv += &note.mimic_3_row(number as u64 + 1, "");
        expected.document();
        if number == 50 {
            csv += &note.mimic_3_row(9001, "1");
            expected.reject("marked-erroneous");
            csv += "9002,70000,1,2150-01-01\n";
            expected.reject("malformed-csv");
        }
        if number == 100 {
            csv += &note.mimic_3_row(9003, "1");
            expected.reject("marked-erroneous");
            let empty = Note { text: " \n ".to_owned(), ..note.clone() };
            csv += &empty.mimic_3_row(9004, "");
            expected.reject("empty-record");
        }
    }
    Table { csv, texts: notes.into_iter().map(|note| note.text).collect(), expected }
}

/// Adds copies to MIMIC-III's notes. Row ids are places from 1.
fn plant(notes: &mut Vec<Note>, leak: &LongItem, expected: &mut SourceExpectation) {
    let add = |notes: &mut Vec<Note>, from: usize, text: String| {
        notes.push(Note { text, ..notes[from].clone() });
        [(from + 1).to_string(), notes.len().to_string()]
    };
    for from in 0..3 {
        let text = notes[from].text.clone();
        expected.exact_pairs.push(add(notes, from, text));
    }
    for from in 3..5 {
        let text = notes[from].text.replace(". ", ".  ") + "\n";
        expected.exact_pairs.push(add(notes, from, text));
        expected.whitespace_pairs += 1;
    }
    for from in 8..12 {
        let text = notes[from].text.clone() + "\nADDENDUM: copied forward, no change overnight.\n";
        expected.near_pairs.push(add(notes, from, text));
    }
    for from in 14..17 {
        let weeks = |text: &str| text.replace("FOLLOW UP: clinic in ", "FOLLOW UP: clinic in 1");
        let text = weeks(&notes[from].text);
        expected.must_keep_pairs.push(add(notes, from, text));
    }
    for number in (104..128).step_by(2) {
        expected.must_keep_pairs.push([(number + 1).to_string(), (number + 2).to_string()]);
    }
    let text = &mut notes[40].text;
    *text = text.replacen("HOSPITAL COURSE:\n", &format!("HOSPITAL COURSE:\n{} ", leak.question), 1);
    expected.contaminated.push(Leak { document: "41".to_owned(), item: leak.id.clone() });
}

impl Note {
    fn mimic_3_row(&self, row: u64, error: &str) -> String {
        let Self { subject, category, description, .. } = self;
        format!(
            "{row},{subject},{},2150-03-{:02},,,\"{category}\",\"{description}\",,{error},{}\n",
            subject + 100_000,
            row % 28 + 1,
            quoted(&self.text)
        )
    }
}

/// MIMIC-IV's table: discharge notes, an equal pair, a pair that differs in what was taken out, and a ragged row.
pub fn write_discharge() -> Table {
    let mut generator = Generator::named("discharge");
    let mut expected = SourceExpectation::new("mimic-notes", "notes/discharge.csv.gz", "clinical");
    let mut csv = "note_id,subject_id,hadm_id,note_type,note_seq,charttime,storetime,text\n".to_owned();
    let mut texts: Vec<String> =
        (0..40).map(|number| long_note(&CONDITIONS[number * 7 % CONDITIONS.len()], Marks::Underscores, &mut generator)).collect();
    let id = |number: usize| format!("{}-DS-1", 10_000_000 + number);
    texts.push(texts[5].clone());
    expected.exact_pairs.push([id(5), id(40)]);
    texts.push(texts[6].replace("___ is a", "_____ is a") + "Signed electronically.\n");
    expected.near_pairs.push([id(6), id(41)]);
    for (number, text) in texts.iter().enumerate() {
        // The note with a line more is of the same subject; the equal one is not.
        let subject = if number == 41 { 6 } else { number };
        csv += &format!(
            "{},{},{},DS,1,2180-05-{:02} 00:00:00,,{}\n",
            id(number),
            10_000_000 + subject,
            20_000_000 + number,
            number % 28 + 1,
            quoted(text)
        );
        expected.document();
    }
    csv += "10009999-DS-1,10009999,1,DS,1,2180-05-01 00:00:00,,\"a note\",one field too many\n";
    expected.reject("malformed-csv");
    Table { csv, texts, expected }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}
