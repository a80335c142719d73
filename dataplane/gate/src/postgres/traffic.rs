//! A signed-in session: statements in, replies out.
//!
//! Messages of the client are handled one by one, in order, at the front of what has arrived ([`intake`]). The message at
//! the front may have to wait (for an analyst, for people, for the recorder, for the target); nothing behind it moves
//! meanwhile, and what it is judged by is asked again at the moment of forwarding ([`clear`]). What goes to the target is
//! queued in [`owed`] with the answer that it will bring; the target's messages ([`replies`]) take it out again.
//!
//! **Denied means failed at the target, too.** In extended use and inside transactions a denied message is replaced by one
//! of our own that is sure to fail there, and the target's error by our denial: so the order of replies, skipping to Sync
//! and the state of the transaction are the server's own doing, not an imitation.
//!
//! Invariants:
//! - a statement's bytes leave only with a permit, which wants a record; rows only as the masker made them;
//! - each state has one writer: what the target owes [`owed`], what names mean [`names`], what is judged by [`judge`], what
//!   the client sends in COPY [`copy_in`], what is held [`hold`].
//!
//! Bounds: one message of the client (settings), [`owed::OWED_MAX`], [`names::NAMES_MAX`], the session's meter.

use super::copy_in::DataIn;
use super::execution::{Cover, ExecutionRef};
use super::hold::Held;
use super::judge::Judging;
use super::names::Names;
use super::owed::Owed;
use crate::clearance::refused::Refused;
use crate::clearance::room::{NoRoom, Recorder, Room, Unrecorded};
use crate::core::memory::{Charge, Meter};
use crate::core::{Core, Effect};
use crate::postgres::denial::Denial;
use crate::sql::known::Known;
use headgate_plane::{CatalogReader, Grant, SessionId, TargetSpec, Who};
use headgate_postgres::PeerMisbehaved;
use headgate_postgres::backend::TransactionStatus;
use headgate_postgres::cancel::Key;
use headgate_postgres::startup::pins::Pins;
use headgate_recording::{BodyRef, Bytes, Direction, ErrorRef, RecordedError, StatementOutcome};
use headgate_sql::SessionSettings;
use std::rc::Rc;
use std::sync::Arc;

/// Why a session in traffic ends.
#[derive(Debug)]
pub enum TrafficEnd {
    ClientMisbehaved(PeerMisbehaved),
    /// The client sent what has no place while the target reads COPY data; the server ends such a session.
    CopyBroken(Denial),
    TargetMisbehaved(String),
    /// The target says of itself what contradicts that by which the session is judged.
    Contradicted(Denial),
    /// Something could not be recorded: nothing more is done.
    Unrecorded,
}

impl From<Unrecorded> for TrafficEnd {
    fn from(_: Unrecorded) -> TrafficEnd {
        TrafficEnd::Unrecorded
    }
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
    /// For the target to end an earlier segment, to owe less, or to say whether it reads COPY data.
    Target,
    /// For the target's catalog.
    Catalog,
}

/// What has been found out about the message at the front.
#[derive(Default)]
pub(crate) enum Front {
    #[default]
    Fresh,
    /// Of this text.
    Analysing(Arc<[u8]>),
    Known(Rc<Known>),
    Held(Box<Held>),
}

/// A message of the client of which more is to come than is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Piece {
    #[default]
    None,
    /// COPY data on its way to the target; so many bytes of the message are left.
    Data(usize),
    /// Not sent on: refused for its length, or data that nobody reads.
    Dropped(usize),
}

