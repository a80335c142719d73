//! `check`: what the files say. `doctor`: what the machine has. Neither starts anything.

use super::rules;
use crate::args::Reach;
use crate::fail::Fail;
use crate::supervise;
use std::path::Path;
use std::process::ExitCode;

/// Space for the recording before anybody connects.
const DISK_FREE_MIN: u64 = 2 << 30;
/// Each session has two sockets, and there are files besides.
const OPEN_FILES_MIN: u64 = 65_536;
const MEMLOCK_MIN: u64 = 64 << 20;
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// 0 when both files are right, 1 with every problem when they are not.
pub fn check(reach: &Reach) -> Result<ExitCode, Fail> {
    let config = reach.load_config()?;
    let mut problems: Vec<String> = config.check().iter().map(ToString::to_string).collect();
    if config.appliance.rules.exists()
        && let Err(fail) = rules::compile(&config.appliance.rules)
    {
        problems.push(fail.message);
    }
    if problems.is_empty() {
        println!(
            "{} and {} are right",
            reach.config_path().display(),
            config.appliance.rules.display()
        );
        return Ok(ExitCode::SUCCESS);
    }
    for problem in &problems {
        eprintln!("{problem}");
    }
    let plural = if problems.len() == 1 {
        "problem"
    } else {
        "problems"
    };
    Err(Fail::new(format!(
        "{}: {} {plural}",
        reach.config_path().display(),
        problems.len()
    )))
}

/// 0 when Headgate can run here; else the data plane's own code (71 to 79) if it found something, or 1.
pub async fn doctor(reach: &Reach) -> Result<ExitCode, Fail> {
    let mut findings = Findings { missing: 0 };
    let mut code = 1;
    match reach.load_config() {
        Ok(config) => {
            findings.good(format!("{} can be read", reach.config_path().display()));
            findings.runtime(&config.appliance.runtime);
            findings.disk(&config.appliance.data);
            let mib = |bytes: u64| bytes >> 20;
            let d = &config.dataplane;
            findings.good(format!(
                "each core: a spool of {} MiB, at most {} MiB that sessions keep ({} MiB one session), 128 MiB of known texts",
                mib(d.spool_bytes),
                mib(d.core_bytes_max),
                mib(d.session_bytes_max)
            ));
        }
        Err(fail) => findings.bad(&fail.message, "mend the configuration: headgate check"),
    }
    findings.limits();
    match supervise::sibling(None, "headgate-dataplane") {
        Ok(program) => {
            let mut command = tokio::process::Command::new(&program);
            command.arg("--doctor");
            match command.status().await {
                Ok(status) if status.success() => {}
                Ok(status) => {
                    code = status.code().and_then(|c| u8::try_from(c).ok()).unwrap_or(1);
                    findings.bad(
                        &format!("the data plane's own check failed ({status})"),
                        "see its words above",
                    );
                }
                Err(error) => findings.bad(
                    &format!("{} cannot be run: {error}", program.display()),
                    "install it anew",
                ),
            }
        }
        Err(fail) => findings.bad(&fail.message, fail.hint.as_deref().unwrap_or_default()),
    }
    if findings.missing == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let fail = Fail::new(format!("{} of what Headgate needs is missing", findings.missing));
    Err(Fail { code, ..fail })
}

struct Findings {
    missing: usize,
}

impl Findings {
    fn good(&self, what: impl std::fmt::Display) {
        println!("ok       {what}");
    }

    fn bad(&mut self, what: &str, todo: &str) {
        self.missing += 1;
        println!("MISSING  {what}");
        if !todo.is_empty() {
            println!("         {todo}");
        }
    }

    fn warn(&self, what: &str, todo: &str) {
        println!("weak     {what}\n         {todo}");
    }

    fn runtime(&mut self, dir: &Path) {
        let Some(there) = nearest(dir) else {
            return self.bad(&format!("{} cannot be", dir.display()), "choose another runtime");
        };
        match statfs(there) {
            Ok((TMPFS_MAGIC, _)) => self.good(format!("runtime directory {} is on tmpfs", dir.display())),
            Ok(_) => self.bad(
                &format!("runtime directory {} is not on tmpfs", dir.display()),
                "the spools are shared memory: put `runtime` under /run or /dev/shm",
            ),
            Err(why) => self.bad(&format!("{}: {why}", there.display()), ""),
        }
    }

    fn disk(&mut self, dir: &Path) {
        let Some(there) = nearest(dir) else {
            return self.bad(&format!("{} cannot be", dir.display()), "choose another data");
        };
        match statfs(there) {
            Ok((TMPFS_MAGIC, _)) => {
                self.warn(
                    &format!("data directory {} is on tmpfs", dir.display()),
                    "recordings are gone after a restart of the machine",
                );
            }
            Ok((_, free)) if free < DISK_FREE_MIN => self.bad(
                &format!("{} has {} MiB free", there.display(), free >> 20),
                "recording needs room: what cannot be recorded is not done",
            ),
            Ok((_, free)) => self.good(format!("{} has {} MiB free", there.display(), free >> 20)),
            Err(why) => self.bad(&format!("{}: {why}", there.display()), ""),
        }
    }

    fn limits(&mut self) {
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
        match hard_limit(&limits, "Max open files") {
            Some(limit) if limit < OPEN_FILES_MIN => self.warn(
                &format!("{limit} open files at most"),
                "each session takes two: LimitNOFILE=1048576 in the unit, or ulimit -n",
            ),
            Some(limit) => self.good(format!("open files: {limit}")),
            None => self.warn("the limit of open files is not known", "is /proc mounted?"),
        }
        match hard_limit(&limits, "Max locked memory") {
            Some(limit) if limit < MEMLOCK_MIN => self.warn(
                &format!("{} KiB of locked memory at most", limit >> 10),
                "rings want more: LimitMEMLOCK=infinity in the unit, or ulimit -l",
            ),
            Some(_) => self.good("locked memory: enough"),
            None => self.warn("the limit of locked memory is not known", "is /proc mounted?"),
        }
    }
}

/// The nearest directory above that is there.
fn nearest(dir: &Path) -> Option<&Path> {
    dir.ancestors().find(|p| !p.as_os_str().is_empty() && p.is_dir())
}

/// Kind of the file system, and bytes that are free for us.
fn statfs(dir: &Path) -> Result<(i64, u64), String> {
    let stat = rustix::fs::statfs(dir).map_err(|e| e.to_string())?;
    let kind = stat.f_type;
    let size = u64::try_from(stat.f_bsize).unwrap_or(0);
    Ok((kind, stat.f_bavail.saturating_mul(size)))
}

/// The hard limit, which a process may raise its own to.
fn hard_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().nth(1)? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            1024                 524288               files     \n\
                    Max locked memory         unlimited            unlimited            bytes     \n";
        assert_eq!(hard_limit(text, "Max open files"), Some(524_288));
        assert_eq!(hard_limit(text, "Max locked memory"), Some(u64::MAX));
        assert_eq!(hard_limit(text, "Max nothing"), None);
        assert_eq!(
            nearest(Path::new("/proc/self/no/such/dir")),
            Some(Path::new("/proc/self"))
        );
    }
}
