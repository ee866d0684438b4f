//! How a bucket is reached: which server, how much it is trusted, how long it may take. Never who we are: keys come from the
//! environment, a profile or the machine's role, and a test gives its own.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Settings of every bucket that one process uses.
#[derive(Clone, Debug)]
pub struct S3Options {
    /// Address of the server; `None`: `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, the profile's, or AWS itself.
    pub endpoint: Option<String>,
    /// Region to sign for; `None`: the environment's, the profile's or the machine's, else `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket stands in the path and not in the host name; `None`: where an endpoint is given.
    pub path_style: Option<bool>,
    /// Requests are not signed: public buckets.
    pub anonymous: bool,
    /// Servers without TLS are allowed elsewhere than on this machine.
    pub allow_http: bool,
    /// When checksums are sent with a body and checked in an answer.
    pub checksum: Checksum,
    /// How the server is told to encrypt what is written.
    pub encryption: Encryption,
    /// Time for one attempt at a request without a large body; bodies have 8 s more for each MiB.
    pub attempt_timeout: Duration,
    /// Time for a request with all its attempts; bodies have as much more as in one attempt, and once again.
    pub deadline: Duration,
    /// Requests under way at once, at most; fewer while the server asks to slow down.
    pub concurrency: usize,
    /// Folder for what waits to be uploaded and does not fit into memory.
    pub scratch: PathBuf,
    /// Bytes of `scratch` for blocks that may be read again; `None`: a quarter of what is free there.
    pub cache_bytes: Option<u64>,
    /// Keys in the place of those of the environment.
    pub keys: Option<AccessKeys>,
    /// Asked every tenth of a second while a request is under way or waited for.
    pub interrupt: Interrupt,
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: None,
            path_style: None,
            anonymous: false,
            allow_http: false,
            checksum: Checksum::Supported,
            encryption: Encryption::ByServer,
            attempt_timeout: Duration::from_secs(30),
            deadline: Duration::from_mins(3),
            concurrency: 64,
            scratch: std::env::temp_dir(),
            cache_bytes: None,
            keys: None,
            interrupt: Interrupt::default(),
        }
    }
}

/// When checksums go with requests and answers. Some older servers refuse the ones that are not required.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksum {
    /// Wherever the operation has them.
    Supported,
    /// Only where the operation demands them.
    Required,
}

/// Encryption at rest on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encryption {
    /// As the bucket is configured.
    ByServer,
    /// SSE-KMS with this key (id, alias or ARN), or with the account's own where none is given.
    Kms {
        /// Id, alias or ARN.
        key: Option<String>,
    },
}

/// An access key with its secret. It is printed by no formatter.
#[derive(Clone)]
pub struct AccessKeys {
    pub(crate) id: String,
    pub(crate) secret: String,
}

impl AccessKeys {
    /// Takes keys that a test or an embedding program made. The command line takes none.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self { id: id.into(), secret: secret.into() }
    }
}

impl fmt::Debug for AccessKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessKeys(set)")
    }
}

/// Says whether somebody asked the process to stop. Clones are one.
#[derive(Clone)]
pub struct Interrupt {
    asked: Arc<dyn Fn() -> bool + Send + Sync>,
    /// How many have to finish what they do first.
    held: Arc<AtomicUsize>,
}

/// While it lives, nobody is told to stop: whoever holds it asks by other means, and has something to save first.
#[derive(Debug)]
pub struct Held(Arc<AtomicUsize>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Interrupt {
    /// Takes a question that is cheap to ask.
    pub fn new(asked: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self { asked: Arc::new(asked), held: Arc::default() }
    }

    /// Whether to stop now.
    pub fn is_asked(&self) -> bool {
        self.held.load(Ordering::SeqCst) == 0 && (self.asked)()
    }

    /// Keeps calls to stores from being given up until the guard is dropped.
    #[must_use]
    pub fn hold(&self) -> Held {
        self.held.fetch_add(1, Ordering::SeqCst);
        Held(Arc::clone(&self.held))
    }
}

impl Default for Interrupt {
    /// Never asks to stop.
    fn default() -> Self {
        Self::new(|| false)
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupt")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_stop_while_somebody_holds() {
        let interrupt = Interrupt::new(|| true);
        let clone = interrupt.clone();
        let (first, second) = (interrupt.hold(), clone.hold());
        assert!(!interrupt.is_asked() && !clone.is_asked());
        drop(first);
        assert!(!interrupt.is_asked());
        drop(second);
        assert!(interrupt.is_asked() && clone.is_asked());
    }

    #[test]
    fn case_40_keys_are_printed_by_no_formatter() {
        let keys = Some(AccessKeys::new("AKIACANARY", "canary/secret"));
        let text = format!("{:?}", S3Options { keys, ..S3Options::default() });
        assert!(!text.to_lowercase().contains("canary"), "{text}");
    }
}
