//! One trusted issuer: its discovery document and its keys, fetched when needed, kept while they are good.
//!
//! Keys younger than `fresh` are used as they are. A key that is not among them is looked for at the issuer, but never more
//! often than `refetch_min` whatever clients send. When the issuer is away, the last keys serve until `stale_max`.
//! By hand and not by `openidconnect`: what Headgate needs of it is two GETs, a choice of keys and the device flow, about 400
//! lines with their tests. The crate verifies ID tokens for a login of its own, while what comes here are access tokens with
//! `act`, which `jsonwebtoken` verifies; it neither keeps keys, nor bounds how often and how much is fetched; and it links an
//! RSA of its own (RUSTSEC-2023-0071) beside aws-lc's.
//! Invariant: a document is used only if it names exactly the issuer that it was asked of.

use crate::IdentityError;
use crate::error::bad;
use crate::http;
use crate::keys::{Jwks, KeySet};
use headgate_config::Issuer;
use serde::Deserialize;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::Mutex;
use url::Url;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub refetch_min: Duration,
    pub fresh: Duration,
    pub stale_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Timing {
            refetch_min: Duration::from_secs(5),
            fresh: Duration::from_secs(15 * 60),
            stale_max: Duration::from_secs(24 * 3600),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Discovery {
    pub issuer: String,
    pub jwks_uri: String,
    pub token_endpoint: Option<String>,
    pub device_authorization_endpoint: Option<String>,
    #[serde(default)]
    pub scopes_supported: Vec<String>,
}

#[derive(Clone)]
struct Held {
    keys: Arc<KeySet>,
    fetched: Instant,
}

pub(crate) struct TrustedIssuer {
    pub config: Issuer,
    pub client: reqwest::Client,
    timing: Timing,
    held: RwLock<Option<Held>>,
    /// When the issuer was last asked, whatever came of it, and why nothing came.
    asking: Mutex<(Option<Instant>, String)>,
}

impl TrustedIssuer {
    pub(crate) fn new(config: Issuer, timing: Timing) -> Result<TrustedIssuer, IdentityError> {
        // `http` is for loopback only (checked by the configuration), where a proxy has no business.
        let client = http::http_client(config.ca.as_deref(), config.url.starts_with("http:"))?;
        Ok(TrustedIssuer {
            config,
            client,
            timing,
            held: RwLock::new(None),
            asking: Mutex::new((None, String::new())),
        })
    }

    /// A set that holds the key of that name.
    pub(crate) async fn keys_for(&self, kid: Option<&str>) -> Result<Arc<KeySet>, IdentityError> {
        let held = self.held();
        if let Some(held) = &held
            && held.keys.find(kid).is_some()
        {
            let age = held.fetched.elapsed();
            if age < self.timing.fresh {
                return Ok(held.keys.clone());
            }
            // One refreshes, the others go on with what is there.
            if age < self.timing.stale_max && self.asking.try_lock().is_err() {
                return Ok(held.keys.clone());
            }
        }
        self.refresh(held.map(|held| held.fetched)).await;
        match self.held() {
            Some(held) if held.fetched.elapsed() < self.timing.stale_max => match held.keys.find(kid) {
                Some(_) => Ok(held.keys),
                None => Err(bad(format!("{} has no key {kid:?}", self.config.url)).into()),
            },
            _ => Err(self.issuer_error(self.asking.lock().await.1.clone())),
        }
    }

    fn held(&self) -> Option<Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `seen`: when the keys were fetched that did not do. If others came since, there is nothing to ask.
    async fn refresh(&self, seen: Option<Instant>) {
        let mut asking = self.asking.lock().await;
        let newer = self.held().is_some_and(|held| Some(held.fetched) != seen);
        let soon = asking
            .0
            .is_some_and(|last| last.elapsed() < self.timing.refetch_min);
        if newer || soon {
            return;
        }
        asking.0 = Some(Instant::now());
        match self.fetch().await {
            Ok(keys) => {
                asking.1.clear();
                let held = Held {
                    keys: Arc::new(keys),
                    fetched: Instant::now(),
                };
                *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held);
            }
            Err(why) => {
                tracing::warn!(issuer = %self.config.url, %why, "the issuer's keys could not be fetched");
                asking.1 = why;
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, String> {
        let discovery = self.discover().await?;
        let (status, jwks): (u16, Jwks) = http::json(self.client.get(&discovery.jwks_uri)).await?;
        if status != 200 {
            return Err(format!("the keys were refused with status {status}"));
        }
        let keys = KeySet::read(jwks, &self.config.algorithms);
        if keys.is_empty() {
            Err("there is no key of an allowed algorithm".into())
        } else {
            Ok(keys)
        }
    }

    pub(crate) async fn discover(&self) -> Result<Discovery, String> {
        let address = format!(
            "{}/.well-known/openid-configuration",
            self.config.url.trim_end_matches('/')
        );
        let (status, found): (u16, Discovery) = http::json(self.client.get(address)).await?;
        if status != 200 {
            return Err(format!("discovery was refused with status {status}"));
        }
        if found.issuer != self.config.url {
            return Err(format!("discovery speaks for another issuer, {:?}", found.issuer));
        }
        for endpoint in [
            Some(&found.jwks_uri),
            found.token_endpoint.as_ref(),
            found.device_authorization_endpoint.as_ref(),
        ]
        .into_iter()
        .flatten()
        {
            self.may_ask(endpoint)?;
        }
        Ok(found)
    }

    /// https; or as the issuer itself, http on its own host (which is loopback).
    fn may_ask(&self, endpoint: &str) -> Result<(), String> {
        let wrong = || format!("discovery names an endpoint that is not https: {endpoint:?}");
        let endpoint = Url::parse(endpoint).map_err(|_| wrong())?;
        let issuer = Url::parse(&self.config.url).map_err(|_| wrong())?;
        let same_host = endpoint.scheme() == issuer.scheme() && endpoint.host() == issuer.host();
        if endpoint.scheme() == "https" || same_host {
            Ok(())
        } else {
            Err(wrong())
        }
    }

    pub(crate) fn issuer_error(&self, why: String) -> IdentityError {
        IdentityError::Issuer {
            issuer: self.config.url.clone(),
            why,
        }
    }
}
