//! The gateway as client towards the target, until ReadyForQuery.
//!
//! ```text
//! ExpectSslAnswer ─ S ─▶ AwaitingTls ─ tls_started ─▶ ExpectAuthentication ─ SASL ─▶ ExpectSaslContinue ─▶ ExpectSaslFinal ─┐
//!                                     (without TLS: ▲)      │ │ MD5, clear text, where allowed                             │
//!                                                           │ └────────────────────▶ ExpectAuthenticationOk ◀─────────────┘
//!                                                           └─ Ok (trust) ─▶ ExpectReady ◀─┘ ─ ReadyForQuery ─▶ Done
//! ```
//!
//! Invariants: the target proves itself (SCRAM's last message is checked) before AuthenticationOk is believed; nothing that the
//! target says before TLS is handed on; a weaker method than the configuration allows ends the handshake before
//! anything made from the secret is sent.
//! Bounds: a message has MESSAGE_BYTES_MAX, a SCRAM message SCRAM_BYTES_MAX, an iteration count SCRAM_ITERATIONS_MAX,
//! and there are so many parameters, notices and messages at all as the constants say.

use crate::backend::{Authentication, Backend, TransactionStatus};
use crate::error::PeerMisbehaved;
use crate::frame;
use crate::write;
use headgate_plane::{Secret, TargetAuth};
use headgate_wire::WriteError;
use std::fmt;

mod keys;
mod ready;
mod scram;

pub use keys::ScramKeys;
pub use ready::{ExpectReady, TargetReady, TargetRefused};
pub use scram::{ExpectSaslContinue, ExpectSaslFinal, SCRAM_BYTES_MAX, SCRAM_ITERATIONS_MAX};

/// A message before ReadyForQuery.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Messages before ReadyForQuery, all together.
pub const MESSAGES_MAX: u32 = 4096;

/// With what a target is signed in to.
#[derive(Debug)]
pub struct TargetHandshakeConfig {
    /// Ask for TLS, and take nothing else.
    pub tls: bool,
    /// As whom.
    pub user: String,
    /// To which database.
    pub database: String,
    /// All other parameters of the start-up packet, see [`crate::startup::policy::for_target`].
    pub parameters: Vec<(String, String)>,
    /// The injected one.
    pub password: Secret,
    /// Shared by all handshakes of a thread.
    pub scram_keys: ScramKeys,
    /// What the target may ask for.
    pub auth: TargetAuth,
    /// The minor version to ask for: 2, or 0 for a target that refuses it. A target that is older negotiates down.
    pub minor: u16,
}

/// The way into a target, by what is waited for.
#[derive(Debug)]
pub enum TargetHandshake {
    /// Whether it has TLS.
    ExpectSslAnswer(Box<ExpectSslAnswer>),
    /// TLS, which was agreed on.
    AwaitingTls(Box<AwaitingTls>),
    /// How it wants the session proved.
    ExpectAuthentication(Box<ExpectAuthentication>),
    /// SCRAM's challenge.
    ExpectSaslContinue(Box<ExpectSaslContinue>),
    /// SCRAM's proof of the target.
    ExpectSaslFinal(Box<ExpectSaslFinal>),
    /// Its yes.
    ExpectAuthenticationOk(Box<ExpectAuthenticationOk>),
    /// That it is ready.
    ExpectReady(Box<ExpectReady>),
    /// Nothing: it is over.
    Done,
}

/// A target that was asked for TLS.
#[derive(Debug)]
pub struct ExpectSslAnswer {
    config: TargetHandshakeConfig,
}

/// A target with which TLS was agreed on.
#[derive(Debug)]
pub struct AwaitingTls {
    config: TargetHandshakeConfig,
}

/// A target that was told who comes.
#[derive(Debug)]
pub struct ExpectAuthentication {
    user: String,
    password: Secret,
    scram_keys: ScramKeys,
    auth: TargetAuth,
    channel_binding: Option<Vec<u8>>,
    negotiated: bool,
    progress: Progress,
}

/// A target that was given a password.
#[derive(Debug)]
pub struct ExpectAuthenticationOk {
    progress: Progress,
}

/// What is carried from state to state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    minor: u16,
    messages_left: u32,
    method: TargetMethod,
    tls: bool,
}

/// How the target let us in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetMethod {
    /// Nothing was asked.
    Trust,
    /// SCRAM, without binding the channel.
    ScramSha256,
    /// SCRAM, bound to the channel.
    ScramSha256Plus,
    /// MD5.
    Md5,
    /// The password as it is.
    Cleartext,
}

