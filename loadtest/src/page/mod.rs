//! A report as one HTML file: no script, no network, both themes.

mod chart;

use crate::ledger::Second;
use crate::outcome::Outcome;
use crate::progress::{grouped, mark, time};
use crate::report::{KindReport, Latency, Report};
use chart::{Chart, SERIES_MAX, Series, escaped};
use std::fmt::Write;

const STYLE: &str = include_str!("style.css");

fn per_s(value: f64) -> String {
    match value {
        v if v >= 1e9 => format!("{:.1} G", v / 1e9),
        v if v >= 1e6 => format!("{}M", trimmed(v / 1e6)),
        v if v >= 1e3 => format!("{}k", trimmed(v / 1e3)),
        v if v >= 10.0 || v == 0.0 => format!("{v:.0}"),
        v => trimmed(v),
    }
}

/// At most two digits behind the point, without zeros at the end.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn seconds(value: f64) -> String {
    format!("{} s", trimmed(value))
}

/// Nines: 0.9 at 1, 0.99 at 2; so the tail has room.
fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile.min(0.999_99)).log10()
}

fn quantile_text(at: f64) -> String {
    let percent = (1.0 - 10f64.powf(-at)) * 100.0;
    let text = format!("{percent:.3}");
    format!("p{}", text.trim_end_matches('0').trim_end_matches('.'))
}

fn legend(kinds: &[(&String, &KindReport)]) -> String {
    let mut out = String::from("<p class=\"legend\">");
    for (place, (name, _)) in kinds.iter().enumerate().take(SERIES_MAX) {
        let _ = write!(out, "<span><i class=\"c{place}\"></i>{}</span>", escaped(name));
    }
    out + "</p>"
}

fn lines(kinds: &[(&String, &KindReport)], points: impl Fn(&KindReport) -> Vec<(f64, f64)>) -> Vec<Series> {
    let line = |(place, (name, kind)): (usize, &(&String, &KindReport))| Series {
        name: (*name).clone(),
        place,
        points: points(kind),
    };
    kinds.iter().enumerate().take(SERIES_MAX).map(line).collect()
}

fn charts(out: &mut String, report: &Report) {
    let kinds: Vec<(&String, &KindReport)> = report.kinds.iter().filter(|(_, k)| k.statements > 0).collect();
    if kinds.is_empty() {
        return;
    }
    out.push_str(&legend(&kinds));
    // The maximum is not a quantile: it has a column in the table.
    let curve = |k: &KindReport| {
        k.curve
            .iter()
            .filter(|(q, _)| *q < 1.0)
            .map(|(q, us)| (nines(*q), *us))
            .collect()
    };
    // A quantile of fewer statements than it has nines would be a guess.
    let enough = |k: &KindReport| -> Vec<(f64, f64)> {
        let all: Vec<(f64, f64)> = curve(k);
        let bound = (k.statements as f64).log10();
        all.into_iter().filter(|(at, _)| *at <= bound).collect()
    };
    let quantiles = Chart {
        says: "latency by quantile",
        x_title: "quantile",
        series: lines(&kinds, enough),
        x_marks: [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999]
            .into_iter()
            .filter(|q| {
                kinds
                    .iter()
                    .any(|(_, k)| nines(*q) <= (k.statements as f64).log10())
            })
            .map(|q| {
                (
                    nines(q),
                    if q == 0.0 {
                        "min".to_owned()
                    } else {
                        quantile_text(nines(q))
                    },
                )
            })
            .collect(),
        log_y: true,
        y_text: mark,
        x_text: quantile_text,
    };
    let throughput = Chart {
        says: "statements a second, over time",
        x_title: "seconds of the window",
        series: lines(&kinds, |k| {
            k.by_second
                .iter()
                .map(|s| (s.at, s.answered as f64 / s.seconds.max(f64::MIN_POSITIVE)))
                .collect()
        }),
        x_marks: Vec::new(),
        log_y: false,
        y_text: per_s,
        x_text: seconds,
    };
    let of_seconds = |says, us: fn(&Second) -> f64| Chart {
        says,
        x_title: "seconds of the window",
        series: lines(&kinds, |k| {
            k.by_second
                .iter()
                .filter(|s| s.answered > 0)
                .map(|s| (s.at, us(s)))
                .collect()
        }),
        x_marks: Vec::new(),
        log_y: true,
        y_text: mark,
        x_text: seconds,
    };
    let (p50, p99) = (
        of_seconds("p50 of each second", |s| s.p50_us),
        of_seconds("p99 of each second", |s| s.p99_us),
    );
    out.push_str("<div class=\"charts\">");
    for (title, chart) in [
        ("Latency by quantile", quantiles),
        ("Statements a second", throughput),
        ("p50 of each second", p50),
        ("p99 of each second", p99),
    ] {
        let _ = write!(
            out,
            "<figure><figcaption>{title}</figcaption>{}</figure>",
            chart.svg()
        );
    }
    out.push_str("</div>");
}

