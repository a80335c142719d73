//! Our own tokens: minted, narrowed, expired, revoked; and what the store knows of them.

use super::*;
use crate::types::{ChildRequest, TokenRequest, TokenState};
use headgate_plane::RefusalKind::{BadCredential, NoSuchTarget};
use headgate_store::Table;

const HOUR: Duration = Duration::from_secs(3600);

fn request() -> TokenRequest {
    TokenRequest {
        principal: "alice".into(),
        groups: vec!["agents".into(), "staff".into()],
        issuer: "local".into(),
        ttl: HOUR,
        name: "laptop".into(),
        ..TokenRequest::default()
    }
}

fn child(actor: &str) -> ChildRequest {
    ChildRequest {
        act_as: Some(actor.into()),
        ttl: HOUR,
        ..ChildRequest::default()
    }
}

fn offline() -> Gate {
    gate(&[], None, QUICK)
}

#[tokio::test]
async fn a_token_opens_until_it_expires() {
    let gate = offline();
    let (token, info) = gate.identity.mint_token(&request()).unwrap();
    assert!(token.danger_reveal().starts_with("hgt_") && token.danger_reveal().len() == 47);
    let found = gate.identity.sign_in(&ask(&token, "orders")).await.unwrap();
    assert_eq!(
        (found.who.principal.as_str(), found.credential_id.as_str()),
        ("alice", info.id.as_str())
    );
    assert_eq!(
        (found.who.address.as_str(), found.expires_unix_ms),
        ("192.0.2.7", info.expires_unix_ms)
    );
    assert_eq!(gate.identity.list_tokens().unwrap()[0].state, TokenState::Live);

    gate.clock.advance(HOUR);
    refused(
        gate.identity.sign_in(&ask(&token, "orders")).await,
        BadCredential,
        "expired",
    );
    assert_eq!(gate.identity.list_tokens().unwrap()[0].state, TokenState::Expired);
}

#[tokio::test]
async fn a_changed_or_made_up_token_opens_nothing() {
    let gate = offline();
    let (token, info) = gate.identity.mint_token(&request()).unwrap();
    let text = token.danger_reveal();
    for wrong in [
        text.trim_start_matches("hgt_").to_owned(),
        text.to_uppercase(),
        text[..46].to_owned(),
        format!("{text}0"),
        format!("{text} "),
        format!("hgt_{}", "0".repeat(43)),
        format!("hgt_{}", "é".repeat(43)),
        info.id,
    ] {
        refused(
            gate.identity.sign_in(&ask(&Secret::new(wrong), "orders")).await,
            BadCredential,
            "",
        );
    }
}

#[tokio::test]
async fn the_store_never_sees_a_token() {
    let gate = offline();
    let (token, _) = gate.identity.mint_token(&request()).unwrap();
    let (sub, _) = gate.identity.mint_child(&token, &child("agent")).await.unwrap();
    for table in Table::ALL {
        for entry in gate.store.scan(table, b"", 1000).unwrap() {
            for token in [&token, &sub] {
                let digits = &token.danger_reveal().as_bytes()[4..];
                let holds = |bytes: &[u8]| bytes.windows(digits.len()).any(|window| window == digits);
                assert!(
                    !holds(&entry.key) && !holds(&entry.value),
                    "{table:?} holds a token"
                );
            }
        }
    }
    assert_eq!(gate.store.scan(Table::Tokens, b"t", 10).unwrap().len(), 2);
}

#[tokio::test]
async fn a_token_with_targets_opens_only_those_and_its_children_no_others() {
    let gate = offline();
    let limited = TokenRequest {
        targets: Some(vec!["orders".into(), "stock".into()]),
        ..request()
    };
    let (token, _) = gate.identity.mint_token(&limited).unwrap();
    assert!(gate.identity.sign_in(&ask(&token, "orders")).await.is_ok());
    refused(
        gate.identity.sign_in(&ask(&token, "payroll")).await,
        NoSuchTarget,
        "payroll",
    );

    let (same, _) = gate.identity.mint_child(&token, &child("a")).await.unwrap();
    refused(
        gate.identity.sign_in(&ask(&same, "payroll")).await,
        NoSuchTarget,
        "payroll",
    );
    let fewer = ChildRequest {
        targets: Some(vec!["stock".into()]),
        ..child("a")
    };
    let (fewer, _) = gate.identity.mint_child(&token, &fewer).await.unwrap();
    refused(
        gate.identity.sign_in(&ask(&fewer, "orders")).await,
        NoSuchTarget,
        "orders",
    );
    let more = ChildRequest {
        targets: Some(vec!["payroll".into()]),
        ..child("a")
    };
    refused_request(gate.identity.mint_child(&token, &more).await, "payroll");
    let none = ChildRequest {
        targets: Some(vec![]),
        ..child("a")
    };
    let (none, _) = gate.identity.mint_child(&token, &none).await.unwrap();
    refused(
        gate.identity.sign_in(&ask(&none, "orders")).await,
        NoSuchTarget,
        "orders",
    );
}

