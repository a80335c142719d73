//! What ends a run, or is counted in one that goes on.

use crate::peer::NoTls;
use std::fmt;

#[derive(Debug)]
pub enum LoadFailed {
    Io {
        what: &'static str,
        error: std::io::Error,
    },
    /// The socket of a session failed.
    Session {
        session: usize,
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
    NoTls {
        session: usize,
        no_tls: Box<NoTls>,
    },
    /// The sessions were not all signed in in time.
    TooSlow {
        ready: usize,
        sessions: usize,
    },
    /// Somebody pressed Ctrl-C before the sessions were all signed in.
    Interrupted {
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

    /// For the books, where all sessions count alike.
    pub fn without_session(&self) -> String {
        match self {
            LoadFailed::Session { error, .. } => error.to_string(),
            LoadFailed::Closed { .. } => "the endpoint closed the session".to_owned(),
            LoadFailed::Refused {
                sqlstate, message, ..
            } => format!("{sqlstate}: {message}"),
            LoadFailed::Misbehaved { what, .. } => (*what).to_owned(),
            LoadFailed::NoTls { no_tls, .. } => no_tls.to_string(),
            other => other.to_string(),
        }
    }

    fn session(&self) -> Option<usize> {
        match self {
            LoadFailed::Session { session, .. }
            | LoadFailed::Closed { session }
            | LoadFailed::Refused { session, .. }
            | LoadFailed::Misbehaved { session, .. }
            | LoadFailed::NoTls { session, .. } => Some(*session),
            _ => None,
        }
    }

    /// What to try, where that can be told.
    fn advice(&self) -> &'static str {
        match self {
            LoadFailed::Io {
                what: "connect",
                error,
            } if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
                " (raise the limit on open files: ulimit -n)"
            }
            LoadFailed::Io {
                what: "connect",
                error,
            } if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
                " (no port is left: net.ipv4.ip_local_port_range)"
            }
            LoadFailed::Session { error, .. } if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                " (nothing listens at --connect)"
            }
            LoadFailed::Closed { .. } => " (its log should say why; if it wants TLS, see --tls)",
            LoadFailed::Refused { sqlstate, .. } if sqlstate == "28P01" || sqlstate == "28000" => {
                " (see --user, --database and HEADGATE_LOADTEST_PASSWORD)"
            }
            LoadFailed::Refused { sqlstate, .. } if sqlstate == "53300" => {
                " (it takes fewer sessions than --sessions)"
            }
            LoadFailed::Refused { sqlstate, .. } if sqlstate == "42P01" => {
                " (the built-in statements are of the synthetic target; for your own tables write a scenario)"
            }
            LoadFailed::TooSlow { .. } => " (no session became ready for a minute)",
            _ => "",
        }
    }
}

impl fmt::Display for LoadFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(session) = self.session() {
            return write!(
                f,
                "session {session}: {}{}",
                self.without_session(),
                self.advice()
            );
        }
        match self {
            LoadFailed::Io { what, error } => write!(f, "{what}: {error}")?,
            LoadFailed::TooSlow { ready, sessions } => {
                write!(f, "only {ready} of {sessions} sessions were ready in time")?
            }
            LoadFailed::Interrupted { ready, sessions } => {
                write!(f, "interrupted when {ready} of {sessions} sessions were ready")?
            }
            LoadFailed::Usage(what) => f.write_str(what)?,
            _ => f.write_str("no statement was answered")?,
        }
        f.write_str(self.advice())
    }
}

impl std::error::Error for LoadFailed {}
