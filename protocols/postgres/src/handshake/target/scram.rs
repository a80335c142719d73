//! SCRAM-SHA-256 and -PLUS towards the target. The bounds of its messages are checked first.
//!
//! Cost: the proof takes as many HMACs as the target says (4096 by default, about a ms), on the caller's core, unless [`ScramKeys`]
//! has done them before.
//! Spec: RFC 5802, RFC 7677; PostgreSQL "SASL Authentication".

use super::keys::ScramKeys;
use super::{
    Advanced, ExpectAuthenticationOk, Progress, TargetAdvance, TargetFailed, TargetHandshake, TargetMethod,
};
use super::{TargetRefused, out_of_place, used};
use crate::backend::{Authentication, Backend, Mechanisms};
use crate::write;
use aws_lc_rs::{constant_time, digest, hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use headgate_plane::Secret;
use std::fmt;
use std::num::NonZeroU32;

const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// As libpq.
const NONCE_BYTES: usize = 18;
/// The most that the target may ask for (CVE-2026-42198: a target chose the cost).
pub const SCRAM_ITERATIONS_MAX: u32 = 100_000;
/// A SCRAM message of the target: nonce, salt and count need some 100 bytes.
pub const SCRAM_BYTES_MAX: usize = 2048;

/// A target that was told SCRAM's first message.
pub struct ExpectSaslContinue {
    password: Secret,
    keys: ScramKeys,
    /// What client-final-message repeats of our offer: GS2 header and the binding's data.
    bound: Vec<u8>,
    /// client-first-message-bare.
    first: String,
    progress: Progress,
}

/// A target that was told SCRAM's proof.
pub struct ExpectSaslFinal {
    /// What only who has the password's keys can say.
    signature: [u8; 32],
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
    keys: &ScramKeys,
    channel_binding: Option<Vec<u8>>,
    progress: Progress,
    out: &mut Vec<u8>,
) -> Result<TargetHandshake, TargetFailed> {
    let offers = |name: &str| mechanisms.into_iter().any(|offered| offered == name.as_bytes());
    let (mechanism, header, data, method) = match channel_binding {
        // The binding is bound to this exact certificate: whoever stands between us and the target has another.
        Some(hash) if offers(SCRAM_SHA_256_PLUS) => (
            SCRAM_SHA_256_PLUS,
            "p=tls-server-end-point,,",
            hash,
            TargetMethod::ScramSha256Plus,
        ),
        // "y": we could have, you did not offer. A target whose offer was cut out on the way refuses this.
        Some(_) if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, "y,,", Vec::new(), TargetMethod::ScramSha256),
        None if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, "n,,", Vec::new(), TargetMethod::ScramSha256),
        _ => {
            return Err(TargetFailed::MethodNotAllowed {
                method: "a SASL mechanism other than SCRAM-SHA-256",
            });
        }
    };
    if !progress.tls && offers(SCRAM_SHA_256_PLUS) {
        return Err(failed(
            "SCRAM-SHA-256-PLUS is offered over a connection without TLS",
        ));
    }
    let mut nonce = [0; NONCE_BYTES];
    rand::fill(&mut nonce).map_err(|_| failed("the system gives no random bytes"))?;
    // The name is the start-up packet's: PostgreSQL wants it left out here.
    let first = format!("n=,r={}", STANDARD.encode(nonce));
    write::sasl_initial_response(out, mechanism, format!("{header}{first}").as_bytes())?;
    let bound = [header.as_bytes(), &data].concat();
    let progress = Progress { method, ..progress };
    let next = ExpectSaslContinue {
        password: password.clone(),
        keys: keys.clone(),
        bound,
        first,
        progress,
    };
    Ok(TargetHandshake::ExpectSaslContinue(Box::new(next)))
}

/// server-first-message.
struct ServerFirst<'a> {
    text: &'a str,
    /// Ours and what the target added.
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

