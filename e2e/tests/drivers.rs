//! Drivers that people use, unmodified: psycopg 3 (libpq 18), asyncpg, tokio-postgres.

use headgate_e2e::run::run;
use headgate_e2e::{World, python};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

fn script(name: &str, case: &str) {
    let gate = World::open_gate();
    let token = gate.token("alice", &["analysts"]).unwrap();
    let mut command = Command::new(python::interpreter().unwrap_or_else(|why| panic!("{why}")));
    command
        .arg(python::script(name))
        .arg(case)
        .envs(gate.environment(&token))
        .env("GATE_PORT", gate.port.to_string());
    let ran = run(&mut command, "", Duration::from_secs(60)).unwrap();
    assert!(
        ran.ok() && ran.stdout.trim().ends_with("ok"),
        "{}\n--- gate\n{}",
        ran.all(),
        tail(&gate.log())
    );
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines
        .get(lines.len().saturating_sub(15)..)
        .unwrap_or_default()
        .join("\n")
}

macro_rules! cases {
    ($script:literal: $($test:ident = $case:literal),+ $(,)?) => {
        $(#[test] fn $test() { script($script, $case); })+
    };
}

cases!("psycopg_cases.py":
    psycopg_queries_and_reads_every_common_type = "types",
    psycopg_prepares_and_uses_a_statement_many_times = "prepared",
    psycopg_pipelines_a_hundred_statements = "pipeline",
    psycopg_pipeline_with_an_error_recovers_at_the_sync = "pipeline_error",
    psycopg_copies_in_and_out_in_text_and_binary = "copy",
    psycopg_transactions_nest_and_roll_back = "transactions",
    psycopg_errors_carry_their_fields = "errors",
    psycopg_cancels_a_running_statement = "cancel",
    psycopg_uses_server_side_cursors = "cursors",
    psycopg_hears_its_own_notifications_under_its_own_pid = "notify",
    psycopg_speaks_protocol_3_2 = "protocol_3_2",
    psycopg_begins_tls_at_once = "direct_tls",
);

cases!("asyncpg_cases.py":
    asyncpg_queries_with_parameters = "queries",
    asyncpg_prepares_and_uses_a_statement_many_times = "prepared",
    asyncpg_copies_records_in_and_out = "copy",
    asyncpg_transactions_nest_and_roll_back = "transactions",
    asyncpg_errors_carry_their_fields = "errors",
    asyncpg_cancels_when_a_task_times_out = "cancel",
    asyncpg_pools_resets_and_reuses_its_connections = "pool",
    asyncpg_walks_a_cursor = "cursor",
);

fn tls(root: &std::path::Path) -> Connector {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(root).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    Connector(Arc::new(
        config.with_root_certificates(roots).with_no_client_auth(),
    ))
}

/// tokio-postgres wants to be told how TLS is made.
#[derive(Clone)]
struct Connector(Arc<rustls::ClientConfig>);

mod glue {
    use super::Connector;
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
    use tokio_postgres::Socket;
    use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

    pub struct Stream(tokio_rustls::client::TlsStream<Socket>);

    impl MakeTlsConnect<Socket> for Connector {
        type Stream = Stream;
        type TlsConnect = Connector;
        type Error = io::Error;

        fn make_tls_connect(&mut self, _domain: &str) -> io::Result<Connector> {
            Ok(self.clone())
        }
    }

    impl TlsConnect<Socket> for Connector {
        type Stream = Stream;
        type Error = io::Error;
        type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

        fn connect(self, stream: Socket) -> Self::Future {
            Box::pin(async move {
                let name = rustls_pki_types::ServerName::try_from("localhost").map_err(io::Error::other)?;
                tokio_rustls::TlsConnector::from(self.0)
                    .connect(name, stream)
                    .await
                    .map(Stream)
            })
        }
    }

    impl TlsStream for Stream {
        fn channel_binding(&self) -> ChannelBinding {
            ChannelBinding::none()
        }
    }

    impl AsyncRead for Stream {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_read(context, into)
        }
    }

    impl AsyncWrite for Stream {
        fn poll_write(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut self.0).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.0).poll_shutdown(context)
        }
    }
}

