//! Why a command ended, and with which exit code. One table for the whole program; no other place decides an exit code.

use std::error::Error;
use std::io;

use mellama_storage::{ProtocolError, StoreError};

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

    /// The failure of writing an object.
    pub(crate) fn writing(what: &str, error: &(dyn Error + 'static)) -> Failure {
        Failure::of(error, about(what, error), Failure::Storage)
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
        // What an I/O error is made of is no source of it.
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inside.map(|inside| inside as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
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
