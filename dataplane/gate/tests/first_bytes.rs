//! The first bytes of a connection, sent to a real PostgreSQL and to a session: answered alike and ended alike, but where the
//! table says why not. And the ends of a greeting that time brings.

use headgate_gate::{Clock, Core, Effect, ListenerSettings, PostgresSession as Session, Settings};
use headgate_postgres::backend::Backend;
use headgate_postgres::{frame, write};
use headgate_spool::Producer;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

mod common;

/// What came back, and whether the connection is still open.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    said: String,
    open: bool,
}

/// Severity, SQLSTATE and words of errors, the tags of all else. `single`: one letter that is no message comes first.
fn describe(mut bytes: &[u8], single: bool) -> String {
    let mut said = Vec::new();
    if single && let Some((letter, rest)) = bytes.split_first() {
        said.push(char::from(*letter).to_string());
        bytes = rest;
    }
    if bytes.first() == Some(&0x15) {
        said.push("an alert of TLS".to_owned());
        bytes = &[];
    }
    if let Some(text) = bytes.strip_prefix(b"EFATAL:  ") {
        said.push(format!(
            "before protocol 3: {}",
            String::from_utf8_lossy(text).trim_end_matches(['\n', '\0'])
        ));
        bytes = &[];
    }
    while let Ok(Some((header, body))) = frame::split(bytes, 1 << 20) {
        said.push(match Backend::decode(header.tag, body) {
            Ok(Backend::ErrorResponse(fields)) => [b'S', b'C', b'M']
                .map(|code| String::from_utf8_lossy(fields.get(code).unwrap_or_default()).into_owned())
                .join(" "),
            _ => char::from(header.tag).to_string(),
        });
        bytes = &bytes[header.len..];
    }
    assert!(bytes.is_empty(), "{bytes:?}");
    said.join(", ")
}

struct Here {
    core: Core,
    session: Session,
    said: Vec<u8>,
    _folder: tempfile::TempDir,
}

fn certificate() -> (rcgen::CertifiedKey<rcgen::KeyPair>, Arc<rustls::ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (made, Arc::new(config))
}

