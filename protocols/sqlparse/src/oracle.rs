//! What the tests hold the walk against: the C library's own sources, its JSON of a tree, PostgreSQL's regression suite as
//! the library carries it, and which nodes the extraction has seen.
// JUSTIFICATION: the JSON writer is in the C library only.
#![allow(unsafe_code)]

use crate::children::identity;
use pg_raw_parse::Node;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::{CStr, CString, c_char, c_int};
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

thread_local! {
    static VISITED: RefCell<HashSet<(&'static str, usize)>> = RefCell::default();
}

pub fn visited(node: Node<'_>) {
    VISITED.with_borrow_mut(|all| all.insert(identity(node)));
}

/// All that was visited since the last call.
pub fn take_visited() -> HashSet<(&'static str, usize)> {
    VISITED.take()
}

/// The sources of libpg_query that are in use, where cargo keeps them.
pub static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--offline", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        metadata.status.success(),
        "{}",
        String::from_utf8_lossy(&metadata.stderr)
    );
    let metadata: Value = serde_json::from_slice(&metadata.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let ours = packages
        .iter()
        .find(|p| p["name"] == "pg_raw_parse")
        .expect("pg_raw_parse is a dependency");
    let manifest = ours["manifest_path"].as_str().expect("a path");
    PathBuf::from(manifest).with_file_name("libpg_query")
});

pub fn source(path: &str) -> String {
    let path = LIBRARY.join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every node tag by its name, without `T_`.
pub fn tags() -> BTreeSet<String> {
    let header = source("src/postgres/include/nodes/nodetags.h");
    let names = header
        .lines()
        .filter_map(|line| line.trim().strip_prefix("T_")?.split_once(" ="));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// Name and C type of every field, by struct.
pub fn structs() -> BTreeMap<String, Vec<(String, String)>> {
    let all: Value = serde_json::from_str(&source("srcdata/struct_defs.json")).expect("JSON");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let mut structs = BTreeMap::new();
    for group in all.as_object().expect("groups").values() {
        for (name, definition) in group.as_object().expect("structs") {
            let fields = definition["fields"].as_array().expect("fields");
            let fields = fields
                .iter()
                .filter_map(|f| Some((text(&f["name"])?, text(&f["c_type"])?)));
            structs.insert(name.clone(), fields.collect());
        }
    }
    structs
}

#[repr(C)]
struct ParseResult {
    tree: *mut c_char,
    stderr: *mut c_char,
    error: *mut pg_raw_parse::raw::PgQueryError,
}

#[repr(C)]
struct SplitStatement {
    location: c_int,
    length: c_int,
}

#[repr(C)]
struct SplitResult {
    statements: *mut *mut SplitStatement,
    count: c_int,
    stderr: *mut c_char,
    error: *mut pg_raw_parse::raw::PgQueryError,
}

unsafe extern "C" {
    fn pg_query_parse(text: *const c_char) -> ParseResult;
    fn pg_query_free_parse_result(result: ParseResult);
    fn pg_query_split_with_scanner(text: *const c_char) -> SplitResult;
    fn pg_query_free_split_result(result: SplitResult);
}

/// The library's own JSON of a text's tree. `None`: it does not parse, or is too deep for the JSON reader.
pub fn json(text: &str) -> Option<Value> {
    let text = CString::new(text).ok()?;
    // SAFETY: the text ends with a NUL; the result is read before it is freed, once, by the function made for it.
    unsafe {
        let result = pg_query_parse(text.as_ptr());
        let tree = result
            .error
            .is_null()
            .then(|| CStr::from_ptr(result.tree).to_bytes().to_vec());
        pg_query_free_parse_result(result);
        serde_json::from_slice(&tree?).ok()
    }
}

/// The statements of a script, cut by PostgreSQL's scanner. `None`: something in it does not end.
fn split(text: &str) -> Option<Vec<String>> {
    let c = CString::new(text).ok()?;
    // SAFETY: as above; `statements` points to `count` pointers to statements.
    unsafe {
        let result = pg_query_split_with_scanner(c.as_ptr());
        let pieces = result.error.is_null().then(|| {
            (0..usize::try_from(result.count).unwrap_or(0))
                .map(|at| {
                    let piece = &**result.statements.add(at);
                    let start = usize::try_from(piece.location).expect("a place");
                    let length = usize::try_from(piece.length).expect("a length");
                    text[start..start + length].to_owned()
                })
                .collect()
        });
        pg_query_free_split_result(result);
        pieces
    }
}

/// The statements of PostgreSQL's regression suite, without what psql alone understands.
pub fn regression_suite() -> Vec<String> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(LIBRARY.join("test/sql/postgres_regress"))
        .expect("the suite")
        .map(|e| e.expect("an entry").path())
        .collect();
    files.sort();
    let mut statements = Vec::new();
    for file in files {
        let script = String::from_utf8_lossy(&std::fs::read(&file).expect("a script")).into_owned();
        let (mut kept, mut data) = (String::new(), false);
        for line in script.lines() {
            if data {
                data = line != "\\.";
            } else if !line.starts_with('\\') {
                kept.push_str(line);
                kept.push('\n');
                let low = line.to_lowercase();
                data =
                    low.starts_with("copy ") && low.contains("from stdin") && low.trim_end().ends_with(';');
            }
        }
        // What a script leaves open for psql ends it for the scanner: then it is cut at the ends of lines.
        let pieces = split(&kept);
        statements.extend(pieces.unwrap_or_else(|| kept.split(";\n").map(str::to_owned).collect()));
    }
    statements
}

/// How many nodes of each kind `value` holds, read by the C types of the fields they stand in.
pub fn count(value: &Value, structs: &BTreeMap<String, Vec<(String, String)>>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut stack: Vec<(&Value, &str)> = vec![(value, "Node*")];
    while let Some((value, c_type)) = stack.pop() {
        let kind = c_type.trim_end_matches('*');
        match value {
            Value::Array(items) => stack.extend(items.iter().map(|item| (item, "Node*"))),
            Value::Object(fields) if matches!(kind, "Node" | "List" | "Expr") => {
                for (kind, inner) in fields {
                    match inner.get("items") {
                        Some(items) if kind == "List" => {
                            *counts.entry("List".to_owned()).or_default() += 1;
                            stack.push((items, "List*"));
                        }
                        _ => {
                            let (kind, _) = structs
                                .get_key_value(kind)
                                .unwrap_or_else(|| panic!("no struct {kind}"));
                            *counts.entry(kind.clone()).or_default() += 1;
                            push_fields(inner, kind, structs, &mut stack);
                        }
                    }
                }
            }
            Value::Object(_) if structs.contains_key(kind) => {
                if c_type.ends_with('*') {
                    *counts.entry(kind.to_owned()).or_default() += 1;
                }
                push_fields(value, kind, structs, &mut stack);
            }
            _ => {}
        }
    }
    counts
}

fn push_fields<'a>(
    value: &'a Value,
    kind: &str,
    structs: &'a BTreeMap<String, Vec<(String, String)>>,
    stack: &mut Vec<(&'a Value, &'a str)>,
) {
    for (name, c_type) in structs.get(kind).into_iter().flatten() {
        if let Some(field) = value.get(name) {
            stack.push((field, c_type));
        }
    }
}
