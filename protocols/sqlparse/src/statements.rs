//! Every kind of statement that the grammar has, with the class it gets: a golden list, so that a kind that is under no rule,
//! or under the wrong one, shows in a diff.

use crate::{facts, oracle};
use std::collections::BTreeSet;
use std::fmt::Write as _;

const GOLDEN: &str = include_str!("statements.out");

/// Made by the grammar, and never a statement of a client's text: the wrapper around each, a part of ALTER TABLE, what a
/// function's body alone may say, and PL/pgSQL's assignment.
const NEVER_ALONE: [&str; 4] = ["RawStmt", "ReplicaIdentityStmt", "ReturnStmt", "PLAssignStmt"];

/// The line under a statement: its node, its verbs, its classes, what it reads (`r`), writes (`w`) or names, its functions.
fn line(text: &str) -> (String, String) {
    let json = oracle::json(text).unwrap_or_else(|| panic!("it does not parse: {text}"));
    let statement = json["stmts"][0]["stmt"].as_object().expect("a node");
    let tag = statement.keys().next().expect("a kind").clone();
    let facts = facts(text).unwrap_or_else(|error| panic!("{error:?}: {text}"));
    let [one] = facts.statements.as_slice() else {
        panic!("one statement: {text}")
    };
    let classes: Vec<&str> = one.class.iter().map(|c| c.name()).collect();
    let mut line = format!("{tag} | {} | {}", one.verbs.join(", "), classes.join(" "));
    for relation in &one.relations {
        let how = match (relation.read, relation.written) {
            (true, true) => "rw ",
            (true, false) => "r ",
            (false, true) => "w ",
            (false, false) => "",
        };
        let schema = relation
            .schema
            .as_deref()
            .map(|s| format!("{s}."))
            .unwrap_or_default();
        let _ = write!(line, " | {how}{schema}{}", relation.name);
    }
    for function in &one.functions {
        let _ = write!(line, " | {}()", function.name);
    }
    (tag, line)
}

#[test]
fn every_kind_of_statement_has_the_class_that_the_golden_list_says() {
    let (mut made, mut seen) = (String::new(), BTreeSet::new());
    for text in GOLDEN
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("    "))
    {
        let (tag, line) = line(text);
        let _ = writeln!(made, "{text}\n    {line}");
        seen.insert(tag);
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/statements.out"), &made)
            .expect("it can be written");
    }
    assert!(made == GOLDEN, "the list now reads:\n{made}");
    let grammar = oracle::source("src/postgres/src_backend_parser_gram.c");
    let kinds: BTreeSet<String> = grammar
        .match_indices("makeNode(")
        .filter_map(|(at, _)| grammar[at + 9..].split(')').next())
        .filter(|kind| kind.ends_with("Stmt") && !NEVER_ALONE.contains(kind))
        .map(str::to_owned)
        .collect();
    assert!(kinds.len() > 110, "{} kinds", kinds.len());
    let missing: Vec<_> = kinds.difference(&seen).collect();
    assert!(
        missing.is_empty(),
        "kinds of statement without an example: {missing:?}"
    );
}
