//! Messages of both directions, appended to a `Vec<u8>`.
//!
//! Invariant: a function that fails leaves `out` as it was. Every length and count is checked; none can wrap.
//! Spec: "Message Formats".

use crate::backend::{Field, TransactionStatus};
use crate::frontend::Kind;
use headgate_wire::WriteError;
use headgate_wire::write::{
    counted_i32, len_i16, len_i32, len_u16, put_cstr, put_i16, put_i32, put_nullable_i32, put_u16, put_u32,
};

/// What stands for a version in SSLRequest.
pub const SSL_REQUEST_CODE: u32 = 80_877_103;
/// What stands for a version in CancelRequest.
pub const CANCEL_REQUEST_CODE: u32 = 80_877_102;
/// What stands for a version in GSSENCRequest.
pub const GSSENC_REQUEST_CODE: u32 = 80_877_104;

type Written = Result<(), WriteError>;

/// A tag, the length, and what `body` appends.
pub fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>) -> Written) -> Written {
    let start = out.len();
    out.push(tag);
    counted_i32(out, body).inspect_err(|_| out.truncate(start))
}

/// A message whose body is these bytes.
pub fn raw(out: &mut Vec<u8>, tag: u8, body: &[u8]) -> Written {
    len_i32(body.len().saturating_add(4))?;
    message(out, tag, |out| {
        out.extend_from_slice(body);
        Ok(())
    })
}

// From client to target.

/// A start-up packet.
pub fn startup<N: AsRef<str>, V: AsRef<str>>(
    out: &mut Vec<u8>,
    minor: u16,
    parameters: &[(N, V)],
) -> Written {
    counted_i32(out, |out| {
        put_u32(out, (3 << 16) | u32::from(minor));
        for (name, value) in parameters {
            put_cstr(out, name.as_ref().as_bytes())?;
            put_cstr(out, value.as_ref().as_bytes())?;
        }
        out.push(0);
        Ok(())
    })
}

/// SSLRequest.
pub fn ssl_request(out: &mut Vec<u8>) {
    put_i32(out, 8);
    put_u32(out, SSL_REQUEST_CODE);
}

/// GSSENCRequest.
pub fn gssenc_request(out: &mut Vec<u8>) {
    put_i32(out, 8);
    put_u32(out, GSSENC_REQUEST_CODE);
}

/// CancelRequest.
pub fn cancel_request(out: &mut Vec<u8>, pid: u32, key: &[u8]) -> Written {
    counted_i32(out, |out| {
        put_u32(out, CANCEL_REQUEST_CODE);
        put_u32(out, pid);
        out.extend_from_slice(key);
        Ok(())
    })
}

/// PasswordMessage.
pub fn password(out: &mut Vec<u8>, password: &[u8]) -> Written {
    message(out, b'p', |out| put_cstr(out, password))
}

/// SASLInitialResponse.
pub fn sasl_initial_response(out: &mut Vec<u8>, mechanism: &str, response: &[u8]) -> Written {
    message(out, b'p', |out| {
        put_cstr(out, mechanism.as_bytes())?;
        put_nullable_i32(out, Some(response))
    })
}

/// SASLResponse.
pub fn sasl_response(out: &mut Vec<u8>, response: &[u8]) -> Written {
    raw(out, b'p', response)
}

/// Query.
pub fn query(out: &mut Vec<u8>, text: &[u8]) -> Written {
    message(out, b'Q', |out| put_cstr(out, text))
}

/// Parse.
pub fn parse(out: &mut Vec<u8>, name: &[u8], text: &[u8], types: &[u32]) -> Written {
    message(out, b'P', |out| {
        put_cstr(out, name)?;
        put_cstr(out, text)?;
        put_u16(out, len_u16(types.len())?);
        types.iter().for_each(|oid| put_u32(out, *oid));
        Ok(())
    })
}

/// `parameters` as values in text or binary, as `parameter_formats` says (none: text; one: all; else one each).
pub fn bind<'v>(
    out: &mut Vec<u8>,
    portal: &[u8],
    statement: &[u8],
    parameter_formats: &[u16],
    parameters: impl ExactSizeIterator<Item = Option<&'v [u8]>>,
    result_formats: &[u16],
) -> Written {
    message(out, b'B', |out| {
        put_cstr(out, portal)?;
        put_cstr(out, statement)?;
        put_formats(out, parameter_formats)?;
        put_values(out, parameters)?;
        put_formats(out, result_formats)
    })
}

