//! Requests to issuers: our TLS, no redirects, bounded time and size.
//!
//! Bounds: BODY_BYTES_MAX, CONNECT_WAIT, REQUEST_WAIT.

use crate::IdentityError;
use reqwest::redirect::Policy;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::de::DeserializeOwned;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const BODY_BYTES_MAX: usize = 1 << 20;
const CONNECT_WAIT: Duration = Duration::from_secs(5);
const REQUEST_WAIT: Duration = Duration::from_secs(10);

/// Trusts the system's roots and those in `ca` (PEM). `direct`: no proxy of the environment.
pub fn http_client(ca: Option<&Path>, direct: bool) -> Result<reqwest::Client, IdentityError> {
    let config = |why: String| IdentityError::Config { why };
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "a root certificate of the system cannot be read");
    }
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca {
        let mut any = false;
        let pem = std::fs::read(path)
            .map_err(|error| config(format!("{} cannot be read: {error}", path.display())))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let added = certificate.ok().map(|certificate| roots.add(certificate).is_ok());
            if added != Some(true) {
                return Err(config(format!(
                    "{} holds something that is no root certificate",
                    path.display()
                )));
            }
            any = true;
        }
        if !any {
            return Err(config(format!("{} holds no certificate", path.display())));
        }
    }
    // The provider is named here, so that nothing depends on which one the process installed first.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| config(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(Policy::none())
        .connect_timeout(CONNECT_WAIT)
        .timeout(REQUEST_WAIT)
        .user_agent(concat!("headgate/", env!("CARGO_PKG_VERSION")));
    if direct {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| config(error.to_string()))
}

/// Status and body of an answer in JSON. The `Err` is a sentence for the log, without the request's secrets.
pub(crate) async fn json<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<(u16, T), String> {
    let said = |error: reqwest::Error| {
        let error = error.without_url();
        match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        }
    };
    let mut response = request.send().await.map_err(said)?;
    let status = response.status().as_u16();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(said)? {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(format!("an answer longer than {BODY_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    // serde's own message can quote the body, and the body can be a token.
    let value = serde_json::from_slice(&body)
        .map_err(|_| format!("status {status}, and not the JSON that was expected"))?;
    Ok((status, value))
}
