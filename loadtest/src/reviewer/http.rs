//! Headgate's admin API, over its Unix socket or plain HTTP. Connections are kept and used again.
//!
//! Never here: HTTPS. The robot sits beside the appliance, or behind a tunnel.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Instant;
use tokio::net::{TcpStream, UnixStream};

const BODY_BYTES_MAX: usize = 64 << 20;
const KEPT_MAX: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Api {
    /// The admin socket: whoever may open it is the operator, without a token.
    Unix(PathBuf),
    /// host:port
    Http(String),
}

impl std::str::FromStr for Api {
    type Err = String;

    fn from_str(text: &str) -> Result<Api, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Api::Unix(PathBuf::from(path)));
        }
        match text
            .strip_prefix("http://")
            .map(|rest| rest.trim_end_matches('/'))
        {
            Some(host) if host.contains(':') => Ok(Api::Http(host.to_owned())),
            Some(host) => Ok(Api::Http(format!("{host}:80"))),
            None => Err(format!(
                "{text}: write unix:/path/to/admin.sock or http://host:port"
            )),
        }
    }
}

type Sender = SendRequest<Full<Bytes>>;

pub struct Http {
    api: Api,
    token: Option<String>,
    kept: Mutex<Vec<Sender>>,
}

impl Http {
    pub fn new(api: &Api, token: Option<&str>) -> Http {
        Http {
            api: api.clone(),
            token: token.map(str::to_owned),
            kept: Mutex::default(),
        }
    }

    async fn dial(&self) -> Result<Sender, String> {
        let broke = |e: &dyn std::fmt::Display| format!("the admin API at {:?}: {e}", self.api);
        let sender = match &self.api {
            Api::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|e| broke(&e))?;
                let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| broke(&e))?;
                tokio::spawn(connection);
                sender
            }
            Api::Http(host) => {
                let stream = TcpStream::connect(host).await.map_err(|e| broke(&e))?;
                let _ = stream.set_nodelay(true);
                let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(|e| broke(&e))?;
                tokio::spawn(connection);
                sender
            }
        };
        Ok(sender)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Request<Full<Bytes>>, String> {
        let host = if let Api::Http(host) = &self.api {
            host
        } else {
            "localhost"
        };
        let mut request = Request::builder().method(method).uri(path).header(HOST, host);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let bytes = body.map_or_else(Bytes::new, |b| Bytes::from(b.to_string()));
        request.body(Full::new(bytes)).map_err(|e| e.to_string())
    }

    async fn kept(&self) -> Result<Sender, String> {
        loop {
            let kept = self.kept.lock().ok().and_then(|mut kept| kept.pop());
            let Some(mut sender) = kept else {
                let mut sender = self.dial().await?;
                sender.ready().await.map_err(|e| e.to_string())?;
                return Ok(sender);
            };
            // One that the other side has closed meanwhile is dropped.
            if sender.ready().await.is_ok() {
                return Ok(sender);
            }
        }
    }

    /// The answer, and the moment at which the request went out on a connection that was ready for it.
    pub async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(Value, Instant), String> {
        let mut sender = self.kept().await?;
        let request = self.request(method, path, body)?;
        let sent = Instant::now();
        let response = sender
            .send_request(request)
            .await
            .map_err(|e| format!("{path}: {e}"))?;
        let status = response.status();
        let bytes = http_body_util::Limited::new(response.into_body(), BODY_BYTES_MAX)
            .collect()
            .await;
        let bytes = bytes.map_err(|e| format!("{path}: {e}"))?.to_bytes();
        if let Ok(mut kept) = self.kept.lock()
            && kept.len() < KEPT_MAX
        {
            kept.push(sender);
        }
        let value: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        if status.is_success() {
            return Ok((value, sent));
        }
        let said = value
            .pointer("/error/message")
            .or_else(|| value.get("message"))
            .or_else(|| value.get("error"));
        let said = said.and_then(Value::as_str).unwrap_or("no reason given");
        Err(format!(
            "{}: {status}: {said}",
            path.split('?').next().unwrap_or(path)
        ))
    }

    /// A stream of server-sent events.
    pub async fn events(&self) -> Result<Response<Incoming>, String> {
        let mut sender = self.dial().await?;
        let request = self.request(Method::GET, "/api/v1/events", None)?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|e| format!("events: {e}"))?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(format!("/api/v1/events: {}", response.status()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_is_a_socket_or_a_plain_address() {
        assert_eq!("unix:/run/x.sock".parse(), Ok(Api::Unix("/run/x.sock".into())));
        assert_eq!(
            "http://127.0.0.1:7005/".parse(),
            Ok(Api::Http("127.0.0.1:7005".into()))
        );
        assert!("https://gate".parse::<Api>().is_err());
    }
}