#[tokio::test]
async fn each_child_puts_its_actor_in_front_and_has_no_more_than_its_parent() {
    let gate = offline();
    let (token, parent) = gate.identity.mint_token(&request()).unwrap();
    let (agent, info) = gate.identity.mint_child(&token, &child("agent")).await.unwrap();
    let narrow = ChildRequest {
        groups: Some(vec!["agents".into()]),
        ..child("sub-agent")
    };
    let (sub, sub_info) = gate.identity.mint_child(&agent, &narrow).await.unwrap();
    let found = gate.identity.sign_in(&ask(&sub, "orders")).await.unwrap();
    assert_eq!(found.who.chain, ["sub-agent", "agent"]);
    assert_eq!(
        (found.who.principal.as_str(), found.who.groups),
        ("alice", vec!["agents".to_owned()])
    );
    assert_eq!(found.ancestors, [info.id.clone(), parent.id.clone()]);
    assert_eq!(
        sub_info.expires_unix_ms, parent.expires_unix_ms,
        "cut to what the parent has left"
    );

    let wider = ChildRequest {
        groups: Some(vec!["staff".into()]),
        ..child("x")
    };
    refused_request(gate.identity.mint_child(&sub, &wider).await, "staff");
    let mut last = sub;
    for depth in 2..crate::CHAIN_MAX {
        last = gate
            .identity
            .mint_child(&last, &child(&format!("a{depth}")))
            .await
            .unwrap()
            .0;
    }
    refused_request(
        gate.identity.mint_child(&last, &child("one too many")).await,
        "actors",
    );
    // Without a new actor the depth is bounded as well.
    let silent = ChildRequest {
        ttl: HOUR,
        ..ChildRequest::default()
    };
    let mut result = gate.identity.mint_child(&token, &silent).await;
    for _ in 0..100 {
        match result {
            Ok((next, _)) => result = gate.identity.mint_child(&next, &silent).await,
            Err(_) => break,
        }
    }
    refused_request(result, "before it");
}

#[tokio::test]
async fn revoking_a_token_ends_all_below_and_none_above() {
    let gate = offline();
    let mut heard = gate.identity.revocations();
    let (top, _) = gate.identity.mint_token(&request()).unwrap();
    let (middle, middle_info) = gate.identity.mint_child(&top, &child("agent")).await.unwrap();
    let (bottom, bottom_info) = gate
        .identity
        .mint_child(&middle, &child("sub-agent"))
        .await
        .unwrap();
    let (sister, sister_info) = gate.identity.mint_child(&top, &child("other")).await.unwrap();

    gate.identity.revoke_token(&middle_info.id, "misbehaves").unwrap();
    for ended in [&middle, &bottom] {
        refused(
            gate.identity.sign_in(&ask(ended, "orders")).await,
            BadCredential,
            "revoked",
        );
        assert!(gate.identity.mint_child(ended, &child("phoenix")).await.is_err());
    }
    for live in [&top, &sister] {
        assert!(gate.identity.sign_in(&ask(live, "orders")).await.is_ok());
    }
    let said = heard.recv().await.unwrap();
    assert_eq!(
        said.credential_ids,
        [middle_info.id.clone(), bottom_info.id.clone()]
    );
    let states = gate.identity.list_tokens().unwrap();
    let state = |id: &str| states.iter().find(|t| t.id == id).unwrap().state;
    assert_eq!(
        (state(&bottom_info.id), state(&sister_info.id)),
        (TokenState::Revoked, TokenState::Live)
    );
    refused_request(gate.identity.revoke_token("tok_unknown", ""), "tok_unknown");
}

