//! Every mode over real sockets.

use super::*;
use crate::plan::{Arrivals, Crew, Load, Pace};
use crate::script::{Login, Protocol, Work};
use std::net::{SocketAddr, TcpListener as StdListener};

fn free_port() -> u16 {
    StdListener::bind("127.0.0.1:0")
        .and_then(|l| l.local_addr())
        .map(|a| a.port())
        .expect("a port")
}

fn login() -> Login {
    Login::new("u", "d", "secret")
}

fn points(sessions: usize) -> Crew {
    Crew::new("points", sessions, login(), vec![Work::point(Protocol::Prepared)])
}

fn load(connect: SocketAddr, crews: Vec<Crew>) -> Load {
    Load {
        name: "test".to_owned(),
        connect: connect.into(),
        tls: None,
        crews,
        warm_up: Duration::from_millis(20),
        window: Duration::from_millis(150),
        watch: Vec::new(),
        on_error: OnError::Stop,
        reviewer: None,
        shows_progress: false,
        says_ready: false,
    }
}

/// Load and synthetic target in one process.
fn plan(crews: Vec<Crew>) -> Plan {
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    Plan {
        target: Some(TargetPlan {
            listen,
            password: None,
            latency: Duration::ZERO,
        }),
        loads: vec![load(listen, crews)],
    }
}

fn reported(plan: &Plan) -> Report {
    run(plan).expect("a run").pop().expect("a report")
}

#[test]
fn every_protocol_runs_over_sockets_and_counts_what_came_back() {
    for work in [
        Work::point(Protocol::Simple),
        Work::point(Protocol::Extended),
        Work::point(Protocol::Prepared),
        Work::bulk(5_000),
    ] {
        let is_bulk = work.kind == "bulk";
        let report = reported(&plan(vec![Crew::new("all", 8, login(), vec![work])]));
        assert!(report.statements > 8, "{report:?}");
        let rows = if is_bulk { 5_000 } else { 1 };
        assert!(report.rows >= report.statements * rows, "{report:?}");
        assert!(
            report.latency.p50_us > 0.0 && report.latency.p99_us >= report.latency.p50_us,
            "{report:?}"
        );
        let shown = if is_bulk {
            "twenty bytes of text"
        } else {
            crate::target::EMAIL
        };
        assert!(report.sample.contains(shown), "{report:?}");
    }
}

#[test]
fn an_endpoint_that_is_not_there_is_an_error_that_says_so() {
    let mut plan = plan(vec![points(1)]);
    plan.loads[0].connect = SocketAddr::from(([127, 0, 0, 1], free_port())).into();
    let said = run(&plan).expect_err("nobody listens").to_string();
    assert!(
        said.contains("refused") && said.contains("nothing listens"),
        "{said}"
    );
}

#[test]
fn the_target_wants_its_password_and_believes_no_other() {
    let mut plan = plan(vec![points(4)]);
    plan.target.as_mut().expect("a target").password = Some("secret".to_owned());
    assert!(reported(&plan).statements > 4);
    plan.target.as_mut().expect("a target").password = Some("another".to_owned());
    let said = run(&plan).expect_err("a wrong password").to_string();
    assert!(said.contains("28P01"), "{said}");
}

#[test]
fn logins_come_and_go_and_each_counts() {
    let report = reported(&plan(vec![Crew {
        logins: true,
        ..Crew::new("logins", 4, login(), vec![Work::point(Protocol::Simple)])
    }]));
    assert!(report.statements > 8, "{report:?}");
    let after = &report.kinds["point"];
    assert!(after.statements.abs_diff(report.statements) <= 8, "{report:?}");
    assert_eq!(report.sessions_lost, 0);
}

#[test]
fn a_pipeline_keeps_its_depth_on_the_way() {
    let mut plan = plan(vec![Crew {
        pipeline: 16,
        ..points(1)
    }]);
    // Each batch takes the target's latency, so more than one statement a latency shows that several were on their way.
    plan.target.as_mut().expect("a target").latency = Duration::from_millis(20);
    let report = reported(&plan);
    assert!(report.statements >= 32, "{report:?}");
    assert!(report.latency.p50_us >= 20_000.0, "{report:?}");
}

#[test]
fn an_open_loop_counts_the_wait_of_a_statement_whose_session_is_busy() {
    let mut plan = plan(vec![Crew {
        pace: Pace::Open {
            per_s: 1_000.0,
            arrivals: Arrivals::Poisson,
        },
        ..points(1)
    }]);
    plan.target.as_mut().expect("a target").latency = Duration::from_millis(10);
    // One session can do a hundred a second; ten times as many want to start.
    let report = reported(&plan);
    let overload = report.overload.expect("an open loop");
    assert!(overload.overloaded && overload.waiting > 20, "{overload:?}");
    assert!(
        report.latency.max_us > 30_000.0,
        "the wait counts: {:?}",
        report.latency
    );
}

#[test]
fn point_reads_have_their_own_figures_beside_large_results_and_slow_readers() {
    let bulk = Crew {
        headline: false,
        ..Crew::new("bulk", 2, login(), vec![Work::bulk(20_000)])
    };
    let slow_work = Work {
        kind: "slow".to_owned(),
        ..Work::bulk(200_000)
    };
    let slow = Crew {
        headline: false,
        read_bytes_per_s: Some(100_000),
        ..Crew::new("slow", 2, login(), vec![slow_work])
    };
    let mut plan = plan(vec![points(4), bulk, slow]);
    plan.loads[0].window = Duration::from_millis(600);
    let report = reported(&plan);
    assert_eq!(report.statements, report.kinds["point"].statements);
    assert!(
        report.statements > 4 && report.kinds["bulk"].statements > 0,
        "{report:?}"
    );
    let slow = &report.kinds["slow"];
    assert!(
        slow.statements == 0
            && slow.crew_bytes_down_per_s > 50_000.0
            && slow.crew_bytes_down_per_s < 400_000.0,
        "{slow:?}"
    );
}

#[test]
fn idle_sessions_do_nothing_and_are_all_there() {
    let report = reported(&plan(vec![Crew::new("idle", 300, login(), Vec::new())]));
    assert_eq!(
        (report.sessions_ready, report.statements, report.sessions_lost),
        (300, 0, 0)
    );
}

#[test]
fn a_refused_statement_is_counted_where_that_is_wanted_and_ends_the_run_where_not() {
    let bad = || Work {
        kind: "bad".to_owned(),
        weight: 1,
        ..Work::new("bad", "headgate refused this", Protocol::Simple)
    };
    let mut plan = plan(vec![Crew::new(
        "mixed",
        2,
        login(),
        vec![Work::point(Protocol::Simple), bad()],
    )]);
    let said = run(&plan).expect_err("refused").to_string();
    assert!(said.contains("42601: syntax error"), "{said}");
    plan.loads[0].on_error = OnError::Count;
    let report = reported(&plan);
    assert!(
        report.kinds["point"].statements > 0 && report.kinds["bad"].errors > 0,
        "{report:?}"
    );
    assert_eq!(report.errors.len(), 1, "{report:?}");
}