/// Execute; 0 rows are all of them.
pub fn execute(out: &mut Vec<u8>, portal: &[u8], max_rows: i32) -> Written {
    message(out, b'E', |out| {
        put_cstr(out, portal)?;
        put_i32(out, max_rows);
        Ok(())
    })
}

/// Describe.
pub fn describe(out: &mut Vec<u8>, kind: Kind, name: &[u8]) -> Written {
    message(out, b'D', |out| {
        out.push(kind.letter());
        put_cstr(out, name)
    })
}

/// Close.
pub fn close(out: &mut Vec<u8>, kind: Kind, name: &[u8]) -> Written {
    message(out, b'C', |out| {
        out.push(kind.letter());
        put_cstr(out, name)
    })
}

/// Sync.
pub fn sync(out: &mut Vec<u8>) {
    out.extend_from_slice(b"S\0\0\0\x04");
}

/// Flush.
pub fn flush(out: &mut Vec<u8>) {
    out.extend_from_slice(b"H\0\0\0\x04");
}

/// Terminate.
pub fn terminate(out: &mut Vec<u8>) {
    out.extend_from_slice(b"X\0\0\0\x04");
}

/// An error for a client of protocol 2 or older, which knows only a text. From target to client.
pub fn error_of_protocol_2(out: &mut Vec<u8>, severity: &str, text: &str) {
    out.push(b'E');
    out.extend(format!("{severity}:  {text}\n").bytes().filter(|byte| *byte != 0));
    out.push(0);
}

/// CopyFail.
pub fn copy_fail(out: &mut Vec<u8>, reason: &[u8]) -> Written {
    message(out, b'f', |out| put_cstr(out, reason))
}

// Either way.

/// CopyData.
pub fn copy_data(out: &mut Vec<u8>, data: &[u8]) -> Written {
    raw(out, b'd', data)
}

/// CopyDone.
pub fn copy_done(out: &mut Vec<u8>) {
    out.extend_from_slice(b"c\0\0\0\x04");
}

// From target to client.

/// AuthenticationOk.
pub fn authentication_ok(out: &mut Vec<u8>) {
    out.extend_from_slice(b"R\0\0\0\x08\0\0\0\0");
}

/// AuthenticationCleartextPassword.
pub fn authentication_cleartext_password(out: &mut Vec<u8>) {
    out.extend_from_slice(b"R\0\0\0\x08\0\0\0\x03");
}

/// AuthenticationMD5Password.
pub fn authentication_md5_password(out: &mut Vec<u8>, salt: [u8; 4]) {
    out.extend_from_slice(b"R\0\0\0\x0c\0\0\0\x05");
    out.extend_from_slice(&salt);
}

/// AuthenticationSASL.
pub fn authentication_sasl(out: &mut Vec<u8>, mechanisms: &[&str]) -> Written {
    message(out, b'R', |out| {
        put_u32(out, 10);
        for mechanism in mechanisms {
            put_cstr(out, mechanism.as_bytes())?;
        }
        out.push(0);
        Ok(())
    })
}

/// AuthenticationSASLContinue.
pub fn authentication_sasl_continue(out: &mut Vec<u8>, data: &[u8]) -> Written {
    message(out, b'R', |out| {
        put_u32(out, 11);
        out.extend_from_slice(data);
        Ok(())
    })
}

/// AuthenticationSASLFinal.
pub fn authentication_sasl_final(out: &mut Vec<u8>, data: &[u8]) -> Written {
    message(out, b'R', |out| {
        put_u32(out, 12);
        out.extend_from_slice(data);
        Ok(())
    })
}

/// ParameterStatus.
pub fn parameter_status(out: &mut Vec<u8>, name: &[u8], value: &[u8]) -> Written {
    message(out, b'S', |out| {
        put_cstr(out, name)?;
        put_cstr(out, value)
    })
}

/// BackendKeyData.
pub fn backend_key_data(out: &mut Vec<u8>, pid: u32, key: &[u8]) -> Written {
    message(out, b'K', |out| {
        put_u32(out, pid);
        out.extend_from_slice(key);
        Ok(())
    })
}

