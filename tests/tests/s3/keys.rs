//! What only a server has: keys and permissions that are refused, and what is asked of it.

use mellama_storage::{AccessKeys, AttemptId, Key, READ_BYTES, Request, S3Options, StoreError, Stores, list_all, preflight};

use crate::server::{fresh_bucket, options, server};

fn key(name: &str) -> Key {
    Key::new(name).expect("a valid key")
}

#[test]
fn case_11_ten_thousand_keys_are_listed_once_and_in_order() {
    let uri = fresh_bucket();
    let folder = server().bucket(uri.trim_start_matches("s3://")).expect("it is there");
    let name = |number: usize| format!("{:02}/{number:06}", number % 37);
    for group in 0..37 {
        std::fs::create_dir_all(folder.join(format!("{group:02}"))).expect("a new folder");
    }
    for number in 0..10_000 {
        std::fs::write(folder.join(name(number)), b"x").expect("a new file");
    }
    let store = Stores::new(options()).open(&uri).expect("a bucket");
    let listed: Vec<String> = list_all(&*store, "").map(|object| object.expect("a listing").key.into()).collect();
    let mut expected: Vec<String> = (0..10_000).map(name).collect();
    expected.sort();
    assert_eq!(listed, expected);
}

#[test]
fn case_11_odd_names_are_kept_and_listed() {
    let store = Stores::new(options()).open(&fresh_bucket()).expect("a bucket");
    let mut names = ["a b", "a%20b", "a+b", "caf\u{e9}", "line\nline", "q?x=1&y#z", "<&>'\""];
    for name in names {
        store.put_new(&key(name), name.as_bytes(), &AttemptId::generate()).expect("a new name");
        assert_eq!(store.read(&key(name), None, None).expect("it is there"), name.as_bytes(), "{name:?}");
    }
    let listed: Vec<String> = list_all(&*store, "").map(|object| object.expect("a listing").key.into()).collect();
    names.sort_unstable();
    assert_eq!(listed, names);
}

#[test]
fn case_16_a_wrong_secret_is_refused_before_any_work() {
    let wrong = S3Options { keys: Some(AccessKeys::new("test-key-id", "canary-secret")), ..options() };
    let store = Stores::new(wrong).open(&fresh_bucket()).expect("nothing is asked yet");
    let error = preflight(&*store).expect_err("the secret is wrong");
    assert!(matches!(error, StoreError::Denied { .. }), "{error}");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("canary") && !shown.contains("test-key-id"), "{shown}");
}

#[test]
fn a_bucket_that_is_not_there_is_named() {
    let store = Stores::new(options()).open("s3://no-such-bucket/run").expect("nothing is asked yet");
    let error = list_all(&*store, "").next().expect("an answer").expect_err("there is no such bucket");
    assert_eq!(error.to_string(), "s3://no-such-bucket: no such bucket; check its name, the region and the endpoint");
}

#[test]
fn an_address_where_nobody_listens_is_told_soon() {
    let nobody = S3Options { endpoint: Some("http://127.0.0.1:1".into()), ..options() };
    let store = Stores::new(nobody).open("s3://bucket").expect("nothing is asked yet");
    let error = store.head(&key("k")).expect_err("nobody listens");
    assert!(matches!(&error, StoreError::NoServer { server, .. } if server == "http://127.0.0.1:1"), "{error}");
    assert!(format!("{error:?}").contains("no connection to the server"), "{error:?}");
}

#[test]
fn requests_and_bytes_are_counted_by_kind() {
    let stores = Stores::new(options());
    let store = stores.open(&fresh_bucket()).expect("a bucket");
    let long = vec![7_u8; 20 << 20];
    store.put_new(&key("short"), b"body", &AttemptId::generate()).expect("a new name");
    let mut upload = store.upload().expect("it begins");
    upload.write_all(&long).expect("scratch takes it");
    upload.finish(&key("long")).expect("a new name");
    assert!(store.read(&key("long"), None, None).expect("it is there") == long);
    let usage = stores.usage();
    assert_eq!(
        (usage.of(Request::Put), usage.of(Request::Begin), usage.of(Request::Part), usage.of(Request::Complete)),
        (1, 1, 3, 1),
        "{usage:?}"
    );
    assert_eq!(usage.of(Request::Get), (20_u64 << 20).div_ceil(READ_BYTES), "{usage:?}");
    assert_eq!((usage.written_bytes, usage.read_bytes), (4 + (20 << 20), 20 << 20), "{usage:?}");
    assert_eq!((usage.of(Request::Head), usage.retries, usage.throttled), (0, 0, 0), "{usage:?}");
}
