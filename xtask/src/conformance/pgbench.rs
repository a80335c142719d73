//! pgbench in its three query modes: zero errors wanted. Not a measurement.

use super::outcome::{Outcome, Outcomes};
use super::world::World;
use crate::Result;
use headgate_e2e::Ran;
use headgate_e2e::run as run_program;
use std::process::Command;
use std::time::Duration;

pub const NAME: &str = "pgbench";

fn pgbench(world: &World, args: &[&str]) -> Result<Ran> {
    let mut command = Command::new(world.postgres.bin.join("pgbench"));
    world.with_tls(command.args(args), "conformance");
    run_program(&mut command, "", Duration::from_secs(180))
}

pub fn run(world: &World) -> Result<Outcomes> {
    let mut outcomes = Outcomes::new();
    let mut note = |name: &str, ran: Ran, good: &dyn Fn(&str) -> bool| {
        let said = format!("{}{}", ran.stdout, ran.stderr);
        let tps = said
            .lines()
            .find(|line| line.starts_with("tps"))
            .unwrap_or_default();
        println!(
            "   {} {name}: {}",
            world.way.name(),
            if tps.is_empty() { "done" } else { tps }
        );
        let outcome = if ran.ok() && good(&said) {
            Outcome::Passed
        } else {
            Outcome::Failed(ran.all().replace('\n', " | "))
        };
        outcomes.insert(name.to_owned(), outcome);
    };
    note("initialize", pgbench(world, &["-i", "-q", "-s", "2"])?, &|_| true);
    for mode in ["simple", "extended", "prepared"] {
        let ran = pgbench(world, &["-c", "16", "-j", "2", "-T", "10", "-M", mode])?;
        // A client that was aborted makes pgbench exit with 2; statements that failed are counted.
        note(mode, ran, &|said| {
            said.contains("number of failed transactions: 0 (0.000%)") && !said.contains("error")
        });
    }
    Ok(outcomes)
}
