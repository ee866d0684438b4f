//! What a run refuses to do, by name.

use std::sync::Arc;

use mellama_shards::Sequence;
use mellama_storage::{MemoryStore, Workdir};

use super::samples::{SEQUENCES, job, run_on, sequences};
use crate::batch::BatchError;
use crate::trainer::{Base, NoHooks, TrainError, TrainJob, TrainSpec, train};

/// An element of the embedding of token 1, which the samples do not use, so that it is met only where a test puts it.
const ROW_OF_TOKEN_1: usize = 16 + 5;

fn error_of(job: TrainJob, data: &Vec<Sequence>) -> TrainError {
    train(job, data, None, &Workdir::new(Arc::new(MemoryStore::new("refused"))), &mut NoHooks).unwrap_err()
}

#[test]
fn case_24_training_stops_after_non_finite_steps_in_a_row() {
    let mut broken = job();
    broken.base.model.parameters.data[ROW_OF_TOKEN_1] = f32::NAN;
    broken.spec.max_bad_steps = 3;
    let mut data = sequences(SEQUENCES, 1);
    for sequence in &mut data {
        sequence.tokens[1] = 1;
    }
    match error_of(broken, &data) {
        TrainError::Guard(stop) => {
            assert_eq!((stop.step, stop.count, stop.first_position, stop.last_position), (2, 3, 0, 11));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn case_24_a_bad_step_is_passed_over_and_recorded() {
    let mut broken = job();
    broken.base.model.parameters.data[ROW_OF_TOKEN_1] = f32::INFINITY;
    // Only the third sequence holds the token, and it is met once a pass.
    let mut data = sequences(SEQUENCES, 1);
    data[2].tokens[1] = 1;
    let store = MemoryStore::new("skipped");
    let outcome = train(broken, &data, None, &Workdir::new(Arc::new(store)), &mut NoHooks).unwrap();
    assert_eq!((outcome.skipped_steps, outcome.step), (2, 6));
}

#[test]
fn checkpoints_of_another_run_are_not_resumed() {
    let check = |change: &dyn Fn(&mut TrainJob), expected: &str| {
        let store = Arc::new(MemoryStore::new("other"));
        run_on(store.clone(), job(), &mut NoHooks).unwrap();
        let mut other = job();
        change(&mut other);
        match run_on(store, other, &mut NoHooks) {
            Err(TrainError::OtherRun { what, .. }) => assert_eq!(what, expected),
            other => panic!("{expected}: {other:?}"),
        }
    };
    check(&|job| job.spec.learning_rate *= 2.0, "settings");
    check(&|job| job.seed += 1, "settings");
    check(&|job| job.spec.epochs += 1, "steps");
    check(&|job| job.data_digest = "e".repeat(64), "data");
    check(
        &|job| {
            job.base = Base::fresh(job.base.model.shape.clone(), 8, job.base.model.tokens, "other").unwrap();
        },
        "base weights",
    );
}

#[test]
fn data_that_do_not_fit_are_named_by_position() {
    assert!(matches!(error_of(job(), &Vec::new()), TrainError::NoSequences));
    let mut data = sequences(SEQUENCES, 1);
    data[4].tokens[0] = 20;
    match error_of(job(), &data) {
        TrainError::Batch { first: 4, source: BatchError::Token { sequence: 0, position: 0, token: 20, vocabulary: 20 } } => {}
        other => panic!("{other:?}"),
    }
    let mut data = sequences(SEQUENCES, 1);
    data[1].segments.clear();
    assert!(matches!(error_of(job(), &data), TrainError::Batch { source: BatchError::Segment { .. }, .. }));
}

#[test]
fn settings_and_weights_that_cannot_be_are_refused() {
    let spec = TrainSpec { learning_rate: -1.0, ..job().spec };
    assert!(matches!(error_of(TrainJob { spec, ..job() }, &sequences(4, 1)), TrainError::Spec(_)));
    let mut short = job();
    short.base.model.parameters.data.pop();
    assert!(matches!(error_of(short, &sequences(4, 1)), TrainError::BaseLength { .. }));
}
