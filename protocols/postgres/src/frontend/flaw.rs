//! What is wrong with a client's message whose frame is whole, in PostgreSQL's own words.
//!
//! The server answers such a message with an ERROR and goes on: with the next Sync after Parse, Bind, Describe, Execute,
//! Close and Flush, with ReadyForQuery at once after Query, FunctionCall and Sync ([`super::skips_to_sync`]). Only a frame
//! that is lost (a length out of bounds, an unknown type) ends the session. `tests/malformed.rs` holds every row of this
//! against a real server.

use headgate_wire::ReadError;
use std::fmt;

/// What is wrong with a client's message whose frame is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The kind of a Describe or Close is not there.
    NoData,
    /// A field needs more bytes than are left.
    Insufficient,
    /// A text without its zero.
    Text,
    /// Bytes behind the last field.
    Trailing,
    /// Describe or Close of something other than `S` or `P`.
    Subtype {
        /// In PostgreSQL's words.
        message: &'static str,
        /// What stands there.
        value: u8,
    },
    /// Of a parameter or argument that is there, or of a function's result.
    FormatCode {
        /// As it came.
        code: i16,
    },
    /// Neither none, one, nor one for each parameter.
    ParameterFormats {
        /// How many there are.
        formats: usize,
        /// How many there are.
        parameters: usize,
    },
    /// Neither none, one, nor one for each argument.
    ArgumentFormats {
        /// How many there are.
        formats: usize,
        /// How many there are.
        arguments: usize,
    },
    /// An argument has a length that is none.
    ArgumentSize {
        /// What it says.
        bytes: i32,
    },
}

impl Flaw {
    /// PostgreSQL's code for it.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Flaw::FormatCode { .. } => "22023",
            _ => "08P01",
        }
    }

    /// [`Flaw::to_string`] without its numbers.
    pub(crate) fn words(&self) -> &'static str {
        match self {
            Flaw::NoData => "no data left in message",
            Flaw::Insufficient => "insufficient data left in message",
            Flaw::Text => "invalid string in message",
            Flaw::Trailing => "invalid message format",
            Flaw::Subtype { .. } => "invalid message subtype",
            Flaw::FormatCode { .. } => "unsupported format code",
            Flaw::ParameterFormats { .. } => "bind message has not as many parameter formats as parameters",
            Flaw::ArgumentFormats { .. } => {
                "function call message contains not as many argument formats as arguments"
            }
            Flaw::ArgumentSize { .. } => "invalid argument size in function call message",
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Subtype { message, value } => write!(f, "invalid {message} message subtype {value}"),
            Flaw::FormatCode { code } => write!(f, "unsupported format code: {code}"),
            Flaw::ParameterFormats { formats, parameters } => {
                write!(
                    f,
                    "bind message has {formats} parameter formats but {parameters} parameters"
                )
            }
            Flaw::ArgumentFormats { formats, arguments } => {
                write!(
                    f,
                    "function call message contains {formats} argument formats but {arguments} arguments"
                )
            }
            Flaw::ArgumentSize { bytes } => {
                write!(f, "invalid argument size {bytes} in function call message")
            }
            other => f.write_str(other.words()),
        }
    }
}

impl From<ReadError> for Flaw {
    fn from(error: ReadError) -> Flaw {
        match error {
            ReadError::Unterminated => Flaw::Text,
            ReadError::Trailing { .. } => Flaw::Trailing,
            // A length below -1 is to the server one that no bytes can satisfy.
            ReadError::Short { .. } | ReadError::Negative { .. } => Flaw::Insufficient,
        }
    }
}
