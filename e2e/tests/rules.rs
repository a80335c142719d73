//! Rules and masks from outside: denials, reloads, and no clear byte by any door.

use headgate_e2e::run::{run, until};
use headgate_e2e::{Gate, Ran, Setup, World};
use std::sync::OnceLock;
use std::time::Duration;

const RULES: &str = r#"
[[rule]]
name = "analysts read the shop"
who = { groups = ["analysts", "privacy-officers"] }
statement = { class = ["read", "write"], relations = ["public.*"] }
effect = "allow"

[[rule]]
name = "no DELETE without WHERE"
statement = { verbs = ["delete"] }
when = "!statement.has_where"
effect = "deny"
message = "add a WHERE clause"

[[mask]]
name = "contact data"
columns = ["public.customers.email", "public.customers.phone"]
detect = ["email", "payment_card", "us_ssn"]
method = "partial"
unless = { groups = ["privacy-officers"] }
"#;

fn gate() -> &'static Gate {
    static GATE: OnceLock<Gate> = OnceLock::new();
    GATE.get_or_init(|| World::shared().gate(&Setup::with_rules(RULES)))
}

fn alice() -> String {
    gate().token("alice", &["analysts"]).unwrap()
}

/// Every e-mail, phone, card and social security number of the shop, as they stand in the database.
fn secrets() -> &'static [String] {
    static SECRETS: OnceLock<Vec<String>> = OnceLock::new();
    SECRETS.get_or_init(|| {
        let rows = World::shared().postgres.sql(
            "shop",
            "SELECT email FROM customers UNION SELECT phone FROM customers \
             UNION SELECT substring(notes FROM 'card (.*)') FROM customers WHERE notes LIKE '%card%' \
             UNION SELECT substring(notes FROM 'SSN (.*)') FROM customers WHERE notes LIKE '%SSN%'",
        );
        rows.unwrap().lines().map(str::to_owned).collect()
    })
}

fn no_clear_byte(ran: &Ran) {
    let all = ran.all();
    let hex = |text: &str| text.bytes().map(|b| format!("{b:02x}")).collect::<String>();
    for secret in secrets() {
        assert!(!all.contains(secret.as_str()), "`{secret}` leaked: {all}");
        assert!(!all.contains(&hex(secret)), "`{secret}` leaked as hex: {all}");
    }
}

fn ask(sql: &str) -> Ran {
    run(
        &mut gate().psql_command(&alice(), &["-q", "-v", "ON_ERROR_STOP=0", "-f", "-"]),
        sql,
        Duration::from_secs(40),
    )
    .unwrap()
}

#[test]
fn a_masked_value_leaves_by_no_ordinary_door() {
    let doors = [
        "SELECT * FROM customers ORDER BY id;",
        "SELECT email AS innocent, phone AS number FROM customers;",
        "SELECT c FROM customers c;",
        "SELECT lower(email), email || '', substr(phone, 1, 30) FROM customers;",
        "SELECT array_agg(email), json_agg(phone), string_agg(notes, ' ') FROM customers;",
        "SELECT row_to_json(c), to_jsonb(c), c::text FROM customers c;",
        "SELECT x.e FROM (SELECT email AS e FROM customers) x;",
        "WITH x AS (SELECT email e, phone p FROM customers) SELECT e, p FROM x UNION ALL SELECT p, e FROM x;",
        "SELECT max(email), min(phone) FROM customers;",
        "SELECT encode(email::bytea, 'hex') FROM customers;",
        "COPY customers TO STDOUT;",
        "COPY (SELECT email, notes FROM customers) TO STDOUT WITH (FORMAT csv, HEADER);",
        "\\copy customers TO STDOUT CSV",
        "BEGIN; DECLARE c CURSOR FOR SELECT * FROM customers; FETCH ALL FROM c; COMMIT;",
        "PREPARE p AS SELECT email, phone FROM customers; EXECUTE p;",
        "SELECT email::int FROM customers;",
        "SELECT ('x' || email)::numeric FROM customers WHERE id = 5;",
        "SELECT 1/(length(email)-length(email)) FROM customers WHERE email LIKE 'a%';",
        "UPDATE customers SET city = city WHERE id = 5 RETURNING email, phone;",
        "INSERT INTO customers SELECT id, name, email, phone, city FROM customers WHERE id = 5;",
        "SELECT notes FROM customers WHERE id = 8;",
    ];
    for door in doors {
        no_clear_byte(&ask(door));
    }
}

#[test]
fn a_masked_read_still_reads_the_rest() {
    let ran = ask("SELECT id, name, email, notes FROM customers WHERE id IN (5, 6) ORDER BY id;");
    assert!(
        ran.ok() && ran.stdout.contains("prefers deliveries on Friday"),
        "{}",
        ran.all()
    );
    assert_eq!(ran.stdout.lines().count(), 2, "{}", ran.all());
}

