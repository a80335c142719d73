//! Checkpoints: the tree's size and root, signed. The format is C2SP's `tlog-checkpoint` inside a `signed-note`, so
//! foreign witnesses and tools read it.
//!
//! ```text
//! headgate/5b1c0e2f
//! 1042
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//! time 1795000000123
//!
//! — headgate/5b1c0e2f Wxwm...
//! ```
//! Spec: <https://c2sp.org/tlog-checkpoint>, <https://c2sp.org/signed-note>

use crate::chain::Hash;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};

/// Note type of an Ed25519 signature.
const ED25519_TYPE: u8 = 1;
/// A longer note is not read.
pub const NOTE_BYTES_MAX: usize = 16 << 10;

/// What a checkpoint says: so many chunks, and the root over them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Whose log it is.
    pub origin: String,
    /// Chunks.
    pub size: u64,
    /// Of the tree over all chunks.
    pub root: Hash,
    /// By the recorder's clock.
    pub unix_ms: u64,
}

/// Why a checkpoint, or a key, is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointError {
    /// Not a note, or a part of it cannot be read.
    Malformed,
    /// No signature of this key.
    NotSigned,
    /// There is one, and it is not of this text.
    BadSignature,
    /// The public key's text cannot be read.
    BadKey,
}

impl std::fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            CheckpointError::Malformed => "the checkpoint cannot be read",
            CheckpointError::NotSigned => "the checkpoint has no signature of this key",
            CheckpointError::BadSignature => "the checkpoint's signature does not fit its text",
            CheckpointError::BadKey => "the public key cannot be read",
        })
    }
}

impl std::error::Error for CheckpointError {}

/// The public half: `name+hash+base64`, as C2SP writes a verifier key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The log's name, with the key's id behind it.
    pub name: String,
    id: [u8; 4],
    key: [u8; 32],
}

impl PublicKey {
    fn new(name: &str, key: [u8; 32]) -> PublicKey {
        let hash = Sha256::new()
            .chain_update(name.as_bytes())
            .chain_update([b'\n', ED25519_TYPE])
            .chain_update(key)
            .finalize();
        let [a, b, c, d, ..] = <[u8; 32]>::from(hash);
        PublicKey {
            name: name.to_owned(),
            id: [a, b, c, d],
            key,
        }
    }

    /// From the text in the file beside the signing key: `name+id+key`.
    pub fn parse(text: &str) -> Result<PublicKey, CheckpointError> {
        let text = text.trim();
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(CheckpointError::BadKey);
        };
        let bytes = STANDARD.decode(key).map_err(|_| CheckpointError::BadKey)?;
        let Some((&ED25519_TYPE, key)) = bytes.split_first() else {
            return Err(CheckpointError::BadKey);
        };
        let key: [u8; 32] = key.try_into().map_err(|_| CheckpointError::BadKey)?;
        let public = PublicKey::new(name, key);
        if name.is_empty() || public.id_hex() != id {
            return Err(CheckpointError::BadKey);
        }
        Ok(public)
    }

    fn id_hex(&self) -> String {
        self.id.iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut bytes = vec![ED25519_TYPE];
        bytes.extend_from_slice(&self.key);
        write!(f, "{}+{}+{}", self.name, self.id_hex(), STANDARD.encode(bytes))
    }
}

/// The signing half. Lives in the recorder only.
pub struct Signer {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl Signer {
    /// A new key as PKCS#8.
    pub fn generate() -> Result<Vec<u8>, CheckpointError> {
        let document = Ed25519KeyPair::generate()
            .and_then(|pair| pair.to_pkcs8())
            .map_err(|_| CheckpointError::BadKey)?;
        Ok(document.as_ref().to_vec())
    }

