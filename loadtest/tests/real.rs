//! Against real servers: PostgreSQL with TLS and SCRAM, and Headgate with its reviewers.

use headgate_e2e::{Gate, Setup, World};
use headgate_loadtest::client::OnError;
use headgate_loadtest::drive;
use headgate_loadtest::plan::{Crew, Endpoint, Load, Plan};
use headgate_loadtest::report::Report;
use headgate_loadtest::reviewer::{Api, ReviewerPlan};
use headgate_loadtest::script::{Login, Parameter, Protocol, Work};
use headgate_loadtest::tls::{Start, Tls, Trust};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

const RULES: &str = r#"
[[rule]]
name = "everything"
statement = { class = ["read", "write", "ddl", "session", "transaction", "catalog", "maintenance"] }
effect = "allow"

[[rule]]
name = "deletes wait"
statement = { verbs = ["delete"] }
effect = "hold"
reviewers = { groups = ["dba"] }
"#;

fn gate() -> &'static Gate {
    static GATE: OnceLock<Gate> = OnceLock::new();
    GATE.get_or_init(|| {
        // Administrators end sessions.
        World::shared().gate(&Setup {
            more: "admin_groups = [\"admins\"]\n".to_owned(),
            ..Setup::with_rules(RULES)
        })
    })
}

fn load(port: u16, root: &Path, start: Start, login: Login, work: Vec<Work>) -> Load {
    let connect: Endpoint = format!("localhost:{port}").parse().expect("localhost");
    let connect = Endpoint {
        address: ([127, 0, 0, 1], port).into(),
        ..connect
    };
    Load {
        name: "real".to_owned(),
        tls: Tls::new(start, &Trust::File(root.to_owned()), "localhost", false).expect("TLS"),
        connect,
        crews: vec![Crew::new("all", 4, login, work)],
        warm_up: Duration::from_millis(50),
        window: Duration::from_millis(500),
        watch: Vec::new(),
        on_error: OnError::Stop,
        reviewer: None,
        shows_progress: false,
        says_ready: false,
    }
}

fn run(load: Load) -> Report {
    drive::run(&Plan {
        target: None,
        loads: vec![load],
    })
    .expect("a run")
    .pop()
    .expect("a report")
}

/// A statement of one's own, with parameters that change.
fn own(protocol: Protocol) -> Work {
    let parameters = vec![Parameter::Int(1, 1_000), Parameter::Letters(12)];
    Work {
        parameters,
        ..Work::new("own", "SELECT $1::int + 1, upper($2::text)", protocol)
    }
}

#[test]
fn postgresql_is_driven_in_every_protocol_over_tls_and_scram() {
    let postgres = &World::shared().postgres;
    let login = || Login::new("shop_app", "shop", &postgres.password);
    let simple = Work::new("simple", "SELECT 1 AS one, 'ünïcode'", Protocol::Simple);
    for work in [simple, own(Protocol::Extended), own(Protocol::Prepared)] {
        let report = run(load(
            postgres.port,
            postgres.root(),
            Start::Negotiate,
            login(),
            vec![work],
        ));
        assert!(
            report.statements > 20 && report.rows == report.statements,
            "{report:?}"
        );
    }
    let mut logins = load(
        postgres.port,
        postgres.root(),
        Start::Negotiate,
        login(),
        Vec::new(),
    );
    logins.crews[0].logins = true;
    assert!(run(logins).statements > 2);
    let mut pipelined = load(
        postgres.port,
        postgres.root(),
        Start::Negotiate,
        login(),
        vec![own(Protocol::Prepared)],
    );
    pipelined.crews[0].pipeline = 32;
    assert!(run(pipelined).statements > 100);
}

#[test]
fn postgresql_refuses_a_wrong_password_and_the_error_says_so() {
    let postgres = &World::shared().postgres;
    let load = load(
        postgres.port,
        postgres.root(),
        Start::Negotiate,
        Login::new("shop_app", "shop", "wrong"),
        vec![own(Protocol::Prepared)],
    );
    let said = drive::run(&Plan {
        target: None,
        loads: vec![load],
    })
    .expect_err("a wrong password")
    .to_string();
    assert!(
        said.contains("28P01") && said.contains("HEADGATE_LOADTEST_PASSWORD"),
        "{said}"
    );
}

#[test]
fn a_certificate_of_somebody_else_is_not_believed() {
    let postgres = &World::shared().postgres;
    let login = Login::new("shop_app", "shop", &postgres.password);
    let load = load(
        postgres.port,
        &gate().root,
        Start::Negotiate,
        login,
        vec![own(Protocol::Prepared)],
    );
    let said = drive::run(&Plan {
        target: None,
        loads: vec![load],
    })
    .expect_err("another authority")
    .to_string();
    assert!(said.contains("certificate"), "{said}");
}

#[test]
fn headgate_is_driven_in_tls_both_ways() {
    for start in [Start::Direct, Start::Negotiate] {
        let token = gate().token("alice", &["analysts"]).expect("a token");
        let report = run(load(
            gate().port,
            &gate().root,
            start,
            Login::new("alice", "shop", &token),
            vec![own(Protocol::Prepared)],
        ));
        assert!(report.statements > 20, "{report:?}");
    }
}

#[test]
fn the_robot_approves_what_is_held_and_ends_what_is_to_be_ended_beside_a_load() {
    World::shared()
        .postgres
        .sql("shop", "SET ROLE shop_app; CREATE TABLE held_things (id int)")
        .expect("a table");
    let token = |principal: &str, group: &str| gate().token(principal, &[group]).expect("a token");
    let login = Login::new("alice", "shop", &token("alice", "analysts"));
    let sql = "DELETE FROM held_things WHERE id = ";
    let held = Crew {
        headline: false,
        ..Crew::new("held", 2, login.clone(), vec![Work::held(sql)])
    };
    let ended = Crew {
        headline: false,
        victims: true,
        ..Crew::new("ended", 2, login.clone(), Vec::new())
    };
    let mut load = load(
        gate().port,
        &gate().root,
        Start::Negotiate,
        login,
        vec![own(Protocol::Prepared)],
    );
    load.crews.extend([held, ended]);
    load.window = Duration::from_secs(3);
    load.reviewer = Some(ReviewerPlan {
        api: Api::Http(format!("127.0.0.1:{}", gate().api)),
        token: Some(token("dana", "dba")),
        admin_token: Some(token("root", "admins")),
        answer_after: Duration::from_millis(1),
        revokes_per_s: 10.0,
        held_sql: vec![sql.to_owned()],
    });
    let report = run(load);
    let approved = report
        .approve_to_forward
        .as_ref()
        .unwrap_or_else(|| panic!("{report:?}"));
    // The target is another process: the answer at the client is what can be seen.
    assert!(approved.count > 5 && approved.seen_at == "client", "{report:?}");
    let cut = report
        .revoke_to_cut
        .as_ref()
        .unwrap_or_else(|| panic!("{report:?}"));
    assert!(cut.count > 3 && cut.latency.p50_us > 0.0, "{report:?}");
    assert!(report.statements > 20, "the load went on: {report:?}");
}
