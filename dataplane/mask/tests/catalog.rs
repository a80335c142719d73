//! The catalog of labels against a real PostgreSQL. Needs: apt package `postgresql`.

mod support;

use headgate_mask::{Catalog, CatalogBuilder, Lookup, SearchPath, path_query, relations_query};
use std::sync::Arc;
use support::{Postgres, catalog, connect, connect_as, feed, look_up, try_catalog};
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

const LABELS: [&str; 4] = [
    "public.users.email",
    "public.parted_1.E mail",
    "public.base.phone",
    "public.we.ird.c'o\\l",
];

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
    let client = connect(&postgres).await;
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
        assert_eq!(
            fate(&client, &catalog, relation, column).await,
            want,
            "{relation}.{column}"
        );
    }
}

/// As a session finds it that sets no path of its own.
fn resolve<'a>(catalog: &'a Catalog, schema: Option<&str>, name: &str) -> Option<(&'a str, &'a str, u32)> {
    catalog.resolve(catalog.default_path(), schema, name)
}

#[tokio::test]
async fn names_resolve_as_the_session_would_find_them() {
    let postgres = Postgres::start();
    let client = connect(&postgres).await;
    client.batch_execute(SCHEMA).await.unwrap();
    let plain = catalog(&client, &LABELS).await;
    assert_eq!(resolve(&plain, None, "users").map(|r| r.0), Some("public"));
    assert_eq!(
        resolve(&plain, Some("other"), "users").map(|r| r.0),
        Some("other")
    );
    assert_eq!(resolve(&plain, None, "pg_class").map(|r| r.0), Some("pg_catalog"));
    assert_eq!(resolve(&plain, None, "nowhere"), None);
    client
        .batch_execute("set search_path = other, public")
        .await
        .unwrap();
    assert_eq!(
        resolve(&catalog(&client, &LABELS).await, None, "users").map(|r| r.0),
        Some("other")
    );
    client
        .batch_execute("create temp table users(email text)")
        .await
        .unwrap();
    let shadowed = catalog(&client, &LABELS).await;
    // Shared by sessions: what all of them see is judged, temporary tables come last.
    assert_eq!(resolve(&shadowed, None, "users").map(|r| r.0), Some("other"));
    let (schema, _, oid) = resolve(&shadowed, Some("pg_temp"), "users").unwrap();
    assert!(
        schema.starts_with("pg_temp_")
            && resolve(&shadowed, Some("other"), "users").map(|r| r.2) != Some(oid)
    );
    assert_eq!(
        resolve(&shadowed, Some("public"), "users").map(|r| r.0),
        Some("public")
    );
}

#[tokio::test]
async fn a_hostile_search_path_and_strings_do_not_change_the_answer() {
    let postgres = Postgres::start();
    let client = connect(&postgres).await;
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
            0 => (resolve(&catalog, Some("public"), "users").unwrap().2, 2),
            1 => (resolve(&catalog, Some("public"), "parted").unwrap().2, 2),
            2 => (resolve(&catalog, Some("public"), "child").unwrap().2, 2),
            _ => (resolve(&catalog, Some("public"), "we.ird").unwrap().2, 1),
        };
        assert_eq!(
            catalog.label_of(oid, attnum).map(|l| l.0 as usize),
            Some(id),
            "{label}"
        );
    }
}

#[tokio::test]
async fn without_labels_there_are_names_only() {
    let postgres = Postgres::start();
    let client = connect(&postgres).await;
    client.batch_execute("create table t(x text)").await.unwrap();
    let misspelt = catalog(&client, &["public.t.x", "public.t.X", "x"]).await;
    assert_eq!(misspelt.missing_labels().collect::<Vec<_>>(), ["public.t.X", "x"]);
    let catalog = try_catalog(&client, &[]).await.unwrap();
    assert!(catalog.is_whole() && resolve(&catalog, None, "t").is_some());
}

