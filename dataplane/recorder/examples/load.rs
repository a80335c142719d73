//! What the recorder costs a statement: point reads of many sessions through a spool, at a rate, into a recorder process.
//!
//! `load RECORDER [--parts] [sessions] [statements per second] [seconds] [statements per turn]` runs that binary over
//! directories of its own and prints the CPU time that it took per statement, until its spool was empty, and how often and
//! for how long the ring was full: the producer then waits to be waked, as a shard does. A rate beyond what can be done, over
//! five seconds and more, shows what can be done. `--parts` writes replies as events of their own. Two builds are compared
//! by running them in turn, several times.

use headgate_plane::{Epoch, Parameter, ParameterKind, Protocol, SessionId, Who};
use headgate_recording::{
    BodyRef, Bytes, Direction, EventRef, Parameters, StatementOutcome, Texts, Verdict, encode_into,
};
use headgate_spool::{Producer, Watch};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a session of the data plane wants to be free before it goes on.
const ROOM_BYTES: usize = 256 << 10;

fn cpu_ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/schedstat")).unwrap_or_default();
    let main: u64 = stat.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let others: u64 = tasks
        .filter(|t| t.file_name().to_str() != Some(&process.to_string()))
        .filter_map(|t| {
            std::fs::read_to_string(t.path().join("schedstat"))
                .ok()?
                .split(' ')
                .next()?
                .parse::<u64>()
                .ok()
        })
        .sum();
    main + others
}

struct Load {
    spool: Producer,
    watch: Watch,
    waits: u64,
    waited: Duration,
    parts: bool,
    reply: Vec<u8>,
    names: Vec<String>,
    verbs: Vec<String>,
}

impl Load {
    fn write(&mut self, session: &mut (SessionId, u32), body: BodyRef<'_>) {
        let event = EventRef {
            session: session.0,
            seq: session.1,
            unix_us: 1_795_000_000_000_000 + u64::from(session.1),
            body,
        };
        session.1 += 1;
        loop {
            if let Some(room) = self.spool.reserve(event.size_bound()) {
                let used = encode_into(&event, room).expect("room as reserved");
                return self.spool.commit(used);
            }
            // As a shard: it wants room for more than one record.
            let begun = Instant::now();
            while !self.spool.has_free(ROOM_BYTES) {
                Watch::wait_any(
                    std::slice::from_mut(&mut self.watch),
                    Duration::from_millis(250),
                    |_| (),
                );
            }
            self.waits += 1;
            self.waited += begun.elapsed();
        }
    }

    fn statement(&mut self, session: &mut (SessionId, u32), statement: u32) {
        let id = (statement.wrapping_mul(2_654_435_761) % 1_000_000).to_string();
        let kind = ParameterKind::Postgres {
            type_oid: 23,
            format: 0,
        };
        let parameters = [Parameter {
            kind,
            value: Some(id.into_bytes()),
        }];
        let (names, verbs) = (std::mem::take(&mut self.names), std::mem::take(&mut self.verbs));
        let body = BodyRef::Statement {
            statement,
            prepared: 1,
            text: Bytes(b"SELECT id, name, email, note FROM customers WHERE id = $1"),
            stands_for: Texts::NONE,
            parameters: Parameters::List(&parameters),
            verdict: Verdict::Allow,
            rule: "analysts read",
            epoch: Epoch(3),
            class: 1,
            verbs: &verbs,
            resources: &names,
        };
        self.write(session, body);
        (self.names, self.verbs) = (names, verbs);
        let at = 40 + (statement as usize * 7) % 200;
        self.reply[at] = self.reply[at].wrapping_add(1) % 26 + b'a';
        let reply = std::mem::take(&mut self.reply);
        let (first, last): (&[u8], &[u8]) = if self.parts { (&reply, &[]) } else { (&[], &reply) };
        if self.parts {
            self.write(
                session,
                BodyRef::Stream {
                    statement,
                    direction: Direction::ToClient,
                    offset: 0,
                    bytes: Bytes(first),
                },
            );
        }
        let end = BodyRef::StatementEnd {
            statement,
            outcome: StatementOutcome::Done,
            duration_us: 213,
            rows: 1,
            bytes: 278,
            tag: "SELECT 1",
            error: None,
            masked: 0,
            truncated: false,
            reply: Bytes(last),
        };
        self.write(session, end);
        self.reply = reply;
    }
}

