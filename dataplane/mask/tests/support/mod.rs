//! Clients of a PostgreSQL of the test's own, and the steps by which the gate uses this crate.

#![allow(dead_code)]

pub use headgate_fixtures::Postgres;
use headgate_mask::{
    Caller, Catalog, CatalogBuilder, ColumnOrigin, Hints, Lookup, Plan, RunStats, Scratch, catalog_query,
};
use headgate_plane::{MaskMethod, MaskRule, RuleTarget, RuleWho};
use std::sync::Arc;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

pub async fn connect(server: &Postgres) -> Client {
    connect_as(server, "postgres").await
}

pub async fn connect_as(server: &Postgres, user: &str) -> Client {
    let text = format!("host=127.0.0.1 port={} user={user} dbname=postgres", server.port);
    let (client, connection) = tokio_postgres::connect(&text, NoTls)
        .await
        .expect("the server answers");
    tokio::spawn(connection);
    client
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
