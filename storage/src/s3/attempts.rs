//! One request until it is answered: attempts with growing, jittered pauses, a limit of tries and of time, and the memory of
//! whether an earlier attempt may have taken effect. The only place that retries (the SDK's own retries are off).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::clock::Clock;
use super::governor::{Governor, Place};
use super::options::Interrupt;
use super::trouble::{Kind, Trouble};
use crate::usage::{Meter, Request};

/// Tries of one request, the first included.
const MOST_TRIES: u32 = 10;
/// Tries while no connection was ever made: a wrong address or a server that is down is told soon.
const MOST_TRIES_UNHEARD: u32 = 4;
/// Longest pause behind the first try; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause of all.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What every request of a client shares.
#[derive(Debug)]
pub(crate) struct Attempts {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) governor: Governor,
    pub(crate) meter: Arc<Meter>,
    pub(crate) interrupt: Interrupt,
    deadline: Duration,
    /// Whether the server ever answered.
    was_heard: AtomicBool,
    pauses: AtomicU64,
}

/// A request that was given up.
#[derive(Debug)]
pub(crate) struct GivenUp {
    /// What the last attempt ended with.
    pub(crate) trouble: Trouble,
    /// Whether any attempt may have taken effect.
    pub(crate) may_have_taken_effect: bool,
    /// Whether the server has ever answered this process.
    pub(crate) was_heard: bool,
    pub(crate) tries: u32,
    pub(crate) time: Duration,
}

impl Attempts {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        concurrency: usize,
        meter: Arc<Meter>,
        interrupt: Interrupt,
        deadline: Duration,
    ) -> Self {
        let governor = Governor::new(concurrency);
        Self { clock, governor, meter, interrupt, deadline, was_heard: AtomicBool::new(false), pauses: AtomicU64::new(0) }
    }

    /// Makes the request until it is answered. `body_bytes` is the length of what is sent or asked for, which has time of its own;
    /// `renew` is called once when credentials have expired.
    pub(crate) fn make<T>(
        &self,
        kind: Request,
        body_bytes: u64,
        renew: &dyn Fn(),
        mut attempt: impl FnMut() -> Result<T, Trouble>,
    ) -> Result<T, GivenUp> {
        // A request that waits for its place has not begun.
        let mut place = Some(self.governor.enter());
        let began = self.clock.now();
        let (mut tries, mut may_have_taken_effect, mut renewed) = (0, false, false);
        loop {
            tries += 1;
            let here = place.take().unwrap_or_else(|| self.governor.enter());
            let outcome = self.once(here, kind, body_bytes, &mut attempt);
            let trouble = match outcome {
                Ok(answer) => return Ok(answer),
                Err(trouble) => trouble,
            };
            may_have_taken_effect |= trouble.may_have_taken_effect();
            let was_heard = self.was_heard.load(Ordering::Relaxed);
            let given_up = |trouble| {
                let time = self.clock.now().saturating_sub(began);
                Err(GivenUp { trouble, may_have_taken_effect, was_heard, tries, time })
            };
            if trouble.kind == Kind::Expired {
                if renewed {
                    return given_up(trouble);
                }
                renewed = true;
                renew();
            }
            let pause = self.pause(tries);
            let most = match trouble.kind {
                _ if !was_heard => MOST_TRIES_UNHEARD,
                // A server that is started again takes longer than refusals do: the deadline alone counts.
                Kind::NotSent => u32::MAX,
                _ => MOST_TRIES,
            };
            let is_late = self.clock.now().saturating_sub(began) + pause > self.deadline + 2 * body_time(body_bytes);
            if !trouble.is_worth_another_try() || tries >= most || is_late {
                return given_up(trouble);
            }
            if !self.clock.sleep(pause, &self.interrupt) {
                return given_up(Trouble::here(Kind::Interrupted, "the process was asked to stop"));
            }
            self.meter.retried();
        }
    }

    /// One attempt at what has to be tried even by a process that was asked to stop.
    pub(crate) fn last<T>(&self, kind: Request, attempt: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
        self.meter.request(kind, 0);
        attempt()
    }

    /// One attempt in its place.
    fn once<T>(
        &self,
        place: Place<'_>,
        kind: Request,
        body_bytes: u64,
        attempt: &mut impl FnMut() -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        if self.interrupt.is_asked() {
            return Err(Trouble::here(Kind::Interrupted, "the process was asked to stop"));
        }
        self.meter.request(kind, body_bytes);
        let outcome = attempt();
        drop(place);
        match &outcome {
            Ok(_) => self.governor.went_through(),
            Err(trouble) if trouble.kind == Kind::Throttled => {
                self.meter.throttled();
                self.governor.throttled(self.clock.now());
            }
            Err(_) => {}
        }
        if outcome.as_ref().map_or_else(|trouble| trouble.status.is_some(), |_| true) {
            self.was_heard.store(true, Ordering::Relaxed);
        }
        outcome
    }

    /// A pause between nothing and the longest of this try ("full jitter"), of a counter and no clock.
    fn pause(&self, tries: u32) -> Duration {
        let longest = FIRST_PAUSE.saturating_mul(1 << (tries - 1).min(16)).min(LONGEST_PAUSE);
        let number = self.pauses.fetch_add(1, Ordering::Relaxed);
        let hash = blake3::hash(&[number.to_le_bytes(), u64::from(std::process::id()).to_le_bytes()].concat());
        let share = u32::from_le_bytes(hash.as_bytes()[..4].try_into().expect("four bytes"));
        longest.mul_f64(f64::from(share) / f64::from(u32::MAX))
    }
}

