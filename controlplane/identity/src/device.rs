//! `headgate login`: the device flow with an issuer (RFC 8628). The control plane asks, the person confirms in a browser.
//!
//! The caller gets a handle; the issuer's device code never leaves. One poll of a login is under way at a time.
//! Bounds: LOGINS_MAX, EXPIRES_MAX.

use crate::IdentityError;
use crate::clock::{Clock, millis};
use crate::http;
use crate::issuer::{Discovery, TrustedIssuer};
use crate::jwt::{self, Proven};
use crate::names::random_256;
use crate::types::DeviceStart;
use headgate_config::Issuer;
use headgate_plane::Secret;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use url::Url;

const LOGINS_MAX: usize = 1000;
const EXPIRES_MAX: Duration = Duration::from_secs(30 * 60);
const INTERVAL_DEFAULT: u64 = 5;
const INTERVAL_MAX: u64 = 60;
const SCOPES: [&str; 4] = ["openid", "profile", "email", "groups"];
const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

struct Login {
    issuer: Arc<TrustedIssuer>,
    discovery: Arc<Discovery>,
    device_code: Secret,
    interval_seconds: u64,
    /// Not to be polled before.
    next_unix_ms: u64,
    expires_unix_ms: u64,
}

pub(crate) struct Logins {
    clock: Clock,
    open: Mutex<HashMap<String, Login>>,
}

pub(crate) enum Polled {
    Pending {
        interval_seconds: u64,
    },
    Done {
        issuer: Arc<TrustedIssuer>,
        proven: Proven,
    },
}

#[derive(Deserialize)]
struct DeviceAnswer {
    device_code: Option<String>,
    user_code: Option<String>,
    verification_uri: Option<String>,
    verification_uri_complete: Option<String>,
    expires_in: Option<u64>,
    interval: Option<u64>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: Option<String>,
    id_token: Option<String>,
    error: Option<String>,
}

/// RFC 8707, in both requests: a resource is a URI; an audience that is none is set up at the issuer.
fn resource(issuer: &Issuer) -> Option<(&'static str, String)> {
    Url::parse(&issuer.audience)
        .is_ok()
        .then(|| ("resource", issuer.audience.clone()))
}

/// Words of the issuer for a log line.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

impl Logins {
    pub(crate) fn new(clock: Clock) -> Self {
        Logins {
            clock,
            open: Mutex::new(HashMap::new()),
        }
    }

