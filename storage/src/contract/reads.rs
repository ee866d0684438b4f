//! What a store promises of reads: exact ranges, whole streams, and states that can be pinned.
//! It writes only what it reads.

use super::{Make, key, keys, pattern, put, upload};
use crate::error::StoreError;
use crate::key::ETag;
use crate::store::preflight;

pub(super) fn uri_is_plain(make: Make<'_>) {
    let store = make();
    assert!(!store.uri().is_empty() && !store.uri().contains('?') && !store.uri().contains('@'), "{}", store.uri());
}

pub(super) fn range_is_exact(make: Make<'_>) {
    let store = make();
    let body = pattern(1000);
    let etag = put(&*store, "k", &body).etag;
    for range in [0..0, 0..1, 0..1000, 17..400, 999..1000, 1000..1000] {
        let bytes = store.read(&key("k"), Some(range.clone()), Some(&etag)).expect("a range inside the object");
        assert_eq!(bytes, body[range.start as usize..range.end as usize], "{range:?}");
    }
    #[expect(clippy::reversed_empty_ranges, reason = "a range that ends before it begins has to be refused")]
    for range in [0..1001, 999..1001, 1001..1001, 5000..6000, 0..u64::MAX, 5..3] {
        let error = store.read(&key("k"), Some(range.clone()), None);
        assert!(matches!(error, Err(StoreError::Truncated { .. })), "{range:?}: {error:?}");
    }
}

pub(super) fn stream_is_whole(make: Make<'_>) {
    let store = make();
    let body = pattern(300_001);
    let etag = put(&*store, "k", &body).etag;
    let mut stream = store.open(&key("k"), Some(&etag)).expect("a pinned stream of the same state");
    let mut pieces = Vec::new();
    let mut piece = [0; 4099];
    loop {
        match stream.read(&mut piece).expect("a stream without faults") {
            0 => break,
            length => pieces.extend_from_slice(&piece[..length]),
        }
    }
    assert!(pieces == body);
    assert_eq!(stream.read(&mut piece).expect("an end stays an end"), 0);
}

pub(super) fn pinned_read_refuses_another_state(make: Make<'_>) {
    let store = make();
    let before = put(&*store, "k", b"one state").etag;
    store.delete(&key("k")).expect("it is there");
    let after = put(&*store, "k", b"quite another state").etag;
    assert_ne!(before, after);
    for pinned in [&before, &ETag::new("never given")] {
        let errors = [
            store.read(&key("k"), None, Some(pinned)).err(),
            store.read(&key("k"), Some(0..1), Some(pinned)).err(),
            store.open(&key("k"), Some(pinned)).err(),
        ];
        for error in errors {
            assert!(matches!(error, Some(StoreError::Changed { .. })), "{error:?}");
        }
    }
    assert!(store.read(&key("k"), Some(0..1), Some(&after)).is_ok());
}

pub(super) fn etag_is_told_alike(make: Make<'_>) {
    let store = make();
    let uploaded = upload(&*store, b"body").finish(&key("a/k")).expect("a new name");
    let other = put(&*store, "a/l", b"other body");
    assert_eq!(store.head(&key("a/k")).expect("it is there"), uploaded);
    assert_eq!(store.list("", None, 10).expect("a listing"), [uploaded.clone(), other]);
    assert_eq!(store.head(&key("a/k")).expect("it is there"), uploaded, "reading and listing change no ETag");
}

pub(super) fn preflight_passes(make: Make<'_>) {
    let store = make();
    preflight(&*store).expect("a store that can be written");
    assert_eq!(keys(&*store, ""), Vec::<String>::new());
}
