//! What went wrong with one attempt at a request, sorted by what a retry may do about it. It holds status, error code and
//! request id, never an address, a header or a body: these may be signed or hold text.

use std::fmt;
use std::io;

/// Longest error code that is shown, in bytes.
const CODE_BYTES: usize = 64;

/// One failed attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) kind: Kind,
    /// HTTP status, where an answer came.
    pub(crate) status: Option<u16>,
    /// The server's error code, letters and digits only; or what failed on this side.
    pub(crate) code: String,
    /// By how many seconds the server's clock is ahead of ours, where it matters.
    pub(crate) clock_ahead_seconds: Option<i64>,
}

/// What an attempt ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// 404: no such object.
    NotFound,
    /// 404: no such bucket.
    NoBucket,
    /// 404: no such multipart upload: finished or aborted by an earlier attempt, or by somebody else.
    NoUpload,
    /// 412: the object exists, or is not in the state that was asked for.
    Precondition,
    /// 409: another request for the object was under way. Never "exists".
    Conflict,
    /// 416: the range begins behind the end.
    Range,
    /// 503 `SlowDown` and its kin: fewer requests, please.
    Throttled,
    /// 5xx, or an answer that makes no sense. A write may have taken effect.
    Server,
    /// No answer in time. A write may have taken effect.
    Timeout,
    /// The connection broke. A write may have taken effect.
    Broken,
    /// No connection: the request was not sent.
    NotSent,
    /// The body arrived damaged, here or there; nothing was written.
    Checksum,
    /// No credentials were found, or their source failed.
    NoCredentials,
    /// Credentials have expired.
    Expired,
    /// 401 or 403.
    Denied,
    /// Our clock is too far from the server's.
    Clock,
    /// 301 or 307: the bucket is somewhere else.
    Elsewhere,
    /// The server has no room, or a quota is used up.
    Full,
    /// 501, or a code that says so.
    NotImplemented,
    /// Any other refusal.
    Refused,
    /// We were asked to stop.
    Interrupted,
}

impl Trouble {
    /// A failure on this side of the connection.
    pub(crate) fn here(kind: Kind, what: &str) -> Self {
        Self { kind, status: None, code: what.to_owned(), clock_ahead_seconds: None }
    }

    /// An answer of the server.
    pub(crate) fn answer(status: u16, code: &str) -> Self {
        let code: String = code.chars().filter(char::is_ascii_alphanumeric).take(CODE_BYTES).collect();
        Self { kind: kind_of(status, &code), status: Some(status), code, clock_ahead_seconds: None }
    }

    /// Whether another attempt may end better.
    pub(crate) fn is_worth_another_try(&self) -> bool {
        use Kind::{Broken, Checksum, Conflict, Expired, NotSent, Server, Throttled, Timeout};
        matches!(self.kind, Conflict | Throttled | Server | Timeout | Broken | NotSent | Checksum | Expired)
    }

    /// Whether a write may have taken effect all the same.
    pub(crate) fn may_have_taken_effect(&self) -> bool {
        matches!(self.kind, Kind::Server | Kind::Timeout | Kind::Broken)
    }

    /// As the cause inside an error.
    pub(crate) fn into_io(self) -> io::Error {
        let kind = match self.kind {
            Kind::NotFound | Kind::NoBucket | Kind::NoUpload => io::ErrorKind::NotFound,
            Kind::Denied | Kind::NoCredentials | Kind::Expired => io::ErrorKind::PermissionDenied,
            Kind::Timeout => io::ErrorKind::TimedOut,
            Kind::Full => io::ErrorKind::StorageFull,
            Kind::NotSent => io::ErrorKind::ConnectionRefused,
            Kind::Broken => io::ErrorKind::ConnectionReset,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, self.to_string())
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            Some(status) if self.code.is_empty() => write!(f, "the server answered {status}"),
            Some(status) => write!(f, "the server answered {status} {}", self.code),
            None => f.write_str(&self.code),
        }
    }
}

/// The server's code decides where it gives one; HEAD requests have a status alone.
fn kind_of(status: u16, code: &str) -> Kind {
    match code {
        "NoSuchKey" => Kind::NotFound,
        "NoSuchBucket" => Kind::NoBucket,
        "NoSuchUpload" => Kind::NoUpload,
        "PreconditionFailed" => Kind::Precondition,
        "ConditionalRequestConflict" | "OperationAborted" => Kind::Conflict,
        "InvalidRange" => Kind::Range,
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests"
        | "TooManyRequestsException"
        | "BandwidthLimitExceeded"
        | "ServiceUnavailable"
        | "ServerBusy" => Kind::Throttled,
        "RequestTimeout" | "RequestTimeoutException" => Kind::Timeout,
        "BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" | "IncompleteBody" => {
            Kind::Checksum
        }
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" | "TokenRefreshRequired" => Kind::Expired,
        "RequestTimeTooSkewed" => Kind::Clock,
        "PermanentRedirect" | "TemporaryRedirect" | "AuthorizationHeaderMalformed" => Kind::Elsewhere,
        "XMinioStorageFull" | "QuotaExceeded" | "InsufficientStorage" | "XRGWQuotaExceeded" => Kind::Full,
        "NotImplemented" => Kind::NotImplemented,
        _ => match status {
            401 | 403 => Kind::Denied,
            404 => Kind::NotFound,
            409 => Kind::Conflict,
            412 => Kind::Precondition,
            416 => Kind::Range,
            408 => Kind::Timeout,
            429 | 503 => Kind::Throttled,
            501 => Kind::NotImplemented,
            507 => Kind::Full,
            // An answer of success that could not be understood is no success.
            200..=299 | 500..=599 => Kind::Server,
            300..=399 => Kind::Elsewhere,
            _ => Kind::Refused,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_sorted_by_what_can_be_done() {
        let check = |status: u16, code: &str, kind: Kind| assert_eq!(Trouble::answer(status, code).kind, kind, "{status} {code}");
        check(404, "NoSuchKey", Kind::NotFound);
        check(404, "", Kind::NotFound);
        check(404, "NoSuchBucket", Kind::NoBucket);
        check(404, "NoSuchUpload", Kind::NoUpload);
        check(412, "", Kind::Precondition);
        check(409, "ConditionalRequestConflict", Kind::Conflict);
        check(409, "", Kind::Conflict);
        check(416, "", Kind::Range);
        check(503, "SlowDown", Kind::Throttled);
        check(503, "", Kind::Throttled);
        check(429, "", Kind::Throttled);
        check(500, "InternalError", Kind::Server);
        check(502, "", Kind::Server);
        check(200, "InternalError", Kind::Server);
        check(400, "RequestTimeout", Kind::Timeout);
        check(400, "BadDigest", Kind::Checksum);
        check(400, "ExpiredToken", Kind::Expired);
        check(403, "RequestTimeTooSkewed", Kind::Clock);
        check(403, "SignatureDoesNotMatch", Kind::Denied);
        check(403, "InvalidAccessKeyId", Kind::Denied);
        check(301, "PermanentRedirect", Kind::Elsewhere);
        check(307, "", Kind::Elsewhere);
        check(507, "", Kind::Full);
        check(501, "", Kind::NotImplemented);
        check(400, "InvalidArgument", Kind::Refused);
    }

    #[test]
    fn a_code_is_letters_and_digits() {
        let trouble = Trouble::answer(400, &format!("<b>{}\n", "x".repeat(500)));
        assert_eq!(trouble.code.len(), CODE_BYTES);
        assert!(trouble.to_string().starts_with("the server answered 400 bxxx"), "{trouble}");
    }
}
