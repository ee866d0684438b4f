//! Which passes are recorded: the first under a key is done as it is asked for, the second is recorded and then done, the later
//! ones are done from the recording. Knows nothing of the driver.
//!
//! The first one is there so that everything a recording must not do has been done by then: choosing how matrices are
//! multiplied, and loading code that the driver loads at its first use.

use std::collections::BTreeMap;

/// Recordings that are kept; passes under more keys than this are never recorded.
pub(super) const MAX_RECORDINGS: usize = 64;

/// What became of the passes under a key.
#[derive(Debug)]
enum Known<R> {
    Done,
    Recorded(R),
}

/// What is to be done at a pass's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// Its operations, one by one.
    Do,
    /// Recording, and then its operations.
    Record,
    /// What [`Passes::recording`] gives.
    Replay,
}

/// A pass that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    key: u64,
    is_recorded: bool,
}

/// The passes of a card.
#[derive(Debug)]
pub(super) struct Passes<R> {
    known: BTreeMap<u64, Known<R>>,
    most: usize,
    open: Option<Open>,
}

impl<R> Passes<R> {
    /// No passes yet; at most `most` are recorded.
    pub(super) fn new(most: usize) -> Self {
        Self { known: BTreeMap::new(), most, open: None }
    }

    /// Whether a pass is under way.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether its operations are being recorded.
    pub(super) fn is_recording(&self) -> bool {
        self.open.is_some_and(|open| open.is_recorded)
    }

    /// Begins a pass; one that is replayed has ended already.
    pub(super) fn begin(&mut self, key: u64) -> Begin {
        debug_assert!(!self.is_open(), "a pass begins in a pass");
        let begin = match self.known.get(&key) {
            None => Begin::Do,
            Some(Known::Done) => Begin::Record,
            Some(Known::Recorded(_)) => return Begin::Replay,
        };
        if begin == Begin::Do && self.known.len() < self.most {
            self.known.insert(key, Known::Done);
        }
        self.open = Some(Open { key, is_recorded: begin == Begin::Record });
        begin
    }

    /// Ends a pass; its key when it was being recorded, for [`Self::keep`].
    pub(super) fn end(&mut self) -> Option<u64> {
        let open = self.open.take();
        debug_assert!(open.is_some(), "a pass ends that did not begin");
        open.filter(|open| open.is_recorded).map(|open| open.key)
    }

    /// Keeps what was recorded.
    pub(super) fn keep(&mut self, key: u64, recording: R) {
        self.known.insert(key, Known::Recorded(recording));
    }

    /// What was recorded under a key.
    pub(super) fn recording(&self, key: u64) -> Option<&R> {
        match self.known.get(&key)? {
            Known::Done => None,
            Known::Recorded(recording) => Some(recording),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_done_then_recorded_then_repeated() {
        let mut passes: Passes<&str> = Passes::new(2);
        assert_eq!(passes.begin(7), Begin::Do);
        assert!(passes.is_open() && !passes.is_recording());
        assert_eq!(passes.end(), None);
        assert_eq!(passes.begin(7), Begin::Record);
        assert!(passes.is_recording());
        assert_eq!(passes.end(), Some(7));
        assert!(!passes.is_open() && !passes.is_recording());
        assert_eq!(passes.recording(7), None);
        passes.keep(7, "seven");
        for _ in 0..3 {
            assert_eq!(passes.begin(7), Begin::Replay);
            assert_eq!(passes.recording(7), Some(&"seven"));
            assert!(!passes.is_open(), "what is repeated is not asked for");
        }
    }

    #[test]
    fn a_recording_that_failed_is_tried_again() {
        let mut passes: Passes<()> = Passes::new(2);
        passes.begin(1);
        passes.end();
        assert_eq!(passes.begin(1), Begin::Record);
        assert_eq!(passes.end(), Some(1));
        assert_eq!(passes.begin(1), Begin::Record);
    }

    #[test]
    fn passes_beyond_the_limit_are_never_recorded() {
        let mut passes: Passes<()> = Passes::new(1);
        for key in [1, 2] {
            passes.begin(key);
            passes.end();
        }
        assert_eq!(passes.begin(1), Begin::Record);
        passes.end();
        for _ in 0..3 {
            assert_eq!(passes.begin(2), Begin::Do);
            passes.end();
        }
        let mut none: Passes<()> = Passes::new(0);
        for _ in 0..3 {
            assert_eq!(none.begin(1), Begin::Do);
            none.end();
        }
    }
}
