//! Packets without a tag.

use super::*;
use crate::write;

fn decode(minor: u16, parameters: &[(&str, &str)]) -> Result<Startup, PeerMisbehaved> {
    let mut packet = Vec::new();
    write::startup(&mut packet, minor, parameters).unwrap();
    match FirstPacket::decode(&packet)? {
        FirstPacket::Startup(startup) => Ok(startup),
        other => panic!("{other:?}"),
    }
}

#[test]
fn user_database_and_parameters_are_told_apart() {
    let startup = decode(
        0,
        &[
            ("user", "ann"),
            ("application_name", "psql"),
            ("database", "orders"),
            ("DateStyle", "ISO"),
            ("datestyle", "German"),
        ],
    )
    .unwrap();
    assert_eq!(
        (startup.minor, startup.user.as_str(), startup.database.as_str()),
        (0, "ann", "orders")
    );
    assert_eq!(startup.parameters.len(), 3);
    assert_eq!(
        startup.parameter("DATESTYLE"),
        Some("German"),
        "the last one counts"
    );
    assert_eq!(startup.negotiate, None);
}

#[test]
fn without_a_database_the_user_names_it_and_without_a_user_nobody_calls() {
    assert_eq!(decode(0, &[("user", "ann")]).unwrap().database, "ann");
    assert_eq!(
        decode(0, &[("user", "ann"), ("database", "")]).unwrap().database,
        "ann"
    );
    assert_eq!(decode(0, &[("database", "d")]), Err(PeerMisbehaved::UserMissing));
    assert_eq!(decode(0, &[("user", "")]), Err(PeerMisbehaved::UserMissing));
}

#[test]
fn a_name_that_stands_twice_is_refused() {
    assert_eq!(
        decode(0, &[("user", "a"), ("user", "b")]),
        Err(PeerMisbehaved::RepeatedParameter { name: "user" })
    );
    assert_eq!(
        decode(0, &[("user", "a"), ("database", "a"), ("database", "b")]),
        Err(PeerMisbehaved::RepeatedParameter { name: "database" })
    );
}

#[test]
fn versions_and_pq_options_are_negotiated() {
    for (asked, minor, negotiated) in [
        (0, 0, false),
        (1, 0, true),
        (2, 2, false),
        (3, 2, true),
        (9999, 2, true),
    ] {
        let startup = decode(asked, &[("user", "a")]).unwrap();
        assert_eq!(
            (startup.minor, startup.negotiate.is_some()),
            (minor, negotiated),
            "3.{asked}"
        );
    }
    let startup = decode(2, &[("user", "a"), ("_pq_.test", "1")]).unwrap();
    assert_eq!(startup.negotiate, Some(vec!["_pq_.test".to_owned()]));
    assert_eq!(startup.parameters, []);
    let old = [&[0, 0, 0, 8, 0, 2, 0, 0][..]].concat();
    assert_eq!(
        FirstPacket::decode(&old),
        Err(PeerMisbehaved::UnsupportedProtocol { major: 2, minor: 0 })
    );
}

#[test]
fn a_cancel_request_has_a_key_of_its_length() {
    let mut ssl = Vec::new();
    write::ssl_request(&mut ssl);
    assert_eq!(FirstPacket::decode(&ssl), Ok(FirstPacket::SslRequest));
    ssl.push(0);
    assert_eq!(
        FirstPacket::decode(&ssl),
        Ok(FirstPacket::SslRequest),
        "PostgreSQL reads the code only"
    );
    for (len, fits) in [(3, false), (4, true), (32, true), (256, true), (257, false)] {
        let mut cancel = Vec::new();
        write::cancel_request(&mut cancel, 7, &vec![1; len]).unwrap();
        let decoded = FirstPacket::decode(&cancel);
        assert_eq!(decoded.is_ok(), fits, "{len}");
        assert!(decoded.map_or_else(|error| error.is_silent(), |_| true), "{len}");
    }
}

#[test]
fn a_packet_that_is_cut_or_goes_on_is_refused() {
    let mut packet = Vec::new();
    write::startup(&mut packet, 0, &[("user", "a")]).unwrap();
    for cut in 4..packet.len() {
        assert!(FirstPacket::decode(&packet[..cut]).is_err(), "{cut}");
    }
    packet.extend_from_slice(b"role\0evil\0\0");
    let behind = FirstPacket::decode(&packet).unwrap_err();
    assert_eq!(
        behind.to_client(),
        (
            "08P01",
            "invalid startup packet layout: expected terminator as last byte"
        )
    );
    let mut latin = b"\0\0\0\0\0\x03\0\0user\0\xe4\0\0".to_vec();
    latin[3] = latin.len() as u8;
    assert_eq!(
        FirstPacket::decode(&latin),
        Err(PeerMisbehaved::NotUtf8 {
            message: "StartupMessage"
        })
    );
}
