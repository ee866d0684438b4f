//! The requests that a bucket answers, one attempt each: what [`AwsRemote`](super::aws::AwsRemote) sends over the network and a
//! simulated server answers in tests. No retry, no read-back and no decision is made here.

use std::fmt::Debug;
use std::ops::Range;
use std::time::SystemTime;

use bytes::Bytes;

use super::trouble::Trouble;
use crate::key::ETag;

/// A bucket, one attempt a call. Names are keys of the bucket, the store's prefix included.
pub(crate) trait Remote: Send + Sync + Debug {
    /// Size, ETag and time of an object.
    fn head(&self, name: &str) -> Result<Head, Trouble>;

    /// Bytes of an object; fewer than `range` where it ends before, and fewer still where the answer was cut.
    fn get(&self, name: &str, range: Range<u64>, if_match: Option<&ETag>) -> Result<Got, Trouble>;

    /// Creates an object unless there is one.
    fn put_new(&self, name: &str, body: Bytes) -> Result<ETag, Trouble>;

    /// Begins a multipart upload.
    fn begin(&self, name: &str) -> Result<String, Trouble>;

    /// Sends a part of it, from 1; the tag that completion asks for.
    fn part(&self, name: &str, upload: &str, number: u32, body: Bytes) -> Result<PartTag, Trouble>;

    /// Makes the object of its parts, unless there is one.
    fn complete(&self, name: &str, upload: &str, parts: &[PartTag]) -> Result<ETag, Trouble>;

    /// Gives an upload up; its absence is success.
    fn abort(&self, name: &str, upload: &str) -> Result<(), Trouble>;

    /// At most `most` objects (1,000 in any case) with a prefix, behind a name or from where the page before ended.
    fn list(&self, prefix: &str, from: &From, most: usize) -> Result<Page, Trouble>;

    /// Removes an object; its absence is success.
    fn delete(&self, name: &str) -> Result<(), Trouble>;

    /// Multipart uploads under way with a prefix, a page at a time.
    fn uploads(&self, prefix: &str, from: Option<&UploadsMarker>) -> Result<UploadsPage, Trouble>;

    /// Forgets the credentials, so that the next request asks their source again.
    fn renew(&self);

    /// What a message calls the server: scheme, host and port.
    fn server(&self) -> String;

    /// What to look at where the server refuses, or where there are no credentials.
    fn remedy(&self, trouble: &Trouble) -> String;
}

/// What is known of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) size_bytes: u64,
    pub(crate) etag: ETag,
    pub(crate) modified: SystemTime,
}

/// What a GET gave.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) bytes: Vec<u8>,
    pub(crate) etag: ETag,
    /// Length of the whole object.
    pub(crate) size_bytes: u64,
}

/// Without the bytes: they may be documents.
impl Debug for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Got({} of {} bytes, {})", self.bytes.len(), self.size_bytes, self.etag)
    }
}

/// A part of an upload as its completion names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartTag {
    pub(crate) number: u32,
    pub(crate) etag: String,
    /// The checksum that was sent with it, as the server gave it back.
    pub(crate) crc32: Option<String>,
}

/// Where a page of a listing begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// With the first name.
    Start,
    /// Behind this name.
    After(String),
    /// Where the page with this token ended.
    Token(String),
}

/// A page of a listing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// Name, size and, from most servers, ETag.
    pub(crate) objects: Vec<(String, u64, Option<ETag>)>,
    /// Where the next page begins; `None` at the end.
    pub(crate) next: Option<String>,
}

/// A multipart upload that is not finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenUpload {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) began: SystemTime,
}

/// Where a page of open uploads begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UploadsMarker {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
}

/// A page of open uploads.
#[derive(Clone, Debug, Default)]
pub(crate) struct UploadsPage {
    pub(crate) uploads: Vec<OpenUpload>,
    pub(crate) next: Option<UploadsMarker>,
}
