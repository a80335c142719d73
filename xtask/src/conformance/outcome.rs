//! What a test came to, both ways, and which differences are known.

use crate::Result;
use headgate_e2e::{during, place};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    Skipped,
    Failed(String),
}

pub type Outcomes = BTreeMap<String, Outcome>;

/// Reads lines of `ok NAME`, `failed NAME: why`, `skipped NAME: why`; what else was said is not of interest.
pub fn read_lines(text: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for line in text.lines() {
        let Some((how, rest)) = line.split_once(' ') else { continue };
        let (name, why) = rest.split_once(": ").unwrap_or((rest, ""));
        let outcome = match how {
            "ok" => Outcome::Passed,
            "skipped" => Outcome::Skipped,
            "failed" => Outcome::Failed(why.to_owned()),
            _ => continue,
        };
        outcomes.insert(name.trim_end_matches(':').to_owned(), outcome);
    }
    outcomes
}

pub fn passed(outcomes: &Outcomes) -> usize {
    outcomes.values().filter(|o| **o == Outcome::Passed).count()
}

pub fn failed(outcomes: &Outcomes) -> Vec<String> {
    outcomes.iter().filter(|(_, o)| matches!(o, Outcome::Failed(_))).map(|(name, _)| name.clone()).collect()
}

/// One way, or both.
pub struct Compared {
    pub first: Outcomes,
    pub second: Option<Outcomes>,
}

impl Compared {
    pub fn new(first: Outcomes, second: Option<Outcomes>) -> Self {
        Compared { first, second }
    }

    /// Tests that came to something else through Headgate, and what. With one way only: those that failed.
    pub fn differences(&self) -> Vec<(String, String)> {
        let reason = |outcome: Option<&Outcome>| match outcome {
            None => "was not run".to_owned(),
            Some(Outcome::Passed) => "passes".to_owned(),
            Some(Outcome::Skipped) => "is skipped".to_owned(),
            Some(Outcome::Failed(why)) => format!("fails: {why}"),
        };
        let Some(second) = &self.second else {
            return failed(&self.first).into_iter().map(|name| (name.clone(), reason(self.first.get(&name)))).collect();
        };
        let names: std::collections::BTreeSet<&String> = self.first.keys().chain(second.keys()).collect();
        let alike = |a: Option<&Outcome>, b: Option<&Outcome>| match (a, b) {
            (Some(a), Some(b)) => std::mem::discriminant(a) == std::mem::discriminant(b),
            _ => false,
        };
        names
            .into_iter()
            .filter(|name| !alike(self.first.get(*name), second.get(*name)))
            .map(|name| (name.clone(), format!("{}; directly it {}", reason(second.get(name)), reason(self.first.get(name)))))
            .collect()
    }

    /// Failures that are the same both ways: the suite's or the machine's own.
    pub fn failed_both_ways(&self) -> Vec<String> {
        let Some(second) = &self.second else { return Vec::new() };
        failed(&self.first).into_iter().filter(|name| matches!(second.get(name), Some(Outcome::Failed(_)))).collect()
    }
}

/// `conformance/differences.toml`: what differs through any gateway, or is left for later, and why.
pub struct Known(Vec<Difference>);

struct Difference {
    part: String,
    tests: Vec<String>,
    why: String,
}

impl Known {
    pub fn read() -> Result<Known> {
        let path = place::repository().join("conformance/differences.toml");
        let text = std::fs::read_to_string(&path).map_err(during(path.display()))?;
        let table: toml::Table = text.parse().map_err(during(path.display()))?;
        let mut known = Vec::new();
        for entry in table.get("difference").and_then(toml::Value::as_array).into_iter().flatten() {
            let text = |key: &str| entry.get(key).and_then(toml::Value::as_str).map(str::to_owned);
            let tests = entry.get("tests").and_then(toml::Value::as_array).into_iter().flatten();
            let (Some(part), Some(why)) = (text("part"), text("why")) else {
                return Err(format!("{}: a [[difference]] has part, tests and why", path.display()));
            };
            known.push(Difference { part, tests: tests.filter_map(|t| t.as_str().map(str::to_owned)).collect(), why });
        }
        Ok(Known(known))
    }

    pub fn why(&self, part: &str, test: &str) -> Option<&str> {
        self.0.iter().find(|d| d.part == part && d.tests.iter().any(|t| t == test)).map(|d| d.why.as_str())
    }
}