#[test]
fn whoever_the_mask_excepts_reads_in_clear() {
    let officer = gate().token("otto", &["privacy-officers"]).unwrap();
    let ran = gate()
        .psql(&officer, "SELECT email FROM customers WHERE id = 5")
        .unwrap()
        .good()
        .unwrap();
    assert!(secrets().iter().any(|secret| secret == ran.trim()), "{ran}");
}

#[test]
fn the_recording_keeps_the_masked_reply_and_never_the_clear_one() {
    let marker = "the_recorded_mask";
    no_clear_byte(&ask(&format!(
        "SELECT email, phone, notes AS {marker} FROM customers;"
    )));
    let rows = gate()
        .audit(&["--text", marker], |rows| {
            rows.iter().any(|row| row["ended"] == true)
        })
        .unwrap();
    let session = rows[0]["session"].as_str().unwrap();
    assert!(rows[0]["masked"].as_u64().unwrap() > 0, "{rows:#?}");
    let replay = gate()
        .headgate(&["replay", session, "--output", "jsonl"], "")
        .unwrap();
    assert!(replay.stdout.contains("reply"), "{}", replay.all());
    no_clear_byte(&replay);
}

#[test]
fn a_denied_statement_never_reaches_the_target_and_the_session_lives_on() {
    let ran = ask(
        "\\set VERBOSITY verbose\nDELETE FROM orders;\nCREATE TABLE smuggled (n int);\nDO $$BEGIN END$$;\nSELECT 'alive';\n",
    );
    assert_eq!(ran.stderr.matches("42501").count(), 3, "{}", ran.all());
    assert!(
        ran.stderr.contains("add a WHERE clause") && ran.stdout.contains("alive"),
        "{}",
        ran.all()
    );
    let server = &World::shared().postgres;
    assert_eq!(
        server
            .sql(
                "shop",
                "SELECT count(*), to_regclass('smuggled') IS NULL FROM orders"
            )
            .unwrap()
            .trim(),
        "800|t"
    );
}

#[test]
fn one_denied_statement_of_a_message_denies_the_message() {
    let mut psql = gate().psql_command(
        &alice(),
        &[
            "-c",
            "INSERT INTO products VALUES (999, 'x', 1, 1); DELETE FROM orders; SELECT 1",
        ],
    );
    let ran = run(&mut psql, "", Duration::from_secs(30)).unwrap();
    assert!(
        !ran.ok() && ran.stderr.contains("add a WHERE clause"),
        "{}",
        ran.all()
    );
    assert_eq!(
        World::shared()
            .postgres
            .sql("shop", "SELECT count(*) FROM products WHERE id = 999")
            .unwrap()
            .trim(),
        "0"
    );
}

#[test]
fn new_rules_apply_to_open_sessions_without_a_restart_and_broken_ones_not_at_all() {
    let gate = World::shared().gate(&Setup::with_rules(RULES));
    let token = gate.token("alice", &["analysts"]).unwrap();
    let data_plane = gate.pid_of("headgate-dataplane").unwrap();
    let ask = |sql: &str| gate.psql(&token, sql).unwrap();
    assert!(ask("SELECT count(*) FROM orders").ok());
    // One session, open all the while: it asks again and again until it is refused.
    let asks = "SELECT count(*) FROM orders;\n\\! sleep 0.2\n".repeat(100);
    let mut command = gate.psql_command(&token, &["-q", "-f", "-"]);
    let open = headgate_e2e::run::Running::start(&mut command, &asks).unwrap();
    let narrower = RULES.replace("\"public.*\"", "\"public.products\"");
    gate.write("rules.toml", &narrower).unwrap();
    until("the narrower rules are in force", Duration::from_secs(20), || {
        !ask("SELECT count(*) FROM orders").ok()
    })
    .unwrap();
    let ended = open.wait(Duration::from_secs(40)).unwrap();
    assert!(
        ended.stderr.contains("no rule") || ended.stderr.contains("Headgate:"),
        "{}",
        ended.all()
    );
    assert!(ask("SELECT count(*) FROM products").ok());
    gate.write("rules.toml", "[[rule]]\nname = \"broken\"\neffect = \"alow\"\n")
        .unwrap();
    std::thread::sleep(Duration::from_secs(3));
    assert!(
        ask("SELECT count(*) FROM products").ok(),
        "a broken file changes nothing"
    );
    assert!(!ask("SELECT count(*) FROM orders").ok());
    gate.write("rules.toml", RULES).unwrap();
    until(
        "the first rules are in force again",
        Duration::from_secs(20),
        || ask("SELECT count(*) FROM orders").ok(),
    )
    .unwrap();
    assert_eq!(
        gate.pid_of("headgate-dataplane").unwrap(),
        data_plane,
        "nothing was restarted"
    );
}

#[test]
fn explain_says_which_rule_decides() {
    let ran = gate()
        .headgate(
            &[
                "rules",
                "explain",
                "DELETE FROM orders",
                "--as",
                "alice",
                "--group",
                "analysts",
                "--target",
                "shop",
            ],
            "",
        )
        .unwrap();
    assert!(
        ran.ok() && ran.stdout.contains("no DELETE without WHERE") && ran.stdout.contains("deny"),
        "{}",
        ran.all()
    );
}
