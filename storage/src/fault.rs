//! A store that fails on purpose: it counts its calls and, at the calls that a schedule names, fails before or after the call
//! took effect, cuts or damages bodies, or ends the process. It decides nothing by chance, so every failure can be repeated.
//!
//! The loop that tests a protocol: run once without faults and read [`FaultStore::calls`]; then for every call number and
//! effect run with that one fault, run again without, and compare the bytes with the undisturbed run's.

use crate::error::{StoreError, object_name};
use crate::key::{AttemptId, ETag, Key, ObjectMeta, PutOutcome};
use crate::store::{Stale, Store, Upload};
use crate::usage::Meter;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

/// How long a slow call waits, at most.
const SLOW: Duration = Duration::from_millis(5);

/// A kind of call that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// [`Store::head`] and [`Store::modified`].
    Head,
    /// [`Store::read`].
    Read,
    /// [`Store::open`].
    Open,
    /// [`Store::put_new`].
    PutNew,
    /// [`Store::upload`].
    Upload,
    /// A `write` to an upload.
    Write,
    /// [`Upload::finish`].
    Finish,
    /// [`Store::list`].
    List,
    /// [`Store::delete`].
    Delete,
}

impl Operation {
    /// Every operation, in the order of the enum.
    pub const ALL: [Self; 9] =
        [Self::Head, Self::Read, Self::Open, Self::PutNew, Self::Upload, Self::Write, Self::Finish, Self::List, Self::Delete];

    /// Whether a failed call leaves open what is published.
    fn publishes(self) -> bool {
        matches!(self, Self::PutNew | Self::Finish | Self::Delete)
    }
}

/// What happens at a call that the schedule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The call fails and did nothing.
    FailBefore,
    /// The call takes effect, and its answer is lost.
    FailAfter,
    /// A read or a stream ends in the middle as if it were complete; an upload takes half of a write and fails. Other calls
    /// fail before.
    Torn,
    /// A read or a stream delivers its middle byte with one bit flipped; other calls go through.
    FlippedBit,
    /// The call waits a while and goes through.
    Slow,
    /// The call is refused for a reason that a server or a disk has, and did nothing.
    Refused(Refusal),
    /// The process ends at once, without unwinding, before the call.
    AbortBefore,
    /// The process ends at once, without unwinding, after the call took effect.
    AbortAfter,
}

/// Why a store refuses a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 503 `SlowDown`, until there is no more time to try.
    SlowDown,
    /// 409 `ConditionalRequestConflict`, until there is no more time to try.
    Conflict,
    /// 403 `ExpiredToken`, also with credentials that were asked for again.
    Expired,
    /// No space is left; reads fail as a disk does.
    DiskFull,
}

impl Refusal {
    /// The error that a store makes of it.
    fn error(self, operation: Operation, object: String) -> StoreError {
        let unavailable = |object, answer| StoreError::Unavailable {
            object,
            operation: "an injected fault",
            tries: 10,
            seconds: 180,
            source: io::Error::other(answer),
        };
        let writes = !matches!(operation, Operation::Head | Operation::Read | Operation::Open | Operation::List);
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        match self {
            Self::SlowDown => unavailable(object, "503 SlowDown"),
            Self::Conflict => unavailable(object, "409 ConditionalRequestConflict"),
            Self::Expired => StoreError::from_io(object, "an injected fault", denied()),
            Self::DiskFull if writes => StoreError::from_io(object, "an injected fault", full()),
            Self::DiskFull => StoreError::from_io(object, "an injected fault", io::Error::other("input/output error")),
        }
    }
}

/// One entry of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The calls that count; all of them when `None`.
    pub operation: Option<Operation>,
    /// Number of the call, from 1, among those that count.
    pub call: u64,
    /// Whether every later call is struck too.
    pub onwards: bool,
    /// What happens.
    pub effect: Effect,
}

impl Fault {
    /// Strikes call number `call` alone.
    pub fn once(call: u64, effect: Effect) -> Self {
        Self { operation: None, call, onwards: false, effect }
    }

    /// Strikes call number `call` and every later one.
    pub fn from(call: u64, effect: Effect) -> Self {
        Self { operation: None, call, onwards: true, effect }
    }

    /// Counts the calls of one operation only.
    #[must_use]
    pub fn on(self, operation: Operation) -> Self {
        Self { operation: Some(operation), ..self }
    }
}

