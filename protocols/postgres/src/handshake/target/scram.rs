//! SCRAM-SHA-256 and -PLUS towards the target. The exchange itself is the library's; the bounds are ours, and are checked first.
//!
//! Cost: the proof takes as many HMACs as the target says (4096 by default, a few ms), on the caller's core.
//! Spec: RFC 5802, RFC 7677; PostgreSQL "SASL Authentication".

use super::{Advanced, ExpectAuthenticationOk, Progress, TargetAdvance, TargetFailed, TargetHandshake, TargetMethod};
use super::{TargetRefused, out_of_place, used};
use crate::backend::{Authentication, Backend, Mechanisms};
use crate::write;
use headgate_plane::Secret;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use std::fmt;

/// The most that the target may ask for (CVE-2026-42198: a target chose the cost). The library has the same bound.
pub const SCRAM_ITERATIONS_MAX: u32 = 100_000;
/// A SCRAM message of the target: nonce, salt and count need some 100 bytes.
pub const SCRAM_BYTES_MAX: usize = 2048;

pub struct ExpectSaslContinue {
    scram: ScramSha256,
    progress: Progress,
}

pub struct ExpectSaslFinal {
    scram: ScramSha256,
    progress: Progress,
}

impl fmt::Debug for ExpectSaslContinue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExpectSaslContinue(..)")
    }
}

impl fmt::Debug for ExpectSaslFinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ExpectSaslFinal(..)")
    }
}

fn failed(what: impl Into<String>) -> TargetFailed {
    TargetFailed::Scram { what: what.into() }
}

pub(super) fn begin(
    mechanisms: Mechanisms<'_>,
    password: &Secret,
    channel_binding: Option<Vec<u8>>,
    progress: Progress,
    out: &mut Vec<u8>,
) -> Result<TargetHandshake, TargetFailed> {
    let offers = |name: &str| mechanisms.into_iter().any(|offered| offered == name.as_bytes());
    let (mechanism, binding, method) = match channel_binding {
        // The binding is bound to this exact certificate: whoever stands between us and the target has another.
        Some(hash) if offers(SCRAM_SHA_256_PLUS) => {
            (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(hash), TargetMethod::ScramSha256Plus)
        }
        // "y": we could have, you did not offer. A target whose offer was cut out on the way refuses this.
        Some(_) if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, ChannelBinding::unrequested(), TargetMethod::ScramSha256),
        None if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, ChannelBinding::unsupported(), TargetMethod::ScramSha256),
        _ => return Err(TargetFailed::MethodNotAllowed { method: "a SASL mechanism other than SCRAM-SHA-256" }),
    };
    if !progress.tls && offers(SCRAM_SHA_256_PLUS) {
        return Err(failed("SCRAM-SHA-256-PLUS is offered over a connection without TLS"));
    }
    let scram = ScramSha256::new(password.danger_reveal().as_bytes(), binding);
    write::sasl_initial_response(out, mechanism, scram.message())?;
    let progress = Progress { method, ..progress };
    Ok(TargetHandshake::ExpectSaslContinue(Box::new(ExpectSaslContinue { scram, progress })))
}

/// The bounds of server-first-message, before any work is done for it.
fn check_server_first(message: &[u8], client_first: &[u8]) -> Result<(), TargetFailed> {
    if message.len() > SCRAM_BYTES_MAX {
        return Err(failed("the target's message is too long"));
    }
    let text = std::str::from_utf8(message).map_err(|_| failed("the target's message is not text"))?;
    let mut attributes = text.split(',');
    let (Some(nonce), Some(salt), Some(iterations), None) =
        (attributes.next(), attributes.next(), attributes.next(), attributes.next())
    else {
        return Err(failed("the target's message has not three attributes"));
    };
    // The nonce is the last attribute; it may hold "=", but no comma.
    let client_nonce = client_first.rsplit(|byte| *byte == b',').next().and_then(|last| last.strip_prefix(b"r=")).unwrap_or(&[]);
    let added = nonce.strip_prefix("r=").and_then(|nonce| nonce.as_bytes().strip_prefix(client_nonce));
    if client_nonce.is_empty() || added.is_none_or(<[u8]>::is_empty) {
        return Err(failed("the target added nothing to the nonce"));
    }
    if salt.strip_prefix("s=").is_none_or(str::is_empty) {
        return Err(failed("the target gave no salt"));
    }
    let iterations = iterations.strip_prefix("i=").and_then(|count| count.parse::<u32>().ok());
    match iterations {
        Some(1..=SCRAM_ITERATIONS_MAX) => Ok(()),
        Some(count) => Err(failed(format!("{count} iterations, {SCRAM_ITERATIONS_MAX} is the most"))),
        None => Err(failed("the target's iteration count cannot be read")),
    }
}

impl ExpectSaslContinue {
    pub(super) fn advance(mut self: Box<Self>, buffer: &[u8], out: &mut Vec<u8>) -> Advanced {
        let Some((len, tag, message)) = self.progress.next(buffer)? else {
            return Ok((TargetHandshake::ExpectSaslContinue(self), TargetAdvance::default()));
        };
        match message {
            Backend::Authentication(Authentication::SaslContinue(data)) => {
                check_server_first(data, self.scram.message())?;
                self.scram.update(data).map_err(|error| failed(error.to_string()))?;
                write::sasl_response(out, self.scram.message())?;
                let next = ExpectSaslFinal { scram: self.scram, progress: self.progress };
                Ok((TargetHandshake::ExpectSaslFinal(Box::new(next)), used(len)))
            }
            Backend::ErrorResponse(fields) => Err(TargetRefused::before_authentication(fields)),
            _ => Err(out_of_place(tag, "ExpectSaslContinue")),
        }
    }
}

impl ExpectSaslFinal {
    pub(super) fn advance(mut self: Box<Self>, buffer: &[u8]) -> Advanced {
        let Some((len, tag, message)) = self.progress.next(buffer)? else {
            return Ok((TargetHandshake::ExpectSaslFinal(self), TargetAdvance::default()));
        };
        match message {
            Backend::Authentication(Authentication::SaslFinal(data)) => {
                if data.len() > SCRAM_BYTES_MAX {
                    return Err(failed("the target's message is too long"));
                }
                self.scram.finish(data).map_err(|error| failed(error.to_string()))?;
                let next = ExpectAuthenticationOk { progress: self.progress };
                Ok((TargetHandshake::ExpectAuthenticationOk(Box::new(next)), used(len)))
            }
            // An early AuthenticationOk would skip the target's proof.
            Backend::ErrorResponse(fields) => Err(TargetRefused::before_authentication(fields)),
            _ => Err(out_of_place(tag, "ExpectSaslFinal")),
        }
    }
}
