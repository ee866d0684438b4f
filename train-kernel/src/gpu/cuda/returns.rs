//! Bytes that were sent for and not yet collected: small ones come while the stream goes on, each in page-locked memory of its
//! own. Large ones, and more than there is such memory for, are not taken here.

use std::collections::BTreeMap;
use std::sync::Arc;

use cudarc::driver::result::DriverError;
use cudarc::driver::{CudaEvent, CudaStream};

use super::super::device::Address;
use super::driver::Pinned;

/// Bytes that come without waiting: a row of logits of 262,144 words in f32.
const SLOT_BYTES: usize = 1 << 20;
/// Slots there are at most; fewer are made as long as fewer are under way at once.
const MAX_SLOTS: usize = 64;

/// Page-locked memory for one copy.
#[derive(Debug)]
struct Slot {
    memory: Pinned,
    done: CudaEvent,
}

/// What was sent for.
#[derive(Debug)]
enum Sent {
    /// On its way, or there.
    Slot(Slot),
    /// There.
    Bytes(Vec<u8>),
}

/// What was sent for, by ticket.
#[derive(Debug, Default)]
pub(super) struct Returns {
    last_ticket: u64,
    sent: BTreeMap<u64, Sent>,
    idle: Vec<Slot>,
    slots: usize,
}

impl Returns {
    /// A number that none had before.
    pub(super) fn ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    /// Sends for bytes without waiting; false when they do not fit into a slot, or all slots are taken.
    pub(super) fn send(
        &mut self,
        ticket: u64,
        from: Address,
        bytes: usize,
        stream: &Arc<CudaStream>,
    ) -> Result<bool, DriverError> {
        if bytes > SLOT_BYTES || (self.idle.is_empty() && self.slots == MAX_SLOTS) {
            return Ok(false);
        }
        let mut slot = if let Some(slot) = self.idle.pop() {
            slot
        } else {
            self.slots += 1;
            let context = stream.context();
            Slot { memory: Pinned::new(context, SLOT_BYTES)?, done: context.new_event(None)? }
        };
        slot.memory.fetch(from, bytes, stream)?;
        slot.done.record(stream)?;
        self.sent.insert(ticket, Sent::Slot(slot));
        Ok(true)
    }

    /// Keeps bytes that are there.
    pub(super) fn keep(&mut self, ticket: u64, bytes: Vec<u8>) {
        self.sent.insert(ticket, Sent::Bytes(bytes));
    }

    /// Waits for what was sent for, and gives it out, once; as many bytes as were sent for.
    pub(super) fn collect(&mut self, ticket: u64, out: &mut [u8]) -> Result<(), DriverError> {
        match self.sent.remove(&ticket).expect("a ticket is collected once") {
            Sent::Slot(slot) => {
                slot.done.synchronize()?;
                slot.memory.read(out);
                self.idle.push(slot);
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
}
