//! CPU that other processes used, from the kernel's books.
//!
//! `schedstat` of every thread (nanoseconds; the process's own file is its main thread's alone), user and system from the ticks
//! of `stat` (10 ms: good for a share of a second or more, not for a figure), sleeps from `voluntary_ctxt_switches`.
//! A group is some processes and everything that they had started when it was looked up.

use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;

/// A name and the processes that it stands for.
#[derive(Clone, Debug)]
pub struct Group {
    pub name: String,
    pub roots: Vec<u32>,
    /// Do not count the children of the roots.
    pub alone: bool,
}

impl std::str::FromStr for Group {
    type Err = String;

    /// `name=1,2,3`; with `name!=1`, the children are left out.
    fn from_str(text: &str) -> Result<Group, String> {
        let (name, pids) = text.split_once('=').ok_or("write name=pid,pid")?;
        let roots: Result<Vec<u32>, _> = pids.split(',').map(str::parse).collect();
        let alone = name.ends_with('!');
        Ok(Group {
            name: name.trim_end_matches('!').to_owned(),
            roots: roots.map_err(|e| format!("{pids}: {e}"))?,
            alone,
        })
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Used {
    pub cpu_ns: u64,
    pub user_ticks: u64,
    pub system_ticks: u64,
    /// How often its threads went to sleep.
    pub sleeps: u64,
    /// How often a thread was taken off its core while it wanted to run.
    pub preempted: u64,
    pub threads: u64,
}

impl Used {
    fn add(&mut self, other: Used) {
        self.cpu_ns += other.cpu_ns;
        self.user_ticks += other.user_ticks;
        self.system_ticks += other.system_ticks;
        self.sleeps += other.sleeps;
        self.preempted += other.preempted;
        self.threads += other.threads;
    }

    pub fn since(self, before: Used) -> Used {
        Used {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            user_ticks: self.user_ticks.saturating_sub(before.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(before.system_ticks),
            sleeps: self.sleeps.saturating_sub(before.sleeps),
            preempted: self.preempted.saturating_sub(before.preempted),
            threads: self.threads,
        }
    }
}

fn tasks(pid: u32) -> Vec<String> {
    let Ok(folder) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    folder
        .flatten()
        .map(|entry| entry.path().to_string_lossy().into_owned())
        .collect()
}

fn of_thread(folder: &str) -> Used {
    let read = |name: &str| fs::read_to_string(format!("{folder}/{name}")).unwrap_or_default();
    let cpu_ns = read("schedstat")
        .split_whitespace()
        .next()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let stat = read("stat");
    // The name stands in brackets and may hold anything; behind it, state is field 3, utime 14, stime 15.
    let behind: Vec<&str> = stat
        .rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
        .collect();
    let tick = |at: usize| behind.get(at).and_then(|n| n.parse().ok()).unwrap_or(0);
    let status = read("status");
    let line = |name: &str| {
        status
            .lines()
            .find_map(|l| l.strip_prefix(name))
            .and_then(|n| n.trim().parse().ok())
            .unwrap_or(0)
    };
    Used {
        cpu_ns,
        user_ticks: tick(11),
        system_ticks: tick(12),
        sleeps: line("voluntary_ctxt_switches:"),
        preempted: line("nonvoluntary_ctxt_switches:"),
        threads: 1,
    }
}

/// `pid` and everything below it.
fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(parent) = all.get(at).copied() {
        for task in tasks(parent) {
            let children = fs::read_to_string(format!("{task}/children")).unwrap_or_default();
            for child in children.split_whitespace().filter_map(|c| c.parse().ok()) {
                if !all.contains(&child) {
                    all.push(child);
                }
            }
        }
        at += 1;
    }
    all
}

/// Processes found once; read as often as wanted.
pub struct Watch(Vec<(String, Vec<u32>)>);

impl Watch {
    pub fn new(groups: &[Group]) -> Watch {
        let of = |g: &Group| {
            if g.alone {
                g.roots.clone()
            } else {
                g.roots.iter().flat_map(|pid| family(*pid)).collect()
            }
        };
        Watch(groups.iter().map(|g| (g.name.clone(), of(g))).collect())
    }

    pub fn read(&self) -> BTreeMap<String, Used> {
        let mut all = BTreeMap::new();
        for (name, pids) in &self.0 {
            let total: &mut Used = all.entry(name.clone()).or_default();
            for folder in pids.iter().flat_map(|pid| tasks(*pid)) {
                total.add(of_thread(&folder));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn work_done_here_is_seen_and_sleep_is_not() {
        let watch = Watch::new(&[format!("me!={}", std::process::id()).parse().expect("a group")]);
        let cpu = || watch.read()["me"];
        let before = cpu();
        let until = Instant::now() + Duration::from_millis(100);
        let worker = std::thread::spawn(move || while Instant::now() < until {});
        std::thread::sleep(Duration::from_millis(110));
        // The thread has ended: what it used is read while it lives.
        let alive = cpu();
        worker.join().expect("the worker");
        let _ = alive;
        let mine = Instant::now() + Duration::from_millis(60);
        while Instant::now() < mine {}
        let used = cpu().since(before);
        assert!(used.cpu_ns > 5_000_000, "{used:?}");
        assert!(used.cpu_ns < 2_000_000_000, "{used:?}");
    }

    #[test]
    fn a_group_is_read_from_its_text() {
        let group: Group = "dataplane=12,13".parse().expect("a group");
        assert_eq!(
            (group.name.as_str(), group.roots.as_slice(), group.alone),
            ("dataplane", &[12, 13][..], false)
        );
        assert!("dataplane".parse::<Group>().is_err());
        assert!("dataplane=x".parse::<Group>().is_err());
    }
}
