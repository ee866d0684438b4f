//! The store over a simulated bucket: the contract, and what must happen when a request fails, before or after it took effect.
//! Time stands still but where a retry waits, so minutes of trouble take no time.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::address::Address;
use super::attempts::Attempts;
use super::clock::{Clock, VirtualClock};
use super::simulated::{Simulated, Strike};
use super::trouble::{Kind, Trouble};
use super::*;
use crate::{Counts, ObjectEntry, StageManifest, Tally, TaskCommit, Workdir, list_all};

struct Rig {
    store: S3Store,
    bucket: Simulated,
    clock: Arc<VirtualClock>,
}

fn rig() -> Rig {
    rig_of(Simulated::new())
}

fn rig_of(bucket: Simulated) -> Rig {
    let clock = Arc::new(VirtualClock::default());
    let shared: Arc<dyn Clock> = clock.clone();
    let deadline = Duration::from_mins(3);
    let attempts = Arc::new(Attempts::new(shared, 64, Arc::default(), Interrupt::default(), deadline));
    let address = Address::parse("s3://bucket/run").unwrap();
    Rig { store: S3Store::over(address, Box::new(bucket.clone()), attempts, std::env::temp_dir()), bucket, clock }
}

fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

fn answer(status: u16, code: &str) -> Trouble {
    Trouble::answer(status, code)
}

/// Strikes the first `times` requests of a kind.
fn first(times: u64, kind: Request, strike: impl Fn() -> Strike + Send + 'static) -> impl FnMut(u64, Request) -> Option<Strike> {
    let mut left = times;
    move |_, made| {
        let struck = made == kind && left > 0;
        left -= u64::from(struck);
        struck.then(&strike)
    }
}

fn upload(store: &S3Store, body: &[u8], name: &str) -> Result<ObjectMeta, StoreError> {
    let mut upload = store.upload()?;
    upload.write_all(body).unwrap();
    upload.finish(&key(name))
}

/// Longer than one request takes: three parts.
fn long_body() -> Vec<u8> {
    (0..20_u32 << 20).map(|i| (i % 251) as u8).collect()
}

#[test]
fn contract_of_a_simulated_bucket() {
    crate::contract::run_all(&|| {
        let Rig { store, bucket, .. } = rig_of(Simulated::new().with_pages_of(3));
        let whole_bucket = Address::parse("s3://bucket").unwrap();
        let attempts = Arc::clone(&store.inner.attempts);
        Arc::new(S3Store::over(whole_bucket, Box::new(bucket), attempts, std::env::temp_dir())) as Arc<dyn Store>
    });
}

#[test]
fn case_01_a_put_that_failed_twice_before_its_effect_is_made() {
    let rig = rig();
    rig.bucket.follow(first(2, Request::Put, || Strike::Before(answer(500, "InternalError"))));
    let attempt = AttemptId::generate();
    assert_eq!(rig.store.put_new(&key("k"), b"body", &attempt).unwrap(), PutOutcome::Created);
    let usage = rig.store.meter().unwrap().usage();
    assert_eq!((usage.of(Request::Put), usage.retries), (3, 2));
    assert!(rig.clock.now() > Duration::ZERO, "it waited");
}

#[test]
fn case_02_a_put_whose_answer_was_lost_recognises_its_own_object() {
    lost_answer(|| answer(500, "InternalError"));
}

#[test]
fn case_03_a_put_whose_connection_broke_recognises_its_own_object() {
    lost_answer(|| Trouble::here(Kind::Broken, "the connection broke off"));
}

