//! One word, one meaning: the names of the public types of the workspace.
//!
//! Invariants: a word that means something else in this project's lexicon (or nothing) is in no name of a public type; a name
//! stands for one type in all crates of the product. What must be otherwise stands in a table, with the reason; a line of a
//! table that nothing needs any more is wrong, too.
//! Never here: what a word does inside a function.

use crate::Result;
use headgate_e2e::{during, place};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The word, and what is said instead.
const LEXICON: &[(&str, &str)] = &[
    ("user", "client or principal"),
    ("frontend", "client"),
    ("downstream", "client"),
    ("server", "target"),
    ("backend", "target"),
    ("upstream", "target"),
    ("connection", "session; a connection is a socket"),
    ("message", "statement; a message is a frame on the wire"),
    ("config", "snapshot, settings"),
    ("decision", "verdict"),
    ("result", "verdict"),
    ("token", "permit; a token is a credential"),
    ("ticket", "question"),
    ("filter", "mask plan"),
    ("log", "recording; the log is for operators of Headgate"),
    ("worker", "shard"),
    ("thread", "shard"),
];

/// Names that hold such a word and mean what the lexicon says of it, or what the manual of their field says.
const FIT: &[(&str, &str)] = &[
    ("Backend", "PostgreSQL's manual has it for what a server sends"),
    ("CaseResult", "what a case of `rules test` came to"),
    ("ClientTlsConfigs", "rustls's word for its own"),
    ("Config", "headgate.toml, which has no rules in it"),
    ("ConfigErrors", "of headgate.toml"),
    ("ConfigProblem", "in headgate.toml"),
    ("Connection", "a socket to a real server, in the model"),
    ("Frontend", "PostgreSQL's manual has it for what a client sends"),
    (
        "ListenerUser",
        "the setting `user`: whether psql's user= must be the principal",
    ),
    (
        "Message",
        "a frame on the wire; and what other threads leave in a shard's inbox",
    ),
    ("ReplyMessage", "a frame on the wire, in a replay"),
    ("Result", "the standard library's, with an error of one kind"),
    ("Server", "a simulated PostgreSQL, which its manual calls so"),
    ("SessionFilter", "what a query of the recording asks for"),
    ("StatementFilter", "what a query of the recording asks for"),
    ("TargetConfigs", "rustls's word for its own"),
    (
        "TargetHandshakeConfig",
        "what a handshake with a target is begun with",
    ),
    ("TokenCommand", "`headgate token`: a credential"),
    ("TokenInfo", "of a credential"),
    ("TokenRequest", "for a credential"),
    ("TokenState", "of a credential"),
    ("UserCommand", "`headgate user`: the people of users.toml"),
];

/// Names that two crates have, and why nobody can take one for the other.
const TWICE: &[(&str, &str)] = &[
    (
        "Asked",
        "what the judge is asked; and a question's number, once it is asked",
    ),
    ("Batch", "what is written at once, in either of the two stores"),
    (
        "Caller",
        "whoever calls: the API, or a statement whose reply is covered",
    ),
    (
        "Catalogs",
        "those of all targets: as a core knows them, and as they are read",
    ),
    ("Clock", "where time is asked for, in either plane"),
    ("Counters", "of the part that has them"),
    (
        "Effect",
        "of a rule; and what a session wants of the outside, sans-IO's word",
    ),
    ("Event", "of a session, recorded; and in the life of a question"),
    (
        "Followed",
        "settings that are followed; and what came of following a catalog",
    ),
    (
        "Formats",
        "of a Bind: where they lie in the message, and as they are kept",
    ),
    (
        "Identity",
        "who people are: the part that knows it; and as the API tells it",
    ),
    (
        "Kind",
        "statement or portal, in a message; and what a detector knows",
    ),
    ("LinkError", "of the link between the planes, at either end"),
    (
        "Lookup",
        "of a name: what came of it, and what is asked of the catalog",
    ),
    (
        "Message",
        "statements that are judged together; and what other threads leave in a shard's inbox",
    ),
    ("Metrics", "of the part that has them"),
    ("Names", "of a session's statements and portals; and of hosts"),
    (
        "OnHold",
        "what a held statement's client gets: as configured, and as a data plane is told",
    ),
    ("Part", "of what is judged; and of a chunk"),
    (
        "Problem",
        "one thing that is wrong with rules: as written, and as compiled",
    ),
    ("Protocol", "which one; and what one brings to a session"),
    ("Settings", "of the part that has them"),
    (
        "StandsFor",
        "what a text runs without saying it: where it lies, and as a reviewer is sent it",
    ),
    (
        "Store",
        "RocksDB with the recording; RocksDB with the control plane's state",
    ),
    (
        "Subject",
        "what is judged: the gate has its bytes, an approval its fields",
    ),
    (
        "Table",
        "of sessions, on a shard; and of the control plane's store",
    ),
    (
        "Target",
        "what a client wants to reach; in the simulation, how an address behaves when it is dialled",
    ),
    ("Verdict", "as the judge says it, and as it is recorded"),
];

