//! The contract of stores, with both settings of checksums.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mellama_storage::contract::REQUIREMENTS;
use mellama_storage::{Checksum, S3Options, Stores};

use crate::server::{fresh_bucket, options};

/// How often a server breaks a requirement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breaks {
    Always,
    Sometimes,
}

/// A requirement that a server does not keep, how often, and why.
pub(crate) type Limit = (&'static str, Breaks, &'static str);

/// What this server cannot do, and why: none of it is the client's, whose part is shown by the simulated bucket in `storage`.
const SERVER_LIMITS: [Limit; 4] = [
    (
        "what lies above or below an object is no object",
        Breaks::Always,
        "objects are files: a folder's name is answered with 500",
    ),
    ("of many puts at once exactly one creates", Breaks::Sometimes, "it looks and then writes"),
    ("names with control characters stay intact", Breaks::Always, "it writes them into XML as they are"),
    ("the longest name stays intact", Breaks::Always, "it keeps a file named by the whole key"),
];

/// Every requirement over buckets that `fresh` makes, but for the limits of their server, which have to be there.
pub(crate) fn check(options: &S3Options, fresh: &dyn Fn() -> String, limits: &[Limit]) {
    let stores = Stores::new(options.clone());
    let make = || stores.open(&fresh()).expect("a bucket");
    let mut wrong = Vec::new();
    for (name, requirement) in REQUIREMENTS {
        let holds = catch_unwind(AssertUnwindSafe(|| requirement(&make))).is_ok();
        let limit = limits.iter().find(|(limited, _, _)| limited == name);
        match limit {
            None if !holds => wrong.push(format!("{name}: does not hold")),
            Some((_, Breaks::Always, why)) if holds => wrong.push(format!("{name}: holds by now, though {why}")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn contract_of_a_bucket() {
    check(&options(), &fresh_bucket, &SERVER_LIMITS);
}

#[test]
fn contract_of_a_bucket_with_required_checksums_alone() {
    check(&S3Options { checksum: Checksum::Required, ..options() }, &fresh_bucket, &SERVER_LIMITS);
}
