//! Sources whose objects are one sequence of updates: what ingest notes of every record and notice, and what stands at the end.
//!
//! A later record of an id takes the place of the earlier ones, whatever their texts say; notices take records back. It reads
//! no text and decides nothing about other sources.

use std::collections::BTreeMap;

use arrow::array::{StringArray, UInt32Array, UInt64Array};
use mellama_sources::{Retracted, document_id};
use mellama_storage::{ObjectEntry, TaskCommit, Workdir};
use serde_json::{Value, json};

use crate::context::Context;
use crate::documents::Place;
use crate::failure::Failure;
use crate::tables;

/// The row of what is no document.
const NO_ROW: u32 = u32::MAX;

/// What happened at one place of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A record became a document.
    Written,
    /// A record that a rule dropped: it still stands in the place of earlier ones.
    Dropped,
    /// A notice that deletes what stands before it.
    Deleted,
    /// A notice that takes back every record of its id, or a record that says so of itself.
    Retracted,
}

impl Event {
    const ALL: [Event; 4] = [Event::Written, Event::Dropped, Event::Deleted, Event::Retracted];

    fn as_str(self) -> &'static str {
        match self {
            Event::Written => "written",
            Event::Dropped => "dropped",
            Event::Deleted => "deleted",
            Event::Retracted => "retracted",
        }
    }
}

/// One line of the table: a record or a notice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    pub event: Event,
    pub native_id: &'a str,
    pub version: u32,
    /// Index of the object in its task.
    pub object: u32,
    pub byte_offset: u64,
    /// Row and text bytes of a written document.
    pub document: Option<(u32, u64)>,
}

/// Collects the steps of one ingest task.
#[derive(Debug, Default)]
pub(crate) struct SequenceWriter {
    events: Vec<Event>,
    native_ids: Vec<String>,
    versions: Vec<u32>,
    objects: Vec<u32>,
    offsets: Vec<u64>,
    rows: Vec<u32>,
    bytes: Vec<u64>,
}

impl SequenceWriter {
    pub(crate) fn push(&mut self, step: &Step<'_>) {
        let (row, bytes) = step.document.unwrap_or((NO_ROW, 0));
        self.events.push(step.event);
        self.native_ids.push(step.native_id.to_owned());
        self.versions.push(step.version);
        self.objects.push(step.object);
        self.offsets.push(step.byte_offset);
        self.rows.push(row);
        self.bytes.push(bytes);
    }

    /// Publishes `folder/stem-DIGEST.parquet`; nothing when there was no step.
    ///
    /// # Errors
    /// `Failure::Storage`.
    pub(crate) fn publish(self, workdir: &Workdir, folder: &str, stem: &str) -> Result<Option<ObjectEntry>, Failure> {
        if self.events.is_empty() {
            return Ok(None);
        }
        let batch = tables::batch(vec![
            ("event", tables::strings(self.events.iter().map(|event| event.as_str()))),
            ("native_id", tables::strings(&self.native_ids)),
            ("version", tables::u32s(self.versions)),
            ("object", tables::u32s(self.objects)),
            ("byte_offset", tables::u64s(self.offsets)),
            ("row", tables::u32s(self.rows)),
            ("bytes", tables::u64s(self.bytes)),
        ]);
        tables::publish(workdir, folder, stem, &batch).map(Some)
    }
}

/// A document that does not stand at the end of its sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gone {
    pub place: Place,
    /// Document id.
    pub id: String,
    /// Bytes of its text.
    pub bytes: u64,
    pub fate: Fate,
}

/// What became of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It stands.
    Stands,
    /// A later document of its id stands there.
    Replaced(Place),
    /// A later record of its id took its place and was dropped by a rule.
    Superseded,
    /// Deleted by its source.
    Deleted,
    /// Retracted.
    Retracted,
}

impl Fate {
    /// The reason in `removed/` and in counters.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Fate::Stands => "stands",
            Fate::Replaced(_) => mellama_dedup::Rule::SameId.as_str(),
            Fate::Superseded => "superseded",
            Fate::Deleted => "deleted",
            Fate::Retracted => "retracted",
        }
    }
}

/// The sequences of a corpus at their ends.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// By place.
    pub gone: Vec<Gone>,
    /// Counts by source; null where no source is a sequence.
    pub facts: Value,
}

