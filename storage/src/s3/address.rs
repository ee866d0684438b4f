//! Where a bucket's objects lie: `s3://BUCKET` or `s3://BUCKET/PREFIX`, and the rules for the server's own address.
//! No credentials are taken from an address, and nothing is looked up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

use crate::error::StoreError;
use crate::key::{Key, MAX_KEY_BYTES};

/// A bucket and the prefix that stands before every key of a store; the prefix is empty or ends in a slash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address {
    pub(crate) bucket: String,
    pub(crate) prefix: String,
}

impl Address {
    /// Reads `s3://BUCKET/PREFIX`; a slash at the end makes no difference.
    pub(crate) fn parse(uri: &str) -> Result<Self, StoreError> {
        let invalid = |problem: &str| StoreError::Unsupported { subject: "s3:// store".into(), remedy: problem.to_owned() };
        let rest = uri.strip_prefix("s3://").ok_or_else(|| invalid("give s3://BUCKET/PREFIX"))?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if !(3..=255).contains(&bucket.len()) || !bucket.bytes().all(is_name) {
            return Err(invalid("give s3://BUCKET/PREFIX with the bare name of a bucket; credentials come from the environment"));
        }
        let prefix = prefix.trim_end_matches('/');
        if prefix.is_empty() {
            return Ok(Self { bucket: bucket.to_owned(), prefix: String::new() });
        }
        Key::new(prefix)?;
        Ok(Self { bucket: bucket.to_owned(), prefix: format!("{prefix}/") })
    }

    /// The address as a person types it, without a slash at the end.
    pub(crate) fn uri(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix).trim_end_matches('/').to_owned()
    }

    /// The name of a store's key in the bucket.
    pub(crate) fn name(&self, key: &Key) -> Result<String, StoreError> {
        let name = format!("{}{key}", self.prefix);
        if name.len() > MAX_KEY_BYTES {
            return Err(StoreError::invalid(&name, "it is longer than 1024 bytes with the prefix of the store"));
        }
        Ok(name)
    }
}

/// Refuses a server's address that is not `https`, or `http` on this machine (anywhere with `allow_http`), one with user
/// information, and one in a network that only machines of its own provider answer in (`169.254.0.0/16`, `fe80::/10`).
pub(crate) fn check_endpoint(endpoint: &str, allow_http: bool) -> Result<Url, StoreError> {
    let refused = |remedy: &str| StoreError::Unsupported { subject: "endpoint of the store".into(), remedy: remedy.to_owned() };
    let url = Url::parse(endpoint).map_err(|_| refused("it is no address; give https://HOST or https://HOST:PORT"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused("it holds a user or a password; credentials come from the environment or a profile"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(refused("it has a query; give https://HOST or https://HOST:PORT"));
    }
    if url.host().is_none() {
        return Err(refused("it has no host; give https://HOST or https://HOST:PORT"));
    }
    if address_of(&url).is_some_and(is_link_local) {
        return Err(refused("a link-local address is never a store"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if allow_http || is_here(&url) => Ok(url),
        "http" => Err(refused(
            "without TLS only servers on this machine are used; give https://, or write allow_http = true under [storage]",
        )),
        _ => Err(refused("give https://HOST or https://HOST:PORT")),
    }
}

/// Whether an address can be a server's: `https`, or `http` on this machine (anywhere with `allow_http`).
///
/// # Errors
/// [`StoreError::Unsupported`] with what to give instead; the address is not quoted.
pub fn check(endpoint: &str, allow_http: bool) -> Result<(), StoreError> {
    check_endpoint(endpoint, allow_http).map(|_| ())
}

/// Whether a server is on this machine.
pub(crate) fn is_here(url: &Url) -> bool {
    address_of(url).is_some_and(|address| address.is_loopback()) || url.host_str() == Some("localhost")
}

/// The address that a host is written as, where it is no name.
fn address_of(url: &Url) -> Option<IpAddr> {
    match url.host()? {
        Host::Ipv4(address) => Some(IpAddr::V4(address)),
        Host::Ipv6(address) => Some(IpAddr::V6(address)),
        Host::Domain(_) => None,
    }
}

/// Whether an address answers within one network alone: where clouds keep the credentials of machines.
pub(crate) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_link_local_v4(address),
        IpAddr::V6(address) => address.to_ipv4_mapped().map_or(is_link_local_v6(address), is_link_local_v4),
    }
}

fn is_link_local_v4(address: Ipv4Addr) -> bool {
    address.is_link_local()
}

/// `fe80::/10`, and the address at which one cloud keeps its credentials (`fd00:ec2::254`).
fn is_link_local_v6(address: Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80 || address == Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let check = |uri: &str, expected: Option<(&str, &str)>| {
            let found = Address::parse(uri).ok();
            let found = found.as_ref().map(|address| (address.bucket.as_str(), address.prefix.as_str()));
            assert_eq!(found, expected, "{uri}");
        };
        check("s3://corpus", Some(("corpus", "")));
        check("s3://corpus/", Some(("corpus", "")));
        check("s3://corpus/run/7", Some(("corpus", "run/7/")));
        check("s3://corpus/run/7//", Some(("corpus", "run/7/")));
        check("s3://corpus/a b/é", Some(("corpus", "a b/é/")));
        check("s3://", None);
        check("s3:///run", None);
        check("s3://ab", None);
        check("s3://user:secret@corpus/run", None);
        check("s3://corpus?x=1", None);
        check("s3://corpus/../run", None);
        check("s3://corpus/a//b", None);
    }

    #[test]
    fn refused_addresses_are_not_quoted() {
        let message = Address::parse("s3://user:canary@corpus").unwrap_err().to_string();
        assert!(!message.contains("canary"), "{message}");
        let message = check_endpoint("https://user:canary@host", false).unwrap_err().to_string();
        assert!(!message.contains("canary"), "{message}");
    }

    #[test]
    fn uris_come_back() {
        let check = |uri: &str| assert_eq!(Address::parse(uri).unwrap().uri(), uri);
        check("s3://corpus");
        check("s3://corpus/run/7");
    }

    #[test]
    fn case_12_keys_are_too_long_with_their_prefix() {
        let address = Address::parse("s3://corpus/run").unwrap();
        let name = |length: usize| address.name(&Key::new("k".repeat(length)).unwrap());
        assert_eq!(name(1020).unwrap().len(), 1024);
        assert!(name(1021).is_err());
    }

    #[test]
    fn case_39_endpoints_that_are_refused() {
        let check = |endpoint: &str, allow_http: bool, expected: bool| {
            assert_eq!(check_endpoint(endpoint, allow_http).is_ok(), expected, "{endpoint} {allow_http}");
        };
        check("https://s3.example.org", false, true);
        check("https://10.1.2.3:9000", false, true);
        check("http://127.0.0.1:9000", false, true);
        check("http://[::1]:9000", false, true);
        check("http://localhost:9000", false, true);
        check("http://10.1.2.3:9000", false, false);
        check("http://10.1.2.3:9000", true, true);
        check("http://storage.example.org", false, false);
        check("http://localhost.example.org", false, false);
        for link_local in ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]", "[fd00:ec2::254]"] {
            check(&format!("https://{link_local}"), true, false);
            check(&format!("http://{link_local}"), true, false);
        }
        check("file:///etc/passwd", true, false);
        check("ftp://host", true, false);
        check("https://user@host", true, false);
        check("https://host/?signature=1", true, false);
        check("host:9000", true, false);
        check("", true, false);
    }
}
