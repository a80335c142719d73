//! What a command has to tell at its end: as a table, as JSON, as a page.

use crate::error::LoadFailed;
use crate::page;
use crate::plan::Load;
use crate::progress::{grouped, time};
use crate::report::{Latency, Report};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// A table for people where standard output is a terminal, else JSON.
    #[default]
    Auto,
    Table,
    Json,
}

#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    pub name: String,
    pub version: String,
    /// UTC.
    pub started: String,
    pub connect: String,
    pub tls: String,
    pub phases: Vec<Report>,
}

/// 2026-11-21 10:30:00 UTC.
fn utc(unix_s: u64) -> String {
    let moment = i64::try_from(unix_s)
        .ok()
        .and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
    moment.map_or_else(
        || format!("{unix_s} s after 1970"),
        |m| {
            format!(
                "{} {:02}:{:02}:{:02} UTC",
                m.date(),
                m.hour(),
                m.minute(),
                m.second()
            )
        },
    )
}

pub fn now() -> String {
    utc(SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs()))
}

impl Outcome {
    pub fn new(name: &str, started: String, load: &Load, phases: Vec<Report>) -> Outcome {
        Outcome {
            name: name.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started,
            connect: format!("{} ({})", load.connect.host, load.connect.address),
            tls: match &load.tls {
                None => "no TLS".to_owned(),
                Some(tls) => format!("TLS, {:?}", tls.start)
                    .to_lowercase()
                    .replace("tls", "TLS"),
            },
            phases,
        }
    }

    pub fn write_files(&self, json: Option<&PathBuf>, report: Option<&PathBuf>) -> Result<(), LoadFailed> {
        let write = |path: &Path, text: String| {
            std::fs::write(path, text).map_err(|e| LoadFailed::Usage(format!("{}: {e}", path.display())))
        };
        if let Some(path) = json {
            write(
                path,
                serde_json::to_string_pretty(self).map_err(|e| LoadFailed::Usage(e.to_string()))? + "\n",
            )?;
        }
        if let Some(path) = report {
            write(path, page::html(self))?;
        }
        Ok(())
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for report in &self.phases {
            let _ = writeln!(out, "{}", phase(report));
        }
        out.trim_end().to_owned()
    }
}

fn latency(latency: &Latency) -> [String; 5] {
    [
        latency.p50_us,
        latency.p90_us,
        latency.p99_us,
        latency.p999_us,
        latency.max_us,
    ]
    .map(time)
}

fn table(heads: &[&str], left: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(heads.to_vec());
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_cell_alignment(if at < left {
            CellAlignment::Left
        } else {
            CellAlignment::Right
        });
    }
    table
}

fn phase(report: &Report) -> String {
    let mut out = format!(
        "{}: {} sessions, {:.1} s{}\n",
        report.mode,
        grouped(report.sessions as u64),
        report.seconds,
        if report.interrupted { ", interrupted" } else { "" }
    );
    if !report.kinds.is_empty() {
        let mut kinds = table(
            &[
                "kind", "answered", "a second", "p50", "p90", "p99", "p99.9", "max", "errors",
            ],
            1,
        );
        for (name, kind) in &report.kinds {
            let mut row = vec![
                name.clone(),
                grouped(kind.statements),
                grouped(kind.statements_per_s.round() as u64),
            ];
            row.extend(latency(&kind.latency));
            row.push(grouped(kind.errors));
            kinds.add_row(row);
        }
        for (name, spans) in [
            ("approve to forward", &report.approve_to_forward),
            ("revoke to cut", &report.revoke_to_cut),
        ] {
            if let Some(spans) = spans {
                let mut row = vec![name.to_owned(), grouped(spans.count as u64), String::new()];
                row.extend(latency(&spans.latency));
                row.push(String::new());
                kinds.add_row(row);
            }
        }
        let _ = writeln!(out, "{kinds}");
    }
    if !report.cpu.is_empty() {
        let mut cpu = table(&["CPU of", "µs a statement", "of one core", "threads"], 1);
        for (name, used) in &report.cpu {
            cpu.add_row(vec![
                name.clone(),
                format!("{:.2}", used.us_per_statement),
                format!("{:.0} %", used.busy * 100.0),
                used.threads.to_string(),
            ]);
        }
        let _ = writeln!(out, "{cpu}");
    }
    if let Some(overload) = report.overload.as_ref().filter(|o| o.overloaded) {
        let _ = writeln!(
            out,
            "OVERLOADED: the rate is more than this endpoint answers. {} statements waited at the end, the oldest for {}; {} were never\nsent. The latencies above are of what was answered: they are too good.",
            grouped(overload.waiting),
            time(overload.oldest_wait_ms * 1_000.0),
            grouped(overload.not_sent)
        );
    }
    if report.sessions_lost > 0 {
        let _ = writeln!(out, "sessions refused or cut: {}", grouped(report.sessions_lost));
    }
    for (title, all) in [("error", &report.errors), ("reviewer", &report.reviewer_failures)] {
        let mut sorted: Vec<(&String, &u64)> = all.iter().collect();
        sorted.sort_by(|a, b| b.1.cmp(a.1));
        for (what, count) in sorted.iter().take(10) {
            let what: String = what.chars().filter(|c| !c.is_control()).take(160).collect();
            let _ = writeln!(out, "{title} × {}: {what}", grouped(**count));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_their_dates() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_795_257_000), "2026-11-21 10:30:00 UTC");
    }
}
