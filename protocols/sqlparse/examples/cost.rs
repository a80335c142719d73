//! What the longest texts of many kinds cost an analyst: `cargo run --release -p headgate-sqlparse --example cost`.
//!
//! Each text is as long as the lexer's caps allow and is read in a process of its own. A line: kind, bytes, milliseconds of
//! the linear check, milliseconds of parser and walk, MiB of address space at the peak, what came out.

use headgate_sql::{Caps, precheck};
use std::time::Instant;

/// (name, beginning, what is repeated, end)
const KINDS: &[(&str, &str, &str, &str)] = &[
    ("blanks", "select 1", " ", ""),
    ("one literal", "select '", "a", "'"),
    ("one escaped literal", "select E'", "\\\\", "'"),
    ("one dollar literal", "select $a$", "$a", "$a$"),
    ("one comment", "select 1 /*", "x", "*/"),
    ("line comments", "select 1", "--\n", ""),
    ("spaced comments", "select 1", "/**/ ", ""),
    ("comments of stars", "select 1", "/****/ x", ""),
    ("continued literals", "select 'a'", "\n'b'", ""),
    ("literals and blanks", "select ", "'a'   ,", "1"),
    ("columns", "select ", "a,", "1"),
    ("numbers", "select ", "1,", "1"),
    ("parameters", "select ", "$1,", "1"),
    ("row of values", "values ", "(1),", "(1)"),
    (
        "wide rows",
        "insert into t values ",
        "(1, 'abc', null, 2.5),",
        "(1)",
    ),
    ("in list", "select 1 where a in (", "1,", "1)"),
    ("or", "select 1 where a", " or a", ""),
    ("and", "select 1 where a", " and a", ""),
    ("or of and", "select 1 where a", " or a and b", ""),
    ("case", "select case ", "when a then b ", "end"),
    ("calls", "select ", "f(),", "1"),
    ("own functions", "select ", "f(a),", "1"),
    ("minus", "select ", "-a,", "1"),
    ("casts", "select ", "a::b,", "1"),
    ("dots", "select ", "a.b.c,", "1"),
    ("stars", "select ", "*,", "1"),
    ("tables", "select 1 from ", "a,", "a"),
    ("joins", "select 1 from a", " join a on b,a", ""),
    ("sub-selects", "select ", "(select a),", "1"),
    ("statements", "", "select 1;", ""),
    ("empty statements", "", ";", ""),
    ("inserts", "", "insert into t values(1);", ""),
    ("sets", "", "set a=1;", ""),
    ("set_config", "select ", "set_config('a','b',true),", "1"),
    ("set_config computed", "select ", "set_config(a,'b',true),", "1"),
    (
        "with",
        "with ",
        "a as (select 1 from a),",
        "b as (select 1) select 1",
    ),
    (
        "with recursive",
        "with recursive ",
        "a as (table a),",
        "b as (select 1) select 1",
    ),
    (
        "long names",
        "select ",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,",
        "1",
    ),
    (
        "unions",
        "select 1 where a and b",
        " union select 1 where a and b",
        "",
    ),
    ("schema", "create schema s ", "create table t(a int, b int) ", ""),
    ("xml", "select ", "xmlelement(name a),", "1"),
    ("junk", "select ", "a a a a a a", ""),
    ("late error", "values ", "(1),", ")"),
    ("late unterminated", "values ", "(1),", "'"),
];

/// Kinds whose cost grows with depth: as deep as the caps allow.
fn deep() -> Vec<(&'static str, String)> {
    let n = 9_990;
    vec![
        (
            "parentheses",
            format!("select {}1{}", "(".repeat(n), ")".repeat(n)),
        ),
        ("chain", format!("select 1{}", "+1".repeat(49_900))),
        (
            "chains",
            format!("select {}1", format!("1{},", "+1".repeat(49_900)).repeat(20)),
        ),
        (
            "refused chain",
            format!("(select 1 order by 1) order by 1{}", "+1".repeat(49_900)),
        ),
        (
            "calls in calls",
            format!("select {}1{}", "f(".repeat(n), ")".repeat(n)),
        ),
        (
            "case in case",
            format!("select {}1{}", "case when a then ".repeat(n), " end".repeat(n)),
        ),
        (
            "select in select",
            format!("select {}1{}", "(select ".repeat(n), ")".repeat(n)),
        ),
        (
            "from in from",
            format!("{}select 1{}", "select * from (".repeat(n), ") x".repeat(n)),
        ),
        (
            "with in with",
            format!(
                "{}select 1{}",
                "with a as (".repeat(n),
                ") select 1 from a".repeat(n)
            ),
        ),
        ("operators", format!("select {}1", "+".repeat(1_400))),
        (
            "comments in comments",
            format!(
                "{}select 1",
                format!("{}{} ", "/*".repeat(8), "*/".repeat(8)).repeat(100_000)
            ),
        ),
    ]
}

fn text(kind: &str) -> Option<String> {
    if let Some((_, deep)) = deep().into_iter().find(|(name, _)| *name == kind) {
        return Some(deep);
    }
    let (_, begin, unit, end) = KINDS.iter().find(|(name, ..)| *name == kind)?;
    let fits = |times: usize| {
        let text = format!("{begin}{}{end}", unit.repeat(times));
        !matches!(
            precheck(text.as_bytes(), &Caps::DEFAULT),
            Err(headgate_sql::Unreadable::TooLong { .. }
                | headgate_sql::Unreadable::TooManyTokens { .. }
                | headgate_sql::Unreadable::TooDeep { .. })
        )
    };
    let (mut low, mut high) = (1, Caps::DEFAULT.bytes_max);
    while low + 1 < high {
        let middle = (low + high) / 2;
        if fits(middle) { low = middle } else { high = middle }
    }
    Some(format!("{begin}{}{end}", unit.repeat(low)))
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmPeak:"))
        .unwrap_or_default();
    line.trim()
        .trim_end_matches(" kB")
        .parse::<u64>()
        .unwrap_or_default()
        / 1024
}

fn one(kind: &str) {
    let text = text(kind).expect("a kind of the table");
    let started = Instant::now();
    let checked = precheck(text.as_bytes(), &Caps::DEFAULT).is_ok();
    let lexed = started.elapsed();
    let parse = move || {
        let started = Instant::now();
        let read = headgate_sqlparse::read(text.as_bytes(), &Caps::DEFAULT);
        let said = match &read {
            Ok(facts) => format!("{} statements", facts.statements.len()),
            Err(why) => format!("{why:?}").chars().take(70).collect(),
        };
        (text.len(), started.elapsed(), said)
    };
    let thread = std::thread::Builder::new()
        .stack_size(32 << 20)
        .spawn(parse)
        .expect("a thread");
    let (bytes, parsed, said) = thread.join().expect("no panic");
    let ms = |d: std::time::Duration| d.as_secs_f64() * 1000.0;
    println!(
        "{kind:22} {bytes:>8} {:>7.1} {:>8.1} {:>5} {checked} {said}",
        ms(lexed),
        ms(parsed),
        peak_mib()
    );
}

fn main() {
    if let Some(kind) = std::env::args().nth(1) {
        return one(&kind);
    }
    let itself = std::env::current_exe().expect("a path of its own");
    for kind in KINDS.iter().map(|k| k.0).chain(deep().into_iter().map(|k| k.0)) {
        let status = std::process::Command::new(&itself).arg(kind).status();
        if !status.is_ok_and(|s| s.success()) {
            println!("{kind:22} DIED");
        }
    }
}
