//! Targets that misbehave. Targets that behave are in `tests/target_postgres.rs`, with a real PostgreSQL.

use super::*;
use crate::Report;

fn config(auth: TargetAuth) -> TargetHandshakeConfig {
    TargetHandshakeConfig {
        tls: false,
        user: "app".into(),
        database: "orders".into(),
        parameters: vec![("application_name".into(), "psql".into())],
        password: Secret::new("secret"),
        scram_keys: ScramKeys::default(),
        auth,
        minor: 2,
    }
}

fn started(auth: TargetAuth) -> TargetHandshake {
    TargetHandshake::start(config(auth), &mut Vec::new()).unwrap()
}

/// Feeds whole messages until an event, an error, or the end.
fn feed(
    mut handshake: TargetHandshake,
    bytes: &[u8],
) -> Result<(TargetHandshake, Option<TargetEvent>, Vec<u8>), TargetFailed> {
    let (mut at, mut out) = (0, Vec::new());
    loop {
        let (next, advance) = handshake.advance(&bytes[at..], &mut out)?;
        handshake = next;
        at += advance.used;
        if advance.event.is_some() || advance.used == 0 {
            return Ok((handshake, advance.event, out));
        }
    }
}

fn failure(auth: TargetAuth, bytes: &[u8]) -> TargetFailed {
    feed(started(auth), bytes)
        .map(|(next, ..)| next.state())
        .unwrap_err()
}

