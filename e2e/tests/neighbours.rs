//! Sick neighbours and greedy ones: targets that drop SYNs, storms of cancels, crowds at the door. Nobody else feels them.

use headgate_e2e::run::{run, until};
use headgate_e2e::{Gate, Setup, World, python};
use socket2::{Domain, Socket, Type};
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const SICK: usize = 6;

/// A listener that accepts nothing and whose queue is full: the kernel drops the SYNs of all who come.
struct Sick {
    socket: Socket,
    _queue: Vec<TcpStream>,
}

impl Sick {
    fn new() -> Sick {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        let mut queue = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(500)) {
            queue.push(stream);
            assert!(queue.len() < 16, "the queue has no end");
        }
        Sick {
            socket,
            _queue: queue,
        }
    }

    fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().as_socket().unwrap().port()
    }
}

fn gate_beside(sick: &[Sick]) -> Gate {
    let targets = sick.iter().enumerate().map(|(n, sick)| {
        format!(
            "[[target]]\nname = \"sick-{n}\"\nprotocol = \"postgres\"\naddress = \"localhost:{}\"\ndatabase = \"x\"\nuser = \"x\"\ntls = \"danger-off\"\n\n",
            sick.port()
        )
    });
    World::shared().gate(&Setup {
        more: targets.collect(),
        ..Setup::default()
    })
}

fn select_one(gate: &Gate, token: &str) {
    let mut command = gate.psql_command(token, &["-c", "SELECT 1"]);
    let ran = run(command.env("PGCONNECT_TIMEOUT", "10"), "", PATIENCE).unwrap();
    assert_eq!(
        ran.good()
            .unwrap_or_else(|why| panic!("{why}\n{}", gate.log()))
            .trim(),
        "1"
    );
}

#[test]
fn six_targets_that_drop_every_syn_keep_nobody_from_a_healthy_one() {
    let sick: Vec<Sick> = (0..SICK).map(|_| Sick::new()).collect();
    let gate = gate_beside(&sick);
    let token = gate.token("alice", &["analysts"]).unwrap();
    // People who wait for the sick ones, too.
    let waiting: Vec<_> = (0..SICK * 3)
        .map(|n| {
            let mut command = gate.psql_command(&token, &["-c", "SELECT 1"]);
            command.env("PGDATABASE", format!("sick-{}", n % SICK));
            headgate_e2e::run::Running::start(&mut command, "").unwrap()
        })
        .collect();
    let down = |n: usize| {
        gate.log()
            .lines()
            .any(|line| line.contains("cannot be reached") && line.contains(&format!("sick-{n}")))
    };
    let mut signed_in = 0;
    // Until every sick one was probed and given up; then as long again, while they are probed again.
    until("all sick targets are known to be so", PATIENCE, || {
        select_one(&gate, &token);
        signed_in += 1;
        (0..SICK).all(down)
    })
    .unwrap();
    for _ in 0..signed_in {
        select_one(&gate, &token);
    }
    for waiting in waiting {
        let ran = waiting.wait(PATIENCE).unwrap();
        assert!(ran.stderr.contains("cannot reach this target"), "{}", ran.all());
    }
}

fn cancels(case: &str) {
    let gate = World::open_gate();
    let token = gate.token("alice", &["analysts"]).unwrap();
    let mut command = Command::new(python::interpreter().unwrap_or_else(|why| panic!("{why}")));
    command
        .arg(python::script("cancels.py"))
        .arg(case)
        .envs(gate.environment(&token));
    let ran = run(&mut command, "", Duration::from_secs(90)).unwrap();
    println!("{}", ran.stdout);
    assert!(
        ran.ok() && ran.stdout.trim().ends_with("ok"),
        "{}\n--- gate\n{}",
        ran.all(),
        gate.log()
    );
}

#[test]
fn forty_cancels_at_once_all_take_effect() {
    cancels("together");
}

#[test]
fn cancels_of_older_clients_come_in_clear_and_take_effect_too() {
    cancels("in_clear");
}

#[test]
fn one_cancel_after_another_takes_effect() {
    cancels("alone");
}

#[test]
fn a_thousand_cancels_that_nobody_knows_end_without_a_word() {
    cancels("unknown");
}

#[test]
fn a_crowd_that_says_nothing_is_turned_away_and_a_session_works_on() {
    let dataplane = "spool_bytes = \"8MiB\"\nhalf_open_per_address_max = 20".to_owned();
    let gate = World::shared().gate(&Setup {
        dataplane,
        ..Setup::default()
    });
    let token = gate.token("alice", &["analysts"]).unwrap();
    let mut session = gate
        .psql_beside(&token, "SELECT pg_sleep(3); SELECT 'still here'")
        .unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], gate.port));
    until("the session is there", PATIENCE, || {
        let asleep =
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%still here%' AND state = 'active' AND pid <> pg_backend_pid()";
        World::shared().postgres.sql("postgres", asleep).unwrap().trim() == "1"
    })
    .unwrap();
    let mut crowd: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    for stream in &mut crowd[20..] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut said = Vec::new();
        match stream.read_to_end(&mut said) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it was left open"),
            _ => assert!(said.is_empty()),
        }
    }
    session.await_text("still here", PATIENCE).unwrap();
    drop(crowd);
    select_one(&gate, &token);
}

#[test]
fn a_principal_with_all_its_sessions_reads_so_and_another_signs_in() {
    let dataplane = "spool_bytes = \"8MiB\"\nsessions_per_principal_max = 1".to_owned();
    let gate = World::shared().gate(&Setup {
        dataplane,
        ..Setup::default()
    });
    let (alice, bob) = (
        gate.token("alice", &["analysts"]).unwrap(),
        gate.token("bob", &["analysts"]).unwrap(),
    );
    let one = gate
        .psql_beside(&alice, "SELECT pg_sleep(100) AS only_one")
        .unwrap();
    until("the first session is there", PATIENCE, || {
        let asleep = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%only_one%' AND state = 'active' AND pid <> pg_backend_pid()";
        World::shared().postgres.sql("postgres", asleep).unwrap().trim() == "1"
    })
    .unwrap();
    let refused = gate.psql(&alice, "SELECT 1").unwrap();
    assert!(
        refused.stderr.contains("too many sessions of this principal"),
        "{}",
        refused.all()
    );
    select_one(&gate, &bob);
    one.signal(rustix::process::Signal::KILL);
    one.wait(PATIENCE).unwrap();
    until("there is room again", PATIENCE, || {
        gate.psql(&alice, "SELECT 1").unwrap().ok()
    })
    .unwrap();
}
