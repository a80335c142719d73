//! One client session in closed loop: sign in, prepare, then one statement after the other.
//!
//! Invariant: at most one statement is on its way; its answer is complete with ReadyForQuery.
//! Never here: reading values. The last row's bytes are kept, so that whoever runs a bench can see whether it was masked.

use crate::error::LoadFailed;
use crate::wire::{self, Front};
use std::time::Instant;

/// About 60 bytes of SQL; the columns are those of the synthetic target's point read.
pub const POINT_SQL: &str = "SELECT id, name, email, note FROM customers WHERE id = ";
const PREPARED_NAME: &[u8] = b"point_read";

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// One Query message a statement.
    Simple,
    /// Parse, Bind, Describe, Execute, Sync a statement.
    Extended,
    /// Parse once; Bind, Execute, Sync a statement.
    Prepared,
    /// Large results by simple Query.
    Bulk,
    /// Sign in and do nothing.
    Idle,
}

#[derive(Clone, Debug)]
pub struct Login {
    pub user: String,
    pub database: String,
    pub password: String,
}

/// What all sessions send, made once.
pub struct Script {
    mode: Mode,
    login: Login,
    startup: Vec<u8>,
    prepare: Vec<u8>,
    statement: Vec<u8>,
}

fn parse(out: &mut Vec<u8>, name: &[u8]) {
    wire::message(out, b'P', |b| {
        wire::text(b, name);
        wire::text(b, format!("{POINT_SQL}$1").as_bytes());
        b.extend_from_slice(&0u16.to_be_bytes());
    });
}

fn bind(out: &mut Vec<u8>, name: &[u8]) {
    wire::message(out, b'B', |b| {
        wire::text(b, b"");
        wire::text(b, name);
        b.extend_from_slice(&0u16.to_be_bytes());
        b.extend_from_slice(&1u16.to_be_bytes());
        wire::value(b, b"4711");
        b.extend_from_slice(&0u16.to_be_bytes());
    });
}

fn execute(out: &mut Vec<u8>) {
    wire::message(out, b'E', |b| {
        wire::text(b, b"");
        b.extend_from_slice(&0u32.to_be_bytes());
    });
    wire::message(out, b'S', |_| {});
}

