//! `headgate run`: starts recorder, control plane and data plane, and keeps each running on its own.
//!
//! Invariants: one supervisor per runtime directory (a lock file says so); a process that dies is started again alone,
//! the others go on, and the spools in the runtime directory stay. Stopping goes down the stream of events: the data
//! plane first, so nothing new is done; then the recorder, which drains what was; then the control plane.
//! SIGHUP stops nothing: it goes on to the data plane, which reads the listeners' certificates again. The rules need no word,
//! the control plane looks at their file by itself.
//! Never here: anything that a client or target sent.
//! A supervisor that is killed outright leaves its processes running; under systemd the unit's control group ends them.

use crate::args::{Reach, RunArgs};
use crate::fail::Fail;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Who ran for so long has started; its next death begins with the first back-off again.
const UP_AFTER: Duration = Duration::from_secs(3);
/// Tries of a process that never came up, before `run` gives up.
const TRIES_MAX: u32 = 5;
/// A line of a child is cut after so many bytes.
const LINE_BYTES_MAX: u64 = 16 << 10;

/// A process to keep running.
#[derive(Clone, Debug)]
struct Part {
    name: &'static str,
    program: PathBuf,
    args: Vec<std::ffi::OsString>,
    /// From SIGTERM to SIGKILL.
    stop_wait: Duration,
    /// It reads files again at SIGHUP; others would end by it.
    takes_hangup: bool,
}

struct Running {
    stop: watch::Sender<bool>,
    /// Counts SIGHUPs.
    hangup: watch::Sender<u64>,
    /// Ends with the reason when the part could not be started at all.
    task: JoinHandle<Result<(), Fail>>,
    name: &'static str,
}

pub async fn run(reach: &Reach, args: RunArgs) -> Result<ExitCode, Fail> {
    let path = absolute(&reach.config_path())?;
    let config = reach.load_config()?;
    let problems = config.check();
    if let Some(first) = problems.first() {
        let fail = Fail::new(format!("{}: {first}", path.display()));
        return Err(fail.hint(format!("{} problem(s) in all: headgate check", problems.len())));
    }
    let runtime = absolute(&config.appliance.runtime)?;
    let data = absolute(&config.appliance.data)?;
    headgate_controlplane::sockets::runtime_dir(&runtime).map_err(|e| Fail::new(e.to_string()))?;
    private_dir(&runtime.join("spool"))?;
    private_dir(&data)?;
    let _lock = lock(&runtime)?;
    if !on_tmpfs(&runtime) {
        tracing::warn!(runtime = %runtime.display(), "the runtime directory is not on tmpfs: recording in memory goes through a disk's cache");
    }

    let bin_dir = args.bin_dir.as_deref();
    let os = |text: &str| std::ffi::OsString::from(text);
    let parts = [
        Part {
            name: "recorder",
            program: sibling(bin_dir, "headgate-recorder")?,
            args: vec![
                os("--audit-dir"),
                data.join("audit").into(),
                os("--spool-dir"),
                runtime.join("spool").into(),
                os("--key"),
                data.join("recorder.key").into(),
            ],
            stop_wait: Duration::from_secs(30),
            takes_hangup: false,
        },
        Part {
            name: "controlplane",
            program: std::env::current_exe()?,
            args: vec![os("controlplane"), os("--config"), path.clone().into()],
            stop_wait: Duration::from_secs(10),
            takes_hangup: false,
        },
        Part {
            name: "dataplane",
            program: sibling(bin_dir, "headgate-dataplane")?,
            args: vec![os("--config"), path.into()],
            stop_wait: Duration::from_secs(15),
            takes_hangup: true,
        },
    ];
    watch_over(parts).await
}

async fn watch_over(parts: [Part; 3]) -> Result<ExitCode, Fail> {
    let mut term = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let mut int = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    // Before the first process is there: from here on SIGHUP ends nobody.
    let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())?;
    let mut running: Vec<Running> = parts.into_iter().map(start).collect();
    let failed = {
        let [recorder, control, data] = running.as_mut_slice() else {
            return Err(Fail::new("three processes belong together"));
        };
        loop {
            tokio::select! {
                _ = term.recv() => break None,
                _ = int.recv() => break None,
                _ = hangup.recv() => {
                    tracing::info!("SIGHUP: the data plane reads its certificates again");
                    data.hangup.send_modify(|count| *count += 1);
                }
                ended = &mut recorder.task => break Some((0, ended)),
                ended = &mut control.task => break Some((1, ended)),
                ended = &mut data.task => break Some((2, ended)),
            }
        }
    };
    tracing::info!("stopping: data plane, recorder, control plane");
    let mut result = Ok(ExitCode::SUCCESS);
    let gone = failed.map(|(index, ended)| {
        result = match ended {
            Ok(Err(fail)) => Err(fail),
            _ => Err(Fail::new("a process ended by itself")),
        };
        index
    });
    for index in [2, 0, 1] {
        if gone == Some(index) {
            continue;
        }
        if let Some(part) = running.get_mut(index) {
            part.stop.send_replace(true);
            let _ = (&mut part.task).await;
            tracing::info!(process = part.name, "stopped");
        }
    }
    result
}

