//! Timing of what a card does while the program goes on.

use std::time::Instant;

use mellama_train::backend::{Backend, Buffer, DeviceError};

/// Seconds of one call, the median of `repeats` measurements of `calls` calls each, after two that are not counted.
///
/// # Errors
/// [`DeviceError`] when the card fails.
pub(crate) fn seconds(
    backend: &mut dyn Backend<f32>,
    probe: Buffer,
    (repeats, calls): (usize, usize),
    call: &mut dyn FnMut(&mut dyn Backend<f32>),
) -> Result<f64, DeviceError> {
    let wait = |backend: &mut dyn Backend<f32>| backend.download(probe, &mut vec![0.0; probe.length()]);
    for _ in 0..2 {
        call(backend);
    }
    wait(backend)?;
    let mut times = Vec::with_capacity(repeats);
    for _ in 0..repeats {
        let began = Instant::now();
        for _ in 0..calls {
            call(backend);
        }
        wait(backend)?;
        times.push(began.elapsed().as_secs_f64() / calls as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}

/// Values that are neither zero nor alike: a card is faster on those.
pub(crate) fn random_values(length: usize, seed: u64) -> Vec<f32> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 40) as f32 / 16_777_216.0 - 0.5) * 0.1
    };
    (0..length).map(|_| next()).collect()
}