/// Developers' programs have worlds of their own (a simulated server, a tiny protocol, a load, a bench); the product links none of them.
const TOOLS: &[&str] = &[
    "bench",
    "dataplane/line",
    "dataplane/model",
    "e2e",
    "fixtures",
    "loadtest",
    "xtask",
];

pub fn check() -> Result<String> {
    let types = public_types(&place::repository())?;
    let mut wrong = Vec::new();
    let mut idle: BTreeSet<&str> = FIT.iter().chain(TWICE).map(|(name, _)| *name).collect();
    for (name, crates) in &types {
        if let Some((word, instead)) = wrong_word(name) {
            idle.remove(name.as_str());
            if !FIT.iter().any(|(fit, _)| fit == name) {
                wrong.push(format!("{name} ({}): not `{word}` but {instead}", listed(crates)));
            }
        }
        let product: BTreeSet<_> = crates
            .iter()
            .filter(|one| !TOOLS.contains(&one.as_str()))
            .cloned()
            .collect();
        if product.len() > 1 {
            idle.remove(name.as_str());
            if !TWICE.iter().any(|(twice, _)| twice == name) {
                wrong.push(format!("{name} is a type in {}", listed(&product)));
            }
        }
    }
    wrong.extend(
        idle.iter()
            .map(|name| format!("{name} stands in a table of words.rs for nothing")),
    );
    match types.len() {
        0 => Err("no public type was found".to_owned()),
        n if wrong.is_empty() => Ok(format!("{n} names of public types, one meaning each")),
        _ => Err(wrong.join("\n")),
    }
}

fn listed(crates: &BTreeSet<String>) -> String {
    crates.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Name of a type → folders of the crates that have it.
fn public_types(repository: &Path) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut types: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for place in members(repository)? {
        let mut folders = vec![repository.join(&place).join("src")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).map_err(during(folder.display()))? {
                let path = entry.map_err(during(folder.display()))?.path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|ending| ending == "rs") {
                    let text = std::fs::read_to_string(&path).map_err(during(path.display()))?;
                    for name in text.lines().filter_map(public_type) {
                        types.entry(name.to_owned()).or_default().insert(place.clone());
                    }
                }
            }
        }
    }
    Ok(types)
}

/// The folders of the workspace's crates, from its manifest.
fn members(repository: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(repository.join("Cargo.toml")).map_err(during("Cargo.toml"))?;
    let manifest: toml::Table = text.parse().map_err(during("Cargo.toml"))?;
    let members = manifest["workspace"]["members"]
        .as_array()
        .ok_or("Cargo.toml has no members")?;
    let mut folders = Vec::new();
    for member in members.iter().filter_map(toml::Value::as_str) {
        match member.strip_suffix("/*") {
            None => folders.push(member.to_owned()),
            Some(folder) => {
                for entry in std::fs::read_dir(repository.join(folder)).map_err(during(folder))? {
                    let entry = entry.map_err(during(folder))?;
                    if entry.path().join("Cargo.toml").is_file() {
                        folders.push(format!("{folder}/{}", entry.file_name().to_string_lossy()));
                    }
                }
            }
        }
    }
    Ok(folders)
}

fn public_type(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("pub ")?;
    let rest = rest.strip_prefix("unsafe ").unwrap_or(rest);
    let kinds = ["struct ", "enum ", "union ", "trait ", "type "];
    let rest = kinds.iter().find_map(|kind| rest.strip_prefix(kind))?;
    let end = rest
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    Some(&rest[..end])
}

/// The first word of `OneNameLikeThis` that the lexicon says otherwise.
fn wrong_word(name: &str) -> Option<(&'static str, &'static str)> {
    let words = words(name);
    LEXICON.iter().copied().find(|(word, _)| {
        words
            .iter()
            .any(|one| one == word || one.strip_suffix('s') == Some(word))
    })
}

fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for c in name.chars() {
        match words.last_mut() {
            Some(word) if !c.is_uppercase() => word.push(c),
            _ => words.push(c.to_lowercase().collect()),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_known_by_its_line() {
        assert_eq!(public_type("pub struct Room<'s>(Vec<u8>);"), Some("Room"));
        assert_eq!(public_type("    pub unsafe trait Pod {"), Some("Pod"));
        assert_eq!(
            public_type("pub type Result<T> = std::result::Result<T, String>;"),
            Some("Result")
        );
        for other in [
            "struct Own;",
            "pub fn trait_of()",
            "pub(crate) enum Inner {",
            "/// pub struct Told;",
        ] {
            assert_eq!(public_type(other), None, "{other}");
        }
    }

    #[test]
    fn a_word_of_others_is_found_inside_a_name_and_in_the_plural() {
        assert_eq!(wrong_word("UserSession").map(|(word, _)| word), Some("user"));
        assert_eq!(
            wrong_word("PendingDecisions").map(|(word, _)| word),
            Some("decision")
        );
        assert_eq!(wrong_word("Username"), None);
        assert_eq!(wrong_word("Catalog"), None);
    }
}