/// ReadyForQuery.
pub fn ready_for_query(out: &mut Vec<u8>, status: TransactionStatus) {
    out.extend_from_slice(&[b'Z', 0, 0, 0, 5, status.letter()]);
}

/// `minor` of major 3, written with its major as PostgreSQL does.
pub fn negotiate_protocol_version<N: AsRef<str>>(out: &mut Vec<u8>, minor: u16, unknown: &[N]) -> Written {
    message(out, b'v', |out| {
        put_u32(out, (3 << 16) | u32::from(minor));
        put_i32(out, len_i32(unknown.len())?);
        unknown
            .iter()
            .try_for_each(|name| put_cstr(out, name.as_ref().as_bytes()))
    })
}

/// ParseComplete.
pub fn parse_complete(out: &mut Vec<u8>) {
    out.extend_from_slice(b"1\0\0\0\x04");
}

/// BindComplete.
pub fn bind_complete(out: &mut Vec<u8>) {
    out.extend_from_slice(b"2\0\0\0\x04");
}

/// CloseComplete.
pub fn close_complete(out: &mut Vec<u8>) {
    out.extend_from_slice(b"3\0\0\0\x04");
}

/// NoData.
pub fn no_data(out: &mut Vec<u8>) {
    out.extend_from_slice(b"n\0\0\0\x04");
}

/// EmptyQueryResponse.
pub fn empty_query_response(out: &mut Vec<u8>) {
    out.extend_from_slice(b"I\0\0\0\x04");
}

/// PortalSuspended.
pub fn portal_suspended(out: &mut Vec<u8>) {
    out.extend_from_slice(b"s\0\0\0\x04");
}

/// CommandComplete.
pub fn command_complete(out: &mut Vec<u8>, tag: &[u8]) -> Written {
    message(out, b'C', |out| put_cstr(out, tag))
}

/// NotificationResponse.
pub fn notification(out: &mut Vec<u8>, pid: u32, channel: &[u8], payload: &[u8]) -> Written {
    message(out, b'A', |out| {
        put_u32(out, pid);
        put_cstr(out, channel)?;
        put_cstr(out, payload)
    })
}

/// ParameterDescription.
pub fn parameter_description(out: &mut Vec<u8>, types: &[u32]) -> Written {
    message(out, b't', |out| {
        put_u16(out, len_u16(types.len())?);
        types.iter().for_each(|oid| put_u32(out, *oid));
        Ok(())
    })
}

/// RowDescription.
pub fn row_description<'f>(out: &mut Vec<u8>, fields: impl ExactSizeIterator<Item = Field<'f>>) -> Written {
    message(out, b'T', |out| {
        put_i16(out, len_i16(fields.len())?);
        for field in fields {
            put_cstr(out, field.name)?;
            put_u32(out, field.table_oid);
            put_i16(out, field.column);
            put_u32(out, field.type_oid);
            put_i16(out, field.type_size);
            put_i32(out, field.type_modifier);
            put_u16(out, field.format);
        }
        Ok(())
    })
}

/// DataRow.
pub fn data_row<'v>(out: &mut Vec<u8>, values: impl ExactSizeIterator<Item = Option<&'v [u8]>>) -> Written {
    message(out, b'D', |out| put_values(out, values))
}

/// CopyInResponse `G`, CopyOutResponse `H` or CopyBothResponse `W`.
pub fn copy_response(out: &mut Vec<u8>, tag: u8, format: u8, columns: &[u16]) -> Written {
    message(out, tag, |out| {
        out.push(format);
        put_formats(out, columns)
    })
}

/// FunctionCallResponse.
pub fn function_call_response(out: &mut Vec<u8>, value: Option<&[u8]>) -> Written {
    message(out, b'V', |out| put_nullable_i32(out, value))
}

fn put_formats(out: &mut Vec<u8>, formats: &[u16]) -> Written {
    put_u16(out, len_u16(formats.len())?);
    formats.iter().for_each(|format| put_u16(out, *format));
    Ok(())
}

fn put_values<'v>(out: &mut Vec<u8>, mut values: impl ExactSizeIterator<Item = Option<&'v [u8]>>) -> Written {
    put_u16(out, len_u16(values.len())?);
    values.try_for_each(|value| put_nullable_i32(out, value))
}