fn lost_answer(trouble: impl Fn() -> Trouble + Send + Copy + 'static) {
    let rig = rig();
    let attempt = AttemptId::generate();
    let body = format!("{{\"attempt\":\"{attempt}\"}}");
    rig.bucket.follow(first(1, Request::Put, move || Strike::After(trouble())));
    assert_eq!(rig.store.put_new(&key("k"), body.as_bytes(), &attempt).unwrap(), PutOutcome::SameAttempt);
    rig.bucket.follow(first(1, Request::Put, move || Strike::After(trouble())));
    let other = rig.store.put_new(&key("k"), b"another", &AttemptId::generate()).unwrap();
    assert_eq!(other, PutOutcome::Other, "another attempt's object is another's");
    for size in [100, 20 << 20] {
        let body = &long_body()[..size];
        for kind in [Request::Put, Request::Complete] {
            let name = format!("upload-{size}-{kind:?}");
            rig.bucket.follow(first(1, kind, move || Strike::After(trouble())));
            assert_eq!(upload(&rig.store, body, &name).unwrap().size_bytes, size as u64);
            assert!(rig.store.read(&key(&name), None, None).unwrap() == body);
        }
    }
    assert_eq!(rig.bucket.open_uploads(), 0);
}

#[test]
fn case_05_conflict_never_means_that_the_object_exists() {
    let rig = rig();
    let conflict = || Strike::Before(answer(409, "ConditionalRequestConflict"));
    rig.bucket.follow(first(3, Request::Put, conflict));
    assert_eq!(rig.store.put_new(&key("k"), b"body", &AttemptId::generate()).unwrap(), PutOutcome::Created);
    rig.bucket.follow(first(2, Request::Complete, conflict));
    upload(&rig.store, &long_body(), "long").unwrap();
    assert!(rig.store.read(&key("long"), None, None).unwrap() == long_body());
    let usage = rig.store.meter().unwrap().usage();
    assert_eq!(
        (usage.of(Request::Begin), usage.of(Request::Part), usage.of(Request::Complete), usage.of(Request::Abort)),
        (3, 9, 3, 2),
        "the whole upload is done again"
    );
    rig.bucket.follow(first(u64::MAX, Request::Put, conflict));
    let error = rig.store.put_new(&key("l"), b"body", &AttemptId::generate()).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
}

#[test]
fn case_06_a_minute_of_slow_down_is_survived() {
    let rig = rig();
    let mut number = 0_u64;
    let clock = Arc::clone(&rig.clock);
    rig.bucket.follow(move |_, _| {
        number += 1;
        clock.advance(Duration::from_millis(20));
        let slow = number * 7 % 10 < 3 && clock.now() < Duration::from_mins(1);
        slow.then(|| Strike::Before(answer(503, "SlowDown")))
    });
    let mut made = 0;
    let mut least = 64;
    while rig.clock.now() < Duration::from_secs(150) {
        rig.store.put_new(&key(&format!("k{made}")), b"body", &AttemptId::generate()).unwrap();
        least = least.min(rig.store.inner.attempts.governor.limit());
        made += 1;
    }
    let usage = rig.store.meter().unwrap().usage();
    assert!(usage.throttled > 100 && usage.of(Request::Put) < 2 * made, "{usage:?}");
    assert!(least < 8, "{least}: the places fell");
    assert_eq!(rig.store.inner.attempts.governor.limit(), 64, "and came back");
}

#[test]
fn case_07_a_body_cut_in_the_middle_is_resumed() {
    let rig = rig();
    upload(&rig.store, &long_body(), "long").unwrap();
    rig.bucket.follow(|number, kind| (kind == Request::Get && number % 2 == 1).then_some(Strike::Cut));
    assert!(rig.store.read(&key("long"), None, None).unwrap() == long_body());
    assert!(rig.store.read(&key("long"), Some(3..9_000_000), None).unwrap() == long_body()[3..9_000_000]);
    let mut streamed = Vec::new();
    rig.store.open(&key("long"), None).unwrap().read_to_end(&mut streamed).unwrap();
    assert!(streamed == long_body());
    rig.bucket.follow(|_, kind| (kind == Request::Get).then_some(Strike::Cut));
    let outcome = rig.store.read(&key("long"), Some(0..1000), None);
    assert!(outcome.is_ok_and(|bytes| bytes == long_body()[..1000]), "each answer gives half of what is left");
}

