//! Bytes that were sent for and not yet collected: they come while the stream goes on, each to a place of its own in page-locked
//! memory. Large ones, and more than there is such memory for, are not taken here.
//!
//! Memory is made a block at a time, and a block is cut into places of one size, a power of two. So thousands of small returns
//! are under way at once, and what was collected makes room for what is sent for next.

use std::collections::BTreeMap;
use std::sync::Arc;

use cudarc::driver::CudaStream;
use cudarc::driver::result::DriverError;

use super::super::device::Address;
use super::driver::{Mark, Pinned};

/// Bytes of a block, and of what comes without waiting at most: the losses, or a row of logits, of 262,144 in f32.
const BLOCK_BYTES: usize = 1 << 20;
/// Bytes of the smallest places.
const LEAST_BYTES: usize = 256;
/// Blocks there are at most: 256 MiB. The losses of 8,192 rows take 32 KiB, so that 8,192 micro-batches of that size fit.
const MAX_BLOCKS: usize = 256;

/// A place for one return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    block: usize,
    at: usize,
    /// What it has room for.
    bytes: usize,
}

/// Which places are free.
#[derive(Debug, Default)]
struct Places {
    blocks: usize,
    /// By their size, the one that was given back last at the end.
    free: BTreeMap<usize, Vec<Place>>,
}

impl Places {
    /// A place for so many bytes; none when they are too many, or every block is in use. When it lies in block number `blocks` as
    /// it was before, that block has to be made.
    fn take(&mut self, bytes: usize) -> Option<Place> {
        let size = bytes.max(LEAST_BYTES).checked_next_power_of_two().filter(|size| *size <= BLOCK_BYTES)?;
        if let Some(place) = self.free.get_mut(&size).and_then(Vec::pop) {
            return Some(place);
        }
        if self.blocks == MAX_BLOCKS {
            return None;
        }
        let block = self.blocks;
        self.blocks += 1;
        // The first of them is taken last, so that it is the one that is given out.
        let places = (0..BLOCK_BYTES / size).rev().map(|index| Place { block, at: index * size, bytes: size });
        let free = self.free.entry(size).or_default();
        free.extend(places);
        free.pop()
    }

    fn give_back(&mut self, place: Place) {
        self.free.entry(place.bytes).or_default().push(place);
    }
}

/// What was sent for.
#[derive(Debug)]
enum Sent {
    /// On its way to this place, or there.
    Place { place: Place, done: Mark },
    /// There.
    Bytes(Vec<u8>),
}

/// What was sent for, by ticket.
#[derive(Debug, Default)]
pub(super) struct Returns {
    last_ticket: u64,
    sent: BTreeMap<u64, Sent>,
    places: Places,
    blocks: Vec<Pinned>,
    /// Marks that nobody waits for.
    marks: Vec<Mark>,
}

impl Returns {
    /// A number that none had before.
    pub(super) fn ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// Sends for bytes without waiting; false when there is no place for them.
    pub(super) fn send(
        &mut self,
        ticket: u64,
        from: Address,
        bytes: usize,
        stream: &Arc<CudaStream>,
    ) -> Result<bool, DriverError> {
        let Some(place) = self.places.take(bytes) else { return Ok(false) };
        let context = stream.context();
        if place.block == self.blocks.len() {
            self.blocks.push(Pinned::new(context, BLOCK_BYTES)?);
        }
        let done = self.marks.pop().map_or_else(|| Mark::new(context), Ok)?;
        self.blocks[place.block].fetch(place.at, from, bytes, stream)?;
        done.record(stream)?;
        self.sent.insert(ticket, Sent::Place { place, done });
        Ok(true)
    }

    /// Keeps bytes that are there.
    pub(super) fn keep(&mut self, ticket: u64, bytes: Vec<u8>) {
        self.sent.insert(ticket, Sent::Bytes(bytes));
    }

