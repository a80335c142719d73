//! Where results go: the terminal, standard output, files.

use super::json;
use crate::LoadFailed;
use crate::outcome::{Outcome, Output};
use std::io::IsTerminal;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(super) struct Show {
    /// What standard output gets: a table, or one JSON object. Auto: a table on a terminal.
    #[arg(long, value_enum, default_value_t = Output::Auto)]
    output: Output,
    /// Write all figures to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with plots to this file: one HTML file that needs no network.
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
}

impl Show {
    /// What is to be printed. `alone`: as JSON, the one report without what is around it.
    pub(super) fn outcome(&self, outcome: &Outcome, alone: bool) -> Result<String, LoadFailed> {
        outcome.write_files(self.json.as_ref(), self.report.as_ref())?;
        let wants_table = match self.output {
            Output::Auto => std::io::stdout().is_terminal(),
            Output::Table => true,
            Output::Json => false,
        };
        match outcome.phases.first() {
            _ if wants_table => Ok(outcome.text()),
            Some(report) if alone => json(report),
            _ => json(outcome),
        }
    }

    /// Before the load runs for an hour: can the files be written at all?
    pub(super) fn check(&self) -> Result<(), LoadFailed> {
        for path in [&self.json, &self.report].into_iter().flatten() {
            let opened = std::fs::File::options().create(true).append(true).open(path);
            opened.map_err(|e| LoadFailed::Usage(format!("{}: {e}", path.display())))?;
        }
        Ok(())
    }
}