/// Time that a body of so many bytes has besides: 8 s for each MiB, which is 128 KiB a second.
pub(crate) fn body_time(bytes: u64) -> Duration {
    Duration::from_millis(bytes.div_ceil(1 << 20) * 8_000)
}

#[cfg(test)]
mod tests {
    use super::super::clock::VirtualClock;
    use super::*;

    fn attempts(clock: &Arc<VirtualClock>) -> Attempts {
        let clock: Arc<dyn Clock> = clock.clone();
        Attempts::new(clock, 64, Arc::default(), Interrupt::default(), Duration::from_mins(3))
    }

    /// Runs a script of troubles (`None`: success) and gives tries and outcome.
    fn check(script: &[Option<Trouble>], expected: Result<(), Kind>, tries: usize) -> Attempts {
        let clock = Arc::new(VirtualClock::default());
        let attempts = attempts(&clock);
        let mut made = 0;
        let outcome = attempts.make(Request::Put, 0, &|| {}, || {
            made += 1;
            script.get(made - 1).or(script.last()).cloned().flatten().map_or(Ok(()), Err)
        });
        let found = outcome.map_err(|given_up| given_up.trouble.kind);
        assert_eq!((found, made), (expected, tries), "{script:?}");
        assert!(clock.now() <= Duration::from_mins(3), "{script:?}: {:?}", clock.now());
        attempts
    }

    fn answer(status: u16) -> Trouble {
        Trouble::answer(status, "")
    }

