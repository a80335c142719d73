//! What parts came to, in `.conformance/outcomes`: to look into, and for a run that was interrupted to go on from (`--resume`).
//!
//! Invariant: what is taken up again was made by the same programs, rules, suite and server.

use super::fetch::{cache, good, server_version};
use super::outcome::{Outcomes, lines, read_lines};
use super::world::Way;
use crate::Result;
use headgate_e2e::{during, place};
use std::path::PathBuf;
use std::process::Command;

pub struct Kept {
    server: String,
    /// Digests of Headgate's programs.
    programs: String,
    resume: bool,
}

impl Kept {
    pub fn new(resume: bool) -> Result<Kept> {
        let bin = place::binaries()?;
        let said = good(Command::new("sha256sum").args(place::BINARIES).current_dir(bin))?;
        let programs = said
            .lines()
            .map(|line| line.chars().take(16).collect::<String>())
            .collect::<Vec<_>>()
            .join(" ");
        Ok(Kept {
            server: server_version()?,
            programs,
            resume,
        })
    }

    pub fn take(&self, part: &str, version: &str, way: Way) -> Result<Option<Outcomes>> {
        let text = match std::fs::read_to_string(path(part, way)?) {
            Ok(text) if self.resume => text,
            _ => return Ok(None),
        };
        let Some(rest) = text.strip_prefix(&self.heading(version, way)) else {
            return Ok(None);
        };
        println!("   {part}, {}: as it was", way.name());
        Ok(Some(read_lines(rest)))
    }

    pub fn put(&self, part: &str, version: &str, way: Way, outcomes: &Outcomes) -> Result<()> {
        let path = path(part, way)?;
        std::fs::write(&path, self.heading(version, way) + &lines(outcomes)).map_err(during(path.display()))
    }

    fn heading(&self, version: &str, way: Way) -> String {
        let through = if way == Way::Direct {
            String::new()
        } else {
            format!("{} {}", self.programs, way.rules().replace('\n', " "))
        };
        format!("# {version}; {}; {through}\n", self.server)
    }
}

fn path(part: &str, way: Way) -> Result<PathBuf> {
    Ok(cache("outcomes")?.join(format!("{part}-{}.txt", way.name())))
}
