//! Time as retries and limits see it: the machine's, or one that tests move by hand. Nothing of it reaches an output.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use super::options::Interrupt;

/// How often a wait looks whether it should end.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A clock that can be waited on.
pub(crate) trait Clock: Send + Sync + Debug {
    /// Time since some fixed moment.
    fn now(&self) -> Duration;

    /// Waits; `false` when it was interrupted.
    fn sleep(&self, time: Duration, interrupt: &Interrupt) -> bool;
}

/// The machine's own clock.
#[derive(Debug)]
pub(crate) struct SystemClock {
    began: Instant,
}

impl SystemClock {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn sleep(&self, time: Duration, interrupt: &Interrupt) -> bool {
        let end = self.now() + time;
        loop {
            if interrupt.is_asked() {
                return false;
            }
            let left = end.saturating_sub(self.now());
            if left.is_zero() {
                return true;
            }
            std::thread::park_timeout(left.min(LOOK_EVERY));
        }
    }
}

/// A clock that stands still but while somebody waits: a wait takes no time and moves it on.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct VirtualClock(std::sync::Mutex<Duration>);

#[cfg(test)]
impl VirtualClock {
    pub(crate) fn advance(&self, time: Duration) {
        *self.0.lock().expect("no holder panics") += time;
    }
}

#[cfg(test)]
impl Clock for VirtualClock {
    fn now(&self) -> Duration {
        *self.0.lock().expect("no holder panics")
    }

    fn sleep(&self, time: Duration, interrupt: &Interrupt) -> bool {
        self.advance(time);
        !interrupt.is_asked()
    }
}