/// Every path that a session may have, against what the server finds in it.
#[tokio::test]
async fn two_schemas_with_tables_of_one_name_resolve_by_the_sessions_path() {
    let postgres = Postgres::start();
    let client = connect(&postgres).await;
    client
        .batch_execute(
            r#"create role alice login; create role bob login;
            create schema shop; create schema crm; create schema closed; create schema alice authorization alice; create schema "we,ird";
            grant usage, create on schema shop, crm, "we,ird" to alice, bob; grant create on schema public to alice, bob;
            create table shop.goods(id int, title text); create table crm.goods(title text); create table closed.goods(title text);
            create table alice.goods(title text); create table "we,ird".goods(title text); create table public.people(id int);
            create table shop.pg_class(id int);"#,
        )
        .await
        .unwrap();
    for role in ["alice", "bob"] {
        let session = connect_as(&postgres, role).await;
        let shared = catalog(&session, &["crm.goods.title"]).await;
        for setting in [
            "\"$user\", public",
            "",
            "shop",
            "shop, crm",
            "crm, shop",
            "closed, crm",
            "closed",
            "nowhere, shop",
            "$user, shop",
            "\"we,ird\", shop",
            "shop, pg_catalog",
            "pg_catalog, shop",
            "pg_temp, crm",
            "Shop",
            "\"Shop\", crm",
            "public",
        ] {
            // The setting's own text, as SHOW tells it and as ParameterStatus would.
            session
                .query_one("select set_config('search_path', $1::text, false)", &[&setting])
                .await
                .unwrap();
            let path = SearchPath::of_setting(setting, role).unwrap_or_else(|| panic!("{setting}"));
            for name in ["goods", "people", "pg_class", "nothing"] {
                let row = session
                    .query_one("select to_regclass($1::text)::oid", &[&name])
                    .await
                    .unwrap();
                let server: Option<u32> = row.get(0);
                assert_eq!(
                    shared.resolve(&path, None, name).map(|r| r.2),
                    server,
                    "{role}: {name} with {setting:?}"
                );
                let told: Vec<String> = session
                    .query_one("select current_schemas(true)::text[]", &[])
                    .await
                    .unwrap()
                    .get(0);
                assert_eq!(
                    shared.resolve(&SearchPath::told(told), None, name).map(|r| r.2),
                    server,
                    "{role}: {name}, told"
                );
            }
            // Where a new one goes. Temporary tables are not the catalog's.
            if !setting.starts_with("pg_") && !setting.contains("pg_catalog, s") {
                let made = session.batch_execute("begin; create table new_one(x int)").await;
                let server: Option<String> = match made {
                    Ok(()) => session
                        .query_one(
                            "select relnamespace::regnamespace::text from pg_class where relname = 'new_one'",
                            &[],
                        )
                        .await
                        .map(|row| row.get::<_, String>(0).trim_matches('"').to_owned())
                        .ok(),
                    Err(_) => None,
                };
                session.batch_execute("rollback").await.unwrap();
                let ours = shared.creation_schema(&path);
                // The server names the role's own schema or none before it finds that nothing may be made there.
                assert!(
                    server.is_none() || ours == server.as_deref(),
                    "{role}: {setting:?}: {ours:?} for {server:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn the_path_of_another_role_is_what_its_sessions_begin_with() {
    let postgres = Postgres::start();
    let client = connect(&postgres).await;
    client
        .batch_execute(
            r#"create role plain login; create role of_role login; create role of_both login; create role "odd'role{ROLE}" login; create role reader login;
            create schema a; create schema b; create schema c; create schema d; grant usage on schema a, c, d to public;
            create table a.t(x int); create table b.t(x int); create table c.t(x int); create table d.t(x int);
            alter database postgres set search_path = b, c, a;
            alter role of_role set search_path = a, d;
            alter role of_both set search_path = a; alter role of_both in database postgres set search_path = d, nowhere;"#,
        )
        .await
        .unwrap();
    let reader = connect_as(&postgres, "reader").await;
    for role in ["plain", "of_role", "of_both", "odd'role{ROLE}", "reader"] {
        let mut builder = CatalogBuilder::new(&[]);
        feed(&reader, &mut builder, &path_query(Some(role)))
            .await
            .unwrap();
        feed(&reader, &mut builder, &relations_query(&[], Some(role), &[]))
            .await
            .unwrap();
        let shared = builder.finish();
        assert!(shared.is_whole());
        let quoted = format!("'{}'", role.replace('\'', "\\'"));
        let session = connect_as(&postgres, &quoted).await;
        let server: Option<u32> = session
            .query_one("select to_regclass('t')::oid", &[])
            .await
            .unwrap()
            .get(0);
        assert!(server.is_some());
        assert_eq!(resolve(&shared, None, "t").map(|r| r.2), server, "{role}");
        let mut builder = CatalogBuilder::new(&[]);
        feed(&session, &mut builder, &path_query(None)).await.unwrap();
        let own = builder.finish();
        assert!(own.default_path().is_told() && !own.is_whole());
        assert_eq!(
            shared.resolve(own.default_path(), None, "t").map(|r| r.2),
            server,
            "{role}"
        );
    }
    // A reader with a path of its own cannot see what others begin with where nothing is set for them.
    client
        .batch_execute("alter database postgres reset search_path; alter role reader set search_path = d")
        .await
        .unwrap();
    let reader = connect_as(&postgres, "reader").await;
    let mut builder = CatalogBuilder::new(&[]);
    feed(&reader, &mut builder, &path_query(Some("plain")))
        .await
        .unwrap();
    feed(&reader, &mut builder, &relations_query(&[], Some("plain"), &[]))
        .await
        .unwrap();
    assert_eq!(
        resolve(&builder.finish(), None, "t"),
        None,
        "doubt resolves nothing"
    );
}

async fn oid(client: &Client, relation: &str) -> u32 {
    client
        .query_one("select $1::text::regclass::oid", &[&relation])
        .await
        .unwrap()
        .get(0)
}

#[tokio::test]
async fn what_a_session_makes_is_looked_up_in_that_session() {
    let postgres = Postgres::start();
    let client = connect(&postgres).await;
    client.batch_execute(SCHEMA).await.unwrap();
    let labels = [
        "public.users.email",
        "public.parted_1.E mail",
        "public.base.phone",
        "public.new_one.secret",
    ];
    let shared = Arc::new(catalog(&client, &labels).await);
    client
        .batch_execute(
            r#"begin;
            create table new_one(id serial, secret text, plain text, copy text generated always as (secret || '!') stored);
            create view over_old as select email, id, upper(email) as loud from users;
            create view over_new as select secret as s, plain as p, lower(secret) as l from new_one;
            create view over_view as select s || p as both, p from over_new;
            create table late partition of parted for values from (10) to (20);
            create table heir(more text) inherits (base);
            create or replace view harmless as select id, length(email) as next from users;
            create view peeking as select peek() as p;
            create temp table passing(x text, "E mail" text);
            create table other.new_one(secret text);
            drop table child; alter table joined rename to renamed;"#,
        )
        .await
        .unwrap();
    let names = [
        "new_one",
        "over_old",
        "over_new",
        "over_view",
        "late",
        "heir",
        "harmless",
        "peeking",
        "passing",
        "child",
    ];
    let mut oids = Vec::new();
    for name in names.iter().filter(|n| **n != "child") {
        let oid = oid(&client, name).await;
        assert!(*name == "harmless" || !shared.knows(oid), "{name}");
        oids.push(oid);
    }
    let by_oid = look_up(&client, &shared, Lookup::new(oids.clone(), []).unwrap())
        .await
        .unwrap();
    let by_name = look_up(
        &client,
        &shared,
        Lookup::new([], names.map(str::to_owned)).unwrap(),
    )
    .await
    .unwrap();
    // One after the other, each over the last.
    let mut by_one = Arc::new(shared.as_ref().clone());
    for oid in &oids {
        by_one = Arc::new(
            look_up(&client, &by_one, Lookup::new([*oid], []).unwrap())
                .await
                .unwrap(),
        );
    }
    let dropped = look_up(&client, &by_one, Lookup::new([], ["child".to_owned()]).unwrap())
        .await
        .unwrap();
    for (how, catalog) in [
        ("oid", &by_oid),
        ("name", &by_name),
        ("one", &by_one),
        ("dropped", &dropped),
    ] {
        assert!(catalog.is_whole(), "{how}");
        for (relation, column, want) in [
            ("new_one", "secret", "label"),
            ("new_one", "plain", ""),
            ("new_one", "id", ""),
            ("new_one", "copy", "derived"),
            ("over_old", "email", "label"),
            ("over_old", "loud", "derived"),
            ("over_old", "id", ""),
            ("over_new", "s", "label"),
            ("over_new", "p", ""),
            ("over_new", "l", "derived"),
            ("over_view", "both", "derived"),
            ("over_view", "p", ""),
            ("late", "E mail", "label"),
            ("late", "id", ""),
            ("heir", "phone", "label"),
            ("heir", "more", ""),
            ("harmless", "next", "derived"),
            ("harmless", "id", ""),
            ("peeking", "p", "derived"),
            ("passing", "E mail", ""),
            // What was not asked for is as it was.
            ("users", "email", "label"),
            ("plain", "mail", "label"),
            ("upper_view", "u", "derived"),
            ("pg_catalog.pg_stats", "most_common_vals", "derived"),
        ] {
            assert_eq!(
                fate(&client, catalog, relation, column).await,
                want,
                "by {how}: {relation}.{column}"
            );
        }
        let path = catalog.default_path();
        assert!(path.is_told() && path.schemas().any(|s| s.starts_with("pg_temp_")));
        assert_eq!(
            catalog.resolve(path, None, "new_one").map(|r| r.0),
            Some("public")
        );
        assert_eq!(
            catalog.resolve(path, Some("pg_temp"), "passing").map(|r| r.2),
            Some(oid(&client, "passing").await)
        );
        assert_eq!(
            catalog.resolve(path, None, "passing").map(|r| r.2),
            Some(oid(&client, "passing").await)
        );
        assert_eq!(catalog.resolve(path, None, "users").map(|r| r.0), Some("public"));
        assert!(oids.iter().all(|oid| catalog.knows(*oid)), "by {how}");
    }
    // Of a name, all that have it are asked for, and what is gone is gone.
    let path = by_name.default_path();
    assert_eq!(
        by_name.resolve(path, Some("other"), "new_one").map(|r| r.0),
        Some("other")
    );
    assert_eq!(by_name.resolve(path, None, "child"), None);
    assert_eq!(dropped.resolve(path, None, "child"), None);
    assert!(by_oid.resolve(path, None, "child").is_some(), "nobody asked");
    assert!(
        shared.resolve(shared.default_path(), None, "child").is_some(),
        "the shared one is as it was"
    );
    client.batch_execute("rollback").await.unwrap();
    // An oid that is not there any more is not known.
    let after = look_up(&client, &by_one, Lookup::new([oids[0]], []).unwrap())
        .await
        .unwrap();
    assert!(after.is_whole() && !after.knows(oids[0]));
    assert!(after.label_of(oids[0], 2).is_none() && !after.is_derived(oids[0], 4));
}

#[tokio::test]
async fn no_setting_of_the_session_changes_a_lookup_and_some_make_it_fail() {
    let postgres = Postgres::start();
    let client = connect(&postgres).await;
    client.batch_execute(SCHEMA).await.unwrap();
    client
        .batch_execute(
            r#"create schema evil;
            create function evil.never(oid, oid) returns bool language sql immutable as 'select false';
            create operator evil.= (leftarg = oid, rightarg = oid, procedure = evil.never);
            create function evil.never(name, name) returns bool language sql immutable as 'select false';
            create operator evil.= (leftarg = name, rightarg = name, procedure = evil.never);
            create function evil.never("char", "char") returns bool language sql immutable as 'select false';
            create operator evil.= (leftarg = "char", rightarg = "char", procedure = evil.never);
            create function evil.unnest(anyarray) returns setof text language sql as $$ select 'x'::text $$;
            create table evil.pg_class(oid oid, relname name); create table evil.pg_depend(x int);
            create domain evil.text as pg_catalog.int4; create domain evil.oid as pg_catalog.text; create domain evil.name as pg_catalog.int4;
            create role nobody_much;"#,
        )
        .await
        .unwrap();
    let shared = Arc::new(catalog(&client, &LABELS).await);
    client
        .batch_execute("create view late_view as select email as e, upper(email) as u from users")
        .await
        .unwrap();
    let view = oid(&client, "late_view").await;
    for settings in [
        "set search_path = evil, pg_catalog, public",
        "set standard_conforming_strings = off; set backslash_quote = on; set escape_string_warning = off",
        "set array_nulls = off; set quote_all_identifiers = on; set bytea_output = escape; set datestyle = 'German'",
        "set role = nobody_much",
        "set row_security = off; set transform_null_equals = on",
        "begin isolation level serializable read only deferrable",
        "begin; declare c cursor for select 1; fetch c",
        "set enable_indexscan = off; set enable_hashjoin = off; set enable_nestloop = off; set jit = on; set jit_above_cost = 0",
        "set plan_cache_mode = force_generic_plan; set work_mem = '64kB'; set default_transaction_isolation = 'repeatable read'",
    ] {
        client.batch_execute(settings).await.unwrap();
        for lookup in [
            Lookup::new([view], []).unwrap(),
            Lookup::new([], ["late_view".to_owned()]).unwrap(),
        ] {
            let seen = look_up(&client, &shared, lookup)
                .await
                .unwrap_or_else(|e| panic!("{settings}: {e}"));
            assert!(seen.is_whole() && seen.knows(view), "{settings}");
            assert_eq!(
                (seen.label_of(view, 1).map(|l| l.0), seen.is_derived(view, 2)),
                (Some(0), true),
                "{settings}"
            );
        }
        client.batch_execute("rollback").await.unwrap();
        client.batch_execute("reset role").await.unwrap();
        client.batch_execute("discard all").await.unwrap();
    }
    // What makes it fail says so.
    let ask = || Lookup::new([view], []).unwrap();
    client.batch_execute("begin").await.unwrap();
    assert!(client.batch_execute("select 1/0").await.is_err());
    assert!(
        look_up(&client, &shared, ask()).await.is_err(),
        "a failed transaction"
    );
    client.batch_execute("rollback").await.unwrap();
    let other = connect(&postgres).await;
    other
        .batch_execute("begin; lock table pg_catalog.pg_class in access exclusive mode")
        .await
        .unwrap();
    // The catalogs that the session itself needs are cached by now, so it is the question that waits.
    client.batch_execute("set lock_timeout = 20").await.unwrap();
    assert!(
        look_up(&client, &shared, ask()).await.is_err(),
        "a lock that is not given"
    );
    other.batch_execute("rollback").await.unwrap();
    client.batch_execute("reset all").await.unwrap();
    // A snapshot that is older than the relation: not found is not known.
    client
        .batch_execute("begin isolation level repeatable read; select 1")
        .await
        .unwrap();
    other
        .batch_execute("create table later(email text)")
        .await
        .unwrap();
    let later = oid(&other, "later").await;
    assert_eq!(oid(&client, "later").await, later, "the server finds it");
    let seen = look_up(
        &client,
        &shared,
        Lookup::new([later], ["later".to_owned()]).unwrap(),
    )
    .await
    .unwrap();
    assert!(seen.is_whole() && !seen.knows(later));
    client.batch_execute("rollback").await.unwrap();
    let seen = look_up(&client, &shared, Lookup::new([later], []).unwrap())
        .await
        .unwrap();
    assert!(seen.knows(later));
    // Names are whatever a statement says.
    for name in [
        "x'; drop table users; --",
        "\\'; drop table users; --",
        "{OIDS}{NAMES}{WANT}{ROLE}",
        "a = b <> c",
        "\u{0}",
        "",
    ] {
        let seen = look_up(&client, &shared, Lookup::new([], [name.to_owned()]).unwrap())
            .await
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(seen.is_whole() && !seen.knows_name(name), "{name}");
    }
    client
        .batch_execute(r#"create table "it's a \{NAMES} = ""one"""(email text)"#)
        .await
        .unwrap();
    let name = "it's a \\{NAMES} = \"one\"";
    assert!(
        look_up(&client, &shared, Lookup::new([], [name.to_owned()]).unwrap())
            .await
            .unwrap()
            .knows_name(name)
    );
    assert!(Lookup::new(0..257, []).is_none() && Lookup::new([], (0..257).map(|n| n.to_string())).is_none());
}
