//! One server for all tests of this program, with a new prefix for each store.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mellama_storage::{AccessKeys, S3Options};
use mellama_tests::s3_server::{KEY_ID, S3Server, SECRET};

/// The server, started by whoever needs it first.
pub(crate) fn server() -> &'static S3Server {
    static SERVER: OnceLock<(S3Server, tempfile::TempDir)> = OnceLock::new();
    let (server, _folder) = SERVER.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let server = S3Server::start(folder.path()).expect("a free port");
        (server, folder)
    });
    server
}

/// Settings that reach the server with its keys.
pub(crate) fn options() -> S3Options {
    S3Options {
        endpoint: Some(server().endpoint()),
        keys: Some(AccessKeys::new(KEY_ID, SECRET)),
        deadline: Duration::from_secs(2),
        ..S3Options::default()
    }
}

/// The address of a bucket that no other test has.
pub(crate) fn fresh_bucket() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = format!("test-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    server().bucket(&name).expect("a new folder");
    format!("s3://{name}")
}
