//! The handshake towards a real PostgreSQL in every method, with and without TLS; and libpq against the handshake towards clients.
//!
//! Needs the programs of a PostgreSQL server and psql (Debian: postgresql).

mod real;

use headgate_plane::{Secret, TargetAuth};
use headgate_postgres::backend::{Backend, Field, TransactionStatus};
use headgate_postgres::certificate::tls_server_end_point;
use headgate_postgres::frontend::Frontend;
use headgate_postgres::handshake::target::{TargetFailed, TargetMethod};
use headgate_postgres::startup::policy::{self, Policy};
use headgate_postgres::{
    ClientEvent, ClientHandshake, ClientTls, Report, ScramKeys, Startup, TargetEvent, TargetHandshake,
    TargetHandshakeConfig, TargetReady, frame, write,
};
use real::Postgres;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

struct Certificate {
    chain: CertificateDer<'static>,
    key: rcgen::KeyPair,
    pem: String,
}

fn certificate() -> Certificate {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    Certificate {
        chain: certificate.der().clone(),
        pem: certificate.pem(),
        key,
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn config(user: &str, password: &str, auth: TargetAuth, tls: bool) -> TargetHandshakeConfig {
    TargetHandshakeConfig {
        tls,
        user: user.into(),
        database: "postgres".into(),
        parameters: vec![
            ("application_name".into(), "headgate test".into()),
            ("client_encoding".into(), "utf-8".into()),
        ],
        password: Secret::new(password),
        scram_keys: ScramKeys::default(),
        auth,
        minor: 2,
    }
}

type SignedIn = (TargetReady, Box<dyn Stream>, Vec<u8>);

/// `bind`: what is done to the channel binding on its way.
fn sign_in(
    postgres: &Postgres,
    certificate: &Certificate,
    config: TargetHandshakeConfig,
    bind: fn(Option<Vec<u8>>) -> Option<Vec<u8>>,
) -> Result<SignedIn, TargetFailed> {
    let mut stream: Box<dyn Stream> = Box::new(real::connect(postgres));
    let mut plain = Some(real::connect(postgres));
    let (mut out, mut buffer) = (Vec::new(), Vec::new());
    let tls = config.tls;
    let mut handshake = TargetHandshake::start(config, &mut out)?;
    if tls {
        // The TLS library wants the socket itself.
        let mut socket = plain.take().unwrap();
        socket.write_all(&out).unwrap();
        out.clear();
        let mut answer = [0; 1];
        socket.read_exact(&mut answer).unwrap();
        let (next, advance) = handshake.advance(&answer, &mut out)?;
        assert!(matches!(advance.event, Some(TargetEvent::StartTls)));
        let mut roots = RootCertStore::empty();
        roots.add(certificate.chain.clone()).unwrap();
        let client = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut client =
            ClientConnection::new(Arc::new(client), ServerName::try_from("localhost").unwrap()).unwrap();
        while client.is_handshaking() {
            client.complete_io(&mut socket).unwrap();
        }
        let binding = tls_server_end_point(client.peer_certificates().unwrap()[0].as_ref());
        assert!(binding.is_some());
        handshake = next.tls_started(bind(binding), &mut out)?;
        stream = Box::new(StreamOwned::new(client, socket));
    }
    loop {
        stream.write_all(&out).unwrap();
        stream.flush().unwrap();
        out.clear();
        let (next, advance) = handshake.advance(&buffer, &mut out)?;
        handshake = next;
        buffer.drain(..advance.used);
        if let Some(TargetEvent::Ready(ready)) = advance.event {
            return Ok((*ready, stream, buffer));
        }
        if advance.used == 0 {
            let mut read = [0; 4096];
            let bytes = stream.read(&mut read).unwrap();
            assert!(bytes > 0, "the target closed in state {}", handshake.state());
            buffer.extend_from_slice(&read[..bytes]);
        }
    }
}

/// The first value of the first row.
fn ask(stream: &mut dyn Stream, text: &str) -> String {
    let mut out = Vec::new();
    write::query(&mut out, text.as_bytes()).unwrap();
    stream.write_all(&out).unwrap();
    stream.flush().unwrap();
    let (mut buffer, mut answer) = (Vec::new(), String::new());
    loop {
        while let Some((header, body)) = frame::split(&buffer, 1 << 20).unwrap() {
            match Backend::decode(header.tag, body).unwrap() {
                Backend::DataRow(mut values) => {
                    answer = String::from_utf8_lossy(values.next().unwrap().unwrap()).into_owned()
                }
                Backend::ErrorResponse(fields) => {
                    answer = format!("{:?}", fields.message().map(String::from_utf8_lossy))
                }
                Backend::ReadyForQuery { .. } => return answer,
                _ => {}
            }
            buffer.drain(..header.len);
        }
        let mut read = [0; 4096];
        let bytes = stream.read(&mut read).unwrap();
        assert!(bytes > 0, "the target closed");
        buffer.extend_from_slice(&read[..bytes]);
    }
}

const HBA: &str = "\
local all all trust
host all trusted 127.0.0.1/32 trust
host all old 127.0.0.1/32 md5
host all clear 127.0.0.1/32 password
hostssl all app 127.0.0.1/32 scram-sha-256
host all plain 127.0.0.1/32 scram-sha-256
";

#[test]
fn a_real_postgresql_is_signed_in_to_by_every_method() {
    let certificate = certificate();
    let postgres = real::start(HBA, &certificate.pem, &certificate.key.serialize_pem());
    postgres.sql(&[
        "create role trusted login",
        "set password_encryption = 'md5'; create role old login password 'old-password'; reset password_encryption",
        "create role clear login password 'clear-password'",
        "create role app login password 'päss wörd, =,n='",
        "create role plain login password 'plain-password'",
        "alter role trusted set client_encoding = 'LATIN1'; alter role trusted set standard_conforming_strings = off",
    ].join("; "));
    let sign = |user: &str, password: &str, auth: TargetAuth, tls: bool| {
        sign_in(
            &postgres,
            &certificate,
            config(user, password, auth, tls),
            |binding| binding,
        )
    };

    for _ in 0..20 {
        // The nonce is another every time.
        let (ready, mut stream, left) = sign("app", "päss wörd, =,n=", TargetAuth::Scram, true).unwrap();
        assert_eq!(ready.method, TargetMethod::ScramSha256Plus);
        assert!(left.is_empty());
        assert_eq!(
            ready.parameter("client_encoding"),
            Some("UTF8"),
            "the target's own word"
        );
        assert_eq!(ready.parameter("application_name"), Some("headgate test"));
        assert_eq!(
            ask(&mut *stream, "select pg_backend_pid()"),
            ready.pid.to_string()
        );
        assert_eq!(
            ask(
                &mut *stream,
                "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
            ),
            "t"
        );
        if !ready.parameter("server_version").unwrap().starts_with("15.") {
            continue;
        }
        assert_eq!(
            (ready.minor, ready.key.len()),
            (0, 4),
            "PostgreSQL 15 negotiates 3.2 down"
        );
    }
    let unbound = sign_in(
        &postgres,
        &certificate,
        config("app", "päss wörd, =,n=", TargetAuth::Scram, true),
        |_| None,
    )
    .unwrap();
    assert_eq!(unbound.0.method, TargetMethod::ScramSha256);
    // Another certificate's hash: somebody stands between.
    let between = sign_in(
        &postgres,
        &certificate,
        config("app", "päss wörd, =,n=", TargetAuth::Scram, true),
        |_| Some(vec![0; 32]),
    );
    assert!(matches!(between.map(|_| ()), Err(TargetFailed::Refused(refused)) if !refused.authenticated));

    assert_eq!(
        sign("plain", "plain-password", TargetAuth::Scram, false)
            .unwrap()
            .0
            .method,
        TargetMethod::ScramSha256
    );
    match sign("plain", "wrong", TargetAuth::Scram, false).map(|_| ()) {
        Err(TargetFailed::Refused(refused)) => assert_eq!(refused.sqlstate(), "28P01"),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        sign("plain", "", TargetAuth::Scram, false).map(|_| ()),
        Err(TargetFailed::PasswordMissing)
    );
    match sign("app", "päss wörd, =,n=", TargetAuth::Scram, false).map(|_| ()) {
        Err(TargetFailed::Refused(refused)) => {
            assert_eq!(refused.sqlstate(), "28000", "pg_hba.conf wants TLS")
        }
        other => panic!("{other:?}"),
    }

    assert!(matches!(
        sign("old", "old-password", TargetAuth::Scram, false).map(|_| ()),
        Err(TargetFailed::MethodNotAllowed { .. })
    ));
    assert_eq!(
        sign("old", "old-password", TargetAuth::DangerMd5, false)
            .unwrap()
            .0
            .method,
        TargetMethod::Md5
    );
    assert_eq!(
        sign("old", "old-password", TargetAuth::DangerMd5, true)
            .unwrap()
            .0
            .method,
        TargetMethod::Md5
    );
    assert!(matches!(
        sign("clear", "clear-password", TargetAuth::DangerMd5, false).map(|_| ()),
        Err(TargetFailed::MethodNotAllowed { .. })
    ));
    assert_eq!(
        sign("clear", "clear-password", TargetAuth::DangerCleartext, false)
            .unwrap()
            .0
            .method,
        TargetMethod::Cleartext
    );
    assert_eq!(
        sign("trusted", "", TargetAuth::Scram, false).unwrap().0.method,
        TargetMethod::Trust
    );

    settings_arrive_as_the_client_meant_them(&postgres, &certificate);
    a_query_is_cancelled_with_the_targets_key(&postgres, &certificate);
    psql_signs_in_to_us(&postgres, &certificate);
}

fn settings_arrive_as_the_client_meant_them(postgres: &Postgres, certificate: &Certificate) {
    let startup = |parameters: &[(&str, &str)]| Startup {
        minor: 0,
        user: "u".into(),
        database: "d".into(),
        parameters: parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        negotiate: None,
    };
    let show = |parameters: &[(&str, &str)], setting: &str| {
        let mut config = config("trusted", "", TargetAuth::Scram, false);
        config.parameters = policy::for_target(&startup(parameters), Policy::default()).unwrap();
        let (_, mut stream, _) = sign_in(postgres, certificate, config, |binding| binding).unwrap();
        ask(&mut *stream, &format!("show {setting}"))
    };
    // The role's own defaults would change how statements are read.
    assert_eq!(show(&[], "client_encoding"), "UTF8");
    assert_eq!(show(&[], "standard_conforming_strings"), "on");
    assert_eq!(
        show(&[("client_encoding", "'utf-8'")], "client_encoding"),
        "UTF8",
        "asyncpg's spelling"
    );
    assert_eq!(
        show(
            &[("options", r"-c DateStyle=German,\ DMY --work-mem=5MB")],
            "datestyle"
        ),
        "German, DMY"
    );
    assert_eq!(
        show(
            &[
                ("options", "-c application_name=first"),
                ("application_name", "last")
            ],
            "application_name"
        ),
        "last"
    );
    assert_eq!(
        show(&[("TimeZone", "Europe/Berlin"), ("timezone", "UTC")], "timezone"),
        "UTC"
    );
}

fn a_query_is_cancelled_with_the_targets_key(postgres: &Postgres, certificate: &Certificate) {
    let (ready, mut stream, _) = sign_in(
        postgres,
        certificate,
        config("trusted", "", TargetAuth::Scram, false),
        |binding| binding,
    )
    .unwrap();
    let cancel = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(std::time::Duration::from_millis(300));
            let mut out = Vec::new();
            write::cancel_request(&mut out, ready.pid, &ready.key).unwrap();
            real::connect(postgres).write_all(&out).unwrap();
        });
        ask(&mut *stream, "select pg_sleep(15)")
    });
    assert!(
        cancel.contains("canceling statement due to user request"),
        "{cancel}"
    );
}