/// What the driver of a target's handshake has to do.
#[derive(Debug)]
pub enum TargetEvent {
    /// Send `out`, start TLS as client, then call `tls_started`.
    StartTls,
    /// The handshake is over; what is left in the buffer is the session's.
    Ready(Box<TargetReady>),
}

/// What a step came to.
#[derive(Debug, Default)]
pub struct TargetAdvance {
    /// Bytes of the buffer that are done with.
    pub used: usize,
    /// What the driver has to do, if anything.
    pub event: Option<TargetEvent>,
}

/// Why a target could not be signed in to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetFailed {
    /// It broke the protocol.
    Misbehaved(PeerMisbehaved),
    /// An ErrorResponse.
    Refused(Box<TargetRefused>),
    /// The target has no TLS, but it is asked for. What it said instead is dropped: anyone could have said it.
    TlsNotOffered,
    /// The target asks for a method that the configuration does not allow, or that we do not speak.
    MethodNotAllowed {
        /// Which.
        method: &'static str,
    },
    /// SCRAM failed: a wrong proof, a bound, or a message that cannot be read.
    Scram {
        /// What failed.
        what: String,
    },
    /// The target asks for a password, and there is none.
    PasswordMissing,
    /// The target wants a protocol that was not asked for.
    Negotiation {
        /// Which one it wants.
        minor: u16,
    },
    /// Something of ours is too long to be written.
    Write(WriteError),
}

impl fmt::Display for TargetFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetFailed::Misbehaved(what) => write!(f, "the target misbehaved: {what}"),
            TargetFailed::Refused(refused) => write!(f, "the target refused: {refused}"),
            TargetFailed::TlsNotOffered => f.write_str("the target offers no TLS"),
            TargetFailed::MethodNotAllowed { method } => {
                write!(f, "the target asks for {method}, which is not allowed")
            }
            TargetFailed::Scram { what } => write!(f, "SCRAM with the target failed: {what}"),
            TargetFailed::PasswordMissing => f.write_str("the target asks for a password, and there is none"),
            TargetFailed::Negotiation { minor } => write!(
                f,
                "the target negotiated protocol 3.{minor}, which was not asked for"
            ),
            TargetFailed::Write(error) => write!(f, "a message to the target cannot be written: {error}"),
        }
    }
}

impl std::error::Error for TargetFailed {}

impl From<PeerMisbehaved> for TargetFailed {
    fn from(what: PeerMisbehaved) -> Self {
        TargetFailed::Misbehaved(what)
    }
}

impl From<WriteError> for TargetFailed {
    fn from(error: WriteError) -> Self {
        TargetFailed::Write(error)
    }
}

type Advanced = Result<(TargetHandshake, TargetAdvance), TargetFailed>;

impl TargetHandshake {
    /// Appends the first packet to `out`.
    pub fn start(config: TargetHandshakeConfig, out: &mut Vec<u8>) -> Result<Self, TargetFailed> {
        if config.tls {
            write::ssl_request(out);
            Ok(TargetHandshake::ExpectSslAnswer(Box::new(ExpectSslAnswer {
                config,
            })))
        } else {
            startup(config, None, out)
        }
    }

    /// For logs and tests.
    pub fn state(&self) -> &'static str {
        match self {
            TargetHandshake::ExpectSslAnswer(_) => "ExpectSslAnswer",
            TargetHandshake::AwaitingTls(_) => "AwaitingTls",
            TargetHandshake::ExpectAuthentication(_) => "ExpectAuthentication",
            TargetHandshake::ExpectSaslContinue(_) => "ExpectSaslContinue",
            TargetHandshake::ExpectSaslFinal(_) => "ExpectSaslFinal",
            TargetHandshake::ExpectAuthenticationOk(_) => "ExpectAuthenticationOk",
            TargetHandshake::ExpectReady(_) => "ExpectReady",
            TargetHandshake::Done => "Done",
        }
    }

    /// TLS is up and checked. `channel_binding` is [`crate::certificate::tls_server_end_point`] of the target's certificate.
    pub fn tls_started(
        self,
        channel_binding: Option<Vec<u8>>,
        out: &mut Vec<u8>,
    ) -> Result<Self, TargetFailed> {
        match self {
            TargetHandshake::AwaitingTls(state) => startup(state.config, channel_binding, out),
            other => Err(PeerMisbehaved::OutOfPlace {
                tag: 0,
                state: other.state(),
            }
            .into()),
        }
    }

    /// Takes at most one message from the front of `buffer`; what is to be sent is appended to `out`.
    pub fn advance(self, buffer: &[u8], out: &mut Vec<u8>) -> Advanced {
        match self {
            TargetHandshake::ExpectSslAnswer(state) => state.advance(buffer),
            TargetHandshake::ExpectAuthentication(state) => state.advance(buffer, out),
            TargetHandshake::ExpectSaslContinue(state) => state.advance(buffer, out),
            TargetHandshake::ExpectSaslFinal(state) => state.advance(buffer),
            TargetHandshake::ExpectAuthenticationOk(state) => state.advance(buffer),
            TargetHandshake::ExpectReady(state) => state.advance(buffer),
            waiting @ (TargetHandshake::AwaitingTls(_) | TargetHandshake::Done) => {
                Ok((waiting, TargetAdvance::default()))
            }
        }
    }
}

