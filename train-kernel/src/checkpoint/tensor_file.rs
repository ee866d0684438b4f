//! Tensor files in the safetensors layout: 8 bytes of header length, a JSON header, the tensors without gaps.
//!
//! Reads one tensor at a time and never allocates by a size that a header merely claims; refuses what the format
//! leaves open (duplicate names, gaps, overlaps, trailing bytes). Writes tensors in the order given, so the same
//! tensors give the same bytes. It knows nothing of models.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{Read, Seek, SeekFrom, Write};

use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// Longest header accepted, the limit of the safetensors library.
pub const HEADER_LIMIT_BYTES: u64 = 100_000_000;

/// Bytes converted at a time.
const BLOCK_BYTES: usize = 1 << 20;

/// Element types that are read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of single precision.
    BF16,
}

impl Dtype {
    /// Bytes of an element.
    pub fn size_bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }

    /// `F32`, `F16` or `BF16`, as a header has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
        }
    }

    /// The value as it is after being stored: rounded to nearest, ties to even.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => half::f16::from_f32(value).to_f32(),
            Self::BF16 => half::bf16::from_f32(value).to_f32(),
        }
    }

    fn named(name: &str) -> Option<Self> {
        match name {
            "F32" => Some(Self::F32),
            "F16" => Some(Self::F16),
            "BF16" => Some(Self::BF16),
            _ => None,
        }
    }
}

/// One tensor as the header describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorEntry {
    /// Its name.
    pub name: String,
    /// Element type as written in the header.
    pub dtype: String,
    /// Sizes, outermost first.
    pub shape: Vec<u64>,
    /// First byte after the header.
    pub start: u64,
    /// Byte after the last.
    pub end: u64,
}

/// What is wrong with a tensor file.
#[derive(Debug, thiserror::Error)]
pub enum TensorFileError {
    /// The bytes could not be read or written.
    #[error("{file}: cannot be read or written")]
    Io {
        /// The file.
        file: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The header breaks a rule of the format.
    #[error("{file}: not a sound safetensors file: {problem}; restore it from its origin")]
    Header {
        /// The file.
        file: String,
        /// The rule.
        problem: String,
    },
    /// A tensor has an element type that is not read.
    #[error("{file}: tensor {tensor}: dtype {got}, expected F32, F16 or BF16; convert the file")]
    Dtype {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its dtype.
        got: String,
    },
    /// The list of digests is none.
    #[error("B3SUMS: {problem}; make it again with b3sum, or restore it")]
    Sums {
        /// What is wrong with it.
        problem: String,
    },
    /// The bytes are not those that were written.
    #[error("{file}: BLAKE3 {got}, B3SUMS lists {expected}: changed since it was written; restore it, or make the folder again")]
    Digest {
        /// The file.
        file: String,
        /// Its digest.
        got: String,
        /// The digest listed.
        expected: String,
    },
    /// A tensor that is needed is not there.
    #[error("{file}: tensor {tensor}: missing")]
    Missing {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
    },
    /// The parts of a tensor do not make it up.
    #[error("{file}: tensor {tensor}: {problem}; the file belongs to another model, or is damaged")]
    Parts {
        /// The file, or the first of several.
        file: String,
        /// The tensor.
        tensor: String,
        /// What is wrong with them.
        problem: String,
    },
    /// A tensor has another shape.
    #[error("{file}: tensor {tensor}: shape {got:?}, expected {expected:?}; the file belongs to another model")]
    Shape {
        /// The file.
        file: String,
        /// The tensor.
        tensor: String,
        /// Its shape.
        got: Vec<u64>,
        /// The model's shape.
        expected: Vec<u64>,
    },
}

/// An open tensor file whose header has been checked to cover its bytes exactly.
pub struct TensorFile<R> {
    file: String,
    reader: R,
    data_start: u64,
    tensors: BTreeMap<String, TensorEntry>,
    metadata: BTreeMap<String, String>,
}

impl<R: Read + Seek> TensorFile<R> {
    /// Opens and checks a file; `file` names it in errors.
    ///
    /// # Errors
    /// [`TensorFileError::Header`] for anything but a header that covers the file exactly, else I/O.
    pub fn open(file: impl Into<String>, mut reader: R) -> Result<Self, TensorFileError> {
        let file = file.into();
        let (header, data_start, data_bytes) = read_header(&file, &mut reader)?;
        let refuse = |problem: String| TensorFileError::Header { file: file.clone(), problem };
        let raw: RawHeader = serde_json::from_slice(&header)
            .map_err(|error| refuse(format!("header at line {} column {}: {error}", error.line(), error.column())))?;
        check_coverage(&raw.tensors, data_bytes).map_err(refuse)?;
        let tensors = raw.tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
        Ok(Self { file, reader, data_start, tensors, metadata: raw.metadata })
    }

