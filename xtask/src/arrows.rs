//! The arrows between crates and folders that must not be there: SEAM's test, over `cargo metadata` and over what the sources
//! name.
//!
//! Two tables. [`CRATES`] says which crate never depends on which, directly or through others (tests may). [`ROOMS`] says what
//! the files of a folder never name outside their tests: a crate, a module, an arm of an enum. A name counts wherever it
//! stands in code; comments and literals are skipped.
//!
//! An arrow that is still there is listed in [`STILL`] with its reason. One that is listed and gone is an error, too, so the
//! list can only become shorter.

use crate::Result;
use crate::build::cargo;
use headgate_e2e::{during, place};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Crates that know a protocol's bytes or a language, those to come among them.
const LANGUAGES: &[&str] = &[
    "headgate-http",
    "headgate-kubernetes",
    "headgate-mcp",
    "headgate-mysql",
    "headgate-postgres",
    "headgate-sql",
    "headgate-sqlparse",
    "headgate-ssh",
];

/// What the files of a room that knows no protocol never name.
const PROTOCOL_NAMES: &[&str] = &[
    // Crates.
    "headgate_http",
    "headgate_kubernetes",
    "headgate_mcp",
    "headgate_mysql",
    "headgate_postgres",
    "headgate_sql",
    "headgate_sqlparse",
    "headgate_ssh",
    // Modules, fields and tables named after them.
    "http",
    "kubernetes",
    "mcp",
    "mysql",
    "postgres",
    "sql",
    "sqlparse",
    "ssh",
    // Arms of enums, and types.
    "Http",
    "Kubernetes",
    "Mcp",
    "Mysql",
    "Postgres",
    "RuleSql",
    "Sql",
    "Ssh",
];

/// A crate, and what it never depends on.
struct Crate {
    /// A package, or `folder/*`: every package under it.
    name: &'static str,
    never: Never,
    why: &'static str,
}

enum Never {
    /// These packages.
    Packages(&'static [&'static str]),
    /// Whatever lies under these folders.
    Under(&'static [&'static str]),
}

const CRATES: &[Crate] = &[
    Crate {
        name: "protocols/*",
        never: Never::Under(&["dataplane", "controlplane"]),
        why: "protocols know neither plane",
    },
    Crate {
        name: "dataplane/*",
        never: Never::Under(&["controlplane"]),
        why: "the planes look down at protocols and never at each other",
    },
    Crate {
        name: "controlplane/*",
        never: Never::Under(&["dataplane"]),
        why: "the planes look down at protocols and never at each other",
    },
    Crate {
        name: "headgate-plane",
        never: Never::Packages(LANGUAGES),
        why: "what the planes say to each other is the same for every protocol",
    },
    Crate {
        name: "headgate-recording",
        never: Never::Packages(LANGUAGES),
        why: "events are the same for every protocol",
    },
    Crate {
        name: "headgate-questions",
        never: Never::Packages(LANGUAGES),
        why: "a question is the same for every protocol",
    },
    Crate {
        name: "headgate-link",
        never: Never::Packages(LANGUAGES),
        why: "the link carries messages, whatever is in them",
    },
    Crate {
        name: "headgate-spool",
        never: Never::Packages(LANGUAGES),
        why: "the spool carries bytes",
    },
    Crate {
        name: "headgate-recorder",
        never: Never::Packages(LANGUAGES),
        why: "the recorder packs events, whatever is in them",
    },
];

/// Folders whose files never name a protocol.
struct Room {
    /// A folder or a file, from the root of the repository.
    place: &'static str,
    /// Folders and files in it that may.
    but: &'static [&'static str],
    why: &'static str,
}

const ROOMS: &[Room] = &[
    Room {
        place: "protocols/policy/src",
        but: &["protocols/policy/src/family"],
        why: "the judge knows no language: a family is a file in family/",
    },
    Room {
        place: "protocols/plane/src",
        // The enums that have an arm for each: protocols, kinds of parameters, families of a rule.
        but: &[
            "protocols/plane/src/lib.rs",
            "protocols/plane/src/parameter.rs",
            "protocols/plane/src/protocol.rs",
            "protocols/plane/src/snapshot.rs",
        ],
        why: "what the planes say to each other is the same for every protocol",
    },
    Room {
        place: "protocols/recording/src",
        but: &[],
        why: "events are the same for every protocol",
    },
    Room {
        place: "controlplane/questions/src",
        but: &[],
        why: "a question is the same for every protocol",
    },
    Room {
        place: "dataplane/link/src",
        but: &[],
        why: "the link carries messages, whatever is in them",
    },
    Room {
        place: "dataplane/spool/src",
        but: &[],
        why: "the spool carries bytes",
    },
    Room {
        place: "dataplane/recorder/src",
        but: &[],
        why: "the recorder packs events, whatever is in them",
    },
    Room {
        place: "dataplane/gate/src/clearance",
        but: &[],
        why: "judging, holding, permitting and recording are written once",
    },
    Room {
        place: "dataplane/gate/src/session",
        but: &[],
        why: "a session is generic over its protocol",
    },
    Room {
        place: "dataplane/gate/src/core",
        but: &[],
        why: "what all sessions of a core share is neutral",
    },
];

