//! A signed-in session: statements in, replies out.
//!
//! Messages of the client are handled one by one, in order, at the front of what has arrived ([`intake`]). The message at
//! the front may have to wait (for an analyst, for people, for the recorder, for the target); nothing behind it moves
//! meanwhile. What goes to the target is queued in `expect` with the answer that it will bring; the target's messages
//! ([`replies`]) take it out again.
//!
//! **Denied means failed at the target, too.** In extended use and inside transactions a denied message is replaced by one
//! of our own that is sure to fail there, and the target's error by our denial: so the order of replies, skipping to Sync
//! and the state of the transaction are the server's own doing, not an imitation.
//!
//! Invariants:
//! - a statement's bytes leave only through [`TargetDoor::send`], which wants a permit; rows only through [`ClientDoor`];
//! - what is forwarded has been recorded; the statement event is written before its bytes are appended;
//! - `expect` holds exactly what the target owes.
//!
//! Bounds: one message of the client (settings), EXPECT_MAX, NAMES_MAX.

mod expect;
mod given;
mod hold;
mod intake;
mod judge;
mod names;
mod plan;
mod replies;
mod run;

pub use hold::Held;
pub use intake::Outs;

use crate::core::Core;
use crate::denial::Denial;
use crate::known::Known;
use crate::record::Recorder;
use expect::{Expect, Queue};
use headgate_mask::{Caller, Catalog, CatalogBuilder};
use headgate_plane::{Answer, Grant, Protocol, TargetSpec, Who};
use headgate_policy::{Compiled, Context};
use headgate_postgres::PeerMisbehaved;
use headgate_postgres::backend::TransactionStatus;
use headgate_postgres::cancel::Key;
use headgate_recording::{BodyRef, Bytes, Direction, ErrorRef, RecordedError, StatementOutcome};
use names::Names;
pub use run::Runs;
use run::{Cover, RunRef};
use std::rc::Rc;
use std::sync::Arc;

/// Why a session in traffic ends.
#[derive(Debug)]
pub enum TrafficEnd {
    /// The client said goodbye.
    Terminated,
    ClientMisbehaved(PeerMisbehaved),
    TargetMisbehaved(String),
    /// A bound of ours.
    TooMuch(Denial),
}

/// Why the message at the front does not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    No,
    /// For an analyst.
    Analyst,
    /// For people.
    Answer,
    /// For room in the spool.
    Room,
    /// For the target to end an earlier segment, or to owe less.
    Target,
    /// For our own catalog query.
    Catalog,
}

/// What has been found out about the message at the front.
#[derive(Default)]
pub(crate) enum Front {
    #[default]
    Fresh,
    Analysing,
    Known(Rc<Known>),
    Held(Box<Held>),
}

/// In the order of use: what every statement touches comes first, on as few cache lines as it takes. With thousands of
/// sessions each line is cold when its session's turn comes.
#[repr(C)]
pub struct Traffic {
    waiting: Waiting,
    status: TransactionStatus,
    /// A refused message was sent in this segment: the target skips to Sync, and so do we.
    skipping: bool,
    /// COPY IN is open at the target: Sync and Flush owe nothing until CopyDone or CopyFail.
    copy_in: bool,
    /// The target's bytes wait for room in the spool.
    pub target_waits: bool,
    /// The catalog was loaded with the labels of this policy.
    labels_current: bool,
    /// A statement of the open transaction may have changed the target's catalog.
    catalog_touched: bool,
    /// Such a statement was sent, and its transaction is not known to be over: no catalog of others says what it sees.
    own_ddl: bool,
    /// A statement of the open transaction (or one on its way) reads what is covered.
    transaction_touches: bool,
    statements: u32,
    expect: Queue,
    /// Number of the segment that is being sent, and of the last one that is over.
    segment: u64,
    segments_done: u64,
    /// Bytes of a CopyData message that still pass.
    pass_client: usize,
    /// Bytes of a row or CopyData that still pass, and whose run it is.
    pass_target: usize,
    pub(crate) front: Front,
    /// The core's count of loaded catalogs when this session last looked.
    catalogs_seen: u64,
    pub(crate) catalog_version: u64,
    /// Of `caller`: what was worked out for another one is worked out anew.
    caller_number: u64,
    pub(crate) caller: Caller,
    pub(crate) policy: Arc<Compiled>,
    /// Spool position that must be durable before the target's bytes may go (strict durability).
    pub strict_until: u64,
    pub(crate) recorder: Recorder,
    pub bytes_from_client: u64,
    pub bytes_to_client: u64,
    pub(crate) context: Context,
    names: Names,
    // What few statements touch.
    pub(crate) catalog: Option<Arc<Catalog>>,
    /// Told to the client once the catalog is there: everything of sign-in from AuthenticationOk to ReadyForQuery.
    welcome: Option<Vec<u8>>,
    catalog_loading: Option<Box<CatalogBuilder>>,
    catalog_tried: bool,
    /// Its rows could not be used.
    catalog_broken: bool,
    /// Notices of ours that wait for the end of a message that passes in pieces.
    late: Vec<u8>,
    pub who: Rc<Who>,
    pub target: Arc<TargetSpec>,
    pub expires_unix_ms: u64,
    target_pid: u32,
    target_key: Vec<u8>,
    own_key: Key,
}

