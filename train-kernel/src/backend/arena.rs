//! The one allocation of a device, planned before the first step: which buffers it holds, where, and for what.
//!
//! A plan costs nothing, so that the memory of a run is known, by part, before anything is allocated.

use std::ops::Range;

use thiserror::Error;

/// Every buffer begins at a multiple of this many bytes.
const ALIGNMENT_BYTES: usize = 256;

/// What the elements of a buffer are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dtype {
    /// Full precision: f32, in f64 backends f64.
    F32,
    /// Rounded to bf16 whenever it is written.
    Bf16,
    /// What the rounding of a weight to bf16 left of it, 16 bits on a card; backends of one width keep the whole weight there.
    Remainder,
}

impl Dtype {
    /// Bytes of an element on a card.
    pub fn device_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::Remainder => 2,
        }
    }
}

/// Bytes that an element takes in a backend's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementBytes {
    /// Of [`Dtype::F32`].
    pub f32: usize,
    /// Of [`Dtype::Bf16`] and [`Dtype::Remainder`].
    pub bf16: usize,
}

impl ElementBytes {
    /// Of this type.
    pub fn of(self, dtype: Dtype) -> usize {
        match dtype {
            Dtype::F32 => self.f32,
            Dtype::Bf16 | Dtype::Remainder => self.bf16,
        }
    }
}

/// What a buffer is for, as the memory table shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// Weights that the model computes with.
    Weights,
    /// What the former lack of full precision, where they are trained in bf16.
    Master,
    /// Gradients.
    Gradients,
    /// First and second moments.
    Moments,
    /// What is kept between forward and backward.
    Activations,
    /// What is used again and again.
    Work,
    /// Keys and values of texts.
    Cache,
}

impl Part {
    /// Every part, in the order of the table.
    pub const ALL: [Self; 7] =
        [Self::Weights, Self::Master, Self::Gradients, Self::Moments, Self::Activations, Self::Work, Self::Cache];

    /// `weights`, `master weights` and so on.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Master => "master weights",
            Self::Gradients => "gradients",
            Self::Moments => "moments",
            Self::Activations => "activations",
            Self::Work => "work",
            Self::Cache => "cache",
        }
    }
}

/// A place in an arena: plain data, meaningful with the backend that allocated its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    start_bytes: usize,
    length: usize,
    dtype: Dtype,
    element_bytes: usize,
}

impl Buffer {
    /// Number of elements.
    pub fn length(self) -> usize {
        self.length
    }

    /// What its elements are.
    pub fn dtype(self) -> Dtype {
        self.dtype
    }

    /// Its first byte in the arena.
    pub fn start_bytes(self) -> usize {
        self.start_bytes
    }

    /// Some of its elements.
    ///
    /// # Panics
    /// When they are not all its own.
    #[must_use]
    pub fn part(self, elements: Range<usize>) -> Self {
        assert!(
            elements.start <= elements.end && elements.end <= self.length,
            "buffer of {} elements: {elements:?} is not inside",
            self.length
        );
        let start_bytes = self.start_bytes + elements.start * self.element_bytes;
        Self { start_bytes, length: elements.len(), ..self }
    }

    /// Its first elements.
    ///
    /// # Panics
    /// When it has fewer.
    #[must_use]
    pub fn first(self, elements: usize) -> Self {
        self.part(0..elements)
    }

    /// Its elements as indices of an arena that holds elements of one size.
    pub(crate) fn elements(self) -> Range<usize> {
        let start = self.start_bytes / self.element_bytes;
        start..start + self.length
    }
}

/// The buffers of an arena.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArenaPlan {
    element_bytes: ElementBytes,
    end_bytes: usize,
    parts: [u64; Part::ALL.len()],
}

/// A device that has not enough memory.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("memory: {needed_bytes} bytes needed ({table}), {} can be had; {remedy}", available(*.available_bytes))]
pub struct AllocationError {
    /// Bytes of the whole arena.
    pub needed_bytes: u64,
    /// Bytes by part.
    pub table: String,
    /// What there is; none where the system does not tell.
    pub available_bytes: Option<u64>,
    /// What would fit, or what to do.
    pub remedy: String,
}

