//! The table on the screen, and `conformance/RESULTS.md`.

use super::fetch::{own, server_version};
use super::outcome::{Compared, Known, Loss, Mends, passed};
use super::world::Way;
use crate::Result;
use headgate_e2e::during;
use std::collections::BTreeMap;
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
        write!(f, "{} {}:", self.name, self.version)?;
        for (way, outcomes) in &self.compared.runs {
            write!(f, " {} {} of {};", way.name(), passed(outcomes), outcomes.len())?;
        }
        write!(f, " {} lost", self.compared.losses().len())
    }
}

/// One line of at most 300 characters.
pub fn shortened(text: &str) -> String {
    let text = text.replace('\n', " ");
    if text.chars().count() <= 300 {
        text
    } else {
        text.chars().take(300).collect::<String>() + "…"
    }
}

fn said(program: &str, args: &[&str]) -> String {
    let answer = Command::new(program).args(args).output();
    answer
        .map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned())
        .unwrap_or_default()
}

const INTRODUCTION: &str = "\
# Conformance: the same programs, directly and through Headgate

Written by `cargo xtask conformance`. Each program runs four times, each time against a new PostgreSQL with the same settings:
directly, and three times through Headgate, which judges and records every statement as ever:

- **danger**: one rule with the `danger_` switches allows everything, so that what is lost is the gate's doing and not a rule's;
- **ordinary**: one rule that names every class and the settings that a rule can open, and has no `danger_` switch, as operators write it;
- **masked**: as *danger*, with masks on two tables that no suite reads, so that all of masking is on and nothing is to be masked.

Drivers and pgbench use TLS and check the certificate. What fails, and is not known to, is run once more. What is lost, why, and whose
it is to mend stands in `differences.toml`; a loss that does not fails the command.
";

/// Losses of a part that have the same reason.
type Grouped<'a> = BTreeMap<(&'a str, Mends), BTreeMap<Way, Vec<&'a str>>>;

pub fn write(sections: &[Section], known: &Known) -> Result<()> {
    let mut text = INTRODUCTION.to_owned();
    let commit = said("git", &["describe", "--always", "--dirty", "--abbrev=12"]);
    let _ = writeln!(
        text,
        "\nDate: {}. Headgate: {commit}. PostgreSQL: {}. Kernel: {}.\n",
        said("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        server_version()?,
        said("uname", &["-r"])
    );
    text.push_str("| what | version | tests | pass directly | danger | ordinary | masked | lost |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for s in sections {
        let passes = |way| s.compared.of(way).map(passed).unwrap_or_default();
        let tests = s.compared.of(Way::Direct).map(|o| o.len()).unwrap_or_default();
        let losses = s.compared.losses();
        let lost = |way| losses.iter().filter(|l| l.way == way).count();
        let [danger, ordinary, masked] = Way::THROUGH.map(passes);
        let lost = Way::THROUGH.map(lost).map(|n| n.to_string()).join(" / ");
        let (name, version, direct) = (&s.name, &s.version, passes(Way::Direct));
        let _ = writeln!(
            text,
            "| {name} | {version} | {tests} | {direct} | {danger} | {ordinary} | {masked} | {lost} |"
        );
    }
    text.push_str("\nWhat is lost: danger / ordinary / masked.\n");
    for s in sections {
        section(&mut text, s, known);
    }
    let path = own("RESULTS.md");
    std::fs::write(&path, text).map_err(during(path.display()))?;
    println!("written: {}", path.display());
    Ok(())
}

fn section(text: &mut String, s: &Section, known: &Known) {
    let losses = s.compared.losses();
    let direct = s.compared.failed_directly();
    if losses.is_empty() && direct.is_empty() {
        return;
    }
    let _ = write!(text, "\n## {}\n", s.name);
    let mut grouped = Grouped::new();
    for loss in &losses {
        match known.entry(&s.name, loss.way, &loss.test) {
            Some(entry) => grouped
                .entry((&entry.why, entry.mends))
                .or_default()
                .entry(loss.way)
                .or_default()
                .push(&loss.test),
            None => drop(write!(
                text,
                "\n- **not explained**, {}, `{}`: it {}\n",
                loss.way.name(),
                loss.test,
                shortened(&loss.how)
            )),
        }
    }
    for ((why, mends), ways) in grouped {
        let _ = write!(text, "\n- {why} (mends: {mends})\n");
        // Ways that lose the same tests stand together.
        let mut same: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
        for (way, tests) in ways {
            same.entry(tests).or_default().push(way.name());
        }
        for (tests, ways) in same {
            let _ = writeln!(
                text,
                "  - {}, {}: {}",
                ways.join(" and "),
                tests.len(),
                names(&tests)
            );
        }
    }
    if !direct.is_empty() {
        let all: Vec<&str> = direct.iter().map(String::as_str).collect();
        let _ = write!(
            text,
            "\n- {} that fail directly, so that they are not Headgate's: {}\n",
            direct.len(),
            names(&all)
        );
    }
}

/// A dozen of them; the rest is in the table of differences.
fn names(tests: &[&str]) -> String {
    let shown = tests
        .iter()
        .take(12)
        .map(|t| format!("`{t}`"))
        .collect::<Vec<_>>()
        .join(", ");
    if tests.len() > 12 {
        format!("{shown} and {} more", tests.len() - 12)
    } else {
        shown
    }
}

/// Fails when something is lost that the table does not list; and, when `strict`, when it lists what is not lost.
pub fn judge(sections: &[Section], known: &Known, strict: bool) -> Result<()> {
    println!();
    let mut unexplained = Vec::new();
    let mut stale = Vec::new();
    for s in sections {
        println!("{s}");
        let new: Vec<Loss> = s
            .compared
            .losses()
            .into_iter()
            .filter(|l| known.entry(&s.name, l.way, &l.test).is_none())
            .collect();
        unexplained.extend(new.into_iter().map(|l| {
            format!(
                "{}, {}: {}: it {}",
                s.name,
                l.way.name(),
                l.test,
                shortened(&l.how)
            )
        }));
        stale.extend(known.stale(&s.name, &s.compared));
    }
    if !stale.is_empty() {
        println!(
            "\ndifferences.toml lists what is not lost any more:\n{}",
            stale.join("\n")
        );
    }
    match (unexplained.is_empty(), strict && !stale.is_empty()) {
        (true, false) => Ok(()),
        (true, true) => Err("differences.toml is stale".to_owned()),
        (false, _) => Err(format!(
            "{} losses that differences.toml does not list:\n{}",
            unexplained.len(),
            unexplained.join("\n")
        )),
    }
}
