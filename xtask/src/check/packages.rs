//! What others' packages bring: licences, origins, bans and advisories, all by deny.toml, so that cargo-deny says the same
//! where somebody has it. Advisories want a database of elsewhere; the rest holds without a network.

use crate::Result;
use crate::build::cargo;
use headgate_e2e::{during, place, run};
use rustsec::advisory::{Id, Informational};
use rustsec::{Database, Lockfile, report};
use serde_json::Value;
use spdx::{Expression, Licensee, ParseMode};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const DATABASE: &str = "https://github.com/RustSec/advisory-db";
const DATABASE_PATIENCE: Duration = Duration::from_secs(60);

/// Licences, origins and bans of everything that any target of the workspace is built of, tests and tools with it.
pub fn check() -> Result<String> {
    let deny = deny()?;
    let allowed = allowed(&deny)?;
    let banned: Vec<&str> = list(&deny, "bans", "deny")
        .filter_map(|ban| ban.get("crate")?.as_str())
        .collect();
    let answer = cargo(&["metadata", "--format-version", "1", "--locked"])
        .output()
        .map_err(during("cargo metadata"))?;
    if !answer.status.success() {
        return Err(String::from_utf8_lossy(&answer.stderr).into_owned());
    }
    let metadata: Value = serde_json::from_slice(&answer.stdout).map_err(during("cargo metadata"))?;
    let mut wrong = Vec::new();
    let mut looked_at = 0;
    for package in metadata["packages"].as_array().into_iter().flatten() {
        looked_at += 1;
        let name = package["name"].as_str().unwrap_or("?");
        let named = format!("{name} {}", package["version"].as_str().unwrap_or("?"));
        let licence = package["license"].as_str().ok_or_else(|| "no licence".to_owned());
        if let Err(why) = licence.and_then(|licence| fits(licence, &allowed)) {
            wrong.push(format!("{named}: {why}"));
        }
        // Of the workspace's own: others' wildcards are not ours to mend.
        let own = package["source"].is_null();
        for asked in package["dependencies"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|_| own)
        {
            if asked["req"] == "*" && asked["path"].is_null() {
                wrong.push(format!(
                    "{named}: any version of {} will do for it",
                    asked["name"]
                ));
            }
        }
    }
    // What features choose, which the metadata's graph does not tell exactly.
    for platform in list(&deny, "graph", "targets").filter_map(toml::Value::as_str) {
        let tree = [
            "tree",
            "--workspace",
            "--locked",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--target",
            platform,
        ];
        let answer = cargo(&tree).output().map_err(during("cargo tree"))?;
        if !answer.status.success() {
            return Err(String::from_utf8_lossy(&answer.stderr).into_owned());
        }
        let packages = String::from_utf8_lossy(&answer.stdout).into_owned();
        let linked: BTreeSet<&str> = packages
            .lines()
            .filter_map(|line| line.split(' ').next())
            .collect();
        let found = banned.iter().filter(|ban| linked.contains(*ban));
        wrong.extend(found.map(|ban| format!("{ban} is banned by deny.toml, and is linked on {platform}")));
    }
    for package in &lockfile()?.packages {
        if package
            .source
            .as_ref()
            .is_some_and(|source| !source.is_default_registry())
        {
            wrong.push(format!(
                "{} {} is not of the registry",
                package.name, package.version
            ));
        }
    }
    if looked_at == 0 {
        return Err("cargo metadata names no package".to_owned());
    }
    if wrong.is_empty() {
        Ok(format!(
            "{looked_at} packages, their licences, origins and bans as deny.toml has them"
        ))
    } else {
        Err(wrong.join("\n"))
    }
}

