//! The same over `moto`, another server, which keeps objects in memory under their names as they are: `tests/moto/run` starts it
//! and says by `MELLAMA_MOTO` where it listens.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};

use mellama_storage::{AccessKeys, AttemptId, Key, PutOutcome, S3Options, Stores, list_all};

use crate::contract::{Breaks, Limit, check};

/// What this server cannot do.
const SERVER_LIMITS: [Limit; 1] =
    [("names with control characters stay intact", Breaks::Always, "its routes end at a line feed: the name is not found")];
/// A bucket that the script filled with 100,000 objects.
const MANY: &str = "s3://many";

/// Where the server listens; without one the caller has nothing to do.
fn endpoint() -> Option<String> {
    let endpoint = std::env::var("MELLAMA_MOTO").ok();
    if endpoint.is_none() {
        println!("not run: MELLAMA_MOTO does not say where moto listens; tests/moto/run does");
    }
    endpoint
}

fn options(endpoint: &str) -> S3Options {
    S3Options { endpoint: Some(endpoint.into()), keys: Some(AccessKeys::new("any", "any")), ..S3Options::default() }
}

/// The address of a bucket that no other test has. The server asks nobody who he is.
fn fresh_bucket(endpoint: &str) -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = format!("test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let host = endpoint.trim_start_matches("http://");
    let mut server = TcpStream::connect(host).expect("it listens");
    let request = format!("PUT /{name} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    server.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    server.read_to_string(&mut answer).expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    format!("s3://{name}")
}

#[test]
fn contract_of_a_bucket_of_moto() {
    let Some(endpoint) = endpoint() else { return };
    check(&options(&endpoint), &|| fresh_bucket(&endpoint), &SERVER_LIMITS);
}

#[test]
fn case_11_a_hundred_thousand_keys_are_listed_once_and_in_order() {
    let Some(endpoint) = endpoint() else { return };
    let store = Stores::new(options(&endpoint)).open(MANY).expect("a bucket");
    let listed: Vec<String> = list_all(&*store, "").map(|object| object.expect("a listing").key.into()).collect();
    let mut expected: Vec<String> = (0..100_000).map(|number| format!("{:02}/{number:06}", number % 37)).collect();
    expected.sort();
    assert!(listed == expected, "{} keys of {}", listed.len(), expected.len());
}

#[test]
fn case_11_odd_names_are_kept_and_listed() {
    let Some(endpoint) = endpoint() else { return };
    let store = Stores::new(options(&endpoint)).open(&fresh_bucket(&endpoint)).expect("a bucket");
    let long = format!("{}/{}/ee", ["a", "b", "c"].map(|letter| letter.repeat(255)).join("/"), "d".repeat(253));
    assert_eq!(long.len(), 1024, "the longest name there is");
    let mut names: Vec<&str> = vec!["a b", "a%20b", "a+b", "caf\u{e9}", "q?x=1&y#z", "<&>'\"", &long];
    for name in &names {
        let key = Key::new(*name).expect("a valid key");
        assert_eq!(store.put_new(&key, name.as_bytes(), &AttemptId::generate()).expect("put"), PutOutcome::Created, "{name:?}");
        assert_eq!(store.read(&key, None, None).expect("read"), name.as_bytes(), "{name:?}");
    }
    let listed: Vec<String> = list_all(&*store, "").map(|object| object.expect("a listing").key.into()).collect();
    names.sort_unstable();
    assert_eq!(listed, names);
}
