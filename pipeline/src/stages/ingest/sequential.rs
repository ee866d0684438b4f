//! Readers of objects that are read from their beginning, part by part: kept from one part to the next that this process reads,
//! so that only what other processes have read is passed over.

use std::sync::Mutex;

use mellama_sources::{Part, SequentialReader};

use super::read_failure;
use crate::context::Context;
use crate::failure::Failure;
use crate::inputs::InputObject;

/// Bytes of the decompressed stream between two looks at whether a signal asks to stop: some tenths of a second.
const STEP_BYTES: u64 = 64 << 20;

/// Source and name of an object, and its reader.
type Kept = (usize, String, Box<SequentialReader>);

/// Readers that wait for a later part of their object.
#[derive(Default)]
pub(crate) struct KeptReaders(Mutex<Vec<Kept>>);

impl KeptReaders {
    /// The reader of an object that is nearest before a part, if one waits; it waits no more.
    pub(super) fn take(&self, source: usize, input: &InputObject, part: &Part) -> Option<Box<SequentialReader>> {
        let mut kept = self.0.lock().expect("no holder panics");
        let fits = |(of, name, reader): &Kept| *of == source && *name == input.name && reader.place() <= part.first;
        let fitting = kept.iter().enumerate().filter(|(_, kept)| fits(kept));
        let (nearest, _) = fitting.max_by_key(|(_, (_, _, reader))| reader.place())?;
        Some(kept.swap_remove(nearest).2)
    }

    /// Keeps a reader that stands behind a part, unless that was the last one of its object.
    pub(super) fn keep(&self, source: usize, input: &InputObject, reader: Box<SequentialReader>) {
        if reader.place() < u64::MAX {
            self.0.lock().expect("no holder panics").push((source, input.name.clone(), reader));
        }
    }

    /// Readers that wait.
    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Lets all go: nobody comes for them any more.
    pub(super) fn clear(&self) {
        self.0.lock().expect("no holder panics").clear();
    }
}

/// Brings a reader to a part.
///
/// # Errors
/// Those of reading, and `Failure::Stopped` when a signal has asked to stop on the way.
pub(super) fn approach(
    context: &Context<'_>,
    input: &InputObject,
    part: &Part,
    reader: &mut SequentialReader,
) -> Result<(), Failure> {
    while !reader.approach(part, STEP_BYTES).map_err(|e| read_failure(input, &e))? {
        context.check_stop()?;
    }
    Ok(())
}
