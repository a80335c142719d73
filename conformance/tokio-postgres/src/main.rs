//! tokio-postgres: each step says `ok STEP` or `failed STEP: why`. The endpoint comes from PG* variables.

use futures_util::{FutureExt, SinkExt, StreamExt, TryStreamExt, future, pin_mut};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::error::Error;
use std::future::Future;
use std::io::Cursor;
use std::pin::Pin;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config, IsolationLevel, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

type Done = Result<(), Box<dyn Error + Send + Sync>>;
type Step = fn(Client, mpsc::UnboundedReceiver<AsyncMessage>) -> Pin<Box<dyn Future<Output = Done> + Send>>;

fn tls() -> Result<MakeRustlsConnect, Box<dyn Error + Send + Sync>> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(std::env::var("PGSSLROOTCERT")?)? {
        roots.add(certificate?)?;
    }
    let config = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn config() -> Result<Config, Box<dyn Error + Send + Sync>> {
    let mut config = Config::new();
    config
        .host(std::env::var("PGHOST")?)
        .port(std::env::var("PGPORT")?.parse()?)
        .user(std::env::var("PGUSER")?);
    config
        .dbname(std::env::var("PGDATABASE")?)
        .password(std::env::var("PGPASSWORD").unwrap_or_default());
    config
        .ssl_mode(tokio_postgres::config::SslMode::Require)
        .connect_timeout(Duration::from_secs(20));
    Ok(config)
}

async fn connect(
    config: &Config,
) -> Result<(Client, mpsc::UnboundedReceiver<AsyncMessage>), Box<dyn Error + Send + Sync>> {
    let (client, mut connection) = config.connect(tls()?).await?;
    let (heard, messages) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut stream = futures_util::stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = stream.next().await {
            let _ = heard.send(message);
        }
    });
    Ok((client, messages))
}

fn same<T: PartialEq + std::fmt::Debug>(got: T, wanted: T) -> Done {
    if got == wanted {
        Ok(())
    } else {
        Err(format!("wanted {wanted:?}, got {got:?}").into())
    }
}

fn fails<T>(result: Result<T, tokio_postgres::Error>, wanted: &SqlState) -> Done {
    match result {
        Ok(_) => Err("no error".into()),
        Err(e) if e.code() == Some(wanted) => Ok(()),
        Err(e) => Err(format!("wanted {wanted:?}, got {e:?}").into()),
    }
}

async fn simple(c: Client) -> Done {
    let messages = c.simple_query("select 1; select 2; select").await?;
    let rows: Vec<_> = messages
        .iter()
        .filter_map(|m| match m {
            SimpleQueryMessage::Row(r) if !r.is_empty() => r.get(0).map(str::to_owned),
            _ => None,
        })
        .collect();
    same(rows, vec!["1".to_owned(), "2".to_owned()])?;
    c.batch_execute("").await?;
    Ok(())
}

async fn parameters(c: Client) -> Done {
    let row = c
        .query_one(
            "select $1::int8 + 1, $2::text, $3::bytea, $4::int4[]",
            &[&41i64, &None::<&str>, &&[0u8, 1][..], &vec![1, 2]],
        )
        .await?;
    same(
        (row.get::<_, i64>(0), row.get::<_, Option<String>>(1)),
        (42, None),
    )?;
    same(
        (row.get::<_, Vec<u8>>(2), row.get::<_, Vec<i32>>(3)),
        (vec![0, 1], vec![1, 2]),
    )
}

async fn prepared(c: Client) -> Done {
    let twice = c.prepare("select $1::int4 * 2").await?;
    for n in 0..50 {
        same(c.query_one(&twice, &[&n]).await?.get::<_, i32>(0), n * 2)?;
    }
    drop(twice);
    let left: i64 = c
        .query_one(
            "select count(*) from pg_prepared_statements where statement like '%* 2'",
            &[],
        )
        .await?
        .get(0);
    same(left, 0)
}

