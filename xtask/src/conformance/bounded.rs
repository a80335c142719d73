//! Runs somebody else's suite to its end, or to the end of our patience, and says from time to time how far it is.
//!
//! Invariants: nothing that the suite started outlives our patience: it runs in a process group of its own, which is killed as a
//! whole, also when we die; what it says goes to files of `.conformance/logs`, so that no reader waits for a grandchild that holds
//! a pipe.

use super::fetch::cache;
use crate::Result;
use headgate_e2e::during;
use headgate_e2e::reaper::Reaper;
use rustix::process::{Pid, Signal, kill_process_group};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const PROGRESS: Duration = Duration::from_secs(30);

pub struct Ended {
    /// `None`: ended by a signal, or by us after the time was over.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub timed_out: bool,
    pub took: Duration,
}

impl Ended {
    /// How it ended, when that was not by itself; and the last words.
    pub fn wrong(&self) -> Option<String> {
        let how = match self.code {
            _ if self.timed_out => format!("killed after {} s", self.took.as_secs()),
            None => "killed by a signal".to_owned(),
            Some(_) => return None,
        };
        let last: Vec<&str> = self
            .stderr
            .lines()
            .chain(self.stdout.lines())
            .rev()
            .take(2)
            .collect();
        Some(format!("{how}; last it said: {}", last.join(" | ")))
    }
}

/// `name`: of the files that keep what it says, `NAME.txt` and `NAME.err.txt`.
pub fn run(command: &mut Command, name: &str, patience: Duration) -> Result<Ended> {
    let logs = cache("logs")?;
    let (out, err) = (
        logs.join(format!("{name}.txt")),
        logs.join(format!("{name}.err.txt")),
    );
    let file = |path: &Path| File::create(path).map_err(during(path.display()));
    command
        .stdin(Stdio::null())
        .stdout(file(&out)?)
        .stderr(file(&err)?)
        .process_group(0);
    let began = Instant::now();
    let mut child = command
        .spawn()
        .map_err(during(format!("{:?}", command.get_program())))?;
    let reaper = Reaper::new(&format!("kill -KILL -- -{}", child.id()))?;
    let mut said_at = began;
    let mut timed_out = false;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(during("wait"))? {
            break status;
        }
        if began.elapsed() >= patience {
            timed_out = true;
            if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            break child.wait().map_err(during("wait"))?;
        }
        if said_at.elapsed() >= PROGRESS {
            said_at = Instant::now();
            println!(
                "   … {name}, {} s of at most {}: {}",
                began.elapsed().as_secs(),
                patience.as_secs(),
                last_line(&out)
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    reaper.disarm();
    let read = |path: &Path| {
        std::fs::read(path)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .map_err(during(path.display()))
    };
    Ok(Ended {
        code: if timed_out { None } else { status.code() },
        stdout: read(&out)?,
        stderr: read(&err)?,
        timed_out,
        took: began.elapsed(),
    })
}

fn last_line(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    text.lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or_default()
        .chars()
        .take(120)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_that_hangs_is_killed_with_its_children() {
        let mut command = Command::new("sh");
        // The grandchild holds the outputs and would outlive its parent.
        command.args(["-c", "echo started; sleep 600 & echo $!; wait"]);
        let ended = run(&mut command, "bounded-test", Duration::from_secs(1)).expect("it runs");
        assert!(ended.timed_out && ended.code.is_none());
        assert!(ended.wrong().is_some_and(|why| why.starts_with("killed after")));
        let pid = ended
            .stdout
            .lines()
            .nth(1)
            .expect("the grandchild's number")
            .to_owned();
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let gone = headgate_e2e::run::until("the grandchild is gone", Duration::from_secs(5), || {
            state()
                .rsplit(')')
                .next()
                .is_none_or(|rest| rest.is_empty() || rest.trim_start().starts_with('Z'))
        });
        assert_eq!(gone, Ok(()));
    }
}
