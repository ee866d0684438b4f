//! The rates that a card reaches: those that operations are measured against.

use std::error::Error;
use std::time::Instant;

use mellama_train::backend::Dtype;
use mellama_train::gpu::{Address, Device, DeviceMatrix, DeviceProduct};
use serde_json::{Value, json};

use crate::timing::random_values;

/// Sizes of the measurement; small ones for an emulated card.
fn sizes<D: Device>(device: &D) -> (usize, usize) {
    if device.properties().name == "emulated" { (1 << 16, 64) } else { (1 << 31, 8192) }
}

/// Bytes per second of copies, read and written; floating-point operations per second of a square product.
pub(crate) fn measure<D: Device>(mut device: D) -> Result<Value, Box<dyn Error>> {
    let (bytes, size) = sizes(&device);
    let matrix_bytes = 2 * size * size;
    let arena = (2 * bytes).max(3 * matrix_bytes);
    let base = device.allocate(arena).map_err(|free| format!("{arena} bytes are not free, {free} are"))?;
    let values: Vec<u16> =
        random_values(arena.min(1 << 26) / 2, 7).iter().map(|value| half::bf16::from_f32(*value).to_bits()).collect();
    for first in (0..arena).step_by(2 * values.len()) {
        let count = values.len().min((arena - first) / 2);
        device.upload(base.plus(first), bytemuck::cast_slice(&values[..count]));
    }
    let copy = rate(&mut device, base, 10, &mut |device| device.copy(base, base.plus(bytes), bytes))?;
    let matrix = |index: usize, transposed| DeviceMatrix {
        address: base.plus(index * matrix_bytes),
        dtype: Dtype::Bf16,
        rows: size,
        columns: size,
        row_stride: size,
        transposed,
    };
    let product = DeviceProduct { alpha: 1.0, a: matrix(0, false), b: matrix(1, true), c: matrix(2, false), accumulate: false };
    let product = rate(&mut device, base, 10, &mut |device| device.multiply(&product))?;
    Ok(json!({
        "copy_bytes_per_second": 2.0 * bytes as f64 / copy,
        "product_flops": 2.0 * (size as f64).powi(3) / product,
        "product_size": size,
    }))
}

/// Seconds of one call.
fn rate<D: Device>(device: &mut D, probe: Address, calls: u32, call: &mut dyn FnMut(&mut D)) -> Result<f64, Box<dyn Error>> {
    let mut times = Vec::new();
    for _ in 0..7 {
        let began = Instant::now();
        for _ in 0..calls {
            call(device);
        }
        device.download(probe, &mut [0; 16])?;
        times.push(began.elapsed().as_secs_f64() / f64::from(calls));
    }
    // The first is a warm-up.
    times.remove(0);
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
