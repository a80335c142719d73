//! The one door to io_uring: sockets of a core, behind the seam of [`seam`].

pub mod seam;

pub use seam::{End, Handler, Io, ListenerId, PAUSE_SLACK_BYTES, SocketId, WakeFd};
