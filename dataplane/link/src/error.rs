//! What keeps the link's executor from running, and what ends one connection of it.

use headgate_plane::envelope::EnvelopeError;
use std::fmt;

#[derive(Debug)]
pub enum LinkError {
    /// The executor did not start or ended badly. Most often RLIMIT_MEMLOCK is below 512 KiB.
    Executor { detail: String },
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Executor { detail } => write!(
                f,
                "the link's executor does not run ({detail}); it needs io_uring and RLIMIT_MEMLOCK of at least 512 KiB: set LimitMEMLOCK=infinity"
            ),
        }
    }
}

impl std::error::Error for LinkError {}

/// Why a connection to the control plane ended.
#[derive(Debug)]
pub(crate) enum Broken {
    Connect(String),
    Read(String),
    Write(String),
    /// The control plane closed it.
    Ended,
    Envelope(EnvelopeError),
    /// No Welcome, or a write that did not move, within the bound.
    Silent,
    Version {
        theirs: u32,
    },
    Stopping,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Broken::Connect(e) => write!(f, "the control plane cannot be reached: {e}"),
            Broken::Read(e) => write!(f, "reading failed: {e}"),
            Broken::Write(e) => write!(f, "writing failed: {e}"),
            Broken::Ended => f.write_str("the control plane closed the link"),
            Broken::Envelope(e) => write!(f, "{e}"),
            Broken::Silent => f.write_str("the control plane is silent"),
            Broken::Version { theirs } => write!(
                f,
                "the control plane speaks link version {theirs}, this data plane {}: run both from one release",
                headgate_plane::LINK_VERSION
            ),
            Broken::Stopping => f.write_str("stopping"),
        }
    }
}
