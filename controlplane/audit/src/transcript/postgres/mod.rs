//! PostgreSQL's messages from the target's side, read with [`headgate_postgres`], and its values.
//!
//! Takes hostile bytes: a length that makes no sense ends the decoding of that statement's reply. Bound: a message longer
//! than [`MESSAGE_BYTES_MAX`] is not waited for.

pub(super) mod value;

use crate::render;
use crate::types::ReplyMessage;
use headgate_postgres::backend::{Backend, ReportFields, RowDescription, Values};
use headgate_postgres::frame;

const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Decodes the reply of one statement after the other.
#[derive(Default)]
pub(crate) struct Replies {
    carry: Vec<u8>,
    /// Format and type of each column, from the last RowDescription.
    columns: Vec<(u16, u32)>,
    lost: bool,
}

impl Replies {
    /// A statement begins: what was cut off before it is forgotten.
    pub(super) fn begin(&mut self) {
        self.carry.clear();
        self.lost = false;
    }

    /// Adds a part, and gives the messages that are whole by now.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Vec<ReplyMessage> {
        let mut messages = Vec::new();
        if self.lost {
            messages.push(ReplyMessage::Cut {
                bytes: bytes.len() as u64,
            });
            return messages;
        }
        self.carry.extend_from_slice(bytes);
        let carry = std::mem::take(&mut self.carry);
        let mut rest = carry.as_slice();
        loop {
            match frame::split(rest, MESSAGE_BYTES_MAX) {
                Ok(Some((header, body))) => {
                    messages.push(self.message(header.tag, body));
                    rest = rest.get(header.len..).unwrap_or_default();
                }
                Ok(None) => break,
                Err(_) => {
                    self.lost = true;
                    messages.push(ReplyMessage::Cut {
                        bytes: rest.len() as u64,
                    });
                    return messages;
                }
            }
        }
        self.carry = rest.to_vec();
        messages
    }

    /// Bytes of a message that was not recorded whole.
    pub(super) fn end(&mut self) -> Option<ReplyMessage> {
        let left = std::mem::take(&mut self.carry).len();
        (left > 0).then_some(ReplyMessage::Cut { bytes: left as u64 })
    }

    fn message(&mut self, tag: u8, body: &[u8]) -> ReplyMessage {
        match Backend::decode(tag, body) {
            Ok(Backend::RowDescription(columns)) => self.described(columns),
            Ok(Backend::DataRow(values)) => self.row(values),
            Ok(Backend::CopyData(data)) => ReplyMessage::CopyData {
                text: render::text(data),
            },
            Ok(Backend::CommandComplete { tag }) => ReplyMessage::Complete {
                tag: render::text(tag),
            },
            Ok(Backend::ErrorResponse(fields)) => ReplyMessage::Error {
                code: render::text(fields.sqlstate().unwrap_or_default()),
                message: said(&fields),
            },
            Ok(Backend::NoticeResponse(fields)) => ReplyMessage::Notice {
                message: said(&fields),
            },
            Ok(_) | Err(_) => ReplyMessage::Other {
                code: char::from(tag).to_string(),
                bytes: body.len() as u64,
            },
        }
    }

    fn described(&mut self, columns: RowDescription<'_>) -> ReplyMessage {
        self.columns = columns.map(|column| (column.format, column.type_oid)).collect();
        ReplyMessage::Columns {
            names: columns.map(|column| render::text(column.name)).collect(),
        }
    }

    fn row(&self, values: Values<'_>) -> ReplyMessage {
        let shown = values.enumerate().map(|(at, value)| {
            let (format, type_oid) = self.columns.get(at).copied().unwrap_or((0, 0));
            value.map(|bytes| value::shown(type_oid, format, bytes))
        });
        ReplyMessage::Row {
            values: shown.collect(),
        }
    }
}

fn said(fields: &ReportFields<'_>) -> String {
    render::text(fields.message().unwrap_or_default())
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
        let whole = Replies::default().add(&stream);
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
            let mut reply = Replies::default();
            let mut read = reply.add(&stream[..cut]);
            read.extend(reply.add(&stream[cut..]));
            assert_eq!(read, whole, "cut at {cut}");
            assert_eq!(reply.end(), None);
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        let stream = stream();
        let mut reply = Replies::default();
        reply.add(&stream[..stream.len() - 3]);
        assert_eq!(reply.end(), Some(ReplyMessage::Cut { bytes: 3 }));
        assert_eq!(
            Replies::default().add(b"D\0\0\0\0xyz"),
            vec![ReplyMessage::Cut { bytes: 8 }]
        );
    }
}
