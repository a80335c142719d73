//! Facts, field by field.

use headgate_plane::Class;
use headgate_sql::{Action, CopyFormat, Function, Scope, SettingChange, SettingValue, Statement};
use headgate_sqlparse::facts;

fn one(text: &str) -> Statement {
    let mut all = facts(text).unwrap_or_else(|e| panic!("{e:?}: {text}")).statements;
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0)
}

fn relations(text: &str) -> Vec<String> {
    one(text)
        .relations
        .into_iter()
        .map(|r| r.schema.map_or(r.name.clone(), |s| format!("{s}.{}", r.name)))
        .collect()
}

#[test]
fn a_cte_hides_a_relation_only_where_it_is_in_sight() {
    assert!(relations("with users as (select 1) select * from users").is_empty());
    assert_eq!(
        relations("with users as (select 1) select * from public.users"),
        ["public.users"]
    );
    assert_eq!(
        relations("select * from (with secrets as (select 1) select * from secrets) s, secrets"),
        ["secrets"]
    );
    assert_eq!(
        relations("with a as (select * from b), b as (select 1) select * from a, b"),
        ["b"]
    );
    assert!(
        relations("with recursive a as (select * from b), b as (select 1) select * from a, b").is_empty()
    );
    assert_eq!(
        relations("with users as (select * from users) select * from users"),
        ["users"]
    );
    assert_eq!(relations("with t as (select 1) delete from t where true"), ["t"]);
    assert_eq!(
        relations("with t as (select 1) insert into u select * from t"),
        ["u"]
    );
    assert_eq!(
        relations("with t as (select 1) select (with u as (select 1) select 1 from t, u, v)"),
        ["v"]
    );
    assert_eq!(relations("select * from a for update of a"), ["a"]);
}

#[test]
fn functions_stand_as_they_are_written() {
    let f = |schema: Option<&str>, name: &str| Function {
        schema: schema.map(str::to_owned),
        name: name.to_owned(),
    };
    assert_eq!(
        one("select lower(a), pg_catalog.upper(b), extract(year from c), hr.lower(d), purge() from t")
            .functions,
        [
            f(None, "lower"),
            f(None, "purge"),
            f(Some("hr"), "lower"),
            f(Some("pg_catalog"), "extract"),
            f(Some("pg_catalog"), "upper")
        ]
    );
}

#[test]
fn columns_where_limit_and_parameters() {
    let s = one("update t set a = $3, b.c = 1 where d.e = $1 returning f");
    assert_eq!(s.columns, ["a", "b", "e", "f"]);
    assert!(s.has_where && s.parameters == 3);
    assert!(!one("update t set a = 1").has_where);
    assert!(!one("with x as (delete from t) select 1 where true").has_where);
    assert!(one("truncate t").has_where);
    assert!(one("delete from t where current of c").has_where);
    assert_eq!(
        one("insert into t (a, b) values (1, 2) on conflict (c) do update set d = excluded.e").columns,
        ["a", "b", "c", "d", "e"]
    );
    assert_eq!(one("select 1 from a join b using (k)").columns, ["k"]);
    assert!(one("select a from t limit 10").has_limit);
    assert!(one("select a from t fetch first row only").has_limit);
    assert!(one("select a from t union select a from u limit $1").has_limit);
    assert!(one("explain select a from t limit 1").has_limit);
    assert!(!one("select a from t limit all").has_limit);
    assert!(!one("select a from (select a from t limit 1) s").has_limit);
    assert_eq!(one("select $65536").parameters, u16::MAX);
}