#[tokio::test]
async fn revoking_a_principal_ends_its_tokens_and_those_where_it_acts() {
    let gate = offline();
    let (alice, _) = gate.identity.mint_token(&request()).unwrap();
    let (agent, agent_info) = gate.identity.mint_child(&alice, &child("agent")).await.unwrap();
    let (bob, _) = gate
        .identity
        .mint_token(&TokenRequest {
            principal: "bob".into(),
            ..request()
        })
        .unwrap();
    gate.identity.revoke_principal("agent", "compromised").unwrap();
    refused(
        gate.identity.sign_in(&ask(&agent, "orders")).await,
        BadCredential,
        "revoked",
    );
    assert!(gate.identity.sign_in(&ask(&alice, "orders")).await.is_ok());

    let said = gate.identity.revoke_principal("alice", "left\u{7} us").unwrap();
    assert!(said.credential_ids.contains(&agent_info.id) && said.reason == "left us");
    refused(
        gate.identity.sign_in(&ask(&alice, "orders")).await,
        BadCredential,
        "revoked",
    );
    assert!(gate.identity.sign_in(&ask(&bob, "orders")).await.is_ok());
    // What is issued afterwards is new.
    gate.clock.advance(Duration::from_millis(5));
    let (again, _) = gate.identity.mint_token(&request()).unwrap();
    assert!(gate.identity.sign_in(&ask(&again, "orders")).await.is_ok());
    assert_eq!(gate.identity.revocation_list().unwrap().len(), 2);
}

#[tokio::test]
async fn revocations_and_tokens_outlive_a_restart_and_old_ones_are_cleared_away() {
    let gate = offline();
    let (live, _) = gate.identity.mint_token(&request()).unwrap();
    let (ended, info) = gate.identity.mint_token(&request()).unwrap();
    gate.identity.revoke_token(&info.id, "").unwrap();
    let restart = || {
        let store: Arc<dyn Store> = gate.store.clone();
        Identity::start_with(&[], None, store, gate.clock.clone(), QUICK).unwrap()
    };
    let again = restart();
    assert!(again.sign_in(&ask(&live, "orders")).await.is_ok());
    refused(
        again.sign_in(&ask(&ended, "orders")).await,
        BadCredential,
        "revoked",
    );

    gate.clock.advance(Duration::from_secs(40 * 86_400));
    let again = restart();
    assert!(again.list_tokens().unwrap().is_empty());
    assert!(gate.store.scan(Table::Tokens, b"", 10).unwrap().is_empty());
    assert_eq!(
        again.revocation_list().unwrap().len(),
        1,
        "a revocation stays longer than any token"
    );
    gate.clock.advance(Duration::from_secs(400 * 86_400));
    assert!(restart().revocation_list().unwrap().is_empty());
}

#[tokio::test]
async fn requests_beyond_the_bounds_are_refused() {
    let gate = offline();
    let cases = [
        TokenRequest {
            ttl: Duration::ZERO,
            ..request()
        },
        TokenRequest {
            ttl: crate::TTL_MAX + Duration::from_secs(1),
            ..request()
        },
        TokenRequest {
            principal: String::new(),
            ..request()
        },
        TokenRequest {
            principal: "a\nb".into(),
            ..request()
        },
        TokenRequest {
            groups: vec![String::new()],
            ..request()
        },
        TokenRequest {
            groups: vec!["g".into(); crate::GROUPS_MAX + 1],
            ..request()
        },
        TokenRequest {
            chain: vec!["a".into(); crate::CHAIN_MAX + 1],
            ..request()
        },
        TokenRequest {
            issuer: String::new(),
            ..request()
        },
        TokenRequest {
            name: "n".repeat(1000),
            ..request()
        },
    ];
    for wrong in cases {
        assert!(gate.identity.mint_token(&wrong).is_err(), "{wrong:?}");
    }
    assert!(gate.identity.list_tokens().unwrap().is_empty());
}

#[tokio::test]
async fn one_token_has_a_bounded_number_of_living_children() {
    let gate = offline();
    let (token, _) = gate.identity.mint_token(&request()).unwrap();
    let brief = ChildRequest {
        ttl: Duration::from_secs(60),
        ..child("agent")
    };
    let mut minted = 0;
    let error = loop {
        match gate.identity.mint_child(&token, &brief).await {
            Ok(_) => minted += 1,
            Err(error) => break error,
        }
        assert!(minted <= 1024);
    };
    assert_eq!(
        (minted, error),
        (
            1024,
            IdentityError::TooMany {
                what: "tokens from one token"
            }
        )
    );
    gate.clock.advance(Duration::from_secs(61));
    assert!(gate.identity.mint_child(&token, &brief).await.is_ok());
}