/// Arrows that are there and are to go: file, name, reason.
const STILL: &[(&str, &str, &str)] = &[
    ("dataplane/gate/src/core/mod.rs", "Postgres", CORE),
    ("dataplane/gate/src/core/mod.rs", "headgate_postgres", CORE),
    ("dataplane/gate/src/core/mod.rs", "postgres", CORE),
    ("dataplane/gate/src/core/mod.rs", "sql", CORE),
];

const CORE: &str = "what the sessions of a protocol share on a core stands beside what all share";

/// Everything that is wrong, or how much was looked at.
pub fn check() -> Result<String> {
    let root = place::repository();
    let mut wrong = crates(&Packages::of_workspace()?, CRATES);
    let (found, files) = rooms(&root, ROOMS)?;
    wrong.extend(held_against(&found, STILL));
    if wrong.is_empty() {
        Ok(format!(
            "arrows: {} rules between crates, {} folders with {files} files",
            CRATES.len(),
            ROOMS.len()
        ))
    } else {
        Err(format!("forbidden arrows:\n  {}", wrong.join("\n  ")))
    }
}

/// The packages of the workspace: where they lie, and what they depend on outside their tests.
struct Packages {
    folders: BTreeMap<String, String>,
    needs: BTreeMap<String, BTreeSet<String>>,
}

impl Packages {
    fn of_workspace() -> Result<Packages> {
        let answer = cargo(&["metadata", "--format-version", "1", "--no-deps"])
            .output()
            .map_err(during("cargo metadata"))?;
        let metadata: serde_json::Value =
            serde_json::from_slice(&answer.stdout).map_err(during("cargo metadata"))?;
        Packages::read(&metadata, &place::repository())
    }

    fn read(metadata: &serde_json::Value, root: &Path) -> Result<Packages> {
        let mut packages = Packages {
            folders: BTreeMap::new(),
            needs: BTreeMap::new(),
        };
        let list = metadata.get("packages").and_then(serde_json::Value::as_array);
        for package in list.ok_or("cargo metadata has no packages")? {
            let text = |key: &str| package.get(key).and_then(serde_json::Value::as_str);
            let (Some(name), Some(manifest)) = (text("name"), text("manifest_path")) else {
                return Err("cargo metadata has a package without a name".to_owned());
            };
            let folder = Path::new(manifest).parent().unwrap_or(root);
            let folder = folder.strip_prefix(root).unwrap_or(folder);
            packages
                .folders
                .insert(name.to_owned(), folder.to_string_lossy().into_owned());
            let needs = package.get("dependencies").and_then(serde_json::Value::as_array);
            let needs = needs.into_iter().flatten();
            let linked =
                needs.filter(|need| need.get("kind").is_none_or(|kind| kind.as_str() != Some("dev")));
            packages.needs.insert(
                name.to_owned(),
                linked
                    .filter_map(|need| need.get("name").and_then(serde_json::Value::as_str))
                    .map(str::to_owned)
                    .collect(),
            );
        }
        Ok(packages)
    }

    fn named(&self, name: &str) -> Vec<&str> {
        match name.strip_suffix("/*") {
            None => self
                .folders
                .keys()
                .filter(|known| *known == name)
                .map(String::as_str)
                .collect(),
            Some(folder) => self
                .folders
                .iter()
                .filter(|(_, place)| Path::new(place).starts_with(folder))
                .map(|(known, _)| known.as_str())
                .collect(),
        }
    }

    /// The way from one package to one of which `ends` is true, if there is any.
    fn way(&self, from: &str, ends: &dyn Fn(&str) -> bool) -> Option<Vec<String>> {
        let mut ways = vec![vec![from.to_owned()]];
        let mut seen = BTreeSet::from([from.to_owned()]);
        while let Some(way) = ways.pop() {
            let needs = way.last().and_then(|last| self.needs.get(last));
            for need in needs.into_iter().flatten() {
                if !self.folders.contains_key(need) || !seen.insert(need.clone()) {
                    continue;
                }
                let longer = [way.as_slice(), std::slice::from_ref(need)].concat();
                if ends(need) {
                    return Some(longer);
                }
                ways.push(longer);
            }
        }
        None
    }
}

