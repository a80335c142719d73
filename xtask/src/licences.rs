//! Licences of everything that is linked: cargo-deny where it is installed, else our own look with the same list.
//!
//! The list is `[licenses]` of deny.toml, so that both say the same.

use crate::Result;
use crate::build::cargo;
use headgate_e2e::{during, place};
use spdx::{Expression, Licensee, ParseMode};
use std::process::Command;

pub fn check() -> Result<String> {
    let advisories = advisories();
    let checked = if has_cargo_deny() {
        by_cargo_deny(&["check", "licenses"])?
    } else {
        by_ourselves()?
    };
    Ok(format!("licences: {checked}\nadvisories: {advisories}"))
}

fn has_cargo_deny() -> bool {
    Command::new("cargo-deny")
        .arg("--version")
        .output()
        .is_ok_and(|out| out.status.success())
}

fn by_cargo_deny(args: &[&str]) -> Result<String> {
    let ran = Command::new("cargo-deny")
        .args(args)
        .current_dir(place::repository())
        .output()
        .map_err(during("cargo-deny"))?;
    if ran.status.success() {
        Ok("fine, says cargo-deny".to_owned())
    } else {
        Err(String::from_utf8_lossy(&ran.stderr).into_owned())
    }
}

/// Never silent: what was not looked at is said.
fn advisories() -> String {
    if !has_cargo_deny() {
        return "skipped: cargo-deny is not installed".to_owned();
    }
    match by_cargo_deny(&["check", "advisories"]) {
        Ok(fine) => fine,
        Err(why) if why.contains("failed to fetch") || why.contains("failed to load advisory database") => {
            "skipped: no database".to_owned()
        }
        Err(why) => format!("LOOK: {why}"),
    }
}

fn by_ourselves() -> Result<String> {
    let text = std::fs::read_to_string(place::repository().join("deny.toml")).map_err(during("deny.toml"))?;
    let allowed = allowed(&text)?;
    // What tests and tools need beside it is not linked into the product, but held to the same list.
    let answer = cargo(&["metadata", "--format-version", "1", "--locked"])
        .output()
        .map_err(during("cargo metadata"))?;
    if !answer.status.success() {
        return Err(String::from_utf8_lossy(&answer.stderr).into_owned());
    }
    let metadata: serde_json::Value =
        serde_json::from_slice(&answer.stdout).map_err(during("cargo metadata"))?;
    let mut wrong = Vec::new();
    let mut looked_at = 0;
    for package in metadata["packages"].as_array().into_iter().flatten() {
        looked_at += 1;
        let name = format!(
            "{} {}",
            package["name"].as_str().unwrap_or("?"),
            package["version"].as_str().unwrap_or("?")
        );
        if let Err(why) = package["license"]
            .as_str()
            .ok_or_else(|| "no licence".to_owned())
            .and_then(|l| fits(l, &allowed))
        {
            wrong.push(format!("{name}: {why}"));
        }
    }
    if looked_at == 0 {
        return Err("cargo metadata names no package".to_owned());
    }
    if wrong.is_empty() {
        Ok(format!(
            "{looked_at} packages are under licences that deny.toml allows"
        ))
    } else {
        Err(wrong.join("\n"))
    }
}

fn allowed(deny_toml: &str) -> Result<Vec<Licensee>> {
    let table: toml::Table = deny_toml.parse().map_err(during("deny.toml"))?;
    let list = table
        .get("licenses")
        .and_then(|l| l.get("allow"))
        .and_then(toml::Value::as_array);
    let list = list.into_iter().flatten().filter_map(toml::Value::as_str);
    let list: Vec<Licensee> = list
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
