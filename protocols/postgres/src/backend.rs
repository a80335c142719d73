//! What a target sends, read in place. The target is not trusted either: the same checks as for clients.
//!
//! Invariants: a decoded message has been checked to its last byte, so its iterators cannot fail; [`is_known`] is a closed
//! list, and a message that is not on it ends the session.
//! Bounds: what is borrowed is as long as the frame, which the framer has bounded. Nothing is allocated.
//! Spec: "Message Formats", those marked (B).

use crate::cancel::KEY_BYTES_MAX;
use crate::error::PeerMisbehaved;
pub use crate::frontend::{Formats, Values};
use headgate_wire::{ReadError, Reader};

/// What a target says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend<'a> {
    /// How it wants the session proved.
    Authentication(Authentication<'a>),
    /// With what the session is cancelled.
    BackendKeyData {
        /// Its process.
        pid: u32,
        /// Its secret.
        key: &'a [u8],
    },
    /// A Bind was done.
    BindComplete,
    /// A Close was done.
    CloseComplete,
    /// A statement was done.
    CommandComplete {
        /// What it was, and how many rows.
        tag: &'a [u8],
    },
    /// Data go both ways from here.
    CopyBothResponse(CopyResponse<'a>),
    /// A piece of COPY's data.
    CopyData(&'a [u8]),
    /// COPY's data are whole.
    CopyDone,
    /// The target reads COPY's data from here.
    CopyInResponse(CopyResponse<'a>),
    /// The target sends COPY's data from here.
    CopyOutResponse(CopyResponse<'a>),
    /// A row's values.
    DataRow(Values<'a>),
    /// The text had no statement.
    EmptyQueryResponse,
    /// A statement failed, or the session.
    ErrorResponse(ReportFields<'a>),
    /// A function's result; `None` for NULL.
    FunctionCallResponse(Option<&'a [u8]>),
    /// A smaller protocol than was asked for.
    NegotiateProtocolVersion(NegotiateProtocolVersion<'a>),
    /// What was described gives no rows.
    NoData,
    /// Something to know.
    NoticeResponse(ReportFields<'a>),
    /// A NOTIFY of some session.
    NotificationResponse {
        /// Whose process.
        pid: u32,
        /// Where.
        channel: &'a [u8],
        /// What.
        payload: &'a [u8],
    },
    /// The types of a statement's parameters.
    ParameterDescription(Oids<'a>),
    /// A setting is so now.
    ParameterStatus {
        /// Of the setting.
        name: &'a [u8],
        /// As it is now.
        value: &'a [u8],
    },
    /// A Parse was done.
    ParseComplete,
    /// An Execute has come to its limit of rows.
    PortalSuspended,
    /// The target reads the next query.
    ReadyForQuery {
        /// Of the transaction.
        status: TransactionStatus,
    },
    /// The columns of the rows that follow.
    RowDescription(RowDescription<'a>),
}

/// Where a session stands between two queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransactionStatus {
    /// In no transaction.
    Idle,
    /// In one.
    InTransaction,
    /// In one that has failed.
    Failed,
}

impl TransactionStatus {
    /// As ReadyForQuery spells it.
    pub fn letter(self) -> u8 {
        match self {
            TransactionStatus::Idle => b'I',
            TransactionStatus::InTransaction => b'T',
            TransactionStatus::Failed => b'E',
        }
    }
}

/// How a target wants a session proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// It is.
    Ok,
    /// By Kerberos V5.
    KerberosV5,
    /// By the password as it is.
    CleartextPassword,
    /// By MD5 over password, user and salt.
    Md5Password {
        /// Of this session.
        salt: [u8; 4],
    },
    /// By GSSAPI.
    Gss,
    /// GSSAPI goes on.
    GssContinue(&'a [u8]),
    /// By SSPI.
    Sspi,
    /// Names of mechanisms, in the target's order.
    Sasl(Mechanisms<'a>),
    /// SASL goes on.
    SaslContinue(&'a [u8]),
    /// SASL's last word.
    SaslFinal(&'a [u8]),
}

/// Zero-terminated names, already checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mechanisms<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Mechanisms<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.reader.is_empty() {
            None
        } else {
            self.reader.cstr().ok()
        }
    }
}

/// The fields of ErrorResponse and NoticeResponse: a code and its text. Unknown codes are handed out as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportFields<'a> {
    reader: Reader<'a>,
}

impl<'a> ReportFields<'a> {
    /// The first field of this code.
    pub fn get(&self, code: u8) -> Option<&'a [u8]> {
        let mut fields = *self;
        fields.find(|(c, _)| *c == code).map(|(_, text)| text)
    }

    /// `C`: a hostile target may leave it out.
    pub fn sqlstate(&self) -> Option<&'a [u8]> {
        self.get(b'C')
    }

    /// The error's message, where it has one.
    pub fn message(&self) -> Option<&'a [u8]> {
        self.get(b'M')
    }
}

impl<'a> Iterator for ReportFields<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let code = self.reader.u8().ok()?;
        Some((code, self.reader.cstr().ok()?))
    }
}

/// How COPY's data look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyResponse<'a> {
    /// 0 text, 1 binary.
    pub format: u8,
    /// Of each column.
    pub columns: Formats<'a>,
}

/// What the target speaks instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegotiateProtocolVersion<'a> {
    /// The newest minor of major 3 that the target speaks.
    pub minor: u16,
    /// `_pq_.` options that it does not know.
    pub unknown: Mechanisms<'a>,
}

/// Type OIDs, where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Oids<'a> {
    oids: &'a [[u8; 4]],
}

impl<'a> Oids<'a> {
    /// In their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = u32> + Clone + use<'a> {
        self.oids.iter().map(|oid| u32::from_be_bytes(*oid))
    }
}

