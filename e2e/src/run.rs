//! Runs a program to its end, or to the end of our patience.

use crate::{Result, during};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// What a program said.
#[derive(Clone, Debug)]
pub struct Ran {
    /// `None`: ended by a signal, or by us after the time was over.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
    pub timed_out: bool,
}

impl Ran {
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// Standard output of a program that ended well; everything that it said when it did not.
    pub fn good(self) -> Result<String> {
        if self.ok() {
            Ok(self.stdout)
        } else {
            Err(self.all())
        }
    }

    pub fn all(&self) -> String {
        let how = if self.timed_out {
            "timed out".to_owned()
        } else {
            format!("{:?}", self.code)
        };
        format!(
            "exit {how} after {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.took, self.stdout, self.stderr
        )
    }
}

/// Runs the command to its end, for at most `patience`.
pub fn run(command: &mut Command, input: &str, patience: Duration) -> Result<Ran> {
    Running::start(command, input)?.wait(patience)
}

/// A program that runs beside us.
pub struct Running {
    child: Child,
    stdout: std::thread::JoinHandle<String>,
    stderr: std::thread::JoinHandle<String>,
    began: Instant,
    heard: std::sync::Arc<std::sync::Mutex<String>>,
}

impl Running {
    pub fn start(command: &mut Command, input: &str) -> Result<Running> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(during(format!("{:?}", command.get_program())))?;
        let heard = std::sync::Arc::<std::sync::Mutex<String>>::default();
        let stdout = reader(child.stdout.take(), heard.clone());
        let stderr = reader(child.stderr.take(), heard.clone());
        if let Some(mut stdin) = child.stdin.take() {
            let input = input.to_owned();
            // A program that ends early does not read it all: that is its own affair.
            std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
        }
        Ok(Running {
            child,
            stdout,
            stderr,
            began: Instant::now(),
            heard,
        })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|ended| ended.is_some())
    }

    /// Everything that it has said until now, on both of its outputs.
    pub fn heard(&self) -> String {
        self.heard.lock().map(|text| text.clone()).unwrap_or_default()
    }

    /// Waits until it has said `text`.
    pub fn await_text(&mut self, text: &str, patience: Duration) -> Result<String> {
        let until = Instant::now() + patience;
        loop {
            let heard = self.heard();
            if heard.contains(text) {
                return Ok(heard);
            }
            if Instant::now() >= until || (self.has_ended() && !self.heard().contains(text)) {
                return Err(format!("`{text}` was not said; what was said: {}", self.heard()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn wait(mut self, patience: Duration) -> Result<Ran> {
        let until = Instant::now() + patience;
        let mut timed_out = false;
        let status: ExitStatus = loop {
            match self.child.try_wait().map_err(during("wait"))? {
                Some(status) => break status,
                None if Instant::now() >= until => {
                    timed_out = true;
                    let _ = self.child.kill();
                    break self.child.wait().map_err(during("wait"))?;
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let took = self.began.elapsed();
        let code = if timed_out { None } else { status.code() };
        let (stdout, stderr) = (
            self.stdout.join().unwrap_or_default(),
            self.stderr.join().unwrap_or_default(),
        );
        Ok(Ran {
            code,
            stdout,
            stderr,
            took,
            timed_out,
        })
    }
}

fn reader(
    from: Option<impl Read + Send + 'static>,
    heard: std::sync::Arc<std::sync::Mutex<String>>,
) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let mut piece = [0; 8192];
        let Some(mut from) = from else {
            return String::new();
        };
        while let Ok(n) = from.read(&mut piece) {
            let Some(bytes) = piece.get(..n).filter(|b| !b.is_empty()) else {
                break;
            };
            all.extend_from_slice(bytes);
            if let Ok(mut heard) = heard.lock() {
                heard.push_str(&String::from_utf8_lossy(bytes));
            }
        }
        String::from_utf8_lossy(&all).into_owned()
    })
}

pub fn send(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Asks again and again until it is so.
pub fn until(what: &str, patience: Duration, mut so: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + patience;
    while !so() {
        if Instant::now() >= end {
            return Err(format!("not within {patience:?}: {what}"));
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    Ok(())
}
