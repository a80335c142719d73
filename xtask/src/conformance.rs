//! `cargo xtask conformance`: real drivers and the suites of others, against one PostgreSQL directly and through Headgate.
//!
//! Invariants: both ways run the same programs against servers that were set up alike and are new for every run;
//! nothing that others wrote is committed, it is fetched into `.conformance`; a difference that `conformance/differences.toml`
//! does not explain is a failure.

mod drivers;
mod fetch;
mod outcome;
mod pgbench;
mod regress;
mod report;
mod suites;
mod world;

use crate::Result;
use crate::build::{PROGRAMS, cargo_run};
use crate::install;
use outcome::{Compared, Outcomes};
use report::Section;
use world::{Way, World};

#[derive(clap::Args)]
pub struct Args {
    /// Only these parts: psql, psycopg, asyncpg, tokio-postgres, node-postgres, pgjdbc, pgx, pgbench, pg_regress,
    /// tokio-postgres-suite, psycopg2-suite, asyncpg-suite. Without any, all of them, and `conformance/RESULTS.md` is written.
    parts: Vec<String>,
    /// Only directly, without Headgate: are the suites themselves well?
    #[arg(long)]
    direct: bool,
    /// Only through Headgate. Nothing is compared.
    #[arg(long, conflicts_with = "direct")]
    through: bool,
    /// Use the programs that are built.
    #[arg(long)]
    no_build: bool,
}

pub fn run(args: &Args) -> Result<()> {
    install::for_conformance()?;
    if !args.no_build {
        cargo_run(PROGRAMS)?;
    }
    for part in &args.parts {
        if !drivers::DRIVERS.iter().any(|d| d.name == part) && !suites::SUITES.iter().any(|s| s.name == part) && part != pgbench::NAME {
            return Err(format!("there is no part `{part}`"));
        }
    }
    let wanted = |name: &str| args.parts.is_empty() || args.parts.iter().any(|part| part == name);
    let ways: &[Way] = match (args.direct, args.through) {
        (true, _) => &[Way::Direct],
        (_, true) => &[Way::Headgate],
        _ => &[Way::Direct, Way::Headgate],
    };
    let mut sections: Vec<Section> = Vec::new();
    let mut push = |name: &str, version: String, outcomes: Vec<Outcomes>| {
        let mut both = outcomes.into_iter();
        let compared = Compared::new(both.next().unwrap_or_default(), both.next());
        let section = Section { name: name.to_owned(), version, compared };
        println!("{section}");
        sections.push(section);
    };

    if drivers::DRIVERS.iter().any(|d| wanted(d.name)) || wanted(pgbench::NAME) {
        let worlds = ways.iter().map(|way| World::start(*way, &["conformance"], &[])).collect::<Result<Vec<_>>>()?;
        for driver in drivers::DRIVERS.iter().filter(|d| wanted(d.name)) {
            println!("== {}", driver.name);
            let version = (driver.prepare)()?;
            let mut outcomes = Vec::new();
            for world in &worlds {
                outcomes.push(driver.run(world)?);
            }
            push(driver.name, version, outcomes);
        }
        if wanted(pgbench::NAME) {
            println!("== {}", pgbench::NAME);
            let outcomes = worlds.iter().map(pgbench::run).collect::<Result<Vec<_>>>()?;
            push(pgbench::NAME, fetch::server_version()?, outcomes);
        }
    }
    for suite in suites::SUITES.iter().filter(|s| wanted(s.name)) {
        println!("== {}", suite.name);
        let version = (suite.prepare)()?;
        let mut outcomes = Vec::new();
        for way in ways {
            outcomes.push(suite.run_with_retry(*way)?);
        }
        push(suite.name, version, outcomes);
    }
    let known = outcome::Known::read()?;
    if args.parts.is_empty() && ways.len() == 2 {
        report::write(&sections, &known)?;
    }
    report::judge(&sections, &known)
}
