//! What is said to a target beside its session, on a connection of its own: a cancel request, a KILL QUERY. Sans-IO: whoever
//! drives it knows sockets and TLS, and no protocol.

use headgate_plane::TargetSpec;
use std::fmt::Debug;
use std::sync::Arc;

/// One short conversation with a target.
pub trait SideDialogue: Debug + Send {
    /// The target's next bytes, in the clear; none at first and when TLS has been begun. Words of ours go into `out`.
    fn advance(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Progress;
}

/// How far a dialogue is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The target speaks next.
    More,
    /// TLS begins behind what is in `out`. What the dialogue says next goes only when the target has proved itself.
    StartTls,
    /// All is said with what is in `out`: the target closes when it has acted.
    Said,
    /// It came to nothing.
    Failed(String),
}

/// A cancel on its way to a target.
#[derive(Debug)]
pub struct SideCancel {
    /// Where it is said.
    pub target: Arc<TargetSpec>,
    /// Alike for the cancels of one session: of two that wait, one is enough.
    pub token: Vec<u8>,
    /// What is said.
    pub dialogue: Box<dyn SideDialogue>,
}
