//! The way to the server: endpoint and region as environment and profile have them, one HTTP client with the system's roots
//! (and `AWS_CA_BUNDLE`), proxies of the environment but never to this machine, and names that may not lead to link-local addresses.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use aws_config::BehaviorVersion;
use aws_config::Region;
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::ProvideRegion;
use aws_config::profile::region::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_s3::config::SharedHttpClient;
use aws_smithy_http_client::pool::{Client, ConnectionPool};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};
use url::Url;

use super::address;
use super::options::S3Options;
use crate::error::StoreError;

/// Variable with a file of further roots, for networks with a certificate authority of their own.
const ROOTS: &str = "AWS_CA_BUNDLE";

/// The server's address, where it is not AWS's own: what the options say, else what environment and profile say.
pub(crate) async fn endpoint(options: &S3Options) -> Result<Option<Url>, StoreError> {
    let endpoint = match &options.endpoint {
        Some(endpoint) => Some(endpoint.clone()),
        None => configured_endpoint().await,
    };
    endpoint.map(|endpoint| address::check_endpoint(&endpoint, options.allow_http)).transpose()
}

/// The region to sign for: what the options say, else what environment and profile say. The machine's own is asked for only where
/// the server is AWS and we are somebody.
pub(crate) async fn region(options: &S3Options, endpoint: Option<&Url>, http: &SharedHttpClient) -> Option<Region> {
    if let Some(region) = &options.region {
        return Some(Region::new(region.clone()));
    }
    if let Some(region) = EnvironmentVariableRegionProvider::new().region().await {
        return Some(region);
    }
    if let Some(region) = ProfileFileRegionProvider::new().region().await {
        return Some(region);
    }
    if endpoint.is_some() || options.anonymous || options.keys.is_some() {
        return None;
    }
    let config = ProviderConfig::without_region().with_http_client(http.clone());
    ImdsRegionProvider::builder().configure(&config).build().region().await
}

/// `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL`, or `endpoint_url` of the profile.
async fn configured_endpoint() -> Option<String> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if variable("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    if let Some(endpoint) = variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL")) {
        return Some(endpoint);
    }
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12()).no_credentials().region(Region::from_static("us-east-1"));
    config.load().await.endpoint_url().map(str::to_owned)
}

/// One client for buckets and for the sources of credentials.
pub(crate) fn client(endpoint: Option<&Url>) -> Result<SharedHttpClient, StoreError> {
    let unusable = |remedy: String| StoreError::Unsupported { subject: "network".into(), remedy };
    let mut trust = TrustStore::default();
    if let Ok(path) = std::env::var(ROOTS) {
        let roots = std::fs::read(&path).map_err(|e| unusable(format!("{ROOTS}: {path}: {e}; name a file of certificates")))?;
        trust = trust.with_pem_certificate(roots);
    }
    let context = TlsContext::builder().with_trust_store(trust).build();
    let context = context.map_err(|_| unusable(format!("{ROOTS}: the file holds no certificates; give one in PEM")))?;
    let proxy = if endpoint.is_some_and(address::is_here) { ProxyConfig::disabled() } else { ProxyConfig::from_env() };
    let pool = ConnectionPool::builder()
        .proxy_config(proxy)
        .dns_resolver(Resolver)
        .tls_provider(Provider::Rustls(CryptoMode::Ring))
        .tls_context(context)
        .build_https()
        .map_err(|_| unusable("no HTTP client could be made".to_owned()))?;
    let client = Client::new(&pool).map_err(|_| unusable("no HTTP client could be made".to_owned()))?;
    Ok(SharedHttpClient::new(client))
}

/// The system's names, without link-local addresses.
#[derive(Clone, Debug)]
struct Resolver;

/// A name that leads to addresses of one network only.
#[derive(Debug, thiserror::Error)]
#[error("the name leads to a link-local address")]
struct LinkLocal;

/// A name that leads nowhere.
#[derive(Debug, thiserror::Error)]
#[error("the name of the server is not known")]
struct Unknown;

impl ResolveDns for Resolver {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let found = tokio::net::lookup_host((name, 0)).await.map_err(|_| ResolveDnsError::new(Unknown))?;
            let all: Vec<IpAddr> = found.map(|address: SocketAddr| address.ip()).collect();
            let far: Vec<IpAddr> = all.iter().copied().filter(|address| !address::is_link_local(*address)).collect();
            if far.is_empty() && !all.is_empty() {
                return Err(ResolveDnsError::new(LinkLocal));
            }
            Ok(far)
        })
    }
}

/// An endpoint as messages name it: without a path, which some proxies make a secret of.
pub(crate) fn shown(endpoint: &Url) -> String {
    endpoint.origin().ascii_serialization()
}

/// An error and what is behind it.
pub(crate) fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// Whether the connection was refused, or the server's name leads nowhere: nothing was sent.
pub(crate) fn was_refused(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(|cause| {
        let kind = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let is_unreachable = matches!(
            kind,
            Some(io::ErrorKind::ConnectionRefused | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable)
        );
        is_unreachable || cause.is::<Unknown>()
    })
}

/// Whether the server's name leads to a link-local address.
pub(crate) fn is_link_local(error: &(dyn Error + 'static)) -> bool {
    causes(error).any(<dyn Error>::is::<LinkLocal>)
}

/// By how many seconds the clock of a `Date` header is ahead of ours.
pub(crate) fn seconds_ahead(date: &str) -> Option<i64> {
    let theirs = aws_sdk_s3::primitives::DateTime::from_str(date, aws_sdk_s3::primitives::DateTimeFormat::HttpDate).ok()?;
    let ours = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
    Some(theirs.secs() - ours as i64)
}
