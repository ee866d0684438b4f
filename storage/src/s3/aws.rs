//! A bucket over the network, by `aws-sdk-s3`: one attempt a call, blocking, with a time limit of its own. The SDK signs, frames
//! and checks; retries, deadlines and the reading of answers are ours. Its errors are re-worded here, for they may quote
//! addresses and headers.

use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    Credentials, IdentityCache, ProvideCredentials, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, EncodingType, ServerSideEncryption};
use bytes::Bytes;
use tokio::runtime::Runtime;

use super::attempts::body_time;
use super::credentials::{self, Renewable};
use super::listing::decoded;
use super::network;
use super::options::{Checksum, Encryption, S3Options};
use super::remote::{From, Got, Head, OpenUpload, Page, PartTag, Remote, UploadsMarker, UploadsPage};
use super::trouble::{Kind, Trouble};
use crate::error::StoreError;
use crate::key::ETag;

/// Threads that move bytes of requests; callers wait on their own.
const NETWORK_THREADS: usize = 2;
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence in the middle of a body.
const STALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Time for giving an upload up.
const ABORT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a request under way looks whether the process was asked to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Where requests are signed for when nothing says so.
const DEFAULT_REGION: &str = "us-east-1";
/// Objects a page of a listing.
const PAGE: i32 = 1000;

/// A connection to a server; every bucket on it shares it.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    client: Client,
    credentials: Option<Arc<Renewable>>,
    options: S3Options,
    /// As messages call it.
    server: Arc<str>,
}

/// One bucket of a connection.
#[derive(Clone, Debug)]
pub(crate) struct AwsRemote {
    connection: Connection,
    bucket: String,
}

/// The threads of all connections of the process.
fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(NETWORK_THREADS)
            .thread_name("mellama-network")
            .enable_all()
            .build()
            .expect("a process that can start threads")
    })
}

impl Connection {
    /// Resolves endpoint and region; credentials are asked for by the first request.
    pub(crate) fn open(options: &S3Options) -> Result<Self, StoreError> {
        runtime().block_on(Self::resolve(options))
    }

    async fn resolve(options: &S3Options) -> Result<Self, StoreError> {
        let endpoint = network::endpoint(options).await?;
        let http = network::client(endpoint.as_ref())?;
        let region = network::region(options, endpoint.as_ref(), &http).await;
        let region = region.unwrap_or_else(|| Region::from_static(DEFAULT_REGION));
        let server = endpoint.as_ref().map_or_else(|| format!("S3 of AWS in {region}"), network::shown).into();
        let (request, response) = match options.checksum {
            Checksum::Supported => (RequestChecksumCalculation::WhenSupported, ResponseChecksumValidation::WhenSupported),
            Checksum::Required => (RequestChecksumCalculation::WhenRequired, ResponseChecksumValidation::WhenRequired),
        };
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build();
        let mut builder = aws_sdk_s3::config::Builder::new()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .http_client(SharedHttpClient::new(http.clone()))
            .region(region.clone())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .identity_cache(IdentityCache::no_cache())
            .request_checksum_calculation(request)
            .response_checksum_validation(response)
            .force_path_style(options.path_style.unwrap_or(endpoint.is_some()));
        if let Some(endpoint) = &endpoint {
            builder = builder.endpoint_url(endpoint.as_str());
        }
        let mut credentials = None;
        if options.anonymous {
            builder = builder.allow_no_auth();
        } else if let Some(keys) = &options.keys {
            builder = builder.credentials_provider(Credentials::new(&keys.id, &keys.secret, None, None, "given"));
        } else {
            let chain = Arc::new(Renewable::new(SharedHttpClient::new(http), region));
            builder = builder.credentials_provider(Arc::clone(&chain) as Arc<dyn ProvideCredentials>);
            credentials = Some(chain);
        }
        Ok(Self { client: Client::from_conf(builder.build()), credentials, options: options.clone(), server })
    }

    pub(crate) fn bucket(&self, bucket: &str) -> AwsRemote {
        AwsRemote { connection: self.clone(), bucket: bucket.to_owned() }
    }