async fn transaction(mut c: Client) -> Done {
    c.batch_execute("create temp table t (x int)").await?;
    let t = c.transaction().await?;
    t.execute("insert into t values (1)", &[]).await?;
    t.commit().await?;
    let t = c.transaction().await?;
    t.execute("insert into t values (2)", &[]).await?;
    drop(t);
    let mut t = c
        .build_transaction()
        .isolation_level(IsolationLevel::Serializable)
        .start()
        .await?;
    t.execute("insert into t values (4)", &[]).await?;
    let s = t.savepoint("s").await?;
    fails(s.query("select 1/0", &[]).await, &SqlState::DIVISION_BY_ZERO)?;
    fails(
        s.query("select 1", &[]).await,
        &SqlState::IN_FAILED_SQL_TRANSACTION,
    )?;
    s.rollback().await?;
    t.commit().await?;
    same(
        c.query_one("select sum(x) from t", &[]).await?.get::<_, i64>(0),
        5,
    )
}

async fn error_and_on(c: Client) -> Done {
    fails(c.batch_execute("select 1/0").await, &SqlState::DIVISION_BY_ZERO)?;
    fails(
        c.query("select 1/$1::int4", &[&0i32]).await,
        &SqlState::DIVISION_BY_ZERO,
    )?;
    fails(
        c.prepare("select nothing_here").await,
        &SqlState::UNDEFINED_COLUMN,
    )?;
    same(c.query_one("select 1", &[]).await?.get::<_, i32>(0), 1)
}

async fn copy(c: Client) -> Done {
    c.batch_execute("create temp table t (x int, y text)").await?;
    let sink = c.copy_in("copy t from stdin").await?;
    pin_mut!(sink);
    let mut all = String::new();
    for n in 0..10000 {
        let line = format!("{n}\trow {n}\n");
        all.push_str(&line);
        sink.send(Cursor::new(line.into_bytes())).await?;
    }
    same(sink.finish().await?, 10000)?;
    let out: Vec<_> = c
        .copy_out("copy (select * from t order by x) to stdout")
        .await?
        .try_collect()
        .await?;
    same(out.concat(), all.into_bytes())?;
    let sink = c.copy_in("copy t from stdin").await?;
    pin_mut!(sink);
    sink.send(&b"wrong\tx\n"[..]).await?;
    fails(sink.finish().await, &SqlState::INVALID_TEXT_REPRESENTATION)?;
    // Dropped before its end: nothing of it is there.
    {
        let sink = c.copy_in("copy t from stdin").await?;
        pin_mut!(sink);
        sink.send(&b"1\tx\n"[..]).await?;
    }
    same(
        c.query_one("select count(*) from t", &[]).await?.get::<_, i64>(0),
        10000,
    )
}

async fn cancel(c: Client) -> Done {
    let (token, tls) = (c.cancel_token(), tls()?);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let _ = token.cancel_query(tls).await;
    });
    let began = Instant::now();
    fails(
        c.batch_execute("select pg_sleep(30)").await,
        &SqlState::QUERY_CANCELED,
    )?;
    same(began.elapsed() < Duration::from_secs(10), true)?;
    same(c.query_one("select 1", &[]).await?.get::<_, i32>(0), 1)
}

async fn notify(c: Client, mut messages: mpsc::UnboundedReceiver<AsyncMessage>) -> Done {
    let (other, _) = connect(&config()?).await?;
    let pid: i32 = other.query_one("select pg_backend_pid()", &[]).await?.get(0);
    c.batch_execute("listen n").await?;
    other.batch_execute("notify n, 'words'").await?;
    loop {
        match tokio::time::timeout(Duration::from_secs(5), messages.recv()).await? {
            Some(AsyncMessage::Notification(n)) => {
                return same((n.channel(), n.payload(), n.process_id()), ("n", "words", pid));
            }
            Some(_) => continue,
            None => return Err("the connection ended".into()),
        }
    }
}

