//! One case: client, gate and target step by step in an order that the seed decides.
//!
//! Invariant: whatever can move moves in the end; the case is over when nothing can, or the session has ended.

use crate::generate::{Case, Random, Step, Unasked};
use crate::lab::{self, Lab};
use crate::message::{self, Message, put, string};
use crate::oracle;
use crate::real::{self, Postgres};
use crate::server::{self, CANARY, Manual, Server};
use headgate_gate::{Cancelled, CatalogLoaded, CatalogWanted, Effect, PostgresSession as Session};
use headgate_mask::Catalog;
use headgate_plane::question::Asked;
use headgate_plane::{Answer, Epoch, Grant, Question, QuestionNumber, Secret, ToControl};
use headgate_recording::{Body, Event};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// A promise that did not hold.
#[derive(Clone, Debug)]
pub struct Violation {
    /// The same for all cases that break the same promise in the same way, as far as that can be told.
    pub kind: &'static str,
    pub detail: String,
}

pub fn violation<T>(kind: &'static str, detail: impl Into<String>) -> Result<T, Violation> {
    Err(Violation {
        kind,
        detail: detail.into(),
    })
}

/// What a case came to.
#[derive(Clone, Debug, Default)]
pub struct Ran {
    pub messages: usize,
    pub executed: usize,
    pub held: usize,
    /// Of the record, when the session ended before its client went.
    pub ended: Option<String>,
    /// The reply was compared to its end.
    pub compared: bool,
}

/// Of a message that left for the target.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    /// How many events were recorded before it left.
    pub events: usize,
    /// The rules in force.
    pub rules: usize,
}

/// What is left of a case when it is over: for the oracle.
pub struct Over<'c> {
    pub case: &'c Case,
    pub server: &'c Server,
    pub manual: Manual,
    pub events: &'c [Event],
    /// Of each message that the server read, in order.
    pub left: &'c [Left],
    /// What the client got after its sign-in.
    pub received: &'c [u8],
    pub ended: bool,
    /// A question is open that nobody will answer.
    pub held: bool,
    /// Numbers of statements that were approved.
    pub approved: &'c [u32],
    /// The session had to end, because the target said what it did not owe.
    pub misled: bool,
    /// A cancel found a statement of the target.
    pub cancelled: bool,
    /// Tags of what the server read.
    pub read: &'c str,
    /// Not all that the client had to say was read.
    pub unread: usize,
    /// What the client got is of a real server: numbers of its tables are its own.
    pub real: bool,
}

/// Every generated text has numbers of its own, of four digits and more: the first of them is the same in a text and in a
/// part of it.
fn own_number(text: &[u8]) -> u64 {
    text.split(|b| !b.is_ascii_digit())
        .filter(|digits| digits.len() > 3)
        .find_map(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
        .unwrap_or(0)
}

/// How a held text is answered: a function of the text, so that a run without a gate can know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Approved,
    Denied,
    Expired,
    Revoked,
    Cancelled,
    Never,
}

pub fn fate(seed: u64, text: &[u8]) -> Fate {
    let mut hash = Random(seed ^ own_number(text));
    match hash.draw() % 100 {
        0..=59 => Fate::Approved,
        60..=74 => Fate::Denied,
        75..=82 => Fate::Expired,
        83..=88 => Fate::Revoked,
        89..=95 => Fate::Cancelled,
        _ => Fate::Never,
    }
}

/// Stands in the address of our notices, so that they can be told from the target's.
pub const ADDRESS: &str = "https://gate.invalid/questions/";

/// Steps of one case: none needs more.
const MOVES_MAX: usize = 200_000;