    /// Waits for an answer, at most as long as an attempt with such a body may take.
    fn wait<T, E>(
        &self,
        body_bytes: u64,
        request: impl Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    ) -> Result<T, Trouble>
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        self.limited(body_bytes, async { request.await.map_err(|e| trouble(&e)) })
    }

    fn limited<T>(&self, body_bytes: u64, request: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        let end = Instant::now() + self.options.attempt_timeout + body_time(body_bytes);
        runtime().block_on(async {
            let mut request = pin!(request);
            loop {
                if let Ok(outcome) = tokio::time::timeout(LOOK_EVERY, &mut request).await {
                    return outcome;
                }
                if self.options.interrupt.is_asked() {
                    return Err(Trouble::here(Kind::Interrupted, "the process was asked to stop"));
                }
                if Instant::now() > end {
                    return Err(Trouble::here(Kind::Timeout, "no answer in time"));
                }
            }
        })
    }

    fn sends_checksums(&self) -> bool {
        self.options.checksum == Checksum::Supported
    }

    /// What is asked of the server about encryption, for a write.
    fn encryption(&self) -> (Option<ServerSideEncryption>, Option<String>) {
        match &self.options.encryption {
            Encryption::ByServer => (None, None),
            Encryption::Kms { key } => (Some(ServerSideEncryption::AwsKms), key.clone()),
        }
    }
}

impl AwsRemote {
    fn client(&self) -> &Client {
        &self.connection.client
    }

    async fn fetch(&self, name: &str, range: Range<u64>, if_match: Option<&ETag>) -> Result<Got, Trouble> {
        let request = self.client().get_object().bucket(&self.bucket).key(name);
        let request = request.range(format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        // What is no tag of a server cannot be asked for; the answer is compared in any case.
        let if_match = if_match.map(ETag::as_str).filter(|etag| etag.len() > 1 && etag.starts_with('"') && etag.ends_with('"'));
        let request = request.set_if_match(if_match.map(str::to_owned));
        // Only the body has more time for its length, and how long it is its head tells.
        let head = tokio::time::timeout(self.connection.options.attempt_timeout, request.send()).await;
        let answer = head.map_err(|_| Trouble::here(Kind::Timeout, "no answer in time"))?.map_err(|e| trouble(&e))?;
        let nonsense = |what: &str| Trouble::here(Kind::Server, what);
        let etag = answer.e_tag().map(ETag::new).ok_or_else(|| nonsense("the server gave no ETag"))?;
        let (start, size_bytes) = answer
            .content_range()
            .and_then(parse_content_range)
            .ok_or_else(|| nonsense("the server does not say which bytes it sends"))?;
        if start != range.start {
            return Err(nonsense("the server sent other bytes than were asked for"));
        }
        let expected = range.end.min(size_bytes).saturating_sub(start);
        let bytes = body(answer.body, expected).await?;
        Ok(Got { bytes, etag, size_bytes })
    }

    fn page(&self, prefix: &str, from: &From, most: usize, encoding: Option<EncodingType>) -> Result<Page, Trouble> {
        let most = i32::try_from(most).unwrap_or(PAGE).min(PAGE);
        let request = self.client().list_objects_v2().bucket(&self.bucket).prefix(prefix).max_keys(most);
        let request = request.set_encoding_type(encoding);
        let request = match from {
            From::Start => request,
            From::After(name) => request.start_after(name),
            From::Token(token) => request.continuation_token(token),
        };
        let answer = self.connection.wait(0, request.send())?;
        let is_encoded = answer.encoding_type() == Some(&EncodingType::Url);
        let nonsense = |what: &str| Trouble::here(Kind::Server, what);
        let mut objects = Vec::with_capacity(answer.contents().len());
        for object in answer.contents() {
            let name = object.key().and_then(|name| decoded(name, is_encoded)).ok_or_else(|| nonsense("a name is no text"))?;
            let size = object.size().and_then(|size| u64::try_from(size).ok()).ok_or_else(|| nonsense("no length"))?;
            objects.push((name, size, object.e_tag().map(ETag::new)));
        }
        let next = answer.next_continuation_token().filter(|_| answer.is_truncated() == Some(true)).map(str::to_owned);
        Ok(Page { objects, next })
    }
}

/// Takes a body that should be of so many bytes; what came before it broke, when anything did.
async fn body(mut stream: ByteStream, expected: u64) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::with_capacity(expected as usize);
    loop {
        // A silence is a break.
        match tokio::time::timeout(STALL_TIMEOUT, stream.next()).await.unwrap_or(Some(Err(silence()))) {
            Some(Ok(piece)) => bytes.extend_from_slice(&piece),
            // The checksum is compared behind the last byte: a complete body that ends in an error is a wrong one.
            Some(Err(_)) if bytes.len() as u64 >= expected => {
                return Err(Trouble::here(Kind::Checksum, "the body does not have its checksum"));
            }
            Some(Err(_)) if bytes.is_empty() => return Err(Trouble::here(Kind::Broken, "the body broke off")),
            Some(Err(_)) | None => break,
        }
        if bytes.len() as u64 > expected {
            return Err(Trouble::here(Kind::Server, "the server sent more bytes than were asked for"));
        }
    }
    Ok(bytes)
}

