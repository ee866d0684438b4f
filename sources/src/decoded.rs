//! Decompressed blocks of an object, under the limits on expansion: what a reader parses, and what may be made on another
//! thread than the one that parses it.
//!
//! It starts no thread, tells no compression from another and knows no text format.

use std::io;

use bytes::Bytes;

use crate::compression::{Decoder, MAGIC_BYTES, RawBytes, StreamFault, is_compressed};
use crate::part::Part;
use crate::reader::Limits;
use crate::reject::RejectReason;

/// Bytes of a block; the last one, and one before a fault, may be shorter.
const BLOCK_BYTES: usize = 256 << 10;
/// Bytes decoded between two looks at the limits.
const PIECE_BYTES: usize = 64 << 10;

/// Consecutive decompressed bytes of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DecodedBlock {
    /// The bytes; none at the end of the object.
    pub bytes: Bytes,
    /// Stored (compressed) bytes consumed so far.
    pub stored_bytes: u64,
}

/// Decompressed blocks of one object in order. [`crate::Input::into_decoded`] gives them; an implementation over a channel
/// lets another thread call that one.
pub trait DecodedBlocks: Send {
    /// The next block, an empty one at the end. It is not called again behind the end or an error.
    ///
    /// An implementation over a channel must tell the end that was sent to it from a sender that is gone: the latter is an
    /// error, never a quiet end.
    ///
    /// # Errors
    /// A damaged stream, where [`StreamFault::of`] gives the reason, behind every byte that could be decoded; or the
    /// failure of the store, as it came.
    fn next_block(&mut self) -> io::Result<DecodedBlock>;

    /// The part that is to be read, as with [`crate::RangeRead::part`]. The blocks begin where it does and go on behind it. An
    /// implementation over others has their part.
    fn part(&self) -> Option<Part> {
        None
    }
}

/// An error to be given again: the reason of a fault, or the kind of a failure of the store.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    Fault(RejectReason),
    Store(io::ErrorKind),
}

impl Failure {
    pub(crate) fn of(error: &io::Error) -> Self {
        match StreamFault::of(error) {
            Some(StreamFault(reason)) => Self::Fault(reason.clone()),
            // Readers would call again for ever after an interruption.
            None if error.kind() == io::ErrorKind::Interrupted => Self::Store(io::ErrorKind::Other),
            None => Self::Store(error.kind()),
        }
    }

    pub(crate) fn error(&self) -> io::Error {
        match self {
            Self::Fault(reason) => StreamFault(reason.clone()).into_error(),
            Self::Store(kind) => io::Error::new(*kind, "reading failed before"),
        }
    }
}

enum State {
    Unopened(RawBytes),
    Open(Decoder),
    Failed(Failure),
}

/// Decodes an object's raw bytes.
pub(crate) struct Decompressor {
    state: State,
    decoded: u64,
    limits: Limits,
    /// Behind the block that was returned last.
    pending: Option<io::Error>,
}

impl Decompressor {
    /// Nothing is read until the first call.
    pub(crate) fn new(raw: RawBytes, limits: &Limits) -> Self {
        Self { state: State::Unopened(raw), decoded: 0, limits: limits.clone(), pending: None }
    }

    /// Adds decoded bytes up to a whole block or the end. With an error, the bytes before it stay in `block`.
    fn fill(&mut self, block: &mut Vec<u8>) -> io::Result<()> {
        self.open()?;
        let decoder = match &mut self.state {
            State::Open(decoder) => decoder,
            State::Failed(failure) => return Err(failure.error()),
            State::Unopened(_) => return Ok(()),
        };
        let piece = if decoder.is_compressed() { PIECE_BYTES } else { BLOCK_BYTES };
        block.reserve_exact(BLOCK_BYTES);
        while block.len() < BLOCK_BYTES {
            let before = block.len();
            decoder.read_into(block, BLOCK_BYTES.min(before + piece))?;
            if block.len() == before {
                break;
            }
            if let Some(error) = over_limit(decoder, self.decoded + block.len() as u64, &self.limits) {
                block.truncate(before);
                return Err(error);
            }
        }
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        if let State::Unopened(_) = &self.state {
            let opening = State::Failed(Failure::Store(io::ErrorKind::Other));
            if let State::Unopened(raw) = std::mem::replace(&mut self.state, opening) {
                self.state = State::Open(Decoder::sniff(raw, &self.limits)?);
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: io::Error) -> io::Error {
        self.state = State::Failed(Failure::of(&error));
        error
    }

    /// Whether what was decoded first is compressed again.
    fn is_nested(&self, block: &[u8]) -> bool {
        let compressed = matches!(&self.state, State::Open(decoder) if decoder.is_compressed());
        compressed && self.decoded == 0 && is_compressed(&block[..block.len().min(MAGIC_BYTES)])
    }
}

impl DecodedBlocks for Decompressor {
    fn next_block(&mut self) -> io::Result<DecodedBlock> {
        if let Some(error) = self.pending.take() {
            return Err(self.fail(error));
        }
        let mut block = Vec::new();
        let filled = self.fill(&mut block);
        if self.is_nested(&block) {
            return Err(self.fail(StreamFault(RejectReason::NestedCompression).into_error()));
        }
        match filled {
            Err(error) if block.is_empty() => return Err(self.fail(error)),
            Err(error) => self.pending = Some(error),
            Ok(()) => {}
        }
        self.decoded += block.len() as u64;
        let stored_bytes = match &self.state {
            State::Open(decoder) => decoder.stored_bytes(),
            State::Unopened(_) | State::Failed(_) => 0,
        };
        Ok(DecodedBlock { bytes: Bytes::from(block), stored_bytes })
    }
}

fn over_limit(decoder: &Decoder, total: u64, limits: &Limits) -> Option<io::Error> {
    let fault = |limit, value| Some(StreamFault(RejectReason::over_limit(limit, value)).into_error());
    if total > limits.object_bytes {
        return fault("object_bytes", limits.object_bytes);
    }
    if decoder.is_compressed() && total > limits.expansion_free_bytes {
        let allowed = decoder.stored_bytes().saturating_mul(limits.expansion_ratio);
        if total > allowed {
            return fault("expansion_ratio", limits.expansion_ratio);
        }
    }
    None
}
