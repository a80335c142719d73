//! The table against the library's own headers, its JSON and PostgreSQL's regression suite.

use super::*;
use crate::oracle;
use std::collections::{BTreeMap, BTreeSet, HashSet};

fn row(kind: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.kind == kind)
}

/// Kinds that the walk knows without a row: a list is its own row, and CREATE FOREIGN TABLE has none in the library.
const BY_HAND: [&str; 2] = ["List", "CreateForeignTableStmt"];

#[test]
fn every_tag_of_the_parser_has_one_row() {
    let mut rows: Vec<&str> = ROWS.iter().map(|r| r.kind).chain(BY_HAND).collect();
    rows.sort_unstable();
    let tags = oracle::tags();
    assert!(tags.len() > 400, "{} tags", tags.len());
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    let missing: Vec<_> = tags.iter().filter(|tag| !rows.contains(tag)).collect();
    let (mut gone, mut last) = (Vec::new(), "");
    for row in &rows {
        if !tags.contains(row) || *row == last {
            gone.push(row);
        }
        last = row;
    }
    assert!(
        missing.is_empty() && gone.is_empty(),
        "tags of the parser without a row: {missing:?}; rows without a tag, or twice: {gone:?}"
    );
}

/// Fields that parse analysis or a planner fills: the raw parser leaves them empty.
const FILLED_LATER: [(&str, &str); 10] = [
    ("IntoClause", "viewQuery"),
    ("GroupingFunc", "refs"),
    ("ColumnDef", "cooked_default"),
    ("CommonTableExpr", "ctecolnames"),
    ("CommonTableExpr", "ctecoltypes"),
    ("CommonTableExpr", "ctecoltypmods"),
    ("CommonTableExpr", "ctecolcollations"),
    ("Constraint", "old_conpfeqop"),
    ("CallStmt", "funcexpr"),
    ("CallStmt", "outargs"),
];

