//! JSON Web Tokens of trusted issuers: the signature, then every claim that says for whom, by whom and until when.
//!
//! The key decides the algorithm, never the token's header. `act` (RFC 8693) becomes the actor chain, outermost first.
//! A token that is bound to a key of the sender's (`cnf`) is refused: a password field cannot prove possession.
//! Bounds: CREDENTIAL_BYTES_MAX, CHAIN_MAX, GROUPS_MAX, the issuer's `lifetime_max`.
//! Spec: RFC 7515, 7519, 8725 (best practice), 8693 section 4.1, 9068.

use crate::IdentityError;
use crate::error::bad;
use crate::issuer::TrustedIssuer;
use crate::keys::Key;
use crate::names::{CHAIN_MAX, GROUPS_MAX, is_name};
use crate::types::VerifiedIdentity;
use data_encoding::HEXLOWER;
use headgate_config::{Algorithm, Issuer};
use headgate_plane::{Refusal, Who};
use jsonwebtoken::{Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// Clocks may differ by this much.
pub(crate) const LEEWAY_SECONDS: u64 = 30;

type Claims = Map<String, Value>;

/// What a good JWT says.
#[derive(Debug)]
pub(crate) struct Proven {
    pub principal: String,
    pub groups: Vec<String>,
    pub chain: Vec<String>,
    pub credential_id: String,
    pub issued_unix_ms: u64,
    pub expires_unix_ms: u64,
}

impl Proven {
    pub(crate) fn identity(self, issuer: &str) -> VerifiedIdentity {
        let who = Who {
            principal: self.principal,
            groups: self.groups,
            chain: self.chain,
            issuer: issuer.to_owned(),
            ..Who::default()
        };
        VerifiedIdentity {
            who,
            credential_id: self.credential_id,
            ancestors: Vec::new(),
            expires_unix_ms: self.expires_unix_ms,
            targets: None,
        }
    }
}

/// `iss`, unproven: only to know whose keys to try.
pub(crate) fn claimed_issuer(token: &str) -> Result<String, Refusal> {
    #[derive(Deserialize)]
    struct Iss {
        iss: String,
    }
    let claims: Iss = jsonwebtoken::dangerous::insecure_decode_claims(token)
        .map_err(|_| bad("neither a token of ours nor a JWT"))?;
    Ok(claims.iss)
}

/// `audience`: who it must be for. `now_ms`: Unix milliseconds.
pub(crate) async fn verify(
    token: &str,
    issuer: &TrustedIssuer,
    audience: &str,
    now_ms: u64,
) -> Result<Proven, IdentityError> {
    let header = decode_header(token).map_err(|error| bad(format!("JWT header: {error}")))?;
    //= RFC 7515 section 4.1.11: "If any of the listed extension Header Parameters are not understood and supported by the
    //# recipient, then the JWS is invalid." None is supported here.
    if header.crit.is_some() {
        return Err(bad("JWT header: crit").into());
    }
    if header.enc.is_some() || header.zip.is_some() {
        return Err(bad("JWT header: encrypted or compressed").into());
    }
    if let Some(typ) = &header.typ {
        let typ = typ.to_ascii_lowercase();
        let typ = typ.strip_prefix("application/").unwrap_or(&typ);
        // A logout token, a DPoP proof or a security event of the same issuer is no proof of who is calling.
        if !matches!(typ, "jwt" | "at+jwt") {
            return Err(bad(format!("JWT header: typ {typ:?}")).into());
        }
    }
    let keys = issuer.keys_for(header.kid.as_deref()).await?;
    let key = keys
        .find(header.kid.as_deref())
        .ok_or_else(|| bad("the issuer's keys changed"))?;
    let claims = check_signature(token, key, &issuer.config, audience)?;
    read(token, &claims, &issuer.config, now_ms).map_err(IdentityError::from)
}

fn check_signature(token: &str, key: &Key, issuer: &Issuer, audience: &str) -> Result<Claims, Refusal> {
    let mut validation = Validation::new(match key.algorithm {
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
    });
    validation.set_required_spec_claims(&["exp", "iss", "aud"]);
    validation.set_issuer(&[&issuer.url]);
    validation.set_audience(&[audience]);
    validation.leeway = LEEWAY_SECONDS;
    validation.validate_nbf = true;
    match decode::<Claims>(token, &key.key, &validation) {
        Ok(decoded) => Ok(decoded.claims),
        Err(error) => Err(bad(format!("JWT of {}: {error}", issuer.url))),
    }
}

fn read(token: &str, claims: &Claims, issuer: &Issuer, now_ms: u64) -> Result<Proven, Refusal> {
    let now = now_ms / 1000;
    let exp = seconds(claims, "exp")?.ok_or_else(|| bad("JWT without exp"))?;
    let iat = seconds(claims, "iat")?.ok_or_else(|| bad("JWT without iat"))?;
    // The library's view of `exp` and `nbf` has been heard; here it is ours, against our own clock.
    if exp.saturating_add(LEEWAY_SECONDS) <= now {
        return Err(bad("JWT has expired"));
    }
    if seconds(claims, "nbf")?.is_some_and(|nbf| nbf > now.saturating_add(LEEWAY_SECONDS))
        || iat > now.saturating_add(LEEWAY_SECONDS)
    {
        return Err(bad("JWT is from the future"));
    }
    if exp.saturating_sub(iat) > issuer.lifetime_max.as_secs() {
        return Err(bad(format!(
            "JWT lives longer than {} s",
            issuer.lifetime_max.as_secs()
        )));
    }
    if claims.contains_key("cnf") {
        return Err(bad("JWT is bound to a key of its sender (cnf)"));
    }
    let principal = match claims.get(&issuer.principal_claim) {
        Some(Value::String(name)) if is_name(name) => name.clone(),
        _ => {
            return Err(bad(format!(
                "JWT: {} is missing or no name",
                issuer.principal_claim
            )));
        }
    };
    let credential_id = match claims.get("jti") {
        None => format!("jwt#{}", HEXLOWER.encode(&Sha256::digest(token.as_bytes())[..16])),
        Some(Value::String(jti)) if is_name(jti) => format!("jwt:{jti}"),
        Some(_) => return Err(bad("JWT: jti is no name")),
    };
    let expires = if exp > now {
        exp
    } else {
        exp.saturating_add(LEEWAY_SECONDS)
    };
    Ok(Proven {
        principal,
        groups: groups(claims, &issuer.groups_claim)?,
        chain: chain(claims, issuer)?,
        credential_id,
        // The issuer's clock may be ahead of ours: for a revocation "until now", take the earliest that it can have been.
        issued_unix_ms: iat.saturating_sub(LEEWAY_SECONDS).saturating_mul(1000),
        expires_unix_ms: expires.saturating_mul(1000),
    })
}

/// A NumericDate; it may have a fraction (RFC 7519 section 2).
fn seconds(claims: &Claims, claim: &str) -> Result<Option<u64>, Refusal> {
    const LATEST: f64 = 253_402_300_799.0;
    match claims.get(claim) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            // Between 0 and the year 9999 a float's whole part is exact.
            Some(number) if (0.0..=LATEST).contains(&number) => Ok(Some(number as u64)),
            _ => Err(bad(format!("JWT: {claim} is no time"))),
        },
    }
}

