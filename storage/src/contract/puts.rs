//! What a store promises of small objects: put-if-absent, absence, deletion.
//! Uploads and reads in part are elsewhere.

use super::{Make, at_once, key, keys, pattern, put, read, stream};
use crate::error::StoreError;
use crate::key::{AttemptId, ETag, PutOutcome};
use crate::store::{PUT_LIMIT_BYTES, Store};

pub(super) fn put_is_read_back(make: Make<'_>) {
    let store = make();
    for (name, body) in [("empty", vec![]), ("one", vec![0]), ("folder/deep/er", pattern(70_000))] {
        assert_eq!(put(&*store, name, &body).size_bytes, body.len() as u64);
        assert!(read(&*store, name) == body && stream(&*store, name) == body, "{name}");
        assert!(store.modified(&key(name)).is_ok(), "{name}");
    }
}

pub(super) fn absent_is_not_found(make: Make<'_>) {
    let store = make();
    put(&*store, "folder/object", b"x");
    for name in ["absent", "folder/absent"] {
        is_not_found(&*store, name);
    }
}

pub(super) fn neighbours_are_not_found(make: Make<'_>) {
    let store = make();
    put(&*store, "folder/object", b"x");
    for name in ["folder", "folder/object/below"] {
        is_not_found(&*store, name);
        store.delete(&key(name)).expect("it is no object");
    }
    assert_eq!(keys(&*store, ""), ["folder/object"]);
}

fn is_not_found(store: &dyn Store, name: &str) {
    let errors = [
        store.head(&key(name)).err(),
        store.read(&key(name), None, None).err(),
        store.read(&key(name), Some(0..1), Some(&ETag::new("x"))).err(),
        store.open(&key(name), None).err(),
        store.modified(&key(name)).err(),
    ];
    for error in errors {
        assert!(error.as_ref().is_some_and(StoreError::is_not_found), "{name}: {error:?}");
    }
}

pub(super) fn put_never_replaces(make: Make<'_>) {
    let store = make();
    let before = put(&*store, "k", b"first");
    for body in [b"other".as_slice(), b"", b"first", b"longer than the first"] {
        let outcome = store.put_new(&key("k"), body, &AttemptId::generate()).expect("an answer, not an error");
        assert_eq!(outcome, PutOutcome::Other, "{body:?}");
    }
    assert_eq!(read(&*store, "k"), b"first");
    assert_eq!(store.head(&key("k")).expect("it is there"), before);
}

pub(super) fn put_knows_its_own_attempt(make: Make<'_>) {
    let store = make();
    let attempt = AttemptId::generate();
    let body = format!("commit of {attempt}");
    let put = |body: &str, attempt: &AttemptId| store.put_new(&key("k"), body.as_bytes(), attempt).expect("an answer");
    assert_eq!(put(&body, &attempt), PutOutcome::Created);
    assert_eq!(put(&body, &attempt), PutOutcome::SameAttempt);
    assert_eq!(put(&format!("another of {attempt}"), &attempt), PutOutcome::Other);
    assert_eq!(put("commit", &AttemptId::generate()), PutOutcome::Other);
}

pub(super) fn puts_race_to_one_creation(make: Make<'_>) {
    let store = make();
    for round in 0..8 {
        let name = format!("round/{round}");
        let outcomes = at_once(|thread| {
            let body = format!("thread {thread}");
            (store.put_new(&key(&name), body.as_bytes(), &AttemptId::generate()).expect("an answer"), body)
        });
        let winners: Vec<_> = outcomes.iter().filter(|(outcome, _)| *outcome == PutOutcome::Created).collect();
        assert_eq!(winners.len(), 1, "{outcomes:?}");
        assert_eq!(read(&*store, &name), winners[0].1.as_bytes());
    }
}

pub(super) fn put_has_a_limit(make: Make<'_>) {
    let store = make();
    let error = store.put_new(&key("k"), &vec![0; PUT_LIMIT_BYTES + 1], &AttemptId::generate());
    assert!(matches!(error, Err(StoreError::TooLarge { .. })), "{error:?}");
    assert!(store.head(&key("k")).is_err_and(|error| error.is_not_found()));
}

pub(super) fn deletion_is_repeatable(make: Make<'_>) {
    let store = make();
    for name in ["absent", "absent/below"] {
        store.delete(&key(name)).expect("absence is success");
    }
    put(&*store, "folder/k", b"x");
    put(&*store, "folder/l", b"y");
    for _ in 0..2 {
        store.delete(&key("folder/k")).expect("it is there, or gone already");
        assert!(store.head(&key("folder/k")).is_err_and(|error| error.is_not_found()));
    }
    assert_eq!(keys(&*store, ""), ["folder/l"]);
    put(&*store, "folder/k", b"again");
    assert_eq!(read(&*store, "folder/k"), b"again");
}

pub(super) fn distinct_puts_at_once(make: Make<'_>) {
    let store = make();
    at_once(|thread| {
        for number in 0..25 {
            let name = format!("shared/{number:02}/{thread}");
            put(&*store, &name, name.as_bytes());
        }
    });
    let names = keys(&*store, "shared/");
    assert_eq!(names.len(), 100);
    assert!(names.iter().all(|name| read(&*store, name) == name.as_bytes()));
}