    /// Waits for what was sent for, and gives it out, once; as many bytes as were sent for.
    pub(super) fn collect(&mut self, ticket: u64, out: &mut [u8]) -> Result<(), DriverError> {
        match self.sent.remove(&ticket).expect("a ticket is collected once") {
            Sent::Place { place, done } => {
                done.wait()?;
                self.blocks[place.block].read(place.at, out);
                self.places.give_back(place);
                self.marks.push(done);
            }
            Sent::Bytes(bytes) => out.copy_from_slice(&bytes),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_collected_once_under_its_ticket() {
        let mut returns = Returns::default();
        let (first, second) = (returns.ticket(), returns.ticket());
        assert_ne!(first, second);
        returns.keep(first, vec![1, 2]);
        returns.keep(second, vec![3]);
        let (mut one, mut two) = ([0], [0; 2]);
        returns.collect(second, &mut one).unwrap();
        returns.collect(first, &mut two).unwrap();
        assert_eq!((one, two), ([3], [1, 2]));
        assert!(returns.sent.is_empty());
    }

    /// Places that are taken at once: none overlaps another, each has room, and lies in a block.
    fn check_apart(taken: &[(usize, Place)]) {
        let mut ends = BTreeMap::new();
        for (bytes, place) in taken {
            assert!(place.bytes >= *bytes && place.at + place.bytes <= BLOCK_BYTES && place.at.is_multiple_of(place.bytes));
            assert_eq!(ends.insert((place.block, place.at), place.at + place.bytes), None, "{place:?} is taken twice");
        }
        for ((before, end), (after, _)) in ends.iter().zip(ends.iter().skip(1)) {
            assert!(before.0 != after.0 || *end <= after.1, "{before:?} to {end} reaches into {after:?}");
        }
    }

    #[test]
    fn thousands_of_small_returns_have_places_at_once() {
        let mut places = Places::default();
        // The losses of 2,000 micro-batches of 8,192 rows each, with a judgement after every fourth.
        let sizes = (0..2_500).map(|index| if index % 5 == 4 { 24 } else { 4 * 8_192 });
        let taken: Vec<(usize, Place)> = sizes.map(|bytes| (bytes, places.take(bytes).unwrap())).collect();
        check_apart(&taken);
        assert_eq!(
            places.blocks,
            2_000 * 4 * 8_192 / BLOCK_BYTES + 1 + 1,
            "63 blocks of losses, begun or full, one of judgements"
        );
        let blocks = places.blocks;
        for _ in 0..3 {
            for (_, place) in &taken {
                places.give_back(*place);
            }
            let again: Vec<(usize, Place)> = taken.iter().map(|(bytes, _)| (*bytes, places.take(*bytes).unwrap())).collect();
            check_apart(&again);
            assert_eq!(places.blocks, blocks, "what was given back is taken again");
        }
    }

    #[test]
    fn places_of_every_size_lie_apart() {
        let mut places = Places::default();
        let sizes = [0, 1, LEAST_BYTES, LEAST_BYTES + 1, 1_000, BLOCK_BYTES / 2 + 1, BLOCK_BYTES];
        let taken: Vec<(usize, Place)> = sizes.iter().cycle().take(70).map(|size| (*size, places.take(*size).unwrap())).collect();
        check_apart(&taken);
        assert_eq!(places.take(BLOCK_BYTES + 1), None);
        assert_eq!(places.take(usize::MAX), None);
    }

    #[test]
    fn blocks_are_limited_and_what_is_given_back_is_used() {
        let mut places = Places::default();
        let taken: Vec<Place> = (0..MAX_BLOCKS).map(|_| places.take(BLOCK_BYTES).unwrap()).collect();
        assert_eq!(taken.iter().map(|place| place.block).collect::<Vec<_>>(), (0..MAX_BLOCKS).collect::<Vec<_>>());
        assert_eq!(places.take(BLOCK_BYTES), None);
        assert_eq!(places.take(1), None, "no block is left to be cut");
        places.give_back(taken[7]);
        assert_eq!(places.take(BLOCK_BYTES), Some(taken[7]));
    }
}
