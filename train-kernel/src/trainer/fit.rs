//! What engine a run asks for, and whether a memory holds it: before there is any data.

use super::job::TrainError;
use super::spec::{DeviceKind, TrainSpec};
use crate::backend::{Backend, Cpu, DeviceError};
use crate::engine::{EngineSpec, check_fit};
use crate::gpu::{Gpu, Properties, Unopened};
use crate::model::Model;
use crate::shape::Shape;

/// The engine of a run over so many global positions of sequences of `length` (T) tokens.
pub(super) fn engine_spec(spec: &TrainSpec, seed: u64, total_positions: u64, length: usize) -> EngineSpec {
    let sequences = spec.micro_batch_sequences.min(spec.batch_sequences).min(total_positions);
    EngineSpec {
        precision: spec.precision,
        moments: spec.moments,
        seed,
        recompute: spec.recompute,
        ..EngineSpec::train(sequences as usize, length).with_lora(spec.lora.clone())
    }
}

/// Refuses a training on sequences of up to `length` (T) tokens whose arena takes more than so many bytes of its device.
///
/// # Errors
/// [`TrainError::Device`] with every part's bytes and what would fit, or what the kernels are not made for;
/// [`TrainError::Shape`] for an impossible shape.
pub fn check_memory(spec: &TrainSpec, shape: &Shape, length: usize, available_bytes: u64) -> Result<(), TrainError> {
    let model = Model::new(shape.clone())?;
    let backend: Box<dyn Backend<f32>> = match spec.device {
        DeviceKind::Cpu => Box::new(Cpu::new(shape)),
        DeviceKind::Cuda => Box::new(Gpu::new(Unopened(unknown(available_bytes)), shape)?.with_order(spec.sum_order())),
    };
    let wanted = engine_spec(spec, 0, u64::MAX, length);
    check_fit(backend, (&model, &wanted), available_bytes).map_err(|error| DeviceError::Memory(error).into())
}

/// A card of which nothing but its memory has a part in a plan.
fn unknown(memory_bytes: u64) -> Properties {
    Properties { name: String::new(), capability: (0, 0), multiprocessors: 0, memory_bytes, shared_bytes: u32::MAX }
}
