//! What a run tells the outside while it works, and how the outside asks it to stop. Drawing is the command line's job.

use crate::failure::Signal;

/// Receives progress. Called from several threads; must not block.
pub trait Observer: Sync {
    /// A stage begins with `total` units of work; 0 when the amount is not known.
    fn begin(&self, stage: &'static str, total: u64, unit: Unit);
    /// The amount of work became known, or changed.
    fn grow(&self, total: u64);
    /// So many more units are done.
    fn advance(&self, units: u64);
    /// A short state beside the bar, such as the loss. Never text of a document.
    fn state(&self, text: &str);
    /// The stage is complete.
    fn end(&self, stage: &'static str, summary: &str);
    /// Something that happened, said once.
    fn note(&self, text: &str);
    /// Something a person should read once.
    fn warn(&self, text: &str);
    /// The signal that asked to stop, if one did.
    fn stopped(&self) -> Option<Signal>;
}

/// What a bar counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Input bytes.
    Bytes,
    /// Tasks.
    Tasks,
    /// Optimizer steps.
    Steps,
    /// Evaluation items.
    Items,
}

/// An observer that shows nothing and never stops.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {
    fn begin(&self, _: &'static str, _: u64, _: Unit) {}
    fn grow(&self, _: u64) {}
    fn advance(&self, _: u64) {}
    fn state(&self, _: &str) {}
    fn end(&self, _: &'static str, _: &str) {}
    fn note(&self, _: &str) {}
    fn warn(&self, _: &str) {}
    fn stopped(&self) -> Option<Signal> {
        None
    }
}