pub(crate) struct Run<'l> {
    pub(crate) lab: &'l mut Lab,
    pub(crate) case: &'l Case,
    pub(crate) manual: Manual,
    pub(crate) session: Session,
    pub(crate) random: Random,
    /// What the target is, or what it would be: a shadow of a real one.
    pub(crate) server: Server,
    pub(crate) real: Option<Real>,
    is_real: bool,
    /// From the client, not yet at the gate.
    pub(crate) outbox: Vec<u8>,
    /// From the gate, not yet read by the target.
    pub(crate) to_target: Vec<u8>,
    /// Bytes of `to_target` whose messages have been counted.
    pub(crate) counted: usize,
    pub(crate) waiting: std::collections::VecDeque<Left>,
    pub(crate) left: Vec<Left>,
    /// Tags of what the server read; `-` behind one that it skipped or ignored.
    pub(crate) read: String,
    /// Texts of the simple queries among what left.
    pub(crate) queries: Vec<(Vec<u8>, Left)>,
    pub(crate) received: Vec<u8>,
    pub(crate) events: Vec<Event>,
    pub(crate) rules: usize,
    pub(crate) questions: Vec<(Question, bool)>,
    pub(crate) approved: Vec<u32>,
    /// Catalogs that the gate asked for.
    pub(crate) wanted: Vec<CatalogWanted>,
    /// Changes of the target's catalog that were told.
    pub(crate) changes: u64,
    catalog: Arc<Catalog>,
    pub(crate) asked: usize,
    pub(crate) wrong: Option<u8>,
    /// A reply is on its way that is not owed.
    pub(crate) misleading: bool,
    /// It has arrived: how many messages had left by then.
    pub(crate) misled: Option<usize>,
    pub(crate) forwarded: usize,
    pub(crate) cancelled: bool,
    /// The client has gone: what is in the outbox is the last of it.
    gone: bool,
    told_gone: bool,
    pub(crate) told_ended: bool,
    pub(crate) greeted: bool,
    /// The gate's own key for its client.
    pub(crate) key: Option<(u32, Vec<u8>)>,
}

pub fn manual(case: &Case) -> Manual {
    Manual {
        pipeline_is_block: case.newest,
        sleeps: true,
        marks: true,
    }
}

/// A connection of the gate's to a real server.
pub(crate) struct Real {
    address: String,
    stream: Option<TcpStream>,
    pub(crate) pid: u32,
    /// Arrived, and not yet at the gate.
    incoming: Vec<u8>,
    /// All that arrived after sign-in.
    heard: Vec<u8>,
    gone: bool,
    /// Questions of the gate's own: how much had been heard when each was asked. It is answered from there on, up to its
    /// ReadyForQuery, since it is asked when nothing else is owed.
    pub(crate) asked: Vec<usize>,
}

/// A server that says nothing for so long, and owes something, is stuck.
const PATIENCE: Duration = Duration::from_secs(5);

impl Real {
    /// Takes what has arrived; waits for something if told to.
    fn listen(&mut self, wait: bool) -> std::io::Result<bool> {
        let Some(stream) = self.stream.as_mut().filter(|_| !self.gone) else {
            return Ok(false);
        };
        stream.set_nonblocking(!wait)?;
        let mut buffer = [0; 16 << 10];
        match stream.read(&mut buffer) {
            Ok(0) => self.gone = true,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => self.gone = true,
            Err(error) if error.kind() == ErrorKind::WouldBlock && !wait => return Ok(false),
            Err(error) => return Err(error),
            Ok(n) => {
                self.incoming.extend_from_slice(&buffer[..n]);
                self.heard.extend_from_slice(&buffer[..n]);
            }
        }
        stream.set_nonblocking(false)?;
        Ok(true)
    }

    /// What was heard, without the answers to the gate's own questions; whether those are all there.
    fn heard_of_client(&self) -> (Vec<(char, Vec<u8>)>, bool) {
        let mut all = real::common(&self.heard);
        let mut answered = true;
        for from in self.asked.iter().rev() {
            let ready = all.iter().skip(*from).position(|m| m.0 == 'Z');
            answered &= ready.is_some();
            let to = ready.map_or(all.len(), |n| from + n + 1);
            all.drain((*from).min(to)..to);
        }
        (all, answered)
    }

    fn say(&mut self, bytes: &[u8]) {
        if let Some(stream) = &mut self.stream {
            let _ = stream.set_nonblocking(false);
            // One that has gone is seen when it is read.
            let _ = stream.write_all(bytes);
        }
    }

    /// Lets the server read all that it was sent, and go.
    fn leave(&mut self) {
        if let Some(stream) = &mut self.stream {
            let _ = stream.set_nonblocking(false);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            while !self.gone && self.listen(true).is_ok() {}
        }
        self.stream = None;
    }
}

