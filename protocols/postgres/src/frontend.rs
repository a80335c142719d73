//! What a client sends, read in place.
//!
//! Invariants: a decoded message has been checked to its last byte, so its iterators cannot fail; trailing bytes are an error
//! (a peer that reads on where another stops is a way past the judge). Names and texts are bytes without zero, in the
//! client's encoding, which the gateway pins to UTF-8.
//! Bounds: what is borrowed is as long as the frame, which the framer has bounded. Nothing is allocated.
//! Spec: "Message Formats", those marked (F).

use crate::error::PeerMisbehaved;
use crate::write;
use headgate_wire::write::{len_u16, put_cstr, put_u16, put_u32};
use headgate_wire::{ReadError, Reader, WriteError};

/// Statement or portal, in Describe and Close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Statement,
    Portal,
}

impl Kind {
    pub fn letter(self) -> u8 {
        match self {
            Kind::Statement => b'S',
            Kind::Portal => b'P',
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frontend<'a> {
    Bind(Bind<'a>),
    Close {
        kind: Kind,
        name: &'a [u8],
    },
    CopyData(&'a [u8]),
    CopyDone,
    CopyFail {
        reason: &'a [u8],
    },
    Describe {
        kind: Kind,
        name: &'a [u8],
    },
    Execute(Execute<'a>),
    Flush,
    FunctionCall(FunctionCall<'a>),
    Parse(Parse<'a>),
    /// PasswordMessage, SASLInitialResponse, SASLResponse and GSSResponse share a tag; the state says which it is.
    Password(&'a [u8]),
    Query(Query<'a>),
    Sync,
    Terminate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    pub text: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Empty: the unnamed statement.
    pub name: &'a [u8],
    pub text: &'a [u8],
    types: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Type OIDs of the parameters as far as the client gives them; 0 leaves one to the server.
    pub fn types(&self) -> impl ExactSizeIterator<Item = u32> + Clone + use<'a> {
        self.types.as_chunks::<4>().0.iter().map(|oid| u32::from_be_bytes(*oid))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    pub portal: &'a [u8],
    pub statement: &'a [u8],
    parameter_formats: Formats<'a>,
    parameters: Values<'a>,
    result_formats: Formats<'a>,
}

impl<'a> Bind<'a> {
    /// The values, NULL as `None`.
    pub fn parameters(&self) -> Values<'a> {
        self.parameters
    }

    pub fn parameter_formats(&self) -> Formats<'a> {
        self.parameter_formats
    }

    pub fn result_formats(&self) -> Formats<'a> {
        self.result_formats
    }

    /// 0 text, 1 binary.
    pub fn parameter_format(&self, index: usize) -> u16 {
        self.parameter_formats.of(index)
    }

    /// 0 text, 1 binary.
    pub fn result_format(&self, column: usize) -> u16 {
        self.result_formats.of(column)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    pub portal: &'a [u8],
    /// 0 or below: all. As PostgreSQL, a negative number is no limit.
    pub max_rows: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionCall<'a> {
    pub oid: u32,
    pub argument_formats: Formats<'a>,
    pub arguments: Values<'a>,
    pub result_format: u16,
}

/// Format codes: none is "all text", one is "all like this", else one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats<'a> {
    codes: &'a [[u8; 2]],
}

impl<'a> Formats<'a> {
    pub const ALL_TEXT: Formats<'static> = Formats { codes: &[] };

    pub(crate) fn read(reader: &mut Reader<'a>, message: &'static str) -> Result<Self, PeerMisbehaved> {
        let count = reader.u16().map_err(PeerMisbehaved::malformed(message))?;
        Self::read_counted(reader, message, usize::from(count))
    }

    pub(crate) fn read_counted(reader: &mut Reader<'a>, message: &'static str, count: usize) -> Result<Self, PeerMisbehaved> {
        // `count` came from 16 bits: twice that fits.
        let bytes = reader.take(count * 2).map_err(PeerMisbehaved::malformed(message))?;
        let formats = Formats { codes: bytes.as_chunks::<2>().0 };
        match formats.iter().find(|code| *code > 1) {
            None => Ok(formats),
            Some(code) => Err(PeerMisbehaved::BadField { message, field: "format", value: i64::from(code) }),
        }
    }

    pub fn len(&self) -> usize {
        self.codes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = u16> + Clone + use<'a> {
        self.codes.iter().map(|code| u16::from_be_bytes(*code))
    }

    /// The format of item `index`. An index beyond several given codes is text; such a message is refused by the server.
    pub fn of(&self, index: usize) -> u16 {
        let code = if self.codes.len() == 1 { self.codes.first() } else { self.codes.get(index) };
        code.map_or(0, |code| u16::from_be_bytes(*code))
    }
}

/// Values with an `i32` length before each, already checked. NULL is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Values<'a> {
    reader: Reader<'a>,
    left: usize,
}

impl<'a> Values<'a> {
    /// Reads a 16-bit count and the values.
    pub(crate) fn read(reader: &mut Reader<'a>, message: &'static str) -> Result<Self, PeerMisbehaved> {
        let malformed = PeerMisbehaved::malformed(message);
        let count = usize::from(reader.u16().map_err(&malformed)?);
        let all = reader.peek();
        for _ in 0..count {
            reader.nullable_i32().map_err(&malformed)?;
        }
        let used = all.get(..all.len().saturating_sub(reader.left())).unwrap_or(all);
        Ok(Values { reader: Reader::new(used), left: count })
    }
}

impl<'a> Iterator for Values<'a> {
    type Item = Option<&'a [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // Checked when it was read.
        self.reader.nullable_i32().ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Values<'_> {}

impl<'a> Frontend<'a> {
    /// Whether a client may send this tag after signing in.
    pub fn is_known(tag: u8) -> bool {
        matches!(tag, b'B' | b'C' | b'd' | b'c' | b'f' | b'D' | b'E' | b'H' | b'F' | b'P' | b'p' | b'Q' | b'S' | b'X')
    }

    pub fn decode(tag: u8, body: &'a [u8]) -> Result<Self, PeerMisbehaved> {
        let mut reader = Reader::new(body);
        let r = &mut reader;
        let (name, message) = match tag {
            b'B' => ("Bind", Frontend::Bind(bind(r)?)),
            b'C' => {
                let (kind, name) = kind_and_name(r, "Close")?;
                ("Close", Frontend::Close { kind, name })
            }
            b'd' => ("CopyData", Frontend::CopyData(r.rest())),
            b'c' => ("CopyDone", Frontend::CopyDone),
            b'f' => ("CopyFail", Frontend::CopyFail { reason: r.cstr().map_err(PeerMisbehaved::malformed("CopyFail"))? }),
            b'D' => {
                let (kind, name) = kind_and_name(r, "Describe")?;
                ("Describe", Frontend::Describe { kind, name })
            }
            b'E' => {
                let malformed = PeerMisbehaved::malformed("Execute");
                let portal = r.cstr().map_err(&malformed)?;
                ("Execute", Frontend::Execute(Execute { portal, max_rows: r.i32().map_err(&malformed)? }))
            }
            b'H' => ("Flush", Frontend::Flush),
            b'F' => ("FunctionCall", Frontend::FunctionCall(function_call(r)?)),
            b'P' => ("Parse", Frontend::Parse(parse(r)?)),
            b'p' => ("PasswordMessage", Frontend::Password(r.rest())),
            b'Q' => ("Query", Frontend::Query(Query { text: r.cstr().map_err(PeerMisbehaved::malformed("Query"))? })),
            b'S' => ("Sync", Frontend::Sync),
            b'X' => ("Terminate", Frontend::Terminate),
            tag => return Err(PeerMisbehaved::UnknownMessage { tag }),
        };
        reader.finish().map_err(PeerMisbehaved::malformed(name))?;
        Ok(message)
    }
}

impl Frontend<'_> {
    pub fn tag(&self) -> u8 {
        match self {
            Frontend::Bind(_) => b'B',
            Frontend::Close { .. } => b'C',
            Frontend::CopyData(_) => b'd',
            Frontend::CopyDone => b'c',
            Frontend::CopyFail { .. } => b'f',
            Frontend::Describe { .. } => b'D',
            Frontend::Execute(_) => b'E',
            Frontend::Flush => b'H',
            Frontend::FunctionCall(_) => b'F',
            Frontend::Parse(_) => b'P',
            Frontend::Password(_) => b'p',
            Frontend::Query(_) => b'Q',
            Frontend::Sync => b'S',
            Frontend::Terminate => b'X',
        }
    }

    /// Appends the message anew. What was decoded and what is written are the same bytes: nothing rides along between fields.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        match self {
            Frontend::Bind(bind) => write::message(out, b'B', |out| {
                put_cstr(out, bind.portal)?;
                put_cstr(out, bind.statement)?;
                bind.parameter_formats.encode(out)?;
                bind.parameters.encode(out)?;
                bind.result_formats.encode(out)
            }),
            Frontend::Close { kind, name } => write::close(out, *kind, name),
            Frontend::CopyData(data) => write::copy_data(out, data),
            Frontend::CopyDone => write::raw(out, b'c', &[]),
            Frontend::CopyFail { reason } => write::copy_fail(out, reason),
            Frontend::Describe { kind, name } => write::describe(out, *kind, name),
            Frontend::Execute(execute) => write::execute(out, execute.portal, execute.max_rows),
            Frontend::Flush => write::raw(out, b'H', &[]),
            Frontend::FunctionCall(call) => write::message(out, b'F', |out| {
                put_u32(out, call.oid);
                call.argument_formats.encode(out)?;
                call.arguments.encode(out)?;
                put_u16(out, call.result_format);
                Ok(())
            }),
            Frontend::Parse(parse) => write::message(out, b'P', |out| {
                put_cstr(out, parse.name)?;
                put_cstr(out, parse.text)?;
                put_u16(out, len_u16(parse.types().len())?);
                out.extend_from_slice(parse.types);
                Ok(())
            }),
            Frontend::Password(body) => write::raw(out, b'p', body),
            Frontend::Query(query) => write::query(out, query.text),
            Frontend::Sync => write::raw(out, b'S', &[]),
            Frontend::Terminate => write::raw(out, b'X', &[]),
        }
    }
}

impl Formats<'_> {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        put_u16(out, len_u16(self.codes.len())?);
        out.extend_from_slice(self.codes.as_flattened());
        Ok(())
    }
}

impl Values<'_> {
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), WriteError> {
        put_u16(out, len_u16(self.left)?);
        out.extend_from_slice(self.reader.peek());
        Ok(())
    }
}