/// The faults of a store; where several strike one call, the first does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule(Vec<Fault>);

impl Schedule {
    /// No fault at all.
    pub fn none() -> Self {
        Self::default()
    }
}

impl From<Fault> for Schedule {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl From<Vec<Fault>> for Schedule {
    fn from(faults: Vec<Fault>) -> Self {
        Self(faults)
    }
}

/// Wraps a store, counts its calls and lets them fail by schedule. Clones share the counters.
#[derive(Clone, Debug)]
pub struct FaultStore {
    inner: Arc<dyn Store>,
    control: Arc<Control>,
}

#[derive(Debug)]
struct Control {
    schedule: Schedule,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: [u64; Operation::ALL.len()],
    fired: u64,
}

impl Control {
    /// Counts one call and says what is to happen to it.
    fn strike(&self, operation: Operation) -> Option<Effect> {
        let mut state = self.state.lock().expect("no code panics while it holds the counters");
        state.calls[operation as usize] += 1;
        let all: u64 = state.calls.iter().sum();
        let own = state.calls[operation as usize];
        let struck = self.schedule.0.iter().find(|fault| {
            let number = match fault.operation {
                None => all,
                Some(only) if only == operation => own,
                Some(_) => return false,
            };
            number == fault.call || (fault.onwards && number > fault.call)
        });
        state.fired += u64::from(struck.is_some());
        let effect = struck?.effect;
        if effect == Effect::AbortBefore {
            std::process::abort();
        }
        Some(effect)
    }
}

impl FaultStore {
    /// Wraps `inner`. Without faults it only counts.
    pub fn new(inner: Arc<dyn Store>, schedule: impl Into<Schedule>) -> Self {
        let control = Control { schedule: schedule.into(), state: Mutex::default() };
        Self { inner, control: Arc::new(control) }
    }

    /// Calls so far, writes to uploads included.
    pub fn calls(&self) -> u64 {
        self.state(|state| state.calls.iter().sum())
    }

    /// Calls of one operation so far.
    pub fn calls_of(&self, operation: Operation) -> u64 {
        self.state(|state| state.calls[operation as usize])
    }

    /// Calls that a fault struck.
    pub fn fired(&self) -> u64 {
        self.state(|state| state.fired)
    }

    fn state<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.control.state.lock().expect("no code panics while it holds the counters"))
    }

    /// Makes one call under the schedule. `damage` is what a torn or a flipped answer becomes.
    fn call<T>(
        &self,
        operation: Operation,
        key: Option<&Key>,
        call: impl FnOnce() -> Result<T, StoreError>,
        damage: impl FnOnce(Effect, T) -> T,
    ) -> Result<T, StoreError> {
        let object = || key.map_or_else(|| self.inner.uri().to_owned(), |key| object_name(self.inner.uri(), key));
        let Some(effect) = self.control.strike(operation) else {
            return call();
        };
        match effect {
            Effect::FailBefore | Effect::AbortBefore => Err(injected(operation, object())),
            Effect::Refused(refusal) => Err(refusal.error(operation, object())),
            Effect::Slow => {
                std::thread::park_timeout(SLOW);
                call()
            }
            Effect::FailAfter => call().and_then(|_| Err(injected(operation, object()))),
            Effect::AbortAfter => {
                let _answer = call();
                std::process::abort()
            }
            Effect::Torn | Effect::FlippedBit => match operation {
                Operation::Read | Operation::Open => Ok(damage(effect, call()?)),
                _ if effect == Effect::FlippedBit => call(),
                _ => Err(injected(operation, object())),
            },
        }
    }
}

fn injected(operation: Operation, object: String) -> StoreError {
    let source = io::Error::other("injected fault");
    if operation.publishes() {
        StoreError::Unknown { object, operation: "an injected fault in a write", source }
    } else {
        StoreError::Io { object, operation: "an injected fault", source }
    }
}

/// For calls whose answers have no bytes to damage; `call` asks only for reads and streams.
fn intact<T>(_effect: Effect, answer: T) -> T {
    answer
}

impl Store for FaultStore {
    fn uri(&self) -> &str {
        self.inner.uri()
    }

    fn head(&self, key: &Key) -> Result<ObjectMeta, StoreError> {
        self.call(Operation::Head, Some(key), || self.inner.head(key), intact)
    }

