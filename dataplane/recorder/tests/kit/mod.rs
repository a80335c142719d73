//! What the tests share: a place on disk, a recorder as a process, and a data plane that writes made-up sessions.
#![allow(dead_code)]

use headgate_plane::{Epoch, Parameter, ParameterKind, Protocol, QuestionDigest, SessionId, Who};
use headgate_recording::checkpoint::PublicKey;
use headgate_recording::{
    Body, Direction, Event, Outcome, RecordedError, StatementOutcome, StreamOutcome, Verdict, encode,
};
use headgate_spool::Producer;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub struct Place {
    pub dir: tempfile::TempDir,
    pub spools: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        Place {
            dir: tempfile::tempdir().unwrap(),
            spools: tempfile::tempdir_in("/dev/shm").unwrap(),
        }
    }

    pub fn audit(&self) -> PathBuf {
        self.dir.path().join("audit")
    }

    pub fn spool(&self) -> PathBuf {
        self.spools.path().join("spool-0")
    }

    pub fn key(&self) -> PublicKey {
        PublicKey::parse(&std::fs::read_to_string(self.dir.path().join("key.pub")).unwrap()).unwrap()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_headgate-recorder"));
        command
            .arg("--audit-dir")
            .arg(self.audit())
            .arg("--spool-dir")
            .arg(self.spools.path())
            .arg("--key")
            .arg(self.dir.path().join("key"))
            .args(["--linger-ms", "20", "--sync-ms", "50"])
            .env("HEADGATE_LOG", "warn")
            .stdin(Stdio::null());
        command
    }

    pub fn recorder(&self) -> Process {
        Process(self.command().spawn().unwrap())
    }

    /// What a recorder says that does not start.
    pub fn refused_recorder(&self) -> String {
        let done = self.command().stderr(Stdio::piped()).output().unwrap();
        assert!(!done.status.success(), "it started");
        String::from_utf8_lossy(&done.stderr).into_owned()
    }

    pub fn data_plane(&self) -> DataPlane {
        DataPlane::over(Producer::open_or_create(&self.spool(), 1 << 20).unwrap())
    }

    pub fn verify(&self) -> headgate_audit::VerifyReport {
        headgate_audit::verify(&self.audit(), &self.key()).unwrap()
    }

    pub fn reader(&self) -> headgate_audit::Audit {
        headgate_audit::Audit::open(&self.audit(), &self.dir.path().join("scratch")).unwrap()
    }
}

/// Killed when dropped.
pub struct Process(pub Child);

