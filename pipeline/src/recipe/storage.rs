//! `[storage]`: how buckets are reached. Where, never who: keys come from the environment, a profile or the machine's role.

use std::path::PathBuf;
use std::time::Duration;

use mellama_storage::{Checksum, Encryption, Interrupt, S3Options};
use serde::{Deserialize, Serialize};

/// `[storage]`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageRecipe {
    /// Address of the server; absent: that of the environment or the profile, else AWS.
    pub endpoint: Option<String>,
    /// Region to sign for; absent: that of the environment, the profile or the machine.
    pub region: Option<String>,
    /// Whether the bucket stands in the path of an address and not in its host; absent: where an endpoint is given.
    pub path_style: Option<bool>,
    /// Every bucket is read without credentials.
    pub anonymous: bool,
    /// Servers without TLS are used elsewhere than on this machine.
    pub allow_http: bool,
    /// `supported`, or `required` for servers that refuse the others.
    pub checksum: ChecksumRecipe,
    /// Objects are written with SSE-KMS.
    pub kms: bool,
    /// Its key: id, alias or ARN; absent: the account's.
    pub kms_key: Option<String>,
    /// Seconds for one attempt at a request; bodies have 8 more for each MiB.
    pub attempt_seconds: u64,
    /// Seconds for a request with all its attempts; bodies have more.
    pub deadline_seconds: u64,
    /// Requests under way at once, at most.
    pub concurrency: usize,
}

/// When checksums go with bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChecksumRecipe {
    /// Wherever there are some.
    Supported,
    /// Only where they must.
    Required,
}

impl Default for StorageRecipe {
    fn default() -> Self {
        let usual = S3Options::default();
        Self {
            endpoint: None,
            region: None,
            path_style: None,
            anonymous: false,
            allow_http: false,
            checksum: ChecksumRecipe::Supported,
            kms: false,
            kms_key: None,
            attempt_seconds: usual.attempt_timeout.as_secs(),
            deadline_seconds: usual.deadline.as_secs(),
            concurrency: usual.concurrency,
        }
    }
}

/// What the machine adds to it.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// Folder for what waits to be uploaded; empty: the system's.
    pub scratch: PathBuf,
    /// Asked while a request is under way.
    pub interrupt: Interrupt,
}

impl Access {
    /// The settings of buckets.
    pub fn options(&self, recipe: Option<&StorageRecipe>) -> S3Options {
        let recipe = recipe.cloned().unwrap_or_default();
        let scratch = if self.scratch.as_os_str().is_empty() { std::env::temp_dir() } else { self.scratch.clone() };
        S3Options {
            endpoint: recipe.endpoint,
            region: recipe.region,
            path_style: recipe.path_style,
            anonymous: recipe.anonymous,
            allow_http: recipe.allow_http,
            checksum: match recipe.checksum {
                ChecksumRecipe::Supported => Checksum::Supported,
                ChecksumRecipe::Required => Checksum::Required,
            },
            encryption: if recipe.kms { Encryption::Kms { key: recipe.kms_key } } else { Encryption::ByServer },
            attempt_timeout: Duration::from_secs(recipe.attempt_seconds),
            deadline: Duration::from_secs(recipe.deadline_seconds),
            concurrency: recipe.concurrency,
            scratch,
            cache_bytes: None,
            keys: None,
            interrupt: self.interrupt.clone(),
        }
    }
}
