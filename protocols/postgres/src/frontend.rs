//! What a client sends, read in place.
//!
//! Invariants: a decoded message has been checked to its last byte, so its iterators cannot fail; trailing bytes are an error
//! (a peer that reads on where another stops is a way past the judge). Names and texts are bytes without zero, in the
//! client's encoding, which the gateway pins to one that the target reads as UTF-8. What is wrong with a message is said
//! as PostgreSQL says it ([`Flaw`]); CopyDone, CopyFail and Terminate, of which PostgreSQL reads nothing or only the first
//! text, are written anew without what stands behind.
//! Bounds: what is borrowed is as long as the frame, which the framer has bounded. Nothing is allocated.
//! Spec: "Message Formats", those marked (F).

use crate::error::PeerMisbehaved;
use crate::write;
use headgate_wire::write::{len_u16, put_cstr, put_u16, put_u32};
use headgate_wire::{ReadError, Reader, WriteError};

mod flaw;

pub use flaw::Flaw;

/// Statement or portal, in Describe and Close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

impl Kind {
    /// As it stands in a message.
    pub fn letter(self) -> u8 {
        match self {
            Kind::Statement => b'S',
            Kind::Portal => b'P',
        }
    }
}

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frontend<'a> {
    /// Gives a prepared statement its parameters.
    Bind(Bind<'a>),
    /// Forgets a statement or portal.
    Close {
        /// Which of the two.
        kind: Kind,
        /// Of it.
        name: &'a [u8],
    },
    /// A piece of COPY's data.
    CopyData(&'a [u8]),
    /// COPY's data are whole.
    CopyDone,
    /// COPY is given up.
    CopyFail {
        /// In the client's words.
        reason: &'a [u8],
    },
    /// Asks what a statement or portal takes and gives.
    Describe {
        /// Which of the two.
        kind: Kind,
        /// Of it.
        name: &'a [u8],
    },
    /// Runs a portal.
    Execute(Execute<'a>),
    /// Asks for what has been answered so far.
    Flush,
    /// Calls a function by its OID.
    FunctionCall(FunctionCall<'a>),
    /// Prepares a statement.
    Parse(Parse<'a>),
    /// PasswordMessage, SASLInitialResponse, SASLResponse and GSSResponse share a tag; the state says which it is.
    Password(&'a [u8]),
    /// Runs a text.
    Query(Query<'a>),
    /// Ends an extended query.
    Sync,
    /// Goodbye.
    Terminate,
}

/// A text to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query<'a> {
    /// Without its zero.
    pub text: &'a [u8],
}

/// A text to prepare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Empty: the unnamed statement.
    pub name: &'a [u8],
    /// Without its zero.
    pub text: &'a [u8],
    types: &'a [u8],
}

impl<'a> Parse<'a> {
    /// Type OIDs of the parameters as far as the client gives them; 0 leaves one to the server.
    pub fn types(&self) -> impl ExactSizeIterator<Item = u32> + Clone + use<'a> {
        self.types
            .as_chunks::<4>()
            .0
            .iter()
            .map(|oid| u32::from_be_bytes(*oid))
    }
}

/// Parameters for a prepared statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The portal's name; empty for the unnamed one.
    pub portal: &'a [u8],
    /// The statement's name; empty for the unnamed one.
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

    /// Of the parameters.
    pub fn parameter_formats(&self) -> Formats<'a> {
        self.parameter_formats
    }

    /// Of the result's columns.
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

/// Runs a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    /// Its name; empty for the unnamed one.
    pub portal: &'a [u8],
    /// 0 or below: all. As PostgreSQL, a negative number is no limit.
    pub max_rows: i32,
}

/// Calls a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionCall<'a> {
    /// Which.
    pub oid: u32,
    /// Of the arguments.
    pub argument_formats: Formats<'a>,
    /// Where they lie.
    pub arguments: Values<'a>,
    /// Of the result.
    pub result_format: u16,
}

