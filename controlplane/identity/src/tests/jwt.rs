//! JWTs, good and forged, against an issuer on loopback.

use super::*;
use crate::types::ChildRequest;
use headgate_plane::RefusalKind::{BadCredential, Unavailable};

const JWKS: &str = "/realm/jwks";

async fn edge() -> (SigningKey, TestIssuer, Gate) {
    let key = SigningKey::ed25519("k1");
    let issuer = TestIssuer::start(&[&key]).await;
    let gate = gate(&[issuer_config(&issuer.url, "")], None, QUICK);
    (key, issuer, gate)
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

fn without(mut claims: Value, name: &str) -> Value {
    claims.as_object_mut().unwrap().remove(name).unwrap();
    claims
}

#[tokio::test]
async fn a_good_jwt_becomes_an_identity_with_its_chain() {
    let (key, issuer, gate) = edge().await;
    let act = json!({ "sub": "agent-7", "act": { "sub": "planner", "iss": "https://agents.example" } });
    let good = with(claims(&issuer.url), "act", act);
    let found = gate
        .identity
        .sign_in(&ask(&key.sign(&good), "orders"))
        .await
        .unwrap();
    assert_eq!(found.who.principal, "alice");
    assert_eq!(found.who.groups, ["dba", "staff"]);
    assert_eq!(found.who.chain, ["agent-7", "https://agents.example#planner"]);
    assert_eq!(found.who.actor(), "agent-7");
    assert_eq!(
        (found.who.issuer.as_str(), found.who.address.as_str()),
        (issuer.url.as_str(), "192.0.2.7")
    );
    assert_eq!(found.who.application, "psql");
    assert_eq!(found.credential_id, "jwt:j-1");
    assert_eq!(found.expires_unix_ms, good["exp"].as_u64().unwrap() * 1000);
    assert_eq!(found.targets, None);
}

#[tokio::test]
async fn a_p256_key_and_a_claim_behind_dots_are_read() {
    let key = SigningKey::p256("e1");
    let issuer = TestIssuer::start(&[&key]).await;
    let more = "groups_claim = \"realm_access.roles\"\nprincipal_claim = \"email\"";
    let gate = gate(&[issuer_config(&issuer.url, more)], None, QUICK);
    let mut good = with(claims(&issuer.url), "realm_access", json!({ "roles": ["r1"] }));
    refused(
        gate.identity.sign_in(&ask(&key.sign(&good), "orders")).await,
        BadCredential,
        "email",
    );
    good["email"] = json!("alice@example.com");
    let found = gate
        .identity
        .sign_in(&ask(&key.sign(&good), "orders"))
        .await
        .unwrap();
    assert_eq!(
        (found.who.principal.as_str(), found.who.groups),
        ("alice@example.com", vec!["r1".to_owned()])
    );
}

#[tokio::test]
async fn claims_that_are_wrong_missing_or_odd_are_refused() {
    let (key, issuer, gate) = edge().await;
    let good = || claims(&issuer.url);
    assert!(
        gate.identity
            .sign_in(&ask(&key.sign(&good()), "orders"))
            .await
            .is_ok()
    );
    let deep = (0..9).fold(
        json!({ "sub": "innermost" }),
        |act, i| json!({ "sub": format!("a{i}"), "act": act }),
    );
    let cases = [
        (with(good(), "aud", json!("somebody-else")), "InvalidAudience"),
        (with(good(), "aud", json!(["headgate2"])), "InvalidAudience"),
        (without(good(), "aud"), "aud"),
        (with(good(), "iss", json!("https://evil.example")), "not trusted"),
        (with(good(), "iss", json!([issuer.url])), "nor a JWT"),
        (without(good(), "iss"), "nor a JWT"),
        (with(good(), "exp", json!(at(-60))), "ExpiredSignature"),
        (without(good(), "exp"), "exp"),
        (with(good(), "exp", json!("tomorrow")), ""),
        (with(good(), "exp", json!(at(90_000))), "lives longer"),
        (with(good(), "nbf", json!(at(120))), "ImmatureSignature"),
        (with(good(), "nbf", json!("soon")), "nbf"),
        (with(good(), "iat", json!(at(120))), "future"),
        (without(good(), "iat"), "iat"),
        (with(good(), "iat", json!(-5)), "iat"),
        (with(good(), "sub", json!("")), "sub"),
        (with(good(), "sub", json!(["alice"])), ""),
        (with(good(), "sub", json!("alice\nroot")), "sub"),
        (without(good(), "sub"), "sub"),
        (with(good(), "jti", json!("a\u{0}b")), "jti"),
        (with(good(), "groups", json!({ "dba": true })), "groups"),
        (with(good(), "groups", json!(["dba", 7])), "groups"),
        (with(good(), "act", json!("agent")), "act"),
        (with(good(), "act", json!({ "act": { "sub": "hidden" } })), "act"),
        (with(good(), "act", deep), "actors"),
        (with(good(), "cnf", json!({ "jkt": "thumb" })), "cnf"),
    ];
    for (wrong, because) in cases {
        refused(
            gate.identity.sign_in(&ask(&key.sign(&wrong), "orders")).await,
            BadCredential,
            because,
        );
    }
}

#[tokio::test]
async fn headers_that_confuse_are_refused() {
    let (key, issuer, gate) = edge().await;
    let good = claims(&issuer.url);
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let verify = |token: Secret| {
        let gate = gate.identity.clone();
        async move { gate.sign_in(&ask(&token, "orders")).await }
    };

    // alg none, with and without an empty signature.
    for alg in ["none", "None", "NONE", ""] {
        let head = encode(&json!({ "alg": alg, "kid": "k1" }));
        for token in [
            format!("{head}.{}.", encode(&good)),
            format!("{head}.{}", encode(&good)),
        ] {
            refused(verify(Secret::new(token)).await, BadCredential, "");
        }
    }
    // HS256, keyed with the public key in every form that a verifier could take for a secret.
    let jwk = key.jwk.to_string();
    let x = key.jwk["x"].as_str().unwrap();
    for secret in [key.public.as_slice(), x.as_bytes(), jwk.as_bytes(), b""] {
        let header = Header {
            kid: Some("k1".into()),
            ..Header::new(Algorithm::HS256)
        };
        let forged = jsonwebtoken::encode(&header, &good, &EncodingKey::from_secret(secret)).unwrap();
        refused(
            verify(Secret::new(forged)).await,
            BadCredential,
            "InvalidAlgorithm",
        );
    }
    // A key that the token brings itself.
    let stranger = SigningKey::ed25519("k1");
    let own = Header {
        jwk: Some(serde_json::from_value(stranger.jwk.clone()).unwrap()),
        ..stranger.header()
    };
    refused(
        verify(stranger.sign_with(&own, &good)).await,
        BadCredential,
        "InvalidSignature",
    );
    // Another algorithm under the name of our key.
    let other = SigningKey::p256("k1");
    refused(verify(other.sign(&good)).await, BadCredential, "InvalidAlgorithm");
    let crit = Header {
        crit: Some(vec!["exp".into()]),
        ..key.header()
    };
    refused(verify(key.sign_with(&crit, &good)).await, BadCredential, "crit");
    for typ in ["logout+jwt", "dpop+jwt", "secevent+jwt", "JOSE"] {
        let header = Header {
            typ: Some(typ.into()),
            ..key.header()
        };
        refused(verify(key.sign_with(&header, &good)).await, BadCredential, "typ");
    }
    let at_jwt = Header {
        typ: Some("application/at+jwt".into()),
        ..key.header()
    };
    assert!(verify(key.sign_with(&at_jwt, &good)).await.is_ok());
    // Every byte of the signed part counts, and the signature too.
    let token = key.sign(&good).danger_reveal().to_owned();
    for i in (0..token.len()).step_by(7) {
        let mut bytes = token.clone().into_bytes();
        bytes[i] = if bytes[i] == b'A' { b'Q' } else { b'A' };
        refused(
            verify(Secret::new(String::from_utf8(bytes).unwrap())).await,
            BadCredential,
            "",
        );
    }
    for wrong in ["", ".", "..", "a.b.c", "hgt_", "🔑.🔑.🔑"] {
        refused(verify(Secret::new(wrong)).await, BadCredential, "");
    }
    refused(
        verify(Secret::new("a".repeat(crate::CREDENTIAL_BYTES_MAX + 1))).await,
        BadCredential,
        "too long",
    );
}

#[tokio::test]
async fn an_algorithm_that_the_configuration_leaves_out_is_refused() {
    let (ed, ec) = (SigningKey::ed25519("ed"), SigningKey::p256("ec"));
    let issuer = TestIssuer::start(&[&ed, &ec]).await;
    let gate = gate(
        &[issuer_config(&issuer.url, "algorithms = [\"ES256\"]")],
        None,
        QUICK,
    );
    assert!(
        gate.identity
            .sign_in(&ask(&ec.sign(&claims(&issuer.url)), "orders"))
            .await
            .is_ok()
    );
    refused(
        gate.identity
            .sign_in(&ask(&ed.sign(&claims(&issuer.url)), "orders"))
            .await,
        BadCredential,
        "no key",
    );
}

#[tokio::test]
async fn a_flood_of_unknown_keys_does_not_hammer_the_issuer() {
    let (key, issuer, gate) = edge().await;
    assert!(
        gate.identity
            .sign_in(&ask(&key.sign(&claims(&issuer.url)), "orders"))
            .await
            .is_ok()
    );
    let began = std::time::Instant::now();
    let mut waiting = Vec::new();
    for i in 0..300 {
        let header = Header {
            kid: Some(format!("made-up-{i}")),
            ..key.header()
        };
        let token = key.sign_with(&header, &claims(&issuer.url));
        let identity = gate.identity.clone();
        waiting.push(tokio::spawn(async move {
            identity.sign_in(&ask(&token, "orders")).await
        }));
    }
    for refusal in waiting {
        refused(refusal.await.unwrap(), BadCredential, "no key");
    }
    let allowed = 2 + usize::try_from(began.elapsed().as_millis() / QUICK.refetch_min.as_millis()).unwrap();
    assert!(
        issuer.asked(JWKS) <= allowed,
        "asked {} times, {allowed} allowed",
        issuer.asked(JWKS)
    );
}

#[tokio::test]
async fn a_new_key_is_found_and_a_removed_one_forgotten() {
    let (old, issuer, gate) = edge().await;
    assert!(
        gate.identity
            .sign_in(&ask(&old.sign(&claims(&issuer.url)), "orders"))
            .await
            .is_ok()
    );
    let new = SigningKey::p256("k2");
    issuer.set(|served| served.keys = vec![new.jwk.clone()]);
    tokio::time::sleep(QUICK.refetch_min).await;
    assert!(
        gate.identity
            .sign_in(&ask(&new.sign(&claims(&issuer.url)), "orders"))
            .await
            .is_ok()
    );
    refused(
        gate.identity
            .sign_in(&ask(&old.sign(&claims(&issuer.url)), "orders"))
            .await,
        BadCredential,
        "no key",
    );
}

#[tokio::test]
async fn the_last_good_keys_serve_while_the_issuer_is_away_but_not_for_ever() {
    let key = SigningKey::ed25519("k1");
    let issuer = TestIssuer::start(&[&key]).await;
    let timing = Timing {
        refetch_min: Duration::from_millis(10),
        fresh: Duration::from_millis(20),
        stale_max: Duration::from_millis(1500),
    };
    let gate = gate(&[issuer_config(&issuer.url, "")], None, timing);
    let token = key.sign(&claims(&issuer.url));
    assert!(gate.identity.sign_in(&ask(&token, "orders")).await.is_ok());
    issuer.set(|served| served.down = true);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(gate.identity.sign_in(&ask(&token, "orders")).await.is_ok());
    assert!(
        issuer.asked("/realm/.well-known/openid-configuration") >= 2,
        "it should have tried to refresh"
    );
    tokio::time::sleep(Duration::from_millis(1600)).await;
    refused(
        gate.identity.sign_in(&ask(&token, "orders")).await,
        Unavailable,
        "503",
    );
    issuer.set(|served| served.down = false);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(gate.identity.sign_in(&ask(&token, "orders")).await.is_ok());
}

#[tokio::test]
async fn discovery_that_speaks_for_another_or_leads_elsewhere_is_not_followed() {
    let (key, issuer, gate) = edge().await;
    let token = key.sign(&claims(&issuer.url));
    issuer.set(|served| served.issuer = Some("https://id.example.com".into()));
    refused(
        gate.identity.sign_in(&ask(&token, "orders")).await,
        Unavailable,
        "another issuer",
    );
    issuer.set(|served| {
        served.issuer = None;
        served.jwks_uri = Some("http://192.0.2.1/jwks".into());
    });
    tokio::time::sleep(QUICK.refetch_min).await;
    refused(
        gate.identity.sign_in(&ask(&token, "orders")).await,
        Unavailable,
        "not https",
    );
    assert_eq!(issuer.asked(JWKS), 0);
}

#[tokio::test]
async fn a_revoked_jwt_is_refused_with_the_tokens_that_came_from_it() {
    let (key, issuer, gate) = edge().await;
    let mut heard = gate.identity.revocations();
    let token = key.sign(&claims(&issuer.url));
    let found = gate.identity.sign_in(&ask(&token, "orders")).await.unwrap();
    let wish = ChildRequest {
        act_as: Some("sub-agent".into()),
        ttl: Duration::from_secs(86_400),
        ..ChildRequest::default()
    };
    let (child, info) = gate.identity.mint_child(&token, &wish).await.unwrap();
    assert_eq!(
        info.expires_unix_ms, found.expires_unix_ms,
        "a child lives no longer than the JWT"
    );
    assert_eq!(
        gate.identity
            .sign_in(&ask(&child, "orders"))
            .await
            .unwrap()
            .who
            .chain,
        ["sub-agent"]
    );

    gate.identity
        .revoke_credential(&found.credential_id, "laptop lost")
        .unwrap();
    refused(
        gate.identity.sign_in(&ask(&token, "orders")).await,
        BadCredential,
        "revoked",
    );
    refused(
        gate.identity.sign_in(&ask(&child, "orders")).await,
        BadCredential,
        "revoked",
    );
    assert!(gate.identity.mint_child(&token, &wish).await.is_err());
    let said = heard.recv().await.unwrap();
    assert!(said.ends(&found.who, &found.credential_id) && said.ends(&found.who, &info.id));
    assert!(!said.ends(&found.who, "jwt:j-2"));
    // Another JWT of the same person still opens.
    let other = key.sign(&with(claims(&issuer.url), "jti", json!("j-2")));
    assert!(gate.identity.sign_in(&ask(&other, "orders")).await.is_ok());
}

#[tokio::test]
async fn a_revoked_principal_needs_a_jwt_that_is_newer() {
    let (key, issuer, gate) = edge().await;
    let before = key.sign(&with(claims(&issuer.url), "iat", json!(at(25))));
    assert!(gate.identity.sign_in(&ask(&before, "orders")).await.is_ok());
    let agent = with(
        with(claims(&issuer.url), "sub", json!("bob")),
        "act",
        json!({ "sub": "alice" }),
    );
    let bystander = key.sign(&with(claims(&issuer.url), "sub", json!("bob")));
    gate.identity.revoke_principal("alice", "left").unwrap();
    // Even with a clock of the issuer that is ahead.
    refused(
        gate.identity.sign_in(&ask(&before, "orders")).await,
        BadCredential,
        "revoked",
    );
    refused(
        gate.identity.sign_in(&ask(&key.sign(&agent), "orders")).await,
        BadCredential,
        "revoked",
    );
    assert!(gate.identity.sign_in(&ask(&bystander, "orders")).await.is_ok());
}