/// Runs a case through the gate at a real server, with the simulated one as its shadow, and judges it. The values that it
/// committed are added to `committed`.
pub fn run_real(
    lab: &mut Lab,
    case: &Case,
    postgres: &mut Postgres,
    committed: &mut Vec<i64>,
) -> Result<Ran, Violation> {
    let mut case = case.clone();
    case.steps.extend(real::farewell().map(Step::Send));
    case.steps.push(Step::Settle);
    let address = format!("127.0.0.1:{}", postgres.port);
    let real = Real {
        address,
        stream: None,
        pid: 0,
        incoming: Vec::new(),
        heard: Vec::new(),
        gone: false,
        asked: Vec::new(),
    };
    lab.clean();
    let mut run = Run::new(lab, &case, postgres.manual());
    run.real = Some(real);
    run.is_real = true;
    run.catalog = postgres.catalog.clone();
    let done = run.sign_in().and_then(|()| run.converse());
    if let Some(real) = &mut run.real {
        real.leave();
    }
    committed.extend_from_slice(&run.server.committed);
    done?;
    let Some(real) = run.real.take() else {
        return violation("model: no server", "");
    };
    let logged = postgres.logged(real.pid).map_err(|e| Violation {
        kind: "model: no log",
        detail: e.to_string(),
    })?;
    if !run.server.log.starts_with(&logged) || logged.len() < run.server.log.len() && !run.session.is_ended()
    {
        let at = logged
            .iter()
            .zip(&run.server.log)
            .take_while(|(a, b)| a == b)
            .count();
        let next = |all: &[Vec<u8>]| all.get(at).map(|line| String::from_utf8_lossy(line).into_owned());
        return violation(
            "real: its log is another",
            format!("real {:?}, simulated {:?}", next(&logged), next(&run.server.log)),
        );
    }
    if !run.session.is_ended() {
        let (real, simulated) = (real.heard_of_client().0, real::common(&run.server.out));
        if real != simulated {
            let tags = |all: &[(char, Vec<u8>)]| all.iter().map(|m| m.0).collect::<String>();
            return violation(
                "real: it says something else",
                format!("real {} simulated {}", tags(&real), tags(&simulated)),
            );
        }
    }
    run.finish()
}

/// Runs a case against the simulated server, and judges it.
pub fn run(lab: &mut Lab, case: &Case) -> Result<Ran, Violation> {
    lab.clean();
    let mut run = Run::new(lab, case, manual(case));
    run.sign_in()?;
    run.converse()?;
    run.finish()
}

