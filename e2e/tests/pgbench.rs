//! pgbench makes its tables and runs its load through the gate, without one error.

use headgate_e2e::World;
use headgate_e2e::run::run;
use std::process::Command;
use std::time::Duration;

#[test]
fn pgbench_fills_its_tables_and_runs_in_each_query_mode_without_an_error() {
    let gate = World::open_gate();
    let token = gate.token("bench", &["jobs"]).unwrap();
    let pgbench = |args: &[&str]| {
        let program = World::shared().postgres.bin.join("pgbench");
        let ran = run(
            Command::new(program).args(args).envs(gate.environment(&token)),
            "",
            Duration::from_secs(90),
        )
        .unwrap();
        assert!(ran.ok(), "{args:?}: {}\n{}", ran.all(), gate.log());
        ran
    };
    pgbench(&["-i", "-q"]);
    for mode in ["simple", "extended", "prepared"] {
        let ran = pgbench(&["-c", "16", "-T", "3", "-n", "-M", mode]);
        assert!(
            ran.stdout.contains("number of failed transactions: 0"),
            "{mode}: {}",
            ran.all()
        );
        let done = ran
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("number of transactions actually processed: "));
        let done: u64 = done
            .and_then(|n| n.trim().parse().ok())
            .unwrap_or_else(|| panic!("{}", ran.all()));
        assert!(done > 50, "{mode}: only {done} transactions\n{}", ran.all());
    }
    let sum =
        gate.psql(&token, "SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(bbalance) FROM pgbench_branches)").unwrap();
    assert_eq!(sum.good().unwrap().trim(), "t", "what was done is consistent");
}