/// In the order of use: what every statement touches comes first, on as few cache lines as it takes. With thousands of
/// sessions each line is cold when its session's turn comes.
#[repr(C)]
pub struct Traffic {
    pub(super) waiting: Waiting,
    /// The target's bytes wait for room in the spool.
    pub target_waits: bool,
    /// A statement of the open transaction (or one on its way) reads what is covered.
    pub(super) transaction_touches: bool,
    /// An error in extended use: the segment that it stood in ends with what it had done undone.
    pub(super) segment_failed: bool,
    /// The client said goodbye or went away: nothing more of it is read, and the session ends when nothing is owed.
    pub(super) leaving: bool,
    /// The client went away without a word: what it had sent is done, and nothing is asked on its behalf.
    pub(super) client_gone: bool,
    pub(super) statements: u32,
    /// Statements prepared by Parse that the recording has.
    pub(super) prepared: u32,
    pub(super) owed: Owed,
    pub(super) piece: Piece,
    /// Bytes of a row or CopyData that still pass, and whose run it is.
    pub(super) pass_target: usize,
    pub(crate) front: Front,
    pub(crate) judging: Judging,
    /// Spool position that must be durable before the target's bytes may go (strict durability).
    pub strict_until: u64,
    pub(crate) recorder: Recorder,
    pub bytes_from_client: u64,
    pub bytes_to_client: u64,
    pub(super) names: Names,
    // What few statements touch.
    /// Bytes that must be free in the spool before what waits for room can go on.
    pub(super) room_wanted: usize,
    pub(super) data_in: Option<Box<DataIn>>,
    /// Questions that fell away while there was no room to record it.
    pub(super) withdrawn: Vec<(Box<Held>, headgate_plane::Withdrawal)>,
    /// Told to the client once the catalog is there: everything of sign-in from AuthenticationOk to ReadyForQuery.
    pub(super) welcome: Option<Vec<u8>>,
    /// Notices of ours that wait for the end of a message that passes in pieces.
    pub(super) late: Vec<u8>,
    pub(super) meter: Rc<Meter>,
    /// Of a long message that is not whole yet.
    pub(super) arriving: Charge,
    pub who: Rc<Who>,
    pub target: Arc<TargetSpec>,
    pub(super) secret: headgate_plane::Secret,
    pub(super) reader: Option<CatalogReader>,
    pub expires_unix_ms: u64,
    pub(super) target_pid: u32,
    pub(super) target_key: Vec<u8>,
    pub(super) own_key: Key,
    /// What the target must not contradict; `None` where a rule leaves that to the caller (`danger_unpinned`).
    pub(super) pins: Option<Pins>,
}

/// What a cancel request comes to.
#[derive(Debug)]
pub enum Cancelled {
    /// A held statement was taken back: nothing is left to do.
    TakenBack,
    /// The target must be told, on a connection of its own.
    AtTarget {
        target: Arc<TargetSpec>,
        pid: u32,
        key: Vec<u8>,
    },
}

pub struct Begin {
    pub grant: Box<Grant>,
    pub session: SessionId,
    pub target_pid: u32,
    pub target_key: Vec<u8>,
    pub own_key: Key,
    pub welcome: Vec<u8>,
    pub pins: Option<Pins>,
    /// What the session begins with.
    pub settings: SessionSettings,
    /// What the target said after it had let us in: whole messages, unmasked.
    pub notices: Vec<Vec<u8>>,
}

/// A reply up to this goes into the event of its end: one event less for nearly every statement.
pub(super) const REPLY_IN_END_BYTES_MAX: usize = 4 << 10;
/// What the end of one statement takes beside its reply: numbers, tag, error.
pub(super) const END_BYTES_MAX: usize = 6 << 10;
/// The end of a statement that was skipped, or that the session's end cuts.
pub(super) const SHORT_END_BYTES_MAX: usize = 512;
/// Of an error's words as they are recorded.
pub(super) const ERROR_BYTES_MAX: usize = 4 << 10;
/// The first message of `welcome`: a tag, a length, and the code of AuthenticationOk.
pub(super) const AUTHENTICATION_OK_BYTES: usize = 9;