impl<'l> Run<'l> {
    pub(crate) fn new(lab: &'l mut Lab, case: &'l Case, manual: Manual) -> Run<'l> {
        lab.set_rules(case.rules, case.masked);
        let catalog = lab.catalog.clone();
        let session = Session::new(&mut lab.core, 0, "127.0.0.1".to_owned());
        Run {
            lab,
            case,
            manual,
            session,
            random: Random(case.seed ^ 0x5ced_01e5),
            server: Server::new(manual),
            real: None,
            is_real: false,
            outbox: Vec::new(),
            to_target: Vec::new(),
            counted: 0,
            waiting: std::collections::VecDeque::new(),
            left: Vec::new(),
            queries: Vec::new(),
            read: String::new(),
            received: Vec::new(),
            events: Vec::new(),
            rules: case.rules,
            questions: Vec::new(),
            approved: Vec::new(),
            wanted: Vec::new(),
            changes: 0,
            catalog,
            asked: 0,
            wrong: None,
            misleading: false,
            misled: None,
            forwarded: 0,
            cancelled: false,
            gone: false,
            told_gone: false,
            told_ended: false,
            greeted: false,
            key: None,
        }
    }

    /// The client goes, the session ends, and all of it is judged.
    fn finish(mut self) -> Result<Ran, Violation> {
        let (case, is_real) = (self.case, self.is_real);
        let run = &mut self;
        let held = run
            .questions
            .iter()
            .any(|(question, _)| fate(case.seed, &question.statement) == Fate::Never);
        let ended = run.session.is_ended();
        let misled = run.misled;
        // What comes for a client that has gone is nobody's.
        let seen = run.received.len();
        if !ended {
            run.session.client_ended(&mut run.lab.core);
            if is_real {
                run.session.target_ended(&mut run.lab.core);
            }
            run.last_words();
        }
        run.lab.core.effects.clear();
        run.lab.recorded(&mut run.events);
        let mut tick = 0;
        while !run.session.is_ended() && tick < 3 {
            run.session.tick(&mut run.lab.core);
            run.lab.recorded(&mut run.events);
            tick += 1;
        }
        let lingers = !run.session.is_ended();
        let over = Over {
            case,
            server: &run.server,
            manual: run.manual,
            events: &run.events,
            left: &run.left,
            received: run.received.get(..seen).unwrap_or_default(),
            ended,
            held,
            approved: &run.approved,
            misled: misled.is_some() || run.misleading,
            cancelled: run.cancelled,
            unread: run.outbox.len(),
            read: &run.read,
            real: is_real,
        };
        oracle::judge(&over)?;
        if lingers {
            return violation("hang: a session without a client does not end", run.tail());
        }
        let reason = run.events.iter().rev().find_map(|event| match &event.body {
            Body::SessionClose { reason, .. } => Some(reason.clone()),
            _ => None,
        });
        Ok(Ran {
            messages: case.steps.len(),
            executed: run.server.units.iter().filter(|u| !u.ran.is_empty()).count(),
            held: run.asked,
            ended: if ended { reason } else { None },
            compared: oracle::is_comparable(&over),
        })
    }

    pub(crate) fn sign_in(&mut self) -> Result<(), Violation> {
        let mut hello = Vec::new();
        let mut packet = 196_608u32.to_be_bytes().to_vec();
        for text in ["user", "alice", "database", "shop"] {
            string(&mut packet, text.as_bytes());
        }
        packet.push(0);
        hello.extend_from_slice(&u32::try_from(packet.len() + 4).unwrap_or(0).to_be_bytes());
        hello.extend_from_slice(&packet);
        put(&mut hello, b'p', |o| string(o, b"token"));
        self.session.client_bytes(&mut self.lab.core, &hello);
        for _ in 0..256 {
            self.pump();
            while self.read_one() {
                self.pump();
            }
            self.load();
            self.pump();
            if let Some(real) = self.real.as_mut().filter(|real| real.stream.is_some()) {
                if let Err(error) = real.listen(true) {
                    return violation("real: no sign-in", error.to_string());
                }
                self.server.out = std::mem::take(&mut real.incoming);
            }
            if !self.server.out.is_empty() {
                let bytes = std::mem::take(&mut self.server.out);
                self.session.target_bytes(&mut self.lab.core, &bytes);
                self.pump();
            }
            if self.received.ends_with(&[b'Z', 0, 0, 0, 5, b'I']) {
                self.key = message::all(&self.received)
                    .find(|(tag, _)| *tag == b'K')
                    .and_then(|(_, body)| {
                        let pid = u32::from_be_bytes(*body.first_chunk::<4>()?);
                        Some((pid, body.get(4..)?.to_vec()))
                    });
                self.received.clear();
                // What the gate itself asked the target is not the client's.
                self.left.clear();
                self.server = Server::new(self.manual);
                self.read.clear();
                self.forwarded = 0;
                if let Some(real) = &mut self.real {
                    real.pid = message::all(&real.heard)
                        .find(|(tag, _)| *tag == b'K')
                        .and_then(|(_, body)| Some(u32::from_be_bytes(*body.first_chunk::<4>()?)))
                        .unwrap_or(0);
                    real.heard.clear();
                    real.asked.clear();
                }
                return Ok(());
            }
        }
        violation("sign-in does not end", String::from_utf8_lossy(&self.received))
    }

    /// Effects are carried out, outputs taken.
    pub(crate) fn pump(&mut self) {
        loop {
            let effects = std::mem::take(&mut self.lab.core.effects);
            let mut moved = !effects.is_empty();
            for effect in effects {
                self.effect(effect);
            }
            while let Some(bytes) = self.session.client_output(&mut self.lab.core) {
                self.received.extend_from_slice(&bytes);
                self.lab.core.recycle(bytes);
                moved = true;
            }
            while let Some(bytes) = self.session.target_output(&mut self.lab.core) {
                self.lab.recorded(&mut self.events);
                self.to_target.extend_from_slice(&bytes);
                self.lab.core.recycle(bytes);
                self.count();
                moved = true;
            }
            if !moved {
                return;
            }
        }
    }

    /// Whole messages that left for the target are counted once.
    fn count(&mut self) {
        if !self.greeted {
            if self.to_target.len() >= 8 {
                // Its startup packet.
                self.greeted = true;
                match &mut self.real {
                    Some(real) => real.say(&self.to_target),
                    None => self.server.greet(4711, &[1, 2, 3, 4]),
                }
                self.to_target.clear();
            }
            return;
        }
        while let Some((tag, body, len)) = self.to_target.get(self.counted..).and_then(message::first) {
            let left = Left {
                events: self.events.len(),
                rules: self.rules,
            };
            if tag == b'Q' {
                self.queries
                    .push((body.strip_suffix(b"\0").unwrap_or(body).to_vec(), left));
            }
            self.counted += len;
            // A farewell is no message of the client's.
            self.forwarded += usize::from(tag != b'X');
            self.waiting.push_back(left);
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::ConnectTarget { .. } => {
                if let Some(real) = &mut self.real
                    && let Ok(stream) = TcpStream::connect(&real.address)
                {
                    let _ = stream.set_nodelay(true);
                    let _ = stream.set_read_timeout(Some(PATIENCE));
                    real.stream = Some(stream);
                }
                self.session.target_connected(&mut self.lab.core);
            }
            Effect::Analyse { text } => {
                let facts = match std::str::from_utf8(&text) {
                    Ok(text) => headgate_sqlparse::facts(text),
                    Err(_) => Err(headgate_sql::Unreadable::NotUtf8),
                };
                let known = self.lab.core.known.learn(&text, facts);
                self.session.analysed(&mut self.lab.core, &text, known);
            }
            Effect::ToControl(ToControl::SignIn(ask)) => {
                let grant = Grant {
                    session: ask.session,
                    who: lab::who(),
                    target: lab::target("127.0.0.1:1".to_owned()),
                    target_secret: Secret::new(""),
                    catalog_reader: None,
                    epoch: Epoch(1),
                    expires_unix_ms: u64::MAX,
                    credential_id: "t1".to_owned(),
                };
                self.session.signed_in(&mut self.lab.core, Ok(Box::new(grant)));
            }
            Effect::ToControl(ToControl::Ask(question)) => {
                self.asked += 1;
                self.questions.push((*question, false));
            }
            Effect::ToControl(ToControl::Withdraw { key, .. }) => {
                self.questions.retain(|(q, _)| q.key != key)
            }
            Effect::LoadCatalog(wanted) => self.wanted.push(wanted),
            Effect::CancelTarget { .. } => self.cancelled |= self.server.cancel(),
            Effect::ToControl(_) | Effect::CancelSession { .. } | Effect::KeyMade { .. } => {}
            Effect::CatalogChanged { target } => {
                self.changes += 1;
                self.lab.core.catalog_changed(&target, self.changes);
            }
        }
    }

    fn converse(&mut self) -> Result<(), Violation> {
        let mut step = 0;
        let mut settling = false;
        for _ in 0..MOVES_MAX {
            if self.session.is_ended() {
                return self.after_the_end();
            }
            if let Some(real) = &mut self.real {
                let _ = real.listen(false);
            }
            let answerable = self
                .questions
                .iter()
                .position(|(q, _)| fate(self.case.seed, &q.statement) != Fate::Never);
            let can = [
                (!settling && step < self.case.steps.len(), 0),
                (!self.outbox.is_empty() && self.session.wants_client(64 << 10), 1),
                (
                    !self.server.sleeps() && !self.server.ended && message::first(&self.to_target).is_some(),
                    2,
                ),
                (self.arrived() > 0 && self.session.wants_target(), 3),
                (answerable.is_some(), 4),
                (self.server.sleeps(), 5),
                (!self.wanted.is_empty(), 7),
                (self.has_gone() && self.arrived() == 0 && !self.told_ended, 6),
                (
                    self.gone
                        && !self.told_gone
                        && (self.outbox.is_empty() || !self.session.wants_client(64 << 10)),
                    8,
                ),
            ];
            let count = can.iter().filter(|(can, _)| *can).count();
            if count == 0 && self.is_awaited() {
                if let Some(real) = &mut self.real
                    && let Err(error) = real.listen(true)
                {
                    return violation("real: it is silent", format!("{error}; {}", self.tail()));
                }
                continue;
            }
            if count == 0 {
                if step >= self.case.steps.len() {
                    return self.at_rest();
                }
                settling = false;
                continue;
            }
            let chosen = self.random.below(count);
            let what = can
                .iter()
                .filter(|(can, _)| *can)
                .nth(chosen)
                .map_or(0, |(_, what)| *what);
            self.lab.core.clock.now_us += 3;
            match what {
                0 => {
                    let next = &self.case.steps[step];
                    step += 1;
                    settling = *next == Step::Settle;
                    self.step(next)?;
                }
                1 => {
                    let n = self.cut(self.outbox.len());
                    let bytes: Vec<u8> = self.outbox.drain(..n).collect();
                    self.session.client_bytes(&mut self.lab.core, &bytes);
                }
                2 => drop(self.read_one()),
                3 => {
                    let n = self.cut(self.arrived());
                    let from = match &mut self.real {
                        Some(real) => &mut real.incoming,
                        None => &mut self.server.out,
                    };
                    let bytes: Vec<u8> = from.drain(..n).collect();
                    self.session.target_bytes(&mut self.lab.core, &bytes);
                    // A report that the server keeps until it flushes has not arrived.
                    if self.misleading
                        && self.arrived() == 0
                        && self.server.unsent.is_empty()
                        && !self.is_awaited()
                    {
                        self.misleading = false;
                        self.pump_misled()?;
                    }
                }
                4 => self.answer(answerable.unwrap_or(0)),
                5 => self.server.wake(),
                7 => self.load(),
                8 => {
                    self.told_gone = true;
                    self.outbox.clear();
                    self.session.client_ended(&mut self.lab.core);
                }
                _ => {
                    self.told_ended = true;
                    self.session.target_ended(&mut self.lab.core);
                }
            }
            self.pump();
            if let Some(before) = self.misled
                && self.forwarded > before
            {
                return violation(
                    "misled: a message of the client went on after a reply that was not owed",
                    self.tail(),
                );
            }
        }
        violation("it never comes to rest", self.tail())
    }

    /// The catalog has been read on another connection.
    pub(crate) fn load(&mut self) {
        let Some(wanted) = self.wanted.pop() else { return };
        let (target, result) = (Arc::from(wanted.target.name.as_str()), Ok(self.catalog.clone()));
        let loaded = CatalogLoaded {
            target,
            labels: wanted.labels,
            changes: self.changes,
            took_us: 5,
            result,
        };
        self.lab.core.catalog_loaded(&loaded);
        self.session.catalog_came(&mut self.lab.core, &loaded.target);
    }

    /// Bytes of the target that have not been at the gate.
    fn arrived(&self) -> usize {
        self.real
            .as_ref()
            .map_or(self.server.out.len(), |real| real.incoming.len())
    }

    fn has_gone(&self) -> bool {
        self.real.as_ref().map_or(self.server.ended, |real| real.gone)
    }

    /// Whether a real server has not yet said all that its shadow has.
    fn is_awaited(&self) -> bool {
        let Some(real) = &self.real else { return false };
        let ((heard, answered), owed) = (real.heard_of_client(), real::common(&self.server.out));
        !real.gone && (self.server.ended || heard.len() < owed.len() || !answered)
    }

    /// The reply that is not owed has arrived whole: what the gate had let go before is all that may go.
    fn pump_misled(&mut self) -> Result<(), Violation> {
        let before = self.forwarded;
        self.pump();
        self.misled = Some(before);
        if self.forwarded > before {
            return violation(
                "misled: a message of the client went on with a reply that was not owed",
                self.tail(),
            );
        }
        if !self.session.is_ended() {
            return violation(
                "misled: a reply that was not owed does not end the session",
                self.tail(),
            );
        }
        Ok(())
    }

    /// The client has gone: what it had sent is done, and then the session ends.
    pub(crate) fn last_words(&mut self) {
        for _ in 0..MOVES_MAX {
            self.pump();
            if self.session.is_ended() {
                return;
            }
            if !self.wanted.is_empty() {
                self.load();
            } else if !self.server.out.is_empty() {
                let bytes = std::mem::take(&mut self.server.out);
                self.session.target_bytes(&mut self.lab.core, &bytes);
            } else if self.server.sleeps() {
                self.server.wake();
            } else if self.server.ended {
                self.session.target_ended(&mut self.lab.core);
                self.pump();
                return;
            } else if !self.read_one() {
                return;
            }
        }
    }

    fn after_the_end(&mut self) -> Result<(), Violation> {
        self.pump();
        // What had left before is read by the target to its end: it runs, and must have been judged.
        while !self.server.ended {
            if self.server.sleeps() {
                self.server.wake();
            } else if !self.read_one() {
                break;
            }
        }
        Ok(())
    }

    fn at_rest(&mut self) -> Result<(), Violation> {
        let held = !self.questions.is_empty();
        if !self.outbox.is_empty() && !held {
            return violation("hang: the client is not read, and nothing waits", self.tail());
        }
        if self.arrived() > 0 {
            return violation("hang: the target is not read", self.tail());
        }
        Ok(())
    }

    fn tail(&self) -> String {
        let tags: String = message::all(&self.received)
            .map(|(tag, _)| char::from(tag))
            .collect();
        format!(
            "client got {tags}; target read {}; target has {} messages read, status {}",
            self.read,
            self.server.messages,
            char::from(self.server.status())
        )
    }

    fn cut(&mut self, len: usize) -> usize {
        let n = match self.random.below(8) {
            0 => 1,
            1 => 1 + self.random.below(7),
            2 | 3 => 1 + self.random.below(len),
            _ => len,
        };
        n.min(len)
    }

    fn step(&mut self, step: &Step) -> Result<(), Violation> {
        match step {
            // Nobody is there to say or ask it.
            Step::Send(_) | Step::Cancel if self.gone => {}
            Step::Gone => {
                self.gone = true;
                let n = self.random.below(self.outbox.len() + 1);
                self.outbox.truncate(n);
            }
            Step::Send(message) => message.encode(&mut self.outbox),
            Step::Settle => {}
            Step::Rules(rules) => {
                self.rules = *rules;
                self.lab.set_rules(*rules, self.case.masked);
                self.session.snapshot_changed(&mut self.lab.core);
            }
            Step::Cancel => self.cancel(),
            Step::CatalogChanged => {
                self.changes += 1;
                self.lab.core.catalog_changed("shop", self.changes);
            }
            Step::Unasked(what) => match what {
                Unasked::Notice => self.server.notice("nobody asked"),
                Unasked::Status => self.server.status_of("TimeZone", "Asia/Tokyo"),
                Unasked::Notification => put(&mut self.server.out, b'A', |o| {
                    o.extend_from_slice(&1u32.to_be_bytes());
                    string(o, b"channel");
                    string(o, b"payload");
                }),
            },
            Step::Unowed(tag) => {
                // Only where nothing at all is owed is every reply one too many.
                let at_rest = self.server.out.is_empty()
                    && self.server.unsent.is_empty()
                    && self.to_target.is_empty()
                    && !self.server.sleeps()
                    && !self.server.ended;
                if at_rest && !(self.server.copies_in() && *tag == b'C') {
                    rogue(&mut self.server.out, *tag);
                    // It comes before anything is owed again.
                    while !self.server.out.is_empty() && !self.session.is_ended() {
                        let n = self.cut(self.server.out.len());
                        let bytes: Vec<u8> = self.server.out.drain(..n).collect();
                        self.session.target_bytes(&mut self.lab.core, &bytes);
                    }
                    self.pump_misled()?;
                }
            }
            Step::Wrong(tag) => self.wrong = Some(*tag),
            Step::Contradicts(name, value) => {
                if !self.server.ended {
                    self.server.status_of(name, value);
                    self.misleading = true;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn cancel(&mut self) {
        let Some((pid, key)) = self.key.clone() else {
            return;
        };
        match self.session.cancel(
            &mut self.lab.core,
            &headgate_gate::postgres::cancel_token(pid, &key),
        ) {
            Some(Cancelled::AtTarget { .. }) => self.cancelled |= self.server.cancel(),
            Some(_) => self.cancelled = true,
            None => {}
        }
        self.a_moment_passes();
    }

    /// A cancel that comes before its question has a number waits a little for that.
    fn a_moment_passes(&mut self) {
        self.lab.core.clock.now_us += 600_000;
        self.session.tick(&mut self.lab.core);
    }

    fn answer(&mut self, at: usize) {
        let (question, told) = &mut self.questions[at];
        let key = question.key;
        if !*told && self.random.percent(50) {
            *told = true;
            let asked = Asked {
                key,
                number: QuestionNumber(17),
                address: ADDRESS.to_owned(),
                deadline_unix_ms: question.deadline_unix_ms,
            };
            return self.session.asked(&mut self.lab.core, &asked);
        }
        let (question, _) = self.questions.remove(at);
        let core = &mut self.lab.core;
        let fate = fate(self.case.seed, &question.statement);
        self.read.push_str(&format!("[{fate:?}]"));
        let reply = match fate {
            Fate::Approved => {
                self.approved.push(key.statement);
                Answer::Approved {
                    reviewers: vec!["bob".to_owned()],
                    digest: question.digest,
                }
            }
            Fate::Denied | Fate::Never => Answer::Denied {
                reviewer: "bob".to_owned(),
                reason: "not today".to_owned(),
            },
            Fate::Revoked => Answer::Revoked { by: "bob".to_owned() },
            Fate::Expired if self.random.percent(50) => Answer::Expired,
            Fate::Expired => {
                core.clock.now_us += (lab::WAIT_MS + 1) * 1000;
                return self.session.tick(core);
            }
            Fate::Cancelled => {
                if let Some((pid, key)) = self.key.clone() {
                    drop(
                        self.session
                            .cancel(core, &headgate_gate::postgres::cancel_token(pid, &key)),
                    );
                }
                self.a_moment_passes();
                return;
            }
        };
        self.session.answered(core, key, reply);
    }

    /// The target reads one message. `false`: there is none.
    pub(crate) fn read_one(&mut self) -> bool {
        let Some((tag, body, len)) = message::first(&self.to_target) else {
            return false;
        };
        let body = body.to_vec();
        self.to_target.drain(..len);
        self.counted -= len;
        let left = self.waiting.pop_front();
        let before = self.server.out.len();
        // A reply that belongs to an earlier message comes first then.
        let unsent = !self.server.unsent.is_empty();
        let own =
            tag == b'Q' && memchr::memmem::find(&body, b"pg_catalog").is_some() && !self.server.copies_in();
        let say = |real: &mut Option<Real>| {
            if let Some(real) = real {
                let mut bytes = Vec::new();
                put(&mut bytes, tag, |o| o.extend_from_slice(&body));
                real.say(&bytes);
                if own {
                    real.asked.push(real::common(&real.heard).len());
                }
            }
        };
        if own {
            say(&mut self.real);
            if self.real.is_none() {
                self.say_catalog();
            }
            return true;
        }
        self.left.extend(left);
        let passed = self.server.message(tag, &body) == server::Fate::Passed;
        if self.server.crashed {
            // A real one would take all other sessions with it.
            if let Some(real) = &mut self.real {
                real.gone = true;
            }
        } else {
            say(&mut self.real);
        }
        self.read.push(char::from(tag));
        if passed {
            self.read.push('-');
        }
        let said = self.server.out.get(before..).unwrap_or_default();
        if memchr::memmem::find(said, b"standard_conforming_strings\0off").is_some() {
            self.misleading = true;
        }
        if let Some(wrong) = self.wrong
            && let Some((first, _, _)) = message::first(said)
            && !may_be(tag, wrong)
            && first != b'N'
            && first != b'S'
            && before == 0
            && !unsent
        {
            self.wrong = None;
            let said = said.to_vec();
            self.server.out.truncate(before);
            rogue(&mut self.server.out, wrong);
            // Its true reply follows: nobody may see that either.
            self.server.out.extend_from_slice(&said);
            self.misleading = true;
        }
        true
    }

    /// The gate's own question for the catalog.
    fn say_catalog(&mut self) {
        if self.server.skips() {
            return;
        }
        let out = &mut self.server.out;
        put(out, b'T', |o| {
            message::short(o, 6);
            for _ in 0..6 {
                string(o, b"a");
                o.extend_from_slice(&[0; 6]);
                o.extend_from_slice(&25u32.to_be_bytes());
                o.extend_from_slice(&u16::MAX.to_be_bytes());
                o.extend_from_slice(&u32::MAX.to_be_bytes());
                o.extend_from_slice(&[0; 2]);
            }
        });
        for row in lab::catalog_rows() {
            put(out, b'D', |o| {
                message::short(o, 6);
                row.iter()
                    .for_each(|f| message::value(o, f.as_deref().map(str::as_bytes)));
            });
        }
        put(out, b'C', |o| string(o, b"SELECT 1"));
        let status = self.server.status();
        put(&mut self.server.out, b'Z', |o| o.push(status));
    }
}

/// Whether a target may answer a message of this kind so, first of all.
fn may_be(message: u8, reply: u8) -> bool {
    match message {
        b'P' => reply == b'1',
        b'B' => reply == b'2',
        b'C' => reply == b'3',
        b'D' => matches!(reply, b't' | b'n' | b'T'),
        b'E' => matches!(reply, b's' | b'D' | b'C' | b'I'),
        b'F' => reply == b'V',
        b'Q' | b'S' => false,
        _ => true,
    }
}

/// What a rogue reply carries, where it can carry something.
pub const ROGUE: &str = "rogue";

/// Appends a reply that is not owed.
pub fn rogue(out: &mut Vec<u8>, tag: u8) {
    let secret = format!("{ROGUE}-{CANARY}");
    put(out, tag, |o| match tag {
        b'C' => string(o, format!("SELECT 1 {secret}").as_bytes()),
        b'D' | b'V' => {
            if tag == b'D' {
                message::short(o, 1);
            }
            message::value(o, Some(secret.as_bytes()));
        }
        b'T' => {
            message::short(o, 1);
            string(o, secret.as_bytes());
            o.extend_from_slice(&[0; 18]);
        }
        b't' => message::short(o, 0),
        b'd' => o.extend_from_slice(secret.as_bytes()),
        b'G' | b'H' | b'W' => {
            o.push(0);
            message::short(o, 1);
            message::short(o, 0);
        }
        b'K' => o.extend_from_slice(&[0, 0, 0, 9, 1, 2, 3, 4]),
        b'Z' => o.push(b'I'),
        _ => {}
    });
}

/// All messages that a case's client sends.
pub fn sent(case: &Case) -> impl Iterator<Item = &Message> {
    case.steps.iter().filter_map(|step| match step {
        Step::Send(message) => Some(message),
        _ => None,
    })
}
