//! Every state against every message, as a table; then the stories behind it.

use super::*;

fn packet(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn messages() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("SSLRequest", packet(write::ssl_request)),
        ("GSSENCRequest", packet(write::gssenc_request)),
        ("ClientHello", b"\x16\x03\x01\x00\x05hello".to_vec()),
        (
            "CancelRequest",
            packet(|out| write::cancel_request(out, 7, b"key!").unwrap()),
        ),
        ("Startup3.0", startup(0, "ann")),
        ("Startup2.0", vec![0, 0, 0, 9, 0, 2, 0, 0, 0]),
        ("Password", packet(|out| write::password(out, b"secret").unwrap())),
        (
            "Password(empty)",
            packet(|out| write::password(out, b"").unwrap()),
        ),
        ("Query", packet(|out| write::query(out, b"select 1").unwrap())),
        ("Sync", packet(write::sync)),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ]
}

fn startup(minor: u16, user: &str) -> Vec<u8> {
    packet(|out| write::startup(out, minor, &[("user", user)]).unwrap())
}

fn step(handshake: ClientHandshake, bytes: &[u8]) -> (ClientHandshake, Advance, Vec<u8>) {
    let mut out = Vec::new();
    let (next, advance) = handshake.advance(bytes, &mut out).unwrap();
    (next, advance, out)
}

fn states() -> Vec<(&'static str, ClientHandshake)> {
    let new = ClientHandshake::new;
    let ssl = packet(write::ssl_request);
    let gss = packet(write::gssenc_request);
    let awaiting = || step(new(ClientTls::Required), &ssl).0;
    vec![
        ("first, TLS required", new(ClientTls::Required)),
        ("first, TLS optional", new(ClientTls::DangerOptional)),
        ("first, TLS off", new(ClientTls::DangerOff)),
        ("first, after SSL N", step(new(ClientTls::DangerOff), &ssl).0),
        ("first, after GSS N", step(new(ClientTls::Required), &gss).0),
        ("awaiting TLS", awaiting()),
        ("inside TLS", awaiting().tls_started(None).unwrap()),
        (
            "expect password",
            step(new(ClientTls::DangerOff), &startup(0, "ann")).0,
        ),
        ("done", ClientHandshake::Done),
    ]
}

#[test]
fn every_state_against_every_message() {
    let mut table = String::new();
    for (message, bytes) in messages() {
        for (state, handshake) in states() {
            let mut out = Vec::new();
            let cell = match handshake.advance(&bytes, &mut out) {
                Ok((next, advance)) => {
                    let event = match advance.event {
                        None => "-",
                        Some(ClientEvent::StartTls { direct: true }) => "StartTls(direct)",
                        Some(ClientEvent::StartTls { direct: false }) => "StartTls",
                        Some(ClientEvent::Startup(_)) => "Startup",
                        Some(ClientEvent::Password(_)) => "Password",
                        Some(ClientEvent::Cancel { .. }) => "Cancel",
                    };
                    let answer = match out.first() {
                        None => String::new(),
                        Some(letter) => format!(" says {}", char::from(*letter)),
                    };
                    let used = if advance.used == bytes.len() {
                        "all"
                    } else if advance.used == 0 {
                        "nothing"
                    } else {
                        "some"
                    };
                    format!("{event}, takes {used}{answer} -> {}", next.state())
                }
                Err(error) => format!("! {error}"),
            };
            table.push_str(&format!("{message} | {state} | {cell}\n"));
        }
    }
    let golden = include_str!("states.out");
    assert!(
        table == golden,
        "the table of states has changed; if that is meant, src/handshake/client/states.out becomes:\n{table}"
    );
}

#[test]
fn a_client_signs_in_through_tls() {
    let (handshake, advance, out) = step(
        ClientHandshake::new(ClientTls::Required),
        &packet(write::ssl_request),
    );
    assert!(matches!(
        advance.event,
        Some(ClientEvent::StartTls { direct: false })
    ));
    assert_eq!(out, b"S");
    let handshake = handshake.tls_started(None).unwrap();
    let (handshake, advance, out) = step(handshake, &startup(2, "ann"));
    let Some(ClientEvent::Startup(startup)) = advance.event else {
        panic!()
    };
    assert_eq!((startup.user.as_str(), startup.minor), ("ann", 2));
    assert_eq!(
        out,
        packet(write::authentication_cleartext_password),
        "nothing to negotiate"
    );
    let (handshake, advance, _) = step(
        handshake,
        &packet(|out| write::password(out, b"hgt_token").unwrap()),
    );
    let Some(ClientEvent::Password(secret)) = advance.event else {
        panic!()
    };
    assert_eq!(secret.danger_reveal(), "hgt_token");
    assert_eq!(handshake.state(), "Done");
}