fn available(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "less".to_owned(), |bytes| format!("{bytes} bytes"))
}

impl ArenaPlan {
    /// An empty plan.
    pub fn new(element_bytes: ElementBytes) -> Self {
        Self { element_bytes, end_bytes: 0, parts: [0; Part::ALL.len()] }
    }

    /// Adds a buffer.
    pub fn buffer(&mut self, part: Part, dtype: Dtype, length: usize) -> Buffer {
        let element_bytes = self.element_bytes.of(dtype);
        let start_bytes = self.end_bytes;
        let bytes = length * element_bytes;
        self.end_bytes = (start_bytes + bytes).next_multiple_of(ALIGNMENT_BYTES);
        self.parts[part as usize] += (self.end_bytes - start_bytes) as u64;
        Buffer { start_bytes, length, dtype, element_bytes }
    }

    /// Bytes of the arena.
    pub fn total_bytes(&self) -> usize {
        self.end_bytes
    }

    /// Bytes of one part.
    pub fn part_bytes(&self, part: Part) -> u64 {
        self.parts[part as usize]
    }

    /// Parts that are not empty, with their bytes.
    pub fn table(&self) -> impl Iterator<Item = (Part, u64)> + '_ {
        Part::ALL.into_iter().map(|part| (part, self.part_bytes(part))).filter(|(_, bytes)| *bytes > 0)
    }

    /// The refusal of this plan by a device with so much memory.
    pub fn refused(&self, available_bytes: Option<u64>, remedy: impl Into<String>) -> AllocationError {
        let parts: Vec<String> = self.table().map(|(part, bytes)| format!("{} {bytes}", part.as_str())).collect();
        AllocationError { needed_bytes: self.end_bytes as u64, table: parts.join(", "), available_bytes, remedy: remedy.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::{ArenaPlan, Dtype, ElementBytes, Part};

    const GPU: ElementBytes = ElementBytes { f32: 4, bf16: 2 };

    #[test]
    fn buffers_follow_each_other_without_overlap_and_parts_add_up() {
        let mut plan = ArenaPlan::new(GPU);
        let weights = plan.buffer(Part::Weights, Dtype::Bf16, 1000);
        let empty = plan.buffer(Part::Work, Dtype::F32, 0);
        let moments = plan.buffer(Part::Moments, Dtype::F32, 10);
        assert_eq!((weights.start_bytes(), empty.start_bytes(), moments.start_bytes()), (0, 2048, 2048));
        assert_eq!(plan.total_bytes(), 2048 + 256);
        let total: u64 = plan.table().map(|(_, bytes)| bytes).sum();
        assert_eq!(total, plan.total_bytes() as u64);
        assert_eq!(plan.table().map(|(part, _)| part).collect::<Vec<_>>(), [Part::Weights, Part::Moments]);
    }

    #[test]
    fn parts_of_a_buffer_keep_its_element_size() {
        let mut plan = ArenaPlan::new(GPU);
        let _before = plan.buffer(Part::Work, Dtype::F32, 1);
        let buffer = plan.buffer(Part::Work, Dtype::Bf16, 100);
        let part = buffer.part(10..30).part(5..7);
        assert_eq!((part.start_bytes(), part.length(), part.dtype()), (256 + 2 * 15, 2, Dtype::Bf16));
        assert_eq!(buffer.first(0).length(), 0);
    }

    #[test]
    #[should_panic(expected = "buffer of 3 elements: 2..4 is not inside")]
    fn a_part_outside_its_buffer_is_a_mistake() {
        let _ = ArenaPlan::new(GPU).buffer(Part::Work, Dtype::F32, 3).part(2..4);
    }

    #[test]
    fn a_refusal_names_every_part() {
        let mut plan = ArenaPlan::new(GPU);
        plan.buffer(Part::Weights, Dtype::F32, 64);
        plan.buffer(Part::Cache, Dtype::F32, 64);
        let message = plan.refused(Some(100), "lower train.micro_batch_sequences").to_string();
        let expected =
            "memory: 512 bytes needed (weights 256, cache 256), 100 bytes can be had; lower train.micro_batch_sequences";
        assert_eq!(message, expected);
        assert!(plan.refused(None, "wait").to_string().ends_with("less can be had; wait"));
    }
}