/// Goes through the sequences of all sources that are one.
///
/// # Errors
/// `Failure::Verification` for damaged tables.
pub(crate) fn settle(context: &Context<'_>, commits: &[TaskCommit]) -> Result<Settled, Failure> {
    let mut settled = Settled::default();
    let mut facts = serde_json::Map::new();
    for (index, source) in context.corpus().source.iter().enumerate().filter(|(_, source)| source.is_sequence()) {
        let mut history = History::default();
        for commit in commits.iter().filter(|commit| context.plan.ingest[commit.task as usize].source == index) {
            for entry in commit.objects.iter().filter(|entry| entry.key.starts_with("sequence/")) {
                history.read(context.workdir, commit.task as u32, entry)?;
            }
        }
        let mut gone = history.gone(source.read.retracted);
        for document in &mut gone {
            document.id = document_id(&source.name, &document.id);
        }
        facts.insert(source.name.clone(), history.facts(&gone));
        settled.gone.extend(gone);
    }
    settled.gone.sort_unstable_by_key(|gone| gone.place);
    if !facts.is_empty() {
        settled.facts = facts.into();
    }
    Ok(settled)
}

/// All steps of one source, about 50 bytes and the id for each.
#[derive(Debug, Default)]
struct History {
    /// All native ids end to end.
    ids: String,
    moments: Vec<Moment>,
}

/// A step without its id.
#[derive(Debug, Clone, Copy)]
struct Moment {
    /// Where its id ends in `History::ids`.
    id_end: u64,
    byte_offset: u64,
    bytes: u64,
    task: u32,
    object: u32,
    version: u32,
    row: u32,
    event: Event,
}

impl Moment {
    /// Its place in the sequence of the objects.
    fn position(&self) -> (u32, u32, u64) {
        (self.task, self.object, self.byte_offset)
    }

    fn place(&self) -> Place {
        Place { task: self.task, row: self.row }
    }
}

impl History {
    fn read(&mut self, workdir: &Workdir, task: u32, entry: &ObjectEntry) -> Result<(), Failure> {
        for batch in tables::read(workdir, entry)? {
            let events: &StringArray = tables::column(&batch, "event")?;
            let ids: &StringArray = tables::column(&batch, "native_id")?;
            let versions: &UInt32Array = tables::column(&batch, "version")?;
            let objects: &UInt32Array = tables::column(&batch, "object")?;
            let offsets: &UInt64Array = tables::column(&batch, "byte_offset")?;
            let rows: &UInt32Array = tables::column(&batch, "row")?;
            let bytes: &UInt64Array = tables::column(&batch, "bytes")?;
            for i in 0..batch.num_rows() {
                let event = Event::ALL.into_iter().find(|event| event.as_str() == events.value(i));
                let event = event.ok_or_else(|| Failure::Verification(format!("{}: row {i}: event not known", entry.key)))?;
                self.ids.push_str(ids.value(i));
                self.moments.push(Moment {
                    id_end: self.ids.len() as u64,
                    byte_offset: offsets.value(i),
                    bytes: bytes.value(i),
                    task,
                    object: objects.value(i),
                    version: versions.value(i),
                    row: rows.value(i),
                    event,
                });
            }
        }
        Ok(())
    }

    fn id(&self, index: u32) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.moments[before as usize].id_end);
        &self.ids[start as usize..self.moments[index as usize].id_end as usize]
    }

    /// The documents that do not stand, with their native ids.
    fn gone(&self, retracted: Retracted) -> Vec<Gone> {
        let moment = |index: u32| &self.moments[index as usize];
        let mut order: Vec<u32> = (0..self.moments.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| {
            self.id(a).cmp(self.id(b)).then_with(|| moment(a).position().cmp(&moment(b).position())).then(a.cmp(&b))
        });
        let mut gone = Vec::new();
        for group in order.chunk_by(|&a, &b| self.id(a) == self.id(b)) {
            let moments: Vec<&Moment> = group.iter().map(|&index| moment(index)).collect();
            for (moment, fate) in moments.iter().zip(fates(&moments, retracted)) {
                if moment.event == Event::Written && fate != Fate::Stands {
                    let id = self.id(group[0]).to_owned();
                    gone.push(Gone { place: moment.place(), id, bytes: moment.bytes, fate });
                }
            }
        }
        gone
    }

    fn facts(&self, gone: &[Gone]) -> Value {
        let count = |wanted: Event| self.moments.iter().filter(|moment| moment.event == wanted).count();
        let mut removed: BTreeMap<&str, u64> = BTreeMap::new();
        for document in gone {
            *removed.entry(document.fate.as_str()).or_default() += 1;
        }
        json!({
            "records": count(Event::Written) + count(Event::Dropped),
            "notices": {"deleted": count(Event::Deleted), "retracted": count(Event::Retracted)},
            "removed": removed,
        })
    }
}

