//! From the startup packet to ReadyForQuery, with a real PostgreSQL where it can say it, and a script where it cannot.

use common::{Gate, Postgres, snapshot, text};
use headgate_plane::{Effect, Rule, RuleSql, RuleStatement, RuleTarget, RuleWho};
use headgate_postgres::backend::{Backend, TransactionStatus};
use headgate_postgres::{Report, frame, write};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

mod common;

fn rules(danger_unpinned: bool) -> Arc<headgate_plane::Snapshot> {
    let statement = RuleStatement::of_sql(RuleSql {
        danger_unpinned,
        ..RuleSql::default()
    });
    let rule = Rule {
        name: "everything".to_owned(),
        who: RuleWho::default(),
        target: RuleTarget::default(),
        statement,
        when: None,
        time: None,
        effect: Effect::Allow,
        message: None,
        reviewers: None,
        wait_ms: 60_000,
        data_open: false,
        on_hold: headgate_plane::OnHold::Wait,
    };
    snapshot(vec![rule], vec![])
}

fn hello(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    write::startup(&mut out, 0, parameters).unwrap();
    write::password(&mut out, b"token").unwrap();
    out
}

/// Severity, SQLSTATE, words and hint of the error that ended the sign-in.
fn error(bytes: &[u8]) -> [String; 4] {
    let mut rest = bytes;
    while let Some((header, body)) = frame::split(rest, 1 << 20).unwrap() {
        if let Ok(Backend::ErrorResponse(fields)) = Backend::decode(header.tag, body) {
            return [b'S', b'C', b'M', b'H'].map(|code| text(fields.get(code).unwrap_or_default()));
        }
        rest = &rest[header.len..];
    }
    panic!("no error: {}", text(bytes));
}

/// Signs in and is refused.
fn refused(mut gate: Gate, parameters: &[(&str, &str)]) -> [String; 4] {
    gate.client(&hello(parameters));
    for _ in 0..500 {
        if gate.session.is_ended() {
            break;
        }
        gate.pump();
    }
    assert!(gate.session.is_ended(), "{}", text(&gate.received));
    let error = error(&gate.received);
    assert_eq!(error[0], "FATAL");
    error
}

const ALICE: [(&str, &str); 2] = [("user", "alice"), ("database", "shop")];

fn alice(more: (&'static str, &'static str)) -> [(&'static str, &'static str); 3] {
    [ALICE[0], ALICE[1], more]
}

#[test]
fn another_user_than_the_principal_is_refused_and_told_who_it_is() {
    for user in ["bob", "Alice", "alice ", "alice@example.com"] {
        let [_, code, message, hint] = refused(
            Gate::new(0, rules(false)),
            &[("user", user), ("database", "shop")],
        );
        assert_eq!(
            (code.as_str(), message),
            (
                "28000",
                format!("user \"{user}\" is not who this credential is for")
            )
        );
        assert!(
            hint.starts_with("It is for \"alice\": connect with user=alice."),
            "{hint}"
        );
    }
}

#[test]
fn where_the_listener_takes_any_user_the_name_says_nothing() {
    let postgres = Postgres::start();
    let mut gate = Gate::new(postgres.port, rules(false));
    gate.core.listeners[0].any_user = true;
    gate.client(&hello(&[("user", "bob"), ("database", "shop")]));
    gate.until_ready(1);
    assert!(text(&gate.query("select current_user")).contains("postgres"));
}

#[test]
fn replication_is_refused_before_anybody_is_asked_who_they_are() {
    // As pg_basebackup sends it: with a database that is the name of no target.
    for value in ["true", "database", "on"] {
        let mut gate = Gate::new(0, rules(true));
        let mut out = Vec::new();
        write::startup(
            &mut out,
            0,
            &[
                ("user", "alice"),
                ("database", "replication"),
                ("replication", value),
            ],
        )
        .unwrap();
        gate.client(&out);
        assert!(gate.session.is_ended() && gate.control.is_empty());
        assert_eq!(gate.received[0], b'E', "no password is asked for");
        let [severity, code, message, hint] = error(&gate.received);
        assert_eq!((severity.as_str(), code.as_str()), ("FATAL", "0A000"));
        assert_eq!(message, "Headgate does not carry replication connections");
        assert!(hint.contains("from the database itself"), "{hint}");
    }
}