#[test]
fn case_09_an_object_that_was_replaced_is_an_error_and_never_a_mixture() {
    for ignores_conditions in [false, true] {
        let rig = rig();
        if ignores_conditions {
            rig.bucket.ignore_conditions();
        }
        let [mut old, mut new] = [long_body(), long_body()];
        old.fill(1);
        new.fill(2);
        rig.bucket.overwrite("run/k", &old);
        let pinned = rig.store.head(&key("k")).unwrap().etag;
        let replace = |rig: &Rig, at: u64| {
            let (bucket, new) = (rig.bucket.clone(), new.clone());
            let mut replaced = false;
            // Before this request somebody else replaces the object. The script runs inside a request, so the bucket is
            // changed from outside it.
            rig.bucket.follow(move |number, _| {
                if number == at && !replaced {
                    replaced = true;
                    let (bucket, new) = (bucket.clone(), new.clone());
                    std::thread::spawn(move || bucket.overwrite("run/k", &new));
                    return Some(Strike::Before(answer(503, "SlowDown")));
                }
                None
            });
        };
        replace(&rig, 2);
        let mut read = Vec::new();
        let stream = rig.store.open(&key("k"), Some(&pinned)).unwrap().read_to_end(&mut read);
        // The other thread may come late: then all of it is the old object.
        if let Err(error) = stream {
            let error = StoreError::from_io("k".into(), "reading", error);
            assert!(matches!(error, StoreError::Changed { .. }), "{error}");
        }
        assert!(read.iter().all(|byte| *byte == 1), "nothing of the new object");
        rig.bucket.overwrite("run/k", &new);
        let error = rig.store.read(&key("k"), Some(0..9), Some(&pinned)).unwrap_err();
        assert!(matches!(error, StoreError::Changed { .. }), "{error}");
        let error = rig.store.read(&key("k"), None, Some(&pinned)).unwrap_err();
        assert!(matches!(error, StoreError::Changed { .. }), "{error}");
    }
}

#[test]
fn case_10_uploads_that_fail_are_aborted_and_those_of_dead_processes_are_found() {
    let rig = rig();
    rig.bucket.follow(|_, kind| (kind == Request::Part).then(|| Strike::Before(answer(403, "AccessDenied"))));
    let error = upload(&rig.store, &long_body(), "long").unwrap_err();
    assert!(matches!(error, StoreError::Denied { .. }), "{error}");
    assert_eq!(rig.bucket.open_uploads(), 0);
    // A process that ended in the middle: two parts and no completion.
    rig.bucket.follow(|_, _| None);
    let id = rig.bucket.begin("run/dead").unwrap();
    rig.bucket.part("run/dead", &id, 1, Bytes::from_static(b"x")).unwrap();
    rig.bucket.begin("elsewhere/dead").unwrap();
    assert_eq!(rig.store.stale(Duration::from_hours(2)).unwrap(), [], "it is young");
    assert_eq!(rig.store.stale(Duration::MAX).unwrap(), [], "no age is asked for");
    let stale = rig.store.stale(Duration::from_mins(1)).unwrap();
    assert_eq!(stale.iter().map(|stale| stale.name.as_str()).collect::<Vec<_>>(), ["run/dead"]);
    rig.store.remove_stale(&stale[0]).unwrap();
    rig.store.remove_stale(&stale[0]).unwrap();
    assert_eq!(rig.bucket.open_uploads(), 1, "other prefixes are others' matter");
}

