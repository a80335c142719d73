//! From AuthenticationOk to ReadyForQuery: what the target says of itself, and its refusals.

use super::{Advanced, Progress, TargetAdvance, TargetEvent, TargetFailed, TargetHandshake, TargetMethod};
use super::{TransactionStatus, out_of_place, used};
use crate::backend::{Backend, ReportFields};
use crate::cancel::KEY_BYTES_MAX;
use crate::error::PeerMisbehaved;
use std::fmt;

/// PostgreSQL reports some 15.
pub const PARAMETERS_MAX: usize = 256;
/// Names and values together.
pub const PARAMETERS_BYTES_MAX: usize = 64 << 10;
/// Notices of login triggers and the like.
pub const NOTICES_BYTES_MAX: usize = 256 << 10;

const STATE: &str = "ExpectReady";

/// A target that has let us in, and is not ready yet.
#[derive(Debug)]
pub struct ExpectReady {
    ready: TargetReady,
    progress: Progress,
    parameters_bytes: usize,
    notices_bytes: usize,
}

/// A target that is ready.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetReady {
    /// The target's process id: handed on, so that `pg_backend_pid()` and notifications agree with it.
    pub pid: u32,
    /// The target's cancel key, never handed on. Empty if the target gave none: then nothing can be cancelled.
    pub key: Vec<u8>,
    /// ParameterStatus, in the target's own words.
    pub parameters: Vec<(String, String)>,
    /// Whole NoticeResponse messages that came after AuthenticationOk. Unmasked.
    pub notices: Vec<Vec<u8>>,
    /// Of protocol 3.
    pub minor: u16,
    /// How it let us in.
    pub method: TargetMethod,
}

impl fmt::Debug for TargetReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetReady")
            .field("pid", &self.pid)
            .field("key", &format_args!("{} bytes", self.key.len()))
            .field("parameters", &self.parameters)
            .field("notices", &self.notices.len())
            .field("minor", &self.minor)
            .field("method", &self.method)
            .finish()
    }
}

impl TargetReady {
    /// What it reported of a setting.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }
}

/// An ErrorResponse of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetRefused {
    /// Code and text of each field.
    pub fields: Vec<(u8, String)>,
    /// Whether the target had let us in before. If not, the text is for the log: a client gets words of ours.
    pub authenticated: bool,
}

impl TargetRefused {
    fn failure(fields: ReportFields<'_>, authenticated: bool) -> TargetFailed {
        // The frame is bounded, and each field takes two bytes of it: a copy is bounded as well.
        let fields = fields
            .take(64)
            .map(|(code, text)| (code, String::from_utf8_lossy(text).into_owned()))
            .collect();
        TargetFailed::Refused(Box::new(TargetRefused {
            fields,
            authenticated,
        }))
    }

    pub(super) fn before_authentication(fields: ReportFields<'_>) -> TargetFailed {
        Self::failure(fields, false)
    }

    /// A field by its code.
    pub fn get(&self, code: u8) -> Option<&str> {
        self.fields
            .iter()
            .find(|(c, _)| *c == code)
            .map(|(_, text)| text.as_str())
    }

    /// `XX000` where the target gave none, or none of five letters and digits.
    pub fn sqlstate(&self) -> &str {
        self.get(b'C')
            .filter(|code| code.len() == 5 && code.bytes().all(|c| c.is_ascii_alphanumeric()))
            .unwrap_or("XX000")
    }
}

impl fmt::Display for TargetRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({})",
            self.get(b'M').unwrap_or("no message"),
            self.sqlstate()
        )
    }
}

impl ExpectReady {
    pub(super) fn new(progress: Progress) -> Self {
        let ready = TargetReady {
            pid: 0,
            key: Vec::new(),
            parameters: Vec::new(),
            notices: Vec::new(),
            minor: progress.minor,
            method: progress.method,
        };
        ExpectReady {
            ready,
            progress,
            parameters_bytes: 0,
            notices_bytes: 0,
        }
    }

    pub(super) fn advance(mut self: Box<Self>, buffer: &[u8]) -> Advanced {
        let Some((len, tag, message)) = self.progress.next(buffer)? else {
            return Ok((TargetHandshake::ExpectReady(self), TargetAdvance::default()));
        };
        match message {
            Backend::ParameterStatus { name, value } => self.parameter_status(name, value)?,
            Backend::BackendKeyData { pid, key } => self.backend_key_data(pid, key)?,
            Backend::NoticeResponse(_) => {
                self.notices_bytes = self.notices_bytes.saturating_add(len);
                if self.notices_bytes > NOTICES_BYTES_MAX {
                    return Err(PeerMisbehaved::TooMany {
                        what: "bytes of notices",
                        max: NOTICES_BYTES_MAX,
                    }
                    .into());
                }
                self.ready.notices.push(buffer.get(..len).unwrap_or(&[]).to_vec());
            }
            Backend::ErrorResponse(fields) => return Err(TargetRefused::failure(fields, true)),
            Backend::ReadyForQuery {
                status: TransactionStatus::Idle,
            } => {
                let event = TargetEvent::Ready(Box::new(self.ready));
                return Ok((
                    TargetHandshake::Done,
                    TargetAdvance {
                        used: len,
                        event: Some(event),
                    },
                ));
            }
            _ => return Err(out_of_place(tag, STATE)),
        }
        Ok((TargetHandshake::ExpectReady(self), used(len)))
    }

    fn parameter_status(&mut self, name: &[u8], value: &[u8]) -> Result<(), TargetFailed> {
        const MESSAGE: &str = "ParameterStatus";
        let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(PeerMisbehaved::NotUtf8 { message: MESSAGE }),
        };
        let (name, value) = (text(name)?, text(value)?);
        self.parameters_bytes = self
            .parameters_bytes
            .saturating_add(name.len())
            .saturating_add(value.len());
        if self.parameters_bytes > PARAMETERS_BYTES_MAX {
            return Err(PeerMisbehaved::TooMany {
                what: "bytes of parameters",
                max: PARAMETERS_BYTES_MAX,
            }
            .into());
        }
        // A login trigger may set one again: the last word counts.
        if let Some(known) = self.ready.parameters.iter_mut().find(|(n, _)| *n == name) {
            known.1 = value;
            return Ok(());
        }
        if self.ready.parameters.len() >= PARAMETERS_MAX {
            return Err(PeerMisbehaved::TooMany {
                what: "parameters",
                max: PARAMETERS_MAX,
            }
            .into());
        }
        self.ready.parameters.push((name, value));
        Ok(())
    }

    fn backend_key_data(&mut self, pid: u32, key: &[u8]) -> Result<(), TargetFailed> {
        if !self.ready.key.is_empty() {
            return Err(out_of_place(b'K', STATE));
        }
        // "The maximum length is 256 bytes"; before 3.2 it is four.
        if self.ready.minor < 2 && key.len() != 4 {
            let value = i64::try_from(key.len()).unwrap_or(i64::MAX);
            return Err(PeerMisbehaved::BadField {
                message: "BackendKeyData",
                field: "key length",
                value,
            }
            .into());
        }
        assert!(
            (4..=KEY_BYTES_MAX).contains(&key.len()),
            "the decoder bounds the key"
        );
        self.ready.pid = pid;
        self.ready.key = key.to_vec();
        Ok(())
    }
}