#[test]
fn a_terminal_without_a_locale_gets_in_and_both_sides_read_the_same() {
    let postgres = Postgres::start();
    let mut gate = Gate::signed_in_with(postgres.port, rules(false), &[("client_encoding", "SQL_ASCII")]);
    assert!(
        text(&gate.received).contains("client_encoding\0SQL_ASCII"),
        "the session has what it asked for"
    );
    let server = text(&gate.query("show server_encoding"));
    assert!(
        server.contains("UTF8") || server.contains("SQL_ASCII"),
        "{server}"
    );
    let got = gate.query("select 'gr\u{fc}n', length('gr\u{fc}n')");
    assert!(text(&got).contains("gr\u{fc}n"), "{}", text(&got));
    // What is not UTF-8 nobody judges.
    let mut message = Vec::new();
    write::query(&mut message, b"select '\xfc'").unwrap();
    let before = gate.received.len();
    gate.client(&message);
    gate.until_ready(4);
    assert_eq!(error(&gate.received[before..])[1], "22021");
}

#[test]
fn encodings_that_cannot_be_judged_are_refused_with_what_to_set() {
    for (value, words) in [
        (
            "WIN1252",
            "Headgate reads statements as UTF-8: it does not carry client_encoding \"WIN1252\"",
        ),
        (
            "nope",
            "invalid value for parameter \"client_encoding\": \"nope\"",
        ),
    ] {
        let [_, code, message, hint] =
            refused(Gate::new(0, rules(false)), &alice(("client_encoding", value)));
        assert_eq!((code.as_str(), message.as_str()), ("22023", words));
        assert!(hint.contains("PGCLIENTENCODING=UTF8"), "{hint}");
    }
}

#[test]
fn the_targets_own_sqlstate_reaches_the_client() {
    let postgres = Postgres::start();
    // Handed on where a rule lifts the pins: what is said is the server's.
    for (setting, code, words) in [
        (
            ("nosuch", "7s"),
            "42704",
            "unrecognized configuration parameter \"nosuch\"",
        ),
        (
            ("client_encoding", "nope"),
            "22023",
            "invalid value for parameter \"client_encoding\": \"nope\"",
        ),
        (
            ("work_mem", "x"),
            "22023",
            "invalid value for parameter \"work_mem\": \"x\"",
        ),
    ] {
        let said = refused(Gate::new(postgres.port, rules(true)), &alice(setting));
        assert_eq!((said[1].as_str(), said[2].as_str()), (code, words));
    }
    let said = refused(Gate::new(postgres.port, rules(false)), &alice(("nosuch", "7s")));
    assert_eq!(
        (said[1].as_str(), said[2].as_str()),
        ("42704", "unrecognized configuration parameter \"nosuch\""),
        "and Headgate's the same"
    );
    // Every place is taken; the server says so before it has proved anything.
    let mut startup = Vec::new();
    write::startup(&mut startup, 0, &[("user", "postgres"), ("database", "postgres")]).unwrap();
    let mut taken = Vec::new();
    for _ in 0..120 {
        let mut stream = TcpStream::connect(("127.0.0.1", postgres.port)).unwrap();
        stream.write_all(&startup).unwrap();
        let mut first = [0];
        let full = stream.read_exact(&mut first).is_err() || first == *b"E";
        taken.push(stream);
        if full {
            break;
        }
    }
    let said = refused(Gate::new(postgres.port, rules(false)), &ALICE);
    assert_eq!(
        (said[1].as_str(), said[2].as_str()),
        ("53300", "the target takes no more connections at the moment")
    );
}

/// A target that is a script: signed in as far as the target's first word.
fn scripted() -> Gate {
    let mut gate = Gate::scripted(rules(false));
    gate.client(&hello(&ALICE));
    gate
}

fn refusal(code: &str, words: &str) -> Vec<u8> {
    let mut out = Vec::new();
    Report::fatal(code, words).write_error(&mut out);
    out
}

#[test]
fn before_the_target_has_proved_itself_its_words_are_not_shown() {
    for (code, shown) in [
        (
            "57P03",
            ["57P03", "the target does not take connections at the moment"],
        ),
        (
            "53300",
            ["53300", "the target takes no more connections at the moment"],
        ),
        ("28P01", ["08004", "Headgate could not sign in to this target"]),
        ("3D000", ["08004", "Headgate could not sign in to this target"]),
        ("00000", ["08004", "Headgate could not sign in to this target"]),
    ] {
        let mut gate = scripted();
        gate.target(&refusal(code, "the words of whoever answers there"));
        let said = error(&gate.received);
        assert_eq!([said[1].as_str(), said[2].as_str()], shown, "{code}");
    }
}

