//! The binary itself: a control plane as a child, and the command line against its admin socket.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const RULES: &str = "[[rule]]\nname = \"read\"\nstatement = { class = [\"read\"] }\neffect = \"allow\"\n";

struct Gate {
    dir: tempfile::TempDir,
    child: Child,
}

impl Gate {
    fn start() -> Gate {
        let dir = tempfile::tempdir().unwrap();
        let config = format!(
            "[appliance]\nname = \"gate-1\"\ndata = \"{0}/data\"\nruntime = \"{0}/run\"\n\
             [[listener]]\nprotocol = \"postgres\"\naddress = \"127.0.0.1:5432\"\ndanger_allow_cleartext = true\n\
             [[target]]\nname = \"orders\"\nprotocol = \"postgres\"\naddress = \"127.0.0.1:5433\"\ndatabase = \"orders\"\n\
             user = \"app\"\nsecret = \"orders\"\ntls = \"danger-off\"\n\
             [local]\nusers = \"users.toml\"\n\
             [api]\naddress = \"127.0.0.1:0\"\n",
            dir.path().display()
        );
        std::fs::write(dir.path().join("headgate.toml"), config).unwrap();
        std::fs::write(dir.path().join("rules.toml"), RULES).unwrap();
        let hash = ok(&headgate(
            dir.path(),
            &["user", "hash", "--password-stdin"],
            "correct horse\n",
        ));
        let users = format!(
            "[[user]]\nname = \"alice\"\npassword = \"{}\"\ngroups = [\"dev\"]\n",
            hash.trim()
        );
        let file = dir.path().join("users.toml");
        std::fs::write(&file, users).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let mut command = program(dir.path());
        let child = command
            .args(["controlplane", "--config"])
            .arg(dir.path().join("headgate.toml"))
            .spawn()
            .unwrap();
        let gate = Gate { dir, child };
        let began = Instant::now();
        while !gate.socket().exists() {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "the control plane starts"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        gate
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("run/admin.sock")
    }

    fn say(&self, args: &[&str], input: &str) -> Output {
        let config = self.dir.path().join("headgate.toml");
        let mut all = args.to_vec();
        all.extend(["--config", config.to_str().unwrap()]);
        headgate(self.dir.path(), &all, input)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_headgate"));
    command.env_clear().env("HOME", home).env("HEADGATE_LOG", "error");
    command
}

fn headgate(home: &Path, args: &[&str], input: &str) -> Output {
    let mut child = program(home)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn ok(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn failed(output: &Output) -> String {
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(
        output.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_operator_sets_up_secrets_tokens_and_rules_from_the_command_line() {
    let gate = Gate::start();
    ok(&gate.say(&["check"], ""));

    ok(&gate.say(&["secret", "put", "orders"], "s3cret\n"));
    let secrets = ok(&gate.say(&["secret", "list", "--output", "json"], ""));
    assert!(
        secrets.contains("\"orders\"") && !secrets.contains("s3cret"),
        "{secrets}"
    );
    assert!(ok(&gate.say(&["targets"], "")).contains("orders"));

    // Alone on standard output, so that it can be taken by a script.
    let token = ok(&gate.say(
        &[
            "token",
            "mint",
            "--principal",
            "nightly",
            "--group",
            "jobs",
            "--ttl",
            "1h",
        ],
        "",
    ));
    assert!(
        token.starts_with("hgt_") && token.trim().lines().count() == 1,
        "{token}"
    );
    let tokens = ok(&gate.say(&["token", "list", "--output", "jsonl"], ""));
    let listed: serde_json::Value = serde_json::from_str(tokens.lines().next().unwrap()).unwrap();
    assert_eq!(listed["principal"], "nightly");
    assert!(!tokens.contains(token.trim()));

    // With a token the admin socket speaks for the token, not for the operator.
    let file = gate.dir.path().join("token");
    std::fs::write(&file, &token).unwrap();
    let refused = failed(&gate.say(&["token", "list", "--token-file", file.to_str().unwrap()], ""));
    assert!(refused.contains("administrator"), "{refused}");
    ok(&gate.say(&["token", "revoke", listed["id"].as_str().unwrap()], ""));
    failed(&gate.say(&["questions", "--token-file", file.to_str().unwrap()], ""));

    assert!(ok(&gate.say(&["questions"], "")).contains("NUMBER"));
    assert!(failed(&gate.say(&["approve", "HG-999"], "")).contains("no such question"));
    ok(&gate.say(&["rules", "status"], ""));
    let explained = ok(&gate.say(
        &[
            "rules", "explain", "select 1", "--as", "alice", "--target", "orders",
        ],
        "",
    ));
    assert!(explained.contains("allow"), "{explained}");
    let offline = gate.dir.path().join("rules.toml");
    let args = [
        "rules",
        "explain",
        "drop table t",
        "--as",
        "alice",
        "--target",
        "orders",
        "--rules",
        offline.to_str().unwrap(),
    ];
    assert!(ok(&gate.say(&args, "")).contains("deny"));
    assert!(ok(&gate.say(&["metrics"], "")).contains("headgate_controlplane_links 0"));

    std::fs::write(&offline, "[[rule]]\nnonsense = true\n").unwrap();
    let checked = failed(&gate.say(&["rules", "check"], ""));
    assert!(checked.contains("line 2"), "{checked}");
    assert_eq!(
        gate.say(&["rules", "reload"], "").status.code(),
        Some(1),
        "the file is not what is in force"
    );
}

#[test]
fn a_local_user_logs_in_and_the_token_is_kept_for_this_user_alone() {
    use std::os::unix::fs::PermissionsExt;
    let gate = Gate::start();
    let wrong = failed(&gate.say(&["login", "--user", "alice", "--password-stdin"], "wrong\n"));
    assert!(!wrong.contains("alice"), "{wrong}");
    let nothing = failed(&gate.say(&["token", "show"], ""));
    assert!(nothing.contains("headgate login"), "{nothing}");
    ok(&gate.say(
        &["login", "--user", "alice", "--password-stdin"],
        "correct horse\n",
    ));
    let saved = gate.dir.path().join(".config/headgate/token");
    assert_eq!(
        std::fs::metadata(&saved).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let token = ok(&gate.say(&["token", "show"], ""));
    assert!(token.starts_with("hgt_"));
    let child = ok(&gate.say(&["token", "child", "--actor", "helper"], ""));
    assert!(child.starts_with("hgt_") && child != token);
}

#[test]
fn what_cannot_be_reached_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let told = failed(&headgate(dir.path(), &["questions", "--runtime", "/nowhere"], ""));
    assert!(
        told.contains("/nowhere/admin.sock") && told.contains("headgate run"),
        "{told}"
    );
    let told = failed(&headgate(
        dir.path(),
        &["check", "--config", "/nowhere/headgate.toml"],
        "",
    ));
    assert!(told.contains("/nowhere/headgate.toml"), "{told}");
    let usage = headgate(
        dir.path(),
        &["questions", "--server", "http://gate.example.com"],
        "",
    );
    assert_eq!(usage.status.code(), Some(2));
}
