//! The recording: what was done is found, replayed, and cannot be changed without showing.

use headgate_e2e::{Gate, Setup, World};
use std::path::{Path, PathBuf};
use std::time::Duration;

const RULES: &str = r#"
[[rule]]
name = "agents read"
who = { groups = ["agents"] }
statement = { class = ["read"], relations = ["public.*"] }
effect = "allow"

[[rule]]
name = "nobody drops"
statement = { verbs = ["drop table"] }
effect = "deny"
"#;

fn gate() -> Gate {
    World::shared().gate(&Setup::with_rules(RULES))
}

fn verify(gate: &Gate) -> headgate_e2e::Ran {
    gate.headgate(&["audit", "verify"], "").unwrap()
}

#[test]
fn every_statement_is_found_by_who_what_verdict_rule_resource_and_text() {
    let gate = gate();
    let token = gate
        .token_with(
            "alice",
            &["agents"],
            &["--actor", "shop-agent", "--actor", "planner"],
        )
        .unwrap();
    let script = "SELECT count(*) FROM orders;\nDROP TABLE orders;\nSELECT 1/0;\nSELECT name FROM products WHERE id = 7;\n";
    let mut psql = gate.psql_command(&token, &["-q", "-v", "ON_ERROR_STOP=0", "-f", "-"]);
    headgate_e2e::run(&mut psql, script, Duration::from_secs(30)).unwrap();

    let rows = gate
        .audit(&["--principal", "alice"], |rows| {
            rows.len() >= 4 && rows.iter().all(|r| r["ended"] == true)
        })
        .unwrap();
    let one = |text: &str| {
        rows.iter()
            .find(|r| r["text"].as_str().unwrap().contains(text))
            .unwrap_or_else(|| panic!("{text}: {rows:#?}"))
    };
    let read = one("FROM orders");
    assert_eq!(
        (&read["verdict"], &read["rule"], &read["actor"]),
        (&"allow".into(), &"agents read".into(), &"shop-agent".into())
    );
    assert_eq!(read["chain"], serde_json::json!(["shop-agent", "planner"]));
    assert_eq!(read["resources"], serde_json::json!(["public.orders"]));
    assert_eq!(read["rows"], 1);
    let dropped = one("DROP TABLE");
    assert_eq!(
        (&dropped["verdict"], &dropped["rule"]),
        (&"deny".into(), &"nobody drops".into())
    );
    assert_eq!(one("1/0")["error"]["code"], "22012");

    for (flags, count) in [
        (vec!["--verdict", "deny"], 1),
        (vec!["--resource", "public.products"], 1),
        (vec!["--text", "count(*)"], 1),
        (vec!["--actor", "shop-agent"], 4),
        (vec!["--anyone", "planner"], 4),
        (vec!["--code", "22012"], 1),
        (vec!["--principal", "somebody else"], 0),
        (vec!["--target", "shop", "--limit", "2"], 2),
        (vec!["--since", "1h"], 4),
        (vec!["--until", "1h"], 0),
    ] {
        let found = gate.audit(&flags, |_| true).unwrap();
        assert_eq!(found.len(), count, "{flags:?}: {found:#?}");
    }
}

#[test]
fn a_session_is_replayed_in_order_with_what_the_client_saw() {
    let gate = gate();
    let token = gate.token("alice", &["agents"]).unwrap();
    gate.psql(
        &token,
        "SELECT 'first' AS seen;\nSELECT id, name FROM products ORDER BY id LIMIT 2;\n",
    )
    .unwrap()
    .good()
    .unwrap();
    let rows = gate.audit(&["--text", "first"], |rows| !rows.is_empty()).unwrap();
    let session = rows[0]["session"].as_str().unwrap();
    headgate_e2e::run::until("the session has ended", Duration::from_secs(20), || {
        gate.headgate(&["replay", session], "")
            .unwrap()
            .stdout
            .contains("session_close")
    })
    .unwrap();
    let text = gate.headgate(&["replay", session], "").unwrap().good().unwrap();
    let at = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words}: {text}"));
    let order = [
        at("session_open"),
        at("'first'"),
        at("first"),
        at("FROM products"),
        at("Chair no. 1"),
        at("session_close"),
    ];
    assert!(
        order[0] < order[1] && order[1] < order[3] && order[3] < order[4] && order[4] < order[5],
        "{text}"
    );
    let past = gate
        .headgate(&["sessions", "--past"], "")
        .unwrap()
        .good()
        .unwrap();
    assert!(past.contains(session), "{past}");
}

