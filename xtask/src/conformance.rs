//! `cargo xtask conformance`: real drivers and the suites of others, against one PostgreSQL directly and three ways through Headgate.
//!
//! Invariants: all ways run the same programs against servers that were set up alike and are new for every run;
//! nothing that others wrote is committed, it is fetched into `.conformance`; a loss that `conformance/differences.toml` does not list
//! is a failure; whatever hangs is killed and counts as failed.

mod bounded;
mod drivers;
mod fetch;
mod golang;
mod java;
mod kept;
mod node;
mod outcome;
mod pgbench;
mod regress;
mod report;
mod suites;
mod world;

use crate::Result;
use crate::build::{PROGRAMS, cargo_run};
use crate::install;
use kept::Kept;
use outcome::{Compared, Known, Outcome, Outcomes};
use report::Section;
use world::{Wanted, Way, World};

#[derive(clap::Args)]
pub struct Args {
    /// Only these parts: psql, psycopg, asyncpg, tokio-postgres, node-postgres, pgjdbc, pgx, pgbench, pg_regress,
    /// tokio-postgres-suite, psycopg2-suite, asyncpg-suite, pgx-suite, pq-suite, pgjdbc-suite, node-postgres-suite.
    parts: Vec<String>,
    /// Only this way, beside the direct one; may be repeated: danger, ordinary, masked. With all parts and all ways
    /// `conformance/RESULTS.md` is written.
    #[arg(long = "way", value_parser = through)]
    ways: Vec<Way>,
    /// Only directly, without Headgate: are the suites themselves well?
    #[arg(long, conflicts_with = "ways")]
    direct: bool,
    /// Fail also when `conformance/differences.toml` lists what is not lost any more.
    #[arg(long)]
    strict: bool,
    /// Take what parts came to before, with the same programs, the same suite and the same server, and run only the rest.
    #[arg(long)]
    resume: bool,
    /// Use the programs that are built.
    #[arg(long)]
    no_build: bool,
}

fn through(name: &str) -> Result<Way> {
    Way::through(name).ok_or_else(|| format!("one of {}", Way::THROUGH.map(Way::name).join(", ")))
}

/// The database of the drivers and of pgbench.
const CONFORMANCE: Wanted = Wanted {
    databases: &["conformance"],
    later: &[],
    user: "postgres",
    any_user: false,
};

pub fn run(args: &Args) -> Result<()> {
    install::for_conformance()?;
    if !args.no_build {
        cargo_run(PROGRAMS)?;
    }
    for part in &args.parts {
        if !drivers::DRIVERS.iter().any(|d| d.name == part)
            && !suites::SUITES.iter().any(|s| s.name == part)
            && part != pgbench::NAME
        {
            return Err(format!("there is no part `{part}`"));
        }
    }
    let wanted = |name: &str| args.parts.is_empty() || args.parts.iter().any(|part| part == name);
    let ways: Vec<Way> = Way::ALL
        .into_iter()
        .filter(|way| {
            *way == Way::Direct || (!args.direct && (args.ways.is_empty() || args.ways.contains(way)))
        })
        .collect();
    let known = Known::read()?;
    let kept = Kept::new(args.resume)?;
    let mut sections = small(&ways, &known, &kept, &wanted)?;
    for suite in suites::SUITES.iter().filter(|s| wanted(s.name)) {
        println!("== {}", suite.name);
        let version = (suite.prepare)()?;
        let mut compared = Compared { runs: Vec::new() };
        for way in &ways {
            let outcomes = match kept.take(suite.name, &version, *way)? {
                Some(outcomes) => outcomes,
                None => suite.run_with_retry(*way, &|test| {
                    worth_retrying(&known, suite.name, *way, &compared, test)
                })?,
            };
            kept.put(suite.name, &version, *way, &outcomes)?;
            compared.runs.push((*way, outcomes));
        }
        sections.push(shown(suite.name, version, compared, &known));
    }
    if args.parts.is_empty() && ways.len() == Way::ALL.len() {
        report::write(&sections, &known)?;
    }
    report::judge(&sections, &known, args.strict)
}

/// Our own programs for drivers, and pgbench: one world for all of them, a way at a time.
fn small(ways: &[Way], known: &Known, kept: &Kept, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<Section>> {
    let mut parts: Vec<(&str, String, Compared)> = Vec::new();
    let drivers: Vec<&drivers::Driver> = drivers::DRIVERS.iter().filter(|d| wanted(d.name)).collect();
    for driver in &drivers {
        parts.push((driver.name, (driver.prepare)()?, Compared { runs: Vec::new() }));
    }
    if wanted(pgbench::NAME) {
        parts.push((
            pgbench::NAME,
            fetch::server_version()?,
            Compared { runs: Vec::new() },
        ));
    }
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    for way in ways {
        let before = parts
            .iter()
            .map(|(name, version, _)| kept.take(name, version, *way))
            .collect::<Result<Vec<_>>>()?;
        let world = if before.iter().all(Option::is_some) {
            None
        } else {
            Some(World::start(*way, &CONFORMANCE)?)
        };
        for ((name, version, compared), before) in parts.iter_mut().zip(before) {
            let outcomes: Outcomes = match (before, &world, drivers.iter().find(|d| d.name == *name)) {
                (Some(outcomes), _, _) => outcomes,
                (None, Some(world), Some(driver)) => {
                    driver.run(world, &|test| worth_retrying(known, name, *way, compared, test))?
                }
                (None, Some(world), None) => pgbench::run(world)?,
                (None, None, _) => return Err("no world was started".to_owned()),
            };
            println!("== {name}, {}: {} pass", way.name(), outcome::passed(&outcomes));
            kept.put(name, version, *way, &outcomes)?;
            compared.runs.push((*way, outcomes));
        }
        if let Some(world) = world {
            world.keep_log(&format!("drivers-{}", way.name()))?;
        }
    }
    Ok(parts
        .into_iter()
        .map(|(name, version, compared)| shown(name, version, compared, known))
        .collect())
}

/// Not what fails directly, too, or is known to be lost.
fn worth_retrying(known: &Known, part: &str, way: Way, before: &Compared, test: &str) -> bool {
    let fails_directly = before
        .of(Way::Direct)
        .is_some_and(|direct| matches!(direct.get(test), Some(Outcome::Failed(_))));
    way == Way::Direct || (!fails_directly && known.entry(part, way, test).is_none())
}

fn shown(name: &str, version: String, compared: Compared, known: &Known) -> Section {
    let section = Section {
        name: name.to_owned(),
        version,
        compared,
    };
    println!("{section}");
    for loss in section.compared.losses() {
        let by = known
            .entry(name, loss.way, &loss.test)
            .map_or("not listed".to_owned(), |entry| format!("mends: {}", entry.mends));
        println!(
            "   {}, {by}: {}: it {}",
            loss.way.name(),
            loss.test,
            report::shortened(&loss.how)
        );
    }
    section
}
