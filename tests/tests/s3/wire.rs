//! What happens on the wire: requests that fail before or after they took effect, answers that are cut, damaged or never come,
//! between our client and a real server.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mellama_storage::{AttemptId, Key, PutOutcome, RangeReader, Request, S3Options, Store, StoreError, Stores};
use mellama_tests::wire_proxy::{Mode, Seen, WireProxy};

use crate::server::{fresh_bucket, options, server};

/// A store behind a proxy.
struct Rig {
    proxy: WireProxy,
    options: S3Options,
    stores: Stores,
    store: Arc<dyn Store>,
}

fn rig() -> Rig {
    rig_with(|options| options)
}

fn rig_with(change: impl Fn(S3Options) -> S3Options) -> Rig {
    let proxy = WireProxy::start(server().address()).expect("a free port");
    let options = S3Options { endpoint: Some(proxy.endpoint()), deadline: Duration::from_secs(20), ..options() };
    let options = change(options);
    let stores = Stores::new(options.clone());
    let store = stores.open(&fresh_bucket()).expect("a bucket");
    Rig { proxy, options, stores, store }
}

fn key(name: &str) -> Key {
    Key::new(name).expect("a valid key")
}

/// Strikes the first `times` requests of a method.
fn first(times: u64, method: &'static str, mode: Mode) -> impl FnMut(&Seen) -> Mode + Send + 'static {
    let mut left = times;
    move |seen| {
        let is_struck = seen.method == method && left > 0;
        left -= u64::from(is_struck);
        if is_struck { mode } else { Mode::Through }
    }
}

fn put(rig: &Rig, name: &str) -> PutOutcome {
    let attempt = AttemptId::generate();
    let body = format!("commit of {attempt}");
    let outcome = rig.store.put_new(&key(name), body.as_bytes(), &attempt).expect("an answer");
    assert_eq!(rig.store.read(&key(name), None, None).expect("it is there"), body.as_bytes());
    outcome
}

fn long_body() -> Vec<u8> {
    (0..20_u32 << 20).map(|i| (i % 251) as u8).collect()
}

fn upload(rig: &Rig, name: &str) -> Result<(), StoreError> {
    let mut upload = rig.store.upload()?;
    upload.write_all(&long_body()).expect("scratch takes it");
    upload.finish(&key(name)).map(|_| ())
}

#[test]
fn case_01_500_before_a_put_twice_is_repeated() {
    let rig = rig();
    rig.proxy.follow(first(2, "PUT", Mode::Before(500, "InternalError")));
    assert_eq!(put(&rig, "k"), PutOutcome::Created);
    assert_eq!((rig.proxy.struck(), rig.stores.usage().retries), (2, 2));
}

#[test]
fn case_02_500_after_a_put_took_effect_is_recognised() {
    let rig = rig();
    rig.proxy.follow(first(1, "PUT", Mode::After500));
    assert_eq!(put(&rig, "k"), PutOutcome::SameAttempt);
}

#[test]
fn case_03_a_connection_dropped_after_a_put_took_effect_is_recognised() {
    let rig = rig();
    rig.proxy.follow(first(1, "PUT", Mode::AfterDrop));
    assert_eq!(put(&rig, "k"), PutOutcome::SameAttempt);
    rig.proxy.follow(first(1, "POST", Mode::AfterDrop));
    upload(&rig, "begun").expect("the upload that nobody knows is left, another is begun");
    assert!(rig.store.read(&key("begun"), None, None).expect("it is there") == long_body());
    let mut completions = 0;
    rig.proxy.follow(move |seen| {
        let is_completion = seen.method == "POST" && seen.target.contains("uploadId=");
        completions += u64::from(is_completion);
        if is_completion && completions == 1 { Mode::AfterDrop } else { Mode::Through }
    });
    upload(&rig, "completed").expect("the object is there, and is ours");
    assert!(rig.store.read(&key("completed"), None, None).expect("it is there") == long_body());
}

#[test]
fn case_05_409_is_repeated_and_never_means_exists() {
    let rig = rig();
    rig.proxy.follow(first(2, "PUT", Mode::Before(409, "ConditionalRequestConflict")));
    assert_eq!(put(&rig, "k"), PutOutcome::Created);
    rig.proxy.follow(|seen| {
        let is_completion = seen.method == "POST" && seen.target.contains("uploadId=");
        if is_completion && seen.number < 6 { Mode::Before(409, "ConditionalRequestConflict") } else { Mode::Through }
    });
    upload(&rig, "long").expect("the whole upload is done again");
    assert_eq!(rig.stores.usage().of(Request::Begin), 2);
}

#[test]
fn case_06_slow_down_on_a_third_of_the_requests_fails_nothing() {
    let rig = rig();
    rig.proxy.follow(|seen| if seen.number % 10 < 3 { Mode::Before(503, "SlowDown") } else { Mode::Through });
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let rig = &rig;
            scope.spawn(move || {
                for number in 0..10 {
                    assert_eq!(put(rig, &format!("{thread}/{number}")), PutOutcome::Created);
                }
            });
        }
    });
    let usage = rig.stores.usage();
    assert!(usage.throttled > 10 && usage.requests() < 160, "{usage:?}");
}