    #[test]
    fn the_time_that_a_request_waits_for_its_place_is_not_its_own() {
        let clock = Arc::new(VirtualClock::default());
        let shared: Arc<dyn Clock> = clock.clone();
        let attempts = Attempts::new(shared, 1, Arc::default(), Interrupt::default(), Duration::from_mins(3));
        let waiting = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            let place = attempts.governor.enter();
            let request = scope.spawn(|| {
                let mut made = 0;
                waiting.wait();
                attempts.make(Request::Get, 0, &|| {}, || {
                    made += 1;
                    if made < 3 { Err(answer(503)) } else { Ok(made) }
                })
            });
            waiting.wait();
            clock.advance(Duration::from_mins(10));
            drop(place);
            assert_eq!(request.join().unwrap().map_err(|given_up| given_up.trouble.kind), Ok(3));
        });
    }

    #[test]
    fn requests_are_repeated_as_often_as_it_helps() {
        check(&[None], Ok(()), 1);
        check(&[Some(answer(500)), Some(answer(500)), None], Ok(()), 3);
        check(&[Some(answer(503)), None], Ok(()), 2);
        check(&[Some(answer(409)), None], Ok(()), 2);
        check(&[Some(answer(404))], Err(Kind::NotFound), 1);
        check(&[Some(answer(403))], Err(Kind::Denied), 1);
        check(&[Some(answer(412))], Err(Kind::Precondition), 1);
        check(&[Some(answer(500)), Some(answer(403))], Err(Kind::Denied), 2);
        check(&[Some(answer(500))], Err(Kind::Server), MOST_TRIES as usize);
        let unsent = Trouble::here(Kind::NotSent, "no connection");
        check(&[Some(unsent.clone())], Err(Kind::NotSent), MOST_TRIES_UNHEARD as usize);
    }

    #[test]
    fn a_server_that_was_there_is_waited_for_until_the_deadline() {
        let clock = Arc::new(VirtualClock::default());
        let attempts = attempts(&clock);
        let mut tries = 0;
        let given_up = attempts.make(Request::Get, 0, &|| {}, || {
            tries += 1;
            if tries == 1 { Err::<(), _>(answer(500)) } else { Err(Trouble::here(Kind::NotSent, "no connection")) }
        });
        let given_up = given_up.unwrap_err();
        assert!(given_up.was_heard && !given_up.trouble.may_have_taken_effect());
        assert!(tries > MOST_TRIES && given_up.time > Duration::from_secs(150), "{tries} tries, {:?}", given_up.time);
    }

    #[test]
    fn case_16_expired_credentials_are_renewed_once() {
        let expired = Some(Trouble::answer(403, "ExpiredToken"));
        check(&[expired.clone(), None], Ok(()), 2);
        check(&[expired], Err(Kind::Expired), 2);
    }

    #[test]
    fn case_17_a_wrong_clock_is_not_tried_again() {
        check(&[Some(Trouble::answer(403, "RequestTimeTooSkewed"))], Err(Kind::Clock), 1);
    }

    #[test]
    fn case_18_the_deadline_holds_where_every_attempt_hangs() {
        let clock = Arc::new(VirtualClock::default());
        let attempts = attempts(&clock);
        let mut tries = 0;
        let given_up = attempts.make(Request::Get, 0, &|| {}, || {
            tries += 1;
            clock.advance(Duration::from_secs(30));
            Err::<(), _>(Trouble::here(Kind::Timeout, "no answer"))
        });
        let given_up = given_up.expect_err("nothing was answered");
        assert_eq!(given_up.trouble.kind, Kind::Timeout);
        assert!(given_up.time <= Duration::from_secs(210) && tries >= 3, "{given_up:?}");
    }

    #[test]
    fn case_06_slow_down_lowers_the_places_and_is_counted() {
        let attempts = check(&[Some(answer(503)), Some(answer(503)), None], Ok(()), 3);
        let usage = attempts.meter.usage();
        assert_eq!((usage.of(Request::Put), usage.throttled, usage.retries), (3, 2, 2));
        assert!(attempts.governor.limit() < 64);
    }

    #[test]
    fn case_14_a_pause_ends_when_the_process_is_asked_to_stop() {
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock::default());
        let attempts = Attempts::new(clock, 1, Arc::default(), Interrupt::new(|| true), Duration::from_secs(9));
        let outcome = attempts.make(Request::Get, 0, &|| {}, || Ok::<_, Trouble>(()));
        assert_eq!(outcome.expect_err("asked to stop").trouble.kind, Kind::Interrupted);
        assert_eq!(attempts.meter.usage().requests(), 0);
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        let attempts = attempts(&Arc::new(VirtualClock::default()));
        for tries in 1..40 {
            let bound = (FIRST_PAUSE * 2_u32.pow((tries - 1).min(8))).min(LONGEST_PAUSE);
            assert!(attempts.pause(tries) <= bound);
        }
    }
}