#[test]
fn every_field_that_can_hold_a_node_stands_in_its_row() {
    let (structs, tags) = (oracle::structs(), oracle::tags());
    let plain = |name: &str| name.replace('_', "").to_lowercase();
    let mut missing = Vec::new();
    for row in ROWS {
        let Some(fields) = row.fields else { continue };
        let known: BTreeSet<String> = fields.iter().map(|(name, _)| plain(name)).collect();
        let of_struct = structs
            .get(row.kind)
            .unwrap_or_else(|| panic!("no struct {}", row.kind));
        for (name, c_type) in of_struct {
            let Some(pointed) = c_type.strip_suffix('*') else {
                continue;
            };
            let holds = matches!(pointed, "Node" | "List" | "Expr") || tags.contains(pointed);
            if holds && !known.contains(&plain(name)) && !FILLED_LATER.contains(&(row.kind, name.as_str())) {
                missing.push(format!("{}.{name}: {c_type}", row.kind));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
}

/// In the grammar, but for a caller that parses PL/pgSQL; and the wrapper of each statement, which the library takes off.
const OTHERWISE: [&str; 2] = ["PLAssignStmt", "RawStmt"];

#[test]
fn the_grammar_makes_no_kind_that_is_refused() {
    let mut made = BTreeSet::new();
    for path in [
        "src_backend_parser_gram.c",
        "src_backend_nodes_makefuncs.c",
        "src_backend_nodes_value.c",
    ] {
        let text = oracle::source(&format!("src/postgres/{path}"));
        let grammar = path.contains("gram.c");
        for (at, _) in text.match_indices("makeNode(") {
            let kind = text[at + 9..].split(')').next().unwrap_or_default().to_owned();
            // The other two make nodes for the analysis too; of theirs only what is walked counts.
            if grammar || row(&kind).is_some_and(|row| row.fields.is_some()) {
                made.insert(kind);
            }
        }
    }
    assert!(made.len() > 190, "{} kinds", made.len());
    let refused: Vec<_> = made
        .iter()
        .filter(|kind| !BY_HAND.contains(&kind.as_str()) && !OTHERWISE.contains(&kind.as_str()))
        .filter(|kind| row(kind).is_none_or(|row| row.fields.is_none()))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
}

/// What the extraction does not visit: names of constraints, and names in FOR UPDATE OF, which are those of FROM.
const NO_RELATIONS: [(&str, &str); 2] = [
    ("ConstraintsSetStmt", "RangeVar"),
    ("SelectStmt", "LockingClause"),
];

/// Kinds that say something wherever they stand.
const MEANS: [&str; 16] = [
    "RangeVar",
    "FuncCall",
    "A_Expr",
    "ParamRef",
    "ColumnRef",
    "SubLink",
    "SelectStmt",
    "InsertStmt",
    "UpdateStmt",
    "DeleteStmt",
    "MergeStmt",
    "SortBy",
    "TypeCast",
    "VariableSetStmt",
    "Constraint",
    "ResTarget",
];

/// All of PostgreSQL's regression suite, statement by statement: the walk over the table meets as many nodes of each kind as
/// the library's own JSON holds, and the extraction visits every one of them that means something.
#[test]
fn the_walk_finds_all_that_the_parsers_own_json_holds() {
    let structs = oracle::structs();
    let (mut texts, mut nodes, mut kinds) = (0, 0, BTreeSet::new());
    let mut exempt = BTreeSet::new();
    let mut left: BTreeMap<(&str, &str, &str), (usize, String)> = BTreeMap::new();
    for text in oracle::regression_suite() {
        let Ok(tree) = pg_raw_parse::parse(&text) else {
            continue;
        };
        let Some(json) = oracle::json(&text) else { continue };
        let mut theirs = BTreeMap::new();
        for statement in json["stmts"].as_array().expect("statements") {
            for (kind, number) in oracle::count(&statement["stmt"], &structs) {
                *theirs.entry(kind).or_default() += number;
            }
        }
        oracle::take_visited();
        let mut ours: BTreeMap<String, usize> = BTreeMap::new();
        let mut parents = Vec::new();
        for statement in tree.stmts() {
            if let Err(error) = crate::extract::statement(statement) {
                panic!("{error:?}: {text}");
            }
            let mut stack = vec![statement];
            let mut below = Vec::new();
            while let Some(node) = stack.pop() {
                *ours.entry(identity(node).0.to_owned()).or_default() += 1;
                assert!(children(node, &mut below).is_ok(), "{:?}: {text}", identity(node));
                parents.extend(
                    below
                        .iter()
                        .map(|child| (identity(node), identity(*child), *child)),
                );
                stack.append(&mut below);
            }
        }
        assert_eq!(ours, theirs, "{text}");
        let seen = oracle::take_visited();
        for (parent, child, node) in parents {
            if seen.contains(&child) || !seen.contains(&parent) {
                continue;
            }
            if NO_RELATIONS.contains(&(parent.0, child.0)) {
                exempt.insert((parent.0, child.0));
            } else {
                for inside in meaning(node, &seen) {
                    left.entry((parent.0, child.0, inside))
                        .or_insert((0, text.clone()))
                        .0 += 1;
                }
            }
        }
        texts += 1;
        nodes += ours.values().sum::<usize>();
        kinds.extend(ours.into_keys());
    }
    println!("{texts} texts, {nodes} nodes of {} kinds", kinds.len());
    assert_eq!(
        exempt.len(),
        NO_RELATIONS.len(),
        "an exemption that nothing needs"
    );
    let left: Vec<String> = left
        .iter()
        .map(|(way, (n, text))| format!("{way:?} {n} times, as in: {text}"))
        .collect();
    assert!(left.is_empty(), "not visited:\n{}", left.join("\n"));
    assert!(
        texts > 30_000 && kinds.len() > 180,
        "{texts} texts, {} kinds",
        kinds.len()
    );
}

/// The kinds in `node` that mean something and were not visited.
fn meaning(node: Node<'_>, seen: &HashSet<(&'static str, usize)>) -> BTreeSet<&'static str> {
    let (mut stack, mut found) = (vec![node], BTreeSet::new());
    while let Some(node) = stack.pop() {
        let identity = identity(node);
        if MEANS.contains(&identity.0) && !seen.contains(&identity) {
            found.insert(identity.0);
        }
        assert!(children(node, &mut stack).is_ok(), "{identity:?}");
    }
    found
}