fn crates(packages: &Packages, rules: &[Crate]) -> Vec<String> {
    let mut wrong = Vec::new();
    for rule in rules {
        let mine = packages.named(rule.name);
        if mine.is_empty() {
            wrong.push(format!("there is no package {}", rule.name));
        }
        for package in mine {
            let ends = |need: &str| match rule.never {
                Never::Packages(list) => list.contains(&need),
                Never::Under(folders) => packages
                    .folders
                    .get(need)
                    .is_some_and(|place| folders.iter().any(|folder| Path::new(place).starts_with(folder))),
            };
            if let Some(way) = packages.way(package, &ends) {
                wrong.push(format!("{}: {}", way.join(" → "), rule.why));
            }
        }
    }
    wrong
}

/// A name that stands where it must not.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    file: String,
    line: usize,
    name: String,
    why: &'static str,
}

fn rooms(root: &Path, rooms: &[Room]) -> Result<(Vec<Found>, usize)> {
    let (mut found, mut count) = (Vec::new(), 0);
    for room in rooms {
        let mut files = Vec::new();
        sources(&root.join(room.place), &mut files)?;
        if files.is_empty() {
            return Err(format!("arrows: there is nothing in {}", room.place));
        }
        files.sort();
        for path in files {
            let file = path.strip_prefix(root).unwrap_or(&path);
            let is_test = file.components().any(|part| {
                let part = part.as_os_str();
                part == "tests" || part == "tests.rs"
            });
            if is_test || room.but.iter().any(|but| file.starts_with(but)) {
                continue;
            }
            count += 1;
            let text = std::fs::read_to_string(&path).map_err(during(&path.display().to_string()))?;
            for (line, name) in names(&text) {
                if PROTOCOL_NAMES.contains(&name) {
                    found.push(Found {
                        file: file.to_string_lossy().into_owned(),
                        line,
                        name: name.to_owned(),
                        why: room.why,
                    });
                }
            }
        }
    }
    Ok((found, count))
}

