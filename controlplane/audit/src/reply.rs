//! The recorded bytes of replies, as far as a person can read them: PostgreSQL's messages from the target's side, and what
//! is of another protocol as it stands.
//!
//! Takes hostile bytes: a length that makes no sense ends the decoding of that statement's reply. Bound: a message longer
//! than [`MESSAGE_BYTES_MAX`] is not waited for.

use crate::render;
use crate::types::ReplyMessage;
use crate::value;
use headgate_plane::{ParameterKind, Protocol};

const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Decodes the reply of one statement after the other.
#[derive(Default)]
pub(crate) struct Reply {
    carry: Vec<u8>,
    /// Format and type of each column, from the last RowDescription.
    columns: Vec<(u16, u32)>,
    lost: bool,
    /// Of a protocol that is not taken apart here.
    plain: bool,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let end = self.0.iter().position(|b| *b == 0)?;
        let text = self.take(end)?;
        self.take(1)?;
        Some(text)
    }
}

impl Reply {
    /// For a session of that protocol.
    pub fn of(protocol: Option<Protocol>) -> Reply {
        Reply {
            plain: protocol != Some(Protocol::Postgres),
            ..Reply::default()
        }
    }

    /// A statement begins: what was cut off before it is forgotten.
    pub fn begin(&mut self) {
        self.carry.clear();
        self.lost = false;
    }

    /// Adds a part, and gives the messages that are whole by now.
    pub fn add(&mut self, bytes: &[u8]) -> Vec<ReplyMessage> {
        if self.plain {
            return vec![ReplyMessage::Bytes {
                text: render::text(bytes),
            }];
        }
        let mut messages = Vec::new();
        if self.lost {
            messages.push(ReplyMessage::Cut {
                bytes: bytes.len() as u64,
            });
            return messages;
        }
        self.carry.extend_from_slice(bytes);
        let carry = std::mem::take(&mut self.carry);
        let mut rest = Reader(&carry);
        loop {
            let before = rest.0;
            let (Some([code]), Some(len)) = (rest.take(1), rest.u32()) else {
                rest.0 = before;
                break;
            };
            let len = len as usize;
            if !(4..=MESSAGE_BYTES_MAX).contains(&len) {
                self.lost = true;
                messages.push(ReplyMessage::Cut {
                    bytes: before.len() as u64,
                });
                return messages;
            }
            let Some(body) = rest.take(len - 4) else {
                rest.0 = before;
                break;
            };
            messages.push(self.message(*code, body));
        }
        self.carry = rest.0.to_vec();
        messages
    }

    /// Bytes of a message that was not recorded whole.
    pub fn end(&mut self) -> Option<ReplyMessage> {
        let left = std::mem::take(&mut self.carry).len();
        (left > 0).then_some(ReplyMessage::Cut { bytes: left as u64 })
    }

    fn message(&mut self, code: u8, body: &[u8]) -> ReplyMessage {
        let other = || ReplyMessage::Other {
            code: char::from(code).to_string(),
            bytes: body.len() as u64,
        };
        let read = match code {
            b'T' => self.columns(body),
            b'D' => self.row(body),
            b'd' => Some(ReplyMessage::CopyData {
                text: render::text(body),
            }),
            b'C' => Reader(body).string().map(|tag| ReplyMessage::Complete {
                tag: render::text(tag),
            }),
            b'E' => fields(body).map(|(code, message)| ReplyMessage::Error { code, message }),
            b'N' => fields(body).map(|(_, message)| ReplyMessage::Notice { message }),
            _ => None,
        };
        read.unwrap_or_else(other)
    }

    fn columns(&mut self, body: &[u8]) -> Option<ReplyMessage> {
        let mut r = Reader(body);
        let count = r.u16()?;
        let (mut names, mut columns) = (Vec::new(), Vec::new());
        for _ in 0..count {
            names.push(render::text(r.string()?));
            r.take(6)?;
            let type_oid = r.u32()?;
            r.take(6)?;
            columns.push((r.u16()?, type_oid));
        }
        self.columns = columns;
        Some(ReplyMessage::Columns { names })
    }

    fn row(&self, body: &[u8]) -> Option<ReplyMessage> {
        let mut r = Reader(body);
        let count = r.u16()?;
        let mut values = Vec::new();
        for at in 0..usize::from(count) {
            let len = r.u32()?;
            if len == u32::MAX {
                values.push(None);
                continue;
            }
            let bytes = r.take(len as usize)?;
            let (format, type_oid) = self.columns.get(at).copied().unwrap_or((0, 0));
            values.push(Some(value::shown(
                ParameterKind::Postgres { type_oid, format },
                bytes,
            )));
        }
        Some(ReplyMessage::Row { values })
    }
}

/// SQLSTATE and message of ErrorResponse or NoticeResponse.
fn fields(body: &[u8]) -> Option<(String, String)> {
    let mut r = Reader(body);
    let (mut code, mut message) = (String::new(), String::new());
    loop {
        match r.take(1)? {
            [0] => return Some((code, message)),
            [b'C'] => code = render::text(r.string()?),
            [b'M'] => message = render::text(r.string()?),
            _ => {
                r.string()?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(code: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![code];
        out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        out.extend_from_slice(body);
        out
    }

    fn stream() -> Vec<u8> {
        let mut columns = vec![0, 2];
        for (name, type_oid, format) in [("id", 23u32, 1u16), ("name", 25, 0)] {
            columns.extend_from_slice(name.as_bytes());
            columns.extend_from_slice(&[0; 7]);
            columns.extend_from_slice(&type_oid.to_be_bytes());
            columns.extend_from_slice(&[0; 6]);
            columns.extend_from_slice(&format.to_be_bytes());
        }
        let row = [&[0, 2, 0, 0, 0, 4, 0, 0, 0, 7][..], &[0xff; 4]].concat();
        [
            message(b'T', &columns),
            message(b'D', &row),
            message(b'C', b"SELECT 1\0"),
            message(b'Z', b"I"),
        ]
        .concat()
    }

    #[test]
    fn a_reply_cut_anywhere_reads_the_same() {
        let stream = stream();
        let whole = Reply::default().add(&stream);
        assert_eq!(
            whole[0],
            ReplyMessage::Columns {
                names: vec!["id".into(), "name".into()]
            }
        );
        assert_eq!(
            whole[1],
            ReplyMessage::Row {
                values: vec![Some("7".into()), None]
            }
        );
        assert_eq!(
            whole[2],
            ReplyMessage::Complete {
                tag: "SELECT 1".into()
            }
        );
        for cut in 0..=stream.len() {
            let mut reply = Reply::default();
            let mut read = reply.add(&stream[..cut]);
            read.extend(reply.add(&stream[cut..]));
            assert_eq!(read, whole, "cut at {cut}");
            assert_eq!(reply.end(), None);
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let stream = stream();
        let mut reply = Reply::default();
        reply.add(&stream[..stream.len() - 3]);
        assert_eq!(reply.end(), Some(ReplyMessage::Cut { bytes: 3 }));
        assert_eq!(
            Reply::default().add(b"D\0\0\0\0xyz"),
            vec![ReplyMessage::Cut { bytes: 8 }]
        );
    }
}
