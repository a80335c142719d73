//! What real clients say on their own, captured from a PostgreSQL 15's log and from `psql -E`, must be harmless, or nobody
//! could connect. `drivers.sql`: psycopg, asyncpg, SQLAlchemy (three drivers), node-postgres, postgres.js; `psql.sql`: 28
//! backslash commands; `by_hand.sql`: pgjdbc, npgsql, pgx, tokio-postgres from their sources.

use headgate_plane::{Class, ClassSet};
use headgate_sql::settings::BEGAN;
use headgate_sql::{Caps, Needs, SettingChange, precheck};
use headgate_sqlparse::facts;

fn check(name: &str, file: &str) {
    let harmless = ClassSet::of(&[Class::Catalog, Class::Session, Class::Transaction]);
    let mut count = 0;
    for (who, text) in file.split("--# ").filter_map(|entry| entry.split_once('\n')) {
        // The captured runs read a table of their own, too.
        if text.contains("from t1 where") || text.contains("null::t1") {
            continue;
        }
        count += 1;
        assert_eq!(precheck(text.as_bytes(), &Caps::DEFAULT), Ok(()), "{who}: {text}");
        let facts = facts(text).unwrap_or_else(|e| panic!("{who}: {e:?}: {text}"));
        for statement in &facts.statements {
            let rest = statement.class.minus(harmless);
            let reads_nothing = rest == ClassSet::of(&[Class::Read]) && statement.relations.is_empty();
            assert!(
                rest.is_empty() || reads_nothing,
                "{who}: {:?} {:?} in {text}",
                rest.iter().collect::<Vec<_>>(),
                statement.relations
            );
            let needs = |change: &SettingChange| change.needs(&BEGAN) != Needs::Nothing;
            assert!(!statement.settings.iter().any(needs), "{who}: {text}");
            assert!(!statement.changes_catalog, "{who}: {text}");
        }
    }
    println!("{name}: {count}");
    assert!(count >= 15, "{name} holds {count}");
}

#[test]
fn psql_15_looks_around() {
    check("psql", include_str!("greetings/psql.sql"));
}

#[test]
fn drivers_greet() {
    check("drivers", include_str!("greetings/drivers.sql"));
    check("by hand", include_str!("greetings/by_hand.sql"));
}
