//! What every store promises, as tests that any implementation and any wrapper runs: one function for each requirement.
//! They need an empty store each and nothing else; a violated promise is a panic that says which.
//!
//! ```
//! use mellama_storage::{contract, MemoryStore, Store};
//! use std::sync::Arc;
//! contract::run_all(&|| Arc::new(MemoryStore::new("contract")) as Arc<dyn Store>);
//! ```

mod listings;
mod puts;
mod reads;
mod uploads;

use crate::key::{AttemptId, Key, ObjectMeta, PutOutcome};
use crate::store::{Store, Upload, list_all};
use std::io::{Read, Write};
use std::sync::Arc;
use std::thread;

/// Makes an empty store.
pub type Make<'a> = &'a dyn Fn() -> Arc<dyn Store>;

/// One requirement: its name and its test.
pub type Requirement = (&'static str, fn(Make<'_>));

/// Every requirement, by name.
pub const REQUIREMENTS: &[Requirement] = &[
    ("the address is not empty and holds no query", reads::uri_is_plain),
    ("what was put is read back", puts::put_is_read_back),
    ("an absent object is NotFound in every call", puts::absent_is_not_found),
    ("what lies above or below an object is no object", puts::neighbours_are_not_found),
    ("a put never replaces", puts::put_never_replaces),
    ("an attempt knows its own object again", puts::put_knows_its_own_attempt),
    ("of many puts at once exactly one creates", puts::puts_race_to_one_creation),
    ("a put has a limit", puts::put_has_a_limit),
    ("a range is exact or an error", reads::range_is_exact),
    ("a stream is the whole object", reads::stream_is_whole),
    ("a pinned read refuses another state", reads::pinned_read_refuses_another_state),
    ("an ETag is the same wherever it is told", reads::etag_is_told_alike),
    ("an upload is invisible until it is finished", uploads::upload_is_invisible),
    ("an upload that is dropped leaves nothing", uploads::dropped_upload_leaves_nothing),
    ("an upload keeps every byte", uploads::upload_keeps_every_byte),
    ("an upload of the same bytes is success and changes nothing", uploads::same_upload_is_success),
    ("an upload of other bytes is refused", uploads::other_upload_is_refused),
    ("of many uploads at once all succeed and one object stands", uploads::uploads_converge),
    ("a listing is sorted by bytes and paginated", listings::listing_is_sorted_and_paginated),
    ("a listing's prefix is bytes", listings::listing_prefix_is_bytes),
    ("a listing holds each of many keys once", listings::listing_holds_many),
    ("odd names stay intact", listings::odd_names_stay_intact),
    ("names with control characters stay intact", listings::control_names_stay_intact),
    ("the longest name stays intact", listings::longest_name_stays_intact),
    ("deletion is repeatable and frees the name", puts::deletion_is_repeatable),
    ("objects written at once are all there", puts::distinct_puts_at_once),
    ("what is alive is not swept", uploads::live_uploads_are_not_swept),
    ("the preflight passes and leaves nothing", reads::preflight_passes),
];

/// Runs every requirement, each on a store of its own.
///
/// # Panics
/// When the store breaks one; the message names it.
pub fn run_all(make: &dyn Fn() -> Arc<dyn Store>) {
    for (name, requirement) in REQUIREMENTS {
        // The last name printed is the requirement that failed.
        eprintln!("contract: {name}");
        requirement(make);
    }
}

fn key(name: &str) -> Key {
    Key::new(name).expect("contract keys are valid")
}

fn put(store: &dyn Store, name: &str, body: &[u8]) -> ObjectMeta {
    let outcome = store.put_new(&key(name), body, &AttemptId::generate()).expect("a put into an empty name");
    assert_eq!(outcome, PutOutcome::Created, "{name}");
    store.head(&key(name)).expect("an object that was put")
}

fn upload(store: &dyn Store, body: &[u8]) -> Box<dyn Upload> {
    let mut upload = store.upload().expect("an upload begins");
    upload.write_all(body).expect("an upload takes bytes");
    upload
}

fn read(store: &dyn Store, name: &str) -> Vec<u8> {
    store.read(&key(name), None, None).expect("an object that is there")
}

fn stream(store: &dyn Store, name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut stream = store.open(&key(name), None).expect("an object that is there");
    stream.read_to_end(&mut bytes).expect("a stream without faults");
    bytes
}

fn keys(store: &dyn Store, prefix: &str) -> Vec<String> {
    list_all(store, prefix).map(|object| object.expect("a listing without faults").key.into()).collect()
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 % 251) as u8).collect()
}

/// Runs a call on four threads and returns the answers in the order of the threads.
fn at_once<T: Send>(call: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let call = &call;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || call(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no call panics")).collect()
    })
}