fn silence() -> aws_sdk_s3::primitives::ByteStreamError {
    std::io::Error::from(std::io::ErrorKind::TimedOut).into()
}

/// First byte and length of the whole object of `bytes FIRST-LAST/TOTAL`.
fn parse_content_range(text: &str) -> Option<(u64, u64)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()?))
}

impl Remote for AwsRemote {
    fn head(&self, name: &str) -> Result<Head, Trouble> {
        let answer = self.connection.wait(0, self.client().head_object().bucket(&self.bucket).key(name).send())?;
        let nonsense = |what: &str| Trouble::here(Kind::Server, what);
        Ok(Head {
            size_bytes: answer.content_length().and_then(|n| u64::try_from(n).ok()).ok_or_else(|| nonsense("no length"))?,
            etag: answer.e_tag().map(ETag::new).ok_or_else(|| nonsense("the server gave no ETag"))?,
            modified: answer.last_modified().and_then(|at| SystemTime::try_from(*at).ok()).unwrap_or(SystemTime::UNIX_EPOCH),
        })
    }

    fn get(&self, name: &str, range: Range<u64>, if_match: Option<&ETag>) -> Result<Got, Trouble> {
        self.connection.limited(range.end.saturating_sub(range.start), self.fetch(name, range.clone(), if_match))
    }

    fn put_new(&self, name: &str, body: Bytes) -> Result<ETag, Trouble> {
        let (encryption, key) = self.connection.encryption();
        let length = body.len() as u64;
        let request = self.client().put_object().bucket(&self.bucket).key(name).if_none_match("*");
        let request = request.set_server_side_encryption(encryption).set_ssekms_key_id(key);
        let request = request.content_length(length as i64).body(ByteStream::from(body));
        let answer = self.connection.wait(length, request.send())?;
        tag(answer.e_tag())
    }

    fn begin(&self, name: &str) -> Result<String, Trouble> {
        let (encryption, key) = self.connection.encryption();
        let algorithm = self.connection.sends_checksums().then_some(ChecksumAlgorithm::Crc32);
        let request = self.client().create_multipart_upload().bucket(&self.bucket).key(name);
        let request = request.set_server_side_encryption(encryption).set_ssekms_key_id(key);
        let answer = self.connection.wait(0, request.set_checksum_algorithm(algorithm).send())?;
        answer.upload_id().map(str::to_owned).ok_or_else(|| Trouble::here(Kind::Server, "the server gave no upload id"))
    }

    fn part(&self, name: &str, upload: &str, number: u32, body: Bytes) -> Result<PartTag, Trouble> {
        let length = body.len() as u64;
        let algorithm = self.connection.sends_checksums().then_some(ChecksumAlgorithm::Crc32);
        let request = self.client().upload_part().bucket(&self.bucket).key(name).upload_id(upload);
        let request = request.part_number(number as i32).set_checksum_algorithm(algorithm);
        let request = request.content_length(length as i64).body(ByteStream::from(body));
        let answer = self.connection.wait(length, request.send())?;
        let etag = tag(answer.e_tag())?.to_string();
        Ok(PartTag { number, etag, crc32: answer.checksum_crc32().map(str::to_owned) })
    }