#[test]
fn columns_hide_behind_stars_joins_and_rows() {
    for text in [
        "select a.* from (select * from t) a",
        "select a from t natural join u",
        "select a from t join u using (a)",
        "select (x).* from t",
        "insert into u select * from t",
        "create table u as select * from t",
        "with x as (select * from t) select a from x",
        "select a from t x(a)",
        "copy (select * from t) to stdout",
        "insert into t values (1) on conflict do nothing returning (select row(excluded.*))",
        "select array_agg(t) from t",
        "select count(t.*) from t",
        "select t is null from t",
    ] {
        assert!(one(text).hidden_columns, "{text}");
    }
    for text in [
        "select * from t",
        "select t.*, u.a from t, u",
        "select distinct * from t order by 1",
        "select count(*) from t",
        "select a from t where exists (select * from u)",
        "insert into t values (1) returning *",
        "prepare p as select * from t",
        "declare c cursor for select * from t",
        "explain select * from t",
        "select x from generate_series(1, 2) x",
        "select v.a from (values (1)) v(a)",
    ] {
        assert!(!one(text).hidden_columns, "{text}");
    }
}

#[test]
fn what_the_gate_must_follow() {
    let Action::Prepare { name, inner } = one("prepare p (int) as select a from t where b = $1").action
    else {
        panic!()
    };
    assert_eq!(
        (name.as_str(), inner.parameters, inner.verbs.as_slice()),
        ("p", 1, &["select".to_owned()][..])
    );
    assert_eq!(one("prepare p as select $1").parameters, 0);
    let Action::Declare { name, inner, hold } = one("declare c cursor with hold for select a from t").action
    else {
        panic!()
    };
    assert_eq!((name.as_str(), inner.relations.len(), hold), ("c", 1, true));
    let Action::Declare { hold, .. } = one("declare c scroll cursor for select a from t").action else {
        panic!()
    };
    assert!(!hold);
    assert_eq!(one("execute p (1)").action, Action::Execute { name: "p".into() });
    assert_eq!(
        one("create table x as execute p").action,
        Action::Execute { name: "p".into() }
    );
    assert_eq!(one("fetch all from c").action, Action::Fetch { name: "c".into() });
    assert_eq!(one("move c").action, Action::Fetch { name: "c".into() });
    assert_eq!(one("close all").action, Action::CloseCursor { name: None });
    assert_eq!(
        one("close c").action,
        Action::CloseCursor {
            name: Some("c".into())
        }
    );
    assert_eq!(one("deallocate all").action, Action::Deallocate { name: None });
    assert_eq!(
        one("deallocate p").action,
        Action::Deallocate {
            name: Some("p".into())
        }
    );
    assert_eq!(one("discard all").action, Action::Discard { all: true });
    assert_eq!(one("discard plans").action, Action::Discard { all: false });
    assert_eq!(one("explain (analyze) select 1").action, Action::Explain);
    assert_eq!(one("begin").action, Action::Begin);
    assert_eq!(one("start transaction read only").action, Action::Begin);
    assert_eq!(one("end").action, Action::Commit);
    assert_eq!(one("abort").action, Action::Rollback);
    assert_eq!(one("rollback to s").action, Action::Savepoint);
    assert_eq!(one("listen x").action, Action::Listen);
    assert_eq!(one("notify x").action, Action::Notify);
}

