//! A real PostgreSQL of the test's own, with TLS, and blocking connections to it.

#![allow(dead_code, reason = "each test file uses its part")]

pub use headgate_fixtures::Postgres;
use headgate_fixtures::postgres::Settings;
use std::net::TcpStream;

/// With TLS by `certificate` and `key` (PEM) and with this `pg_hba.conf`.
pub fn start(admission: &str, certificate: &str, key: &str) -> Postgres {
    let settings = Settings {
        admission,
        tls: Some((certificate, key)),
        ..Settings::default()
    };
    Postgres::with(&settings).unwrap_or_else(|why| panic!("{why}"))
}

pub fn connect(postgres: &Postgres) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", postgres.port)).unwrap();
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(20)))
        .unwrap();
    stream
}