    fn complete(&self, name: &str, upload: &str, parts: &[PartTag]) -> Result<ETag, Trouble> {
        let part = |part: &PartTag| {
            let number = part.number as i32;
            CompletedPart::builder().part_number(number).e_tag(&part.etag).set_checksum_crc32(part.crc32.clone()).build()
        };
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.iter().map(part).collect())).build();
        let request = self.client().complete_multipart_upload().bucket(&self.bucket).key(name).upload_id(upload);
        let answer = self.connection.wait(0, request.if_none_match("*").multipart_upload(parts).send())?;
        // An answer of success may carry an error in its body: without an ETag it is none.
        tag(answer.e_tag())
    }

    fn abort(&self, name: &str, upload: &str) -> Result<(), Trouble> {
        let request = self.client().abort_multipart_upload().bucket(&self.bucket).key(name).upload_id(upload);
        // Also of a process that was asked to stop, which has little time.
        let sent = runtime().block_on(async { tokio::time::timeout(ABORT_TIMEOUT, request.send()).await });
        match sent.map_or_else(|_| Err(Trouble::here(Kind::Timeout, "no answer in time")), |sent| sent.map_err(|e| trouble(&e))) {
            Err(trouble) if matches!(trouble.kind, Kind::NoUpload | Kind::NotFound) => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }

    fn list(&self, prefix: &str, from: &From, most: usize) -> Result<Page, Trouble> {
        // Encoded names are asked for only where they have to be: there are servers that say they encode and do not.
        match self.page(prefix, from, most, None) {
            Err(trouble) if trouble.status == Some(200) => self.page(prefix, from, most, Some(EncodingType::Url)),
            outcome => outcome,
        }
    }

    fn delete(&self, name: &str) -> Result<(), Trouble> {
        match self.connection.wait(0, self.client().delete_object().bucket(&self.bucket).key(name).send()) {
            Err(trouble) if trouble.kind == Kind::NotFound => Ok(()),
            outcome => outcome.map(|_| ()),
        }
    }

    fn uploads(&self, prefix: &str, from: Option<&UploadsMarker>) -> Result<UploadsPage, Trouble> {
        let request = self.client().list_multipart_uploads().bucket(&self.bucket).prefix(prefix).max_uploads(PAGE);
        let request = request.set_key_marker(from.map(|from| from.name.clone()));
        let answer = self.connection.wait(0, request.set_upload_id_marker(from.and_then(|from| from.id.clone())).send())?;
        let name = |name: Option<&str>| name.map(str::to_owned);
        let uploads = answer.uploads().iter().filter_map(|upload| {
            Some(OpenUpload {
                name: name(upload.key())?,
                id: upload.upload_id()?.to_owned(),
                began: upload.initiated().and_then(|at| SystemTime::try_from(*at).ok())?,
            })
        });
        let uploads = uploads.collect();
        let marker = || {
            let id = answer.next_upload_id_marker().filter(|id| !id.is_empty()).map(str::to_owned);
            Some(UploadsMarker { name: name(answer.next_key_marker())?, id })
        };
        Ok(UploadsPage { uploads, next: marker().filter(|_| answer.is_truncated() == Some(true)) })
    }

    fn renew(&self) {
        if let Some(credentials) = &self.connection.credentials {
            credentials.forget();
        }
    }

    fn server(&self) -> String {
        self.connection.server.to_string()
    }

    fn remedy(&self, trouble: &Trouble) -> String {
        credentials::remedy(trouble, &self.connection.server, self.connection.options.anonymous)
    }
}

fn tag(etag: Option<&str>) -> Result<ETag, Trouble> {
    etag.map(ETag::new).ok_or_else(|| Trouble::here(Kind::Server, "the server gave no ETag"))
}

/// Sorts an error of the SDK and drops its words.
fn trouble<E>(error: &SdkError<E, HttpResponse>) -> Trouble
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    match error {
        SdkError::ServiceError(answer) => {
            let raw = answer.raw();
            let mut trouble = Trouble::answer(raw.status().as_u16(), answer.err().code().unwrap_or_default());
            trouble.clock_ahead_seconds = raw.headers().get("date").and_then(network::seconds_ahead);
            trouble
        }
        SdkError::ResponseError(answer) => {
            let mut trouble = Trouble::answer(answer.raw().status().as_u16(), "");
            // Half an answer: what it was about is not known.
            if trouble.kind == Kind::Refused {
                trouble.kind = Kind::Server;
            }
            trouble
        }
        SdkError::TimeoutError(_) => Trouble::here(Kind::Timeout, "no answer in time"),
        error if credentials::is_missing(error) => {
            Trouble::here(Kind::NoCredentials, "no credentials in the environment, a profile, or a role of this machine")
        }
        SdkError::DispatchFailure(failure) => {
            if network::was_refused(error) {
                Trouble::here(Kind::NotSent, "no connection to the server")
            } else if network::is_link_local(error) {
                Trouble::here(Kind::Refused, "the server's name leads to a link-local address")
            } else if failure.is_timeout() {
                Trouble::here(Kind::Timeout, "no connection or no answer in time")
            } else {
                Trouble::here(Kind::Broken, "the connection broke off")
            }
        }
        _ => Trouble::here(Kind::Refused, "the request could not be made"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges() {
        let check = |text: &str, expected| assert_eq!(parse_content_range(text), expected, "{text}");
        check("bytes 0-9/100", Some((0, 100)));
        check("bytes 8388608-16777215/20000000", Some((8_388_608, 20_000_000)));
        check("bytes 0-9/*", None);
        check("bytes */100", None);
        check("0-9/100", None);
        check("", None);
    }
}
