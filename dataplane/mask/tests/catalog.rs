//! The catalog of labels against a real PostgreSQL. Needs: apt package `postgresql`.

mod support;

use headgate_mask::Catalog;
use support::{Postgres, catalog, try_catalog};
use tokio_postgres::Client;

const SCHEMA: &str = r#"
create table users(id int primary key, email text, age int, slug text generated always as (lower(email)) stored,
  twice int generated always as (age * 2) stored);
create schema other; create table other.users(id int, email text);
create view plain as select id, email as mail from users;
create view upper_view as select id, upper(email) as u from users;
create view whole as select id as i, to_json(u) as j from users u;
create view united as select id::text as x from users union select email from users;
create view with_cte as with x as (select email e from users) select e from x;
create view of_view as select mail || '!' as m, id, mail from plain;
create materialized view stored as select * from upper_view;
create view joined as select a.id from users a join users b using (email);
create view harmless as select id, age + 1 as next from users;
create view slugs as select slug from users;
create view statistics as select tablename, most_common_vals::text from pg_catalog.pg_stats;
create view watch as select pid, query, upper(query) as u from pg_stat_activity;
create function peek() returns text language sql as 'select email from public.users limit 1';
create view functional as select peek() as p, 1::int4 as n;
create view xml_reader as select query_to_xml('select * from users', true, true, '') as x;
create table parted(id int, "E mail" text, day int) partition by range (day);
create table parted_1 ("E mail" text, id int, day int);
alter table parted attach partition parted_1 for values from (0) to (10);
create table base(id int, phone text);
create table child(extra text) inherits (base);
create table "we.ird" ("c'o\l" text);
"#;

const LABELS: [&str; 4] = ["public.users.email", "public.parted_1.E mail", "public.base.phone", "public.we.ird.c'o\\l"];

async fn fate(client: &Client, catalog: &Catalog, relation: &str, column: &str) -> &'static str {
    let row = client
        .query_one(
            "select attrelid, attnum from pg_attribute where attrelid = $1::text::regclass and attname = $2::text",
            &[&relation, &column],
        )
        .await
        .unwrap_or_else(|e| panic!("{relation}.{column}: {e:?}"));
    let (oid, attnum): (u32, i16) = (row.get(0), row.get(1));
    match (catalog.is_derived(oid, attnum), catalog.label_of(oid, attnum)) {
        (true, _) => "derived",
        (false, Some(_)) => "label",
        (false, None) => "",
    }
}

#[tokio::test]
async fn labels_reach_what_is_made_of_them_and_nothing_else() {
    let postgres = Postgres::start();
    let client = postgres.connect().await;
    client.batch_execute(SCHEMA).await.unwrap();
    let catalog = catalog(&client, &LABELS).await;
    for (relation, column, want) in [
        ("users", "email", "label"),
        ("users", "id", ""),
        ("users", "slug", "derived"),
        ("users", "twice", ""),
        ("other.users", "email", ""),
        ("plain", "mail", "label"),
        ("plain", "id", ""),
        ("upper_view", "u", "derived"),
        ("upper_view", "id", ""),
        ("whole", "i", ""),
        ("whole", "j", "derived"),
        ("united", "x", "derived"),
        ("with_cte", "e", "label"),
        ("of_view", "m", "derived"),
        ("of_view", "mail", "label"),
        ("of_view", "id", ""),
        ("stored", "u", "derived"),
        ("stored", "id", ""),
        ("joined", "id", ""),
        ("harmless", "next", ""),
        ("slugs", "slug", "derived"),
        ("statistics", "most_common_vals", "derived"),
        ("watch", "query", "derived"),
        ("watch", "u", "derived"),
        ("watch", "pid", ""),
        ("pg_catalog.pg_stat_activity", "query", "derived"),
        ("pg_catalog.pg_stat_activity", "state", ""),
        ("functional", "p", "derived"),
        ("xml_reader", "x", "derived"),
        ("parted", "E mail", "label"),
        ("parted_1", "E mail", "label"),
        ("parted_1", "id", ""),
        ("base", "phone", "label"),
        ("child", "phone", "label"),
        ("child", "extra", ""),
        ("\"we.ird\"", "c'o\\l", "label"),
        ("pg_catalog.pg_stats", "most_common_vals", "derived"),
    ] {
        assert_eq!(fate(&client, &catalog, relation, column).await, want, "{relation}.{column}");
    }
}

