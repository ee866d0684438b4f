//! How many requests may be under way at once: halved while the server asks to slow down, and won back one by one.
//! It bounds; it does not retry.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// Time in which the limit is halved once at most: the refusals of one moment are one message.
const HALVE_EVERY: Duration = Duration::from_millis(200);

/// Gives places to requests.
#[derive(Debug)]
pub(crate) struct Governor {
    most: f64,
    state: Mutex<State>,
    freed: Condvar,
}

#[derive(Debug)]
struct State {
    limit: f64,
    running: usize,
    halved: Option<Duration>,
}

/// A request's place; dropping it frees it.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a Governor);

impl Governor {
    /// At most `most` places, at least one.
    pub(crate) fn new(most: usize) -> Self {
        let most = most.max(1) as f64;
        let state = State { limit: most, running: 0, halved: None };
        Self { most, state: Mutex::new(state), freed: Condvar::new() }
    }

    /// Waits for a place.
    pub(crate) fn enter(&self) -> Place<'_> {
        let mut state = self.state.lock().expect("no holder panics");
        while state.running >= state.limit as usize {
            state = self.freed.wait(state).expect("no holder panics");
        }
        state.running += 1;
        Place(self)
    }

    /// The server asked to slow down at this time.
    pub(crate) fn throttled(&self, now: Duration) {
        let mut state = self.state.lock().expect("no holder panics");
        if state.halved.is_none_or(|halved| now.saturating_sub(halved) >= HALVE_EVERY) {
            state.limit = (state.limit / 2.0).max(1.0);
            state.halved = Some(now);
        }
    }

    /// A request went through: after as many as there are places, one more is given.
    pub(crate) fn went_through(&self) {
        let mut state = self.state.lock().expect("no holder panics");
        state.limit = (state.limit + 1.0 / state.limit).min(self.most);
        self.freed.notify_one();
    }

    /// Places at present.
    #[cfg(test)]
    pub(crate) fn limit(&self) -> usize {
        self.state.lock().expect("no holder panics").limit as usize
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.state.lock().expect("no holder panics").running -= 1;
        self.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_06_places_are_halved_once_a_moment_and_won_back() {
        let governor = Governor::new(64);
        for _ in 0..100 {
            governor.throttled(Duration::ZERO);
        }
        assert_eq!(governor.limit(), 32, "the refusals of one moment are one message");
        for moment in 1..=10 {
            governor.throttled(moment * HALVE_EVERY);
        }
        assert_eq!(governor.limit(), 1, "there is always one");
        for _ in 0..5_000 {
            governor.went_through();
        }
        assert_eq!(governor.limit(), 64, "and never more than at the beginning");
    }

    #[test]
    fn no_more_requests_run_at_once_than_there_are_places() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let (governor, running, most) = (Governor::new(3), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let _place = governor.enter();
                        most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        std::thread::yield_now();
                        running.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 3);
    }
}
