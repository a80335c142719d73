//! SCRAM-SHA-256, both sides. Does no IO.
//!
//! A login test must not measure its own generator: salted keys are kept by (salt, iterations, password), so PBKDF2 is paid once.
//! Never here: channel binding (`SCRAM-SHA-256-PLUS`), SASLprep. A password that is not ASCII goes as its UTF-8 bytes.
//! Bounds: at most [`KEYS_MAX`] keys are kept; of a server's message at most [`MESSAGE_BYTES_MAX`] are read.
//! Spec: RFC 5802, RFC 7677; PostgreSQL 18, SASL Authentication.

use aws_lc_rs::{digest, hmac, pbkdf2, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::cell::RefCell;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::rc::Rc;

pub const MECHANISM: &str = "SCRAM-SHA-256";
const KEYS_MAX: usize = 65_536;
const MESSAGE_BYTES_MAX: usize = 4_096;
/// Above this a server wants to keep the generator busy.
const ITERATIONS_MAX: u32 = 1_000_000;
/// As PostgreSQL 15.
const ITERATIONS: u32 = 4_096;
const NONCE_BYTES: usize = 18;

type Hash = [u8; 32];

struct Keys {
    client: Hash,
    stored: Hash,
    server: Hash,
}

fn sign(key: &[u8], text: &[u8]) -> Hash {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    let mut hash = [0; 32];
    hash.copy_from_slice(tag.as_ref());
    hash
}

fn derive(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Keys {
    let mut salted = [0; 32];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        salt,
        password,
        &mut salted,
    );
    let client = sign(&salted, b"Client Key");
    let mut stored = [0; 32];
    stored.copy_from_slice(digest::digest(&digest::SHA256, &client).as_ref());
    Keys {
        client,
        stored,
        server: sign(&salted, b"Server Key"),
    }
}

fn xor(a: &Hash, b: &Hash) -> Hash {
    std::array::from_fn(|at| a.get(at).copied().unwrap_or(0) ^ b.get(at).copied().unwrap_or(0))
}

fn nonce() -> String {
    let mut bytes = [0; NONCE_BYTES];
    // Where the machine has no random source at all, an empty nonce makes every exchange fail: doubt refuses.
    if rand::fill(&mut bytes).is_err() {
        String::new()
    } else {
        BASE64.encode(bytes)
    }
}

fn attribute(text: &str, name: char) -> Option<&str> {
    text.split(',')
        .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

type Kept = HashMap<(Vec<u8>, u32, String), Rc<Keys>>;

/// The generator's side: keys that were derived once.
#[derive(Default)]
pub struct KeyRing(RefCell<Kept>);

impl KeyRing {
    fn keys(&self, password: &str, salt: &[u8], iterations: NonZeroU32) -> Rc<Keys> {
        let at = (salt.to_vec(), iterations.get(), password.to_owned());
        let mut kept = self.0.borrow_mut();
        if let Some(keys) = kept.get(&at) {
            return Rc::clone(keys);
        }
        if kept.len() >= KEYS_MAX {
            kept.clear();
        }
        let keys = Rc::new(derive(password.as_bytes(), salt, iterations));
        kept.insert(at, Rc::clone(&keys));
        keys
    }
}

/// One sign-in of a client.
pub struct ClientExchange {
    first_bare: String,
    server_signature: Option<Hash>,
}

impl ClientExchange {
    /// The exchange and its first message.
    pub fn start() -> (ClientExchange, String) {
        // PostgreSQL takes the name from the startup packet.
        let first_bare = format!("n=,r={}", nonce());
        let first = format!("n,,{first_bare}");
        (
            ClientExchange {
                first_bare,
                server_signature: None,
            },
            first,
        )
    }

    /// The final message for the server's first.
    pub fn answer(
        &mut self,
        server_first: &[u8],
        password: &str,
        keys: &KeyRing,
    ) -> Result<String, &'static str> {
        let server_first = text(server_first)?;
        let nonce = attribute(server_first, 'r').ok_or("SCRAM: the server's message has no nonce")?;
        let mine = attribute(&self.first_bare, 'r').unwrap_or_default();
        if mine.is_empty() || !nonce.starts_with(mine) || nonce.len() == mine.len() {
            return Err("SCRAM: the server's nonce does not continue ours");
        }
        let salt = attribute(server_first, 's')
            .and_then(|s| BASE64.decode(s).ok())
            .ok_or("SCRAM: the server's message has no salt")?;
        let iterations: NonZeroU32 = attribute(server_first, 'i')
            .and_then(|i| i.parse().ok())
            .filter(|i: &NonZeroU32| i.get() <= ITERATIONS_MAX)
            .ok_or("SCRAM: the server's count of iterations is missing or out of bounds")?;
        let keys = keys.keys(password, &salt, iterations);
        // "biws" is base64 of "n,,".
        let without_proof = format!("c=biws,r={nonce}");
        let auth = format!("{},{server_first},{without_proof}", self.first_bare);
        let proof = xor(&keys.client, &sign(&keys.stored, auth.as_bytes()));
        self.server_signature = Some(sign(&keys.server, auth.as_bytes()));
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)))
    }

    /// Whether the server knows the password, too.
    pub fn finish(&self, server_final: &[u8]) -> Result<(), &'static str> {
        let signature = attribute(text(server_final)?, 'v')
            .and_then(|v| BASE64.decode(v).ok())
            .unwrap_or_default();
        match &self.server_signature {
            Some(wanted) if wanted.as_slice() == signature => Ok(()),
            _ => Err("SCRAM: the server's signature is wrong"),
        }
    }
}