impl Here {
    fn new(tls: Option<Arc<rustls::ServerConfig>>, cleartext: bool) -> Here {
        let folder = tempfile::tempdir().unwrap();
        let spool = Producer::open_or_create(&folder.path().join("spool-0"), 1 << 20).unwrap();
        let listeners = vec![ListenerSettings {
            protocol: headgate_plane::Protocol::Postgres,
            tls,
            danger_allow_cleartext: cleartext,
            ..ListenerSettings::default()
        }];
        let clock = Clock {
            now_us: 1,
            anchor_unix_us: 1_700_000_000_000_000,
        };
        let mut core = Core::new(
            Settings::default(),
            listeners,
            spool,
            clock,
            Arc::new(|_| Err("no TLS here".to_owned())),
            [7; 32],
        );
        let session = Session::new(&mut core, 0, "127.0.0.1".to_owned());
        Here {
            core,
            session,
            said: Vec::new(),
            _folder: folder,
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.session.client_bytes(&mut self.core, bytes);
        self.settle();
    }

    fn settle(&mut self) {
        let effects = std::mem::take(&mut self.core.effects);
        for effect in effects {
            // Nobody has such a key.
            if matches!(effect, Effect::CancelSession { .. }) {
                self.session.cancel_done(&mut self.core);
            }
        }
        while let Some(bytes) = self.session.client_output(&mut self.core) {
            self.said.extend_from_slice(&bytes);
        }
    }

    fn seen(&self, single: bool) -> Seen {
        Seen {
            said: describe(&self.said, single),
            open: !self.session.is_ended(),
        }
    }
}

fn packet(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

/// A packet with its length, whatever is in it.
fn counted(body: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(body.len() + 4).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(body);
    out
}

fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    packet(|out| write::startup(out, 0, parameters).unwrap())
}

fn cases() -> Vec<(&'static str, Vec<u8>)> {
    let (ssl, gss) = (packet(write::ssl_request), packet(write::gssenc_request));
    let good = startup(&[("user", "postgres")]);
    let inside = &good[4..];
    let cancel = |key: &[u8]| counted(&[&80_877_102u32.to_be_bytes()[..], &7u32.to_be_bytes(), key].concat());
    vec![
        ("Terminate", b"X\0\0\0\x04".to_vec()),
        ("Query", packet(|out| write::query(out, b"select 1").unwrap())),
        ("length 0", vec![0; 12]),
        ("length 3", vec![0, 0, 0, 3, 1, 2, 3, 4]),
        ("length 4", vec![0, 0, 0, 4]),
        ("length 7", vec![0, 0, 0, 7, 0, 3, 0]),
        ("length 8, protocol 3", vec![0, 0, 0, 8, 0, 3, 0, 0]),
        ("length 9, protocol 3", vec![0, 0, 0, 9, 0, 3, 0, 0, 0]),
        ("length 8, protocol 2", vec![0, 0, 0, 8, 0, 2, 0, 0]),
        ("protocol 1", counted(b"\0\x01\0\0user\0a\0\0")),
        ("protocol 4", counted(b"\0\x04\0\0user\0a\0\0")),
        ("the longest length", 10_004u32.to_be_bytes().to_vec()),
        ("a length too long", 10_005u32.to_be_bytes().to_vec()),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        ("ones", vec![0xff; 8]),
        ("ClientHello", b"\x16\x03\x01\0\x05hello".to_vec()),
        ("SSLRequest", ssl.clone()),
        ("SSLRequest and a startup packet", [&ssl[..], &good].concat()),
        ("SSLRequest and a byte", [&ssl[..], b"\0"].concat()),
        ("SSLRequest and Terminate", [&ssl[..], b"X\0\0\0\x04"].concat()),
        ("SSLRequest twice", [&ssl[..], &ssl].concat()),
        (
            "SSLRequest with a byte in it",
            counted(&[&ssl[4..], b"\0"].concat()),
        ),
        ("GSSENCRequest", gss.clone()),
        ("no user", startup(&[("database", "x")])),
        ("an empty user", startup(&[("user", "")])),
        ("user twice", startup(&[("user", "a"), ("user", "postgres")])),
        (
            "parameters behind the end",
            counted(&[inside, b"role\0x\0\0"].concat()),
        ),
        ("a byte behind the end", counted(&[inside, b"\0"].concat())),
        (
            "a byte behind the end, and no user",
            counted(b"\0\x03\0\0database\0x\0\0\0"),
        ),
        ("no end", counted(&inside[..inside.len() - 1])),
        (
            "a name without a value",
            counted(b"\0\x03\0\0user\0postgres\0x\0"),
        ),
        ("a name without its zero", counted(b"\0\x03\0\0user\0postgres\0x")),
        ("a user that is not UTF-8", counted(b"\0\x03\0\0user\0\xe4\0\0")),
        ("CancelRequest", cancel(&[0; 4])),
        ("CancelRequest without a key", cancel(b"")),
        ("CancelRequest with a short key", cancel(b"abc")),
        ("CancelRequest with a long key", cancel(&[1; 300])),
        (
            "replication",
            startup(&[("user", "postgres"), ("replication", "true")]),
        ),
        (
            "replication, no value of it",
            startup(&[("user", "postgres"), ("replication", "maybe")]),
        ),
        ("a startup packet", good.clone()),
        (
            "a newer protocol",
            packet(|out| write::startup(out, 9, &[("user", "postgres")]).unwrap()),
        ),
        ("half a startup packet", good[..9].to_vec()),
    ]
}

/// What is otherwise here, and why.
const DIFFERENT: [(&str, &str); 11] = [
    ("protocol 1", "the newest that is spoken is 3.2"),
    ("length 8, protocol 2", "the newest that is spoken is 3.2"),
    ("protocol 4", "the newest that is spoken is 3.2"),
    (
        "ClientHello",
        "TLS without a request, as since PostgreSQL 17: this is no ClientHello, and TLS says so",
    ),
    ("GSSENCRequest", "GSSAPI is not offered"),
    (
        "user twice",
        "one name is for the gateway and for whoever reads on: two are doubt",
    ),
    (
        "a name without its zero",
        "PostgreSQL takes any last byte for the end",
    ),
    (
        "a user that is not UTF-8",
        "names are UTF-8; the server says that there is no such role",
    ),
    ("replication", "not carried"),
    ("a startup packet", "trust there, a password here"),
    ("a newer protocol", "trust there, a password here"),
];

fn there(port: u16, bytes: &[u8], single: bool) -> Seen {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(bytes).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    let open = loop {
        match stream.read(&mut buffer) {
            Ok(0) => break false,
            Ok(n) => said.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break true,
            Err(_) => break false,
        }
    };
    Seen {
        said: describe(&said, single && !said.is_empty()),
        open,
    }
}

fn with_tls(postgres: &common::Postgres, made: &rcgen::CertifiedKey<rcgen::KeyPair>) -> tempfile::TempDir {
    let folder = tempfile::Builder::new()
        .prefix("headgate-first-bytes-")
        .tempdir_in("/tmp")
        .unwrap();
    let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        assert!(
            std::process::Command::new(program)
                .args(arguments)
                .status()
                .unwrap()
                .success(),
            "{program}"
        )
    };
    run("chmod", &["755", folder.path().to_str().unwrap()]);
    run("chmod", &["600", key.to_str().unwrap()]);
    if std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .contains("\nUid:\t0\t")
    {
        run("chown", &["postgres", key.to_str().unwrap()]);
    }
    let set = format!("alter system set ssl_cert_file = '{}'", certificate.display());
    let set_key = format!("alter system set ssl_key_file = '{}'", key.display());
    let port = postgres.port.to_string();
    let statements = [
        &set,
        &set_key,
        "alter system set ssl = on",
        "select pg_reload_conf()",
    ];
    let mut arguments = vec![
        "-X",
        "-q",
        "-h",
        "127.0.0.1",
        "-p",
        &port,
        "-U",
        "postgres",
        "-v",
        "ON_ERROR_STOP=1",
        "-o",
        "/dev/null",
    ];
    statements
        .iter()
        .for_each(|statement| arguments.extend(["-c", statement]));
    run("psql", &arguments);
    // The postmaster takes it up in its own time.
    for _ in 0..100 {
        if there(postgres.port, &packet(write::ssl_request), true).said == "S" {
            return folder;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("PostgreSQL offers no TLS");
}

#[test]
fn first_bytes_are_answered_and_ended_as_postgresql_does_it() {
    let postgres = common::Postgres::start();
    let (made, tls) = certificate();
    let _files = with_tls(&postgres, &made);
    let mut found = Vec::new();
    for (name, bytes) in cases() {
        let single = name.starts_with("SSL") || name.starts_with("GSS");
        let there = there(postgres.port, &bytes, single);
        let mut whole = Here::new(Some(Arc::clone(&tls)), true);
        whole.send(&bytes);
        let here = whole.seen(single && !whole.said.is_empty());
        let listed = DIFFERENT.iter().any(|(listed, _)| *listed == name);
        if (here != there) != listed {
            found.push(format!("{name}: here {here:?}, there {there:?}, listed {listed}"));
        }
        // Where TLS is required, the one thing that differs is that nobody gets on without it.
        let mut strict = Here::new(Some(Arc::clone(&tls)), false);
        strict.send(&bytes);
        let strict = strict.seen(single && !strict.said.is_empty());
        if strict != here {
            let refused =
                "FATAL 28000 Headgate takes no password without SSL: connect with sslmode=require or better";
            assert!(
                strict.said.ends_with(refused) && !strict.open,
                "{name}: {strict:?}"
            );
            assert!(
                here.said.ends_with('R') || here.said.contains("replication"),
                "{name}: {here:?}"
            );
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_same_bytes_one_by_one_are_answered_alike() {
    let (_, tls) = certificate();
    for (name, bytes) in cases() {
        // Cut, what stands behind SSLRequest comes as TLS and not in the clear before it.
        if name.starts_with("SSLRequest and") || name == "SSLRequest twice" || name == "ClientHello" {
            continue;
        }
        let mut whole = Here::new(Some(Arc::clone(&tls)), true);
        whole.send(&bytes);
        let mut cut = Here::new(Some(Arc::clone(&tls)), true);
        bytes.iter().for_each(|byte| cut.send(&[*byte]));
        let single = name.starts_with("SSL") || name.starts_with("GSS");
        assert_eq!(cut.seen(single), whole.seen(single), "{name}");
    }
}

#[test]
fn clear_bytes_behind_ssl_request_end_the_session_inside_tls_and_are_never_read() {
    let (made, tls) = certificate();
    let stuffed = [
        packet(write::ssl_request),
        startup(&[("user", "mallory"), ("database", "shop")]),
    ]
    .concat();
    let mut here = Here::new(Some(tls), true);
    here.send(&stuffed);
    assert_eq!(here.said, b"S", "the answer comes first");
    here.said.clear();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let mut client =
        rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut clear = Vec::new();
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        if !wire.is_empty() {
            here.send(&wire);
        }
        let said = std::mem::take(&mut here.said);
        let mut rest = &said[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().unwrap();
        }
        let mut buffer = [0; 4096];
        if let Ok(n) = client.reader().read(&mut buffer) {
            clear.extend_from_slice(&buffer[..n]);
        }
    }
    assert_eq!(
        describe(&clear, false),
        "FATAL 08P01 received unencrypted data after SSL request"
    );
    assert!(here.session.is_ended() && here.core.effects.is_empty());
}

#[test]
fn a_greeting_that_is_too_slow_ends_with_an_error_for_whoever_can_read_one() {
    let later = |here: &mut Here| {
        here.core.clock.now_us += 21_000_000;
        here.session.tick(&mut here.core);
        here.settle();
        assert!(here.session.is_ended());
    };
    let mut silent = Here::new(None, true);
    silent.send(&startup(&[("user", "alice")])[..6]);
    later(&mut silent);
    assert_eq!(
        silent.seen(false).said,
        "",
        "as PostgreSQL: nobody knows whether it would be read"
    );
    let mut asked = Here::new(None, true);
    asked.send(&startup(&[("user", "alice")]));
    later(&mut asked);
    assert_eq!(
        asked.seen(false).said,
        "R, FATAL 57014 canceling authentication due to timeout"
    );
}