fn latency_cells(latency: &Latency) -> String {
    [
        latency.p50_us,
        latency.p90_us,
        latency.p99_us,
        latency.p999_us,
        latency.max_us,
    ]
    .map(|us| format!("<td>{}</td>", time(us)))
    .concat()
}

const LATENCY_HEADS: &str = "<th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th>";

fn kinds_table(out: &mut String, report: &Report) {
    let _ = write!(
        out,
        "<div class=\"wide\"><table><thead><tr><th>kind</th><th class=\"text\">crew</th><th>answered</th><th>a second</th>{LATENCY_HEADS}<th>errors</th></tr></thead><tbody>"
    );
    for (name, kind) in &report.kinds {
        let _ = write!(
            out,
            "<tr><th>{}</th><td class=\"text\">{}</td><td>{}</td><td>{}</td>{}<td{}>{}</td></tr>",
            escaped(name),
            escaped(&kind.crew),
            grouped(kind.statements),
            grouped(kind.statements_per_s.round() as u64),
            latency_cells(&kind.latency),
            if kind.errors > 0 { " class=\"bad\"" } else { "" },
            grouped(kind.errors),
        );
    }
    out.push_str("</tbody></table></div>");
}

fn cards(out: &mut String, report: &Report) {
    let errors: u64 = report.errors.values().sum();
    let card = |name: &str, value: String| format!("<div><b>{value}</b><span>{name}</span></div>");
    out.push_str("<div class=\"cards\">");
    out.push_str(&card(
        "statements a second",
        grouped(report.statements_per_s.round() as u64),
    ));
    out.push_str(&card("p50", time(report.latency.p50_us)));
    out.push_str(&card("p99", time(report.latency.p99_us)));
    out.push_str(&card("p99.9", time(report.latency.p999_us)));
    out.push_str(&card("sessions", grouped(report.sessions as u64)));
    out.push_str(&card("errors", grouped(errors)));
    out.push_str("</div>");
}

fn reviews(out: &mut String, report: &Report) {
    let spans = [
        ("approve to forward", &report.approve_to_forward),
        ("revoke to cut", &report.revoke_to_cut),
    ];
    if spans.iter().all(|(_, s)| s.is_none()) {
        return;
    }
    let _ = write!(
        out,
        "<h3>The robot reviewer</h3><div class=\"wide\"><table><thead><tr><th>from – to</th><th class=\"text\">seen at</th><th>times</th>{LATENCY_HEADS}</tr></thead><tbody>"
    );
    for (name, span) in spans {
        if let Some(span) = span {
            let cells = latency_cells(&span.latency);
            let _ = write!(
                out,
                "<tr><th>{name}</th><td class=\"text\">{}</td><td>{}</td>{cells}</tr>",
                span.seen_at,
                grouped(span.count as u64)
            );
        }
    }
    out.push_str("</tbody></table></div>");
}

