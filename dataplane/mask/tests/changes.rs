//! A catalog that follows changes is the same as one that is read anew, whatever is done to the target in between: random
//! DDL in several sessions, committed, rolled back and still open, against a real PostgreSQL. Needs: apt package `postgresql`.

mod support;

use headgate_mask::{
    Catalog, CatalogBuilder, CatalogChanges, Followed, Stamp, prepare_changes, relations_query,
};
use std::sync::Arc;
use support::Postgres;
use tokio_postgres::{Client, SimpleQueryMessage};

const LABELS: [&str; 5] = [
    "public.t1.secret",
    "s1.t2.secret",
    "public.p1.email",
    "public.we.ird.c'o\\l",
    "public.late.secret",
];
const BEGIN: &str = "begin isolation level repeatable read read only; set local search_path = pg_catalog";
/// Of each of [`SEEDS`].
const STEPS: usize = 400;
const SEEDS: [u64; 3] = [1, 2, 3];

/// An xorshift: the same steps on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[usize::try_from(self.below(u64::try_from(list.len()).unwrap())).unwrap()]
    }
}

const SCHEMAS: [&str; 3] = ["public", "s1", "s2"];
const NAMES: [&str; 8] = ["t1", "t2", "t3", "late", "p1", "v1", "v2", "\"we.ird\""];
const COLUMNS: [&str; 6] = ["id", "secret", "email", "plain", "\"c'o\\l\"", "query"];

fn relation(dice: &mut Dice) -> String {
    format!("{}.{}", dice.of(&SCHEMAS), dice.of(&NAMES))
}