#[tokio::test]
async fn names_resolve_as_the_session_would_find_them() {
    let postgres = Postgres::start();
    let client = postgres.connect().await;
    client.batch_execute(SCHEMA).await.unwrap();
    let plain = catalog(&client, &LABELS).await;
    assert_eq!(plain.resolve(None, "users").map(|r| r.0), Some("public"));
    assert_eq!(plain.resolve(Some("other"), "users").map(|r| r.0), Some("other"));
    assert_eq!(plain.resolve(None, "pg_class").map(|r| r.0), Some("pg_catalog"));
    assert_eq!(plain.resolve(None, "nowhere"), None);
    client.batch_execute("set search_path = other, public").await.unwrap();
    assert_eq!(catalog(&client, &LABELS).await.resolve(None, "users").map(|r| r.0), Some("other"));
    client.batch_execute("create temp table users(email text)").await.unwrap();
    let shadowed = catalog(&client, &LABELS).await;
    // Shared by sessions: what all of them see is judged, temporary tables come last.
    assert_eq!(shadowed.resolve(None, "users").map(|r| r.0), Some("other"));
    let (schema, _, oid) = shadowed.resolve(Some("pg_temp"), "users").unwrap();
    assert!(schema.starts_with("pg_temp_") && shadowed.resolve(Some("other"), "users").map(|r| r.2) != Some(oid));
    assert_eq!(shadowed.resolve(Some("public"), "users").map(|r| r.0), Some("public"));
}

#[tokio::test]
async fn a_hostile_search_path_and_strings_do_not_change_the_answer() {
    let postgres = Postgres::start();
    let client = postgres.connect().await;
    client.batch_execute(SCHEMA).await.unwrap();
    client
        .batch_execute(
            r#"create schema evil;
            create function evil.never(text, text) returns bool language sql immutable as 'select false';
            create operator evil.= (leftarg = text, rightarg = text, procedure = evil.never);
            create function evil.never(oid, oid) returns bool language sql immutable as 'select false';
            create operator evil.= (leftarg = oid, rightarg = oid, procedure = evil.never);
            create function evil.unnest(anyarray) returns setof text language sql as $$ select 'x'::text $$;
            create table evil.pg_class(oid oid, relname name);
            create domain evil.text as pg_catalog.int4;
            set search_path = evil, pg_catalog; set standard_conforming_strings = off;"#,
        )
        .await
        .unwrap();
    let catalog = catalog(&client, &LABELS).await;
    for label in LABELS {
        let id = catalog.labels().iter().position(|l| l == label).unwrap();
        let (oid, attnum) = match id {
            0 => (catalog.resolve(Some("public"), "users").unwrap().2, 2),
            1 => (catalog.resolve(Some("public"), "parted").unwrap().2, 2),
            2 => (catalog.resolve(Some("public"), "child").unwrap().2, 2),
            _ => (catalog.resolve(Some("public"), "we.ird").unwrap().2, 1),
        };
        assert_eq!(catalog.label_of(oid, attnum).map(|l| l.0 as usize), Some(id), "{label}");
    }
}

#[tokio::test]
async fn without_labels_there_are_names_only() {
    let postgres = Postgres::start();
    let client = postgres.connect().await;
    client.batch_execute("create table t(x text)").await.unwrap();
    let misspelt = catalog(&client, &["public.t.x", "public.t.X", "x"]).await;
    assert_eq!(misspelt.missing_labels().collect::<Vec<_>>(), ["public.t.X", "x"]);
    let catalog = try_catalog(&client, &[]).await.unwrap();
    assert!(catalog.is_whole() && catalog.resolve(None, "t").is_some());
}
