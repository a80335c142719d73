//! Against a real PostgreSQL: the same words at the same place for what cannot be read, and nothing refused that it takes.

mod support;

use headgate_fixtures::Postgres;
use headgate_sql::settings::{RoleSetting, SearchPathSetting, of_setting};
use headgate_sql::{Action, Caps, SessionSettings, Unreadable, precheck, syntax};
use headgate_sqlparse::{facts, read};
use support::connect;
use tokio_postgres::error::ErrorPosition;
use tokio_postgres::{Client, SimpleQueryMessage};

/// Statements that both PostgreSQL 15 and 18 read, and no version in between reads otherwise.
const VALID: &[&str] = &[
    "select a, b as c, count(*) from t where x = 1 and y like 'é%' group by a, b having count(*) > 2 order by 1 desc limit 10 offset 5",
    "select case when a then 'b' else c end, coalesce(d, 1.5e3), e::int[], f->>'g' from only s.t as u(a, b) left join v using (k)",
    "insert into t (a, b) values (1, 'x'), ($1, default) on conflict (a) do update set b = excluded.b where t.b is not null returning *",
    "update s.t set a = a + 1, (b, c) = (select 1, 2) from u where t.id = u.id and u.k between 3 and 4",
    "delete from t using u where t.a = u.a and not exists (select 1 from w where w.b = any (array[1, 2, 3]))",
    "with recursive r(n) as (values (1) union all select n + 1 from r where n < 10) select * from r",
    "create table x (id bigint generated always as identity primary key, n text not null default 'ü', check (n <> ''))",
    "alter table x add column y numeric(10, 2), drop column if exists z cascade, alter column n set not null",
    "create index concurrently if not exists i on t using gin (a jsonb_path_ops) where b > 0",
    "select sum(a) over (partition by b order by c rows between unbounded preceding and current row) from t window w as ()",
    "grant select, update (a, b) on table t, u to bob, public with grant option",
    "select $tag$ it's $tag$, E'a\\'b', B'01', U&'d\\0061t', \"q\"\"x\" from t -- tail\n where /* c */ true",
    "explain (analyze, buffers) select 1; set search_path = a, \"B\"; begin; commit",
    "prepare p (int, text) as select $1, $2; execute p (1, 'x'); deallocate p",
];

/// Deterministic: a failure prints the text.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or(0) % n.max(1)
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_inclusive([' ', ',', '(', ')', ';'])
        .map(str::to_owned)
        .collect()
}

/// One to three small wrongs in a statement that was right.
fn broken(dice: &mut Dice) -> String {
    let mut text = words(VALID[dice.below(VALID.len())]);
    for _ in 0..=dice.below(3) {
        let at = dice.below(text.len());
        match dice.below(8) {
            0 => drop(text.remove(at)),
            1 => text.insert(at, text[at].clone()),
            2 => text.swap(at, 0),
            3 => text.insert(
                at,
                [
                    "nope ", "( ", ") ", "'", "\"", ", ", "select ", "é ", "$1 ", "; ", "from ", "/*", "1x ",
                    ":: ", "@ ",
                ][dice.below(15)]
                .to_owned(),
            ),
            4 => text.truncate(at),
            5 => {
                let cut = text[at].char_indices().nth(1).map_or(0, |(i, _)| i);
                text[at].truncate(cut);
            }
            6 => text[at] = text[dice.below(text.len())].clone(),
            _ => {
                let other = words(VALID[dice.below(VALID.len())]);
                text.splice(at.., other.into_iter().skip(at));
            }
        }
        if text.is_empty() {
            text.push("x".to_owned());
        }
    }
    text.concat()
}

/// What the server says of a text that it cannot read: code, message, place. `None`: it can.
async fn servers(client: &Client, text: &str) -> Option<(String, String, usize)> {
    // Parse alone: nothing runs.
    let error = client.prepare(text).await.err()?;
    let error = error.as_db_error().unwrap_or_else(|| panic!("{error}: {text}"));
    let file = error.file().unwrap_or_default();
    let place = match error.position() {
        Some(ErrorPosition::Original(place)) => usize::try_from(*place).unwrap_or(0),
        _ => 0,
    };
    matches!(file, "scan.l" | "gram.y" | "parser.c")
        .then(|| (error.code().code().to_owned(), error.message().to_owned(), place))
}