#[test]
fn a_password_that_comes_in_one_read_with_the_start_up_packet_is_taken_in_turn() {
    // Inside TLS a client may put packets together; each is still taken in its own state.
    let mut both = startup(0, "ann");
    let first = both.len();
    both.extend(packet(|out| write::password(out, b"x").unwrap()));
    let handshake = step(
        ClientHandshake::new(ClientTls::Required),
        &packet(write::ssl_request),
    )
    .0
    .tls_started(None)
    .unwrap();
    let (handshake, advance, _) = step(handshake, &both);
    assert_eq!(advance.used, first);
    let (_, advance, _) = step(handshake, &both[first..]);
    assert!(matches!(advance.event, Some(ClientEvent::Password(_))));
}

#[test]
fn bytes_in_the_clear_behind_ssl_request_end_the_session_as_soon_as_that_can_be_said() {
    let mut both = packet(write::ssl_request);
    both.extend(startup(0, "mallory"));
    let (handshake, advance, out) = step(ClientHandshake::new(ClientTls::Required), &both);
    assert!(matches!(
        advance.event,
        Some(ClientEvent::StartTls { direct: false })
    ));
    assert_eq!(
        (advance.used, out.as_slice()),
        (both.len(), &b"S"[..]),
        "the answer first, and they are dropped"
    );
    let error = handshake.tls_started(Some(b"postgresql")).unwrap_err();
    assert!(matches!(error, PeerMisbehaved::ClearBytesBehindSslRequest { bytes } if bytes == both.len() - 8));
    assert_eq!(error.to_client().0, "08P01");
    // Where no TLS follows, nothing can be taken for what it is not.
    let (handshake, advance, out) = step(ClientHandshake::new(ClientTls::DangerOff), &both);
    assert_eq!((advance.used, out.as_slice()), (8, &b"N"[..]));
    assert!(matches!(
        step(handshake, &both[8..]).1.event,
        Some(ClientEvent::Startup(_))
    ));
}

#[test]
fn a_second_start_up_packet_cannot_change_who_is_calling() {
    let (handshake, _, _) = step(ClientHandshake::new(ClientTls::DangerOff), &startup(0, "ann"));
    let error = handshake
        .advance(&startup(0, "root")[..1], &mut Vec::new())
        .unwrap_err();
    assert_eq!(
        error,
        PeerMisbehaved::OutOfPlace {
            tag: 0,
            state: "ExpectPassword"
        },
        "refused at its first byte"
    );
}

#[test]
fn direct_tls_needs_its_alpn_and_ssl_request_needs_none() {
    let direct = || step(ClientHandshake::new(ClientTls::Required), b"\x16").0;
    assert_eq!(
        direct().tls_started(None).unwrap_err(),
        PeerMisbehaved::AlpnMissing
    );
    assert_eq!(
        direct().tls_started(Some(b"http/1.1")).unwrap_err(),
        PeerMisbehaved::AlpnMissing
    );
    assert_eq!(
        direct().tls_started(Some(b"postgresql")).unwrap().state(),
        "ExpectStartupAfterTls"
    );
    let asked = || {
        step(
            ClientHandshake::new(ClientTls::Required),
            &packet(write::ssl_request),
        )
        .0
    };
    assert!(asked().tls_started(Some(b"postgresql")).is_ok());
    assert_eq!(
        asked().tls_started(Some(b"h2")).unwrap_err(),
        PeerMisbehaved::AlpnMissing
    );
}

#[test]
fn a_newer_protocol_is_negotiated_down_before_the_password_is_asked_for() {
    let bytes = packet(|out| write::startup(out, 9999, &[("user", "a"), ("_pq_.x", "1")]).unwrap());
    let (_, _, out) = step(ClientHandshake::new(ClientTls::DangerOff), &bytes);
    let mut expected = packet(|out| write::negotiate_protocol_version(out, 2, &["_pq_.x"]).unwrap());
    write::authentication_cleartext_password(&mut expected);
    assert_eq!(out, expected);
}

#[test]
fn a_flood_is_refused_at_its_length() {
    let mut flood = vec![b'p'];
    flood.extend_from_slice(&(PASSWORD_BYTES_MAX as u32).to_be_bytes());
    let (handshake, _, _) = step(ClientHandshake::new(ClientTls::DangerOff), &startup(0, "a"));
    assert!(matches!(
        handshake.advance(&flood, &mut Vec::new()),
        Err(PeerMisbehaved::FrameTooLong { .. })
    ));
    for wrong in [
        &b"p\0\0\0\x08ab\0c"[..],
        b"p\0\0\0\x06ab",
        b"p\0\0\0\x07\xff\xff\0",
    ] {
        let (handshake, _, _) = step(ClientHandshake::new(ClientTls::DangerOff), &startup(0, "a"));
        assert!(handshake.advance(wrong, &mut Vec::new()).is_err(), "{wrong:?}");
    }
}

#[test]
fn packets_cut_anywhere_wait_and_change_nothing() {
    let bytes = startup(0, "ann");
    for cut in 0..bytes.len() {
        let (next, advance, out) = step(ClientHandshake::new(ClientTls::DangerOff), &bytes[..cut]);
        assert!(advance.used == 0 && advance.event.is_none() && out.is_empty());
        assert!(
            matches!(step(next, &bytes).1.event, Some(ClientEvent::Startup(_))),
            "{cut}"
        );
    }
}