fn counted(out: &mut String, title: &str, all: &std::collections::BTreeMap<String, u64>) {
    if all.is_empty() {
        return;
    }
    let mut sorted: Vec<(&String, &u64)> = all.iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(a.1));
    let _ = write!(
        out,
        "<h3>{title}</h3><div class=\"wide\"><table><thead><tr><th>times</th><th class=\"text\">what was said</th></tr></thead><tbody>"
    );
    for (what, count) in sorted {
        let _ = write!(
            out,
            "<tr><td>{}</td><td class=\"text\">{}</td></tr>",
            grouped(*count),
            escaped(what)
        );
    }
    out.push_str("</tbody></table></div>");
}

fn cpu(out: &mut String, report: &Report) {
    out.push_str("<h3>CPU in the window</h3><div class=\"wide\"><table><thead><tr><th>group</th><th>µs a statement</th><th>of one core</th><th>user</th><th>threads</th></tr></thead><tbody>");
    for (name, cpu) in &report.cpu {
        let _ = write!(
            out,
            "<tr><th>{}</th><td>{}</td><td>{:.0} %</td><td>{:.0} %</td><td>{}</td></tr>",
            escaped(name),
            trimmed(cpu.us_per_statement),
            cpu.busy * 100.0,
            cpu.user_share * 100.0,
            cpu.threads
        );
    }
    out.push_str("</tbody></table></div>");
}

fn section(out: &mut String, report: &Report) {
    let _ = write!(out, "<section><h2>{}</h2>", escaped(&report.mode));
    let _ = write!(
        out,
        "<p class=\"sub\">{} sessions, {} measured{}{}</p>",
        grouped(report.sessions as u64),
        seconds(report.seconds),
        if report.sessions_lost > 0 {
            format!(", {} times one was refused or cut", grouped(report.sessions_lost))
        } else {
            String::new()
        },
        if report.interrupted { ", interrupted" } else { "" }
    );
    if let Some(overload) = report.overload.as_ref().filter(|o| o.overloaded) {
        let _ = write!(
            out,
            "<p class=\"banner\"><b>Overloaded.</b> The rate was more than this endpoint answers: at the end {} statements waited, the oldest for {}, and {} were never sent. The latencies are of what was answered, so they are too good.</p>",
            grouped(overload.waiting),
            time(overload.oldest_wait_ms * 1_000.0).replace(' ', "\u{a0}"),
            grouped(overload.not_sent)
        );
    }
    cards(out, report);
    charts(out, report);
    kinds_table(out, report);
    reviews(out, report);
    counted(out, "Errors", &report.errors);
    counted(out, "What the robot reviewer was told", &report.reviewer_failures);
    cpu(out, report);
    out.push_str("</section>");
}

/// The whole page.
pub fn html(outcome: &Outcome) -> String {
    let title = escaped(&outcome.name);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title} – headgate-loadtest</title>\n<style>\n{STYLE}</style></head><body><main>\n<header><h1>{title}</h1><p class=\"sub\">{} · to {} · {} · headgate-loadtest {}</p></header>\n",
        escaped(&outcome.started),
        escaped(&outcome.connect),
        escaped(&outcome.tls),
        escaped(&outcome.version),
    );
    if outcome.phases.len() > 1 {
        let _ = write!(
            out,
            "<div class=\"wide\"><table><thead><tr><th>phase</th><th>sessions</th><th>answered</th><th>a second</th>{LATENCY_HEADS}<th>errors</th></tr></thead><tbody>"
        );
        for report in &outcome.phases {
            let errors: u64 = report.errors.values().sum();
            let _ = write!(
                out,
                "<tr><th>{}</th><td>{}</td><td>{}</td><td>{}</td>{}<td{}>{}</td></tr>",
                escaped(&report.mode),
                report.sessions,
                grouped(report.statements),
                grouped(report.statements_per_s.round() as u64),
                latency_cells(&report.latency),
                if errors > 0 { " class=\"bad\"" } else { "" },
                grouped(errors)
            );
        }
        out.push_str("</tbody></table></div>");
    }
    for report in &outcome.phases {
        section(&mut out, report);
    }
    out.push_str("</main></body></html>\n");
    out
}