impl Traffic {
    pub fn begin(core: &mut Core, begin: Begin, client_out: &mut Vec<u8>) -> Result<Traffic, Begin> {
        let target_session = begin.target_pid.to_string();
        let grant = &begin.grant;
        let open = BodyRef::SessionOpen {
            who: &grant.who,
            target: &grant.target.name,
            environment: &grant.target.environment,
            role: &grant.target.user,
            credential_id: &grant.credential_id,
            epoch: grant.epoch,
            protocol: headgate_plane::Protocol::Postgres,
            target_session: &target_session,
        };
        let Ok(mut room) = Room::for_body(core, &open) else {
            return Err(begin);
        };
        let mut recorder = Recorder::new(begin.session);
        if recorder.write(core, &mut room, open).is_err() {
            return Err(begin);
        }
        let Begin {
            grant,
            target_pid,
            target_key,
            own_key,
            welcome,
            pins,
            settings,
            notices,
            ..
        } = begin;
        let meter = core.meter_of(&grant.who.principal);
        let judging = Judging::begin(core, &grant.who, &grant.target, settings);
        let mut traffic = Traffic {
            who: Rc::new(grant.who.clone()),
            target: Arc::new(grant.target.clone()),
            secret: grant.target_secret.clone(),
            reader: grant.catalog_reader.clone(),
            expires_unix_ms: grant.expires_unix_ms,
            recorder,
            judging,
            transaction_touches: false,
            segment_failed: false,
            leaving: false,
            client_gone: false,
            names: Names::default(),
            owed: Owed::default(),
            front: Front::Fresh,
            waiting: Waiting::No,
            piece: Piece::None,
            pass_target: 0,
            room_wanted: 0,
            data_in: None,
            withdrawn: Vec::new(),
            late: Vec::new(),
            statements: 0,
            prepared: 0,
            arriving: Charge::new(&meter, 0),
            meter,
            target_pid,
            target_key,
            own_key,
            pins,
            welcome: Some(welcome),
            bytes_from_client: 0,
            bytes_to_client: 0,
            target_waits: false,
            strict_until: 0,
        };
        // A trigger on login may speak of what is covered, and there is no statement to judge that by: doubt masks.
        if traffic.judging.caller.is_free()
            && let Some(welcome) = &mut traffic.welcome
        {
            welcome.splice(AUTHENTICATION_OK_BYTES..AUTHENTICATION_OK_BYTES, notices.concat());
        }
        traffic.greet(client_out);
        traffic.want_catalog(core);
        Ok(traffic)
    }