/// What becomes of each step of one id, given in the order of the sequence.
fn fates(moments: &[&Moment], retracted: Retracted) -> Vec<Fate> {
    let is_retracted = retracted == Retracted::Drop && moments.iter().any(|moment| moment.event == Event::Retracted);
    let deleted_before = moments.iter().rposition(|moment| moment.event == Event::Deleted).unwrap_or(0);
    let is_record = |moment: &Moment| matches!(moment.event, Event::Written | Event::Dropped);
    // The last of the highest version: `max_by_key` takes the last of equals.
    let winner = (deleted_before..moments.len()).filter(|&i| is_record(moments[i])).max_by_key(|&i| moments[i].version);
    let fate = |i: usize| match winner {
        _ if is_retracted => Fate::Retracted,
        _ if i < deleted_before => Fate::Deleted,
        Some(winner) if winner == i => Fate::Stands,
        Some(winner) if moments[winner].event == Event::Written => Fate::Replaced(moments[winner].place()),
        _ => Fate::Superseded,
    };
    (0..moments.len()).map(fate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `w1`: a document of version 1; `d2`: a dropped record of version 2; `-`: deleted; `!`: retracted. The task's number is
    /// the position. Fates: `.` stands or is no document, `>N` replaced by position N, `s`, `-`, `!`.
    fn check(steps: &str, expected: &str) {
        check_with(steps, Retracted::Drop, expected);
    }

    fn check_with(steps: &str, retracted: Retracted, expected: &str) {
        let mut history = History::default();
        for (task, step) in steps.split(' ').enumerate() {
            let (event, version) = match step.split_at(1) {
                ("w", version) => (Event::Written, version),
                ("d", version) => (Event::Dropped, version),
                ("-", _) => (Event::Deleted, "1"),
                _ => (Event::Retracted, "1"),
            };
            history.ids.push('7');
            history.moments.push(Moment {
                id_end: history.ids.len() as u64,
                byte_offset: 0,
                bytes: 1,
                task: task as u32,
                object: 0,
                version: version.parse().unwrap(),
                row: 0,
                event,
            });
        }
        let mut found = vec![".".to_owned(); history.moments.len()];
        for gone in history.gone(retracted) {
            assert_eq!(gone.id, "7");
            found[gone.place.task as usize] = match gone.fate {
                Fate::Replaced(place) => format!(">{}", place.task),
                Fate::Superseded => "s".into(),
                Fate::Deleted => "-".into(),
                Fate::Retracted => "!".into(),
                Fate::Stands => "?".into(),
            };
        }
        assert_eq!(found.join(" "), expected, "{steps}");
    }

    #[test]
    fn the_last_record_of_the_highest_version_stands() {
        check("w1", ".");
        check("w1 w1 w1", ">2 >2 .");
        check("w1 w2 w1", ">1 . >1");
        check("w2 w1 w2 w1", ">2 >2 . >2");
    }

    #[test]
    fn a_dropped_record_stands_in_the_place_of_earlier_ones() {
        check("w1 d1", "s .");
        check("w1 d1 w1", ">2 . .");
        check("w1 d2 w1", "s . s");
        check("d1 w1", ". .");
    }

    #[test]
    fn a_deletion_takes_what_stands_before_it() {
        check("w1 -", "- .");
        check("w1 - w1", "- . .");
        check("w2 - w1", "- . .");
        check("w1 - w1 -", "- . - .");
        check("- w1", ". .");
        check("w1 w1 -", "- - .");
        check("w1 - w1 w1", "- . >3 .");
    }

    #[test]
    fn a_retraction_takes_every_record() {
        check("w1 !", "! .");
        check("! w1 w2", ". ! !");
        check("w1 - ! w1", "! . . !");
        check_with("w1 ! w2", Retracted::Keep, ">2 . .");
        check_with("w1 - !", Retracted::Keep, "- . .");
    }

    #[test]
    fn ids_are_told_apart_and_steps_are_taken_in_the_order_of_the_objects() {
        let moment = |id_end, task, byte_offset| Moment {
            id_end,
            byte_offset,
            bytes: 1,
            task,
            object: 0,
            version: 1,
            row: byte_offset as u32,
            event: Event::Written,
        };
        let moments = vec![moment(2, 1, 5), moment(4, 0, 3), moment(5, 0, 4), moment(7, 1, 2)];
        let history = History { ids: "11112".to_owned() + "11", moments };
        let gone = history.gone(Retracted::Drop);
        let stands = Place { task: 1, row: 5 };
        let expected: Vec<(Place, Fate)> =
            [(0, 3), (1, 2)].map(|(task, row)| (Place { task, row }, Fate::Replaced(stands))).into();
        assert_eq!(gone.iter().map(|gone| (gone.place, gone.fate)).collect::<Vec<_>>(), expected);
    }
}
