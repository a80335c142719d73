//! Suites of node-postgres: of its pool and its cursor, in the last versions whose npm packages carry their tests; beneath them is
//! the `pg` of today. No version of `pg` itself carries its tests.

use super::bounded;
use super::drivers::with_node;
use super::fetch::{cache, good, npm_package, own};
use super::outcome::{Outcomes, read_lines};
use super::suites::{SuiteRequest, ended};
use super::world::World;
use crate::Result;
use headgate_e2e::during;
use std::process::Command;

const PACKAGES: [(&str, &str); 2] = [("pg-pool", "3.7.1"), ("pg-cursor", "2.12.3")];

pub fn prepare() -> Result<String> {
    let folder = cache("node-postgres-suite")?;
    for name in ["package.json", "package-lock.json"] {
        std::fs::copy(own("suites/node").join(name), folder.join(name)).map_err(during(name))?;
    }
    let mut npm = Command::new("npm");
    npm.args(["ci", "--silent", "--no-audit", "--no-fund"])
        .current_dir(&folder);
    good(&mut with_node(npm)?)?;
    for (package, version) in PACKAGES {
        npm_package(with_node(Command::new("npm"))?, package, version, &folder)?;
    }
    Ok(PACKAGES
        .map(|(package, version)| format!("{package} {version}"))
        .join(", "))
}

pub fn run(world: &World, asked: &SuiteRequest) -> Result<Outcomes> {
    let folder = cache("node-postgres-suite")?;
    let mut outcomes = Outcomes::new();
    for (package, _) in PACKAGES {
        let prefix = format!("{package} ");
        if !asked.only.is_empty() && !asked.only.iter().any(|name| name.starts_with(&prefix)) {
            continue;
        }
        let mut node = Command::new("node");
        // The tests end at any warning, and the `pg` of today warns of what they do.
        node.arg("--no-deprecation")
            .arg(folder.join("node_modules/mocha/bin/mocha.js"))
            .args(["--exit", "--reporter"]);
        node.arg(own("suites/node/mocha_lines.cjs"))
            .current_dir(folder.join(package))
            .env("SUITE_NAME", package);
        world.without_tls(&mut node, "postgres");
        let ran = bounded::run(
            &mut with_node(node)?,
            &format!("{}-{package}", asked.log),
            asked.patience,
        )?;
        outcomes.extend(ended(read_lines(&ran.stdout), &ran));
    }
    Ok(outcomes)
}
