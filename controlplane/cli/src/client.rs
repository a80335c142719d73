//! The API, from the command line: over the admin socket (hyper) or a URL (reqwest). Bodies and answers are JSON.
//!
//! Bounds: an answer is at most [`ANSWER_BYTES_MAX`]; a call ends after [`CALL_WAIT`].

use crate::fail::Fail;
use crate::reach::{Door, Way};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tokio::net::UnixStream;

const ANSWER_BYTES_MAX: usize = 256 << 20;
const CALL_WAIT: Duration = Duration::from_secs(60);
const AGENT: &str = concat!("headgate/", env!("CARGO_PKG_VERSION"));

pub struct Client {
    way: Way,
    http: Option<reqwest::Client>,
}

struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Client {
    pub fn new(way: Way) -> Result<Client, Fail> {
        let http = match &way.door {
            Door::Socket(_) => None,
            Door::Url(_) => Some(http_client(way.ca.as_deref())?),
        };
        Ok(Client { way, http })
    }

    pub async fn get(&self, path: &str) -> Result<Value, Fail> {
        self.call(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, Fail> {
        self.call(Method::POST, path, Some(body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Result<Value, Fail> {
        self.call(Method::PUT, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Result<Value, Fail> {
        self.call(Method::DELETE, path, None).await
    }

    /// As text: JSON lines, metrics.
    pub async fn text(&self, path: &str) -> Result<String, Fail> {
        let answer = self.send(Method::GET, path, None).await?;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        if answer.status < 300 {
            Ok(body)
        } else {
            Err(self.refused(answer.status, &body))
        }
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Fail> {
        let answer = self.send(method, path, body).await?;
        if answer.status >= 300 {
            return Err(self.refused(answer.status, &String::from_utf8_lossy(&answer.body)));
        }
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_slice(&answer.body)?)
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Fail> {
        let body = body.map(serde_json::to_vec).transpose()?;
        let sent = async {
            match &self.way.door {
                Door::Socket(socket) => self.over_socket(socket, method, path, body).await,
                Door::Url(base) => self.over_url(&format!("{base}{path}"), method, body).await,
            }
        };
        match tokio::time::timeout(CALL_WAIT, sent).await {
            Ok(answer) => answer,
            Err(_) => Err(Fail::new(format!(
                "the control plane did not answer in {} seconds",
                CALL_WAIT.as_secs()
            ))),
        }
    }

    async fn over_socket(
        &self,
        socket: &Path,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Fail> {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|error| no_socket(socket, &error))?;
        let broke = |error: hyper::Error| Fail::new(format!("the admin socket broke: {error}"));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broke)?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "headgate")
            .header(USER_AGENT, AGENT);
        if let Some(token) = &self.way.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| Fail::usage(format!("this cannot be asked for: {error}")))?;
        let answer = sender.send_request(request).await.map_err(broke)?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| Fail::new(format!("the answer could not be read: {error}")))?;
        Ok(Answer {
            status,
            body: body.to_bytes().to_vec(),
        })
    }

    async fn over_url(&self, url: &str, method: Method, body: Option<Vec<u8>>) -> Result<Answer, Fail> {
        let Some(http) = &self.http else {
            return Err(Fail::new("no HTTP client"));
        };
        let broke = |error: reqwest::Error| Fail::new(format!("{url}: {}", causes(&error)));
        let mut request = http.request(method, url);
        if let Some(token) = &self.way.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let mut answer = request.send().await.map_err(broke)?;
        let status = answer.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(broke)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Fail::new(format!(
                    "the answer is longer than {ANSWER_BYTES_MAX} bytes"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body })
    }

    fn refused(&self, status: u16, body: &str) -> Fail {
        let reason: Option<String> = serde_json::from_str::<Value>(body).ok().and_then(|v| {
            v.pointer("/error/message")
                .and_then(Value::as_str)
                .map(ToOwned::to_owned)
        });
        let plain = body.trim();
        let fallback = if plain.is_empty() {
            format!("the control plane answered {status}")
        } else {
            plain.to_owned()
        };
        let fail = Fail::new(reason.unwrap_or(fallback));
        match (status, &self.way.door) {
            (401, Door::Url(_)) => fail.hint("sign in with: headgate login"),
            (401, Door::Socket(_)) if self.way.token.is_some() => {
                fail.hint("the token of --token-file is not accepted any more")
            }
            _ => fail,
        }
    }
}

fn no_socket(socket: &Path, error: &std::io::Error) -> Fail {
    let fail = Fail::new(format!(
        "the control plane cannot be reached at {}: {error}",
        socket.display()
    ));
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => fail.hint(
            "the admin socket is for the appliance's own user and root; others use --server URL and a token",
        ),
        _ => fail
            .hint("is `headgate run` up? If it is elsewhere: --config FILE, --runtime DIR, or --server URL"),
    }
}

fn http_client(ca: Option<&Path>) -> Result<reqwest::Client, Fail> {
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let _ = rustls::crypto::CryptoProvider::install_default((*provider).clone());
    let mut builder = reqwest::Client::builder()
        .user_agent(AGENT)
        .redirect(reqwest::redirect::Policy::none());
    if let Some(path) = ca {
        let pem = std::fs::read(path).map_err(|e| Fail::new(format!("{}: {e}", path.display())))?;
        let wrong = |e: reqwest::Error| Fail::new(format!("{}: {e}", path.display()));
        let roots = reqwest::Certificate::from_pem_bundle(&pem).map_err(wrong)?;
        builder = builder.tls_certs_merge(roots);
    }
    builder
        .build()
        .map_err(|e| Fail::new(format!("no HTTP client: {}", causes(&e))))
}

/// reqwest's own words are "error sending request"; the reason is further down.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// One part of a path, as it has to be written there.
pub fn segment(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// `?a=b&c=d` of what is given.
pub fn query(pairs: &[(&str, Option<String>)]) -> String {
    let given = pairs
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", segment(value.as_ref()?))));
    let text = given.collect::<Vec<_>>().join("&");
    if text.is_empty() { text } else { format!("?{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_place_in_a_path() {
        assert_eq!(segment("a/../b?c#d"), "a%2F..%2Fb%3Fc%23d");
        assert_eq!(
            query(&[("a", Some("x&y=z".into())), ("b", None), ("c", Some("ü".into()))]),
            "?a=x%26y%3Dz&c=%C3%BC"
        );
        assert_eq!(query(&[("a", None)]), "");
    }
}
