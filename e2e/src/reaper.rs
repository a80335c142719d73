//! Ends what a test started, however the test ends: a shell that waits for the end of a pipe that only this process holds.

use crate::{Result, during};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

pub struct Reaper(Child);

impl Reaper {
    /// `script` runs (in `sh`) once this value, or this process, is gone.
    pub fn new(script: &str) -> Result<Reaper> {
        let mut command = Command::new("sh");
        // A group of its own: Ctrl-C must not end it before it has done its work.
        command
            .arg("-c")
            .arg(format!("cat >/dev/null; {script}"))
            .process_group(0);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().map(Reaper).map_err(during("sh"))
    }
}

impl Reaper {
    /// Nothing is to be done any more.
    pub fn disarm(mut self) {
        let _ = self.0.kill();
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
