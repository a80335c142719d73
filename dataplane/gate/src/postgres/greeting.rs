//! The client's first bytes: TLS, the start-up packet, the password; or a cancel request.

use super::cancel::cancel_token;
use super::denial::Denial;
use crate::core::ListenerSettings;
use crate::session::leg::Leg;
use crate::session::protocol::{Fault, Greeted, Parting, SignInAs};
use headgate_plane::Credential;
use headgate_postgres::startup::MINOR_MAX;
use headgate_postgres::startup::policy::{self, SettingRefused};
use headgate_postgres::{ClientEvent, ClientHandshake, ClientTls, PeerMisbehaved, Startup, write};

/// From the first byte to the password.
pub struct Greeting {
    handshake: ClientHandshake,
    startup: Option<Box<Startup>>,
    awaiting_tls: bool,
    has_tls: bool,
}

/// The start-up packet.
pub struct Opening {
    pub startup: Box<Startup>,
}

impl Greeting {
    pub fn new(listener: &ListenerSettings) -> Greeting {
        let tls = match (listener.tls.is_some(), listener.danger_allow_cleartext) {
            (true, true) => ClientTls::DangerOptional,
            (false, true) => ClientTls::DangerOff,
            (_, false) => ClientTls::Required,
        };
        Greeting {
            handshake: ClientHandshake::new(tls),
            startup: None,
            awaiting_tls: false,
            has_tls: listener.tls.is_some(),
        }
    }

    /// As PostgreSQL: before its start-up packet a peer is not told anything that it could not read.
    pub fn may_be_told(&self) -> bool {
        self.startup.is_some()
    }

    pub fn greet(&mut self, client: &mut Leg, bytes: &[u8]) -> Greeted<Opening> {
        self.advance(client, bytes)
            .unwrap_or_else(|error| Greeted::Wrong {
                asked: None,
                parting: misbehaved(&error),
            })
    }

    fn advance(&mut self, client: &mut Leg, bytes: &[u8]) -> Result<Greeted<Opening>, PeerMisbehaved> {
        if self.awaiting_tls {
            if !client.has_tls() || client.is_handshaking() {
                return Ok(Greeted::More);
            }
            let handshake = std::mem::replace(&mut self.handshake, ClientHandshake::Done);
            self.handshake = handshake.tls_started(client.alpn().as_deref())?;
            self.awaiting_tls = false;
        }
        let handshake = std::mem::replace(&mut self.handshake, ClientHandshake::Done);
        let (next, advance) = handshake.advance(bytes, client.out())?;
        self.handshake = next;
        let used = advance.used;
        Ok(match advance.event {
            None if used == 0 => Greeted::More,
            None => Greeted::Used(used),
            Some(ClientEvent::StartTls { .. }) if !self.has_tls => return Err(PeerMisbehaved::TlsNotOffered),
            Some(ClientEvent::StartTls { .. }) => {
                self.awaiting_tls = true;
                Greeted::StartTls { used }
            }
            Some(ClientEvent::Startup(startup)) => {
                if let Err(setting) = policy::replication(&startup) {
                    // Said in place of the request for a password, which would be typed in vain.
                    client.out().clear();
                    return Ok(Greeted::Wrong {
                        asked: Some(sign_in_as(&startup)),
                        parting: setting_refused(&setting),
                    });
                }
                self.startup = Some(startup);
                Greeted::Used(used)
            }
            Some(ClientEvent::Password(password)) => match self.startup.take() {
                Some(startup) => Greeted::SignIn {
                    used,
                    asked: sign_in_as(&startup),
                    opening: Opening { startup },
                    credential: Credential::Password(password),
                },
                None => Greeted::Used(used),
            },
            Some(ClientEvent::Cancel { pid, key }) => Greeted::Cancel {
                used,
                token: cancel_token(pid, &key),
            },
        })
    }
}

fn sign_in_as(startup: &Startup) -> SignInAs {
    SignInAs {
        target: startup.database.clone(),
        user: startup.user.clone(),
        application: startup.parameter("application_name").unwrap_or("").to_owned(),
    }
}

/// A setting of the start-up packet that does not go on to the target.
pub(super) fn setting_refused(setting: &SettingRefused) -> Box<Parting> {
    let mut denial = Denial::new(setting.sqlstate(), setting.to_string());
    denial.hint = setting.hint().map(str::to_owned);
    let mut words = Vec::new();
    denial.write_fatal(&mut words);
    Box::new(Parting {
        reason: setting.to_string(),
        words,
        fault: Fault::Refused,
        discards: false,
    })
}

/// The client sent what no client may send: the server's words for it.
pub(super) fn misbehaved(error: &PeerMisbehaved) -> Box<Parting> {
    let mut words = Vec::new();
    let (code, message) = error.to_client();
    let denial = Denial::new(code, message);
    let denial = match error {
        error if error.is_silent() => None,
        PeerMisbehaved::UnsupportedProtocol { major, minor } => {
            let text =
                format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{MINOR_MAX}");
            if *major < 3 {
                write::error_of_protocol_2(&mut words, "FATAL", &text);
                None
            } else {
                Some(Denial::new(code, text))
            }
        }
        PeerMisbehaved::OutOfPlace {
            tag,
            state: "ExpectPassword",
        } => Some(Denial::new(
            code,
            format!("expected password response, got message type {tag}"),
        )),
        PeerMisbehaved::UnknownMessage { tag } | PeerMisbehaved::OutOfPlace { tag: tag @ b'p', .. } => {
            Some(Denial::new(code, format!("invalid frontend message type {tag}")))
        }
        PeerMisbehaved::ClearBytesBehindSslRequest { .. } => Some(denial.detail(
            "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
        )),
        _ => Some(denial),
    };
    if let Some(denial) = denial {
        denial.write_fatal(&mut words);
    }
    Box::new(Parting {
        reason: format!("client misbehaved: {error}"),
        words,
        fault: Fault::Misbehaved,
        discards: false,
    })
}
