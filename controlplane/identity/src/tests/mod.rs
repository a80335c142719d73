//! Fixtures: an issuer of our own on loopback, that counts what it is asked and can go away or change its keys.

mod jwt;
mod local;
mod tokens;

use crate::clock::Clock;
use crate::issuer::Timing;
use crate::{Identity, IdentityError};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use headgate_config::{Config, Issuer, Local};
use headgate_plane::{Credential, Refusal, RefusalKind, Secret, SessionId, SignIn};
use headgate_store::{MemoryStore, Store};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

pub(super) struct SigningKey {
    pub kid: String,
    pub algorithm: Algorithm,
    pub key: EncodingKey,
    pub jwk: Value,
    pub public: Vec<u8>,
}

impl SigningKey {
    pub fn ed25519(kid: &str) -> SigningKey {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&aws_lc_rs::rand::SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
        let public = pair.public_key().as_ref().to_vec();
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": URL_SAFE_NO_PAD.encode(&public) });
        let key = EncodingKey::from_ed_der(pkcs8.as_ref());
        SigningKey {
            kid: kid.into(),
            algorithm: Algorithm::EdDSA,
            key,
            jwk,
            public,
        }
    }

    pub fn p256(kid: &str) -> SigningKey {
        let random = aws_lc_rs::rand::SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap();
        let public = pair.public_key().as_ref().to_vec();
        let (x, y) = (
            URL_SAFE_NO_PAD.encode(&public[1..33]),
            URL_SAFE_NO_PAD.encode(&public[33..65]),
        );
        let jwk = json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": y });
        let key = EncodingKey::from_ec_der(pkcs8.as_ref());
        SigningKey {
            kid: kid.into(),
            algorithm: Algorithm::ES256,
            key,
            jwk,
            public,
        }
    }

    pub fn header(&self) -> Header {
        Header {
            kid: Some(self.kid.clone()),
            ..Header::new(self.algorithm)
        }
    }

    pub fn sign(&self, claims: &Value) -> Secret {
        self.sign_with(&self.header(), claims)
    }

    pub fn sign_with(&self, header: &Header, claims: &Value) -> Secret {
        Secret::new(jsonwebtoken::encode(header, claims, &self.key).unwrap())
    }
}

#[derive(Default)]
pub(super) struct Served {
    pub keys: Vec<Value>,
    pub asked: HashMap<String, usize>,
    pub down: bool,
    /// What discovery says of itself; `None`: the truth.
    pub issuer: Option<String>,
    pub jwks_uri: Option<String>,
}

pub(super) struct TestIssuer {
    pub url: String,
    pub served: Arc<Mutex<Served>>,
}

impl TestIssuer {
    pub async fn start(keys: &[&SigningKey]) -> TestIssuer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/realm", listener.local_addr().unwrap());
        let keys = keys.iter().map(|key| key.jwk.clone()).collect();
        let served = Arc::new(Mutex::new(Served {
            keys,
            ..Served::default()
        }));
        let (base, shared) = (url.clone(), served.clone());
        tokio::spawn(async move {
            loop {
                let Ok((stream, _)) = listener.accept().await else {
                    return;
                };
                let (base, shared) = (base.clone(), shared.clone());
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut request = String::new();
                    while let Ok(1..) = stream.read_line(&mut request).await
                        && !request.ends_with("\r\n\r\n")
                    {}
                    let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                    let (status, body) = answer(&base, &path, &mut shared.lock().unwrap());
                    let text = body.to_string();
                    let head = format!(
                        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                        text.len()
                    );
                    let _ = stream.write_all((head + &text).as_bytes()).await;
                });
            }
        });
        TestIssuer { url, served }
    }

    pub fn asked(&self, path: &str) -> usize {
        self.served.lock().unwrap().asked.get(path).copied().unwrap_or(0)
    }

    pub fn set(&self, change: impl FnOnce(&mut Served)) {
        change(&mut self.served.lock().unwrap());
    }
}

fn answer(base: &str, path: &str, served: &mut Served) -> (&'static str, Value) {
    *served.asked.entry(path.to_owned()).or_default() += 1;
    if served.down {
        return ("503 Service Unavailable", json!({ "error": "down" }));
    }
    match path {
        "/realm/.well-known/openid-configuration" => {
            let issuer = served.issuer.clone().unwrap_or_else(|| base.to_owned());
            let jwks_uri = served.jwks_uri.clone().unwrap_or_else(|| format!("{base}/jwks"));
            ("200 OK", json!({ "issuer": issuer, "jwks_uri": jwks_uri }))
        }
        "/realm/jwks" => ("200 OK", json!({ "keys": served.keys })),
        _ => ("404 Not Found", json!({})),
    }
}

/// As the configuration would give it.
pub(super) fn issuer_config(url: &str, more: &str) -> Issuer {
    let text = format!(
        "[appliance]\nname = \"g\"\ndata = \"d\"\n[[listener]]\nprotocol = \"postgres\"\naddress = \"127.0.0.1:1\"\n\
         danger_allow_cleartext = true\n[[issuer]]\nurl = \"{url}\"\naudience = \"headgate\"\n{more}\n"
    );
    Config::parse(&text, Path::new("headgate.toml"))
        .unwrap_or_else(|e| panic!("{e}"))
        .issuers
        .remove(0)
}

pub(super) struct Gate {
    pub identity: Arc<Identity>,
    pub store: Arc<MemoryStore>,
    pub clock: Clock,
}

pub(super) const QUICK: Timing = Timing {
    refetch_min: Duration::from_millis(300),
    fresh: Duration::from_secs(600),
    stale_max: Duration::from_secs(1200),
};

pub(super) fn gate(issuers: &[Issuer], local: Option<&Local>, timing: Timing) -> Gate {
    let (store, clock) = (Arc::new(MemoryStore::new()), Clock::default());
    let shared: Arc<dyn Store> = store.clone();
    let identity = Identity::start_with(issuers, local, shared, clock.clone(), timing).unwrap();
    Gate {
        identity,
        store,
        clock,
    }
}

pub(super) fn ask(credential: &Secret, target: &str) -> SignIn {
    SignIn {
        session: SessionId(1),
        credential: Credential::Password(credential.clone()),
        target: target.into(),
        user: "whoever".into(),
        address: "192.0.2.7".into(),
        application: "psql".into(),
        tls: true,
    }
}

/// Seconds from now.
pub(super) fn at(seconds: i64) -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    i64::try_from(now).unwrap() + seconds
}

pub(super) fn claims(issuer: &str) -> Value {
    json!({
        "iss": issuer, "aud": ["headgate", "other"], "sub": "alice", "groups": ["dba", "staff"],
        "iat": at(-5), "exp": at(600), "jti": "j-1",
    })
}

#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>, kind: RefusalKind, because: &str) {
    let refusal = result.expect_err("it should have been refused");
    assert_eq!(refusal.kind, kind, "{refusal:?}");
    assert!(
        refusal.detail.contains(because),
        "{:?} does not say {because:?}",
        refusal.detail
    );
}

#[track_caller]
pub(super) fn refused_request<T: std::fmt::Debug>(result: Result<T, IdentityError>, because: &str) {
    let error = result.expect_err("it should have been refused").to_string();
    assert!(error.contains(because), "{error:?} does not say {because:?}");
}