async fn large_result(c: Client) -> Done {
    let rows = c
        .query(
            "select g, repeat('x', 100) from generate_series(1, 100000) g",
            &[],
        )
        .await?;
    same(rows.len(), 100_000)
}

async fn portal(mut c: Client) -> Done {
    let t = c.transaction().await?;
    let portal = t.bind("select g from generate_series(1, 1000) g", &[]).await?;
    let mut sum = 0i64;
    loop {
        let rows = t.query_portal(&portal, 100).await?;
        if rows.is_empty() {
            break;
        }
        sum += rows.iter().map(|r| i64::from(r.get::<_, i32>(0))).sum::<i64>();
    }
    same(sum, 500_500)
}

async fn pipeline(c: Client) -> Done {
    // Polled at once, so all of it is written before the first answer.
    let all = future::join_all((0..200i32).map(|n| {
        let c = &c;
        async move { c.query_one("select 10 / ($1::int4 - 100), $1::int4", &[&n]).await }
    }))
    .await;
    for (n, answer) in (0..200i32).zip(all) {
        match answer {
            Ok(row) => same(row.get::<_, i32>(1), n)?,
            Err(e) if n == 100 => fails(Err::<(), _>(e), &SqlState::DIVISION_BY_ZERO)?,
            Err(e) => return Err(format!("{n}: {e:?}").into()),
        }
    }
    Ok(())
}

async fn startup_parameters(_: Client) -> Done {
    let (c, _) = connect(
        config()?
            .options("-c statement_timeout=7s")
            .application_name("conformance"),
    )
    .await?;
    let row = c
        .query_one(
            "select current_setting('statement_timeout'), current_setting('application_name')",
            &[],
        )
        .await?;
    same(
        (row.get::<_, &str>(0), row.get::<_, &str>(1)),
        ("7s", "conformance"),
    )
}

async fn wrong_database(_: Client) -> Done {
    match connect(config()?.dbname("there_is_no_such_database")).await {
        Ok(_) => Err("no error".into()),
        Err(_) => Ok(()),
    }
}

const STEPS: &[(&str, Step)] = &[
    ("connect", |c, _| {
        Box::pin(async move { Ok(c.check_connection().await?) })
    }),
    ("simple", |c, _| Box::pin(simple(c))),
    ("parameters", |c, _| Box::pin(parameters(c))),
    ("prepared", |c, _| Box::pin(prepared(c))),
    ("transaction", |c, _| Box::pin(transaction(c))),
    ("error_and_on", |c, _| Box::pin(error_and_on(c))),
    ("copy", |c, _| Box::pin(copy(c))),
    ("cancel", |c, _| Box::pin(cancel(c))),
    ("notify", |c, m| Box::pin(notify(c, m))),
    ("large_result", |c, _| Box::pin(large_result(c))),
    ("portal", |c, _| Box::pin(portal(c))),
    ("pipeline", |c, _| Box::pin(pipeline(c))),
    ("startup_parameters", |c, _| Box::pin(startup_parameters(c))),
    ("wrong_database", |c, _| Box::pin(wrong_database(c))),
];

#[tokio::main]
async fn main() {
    for (name, step) in STEPS {
        let work = async {
            let (client, messages) = connect(&config()?).await?;
            step(client, messages).await
        };
        let guarded =
            std::panic::AssertUnwindSafe(tokio::time::timeout(Duration::from_secs(60), work)).catch_unwind();
        match guarded.await {
            Ok(Ok(Ok(()))) => println!("ok {name}"),
            Ok(Ok(Err(e))) => println!("failed {name}: {}", format!("{e} {e:?}").replace('\n', " | ")),
            Ok(Err(_)) => println!("failed {name}: no end within 60 s"),
            Err(_) => println!("failed {name}: panicked"),
        }
    }
}
