//! Why something about identities could not be done.

use headgate_plane::{Refusal, RefusalKind};
use headgate_store::StoreError;
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// The credential is not accepted; why stands in the detail, for the log.
    Refused(Refusal),
    /// A request that asks for more than may be given, or says something that cannot be.
    Request {
        why: String,
    },
    /// No token, issuer or login of that name.
    Unknown {
        what: String,
    },
    /// Too many tries, tokens or logins; come back later.
    TooMany {
        what: &'static str,
    },
    /// The user file, the issuer's roots.
    Config {
        why: String,
    },
    /// The issuer did not answer, or not as its specification says.
    Issuer {
        issuer: String,
        why: String,
    },
    /// The person said no, or took too long.
    LoginEnded {
        why: String,
    },
    /// The random source failed.
    Crypto,
    Store(StoreError),
}

impl From<StoreError> for IdentityError {
    fn from(error: StoreError) -> Self {
        IdentityError::Store(error)
    }
}

impl From<Refusal> for IdentityError {
    fn from(refusal: Refusal) -> Self {
        IdentityError::Refused(refusal)
    }
}

impl From<IdentityError> for Refusal {
    /// What is our fault or the issuer's is `Unavailable`, so that nobody hunts for a wrong password.
    fn from(error: IdentityError) -> Self {
        let detail = error.to_string();
        let kind = match error {
            IdentityError::Refused(refusal) => return refusal,
            IdentityError::Issuer { .. }
            | IdentityError::Store(_)
            | IdentityError::Crypto
            | IdentityError::Config { .. } => RefusalKind::Unavailable,
            IdentityError::Request { .. }
            | IdentityError::Unknown { .. }
            | IdentityError::TooMany { .. }
            | IdentityError::LoginEnded { .. } => RefusalKind::BadCredential,
        };
        Refusal { kind, detail }
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::Refused(refusal) => write!(f, "{}: {}", refusal.kind.to_client(), refusal.detail),
            IdentityError::Request { why } => f.write_str(why),
            IdentityError::Unknown { what } => write!(f, "there is no {what}"),
            IdentityError::TooMany { what } => write!(f, "too many {what}; try again later"),
            IdentityError::Config { why } => f.write_str(why),
            IdentityError::Issuer { issuer, why } => write!(f, "issuer {issuer}: {why}"),
            IdentityError::LoginEnded { why } => write!(f, "the login has ended: {why}"),
            IdentityError::Crypto => f.write_str("the random source failed"),
            IdentityError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for IdentityError {}

pub(crate) fn bad(detail: impl Into<String>) -> Refusal {
    Refusal {
        kind: RefusalKind::BadCredential,
        detail: detail.into(),
    }
}
