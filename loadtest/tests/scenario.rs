//! A scenario from its file to its page, as a user runs it.

use std::process::{Command, Output};

fn loadtest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_headgate-loadtest"))
        .args(arguments)
        .output()
        .expect("the program")
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .map(|a| a.port())
        .expect("a port")
}

fn scenario(port: u16) -> String {
    format!(
        "connect = \"127.0.0.1:{port}\"\npassword = \"secret\"\nbulk-rows = 500\n[target]\nlisten = \"127.0.0.1:{port}\"\npassword = \"secret\"\n\
         [[statement]]\nname = \"<b>own</b>\"\nsql = \"SELECT $1\"\nparameters = [{{ int = [1, 9] }}]\n\
         [[statement]]\nname = \"broken\"\nsql = \"this is no SQL\"\nprotocol = \"simple\"\n\
         [[phase]]\nname = \"first\"\nseconds = 0.3\nwarm-up-seconds = 0\n\
         [[phase.crew]]\nname = \"all\"\nsessions = 4\nmix = {{ point = 3, write = 1, \"<b>own</b>\" = 1, broken = 1 }}\n\
         [[phase.crew]]\nname = \"short\"\nsessions = 2\nlogins = true\n\
         [[phase]]\nname = \"second\"\nseconds = 0.3\nwarm-up-seconds = 0\n\
         [[phase.crew]]\nname = \"paced\"\nsessions = 2\nmix = {{ bulk = 1 }}\nrate = 50\narrivals = \"poisson\"\n"
    )
}

#[test]
fn a_scenario_runs_and_leaves_json_and_a_page_that_needs_no_network() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("s.toml"), scenario(free_port())).expect("the scenario");
    let ran = loadtest(&[
        "scenario",
        &at("s.toml"),
        "--report",
        &at("r.html"),
        "--json",
        &at("r.json"),
    ]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));

    let said: serde_json::Value = serde_json::from_slice(&ran.stdout).expect("JSON on standard output");
    let file: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(at("r.json")).expect("r.json"))
            .expect("JSON in the file");
    assert_eq!(said, file);
    let count = |pointer: &str| {
        said.pointer(pointer)
            .and_then(serde_json::Value::as_u64)
            .unwrap_or_else(|| panic!("{pointer}: {said}"))
    };
    for kind in ["point", "write", "<b>own<~1b>", "login"] {
        assert!(count(&format!("/phases/0/kinds/{kind}/statements")) > 0, "{kind}");
    }
    assert!(count("/phases/0/kinds/broken/errors") > 0 && count("/phases/0/errors/42601: syntax error") > 0);
    assert!(count("/phases/1/kinds/bulk/rows") >= 500);

    let page = std::fs::read_to_string(at("r.html")).expect("r.html");
    for word in [
        "<script",
        "http:",
        "https:",
        "<link",
        "@import",
        "url(",
        "<b>own</b>",
    ] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(
        page.contains("&lt;b&gt;own&lt;/b&gt;") && page.matches("<svg").count() == 8,
        "four plots a phase"
    );
    assert!(page.contains("42601: syntax error"));
}

#[test]
fn a_table_is_for_people() {
    let address = format!("127.0.0.1:{}", free_port());
    let ran = loadtest(&[
        "run",
        "--connect",
        &address,
        "--target",
        &address,
        "--window-ms",
        "200",
        "--output",
        "table",
    ]);
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success()
            && text.contains("point")
            && text.contains("p99.9")
            && text.contains("prepared: 16 sessions"),
        "{text}"
    );
}

#[test]
fn idle_says_when_all_are_there_and_reports_after_it_held_them() {
    let address = format!("127.0.0.1:{}", free_port());
    let ran = loadtest(&[
        "run",
        "--connect",
        &address,
        "--target",
        &address,
        "--mode",
        "idle",
        "--sessions",
        "50",
        "--hold-ms",
        "50",
    ]);
    let text = String::from_utf8_lossy(&ran.stdout);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        (lines.len(), lines.first().copied()),
        (2, Some("{\"ready\":50}")),
        "{text}"
    );
}

#[test]
fn what_cannot_be_run_says_why_and_what_to_do() {
    let port = free_port();
    for (arguments, says) in [
        (
            vec!["run", "--connect", &format!("127.0.0.1:{port}")],
            "nothing listens at --connect",
        ),
        (
            vec![
                "run",
                "--connect",
                "127.0.0.1:1",
                "--mode",
                "held",
                "--held-sessions",
                "1",
            ],
            "--api",
        ),
        (
            vec!["run", "--connect", "127.0.0.1:1", "--sessions", "30000"],
            "from 1 to 20000",
        ),
        (
            vec![
                "run",
                "--connect",
                "127.0.0.1:1",
                "--tls",
                "direct",
                "--ca",
                "/nothing/here.pem",
            ],
            "/nothing/here.pem",
        ),
        (vec!["scenario", "/nothing/here.toml"], "/nothing/here.toml"),
    ] {
        let ran = loadtest(&arguments);
        let text = String::from_utf8_lossy(&ran.stderr);
        assert!(
            !ran.status.success() && text.contains(says),
            "{arguments:?}: {text}"
        );
    }
}

#[test]
fn the_example_that_is_printed_is_the_example() {
    let ran = loadtest(&["scenario", "--print-example"]);
    assert_eq!(
        String::from_utf8_lossy(&ran.stdout).trim_end(),
        include_str!("../scenarios/synthetic.toml").trim_end()
    );
}