fn main() {
    let (flags, words): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|a| a.starts_with("--"));
    let recorder = words.first().expect("the recorder's binary");
    let number = |at: usize, default: u64| words.get(at).map_or(default, |w| w.parse().expect("a number"));
    let (sessions, rate, seconds, turn) = (number(1, 64), number(2, 40_000), number(3, 5), number(4, 20));
    let dir = std::path::PathBuf::from(format!("/dev/shm/headgate-load-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("spools")).expect("a directory");
    let spool = Producer::open_or_create(&dir.join("spools/spool-0"), 64 << 20).expect("a spool");
    let mut child = Command::new(recorder)
        .arg("--audit-dir")
        .arg(dir.join("audit"))
        .arg("--spool-dir")
        .arg(dir.join("spools"))
        .arg("--key")
        .arg(dir.join("key"))
        .env("HEADGATE_LOG", "warn")
        .stdin(Stdio::null())
        .spawn()
        .expect("a recorder");
    let mut load = Load {
        watch: spool.watch(),
        spool,
        waits: 0,
        waited: Duration::ZERO,
        parts: flags.iter().any(|f| f == "--parts"),
        reply: (0..278u32).map(|n| b'a' + (n * n % 26) as u8).collect(),
        names: vec!["public.customers".to_owned()],
        verbs: vec!["select".to_owned()],
    };
    let who = Who {
        principal: "alice".into(),
        groups: vec![],
        chain: vec![],
        issuer: "local".into(),
        address: "10.0.0.9".into(),
        application: "psql".into(),
    };
    let mut all: Vec<(SessionId, u32)> = (0..sessions)
        .map(|n| {
            (
                SessionId::v7(1_795_000_000_000, u128::from(n + 1) * 0x9e37_79b9_7f4a_7c15_f39c),
                0,
            )
        })
        .collect();
    for session in &mut all {
        let open = BodyRef::SessionOpen {
            who: &who,
            target: "bench",
            environment: "production",
            role: "bench",
            credential_id: "t-1",
            epoch: Epoch(3),
            protocol: Protocol::Postgres,
            target_session: "1",
        };
        load.write(session, open);
    }
    load.spool.publish();
    std::thread::sleep(Duration::from_secs(1));
    let before = cpu_ticks(child.id());
    let begun = Instant::now();
    let mut written = 0u64;
    while begun.elapsed() < Duration::from_secs(seconds) {
        for _ in 0..turn {
            let at = (written % sessions) as usize;
            let mut session = all[at];
            load.statement(&mut session, (written / sessions) as u32 + 1);
            all[at] = session;
            written += 1;
        }
        load.spool.publish();
        let due = Duration::from_secs_f64(written as f64 / rate as f64);
        if let Some(early) = due.checked_sub(begun.elapsed()) {
            std::thread::sleep(early);
        }
    }
    let elapsed = begun.elapsed().as_secs_f64();
    while load.spool.recorded_position() < load.spool.position() {
        std::thread::sleep(Duration::from_millis(1));
    }
    let cpu = cpu_ticks(child.id()) - before;
    println!(
        "{:.0} statements/s, recorder {:.3} us a statement; the ring was full {} times, for {:?} in all",
        written as f64 / elapsed,
        cpu as f64 / 1000.0 / written as f64,
        load.waits,
        load.waited
    );
    let _ = child.kill();
    let _ = child.wait();
    let _ = std::fs::remove_dir_all(&dir);
}
