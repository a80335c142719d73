//! A throw-away PostgreSQL of its own data directory and port, and the steps by which the gate uses this crate.

#![allow(dead_code)]

use headgate_mask::{
    Caller, Catalog, CatalogBuilder, ColumnOrigin, Hints, Lookup, Plan, RunStats, Scratch, catalog_query,
};
use headgate_plane::{MaskMethod, MaskRule, RuleTarget, RuleWho};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

pub struct Postgres {
    directory: tempfile::TempDir,
    bin: PathBuf,
    pub port: u16,
}

/// PostgreSQL refuses to run as root: there it runs as the user `postgres`.
fn as_server(program: &Path) -> Command {
    let root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
    if root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

impl Postgres {
    pub fn start() -> Postgres {
        let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
            .expect("PostgreSQL is not installed: apt-get install postgresql")
            .filter_map(|e| e.ok().map(|e| e.path().join("bin")))
            .filter(|bin| bin.join("postgres").exists())
            .collect();
        versions.sort();
        let bin = versions
            .pop()
            .expect("PostgreSQL is not installed: apt-get install postgresql");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data = directory.path().join("data");
        std::fs::create_dir(&data).expect("a data directory");
        let _ = Command::new("chown")
            .args(["-R", "postgres"])
            .arg(directory.path())
            .status();
        let run = |command: &mut Command| {
            let out = command
                .current_dir("/")
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .output()
                .expect("PostgreSQL's tools run");
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        };
        run(as_server(&bin.join("initdb")).arg("-D").arg(&data).args([
            "-A",
            "trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        ]));
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|l| l.local_addr())
            .expect("a free port")
            .port();
        let options = format!(
            "-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=off -c max_connections=20",
            directory.path().display()
        );
        run(as_server(&bin.join("pg_ctl"))
            .arg("-D")
            .arg(&data)
            .arg("-o")
            .arg(options)
            .arg("-l")
            .arg(directory.path().join("log"))
            .args(["-w", "start"]));
        Postgres { directory, bin, port }
    }

    pub async fn connect(&self) -> Client {
        self.connect_as("postgres").await
    }

    pub async fn connect_as(&self, user: &str) -> Client {
        let text = format!("host=127.0.0.1 port={} user={user} dbname=postgres", self.port);
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            match tokio_postgres::connect(&text, NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return client;
                }
                Err(e) => assert!(Instant::now() < end, "{e}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let data = self.directory.path().join("data");
        let _ = as_server(&self.bin.join("pg_ctl"))
            .current_dir("/")
            .arg("-D")
            .arg(&data)
            .args(["-m", "immediate", "-w", "stop"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

pub async fn feed(client: &Client, builder: &mut CatalogBuilder, query: &str) -> Result<(), String> {
    for message in client.simple_query(query).await.map_err(|e| format!("{e:?}"))? {
        if let SimpleQueryMessage::Row(row) = message {
            let fields: Vec<Option<&[u8]>> = (0..row.len()).map(|i| row.get(i).map(str::as_bytes)).collect();
            builder.row(&fields).map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

pub async fn try_catalog(client: &Client, labels: &[&str]) -> Result<Catalog, String> {
    let mut builder = CatalogBuilder::new(labels);
    feed(client, &mut builder, &catalog_query(labels)).await?;
    Ok(builder.finish())
}

/// What this session sees of some relations, laid over `catalog`.
pub async fn look_up(client: &Client, catalog: &Arc<Catalog>, lookup: Lookup) -> Result<Catalog, String> {
    let query = lookup.query();
    let mut builder = CatalogBuilder::over(catalog, lookup);
    feed(client, &mut builder, &query).await?;
    Ok(builder.finish())
}

pub async fn catalog(client: &Client, labels: &[&str]) -> Catalog {
    let catalog = try_catalog(client, labels).await.expect("the catalog is read");
    assert!(catalog.is_whole());
    catalog
}

pub fn rule(columns: &[&str], detect: &[&str], method: MaskMethod) -> MaskRule {
    MaskRule {
        name: "a rule".into(),
        who: RuleWho::default(),
        target: RuleTarget::default(),
        columns: columns.iter().map(|c| (*c).into()).collect(),
        detect: detect.iter().map(|c| (*c).into()).collect(),
        method,
        unless: None,
    }
}

pub fn caller(rules: &[MaskRule], catalog: Catalog) -> Caller {
    let rules: Vec<&MaskRule> = rules.iter().collect();
    let path = catalog.default_path().clone();
    Caller::new(&rules, Some(Arc::new(catalog)), &path, &[42; 32])
}

/// Any value, as its bytes came.
pub struct Raw(pub Vec<u8>);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Raw(raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

pub fn data_row(fields: &[Option<Vec<u8>>]) -> Vec<u8> {
    let mut body = u16::try_from(fields.len()).unwrap().to_be_bytes().to_vec();
    for field in fields {
        match field {
            None => body.extend((-1i32).to_be_bytes()),
            Some(value) => {
                body.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
                body.extend(value);
            }
        }
    }
    let mut row = vec![b'D'];
    row.extend(i32::try_from(body.len() + 4).unwrap().to_be_bytes());
    row.extend(body);
    row
}

pub struct Reply {
    /// The target's own bytes.
    pub clear: Vec<u8>,
    pub masked: Vec<u8>,
    pub stats: RunStats,
    pub plan: Plan,
}

/// Runs one statement in one format with the origins that PostgreSQL tells, and masks its rows.
pub async fn reply(client: &Client, caller: &Caller, sql: &str, hints: Hints, format: u16) -> Reply {
    let statement = client
        .prepare(sql)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let origins: Vec<ColumnOrigin<'_>> = statement
        .columns()
        .iter()
        .map(|c| ColumnOrigin {
            name: c.name(),
            table_oid: c.table_oid().unwrap_or(0),
            column: c.column_id().unwrap_or(0),
            type_oid: c.type_().oid(),
            format,
        })
        .collect();
    let plan = Plan::for_rows(caller, &origins, hints);
    let mut run = Vec::new();
    if format == 0 {
        for message in client
            .simple_query(sql)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e:?}"))
        {
            if let SimpleQueryMessage::Row(row) = message {
                let fields: Vec<_> = (0..row.len())
                    .map(|i| row.get(i).map(|v| v.as_bytes().to_vec()))
                    .collect();
                run.extend(data_row(&fields));
            }
        }
    } else {
        for row in client
            .query(&statement, &[])
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e:?}"))
        {
            let fields: Vec<_> = (0..row.len())
                .map(|i| row.get::<_, Option<Raw>>(i).map(|r| r.0))
                .collect();
            run.extend(data_row(&fields));
        }
    }
    let mut masked = Vec::new();
    let stats = plan
        .mask_run(&mut Scratch::default(), &run, &mut masked)
        .expect("a run of PostgreSQL's own rows");
    Reply {
        clear: run,
        masked,
        stats,
        plan,
    }
}

pub fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|w| w == needle)
}