#[test]
fn settings_say_which_to_what_and_for_how_long() {
    let text = |t: &str| SettingValue::Text(t.into());
    let path = |names: &[&str]| SettingValue::Schemas(names.iter().map(|n| (*n).to_owned()).collect());
    let is = |sql: &str, name: &str, value: SettingValue, scope: Scope, certain: bool| {
        let wanted = SettingChange {
            name: name.into(),
            value,
            scope,
            certain,
        };
        assert_eq!(one(sql).settings, [wanted], "{sql}");
    };
    use Scope::{Session, Stored, Transaction};
    is(
        "set search_path = public",
        "search_path",
        path(&["public"]),
        Session,
        true,
    );
    is(
        "set search_path to A, \"B\", 'c, d', \"$user\"",
        "search_path",
        path(&["a", "B", "c, d", "$user"]),
        Session,
        true,
    );
    is(
        "set local search_path = ''",
        "search_path",
        path(&[""]),
        Transaction,
        true,
    );
    is("set schema 'Shop'", "search_path", path(&["Shop"]), Session, true);
    is(
        "set search_path to default",
        "search_path",
        SettingValue::Default,
        Session,
        true,
    );
    is(
        "reset search_path",
        "search_path",
        SettingValue::Default,
        Session,
        true,
    );
    is("reset all", "*", SettingValue::Default, Session, true);
    is("set role admin", "role", text("admin"), Session, true);
    is("set local role none", "role", text("none"), Transaction, true);
    is("reset role", "role", SettingValue::Default, Session, true);
    is(
        "set session authorization default",
        "session_authorization",
        SettingValue::Default,
        Session,
        true,
    );
    is(
        "set session authorization bob",
        "session_authorization",
        text("bob"),
        Session,
        true,
    );
    is("set names 'UTF8'", "client_encoding", text("UTF8"), Session, true);
    is(
        "set work_mem = '1GB'",
        "work_mem",
        SettingValue::Unknown,
        Session,
        true,
    );
    is(
        "select pg_catalog.set_config('search_path', '', false)",
        "search_path",
        path(&[]),
        Session,
        true,
    );
    is(
        "select set_config('Search_Path', 'Shop, \"X\"', true)",
        "search_path",
        path(&["shop", "X"]),
        Transaction,
        true,
    );
    is(
        "select set_config('search_path', 'a b', true)",
        "search_path",
        SettingValue::Unknown,
        Transaction,
        true,
    );
    is(
        "select set_config('search_path', $1, false)",
        "search_path",
        SettingValue::Unknown,
        Session,
        false,
    );
    is(
        "select set_config('search_path', 'a', $1)",
        "search_path",
        path(&["a"]),
        Session,
        false,
    );
    is(
        "select set_config('search_path', 'a', false) from t",
        "search_path",
        path(&["a"]),
        Session,
        false,
    );
    is(
        "select case when x() then set_config('role', 'a', false) end",
        "role",
        text("a"),
        Session,
        false,
    );
    is(
        "select set_config('search_path', 'a', false) where false",
        "search_path",
        path(&["a"]),
        Session,
        false,
    );
    is(
        "select set_config($1, 'a', false)",
        "*",
        SettingValue::Unknown,
        Session,
        false,
    );
    is(
        "select set_config(setting_name => 'x', new_value => 'a', is_local => false)",
        "*",
        SettingValue::Unknown,
        Session,
        false,
    );
    is(
        "update pg_settings set setting = 'x'",
        "*",
        SettingValue::Unknown,
        Session,
        false,
    );
    is(
        "alter role bob set search_path = evil",
        "search_path",
        path(&["evil"]),
        Stored,
        true,
    );
    is(
        "create function f() returns int language sql set role = x as ''",
        "role",
        text("x"),
        Stored,
        true,
    );
    assert!(
        one("set transaction isolation level serializable")
            .settings
            .is_empty()
    );
    assert!(one("alter role bob reset all").settings.is_empty());
    assert!(one("discard plans").settings.is_empty());
    let names: Vec<String> = one("discard all").settings.into_iter().map(|c| c.name).collect();
    assert_eq!(names, ["session_authorization", "*"]);
    let both = one("select set_config('search_path', 'a', false), 1, set_config('search_path', 'b', false)")
        .settings;
    assert_eq!(
        both.iter().map(|c| &c.value).collect::<Vec<_>>(),
        [&path(&["a"]), &path(&["b"])],
        "in the order of the list"
    );
    assert!(both.iter().all(|c| c.certain));
    let Action::Prepare { inner, .. } =
        one("prepare p as select set_config('search_path', 'a', false)").action
    else {
        panic!()
    };
    assert_eq!(inner.settings[0].value, path(&["a"]));
    let many = format!(
        "select {}",
        (0..100)
            .map(|n| format!("set_config('x{n}', '', false)"))
            .collect::<Vec<_>>()
            .join(", ")
    );
    let many = one(&many).settings;
    assert_eq!(
        (
            many.len(),
            many.iter().filter(|c| c.name == "*" && !c.certain).count()
        ),
        (64, 1),
        "too many to tell is doubt"
    );
}

