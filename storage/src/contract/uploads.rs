//! What a store promises of large objects: nothing before the end, every byte after it, nothing replaced.
//! "Large" is a few megabytes here; limits of a backend's parts are the backend's own tests.

use super::{Make, at_once, key, keys, pattern, read, upload};
use crate::error::StoreError;
use crate::store::sweep;
use std::io::Write;

pub(super) fn upload_is_invisible(make: Make<'_>) {
    let store = make();
    let pending = upload(&*store, &pattern(400_000));
    assert!(store.head(&key("k")).is_err_and(|error| error.is_not_found()));
    assert_eq!(keys(&*store, ""), Vec::<String>::new());
    let meta = pending.finish(&key("k")).expect("a new name");
    assert_eq!((meta.key.as_str(), meta.size_bytes), ("k", 400_000));
    assert_eq!(keys(&*store, ""), ["k"]);
}

pub(super) fn dropped_upload_leaves_nothing(make: Make<'_>) {
    let store = make();
    drop(upload(&*store, &pattern(400_000)));
    assert_eq!(keys(&*store, ""), Vec::<String>::new());
    assert_eq!(sweep(&*store).expect("a sweep"), 0, "nothing is left to be swept");
}

pub(super) fn upload_keeps_every_byte(make: Make<'_>) {
    let store = make();
    let body = pattern(3 << 20 | 1);
    let mut pending = store.upload().expect("an upload begins");
    for (index, piece) in body.chunks(65_521).enumerate() {
        pending.write_all(piece).expect("an upload takes bytes");
        if index % 7 == 0 {
            pending.flush().expect("an upload can be flushed");
        }
    }
    pending.finish(&key("deep/folder/k")).expect("a new name");
    assert!(read(&*store, "deep/folder/k") == body);
    store.upload().expect("an upload begins").finish(&key("empty")).expect("an empty object");
    assert_eq!(read(&*store, "empty"), b"");
}

pub(super) fn same_upload_is_success(make: Make<'_>) {
    let store = make();
    let body = pattern(600_000);
    let first = upload(&*store, &body).finish(&key("k")).expect("a new name");
    let second = upload(&*store, &body).finish(&key("k")).expect("the same bytes");
    assert_eq!(first, second, "the object that was there stays");
    assert_eq!(store.head(&key("k")).expect("it is there"), first);
    assert_eq!(keys(&*store, ""), ["k"]);
}

pub(super) fn other_upload_is_refused(make: Make<'_>) {
    let store = make();
    let body = pattern(600_000);
    upload(&*store, &body).finish(&key("k")).expect("a new name");
    let mut last_byte = body.clone();
    *last_byte.last_mut().expect("it is not empty") ^= 1;
    for other in [b"".as_slice(), &body[..599_999], &[body.as_slice(), b"x"].concat(), &last_byte] {
        let error = upload(&*store, other).finish(&key("k"));
        assert!(matches!(error, Err(StoreError::Exists { .. })), "{error:?}");
    }
    assert!(read(&*store, "k") == body);
}

pub(super) fn uploads_converge(make: Make<'_>) {
    let store = make();
    let body = pattern(100_000);
    for round in 0..4 {
        let name = key(&format!("parts/{round}"));
        let metas = at_once(|_| upload(&*store, &body).finish(&name).expect("the same bytes"));
        assert!(metas.windows(2).all(|pair| pair[0] == pair[1]), "{metas:?}");
    }
    assert_eq!(keys(&*store, "parts/").len(), 4);
}

pub(super) fn live_uploads_are_not_swept(make: Make<'_>) {
    let store = make();
    let pending = upload(&*store, b"body");
    assert_eq!(sweep(&*store).expect("a sweep"), 0);
    pending.finish(&key("k")).expect("it was not swept");
    assert_eq!(sweep(&*store).expect("a sweep"), 0);
    assert_eq!(read(&*store, "k"), b"body");
}
