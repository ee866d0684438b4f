//! Why a command ended, and with which exit code. One table for the whole program; no other place decides an exit code.

use std::error::Error;
use std::io;

use mellama_shards::ShardError;
use mellama_storage::{ProtocolError, StoreError};
use mellama_train::checkpoint::CheckpointError;
use mellama_train::checkpoint::tensor_file::TensorFileError;
use mellama_train::trainer::TrainError;

use crate::inputs::InputError;
use crate::recipe::RecipeError;

/// How a run can end other than by being done; each variant has one exit code of the command line's contract.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A bug, a lost device, or training stopped by its guards: exit 1.
    #[error("{0}")]
    Failed(String),
    /// The recipe, the arguments or a policy forbid it: exit 2.
    #[error("{0}")]
    Policy(String),
    /// Input over its reject budget, over `max_source_loss`, or changed during the run: exit 3.
    #[error("{0}")]
    Input(String),
    /// Storage, disk or credentials: exit 4.
    #[error("{0}")]
    Storage(String),
    /// Published bytes are not what their manifest says: exit 5.
    #[error("{0}")]
    Verification(String),
    /// Something that a later attempt may find better: exit 75.
    #[error("{0}")]
    Temporary(String),
    /// `stage` only: no such task, or already committed: exit 99.
    #[error("{0}")]
    NothingToDo(String),
    /// A call to a store was given up because the process was asked to stop; [`Failure::signalled`] says by which signal.
    #[error("stopped by a signal; run the same command again to continue")]
    Interrupted,
    /// A signal asked to stop; what was committed stays: exit 130 (SIGINT) or 143 (SIGTERM).
    #[error("stopped by a signal; run the same command again to continue")]
    Stopped(Signal),
}

/// The signals that stop a run in good order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT, exit 130.
    Interrupt,
    /// SIGTERM, exit 143.
    Terminate,
}

impl Failure {
    /// The failure of reading an object that a record names: its absence is damage of what was published, not of the storage.
    pub(crate) fn of_published(error: StoreError) -> Failure {
        match error {
            StoreError::NotFound { .. } => {
                Failure::Verification(format!("{}: a record names it; run \"mellama verify\"", chain(&error)))
            }
            error => error.into(),
        }
    }