    fn read(&self, key: &Key, range: Option<Range<u64>>, pinned: Option<&ETag>) -> Result<Vec<u8>, StoreError> {
        let damage = |effect, mut bytes: Vec<u8>| {
            let middle = bytes.len() / 2;
            if effect == Effect::Torn {
                bytes.truncate(middle);
            } else if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 1;
            }
            bytes
        };
        self.call(Operation::Read, Some(key), || self.inner.read(key, range, pinned), damage)
    }

    fn open(&self, key: &Key, pinned: Option<&ETag>) -> Result<Box<dyn Read + Send>, StoreError> {
        let damage = |effect, stream: Box<dyn Read + Send>| -> Box<dyn Read + Send> {
            let middle = self.inner.head(key).map_or(0, |meta| meta.size_bytes / 2);
            match effect {
                Effect::Torn => Box::new(stream.take(middle)),
                _ => Box::new(FlippedBit { stream, until: Some(middle) }),
            }
        };
        self.call(Operation::Open, Some(key), || self.inner.open(key, pinned), damage)
    }

    fn put_new(&self, key: &Key, body: &[u8], attempt: &AttemptId) -> Result<PutOutcome, StoreError> {
        self.call(Operation::PutNew, Some(key), || self.inner.put_new(key, body, attempt), intact)
    }

    fn upload(&self) -> Result<Box<dyn Upload>, StoreError> {
        let upload = self.call(Operation::Upload, None, || self.inner.upload(), intact)?;
        Ok(Box::new(FaultUpload { store: self.clone(), upload }))
    }

    fn list(&self, prefix: &str, start_after: Option<&Key>, limit: usize) -> Result<Vec<ObjectMeta>, StoreError> {
        self.call(Operation::List, None, || self.inner.list(prefix, start_after, limit), intact)
    }

    fn delete(&self, key: &Key) -> Result<(), StoreError> {
        self.call(Operation::Delete, Some(key), || self.inner.delete(key), intact)
    }

    fn modified(&self, key: &Key) -> Result<SystemTime, StoreError> {
        self.call(Operation::Head, Some(key), || self.inner.modified(key), intact)
    }

    /// Neither counted nor struck: nothing of the protocol depends on it.
    fn stale(&self, older_than: Duration) -> Result<Vec<Stale>, StoreError> {
        self.inner.stale(older_than)
    }

    fn remove_stale(&self, stale: &Stale) -> Result<(), StoreError> {
        self.inner.remove_stale(stale)
    }

    fn block_bytes(&self) -> u64 {
        self.inner.block_bytes()
    }

    fn meter(&self) -> Option<&Meter> {
        self.inner.meter()
    }
}

struct FaultUpload {
    store: FaultStore,
    upload: Box<dyn Upload>,
}

impl Write for FaultUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.store.control.strike(Operation::Write) {
            None | Some(Effect::FlippedBit) => self.upload.write(bytes),
            Some(Effect::Slow) => {
                std::thread::park_timeout(SLOW);
                self.upload.write(bytes)
            }
            Some(Effect::Refused(refusal)) => Err(refusal.error(Operation::Write, self.store.uri().to_owned()).into()),
            Some(Effect::AbortAfter) => {
                let _answer = self.upload.write_all(bytes);
                std::process::abort()
            }
            Some(effect) => {
                let taken = match effect {
                    Effect::Torn => bytes.len() / 2,
                    Effect::FailAfter => bytes.len(),
                    _ => 0,
                };
                self.upload.write_all(&bytes[..taken])?;
                Err(injected(Operation::Write, self.store.uri().to_owned()).into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.upload.flush()
    }
}

impl Upload for FaultUpload {
    fn finish(self: Box<Self>, key: &Key) -> Result<ObjectMeta, StoreError> {
        let Self { store, upload } = *self;
        store.call(Operation::Finish, Some(key), || upload.finish(key), intact)
    }
}

/// A stream whose byte at a distance has its lowest bit flipped.
struct FlippedBit {
    stream: Box<dyn Read + Send>,
    /// Bytes before it; `None` once it has passed.
    until: Option<u64>,
}

impl Read for FlippedBit {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        if let Some(until) = self.until {
            self.until = if (until as usize) < length {
                buffer[until as usize] ^= 1;
                None
            } else {
                Some(until - length as u64)
            };
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::MemoryStore;

    fn key() -> Key {
        Key::new("k").unwrap()
    }