fn start(part: Part) -> Running {
    let (stop, stopping) = watch::channel(false);
    let (hangup, hung_up) = watch::channel(0);
    let name = part.name;
    Running {
        stop,
        hangup,
        task: tokio::spawn(keep(part, stopping, hung_up)),
        name,
    }
}

/// Starts the part again and again until told to stop. `Err` only if it never came up.
async fn keep(
    part: Part,
    mut stopping: watch::Receiver<bool>,
    mut hung_up: watch::Receiver<u64>,
) -> Result<(), Fail> {
    let mut backoff = BACKOFF_FIRST;
    let mut tries = 0;
    let mut was_up = false;
    loop {
        let began = Instant::now();
        let died = match spawn(&part) {
            Ok(mut child) => {
                tracing::info!(process = part.name, pid = child.id(), "started");
                let ended = loop {
                    tokio::select! {
                        ended = child.wait() => break ended,
                        () = stop_requested(&mut stopping) => return end(&part, child).await,
                        Ok(()) = hung_up.changed() => {
                            if part.takes_hangup {
                                signal(&child, Signal::HUP);
                            }
                        }
                    }
                };
                ended.map_or_else(|e| e.to_string(), describe)
            }
            Err(error) => format!("it cannot be started: {error}"),
        };
        if began.elapsed() >= UP_AFTER {
            was_up = true;
            backoff = BACKOFF_FIRST;
        }
        tries += 1;
        tracing::error!(
            process = part.name,
            why = died,
            restart_in_ms = backoff.as_millis() as u64,
            "died"
        );
        if !was_up && tries >= TRIES_MAX {
            let fail = Fail::new(format!(
                "{} did not come up in {TRIES_MAX} tries; last: {died}",
                part.name
            ));
            return Err(fail.hint("its own words are above; also: headgate check, headgate doctor"));
        }
        tokio::select! {
            () = tokio::time::sleep(backoff) => {}
            () = stop_requested(&mut stopping) => return Ok(()),
        }
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

async fn stop_requested(stopping: &mut watch::Receiver<bool>) {
    let _ = stopping.wait_for(|s| *s).await;
}

fn spawn(part: &Part) -> std::io::Result<Child> {
    let mut command = Command::new(&part.program);
    command
        .args(&part.args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // A group of its own: Ctrl-C in a terminal reaches the supervisor alone, which keeps the order of stopping.
    command.process_group(0).kill_on_drop(true);
    let mut child = command.spawn()?;
    if let Some(out) = child.stdout.take() {
        tokio::spawn(prefix(part.name, out));
    }
    if let Some(err) = child.stderr.take() {
        tokio::spawn(prefix(part.name, err));
    }
    Ok(child)
}

fn signal(child: &Child, signal: Signal) {
    if let Some(pid) = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw)
    {
        let _ = kill_process(pid, signal);
    }
}

async fn end(part: &Part, mut child: Child) -> Result<(), Fail> {
    signal(&child, Signal::TERM);
    if let Ok(ended) = tokio::time::timeout(part.stop_wait, child.wait()).await {
        let why = ended.map_or_else(|e| e.to_string(), describe);
        tracing::info!(process = part.name, why, "ended");
    } else {
        tracing::error!(
            process = part.name,
            seconds = part.stop_wait.as_secs(),
            "did not stop when asked; killed"
        );
        let _ = child.kill().await;
    }
    Ok(())
}

/// Each line of a child with its name before it, on standard error.
async fn prefix(name: &'static str, from: impl AsyncRead + Unpin) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut from)
            .take(LINE_BYTES_MAX)
            .read_until(b'\n', &mut line)
            .await
        {
            Ok(0) | Err(_) => return,
            Ok(_) => eprintln!("{name:<12} {}", String::from_utf8_lossy(&line).trim_end()),
        }
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(0), _) => "ended by itself".to_owned(),
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(9)) => "killed by signal 9 (by somebody, or for lack of memory: dmesg)".to_owned(),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// A program beside this one.
pub fn sibling(bin_dir: Option<&Path>, name: &str) -> Result<PathBuf, Fail> {
    let dir = match bin_dir {
        Some(dir) => dir.to_owned(),
        None => {
            let own = std::env::current_exe()?;
            own.parent()
                .map(Path::to_owned)
                .ok_or_else(|| Fail::new("this program is nowhere"))?
        }
    };
    let program = dir.join(name);
    if program.is_file() {
        return Ok(program);
    }
    Err(Fail::new(format!("{} is not there", program.display()))
        .hint("install all of Headgate's programs in one directory, or --bin-dir DIR"))
}

fn absolute(path: &Path) -> Result<PathBuf, Fail> {
    std::path::absolute(path).map_err(|e| Fail::new(format!("{}: {e}", path.display())))
}

fn private_dir(dir: &Path) -> Result<(), Fail> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| Fail::new(format!("{}: {e}", dir.display())))
}