async fn client() -> (tokio_postgres::Client, Connector) {
    let gate = World::open_gate();
    let connector = tls(&gate.root);
    let mut config = tokio_postgres::Config::new();
    config
        .host("localhost")
        .port(gate.port)
        .dbname("shop")
        .user("alice")
        .password(gate.token("alice", &["analysts"]).unwrap());
    config
        .ssl_mode(tokio_postgres::config::SslMode::Require)
        .connect_timeout(Duration::from_secs(10));
    let (client, connection) = config.connect(connector.clone()).await.unwrap();
    tokio::spawn(connection);
    (client, connector)
}

#[tokio::test]
async fn tokio_postgres_queries_prepares_and_pipelines() {
    let (client, _) = client().await;
    let statement = client
        .prepare("SELECT name FROM products WHERE id = $1")
        .await
        .unwrap();
    let numbers: Vec<i32> = (1..=20).collect();
    let asked = numbers.iter().map(|n| async {
        client
            .query_one(&statement, &[n])
            .await
            .unwrap()
            .get::<_, String>(0)
    });
    // Polled together, they are sent as one pipeline.
    let mut tasks = Vec::new();
    for one in asked {
        tasks.push(one.await);
    }
    assert!(
        tasks
            .iter()
            .enumerate()
            .all(|(i, name)| name.ends_with(&format!("no. {}", i + 1))),
        "{tasks:?}"
    );
    let (a, b, c) = tokio::join!(
        client.query_one("SELECT 1::int4 + $1::int4", &[&1_i32]),
        client.query_one("SELECT count(*) FROM customers", &[]),
        client.simple_query("SELECT 3; SELECT 4"),
    );
    assert_eq!(
        (a.unwrap().get::<_, i32>(0), b.unwrap().get::<_, i64>(0)),
        (2, 160)
    );
    assert!(c.unwrap().len() >= 4);
}

#[tokio::test]
async fn tokio_postgres_rolls_a_transaction_back_and_reads_the_error() {
    let (mut client, _) = client().await;
    client
        .batch_execute("CREATE TEMP TABLE t (n int PRIMARY KEY)")
        .await
        .unwrap();
    let transaction = client.transaction().await.unwrap();
    transaction
        .execute("INSERT INTO t VALUES ($1)", &[&1_i32])
        .await
        .unwrap();
    let error = transaction
        .execute("INSERT INTO t VALUES ($1)", &[&1_i32])
        .await
        .unwrap_err();
    assert_eq!(
        error.code(),
        Some(&tokio_postgres::error::SqlState::UNIQUE_VIOLATION)
    );
    transaction.rollback().await.unwrap();
    assert_eq!(
        client
            .query_one("SELECT count(*) FROM t", &[])
            .await
            .unwrap()
            .get::<_, i64>(0),
        0
    );
}

#[tokio::test]
async fn tokio_postgres_cancels_a_running_statement() {
    let (client, connector) = client().await;
    let cancel = client.cancel_token();
    let sleeping = async { client.query("SELECT pg_sleep(30)", &[]).await };
    let cancelling = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        cancel.cancel_query(connector).await
    };
    let began = std::time::Instant::now();
    let (slept, cancelled) = tokio::join!(sleeping, cancelling);
    cancelled.unwrap();
    assert_eq!(
        slept.unwrap_err().code(),
        Some(&tokio_postgres::error::SqlState::QUERY_CANCELED)
    );
    assert!(began.elapsed() < Duration::from_secs(15));
    assert_eq!(
        client
            .query_one("SELECT 1::int4", &[])
            .await
            .unwrap()
            .get::<_, i32>(0),
        1
    );
}
