//! One section of a record: the runs of some engines on the same work, as a table, with ratios inside a round and the bars.

use super::kind::Kind;
use super::run::Run;
use super::statistics::{Spread, median};
use std::fmt::Write;

#[derive(Clone, Copy, Debug)]
pub enum Column {
    /// Median of a value, with so many digits.
    Value(&'static str, &'static str, usize),
    /// A share, in per cent.
    Share(&'static str, &'static str),
    /// Paired ratio of a value to another engine's.
    Ratio(&'static str, &'static str, Kind),
}

/// What a paired ratio, or with `of: None` a median, must be.
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    pub what: &'static str,
    pub kind: Kind,
    pub value: &'static str,
    pub of: Option<(Kind, &'static str)>,
    pub at_most: bool,
    pub limit: f64,
}

impl Bar {
    pub const fn ratio(what: &'static str, kind: Kind, value: &'static str, of: Kind, limit: f64) -> Bar {
        Bar {
            what,
            kind,
            value,
            of: Some((of, value)),
            at_most: true,
            limit,
        }
    }
}

pub struct Section {
    pub title: String,
    pub note: String,
    pub tables: Vec<&'static [Column]>,
    pub bars: Vec<Bar>,
    kinds: Vec<Kind>,
    runs: Vec<(usize, Kind, Run)>,
    /// Runs that failed in all tries, with the first line of why.
    failed: Vec<(Kind, String)>,
}

