//! How long an event can get, known before it is built: room is asked for by the bytes that will be written.
//!
//! What others say (names, errors, reasons, tags) is cut to the lengths here when it is written, at the border of a
//! character, so that the bounds hold whatever comes. Texts of statements, what they stand for, rules, verbs, resources
//! and identities are never cut: who writes them knows how long they are.
//!
//! The end of a statement, asked for before the statement is forwarded: [`statement_end`] of the longest error message that
//! will be kept and of the longest reply that goes into the end. A longer message is to be cut by the caller; one longer
//! than [`ERROR_MESSAGE_BYTES_MAX`] is cut in any case.

/// Of a prepared statement's name, of target, user and address of a sign-in that was refused.
pub const NAME_BYTES_MAX: usize = 256;
/// Of the target's word of completion.
pub const TAG_BYTES_MAX: usize = 256;
/// Of an error's code.
pub const ERROR_CODE_BYTES_MAX: usize = 64;
/// Of an error's message.
pub const ERROR_MESSAGE_BYTES_MAX: usize = 4 << 10;
/// Of a reviewer's reason, a close's, a refusal's, a CopyFail's.
pub const REASON_BYTES_MAX: usize = 1 << 10;

/// Of one value, and of all values of one statement, as much is recorded; approvals bind the whole by digest all the same.
pub const VALUE_BYTES_MAX: usize = 64 << 10;
/// Of all values of one statement.
pub const VALUES_BYTES_MAX: usize = 128 << 10;

/// The length before a string or a value: up to 32 GiB.
const LENGTH: usize = 5;
const U32: usize = 5;
const U64: usize = 10;
const FLAG: usize = 1;
/// Session, sequence number, time, kind: what every event begins with.
pub const HEAD_BYTES_MAX: usize = 19 + U32 + U64 + 1;

/// A statement's event without text, what it stands for, parameters, rule, verbs and resources. With them:
/// [`crate::BodyRef::size_bound`], which reads lengths only.
pub const STATEMENT_FIXED_BYTES_MAX: usize = HEAD_BYTES_MAX + 2 * U32 + 3 * LENGTH + TAIL_FIXED_BYTES_MAX;
/// A prepared text's event without text, rule, verbs and resources.
pub const PREPARED_FIXED_BYTES_MAX: usize =
    HEAD_BYTES_MAX + U32 + 2 * LENGTH + NAME_BYTES_MAX + TAIL_FIXED_BYTES_MAX;
/// Verdict, rule's length, epoch, class, and the lengths of the two lists.
const TAIL_FIXED_BYTES_MAX: usize = 1 + LENGTH + U64 + 3 + 2 * LENGTH;
/// A parameter without its value: its arm and that arm's fields, whether it is there, its length.
pub const PARAMETER_FIXED_BYTES_MAX: usize = 1 + U32 + 3 + FLAG + LENGTH;
/// A piece of data without the data.
pub const STREAM_FIXED_BYTES_MAX: usize = HEAD_BYTES_MAX + U32 + 1 + U64 + LENGTH;
/// The whole end of a direction's data.
pub const STREAM_END_BYTES_MAX: usize =
    HEAD_BYTES_MAX + U32 + 1 + 2 * U64 + 32 + FLAG + 1 + LENGTH + REASON_BYTES_MAX;
/// The end of a statement without tag, error and reply.
pub const STATEMENT_END_FIXED_BYTES_MAX: usize =
    HEAD_BYTES_MAX + U32 + 1 + 4 * U64 + LENGTH + 2 * FLAG + LENGTH + ROUND;
/// The encoder of hot events stores numbers in one block of 96 bytes, which must fit even where few of them are written.
const ROUND: usize = 4;
const _: () = assert!(STATEMENT_END_FIXED_BYTES_MAX >= crate::hot::NUMBERS_BYTES);
/// An error's code and message, with their lengths, without the message itself.
pub const ERROR_FIXED_BYTES_MAX: usize = 2 * LENGTH + ERROR_CODE_BYTES_MAX;
/// The whole end of a statement whose reply is empty.
pub const STATEMENT_END_BYTES_MAX: usize = statement_end(ERROR_MESSAGE_BYTES_MAX, 0);
/// An answer without its reviewers: see [`texts`]. Whole where there are none, as when a question is withdrawn.
pub const ANSWERED_FIXED_BYTES_MAX: usize =
    HEAD_BYTES_MAX + U32 + U64 + 1 + LENGTH + LENGTH + REASON_BYTES_MAX + 32;
/// The whole close of a session.
pub const SESSION_CLOSE_BYTES_MAX: usize = HEAD_BYTES_MAX + LENGTH + REASON_BYTES_MAX + U32 + 2 * U64;
/// The whole of a refused sign-in.
pub const SIGN_IN_REFUSED_BYTES_MAX: usize =
    HEAD_BYTES_MAX + 4 * LENGTH + 3 * NAME_BYTES_MAX + REASON_BYTES_MAX;
/// The opening of a session without its texts: who (six), target, environment, role, credential, the target's session.
pub const SESSION_OPEN_FIXED_BYTES_MAX: usize = HEAD_BYTES_MAX + 11 * LENGTH + U64 + 1;

/// The end of a statement, whatever its tag and code, with an error message of at most `message_bytes` (0: no error) and
/// `reply_bytes` in the event itself.
pub const fn statement_end(message_bytes: usize, reply_bytes: usize) -> usize {
    let message = if message_bytes < ERROR_MESSAGE_BYTES_MAX {
        message_bytes
    } else {
        ERROR_MESSAGE_BYTES_MAX
    };
    STATEMENT_END_FIXED_BYTES_MAX + TAG_BYTES_MAX + ERROR_FIXED_BYTES_MAX + message + reply_bytes
}

/// Texts in a row with the lengths before them, but not the list's own.
pub fn texts<T: AsRef<[u8]>>(list: &[T]) -> usize {
    list.iter().map(|text| text.as_ref().len() + LENGTH).sum()
}

/// A text, not longer than `max` bytes, whole characters only.
#[inline]
pub(crate) fn cut(text: &str, max: usize) -> &str {
    if text.len() <= max {
        return text;
    }
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

/// Bytes, not more than `max`.
pub(crate) fn cut_bytes(bytes: &[u8], max: usize) -> &[u8] {
    bytes.get(..max).unwrap_or(bytes)
}