    pub(super) fn greet(&mut self, client_out: &mut Vec<u8>) {
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

    /// Bytes that must be free in the spool before this session goes on.
    pub fn room_wanted(&self) -> usize {
        self.room_wanted
    }

    /// Whether client bytes are worth reading beyond what is carried.
    pub fn wants_client(&self) -> bool {
        self.waiting == Waiting::No && !self.leaving && !self.client_gone
    }

    /// The rules changed: a held statement is judged anew. The caller runs the intake again.
    pub fn snapshot_changed(&mut self, core: &mut Core) {
        if matches!(self.front, Front::Held(_)) {
            self.withdraw(core, headgate_plane::Withdrawal::Rejudged);
        }
    }

    /// An analyst's answer. Only the one for the text at the front counts.
    pub fn analysed(&mut self, text: &[u8], known: Rc<Known>) {
        if matches!(&self.front, Front::Analysing(asked) if **asked == *text) {
            self.front = Front::Known(known);
            self.waiting = Waiting::No;
        }
    }

    /// The client's cancel: takes back what is held, or has to go to the target.
    pub fn cancel(&mut self, now_us: u64) -> Cancelled {
        if let Front::Held(held) = &mut self.front {
            held.cancelled_us.get_or_insert(now_us);
            self.waiting = Waiting::No;
            Cancelled::TakenBack
        } else {
            Cancelled::AtTarget {
                target: Arc::clone(&self.target),
                pid: self.target_pid,
                key: self.target_key.clone(),
            }
        }
    }

    /// When something happens by time alone: the deadline of a question.
    pub fn deadline_unix_ms(&self) -> Option<u64> {
        match &self.front {
            Front::Held(held) if held.cancelled_us.is_some() => Some(0),
            Front::Held(held) if held.answer.is_none() => Some(held.question.deadline_unix_ms),
            _ => None,
        }
    }

    /// The question at the front is looked at again: its deadline, or a cancel that waits for its number, may be due.
    pub fn time_passes(&mut self) {
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

    /// The client went away: what it had sent whole is still done, as the server would; nothing is held on its behalf.
    pub fn client_gone(&mut self) {
        self.client_gone = true;
        if let Front::Held(held) = &mut self.front {
            held.cancelled_us = Some(0);
            self.waiting = Waiting::No;
        }
    }

    /// Nothing more of what the client had sent can be done: says goodbye to the target. Whether the session is over.
    pub fn leave_if_gone(&mut self, target_out: &mut Vec<u8>) -> bool {
        if self.client_gone && !self.leaving && self.waiting == Waiting::No {
            headgate_postgres::write::terminate(target_out);
            self.leaving = true;
        }
        self.is_over()
    }

    /// A message of the target has gone to the client in part: words of ours would be taken for the rest of it.
    pub fn is_amid_message(&self) -> bool {
        self.pass_target > 0
    }

    pub fn client_is_gone(&self) -> bool {
        self.client_gone
    }

    /// The client has left, and the target owes nothing.
    pub fn is_over(&self) -> bool {
        self.leaving && self.owes_nothing()
    }

    /// The target closed; whether it had said why, or had been told to.
    pub fn target_closed_in_order(&self) -> bool {
        self.leaving || self.owed.is_parting()
    }

    /// The session is revoked or expires: nothing more of the client is read. Whether a statement runs, which has to be
    /// cancelled at the target before the session is over.
    pub fn sever(&mut self, core: &mut Core) -> bool {
        if matches!(self.front, Front::Held(_)) {
            self.withdraw(core, headgate_plane::Withdrawal::ClientGone);
        }
        self.front = Front::Fresh;
        self.waiting = Waiting::No;
        self.leaving = true;
        let executions = self.owed.executions().next().is_some();
        if executions {
            core.effects.push(Effect::CancelTarget {
                target: Arc::clone(&self.target),
                pid: self.target_pid,
                key: self.target_key.clone(),
            });
        }
        executions
    }

    /// Bytes of the spool that [`Traffic::end`] writes.
    pub(super) fn end_bytes(&self, core: &Core, reason: &str) -> (usize, usize) {
        let (executions, gone) = (
            self.owed.executions().count() + self.withdrawn.len() + 1,
            self.names.open_portals(),
        );
        let heads = (gone.min(1) + usize::from(!self.owed.is_empty())) * core.settings.reply_record_bytes;
        (
            (executions + gone) * SHORT_END_BYTES_MAX * 2 + heads + END_BYTES_MAX * 4 + reason.len(),
            (executions + gone) * 2 + 8,
        )
    }

    /// Last words into the recording, once there is room for them.
    pub fn end(&mut self, core: &mut Core, reason: &str) -> Result<(), NoRoom> {
        let (bytes, records) = self.end_bytes(core, reason);
        let mut room = Room::ask(core, bytes, records)?;
        if matches!(self.front, Front::Held(_)) {
            self.withdraw(core, headgate_plane::Withdrawal::ClientGone);
        }
        let _ = self.end_data_in(core, &mut room, headgate_recording::StreamOutcome::Cut, "");
        self.names.all_gone();
        while let Some(execution) = self.names.gone() {
            let _ = self.end_one_gone(core, &mut room, &execution);
        }
        while let Some(about) = self.owed.take_next() {
            if let Some(execution) = about.execution() {
                let execution = Rc::clone(execution);
                let error = RecordedError {
                    code: "08006".to_owned(),
                    message: "the session ended before the answer".to_owned(),
                };
                let _ = self.end_execution(core, &mut room, &execution, StatementOutcome::Cut, Some(&error));
            }
        }
        let body = BodyRef::SessionClose {
            reason,
            statements: self.statements,
            bytes_from_client: self.bytes_from_client,
            bytes_to_client: self.bytes_to_client,
        };
        let _ = self.recorder.write(core, &mut room, body);
        Ok(())
    }

    /// A run for a statement that has been recorded under the next number.
    pub(super) fn open_execution(&mut self, core: &mut Core, known: &Rc<Known>) -> ExecutionRef {
        self.statements = self.statements.wrapping_add(1);
        let (exposure, hints) = self.judging.exposure(known);
        self.transaction_touches |= exposure.touches;
        let execution = core.executions.take();
        {
            let mut execution = execution.borrow_mut();
            execution.number = self.statements;
            execution.started_us = core.clock.now_us;
            execution.known = Some(Rc::clone(known));
            execution.cover = Cover::of_caller(&self.judging.caller);
            execution.caller_number = self.judging.caller_number;
            execution.exposure = exposure;
            execution.hints = hints;
        }
        execution
    }

    /// The statement of `run` is sent: until it is over, what follows cannot be judged if it may change what names mean.
    pub(super) fn sent_execution(&mut self, execution: &ExecutionRef, known: &Known, joined: bool) {
        if known.moves || (known.ends && self.judging.may_end_settings()) {
            let mut execution = execution.borrow_mut();
            // A portal that has run does nothing when it is executed again, and its end is not heard twice.
            if !execution.moves && !execution.ended {
                execution.moves = true;
                execution.joined = joined;
                self.judging.moves_sent();
            }
        }
    }

    /// The statement is over. With an error its tag counts for nothing.
    pub(super) fn end_execution(
        &mut self,
        core: &mut Core,
        room: &mut Room,
        over: &ExecutionRef,
        outcome: StatementOutcome,
        error: Option<&RecordedError>,
    ) -> Result<(), Unrecorded> {
        let mut execution = over.borrow_mut();
        if execution.ended {
            return Ok(());
        }
        execution.ended = true;
        if execution.moves {
            self.judging.moves_over();
        }
        let statement = execution.number;
        let mut head = std::mem::take(&mut execution.head);
        if head.len() > REPLY_IN_END_BYTES_MAX {
            let body = BodyRef::Stream {
                statement,
                direction: Direction::ToClient,
                offset: 0,
                bytes: Bytes(&head),
            };
            let _ = self.recorder.write(core, room, body)?;
            head.clear();
        }
        core.metrics.rows += execution.rows;
        core.metrics.values_masked += execution.masked;
        let body = BodyRef::StatementEnd {
            statement,
            outcome,
            duration_us: core.clock.now_us.saturating_sub(execution.started_us),
            rows: execution.rows,
            bytes: execution.bytes,
            tag: if error.is_some() { "" } else { &execution.tag },
            error: error.map(ErrorRef::from),
            masked: execution.masked,
            truncated: execution.truncated,
            reply: Bytes(&head),
        };
        let _ = self.recorder.write(core, room, body)?;
        drop(execution);
        core.recycle(head);
        core.executions.rest(over);
        Ok(())
    }

    /// Statements whose portals are gone: read in part, or bound and never run. False: there is no room yet.
    pub(super) fn end_gone(&mut self, core: &mut Core) -> Result<bool, TrafficEnd> {
        while let Some(execution) = self.names.gone() {
            let bytes = core.settings.reply_record_bytes + END_BYTES_MAX;
            match Room::ask(core, bytes, 2) {
                Ok(mut room) => self.end_one_gone(core, &mut room, &execution)?,
                Err(NoRoom::Yet { bytes } | NoRoom::Ever { bytes, .. }) => {
                    self.names.put_back_gone(execution);
                    self.wait_for_room(bytes);
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    pub(super) fn end_one_gone(
        &mut self,
        core: &mut Core,
        room: &mut Room,
        execution: &ExecutionRef,
    ) -> Result<(), Unrecorded> {
        // Still on its way: its answer ends it.
        if self.owed.executions().any(|owed| Rc::ptr_eq(owed, execution)) {
            return Ok(());
        }
        let outcome = if execution.borrow().executed {
            StatementOutcome::Done
        } else {
            StatementOutcome::NotRun
        };
        self.end_execution(core, room, execution, outcome, None)
    }

    pub(super) fn owes_nothing(&self) -> bool {
        self.owed.is_empty() && self.pass_target == 0
    }

    pub(super) fn status(&self) -> TransactionStatus {
        self.owed.status()
    }
}

/// An error as it is recorded: in our words, or the target's as the client got them; cut.
pub(super) fn recorded_error(denial: &Denial) -> RecordedError {
    RecordedError {
        code: denial.code.to_owned(),
        message: cut(&denial.message),
    }
}

pub(super) fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(ERROR_BYTES_MAX))
        .unwrap_or(text)
        .to_owned()
}

/// What a cancelled statement's error is called.
pub(super) fn outcome_of(error: &RecordedError) -> StatementOutcome {
    if error.code == "57014" {
        StatementOutcome::Cancelled
    } else {
        StatementOutcome::Failed
    }
}

impl From<crate::core::memory::Full> for Refused {
    fn from(full: crate::core::memory::Full) -> Refused {
        match full {
            crate::core::memory::Full::Session { bytes, max } => Refused::SessionFull { bytes, max },
            crate::core::memory::Full::Above { max } => Refused::CoreFull { max },
        }
    }
}
