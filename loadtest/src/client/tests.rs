//! A client and the synthetic target, joined without sockets.

use super::*;
use crate::script::{Login, Protocol, Work};
use crate::target::{Answers, Target};

fn script(work: Work, depth: usize) -> Script {
    Script::new(0, 0, Login::new("u", "d", "secret"), &[work], depth).expect("a script")
}

/// A client and a target with every message cut at every so many bytes come to the same end, with a password and without.
#[test]
fn each_protocol_gets_its_answer_from_the_target_however_it_is_cut() {
    let works = [
        Work::point(Protocol::Simple),
        Work::point(Protocol::Extended),
        Work::point(Protocol::Prepared),
        Work::bulk(700),
    ];
    for work in works {
        let rows = if work.kind == "bulk" { 700 } else { 1 };
        for (password, depth) in [(None, 1), (Some("secret"), 3)] {
            // A large result cut at every byte is the same row over and over.
            let cuts = if rows > 1 {
                &[61, 64, 1 << 20][..]
            } else {
                &[1, 2, 3, 7, 64, 1 << 20]
            };
            for cut in cuts.iter().copied() {
                let (answers, keys, script) = (
                    Answers::new(password),
                    KeyRing::default(),
                    script(work.clone(), depth),
                );
                let mut ledger = Ledger::new(1);
                ledger.open("all", 0, true);
                let (mut client, mut up) = Client::start(0, &script);
                let (mut target, mut down) = (Target::default(), Vec::new());
                let (mut at_target, mut at_client) = (Vec::new(), Vec::new());
                let mut asked = 0;
                for _ in 0..2_000_000 {
                    if up.is_empty() && down.is_empty() && !target.has_more() {
                        if asked == 2 || !ledger.became_ready {
                            break;
                        }
                        client.ask(&script, &mut up, &mut ledger);
                        asked += 1;
                    }
                    at_target.extend(up.drain(..cut.min(up.len())));
                    if target.has_more() {
                        target.more(&answers, &mut down);
                    }
                    let used = target.feed(&answers, &at_target, &mut down);
                    at_target.drain(..used);
                    at_client.extend(down.drain(..cut.min(down.len())));
                    let used = client
                        .feed(&script, &keys, OnError::Stop, &at_client, &mut up, &mut ledger)
                        .expect("the target answers well");
                    at_client.drain(..used);
                }
                assert!(
                    ledger.became_ready && !client.is_waiting(),
                    "{} cut at {cut}",
                    work.kind
                );
                ledger.second(1.0, 1.0);
                let (count, seen, _) = ledger.headline();
                assert_eq!(
                    (count, seen),
                    (2 * depth as u64, 2 * depth as u64 * rows),
                    "{} cut at {cut}",
                    work.kind
                );
            }
        }
    }
}

#[test]
fn an_error_is_named_with_its_sqlstate_and_what_to_do() {
    let script = script(Work::point(Protocol::Simple), 1);
    let (mut client, _) = Client::start(3, &script);
    let mut error = Vec::new();
    wire::message(&mut error, b'E', |b| {
        for (kind, text) in [(b'S', "FATAL"), (b'C', "28P01"), (b'M', "no such token")] {
            b.push(kind);
            wire::text(b, text.as_bytes());
        }
        b.push(0);
    });
    let fed = client.feed(
        &script,
        &KeyRing::default(),
        OnError::Count,
        &error,
        &mut Vec::new(),
        &mut Ledger::new(1),
    );
    let said = fed.expect_err("refused").to_string();
    assert!(
        said.starts_with("session 3: 28P01: no such token (see --user"),
        "{said}"
    );
}

#[test]
fn an_endpoint_that_says_what_nobody_asked_for_misbehaves_and_nothing_panics() {
    for bytes in [
        &b"Z\0\0\0\x05IZ\0\0\0\x05I"[..],
        b"R\0\0\0\x04",
        b"R\0\0\0\x08\0\0\0\x0b",
        b"R\0\0\0\x08\0\0\0\x05",
        b"D\xff\xff\xff\xff",
    ] {
        let script = script(Work::point(Protocol::Simple), 1);
        let (mut client, _) = Client::start(0, &script);
        let fed = client.feed(
            &script,
            &KeyRing::default(),
            OnError::Count,
            bytes,
            &mut Vec::new(),
            &mut Ledger::new(1),
        );
        assert!(matches!(fed, Err(LoadFailed::Misbehaved { .. })), "{bytes:?}");
    }
}
