//! An issuer's public keys (JWKS, RFC 7517): each with the one algorithm that it may be used with.

use headgate_config::Algorithm;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;

/// More keys than that are not read.
const KEYS_MAX: usize = 64;
const RSA_BITS_MIN: usize = 2048;

pub(crate) struct Key {
    pub kid: Option<String>,
    pub algorithm: Algorithm,
    pub key: DecodingKey,
}

pub(crate) struct KeySet {
    keys: Vec<Key>,
}

#[derive(Deserialize)]
pub(crate) struct Jwks {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    public_use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl KeySet {
    /// Keys of other kinds, for other uses, or that cannot be read are left out: a set may well hold some.
    pub(crate) fn read(jwks: Jwks, allowed: &[Algorithm]) -> KeySet {
        let keys = jwks
            .keys
            .into_iter()
            .take(KEYS_MAX)
            .filter_map(|value| read_key(serde_json::from_value(value).ok()?));
        KeySet {
            keys: keys.filter(|key| allowed.contains(&key.algorithm)).collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The key of that name. Without a name: the only key there is.
    pub(crate) fn find(&self, kid: Option<&str>) -> Option<&Key> {
        match (kid, self.keys.as_slice()) {
            (Some(kid), keys) => keys.iter().find(|key| key.kid.as_deref() == Some(kid)),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }
}

fn read_key(jwk: Jwk) -> Option<Key> {
    let for_signatures = jwk.public_use.as_deref().is_none_or(|u| u == "sig")
        && jwk
            .key_ops
            .as_ref()
            .is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !for_signatures {
        return None;
    }
    let alg = jwk.alg.as_deref();
    let (algorithm, key) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) if alg.is_none_or(|a| a == "RS256") => {
            let n = jwk.n?;
            // Three quarters of the base64 digits are bytes.
            if n.len() * 6 < RSA_BITS_MIN {
                return None;
            }
            (Algorithm::RS256, DecodingKey::from_rsa_components(&n, &jwk.e?))
        }
        ("EC", Some("P-256")) if alg.is_none_or(|a| a == "ES256") => (
            Algorithm::ES256,
            DecodingKey::from_ec_components(&jwk.x?, &jwk.y?),
        ),
        ("OKP", Some("Ed25519")) if alg.is_none_or(|a| a == "EdDSA" || a == "Ed25519") => {
            (Algorithm::EdDSA, DecodingKey::from_ed_components(&jwk.x?))
        }
        _ => return None,
    };
    Some(Key {
        kid: jwk.kid,
        algorithm,
        key: key.ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ALL: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
    const X: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn read(keys: serde_json::Value) -> KeySet {
        KeySet::read(serde_json::from_value(json!({ "keys": keys })).unwrap(), &ALL)
    }

    #[test]
    fn keys_that_are_no_asymmetric_signature_keys_are_left_out() {
        let set = read(json!([
            { "kty": "oct", "kid": "shared", "k": "c2VjcmV0" },
            { "kty": "oct", "kid": "posing", "alg": "RS256", "k": "c2VjcmV0" },
            { "kty": "OKP", "crv": "Ed25519", "kid": "encrypts", "use": "enc", "x": X },
            { "kty": "OKP", "crv": "Ed25519", "kid": "signs-only", "key_ops": ["sign"], "x": X },
            { "kty": "OKP", "crv": "Ed25519", "kid": "other-alg", "alg": "RS256", "x": X },
            { "kty": "RSA", "kid": "short", "n": "AQAB", "e": "AQAB" },
            { "kty": "RSA", "kid": "pss", "alg": "PS256", "n": "a".repeat(342), "e": "AQAB" },
            { "no": "key" },
            { "kty": "OKP", "crv": "Ed25519", "kid": "good", "use": "sig", "x": X },
        ]));
        assert_eq!(
            set.keys
                .iter()
                .map(|k| k.kid.as_deref().unwrap())
                .collect::<Vec<_>>(),
            ["good"]
        );
        assert!(set.find(Some("shared")).is_none());
    }

    #[test]
    fn without_a_name_only_an_only_key_is_found() {
        let one = json!({ "kty": "OKP", "crv": "Ed25519", "x": X });
        assert!(read(json!([one])).find(None).is_some());
        assert!(read(json!([one, one])).find(None).is_none());
        assert!(read(json!([one])).find(Some("a")).is_none());
    }
}
