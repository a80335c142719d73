//! What ends a run.

use std::fmt;

#[derive(Debug)]
pub enum LoadFailed {
    Io {
        what: &'static str,
        error: std::io::Error,
    },
    /// The endpoint closed a session that was not done.
    Closed {
        session: usize,
    },
    /// The endpoint answered with an ErrorResponse.
    Refused {
        session: usize,
        sqlstate: String,
        message: String,
    },
    /// What came does not follow the protocol.
    Misbehaved {
        session: usize,
        what: &'static str,
    },
    /// The sessions were not all signed in in time.
    TooSlow {
        ready: usize,
        sessions: usize,
    },
    /// No statement came back in the window.
    Nothing,
    Usage(String),
}

impl LoadFailed {
    pub fn io(what: &'static str) -> impl Fn(std::io::Error) -> LoadFailed {
        move |error| LoadFailed::Io { what, error }
    }
}

impl fmt::Display for LoadFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadFailed::Io { what, error } => write!(f, "{what}: {error}"),
            LoadFailed::Closed { session } => write!(f, "session {session}: the endpoint closed it"),
            LoadFailed::Refused { session, sqlstate, message } => write!(f, "session {session}: {sqlstate}: {message}"),
            LoadFailed::Misbehaved { session, what } => write!(f, "session {session}: {what}"),
            LoadFailed::TooSlow { ready, sessions } => write!(f, "only {ready} of {sessions} sessions were ready in time"),
            LoadFailed::Nothing => f.write_str("no statement was answered"),
            LoadFailed::Usage(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for LoadFailed {}
