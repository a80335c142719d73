//! Each of the three processes is killed while the others work.

use headgate_e2e::run::{Running, send, until};
use headgate_e2e::{Gate, Setup, World};
use rustix::process::Signal;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(40);

const RULES: &str = r#"
[[rule]]
name = "everything"
statement = { class = ["read", "write", "ddl", "session", "transaction", "catalog"] }
effect = "allow"

[[rule]]
name = "deletes wait"
statement = { verbs = ["delete"] }
effect = "hold"
reviewers = { groups = ["dba"] }
"#;

/// A psql whose statements are written one by one.
struct Session {
    stdin: std::process::ChildStdin,
    child: std::process::Child,
    output: std::fs::File,
    path: std::path::PathBuf,
}

impl Session {
    fn open(gate: &Gate, name: &str) -> Session {
        let token = gate.token("alice", &["analysts"]).unwrap();
        let path = gate.folder.join(format!("{name}.out"));
        let output = std::fs::File::create(&path).unwrap();
        let mut command = gate.psql_command(&token, &["-q", "-v", "ON_ERROR_STOP=0", "-f", "-"]);
        command
            .stdin(std::process::Stdio::piped())
            .stdout(output.try_clone().unwrap())
            .stderr(output.try_clone().unwrap());
        let mut child = command.spawn().unwrap();
        Session {
            stdin: child.stdin.take().unwrap(),
            child,
            output,
            path,
        }
    }

    fn say(&mut self, sql: &str) {
        use std::io::Write;
        writeln!(self.stdin, "{sql}").unwrap();
        self.output.flush().unwrap();
    }

    fn heard(&self) -> String {
        std::fs::read_to_string(&self.path).unwrap()
    }