#[test]
fn of_the_injected_credential_nothing_is_told_even_later() {
    for (code, shown) in [
        ("28000", ["08004", "Headgate could not sign in to this target"]),
        ("3D000", ["3D000", "words"]),
    ] {
        let mut gate = scripted();
        let mut out = Vec::new();
        write::authentication_ok(&mut out);
        out.extend(refusal(code, "words"));
        gate.target(&out);
        let said = error(&gate.received);
        assert_eq!([said[1].as_str(), said[2].as_str()], shown, "{code}");
    }
}

fn welcome(reports: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    write::authentication_ok(&mut out);
    for (name, value) in reports {
        write::parameter_status(&mut out, name.as_bytes(), value.as_bytes()).unwrap();
    }
    write::backend_key_data(&mut out, 7, &[1; 4]).unwrap();
    write::ready_for_query(&mut out, TransactionStatus::Idle);
    out
}

const REPORTS: [(&str, &str); 3] = [
    ("server_encoding", "UTF8"),
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
];

#[test]
fn a_target_that_is_not_as_it_is_judged_lets_nobody_in() {
    let mut good = scripted();
    good.target(&welcome(&REPORTS));
    assert!(!good.session.is_ended(), "{}", text(&good.received));
    let other = |name: &str, value: Option<&'static str>| -> Vec<(&'static str, &'static str)> {
        REPORTS
            .iter()
            .filter_map(|(n, v)| {
                if *n == name {
                    value.map(|value| (*n, value))
                } else {
                    Some((*n, *v))
                }
            })
            .collect()
    };
    for (name, value, code, words) in [
        (
            "standard_conforming_strings",
            Some("off"),
            "08004",
            "the target reports standard_conforming_strings = off, which Headgate pins to on",
        ),
        (
            "standard_conforming_strings",
            None,
            "08004",
            "the target does not report standard_conforming_strings, which Headgate pins to on",
        ),
        (
            "client_encoding",
            Some("SJIS"),
            "22023",
            "the target reports client_encoding = SJIS, which Headgate pins to UTF8",
        ),
        (
            "client_encoding",
            Some("SQL_ASCII"),
            "22023",
            "the target reports client_encoding = SQL_ASCII, which Headgate pins to UTF8",
        ),
        (
            "client_encoding",
            None,
            "22023",
            "the target does not report client_encoding, which Headgate pins to UTF8",
        ),
        (
            "server_encoding",
            None,
            "22023",
            "the target does not report server_encoding, which Headgate pins to an encoding of PostgreSQL's servers",
        ),
    ] {
        let mut gate = scripted();
        gate.target(&welcome(&other(name, value)));
        assert!(gate.session.is_ended(), "{name} = {value:?}");
        let said = error(&gate.received);
        assert_eq!(
            (said[1].as_str(), said[2].clone()),
            (code, format!("Headgate ended the sign-in: {words}"))
        );
        assert!(
            !gate.tags().contains(&b'Z') && !gate.tags().contains(&b'S'),
            "nothing of the target was shown"
        );
    }
    // Where a rule lifts the pins nothing is looked at.
    let mut unpinned = Gate::scripted(rules(true));
    unpinned.client(&hello(&ALICE));
    unpinned.target(&welcome(&other("standard_conforming_strings", Some("off"))));
    assert!(!unpinned.session.is_ended(), "{}", text(&unpinned.received));
}

#[test]
fn without_a_locale_a_server_of_another_encoding_is_refused_with_what_to_set() {
    let mut gate = Gate::scripted(rules(false));
    gate.client(&hello(&alice(("client_encoding", "SQL_ASCII"))));
    gate.target(&welcome(&[
        ("server_encoding", "LATIN1"),
        ("client_encoding", "SQL_ASCII"),
        ("standard_conforming_strings", "on"),
    ]));
    let said = error(&gate.received);
    assert_eq!(said[1], "22023");
    assert!(
        said[2].contains("server_encoding = LATIN1") && said[3].contains("PGCLIENTENCODING=UTF8"),
        "{said:?}"
    );
}
