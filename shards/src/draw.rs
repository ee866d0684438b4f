//! One document of one pass as it is sorted: a record of fixed width whose bytes compare as the training order does.
//!
//! It sorts nothing itself: a sorter of records, in memory or on disk, puts draws in order, and [`crate::spread`] merges sources.

use crate::order::{Prf, Run};
use crate::token_object::RunPlace;

/// Bytes of a record of [`Draw::to_bytes`].
pub const DRAW_BYTES: usize = 58;

/// A document in one pass over its source.
///
/// Draws in rising order of their bytes are, source by source, the documents in training order: by pass, then by the keyed
/// hash of the document key in that pass, then by document key, object and row, so that equal hashes have one order too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// Which pass over the source it belongs to, from 0.
    pub epoch: u32,
    /// Keyed hash of the document key in this pass.
    pub hash: u64,
    /// The document.
    pub run: Run,
}

impl Draw {
    /// The draw of `run` in pass `epoch`; `prf` has the purpose [`crate::order::ORDER_PURPOSE`].
    pub fn new(prf: &Prf, epoch: u32, run: Run) -> Self {
        Self { epoch, hash: prf.hash(u64::from(epoch), &run.key.to_le_bytes()), run }
    }

    /// The record, numbers in big-endian: source (2 bytes), epoch (4), hash (8), key (16), object (4), row (4), tokens (4),
    /// first token in the object (8), check (8).
    pub fn to_bytes(&self) -> [u8; DRAW_BYTES] {
        let mut record = [0; DRAW_BYTES];
        record[0..2].copy_from_slice(&self.run.source.to_be_bytes());
        record[2..6].copy_from_slice(&self.epoch.to_be_bytes());
        record[6..14].copy_from_slice(&self.hash.to_be_bytes());
        record[14..30].copy_from_slice(&self.run.key.to_be_bytes());
        record[30..34].copy_from_slice(&self.run.object.to_be_bytes());
        record[34..38].copy_from_slice(&self.run.row.to_be_bytes());
        record[38..42].copy_from_slice(&self.run.tokens.to_be_bytes());
        record[42..50].copy_from_slice(&self.run.place.start.to_be_bytes());
        record[50..58].copy_from_slice(&self.run.place.check.to_be_bytes());
        record
    }

    /// The draw of a record.
    pub fn from_bytes(record: &[u8; DRAW_BYTES]) -> Self {
        let run = Run {
            object: u32::from_be_bytes(part(record, 30)),
            row: u32::from_be_bytes(part(record, 34)),
            tokens: u32::from_be_bytes(part(record, 38)),
            key: u128::from_be_bytes(part(record, 14)),
            source: u16::from_be_bytes(part(record, 0)),
            place: RunPlace { start: u64::from_be_bytes(part(record, 42)), check: u64::from_be_bytes(part(record, 50)) },
        };
        Self { epoch: u32::from_be_bytes(part(record, 2)), hash: u64::from_be_bytes(part(record, 6)), run }
    }
}

fn part<const W: usize>(record: &[u8; DRAW_BYTES], at: usize) -> [u8; W] {
    let mut bytes = [0; W];
    bytes.copy_from_slice(&record[at..at + W]);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::Draw;
    use crate::order::Run;
    use crate::token_object::RunPlace;

    proptest! {
        #[test]
        fn records_come_back_and_compare_as_the_order_does(
            a in (any::<u16>(), any::<u32>(), any::<u64>(), any::<u128>(), any::<[u32; 3]>()),
            b in (any::<u16>(), any::<u32>(), any::<u64>(), any::<u128>(), any::<[u32; 3]>()),
            equal in 0_usize..8,
        ) {
            // The first few fields are made equal, so that the later ones decide.
            let b = (
                if equal > 0 { a.0 } else { b.0 }, if equal > 1 { a.1 } else { b.1 }, if equal > 2 { a.2 } else { b.2 },
                if equal > 3 { a.3 } else { b.3 },
                [if equal > 4 { a.4[0] } else { b.4[0] }, if equal > 5 { a.4[1] } else { b.4[1] }, b.4[2]],
            );
            let draw = |(source, epoch, hash, key, [object, row, tokens]): (u16, u32, u64, u128, [u32; 3])| {
                Draw { epoch, hash, run: Run { object, row, tokens, key, source, place: RunPlace { start: u64::from(tokens) << 9, check: 3 } } }
            };
            let (x, y) = (draw(a), draw(b));
            prop_assert_eq!(Draw::from_bytes(&x.to_bytes()), x);
            prop_assert_eq!(x.to_bytes().cmp(&y.to_bytes()), a.cmp(&b));
        }
    }
}