/// One connection of libpq, played through to one answered query. Returns what psql printed.
fn serve(
    postgres: &Postgres,
    certificate: &Certificate,
    tls: ClientTls,
    connection: &str,
) -> (String, String, Option<Box<Startup>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let key = PrivateKeyDer::try_from(certificate.key.serialize_der()).unwrap();
    let mut server = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.chain.clone()], key)
        .unwrap();
    server.alpn_protocols = vec![b"postgresql".to_vec()];
    let server = Arc::new(server);
    std::thread::scope(|scope| {
        let played = scope.spawn(move || play(listener.accept().unwrap().0, tls, server));
        let output = Command::new(postgres.program("psql"))
            .args(["-X", "-A", "-t", "-c", "select 'judged'"])
            .arg(format!(
                "host=127.0.0.1 port={port} user=ann dbname=orders {connection}"
            ))
            .env("PGPASSWORD", "hgt_token")
            .env("PGCONNECT_TIMEOUT", "10")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        (text(&output.stdout), text(&output.stderr), played.join().unwrap())
    })
}

fn play(socket: TcpStream, tls: ClientTls, server: Arc<ServerConfig>) -> Option<Box<Startup>> {
    socket
        .set_read_timeout(Some(std::time::Duration::from_secs(20)))
        .unwrap();
    let mut stream: Box<dyn Stream> = Box::new(socket.try_clone().unwrap());
    let (mut handshake, mut buffer, mut who) = (ClientHandshake::new(tls), Vec::new(), None);
    loop {
        let mut out = Vec::new();
        let (next, advance) = match handshake.advance(&buffer, &mut out) {
            Ok(done) => done,
            Err(wrong) => {
                let (code, text) = wrong.to_client();
                Report::fatal(code, text).write_error(&mut out);
                let _ = stream.write_all(&out);
                return None;
            }
        };
        handshake = next;
        buffer.drain(..advance.used);
        stream.write_all(&out).unwrap();
        stream.flush().unwrap();
        match advance.event {
            Some(ClientEvent::StartTls { .. }) => {
                let mut socket = socket.try_clone().unwrap();
                let mut server = ServerConnection::new(Arc::clone(&server)).unwrap();
                while server.is_handshaking() {
                    server.complete_io(&mut socket).unwrap();
                }
                handshake = handshake.tls_started(server.alpn_protocol()).unwrap();
                stream = Box::new(StreamOwned::new(server, socket));
            }
            Some(ClientEvent::Startup(startup)) => who = Some(startup),
            Some(ClientEvent::Password(password)) => {
                assert_eq!(password.danger_reveal(), "hgt_token");
                answer_one_query(&mut *stream, &mut buffer);
                return who;
            }
            Some(ClientEvent::Cancel { .. }) => panic!("nobody cancels here"),
            None if advance.used > 0 => {}
            None => {
                let mut read = [0; 4096];
                let bytes = stream.read(&mut read).unwrap();
                if bytes == 0 {
                    return None;
                }
                buffer.extend_from_slice(&read[..bytes]);
            }
        }
    }
}

