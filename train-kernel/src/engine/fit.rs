//! What would fit a memory that is too small: arenas of other sizes, which are planned and never allocated.
//!
//! It proposes what changes no result but by rounding, recompute modes and micro-batches, and knows nothing of recipes.

use super::{EngineSpec, LaidOut, Recompute};
use crate::backend::{AllocationError, Backend, DeviceError};
use crate::model::Model;
use crate::real::Real;

/// A training that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fitting {
    recompute: Recompute,
    /// Sequences of a micro-batch.
    sequences: usize,
    bytes: u64,
}

impl Fitting {
    fn words(self) -> String {
        let Self { recompute, sequences, bytes } = self;
        format!("recompute = \"{}\" with micro_batch_sequences = {sequences} ({bytes} bytes)", recompute.as_str())
    }
}

/// Refuses what takes more than so many bytes of this backend's memory, without allocating anything.
///
/// # Errors
/// [`AllocationError`] with every part's bytes, and what would fit.
pub fn check_fit<E: Real>(
    mut backend: Box<dyn Backend<E>>,
    (model, spec): (&Model, &EngineSpec),
    available_bytes: u64,
) -> Result<(), AllocationError> {
    let plan = LaidOut::new(&mut *backend, model, spec).plan;
    if plan.total_bytes() as u64 <= available_bytes {
        return Ok(());
    }
    let remedy = remedy(&mut *backend, (model, spec), available_bytes);
    Err(plan.refused(Some(available_bytes), remedy))
}

/// The refusal of a backend, which is of no use afterwards, with what would fit where that can be known.
pub(super) fn with_what_fits<E: Real>(
    error: DeviceError,
    backend: &mut dyn Backend<E>,
    of: (&Model, &EngineSpec),
) -> DeviceError {
    match error {
        DeviceError::Memory(error @ AllocationError { available_bytes: Some(available), .. }) => {
            DeviceError::Memory(AllocationError { remedy: remedy(backend, of, available), ..error })
        }
        error => error,
    }
}

fn remedy<E: Real>(backend: &mut dyn Backend<E>, (model, spec): (&Model, &EngineSpec), available_bytes: u64) -> String {
    if !spec.trains() {
        return "take a smaller model, fewer tokens at once, or a machine with more memory".to_owned();
    }
    let sequences = (spec.rows / spec.positions.max(1)).max(1);
    let mut bytes = |recompute: Recompute, sequences: usize| {
        let other = EngineSpec { recompute, rows: sequences * spec.positions, ..spec.clone() };
        LaidOut::new(&mut *backend, model, &other).plan.total_bytes() as u64
    };
    let fitting = fitting((spec.recompute, sequences), available_bytes, &mut bytes);
    if fitting.is_empty() {
        let least = Fitting { recompute: Recompute::Full, sequences: 1, bytes: bytes(Recompute::Full, 1) };
        let remedy = "take a smaller model, shorter sequences, adapters, or a machine with more memory";
        return format!("nothing of it fits, the least is {}; {remedy}", least.words());
    }
    let words: Vec<String> = fitting.into_iter().map(Fitting::words).collect();
    format!("what fits is {}", words.join(", or "))
}

/// For each mode from the one asked for on the largest micro-batch that fits; not those that are slower and hold no more.
fn fitting(
    (recompute, sequences): (Recompute, usize),
    available_bytes: u64,
    bytes: &mut dyn FnMut(Recompute, usize) -> u64,
) -> Vec<Fitting> {
    let mut found: Vec<Fitting> = Vec::new();
    for mode in Recompute::ALL.into_iter().filter(|mode| *mode >= recompute) {
        let most = largest(sequences, &mut |count| bytes(mode, count) <= available_bytes);
        if most > found.last().map_or(0, |before| before.sequences) {
            found.push(Fitting { recompute: mode, sequences: most, bytes: bytes(mode, most) });
        }
    }
    found
}

