//! Entry points for fuzzing: one function for each thing that bytes of a peer reach before signing in, and for the frames.
//!
//! Each asserts what its module promises; a panic is a finding. Also run over the committed corpus by `tests/corpus.rs`.

use crate::backend::{Authentication, Backend};
use crate::frame::{self, STARTUP_BYTES_MAX};
use crate::frontend::Frontend;
use crate::handshake::client::{ClientEvent, ClientHandshake, ClientTls};
use crate::handshake::target::{
    MESSAGES_MAX, ScramKeys, TargetEvent, TargetHandshake, TargetHandshakeConfig,
};
use crate::startup::policy::{self, Policy};
use crate::startup::{FirstPacket, Startup, options};
use headgate_plane::{Secret, TargetAuth};

type Target = (&'static str, fn(&[u8]));

/// Every target by its name, which is also the name of its corpus.
pub const TARGETS: [Target; 7] = [
    ("backend", fuzz_backend),
    ("certificate", fuzz_certificate),
    ("client_handshake", fuzz_client_handshake),
    ("first_packet", fuzz_first_packet),
    ("frontend", fuzz_frontend),
    ("options", fuzz_options),
    ("target_handshake", fuzz_target_handshake),
];

/// Bound of messages in the two framers below.
const MAX: usize = 1 << 20;

/// A stream of a client after signing in. What is decoded is written anew as the same bytes, but for what no server reads.
pub fn fuzz_frontend(mut data: &[u8]) {
    while let Ok(Some((header, body))) = frame::split(data, MAX) {
        assert!(
            header.len >= frame::HEADER_BYTES && header.len <= data.len(),
            "a header is within its bounds"
        );
        let Ok(message) = Frontend::decode(header.tag, body) else {
            return;
        };
        assert!(Frontend::is_known(header.tag), "only known tags decode");
        match message {
            Frontend::Bind(bind) => {
                assert_eq!(
                    bind.parameters().len(),
                    bind.parameters().count(),
                    "all parameters are there"
                );
                let _ = (bind.parameter_format(usize::MAX), bind.result_format(0));
            }
            Frontend::Parse(parse) => {
                assert_eq!(parse.types().len(), parse.types().count(), "all types are there")
            }
            Frontend::FunctionCall(call) => {
                assert_eq!(
                    call.arguments.len(),
                    call.arguments.count(),
                    "all arguments are there"
                );
            }
            _ => {}
        }
        let mut again = Vec::new();
        assert!(
            message.encode(&mut again).is_ok(),
            "what was decoded can be written"
        );
        let unread = matches!(header.tag, b'c' | b'f' | b'X');
        assert!(
            unread || data.get(..header.len) == Some(&again[..]),
            "decoded and written anew are the same bytes"
        );
        assert_eq!(
            Frontend::decode(header.tag, again.get(frame::HEADER_BYTES..).unwrap_or(&[])),
            Ok(message),
            "and read the same"
        );
        data = data.get(header.len..).unwrap_or(&[]);
    }
}

/// A stream of a target.
pub fn fuzz_backend(mut data: &[u8]) {
    while let Ok(Some((header, body))) = frame::split(data, MAX) {
        walk_backend(header.tag, body);
        data = data.get(header.len..).unwrap_or(&[]);
    }
}

/// Decodes one message of a target and goes through all its iterators.
pub fn walk_backend(tag: u8, body: &[u8]) {
    let Ok(message) = Backend::decode(tag, body) else {
        return;
    };
    assert!(crate::backend::is_known(tag), "only known tags decode");
    match message {
        Backend::RowDescription(fields) => assert_eq!(fields.len(), fields.count(), "all fields are there"),
        Backend::DataRow(values) => assert_eq!(values.len(), values.count(), "all values are there"),
        Backend::ErrorResponse(fields) | Backend::NoticeResponse(fields) => {
            assert!(fields.count() <= body.len(), "fields end");
            let _ = fields.sqlstate();
        }
        Backend::Authentication(Authentication::Sasl(names)) => {
            assert!(names.count() <= body.len(), "names end")
        }
        Backend::NegotiateProtocolVersion(answer) => {
            assert!(answer.unknown.count() <= body.len(), "names end")
        }
        Backend::ParameterDescription(oids) => {
            assert_eq!(oids.iter().len(), oids.iter().count(), "all types are there")
        }
        _ => {}
    }
}

/// A packet without a tag, and what of it goes to the target.
pub fn fuzz_first_packet(data: &[u8]) {
    let Ok(Some(len)) = frame::peek_startup(data) else {
        return;
    };
    assert!(len <= STARTUP_BYTES_MAX, "a start-up packet is bounded");
    let Some(packet) = data.get(..len) else { return };
    if let Ok(FirstPacket::Startup(startup)) = FirstPacket::decode(packet) {
        assert!(
            !startup.user.is_empty() && !startup.database.is_empty(),
            "there is always a user and a database"
        );
        check_policy(&startup);
    }
}

fn check_policy(startup: &Startup) {
    let Ok(settings) = policy::for_target(startup, Policy::default()) else {
        return;
    };
    for (name, value) in &settings {
        let name = name.to_ascii_lowercase();
        assert!(
            ![
                "role",
                "session_authorization",
                "search_path",
                "options",
                "replication",
                "user",
                "database"
            ]
            .contains(&name.as_str()),
            "{name} is never handed on"
        );
        assert!(
            name != "standard_conforming_strings" || !value.eq_ignore_ascii_case("off"),
            "strings are read as the standard has them"
        );
        assert!(
            !name.contains('\0') && !value.contains('\0'),
            "what is handed on can be written"
        );
    }
    let mut out = Vec::new();
    assert!(
        crate::write::startup(&mut out, 2, &settings).is_ok(),
        "what is handed on can be written"
    );
}

/// `options` of the start-up packet.
pub fn fuzz_options(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(settings) = options::parse(text) {
        assert!(
            settings.iter().all(|(name, _)| !name.is_empty()),
            "no setting without a name"
        );
    }
    check_policy(&Startup {
        minor: 0,
        user: "u".to_owned(),
        database: "d".to_owned(),
        parameters: vec![("options".to_owned(), text.replace('\0', ""))],
        negotiate: None,
    });
}

/// The first byte chooses the listener and the size of reads, the rest is what a client sends. Inside TLS it goes on in the clear here.
pub fn fuzz_client_handshake(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let tls = match choice % 3 {
        0 => ClientTls::Required,
        1 => ClientTls::DangerOptional,
        _ => ClientTls::DangerOff,
    };
    let size = usize::from(choice / 3) + 1;
    let mut handshake = ClientHandshake::new(tls);
    let mut buffer: Vec<u8> = Vec::new();
    let (mut startups, mut secure, mut packets) = (0, false, 0);
    for read in data.chunks(size) {
        buffer.extend_from_slice(read);
        loop {
            let mut out = Vec::new();
            let Ok((next, advance)) = handshake.advance(&buffer, &mut out) else {
                return;
            };
            handshake = next;
            assert!(advance.used <= buffer.len(), "no more is used than there is");
            assert!(out.len() <= STARTUP_BYTES_MAX + 64, "answers are bounded");
            buffer.drain(..advance.used);
            packets += usize::from(advance.used > 0);
            assert!(packets <= 6, "a handshake has few packets");
            match advance.event {
                Some(ClientEvent::StartTls { direct }) => {
                    assert!(!secure, "TLS starts once");
                    secure = true;
                    let Ok(next) = handshake.tls_started(direct.then_some(b"postgresql")) else {
                        return;
                    };
                    handshake = next;
                    if direct {
                        buffer.drain(..1);
                    }
                }
                Some(ClientEvent::Startup(startup)) => {
                    startups += 1;
                    assert_eq!(startups, 1, "who is calling is said once");
                    assert!(secure || tls != ClientTls::Required, "no start-up in the clear");
                    check_policy(&startup);
                }
                Some(ClientEvent::Password(_)) => {
                    assert_eq!(startups, 1, "a password comes after the start-up packet");
                    return;
                }
                Some(ClientEvent::Cancel { key, .. }) => {
                    assert!(
                        (4..=256).contains(&key.len()) && startups == 0,
                        "a cancel is a connection of its own"
                    );
                    return;
                }
                None if advance.used == 0 => break,
                None => {}
            }
        }
    }
}

/// The first byte chooses configuration and size of reads, the rest is what a target sends.
pub fn fuzz_target_handshake(data: &[u8]) {
    let Some((choice, data)) = data.split_first() else {
        return;
    };
    let auth = match choice % 3 {
        0 => TargetAuth::Scram,
        1 => TargetAuth::DangerMd5,
        _ => TargetAuth::DangerCleartext,
    };
    let tls = choice & 0x40 != 0;
    let size = usize::from(choice & 0x3f) + 1;
    let config = TargetHandshakeConfig {
        tls,
        user: "u".to_owned(),
        database: "d".to_owned(),
        parameters: vec![],
        password: Secret::new("not to be seen"),
        scram_keys: ScramKeys::default(),
        auth,
        minor: u16::from(choice >> 7) * 2,
    };
    let mut out = Vec::new();
    let Ok(mut handshake) = TargetHandshake::start(config, &mut out) else {
        return;
    };
    let mut buffer: Vec<u8> = Vec::new();
    let mut messages = 0u32;
    for read in data.chunks(size) {
        buffer.extend_from_slice(read);
        loop {
            out.clear();
            let Ok((next, advance)) = handshake.advance(&buffer, &mut out) else {
                return;
            };
            handshake = next;
            assert!(advance.used <= buffer.len(), "no more is used than there is");
            let clear = out.windows(14).any(|window| window == b"not to be seen");
            assert!(
                !clear || auth == TargetAuth::DangerCleartext,
                "the secret goes out only where it is allowed"
            );
            buffer.drain(..advance.used);
            messages += u32::from(advance.used > 0);
            assert!(messages <= MESSAGES_MAX + 2, "a handshake is bounded");
            match advance.event {
                Some(TargetEvent::StartTls) => {
                    let Ok(next) = handshake.tls_started(Some(vec![7; 32]), &mut out) else {
                        return;
                    };
                    handshake = next;
                }
                Some(TargetEvent::Ready(ready)) => {
                    assert!(
                        ready.key.len() <= 256 && ready.parameters.len() <= 256,
                        "what is kept is bounded"
                    );
                    return;
                }
                None if advance.used == 0 => break,
                None => {}
            }
        }
    }
}

/// The end certificate of a target.
pub fn fuzz_certificate(data: &[u8]) {
    if let Some(hash) = crate::certificate::tls_server_end_point(data) {
        assert!([28, 32, 48, 64].contains(&hash.len()), "a hash has its length");
    }
}
