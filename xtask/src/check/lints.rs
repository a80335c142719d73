//! Clippy over everything, where a warning is an error; crates that read a peer's bytes, and what they have promised;
//! and dependencies that no target of their package uses.
//!
//! One run of clippy tells both: rustc itself reports, for each target, every crate that it was handed and that the code
//! does not name. A package needs a dependency when one of the targets that see it names it.

use crate::Result;
use crate::build::cargo;
use headgate_e2e::{during, place};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Stdio;

/// What clippy's driver is told. `--force-warn`, because a warning that is denied would end the crate and hide the rest.
pub const ARGUMENTS: &[&str] = &["--force-warn=unused_crate_dependencies"];
const UNUSED: &str = "unused_crate_dependencies";

/// Reads what a peer wrote: a client, a target, another process, a file that somebody may have changed. None of it reaches an
/// index, an `unwrap` or a cast that loses bits, outside of tests.
const READS_PEERS: &[&str] = &[
    "dataplane/analyst",
    "dataplane/gate",
    "dataplane/link",
    "dataplane/mask",
    "dataplane/shard",
    "dataplane/spool",
    "protocols/config",
    "protocols/plane",
    "protocols/postgres",
    "protocols/recording",
    "protocols/sql",
    "protocols/sqlparse",
    "protocols/wire",
];
const PROMISE: &str = "#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used))]\n\
    #![cfg_attr(not(test), deny(clippy::panic, clippy::cast_possible_truncation))]\n";

/// Every public item has its sentence.
const DOCUMENTED: &[&str] = &[
    "dataplane/mask",
    "dataplane/ring",
    "dataplane/spool",
    "protocols/config",
    "protocols/postgres",
    "protocols/recording",
    "protocols/sql",
    "protocols/sqlparse",
    "protocols/wire",
];
const DOCUMENTS: &str = "#![deny(missing_docs)]\n";

/// Named in no line of code, and needed all the same.
const NEEDED: &[(&str, &str, &str)] = &[
    // package, dependency, reason
];

pub fn check() -> Result<String> {
    let promises = promises()?;
    let told = clippy()?;
    let dependencies = dependencies()?;
    let unused = unused(&told, &dependencies);
    let mut wrong = told.warnings;
    wrong.extend(unused);
    wrong.extend(unasked(&dependencies)?);
    if !told.finished && wrong.is_empty() {
        wrong.push("cargo clippy failed, and says no more than stands above".to_owned());
    }
    if wrong.is_empty() {
        Ok(format!(
            "clippy has nothing to say of {} targets; {promises}",
            told.units.len()
        ))
    } else {
        Err(wrong.join("\n"))
    }
}

/// The promises stand in the crates, so that every build of theirs keeps them; here it is seen that they stand there.
fn promises() -> Result<String> {
    let mut wrong = String::new();
    for (crates, attribute) in [(READS_PEERS, PROMISE), (DOCUMENTED, DOCUMENTS)] {
        for folder in crates {
            let path = place::repository().join(folder).join("src/lib.rs");
            let text = std::fs::read_to_string(&path).map_err(during(path.display()))?;
            if !dense(&text).contains(&dense(attribute)) {
                wrong.push_str(&format!("{folder}/src/lib.rs lacks\n{attribute}"));
            }
        }
    }
    if wrong.is_empty() {
        Ok(format!(
            "{} crates read peers' bytes without an index",
            READS_PEERS.len()
        ))
    } else {
        Err(wrong)
    }
}

/// Without what rustfmt may put in.
fn dense(text: &str) -> String {
    let text: String = text.split_whitespace().collect();
    text.replace(",)", ")")
}

/// One compilation: a target, as itself or as a test.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    package: String,
    kind: String,
    name: String,
}

#[derive(Default)]
struct Told {
    /// As a person reads them.
    warnings: Vec<String>,
    /// How often each target was compiled as itself, and how often as a test.
    units: BTreeMap<Target, [u32; 2]>,
    /// How many compilations of a target did not name a crate that they were handed.
    unnamed: BTreeMap<(Target, String), u32>,
    finished: bool,
}

fn clippy() -> Result<Told> {
    let mut arguments = vec![
        "clippy",
        "--workspace",
        "--all-targets",
        "--keep-going",
        "--quiet",
        "--message-format=json",
        "--",
    ];
    arguments.extend(ARGUMENTS);
    let out = cargo(&arguments)
        .stderr(Stdio::inherit())
        .output()
        .map_err(during("cargo clippy"))?;
    let mut told = Told {
        finished: out.status.success(),
        ..Told::default()
    };
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let line: Value = serde_json::from_str(line).map_err(during("cargo clippy"))?;
        told.take(&line);
    }
    if told.units.is_empty() {
        return Err("cargo clippy compiled nothing (is it there? rustup component add clippy)".to_owned());
    }
    Ok(told)
}

