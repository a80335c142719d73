//! Messages of PostgreSQL's protocol as this crate writes and reads them: on purpose not with the product's own code, so
//! that a mistake there is not made twice.
//!
//! Spec: PostgreSQL 18, Message Formats.

/// A message of a client.
#[derive(Clone, PartialEq, Eq)]
pub enum Message {
    Query(Vec<u8>),
    Parse {
        name: Vec<u8>,
        text: Vec<u8>,
    },
    /// All parameters in text. `formats`: of the results; none is text.
    Bind {
        portal: Vec<u8>,
        statement: Vec<u8>,
        parameters: Vec<Option<Vec<u8>>>,
        formats: Vec<u16>,
    },
    /// `S` or `P`, and the name.
    Describe(u8, Vec<u8>),
    Execute(Vec<u8>, u32),
    Close(u8, Vec<u8>),
    Sync,
    Flush,
    CopyData(Vec<u8>),
    CopyDone,
    CopyFail,
    /// The function's number and its arguments, in text.
    Call(u32, Vec<Vec<u8>>),
    Terminate,
    /// Anything, well formed or not.
    Raw(u8, Vec<u8>),
}

/// Appends one message with its length.
pub fn put(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    let len = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(start..start + 4) {
        place.copy_from_slice(&len.to_be_bytes());
    }
}

/// A string and the zero behind it.
pub fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(text);
    out.push(0);
}

/// A count in 16 bits.
pub fn short(out: &mut Vec<u8>, n: usize) {
    out.extend_from_slice(&u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes());
}

/// A value with its length, or NULL.
pub fn value(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        None => out.extend_from_slice(&(-1i32).to_be_bytes()),
        Some(bytes) => {
            out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

impl Message {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Message::Query(text) => put(out, b'Q', |o| string(o, text)),
            Message::Parse { name, text } => put(out, b'P', |o| {
                string(o, name);
                string(o, text);
                short(o, 0);
            }),
            Message::Bind {
                portal,
                statement,
                parameters,
                formats,
            } => put(out, b'B', |o| {
                string(o, portal);
                string(o, statement);
                short(o, 0);
                short(o, parameters.len());
                for parameter in parameters {
                    value(o, parameter.as_deref());
                }
                short(o, formats.len());
                for format in formats {
                    o.extend_from_slice(&format.to_be_bytes());
                }
            }),
            Message::Describe(kind, name) => put(out, b'D', |o| {
                o.push(*kind);
                string(o, name);
            }),
            Message::Execute(portal, max) => put(out, b'E', |o| {
                string(o, portal);
                o.extend_from_slice(&max.to_be_bytes());
            }),
            Message::Close(kind, name) => put(out, b'C', |o| {
                o.push(*kind);
                string(o, name);
            }),
            Message::Sync => put(out, b'S', |_| {}),
            Message::Flush => put(out, b'H', |_| {}),
            Message::CopyData(data) => put(out, b'd', |o| o.extend_from_slice(data)),
            Message::CopyDone => put(out, b'c', |_| {}),
            Message::CopyFail => put(out, b'f', |o| string(o, b"why not")),
            Message::Call(function, arguments) => put(out, b'F', |o| {
                o.extend_from_slice(&function.to_be_bytes());
                short(o, 0);
                short(o, arguments.len());
                for argument in arguments {
                    value(o, Some(argument));
                }
                short(o, 0);
            }),
            Message::Terminate => put(out, b'X', |_| {}),
            Message::Raw(tag, body) => put(out, *tag, |o| o.extend_from_slice(body)),
        }
    }
}