/// What a cancel request comes to.
#[derive(Debug)]
pub enum Cancelled {
    /// A held statement was taken back: nothing is left to do.
    TakenBack,
    /// The target must be told, on a connection of its own.
    AtTarget { target: Arc<TargetSpec>, pid: u32, key: Vec<u8> },
}

pub struct Begin {
    pub grant: Box<Grant>,
    pub recorder: Recorder,
    pub target_pid: u32,
    pub target_key: Vec<u8>,
    pub own_key: Key,
    pub welcome: Vec<u8>,
    /// What the target said after it had let us in: whole messages, unmasked.
    pub notices: Vec<Vec<u8>>,
}

/// A reply up to this goes into the event of its end: one event less for nearly every statement.
const REPLY_IN_END_BYTES_MAX: usize = 4 << 10;
/// The first message of `welcome`: a tag, a length, and the code of AuthenticationOk.
const AUTHENTICATION_OK_BYTES: usize = 9;

impl Traffic {
    pub fn begin(core: &mut Core, begin: Begin, target_out: &mut Vec<u8>, client_out: &mut Vec<u8>) -> Traffic {
        let Begin { grant, recorder, target_pid, target_key, own_key, welcome, notices } = begin;
        let policy = Arc::clone(&core.policy);
        let context = policy.context(&grant.who, &grant.target);
        let mut traffic = Traffic {
            who: Rc::new(grant.who.clone()),
            target: Arc::new(grant.target.clone()),
            expires_unix_ms: grant.expires_unix_ms,
            recorder,
            caller: core.callers.get(&policy, &[], None, &core.mask_key).caller,
            policy,
            context,
            catalog: None,
            catalog_version: 0,
            catalog_loading: None,
            catalog_tried: false,
            labels_current: false,
            catalog_broken: false,
            catalog_touched: false,
            own_ddl: false,
            catalogs_seen: 0,
            caller_number: 0,
            transaction_touches: false,
            names: Names::default(),
            expect: Queue::new(),
            segment: 1,
            segments_done: 0,
            status: TransactionStatus::Idle,
            front: Front::Fresh,
            waiting: Waiting::No,
            skipping: false,
            pass_client: 0,
            pass_target: 0,
            copy_in: false,
            late: Vec::new(),
            statements: 0,
            target_pid,
            target_key,
            own_key,
            welcome: Some(welcome),
            bytes_from_client: 0,
            bytes_to_client: 0,
            target_waits: false,
            strict_until: 0,
        };
        traffic.recorder.write(
            core,
            BodyRef::SessionOpen {
                who: &grant.who,
                target: &grant.target.name,
                environment: &grant.target.environment,
                role: &grant.target.user,
                credential_id: &grant.credential_id,
                epoch: grant.epoch,
                protocol: Protocol::Postgres,
                target_session: &target_pid.to_string(),
            },
        );
        traffic.take_up_masks(core);
        // A trigger on login may speak of what is covered, and there is no statement to judge that by: doubt masks.
        if traffic.caller.is_free()
            && let Some(welcome) = &mut traffic.welcome
        {
            welcome.splice(AUTHENTICATION_OK_BYTES..AUTHENTICATION_OK_BYTES, notices.concat());
        }
        if !traffic.wants_catalog_now(core, target_out) {
            traffic.greet(client_out);
        }
        traffic
    }

    fn greet(&mut self, client_out: &mut Vec<u8>) {
        if let Some(welcome) = self.welcome.take() {
            client_out.extend_from_slice(&welcome);
        }
    }

    pub fn target_pid(&self) -> u32 {
        self.target_pid
    }

    pub fn is_key(&self, pid: u32, key: &[u8]) -> bool {
        self.target_pid == pid && self.own_key.matches(key)
    }

    pub fn waiting(&self) -> Waiting {
        self.waiting
    }

    /// Whether client bytes are worth reading beyond what is carried.
    pub fn wants_client(&self) -> bool {
        self.waiting == Waiting::No
    }

    /// The rules changed: a held statement is judged anew. The caller runs the intake again.
    pub fn snapshot_changed(&mut self, core: &mut Core) {
        if matches!(self.front, Front::Held(_)) {
            self.withdraw(core, headgate_plane::Withdrawal::Rejudged);
            self.front = Front::Fresh;
            self.waiting = Waiting::No;
        }
    }

