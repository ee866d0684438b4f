//! The least that a recipe's run asks of an object store: what a run can be held against that counts what it asked.
//!
//! Counted are reads and writes of objects, the kinds that are billed by number and that grow with the corpus. Every object that a
//! later step needs is read once, every object and record is written once; looks at sizes, listings and the proof before the first
//! work are not in it, nor is anything that a repeated or interrupted run asks again. One process with room in scratch may read
//! less: what it wrote it has.

use mellama_storage::{ObjectEntry, StoreError, Workdir, list_all, requests_to_read, requests_to_write};
use serde::Serialize;

use crate::layout::folder_of;
use crate::location::Location;
use crate::plan::Plan;
use crate::stage::Stage;

/// Where training writes; its earlier checkpoints are named by no record.
const CHECKPOINTS: &str = "checkpoints/";
/// Records of a folder besides those of its stages: the plan and the mark of success.
const OWN_RECORDS: u64 = 2;

/// Requests of the kinds that are billed by number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// Reads of objects, in ranges of 8 MiB.
    pub get: u64,
    /// Writes: one of each short object, and of a long one its beginning, its parts and its end.
    pub put: u64,
}

impl Requests {
    /// Those of one run of all `stages`, whose finished manifests name `objects` and have so many `tasks` in all.
    ///
    /// # Errors
    /// The store's: what training leaves besides its last checkpoint is listed.
    pub(crate) fn of_run(
        workdir: &Workdir,
        plan: &Plan,
        stages: &[Stage],
        objects: &[ObjectEntry],
        tasks: u64,
    ) -> Result<Requests, StoreError> {
        let inputs = plan.objects().filter(|input| matches!(input.base, Location::Bucket(_)));
        let mut requests = Requests {
            get: inputs.map(|input| requests_to_read(input.input_bytes())).sum(),
            put: tasks + stages.len() as u64 + OWN_RECORDS,
        };
        for object in objects.iter().filter(|object| !object.key.starts_with(CHECKPOINTS)) {
            requests.put += requests_to_write(object.bytes);
            let readers = folder_of(&object.key).map_or(&[][..], |folder| folder.readers);
            if readers.iter().any(|reader| stages.contains(reader)) {
                requests.get += requests_to_read(object.bytes);
            }
        }
        for object in list_all(&**workdir.store(), CHECKPOINTS) {
            let object = object?;
            requests.put += requests_to_write(object.size_bytes);
            let is_read = stages.contains(&Stage::Report) && object.key.as_str().ends_with("/manifest.json");
            requests.get += u64::from(is_read);
        }
        Ok(requests)
    }
}