    fn store(fault: Fault) -> FaultStore {
        let memory = MemoryStore::new("faults");
        memory.overwrite(&key(), b"0123456789");
        FaultStore::new(Arc::new(memory), fault)
    }

    #[test]
    fn refusals_are_the_errors_of_a_store_and_do_nothing() {
        let put = |effect| {
            let store = store(Fault::once(1, effect));
            let outcome = store.put_new(&Key::new("new").unwrap(), b"b", &AttemptId::generate());
            (outcome, store.inner.head(&Key::new("new").unwrap()).is_ok())
        };
        assert!(matches!(put(Effect::Refused(Refusal::SlowDown)), (Err(StoreError::Unavailable { .. }), false)));
        assert!(matches!(put(Effect::Refused(Refusal::Conflict)), (Err(StoreError::Unavailable { .. }), false)));
        assert!(matches!(put(Effect::Refused(Refusal::Expired)), (Err(StoreError::Denied { .. }), false)));
        assert!(matches!(put(Effect::Refused(Refusal::DiskFull)), (Err(StoreError::NoSpace { .. }), false)));
        assert!(matches!(put(Effect::Slow), (Ok(PutOutcome::Created), true)));
        let read = store(Fault::once(1, Effect::Refused(Refusal::DiskFull))).read(&key(), None, None);
        assert!(matches!(read, Err(StoreError::Io { .. })));
        let full = store(Fault::from(2, Effect::Refused(Refusal::DiskFull)));
        let error = full.upload().unwrap().write_all(b"bytes").unwrap_err();
        assert!(matches!(StoreError::from_io("k".into(), "writing", error), StoreError::NoSpace { .. }));
    }

    #[test]
    fn contract_without_faults() {
        crate::contract::run_all(&|| {
            Arc::new(FaultStore::new(Arc::new(MemoryStore::new("inner")), Schedule::none())) as Arc<dyn Store>
        });
    }

    #[test]
    fn it_strikes_the_scheduled_calls() {
        let check = |fault: Fault, expected: &str| {
            let store = store(fault);
            let ok = |result: bool| if result { '.' } else { 'x' };
            // head, read, head, read, head, read
            let pattern: String =
                (0..3).flat_map(|_| [ok(store.head(&key()).is_ok()), ok(store.read(&key(), None, None).is_ok())]).collect();
            assert_eq!(pattern, expected, "{fault:?}");
            assert_eq!(store.calls(), 6);
            assert_eq!(store.calls_of(Operation::Read), 3);
            assert_eq!(store.fired(), expected.matches('x').count() as u64);
        };
        check(Fault::once(1, Effect::FailBefore), "x.....");
        check(Fault::once(4, Effect::FailAfter), "...x..");
        check(Fault::from(3, Effect::FailBefore), "..xxxx");
        check(Fault::once(2, Effect::FailBefore).on(Operation::Read), "...x..");
        check(Fault::from(2, Effect::FailBefore).on(Operation::Head), "..x.x.");
        check(Fault::once(7, Effect::FailBefore), "......");
    }

    #[test]
    fn a_put_fails_before_or_after_its_effect_with_an_unknown_outcome() {
        let check = |effect, expected: bool| {
            let store = store(Fault::once(1, effect).on(Operation::PutNew));
            let other = Key::new("other").unwrap();
            let error = store.put_new(&other, b"x", &AttemptId::generate()).unwrap_err();
            assert!(error.is_unknown(), "{error}");
            assert_eq!(store.head(&other).is_ok(), expected, "{effect:?}");
        };
        check(Effect::FailBefore, false);
        check(Effect::Torn, false);
        check(Effect::FailAfter, true);
    }

    #[test]
    fn bodies_are_cut_and_damaged() {
        let check = |effect, expected: &[u8]| {
            let store = store(Fault::from(1, effect));
            assert_eq!(store.read(&key(), None, None).unwrap(), expected);
            let mut streamed = Vec::new();
            let mut stream = store.open(&key(), None).unwrap();
            // Two reads, so that the byte's distance is carried over.
            let mut head = [0; 3];
            stream.read_exact(&mut head).unwrap();
            stream.read_to_end(&mut streamed).unwrap();
            assert_eq!([head.as_slice(), &streamed].concat(), expected, "{effect:?}");
        };
        check(Effect::Torn, b"01234");
        check(Effect::FlippedBit, b"0123446789");
    }
}