/// One column of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// As the client reads it.
    pub name: &'a [u8],
    /// 0 if the column is not of a table.
    pub table_oid: u32,
    /// Attribute number; 0 if the column is not of a table, negative for system columns.
    pub column: i16,
    /// Of its values.
    pub type_oid: u32,
    /// In bytes; negative where it differs from value to value.
    pub type_size: i16,
    /// Of the type, such as a length.
    pub type_modifier: i32,
    /// 0 text (and always 0 in the answer to Describe of a statement), 1 binary. Any other was asked for in Bind, and no row
    /// comes in it: the server refuses it when there is one to send.
    pub format: u16,
}

impl<'a> Field<'a> {
    fn read(r: &mut Reader<'a>) -> Result<Self, ReadError> {
        Ok(Field {
            name: r.cstr()?,
            table_oid: r.u32()?,
            column: r.i16()?,
            type_oid: r.u32()?,
            type_size: r.i16()?,
            type_modifier: r.i32()?,
            format: r.u16()?,
        })
    }
}

/// The columns of a result, where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowDescription<'a> {
    reader: Reader<'a>,
    left: usize,
}

impl<'a> Iterator for RowDescription<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        self.left = self.left.checked_sub(1)?;
        Field::read(&mut self.reader).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for RowDescription<'_> {}

/// The closed list: what a target may send at all.
pub fn is_known(tag: u8) -> bool {
    name(tag).is_some()
}

/// The message's name in the manual.
pub fn name(tag: u8) -> Option<&'static str> {
    Some(match tag {
        b'R' => "Authentication",
        b'K' => "BackendKeyData",
        b'2' => "BindComplete",
        b'3' => "CloseComplete",
        b'C' => "CommandComplete",
        b'W' => "CopyBothResponse",
        b'd' => "CopyData",
        b'c' => "CopyDone",
        b'G' => "CopyInResponse",
        b'H' => "CopyOutResponse",
        b'D' => "DataRow",
        b'I' => "EmptyQueryResponse",
        b'E' => "ErrorResponse",
        b'V' => "FunctionCallResponse",
        b'v' => "NegotiateProtocolVersion",
        b'n' => "NoData",
        b'N' => "NoticeResponse",
        b'A' => "NotificationResponse",
        b't' => "ParameterDescription",
        b'S' => "ParameterStatus",
        b'1' => "ParseComplete",
        b's' => "PortalSuspended",
        b'Z' => "ReadyForQuery",
        b'T' => "RowDescription",
        _ => return None,
    })
}