#[test]
fn a_sign_in_that_was_refused_is_recorded_too() {
    let gate = gate();
    assert!(!gate.psql("hgt_guess", "SELECT 1").unwrap().ok());
    let refused = || gate.headgate(&["sessions", "--past"], "").unwrap().stdout;
    headgate_e2e::run::until("the refusal is recorded", Duration::from_secs(20), || {
        refused().to_lowercase().contains("refused")
    })
    .unwrap_or_else(|why| panic!("{why}: {}", refused()));
}

#[test]
fn the_chain_is_valid_while_running_after_a_stop_and_after_a_restart() {
    let mut gate = gate();
    let token = gate.token("alice", &["agents"]).unwrap();
    let work = |gate: &Gate| {
        gate.psql(&token, &"SELECT count(*) FROM orders;\n".repeat(50))
            .unwrap()
            .good()
            .unwrap();
    };
    work(&gate);
    gate.audit(&["--limit", "100"], |rows| rows.len() >= 50).unwrap();
    let running = verify(&gate);
    assert!(running.ok(), "{}", running.all());
    gate.stop().unwrap();
    let stopped = verify(&gate);
    assert!(stopped.ok(), "{}", stopped.all());
    gate.launch().unwrap();
    work(&gate);
    gate.audit(&["--limit", "1000"], |rows| rows.len() >= 100)
        .unwrap();
    gate.stop().unwrap();
    let again = verify(&gate);
    assert!(again.ok(), "{}", again.all());
}

#[test]
fn a_changed_byte_a_missing_file_and_another_key_are_found() {
    let mut gate = gate();
    let token = gate.token("alice", &["agents"]).unwrap();
    gate.psql(&token, &"SELECT count(*) FROM orders;\n".repeat(200))
        .unwrap()
        .good()
        .unwrap();
    gate.audit(&["--limit", "1000"], |rows| rows.len() >= 200)
        .unwrap();
    // A second run: what the first one left in the write-ahead log is in tables then, and checkpoints follow it.
    gate.stop().unwrap();
    gate.launch().unwrap();
    gate.psql(&token, "SELECT count(*) FROM products;")
        .unwrap()
        .good()
        .unwrap();
    gate.audit(&["--limit", "1000"], |rows| rows.len() >= 201)
        .unwrap();
    gate.stop().unwrap();
    assert!(verify(&gate).ok());

    let audit = gate.folder.join("data/audit");
    let kept = gate.folder.join("kept");
    copy(&audit, &kept);
    let mut largest: Vec<(u64, PathBuf)> = std::fs::read_dir(&audit)
        .unwrap()
        .flatten()
        .filter(|e| e.path().extension().is_some_and(|x| x == "sst"))
        .map(|e| (e.metadata().unwrap().len(), e.path()))
        .collect();
    largest.sort();
    let (bytes, file) = largest.pop().expect("the recording has files");
    assert!(bytes > 0);

    let mut changed = std::fs::read(&file).unwrap();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    std::fs::write(&file, &changed).unwrap();
    assert!(!verify(&gate).ok(), "a changed byte");

    std::fs::remove_dir_all(&audit).unwrap();
    copy(&kept, &audit);
    assert!(verify(&gate).ok());
    std::fs::remove_file(&file).unwrap();
    assert!(!verify(&gate).ok(), "a missing file");

    std::fs::remove_dir_all(&audit).unwrap();
    copy(&kept, &audit);
    let other = World::shared().gate(&Setup::with_rules(RULES));
    let foreign = std::fs::read_dir(other.folder.join("data"))
        .unwrap()
        .flatten()
        .map(|e| e.path());
    let foreign = foreign
        .into_iter()
        .find(|p| p.extension().is_some_and(|x| x == "pub"))
        .expect("a public key");
    let ran = gate
        .headgate(
            &["audit", "verify", "--public-key", foreign.to_str().unwrap()],
            "",
        )
        .unwrap();
    assert!(!ran.ok(), "another key: {}", ran.all());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
