//! A page for `bench/record`: the machine, the command, how it was measured, and the sections.

use super::Peers;
use crate::Result;
use headgate_e2e::{during, place};
use std::fmt::Write;
use std::process::Command;

fn said(program: &str, args: &[&str]) -> String {
    let out = Command::new(program).args(args).output();
    out.map_or_else(
        |_| String::new(),
        |o| {
            String::from_utf8_lossy(&o.stdout)
                .lines()
                .next()
                .unwrap_or("")
                .trim()
                .to_owned()
        },
    )
}

fn load_average() -> String {
    std::fs::read_to_string("/proc/loadavg").map_or_else(
        |_| String::new(),
        |t| t.split_whitespace().take(3).collect::<Vec<_>>().join(" "),
    )
}

fn date() -> String {
    said("date", &["+%Y-%m-%d"])
}

pub struct Page {
    head: String,
    load_before: String,
    body: String,
}

impl Page {
    pub fn new(peers: &Peers) -> Page {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu
            .lines()
            .find_map(|l| l.strip_prefix("model name"))
            .map_or("", |m| m.trim_start_matches([' ', '\t', ':']));
        let mut words: Vec<String> = std::env::args().skip(1).take_while(|a| a != "--inside").collect();
        // Folders of this machine are nobody's business.
        for at in 1..words.len() {
            if matches!(words.get(at - 1).map(String::as_str), Some("--bin" | "--compare"))
                && let Some(word) = words.get_mut(at)
            {
                *word = "DIR".to_owned();
            }
        }
        let mut head = format!("# Headgate beside its peers, {}\n\n", date());
        let _ = writeln!(
            head,
            "Command: `cargo xtask {}`. Commit: {}.\n",
            words.join(" "),
            said("git", &["describe", "--always", "--dirty"])
        );
        // Of the machine: this process may keep to one.
        let cores = said("getconf", &["_NPROCESSORS_ONLN"]);
        let _ = writeln!(
            head,
            "Machine: {model}, {cores} cores, Linux {}. {}; {}. Instructions: {}.",
            said("uname", &["-r"]),
            said("haproxy", &["-v"]),
            said("pgbouncer", &["--version"]),
            peers.count.as_deref().map_or_else(
                || "not counted on this machine".to_owned(),
                |event| format!("counted (`{event}`)")
            ),
        );
        let _ = writeln!(
            head,
            "Engine alone on core 0, one thread; load and synthetic target (one thread), or PostgreSQL and pgbench, on core 1, with Headgate's recorder, control plane and analysts; loopback, reno."
        );
        let _ = writeln!(
            head,
            "Windows of {} ms, {} rounds, engines in random order in each, started anew after {}. CPU is what the kernel booked on all threads of the engine; *all*: on all processes of Headgate, with what the recorder still had to do after the window.",
            peers.window_ms, peers.rounds, peers.fresh
        );
        let _ = writeln!(
            head,
            "Columns with ×: paired ratios, in the same round, cores equally far apart; median [interval, at least 90 % where there are 5 pairs or more; else all] (pairs). *sleeps*: of the engine, a statement."
        );
        let _ = writeln!(
            head,
            "haproxy: tune.bufsize 65536, edge-triggered; haproxy-again is the same once more (A/A). pgbouncer: session mode, as Debian has it. headgate: identity, 20 rules, recording; headgate-mask: and a mask rule with a column and three detectors."
        );
        Page {
            head,
            load_before: load_average(),
            body: String::new(),
        }
    }

    pub fn add(&mut self, text: &str) {
        println!("{text}");
        self.body.push_str(text);
    }

    fn text(&self) -> String {
        format!(
            "{}Load average before and after (1, 5, 15 minutes; the bench itself is about 2): {}; {}.\n\n{}",
            self.head,
            self.load_before,
            load_average(),
            self.body
        )
    }

    /// Written after each part: a later one that fails takes nothing away.
    pub fn write(&self, name: &str) -> Result<()> {
        let path = place::repository()
            .join("bench/record")
            .join(format!("{}-{name}.md", date()));
        std::fs::write(&path, self.text()).map_err(during(path.display()))?;
        println!("written to {}", path.display());
        Ok(())
    }
}
