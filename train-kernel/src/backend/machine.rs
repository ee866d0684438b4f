//! What computes a run: the processor, or a card.

use std::fmt::Debug;

use serde_json::Value;

use super::{Backend, Cpu, DeviceError};
use crate::shape::Shape;

/// Makes the backend of a run, once its model is known.
pub trait Machine: Debug + Send + Sync {
    /// A backend for models of this shape, which computes as the one that had these [`Backend::choices`], where it can.
    ///
    /// # Errors
    /// [`DeviceError`] when the machine cannot be used, or not for this shape.
    fn backend(&self, shape: &Shape, choices: Option<&Value>) -> Result<Box<dyn Backend<f32>>, DeviceError>;
}

/// This machine's processor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Processor;

impl Machine for Processor {
    fn backend(&self, shape: &Shape, _choices: Option<&Value>) -> Result<Box<dyn Backend<f32>>, DeviceError> {
        Ok(Box::new(Cpu::new(shape)))
    }
}
