//! The name of a set of weights: a digest that does not depend on how files cut or store them.

use crate::parameters::Parameters;
use crate::shape::Shape;

/// Values hashed at a time.
const BLOCK: usize = 1 << 16;

/// BLAKE3, in hex, over the model's sizes and every tensor in layout order: name, NUL, number of sizes, sizes,
/// values, all numbers little-endian. The same weights in one file or ten, in any tensor order, have one digest.
pub fn weights_digest(shape: &Shape, parameters: &Parameters<f32>) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"mellama-weights-1\0");
    for size in [shape.heads, shape.kv_heads, shape.max_positions] {
        hasher.update(&(size as u64).to_le_bytes());
    }
    for value in [shape.rope_theta, shape.norm_epsilon] {
        hasher.update(&value.to_le_bytes());
    }
    let mut block = Vec::with_capacity(BLOCK * 4);
    for tensor in parameters.layout.tensors() {
        hasher.update(tensor.name.as_bytes()).update(&[0]).update(&(tensor.shape.len() as u64).to_le_bytes());
        for &size in &tensor.shape {
            hasher.update(&(size as u64).to_le_bytes());
        }
        for values in parameters.data[tensor.range()].chunks(BLOCK) {
            block.clear();
            block.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            hasher.update(&block);
        }
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::weights_digest;
    use crate::parameters::Parameters;
    use crate::shape::Shape;

    #[test]
    fn every_bit_and_every_constant_counts() {
        let shape = Shape::named("tiny", 20).unwrap();
        let parameters = Parameters::<f32>::initialised(&shape, 1);
        let digest = weights_digest(&shape, &parameters);
        assert_eq!(digest, weights_digest(&shape, &parameters));
        let mut changed = parameters.clone();
        let last = changed.data.len() - 1;
        changed.data[last] = f32::from_bits(changed.data[last].to_bits() ^ 1);
        assert_ne!(digest, weights_digest(&shape, &changed));
        let other = Shape { rope_theta: 5e5, ..shape };
        assert_ne!(digest, weights_digest(&other, &parameters));
    }
}