#[test]
fn case_07_a_body_cut_in_the_middle_is_resumed() {
    let rig = rig();
    upload(&rig, "long").expect("a new name");
    rig.proxy.follow(first(3, "GET", Mode::Cut));
    assert!(rig.store.read(&key("long"), None, None).expect("it is whole") == long_body());
    assert_eq!(rig.proxy.struck(), 3);
    rig.proxy.follow(|seen| if seen.number % 2 == 1 { Mode::Cut } else { Mode::Through });
    let mut streamed = Vec::new();
    rig.store.open(&key("long"), None).expect("it is there").read_to_end(&mut streamed).expect("it is whole");
    assert!(streamed == long_body());
}

#[test]
fn case_08_a_flipped_bit_of_an_object_that_is_read_by_its_record_is_fetched_again_and_then_an_error() {
    let rig = rig();
    let workdir = mellama_storage::Workdir::new(Arc::clone(&rig.store));
    let mut part = workdir.part().expect("it begins");
    part.write_all(&long_body()[..9 << 20]).expect("scratch takes it");
    let entry = part.finish("documents", "00000", "bin", 1).expect("a new name");
    rig.proxy.follow(|_| Mode::Silent);
    assert!(workdir.read_object(&entry).expect("who wrote it need not ask") == long_body()[..9 << 20]);
    // Another process has nothing of it; one keeps blocks, one does not. A range has no checksum: this goes past the transport.
    for cache_bytes in [None, Some(0)] {
        let other = || {
            let stores = Stores::new(S3Options { cache_bytes, ..rig.options.clone() });
            mellama_storage::Workdir::new(stores.open(rig.store.uri()).expect("a bucket"))
        };
        rig.proxy.follow(first(1, "GET", Mode::Flip));
        let workdir = other();
        assert!(workdir.read_object(&entry).expect("the second time it is whole") == long_body()[..9 << 20]);
        let range = RangeReader::of(Arc::clone(workdir.store()), &entry).expect("it is there");
        assert!(range.read_at(0, 9 << 20).expect("whole") == long_body()[..9 << 20], "nothing damaged is kept");
        rig.proxy.follow(first(u64::MAX, "GET", Mode::Flip));
        let error = other().read_object(&entry).expect_err("it is damaged each time").to_string();
        assert!(error.contains(&entry.key) && error.contains("BLAKE3"), "{error}");
    }
}

#[test]
fn case_16_expired_credentials_end_after_one_more_try() {
    let rig = rig();
    rig.proxy.follow(first(u64::MAX, "GET", Mode::Before(400, "ExpiredToken")));
    let error = rig.store.read(&key("k"), None, None).expect_err("they have expired");
    assert!(matches!(error, StoreError::Denied { .. }), "{error}");
    assert_eq!(rig.proxy.requests(), 2);
}

#[test]
fn case_17_a_wrong_clock_is_named_and_not_tried_again() {
    let rig = rig();
    rig.proxy.follow(first(u64::MAX, "GET", Mode::Before(403, "RequestTimeTooSkewed")));
    let error = rig.store.read(&key("k"), None, None).expect_err("the clock is wrong").to_string();
    assert!(error.contains("the clock of this machine is wrong"), "{error}");
    assert_eq!(rig.proxy.requests(), 1);
}

#[test]
fn case_18_a_server_that_never_answers_is_given_up_in_time() {
    let limits = |options| S3Options { attempt_timeout: Duration::from_secs(1), deadline: Duration::from_secs(3), ..options };
    let rig = rig_with(limits);
    rig.proxy.follow(|_| Mode::Silent);
    let began = Instant::now();
    let error = rig.store.head(&key("k")).expect_err("nobody answers");
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(rig.proxy.requests() >= 2 && began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[test]
fn redirects_are_not_followed() {
    let rig = rig();
    rig.proxy.follow(|_| Mode::Before(307, "TemporaryRedirect"));
    let error = rig.store.read(&key("k"), None, None).expect_err("it is elsewhere").to_string();
    assert!(error.contains("another region or behind another address"), "{error}");
    assert_eq!(rig.proxy.requests(), 1);
}
