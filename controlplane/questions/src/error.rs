//! Why the desk refused, one variant per thing that happened.

use crate::state::State;
use headgate_plane::QuestionNumber;
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeskError {
    Unknown,
    /// The question's own digest is not the SHA-256 of its fields: what would be shown is not what would be spent.
    DigestMismatch,
    /// This session and statement number were asked before, with other bytes.
    KeyReused {
        number: QuestionNumber,
    },
    NotOpen {
        number: QuestionNumber,
        state: State,
    },
    DeadlinePassed {
        number: QuestionNumber,
    },
    NotAReviewer,
    OwnQuestion,
    ThroughAnActor {
        actor: String,
    },
    AlreadyVoted,
    ReasonTooLong {
        bytes: usize,
        max: usize,
    },
    TooLarge {
        bytes: usize,
        max: usize,
    },
    TooManyOpen {
        max: usize,
    },
    TooManyOfSession {
        max: usize,
    },
    TooManyOfPrincipal {
        max: usize,
    },
    /// It was judged by rules that are no longer, or not yet, in force here.
    OtherRules,
    TooMuchHeld {
        max: usize,
    },
    Store(String),
}

impl fmt::Display for DeskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeskError::Unknown => f.write_str("there is no such question"),
            DeskError::DigestMismatch => f.write_str("the question's digest does not match what it shows"),
            DeskError::KeyReused { number } => {
                write!(f, "the key of {number} was used again for another statement")
            }
            DeskError::NotOpen { number, state } => {
                write!(f, "{number} is {}, not open", state.name().replace('_', " "))
            }
            DeskError::DeadlinePassed { number } => write!(f, "the deadline of {number} has passed"),
            DeskError::NotAReviewer => f.write_str("this identity is not among the question's reviewers"),
            DeskError::OwnQuestion => {
                f.write_str("nobody answers a question that they, or an actor of theirs, asked")
            }
            DeskError::ThroughAnActor { actor } => {
                write!(f, "{actor} acts for somebody else; a person has to answer")
            }
            DeskError::AlreadyVoted => {
                f.write_str("this person has already said yes; the quorum wants different people")
            }
            DeskError::ReasonTooLong { bytes, max } => {
                write!(f, "the reason has {bytes} bytes, more than {max}")
            }
            DeskError::TooLarge { bytes, max } => write!(
                f,
                "the statement and its parameters have {bytes} bytes, more than {max}"
            ),
            DeskError::TooManyOpen { max } => write!(f, "{max} questions are open already"),
            DeskError::TooManyOfSession { max } => write!(f, "the session has {max} open questions already"),
            DeskError::TooManyOfPrincipal { max } => {
                write!(
                    f,
                    "the principal has {max} open questions already that nobody waits for"
                )
            }
            DeskError::OtherRules => f.write_str("the rules have just changed; send the statement again"),
            DeskError::TooMuchHeld { max } => write!(f, "the open questions hold more than {max} bytes"),
            DeskError::Store(detail) => write!(f, "the store failed: {detail}"),
        }
    }
}

impl std::error::Error for DeskError {}