/// The claim of that name, or the way to it with dots, as `realm_access.roles`.
fn groups(claims: &Claims, name: &str) -> Result<Vec<String>, Refusal> {
    let wrong = || bad(format!("JWT: {name} is no list of names"));
    let found = claims.get(name).or_else(|| {
        let mut parts = name.split('.');
        let first = claims.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    });
    let groups = match found {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(many)) if many.len() <= GROUPS_MAX => many
            .iter()
            .map(|value| value.as_str().map(str::to_owned).ok_or_else(wrong))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(wrong()),
    };
    if groups.iter().all(|group| is_name(group)) {
        Ok(groups)
    } else {
        Err(wrong())
    }
}

/// `act` and the `act` in it, outermost first. An actor known to another issuer is written `issuer#sub`.
fn chain(claims: &Claims, issuer: &Issuer) -> Result<Vec<String>, Refusal> {
    let wrong = || bad("JWT: act is no chain of actors");
    let mut chain = Vec::new();
    let mut next = claims.get("act");
    while let Some(act) = next {
        let act = act.as_object().ok_or_else(wrong)?;
        if chain.len() == CHAIN_MAX {
            return Err(bad(format!("JWT: more than {CHAIN_MAX} actors")));
        }
        let name = act
            .get(&issuer.principal_claim)
            .or_else(|| act.get("sub"))
            .and_then(Value::as_str)
            .ok_or_else(wrong)?;
        let name = match act.get("iss") {
            None => name.to_owned(),
            Some(Value::String(iss)) if *iss == issuer.url => name.to_owned(),
            Some(Value::String(iss)) => format!("{iss}#{name}"),
            Some(_) => return Err(wrong()),
        };
        if !is_name(&name) {
            return Err(wrong());
        }
        chain.push(name);
        next = act.get("act");
    }
    Ok(chain)
}