    /// An analyst's answer for the message at the front.
    pub fn analysed(&mut self, known: Rc<Known>) {
        if matches!(self.front, Front::Analysing) {
            self.front = Front::Known(known);
            self.waiting = Waiting::No;
        }
    }

    /// People answered, or their time is over.
    pub fn answered(&mut self, key: headgate_plane::QuestionKey, answer: Answer) {
        if let Front::Held(held) = &mut self.front
            && held.question.key == key
            && held.answer.is_none()
        {
            held.answer = Some(answer);
            self.waiting = Waiting::No;
        }
    }

    /// The client's cancel: takes back what is held, or has to go to the target.
    pub fn cancel(&mut self, core: &mut Core) -> Cancelled {
        if matches!(self.front, Front::Held(_)) {
            self.withdraw(core, headgate_plane::Withdrawal::Cancelled);
            if let Front::Held(held) = &mut self.front {
                held.cancelled = true;
            }
            self.waiting = Waiting::No;
            Cancelled::TakenBack
        } else {
            Cancelled::AtTarget { target: Arc::clone(&self.target), pid: self.target_pid, key: self.target_key.clone() }
        }
    }

    /// When something happens by time alone: the deadline of a question.
    pub fn deadline_unix_ms(&self) -> Option<u64> {
        match &self.front {
            Front::Held(held) if held.answer.is_none() => Some(held.question.deadline_unix_ms),
            _ => None,
        }
    }

    /// The deadline of the question at the front is over.
    pub fn deadline_passed(&mut self) {
        if self.waiting == Waiting::Answer {
            self.waiting = Waiting::No;
        }
    }

    /// A retry is due: room in the spool may be there again.
    pub fn retry(&mut self) {
        if self.waiting == Waiting::Room {
            self.waiting = Waiting::No;
        }
    }

    /// Last words into the recording.
    pub fn end(&mut self, core: &mut Core, reason: &str) {
        if matches!(self.front, Front::Held(_)) {
            self.withdraw(core, headgate_plane::Withdrawal::ClientGone);
        }
        while let Some(expect) = self.expect.pop_front() {
            if let Some(run) = expect.run() {
                let run = Rc::clone(run);
                let error = RecordedError { code: "08006".to_owned(), message: format!("session ended: {reason}") };
                self.end_run(core, &run, StatementOutcome::Cut, Some(&error));
            }
        }
        self.recorder.write(
            core,
            BodyRef::SessionClose {
                reason,
                statements: self.statements,
                bytes_from_client: self.bytes_from_client,
                bytes_to_client: self.bytes_to_client,
            },
        );
    }

    fn open_run(&mut self, core: &mut Core, known: &Rc<Known>) -> RunRef {
        self.statements = self.statements.wrapping_add(1);
        let (exposure, hints) = self.exposure(known);
        self.transaction_touches |= exposure.touches;
        let run = core.runs.take();
        {
            let mut run = run.borrow_mut();
            run.number = self.statements;
            run.started_us = core.clock.now_us;
            run.known = Some(Rc::clone(known));
            run.cover = if self.caller.is_free() { Cover::Pass } else { Cover::Unset };
            run.exposure = exposure;
            run.hints = hints;
        }
        run
    }

    /// The statement is over. With an error its tag counts for nothing.
    fn end_run(&mut self, core: &mut Core, over: &RunRef, outcome: StatementOutcome, error: Option<&RecordedError>) {
        let mut run = over.borrow_mut();
        if run.ended {
            return;
        }
        run.ended = true;
        let statement = run.number;
        let mut head = std::mem::take(&mut run.head);
        if head.len() > REPLY_IN_END_BYTES_MAX {
            self.recorder.write(core, BodyRef::Stream { statement, direction: Direction::ToClient, offset: 0, bytes: Bytes(&head) });
            head.clear();
        }
        core.metrics.rows += run.rows;
        core.metrics.values_masked += run.masked;
        self.recorder.write(
            core,
            BodyRef::StatementEnd {
                statement,
                outcome,
                duration_us: core.clock.now_us.saturating_sub(run.started_us),
                rows: run.rows,
                bytes: run.bytes,
                tag: if error.is_some() { "" } else { &run.tag },
                error: error.map(ErrorRef::from),
                masked: run.masked,
                truncated: run.truncated,
                reply: Bytes(&head),
            },
        );
        drop(run);
        core.recycle(head);
        core.runs.rest(over);
    }

    fn owes_nothing(&self) -> bool {
        self.expect.is_empty() && self.pass_target == 0
    }
}

impl Expect {
    fn place(self, traffic: &mut Traffic) {
        let ends = self.ends_segment();
        traffic.expect.push_back(self);
        if ends {
            traffic.segment += 1;
            traffic.skipping = false;
        }
    }
}