fn said(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn ok() -> Vec<u8> {
    said(write::authentication_ok)
}

fn out_of_place_in(failed: &TargetFailed, expected: &str) -> bool {
    matches!(failed, TargetFailed::Misbehaved(PeerMisbehaved::OutOfPlace { state, .. }) if *state == expected)
}

#[test]
fn trust_sends_nothing_and_collects_what_the_target_says() {
    let bytes = said(|out| {
        write::negotiate_protocol_version::<&str>(out, 0, &[]).unwrap();
        write::authentication_ok(out);
        write::parameter_status(out, b"TimeZone", b"UTC").unwrap();
        write::parameter_status(out, b"server_version", b"15.18").unwrap();
        write::parameter_status(out, b"TimeZone", b"Europe/Berlin").unwrap();
        Report::notice("welcome").write_notice(out);
        write::backend_key_data(out, 4711, &[1, 2, 3, 4]).unwrap();
        write::ready_for_query(out, TransactionStatus::Idle);
        out.push(b'N'); // The next message is the session's.
    });
    let (handshake, event, out) = feed(started(TargetAuth::Scram), &bytes).unwrap();
    let Some(TargetEvent::Ready(ready)) = event else {
        panic!()
    };
    assert_eq!(handshake.state(), "Done");
    assert!(out.is_empty());
    assert_eq!(
        (ready.pid, ready.key.as_slice(), ready.minor, ready.method),
        (4711, &[1, 2, 3, 4][..], 0, TargetMethod::Trust)
    );
    assert_eq!(
        ready.parameter("TimeZone"),
        Some("Europe/Berlin"),
        "the last word counts"
    );
    assert_eq!(ready.parameters.len(), 2);
    assert_eq!(
        ready.notices,
        [said(|out| Report::notice("welcome").write_notice(out))]
    );
    assert!(
        !format!("{ready:?}").contains("1, 2, 3, 4"),
        "the key stays out of logs"
    );
}

#[test]
fn a_weaker_method_than_allowed_gets_nothing_made_from_the_secret() {
    let md5 = said(|out| write::authentication_md5_password(out, [1, 2, 3, 4]));
    let clear = said(write::authentication_cleartext_password);
    assert_eq!(
        failure(TargetAuth::Scram, &md5),
        TargetFailed::MethodNotAllowed { method: "MD5" }
    );
    assert!(matches!(
        failure(TargetAuth::Scram, &clear),
        TargetFailed::MethodNotAllowed { .. }
    ));
    assert!(matches!(
        failure(TargetAuth::DangerMd5, &clear),
        TargetFailed::MethodNotAllowed { .. }
    ));
    let (_, _, out) = feed(started(TargetAuth::DangerMd5), &md5).unwrap();
    assert!(out.starts_with(b"p\0\0\0\x28md5") && !out.windows(6).any(|w| w == b"secret"));
    let (_, _, out) = feed(started(TargetAuth::DangerCleartext), &clear).unwrap();
    assert_eq!(out, said(|out| write::password(out, b"secret").unwrap()));
    for kind in [2, 7, 9] {
        let other = [b'R', 0, 0, 0, 8, 0, 0, 0, kind];
        assert!(matches!(
            failure(TargetAuth::DangerCleartext, &other),
            TargetFailed::MethodNotAllowed { .. }
        ));
    }
}

#[test]
fn a_target_cannot_ask_twice() {
    let mut twice = said(write::authentication_cleartext_password);
    twice.extend(said(write::authentication_cleartext_password));
    assert!(out_of_place_in(
        &failure(TargetAuth::DangerCleartext, &twice),
        "ExpectAuthenticationOk"
    ));
}

fn sasl(mechanisms: &[&str]) -> Vec<u8> {
    said(|out| write::authentication_sasl(out, mechanisms).unwrap())
}

/// A handshake that has sent its first SCRAM message, and its nonce.
fn scram_begun() -> (TargetHandshake, String) {
    let (handshake, _, out) = feed(started(TargetAuth::Scram), &sasl(&["SCRAM-SHA-256"])).unwrap();
    assert_eq!(handshake.state(), "ExpectSaslContinue");
    let nonce = String::from_utf8(out)
        .unwrap()
        .rsplit(",r=")
        .next()
        .unwrap()
        .to_owned();
    (handshake, nonce)
}

fn continued(text: &str) -> Vec<u8> {
    said(|out| write::authentication_sasl_continue(out, text.as_bytes()).unwrap())
}

#[test]
fn an_early_ok_does_not_skip_the_targets_proof() {
    let (handshake, _) = scram_begun();
    assert!(out_of_place_in(
        &feed(handshake, &ok()).map(|_| ()).unwrap_err(),
        "ExpectSaslContinue"
    ));
    let (handshake, nonce) = scram_begun();
    let (handshake, ..) = feed(handshake, &continued(&format!("r={nonce}x,s=c2FsdA==,i=4096"))).unwrap();
    assert_eq!(handshake.state(), "ExpectSaslFinal");
    assert!(out_of_place_in(
        &feed(handshake, &ok()).map(|_| ()).unwrap_err(),
        "ExpectSaslFinal"
    ));
}

#[test]
fn a_wrong_proof_of_the_target_is_found() {
    let (handshake, nonce) = scram_begun();
    let (handshake, ..) = feed(handshake, &continued(&format!("r={nonce}x,s=c2FsdA==,i=1"))).unwrap();
    let wrong = said(|out| {
        write::authentication_sasl_final(out, b"v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=").unwrap();
        write::authentication_ok(out);
    });
    assert!(matches!(feed(handshake, &wrong), Err(TargetFailed::Scram { .. })));
}

#[test]
fn the_target_does_not_choose_the_cost_or_the_length() {
    for (name, message) in [
        ("too many iterations", "r={n}x,s=c2FsdA==,i=100001"),
        (
            "more iterations than a number holds",
            "r={n}x,s=c2FsdA==,i=99999999999",
        ),
        ("no iterations", "r={n}x,s=c2FsdA==,i=0"),
        ("a negative number", "r={n}x,s=c2FsdA==,i=-1"),
        ("our nonce and nothing more", "r={n},s=c2FsdA==,i=4096"),
        ("another nonce", "r=other,s=c2FsdA==,i=4096"),
        ("no salt", "r={n}x,s=,i=4096"),
        ("a salt that is no base64", "r={n}x,s=a,i=4096"),
        ("an extension", "m=x,r={n}x,s=c2FsdA==,i=4096"),
        ("nothing", ""),
    ] {
        let (handshake, nonce) = scram_begun();
        let result = feed(handshake, &continued(&message.replace("{n}", &nonce)));
        assert!(matches!(result, Err(TargetFailed::Scram { .. })), "{name}");
    }
    let (handshake, nonce) = scram_begun();
    let long = format!("r={nonce}{},s=c2FsdA==,i=4096", "x".repeat(SCRAM_BYTES_MAX));
    assert!(matches!(
        feed(handshake, &continued(&long)),
        Err(TargetFailed::Scram { .. })
    ));
}

#[test]
fn channel_binding_is_used_where_offered_and_never_given_up_in_silence() {
    let begin = |binding: Option<Vec<u8>>, offered: &[&str]| {
        let mut tls = config(TargetAuth::Scram);
        tls.tls = true;
        let mut out = Vec::new();
        let handshake = TargetHandshake::start(tls, &mut out).unwrap();
        assert_eq!(
            out,
            said(write::ssl_request),
            "nothing but the request goes out in the clear"
        );
        let (handshake, event, _) = feed(handshake, b"S").unwrap();
        assert!(matches!(event, Some(TargetEvent::StartTls)));
        let handshake = handshake.tls_started(binding, &mut Vec::new()).unwrap();
        feed(handshake, &sasl(offered)).map(|(_, _, out)| String::from_utf8_lossy(&out).into_owned())
    };
    let both = ["SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"];
    assert!(
        begin(Some(vec![1; 32]), &both)
            .unwrap()
            .contains("SCRAM-SHA-256-PLUS\0\0\0\0\x35p=tls-server-end-point,,")
    );
    assert!(
        begin(Some(vec![1; 32]), &["SCRAM-SHA-256"])
            .unwrap()
            .contains("y,,n=,r="),
        "a cut offer is found by the target"
    );
    assert!(begin(None, &both).unwrap().contains("n,,n=,r="));
    assert!(matches!(
        begin(Some(vec![1; 32]), &["OAUTHBEARER"]),
        Err(TargetFailed::MethodNotAllowed { .. })
    ));
    assert!(matches!(
        begin(None, &["SCRAM-SHA-256-PLUS"]),
        Err(TargetFailed::MethodNotAllowed { .. })
    ));
    assert!(
        matches!(
            failure(TargetAuth::Scram, &sasl(&both)),
            TargetFailed::Scram { .. }
        ),
        "PLUS without TLS is a lie"
    );
}

#[test]
fn before_tls_the_target_says_one_letter() {
    let asked = || {
        let mut tls = config(TargetAuth::Scram);
        tls.tls = true;
        TargetHandshake::start(tls, &mut Vec::new()).unwrap()
    };
    let fails = |bytes: &[u8]| feed(asked(), bytes).map(|_| ()).unwrap_err();
    assert_eq!(fails(b"N"), TargetFailed::TlsNotOffered);
    let error = said(|out| Report::fatal("28000", "<b>evil</b>").write_error(out));
    assert_eq!(fails(&error), TargetFailed::TlsNotOffered, "its text is not read");
    assert!(matches!(
        fails(b"SR\0\0\0\x08\0\0\0\0"),
        TargetFailed::Misbehaved(PeerMisbehaved::ClearBytesBehindSslRequest { bytes: 9 })
    ));
    assert!(matches!(
        fails(b"G"),
        TargetFailed::Misbehaved(PeerMisbehaved::OutOfPlace { .. })
    ));
}

#[test]
fn a_refusal_keeps_its_words_and_whether_we_were_in() {
    let error = said(|out| Report::fatal("28P01", "password authentication failed").write_error(out));
    let TargetFailed::Refused(refused) = failure(TargetAuth::Scram, &error) else {
        panic!()
    };
    assert_eq!(
        (refused.sqlstate(), refused.get(b'M'), refused.authenticated),
        ("28P01", Some("password authentication failed"), false)
    );
    let later = [ok(), error].concat();
    let TargetFailed::Refused(refused) = failure(TargetAuth::Scram, &later) else {
        panic!()
    };
    assert!(refused.authenticated);
    let bare = b"E\0\0\0\x05\0";
    let TargetFailed::Refused(refused) = failure(TargetAuth::Scram, bare) else {
        panic!()
    };
    assert_eq!(
        (refused.sqlstate(), refused.to_string()),
        ("XX000", "no message (XX000)".to_owned())
    );
    let odd = b"E\0\0\0\x0bCab\xffd\0\0";
    let TargetFailed::Refused(refused) = failure(TargetAuth::Scram, odd) else {
        panic!()
    };
    assert_eq!(refused.sqlstate(), "XX000");
}

#[test]
fn a_target_cannot_negotiate_up_twice_or_about_what_was_not_asked() {
    let negotiate =
        |minor, unknown: &[&str]| said(|out| write::negotiate_protocol_version(out, minor, unknown).unwrap());
    for bytes in [
        negotiate(3, &[]),
        negotiate(2, &[]),
        negotiate(0, &["_pq_.x"]),
        [negotiate(0, &[]), negotiate(0, &[])].concat(),
    ] {
        assert!(matches!(
            failure(TargetAuth::Scram, &bytes),
            TargetFailed::Negotiation { .. }
        ));
    }
}

#[test]
fn floods_before_ready_end_at_their_bounds() {
    let too_many = |bytes: &[u8]| {
        matches!(
            failure(TargetAuth::Scram, bytes),
            TargetFailed::Misbehaved(PeerMisbehaved::TooMany { .. })
        )
    };
    let with_ok = |flood: &dyn Fn(&mut Vec<u8>)| [ok(), said(|out| flood(out))].concat();
    assert!(too_many(&with_ok(&|out| {
        for i in 0..300 {
            write::parameter_status(out, format!("p{i}").as_bytes(), b"v").unwrap();
        }
    })));
    assert!(too_many(&with_ok(
        &|out| (0..5000).for_each(|_| write::parameter_status(out, b"p", b"v").unwrap())
    )));
    assert!(too_many(&with_ok(&|out| {
        (0..3).for_each(|_| write::parameter_status(out, b"p", &[b'v'; 30_000]).unwrap());
    })));
    let flood = "x".repeat(10_000);
    assert!(too_many(&with_ok(
        &|out| (0..40).for_each(|_| Report::notice(&flood).write_notice(out))
    )));
    let twice = with_ok(&|out| (0..2).for_each(|_| write::backend_key_data(out, 1, &[1; 4]).unwrap()));
    assert!(out_of_place_in(
        &failure(TargetAuth::Scram, &twice),
        "ExpectReady"
    ));
    assert!(matches!(
        failure(TargetAuth::Scram, b"R\x00\x02\x00\x00"),
        TargetFailed::Misbehaved(PeerMisbehaved::FrameTooLong { .. })
    ));
    assert!(matches!(
        failure(TargetAuth::Scram, b"!"),
        TargetFailed::Misbehaved(PeerMisbehaved::UnknownMessage { tag: b'!' })
    ));
}

#[test]
fn a_long_key_is_only_for_the_protocol_that_has_it() {
    let key = |bytes: usize| said(|out| write::backend_key_data(out, 1, &vec![1; bytes]).unwrap());
    let down = said(|out| write::negotiate_protocol_version::<&str>(out, 0, &[]).unwrap());
    assert!(feed(started(TargetAuth::Scram), &[ok(), key(32)].concat()).is_ok());
    assert!(feed(started(TargetAuth::Scram), &[ok(), key(256)].concat()).is_ok());
    assert!(matches!(
        failure(TargetAuth::Scram, &[down, ok(), key(32)].concat()),
        TargetFailed::Misbehaved(PeerMisbehaved::BadField { .. })
    ));
}

#[test]
fn data_before_ready_is_out_of_place_in_every_state() {
    for tag in 0..=255u8 {
        if matches!(tag, b'R' | b'S' | b'K' | b'N' | b'E' | b'Z' | b'v') {
            continue;
        }
        let bytes = [ok(), vec![tag, 0, 0, 0, 4]].concat();
        assert!(
            matches!(failure(TargetAuth::Scram, &bytes), TargetFailed::Misbehaved(_)),
            "{}",
            char::from(tag)
        );
        assert!(
            matches!(
                failure(TargetAuth::Scram, &[tag, 0, 0, 0, 4]),
                TargetFailed::Misbehaved(_)
            ),
            "{}",
            char::from(tag)
        );
    }
    let busy = [
        ok(),
        said(|out| write::ready_for_query(out, TransactionStatus::InTransaction)),
    ]
    .concat();
    assert!(out_of_place_in(&failure(TargetAuth::Scram, &busy), "ExpectReady"));
}

#[test]
fn a_name_that_cannot_be_written_is_an_error_and_sends_nothing() {
    let mut bad = config(TargetAuth::Scram);
    bad.database = "a\0role\0b".into();
    let mut out = Vec::new();
    assert!(matches!(
        TargetHandshake::start(bad, &mut out),
        Err(TargetFailed::Write(WriteError::ZeroInside))
    ));
    assert!(out.is_empty());
}
