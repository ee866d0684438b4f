//! The operands of one launch: checked for type and extent, and told to the device with what is done to them.

use super::device::{Access, Address, Region};
use crate::backend::{Buffer, Dtype};

/// A table of the backend's own in the arena: plain words, not values of a model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    /// Its bytes, as a buffer of f32.
    pub(super) words: Buffer,
}

impl Table {
    /// Its first bytes.
    fn region(self, base: Address, bytes: usize, access: Access) -> Region {
        assert!(bytes.div_ceil(4) <= self.words.length(), "table: {bytes} bytes of {} words", self.words.length());
        Region { address: base.plus(self.words.start_bytes()), bytes, access }
    }
}

/// Collects them.
#[derive(Debug)]
pub(super) struct Operands {
    base: Address,
    regions: Vec<Region>,
}

impl Operands {
    /// None yet, of an arena that begins at `base`.
    pub(super) fn new(base: Address) -> Self {
        Self { base, regions: Vec::with_capacity(8) }
    }

    /// Those collected.
    pub(super) fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// `length` bf16 values: the whole buffer.
    ///
    /// # Panics
    /// When the buffer holds something else.
    pub(super) fn values(&mut self, buffer: Buffer, access: Access, length: usize) -> Address {
        self.buffer(buffer, (Dtype::Bf16, access), length)
    }

    /// `length` f32 values: the whole buffer.
    ///
    /// # Panics
    /// When the buffer holds something else.
    pub(super) fn exact(&mut self, buffer: Buffer, access: Access, length: usize) -> Address {
        self.buffer(buffer, (Dtype::F32, access), length)
    }

    /// `length` remainders of weights: the whole buffer.
    ///
    /// # Panics
    /// When the buffer holds something else.
    pub(super) fn remainders(&mut self, buffer: Buffer, access: Access, length: usize) -> Address {
        self.buffer(buffer, (Dtype::Remainder, access), length)
    }

    /// `length` f32 values that a kernel takes one by one: they may begin at any of them.
    ///
    /// # Panics
    /// When the buffer holds something else.
    pub(super) fn scalars(&mut self, buffer: Buffer, access: Access, length: usize) -> Address {
        self.aligned(buffer, (Dtype::F32, access), (length, 4))
    }

    /// The first `bytes` bytes of a table.
    pub(super) fn table(&mut self, table: Table, access: Access, bytes: usize) -> Address {
        let region = table.region(self.base, bytes, access);
        self.regions.push(region);
        region.address
    }

    fn buffer(&mut self, buffer: Buffer, of: (Dtype, Access), length: usize) -> Address {
        self.aligned(buffer, of, (length, 16))
    }

    fn aligned(&mut self, buffer: Buffer, (dtype, access): (Dtype, Access), (length, alignment): (usize, u64)) -> Address {
        assert!(
            buffer.dtype() == dtype && buffer.length() == length,
            "operand: {} values of {:?}, expected {length} of {dtype:?}",
            buffer.length(),
            buffer.dtype()
        );
        let address = self.base.plus(buffer.start_bytes());
        assert!(
            address.0.is_multiple_of(alignment),
            "operand: begins at byte {}, no multiple of {alignment}",
            buffer.start_bytes()
        );
        self.regions.push(Region { address, bytes: length * dtype.device_bytes(), access });
        address
    }
}
