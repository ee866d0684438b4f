//! Readers of objects that are read from their beginning, part by part: kept from one part to the next that this process reads,
//! so that only what other processes have read is passed over.

use std::sync::Mutex;

use mellama_sources::{Part, SequentialReader};

use crate::inputs::InputObject;

/// Readers that wait for a later part of their object.
#[derive(Default)]
pub(crate) struct KeptReaders(Mutex<Vec<Kept>>);

/// A reader, its object, and the source that it is read for.
struct Kept {
    source: usize,
    input: InputObject,
    reader: Box<SequentialReader>,
}

impl KeptReaders {
    /// The reader of an object that is nearest before a part, if one waits; it waits no more.
    pub(super) fn take(&self, source: usize, input: &InputObject, part: &Part) -> Option<Box<SequentialReader>> {
        let mut all = self.0.lock().expect("no holder panics");
        let fits =
            |kept: &Kept| kept.source == source && kept.input.place() == input.place() && kept.reader.place() <= part.first;
        let fitting = all.iter().enumerate().filter(|(_, kept)| fits(kept));
        let (nearest, _) = fitting.max_by_key(|(_, kept)| kept.reader.place())?;
        Some(all.swap_remove(nearest).reader)
    }

    /// Keeps a reader that stands behind a part, unless that was the last one of its object.
    pub(super) fn keep(&self, source: usize, input: &InputObject, reader: Box<SequentialReader>) {
        if reader.place() < u64::MAX {
            self.0.lock().expect("no holder panics").push(Kept { source, input: input.clone(), reader });
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mellama_sources::{Item, ReadError, Reader};
    use mellama_storage::MemoryStore;

    use super::*;
    use crate::inputs::InputStore;
    use crate::location::Location;

    /// An object without records.
    struct Nothing;

    impl Reader for Nothing {
        fn next(&mut self) -> Option<Result<Item, ReadError>> {
            None
        }
    }

    fn part(first: u64, end: u64) -> Part {
        Part { first, end, frame: None, stored_bytes: 1, is_sequential: true }
    }

    /// A reader behind such a part.
    fn behind(end: u64) -> Box<SequentialReader> {
        let mut reader = Box::new(SequentialReader::new(Box::new(Nothing)));
        assert!(reader.next_of(&part(0, end)).is_none());
        reader
    }

    fn object(store: &str) -> InputObject {
        InputObject {
            name: "notes.csv".into(),
            base: Location::of("/"),
            store: InputStore(Arc::new(MemoryStore::new(store))),
            key: "notes.csv".into(),
            size_bytes: 1,
            etag: String::new(),
            part: None,
        }
    }

    #[test]
    fn the_nearest_reader_of_the_same_object_is_taken_once() {
        let (kept, here, there) = (KeptReaders::default(), object("here"), object("there"));
        for end in [10, 30, 20, u64::MAX] {
            kept.keep(0, &here, behind(end));
        }
        // One that stands behind the last part is let go.
        assert_eq!(kept.count(), 3);
        let take = |source, input, first| kept.take(source, input, &part(first, 99)).map(|reader| reader.place());
        assert_eq!(take(0, &there, 40), None, "an object of that name in another store");
        assert_eq!(take(1, &here, 40), None, "another source");
        assert_eq!(take(0, &here, 9), None);
        assert_eq!([take(0, &here, 25), take(0, &here, 25), take(0, &here, 25)], [Some(20), Some(10), None]);
        kept.clear();
        assert_eq!(kept.count(), 0);
    }
}