    /// The tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, TensorEntry> {
        &self.tensors
    }

    /// The free-form metadata of the header.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// What a tensor is stored as; none when it is absent or of a type that is not read.
    pub fn dtype(&self, name: &str) -> Option<Dtype> {
        Dtype::named(&self.tensors.get(name)?.dtype)
    }

    /// Reads one tensor into `out`, widened to f32, after checking its shape.
    ///
    /// # Errors
    /// [`TensorFileError`] when the tensor is absent, of another shape or of an unread type, else I/O.
    ///
    /// # Panics
    /// When `out` has not as many elements as `expected` says: a mistake of the caller.
    pub fn read(&mut self, name: &str, expected: &[usize], out: &mut [f32]) -> Result<(), TensorFileError> {
        assert_eq!(expected.iter().product::<usize>(), out.len(), "the output has the expected shape");
        let missing = || TensorFileError::Missing { file: self.file.clone(), tensor: name.to_owned() };
        let entry = self.tensors.get(name).ok_or_else(missing)?;
        let expected: Vec<u64> = expected.iter().map(|&size| size as u64).collect();
        if entry.shape != expected {
            let (file, tensor, got) = (self.file.clone(), name.to_owned(), entry.shape.clone());
            return Err(TensorFileError::Shape { file, tensor, got, expected });
        }
        let dtype = Dtype::named(&entry.dtype).ok_or_else(|| TensorFileError::Dtype {
            file: self.file.clone(),
            tensor: name.to_owned(),
            got: entry.dtype.clone(),
        })?;
        let io = |source| TensorFileError::Io { file: self.file.clone(), source };
        self.reader.seek(SeekFrom::Start(self.data_start + entry.start)).map_err(io)?;
        read_values(&mut self.reader, dtype, out).map_err(io)
    }
}

/// Writes a header for `tensors`, which must then follow in this order as little-endian values of `dtype`, and nothing else.
///
/// # Errors
/// [`TensorFileError::Header`] for a name that occurs twice, else I/O.
pub fn write_header<W: Write>(
    file: &str,
    writer: &mut W,
    (tensors, dtype): (&[(&str, &[usize])], Dtype),
    metadata: &[(&str, &str)],
) -> Result<(), TensorFileError> {
    let header = encode_header(tensors, dtype, metadata)
        .ok_or_else(|| TensorFileError::Header { file: file.to_owned(), problem: "a name occurs twice".to_owned() })?;
    let io = |source| TensorFileError::Io { file: file.to_owned(), source };
    writer.write_all(&(header.len() as u64).to_le_bytes()).map_err(io)?;
    writer.write_all(&header).map_err(io)
}

/// Writes values little-endian: f32 bit for bit, the half types rounded to nearest, ties to even.
///
/// # Errors
/// [`TensorFileError::Io`].
pub fn write_values<W: Write>(file: &str, writer: &mut W, dtype: Dtype, values: &[f32]) -> Result<(), TensorFileError> {
    let mut block = Vec::with_capacity(BLOCK_BYTES.min(values.len() * 4));
    for part in values.chunks(BLOCK_BYTES / 4) {
        block.clear();
        match dtype {
            Dtype::F32 => block.extend(part.iter().flat_map(|value| value.to_le_bytes())),
            Dtype::F16 => block.extend(part.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes())),
            Dtype::BF16 => block.extend(part.iter().flat_map(|value| half::bf16::from_f32(*value).to_le_bytes())),
        }
        writer.write_all(&block).map_err(|source| TensorFileError::Io { file: file.to_owned(), source })?;
    }
    Ok(())
}

/// The header as JSON, padded with spaces to a multiple of 8; `None` when a name occurs twice.
fn encode_header(tensors: &[(&str, &[usize])], dtype: Dtype, metadata: &[(&str, &str)]) -> Option<Vec<u8>> {
    let mut members = Vec::with_capacity(tensors.len() + 1);
    if !metadata.is_empty() {
        let pairs: Vec<String> = metadata.iter().map(|(key, value)| format!("{}:{}", quote(key), quote(value))).collect();
        members.push(format!("\"__metadata__\":{{{}}}", pairs.join(",")));
    }
    let mut seen = BTreeSet::new();
    let mut offset = 0_u64;
    for (name, shape) in tensors {
        if !seen.insert(*name) {
            return None;
        }
        let end = offset + dtype.size_bytes() * shape.iter().map(|&size| size as u64).product::<u64>();
        let sizes: Vec<String> = shape.iter().map(ToString::to_string).collect();
        let (name, sizes, dtype) = (quote(name), sizes.join(","), dtype.as_str());
        members.push(format!("{name}:{{\"dtype\":\"{dtype}\",\"shape\":[{sizes}],\"data_offsets\":[{offset},{end}]}}"));
        offset = end;
    }
    let mut bytes = format!("{{{}}}", members.join(",")).into_bytes();
    bytes.resize(bytes.len().next_multiple_of(8), b' ');
    Some(bytes)
}

fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Reads the header's bytes; returns them, where the data begin, and how many bytes of data there are.
fn read_header<R: Read + Seek>(file: &str, reader: &mut R) -> Result<(Vec<u8>, u64, u64), TensorFileError> {
    let io = |source| TensorFileError::Io { file: file.to_owned(), source };
    let refuse = |problem: String| TensorFileError::Header { file: file.to_owned(), problem };
    let size = reader.seek(SeekFrom::End(0)).map_err(io)?;
    reader.seek(SeekFrom::Start(0)).map_err(io)?;
    if size < 8 {
        return Err(refuse(format!("{size} bytes, expected at least 8")));
    }
    let mut length = [0_u8; 8];
    reader.read_exact(&mut length).map_err(io)?;
    let length = u64::from_le_bytes(length);
    let limit = HEADER_LIMIT_BYTES.min(size - 8);
    if length > limit {
        return Err(refuse(format!("header of {length} bytes, expected at most {limit}")));
    }
    let mut header = Vec::new();
    reader.take(length).read_to_end(&mut header).map_err(io)?;
    if header.len() as u64 != length {
        return Err(refuse(format!("header of {} bytes, its length says {length}", header.len())));
    }
    Ok((header, 8 + length, size - 8 - length))
}

/// Checks that the tensors, sorted by place, cover the data from the first byte to the last, each with the size
/// that its shape says.
fn check_coverage(tensors: &[TensorEntry], data_bytes: u64) -> Result<(), String> {
    let mut by_place: Vec<&TensorEntry> = tensors.iter().collect();
    by_place.sort_by_key(|tensor| (tensor.start, tensor.end));
    let mut covered = 0;
    for tensor in by_place {
        let name = &tensor.name;
        if tensor.start != covered {
            let what = if tensor.start < covered { "overlaps the one before" } else { "leaves a gap before it" };
            return Err(format!("tensor {name} {what}: starts at {}, expected {covered}", tensor.start));
        }
        if tensor.end < tensor.start || tensor.end > data_bytes {
            return Err(format!("tensor {name} ends at {}, the data have {data_bytes} bytes", tensor.end));
        }
        if let Some(dtype) = Dtype::named(&tensor.dtype) {
            let product = tensor.shape.iter().try_fold(dtype.size_bytes(), |bytes, &size| bytes.checked_mul(size));
            if product != Some(tensor.end - tensor.start) {
                let got = tensor.end - tensor.start;
                return Err(format!("tensor {name} has {got} bytes, shape {:?} of {}", tensor.shape, tensor.dtype));
            }
        }
        covered = tensor.end;
    }
    if covered == data_bytes { Ok(()) } else { Err(format!("tensors end at {covered}, the data have {data_bytes} bytes")) }
}

fn read_values<R: Read>(reader: &mut R, dtype: Dtype, out: &mut [f32]) -> std::io::Result<()> {
    let size = dtype.size_bytes() as usize;
    let mut block = vec![0_u8; BLOCK_BYTES.min(out.len() * size)];
    for part in out.chunks_mut(BLOCK_BYTES / size) {
        let bytes = &mut block[..part.len() * size];
        reader.read_exact(bytes)?;
        for (value, raw) in part.iter_mut().zip(bytes.chunks_exact(size)) {
            *value = match dtype {
                Dtype::F32 => f32::from_le_bytes([raw[0], raw[1], raw[2], raw[3]]),
                Dtype::F16 => half::f16::from_le_bytes([raw[0], raw[1]]).to_f32(),
                Dtype::BF16 => half::bf16::from_le_bytes([raw[0], raw[1]]).to_f32(),
            };
        }
    }
    Ok(())
}

/// The header as read: a list, so that a name that occurs twice can be seen.
struct RawHeader {
    tensors: Vec<TensorEntry>,
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = RawHeader;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawHeader, A::Error> {
                let mut header = RawHeader { tensors: Vec::new(), metadata: BTreeMap::new() };
                let mut seen = BTreeSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format!("name {name:?} occurs twice")));
                    }
                    if name == "__metadata__" {
                        header.metadata = map.next_value()?;
                        continue;
                    }
                    let RawTensor { dtype, shape, data_offsets: [start, end] } = map.next_value()?;
                    header.tensors.push(TensorEntry { name, dtype, shape, start, end });
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests;
