//! Import of llama2.c's legacy model file: 7 numbers, then every tensor as f32 in a fixed order.
//!
//! These files pair neighbouring rows for the rotation; this crate and Hugging Face pair the two halves of a head,
//! so the rows of q and k are permuted here, and nowhere else. Quantized and version-1 files are not read.

use std::io::Read;
use std::sync::Arc;

use crate::parameters::{Layout, Parameters};
use crate::shape::{Shape, ShapeError};

/// Numbers of the header.
const HEADER: usize = 7;
/// Magic number of the newer formats, "ak42", read as the first number of a legacy header.
const VERSIONED_MAGIC: i32 = 0x616b_3432;
/// Constants that the file does not hold and llama2.c has in its code.
const NORM_EPSILON: f64 = 1e-5;
const ROPE_THETA: f64 = 10_000.0;
/// Values read at a time.
const BLOCK: usize = 1 << 16;

/// A file that is not a legacy model.
#[derive(Debug, thiserror::Error)]
pub enum Llama2cError {
    /// Could not be read.
    #[error("{file}: cannot be read")]
    Io {
        /// The file.
        file: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The header is not that of a legacy f32 file.
    #[error("{file}: not a legacy llama2.c model: {problem}; export it again with version 0")]
    Header {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// The sizes contradict each other.
    #[error("{file}: its header gives an impossible model")]
    Shape {
        /// The file.
        file: String,
        /// The cause.
        source: ShapeError,
    },
    /// The file has another length than its header says.
    #[error("{file}: {got} bytes, the header's sizes give {expected}; the file was cut or is of another format")]
    Length {
        /// The file.
        file: String,
        /// Bytes found (at least, when longer).
        got: u64,
        /// Bytes expected.
        expected: u64,
    },
}

/// Reads a legacy model file of `size_bytes` bytes; `file` names it in errors.
///
/// # Errors
/// [`Llama2cError`] for anything but a file of exactly the length that its header gives.
///
/// # Panics
/// Never: the layout of a shape has every tensor that the file has.
pub fn import<R: Read>(file: &str, size_bytes: u64, reader: R) -> Result<(Shape, Parameters<f32>), Llama2cError> {
    let mut values = Values { file, reader, block: vec![0; BLOCK * 4] };
    let shape = values.header(size_bytes)?;
    let expected = file_bytes(&shape);
    if size_bytes != expected {
        return Err(Llama2cError::Length { file: file.to_owned(), got: size_bytes, expected });
    }
    let mut parameters = Parameters::zeros(Arc::new(Layout::of(&shape)));
    values.read_into(&mut parameters, "model.embed_tokens.weight")?;
    // Every tensor of the file spans all layers before the next one begins.
    let parts = [
        "input_layernorm",
        "self_attn.q_proj",
        "self_attn.k_proj",
        "self_attn.v_proj",
        "self_attn.o_proj",
        "post_attention_layernorm",
        "mlp.gate_proj",
        "mlp.down_proj",
        "mlp.up_proj",
    ];
    for part in parts {
        for layer in 0..shape.layers {
            values.read_into(&mut parameters, &format!("model.layers.{layer}.{part}.weight"))?;
        }
    }
    values.read_into(&mut parameters, "model.norm.weight")?;
    let mut tables = vec![0.0; shape.max_positions * shape.head_width()];
    values.read(&mut tables)?; // the tables of cosines and sines, which are computed here
    if !shape.tied_embeddings {
        values.read_into(&mut parameters, "lm_head.weight")?;
    }
    for layer in 0..shape.layers {
        for part in ["q_proj", "k_proj"] {
            let name = format!("model.layers.{layer}.self_attn.{part}.weight");
            let index = parameters.layout.index(&name).expect("the layout has every projection");
            halve_pairs(parameters.slice_mut(index), shape.head_width(), shape.width);
        }
    }
    Ok((shape, parameters))
}

/// Bytes of a file with these sizes.
fn file_bytes(shape: &Shape) -> u64 {
    let tables = (shape.max_positions * shape.head_width()) as u64;
    4 * (HEADER as u64 + shape.parameter_count() + tables)
}

/// Reorders the rows of each head from (0, 1), (2, 3), … being pairs to (0, D/2), (1, D/2 + 1), … being pairs.
fn halve_pairs(rows: &mut [f32], head_width: usize, columns: usize) {
    let half = head_width / 2;
    let mut head = vec![0.0; head_width * columns];
    for rows in rows.chunks_exact_mut(head_width * columns) {
        head.copy_from_slice(rows);
        for row in 0..head_width {
            let to = if row % 2 == 0 { row / 2 } else { half + row / 2 };
            rows[to * columns..(to + 1) * columns].copy_from_slice(&head[row * columns..(row + 1) * columns]);
        }
    }
}

struct Values<'a, R> {
    file: &'a str,
    reader: R,
    block: Vec<u8>,
}

impl<R: Read> Values<'_, R> {
    fn header(&mut self, size_bytes: u64) -> Result<Shape, Llama2cError> {
        let refuse = |problem: String| Llama2cError::Header { file: self.file.to_owned(), problem };
        if size_bytes < 4 * HEADER as u64 {
            return Err(refuse(format!("{size_bytes} bytes, expected at least {}", 4 * HEADER)));
        }
        let mut bytes = [0; 4 * HEADER];
        self.reader.read_exact(&mut bytes).map_err(|source| Llama2cError::Io { file: self.file.to_owned(), source })?;
        let numbers: Vec<i32> = bytes.chunks_exact(4).map(|raw| i32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]])).collect();
        if numbers[0] == VERSIONED_MAGIC {
            return Err(refuse("it begins with the mark of a newer version".to_owned()));
        }
        let size = |at: usize| usize::try_from(numbers[at]).unwrap_or(0);
        let shape = Shape {
            width: size(0),
            feed_forward: size(1),
            layers: size(2),
            heads: size(3),
            kv_heads: size(4),
            vocabulary: numbers[5].unsigned_abs() as usize,
            max_positions: size(6),
            rope_theta: ROPE_THETA,
            norm_epsilon: NORM_EPSILON,
            // A negative vocabulary marks an output projection of its own.
            tied_embeddings: numbers[5] > 0,
            rope_scaling: None,
            window: None,
        };
        shape.check().map_err(|source| Llama2cError::Shape { file: self.file.to_owned(), source })?;
        // Each size is below 2^31 and bounded by the file's length, so that no product below can overflow.
        let [c, f, v, l] = [shape.width, shape.feed_forward, shape.vocabulary, shape.layers].map(|size| size as u128);
        let least = 4 * (v * c + l * (c * c + 3 * c * f) + shape.max_positions as u128);
        if least > u128::from(size_bytes) {
            let expected = u64::try_from(least).unwrap_or(u64::MAX);
            return Err(Llama2cError::Length { file: self.file.to_owned(), got: size_bytes, expected });
        }
        Ok(shape)
    }

    fn read_into(&mut self, parameters: &mut Parameters<f32>, name: &str) -> Result<(), Llama2cError> {
        let index = parameters.layout.index(name).expect("the layout has every tensor of the model");
        self.read(parameters.slice_mut(index))
    }

    fn read(&mut self, out: &mut [f32]) -> Result<(), Llama2cError> {
        for part in out.chunks_mut(BLOCK) {
            let bytes = &mut self.block[..part.len() * 4];
            self.reader.read_exact(bytes).map_err(|source| Llama2cError::Io { file: self.file.to_owned(), source })?;
            for (value, raw) in part.iter_mut().zip(bytes.chunks_exact(4)) {
                *value = f32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use mellama_shards::Tokenizer;

    use super::{Llama2cError, file_bytes, halve_pairs, import};
    use crate::generation::{Continuation, Decoder, Sampling};
    use crate::model::Model;
    use crate::shape::Shape;

    /// A legacy file of these sizes whose values count up from 0.
    fn sample(numbers: [i32; 7]) -> Vec<u8> {
        let shape = Shape {
            width: numbers[0] as usize,
            feed_forward: numbers[1] as usize,
            layers: numbers[2] as usize,
            heads: numbers[3] as usize,
            kv_heads: numbers[4] as usize,
            vocabulary: numbers[5].unsigned_abs() as usize,
            max_positions: numbers[6] as usize,
            tied_embeddings: numbers[5] > 0,
            ..Shape::named("tiny", 1).unwrap()
        };
        let values = (file_bytes(&shape) / 4 - 7) as u32;
        let header = numbers.into_iter().flat_map(i32::to_le_bytes);
        header.chain((0..values).flat_map(|value| (value as f32).to_le_bytes())).collect()
    }

    fn error(bytes: &[u8]) -> Llama2cError {
        import("sample.bin", bytes.len() as u64, bytes).unwrap_err()
    }

    #[test]
    fn every_tensor_is_taken_from_its_place() {
        // C 4, F 6, L 2, H 2, K 1, V 5, 3 positions; head width 2, so that the permutation changes nothing.
        for vocabulary in [5, -5] {
            let bytes = sample([4, 6, 2, 2, 1, vocabulary, 3]);
            let (shape, parameters) = import("sample.bin", bytes.len() as u64, bytes.as_slice()).unwrap();
            assert_eq!(shape.tied_embeddings, vocabulary > 0);
            let first = |name: &str| parameters.tensor(name).unwrap()[0] as usize;
            // Sizes in order: embedding 20; norms 2·4; q 2·16, k 2·8, v 2·8, o 2·16; norms 2·4; gate 2·24, down 2·24,
            // up 2·24; last norm 4; two tables of 3·1; output projection 20.
            assert_eq!(first("model.embed_tokens.weight"), 0);
            assert_eq!(first("model.layers.1.input_layernorm.weight"), 24);
            assert_eq!(first("model.layers.0.self_attn.q_proj.weight"), 28);
            assert_eq!(first("model.layers.1.self_attn.k_proj.weight"), 68);
            assert_eq!(first("model.layers.0.self_attn.v_proj.weight"), 76);
            assert_eq!(first("model.layers.0.self_attn.o_proj.weight"), 92);
            assert_eq!(first("model.layers.0.post_attention_layernorm.weight"), 124);
            assert_eq!(first("model.layers.0.mlp.gate_proj.weight"), 132);
            assert_eq!(first("model.layers.0.mlp.down_proj.weight"), 180);
            assert_eq!(first("model.layers.1.mlp.up_proj.weight"), 252);
            assert_eq!(first("model.norm.weight"), 276);
            let head = parameters.tensor("lm_head.weight").map(|head| head[0] as usize);
            assert_eq!(head, (vocabulary < 0).then_some(286));
        }
    }

    #[test]
    fn pairs_of_neighbours_become_halves() {
        // One head of four rows, then another; two columns.
        let mut rows: Vec<f32> = [0, 1, 2, 3, 4, 5, 6, 7].iter().flat_map(|&row| [row as f32, row as f32 + 0.5]).collect();
        halve_pairs(&mut rows, 4, 2);
        let order: Vec<u8> = rows.chunks(2).map(|row| row[0] as u8).collect();
        assert_eq!(order, [0, 2, 1, 3, 4, 6, 5, 7]);
    }

    #[test]
    fn other_files_are_refused() {
        let sound = sample([4, 6, 2, 2, 1, 5, 3]);
        assert!(matches!(error(&sound[..sound.len() - 4]), Llama2cError::Length { .. }));
        assert!(matches!(error(&[sound.as_slice(), &[0; 4]].concat()), Llama2cError::Length { .. }));
        assert!(matches!(error(&sound[..20]), Llama2cError::Header { .. }));
        let versioned: Vec<u8> = 0x616b_3432_i32.to_le_bytes().into_iter().chain([0; 252]).collect();
        assert!(matches!(error(&versioned), Llama2cError::Header { .. }));
        let huge: Vec<u8> =
            [i32::MAX - 1, i32::MAX, i32::MAX, 1, 1, i32::MAX, i32::MAX].into_iter().flat_map(i32::to_le_bytes).collect();
        assert!(matches!(error(&huge), Llama2cError::Length { .. }), "no allocation by what a header claims");
        let negative: Vec<u8> = [-4, 6, 2, 2, 1, 5, 3].into_iter().flat_map(i32::to_le_bytes).collect();
        assert!(matches!(error(&negative), Llama2cError::Shape { .. }));
    }

    #[test]
    fn golden_stories_260k_writes_the_published_text() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/checkpoint");
        let read = |name: &str| std::fs::read(folder.join(name));
        let (Ok(weights), Ok(tokens), Ok(expected)) = (read("stories260K.bin"), read("tok512.bin"), read("expected_stdout.txt"))
        else {
            println!("not run: the public model stories260K is absent");
            return;
        };
        let (shape, parameters) = import("stories260K.bin", weights.len() as u64, weights.as_slice()).unwrap();
        let tokenizer = Tokenizer::from_bytes("tok512.bin", &tokens).unwrap();
        let model = Arc::new(Model::new(shape).unwrap());
        let mut decoder = Decoder::on_cpu(&model, &parameters, None, (1, 512)).unwrap();
        // llama2.c's own test of this model: 200 steps from BOS, which also ends the text.
        let text = Continuation { prompt: vec![1], max_tokens: 200, stop: vec![1], sampling: Sampling::Greedy };
        let generated = decoder.generate(&[text], &mut |_, _| true).unwrap().remove(0);
        let mut text = Vec::new();
        let mut previous = 1;
        for &token in &generated.tokens {
            text.extend(tokenizer.decode_piece(Some(previous), token));
            previous = token;
        }
        assert_eq!(String::from_utf8_lossy(&text), String::from_utf8_lossy(&expected));
        assert_eq!(text, expected);
    }
}