#[test]
fn case_16_expired_credentials_are_renewed_once_and_wrong_ones_are_denied() {
    let rig = rig();
    rig.bucket.overwrite("run/k", b"body");
    rig.bucket.follow(first(1, Request::Get, || Strike::Before(answer(400, "ExpiredToken"))));
    assert_eq!(rig.store.read(&key("k"), None, None).unwrap(), b"body");
    assert_eq!(rig.bucket.renewals(), 1);
    for code in ["ExpiredToken", "SignatureDoesNotMatch", "InvalidAccessKeyId", "AccessDenied"] {
        rig.bucket.follow(first(u64::MAX, Request::Get, move || Strike::Before(answer(403, code))));
        let error = rig.store.read(&key("k"), None, None).unwrap_err();
        assert!(matches!(error, StoreError::Denied { .. }), "{error}");
        assert!(rig.bucket.requests() <= 2, "{code}: no endless retry");
    }
}

#[test]
fn case_17_a_wrong_clock_is_named() {
    let rig = rig();
    let skewed = || Trouble { clock_ahead_seconds: Some(1200), ..answer(403, "RequestTimeTooSkewed") };
    rig.bucket.follow(first(u64::MAX, Request::Put, move || Strike::Before(skewed())));
    let error = rig.store.put_new(&key("k"), b"body", &AttemptId::generate()).unwrap_err();
    let expected =
        "s3://bucket/run/k: the clock of this machine is wrong, 1200 s behind the server's; set it, for example with NTP";
    assert_eq!(error.to_string(), expected);
    assert_eq!(rig.bucket.requests(), 1);
}

#[test]
fn case_18_a_server_that_never_answers_is_given_up_in_time() {
    let rig = rig();
    rig.bucket.overwrite("run/read", b"body");
    let clock = Arc::clone(&rig.clock);
    rig.bucket.follow(move |_, _| {
        clock.advance(Duration::from_secs(30));
        Some(Strike::After(Trouble::here(Kind::Timeout, "no answer in time")))
    });
    let error = rig.store.read(&key("read"), None, None).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(rig.clock.now() <= Duration::from_secs(210), "{:?}", rig.clock.now());
    // The put was made, and what it is asked about afterwards is answered by nobody.
    let error = rig.store.put_new(&key("k"), b"body", &AttemptId::generate()).unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
    assert!(rig.clock.now() <= Duration::from_secs(3 * 210), "{:?}", rig.clock.now());
}

#[test]
fn case_11_listings_of_many_and_odd_names() {
    for count in [0, 1, 1000, 1001, 2500, 100_000] {
        let rig = rig();
        for number in 0..count {
            rig.bucket.overwrite(&format!("run/k/{number:06}"), b"x");
        }
        rig.bucket.overwrite("run/k/", b"");
        rig.bucket.overwrite("run/", b"");
        rig.bucket.overwrite("runner", b"another store's");
        let listed: Vec<String> = list_all(&rig.store, "").map(|object| object.unwrap().key.into()).collect();
        assert_eq!(listed.len(), count, "markers of folders are no objects");
        assert!(listed.windows(2).all(|pair| pair[0] < pair[1]));
    }
}

/// A stage of one task as every stage works: a short and a long part, commit, manifest, success.
fn run(store: &S3Store, body: &[u8]) -> Result<(), crate::ProtocolError> {
    let workdir = Workdir::new(Arc::new(store.clone()));
    workdir.freeze_plan("plan-1", &json!({"seed": 42}))?;
    if workdir.read_manifest("plan-1", "pack")?.is_none() {
        let commit = match workdir.read_commit("plan-1", "pack", 0)? {
            Some(commit) => commit,
            None => task(&workdir, body)?,
        };
        let manifest = StageManifest {
            plan: "plan-1".into(),
            stage: "pack".into(),
            tasks: 1,
            commits: vec![commit.digest()],
            objects: commit.objects.clone(),
            counts: commit.counts,
            facts: json!(null),
            attempt: AttemptId::generate().to_string(),
        };
        workdir.put_manifest(&manifest, &[commit])?;
    }
    workdir.mark_success(&json!({"done": true}))
}