fn sources(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = std::fs::read_dir(folder).map_err(during(&folder.display().to_string()))?;
    for entry in entries {
        let path = entry.map_err(during("a folder of sources"))?.path();
        if path.is_dir() {
            sources(&path, files)?;
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// What is found and not listed, and what is listed and not found.
fn held_against(found: &[Found], still: &[(&str, &str, &str)]) -> Vec<String> {
    let listed = |f: &Found| {
        still
            .iter()
            .any(|(file, name, _)| *file == f.file && *name == f.name)
    };
    let mut wrong: Vec<String> = found
        .iter()
        .filter(|f| !listed(f))
        .map(|f| format!("{}:{} names `{}`: {}", f.file, f.line, f.name, f.why))
        .collect();
    for (file, name, _) in still {
        if !found.iter().any(|f| f.file == *file && f.name == *name) {
            wrong.push(format!(
                "{file} does not name `{name}` any more: take it off the list"
            ));
        }
    }
    wrong
}

/// The names of a source, with their lines; comments, literals and what stands behind `#[cfg(test)]` left out. Tests of a file
/// stand at its end.
fn names(source: &str) -> Vec<(usize, &str)> {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let mut names = Vec::new();
    let (mut line, mut at) = (1, 0);
    let bytes = source.as_bytes();
    let rest = |at: usize| source.get(at..).unwrap_or_default();
    while let Some(byte) = bytes.get(at) {
        let here = rest(at);
        let used = if here.starts_with("//") {
            here.find('\n').unwrap_or(here.len())
        } else if here.starts_with("/*") {
            block_comment(here)
        } else if let Some(used) = literal(here) {
            used
        } else if byte.is_ascii_alphabetic() || *byte == b'_' {
            let end = here
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .unwrap_or(here.len());
            names.push((line, here.get(..end).unwrap_or_default()));
            end
        } else {
            here.chars().next().map_or(1, char::len_utf8)
        };
        line += here.get(..used).unwrap_or_default().matches('\n').count();
        at += used.max(1);
    }
    names
}

/// Bytes of a comment that can hold others.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// Bytes of a string, a raw string, or a character; `None`: none begins here.
fn literal(text: &str) -> Option<usize> {
    let plain = text.strip_prefix('b').unwrap_or(text);
    let prefix = text.len() - plain.len();
    if let Some(raw) = plain.strip_prefix('r') {
        let inner = raw.trim_start_matches('#');
        let hashes = raw.len() - inner.len();
        if let Some(body) = inner.strip_prefix('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let length = body.find(&end).map_or(body.len(), |found| found + end.len());
            return Some(prefix + 1 + hashes + 1 + length);
        }
        return None;
    }
    if let Some(body) = plain.strip_prefix('"') {
        return Some(prefix + 1 + quoted(body, '"'));
    }
    let body = plain.strip_prefix('\'')?;
    // A lifetime has no quote behind it.
    let mut chars = body.chars();
    let is_char = match chars.next()? {
        '\\' => true,
        _ => chars.next() == Some('\''),
    };
    is_char.then(|| prefix + 1 + quoted(body, '\''))
}

/// Bytes up to and with the closing quote.
fn quoted(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + c.len_utf8();
        }
    }
    body.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn package(name: &str, folder: &str, needs: &[(&str, &str)]) -> serde_json::Value {
        let needs: Vec<_> = needs
            .iter()
            .map(|(name, kind)| json!({ "name": name, "kind": if kind.is_empty() { json!(null) } else { json!(kind) } }))
            .collect();
        json!({ "name": name, "manifest_path": format!("/w/{folder}/Cargo.toml"), "dependencies": needs })
    }

    fn packages(list: Vec<serde_json::Value>) -> Packages {
        Packages::read(&json!({ "packages": list }), Path::new("/w")).expect("whole")
    }

    const LINK: &[Crate] = &[Crate {
        name: "headgate-link",
        never: Never::Packages(LANGUAGES),
        why: "no",
    }];

    #[test]
    fn a_crate_that_reaches_a_protocol_is_found_however_long_the_way() {
        let short = packages(vec![
            package("headgate-link", "dataplane/link", &[("headgate-postgres", "")]),
            package("headgate-postgres", "protocols/postgres", &[]),
        ]);
        assert_eq!(crates(&short, LINK), ["headgate-link → headgate-postgres: no"]);
        let long = packages(vec![
            package(
                "headgate-link",
                "dataplane/link",
                &[("headgate-plane", ""), ("serde", "")],
            ),
            package("headgate-plane", "protocols/plane", &[("headgate-sql", "build")]),
            package("headgate-sql", "protocols/sql", &[]),
        ]);
        assert_eq!(
            crates(&long, LINK),
            ["headgate-link → headgate-plane → headgate-sql: no"]
        );
        let only_tests = packages(vec![
            package("headgate-link", "dataplane/link", &[("headgate-sql", "dev")]),
            package("headgate-sql", "protocols/sql", &[]),
        ]);
        assert_eq!(crates(&only_tests, LINK), Vec::<String>::new());
    }

    #[test]
    fn a_plane_that_looks_at_the_other_is_found() {
        let both = packages(vec![
            package("headgate-api", "controlplane/api", &[("headgate-gate", "")]),
            package("headgate-gate", "dataplane/gate", &[]),
            package("headgate-plane", "protocols/plane", &[]),
        ]);
        let wrong = crates(&both, &CRATES[..3]);
        assert_eq!(
            wrong,
            ["headgate-api → headgate-gate: the planes look down at protocols and never at each other"]
        );
    }

    #[test]
    fn a_crate_that_is_not_there_is_no_clean_crate() {
        assert_eq!(
            crates(&packages(vec![]), LINK),
            ["there is no package headgate-link"]
        );
    }

    #[test]
    fn names_are_seen_in_code_and_nowhere_else() {
        let source = r##"
//! Knows sql.
use crate::postgres::Session; /* and /* sql */ mysql */
fn f<'sql>(c: char) -> &'static str { let _ = ('"', '\'', b'x'); "sql \" sql"; r#"sql " sql"#; self.sql() }
#[cfg(test)]
mod tests { use crate::mysql; }
"##;
        let found: Vec<(usize, &str)> = names(source)
            .into_iter()
            .filter(|(_, name)| PROTOCOL_NAMES.contains(name))
            .collect();
        // The lifetime is a name, too: better one too many than one too few.
        assert_eq!(found, [(3, "postgres"), (4, "sql"), (4, "sql")]);
    }

    #[test]
    fn a_file_that_names_a_protocol_is_found_in_its_room() {
        let folder = tempfile::tempdir().expect("a folder");
        let room = folder.path().join("room");
        std::fs::create_dir_all(room.join("family")).expect("a folder");
        std::fs::write(room.join("judge.rs"), "\nuse headgate_sql::Facts;\n").expect("written");
        std::fs::write(room.join("clean.rs"), "fn judge() {} // headgate_sql\n").expect("written");
        std::fs::write(room.join("family/sql.rs"), "use headgate_sql::Facts;\n").expect("written");
        let table = [Room {
            place: "room",
            but: &["room/family"],
            why: "no",
        }];
        let (found, files) = rooms(folder.path(), &table).expect("readable");
        assert_eq!(files, 2);
        assert_eq!(
            held_against(&found, &[]),
            ["room/judge.rs:2 names `headgate_sql`: no"]
        );
        let listed = [("room/judge.rs", "headgate_sql", "to go")];
        assert_eq!(held_against(&found, &listed), Vec::<String>::new());
        assert_eq!(
            held_against(&[], &listed).len(),
            1,
            "what is gone must leave the list"
        );
    }

    #[test]
    fn the_sources_have_no_forbidden_arrow() {
        if let Err(wrong) = check() {
            panic!("{wrong}");
        }
    }
}
