//! The table on the screen, and `conformance/RESULTS.md`.

use super::fetch::{own, server_version};
use super::outcome::{Compared, Known, passed};
use crate::Result;
use headgate_e2e::during;
use std::fmt;
use std::fmt::Write;
use std::process::Command;

pub struct Section {
    pub name: String,
    pub version: String,
    pub compared: Compared,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {} of {} pass", self.name, self.version, passed(&self.compared.first), self.compared.first.len())?;
        if let Some(second) = &self.compared.second {
            write!(f, " directly, {} of {} through Headgate", passed(second), second.len())?;
        }
        for (test, how) in self.compared.differences() {
            write!(f, "\n   {test}: {}", shortened(&how))?;
        }
        Ok(())
    }
}

fn shortened(text: &str) -> String {
    let text = text.replace('\n', " ");
    if text.chars().count() <= 300 { text } else { text.chars().take(300).collect::<String>() + "…" }
}

fn said(program: &str, args: &[&str]) -> String {
    let answer = Command::new(program).args(args).output();
    answer.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default()
}

pub fn write(sections: &[Section], known: &Known) -> Result<()> {
    let mut text = String::from(
        "# Conformance: the same programs, directly and through Headgate\n\n\
         Written by `cargo xtask conformance`; what differs, and why, is in `differences.toml`. Both ways run against a new PostgreSQL\n\
         with the same settings; through Headgate a rule allows everything, and every statement is judged and recorded as ever.\n\
         Drivers and pgbench use TLS and check the certificate. What fails is run once more.\n\n",
    );
    let commit = said("git", &["describe", "--always", "--dirty", "--abbrev=12"]);
    let _ = writeln!(
        text,
        "Date: {}. Headgate: {commit}. PostgreSQL: {}. Kernel: {}.\n",
        said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        server_version()?,
        said("uname", &["-r"])
    );
    text.push_str(
        "| what | version | tests | pass directly | pass through Headgate | differences |\n| --- | --- | --- | --- | --- | --- |\n",
    );
    for s in sections {
        let second = s.compared.second.as_ref().map(passed).unwrap_or_default();
        let differences = s.compared.differences();
        let (tests, first) = (s.compared.first.len(), passed(&s.compared.first));
        let _ = writeln!(text, "| {} | {} | {tests} | {first} | {second} | {} |", s.name, s.version, differences.len());
    }
    for s in sections {
        for (test, how) in s.compared.differences() {
            let why = known.why(&s.name, &test).unwrap_or("not explained");
            let _ = write!(text, "\n- {}, `{test}`: {why}. It {}\n", s.name, shortened(&how));
        }
        let both = s.compared.failed_both_ways();
        if !both.is_empty() {
            let _ = write!(text, "\n- {}: fails both ways, so it is not Headgate's: {}\n", s.name, both.join(", "));
        }
    }
    let path = own("RESULTS.md");
    std::fs::write(&path, text).map_err(during(path.display()))?;
    println!("written: {}", path.display());
    Ok(())
}

/// Fails when something differs that nobody has explained.
pub fn judge(sections: &[Section], known: &Known) -> Result<()> {
    println!();
    let mut unexplained = Vec::new();
    for s in sections {
        println!("{s}");
        let new = s.compared.differences().into_iter().filter(|(test, _)| known.why(&s.name, test).is_none());
        unexplained.extend(new.map(|(test, _)| format!("{}: {test}", s.name)));
    }
    if unexplained.is_empty() { Ok(()) } else { Err(format!("differences that nobody has explained:\n{}", unexplained.join("\n"))) }
}
