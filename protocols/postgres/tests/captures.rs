//! Real conversations (psql, pgbench, psycopg with a real PostgreSQL 15, see `test_samples/capture.py`), split at every byte: same outputs.

use headgate_plane::{Secret, TargetAuth};
use headgate_postgres::backend::Backend;
use headgate_postgres::frame;
use headgate_postgres::frontend::Frontend;
use headgate_postgres::{
    ClientEvent, ClientHandshake, ClientTls, ScramKeys, TargetEvent, TargetHandshake, TargetHandshakeConfig,
};

const MESSAGE_BYTES_MAX: usize = 1 << 20;

macro_rules! captures {
    ($($name:literal),*) => {
        [$(($name, include_bytes!(concat!("../test_samples/", $name, ".client.bin")).as_slice(),
            include_bytes!(concat!("../test_samples/", $name, ".target.bin")).as_slice())),*]
    };
}

const CAPTURES: [(&str, &[u8], &[u8]); 5] = captures!(
    "psql_describe",
    "pgbench_prepared",
    "psycopg_parameters",
    "psycopg_pipeline",
    "psycopg_copy"
);

/// Reads the stream as a session would, in the pieces that `reads` gives, and writes down everything that comes out.
fn replay<'a>(mut peer: Peer, reads: impl Iterator<Item = &'a [u8]>) -> Vec<String> {
    let (mut buffer, mut outputs): (Vec<u8>, Vec<String>) = (Vec::new(), Vec::new());
    for read in reads {
        buffer.extend_from_slice(read);
        let mut at = 0;
        loop {
            let (next, used) = peer.step(&buffer[at..], &mut outputs);
            peer = next;
            if used == 0 {
                break;
            }
            at += used;
        }
        buffer.drain(..at);
    }
    assert!(buffer.is_empty(), "{} bytes are left over", buffer.len());
    outputs
}

enum Peer {
    Client(ClientHandshake),
    ClientInSession,
    Target(TargetHandshake),
    TargetInSession,
}

impl Peer {
    fn client() -> Peer {
        Peer::Client(ClientHandshake::new(ClientTls::DangerOff))
    }

    /// With an SSLRequest in front, the target's first byte is its answer; it was N, and the client went on without.
    fn target() -> Peer {
        let config = TargetHandshakeConfig {
            tls: false,
            user: "captured".into(),
            database: "captured".into(),
            parameters: vec![],
            password: Secret::new("captured-password"),
            scram_keys: ScramKeys::default(),
            auth: TargetAuth::DangerCleartext,
            minor: 2,
        };
        Peer::Target(TargetHandshake::start(config, &mut Vec::new()).unwrap())
    }

    fn step(self, bytes: &[u8], outputs: &mut Vec<String>) -> (Peer, usize) {
        match self {
            Peer::Client(handshake) => {
                let mut out = Vec::new();
                let (next, advance) = handshake.advance(bytes, &mut out).unwrap();
                if advance.used > 0 || advance.event.is_some() {
                    outputs.push(format!("{:?} {out:?} {}", advance, next.state()));
                }
                let over = matches!(advance.event, Some(ClientEvent::Password(_)));
                (
                    if over {
                        Peer::ClientInSession
                    } else {
                        Peer::Client(next)
                    },
                    advance.used,
                )
            }
            Peer::Target(handshake) => {
                let mut out = Vec::new();
                let (next, advance) = handshake.advance(bytes, &mut out).unwrap();
                if advance.used > 0 || advance.event.is_some() {
                    outputs.push(format!("{:?} {out:?} {}", advance, next.state()));
                }
                let over = matches!(advance.event, Some(TargetEvent::Ready(_)));
                (
                    if over {
                        Peer::TargetInSession
                    } else {
                        Peer::Target(next)
                    },
                    advance.used,
                )
            }
            Peer::ClientInSession => {
                let Some((header, body)) = frame::split(bytes, MESSAGE_BYTES_MAX).unwrap() else {
                    return (self, 0);
                };
                let message = Frontend::decode(header.tag, body).unwrap();
                let mut again = Vec::new();
                message.encode(&mut again).unwrap();
                assert_eq!(again, &bytes[..header.len], "written anew");
                outputs.push(format!("{message:?}"));
                (self, header.len)
            }
            Peer::TargetInSession => {
                let Some((header, body)) = frame::split(bytes, MESSAGE_BYTES_MAX).unwrap() else {
                    return (self, 0);
                };
                outputs.push(format!("{:?}", Backend::decode(header.tag, body).unwrap()));
                (self, header.len)
            }
        }
    }
}

/// What follows a target's answer to SSLRequest, if the client sent one.
fn behind_ssl_answer<'a>(client: &[u8], target: &'a [u8]) -> &'a [u8] {
    if client.starts_with(&[0, 0, 0, 8, 4, 210, 22, 47]) {
        target.strip_prefix(b"N").unwrap()
    } else {
        target
    }
}

#[test]
fn captures_split_at_every_byte_give_the_same_outputs() {
    for (name, client, target) in CAPTURES {
        let target = behind_ssl_answer(client, target);
        for (way, stream, peer) in [
            ("client", client, Peer::client as fn() -> Peer),
            ("target", target, Peer::target),
        ] {
            let whole = replay(peer(), std::iter::once(stream));
            assert!(whole.len() > 8, "{name}.{way} has only {} messages", whole.len());
            for cut in 0..=stream.len() {
                let (head, tail) = stream.split_at(cut);
                let split = replay(peer(), [head, tail].into_iter());
                assert!(split == whole, "{name}.{way} split at {cut}");
            }
            assert!(
                replay(peer(), stream.chunks(1)) == whole,
                "{name}.{way} byte by byte"
            );
        }
    }
}

#[test]
fn the_captures_hold_what_they_are_there_for() {
    let everything: Vec<String> = CAPTURES
        .iter()
        .flat_map(|(_, client, target)| {
            let mut outputs = replay(Peer::client(), std::iter::once(*client));
            outputs.extend(replay(
                Peer::target(),
                std::iter::once(behind_ssl_answer(client, target)),
            ));
            outputs
        })
        .collect();
    for message in [
        "Bind(",
        "Close {",
        "CopyData(",
        "CopyDone",
        "CopyFail",
        "Describe {",
        "Execute(",
        "Parse(",
        "Query(",
        "Sync",
        "Terminate",
        "BindComplete",
        "CommandComplete {",
        "CopyInResponse(",
        "CopyOutResponse(",
        "DataRow(",
        "EmptyQueryResponse",
        "ErrorResponse(",
        "NoData",
        "NoticeResponse(",
        "NotificationResponse {",
        "ParameterDescription(",
        "ParseComplete",
        "ReadyForQuery {",
        "RowDescription(",
    ] {
        let found = everything.iter().any(|output| output.starts_with(message));
        let expected = !["CopyFail", "ParameterDescription(", "Close {"].contains(&message);
        assert_eq!(found, expected, "{message}");
    }
}