/// As in the project's cases: `Q "text"`, `B portal name`, `E portal max`.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |bytes: &[u8]| {
            // A long name is readable by its first letter, its length and its last bytes.
            if bytes.len() > 40 && !bytes.contains(&b' ') {
                format!(
                    "{}…{} ({})",
                    String::from_utf8_lossy(&bytes[..4]),
                    String::from_utf8_lossy(&bytes[bytes.len() - 4..]),
                    bytes.len()
                )
            } else {
                String::from_utf8_lossy(bytes).into_owned()
            }
        };
        match self {
            Message::Query(sql) => write!(f, "Q {:?}", String::from_utf8_lossy(sql)),
            Message::Parse { name, text: sql } => {
                write!(f, "P {:?} {:?}", text(name), String::from_utf8_lossy(sql))
            }
            Message::Bind {
                portal,
                statement,
                parameters,
                formats,
            } => {
                write!(f, "B {:?} {:?}", text(portal), text(statement))?;
                parameters.iter().try_for_each(|p| match p {
                    None => write!(f, " null"),
                    Some(bytes) => write!(f, " {}", text(bytes)),
                })?;
                if formats.is_empty() {
                    Ok(())
                } else {
                    write!(f, " formats {formats:?}")
                }
            }
            Message::Describe(kind, name) => write!(f, "D {} {:?}", char::from(*kind), text(name)),
            Message::Execute(portal, max) => write!(f, "E {:?} {max}", text(portal)),
            Message::Close(kind, name) => write!(f, "C {} {:?}", char::from(*kind), text(name)),
            Message::Sync => write!(f, "S"),
            Message::Flush => write!(f, "H"),
            Message::CopyData(data) => write!(f, "d {:?}", text(data)),
            Message::CopyDone => write!(f, "c"),
            Message::CopyFail => write!(f, "f"),
            Message::Call(function, arguments) => write!(f, "F {function} ({})", arguments.len()),
            Message::Terminate => write!(f, "X"),
            Message::Raw(tag, body) => write!(f, "raw {:?} {body:?}", char::from(*tag)),
        }
    }
}

/// Takes the first whole message off `bytes`: its tag, its body, and its whole length.
pub fn first(bytes: &[u8]) -> Option<(u8, &[u8], usize)> {
    let (tag, rest) = bytes.split_first()?;
    let len = u32::from_be_bytes(*rest.first_chunk::<4>()?) as usize;
    let body = rest.get(4..len)?;
    Some((*tag, body, len + 1))
}

/// All whole messages, in order.
pub fn all(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, body, len) = first(bytes)?;
        bytes = bytes.get(len..)?;
        Some((tag, body))
    })
}

/// Reads a message's fields. What is missing is [`None`], and the reader says what a server says of it.
pub struct Fields<'b>(pub &'b [u8]);

impl<'b> Fields<'b> {
    pub fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    pub fn short(&mut self) -> Option<usize> {
        let bytes = self.0.first_chunk::<2>()?;
        self.0 = self.0.get(2..)?;
        Some(usize::from(u16::from_be_bytes(*bytes)))
    }

    pub fn long(&mut self) -> Option<u32> {
        let bytes = self.0.first_chunk::<4>()?;
        self.0 = self.0.get(4..)?;
        Some(u32::from_be_bytes(*bytes))
    }

    pub fn string(&mut self) -> Option<&'b [u8]> {
        let at = memchr::memchr(0, self.0)?;
        let (text, rest) = self.0.split_at(at);
        self.0 = rest.get(1..)?;
        Some(text)
    }

    pub fn value(&mut self) -> Option<Option<&'b [u8]>> {
        let len = self.long()?;
        if len == u32::MAX {
            return Some(None);
        }
        let (bytes, rest) = self.0.split_at_checked(len as usize)?;
        self.0 = rest;
        Some(Some(bytes))
    }
}

/// One field of an ErrorResponse or NoticeResponse.
pub fn report_field(body: &[u8], field: u8) -> Option<&[u8]> {
    let mut fields = Fields(body);
    loop {
        match fields.byte()? {
            0 => return None,
            kind => {
                let text = fields.string()?;
                if kind == field {
                    return Some(text);
                }
            }
        }
    }
}
