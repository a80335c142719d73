//! Sudden deaths: of the recorder, of the data plane, of both. Nothing that was published is lost, and the history verifies.

mod kit;

use headgate_audit::{PageRequest, SessionFilter};
use headgate_recording::Verdict;
use headgate_recording::rows::SessionEnd;
use headgate_spool::Consumer;
use kit::*;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const CHILD: &str = "HEADGATE_RECORDER_TEST_SPOOL";

/// Not a test by itself: the data plane's process of the others.
#[test]
fn child_data_plane() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let until = Instant::now() + Duration::from_secs(120);
    let spool = loop {
        match headgate_spool::Producer::open_or_create(path.as_ref(), 1 << 20) {
            Ok(spool) => break spool,
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(Duration::from_millis(1))
            }
            Err(error) => panic!("{error}"),
        }
    };
    let mut plane = DataPlane::over(spool);
    let mut sessions: Vec<Session> = (0..5).map(|_| plane.open("alice", &[], "orders")).collect();
    let mut n = 0;
    while Instant::now() < until {
        let at = n % sessions.len();
        if n % 97 == 96 {
            let old = std::mem::replace(&mut sessions[at], plane.open("alice", &["agent:x"], "orders"));
            plane.close(old);
        }
        let s = plane.statement(
            &mut sessions[at],
            &format!("select * from orders where id = {n}"),
            "public.orders",
            Verdict::Allow,
        );
        plane.reply(&mut sessions[at], s, &[b'x'; 100]);
        plane.end(&mut sessions[at], s, None);
        n += 1;
        if n % 4 == 0 {
            plane.spool.publish();
        }
        if n % 50 == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn data_plane(place: &Place) -> Process {
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_data_plane", "--nocapture"])
        .env(CHILD, place.spool())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    Process(child)
}

/// Everything published is recorded: nothing is left in the spool, and verification finds all positions dense.
fn nothing_is_lost(place: &Place) -> headgate_audit::VerifyReport {
    let consumer = Consumer::open(&place.spool()).unwrap();
    assert!(!consumer.has_more(), "the spool still holds records");
    drop(consumer);
    let report = place.verify();
    assert!(report.ok, "{:#?}", report.findings);
    assert_eq!(report.sealed_chunks, report.chunks);
    report
}

#[test]
fn a_recorder_killed_again_and_again_loses_nothing() {
    let place = Place::new();
    let plane = data_plane(&place);
    for life in 0..7u64 {
        let recorder = place.recorder();
        std::thread::sleep(Duration::from_millis(300 + 61 * life));
        recorder.kill();
    }
    let recorder = place.recorder();
    std::thread::sleep(Duration::from_millis(500));
    plane.kill();
    std::thread::sleep(Duration::from_millis(1500));
    recorder.stop();
    let report = nothing_is_lost(&place);
    assert!(report.records > 500, "{report:?}");
    assert_eq!(
        report.open_sessions, 0,
        "the sessions of the dead data plane were not ended"
    );
}

#[test]
fn a_data_plane_killed_again_and_again_leaves_lost_sessions_and_no_gap() {
    let place = Place::new();
    let recorder = place.recorder();
    for life in 0..5u64 {
        let plane = data_plane(&place);
        until("the spool is there", || place.spool().exists());
        std::thread::sleep(Duration::from_millis(250 + 37 * life));
        plane.kill();
    }
    let both = data_plane(&place);
    std::thread::sleep(Duration::from_millis(300));
    recorder.kill();
    both.kill();
    let recorder = place.recorder();
    std::thread::sleep(Duration::from_millis(1500));
    recorder.stop();
    let report = nothing_is_lost(&place);
    assert_eq!(report.open_sessions, 0);
    let lost = SessionFilter {
        state: Some(SessionEnd::Lost),
        ..SessionFilter::default()
    };
    let lost = place
        .reader()
        .sessions(
            &lost,
            &PageRequest {
                cursor: None,
                limit: 1000,
            },
        )
        .unwrap();
    assert!(lost.rows.len() >= 5 * 3, "{} lost sessions", lost.rows.len());
}

#[test]
fn a_full_spool_makes_the_data_plane_wait_and_then_go_on() {
    let place = Place::new();
    let mut plane = place.data_plane();
    let mut session = plane.open("alice", &[], "orders");
    let mut written = 0u32;
    let text = "select 1 -- ".to_owned() + &"x".repeat(2000);
    let statement = |n: u32| headgate_recording::Body::Statement {
        statement: n,
        prepared: 0,
        text: text.clone().into_bytes(),
        stands_for: vec![],
        parameters: vec![],
        verdict: Verdict::Allow,
        rule: "r".into(),
        epoch: headgate_plane::Epoch(1),
        class: 1,
        verbs: vec![],
        resources: vec![],
    };
    while plane.try_write(&mut session, statement(written + 1)) {
        written += 1;
    }
    plane.spool.publish();
    assert!(written > 100);
    let recorder = place.recorder();
    until("room", || plane.try_write(&mut session, statement(written + 1)));
    written += 1;
    session.statements = written;
    plane.close(session);
    plane.settle();
    recorder.stop();
    let report = nothing_is_lost(&place);
    assert!(report.records >= u64::from(written) + 2);
}

#[test]
fn an_urgent_record_is_on_disk_at_once() {
    let place = Place::new();
    let mut plane = place.data_plane();
    let recorder = place.recorder();
    let mut session = plane.open("alice", &[], "orders");
    plane.settle();
    let watch = plane.spool.durable_watch();
    for _ in 0..20 {
        plane.statement(
            &mut session,
            "delete from orders",
            "public.orders",
            Verdict::Allow,
        );
        plane.spool.urgent();
        let position = plane.spool.position();
        assert!(watch.wait(position, Duration::from_secs(10)) >= position);
    }
    plane.close(session);
    plane.settle();
    recorder.stop();
    nothing_is_lost(&place);
}

#[test]
fn a_hostile_data_plane_cannot_speak_for_the_recorder_nor_stop_it() {
    let place = Place::new();
    let mut plane = place.data_plane();
    let mut forged = Session {
        id: headgate_plane::SessionId(1),
        seq: 0,
        statements: 0,
    };
    plane.write(
        &mut forged,
        headgate_recording::Body::Recorder {
            note: headgate_recording::RecorderNote::Stopped,
        },
    );
    // A note that this recorder does not know is still a recorder's.
    plane.write(
        &mut forged,
        headgate_recording::Body::Unknown {
            kind: 8,
            bytes: vec![99, 1, 2],
        },
    );
    plane
        .spool
        .reserve(5)
        .unwrap()
        .copy_from_slice(b"\xff\xff\xff\xff\xff");
    plane.spool.commit(5);
    let recorder = place.recorder();
    let session = plane.open("alice", &[], "orders");
    plane.close(session);
    plane.settle();
    recorder.stop();
    nothing_is_lost(&place);
    let notes = place.reader().notes(&PageRequest::default()).unwrap();
    assert_eq!(
        notes.rows.iter().filter(|n| n.text.contains("Malformed")).count(),
        3
    );
}