fn answer_one_query(stream: &mut dyn Stream, buffer: &mut Vec<u8>) {
    let mut out = Vec::new();
    write::authentication_ok(&mut out);
    for (name, value) in [
        ("server_version", "15.0"),
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
    ] {
        write::parameter_status(&mut out, name.as_bytes(), value.as_bytes()).unwrap();
    }
    write::backend_key_data(&mut out, 17, &[1, 2, 3, 4]).unwrap();
    write::ready_for_query(&mut out, TransactionStatus::Idle);
    stream.write_all(&out).unwrap();
    stream.flush().unwrap();
    let header = loop {
        if let Some(header) = frame::peek(buffer, 1 << 20)
            .unwrap()
            .filter(|header| header.len <= buffer.len())
        {
            break header;
        }
        let mut read = [0; 4096];
        let bytes = stream.read(&mut read).unwrap();
        assert!(bytes > 0, "psql asks");
        buffer.extend_from_slice(&read[..bytes]);
    };
    let Ok(Frontend::Query(query)) = Frontend::decode(header.tag, header.body(buffer).unwrap()) else {
        panic!("psql asks")
    };
    assert_eq!(query.text, b"select 'judged'");
    let mut out = Vec::new();
    Report::notice("held as HG-17")
        .hint("wait")
        .write_notice(&mut out);
    let field = Field {
        name: b"?column?",
        table_oid: 0,
        column: 0,
        type_oid: 25,
        type_size: -1,
        type_modifier: -1,
        format: 0,
    };
    write::row_description(&mut out, [field].into_iter()).unwrap();
    write::data_row(&mut out, [Some(&b"judged"[..])].into_iter()).unwrap();
    write::command_complete(&mut out, b"SELECT 1").unwrap();
    write::ready_for_query(&mut out, TransactionStatus::Idle);
    stream.write_all(&out).unwrap();
    stream.flush().unwrap();
    let mut rest = [0; 64];
    let _ = stream.read(&mut rest);
}

