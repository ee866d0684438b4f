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

/// Whether an error's cause is that no credentials could be had.
pub(crate) fn is_missing(error: &(dyn std::error::Error + 'static)) -> bool {
    network::causes(error).any(<dyn std::error::Error>::is::<CredentialsError>)
}