    /// From PKCS#8. Without a name the key names itself: `headgate/` and eight hex digits of its hash.
    pub fn from_pkcs8(bytes: &[u8], name: Option<&str>) -> Result<Signer, CheckpointError> {
        let pair = Ed25519KeyPair::from_pkcs8(bytes).map_err(|_| CheckpointError::BadKey)?;
        let key: [u8; 32] = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| CheckpointError::BadKey)?;
        let name = match name {
            Some(name) if !name.is_empty() && !name.contains(['+', ' ', '\n', '\t']) => name.to_owned(),
            Some(_) => return Err(CheckpointError::BadKey),
            None => {
                let [a, b, c, d, ..] = <[u8; 32]>::from(Sha256::digest(key));
                format!("headgate/{a:02x}{b:02x}{c:02x}{d:02x}")
            }
        };
        Ok(Signer {
            pair,
            public: PublicKey::new(&name, key),
        })
    }

    /// What others check signatures with.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The signed note. The origin is the key's name.
    pub fn sign(&self, size: u64, root: &Hash, unix_ms: u64) -> String {
        let name = &self.public.name;
        let text = format!("{name}\n{size}\n{}\ntime {unix_ms}\n", STANDARD.encode(root));
        let mut signature = self.public.id.to_vec();
        signature.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        format!("{text}\n\u{2014} {name} {}\n", STANDARD.encode(signature))
    }
}

/// Reads a note and checks this key's signature.
pub fn verify(note: &str, key: &PublicKey) -> Result<Checkpoint, CheckpointError> {
    use CheckpointError::*;
    if note.len() > NOTE_BYTES_MAX {
        return Err(Malformed);
    }
    let split = note.rfind("\n\n").ok_or(Malformed)?;
    let (text, signatures) = (&note[..=split], &note[split + 2..]);
    let mut found = NotSigned;
    for line in signatures.lines() {
        let mut words = line.strip_prefix("\u{2014} ").ok_or(Malformed)?.split(' ');
        let (Some(name), Some(signature), None) = (words.next(), words.next(), words.next()) else {
            return Err(Malformed);
        };
        let signature = STANDARD.decode(signature).map_err(|_| Malformed)?;
        let Some((id, signature)) = signature.split_first_chunk::<4>() else {
            return Err(Malformed);
        };
        if name != key.name || *id != key.id {
            continue;
        }
        match UnparsedPublicKey::new(&ED25519, &key.key).verify(text.as_bytes(), signature) {
            Ok(()) => return read(text),
            Err(_) => found = BadSignature,
        }
    }
    Err(found)
}

fn read(text: &str) -> Result<Checkpoint, CheckpointError> {
    use CheckpointError::Malformed;
    let mut lines = text.lines();
    let origin = lines
        .next()
        .filter(|o| !o.is_empty())
        .ok_or(Malformed)?
        .to_owned();
    let size = lines.next().and_then(|n| n.parse().ok()).ok_or(Malformed)?;
    let root = lines
        .next()
        .and_then(|r| STANDARD.decode(r).ok())
        .ok_or(Malformed)?;
    let root = root.try_into().map_err(|_| Malformed)?;
    let time = lines
        .find_map(|l| l.strip_prefix("time "))
        .and_then(|t| t.parse().ok());
    Ok(Checkpoint {
        origin,
        size,
        root,
        unix_ms: time.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        Signer::from_pkcs8(&Signer::generate().unwrap(), None).unwrap()
    }

    #[test]
    fn a_note_reads_back_and_its_key_too() {
        let signer = signer();
        let note = signer.sign(1042, &[7; 32], 1_795_000_000_123);
        let key = PublicKey::parse(&signer.public().to_string()).unwrap();
        let back = verify(&note, &key).unwrap();
        assert_eq!(
            back,
            Checkpoint {
                origin: key.name.clone(),
                size: 1042,
                root: [7; 32],
                unix_ms: 1_795_000_000_123
            }
        );
    }

    #[test]
    fn no_byte_of_a_note_can_change() {
        let signer = signer();
        let note = signer.sign(9, &[1; 32], 5);
        let text_end = note.find("\n\n").unwrap();
        for at in 0..text_end {
            let mut bytes = note.clone().into_bytes();
            bytes[at] ^= 1;
            if let Ok(changed) = String::from_utf8(bytes) {
                assert!(verify(&changed, signer.public()).is_err(), "byte {at}");
            }
        }
        let other = self::signer();
        assert_eq!(verify(&note, other.public()), Err(CheckpointError::NotSigned));
    }
}
