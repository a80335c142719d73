//! Clients that mean no good, beside one that works: it must not notice them, and each of them gets its end.

use headgate_e2e::run::{Running, run};
use headgate_e2e::{Gate, World};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn dial(gate: &Gate) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", gate.port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What is said until the end, and how long it took to come.
fn the_end(mut stream: TcpStream) -> (Vec<u8>, Duration) {
    let began = Instant::now();
    let mut said = Vec::new();
    let ended = stream.read_to_end(&mut said);
    match ended {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it was left open"),
        _ => (said, began.elapsed()),
    }
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// A client that works: how long a hundred statements take it, and that none fails.
fn work(gate: &Gate, token: &str) -> Duration {
    let ran = gate
        .psql(token, &"SELECT count(*) FROM products;\n".repeat(100))
        .unwrap();
    assert_eq!(ran.clone().good().unwrap().lines().count(), 100);
    ran.took
}

#[test]
fn two_hundred_idle_and_two_hundred_half_open_connections_are_not_felt_and_are_ended() {
    let gate = World::shared().gate(&headgate_e2e::Setup::default());
    let token = gate.token("alice", &["analysts"]).unwrap();
    work(&gate, &token);
    let alone = work(&gate, &token);
    let before = resident_kib(gate.pid_of("headgate-dataplane").unwrap());
    let idle: Vec<TcpStream> = (0..200).map(|_| dial(&gate)).collect();
    let half_open: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = dial(&gate);
            stream.write_all(&SSL_REQUEST).unwrap();
            stream
        })
        .collect();
    let beside = work(&gate, &token);
    assert!(
        beside < alone * 3 + Duration::from_secs(2),
        "{beside:?} beside them, {alone:?} alone"
    );
    let after = resident_kib(gate.pid_of("headgate-dataplane").unwrap());
    assert!(
        after < before + 100 * 1024,
        "{before} KiB before, {after} KiB with 400 connections"
    );
    let patience = Instant::now();
    for stream in idle.into_iter().chain(half_open) {
        the_end(stream);
    }
    assert!(
        patience.elapsed() < Duration::from_secs(60),
        "{:?}",
        patience.elapsed()
    );
    work(&gate, &token);
}

#[test]
fn a_client_that_sends_one_byte_a_second_is_ended_by_its_deadline() {
    let gate = World::open_gate();
    let token = gate.token("alice", &["analysts"]).unwrap();
    let mut slow = dial(gate);
    let mut reader = slow.try_clone().unwrap();
    let end = std::thread::spawn(move || {
        let began = Instant::now();
        let mut said = Vec::new();
        let _ = reader.set_read_timeout(Some(Duration::from_secs(60)));
        let _ = reader.read_to_end(&mut said);
        (said, began.elapsed())
    });
    let body = b"\0\x03\0\0user\0alice\0application_name\0a very long name that would take minutes at this speed\0\0";
    let mut bytes = vec![0, 0, 0, u8::try_from(body.len() + 4).unwrap()];
    bytes.extend_from_slice(body);
    let mut works = 0;
    for byte in bytes {
        if slow.write_all(&[byte]).is_err() || end.is_finished() {
            break;
        }
        if works < 3 {
            work(gate, &token);
            works += 1;
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    let (said, took) = end.join().unwrap();
    assert!(took < Duration::from_secs(60), "it was let go on for {took:?}");
    assert!(said.is_empty() || said.first() == Some(&b'E'), "{said:?}");
}

#[test]
fn a_length_of_one_gibibyte_is_refused_at_once_and_allocates_nothing() {
    let gate = World::open_gate();
    let data_plane = gate.pid_of("headgate-dataplane").unwrap();
    let before = resident_kib(data_plane);
    for _ in 0..20 {
        let mut stream = dial(gate);
        stream.write_all(&[0x40, 0, 0, 0, 0, 3, 0, 0]).unwrap();
        let (said, took) = the_end(stream);
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert!(said.is_empty() || said.first() == Some(&b'E'), "{said:?}");
    }
    let after = resident_kib(data_plane);
    assert!(
        after < before + 20 * 1024,
        "{before} KiB before, {after} KiB after"
    );
}

#[test]
fn a_gibibyte_message_inside_a_session_ends_that_session_alone() {
    let gate = World::open_gate();
    let token = gate.token("alice", &["analysts"]).unwrap();
    let script = headgate_e2e::python::script("hostile.py");
    let data_plane = gate.pid_of("headgate-dataplane").unwrap();
    let before = resident_kib(data_plane);
    let mut python = std::process::Command::new("python3");
    python.arg(script).envs(gate.environment(&token));
    let hostile = Running::start(&mut python, "").unwrap();
    work(gate, &token);
    let ran = hostile.wait(Duration::from_secs(60)).unwrap();
    assert!(ran.ok(), "{}\n{}", ran.all(), gate.log());
    let after = resident_kib(data_plane);
    assert!(
        after < before + 50 * 1024,
        "{before} KiB before, {after} KiB after"
    );
}

#[test]
fn garbage_of_every_kind_gets_an_end_and_harms_nobody() {
    let gate = World::open_gate();
    let token = gate.token("alice", &["analysts"]).unwrap();
    let mut kinds: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        vec![0; 64],
        vec![0xff; 64],
        vec![0, 0, 0, 0],
        vec![0, 0, 0, 3],
        vec![0, 0, 0, 8, 0, 3, 0, 0],
        [SSL_REQUEST.as_slice(), b"this is no TLS record at all".as_slice()].concat(),
        [SSL_REQUEST.as_slice(), SSL_REQUEST.as_slice()].concat(),
        vec![0x16, 3, 1, 0xff, 0xff, 1, 2, 3],
        vec![0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 1, 0, 0, 0, 2],
    ];
    let mut seed = 7_u32;
    for _ in 0..50 {
        let mut noise = Vec::new();
        for _ in 0..200 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise.push(seed.to_be_bytes()[0]);
        }
        kinds.push(noise);
    }
    for kind in &kinds {
        let mut stream = dial(gate);
        // It may be ended before it has said everything.
        let _ = stream.write_all(kind);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        the_end(stream);
    }
    work(gate, &token);
    assert!(!gate.log().contains("panicked"), "{}", gate.log());
}

#[test]
fn clients_that_vanish_in_the_middle_of_a_result_leave_nothing_behind() {
    let gate = World::open_gate();
    let token = gate.token("alice", &["analysts"]).unwrap();
    for _ in 0..10 {
        let mut command = gate.psql_command(
            &token,
            &["-c", "SELECT repeat('x', 1000) FROM generate_series(1, 2000000)"],
        );
        command.stdout(std::process::Stdio::null());
        let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(150));
        let _ = child.kill();
        let _ = child.wait();
    }
    let postgres = &World::shared().postgres;
    headgate_e2e::run::until("the target's sessions are gone", Duration::from_secs(20), || {
        postgres
            .sql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%repeat(''x'', 1000)%' AND pid <> pg_backend_pid()")
            .unwrap()
            .trim()
            == "0"
    })
    .unwrap();
    work(gate, &token);
    run(
        &mut gate.psql_command(&token, &["-c", "SELECT 1"]),
        "",
        Duration::from_secs(20),
    )
    .unwrap()
    .good()
    .unwrap();
}