fn ours(text: &str) -> Option<(String, String, usize)> {
    match read(text.as_bytes(), &Caps::DEFAULT) {
        Ok(_) => None,
        Err(Unreadable::Syntax { message, position }) => {
            Some((syntax::report(&message).sqlstate.to_owned(), message, position))
        }
        Err(other) => panic!("{other:?}: {text}"),
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_in_the_servers_words_at_the_servers_place() {
    let server = Postgres::start();
    let client = connect(&server).await;
    let texts = (0..4000).scan(Dice(20_261_130), |dice, _| Some(broken(dice)));
    let by_hand = [
        "select nope nope nope",
        "selec 1",
        "select",
        "select 1 from",
        "select 'é' é é é",
        "select * from t where a = = 1",
        "select 1 as as",
        "insert into t values (1,)",
        "select 'abc",
        "select \"abc",
        "select $a$ abc",
        "select 1 /* abc /* */",
        "select E'\\u12'",
        "select 1x, 2",
        "select 0xg",
        "select \"\"",
        "select a.*.b",
        "select 1 limit 1, 2",
        "select float(0)",
        "create table t (a float(0))",
        "create role public",
        "select x'0g'",
        "(select 1 order by 1) order by 1",
        "select 1 order by 1 order by 2",
        "select 1;; selec 2; select 3 3 3",
        "\n\n\tselect\n  1 1 1",
        "create database",
        "create unlogged unlogged table t ()",
        ")",
        "é",
        "'",
        "\u{1}",
        "select \\",
        "select {",
        "select :a",
        "select @@ from",
    ];
    let (mut refused, mut parameters, mut wrong) = (0, 0, Vec::new());
    for text in by_hand.into_iter().map(str::to_owned).chain(texts) {
        if text.contains('\0') {
            continue;
        }
        let (server, ours) = (servers(&client, &text).await, ours(&text));
        refused += usize::from(server.is_some());
        // libpg_query's grammar lets `$1` stand where PostgreSQL's wants a name, and `$1x` be one word: it reads on where the
        // server stops. Such a text is refused by the server itself.
        let at_parameter = |said: &str| {
            said.split_once("at or near \"$")
                .is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        if server != ours
            && server
                .as_ref()
                .is_some_and(|(_, message, _)| at_parameter(message))
        {
            parameters += 1;
        } else if server != ours {
            wrong.push(format!("{text}\n  server {server:?}\n  ours   {ours:?}"));
        }
    }
    println!(
        "{refused} texts refused, {} otherwise, {parameters} at a parameter",
        wrong.len()
    );
    assert!(
        refused > 3000 && parameters < 50,
        "{refused} refused, {parameters} at a parameter"
    );
    assert!(
        wrong.is_empty(),
        "{} of {refused}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// A statement of a size.
type Grown = Box<dyn Fn(usize) -> String>;

/// Shapes of statements that grow, each with the sizes at which it is tried.
fn growing() -> Vec<(&'static str, Grown)> {
    fn nest(open: &'static str, close: &'static str) -> Grown {
        Box::new(move |n| format!("select {}1{}", open.repeat(n), close.repeat(n)))
    }
    fn list(begin: &'static str, item: &'static str, between: &'static str, end: &'static str) -> Grown {
        Box::new(move |n| format!("{begin}{}{end}", vec![item; n].join(between)))
    }
    vec![
        ("or", list("select 1 where ", "1 = 1", " or ", "")),
        ("and", list("select 1 where ", "1 = 1", " and ", "")),
        (
            "or of and",
            list("select 1 where ", "1 = 1 and 2 = 2", " or ", ""),
        ),
        ("plus", list("select ", "1", "+", "")),
        ("concatenation", list("select ", "'a'", " || ", "")),
        ("in list", list("select 1 where 1 in (", "1", ", ", ")")),
        ("case", list("select case ", "when 1 = 2 then 3", " ", " end")),
        ("values", list("values ", "(1, 'a', null)", ", ", "")),
        ("array", list("select array[", "1", ", ", "]")),
        ("union all", list("", "select 1", " union all ", "")),
        ("casts", list("select 1", "::int", "", "")),
        ("parentheses", nest("(", ")")),
        ("sub-selects", nest("(select ", ")")),
        ("calls", nest("abs(", ")")),
        ("case in case", nest("case when true then ", " end")),
        ("not", Box::new(|n| format!("select {}true", "not ".repeat(n)))),
        ("minus", nest("- ", "")),
    ]
}

#[tokio::test]
async fn nothing_is_refused_that_the_server_takes() {
    let server = Postgres::start();
    let client = connect(&server).await;
    let mut table = String::new();
    for (name, text) in growing() {
        for n in [100, 1000, 2500, 5000, 10_000, 50_000] {
            let text = text(n);
            let taken = match client.simple_query(&text).await {
                Ok(rows) => rows.iter().any(|m| {
                    matches!(
                        m,
                        SimpleQueryMessage::Row(_) | SimpleQueryMessage::CommandComplete(_)
                    )
                }),
                Err(error) => error
                    .as_db_error()
                    .is_none_or(|e| !matches!(e.code().code(), "54001" | "42601")),
            };
            // The stack of an analyst's parser.
            let parse = std::thread::Builder::new().stack_size(32 << 20).spawn(move || {
                let checked = precheck(text.as_bytes(), &Caps::DEFAULT);
                checked.and_then(|()| read(text.as_bytes(), &Caps::DEFAULT).map(drop))
            });
            let ours = parse.expect("a thread").join().expect("no panic");
            assert!(
                !taken || ours.is_ok(),
                "{n} × {name}: the server takes it, and we say {ours:?}"
            );
            table.push_str(&format!(
                "{name:14} {n:>6} server {} ours {}\n",
                if taken { "takes" } else { "refuses" },
                if ours.is_ok() { "take" } else { "refuse" }
            ));
            if !taken {
                break;
            }
        }
    }
    println!("{table}");
    assert!(table.contains("50000 server takes"), "{table}");
}

const MOVES: &[&str] = &[
    "set search_path = a",
    "set search_path = 'a b', \"C\", \"$user\"",
    "set search_path = ''",
    "set local search_path = b, public",
    "set search_path to default",
    "set local search_path to default",
    "reset search_path",
    "reset all",
    "discard all",
    "select set_config('search_path', '', false)",
    "select pg_catalog.set_config('search_path', 'X, \"Y\"\"z\"', true)",
    "select set_config('search_path', 'a b', false)",
    "select set_config('search_path', 'a', false), set_config('search_path', 'c', false)",
    "select set_config('search_path', 'w', false) where false",
    "select set_config('search_path', 'v', false) from pg_class limit 1",
    "set role alice",
    "set local role bob",
    "set role none",
    "reset role",
    "set session authorization bob",
    "set session authorization default",
    "reset session authorization",
    "select 1/0",
    "select 1",
    "begin",
    "begin",
    "commit",
    "rollback",
    "savepoint s",
    "savepoint s",
    "rollback to s",
    "release s",
    "prepare transaction 'x'",
    "prepare p as select set_config('search_path', 'prepared', false)",
];

async fn shown(client: &Client, name: &str) -> String {
    let rows = client
        .simple_query(&format!("show {name}"))
        .await
        .expect("SHOW works");
    rows.iter()
        .find_map(|m| {
            if let SimpleQueryMessage::Row(row) = m {
                row.get(0).map(str::to_owned)
            } else {
                None
            }
        })
        .expect("a row")
}

fn agrees(path: &SearchPathSetting, shown: &str, began: &str) -> bool {
    match path {
        SearchPathSetting::Unknown => true,
        SearchPathSetting::Began => shown == began,
        SearchPathSetting::Listed(list) => of_setting(shown).as_ref() == Some(list),
    }
}

#[tokio::test]
async fn what_a_session_has_is_what_the_server_says_it_has() {
    let server = Postgres::start();
    let client = connect(&server).await;
    client
        .simple_query("create role alice; create role bob; grant alice to bob; alter role postgres set search_path = began, public")
        .await
        .expect("roles");
    let client = connect(&server).await;
    let began = shown(&client, "search_path").await;
    let mut session = SessionSettings::default();
    let mut dice = Dice(7);
    let (mut known, mut unknown, mut block, mut failed) = (0, 0, false, false);
    let mut story: Vec<String> = Vec::new();
    for _ in 0..6000 {
        let alone = block || dice.below(4) > 0;
        let text = if alone {
            MOVES[dice.below(MOVES.len())].to_owned()
        } else {
            let plain = &MOVES[..23];
            (0..2 + dice.below(3))
                .map(|_| plain[dice.below(plain.len())])
                .collect::<Vec<_>>()
                .join("; ")
                + "; show search_path"
        };
        let facts = facts(&text).expect("it can be read");
        let result = client.simple_query(&text).await;
        story.push(format!(
            "{text} -- {}",
            if result.is_ok() { "done" } else { "failed" }
        ));
        let tail = || story[story.len().saturating_sub(12)..].join("\n");
        match (&result, &facts.statements[0].action) {
            (Ok(_), _) if !alone => {
                let last = session.in_turn(&facts).pop().expect("a statement");
                let rows = result.as_ref().expect("it worked");
                let seen = rows
                    .iter()
                    .filter_map(|m| {
                        if let SimpleQueryMessage::Row(row) = m {
                            row.get(0)
                        } else {
                            None
                        }
                    })
                    .last();
                let seen = seen.expect("the answer to SHOW");
                assert!(
                    agrees(last.search_path(), seen, &began),
                    "{seen}, not {:?}:\n{}",
                    last.search_path(),
                    tail()
                );
                facts.statements.iter().for_each(|s| session.apply_statement(s));
            }
            // The server ends a transaction that failed by undoing it, whatever the client says.
            (Ok(_), Action::Commit) if failed => session.rollback(),
            (Ok(_), _)
                if facts.statements[0]
                    .verbs
                    .iter()
                    .any(|v| v == "prepare transaction")
                    && failed =>
            {
                session.rollback()
            }
            (Ok(_), _) => session.apply_statement(&facts.statements[0]),
            (Err(_), _) => failed = block,
        }
        match (&result, &facts.statements[0].action) {
            (Ok(_), Action::Begin) => block = true,
            (Ok(_), Action::Commit | Action::Rollback) => (block, failed) = (false, false),
            (Ok(_), _) if text.starts_with("prepare transaction") => (block, failed) = (false, false),
            // A prepared transaction is no longer this session's; a failed PREPARE TRANSACTION undoes it.
            (Err(_), _) if text.starts_with("prepare transaction") && block => {
                (block, failed) = (false, false);
                session.rollback();
            }
            (Ok(_), Action::Savepoint) => failed = false,
            _ => {}
        }
        if !block {
            // ReadyForQuery, idle.
            if result.is_ok() {
                session.commit()
            } else {
                session.rollback()
            }
        }
        if failed {
            continue;
        }
        let path = shown(&client, "search_path").await;
        assert!(
            agrees(session.search_path(), &path, &began),
            "{path}, not {:?}:\n{}",
            session.search_path(),
            tail()
        );
        if session.search_path().is_unknown() {
            unknown += 1
        } else {
            known += 1
        }
        for (name, ours, none) in [
            ("role", &session.now().role, "none"),
            (
                "session_authorization",
                &session.now().session_authorization,
                "postgres",
            ),
        ] {
            let shown = shown(&client, name).await;
            let agrees = match ours {
                RoleSetting::Unknown => true,
                RoleSetting::Began => shown == none,
                RoleSetting::Named(role) => shown == *role,
            };
            assert!(agrees, "{name} is {shown}, not {ours:?}:\n{}", tail());
        }
        client.simple_query("select 1").await.expect("the session lives");
    }
    println!("{known} times known, {unknown} times in doubt");
    assert!(known > unknown && unknown > 0, "{known} known, {unknown} unknown");
}
