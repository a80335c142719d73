//! What a login costs: TLS, a credential, SCRAM at the target.

use super::api::Api;
use super::engines::{Engines, Wanted};
use super::grid::{Grid, chosen, twins, walk};
use super::kind::Kind;
use super::load::{Work, settled};
use super::record::Page;
use super::run::Run;
use super::setup::ANALYSTS;
use super::setup::TARGET_PASSWORD;
use super::table::{Bar, Column, Section};
use super::{Peers, until};
use crate::Result;
use headgate_e2e::during;
use std::time::Duration;

const SESSIONS: usize = 16;
const COLUMNS: &[Column] = &[
    Column::Value("CPU µs a login", "engine_us", 0),
    Column::Ratio("× haproxy", "engine_us", Kind::Haproxy),
    Column::Ratio("× pgbouncer", "engine_us", Kind::Pgbouncer),
    Column::Value("all µs", "all_us", 0),
    Column::Ratio("all × pgbouncer", "all_us", Kind::Pgbouncer),
    Column::Share("user", "user"),
    Column::Value("load's CPU µs", "load_us", 0),
    Column::Value("logins/s", "per_s", 0),
    Column::Value("p50 µs", "p50_us", 0),
    Column::Value("p99 µs", "p99_us", 0),
];
const COLD: &[Column] = &[
    Column::Value("logins/s", "per_s", 0),
    Column::Value("p50 µs", "p50_us", 0),
    Column::Value("p99 µs", "p99_us", 0),
    Column::Value("CPU µs a login", "engine_us", 0),
    Column::Value("all µs", "all_us", 0),
    Column::Value("load's CPU µs", "load_us", 0),
];

pub fn logins(peers: &Peers, page: &mut Page) -> Result<()> {
    let kinds = chosen(
        peers,
        &[Kind::Haproxy, Kind::HaproxyAgain, Kind::Pgbouncer, Kind::Headgate],
    );
    let mut cells = Vec::new();
    for (title, more) in [
        ("logins over TLS 1.3", &[][..]),
        (
            "logins over TLS 1.3 and one statement",
            &["--login-statement"][..],
        ),
    ] {
        let mut section = Section::new(title, &kinds, &[COLUMNS]);
        section.note = format!(
            "{SESSIONS} in flight, whole handshakes (no tickets), the target asks for SCRAM-SHA-256. haproxy: TLS ends there, SCRAM is between load and target. \
             pgbouncer: a password inside TLS (SCRAM with its clients would cost it PBKDF2 each time, 3 ms more); {} headgate: a token that it has seen, \
             inside TLS, and a target session of its own with SCRAM for each.",
            if more.is_empty() {
                "no session at the target, as nothing is asked of it."
            } else {
                "the statement goes through a target session that it keeps, after DISCARD ALL."
            }
        );
        section.bars = [Kind::Headgate, Kind::HeadgateB]
            .into_iter()
            .filter(|kind| kinds.contains(kind))
            .map(|kind| Bar::ratio("CPU a login", kind, "engine_us", Kind::Pgbouncer, 1.5))
            .collect();
        let work = Work::new("logins", SESSIONS, peers.window_ms)
            .over_tls()
            .with(&["--target-password", TARGET_PASSWORD])
            .with(more);
        cells.push((section, work));
    }
    walk(
        &mut Grid {
            kinds,
            cells,
            real: false,
            scram: true,
        },
        peers,
        page,
    )?;
    cold(peers, page)
}

/// Every login with a token that the data plane has not seen.
fn cold(peers: &Peers, page: &mut Page) -> Result<()> {
    let kinds = twins(peers, &[Kind::Headgate]);
    let engines = Engines::start(&Wanted {
        scram: true,
        ..Wanted::new(peers, &kinds)?
    })?;
    let mut section = Section::new("logins over TLS 1.3, identity cold", &kinds, &[COLD]);
    section.note = format!(
        "{SESSIONS} in flight, every login with a token never shown before: the control plane is asked each time."
    );
    for kind in &kinds {
        section.bars.push(Bar {
            what: "logins/s",
            kind: *kind,
            value: "per_s",
            of: None,
            at_most: false,
            limit: 500.0,
        });
    }
    // As many as a core could sign in at best.
    let tokens = usize::try_from(peers.window_ms + 300).unwrap_or(1_300) * 3;
    for round in 0..peers.rounds {
        for kind in &kinds {
            let file = engines.folder.join("tokens");
            let mut api = None;
            until("the control plane answers", Duration::from_secs(20), || {
                api = Api::connect(&engines, *kind, None).ok();
                api.is_some()
            })?;
            let mut api = api.ok_or("no API")?;
            let mut text = String::new();
            for n in 0..tokens {
                text += &api.mint(&format!("job-{round}-{n}"), &[ANALYSTS])?.0;
                text.push('\n');
            }
            std::fs::write(&file, text).map_err(during(file.display()))?;
            let mut work = Work::new("logins", SESSIONS, peers.window_ms)
                .over_tls()
                .with(&["--target-password", TARGET_PASSWORD]);
            work.more
                .extend(["--distinct-passwords".to_owned(), file.display().to_string()]);
            // A run that is tried again would show them a second time.
            work.tries = 1;
            let run = settled(&engines, *kind, &work)?;
            eprintln!(
                "round {} {}: {kind} {}",
                round + 1,
                section.title,
                run.as_ref().map_or("left out".to_owned(), Run::line)
            );
            if let Some(run) = run {
                let asked = run.get("per_s").unwrap_or(0.0) * (work.window + work.warm_up).as_secs_f64();
                if asked > tokens as f64 {
                    return Err(format!("{tokens} tokens were too few for {asked} logins"));
                }
                section.add(round, *kind, run);
            }
        }
    }
    page.add(&section.text());
    Ok(())
}