/// The largest number up to `most` that does, where all below it do, too; 0 when none does.
fn largest(most: usize, does: &mut dyn FnMut(usize) -> bool) -> usize {
    let (mut good, mut bad) = (0, most + 1);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if does(middle) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    good
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Fitting, check_fit, fitting, largest};
    use crate::backend::{AllocationError, Backend, Cpu, DeviceError};
    use crate::engine::{Engine, EngineSpec, Precision, Recompute};
    use crate::gpu::{Gpu, Properties, Unopened};
    use crate::model::Model;
    use crate::shape::Shape;

    #[test]
    fn the_largest_number_is_found() {
        for most in 1..9 {
            for limit in 0..12 {
                assert_eq!(largest(most, &mut |count| count <= limit), limit.min(most), "{limit} of {most}");
            }
        }
    }

    #[test]
    fn modes_that_are_slower_and_hold_no_more_are_not_proposed() {
        // A sequence takes 40, 30, 30, 10.
        let each = |mode: Recompute| [40, 30, 30, 10][Recompute::ALL.iter().position(|one| *one == mode).unwrap()];
        let check = |asked, available, expected: &[(Recompute, usize)]| {
            let found = fitting(asked, available, &mut |mode, count| each(mode) * count as u64);
            let of = |(recompute, sequences): (Recompute, usize)| Fitting {
                recompute,
                sequences,
                bytes: each(recompute) * sequences as u64,
            };
            assert_eq!(found, expected.iter().copied().map(of).collect::<Vec<_>>(), "{asked:?} in {available}");
        };
        check((Recompute::None, 4), 95, &[(Recompute::None, 2), (Recompute::SelA, 3), (Recompute::Full, 4)]);
        check((Recompute::SelB, 4), 95, &[(Recompute::SelB, 3), (Recompute::Full, 4)]);
        check((Recompute::None, 4), 35, &[(Recompute::SelA, 1), (Recompute::Full, 3)]);
        check((Recompute::None, 4), 9, &[]);
    }

    fn shape() -> Shape {
        let tiny = Shape::named("tiny", 97).unwrap();
        Shape { width: 128, feed_forward: 344, layers: 4, heads: 2, kv_heads: 1, max_positions: 64, ..tiny }
    }

    fn spec(recompute: Recompute, sequences: usize) -> EngineSpec {
        EngineSpec { recompute, precision: Precision::Bf16, ..EngineSpec::train(sequences, 64) }
    }

    fn processor() -> Box<dyn Backend<f32>> {
        Box::new(Cpu::new(&shape()))
    }

    fn card(memory_bytes: u64) -> Box<dyn Backend<f32>> {
        let properties =
            Properties { name: "a card".to_owned(), capability: (8, 0), multiprocessors: 1, memory_bytes, shared_bytes: 166_912 };
        Box::new(Gpu::new(Unopened(properties), &shape()).unwrap())
    }

    fn refused(backend: Box<dyn Backend<f32>>, spec: &EngineSpec, available: u64) -> AllocationError {
        check_fit(backend, (&Model::new(shape()).unwrap(), spec), available).unwrap_err()
    }

    /// The bytes of an arena, as its refusal tells them.
    fn bytes(backend: Box<dyn Backend<f32>>, spec: &EngineSpec) -> u64 {
        refused(backend, spec, 0).needed_bytes
    }

    #[test]
    fn what_is_proposed_fits_and_one_sequence_more_does_not() {
        let of_card = || card(0);
        for backend in [&processor as &dyn Fn() -> Box<dyn Backend<f32>>, &of_card] {
            let asked = spec(Recompute::SelA, 8);
            let available = bytes(backend(), &spec(Recompute::SelB, 5)) + 1;
            let error = refused(backend(), &asked, available);
            assert_eq!((error.needed_bytes, error.available_bytes), (bytes(backend(), &asked), Some(available)));
            let proposals: Vec<&str> = error.remedy.strip_prefix("what fits is ").unwrap().split(", or ").collect();
            assert!(proposals.len() > 1 && proposals.iter().any(|words| words.contains("\"sel-b\" with")), "{}", error.remedy);
            for words in proposals {
                let mode = *Recompute::ALL.iter().find(|mode| words.contains(&format!("\"{}\"", mode.as_str()))).unwrap();
                let number = |after: &str| -> u64 {
                    let rest = &words[words.find(after).unwrap() + after.len()..];
                    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
                };
                let sequences = number("micro_batch_sequences = ") as usize;
                assert_eq!(number(" ("), bytes(backend(), &spec(mode, sequences)), "{words}");
                assert!(number(" (") <= available && mode >= asked.recompute, "{words}");
                assert!(sequences == 8 || bytes(backend(), &spec(mode, sequences + 1)) > available, "{words}");
            }
            let model = Model::new(shape()).unwrap();
            assert!(check_fit(backend(), (&model, &spec(Recompute::SelB, 5)), available).is_ok());
        }
    }

    #[test]
    fn where_nothing_fits_the_least_is_told() {
        let least = bytes(card(0), &spec(Recompute::Full, 1));
        let error = refused(card(0), &spec(Recompute::None, 8), least - 1);
        let expected =
            format!("the least is recompute = \"full\" with micro_batch_sequences = 1 ({least} bytes); take a smaller model");
        assert!(error.to_string().contains(&expected), "{error}");
    }

    #[test]
    fn a_device_without_the_memory_is_refused_in_the_same_words() {
        let (asked, model) = (spec(Recompute::None, 8), Arc::new(Model::new(shape()).unwrap()));
        let available = bytes(card(0), &spec(Recompute::SelB, 4));
        let expected = refused(card(0), &asked, available);
        let error = Engine::new(card(available), model, asked).unwrap_err();
        assert_eq!(error, DeviceError::Memory(expected));
        assert!(error.to_string().contains("recompute = \"sel-b\" with micro_batch_sequences = 4"), "{error}");
    }

    #[test]
    fn what_does_not_train_is_told_in_general() {
        let error = refused(processor(), &EngineSpec::evaluate(4, 64), 1);
        assert!(error.remedy.contains("fewer tokens at once"), "{error}");
    }
}
