//! The link against a control plane of this test: a real Unix socket, real breaks.

use headgate_link::{Deliver, Link, LinkHandle, LinkSettings};
use headgate_plane::envelope::{MESSAGE_BYTES_MAX, decode, encode};
use headgate_plane::question::Asked;
use headgate_plane::{
    Answer, Credential, Epoch, LINK_VERSION, Question, QuestionDigest, QuestionKey, QuestionNumber,
    RefusalKind, Secret, SessionId, SignIn, Snapshot, ToControl, ToData, Who, Withdrawal,
};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(5);

/// The data plane under test.
struct Data {
    link: LinkHandle,
    delivered: mpsc::Receiver<ToData>,
}

impl Data {
    fn start(socket: PathBuf, periodic: Vec<headgate_link::Periodic>) -> Data {
        let (sender, delivered) = mpsc::channel();
        let sender = std::sync::Mutex::new(sender);
        let deliver: Deliver = Arc::new(move |message| drop(sender.lock().unwrap().send(message)));
        let config = LinkSettings {
            socket,
            appliance: "gate-1".into(),
            boot: 77,
            pin: None,
            periodic,
            beside: vec![],
        };
        Data {
            link: Link::start(config, deliver).unwrap(),
            delivered,
        }
    }

    fn next(&self) -> ToData {
        self.delivered
            .recv_timeout(SOON)
            .expect("a message is delivered soon")
    }

    fn stays_silent(&self, for_ms: u64) {
        if let Ok(message) = self.delivered.recv_timeout(Duration::from_millis(for_ms)) {
            panic!("nothing was to be delivered, but {message:?} was");
        }
    }

    fn until_connected(&self, connected: bool) {
        let until = Instant::now() + SOON;
        while self.link.connected() != connected {
            assert!(Instant::now() < until, "connected() became {connected} in time");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        let _ = self.link.stop();
    }
}

/// One connection as the control plane sees it.
struct Control {
    stream: UnixStream,
    bytes: Vec<u8>,
}

impl Control {
    fn accept(listener: &UnixListener) -> Control {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        Control {
            stream,
            bytes: Vec::new(),
        }
    }

    /// Accepts, reads Hello, says Welcome (which is delivered to nobody).
    fn welcome(listener: &UnixListener, data: &Data) -> Control {
        let mut control = Control::accept(listener);
        let hello = control.next();
        assert!(
            matches!(hello, ToControl::Hello { version: LINK_VERSION, boot: 77, ref appliance, .. } if appliance == "gate-1")
        );
        control.say(&ToData::Welcome {
            version: LINK_VERSION,
        });
        data.until_connected(true);
        control
    }

    fn next(&mut self) -> ToControl {
        loop {
            if let Some((message, used)) = decode(&self.bytes).unwrap() {
                self.bytes.drain(..used);
                return message;
            }
            let mut chunk = [0; 4096];
            let count = self.stream.read(&mut chunk).expect("a message comes soon");
            assert_ne!(count, 0, "the link is open");
            self.bytes.extend_from_slice(&chunk[..count]);
        }
    }

