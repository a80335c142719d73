//! The bypass catalogue's entries on lexing, statements and masking (PG-L, PG-S, PG-M): what each example is.
//! A row: id, text, classes, verbs of all statements, relations (r read, w written), flags.
//! Flags: `opaque functions` are in the classes; `hidden` columns, `nowhere`, `catalog` changed; a setting that, in a session
//! that has set nothing, needs a rule (`rule=…`) or passes by none (`never=…`).

use headgate_plane::ClassSet;
use headgate_sql::settings::BEGAN;
use headgate_sql::{Caps, Needs, Unreadable, precheck};
use headgate_sqlparse::facts;

#[rustfmt::skip]
const TABLE: &[(&str, &str, &str, &str, &str, &str)] = &[
    ("PG-L01", "select E'a\\'; delete from t; --'", "read", "select", "", ""),
    ("PG-L01", "select 'a\\'; delete from t; --'", "read write", "select, delete", "w t", "nowhere"),
    ("PG-L02", "set standard_conforming_strings = off", "session", "set", "", "never=standard_conforming_strings"),
    ("PG-L02", "set standard_conforming_strings = on", "session", "set", "", ""),
    ("PG-L02", "reset standard_conforming_strings", "session", "reset", "", ""),
    ("PG-L02", "select set_config('standard_conforming_strings','off',false)", "read session", "select", "", "never=standard_conforming_strings"),
    ("PG-L02", "select set_config('standard_' || 'conforming_strings','off',false)", "read session", "select", "", "never=*"),
    ("PG-L02", "select set_config(U&'sta\\006edard_conforming_strings','off',false)", "read session", "select", "", "never=standard_conforming_strings"),
    ("PG-L02", "select pg_catalog.\"set_config\"(setting_name => 'role', new_value => 'x', is_local => true)", "read session", "select", "", "never=*"),
    ("PG-L02", "select * from set_config('role', 'x', true) x", "read session", "select", "", "rule=role"),
    ("PG-L02", "update pg_settings set setting = 'off' where name = 'standard_conforming_strings'", "write session opaque", "update", "rw pg_settings", "never=*"),
    ("PG-L02", "alter role bob set standard_conforming_strings = off", "grant", "alter role", "", "never=standard_conforming_strings"),
    ("PG-L02", "alter database d set search_path = evil", "ddl", "alter database", "", "never=search_path catalog"),
    ("PG-L02", "create function f() returns int language sql set standard_conforming_strings = off as 'select 1'", "ddl opaque", "create function", "", "never=standard_conforming_strings catalog"),
    ("PG-L02", "alter function f() set role = x", "ddl opaque", "alter function", "", "never=role catalog"),
    ("PG-L03", "set backslash_quote = on", "session", "set", "", "never=backslash_quote"),
    ("PG-L04", "set client_encoding = SJIS", "session", "set", "", "never=client_encoding"),
    ("PG-L04", "set names 'sjis'", "session", "set", "", "never=client_encoding"),
    ("PG-L04", "set names 'utf8'", "session", "set", "", ""),
    ("PG-L05", "select $a$ ; $$ $a$", "read", "select", "", ""),
    ("PG-L14", "select * from public.users x", "read", "select", "r public.users", ""),
    ("PG-L14", "select * from hr.secrets x", "read", "select", "r hr.secrets", ""),
    ("PG-S01", "with d as (delete from t returning *) select count(*) from d", "read write", "select, delete", "rw t", "hidden nowhere"),
    ("PG-S01", "with d as (delete from t) select 1", "read write", "select, delete", "w t", "nowhere"),
    ("PG-S03", "create temp table z as select email from users; select * from z", "read write ddl", "create table as, select", "r users, w z, r z", "catalog"),
    ("PG-S03", "select email into z from users", "read write ddl", "select into, select", "r users, w z", "catalog"),
    ("PG-S03", "create view v as select email from users", "read ddl", "create view", "r users, w v", "catalog"),
    ("PG-S03", "create materialized view v as select email from users", "read write ddl", "create materialized view, select", "r users, w v", "catalog"),
    ("PG-S03", "create temp table pg_class as select email from users", "read write ddl opaque", "create table as, select", "w pg_class, r users", "catalog"),
    ("PG-S03", "alter table z rename to pg_stats", "ddl opaque", "alter table", "w z", "catalog"),
    ("PG-S04", "insert into notes select email from users", "read write", "insert, select", "w notes, r users", ""),
    ("PG-S04", "update notes set n = u.email from users u where true", "read write", "update", "rw notes, r users", ""),
    ("PG-S04", "merge into notes n using users u on n.id = u.id when matched then update set n = u.email when not matched then insert values (u.email) when not matched by source then delete", "read write", "merge, update, insert, delete", "rw notes, r users", ""),
    ("PG-S05", "copy users to stdout", "read", "copy to", "r users", ""),
    ("PG-S05", "copy (select email from users) to stdout", "read", "copy to, select", "r users", ""),
    ("PG-S05", "copy (delete from users returning *) to stdout", "read write", "copy to, delete", "rw users", "hidden nowhere"),
    ("PG-S06", "copy t from program 'sh'", "write opaque", "copy from", "w t", ""),
    ("PG-S06", "copy t to program 'sh'", "read opaque", "copy to", "r t", ""),
    ("PG-S06", "copy t to '/tmp/x'", "read opaque", "copy to", "r t", ""),
    ("PG-S06", "copy t from '/etc/passwd'", "write opaque", "copy from", "w t", ""),
    ("PG-S07", "copy users from stdin", "write", "copy from", "w users", ""),
    ("PG-S08", "do $$ begin execute 'x'; end $$", "opaque", "do", "", "catalog"),
    ("PG-S09", "select purge()", "read opaque", "select", "", ""),
    ("PG-S09", "select 1 from t limit pl(1)", "read opaque", "select", "r t", ""),
    ("PG-S09", "select count(*) filter (where pl(1)) from t group by pl(2)", "read opaque", "select", "r t", ""),
    ("PG-S09", "select * from t tablesample mine(1)", "read opaque", "select", "r t", ""),
    ("PG-S09", "select * from rows from (pl(1), pl(2)) x", "read opaque", "select", "", ""),
    ("PG-S09", "call purge()", "opaque", "call", "", "catalog"),
    ("PG-S10", "prepare p as select email from users", "read", "prepare, select", "r users", ""),
    ("PG-S10", "execute p", "session", "execute", "", ""),
    ("PG-S10", "create table x as execute p", "write ddl session opaque", "create table as, execute", "w x", "catalog"),
    ("PG-S10", "explain analyze execute p", "session opaque", "explain, execute", "", ""),
    ("PG-S13", "set search_path = evil", "session", "set", "", "rule=search_path"),
    ("PG-S13", "set local search_path to default", "session", "set", "", ""),
    ("PG-S13", "set role admin", "session", "set", "", "rule=role"),
    ("PG-S13", "set session authorization admin", "session", "set", "", "rule=session_authorization"),
    ("PG-S13", "set search_path = ''", "session", "set", "", ""),
    ("PG-S13", "set search_path = public", "session", "set", "", ""),
    ("PG-S13", "set search_path = public, evil", "session", "set", "", "rule=search_path"),
    ("PG-S13", "set schema 'evil'", "session", "set", "", "rule=search_path"),
    ("PG-S13", "select set_config('search_path', '', false)", "read session", "select", "", ""),
    ("PG-S13", "select set_config('search_path', 'evil', false)", "read session", "select", "", "rule=search_path"),
    ("PG-S13", "select set_config('search_path', $1, false)", "read session", "select", "", "rule=search_path"),
    ("PG-S13", "prepare p as select set_config('search_path', 'evil', false)", "read session", "prepare, select", "", "rule=search_path"),
    ("PG-S13", "explain analyze select set_config('role', 'x', false)", "read session", "explain, select", "", "rule=role"),
    ("PG-S13", "set role none", "session", "set", "", ""),
    ("PG-S13", "set session authorization default", "session", "set", "", ""),
    ("PG-S13", "reset all", "session", "reset", "", ""),
    ("PG-S13", "discard all", "session", "discard", "", ""),
    ("PG-S13", "alter role bob reset all", "grant", "alter role", "", ""),
    ("PG-S18", "alter table users rename email to x", "ddl", "alter table", "w users", "catalog"),
    ("PG-S18", "alter table users add column c text generated always as (email) stored", "ddl", "alter table", "w users", "catalog"),
    ("PG-S19", "select email ~~~ 1 from users", "read opaque", "select", "r users", ""),
    ("PG-S19", "select a operator(evil.=) b from t", "read opaque", "select", "r t", ""),
    ("PG-S19", "select a operator(pg_catalog.=) b from t", "read", "select", "r t", ""),
    ("PG-S19", "select a from t order by a using @>>@", "read opaque", "select", "r t", ""),
    ("PG-S19", "select a from t where a operator(evil.=) any (select 1)", "read opaque", "select", "r t", ""),
    ("PG-S22", "listen x", "session", "listen", "", ""),
    ("PG-S22", "notify x, 'y'", "write session", "notify", "", ""),
    ("PG-S22", "create event trigger e on ddl_command_end execute function f()", "ddl opaque", "create event trigger", "", "catalog"),
    ("PG-S22", "create subscription s connection 'c' publication p", "ddl opaque", "create subscription", "", "catalog"),
    ("PG-S23", "select lo_from_bytea(0, email::bytea) from users", "read opaque", "select", "r users", ""),
    ("PG-S23", "select lo_get(1)", "read opaque", "select", "", ""),
    ("PG-S23", "select lo_export(1, '/tmp/x')", "read opaque", "select", "", ""),
    ("PG-S25", "select * from dblink('c', 'select 1') as t(a int)", "read opaque", "select", "", ""),
    ("PG-S25", "select query_to_xml('select * from users', true, true, '')", "read opaque", "select", "", ""),
    ("PG-S25", "select table_to_xml('users', true, true, '')", "read opaque", "select", "", ""),
    ("PG-S25", "select * from ts_stat('select x from y')", "read opaque", "select", "", ""),
    ("PG-S26", "select * from heap_page_items(get_raw_page('users', 0))", "read opaque", "select", "", ""),
    ("PG-S26", "select * from pg_logical_slot_get_changes('s', null, null)", "read opaque", "select", "", ""),
    ("PG-S26", "select pg_read_binary_file('base/1/2')", "read opaque", "select", "", ""),
    ("PG-S27", "select most_common_vals, histogram_bounds from pg_stats", "read", "select", "r pg_stats", ""),
    ("PG-S27", "select * from pg_catalog.pg_statistic", "read", "select", "r pg_catalog.pg_statistic", ""),
    ("PG-S28", "select query from pg_stat_activity", "read", "select", "r pg_stat_activity", ""),
    ("PG-S28", "select * from pg_stat_get_activity(null)", "read opaque", "select", "", ""),
    ("PG-M03", "select email from users union all select email from users", "read", "select", "r users", ""),
    ("PG-M03", "select * from users union all select * from users", "read", "select", "r users", "hidden"),
    ("PG-M03", "table users union table users", "read", "select", "r users", "hidden"),
    ("PG-M03", "with recursive x(a) as (select email from users union all select a from x) select a from x", "read", "select", "r users", ""),
    ("PG-M04", "select lower(email), email || '', email::varchar(100), case when true then email end from users", "read", "select", "r users", ""),
    ("PG-M06", "select (select email from users limit 1), array(select email from users)", "read", "select", "r users", ""),
    ("PG-M07", "select u from users u", "read", "select", "r users", "hidden"),
    ("PG-M07", "select row(u.*) from users u", "read", "select", "r users", "hidden"),
    ("PG-M07", "select users::text from users", "read", "select", "r users", "hidden"),
    ("PG-M07", "select s from (select email from users) s", "read", "select", "r users", "hidden"),
    ("PG-M08", "select row_to_json(u), to_jsonb(u)->>'email' from users u", "read", "select", "r users", "hidden"),
    ("PG-M08", "select xmlforest(email) from users", "read", "select", "r users", ""),
    ("PG-M09", "select email(u) from users u", "read opaque", "select", "r users", "hidden"),
    ("PG-M09", "select (u).email from users u", "read", "select", "r users", "hidden"),
    ("PG-M12", "select name from users as a(id, email, name)", "read", "select", "r users", "hidden"),
    ("PG-M13", "update users set age = age returning email", "read write", "update", "rw users", "nowhere"),
    ("PG-M13", "update users set age = age where id = 1 returning *", "read write", "update", "rw users", ""),
    ("PG-M13", "update users set age = age where id = 1 returning users", "read write", "update", "rw users", "hidden"),
    ("PG-M13", "update users set age = age where id = 1 returning old", "read write", "update", "rw users", "hidden"),
    ("PG-M13", "update users set age = 1 where id = 1 returning with (old as o) o", "read write", "update", "rw users", "hidden"),
    ("PG-M18", "select email::int from users", "read", "select", "r users", ""),
    ("PG-M20", "select message from pg_input_error_info((select email from users), 'int4')", "read", "select", "r users", ""),
];