/// Known holes in what Cargo.lock names. A database that cannot be had is said loudly and is no failure: a check that fails
/// with somebody else's host is one that people learn to pass over.
pub fn advisories(checkout: Option<&Path>) -> Result<String> {
    let path = match checkout {
        Some(path) => path.to_owned(),
        None => match cloned() {
            Ok(path) => path,
            Err(why) => return Ok(format!("NOT LOOKED AT, for want of the database: {}", why.trim())),
        },
    };
    let deny = deny()?;
    let ignored: Vec<Id> = list(&deny, "advisories", "ignore")
        .filter_map(|one| one.get("id")?.as_str()?.parse().ok())
        .collect();
    let database = Database::open(&path).map_err(during(path.display()))?;
    let settings = report::Settings {
        ignore: ignored.clone(),
        informational_warnings: vec![
            Informational::Unsound,
            Informational::Notice,
            Informational::Unmaintained,
        ],
        ..report::Settings::default()
    };
    let report = report::Report::generate(&database, &lockfile()?, &settings);
    let mut wrong = Vec::new();
    let mut left = Vec::new();
    for hole in &report.vulnerabilities.list {
        let package = &hole.package;
        wrong.push(format!(
            "{} {}: {}, {}",
            package.name, package.version, hole.advisory.id, hole.advisory.title
        ));
    }
    for warning in report.warnings.values().flatten() {
        let of = warning
            .advisory
            .as_ref()
            .map(|advisory| format!("{}, {}", advisory.id, advisory.title));
        let (package, of) = (&warning.package, of.unwrap_or_default());
        let line = format!("{} {}: {of}", package.name, package.version);
        // A library that somebody has left is worth knowing, and no hole.
        if warning.is_unmaintained() {
            &mut left
        } else {
            &mut wrong
        }
        .push(line);
    }
    if wrong.is_empty() {
        let known = database.iter().count();
        let ignored = ignored.len();
        Ok(format!(
            "none of {known} holds for us ({ignored} ignored by deny.toml; left by its keeper: {})",
            left.join("; ")
        ))
    } else {
        Err(wrong.join("\n"))
    }
}

/// The newest database, in the target directory.
fn cloned() -> Result<PathBuf> {
    let path = place::repository().join("target/advisory-db");
    let mut git = Command::new("git");
    git.env("GIT_TERMINAL_PROMPT", "0");
    if path.join("crates").is_dir() {
        git.arg("-C").arg(&path).args(["pull", "--quiet", "--ff-only"]);
    } else {
        git.args(["clone", "--quiet", "--depth", "1", DATABASE])
            .arg(&path);
    }
    run(&mut git, "", DATABASE_PATIENCE)?.good()?;
    Ok(path)
}

fn lockfile() -> Result<Lockfile> {
    Lockfile::load(place::repository().join("Cargo.lock")).map_err(during("Cargo.lock"))
}

fn deny() -> Result<toml::Table> {
    let text = std::fs::read_to_string(place::repository().join("deny.toml")).map_err(during("deny.toml"))?;
    text.parse().map_err(during("deny.toml"))
}

fn list<'a>(deny: &'a toml::Table, table: &str, name: &str) -> impl Iterator<Item = &'a toml::Value> {
    let list = deny
        .get(table)
        .and_then(|table| table.get(name))
        .and_then(toml::Value::as_array);
    list.into_iter().flatten()
}

fn allowed(deny: &toml::Table) -> Result<Vec<Licensee>> {
    let list: Vec<Licensee> = list(deny, "licenses", "allow")
        .filter_map(toml::Value::as_str)
        .map(|text| Licensee::parse(text).map_err(during(text)))
        .collect::<Result<_>>()?;
    if list.is_empty() {
        Err("deny.toml: [licenses] allow is empty".to_owned())
    } else {
        Ok(list)
    }
}

fn fits(licence: &str, allowed: &[Licensee]) -> Result<()> {
    let expression = Expression::parse_mode(licence, ParseMode::LAX)
        .map_err(|e| format!("`{licence}` cannot be read: {}", e.reason))?;
    if expression.evaluate(|requirement| allowed.iter().any(|a| a.satisfies(requirement))) {
        Ok(())
    } else {
        Err(format!("`{licence}` is not allowed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copyleft_licence_is_found_also_when_hidden_in_an_expression() {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "MPL-2.0"]
            .map(|text| Licensee::parse(text).unwrap());
        for fine in [
            "MIT",
            "MPL-2.0+",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "Apache-2.0 WITH LLVM-exception AND MIT",
        ] {
            fits(fine, &allowed).unwrap_or_else(|why| panic!("{fine}: {why}"));
        }
        for wrong in [
            "GPL-2.0",
            "MIT AND GPL-3.0-or-later",
            "AGPL-3.0",
            "custom nonsense",
        ] {
            assert!(fits(wrong, &allowed).is_err(), "{wrong}");
        }
    }
}