    fn say(&mut self, message: &ToData) {
        let mut out = Vec::new();
        encode(message, &mut out).unwrap();
        self.stream.write_all(&out).unwrap();
    }
}

fn place() -> (tempfile::TempDir, PathBuf, UnixListener) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("link.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    (dir, socket, listener)
}

fn opened(session: u128) -> ToControl {
    ToControl::SessionOpened {
        session: SessionId(session),
        who: Who {
            principal: "ada".into(),
            ..Who::default()
        },
        target: "orders".into(),
        credential_id: "c1".into(),
        started_unix_ms: 5,
    }
}

fn sign_in(session: u128) -> ToControl {
    ToControl::SignIn(Box::new(SignIn {
        session: SessionId(session),
        credential: Credential::Password(Secret::new("hgt_x")),
        target: "orders".into(),
        user: "ada".into(),
        address: "127.0.0.1".into(),
        application: String::new(),
        tls: true,
    }))
}

fn key(session: u128, statement: u32) -> QuestionKey {
    QuestionKey {
        session: SessionId(session),
        statement,
    }
}

fn ask(session: u128, statement: u32) -> ToControl {
    ToControl::Ask(Box::new(Question {
        key: key(session, statement),
        who: Who::default(),
        target: "orders".into(),
        environment: "prod".into(),
        role: "app".into(),
        statement: b"delete from t".to_vec(),
        stands_for: Vec::new(),
        parameters: Vec::new(),
        open_data: false,
        settings: vec![],
        on_hold: headgate_plane::OnHold::Wait,
        epoch: Epoch(1),
        rule: "r".into(),
        reviewers: Default::default(),
        asked_unix_ms: 1,
        deadline_unix_ms: 2,
        digest: QuestionDigest([7; 32]),
    }))
}

fn denied(session: u128, statement: u32) -> ToData {
    let answer = Answer::Denied {
        reviewer: "bob".into(),
        reason: "no".into(),
    };
    ToData::Answer {
        key: key(session, statement),
        answer,
    }
}

fn is_refused(message: &ToData, expected: u128) -> bool {
    matches!(message, ToData::SignedIn { session: SessionId(s), result: Err(r) } if *s == expected && r.kind == RefusalKind::Unavailable)
}

#[test]
fn after_a_break_hello_comes_first_and_then_the_open_sessions_but_no_closed_one() {
    let (_dir, socket, listener) = place();
    let data = Data::start(socket, vec![]);
    let mut control = Control::welcome(&listener, &data);
    control.say(&ToData::Snapshot(Arc::new(Snapshot {
        epoch: Epoch(9),
        ..Snapshot::default()
    })));
    assert!(matches!(data.next(), ToData::Snapshot(s) if s.epoch == Epoch(9)));
    for session in 1..=3 {
        data.link.send(opened(session));
        assert!(
            matches!(control.next(), ToControl::SessionOpened { session: SessionId(s), .. } if s == session)
        );
    }
    data.link.send(ToControl::SessionClosed {
        session: SessionId(2),
    });
    assert!(matches!(
        control.next(),
        ToControl::SessionClosed {
            session: SessionId(2)
        }
    ));
    drop(control);
    data.until_connected(false);
    data.link.send(ToControl::SessionClosed {
        session: SessionId(3),
    });

    let mut control = Control::accept(&listener);
    assert!(
        matches!(
            control.next(),
            ToControl::Hello {
                epoch: Epoch(9),
                boot: 77,
                ..
            }
        ),
        "hello tells the epoch in force"
    );
    control.say(&ToData::Welcome {
        version: LINK_VERSION,
    });
    assert!(matches!(
        control.next(),
        ToControl::SessionOpened {
            session: SessionId(1),
            ..
        }
    ));
    assert!(
        matches!(
            control.next(),
            ToControl::SessionClosed {
                session: SessionId(3)
            }
        ),
        "what happened meanwhile is told"
    );
    data.link.send(ToControl::Metrics {
        values: vec![("up".into(), 1.0)],
    });
    assert!(
        matches!(control.next(), ToControl::Metrics { .. }),
        "and nothing else was repeated"
    );
}

#[test]
fn a_question_is_asked_again_until_it_is_answered_withdrawn_or_spent() {
    let (_dir, socket, listener) = place();
    let data = Data::start(socket, vec![]);
    let mut control = Control::welcome(&listener, &data);
    for statement in 1..=4 {
        data.link.send(ask(1, statement));
        assert!(matches!(control.next(), ToControl::Ask(q) if q.key == key(1, statement)));
    }
    let asked = Asked {
        key: key(1, 1),
        number: QuestionNumber(17),
        address: "http://x".into(),
        deadline_unix_ms: 2,
    };
    control.say(&ToData::Asked(asked));
    assert!(matches!(data.next(), ToData::Asked(_)));
    control.say(&denied(1, 2));
    assert!(matches!(data.next(), ToData::Answer { key: k, .. } if k == key(1, 2)));
    drop(control);
    data.until_connected(false);
    data.link.send(ToControl::Withdraw {
        key: key(1, 3),
        why: Withdrawal::ClientGone,
    });
    data.link.send(ask(1, 5));

    let mut control = Control::welcome(&listener, &data);
    for statement in [1, 4, 5] {
        assert!(
            matches!(control.next(), ToControl::Ask(q) if q.key == key(1, statement)),
            "{statement} is still open"
        );
    }
    assert!(matches!(control.next(), ToControl::Withdraw { key: k, .. } if k == key(1, 3)));
    data.link.send(ToControl::Spent { key: key(1, 1) });
    assert!(matches!(control.next(), ToControl::Spent { .. }));
    data.link.send(ToControl::SessionClosed {
        session: SessionId(1),
    });
    assert!(matches!(control.next(), ToControl::SessionClosed { .. }));
    drop(control);
    data.until_connected(false);
    let mut control = Control::welcome(&listener, &data);
    data.link.send(opened(8));
    assert!(
        matches!(
            control.next(),
            ToControl::SessionOpened {
                session: SessionId(8),
                ..
            }
        ),
        "a closed session asks nothing"
    );
}

#[test]
fn a_sign_in_is_refused_at_once_while_the_control_plane_is_away() {
    let dir = tempfile::tempdir().unwrap();
    let data = Data::start(dir.path().join("nobody.sock"), vec![]);
    let begun = Instant::now();
    data.link.send(sign_in(4));
    assert!(is_refused(&data.next(), 4));
    assert!(
        begun.elapsed() < Duration::from_millis(500),
        "at once, not after a time-out: {:?}",
        begun.elapsed()
    );
    assert!(!data.link.connected());
}

#[test]
fn a_sign_in_on_its_way_is_refused_when_the_link_breaks_and_its_late_answer_is_dropped() {
    let (_dir, socket, listener) = place();
    let data = Data::start(socket, vec![]);
    let mut control = Control::welcome(&listener, &data);
    data.link.send(sign_in(6));
    assert!(matches!(control.next(), ToControl::SignIn(s) if s.session == SessionId(6)));
    drop(control);
    assert!(is_refused(&data.next(), 6));

    let mut control = Control::welcome(&listener, &data);
    let late = headgate_plane::Refusal {
        kind: RefusalKind::BadCredential,
        detail: String::new(),
    };
    control.say(&ToData::SignedIn {
        session: SessionId(6),
        result: Err(late),
    });
    data.stays_silent(200);
    data.link.send(opened(1));
    assert!(
        matches!(control.next(), ToControl::SessionOpened { .. }),
        "a sign-in is never repeated"
    );
}

#[test]
fn a_sign_in_that_nobody_answers_for_ten_seconds_is_refused() {
    let (_dir, socket, listener) = place();
    let data = Data::start(socket, vec![]);
    let mut control = Control::welcome(&listener, &data);
    data.link.send(sign_in(6));
    assert!(matches!(control.next(), ToControl::SignIn(_)));
    let begun = Instant::now();
    data.stays_silent(9_000);
    assert!(is_refused(&data.next(), 6));
    assert!(begun.elapsed() < Duration::from_secs(12));
    assert!(
        data.link.connected(),
        "silence to one sign-in does not end the link"
    );
}

#[test]
fn messages_cut_at_every_byte_arrive_whole() {
    let (_dir, socket, listener) = place();
    let data = Data::start(socket, vec![]);
    let mut control = Control::welcome(&listener, &data);
    let mut bytes = Vec::new();
    encode(&denied(1, 1), &mut bytes).unwrap();
    encode(
        &ToData::Revoke {
            sessions: vec![SessionId(5)],
            reason: "left".into(),
        },
        &mut bytes,
    )
    .unwrap();
    for cut in 0..=bytes.len() {
        control.stream.write_all(&bytes[..cut]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
        control.stream.write_all(&bytes[cut..]).unwrap();
        assert!(
            matches!(data.next(), ToData::Answer { key: k, .. } if k == key(1, 1)),
            "cut at {cut}"
        );
        assert!(
            matches!(data.next(), ToData::Revoke { sessions, .. } if sessions == [SessionId(5)]),
            "cut at {cut}"
        );
    }
    for byte in &bytes {
        control.stream.write_all(std::slice::from_ref(byte)).unwrap();
    }
    assert!(matches!(data.next(), ToData::Answer { .. }));
}

#[test]
fn a_message_over_the_bound_or_unreadable_ends_the_link_and_it_comes_back() {
    let (_dir, socket, listener) = place();
    let data = Data::start(socket, vec![]);
    for bad in [
        &(MESSAGE_BYTES_MAX as u32 + 1).to_be_bytes()[..],
        &[0, 0, 0, 2, 0xff, 0xff],
    ] {
        let mut control = Control::welcome(&listener, &data);
        control.stream.write_all(bad).unwrap();
        let mut rest = Vec::new();
        assert_eq!(
            control.stream.read_to_end(&mut rest).unwrap(),
            0,
            "the data plane hangs up"
        );
    }
    let _control = Control::welcome(&listener, &data);
}

#[test]
fn a_large_snapshot_arrives_and_a_large_question_leaves() {
    let (_dir, socket, listener) = place();
    let data = Data::start(socket, vec![]);
    let mut control = Control::welcome(&listener, &data);
    let reason = "r".repeat(8 << 20);
    control.say(&ToData::Revoke {
        sessions: vec![],
        reason: reason.clone(),
    });
    assert!(matches!(data.next(), ToData::Revoke { reason: r, .. } if r == reason));
    let ToControl::Ask(mut question) = ask(1, 1) else {
        unreachable!()
    };
    question.statement = vec![b'x'; 8 << 20];
    data.link.send(ToControl::Ask(question));
    assert!(matches!(control.next(), ToControl::Ask(q) if q.statement.len() == 8 << 20));
}

#[test]
fn another_version_is_never_connected_and_is_asked_again_slowly() {
    let (_dir, socket, listener) = place();
    let data = Data::start(socket, vec![]);
    let mut control = Control::accept(&listener);
    assert!(matches!(control.next(), ToControl::Hello { .. }));
    control.say(&ToData::Welcome {
        version: LINK_VERSION + 1,
    });
    drop(control);
    listener.set_nonblocking(true).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert!(listener.accept().is_err(), "no second attempt so soon");
    assert!(!data.link.connected());
    data.link.send(sign_in(3));
    assert!(is_refused(&data.next(), 3));
}

#[test]
fn what_many_threads_send_arrives_once_and_in_each_threads_order() {
    const THREADS: u128 = 4;
    const EACH: u32 = 2_000;
    let (_dir, socket, listener) = place();
    let data = Data::start(socket, vec![]);
    let mut control = Control::welcome(&listener, &data);
    let threads: Vec<_> = (0..THREADS)
        .map(|session| {
            let link = data.link.clone();
            std::thread::spawn(move || {
                (0..EACH).for_each(|n| link.send(ToControl::Spent { key: key(session, n) }))
            })
        })
        .collect();
    let mut next = [0u32; THREADS as usize];
    for _ in 0..THREADS as u32 * EACH {
        let ToControl::Spent { key } = control.next() else {
            panic!("only Spent was sent")
        };
        let expected = &mut next[key.session.0 as usize];
        assert_eq!(key.statement, *expected);
        *expected += 1;
    }
    threads.into_iter().for_each(|t| t.join().unwrap());
}

#[test]
fn what_was_sent_before_a_stop_still_goes_out_and_the_stop_is_quick() {
    let (_dir, socket, listener) = place();
    let data = Data::start(socket, vec![]);
    let mut control = Control::welcome(&listener, &data);
    data.link.send(ToControl::SessionClosed {
        session: SessionId(1),
    });
    let begun = Instant::now();
    data.link.stop().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(matches!(control.next(), ToControl::SessionClosed { .. }));
    data.link.send(sign_in(1));
    assert!(is_refused(&data.next(), 1), "after a stop sign-ins are refused");
}

#[test]
fn periodic_closures_run_at_their_pace_beside_the_link() {
    let dir = tempfile::tempdir().unwrap();
    let count = Arc::new(AtomicU32::new(0));
    let counted = count.clone();
    let closure = Box::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let data = Data::start(
        dir.path().join("nobody.sock"),
        vec![(Duration::from_millis(20), closure)],
    );
    std::thread::sleep(Duration::from_secs(1));
    let count = count.load(Ordering::Relaxed);
    assert!((15..=51).contains(&count), "about fifty in a second, not {count}");
    drop(data);
}

/// Runs itself again under a low limit, because the limit is the process's.
#[test]
fn a_low_memlock_limit_is_an_error_at_start_and_not_a_hang() {
    const INNER: &str = "HEADGATE_TEST_LOW_MEMLOCK";
    if std::env::var_os(INNER).is_some() {
        let config = LinkSettings {
            socket: "/nonexistent".into(),
            appliance: String::new(),
            boot: 0,
            pin: None,
            periodic: vec![],
            beside: vec![],
        };
        let Err(error) = Link::start(config, Arc::new(|_| {})) else {
            panic!("64 KiB are not enough")
        };
        assert!(error.to_string().contains("LimitMEMLOCK"), "{error}");
        return;
    }
    let output = std::process::Command::new("prlimit")
        .arg("--memlock=65536")
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_low_memlock_limit_is_an_error_at_start_and_not_a_hang",
        ])
        .env(INNER, "1")
        .output()
        .expect("prlimit of util-linux");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}