/// Format codes: none is "all text", one is "all like this", else one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats<'a> {
    codes: &'a [[u8; 2]],
}

impl<'a> Formats<'a> {
    /// A 16-bit count and so many codes, whatever they are.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, ReadError> {
        let count = usize::from(reader.u16()?);
        // `count` came from 16 bits: twice that fits.
        let bytes = reader.take(count * 2)?;
        Ok(Formats {
            codes: bytes.as_chunks::<2>().0,
        })
    }

    /// The first code that is neither text nor binary among those that `count` values would use.
    fn unsupported(&self, count: usize) -> Option<Flaw> {
        if count == 0 {
            return None;
        }
        let code = self.iter().find(|code| *code > 1)?;
        Some(Flaw::FormatCode {
            code: i16::from_be_bytes(code.to_be_bytes()),
        })
    }

    /// How many are given.
    pub fn len(&self) -> usize {
        self.codes.len()
    }

    /// Whether none is given: all are text.
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty()
    }

    /// As they are given.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u16> + Clone + use<'a> {
        self.codes.iter().map(|code| u16::from_be_bytes(*code))
    }

    /// The format of item `index`. An index beyond several given codes is text; such a message is refused by the server.
    pub fn of(&self, index: usize) -> u16 {
        let code = if self.codes.len() == 1 {
            self.codes.first()
        } else {
            self.codes.get(index)
        };
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
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self, ReadError> {
        let count = usize::from(reader.u16()?);
        let all = reader.peek();
        for _ in 0..count {
            reader.nullable_i32()?;
        }
        let used = all.get(..all.len().saturating_sub(reader.left())).unwrap_or(all);
        Ok(Values {
            reader: Reader::new(used),
            left: count,
        })
    }
}

impl Values<'_> {
    /// What is left of the message for them: their bytes and a length for each.
    pub fn bytes(&self) -> usize {
        self.reader.left()
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
        name(tag).is_some()
    }

    /// An error of [`PeerMisbehaved::Flawed`] is answered with an ERROR, and the session lives; any other ends it.
    pub fn decode(tag: u8, body: &'a [u8]) -> Result<Self, PeerMisbehaved> {
        let message = name(tag).ok_or(PeerMisbehaved::UnknownMessage { tag })?;
        Self::read(tag, body).map_err(|flaw| PeerMisbehaved::Flawed { message, flaw })
    }

    fn read(tag: u8, body: &'a [u8]) -> Result<Self, Flaw> {
        let mut reader = Reader::new(body);
        let r = &mut reader;
        let message = match tag {
            b'B' => Frontend::Bind(bind(r)?),
            b'C' => {
                let (kind, name) = kind_and_name(r, "CLOSE")?;
                Frontend::Close { kind, name }
            }
            b'd' => Frontend::CopyData(r.rest()),
            // The server reads nothing of these two.
            b'c' => {
                r.rest();
                Frontend::CopyDone
            }
            b'X' => {
                r.rest();
                Frontend::Terminate
            }
            b'f' => {
                let reason = r.cstr()?;
                r.rest();
                Frontend::CopyFail { reason }
            }
            b'D' => {
                let (kind, name) = kind_and_name(r, "DESCRIBE")?;
                Frontend::Describe { kind, name }
            }
            b'E' => {
                let portal = r.cstr()?;
                Frontend::Execute(Execute {
                    portal,
                    max_rows: r.i32()?,
                })
            }
            b'H' => Frontend::Flush,
            b'F' => Frontend::FunctionCall(function_call(r)?),
            b'P' => Frontend::Parse(parse(r)?),
            b'p' => Frontend::Password(r.rest()),
            b'Q' => Frontend::Query(Query { text: r.cstr()? }),
            // Every other tag has no name, and the caller has looked it up.
            _ => Frontend::Sync,
        };
        reader.finish()?;
        Ok(message)
    }
}