fn text(message: &[u8]) -> Result<&str, &'static str> {
    if message.len() > MESSAGE_BYTES_MAX {
        return Err("SCRAM: a message longer than its bound");
    }
    std::str::from_utf8(message).map_err(|_| "SCRAM: a message that is no text")
}

/// The target's side: one password for everybody, its keys derived once.
pub struct Verifier {
    salt: String,
    keys: Keys,
}

impl Verifier {
    pub fn new(password: &str) -> Verifier {
        let mut salt = [0; 16];
        // Not secret: a salt that is all zero still works.
        let _ = rand::fill(&mut salt);
        let iterations = NonZeroU32::new(ITERATIONS).unwrap_or(NonZeroU32::MIN);
        Verifier {
            salt: BASE64.encode(salt),
            keys: derive(password.as_bytes(), &salt, iterations),
        }
    }
}

/// One sign-in at the target.
pub struct TargetExchange {
    client_first_bare: String,
    server_first: String,
}

impl TargetExchange {
    /// The exchange and its first answer, for the client's first message.
    pub fn start(verifier: &Verifier, client_first: &[u8]) -> Result<(TargetExchange, String), &'static str> {
        let client_first = text(client_first)?;
        // "y,," is a client that could bind the channel and was not offered it.
        let bare = client_first
            .strip_prefix("n,,")
            .or_else(|| client_first.strip_prefix("y,,"))
            .ok_or("SCRAM: channel binding")?;
        let theirs = attribute(bare, 'r')
            .filter(|r| !r.is_empty())
            .ok_or("SCRAM: no nonce")?;
        let server_first = format!("r={theirs}{},s={},i={ITERATIONS}", nonce(), verifier.salt);
        Ok((
            TargetExchange {
                client_first_bare: bare.to_owned(),
                server_first: server_first.clone(),
            },
            server_first,
        ))
    }

    /// The last answer, if the client knows the password.
    pub fn finish(&self, verifier: &Verifier, client_final: &[u8]) -> Result<String, &'static str> {
        let client_final = text(client_final)?;
        let (without_proof, proof) = client_final.rsplit_once(",p=").ok_or("SCRAM: no proof")?;
        if attribute(without_proof, 'r') != attribute(&self.server_first, 'r') {
            return Err("SCRAM: another nonce");
        }
        let proof: Hash = BASE64
            .decode(proof)
            .ok()
            .and_then(|p| p.try_into().ok())
            .ok_or("SCRAM: no proof")?;
        let auth = format!("{},{},{without_proof}", self.client_first_bare, self.server_first);
        let client = xor(&proof, &sign(&verifier.keys.stored, auth.as_bytes()));
        if digest::digest(&digest::SHA256, &client).as_ref() != verifier.keys.stored {
            return Err("SCRAM: wrong password");
        }
        Ok(format!(
            "v={}",
            BASE64.encode(sign(&verifier.keys.server, auth.as_bytes()))
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(theirs: &str, ours: &str) -> Result<(), &'static str> {
        let (verifier, ring) = (Verifier::new(theirs), KeyRing::default());
        let (mut client, first) = ClientExchange::start();
        let (target, server_first) = TargetExchange::start(&verifier, first.as_bytes())?;
        let last = client.answer(server_first.as_bytes(), ours, &ring)?;
        client.finish(target.finish(&verifier, last.as_bytes())?.as_bytes())
    }

    #[test]
    fn both_sides_agree_on_the_right_password_and_on_no_other() {
        assert_eq!(exchange("correct horse", "correct horse"), Ok(()));
        assert_eq!(
            exchange("correct horse", "battery staple"),
            Err("SCRAM: wrong password")
        );
    }

    /// RFC 7677, section 3.
    #[test]
    fn the_example_of_the_specification_comes_out() {
        let mut client = ClientExchange {
            first_bare: "n=user,r=rOprNGfwEbeRWgbNEkqO".to_owned(),
            server_signature: None,
        };
        let first = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let last = client
            .answer(first, "pencil", &KeyRing::default())
            .expect("a final message");
        assert!(
            last.ends_with("p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="),
            "{last}"
        );
        assert_eq!(
            client.finish(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
            Ok(())
        );
        assert!(
            client
                .finish(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=")
                .is_err()
        );
    }

    #[test]
    fn a_server_that_asks_for_too_much_or_swaps_the_nonce_is_refused() {
        let (mut client, first) = ClientExchange::start();
        let nonce = attribute(&first, 'r').expect("a nonce").to_owned();
        for bad in [
            "r=other,s=AAAA,i=4096",
            &format!("r={nonce}x,s=AAAA,i=99999999"),
            &format!("r={nonce},s=AAAA,i=1"),
            "",
            "s=,i=,r=",
        ] {
            assert!(
                client.answer(bad.as_bytes(), "p", &KeyRing::default()).is_err(),
                "{bad}"
            );
        }
    }
}
