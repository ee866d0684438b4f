//! Making on one thread what another takes: a task that reads, computes and writes does it at once where it has threads for it.

use std::panic::resume_unwind;
use std::sync::mpsc::sync_channel;

use crate::failure::Failure;

/// Takes an item.
pub(crate) type Take<'t, T> = dyn FnMut(T) -> Result<(), Failure> + 't;

/// Runs `make`, which gives items away, and calls `take` with each, in order, on the caller's thread. With two `threads` or more
/// `make` runs on a thread of its own meanwhile: one item is made, `waiting` wait, one is taken. No thread outlives the call.
///
/// # Errors
/// The first that `take` returns, else that of `make` once everything made before is taken.
pub(crate) fn ahead<T: Send>(
    threads: usize,
    waiting: usize,
    make: impl FnOnce(&mut Take<'_, T>) -> Result<(), Failure> + Send,
    take: &mut Take<'_, T>,
) -> Result<(), Failure> {
    if threads < 2 {
        return make(take);
    }
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(waiting);
        let making = scope.spawn(move || {
            // Nobody receives any more only where `take` has failed: its failure is the one that is told.
            let unwanted = |_| Failure::Failed("nobody takes what is made".into());
            make(&mut |item| sender.send(item).map_err(unwanted))
        });
        let taken = receiver.iter().try_for_each(take);
        drop(receiver);
        let made = making.join().unwrap_or_else(|panic| resume_unwind(panic));
        taken.and(made)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(what: &str) -> Failure {
        Failure::Failed(what.into())
    }

    /// Numbers made and taken with so many threads: those that were taken, and how it ended.
    fn check(threads: usize, making: Option<u32>, taking: Option<u32>, taken: u32, ended: Option<&str>) {
        let mut found = Vec::new();
        let result = ahead(
            threads,
            1,
            |give| {
                for number in 0..9 {
                    if making == Some(number) {
                        return Err(failed("making"));
                    }
                    give(number)?;
                }
                Ok(())
            },
            &mut |number| {
                if taking == Some(number) {
                    return Err(failed("taking"));
                }
                found.push(number);
                Ok(())
            },
        );
        assert_eq!(found, (0..taken).collect::<Vec<_>>(), "{threads} threads");
        let message = result.err().map(|failure| match failure {
            Failure::Failed(message) => message,
            other => panic!("{other:?}"),
        });
        assert_eq!(message.as_deref(), ended, "{threads} threads");
    }

    #[test]
    fn all_is_taken_in_order_and_the_failure_is_that_of_its_side() {
        for threads in [1, 2] {
            check(threads, None, None, 9, None);
            check(threads, Some(4), None, 4, Some("making"));
            check(threads, Some(0), None, 0, Some("making"));
            check(threads, None, Some(4), 4, Some("taking"));
            check(threads, Some(4), Some(3), 3, Some("taking"));
        }
    }
}
