//! What may go to the target. A message is a [`Subject`] until it is permitted, and a permit sends its bytes and no others.

use crate::clearance::room::Recorded;
use headgate_plane::{Answer, Effect, QuestionDigest};
use headgate_policy::Verdict;

/// One message of a client that is to be judged.
#[derive(Clone, Copy)]
pub struct Subject<'m> {
    wire: &'m [u8],
}

/// By what a subject may go.
pub enum Leave<'a> {
    Verdict(&'a Verdict),
    /// Parse of a statement that will be held when it is bound: the target reads it, nothing runs.
    ToBePrepared(&'a Verdict),
    /// Spends an answer: it must approve exactly what `digest` covers.
    Approval {
        answer: Answer,
        digest: QuestionDigest,
    },
}

/// Bytes of a statement that may go to the target: the very bytes that were judged, and that are recorded.
pub struct Permitted<'m> {
    bytes: &'m [u8],
}

impl<'m> Subject<'m> {
    /// `wire`: the whole message, as it will be sent.
    pub fn new(wire: &'m [u8]) -> Subject<'m> {
        Subject { wire }
    }

    /// The only maker of permits. `None` where the leave gives none.
    #[inline]
    pub fn permit(self, leave: Leave<'_>, _recorded: Recorded) -> Option<Permitted<'m>> {
        let permitted = match leave {
            Leave::Verdict(verdict) => verdict.effect == Effect::Allow,
            Leave::ToBePrepared(verdict) => verdict.effect != Effect::Deny,
            Leave::Approval {
                answer: Answer::Approved { digest: approved, .. },
                digest,
            } => approved == digest,
            Leave::Approval { .. } => false,
        };
        permitted.then_some(Permitted { bytes: self.wire })
    }
}

impl Permitted<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes
    }
}