impl<'a> Backend<'a> {
    /// Reads a message whose frame is whole.
    pub fn decode(tag: u8, body: &'a [u8]) -> Result<Self, PeerMisbehaved> {
        let mut reader = Reader::new(body);
        let r = &mut reader;
        // Only what is wrong is called by its name; an unknown tag is told at the end.
        let message = || name(tag).unwrap_or("");
        let malformed = |error| PeerMisbehaved::malformed(message())(error);
        let bad = |field: &'static str, value: i64| PeerMisbehaved::BadField {
            message: message(),
            field,
            value,
        };
        let decoded = match tag {
            b'R' => Backend::Authentication(authentication(r)?),
            b'K' => {
                let pid = r.u32().map_err(&malformed)?;
                let key = r.rest();
                if key.len() < 4 || key.len() > KEY_BYTES_MAX {
                    return Err(bad("key length", i64::try_from(key.len()).unwrap_or(i64::MAX)));
                }
                Backend::BackendKeyData { pid, key }
            }
            b'2' => Backend::BindComplete,
            b'3' => Backend::CloseComplete,
            b'C' => Backend::CommandComplete {
                tag: r.cstr().map_err(&malformed)?,
            },
            b'W' => Backend::CopyBothResponse(copy_response(r, message())?),
            b'd' => Backend::CopyData(r.rest()),
            b'c' => Backend::CopyDone,
            b'G' => Backend::CopyInResponse(copy_response(r, message())?),
            b'H' => Backend::CopyOutResponse(copy_response(r, message())?),
            b'D' => Backend::DataRow(Values::read(r).map_err(&malformed)?),
            b'I' => Backend::EmptyQueryResponse,
            b'E' => Backend::ErrorResponse(report_fields(r).map_err(&malformed)?),
            b'V' => Backend::FunctionCallResponse(r.nullable_i32().map_err(&malformed)?),
            b'v' => Backend::NegotiateProtocolVersion(negotiate(r)?),
            b'n' => Backend::NoData,
            b'N' => Backend::NoticeResponse(report_fields(r).map_err(&malformed)?),
            b'A' => Backend::NotificationResponse {
                pid: r.u32().map_err(&malformed)?,
                channel: r.cstr().map_err(&malformed)?,
                payload: r.cstr().map_err(&malformed)?,
            },
            b't' => {
                let said = r.u16().map_err(&malformed)?;
                let (oids, rest) = r.rest().as_chunks::<4>();
                // A statement may have more parameters than the count can say (`$65536`): PostgreSQL then sends the count's low
                // 16 bits and all the types, so the body decides. Nothing else of a server wraps: columns of rows and of COPY end
                // at 1664, what a client sends is counted by itself.
                if !rest.is_empty() || oids.len() & 0xffff != usize::from(said) {
                    return Err(bad("number of parameters", i64::from(said)));
                }
                Backend::ParameterDescription(Oids { oids })
            }
            b'S' => Backend::ParameterStatus {
                name: r.cstr().map_err(&malformed)?,
                value: r.cstr().map_err(&malformed)?,
            },
            b'1' => Backend::ParseComplete,
            b's' => Backend::PortalSuspended,
            b'Z' => Backend::ReadyForQuery {
                status: match r.u8().map_err(&malformed)? {
                    b'I' => TransactionStatus::Idle,
                    b'T' => TransactionStatus::InTransaction,
                    b'E' => TransactionStatus::Failed,
                    other => return Err(bad("transaction status", i64::from(other))),
                },
            },
            b'T' => Backend::RowDescription(row_description(r)?),
            tag => return Err(PeerMisbehaved::UnknownMessage { tag }),
        };
        reader.finish().map_err(malformed)?;
        Ok(decoded)
    }
}