fn psql_signs_in_to_us(postgres: &Postgres, certificate: &Certificate) {
    for (tls, connection) in [
        (ClientTls::Required, "sslmode=require"),
        (ClientTls::Required, "sslmode=prefer gssencmode=disable"),
        (ClientTls::DangerOptional, "sslmode=disable"),
        (ClientTls::DangerOff, "sslmode=prefer"),
    ] {
        let (stdout, stderr, who) = serve(
            postgres,
            certificate,
            tls,
            &format!("{connection} application_name=x options='-c geqo=off'"),
        );
        assert_eq!(stdout, "judged", "{connection}: {stderr}");
        assert!(
            stderr.contains("NOTICE:  held as HG-17") && stderr.contains("HINT:  wait"),
            "{stderr}"
        );
        let who = who.unwrap();
        assert_eq!(
            (
                who.user.as_str(),
                who.database.as_str(),
                who.parameter("application_name")
            ),
            ("ann", "orders", Some("x"))
        );
        assert_eq!(who.parameter("options"), Some("-c geqo=off"));
    }
    let (stdout, stderr, who) = serve(postgres, certificate, ClientTls::Required, "sslmode=disable");
    assert!(stdout.is_empty() && who.is_none());
    assert!(
        stderr.contains("Headgate takes no password without SSL"),
        "{stderr}"
    );
}