/// Held while the supervisor lives; the kernel lets go of it whatever happens.
fn lock(runtime: &Path) -> Result<File, Fail> {
    let path = runtime.join("run.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.map_err(|e| Fail::new(format!("{}: {e}", path.display())))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| Fail::new(format!("another `headgate run` uses {}", runtime.display())))?;
    Ok(file)
}

fn on_tmpfs(dir: &Path) -> bool {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    rustix::fs::statfs(dir).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(TMPFS_MAGIC))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: String) -> Part {
        Part {
            name: "test",
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            stop_wait: Duration::from_secs(5),
            takes_hangup: true,
        }
    }

    /// Nobody stops it, and nobody hangs up: whose other ends are there all the same.
    fn alone() -> (watch::Receiver<bool>, watch::Receiver<u64>) {
        let ((stop, stopping), (hangup, hung_up)) = (watch::channel(false), watch::channel(0));
        std::mem::forget((stop, hangup));
        (stopping, hung_up)
    }

    #[tokio::test]
    async fn a_process_that_never_comes_up_is_named_with_its_exit_code() {
        let (stopping, hung_up) = alone();
        let fail = keep(shell("exit 71".into()), stopping, hung_up)
            .await
            .unwrap_err();
        assert!(fail.message.contains("exit code 71"), "{}", fail.message);
    }

    #[tokio::test]
    async fn a_process_that_dies_is_started_again_and_ends_when_told() {
        let dir = tempfile::tempdir().unwrap();
        let (mark, stopped) = (dir.path().join("mark"), dir.path().join("stopped"));
        // Dies the first time; the second time it stays until SIGTERM, and says so.
        let script = format!(
            "if [ -e {m} ]; then trap 'touch {s}; exit 0' TERM; touch {m}.up; while :; do sleep 0.05; done; fi; touch {m}; exit 3",
            m = mark.display(),
            s = stopped.display()
        );
        let running = start(shell(script));
        let up = mark.with_extension("up");
        for _ in 0..100 {
            if up.exists() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(up.exists(), "it was started a second time");
        running.stop.send_replace(true);
        running.task.await.unwrap().unwrap();
        assert!(stopped.exists(), "it was asked before it was killed");
    }

    #[tokio::test]
    async fn a_hangup_reaches_the_process_that_takes_it_and_ends_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let exists = async |file: &Path| {
            for _ in 0..100 {
                if file.exists() {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            false
        };
        let script = |up: &str, heard: &str| {
            let (up, heard) = (path(up), path(heard));
            format!(
                "trap 'touch {}' HUP; touch {}; while :; do sleep 0.05; done",
                heard.display(),
                up.display()
            )
        };
        let takes = start(shell(script("takes.up", "takes.heard")));
        let other = start(Part {
            takes_hangup: false,
            ..shell(script("other.up", "other.heard"))
        });
        assert!(exists(&path("takes.up")).await && exists(&path("other.up")).await);
        for running in [&takes, &other] {
            running.hangup.send_modify(|count| *count += 1);
        }
        assert!(exists(&path("takes.heard")).await);
        assert!(!path("other.heard").exists(), "it was not meant");
        for running in [takes, other] {
            assert!(!running.task.is_finished());
            running.stop.send_replace(true);
            running.task.await.unwrap().unwrap();
        }
    }

    #[test]
    fn two_supervisors_cannot_share_a_runtime_directory() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        assert!(lock(dir.path()).is_err());
        drop(held);
        lock(dir.path()).unwrap();
    }
}
