//! Errors, notices, notifications, parameter status and EXPLAIN lines: data channels beside the rows.

use crate::caller::Caller;

/// The fields of one ErrorResponse or NoticeResponse, made fit for the caller. `touches`: [`crate::Exposure::touches`] of
/// the statement that caused it, or true if that is not known.
pub fn scrub_report<'a>(
    caller: &Caller,
    touches: bool,
    fields: impl Iterator<Item = (u8, &'a [u8])>,
    out: &mut Vec<(u8, Vec<u8>)>,
) {
    for (code, value) in fields {
        if caller.is_free() || (!touches && matches!(code, b'S' | b'V' | b'C')) {
            out.push((code, value.to_vec()));
        }
    }
}

/// A NotificationResponse payload, an EXPLAIN line, a ParameterStatus value: what the detectors find is covered.
/// `None`: nothing to cover, forward as it is.
pub fn scrub_text(caller: &Caller, _text: &[u8]) -> Option<Vec<u8>> {
    if caller.is_free() { None } else { Some(Vec::new()) }
}