#[test]
fn copy_says_how_rows_are_written() {
    let copy = |text: &str| match one(text).action {
        Action::Copy(copy) => copy,
        other => panic!("{other:?}: {text}"),
    };
    let c = copy("copy public.t (a, b) to stdout");
    assert_eq!(
        (c.out, c.format, c.delimiter, c.null.as_slice(), c.header),
        (true, CopyFormat::Text, b'\t', &b"\\N"[..], false)
    );
    assert_eq!(c.columns, ["a", "b"]);
    assert_eq!(
        c.relation.map(|r| (r.schema, r.name)),
        Some((Some("public".into()), "t".into()))
    );
    let c = copy(
        "copy t from stdin with (format csv, delimiter ';', quote '''', escape '\\', null 'x', header, encoding 'LATIN1')",
    );
    assert_eq!(
        (c.out, c.format, c.delimiter, c.quote, c.escape, c.header),
        (false, CopyFormat::Csv, b';', b'\'', b'\\', true)
    );
    assert_eq!((c.null, c.encoding), (b"x".to_vec(), Some("LATIN1".into())));
    let c = copy("copy t to stdout csv header quote '^'");
    assert_eq!((c.quote, c.escape, c.header, c.null.len()), (b'^', b'^', true, 0));
    assert!(!copy("copy t to stdout (format csv, header false)").header);
    assert_eq!(copy("copy t to stdout binary").format, CopyFormat::Binary);
    let some = |name: &str| Some(name.to_owned());
    assert_eq!(
        copy("copy (select a, t.b, lower(c), d as e from t) to stdout").outputs,
        [some("a"), some("b"), None, some("d")]
    );
    assert!(copy("copy (select a, t.* from t) to stdout").outputs.is_empty());
    assert_eq!(
        copy("copy (select a from t union select b from u) to stdout").outputs,
        [None]
    );
    assert_eq!(copy("copy (values (1, 2)) to stdout").outputs, [None, None]);
    assert_eq!(
        copy("copy (delete from t where true returning a) to stdout").outputs,
        [some("a")]
    );
    for text in [
        "copy t to '/tmp/x'",
        "copy t to program 'cat'",
        "copy t to stdout (delimiter 'ab')",
        "copy t to stdout (strange 1)",
    ] {
        let s = one(text);
        assert!(
            s.action == Action::Plain && s.class.contains(Class::Opaque),
            "{text}"
        );
    }
}

#[test]
fn catalogs_alone_are_catalog() {
    let class = |text: &str| {
        one(text)
            .class
            .iter()
            .map(|c| c.name())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(class("select relname from pg_class"), "catalog");
    assert_eq!(class("select * from information_schema.columns"), "catalog");
    assert_eq!(class("select * from pg_class, users"), "read catalog");
    assert_eq!(class("select * from pg_authid"), "read");
    assert_eq!(class("select relname, purge() from pg_class"), "catalog opaque");
    assert_eq!(class("select 1"), "read");
    assert_eq!(class("values (1)"), "read");
    assert_eq!(class("select nextval('s')"), "read write");
    assert_eq!(class("select a from t for update"), "read");
    assert_eq!(class("delete from pg_class"), "write opaque");
    assert_eq!(class("explain analyze delete from t"), "write");
    assert_eq!(class("lock t in exclusive mode"), "read transaction");
    assert_eq!(class("vacuum t"), "maintenance");
    assert_eq!(class("grant select on t to bob"), "grant");
    assert_eq!(class("grant execute on function f(int) to bob"), "grant");
    assert_eq!(class("drop table public.t"), "ddl");
    assert_eq!(class("create extension dblink"), "ddl opaque");
    assert_eq!(
        class("set transaction isolation level serializable"),
        "transaction"
    );
    assert_eq!(relations("drop table public.t, u"), ["u", "public.t"]);
    assert_eq!(relations("drop trigger x on public.t"), ["public.t"]);
    assert_eq!(relations("comment on column public.t.a is 'x'"), ["public.t"]);
}