fn authentication<'a>(r: &mut Reader<'a>) -> Result<Authentication<'a>, PeerMisbehaved> {
    const MESSAGE: &str = "Authentication";
    let malformed = PeerMisbehaved::malformed(MESSAGE);
    Ok(match r.u32().map_err(&malformed)? {
        0 => Authentication::Ok,
        2 => Authentication::KerberosV5,
        3 => Authentication::CleartextPassword,
        5 => Authentication::Md5Password {
            salt: r.array().map_err(&malformed)?,
        },
        7 => Authentication::Gss,
        8 => Authentication::GssContinue(r.rest()),
        9 => Authentication::Sspi,
        10 => Authentication::Sasl(Mechanisms {
            reader: names_to_an_empty_one(r).map_err(&malformed)?,
        }),
        11 => Authentication::SaslContinue(r.rest()),
        12 => Authentication::SaslFinal(r.rest()),
        other => {
            return Err(PeerMisbehaved::BadField {
                message: MESSAGE,
                field: "kind",
                value: i64::from(other),
            });
        }
    })
}

/// Zero-terminated names; an empty one ends the list.
fn names_to_an_empty_one<'a>(r: &mut Reader<'a>) -> Result<Reader<'a>, ReadError> {
    let all = r.peek();
    loop {
        let before = r.left();
        if r.cstr()?.is_empty() {
            return Ok(Reader::new(
                all.get(..all.len().saturating_sub(before)).unwrap_or(&[]),
            ));
        }
    }
}

fn report_fields<'a>(r: &mut Reader<'a>) -> Result<ReportFields<'a>, ReadError> {
    let all = r.peek();
    loop {
        let before = r.left();
        if r.u8()? == 0 {
            return Ok(ReportFields {
                reader: Reader::new(all.get(..all.len().saturating_sub(before)).unwrap_or(&[])),
            });
        }
        r.cstr()?;
    }
}

fn copy_response<'a>(r: &mut Reader<'a>, message: &'static str) -> Result<CopyResponse<'a>, PeerMisbehaved> {
    let format = r.u8().map_err(PeerMisbehaved::malformed(message))?;
    if format > 1 {
        return Err(PeerMisbehaved::BadField {
            message,
            field: "format",
            value: i64::from(format),
        });
    }
    let columns = Formats::read(r).map_err(PeerMisbehaved::malformed(message))?;
    match columns.iter().find(|code| *code > 1) {
        None => Ok(CopyResponse { format, columns }),
        Some(code) => Err(PeerMisbehaved::BadField {
            message,
            field: "format",
            value: i64::from(code),
        }),
    }
}

fn negotiate<'a>(r: &mut Reader<'a>) -> Result<NegotiateProtocolVersion<'a>, PeerMisbehaved> {
    const MESSAGE: &str = "NegotiateProtocolVersion";
    let malformed = PeerMisbehaved::malformed(MESSAGE);
    let version = r.u32().map_err(&malformed)?;
    // The manual says "minor version", PostgreSQL sends major and minor.
    let [major_high, major_low, minor_high, minor_low] = version.to_be_bytes();
    let major = u16::from_be_bytes([major_high, major_low]);
    if major != 3 && major != 0 {
        return Err(PeerMisbehaved::BadField {
            message: MESSAGE,
            field: "version",
            value: i64::from(version),
        });
    }
    let minor = u16::from_be_bytes([minor_high, minor_low]);
    let count = r.u32().map_err(&malformed)?;
    let all = r.peek();
    for _ in 0..count {
        // Each takes at least its zero, so a count beyond the body ends here.
        r.cstr().map_err(&malformed)?;
    }
    let names = all.get(..all.len().saturating_sub(r.left())).unwrap_or(&[]);
    Ok(NegotiateProtocolVersion {
        minor,
        unknown: Mechanisms {
            reader: Reader::new(names),
        },
    })
}

fn row_description<'a>(r: &mut Reader<'a>) -> Result<RowDescription<'a>, PeerMisbehaved> {
    const MESSAGE: &str = "RowDescription";
    let malformed = PeerMisbehaved::malformed(MESSAGE);
    let count = usize::from(r.u16().map_err(&malformed)?);
    let all = r.peek();
    for _ in 0..count {
        Field::read(r).map_err(&malformed)?;
    }
    let fields = all.get(..all.len().saturating_sub(r.left())).unwrap_or(all);
    Ok(RowDescription {
        reader: Reader::new(fields),
        left: count,
    })
}

#[cfg(test)]
mod tests;