impl Section {
    pub fn new(title: impl Into<String>, kinds: &[Kind], tables: &[&'static [Column]]) -> Section {
        Section {
            title: title.into(),
            note: String::new(),
            tables: tables.to_vec(),
            bars: Vec::new(),
            kinds: kinds.to_vec(),
            runs: Vec::new(),
            failed: Vec::new(),
        }
    }

    pub fn add(&mut self, round: usize, kind: Kind, run: Run) {
        self.runs.push((round, kind, run));
    }

    pub fn failed(&mut self, kind: Kind, why: &str) {
        let first = why.lines().next().unwrap_or("");
        self.failed
            .push((kind, first.trim_start_matches(&format!("{kind}: ")).to_owned()));
    }

    pub fn failures(&self) -> usize {
        self.failed.len()
    }

    fn values(&self, kind: Kind, name: &str) -> Vec<f64> {
        self.runs
            .iter()
            .filter(|(_, k, _)| *k == kind)
            .filter_map(|(_, _, run)| run.get(name))
            .collect()
    }

    /// Of one engine to another, in the same round and state.
    fn ratios(&self, kind: Kind, name: &str, of: Kind, of_name: &str) -> Vec<f64> {
        let mut all = Vec::new();
        for (round, _, run) in self.runs.iter().filter(|(_, k, _)| *k == kind) {
            let base = self
                .runs
                .iter()
                .find(|(r, k, base)| r == round && *k == of && base.far == run.far);
            if let (Some(own), Some(base)) = (run.get(name), base.and_then(|(_, _, base)| base.get(of_name)))
                && base > 0.0
            {
                all.push(own / base);
            }
        }
        all
    }

    fn cell(&self, kind: Kind, column: Column) -> String {
        match column {
            Column::Value(_, name, digits) => {
                let values = self.values(kind, name);
                if values.is_empty() {
                    String::new()
                } else {
                    format!("{:.digits$}", median(values))
                }
            }
            Column::Share(_, name) => {
                let values = self.values(kind, name);
                if values.is_empty() {
                    String::new()
                } else {
                    format!("{:.0} %", median(values) * 100.0)
                }
            }
            Column::Ratio(_, _, of) if of == kind => String::new(),
            Column::Ratio(_, name, of) => {
                Spread::of(self.ratios(kind, name, of, name)).map_or_else(String::new, |s| s.to_string())
            }
        }
    }

    fn bar(&self, bar: &Bar) -> Option<String> {
        let found = match bar.of {
            Some((of, of_value)) => Spread::of(self.ratios(bar.kind, bar.value, of, of_value))?,
            None => Spread::of(self.values(bar.kind, bar.value))?,
        };
        let met = if bar.at_most {
            found.median <= bar.limit
        } else {
            found.median >= bar.limit
        };
        let sign = if bar.at_most { "≤" } else { "≥" };
        let of = bar.of.map_or_else(String::new, |(of, _)| format!(" × {of}"));
        let verdict = if met { "met" } else { "**missed**" };
        Some(format!(
            "- {}: {} {sign} {}{of}: {found}, {verdict}",
            bar.kind, bar.what, bar.limit
        ))
    }

    pub fn text(&self) -> String {
        let mut text = format!("## {}\n\n", self.title);
        if !self.note.is_empty() {
            let _ = writeln!(text, "{}\n", self.note);
        }
        for table in &self.tables {
            let title = |column: &Column| match column {
                Column::Value(title, _, _) | Column::Share(title, _) | Column::Ratio(title, _, _) => *title,
            };
            // Columns of which nobody has a value are left out.
            let mut columns: Vec<Column> = table.to_vec();
            columns.retain(|column| {
                self.kinds
                    .iter()
                    .any(|kind| !self.cell(*kind, *column).is_empty())
            });
            if columns.is_empty() {
                continue;
            }
            let titles: Vec<&str> = columns.iter().map(title).collect();
            let _ = writeln!(text, "| engine | {} |", titles.join(" | "));
            let _ = writeln!(text, "| --- |{}", " --- |".repeat(columns.len()));
            for kind in self
                .kinds
                .iter()
                .filter(|kind| self.runs.iter().any(|(_, k, _)| k == *kind))
            {
                let cells: Vec<String> = columns.iter().map(|column| self.cell(*kind, *column)).collect();
                if cells.iter().any(|cell| !cell.is_empty()) {
                    let _ = writeln!(text, "| {kind} | {} |", cells.join(" | "));
                }
            }
            text.push('\n');
        }
        for kind in &self.kinds {
            let Some(twin) = kind.twin().filter(|twin| self.kinds.contains(twin)) else {
                continue;
            };
            for (what, name) in [
                ("CPU of the data plane", "engine_us"),
                ("of all processes", "all_us"),
                ("statements/s", "per_s"),
                ("p99", "p99_us"),
            ] {
                if let Some(found) = Spread::of(self.ratios(twin, name, *kind, name)) {
                    let _ = writeln!(text, "- {twin} to {kind}, {what}: {found}");
                }
            }
        }
        for line in self.bars.iter().filter_map(|bar| self.bar(bar)) {
            let _ = writeln!(text, "{line}");
        }
        for (kind, why) in &self.failed {
            let _ = writeln!(text, "- a run failed and is not in the figures: {kind}: {why}");
        }
        let far = self.runs.iter().filter(|(_, _, r)| r.far == Some(true)).count();
        let preempted: Vec<f64> = self
            .runs
            .iter()
            .filter_map(|(_, _, run)| run.get("preempted"))
            .collect();
        if !preempted.is_empty() {
            let _ = writeln!(
                text,
                "\nRuns with the cores near / far: {} / {far}. An engine was taken off its core {:.0} times a second (median).",
                self.runs.len() - far,
                median(preempted)
            );
        }
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(far: bool, us: f64) -> Run {
        let mut run = Run::of_values([("engine_us", us)]);
        run.far = Some(far);
        run
    }

    fn section() -> Section {
        const COLUMNS: &[Column] = &[
            Column::Value("CPU µs", "engine_us", 1),
            Column::Ratio("ratio", "engine_us", Kind::Haproxy),
            Column::Value("none", "none", 0),
        ];
        let mut section = Section::new(
            "prepared, 16 sessions",
            &[Kind::Haproxy, Kind::Relay, Kind::Direct],
            &[COLUMNS],
        );
        for (round, kind, run) in [
            (0, Kind::Haproxy, run(false, 10.0)),
            (0, Kind::Relay, run(false, 9.0)),
            (1, Kind::Haproxy, run(true, 13.0)),
            (1, Kind::Relay, run(false, 8.0)),
        ] {
            section.add(round, kind, run);
        }
        section
    }

    #[test]
    fn ratios_are_of_one_round_and_one_state() {
        assert_eq!(
            section().ratios(Kind::Relay, "engine_us", Kind::Haproxy, "engine_us"),
            vec![0.9]
        );
    }

    #[test]
    fn a_table_has_the_columns_and_engines_that_there_is_something_of() {
        let text = section().text();
        assert!(
            text.contains(
                "| engine | CPU µs | ratio |\n| --- | --- | --- |\n| haproxy | 11.5 |  |\n| relay | 8.5 | 0.90 [0.90–0.90] (1) |\n"
            ),
            "{text}"
        );
        assert!(!text.contains("direct"), "{text}");
    }

    #[test]
    fn a_bar_says_whether_it_is_met() {
        let mut section = section();
        section.bars = vec![
            Bar::ratio("CPU", Kind::Relay, "engine_us", Kind::Haproxy, 1.0),
            Bar {
                what: "CPU µs",
                kind: Kind::Relay,
                value: "engine_us",
                of: None,
                at_most: true,
                limit: 8.0,
            },
            Bar {
                what: "CPU µs",
                kind: Kind::Relay,
                value: "engine_us",
                of: None,
                at_most: false,
                limit: 8.0,
            },
        ];
        let text = section.text();
        assert!(
            text.contains("- relay: CPU ≤ 1 × haproxy: 0.90 [0.90–0.90] (1), met\n"),
            "{text}"
        );
        assert!(
            text.contains("- relay: CPU µs ≤ 8: 8.50 [8.00–9.00] (2), **missed**\n- relay: CPU µs ≥ 8: 8.50 [8.00–9.00] (2), met\n"),
            "{text}"
        );
    }
}