    fn open(&self) -> MutexGuard<'_, HashMap<String, Login>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn start(&self, issuer: Arc<TrustedIssuer>) -> Result<DeviceStart, IdentityError> {
        let no_login = || IdentityError::Unknown {
            what: format!("login with {}", issuer.config.url),
        };
        let client_id = issuer.config.client_id.clone().ok_or_else(no_login)?;
        let discovery = issuer.discover().await.map_err(|why| issuer.issuer_error(why))?;
        let endpoint = discovery
            .device_authorization_endpoint
            .clone()
            .ok_or_else(no_login)?;
        let offered =
            |scope: &&str| *scope == "openid" || discovery.scopes_supported.iter().any(|s| s == scope);
        let scope = SCOPES
            .iter()
            .copied()
            .filter(|s| offered(s))
            .collect::<Vec<_>>()
            .join(" ");
        let mut form = vec![("client_id", client_id), ("scope", scope)];
        form.extend(resource(&issuer.config));
        let (status, answer): (u16, DeviceAnswer) = http::json(issuer.client.post(endpoint).form(&form))
            .await
            .map_err(|why| issuer.issuer_error(why))?;
        let DeviceAnswer {
            device_code: Some(code),
            user_code: Some(user_code),
            verification_uri: Some(uri),
            ..
        } = answer
        else {
            let why = format!(
                "no login: status {status} {}",
                plain(&answer.error.unwrap_or_default())
            );
            return Err(issuer.issuer_error(why));
        };
        // It is shown to a person, who will follow it.
        let followable = |uri: &str| Url::parse(uri).is_ok_and(|u| matches!(u.scheme(), "https" | "http"));
        if !followable(&uri)
            || user_code.is_empty()
            || user_code.len() > 64
            || user_code.chars().any(char::is_control)
        {
            return Err(issuer.issuer_error("the login's address or code cannot be shown".into()));
        }
        let now = self.clock.now_ms();
        let lives = Duration::from_secs(answer.expires_in.unwrap_or(300)).min(EXPIRES_MAX);
        let interval_seconds = answer.interval.unwrap_or(INTERVAL_DEFAULT).clamp(1, INTERVAL_MAX);
        let login = Login {
            issuer: issuer.clone(),
            discovery: Arc::new(discovery),
            device_code: Secret::new(code),
            interval_seconds,
            next_unix_ms: now,
            expires_unix_ms: now.saturating_add(millis(lives)),
        };
        let start = DeviceStart {
            verification_uri: uri,
            verification_uri_complete: answer.verification_uri_complete.filter(|uri| followable(uri)),
            user_code,
            handle: random_256()?.as_str().to_owned(),
            interval_seconds,
            expires_unix_ms: login.expires_unix_ms,
        };
        let mut open = self.open();
        open.retain(|_, login| login.expires_unix_ms > now);
        if open.len() >= LOGINS_MAX {
            return Err(IdentityError::TooMany {
                what: "logins at once",
            });
        }
        open.insert(start.handle.clone(), login);
        Ok(start)
    }

    pub(crate) async fn poll(&self, handle: &str) -> Result<Polled, IdentityError> {
        let (issuer, discovery, device_code) = {
            let now = self.clock.now_ms();
            let mut open = self.open();
            let Some(login) = open.get_mut(handle) else {
                return Err(IdentityError::Unknown {
                    what: "login of that handle".into(),
                });
            };
            if login.expires_unix_ms <= now {
                open.remove(handle);
                return Err(IdentityError::LoginEnded {
                    why: "nobody confirmed it in time".into(),
                });
            }
            if now < login.next_unix_ms {
                return Ok(Polled::Pending {
                    interval_seconds: login.interval_seconds,
                });
            }
            // Also keeps a second poll away while this one waits for the issuer.
            login.next_unix_ms = now.saturating_add(login.interval_seconds * 1000);
            (
                login.issuer.clone(),
                login.discovery.clone(),
                login.device_code.clone(),
            )
        };
        let endpoint = discovery
            .token_endpoint
            .as_deref()
            .ok_or_else(|| issuer.issuer_error("no token endpoint".into()))?;
        let client_id = issuer.config.client_id.as_deref().unwrap_or_default();
        let form = [
            ("grant_type", GRANT_TYPE),
            ("device_code", device_code.danger_reveal()),
            ("client_id", client_id),
        ];
        let resource = resource(&issuer.config);
        let form: Vec<(&str, &str)> = form
            .into_iter()
            .chain(resource.iter().map(|(key, value)| (*key, value.as_str())))
            .collect();
        let (status, answer): (u16, TokenAnswer) = http::json(issuer.client.post(endpoint).form(&form))
            .await
            .map_err(|why| issuer.issuer_error(why))?;
        match answer.error.as_deref() {
            Some("authorization_pending") => return Ok(self.pending(handle, 0)),
            //= RFC 8628 section 3.5: "the interval MUST be increased by 5 seconds for this and all subsequent requests"
            Some("slow_down") => return Ok(self.pending(handle, 5)),
            _ => {}
        }
        // Whatever came: a device code is good for one answer.
        if self.open().remove(handle).is_none() {
            return Err(IdentityError::LoginEnded {
                why: "it was answered already".into(),
            });
        }
        if let Some(error) = answer.error {
            return Err(IdentityError::LoginEnded {
                why: format!("{} said {}", issuer.config.url, plain(&error)),
            });
        }
        if status != 200 {
            return Err(issuer.issuer_error(format!("status {status} for a login")));
        }
        let proven = self.prove(&issuer, &answer).await?;
        Ok(Polled::Done { issuer, proven })
    }

    /// The access token if it is a JWT for us, else the ID token, whose audience is the client.
    async fn prove(&self, issuer: &TrustedIssuer, answer: &TokenAnswer) -> Result<Proven, IdentityError> {
        let now = self.clock.now_ms();
        if let Some(token) = answer
            .access_token
            .as_deref()
            .filter(|token| token.matches('.').count() == 2)
            && let Ok(proven) = jwt::verify(token, issuer, &issuer.config.audience, now).await
        {
            return Ok(proven);
        }
        let client_id = issuer.config.client_id.as_deref().unwrap_or_default();
        match &answer.id_token {
            Some(token) => jwt::verify(token, issuer, client_id, now).await,
            None => Err(issuer.issuer_error("the login brought neither a JWT for us nor an ID token".into())),
        }
    }

    fn pending(&self, handle: &str, slower_by: u64) -> Polled {
        let now = self.clock.now_ms();
        let mut open = self.open();
        let Some(login) = open.get_mut(handle) else {
            return Polled::Pending {
                interval_seconds: INTERVAL_MAX,
            };
        };
        login.interval_seconds = (login.interval_seconds + slower_by).min(INTERVAL_MAX);
        login.next_unix_ms = now.saturating_add(login.interval_seconds * 1000);
        Polled::Pending {
            interval_seconds: login.interval_seconds,
        }
    }
}