impl Process {
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// SIGTERM, and a clean end within bounded time.
    pub fn stop(mut self) {
        let status = Command::new("kill")
            .args(["-TERM", &self.0.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                assert!(status.success(), "the recorder ended with {status}");
                return;
            }
            assert!(Instant::now() < until, "the recorder does not stop");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn unix_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

pub struct DataPlane {
    pub spool: Producer,
    made: u64,
    /// Of the statements to come.
    pub stands_for: Vec<Vec<u8>>,
}

pub struct Session {
    pub id: SessionId,
    pub seq: u32,
    pub statements: u32,
}

impl DataPlane {
    pub fn over(spool: Producer) -> DataPlane {
        DataPlane {
            spool,
            made: 0,
            stands_for: Vec::new(),
        }
    }

    /// `false` when the spool has no room.
    pub fn try_write(&mut self, session: &mut Session, body: Body) -> bool {
        let mut bytes = Vec::new();
        encode(
            &Event {
                session: session.id,
                seq: session.seq,
                unix_us: unix_us(),
                body,
            },
            &mut bytes,
        );
        let Some(room) = self.spool.reserve(bytes.len()) else {
            return false;
        };
        room.copy_from_slice(&bytes);
        self.spool.commit(bytes.len());
        session.seq += 1;
        true
    }

    pub fn write(&mut self, session: &mut Session, body: Body) {
        while !self.try_write(session, body.clone()) {
            self.spool.publish();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn open(&mut self, principal: &str, chain: &[&str], target: &str) -> Session {
        self.made += 1;
        let random =
            u128::from(std::process::id()) << 40 | u128::from(self.made) | u128::from(unix_us() % 1000) << 64;
        let mut session = Session {
            id: SessionId::v7(unix_us() / 1000, random),
            seq: 0,
            statements: 0,
        };
        let who = Who {
            principal: principal.into(),
            groups: vec!["staff".into()],
            chain: chain.iter().map(|c| (*c).into()).collect(),
            issuer: "local".into(),
            address: "10.0.0.9".into(),
            application: "psql".into(),
        };
        let open = Body::SessionOpen {
            who,
            target: target.into(),
            environment: "production".into(),
            role: "app".into(),
            credential_id: "t-1".into(),
            epoch: Epoch(3),
            protocol: Protocol::Postgres,
            target_session: "99".into(),
        };
        self.write(&mut session, open);
        session
    }

    pub fn statement(&mut self, session: &mut Session, text: &str, relation: &str, verdict: Verdict) -> u32 {
        session.statements += 1;
        let statement = session.statements;
        let body = Body::Statement {
            statement,
            prepared: 0,
            text: text.into(),
            stands_for: self.stands_for.clone(),
            parameters: vec![Parameter {
                kind: ParameterKind::Postgres {
                    type_oid: 23,
                    format: 1,
                },
                value: Some(vec![0, 0, 0, 42]),
            }],
            verdict,
            rule: format!("rule {verdict:?}"),
            epoch: Epoch(3),
            class: 1,
            verbs: vec!["select".into()],
            resources: vec![relation.into()],
        };
        self.write(session, body);
        statement
    }

    pub fn answer(&mut self, session: &mut Session, statement: u32) {
        let digest = QuestionDigest([7; 32]);
        let body = Body::Answered {
            statement,
            question: 17,
            outcome: Outcome::Approved,
            reviewers: vec!["bob".into()],
            reason: "fine".into(),
            digest,
        };
        self.write(session, body);
    }

    pub fn reply(&mut self, session: &mut Session, statement: u32, bytes: &[u8]) {
        self.stream(session, statement, Direction::ToClient, 0, bytes);
    }

    /// A piece of data.
    pub fn stream(
        &mut self,
        session: &mut Session,
        statement: u32,
        direction: Direction,
        offset: u64,
        bytes: &[u8],
    ) {
        self.write(
            session,
            Body::Stream {
                statement,
                direction,
                offset,
                bytes: bytes.to_vec(),
            },
        );
    }

    /// The end of data to the target, of which all is recorded.
    pub fn stream_end(&mut self, session: &mut Session, statement: u32, bytes: u64, rows: u64) {
        let body = Body::StreamEnd {
            statement,
            direction: Direction::ToTarget,
            bytes,
            rows,
            digest: [5; 32],
            truncated: false,
            outcome: StreamOutcome::Done,
            reason: String::new(),
        };
        self.write(session, body);
    }

    pub fn end(&mut self, session: &mut Session, statement: u32, error: Option<&str>) {
        self.end_with(session, statement, error, &[]);
    }

    /// The same, with a reply small enough to need no part of its own.
    pub fn end_with(&mut self, session: &mut Session, statement: u32, error: Option<&str>, reply: &[u8]) {
        let outcome = if error.is_some() {
            StatementOutcome::Failed
        } else {
            StatementOutcome::Done
        };
        self.end_of(session, statement, outcome, error, reply);
    }

    pub fn end_as(
        &mut self,
        session: &mut Session,
        statement: u32,
        outcome: StatementOutcome,
        error: Option<&str>,
    ) {
        self.end_of(session, statement, outcome, error, &[]);
    }

    fn end_of(
        &mut self,
        session: &mut Session,
        statement: u32,
        outcome: StatementOutcome,
        error: Option<&str>,
        reply: &[u8],
    ) {
        let error = error.map(|code| RecordedError {
            code: code.into(),
            message: "no".into(),
        });
        let body = Body::StatementEnd {
            statement,
            outcome,
            duration_us: 1234,
            rows: 2,
            bytes: 300,
            tag: "SELECT 2".into(),
            error,
            masked: 1,
            truncated: false,
            reply: reply.to_vec(),
        };
        self.write(session, body);
    }

    pub fn close(&mut self, mut session: Session) {
        let statements = session.statements;
        self.write(
            &mut session,
            Body::SessionClose {
                reason: "client".into(),
                statements,
                bytes_from_client: 1,
                bytes_to_client: 2,
            },
        );
    }

    /// Publishes, and waits until all of it is in the recorder's database.
    pub fn settle(&mut self) {
        self.spool.publish();
        let position = self.spool.position();
        until("everything recorded", || {
            self.spool.recorded_position() >= position
        });
    }
}
