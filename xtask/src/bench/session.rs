//! One PostgreSQL session, blocking: to see when a held statement comes back, and when a session is cut.

use super::engines::Engines;
use super::kind::Kind;
use crate::Result;
use headgate_e2e::during;
use headgate_postgres::{frame, write};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const FRAME_BYTES_MAX: usize = 1 << 20;
const ASKS_FOR_PASSWORD: &[u8] = &[0, 0, 0, 3];

pub struct Session {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Session {
    pub fn open(kind: Kind, password: &str) -> Result<Session> {
        let stream = TcpStream::connect(("127.0.0.1", kind.port())).map_err(during("a session"))?;
        stream.set_nodelay(true).map_err(during("a session"))?;
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .map_err(during("a session"))?;
        let mut session = Session {
            stream,
            read: Vec::new(),
        };
        let mut out = Vec::new();
        write::startup(&mut out, 0, &[("user", "bench"), ("database", "bench")])
            .map_err(during("startup"))?;
        session.send(&out)?;
        loop {
            match session.message()? {
                Some((b'R', body)) if body == ASKS_FOR_PASSWORD => {
                    out.clear();
                    write::password(&mut out, password.as_bytes()).map_err(during("password"))?;
                    session.send(&out)?;
                }
                Some((b'Z', _)) => return Ok(session),
                Some((b'E', body)) => return Err(format!("refused: {}", String::from_utf8_lossy(&body))),
                Some(_) => {}
                None => return Err("closed while signing in".to_owned()),
            }
        }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).map_err(during("a session"))
    }

    pub fn query(&mut self, sql: &str) -> Result<()> {
        let mut out = Vec::new();
        write::query(&mut out, sql.as_bytes()).map_err(during("query"))?;
        self.send(&out)
    }

    /// Waits for the end of the answer; an error in it is one here.
    pub fn answered(&mut self) -> Result<()> {
        let mut failed = None;
        loop {
            match self.message()? {
                Some((b'E', body)) => failed = Some(String::from_utf8_lossy(&body).into_owned()),
                Some((b'Z', _)) => return failed.map_or(Ok(()), Err),
                Some(_) => {}
                None => return Err("closed before the answer".to_owned()),
            }
        }
    }

    /// Waits until Headgate says or shows that the session is over.
    pub fn cut(&mut self) -> Result<()> {
        loop {
            match self.message()? {
                Some((b'E', _)) | None => return Ok(()),
                Some(_) => {}
            }
        }
    }

    /// `None` at the end of the stream.
    fn message(&mut self) -> Result<Option<(u8, Vec<u8>)>> {
        loop {
            if let Some((header, body)) =
                frame::split(&self.read, FRAME_BYTES_MAX).map_err(during("a frame"))?
            {
                let message = (header.tag, body.to_vec());
                self.read.drain(..header.len);
                return Ok(Some(message));
            }
            let mut block = [0; 4096];
            let n = match self.stream.read(&mut block) {
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
                Err(error) => return Err(format!("a session: {error}")),
            };
            if n == 0 {
                return Ok(None);
            }
            self.read.extend_from_slice(block.get(..n).unwrap_or_default());
        }
    }
}

/// As [`Session::open`], as the caller that the engine's token is of.
pub fn open(engines: &Engines, kind: Kind) -> Result<Session> {
    Session::open(kind, engines.password(kind))
}
