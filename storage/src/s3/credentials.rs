//! Who we are: the standard chain (environment, profiles with SSO and processes, web identity, container and machine roles),
//! asked again a while before its keys expire, and from the beginning when the server says that they have. Nothing is written down.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aws_config::Region;
use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::provider::{self, error::CredentialsError, future};
use aws_sdk_s3::config::{Credentials, ProvideCredentials, SharedHttpClient};

use super::network;
use super::trouble::{Kind, Trouble};

/// Keys that live no longer than this are asked for again.
const RENEW_BEFORE: Duration = Duration::from_mins(5);

/// The chain with what it gave last.
#[derive(Debug)]
pub(crate) struct Renewable {
    http: SharedHttpClient,
    region: Region,
    held: Mutex<Option<Credentials>>,
    forgotten: AtomicBool,
}

impl Renewable {
    pub(crate) fn new(http: SharedHttpClient, region: Region) -> Self {
        Self { http, region, held: Mutex::new(None), forgotten: AtomicBool::new(false) }
    }

    /// What is held is not used again: its source is read anew, files included.
    pub(crate) fn forget(&self) {
        self.forgotten.store(true, Ordering::Relaxed);
    }

    fn held(&self) -> Option<Credentials> {
        let forgotten = self.forgotten.swap(false, Ordering::Relaxed);
        let mut held = self.held.lock().expect("no holder panics");
        if forgotten {
            *held = None;
        }
        let soon = SystemTime::now() + RENEW_BEFORE;
        held.clone().filter(|held| held.expiry().is_none_or(|expiry| expiry > soon))
    }

    async fn provide(&self) -> provider::Result {
        if let Some(held) = self.held() {
            return Ok(held);
        }
        // A new chain each time: it reads profiles once in its life.
        let config = ProviderConfig::without_region().with_http_client(self.http.clone()).with_region(Some(self.region.clone()));
        let chain = DefaultCredentialsChain::builder().configure(config).region(self.region.clone()).build().await;
        let found = chain.provide_credentials().await?;
        *self.held.lock().expect("no holder panics") = Some(found.clone());
        Ok(found)
    }
}

impl ProvideCredentials for Renewable {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.provide())
    }
}

/// What to look at where a server refuses, or where there are no credentials.
pub(crate) fn remedy(trouble: &Trouble, server: &str, is_anonymous: bool) -> String {
    match (trouble.kind, trouble.code.as_str()) {
        (Kind::NoCredentials, _) => {
            where_to_give(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty())).to_owned()
        }
        _ if is_anonymous => {
            format!("it is read without credentials (anonymous = true), and {server} does not give it to everyone")
        }
        (Kind::Expired, _) => "the credentials have expired; log in again, or renew the session token".to_owned(),
        (_, "SignatureDoesNotMatch") => format!("the secret is not the one that {server} has for this key id; check both"),
        (_, "InvalidAccessKeyId" | "NotSignedUp") => format!("{server} does not know this key id; check key id and endpoint"),
        _ => format!("check what this user may do there with {server}"),
    }
}

/// What is missing among the sources of credentials, where `is_set` knows the environment.
fn where_to_give(is_set: impl Fn(&str) -> bool) -> &'static str {
    match ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"].map(is_set) {
        [true, false, _] => "AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not; set both",
        [false, true, _] => "AWS_SECRET_ACCESS_KEY is set and AWS_ACCESS_KEY_ID is not; set both",
        [_, _, true] => "the profile that AWS_PROFILE names gives none; look into ~/.aws/config and ~/.aws/credentials",
        _ => {
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile with AWS_PROFILE, give the machine a role, or write \
             anonymous = true for a public bucket"
        }
    }
}

/// Whether an error's cause is that no credentials could be had.
pub(crate) fn is_missing(error: &(dyn std::error::Error + 'static)) -> bool {
    network::causes(error).any(<dyn std::error::Error>::is::<CredentialsError>)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let check = |set: &[&str], expected: &str| {
            let found = where_to_give(|name| set.contains(&name));
            assert!(found.starts_with(expected), "{set:?}: {found}");
        };
        check(&[], "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,");
        check(&["AWS_ACCESS_KEY_ID"], "AWS_ACCESS_KEY_ID is set and");
        check(&["AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"], "AWS_SECRET_ACCESS_KEY is set and");
        check(&["AWS_PROFILE"], "the profile that AWS_PROFILE names");
    }

    #[test]
    fn a_refusal_says_what_to_look_at() {
        let check = |code: &str, is_anonymous, expected: &str| {
            let found = remedy(&Trouble::answer(403, code), "https://host", is_anonymous);
            assert!(found.contains(expected) && found.contains("https://host"), "{code}: {found}");
        };
        check("SignatureDoesNotMatch", false, "the secret is not");
        check("InvalidAccessKeyId", false, "does not know this key id");
        check("AccessDenied", false, "what this user may do");
        check("AccessDenied", true, "anonymous = true");
        let expired = remedy(&Trouble::answer(403, "ExpiredToken"), "https://host", false);
        assert!(expired.contains("expired"), "{expired}");
    }
}
