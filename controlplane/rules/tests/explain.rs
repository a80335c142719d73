//! `rules explain` and `rules test` over real SQL.

use headgate_plane::{Epoch, Snapshot, TargetAuth, TargetSpec, TargetTls, Who};
use headgate_rules::{Explanation, compile, explain, run_cases};

const RULES: &str = r#"
[[rule]]
name = "agents read the shop"
who = { groups = ["agents"] }
target = { names = ["orders"] }
statement = { class = ["read"], relations = ["public.products", "public.orders"] }
effect = "allow"

[[rule]]
name = "staff write"
who = { groups = ["staff"] }
statement = { class = ["read", "write"] }
effect = "allow"

[[rule]]
name = "DDL needs a DBA"
statement = { class = ["ddl"] }
effect = "hold"
reviewers = { groups = ["dba"] }

[[rule]]
name = "where"
statement = { verbs = ["delete", "update"] }
when = "!statement.has_where"
effect = "deny"
message = "add a WHERE clause"

[[rule]]
name = "nobody writes at night"
statement = { class = ["write"] }
time = { from = "22:00", to = "06:00" }
effect = "deny"

[[mask]]
name = "contact data"
detect = ["email"]
unless = { groups = ["privacy"] }
"#;

fn snapshot() -> Snapshot {
    compile(RULES, Epoch(1)).expect("valid")
}

fn target() -> TargetSpec {
    TargetSpec {
        name: "orders".into(),
        protocol: headgate_plane::Protocol::Postgres,
        environment: "production".into(),
        address: String::new(),
        database: "orders".into(),
        user: String::new(),
        tls: TargetTls::default(),
        ca: None,
        auth: TargetAuth::default(),
        labels: vec![],
    }
}

/// As a member of `group`, at noon.
fn explained(group: &str, sql: &str) -> Explanation {
    let who = Who {
        principal: "alice".into(),
        groups: vec![group.into()],
        ..Who::default()
    };
    explain(&snapshot(), sql, &who, &target(), "public", 12 * 3_600_000).expect("valid")
}

#[test]
fn the_deciding_rule_is_named_and_every_other_says_why_not() {
    let read = explained("agents", "select * from orders join public.products using (id)");
    assert_eq!(
        (read.verdict.as_str(), read.rule.as_deref()),
        ("allow", Some("agents read the shop")),
        "{read}"
    );
    assert!(read.rules[0].decides);
    assert_eq!(read.rules[1].reason, "who.groups does not apply");
    assert!(read.rules[2].reason.contains("the statement is read"), "{read}");
    assert_eq!(
        read.statements[0].relations_read,
        ["public.orders", "public.products"]
    );
    assert_eq!(read.masks[0].name, "contact data");

    let other = explained("agents", "select * from hr.salaries");
    assert_eq!((other.verdict.as_str(), other.rule.as_deref()), ("deny", None));
    assert_eq!(other.rules[0].reason, "does not cover relation `hr.salaries`");
    assert!(explained("privacy", "select 1").masks.is_empty());
}

#[test]
fn an_explanation_reads_as_text_and_as_json() {
    let deny = explained("staff", "select 1; delete from orders");
    assert_eq!(
        (deny.verdict.as_str(), deny.rule.as_deref()),
        ("deny", Some("where"))
    );
    let text = deny.to_string();
    assert!(
        text.starts_with("deny: denied by rule \"where\": add a WHERE clause\n"),
        "{text}"
    );
    assert!(text.contains("statement 2: delete (write)"), "{text}");
    assert!(text.contains("without WHERE"), "{text}");
    assert!(
        text.contains("allow \"staff write\": matches, and another rule goes before it"),
        "{text}"
    );
    let json = serde_json::to_value(&deny).expect("serialises");
    assert_eq!(json["rules"][3]["decides"], true);
    assert_eq!(json["statements"][1]["has_where"], false);
}

#[test]
fn what_cannot_be_read_is_explained_too() {
    let mistyped = explained("staff", "selec 1");
    assert_eq!(mistyped.verdict, "deny");
    assert!(mistyped.why.contains("syntax error"), "{mistyped}");
    assert_eq!(mistyped.rule, None, "a typing error is not blamed on a rule");
    let pinned = explained("staff", "set role postgres");
    assert!(
        pinned.why.contains("no rule opens the setting \"role\""),
        "{pinned}"
    );
    assert_eq!(explained("staff", "begin").verdict, "allow");
    assert_eq!(
        explained("staff", "create table t (a int)").rule.as_deref(),
        Some("DDL needs a DBA")
    );
    assert_eq!(explained("staff", "do 'begin end'").verdict, "deny");
}

#[test]
fn cases_pass_and_fail_with_their_reason() {
    let cases = r#"
[[case]]
name = "an agent reads"
as = "alice"
groups = ["agents"]
actor = "shop-agent"
target = "orders"
sql = "select * from public.orders"
expect = "allow"
rule = "agents read the shop"

[[case]]
name = "writes at night are denied"
as = "bob"
groups = ["staff"]
target = "orders"
at = "mon 23:00"
sql = "insert into public.orders values (1)"
expect = "deny"
rule = "nobody writes at night"

[[case]]
name = "the same by day"
as = "bob"
groups = ["staff"]
target = "orders"
sql = "insert into public.orders values (1)"
expect = "deny"

[[case]]
name = "the right verdict by the wrong rule"
as = "bob"
groups = ["staff"]
target = "orders"
sql = "select 1"
expect = "allow"
rule = "agents read the shop"
"#;
    let results = run_cases(&snapshot(), cases).expect("readable");
    let passed: Vec<bool> = results.iter().map(|r| r.passed).collect();
    assert_eq!(passed, [true, true, false, false], "{results:#?}");
    assert_eq!(
        (results[2].expected.as_str(), results[2].got.as_str()),
        ("deny", "allow")
    );
    assert!(
        results[2]
            .detail
            .contains("nobody writes at night\": outside its time"),
        "{}",
        results[2].detail
    );
    assert_eq!(results[3].rule.as_deref(), Some("staff write"));
}

#[test]
fn cases_that_cannot_be_read_are_problems_with_a_place() {
    let case = |rest: &str| {
        format!("[[case]]\nname = \"c\"\nas = \"a\"\ntarget = \"t\"\nsql = \"select 1\"\n{rest}\n")
    };
    for (rest, line, said) in [
        ("expect = \"alow\"", 6, "did you mean `allow`"),
        ("expect = \"allow\"\nat = \"noon\"", 7, "mon 09:30"),
        ("expect = \"allow\"\ngrups = []", 7, "did you mean `groups`"),
        ("", 1, "missing field `expect`"),
    ] {
        let problems = run_cases(&snapshot(), &case(rest)).expect_err(rest);
        assert_eq!(
            (problems[0].line, problems[0].rule.as_str()),
            (line, "c"),
            "{problems:?}"
        );
        assert!(problems[0].message.contains(said), "{}", problems[0]);
    }
    assert!(run_cases(&snapshot(), "").is_err(), "no cases is not a pass");
}