fn startup(
    config: TargetHandshakeConfig,
    channel_binding: Option<Vec<u8>>,
    out: &mut Vec<u8>,
) -> Result<TargetHandshake, TargetFailed> {
    let minor = config.minor.min(crate::startup::MINOR_MAX);
    let mut parameters = vec![
        ("user", config.user.as_str()),
        ("database", config.database.as_str()),
    ];
    parameters.extend(
        config
            .parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    write::startup(out, minor, &parameters)?;
    let progress = Progress {
        minor,
        messages_left: MESSAGES_MAX,
        method: TargetMethod::Trust,
        tls: config.tls,
    };
    Ok(TargetHandshake::ExpectAuthentication(Box::new(
        ExpectAuthentication {
            user: config.user,
            password: config.password,
            scram_keys: config.scram_keys,
            auth: config.auth,
            channel_binding,
            negotiated: false,
            progress,
        },
    )))
}

impl Progress {
    /// The next whole message, counted. `None`: more bytes are needed.
    fn next<'a>(&mut self, buffer: &'a [u8]) -> Result<Option<(usize, u8, Backend<'a>)>, TargetFailed> {
        // An unknown tag is refused before its body is waited for.
        if let Some(tag) = buffer
            .first()
            .copied()
            .filter(|tag| !crate::backend::is_known(*tag))
        {
            return Err(PeerMisbehaved::UnknownMessage { tag }.into());
        }
        let Some((header, body)) = frame::split(buffer, MESSAGE_BYTES_MAX)? else {
            return Ok(None);
        };
        self.messages_left = self.messages_left.checked_sub(1).ok_or(PeerMisbehaved::TooMany {
            what: "messages before ReadyForQuery",
            max: MESSAGES_MAX as usize,
        })?;
        Ok(Some((header.len, header.tag, Backend::decode(header.tag, body)?)))
    }
}

fn used(used: usize) -> TargetAdvance {
    TargetAdvance { used, event: None }
}

fn out_of_place(tag: u8, state: &'static str) -> TargetFailed {
    TargetFailed::Misbehaved(PeerMisbehaved::OutOfPlace { tag, state })
}

impl ExpectSslAnswer {
    fn advance(self: Box<Self>, buffer: &[u8]) -> Advanced {
        match buffer {
            [] => Ok((TargetHandshake::ExpectSslAnswer(self), TargetAdvance::default())),
            [b'S'] => {
                let next = TargetHandshake::AwaitingTls(Box::new(AwaitingTls { config: self.config }));
                Ok((
                    next,
                    TargetAdvance {
                        used: 1,
                        event: Some(TargetEvent::StartTls),
                    },
                ))
            }
            // CVE-2021-23222: bytes in the clear behind the answer would be read as if they had come inside TLS.
            [b'S', more @ ..] => Err(PeerMisbehaved::ClearBytesBehindSslRequest { bytes: more.len() }.into()),
            // An error text here comes from nobody in particular (CVE-2024-10977): it is not read.
            [b'N' | b'E', ..] => Err(TargetFailed::TlsNotOffered),
            [tag, ..] => Err(out_of_place(*tag, "ExpectSslAnswer")),
        }
    }
}

