//! Every request of a run over a bucket fails in turn on the wire, once. The client repeats what can be repeated, so the run goes
//! through, and gives the same bytes.

use std::sync::Arc;
use std::time::Duration;

use mellama_storage::{AccessKeys, S3Options, Store, Stores};
use mellama_tests::s3_server::{KEY_ID, S3Server, SECRET};
use mellama_tests::wire_proxy::{Mode, WireProxy};

use crate::small_run::{SmallRun, is_whole, published};

/// Requests of one run that fail, far from each other.
const STRIKES_OF_A_RUN: u64 = 16;
/// What a request meets; which, changes from one to the next.
const MODES: [Mode; 4] = [Mode::Before(500, "InternalError"), Mode::After500, Mode::AfterDrop, Mode::Cut];

#[test]
fn case_13_a_run_over_a_bucket_survives_the_failure_of_any_request() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = S3Server::start(folder.path()).expect("a free port");
    let proxy = WireProxy::start(server.address()).expect("a free port");
    let open = |endpoint: String, name: &str| -> Arc<dyn Store> {
        server.bucket(name).expect("a new folder");
        let keys = Some(AccessKeys::new(KEY_ID, SECRET));
        let options = S3Options {
            endpoint: Some(endpoint),
            keys,
            deadline: Duration::from_secs(20),
            cache_bytes: Some(0),
            ..S3Options::default()
        };
        Stores::new(options).open(&format!("s3://{name}")).expect("a bucket")
    };
    let small = SmallRun::new();
    proxy.follow(|_| Mode::Through);
    small.run(open(proxy.endpoint(), "clean")).expect("nothing fails");
    let (expected, requests) = (published(&*open(server.endpoint(), "clean")), proxy.requests());
    assert!(requests > 100, "{requests} requests are too few to show anything");
    let mut struck = 0;
    for first in 0..requests.div_ceil(STRIKES_OF_A_RUN) {
        let stride = requests.div_ceil(STRIKES_OF_A_RUN);
        let name = format!("run-{first}");
        proxy.follow(move |seen| match seen.number.checked_sub(1 + first) {
            Some(behind) if behind % stride == 0 => MODES[(first + behind / stride) as usize % MODES.len()],
            _ => Mode::Through,
        });
        let outcome = small.run(open(proxy.endpoint(), &name));
        outcome.unwrap_or_else(|failure| panic!("requests {first} and every {stride}th behind: {failure}"));
        struck += proxy.struck();
        let store = open(server.endpoint(), &name);
        assert!(is_whole(&store) && published(&*store) == expected, "requests {first} and every {stride}th behind");
        std::fs::remove_dir_all(folder.path().join(&name)).expect("removed");
    }
    println!("{requests} requests, {struck} struck in {} runs", requests.div_ceil(STRIKES_OF_A_RUN));
    assert!(struck >= requests, "{struck} of {requests} were struck");
}