/// The bounds of server-first-message, before any work is done for it.
fn server_first<'a>(message: &'a [u8], client_first: &str) -> Result<ServerFirst<'a>, TargetFailed> {
    if message.len() > SCRAM_BYTES_MAX {
        return Err(failed("the target's message is too long"));
    }
    let text = std::str::from_utf8(message).map_err(|_| failed("the target's message is not text"))?;
    let mut attributes = text.split(',');
    let (Some(nonce), Some(salt), Some(iterations), None) = (
        attributes.next(),
        attributes.next(),
        attributes.next(),
        attributes.next(),
    ) else {
        return Err(failed("the target's message has not three attributes"));
    };
    // The nonce is the last attribute; it may hold "=", but no comma.
    let client_nonce = client_first
        .rsplit(',')
        .next()
        .and_then(|last| last.strip_prefix("r="))
        .unwrap_or_default();
    let nonce = nonce.strip_prefix("r=").unwrap_or_default();
    let added = nonce.strip_prefix(client_nonce);
    if client_nonce.is_empty() || added.is_none_or(str::is_empty) {
        return Err(failed("the target added nothing to the nonce"));
    }
    let salt = salt
        .strip_prefix("s=")
        .filter(|salt| !salt.is_empty())
        .ok_or_else(|| failed("the target gave no salt"))?;
    let salt = STANDARD
        .decode(salt)
        .map_err(|_| failed("the target's salt cannot be read"))?;
    let iterations = iterations
        .strip_prefix("i=")
        .and_then(|count| count.parse::<u32>().ok());
    match iterations.map(|count| (count, NonZeroU32::new(count))) {
        Some((1..=SCRAM_ITERATIONS_MAX, Some(iterations))) => Ok(ServerFirst {
            text,
            nonce,
            salt,
            iterations,
        }),
        Some((count, _)) => Err(failed(format!(
            "{count} iterations, {SCRAM_ITERATIONS_MAX} is the most"
        ))),
        None => Err(failed("the target's iteration count cannot be read")),
    }
}

fn sign(key: &[u8], message: &str) -> [u8; 32] {
    let mut signature = [0; 32];
    signature
        .copy_from_slice(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes()).as_ref());
    signature
}

impl ExpectSaslContinue {
    pub(super) fn advance(mut self: Box<Self>, buffer: &[u8], out: &mut Vec<u8>) -> Advanced {
        let Some((len, tag, message)) = self.progress.next(buffer)? else {
            return Ok((
                TargetHandshake::ExpectSaslContinue(self),
                TargetAdvance::default(),
            ));
        };
        match message {
            Backend::Authentication(Authentication::SaslContinue(data)) => {
                let (message, signature) = self.prove(data)?;
                write::sasl_response(out, message.as_bytes())?;
                let next = ExpectSaslFinal {
                    signature,
                    progress: self.progress,
                };
                Ok((TargetHandshake::ExpectSaslFinal(Box::new(next)), used(len)))
            }
            Backend::ErrorResponse(fields) => Err(TargetRefused::before_authentication(fields)),
            _ => Err(out_of_place(tag, "ExpectSaslContinue")),
        }
    }

    /// client-final-message, and what the target has to answer.
    fn prove(&self, server_first_message: &[u8]) -> Result<(String, [u8; 32]), TargetFailed> {
        let ServerFirst {
            text,
            nonce,
            salt,
            iterations,
        } = server_first(server_first_message, &self.first)?;
        let keys = self.keys.of(self.password.danger_reveal(), &salt, iterations);
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(&self.bound));
        let authenticated = format!("{},{text},{without_proof}", self.first);
        // ClientProof = ClientKey XOR HMAC(H(ClientKey), AuthMessage)
        let stored = digest::digest(&digest::SHA256, &keys.client);
        let mut proof = sign(stored.as_ref(), &authenticated);
        proof
            .iter_mut()
            .zip(&keys.client)
            .for_each(|(byte, key)| *byte ^= key);
        Ok((
            format!("{without_proof},p={}", STANDARD.encode(proof)),
            sign(&keys.server, &authenticated),
        ))
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
                let said = std::str::from_utf8(data)
                    .ok()
                    .and_then(|text| text.split(',').next())
                    .unwrap_or_default();
                let verifier = said
                    .strip_prefix("v=")
                    .and_then(|text| STANDARD.decode(text).ok());
                // "e=" and whatever else is no proof.
                let verifier = verifier.ok_or_else(|| failed("the target gave no proof of its own"))?;
                constant_time::verify_slices_are_equal(&verifier, &self.signature)
                    .map_err(|_| failed("the target's proof is wrong: it does not know the password"))?;
                let next = ExpectAuthenticationOk {
                    progress: self.progress,
                };
                Ok((TargetHandshake::ExpectAuthenticationOk(Box::new(next)), used(len)))
            }
            // An early AuthenticationOk would skip the target's proof.
            Backend::ErrorResponse(fields) => Err(TargetRefused::before_authentication(fields)),
            _ => Err(out_of_place(tag, "ExpectSaslFinal")),
        }
    }
}
