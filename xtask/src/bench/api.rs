//! Headgate's API over its admin socket, kept open: so that a request costs what it costs and not a connection.

use super::engines::Engines;
use super::kind::Kind;
use crate::Result;
use headgate_e2e::during;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

const ANSWER_BYTES_MAX: usize = 16 << 20;

pub struct Api {
    stream: BufReader<UnixStream>,
    token: Option<String>,
}

impl Api {
    /// With no token, as the operator of this machine.
    pub fn connect(engines: &Engines, kind: Kind, token: Option<String>) -> Result<Api> {
        let path = engines.folder.join(kind.process().name()).join("run/admin.sock");
        let stream = UnixStream::connect(&path).map_err(during(path.display()))?;
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .map_err(during("the admin socket"))?;
        Ok(Api {
            stream: BufReader::new(stream),
            token,
        })
    }

    pub fn send(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<()> {
        let body = body.map_or_else(String::new, Value::to_string);
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nHost: headgate\r\nUser-Agent: headgate-bench\r\nContent-Length: {}\r\n",
            body.len()
        );
        if !body.is_empty() {
            request += "Content-Type: application/json\r\n";
        }
        if let Some(token) = &self.token {
            request += &format!("Authorization: Bearer {token}\r\n");
        }
        request += "\r\n";
        request += &body;
        self.stream
            .get_mut()
            .write_all(request.as_bytes())
            .map_err(during("the admin socket"))
    }

    pub fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.stream
            .read_line(&mut line)
            .map_err(during("the admin socket"))?;
        let status: u16 = line
            .split(' ')
            .nth(1)
            .and_then(|n| n.parse().ok())
            .ok_or_else(|| format!("no answer of HTTP: {line}"))?;
        let mut length = 0;
        loop {
            line.clear();
            self.stream
                .read_line(&mut line)
                .map_err(during("the admin socket"))?;
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse::<usize>().map_err(during("content-length"))?;
            }
        }
        if length > ANSWER_BYTES_MAX {
            return Err(format!("an answer of {length} bytes"));
        }
        let mut body = vec![0; length];
        self.stream
            .read_exact(&mut body)
            .map_err(during("the admin socket"))?;
        if status >= 300 {
            return Err(format!(
                "the API answered {status}: {}",
                String::from_utf8_lossy(&body)
            ));
        }
        // Some answers are a plain word.
        Ok(serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned())))
    }

    pub fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        self.send(method, path, body)?;
        self.answer()
    }

    /// A new token: its text and its id.
    pub fn mint(&mut self, principal: &str, groups: &[&str]) -> Result<(String, String)> {
        let body = serde_json::json!({ "principal": principal, "groups": groups, "ttl_seconds": 3600 });
        let made = self.call("POST", "/api/v1/tokens", Some(&body))?;
        let text = |pointer: &str| made.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        text("/token")
            .zip(text("/info/id"))
            .ok_or_else(|| "the API's answer holds no token".to_owned())
    }
}
