//! The way of bytes to the card and back: through page-locked memory, so that a copy to the card is under way when its call
//! returns, and waits for the stream only when the memory is full of bytes that are still to be read.

use std::sync::Arc;

use cudarc::driver::CudaStream;
use cudarc::driver::result::DriverError;

use super::super::device::Address;
use super::driver::{Mark, Pinned};

/// Bytes of each of the two halves.
const HALF_BYTES: usize = 8 << 20;
/// Places begin at multiples of this many bytes.
const ALIGNMENT_BYTES: usize = 64;

/// Where the next bytes go: from the beginning of a half to its end, then to the other half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ring {
    half: usize,
    used: usize,
}

/// A place in a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    half: usize,
    at: usize,
    bytes: usize,
    /// Whether the half was entered for it: what it held has to be gone, and the other half is full.
    is_turn: bool,
}

impl Ring {
    /// A place for `wanted` bytes, or for as many of them as fit.
    fn take(&mut self, wanted: usize) -> Place {
        let is_turn = self.used >= HALF_BYTES;
        if is_turn {
            *self = Self { half: 1 - self.half, used: 0 };
        }
        let place = Place { half: self.half, at: self.used, bytes: wanted.min(HALF_BYTES - self.used), is_turn };
        self.used += place.bytes.next_multiple_of(ALIGNMENT_BYTES);
        place
    }
}

/// Half of the memory.
#[derive(Debug)]
struct Half {
    memory: Pinned,
    /// Recorded behind the last copy that reads or writes it.
    done: Mark,
}

/// The memory. One stream uses it.
#[derive(Debug)]
pub(super) struct Staging {
    halves: [Half; 2],
    ring: Ring,
}

impl Staging {
    pub(super) fn new(stream: &Arc<CudaStream>) -> Result<Self, DriverError> {
        let context = stream.context();
        let half = || Ok(Half { memory: Pinned::new(context, HALF_BYTES)?, done: Mark::new(context)? });
        Ok(Self { halves: [half()?, half()?], ring: Ring::default() })
    }

    /// Copies to the card.
    pub(super) fn upload(&mut self, to: Address, bytes: &[u8], stream: &CudaStream) -> Result<(), DriverError> {
        let mut sent = 0;
        while sent < bytes.len() {
            let place = self.ring.take(bytes.len() - sent);
            if place.is_turn {
                self.halves[1 - place.half].done.record(stream)?;
                self.halves[place.half].done.wait()?;
            }
            let piece = &bytes[sent..sent + place.bytes];
            self.halves[place.half].memory.send(place.at, piece, to.plus(sent), stream)?;
            sent += place.bytes;
        }
        Ok(())
    }

    /// Copies from the card, and waits for the stream. One half is read while the card fills the other.
    pub(super) fn download(&mut self, from: Address, out: &mut [u8], stream: &CudaStream) -> Result<(), DriverError> {
        // The stream is in order: what the card still reads of a half, it has read before it writes there.
        let mut pieces = out.chunks_mut(HALF_BYTES).enumerate();
        let mut waiting: Option<(usize, &mut [u8])> = None;
        loop {
            let next = pieces.next();
            if let Some((index, piece)) = &next {
                let half = &mut self.halves[index % 2];
                half.memory.fetch(0, from.plus(index * HALF_BYTES), piece.len(), stream)?;
                half.done.record(stream)?;
            }
            if let Some((index, piece)) = waiting.take() {
                let half = &self.halves[index % 2];
                half.done.wait()?;
                half.memory.read(0, piece);
            }
            waiting = next;
            if waiting.is_none() {
                break;
            }
        }
        stream.synchronize()?;
        self.ring = Ring::default();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_each_other_and_turn_when_a_half_is_full() {
        let mut ring = Ring::default();
        let check = |place: Place, half, at, bytes, is_turn| assert_eq!(place, Place { half, at, bytes, is_turn });
        check(ring.take(100), 0, 0, 100, false);
        check(ring.take(64), 0, 128, 64, false);
        check(ring.take(3 * HALF_BYTES), 0, 192, HALF_BYTES - 192, false);
        check(ring.take(2 * HALF_BYTES), 1, 0, HALF_BYTES, true);
        check(ring.take(HALF_BYTES), 0, 0, HALF_BYTES, true);
        check(ring.take(1), 1, 0, 1, true);
        check(ring.take(HALF_BYTES), 1, 64, HALF_BYTES - 64, false);
    }

    #[test]
    fn every_length_is_sent_in_pieces_that_lie_in_a_half() {
        for bytes in [0, 1, HALF_BYTES - 1, HALF_BYTES, HALF_BYTES + 1, 5 * HALF_BYTES + 17] {
            let mut ring = Ring::default();
            for _ in 0..3 {
                let mut sent = 0;
                while sent < bytes {
                    let place = ring.take(bytes - sent);
                    assert!(place.bytes > 0 && place.at + place.bytes <= HALF_BYTES && place.at % ALIGNMENT_BYTES == 0);
                    sent += place.bytes;
                }
                assert_eq!(sent, bytes);
            }
        }
    }
}
