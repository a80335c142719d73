//! The two doors of a session, and what opens them.
//!
//! A statement's bytes reach the target only as [`Permitted`], which only a verdict of allow or a spent approval makes.
//! The target's bytes reach the client only as [`Masked`], which only the modules of masking make.

use headgate_plane::{Answer, Effect, QuestionDigest};
use headgate_policy::Verdict;

/// Bytes of a statement that may go to the target: the very bytes that were judged.
pub struct Permitted<'a> {
    bytes: &'a [u8],
}

impl<'a> Permitted<'a> {
    /// `None` unless the verdict is allow.
    pub fn by_verdict(verdict: &Verdict, bytes: &'a [u8]) -> Option<Permitted<'a>> {
        (verdict.effect == Effect::Allow).then_some(Permitted { bytes })
    }

    /// Spends an answer: `None` unless it approves exactly what `digest` covers. The answer is consumed.
    pub fn by_approval(answer: Answer, digest: QuestionDigest, bytes: &'a [u8]) -> Option<Permitted<'a>> {
        match answer {
            Answer::Approved { digest: approved, .. } if approved == digest => Some(Permitted { bytes }),
            _ => None,
        }
    }

    /// Parse of a statement that will be held when it is bound: the target reads it, nothing runs. `None` on deny.
    pub fn to_be_described(verdict: &Verdict, bytes: &'a [u8]) -> Option<Permitted<'a>> {
        (verdict.effect != Effect::Deny).then_some(Permitted { bytes })
    }
}

/// The way to the target.
pub struct TargetDoor<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> TargetDoor<'a> {
    pub fn new(out: &'a mut Vec<u8>) -> TargetDoor<'a> {
        TargetDoor { out }
    }

    pub fn send(&mut self, permitted: Permitted<'_>) {
        self.out.extend_from_slice(permitted.bytes);
    }

    /// Messages that carry no statement: Sync, Flush, Describe, Close, Execute of a portal whose Bind was permitted, COPY
    /// data of a COPY that was permitted (the target ignores it anywhere else), Terminate.
    pub fn pass(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Our own words.
    pub fn own(&mut self) -> &mut Vec<u8> {
        self.out
    }
}

/// Bytes of a reply that the client may read.
pub struct Masked<'a>(&'a [u8]);

impl<'a> Masked<'a> {
    /// Messages that carry no data of the target's tables: completion, readiness, descriptions.
    pub(crate) fn carries_no_values(bytes: &'a [u8]) -> Masked<'a> {
        Masked(bytes)
    }

    /// What the mask plan let through or rewrote.
    pub(crate) fn by_plan(bytes: &'a [u8]) -> Masked<'a> {
        Masked(bytes)
    }

    pub fn bytes(&self) -> &[u8] {
        self.0
    }
}

/// The way to the client.
pub struct ClientDoor<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> ClientDoor<'a> {
    pub fn new(out: &'a mut Vec<u8>) -> ClientDoor<'a> {
        ClientDoor { out }
    }

    pub fn send(&mut self, masked: &Masked<'_>) {
        self.out.extend_from_slice(masked.0);
    }

    /// Our own words.
    pub fn own(&mut self) -> &mut Vec<u8> {
        self.out
    }
}