fn columns(dice: &mut Dice) -> String {
    let count = 1 + dice.below(4);
    let mut chosen: Vec<&str> = Vec::new();
    for _ in 0..count {
        let column = dice.of(&COLUMNS);
        if !chosen.contains(&column) {
            chosen.push(column);
        }
    }
    chosen
        .iter()
        .map(|c| format!("{c} text"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Many of them fail, as the DDL of people does.
fn step(dice: &mut Dice) -> String {
    let (one, other) = (relation(dice), relation(dice));
    let (column, another) = (dice.of(&COLUMNS), dice.of(&COLUMNS));
    let (schema, name) = (dice.of(&SCHEMAS), dice.of(&NAMES));
    match dice.below(46) {
        0..=5 => format!("create table {one} ({})", columns(dice)),
        6 => format!("create table {one} ()"),
        7..=8 => format!("create table {one} ({}) inherits ({other})", columns(dice)),
        9 => format!("create table {one} ({column} text) partition by list ({column})"),
        10 => format!("create table {one} partition of {other} default"),
        11 => format!("alter table {one} attach partition {other} default"),
        12 => format!("alter table {one} detach partition {other}"),
        13 => format!("alter table {one} inherit {other}"),
        14 => format!("alter table {one} no inherit {other}"),
        15 => format!("drop table {one}"),
        16 => format!("drop table {one} cascade"),
        17..=18 => format!("alter table {one} rename to {name}"),
        19..=20 => format!("alter table {one} set schema {schema}"),
        21..=22 => format!("alter table {one} rename column {column} to {another}"),
        23..=24 => format!("alter table {one} add column {column} text"),
        25 => format!("alter table {one} drop column {column} cascade"),
        26 => format!("alter table {one} alter column {column} type varchar(9)"),
        27 => format!("alter table {one} add column made text generated always as (upper({column})) stored"),
        28..=29 => format!("create view {one} as select * from {other}"),
        30 => format!("create or replace view {one} as select {column}, upper({another}) as x from {other}"),
        31 => format!("create view {one} as select to_json(a) as j from {other} a"),
        32 => {
            format!("create or replace view {one} as select public.peek({column}) as {another} from {other}")
        }
        33 => format!("create view {one} as select query, pid from pg_stat_activity"),
        34 => format!("create materialized view {one} as select {column} from {other}"),
        35 => format!("drop view {one} cascade"),
        36 => dice
            .of(&[
                "create schema s3",
                "alter schema s3 rename to s2b",
                "drop schema s2b cascade",
                "alter schema s2 rename to s4",
                "alter schema s4 rename to s2",
                "create schema s2",
                "drop schema s2 cascade",
                "grant usage on schema s1 to app",
                "revoke usage on schema s1 from app",
            ])
            .to_owned(),
        37 => dice
            .of(&[
                "create or replace function public.peek(text) returns text language sql as 'select $1'",
                "create or replace function public.peek(text) returns text language sql as 'select $1 || 1'",
                "drop function public.peek(text) cascade",
                "alter extension citext drop function citext_cmp(citext, citext)",
                "alter extension citext add function citext_cmp(citext, citext)",
                "create domain public.word as text",
                "drop domain public.word cascade",
                "create type public.pair as (a text, b text)",
                "drop type public.pair cascade",
                "drop extension citext cascade",
                "create extension citext",
                "create type public.shell",
            ])
            .to_owned(),
        38 => format!("create temp table {name} ({})", columns(dice)),
        39 => format!("drop table pg_temp.{name}"),
        40 => format!("create view {schema}.pg_stat_statements as select {column} as {another} from {other}"),
        41 => format!("drop view {schema}.pg_stat_statements"),
        42 => format!("create index on {one} ({column})"),
        43 => format!("truncate {one}"),
        44 => dice
            .of(&[
                "vacuum full pg_class",
                "vacuum full pg_rewrite",
                "vacuum (freeze) pg_attribute",
                "analyze",
            ])
            .to_owned(),
        _ => dice
            .of(&[
                "alter role app set search_path = s1, public",
                "alter role app reset search_path",
                "alter database postgres set search_path = s2, public",
                "alter database postgres reset search_path",
            ])
            .to_owned(),
    }
}

async fn rows(client: &Client, query: &str, mut each: impl FnMut(&[Option<&[u8]>])) {
    for message in client
        .simple_query(query)
        .await
        .unwrap_or_else(|e| panic!("{query}: {e:?}"))
    {
        if let SimpleQueryMessage::Row(row) = message {
            let fields: Vec<Option<&[u8]>> = (0..row.len()).map(|i| row.get(i).map(str::as_bytes)).collect();
            each(&fields);
        }
    }
}

/// The whole, and what labels were on before stays labelled.
async fn read_anew(client: &Client, before: Option<&Catalog>) -> Catalog {
    let mut builder = CatalogBuilder::new(&LABELS);
    let kept: Vec<_> = before.into_iter().flat_map(Catalog::labelled).collect();
    rows(client, &headgate_mask::path_query(Some("app")), |row| {
        builder.row(row).unwrap()
    })
    .await;
    rows(client, &relations_query(&LABELS, Some("app"), &kept), |row| {
        builder.row(row).unwrap()
    })
    .await;
    builder.finish()
}

async fn stamp(client: &Client, catalog: &Arc<Catalog>) -> Stamp {
    let mut changes = CatalogChanges::new(catalog);
    let query = catalog.changes_query(None).unwrap();
    rows(client, &query, |row| changes.row(row).unwrap()).await;
    changes.stamp().expect("the answer is whole")
}

#[tokio::test]
async fn a_catalog_that_follows_changes_is_the_same_as_one_that_is_read_anew() {
    let mut ways = [0, 0];
    for seed in SEEDS {
        let postgres = Postgres::start();
        let admin = support::connect(&postgres).await;
        admin
            .batch_execute(
                "create role app; create schema s1; create schema s2; create extension citext;
                 create table t1 (id text, secret text); create table p1 (id text, email text) partition by list (id);",
            )
            .await
            .unwrap();
        let reader = support::connect(&postgres).await;
        reader.batch_execute(BEGIN).await.unwrap();
        reader.batch_execute(&prepare_changes(Some("app"))).await.unwrap();
        let mut catalog = Arc::new(read_anew(&reader, None).await);
        let mut since = stamp(&reader, &catalog).await;
        reader.batch_execute("commit").await.unwrap();
        let doers = [
            support::connect(&postgres).await,
            support::connect(&postgres).await,
            admin,
        ];
        let mut open = [false; 3];
        for doer in &doers {
            doer.batch_execute("set lock_timeout = '5ms'; set client_min_messages = error")
                .await
                .unwrap();
        }
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut done = Vec::new();
        for at in 0..STEPS {
            for _ in 0..1 + dice.below(3) {
                let who = usize::try_from(dice.below(3)).unwrap();
                let text = match (open[who], dice.below(12)) {
                    (false, 0) => "begin".to_owned(),
                    (true, 0..=1) => "commit".to_owned(),
                    (true, 2) => "rollback".to_owned(),
                    (true, 3) => format!("savepoint a; {}", step(&mut dice)),
                    (true, 4) => "rollback to a".to_owned(),
                    _ => step(&mut dice),
                };
                let went = doers[who].batch_execute(&text).await.is_ok();
                match text.as_str() {
                    "begin" => open[who] = true,
                    "commit" | "rollback" => open[who] = false,
                    // What fails ends a transaction, sooner or later.
                    _ if open[who] && !went && dice.below(2) == 0 => {
                        doers[who].batch_execute("rollback").await.unwrap();
                        open[who] = false;
                    }
                    _ => {}
                }
                done.push(format!("{who}: {text}{}", if went { "" } else { " (failed)" }));
            }
            reader.batch_execute(BEGIN).await.unwrap();
            let mut changes = CatalogChanges::new(&catalog);
            rows(&reader, &headgate_mask::path_query(Some("app")), |row| {
                changes.row(row).unwrap()
            })
            .await;
            let query = catalog.changes_query(Some(&since)).unwrap();
            rows(&reader, &query, |row| changes.row(row).unwrap()).await;
            let fresh = read_anew(&reader, Some(&catalog)).await;
            assert!(fresh.is_whole());
            match changes.follow(&since).expect("the answer is whole") {
                Followed::To(followed, stamp) => {
                    let last = done
                        .iter()
                        .rev()
                        .take(12)
                        .rev()
                        .cloned()
                        .collect::<Vec<_>>()
                        .join("\n");
                    assert_eq!(
                        followed.difference(&fresh),
                        None,
                        "seed {seed}, step {at}:\n{last}"
                    );
                    (catalog, since) = (Arc::new(followed), stamp);
                    ways[0] += 1;
                }
                Followed::ReadAnew { .. } => {
                    catalog = Arc::new(fresh);
                    since = stamp(&reader, &catalog).await;
                    ways[1] += 1;
                }
            }
            reader.batch_execute("commit").await.unwrap();
        }
    }
    println!("followed {}, read anew {}", ways[0], ways[1]);
    assert!(ways[0] > 100 && ways[1] > 20, "both ways are taken: {ways:?}");
}