fn describe(id: &str, text: &str) -> [String; 4] {
    assert_eq!(precheck(text.as_bytes(), &Caps::DEFAULT), Ok(()), "{id}: {text}");
    let facts = facts(text).unwrap_or_else(|e| panic!("{id}: {e:?}: {text}"));
    let names = |class: ClassSet| class.iter().map(|c| c.name()).collect::<Vec<_>>().join(" ");
    let mut verbs: Vec<&str> = Vec::new();
    let mut relations = Vec::new();
    let mut flags = Vec::new();
    for s in &facts.statements {
        s.verbs.iter().for_each(|v| {
            if !verbs.contains(&v.as_str()) {
                verbs.push(v)
            }
        });
        for r in &s.relations {
            let access = match (r.read, r.written) {
                (true, true) => "rw ",
                (true, false) => "r ",
                (false, true) => "w ",
                _ => "",
            };
            relations.push(format!(
                "{access}{}{}",
                r.schema.as_ref().map(|s| format!("{s}.")).unwrap_or_default(),
                r.name
            ));
        }
        if s.hidden_columns {
            flags.push("hidden".to_owned());
        }
        if !s.has_where {
            flags.push("nowhere".to_owned());
        }
        for change in &s.settings {
            match change.needs(&BEGAN) {
                Needs::Nothing => {}
                Needs::Rule(name) => flags.push(format!("rule={name}")),
                Needs::Never(name) => flags.push(format!("never={name}")),
            }
        }
        if s.changes_catalog {
            flags.push("catalog".to_owned());
        }
    }
    relations.sort_by_key(|r| r.rsplit(' ').next().unwrap_or_default().to_owned());
    [
        names(facts.class()),
        verbs.join(", "),
        relations.join(", "),
        flags.join(" "),
    ]
}

#[test]
fn every_entry_is_what_it_is() {
    let mut wrong = Vec::new();
    for (id, text, class, verbs, relations, flags) in TABLE {
        let got = describe(id, text);
        if got != [*class, verbs, relations, flags].map(str::to_owned) {
            wrong.push(format!(
                "{id}: {text}\n  want {:?}\n  got  {got:?}",
                [class, verbs, relations, flags]
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        TABLE.len(),
        wrong.join("\n")
    );
}

#[test]
fn what_no_parser_should_see_is_refused() {
    // PG-L08, PG-L09, PG-L13.
    let bomb = format!("{}{}select 1", "/*".repeat(100_000), "*/".repeat(100_000));
    assert!(matches!(
        precheck(bomb.as_bytes(), &Caps::DEFAULT),
        Err(Unreadable::TooManyTokens { .. } | Unreadable::TooDeep { .. })
    ));
    assert!(matches!(
        precheck("(".repeat(11_000).as_bytes(), &Caps::DEFAULT),
        Err(Unreadable::TooDeep { .. })
    ));
    assert!(matches!(
        facts("delete from t as system_user"),
        Err(Unreadable::Syntax { .. })
    ));
}