fn kind_and_name<'a>(r: &mut Reader<'a>, message: &'static str) -> Result<(Kind, &'a [u8]), PeerMisbehaved> {
    let malformed = PeerMisbehaved::malformed(message);
    let kind = match r.u8().map_err(&malformed)? {
        b'S' => Kind::Statement,
        b'P' => Kind::Portal,
        other => return Err(PeerMisbehaved::BadField { message, field: "kind", value: i64::from(other) }),
    };
    Ok((kind, r.cstr().map_err(&malformed)?))
}

fn parse<'a>(r: &mut Reader<'a>) -> Result<Parse<'a>, PeerMisbehaved> {
    let read = |r: &mut Reader<'a>| -> Result<Parse<'a>, ReadError> {
        let name = r.cstr()?;
        let text = r.cstr()?;
        let count = usize::from(r.u16()?);
        Ok(Parse { name, text, types: r.take(count * 4)? })
    };
    read(r).map_err(PeerMisbehaved::malformed("Parse"))
}

fn bind<'a>(r: &mut Reader<'a>) -> Result<Bind<'a>, PeerMisbehaved> {
    const MESSAGE: &str = "Bind";
    let malformed = PeerMisbehaved::malformed(MESSAGE);
    let portal = r.cstr().map_err(&malformed)?;
    let statement = r.cstr().map_err(&malformed)?;
    let parameter_formats = Formats::read(r, MESSAGE)?;
    let parameters = Values::read(r, MESSAGE)?;
    let result_formats = Formats::read(r, MESSAGE)?;
    if parameter_formats.len() > 1 && parameter_formats.len() != parameters.len() {
        let value = i64::try_from(parameter_formats.len()).unwrap_or(i64::MAX);
        return Err(PeerMisbehaved::BadField { message: MESSAGE, field: "number of parameter formats", value });
    }
    Ok(Bind { portal, statement, parameter_formats, parameters, result_formats })
}

fn function_call<'a>(r: &mut Reader<'a>) -> Result<FunctionCall<'a>, PeerMisbehaved> {
    const MESSAGE: &str = "FunctionCall";
    let malformed = PeerMisbehaved::malformed(MESSAGE);
    let oid = r.u32().map_err(&malformed)?;
    let argument_formats = Formats::read(r, MESSAGE)?;
    let arguments = Values::read(r, MESSAGE)?;
    let result_format = r.u16().map_err(&malformed)?;
    if result_format > 1 {
        return Err(PeerMisbehaved::BadField { message: MESSAGE, field: "format", value: i64::from(result_format) });
    }
    Ok(FunctionCall { oid, argument_formats, arguments, result_format })
}

#[cfg(test)]
mod tests;