/// The message's name in the manual; `None`: no client sends this tag after signing in.
pub fn name(tag: u8) -> Option<&'static str> {
    Some(match tag {
        b'B' => "Bind",
        b'C' => "Close",
        b'd' => "CopyData",
        b'c' => "CopyDone",
        b'f' => "CopyFail",
        b'D' => "Describe",
        b'E' => "Execute",
        b'H' => "Flush",
        b'F' => "FunctionCall",
        b'P' => "Parse",
        b'p' => "PasswordMessage",
        b'Q' => "Query",
        b'S' => "Sync",
        b'X' => "Terminate",
        _ => return None,
    })
}

/// Whether, after an error in a message of this tag, the server passes over what comes until Sync. After an error in one of
/// the others it says ReadyForQuery at once.
pub fn skips_to_sync(tag: u8) -> bool {
    matches!(tag, b'P' | b'B' | b'D' | b'E' | b'C' | b'H')
}

impl Frontend<'_> {
    /// Its tag on the wire.
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

/// As exec_describe_statement and its like: kind and name are read to the end before the kind is looked at.
fn kind_and_name<'a>(r: &mut Reader<'a>, message: &'static str) -> Result<(Kind, &'a [u8]), Flaw> {
    let kind = r.u8().map_err(|_| Flaw::NoData)?;
    let name = r.cstr()?;
    r.finish()?;
    match kind {
        b'S' => Ok((Kind::Statement, name)),
        b'P' => Ok((Kind::Portal, name)),
        value => Err(Flaw::Subtype { message, value }),
    }
}

fn parse<'a>(r: &mut Reader<'a>) -> Result<Parse<'a>, Flaw> {
    let name = r.cstr()?;
    let text = r.cstr()?;
    let count = usize::from(r.u16()?);
    Ok(Parse {
        name,
        text,
        types: r.take(count * 4)?,
    })
}

/// The order of the checks is that of exec_bind_message, but for those that need the statement. Codes of formats for results
/// are not looked at: the server takes any, names it in RowDescription, and refuses it when there is a row to send.
fn bind<'a>(r: &mut Reader<'a>) -> Result<Bind<'a>, Flaw> {
    let portal = r.cstr()?;
    let statement = r.cstr()?;
    let parameter_formats = Formats::read(r)?;
    let mut counted = *r;
    let count = usize::from(counted.u16()?);
    if parameter_formats.len() > 1 && parameter_formats.len() != count {
        return Err(Flaw::ParameterFormats {
            formats: parameter_formats.len(),
            parameters: count,
        });
    }
    let parameters = Values::read(r)?;
    if let Some(flaw) = parameter_formats.unsupported(parameters.len()) {
        return Err(flaw);
    }
    let result_formats = Formats::read(r)?;
    Ok(Bind {
        portal,
        statement,
        parameter_formats,
        parameters,
        result_formats,
    })
}

/// The order of the checks is that of HandleFunctionRequest, but for those that need the function.
fn function_call<'a>(r: &mut Reader<'a>) -> Result<FunctionCall<'a>, Flaw> {
    let oid = r.u32()?;
    let argument_formats = Formats::read(r)?;
    let mut counted = *r;
    let count = usize::from(counted.u16()?);
    if argument_formats.len() > 1 && argument_formats.len() != count {
        return Err(Flaw::ArgumentFormats {
            formats: argument_formats.len(),
            arguments: count,
        });
    }
    let arguments = Values::read(r).map_err(|error| match error {
        ReadError::Negative { value } => Flaw::ArgumentSize {
            bytes: i32::try_from(value).unwrap_or(i32::MIN),
        },
        other => other.into(),
    })?;
    if let Some(flaw) = argument_formats.unsupported(arguments.len()) {
        return Err(flaw);
    }
    let result_format = r.u16()?;
    r.finish()?;
    if result_format > 1 {
        return Err(Flaw::FormatCode {
            code: i16::from_be_bytes(result_format.to_be_bytes()),
        });
    }
    Ok(FunctionCall {
        oid,
        argument_formats,
        arguments,
        result_format,
    })
}

#[cfg(test)]
mod tests;
