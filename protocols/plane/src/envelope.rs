//! The link: a Unix stream socket, each message a big-endian u32 length and a postcard body.
//!
//! Bounds: a message is at most [`MESSAGE_BYTES_MAX`]; a longer one ends the link.

use crate::grant::{Grant, Refusal, SignIn, Who};
use crate::ids::{Epoch, QuestionKey, SessionId};
use crate::question::{Answer, Asked, Question, Withdrawal};
use crate::snapshot::Snapshot;
use headgate_wire::frame::{self, HEAD_BYTES, TooLong};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::sync::Arc;

/// Raised with every change of a type in this crate; both sides must agree exactly.
pub const LINK_VERSION: u32 = 4;

/// No message is longer.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What a data plane says to the control plane.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToControl {
    /// First message after each connect. The control plane answers with [`ToData::Welcome`] and the snapshot.
    Hello {
        /// [`LINK_VERSION`] of this side.
        version: u32,
        /// What the machine is called.
        appliance: String,
        /// Another number for each start of the process.
        boot: u128,
        /// The snapshot that it has; 0 for none.
        epoch: Epoch,
    },
    /// Somebody wants in. Answered by [`ToData::SignedIn`].
    SignIn(Box<SignIn>),
    /// Also sent again after a reconnect for every question that still waits: the key makes it idempotent. A question whose
    /// client does not wait is answered at once, with [`ToData::Asked`] and [`ToData::Answer`]; an approval that lies ready is
    /// claimed for this key, on disk, before the answer goes out.
    Ask(Box<Question>),
    /// Nobody waits with this key any more. A claim that it had goes back, and a question that its client does not wait for
    /// stands.
    Withdraw {
        /// Of the question.
        key: QuestionKey,
        /// For what reason.
        why: Withdrawal,
    },
    /// The approval was spent: exactly what was approved has been handed to the target.
    Spent {
        /// Of the question.
        key: QuestionKey,
    },
    /// For the list of live sessions and for revocation. Sent again for all after a reconnect.
    SessionOpened {
        /// Which.
        session: SessionId,
        /// Whose.
        who: Who,
        /// On what.
        target: String,
        /// Which credential proved it.
        credential_id: String,
        /// When it began.
        started_unix_ms: u64,
    },
    /// A session is over.
    SessionClosed {
        /// Which.
        session: SessionId,
    },
    /// Once a second: Prometheus-like counters and gauges of the data plane, by name.
    Metrics {
        /// Names and values.
        values: Vec<(String, f64)>,
    },
}

/// What the control plane says to a data plane.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToData {
    /// The answer to Hello.
    Welcome {
        /// [`LINK_VERSION`] of that side.
        version: u32,
    },
    /// Replaces the one before. Applied by each core between two statements.
    Snapshot(Arc<Snapshot>),
    /// Whether somebody is let in.
    SignedIn {
        /// Who asked.
        session: SessionId,
        /// With what, or why not.
        result: Result<Box<Grant>, Refusal>,
    },
    /// A question has its number.
    Asked(Asked),
    /// A question has its answer.
    Answer {
        /// Of the question.
        key: QuestionKey,
        /// How it was answered.
        answer: Answer,
    },
    /// Ends these sessions at once (57P01 to the client).
    Revoke {
        /// Which.
        sessions: Vec<SessionId>,
        /// For the recording.
        reason: String,
    },
}

/// Why a message cannot be sent or read.
#[derive(Debug, PartialEq, Eq)]
pub enum EnvelopeError {
    /// It has more bytes than a message may have.
    TooLong { bytes: usize, max: usize },
    /// The bytes are no message.
    Malformed,
}

impl std::fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            EnvelopeError::TooLong { bytes, max } => {
                write!(f, "a link message of {bytes} bytes is longer than {max}")
            }
            EnvelopeError::Malformed => f.write_str("a link message cannot be read"),
        }
    }
}

impl std::error::Error for EnvelopeError {}

impl From<TooLong> for EnvelopeError {
    fn from(TooLong { bytes, max }: TooLong) -> Self {
        EnvelopeError::TooLong { bytes, max }
    }
}

/// How many bytes of a message follow its length.
pub fn body_bytes(head: [u8; HEAD_BYTES]) -> Result<usize, EnvelopeError> {
    Ok(frame::body_bytes(head, MESSAGE_BYTES_MAX)?)
}

/// Appends one framed message to `out`.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), EnvelopeError> {
    let mut framed =
        postcard::to_extend(message, vec![0; HEAD_BYTES]).map_err(|_| EnvelopeError::Malformed)?;
    frame::seal(&mut framed, MESSAGE_BYTES_MAX)?;
    out.append(&mut framed);
    Ok(())
}

/// Reads one message from the front of `bytes`: the message and how many bytes it took, or `None` if more must come.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<Option<(T, usize)>, EnvelopeError> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let Some(body) = rest.get(..body_bytes(*head)?) else {
        return Ok(None);
    };
    let message = postcard::from_bytes(body).map_err(|_| EnvelopeError::Malformed)?;
    Ok(Some((message, HEAD_BYTES + body.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back_and_a_cut_one_waits() {
        let mut out = Vec::new();
        let message = ToControl::SessionClosed {
            session: SessionId(7),
        };
        encode(&message, &mut out).unwrap();
        for cut in 0..out.len() {
            assert!(decode::<ToControl>(&out[..cut]).unwrap().is_none());
        }
        let (back, used) = decode::<ToControl>(&out).unwrap().unwrap();
        assert_eq!(used, out.len());
        assert!(matches!(
            back,
            ToControl::SessionClosed {
                session: SessionId(7)
            }
        ));
    }

    #[test]
    fn a_length_beyond_the_bound_is_named() {
        let bytes = (MESSAGE_BYTES_MAX as u32 + 1).to_be_bytes();
        assert!(matches!(
            decode::<ToData>(&bytes),
            Err(EnvelopeError::TooLong { .. })
        ));
    }
}