fn task(workdir: &Workdir, body: &[u8]) -> Result<TaskCommit, crate::ProtocolError> {
    let mut objects: Vec<ObjectEntry> = Vec::new();
    for part_body in [&body[..10], body] {
        let mut part = workdir.part()?;
        std::io::Write::write_all(&mut part, part_body).expect("scratch takes it");
        objects.push(part.finish("parts", "00000", "bin", 1)?);
    }
    assert!(workdir.read_object(&objects[1])? == body);
    let tally = Tally { documents: 1, bytes: body.len() as u64 };
    let commit = TaskCommit {
        plan: "plan-1".into(),
        stage: "pack".into(),
        task: 0,
        objects,
        counts: Counts { read: tally, written: tally, ..Counts::default() },
        facts: json!(null),
        attempt: AttemptId::generate().to_string(),
    };
    workdir.commit_task(&commit)?;
    Ok(commit)
}

/// What is published, but for what names the attempt.
fn published(bucket: &Simulated) -> BTreeMap<String, Bytes> {
    let is_record = |name: &String| name.contains("/commits/") || name.contains("/manifests/");
    bucket
        .objects()
        .into_iter()
        .map(|(name, bytes)| if is_record(&name) { (name, Bytes::new()) } else { (name, bytes) })
        .collect()
}

#[test]
fn case_13_a_run_survives_the_failure_of_any_request_without_a_rerun() {
    let body = &long_body()[..17 << 20];
    let clean = rig();
    run(&clean.store, body).unwrap();
    let (expected, requests) = (published(&clean.bucket), clean.bucket.requests());
    assert!(requests >= 12, "{requests} requests are too few to show anything");
    for number in 1..=requests {
        let strikes: [fn() -> Strike; 5] = [
            || Strike::Before(Trouble::answer(500, "InternalError")),
            || Strike::After(Trouble::answer(500, "InternalError")),
            || Strike::After(Trouble::here(Kind::Broken, "the connection broke off")),
            || Strike::Before(Trouble::answer(409, "ConditionalRequestConflict")),
            || Strike::Cut,
        ];
        for strike in strikes {
            let rig = rig();
            rig.bucket.follow(move |made, _| (made == number).then(strike));
            run(&rig.store, body).unwrap_or_else(|error| panic!("request {number}, {:?}: {error}", strike()));
            assert!(published(&rig.bucket) == expected, "request {number}, {:?}", strike());
            // An upload whose beginning was answered by silence is nobody's to abort; its age tells.
            let stale = rig.store.stale(Duration::ZERO).unwrap();
            assert!(stale.len() <= 1, "request {number}, {:?}: {stale:?}", strike());
            for stale in &stale {
                rig.store.remove_stale(stale).unwrap();
            }
            assert_eq!(rig.bucket.open_uploads(), 0);
        }
    }
}

#[test]
fn case_13_a_run_that_a_server_ends_at_any_request_is_finished_by_a_rerun() {
    let body = &long_body()[..17 << 20];
    let clean = rig();
    run(&clean.store, body).unwrap();
    let expected = published(&clean.bucket);
    for number in 1..=clean.bucket.requests() {
        for strike in [
            || Strike::Before(Trouble::answer(500, "InternalError")),
            || Strike::After(Trouble::answer(500, "InternalError")),
            || Strike::Before(Trouble::answer(403, "AccessDenied")),
        ] as [fn() -> Strike; 3]
        {
            let rig = rig();
            rig.bucket.follow(move |made, _| (made >= number).then(strike));
            let error = run(&rig.store, body).expect_err("nothing is answered any more");
            assert!(!matches!(error, crate::ProtocolError::Nondeterministic { .. }), "request {number}: {error}");
            rig.bucket.follow(|_, _| None);
            run(&rig.store, body).unwrap_or_else(|error| panic!("request {number}, {:?}: rerun: {error}", strike()));
            assert!(published(&rig.bucket) == expected, "request {number}, {:?}", strike());
        }
    }
}