    /// The failure of some work over a store: what the store said decides, and else `other`.
    pub(crate) fn of(error: &(dyn Error + 'static), text: String, other: fn(String) -> Failure) -> Failure {
        match store_cause(error) {
            Some(cause) => Failure::of_store(cause, text),
            None => other(text),
        }
    }

    /// The failure of reading what a record names: damage, unless the store could not be read.
    pub(crate) fn reading(what: &str, error: &(dyn Error + 'static)) -> Failure {
        match store_cause(error) {
            Some(StoreError::NotFound { .. }) => Failure::Verification(about(what, error)),
            _ => Failure::of(error, about(what, error), Failure::Verification),
        }
    }

    /// The failure of loading weights that somebody named: damage where they are not what their list of digests says, what passes by
    /// itself where a store is in trouble, else a policy matter.
    pub(crate) fn loading(error: &(dyn Error + 'static)) -> Failure {
        let mut cause = Some(error);
        while let Some(inner) = cause {
            if matches!(inner.downcast_ref(), Some(TensorFileError::Digest { .. })) {
                return Failure::Verification(chain(error));
            }
            cause = inner.source();
        }
        Failure::passing_or(error, Failure::Policy)
    }

    /// The failure of writing an object.
    pub(crate) fn writing(what: &str, error: &(dyn Error + 'static)) -> Failure {
        Failure::of(error, about(what, error), Failure::Storage)
    }

    /// What passes by itself behind an error, a signal or a server in trouble; any other is `otherwise`.
    pub(crate) fn passing_or(error: &(dyn Error + 'static), otherwise: impl FnOnce(String) -> Failure) -> Failure {
        match store_cause(error) {
            Some(cause @ (StoreError::Unavailable { .. } | StoreError::Unknown { .. } | StoreError::Interrupted { .. })) => {
                Failure::of_store(cause, chain(error))
            }
            _ => otherwise(chain(error)),
        }
    }

    fn of_store(error: &StoreError, text: String) -> Failure {
        match error {
            StoreError::Changed { .. } => Failure::Input(text),
            StoreError::InvalidKey { .. } | StoreError::Unsupported { .. } | StoreError::OutsideRoot { .. } => {
                Failure::Policy(text)
            }
            // Of a write whose outcome is unknown the same command finds out.
            StoreError::Unavailable { .. } | StoreError::Unknown { .. } => Failure::Temporary(text),
            StoreError::Interrupted { .. } => Failure::Interrupted,
            _ => Failure::Storage(text),
        }
    }

    /// The failure with the signal that was behind it, where one was.
    #[must_use]
    pub fn signalled(self, signal: Option<Signal>) -> Failure {
        match (self, signal) {
            (Failure::Interrupted, Some(signal)) => Failure::Stopped(signal),
            (failure, _) => failure,
        }
    }

    /// The process exit code of this failure.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Failed(_) => 1,
            Failure::Policy(_) => 2,
            Failure::Input(_) => 3,
            Failure::Storage(_) => 4,
            Failure::Verification(_) => 5,
            Failure::Temporary(_) => 75,
            Failure::NothingToDo(_) => 99,
            Failure::Stopped(Signal::Interrupt) => 130,
            Failure::Stopped(Signal::Terminate) | Failure::Interrupted => 143,
        }
    }
}

/// An error and its causes, behind what it is about.
fn about(what: &str, error: &(dyn Error + 'static)) -> String {
    if what.is_empty() { chain(error) } else { format!("{what}: {}", chain(error)) }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// What a store said, wherever it is among the causes of an error.
fn store_cause<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e StoreError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<StoreError>() {
            return Some(found);
        }
        next = inside(error).or_else(|| error.source());
    }
    None
}

/// What an error is made of that does not name it as its source: I/O errors, and those that show another in their place.
fn inside<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return error.get_ref().map(|inside| inside as &(dyn Error + 'static));
    }
    if let Some(ProtocolError::Store(inside)) = error.downcast_ref::<ProtocolError>() {
        return Some(inside);
    }
    match error.downcast_ref::<ShardError>() {
        Some(ShardError::Store(inside)) => return Some(inside),
        Some(ShardError::Protocol(inside)) => return Some(inside),
        _ => {}
    }
    match error.downcast_ref::<CheckpointError>() {
        Some(CheckpointError::Store(inside)) => return Some(inside),
        Some(CheckpointError::Protocol(inside)) => return Some(inside),
        _ => {}
    }
    match error.downcast_ref::<TrainError>() {
        Some(TrainError::Checkpoint(inside)) => Some(&**inside),
        Some(TrainError::Source(inside)) => Some(inside),
        _ => None,
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::of_store(&error, chain(&error))
    }
}

impl From<ProtocolError> for Failure {
    fn from(error: ProtocolError) -> Failure {
        let text = chain(&error);
        match error {
            ProtocolError::Store(error) => error.into(),
            ProtocolError::OtherPlan { .. } => Failure::Policy(text),
            ProtocolError::Damaged { .. } | ProtocolError::Mismatch { .. } | ProtocolError::Record { .. } => {
                Failure::Verification(text)
            }
            _ => Failure::Failed(text),
        }
    }
}

impl From<RecipeError> for Failure {
    fn from(error: RecipeError) -> Failure {
        Failure::Policy(chain(&error))
    }
}

impl From<InputError> for Failure {
    fn from(error: InputError) -> Failure {
        match error {
            InputError::Store(error) => error.into(),
            other => Failure::Policy(chain(&other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use mellama_train::SourceError;

    use super::*;

    #[test]
    fn what_a_store_said_decides_the_code_however_it_is_wrapped() {
        let stopped = || StoreError::Interrupted { object: "s3://corpus/o".into() };
        let io_error = || io::Error::from(stopped());
        let parquet =
            || ShardError::Parquet { subject: "s".into(), source: parquet::errors::ParquetError::External(Box::new(io_error())) };
        let source = SourceError { index: 3, source: Box::new(ShardError::Store(stopped())) };
        let errors: Vec<Box<dyn Error>> = vec![
            Box::new(stopped()),
            Box::new(io_error()),
            Box::new(io::Error::other(io_error())),
            Box::new(ProtocolError::Store(stopped())),
            Box::new(ShardError::Store(stopped())),
            Box::new(ShardError::Protocol(ProtocolError::Store(stopped()))),
            Box::new(parquet()),
            Box::new(CheckpointError::Protocol(ProtocolError::Store(stopped()))),
            Box::new(TrainError::Checkpoint(Box::new(CheckpointError::Store(stopped())))),
            Box::new(TrainError::Source(source)),
        ];
        for error in errors {
            for failure in
                [Failure::reading("o", &*error), Failure::writing("o", &*error), Failure::passing_or(&*error, Failure::Policy)]
            {
                assert_eq!(failure.exit_code(), 143, "{error:?}");
            }
        }
        let gone = ShardError::Store(StoreError::NotFound { object: "s3://corpus/o".into() });
        assert_eq!([Failure::reading("o", &gone), Failure::writing("o", &gone)].map(|failure| failure.exit_code()), [5, 4]);
        let damaged = io::Error::other("a page of another checksum");
        assert_eq!([Failure::reading("o", &damaged), Failure::writing("o", &damaged)].map(|failure| failure.exit_code()), [5, 4]);
        assert_eq!(Failure::passing_or(&damaged, Failure::Policy).exit_code(), 2);
    }
}