impl Told {
    fn take(&mut self, line: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        // Packages of others are artifacts, too.
        let id = text(&line["package_id"]);
        if !id.starts_with("path+") {
            return;
        }
        let target = Target {
            package: id,
            kind: text(&line["target"]["kind"][0]),
            name: text(&line["target"]["name"]),
        };
        match line["reason"].as_str() {
            Some("compiler-artifact") if target.kind != "custom-build" => {
                let test = line["profile"]["test"].as_bool().unwrap_or_default();
                self.units.entry(target).or_default()[usize::from(test)] += 1;
            }
            Some("compiler-message") => {
                let message = &line["message"];
                let code = message["code"]["code"].as_str();
                if code == Some(UNUSED) {
                    // extern crate `name` is unused in crate `other`
                    let said = text(&message["message"]);
                    if let Some(name) = said.split('`').nth(1) {
                        *self.unnamed.entry((target, name.to_owned())).or_default() += 1;
                    }
                } else if code.is_some() || message["spans"].as_array().is_some_and(|spans| !spans.is_empty())
                {
                    // A target is compiled as itself and as a test, and says most things twice.
                    let rendered = text(&message["rendered"]);
                    if !self.warnings.contains(&rendered) {
                        self.warnings.push(rendered);
                    }
                }
            }
            _ => (),
        }
    }
}

struct Dependency {
    package: String,
    name: String,
    development: bool,
}

/// What the manifests of the workspace ask for.
fn dependencies() -> Result<BTreeMap<String, Vec<Dependency>>> {
    let out = cargo(&["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .output()
        .map_err(during("cargo metadata"))?;
    let metadata: Value = serde_json::from_slice(&out.stdout).map_err(during("cargo metadata"))?;
    let mut all = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let package_name = package["name"].as_str().unwrap_or_default();
        let asked = package["dependencies"].as_array().into_iter().flatten();
        let asked = asked.filter(|one| one["kind"] != "build").map(|one| Dependency {
            package: package_name.to_owned(),
            name: one["rename"]
                .as_str()
                .or(one["name"].as_str())
                .unwrap_or_default()
                .to_owned(),
            development: one["kind"] == "dev",
        });
        all.insert(
            package["id"].as_str().unwrap_or_default().to_owned(),
            asked.collect(),
        );
    }
    Ok(all)
}

fn unused(told: &Told, asked: &BTreeMap<String, Vec<Dependency>>) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut unneeded: BTreeSet<_> = NEEDED
        .iter()
        .map(|(package, name, _)| (*package, *name))
        .collect();
    for (id, dependencies) in asked {
        for dependency in dependencies {
            let crate_name = dependency.name.replace('-', "_");
            let named =
                told.units
                    .iter()
                    .filter(|(target, _)| target.package == *id)
                    .any(|(target, [own, test])| {
                        let unnamed = told
                            .unnamed
                            .get(&(target.clone(), crate_name.clone()))
                            .copied()
                            .unwrap_or(0);
                        match target.kind.as_str() {
                            "lib" | "bin" | "proc-macro" if dependency.development => unnamed < *test,
                            // What the code itself names, its tests do: one that misses it is the code itself.
                            "lib" | "bin" | "proc-macro" => *own > 0 && unnamed == 0,
                            _ => dependency.development && unnamed < own + test,
                        }
                    });
            if !named && !unneeded.remove(&(dependency.package.as_str(), dependency.name.as_str())) {
                let kind = if dependency.development {
                    "dev-dependency"
                } else {
                    "dependency"
                };
                wrong.push(format!(
                    "{}: no target names its {kind} {}",
                    dependency.package, dependency.name
                ));
            }
        }
    }
    wrong.extend(
        unneeded
            .iter()
            .map(|(package, name)| format!("{package}: {name} stands in NEEDED for nothing")),
    );
    wrong
}

/// What the workspace's manifest has for its packages, and none of them asks for.
fn unasked(asked: &BTreeMap<String, Vec<Dependency>>) -> Result<Vec<String>> {
    let text =
        std::fs::read_to_string(place::repository().join("Cargo.toml")).map_err(during("Cargo.toml"))?;
    let manifest: toml::Table = text.parse().map_err(during("Cargo.toml"))?;
    let has = manifest["workspace"]["dependencies"]
        .as_table()
        .ok_or("Cargo.toml has no dependencies")?;
    let idle = has
        .keys()
        .filter(|name| !asked.values().flatten().any(|one| one.name == **name));
    Ok(idle
        .map(|name| format!("Cargo.toml: no package of the workspace asks for {name}"))
        .collect())
}

/// The program that `cargo clippy` puts in rustc's place. It stands beside cargo.
pub fn driver() -> Option<PathBuf> {
    let cargo = PathBuf::from(std::env::var_os("CARGO")?);
    let driver = cargo.parent()?.join("clippy-driver");
    driver.is_file().then_some(driver)
}