impl Script {
    /// `bulk_rows`: of one large result.
    pub fn new(mode: Mode, login: Login, bulk_rows: u32) -> Script {
        let mut startup = Vec::new();
        wire::untagged(&mut startup, |b| {
            b.extend_from_slice(&wire::PROTOCOL_3_0.to_be_bytes());
            for (name, value) in [
                ("user", login.user.as_str()),
                ("database", &login.database),
                ("application_name", "loadtest"),
                ("client_encoding", "UTF8"),
            ] {
                wire::text(b, name.as_bytes());
                wire::text(b, value.as_bytes());
            }
            b.push(0);
        });
        let (mut prepare, mut statement) = (Vec::new(), Vec::new());
        match mode {
            Mode::Simple => wire::message(&mut statement, b'Q', |b| wire::text(b, format!("{POINT_SQL}4711").as_bytes())),
            Mode::Bulk => wire::message(&mut statement, b'Q', |b| {
                wire::text(b, format!("SELECT a, b, c, d, e, f, g, h, i, j FROM bulk LIMIT {bulk_rows}").as_bytes());
            }),
            Mode::Extended => {
                parse(&mut statement, b"");
                bind(&mut statement, b"");
                wire::message(&mut statement, b'D', |b| b.extend_from_slice(b"P\0"));
                execute(&mut statement);
            }
            Mode::Prepared => {
                parse(&mut prepare, PREPARED_NAME);
                wire::message(&mut prepare, b'S', |_| {});
                bind(&mut statement, PREPARED_NAME);
                execute(&mut statement);
            }
            Mode::Idle => {}
        }
        Script { mode, login, startup, prepare, statement }
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Bytes of one statement on the wire.
    pub fn statement_bytes(&self) -> usize {
        self.statement.len()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    SigningIn,
    Preparing,
    /// Ready, with nothing on its way.
    Resting,
    Asked(Instant),
}

/// What a session noticed while it read.
#[derive(Debug, Default)]
pub struct Seen {
    /// It became ready for the first time.
    pub ready: bool,
    /// When the statement that has just been answered was sent.
    pub answered: Option<Instant>,
    pub rows: u64,
}

pub struct Client {
    number: usize,
    step: Step,
    rows: u64,
    pub sample: Vec<u8>,
    pub wants_sample: bool,
}

impl Client {
    /// Appends the first packet to `out`.
    pub fn start(number: usize, script: &Script, out: &mut Vec<u8>) -> Client {
        out.extend_from_slice(&script.startup);
        Client { number, step: Step::SigningIn, rows: 0, sample: Vec::new(), wants_sample: false }
    }

    /// Whether a statement is on its way.
    pub fn is_waiting(&self) -> bool {
        matches!(self.step, Step::Asked(_))
    }

    /// Sends the next statement, if there is one to send.
    pub fn ask(&mut self, script: &Script, out: &mut Vec<u8>) {
        if self.step == Step::Resting && !script.statement.is_empty() {
            out.extend_from_slice(&script.statement);
            self.step = Step::Asked(Instant::now());
        }
    }

    /// Uses what it can at the front of `data`; returns the bytes used.
    pub fn feed(&mut self, script: &Script, data: &[u8], out: &mut Vec<u8>, seen: &mut Seen) -> Result<usize, LoadFailed> {
        let mut used = 0;
        loop {
            let rest = data.get(used..).unwrap_or(&[]);
            match wire::front(rest) {
                Front::Part => return Ok(used),
                Front::TooLong => return Err(self.misbehaved("a message longer than its bound")),
                Front::Message(tag, body, len) => {
                    used += len;
                    self.message(script, tag, body, out, seen)?;
                }
            }
        }
    }

    fn misbehaved(&self, what: &'static str) -> LoadFailed {
        LoadFailed::Misbehaved { session: self.number, what }
    }

    fn message(&mut self, script: &Script, tag: u8, body: &[u8], out: &mut Vec<u8>, seen: &mut Seen) -> Result<(), LoadFailed> {
        match tag {
            b'D' => {
                self.rows += 1;
                if self.wants_sample {
                    self.sample.clear();
                    self.sample.extend_from_slice(body);
                }
            }
            b'R' => match body.first_chunk::<4>().map(|code| u32::from_be_bytes(*code)) {
                Some(0) => {}
                Some(3) => wire::message(out, b'p', |b| wire::text(b, script.login.password.as_bytes())),
                _ => return Err(self.misbehaved("it asks for a kind of sign-in that is not a password in the clear")),
            },
            b'E' => {
                return Err(LoadFailed::Refused {
                    session: self.number,
                    sqlstate: wire::report_field(body, b'C'),
                    message: wire::report_field(body, b'M'),
                });
            }
            b'Z' => self.ready(script, out, seen)?,
            _ => {}
        }
        Ok(())
    }

    fn ready(&mut self, script: &Script, out: &mut Vec<u8>, seen: &mut Seen) -> Result<(), LoadFailed> {
        match self.step {
            Step::SigningIn if !script.prepare.is_empty() => {
                out.extend_from_slice(&script.prepare);
                self.step = Step::Preparing;
            }
            Step::SigningIn | Step::Preparing => {
                self.step = Step::Resting;
                seen.ready = true;
            }
            Step::Asked(at) => {
                if self.rows == 0 {
                    return Err(self.misbehaved("a statement was answered without a row"));
                }
                seen.rows += std::mem::take(&mut self.rows);
                seen.answered = Some(at);
                self.step = Step::Resting;
            }
            Step::Resting => return Err(self.misbehaved("ReadyForQuery that nothing asked for")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{Answers, Target};

    /// A client and a target with every message cut at every byte come to the same end.
    #[test]
    fn each_mode_gets_its_answer_from_the_target_however_it_is_cut() {
        let answers = Answers::new();
        for (mode, rows) in [(Mode::Simple, 1), (Mode::Extended, 1), (Mode::Prepared, 1), (Mode::Bulk, 700)] {
            for cut in [1, 2, 3, 7, 64, 1 << 20] {
                let login = Login { user: "u".into(), database: "d".into(), password: "p".into() };
                let script = Script::new(mode, login, 700);
                let (mut up, mut down) = (Vec::new(), Vec::new());
                let mut client = Client::start(0, &script, &mut up);
                let mut target = Target::default();
                let (mut got_ready, mut answered, mut seen_rows) = (false, 0, 0);
                let (mut at_target, mut at_client) = (Vec::new(), Vec::new());
                for _ in 0..2_000_000 {
                    if up.is_empty() && down.is_empty() && !target.has_more() {
                        if !got_ready || answered == 2 {
                            break;
                        }
                        client.ask(&script, &mut up);
                    }
                    let n = cut.min(up.len());
                    at_target.extend(up.drain(..n));
                    let used = target.feed(&answers, &at_target, &mut down);
                    at_target.drain(..used);
                    if target.has_more() {
                        target.more(&answers, &mut down);
                        if !target.has_more() {
                            let used = target.feed(&answers, &at_target, &mut down);
                            at_target.drain(..used);
                        }
                    }
                    let n = cut.min(down.len());
                    at_client.extend(down.drain(..n));
                    let mut seen = Seen::default();
                    let used = client.feed(&script, &at_client, &mut up, &mut seen).expect("the target answers well");
                    at_client.drain(..used);
                    got_ready |= seen.ready;
                    answered += u32::from(seen.answered.is_some());
                    seen_rows += seen.rows;
                }
                assert!(got_ready, "{mode:?} cut at {cut}");
                assert_eq!((answered, seen_rows), (2, 2 * rows), "{mode:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn an_error_is_named_with_its_sqlstate() {
        let login = Login { user: "u".into(), database: "d".into(), password: "p".into() };
        let script = Script::new(Mode::Simple, login, 0);
        let mut out = Vec::new();
        let mut client = Client::start(3, &script, &mut out);
        let mut error = Vec::new();
        wire::message(&mut error, b'E', |b| {
            for (kind, text) in [(b'S', "FATAL"), (b'C', "28P01"), (b'M', "no such token")] {
                b.push(kind);
                wire::text(b, text.as_bytes());
            }
            b.push(0);
        });
        let said = client.feed(&script, &error, &mut out, &mut Seen::default()).expect_err("refused").to_string();
        assert_eq!(said, "session 3: 28P01: no such token");
    }
}