impl ExpectAuthentication {
    fn advance(mut self: Box<Self>, buffer: &[u8], out: &mut Vec<u8>) -> Advanced {
        const STATE: &str = "ExpectAuthentication";
        let Some((len, tag, message)) = self.progress.next(buffer)? else {
            return Ok((
                TargetHandshake::ExpectAuthentication(self),
                TargetAdvance::default(),
            ));
        };
        let next = match message {
            Backend::Authentication(asked) => self.answer(asked, out)?,
            Backend::NegotiateProtocolVersion(answer) => {
                // Once, downwards, and about nothing that was not asked.
                if self.negotiated || answer.minor >= self.progress.minor || answer.unknown.count() > 0 {
                    return Err(TargetFailed::Negotiation { minor: answer.minor });
                }
                self.negotiated = true;
                self.progress.minor = answer.minor;
                TargetHandshake::ExpectAuthentication(self)
            }
            Backend::ErrorResponse(fields) => return Err(TargetRefused::before_authentication(fields)),
            // A notice before the target is known is nobody's word: dropped.
            Backend::NoticeResponse(_) => TargetHandshake::ExpectAuthentication(self),
            _ => return Err(out_of_place(tag, STATE)),
        };
        Ok((next, used(len)))
    }

    #[expect(
        clippy::boxed_local,
        reason = "a state of the handshake is big, and moves as its box"
    )]
    fn answer(
        mut self: Box<Self>,
        asked: Authentication<'_>,
        out: &mut Vec<u8>,
    ) -> Result<TargetHandshake, TargetFailed> {
        let not_allowed = |method| Err(TargetFailed::MethodNotAllowed { method });
        match asked {
            Authentication::Ok => Ok(TargetHandshake::ExpectReady(Box::new(ExpectReady::new(
                self.progress,
            )))),
            Authentication::Sasl(mechanisms) => {
                let channel_binding = self.channel_binding.take();
                scram::begin(
                    mechanisms,
                    self.password()?,
                    &self.scram_keys,
                    channel_binding,
                    self.progress,
                    out,
                )
            }
            Authentication::Md5Password { salt } if self.auth != TargetAuth::Scram => {
                let hash = Secret::new(postgres_protocol::authentication::md5_hash(
                    self.user.as_bytes(),
                    self.password()?.danger_reveal().as_bytes(),
                    salt,
                ));
                write::password(out, hash.danger_reveal().as_bytes())?;
                Ok(self.expect_ok(TargetMethod::Md5))
            }
            Authentication::CleartextPassword if self.auth == TargetAuth::DangerCleartext => {
                write::password(out, self.password()?.danger_reveal().as_bytes())?;
                Ok(self.expect_ok(TargetMethod::Cleartext))
            }
            Authentication::Md5Password { .. } => not_allowed("MD5"),
            Authentication::CleartextPassword => not_allowed("the password in clear text"),
            Authentication::KerberosV5 => not_allowed("Kerberos V5"),
            Authentication::Gss => not_allowed("GSSAPI"),
            Authentication::Sspi => not_allowed("SSPI"),
            Authentication::GssContinue(_)
            | Authentication::SaslContinue(_)
            | Authentication::SaslFinal(_) => Err(out_of_place(b'R', "ExpectAuthentication")),
        }
    }

    fn password(&self) -> Result<&Secret, TargetFailed> {
        if self.password.danger_reveal().is_empty() {
            Err(TargetFailed::PasswordMissing)
        } else {
            Ok(&self.password)
        }
    }

    fn expect_ok(self, method: TargetMethod) -> TargetHandshake {
        let progress = Progress {
            method,
            ..self.progress
        };
        TargetHandshake::ExpectAuthenticationOk(Box::new(ExpectAuthenticationOk { progress }))
    }
}

impl ExpectAuthenticationOk {
    fn advance(mut self: Box<Self>, buffer: &[u8]) -> Advanced {
        let Some((len, tag, message)) = self.progress.next(buffer)? else {
            return Ok((
                TargetHandshake::ExpectAuthenticationOk(self),
                TargetAdvance::default(),
            ));
        };
        match message {
            Backend::Authentication(Authentication::Ok) => Ok((
                TargetHandshake::ExpectReady(Box::new(ExpectReady::new(self.progress))),
                used(len),
            )),
            Backend::ErrorResponse(fields) => Err(TargetRefused::before_authentication(fields)),
            Backend::NoticeResponse(_) => Ok((TargetHandshake::ExpectAuthenticationOk(self), used(len))),
            _ => Err(out_of_place(tag, "ExpectAuthenticationOk")),
        }
    }
}

#[cfg(test)]
mod tests;