    fn hears(&self, text: &str, patience: Duration) {
        until(&format!("psql says `{text}`"), patience, || {
            self.heard().contains(text)
        })
        .unwrap_or_else(|why| panic!("{why}: {}", self.heard()));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn without_the_control_plane_running_sessions_go_on_and_held_ones_stay_held() {
    let gate = World::shared().gate(&Setup::with_rules(RULES));
    let (token, dana) = (
        gate.token("bob", &["analysts"]).unwrap(),
        gate.token("dana", &["dba"]).unwrap(),
    );
    let mut working = Session::open(&gate, "working");
    let mut waiting = Session::open(&gate, "waiting");
    working.say("SELECT 'known ' || 1;");
    working.hears("known 1", PATIENCE);
    World::shared()
        .postgres
        .sql("shop", "CREATE TABLE held_over (n int); ALTER TABLE held_over OWNER TO shop_app; INSERT INTO held_over VALUES (1)")
        .unwrap();
    waiting.say("DELETE FROM held_over;");
    let number = gate.await_question("held_over").unwrap();

    // Stopped, not killed, first: the supervisor would have another up before anything could be seen.
    let pid = gate.pid_of("controlplane").unwrap();
    send(pid, Signal::STOP);
    working.say("SELECT 'known ' || 2;");
    working.hears("known 2", Duration::from_secs(5));
    working.say("SELECT 'never seen before ' || count(*) FROM products;");
    working.hears("never seen before", Duration::from_secs(5));
    let late = gate.psql(&token, "SELECT 1").unwrap();
    assert!(
        !late.ok() && late.stderr.contains("Headgate"),
        "a clear error: {}",
        late.all()
    );
    assert!(late.took < Duration::from_secs(20), "{:?}", late.took);

    gate.kill("controlplane").unwrap();
    working.say("SELECT 'known ' || 3;");
    working.hears("known 3", Duration::from_secs(5));
    gate.await_restart("controlplane", pid, PATIENCE).unwrap();
    until("the restarted control plane knows the question", PATIENCE, || {
        gate.questions().is_ok_and(|open| open.contains(&number))
    })
    .unwrap_or_else(|why| panic!("{why}: {:?}\n{}", gate.questions(), gate.log()));
    assert!(
        !waiting.heard().contains("ERROR"),
        "it stayed held: {}",
        waiting.heard()
    );
    let yes = gate.headgate_as(&dana, &["approve", &number]).unwrap();
    assert!(yes.ok(), "{}", yes.all());
    until("the approved statement is done", PATIENCE, || {
        World::shared()
            .postgres
            .sql("shop", "SELECT count(*) FROM held_over")
            .unwrap()
            .trim()
            == "0"
    })
    .unwrap_or_else(|why| panic!("{why}: {}\n{}", waiting.heard(), gate.log()));
    assert!(
        gate.psql(&token, "SELECT 1").unwrap().ok(),
        "and new sessions come in again"
    );
}

#[test]
fn after_the_data_plane_was_killed_what_it_acknowledged_is_in_the_recording() {
    let mut gate = World::shared().gate(&Setup::with_rules(RULES));
    let token = gate.token("alice", &["analysts"]).unwrap();
    World::shared()
        .postgres
        .sql(
            "shop",
            "CREATE TABLE acknowledged (n int); ALTER TABLE acknowledged OWNER TO shop_app",
        )
        .unwrap();
    let script: String = (1..=100_000)
        .map(|n| format!("INSERT INTO acknowledged VALUES ({n}) RETURNING n;\n"))
        .collect();
    let psql = Running::start(&mut gate.psql_command(&token, &["-q", "-f", "-"]), &script).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    let old = gate.kill("headgate-dataplane").unwrap();
    let ran = psql.wait(PATIENCE).unwrap();
    let seen = ran.stdout.lines().filter(|line| !line.is_empty()).count();
    assert!(seen > 20, "{}", ran.all());
    gate.await_restart("headgate-dataplane", old, PATIENCE).unwrap();
    gate.await_ready(PATIENCE).unwrap();
    let done: usize = World::shared()
        .postgres
        .sql("shop", "SELECT count(*) FROM acknowledged")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(done >= seen);
    let rows = gate
        .audit(
            &["--text", "INSERT INTO acknowledged", "--limit", "200000"],
            |rows| rows.len() >= done,
        )
        .unwrap();
    assert!(rows.len() >= done, "{} recorded, {done} done", rows.len());
    assert!(
        gate.psql(&token, "SELECT 1").unwrap().ok(),
        "the gate is open again"
    );
    let verified = gate.headgate(&["audit", "verify"], "").unwrap();
    assert!(verified.ok(), "{}", verified.all());
}

#[test]
fn while_the_recorder_is_dead_sessions_pause_and_nothing_is_lost() {
    let setup = Setup {
        dataplane: "spool_bytes = \"1MiB\"\ncores = 1".to_owned(),
        ..Setup::with_rules(RULES)
    };
    let gate = World::shared().gate(&setup);
    let token = gate.token("alice", &["analysts"]).unwrap();
    const STATEMENTS: usize = 4000;
    // Two kilobytes each, so that the spool holds a fraction of them.
    let filler = "x".repeat(2000);
    let script: String = (1..=STATEMENTS)
        .map(|n| format!("SELECT {n}, length('{filler}');\n"))
        .collect();
    let recorder = gate.pid_of("headgate-recorder").unwrap();
    send(recorder, Signal::STOP);
    let mut psql = Running::start(&mut gate.psql_command(&token, &["-q", "-f", "-"]), &script).unwrap();
    std::thread::sleep(Duration::from_secs(3));
    let paused = psql.heard().lines().count();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(
        psql.heard().lines().count(),
        paused,
        "the session pauses when there is no room to record"
    );
    assert!(paused < STATEMENTS && !psql.has_ended(), "{paused}");

    gate.kill("headgate-recorder").unwrap();
    gate.await_restart("headgate-recorder", recorder, PATIENCE)
        .unwrap();
    let ran = psql.wait(Duration::from_secs(90)).unwrap();
    assert!(ran.ok(), "{}\n{}", ran.stderr, gate.log());
    assert_eq!(
        ran.stdout.lines().count(),
        STATEMENTS,
        "it went on, and to the end"
    );
    let rows = gate
        .audit(
            &["--text", "SELECT", "--principal", "alice", "--limit", "100000"],
            |rows| rows.len() >= STATEMENTS,
        )
        .unwrap();
    assert_eq!(
        rows.iter()
            .filter(|r| r["text"].as_str().unwrap().contains("length("))
            .count(),
        STATEMENTS,
        "each is recorded once"
    );
    let verified = gate.headgate(&["audit", "verify"], "").unwrap();
    assert!(verified.ok(), "{}", verified.all());
}

#[test]
fn an_ordinary_stop_ends_everything_quickly_and_leaves_a_recording_that_verifies() {
    let mut gate = World::shared().gate(&Setup::with_rules(RULES));
    let mut open = Session::open(&gate, "open");
    open.say("SELECT 'up';");
    open.hears("up", PATIENCE);
    let began = Instant::now();
    gate.stop().unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}\n{}",
        began.elapsed(),
        gate.log()
    );
    open.say("SELECT 'gone';");
    open.hears("Headgate stops", Duration::from_secs(5));
    assert!(!gate.log().contains("panicked"), "{}", gate.log());
    let verified = gate.headgate(&["audit", "verify"], "").unwrap();
    assert!(verified.ok(), "{}", verified.all());
}
