//! The two layers of AES-256-GCM around one secret.

use crate::SecretsError;
use crate::master::{KEY_BYTES, MasterKey};
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, RandomizedNonceKey};
use base64::{Engine, engine::general_purpose::STANDARD};
use headgate_plane::Secret;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

/// Each is nonce, ciphertext and tag, in base64.
#[derive(Serialize, Deserialize)]
pub(crate) struct Sealed {
    data_key: String,
    text: String,
}

impl Sealed {
    pub(crate) fn seal(master: &MasterKey, name: &str, clear: &[u8]) -> Result<Sealed, SecretsError> {
        let mut data_key = Zeroizing::new([0u8; KEY_BYTES]);
        aws_lc_rs::rand::fill(&mut *data_key).map_err(|_| SecretsError::Crypto)?;
        let text = seal(&*data_key, aad("secret", name), clear)?;
        let data_key = seal(master.bytes(), aad("data key", name), &*data_key)?;
        Ok(Sealed {
            data_key: STANDARD.encode(data_key),
            text: STANDARD.encode(text),
        })
    }

    pub(crate) fn open(&self, master: &MasterKey, name: &str) -> Result<Secret, SecretsError> {
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| SecretsError::Damaged);
        let data_key = open(master.bytes(), aad("data key", name), decode(&self.data_key)?)?;
        let data_key: Zeroizing<[u8; KEY_BYTES]> = Zeroizing::new(
            data_key
                .as_slice()
                .try_into()
                .map_err(|_| SecretsError::Damaged)?,
        );
        let clear = open(&*data_key, aad("secret", name), decode(&self.text)?)?;
        match std::str::from_utf8(&clear) {
            Ok(text) => Ok(Secret::new(text)),
            Err(_) => Err(SecretsError::Damaged),
        }
    }
}

/// The layer is named as well: one layer's ciphertext never opens as the other's.
fn aad(layer: &str, name: &str) -> Aad<Vec<u8>> {
    Aad::from(format!("headgate v1\0{layer}\0{name}").into_bytes())
}

fn seal(key: &[u8], aad: Aad<Vec<u8>>, clear: &[u8]) -> Result<Vec<u8>, SecretsError> {
    let key = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| SecretsError::Crypto)?;
    let mut text = clear.to_vec();
    let nonce = match key.seal_in_place_append_tag(aad, &mut text) {
        Ok(nonce) => nonce,
        Err(_) => {
            text.zeroize();
            return Err(SecretsError::Crypto);
        }
    };
    let mut out = nonce.as_ref().to_vec();
    out.extend_from_slice(&text);
    Ok(out)
}

fn open(key: &[u8], aad: Aad<Vec<u8>>, mut stored: Vec<u8>) -> Result<Zeroizing<Vec<u8>>, SecretsError> {
    let key = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| SecretsError::Crypto)?;
    let (nonce, text) = stored
        .split_first_chunk_mut::<NONCE_LEN>()
        .ok_or(SecretsError::Damaged)?;
    let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(*nonce);
    let clear = key
        .open_in_place(nonce, aad, text)
        .map_err(|_| SecretsError::Damaged)?;
    let copy = Zeroizing::new(clear.to_vec());
    clear.zeroize();
    Ok(copy)
}
