//! `scenario`: what a TOML file says.

use super::Beside;
use super::show::Show;
use crate::LoadFailed;
use crate::drive;
use crate::outcome::{Outcome, now};
use crate::plan::Endpoint;
use crate::scenario::{Here, read};
use std::io::IsTerminal;
use std::path::PathBuf;

const EXAMPLE: &str = include_str!("../../scenarios/synthetic.toml");

#[derive(clap::Args)]
pub(super) struct Scenario {
    /// The scenario, as TOML.
    #[arg(required_unless_present = "print_example")]
    file: Option<PathBuf>,
    /// Print a scenario to begin with.
    #[arg(long, exclusive = true)]
    print_example: bool,
    /// In place of the scenario's `connect`.
    #[arg(long)]
    connect: Option<Endpoint>,
    #[command(flatten)]
    show: Show,
    #[command(flatten)]
    beside: Beside,
}

impl Scenario {
    pub(super) fn run(&self) -> Result<String, LoadFailed> {
        let Some(file) = &self.file else {
            return Ok(EXAMPLE.trim_end().to_owned());
        };
        let here = Here {
            watch: self.beside.groups.clone(),
            shows_progress: std::io::stderr().is_terminal(),
            connect: self.connect.clone(),
            ..Here::default()
        };
        let plan = read(file, here)?;
        self.show.check()?;
        let started = now();
        let before = self.beside.distance()?;
        let mut reports = drive::run(&plan)?;
        let after = self.beside.distance()?;
        for report in &mut reports {
            report.distance_ns = [before, after];
        }
        let load = plan.loads.first().ok_or(LoadFailed::Nothing)?;
        let name = file.file_stem().map_or_else(
            || "scenario".to_owned(),
            |stem| stem.to_string_lossy().into_owned(),
        );
        self.show
            .outcome(&Outcome::new(&name, started, load, reports), false)
    }
}
