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

use super::cancel::{CancelRequest, cancel_token, of_token};
use super::copy_in::DataIn;
use super::denial::Denial;
use super::execution::{Cover, ExecutionRef};
use super::judge::Judging;
use super::names::Names;
use super::owed::Owed;
use crate::clearance::doors::Doors;
use crate::clearance::room::{NoRoom, Room, Unrecorded};
use crate::clearance::{
    Clearance, Close, END_BYTES_MAX, Lane, Refused, SHORT_END_BYTES_MAX, StatementEnd, Waiting,
};
use crate::core::memory::{Charge, Meter};
use crate::core::{Core, Effect};
use crate::session::protocol::{Cancelled, Fault, Note, Parting};
use crate::session::side::SideCancel;
use crate::sql::known::Known;
use headgate_plane::{CatalogReader, Grant, Protocol, SessionId, TargetTls, Withdrawal};
use headgate_postgres::PeerMisbehaved;
use headgate_postgres::backend::TransactionStatus;
use headgate_postgres::cancel::Key;
use headgate_postgres::startup::pins::Pins;
use headgate_recording::{RecordedError, StatementOutcome};
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

/// What has been found out about the text of the message at the front.
#[derive(Default)]
pub(super) enum Reading {
    #[default]
    Fresh,
    /// An analyst has this text.
    Analysing(Arc<[u8]>),
    Known(Rc<Known>),
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
    pub(super) lane: Lane,
    /// The target's bytes wait for room in the spool, or for a catalog that knows what they describe.
    pub(super) target_waits: bool,
    /// The catalog was asked for again because of the description at the front.
    pub(super) asked_for_news: bool,
    /// A statement of the open transaction (or one on its way) reads what is covered.
    pub(super) transaction_touches: bool,
    /// An error in extended use: the segment that it stood in ends with what it had done undone.
    pub(super) segment_failed: bool,
    /// The client said goodbye or went away: nothing more of it is read, and the session ends when nothing is owed.
    pub(super) leaving: bool,
    pub(super) owed: Owed,
    pub(super) piece: Piece,
    /// Bytes of a row or CopyData that still pass, and whose execution it is.
    pub(super) pass_target: usize,
    pub(super) reading: Reading,
    pub(super) clearance: Clearance,
    pub(super) judging: Judging,
    pub(super) names: Names,
    // What few statements touch.
    pub(super) data_in: Option<Box<DataIn>>,
    /// Told to the client when the session is open: everything of sign-in from AuthenticationOk to ReadyForQuery.
    welcome: Option<Vec<u8>>,
    /// Notices of ours that wait for the end of a message that passes in pieces.
    pub(super) late: Vec<u8>,
    pub(super) meter: Rc<Meter>,
    /// Of a long message that is not whole yet.
    pub(super) arriving: Charge,
    pub(super) secret: headgate_plane::Secret,
    pub(super) reader: Option<CatalogReader>,
    target_pid: u32,
    target_key: Vec<u8>,
    own_key: Key,
    /// What the target must not contradict; `None` where a rule leaves that to the caller (`danger_unpinned`).
    pub(super) pins: Option<Pins>,
}

pub struct Begin {
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

/// The first message of `welcome`: a tag, a length, and the code of AuthenticationOk.
const AUTHENTICATION_OK_BYTES: usize = 9;

impl Traffic {
    /// The session is judged by the newest rules: a held statement is judged anew.
    fn rules_changed(&mut self, core: &mut Core) {
        self.clearance
            .withdraw(core, &mut self.lane, Withdrawal::Rejudged);
    }

    /// An analyst's answer. Only the one for the text at the front counts.
    fn analysed(&mut self, text: &[u8], known: Rc<Known>) {
        if matches!(&self.reading, Reading::Analysing(asked) if **asked == *text) {
            self.reading = Reading::Known(known);
            self.lane.waiting = Waiting::No;
        }
    }

    fn side_cancel(&self) -> SideCancel {
        let target = Arc::clone(self.clearance.target());
        let token = cancel_token(self.target_pid, &self.target_key);
        let tls = target.tls != TargetTls::DangerOff;
        SideCancel {
            target,
            token: token.clone(),
            dialogue: Box::new(CancelRequest::new(token, tls)),
        }
    }

    /// Bytes and records of the spool that the session's last words take.
    fn close_bytes(&self, core: &Core, reason: &str) -> (usize, usize) {
        let (executions, gone) = (self.owed.executions().count(), self.names.open_portals());
        let heads = (gone.min(1) + usize::from(!self.owed.is_empty())) * core.settings.reply_record_bytes;
        let (close_bytes, close_records) = self.clearance.close_bytes(&self.lane, reason);
        (
            (executions + gone) * SHORT_END_BYTES_MAX * 2 + heads + END_BYTES_MAX * 4 + close_bytes,
            (executions + gone) * 2 + 8 + close_records,
        )
    }

    /// The execution of a statement that has been recorded under this number.
    pub(super) fn open_execution(&mut self, core: &mut Core, number: u32, known: &Rc<Known>) -> ExecutionRef {
        let (exposure, hints) = self.judging.exposure(known);
        self.transaction_touches |= exposure.touches;
        let execution = core.executions.take();
        {
            let mut execution = execution.borrow_mut();
            execution.number = number;
            execution.started_us = core.clock.now_us;
            execution.known = Some(Rc::clone(known));
            execution.cover = Cover::of_caller(&self.judging.caller);
            execution.caller_number = self.judging.caller_number;
            execution.exposure = exposure;
            execution.hints = hints;
        }
        execution
    }

    /// The statement of `execution` is sent: until it is over, what follows cannot be judged if it may change what names mean.
    pub(super) fn sent_execution(&mut self, execution: &ExecutionRef, known: &Known, joined: bool) {
        if known.ends_settings {
            self.judging.own_ddl_may_be_undone();
        }
        if known.changes_settings || (known.ends_settings && self.judging.may_end_settings()) {
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
        // Read in part, and never to its end: another Execute on its way finds no portal, and that is not this one's end.
        let missed = execution.portal_doubtful && error.is_some_and(|error| error.code == "34000");
        let (outcome, error) = if execution.suspended && (execution.portal_gone || missed) {
            (StatementOutcome::Done, None)
        } else {
            (outcome, error)
        };
        let head = std::mem::take(&mut execution.head);
        execution.head_charge = None;
        let end = StatementEnd {
            number: execution.number,
            outcome,
            started_us: execution.started_us,
            rows: execution.rows,
            bytes: execution.bytes,
            masked: execution.masked,
            tag: execution.tag(),
            error,
            reply: &head,
            truncated: execution.truncated,
        };
        self.clearance.end_statement(core, room, end)?;
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
                    self.lane.wait_for_room(bytes);
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

    /// A message of COPY data has gone to the target in part.
    fn is_amid_data(&self) -> bool {
        matches!(self.piece, Piece::Data(_))
    }

    pub(super) fn owes_nothing(&self) -> bool {
        self.owed.is_empty() && self.pass_target == 0
    }

    pub(super) fn status(&self) -> TransactionStatus {
        self.owed.status()
    }
}

/// An error of ours as it is recorded.
pub(super) fn recorded_error(denial: &Denial) -> RecordedError {
    crate::clearance::recorded_error(denial.code, &denial.message)
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

impl From<TrafficEnd> for Box<Parting> {
    fn from(end: TrafficEnd) -> Box<Parting> {
        let discards = matches!(
            end,
            TrafficEnd::TargetMisbehaved(_) | TrafficEnd::Contradicted(_) | TrafficEnd::Unrecorded
        );
        let (reason, fault, denial) = match end {
            TrafficEnd::ClientMisbehaved(error) => return super::greeting::misbehaved(&error),
            TrafficEnd::TargetMisbehaved(what) => {
                tracing::warn!(what, "target misbehaved");
                (
                    format!("target misbehaved: {what}"),
                    Fault::Misbehaved,
                    Denial::of(&Refused::TargetMisbehaved),
                )
            }
            TrafficEnd::CopyBroken(denial) => (
                format!("client misbehaved: {}", denial.message),
                Fault::Misbehaved,
                denial,
            ),
            TrafficEnd::Contradicted(denial) => (
                format!("target contradicts: {}", denial.message),
                Fault::Misbehaved,
                denial,
            ),
            TrafficEnd::Unrecorded => (
                "not recorded".to_owned(),
                Fault::None,
                Denial::of(&Refused::Unrecorded),
            ),
        };
        let mut words = Vec::new();
        denial.write_fatal(&mut words);
        Box::new(Parting {
            reason,
            words,
            fault,
            discards,
        })
    }
}

impl crate::session::protocol::Traffic for Traffic {
    type Begin = Begin;
    type Analysis = Rc<Known>;

    fn begin(
        core: &mut Core,
        session: SessionId,
        grant: Box<Grant>,
        begin: Begin,
        client: &mut Vec<u8>,
    ) -> Result<Traffic, (Box<Grant>, Begin)> {
        let target_session = begin.target_pid.to_string();
        let Some(clearance) = Clearance::open(core, session, &grant, Protocol::Postgres, &target_session)
        else {
            return Err((grant, begin));
        };
        let Begin {
            target_pid,
            target_key,
            own_key,
            welcome,
            pins,
            settings,
            notices,
        } = begin;
        let meter = core.meter_of(&grant.who.principal);
        let judging = Judging::begin(core, &clearance, settings);
        let mut traffic = Traffic {
            lane: Lane::default(),
            target_waits: false,
            asked_for_news: false,
            transaction_touches: false,
            segment_failed: false,
            leaving: false,
            owed: Owed::default(),
            piece: Piece::None,
            pass_target: 0,
            reading: Reading::Fresh,
            clearance,
            judging,
            names: Names::default(),
            data_in: None,
            welcome: Some(welcome),
            late: Vec::new(),
            arriving: Charge::new(&meter, 0),
            meter,
            secret: grant.target_secret.clone(),
            reader: grant.catalog_reader.clone(),
            target_pid,
            target_key,
            own_key,
            pins,
        };
        // A trigger on login may speak of what is covered, and there is no statement to judge that by: doubt masks.
        if let Some(mut welcome) = traffic.welcome.take() {
            if traffic.judging.caller.is_free() {
                welcome.splice(AUTHENTICATION_OK_BYTES..AUTHENTICATION_OK_BYTES, notices.concat());
            }
            client.extend_from_slice(&welcome);
        }
        traffic.want_catalog(core);
        Ok(traffic)
    }

    #[inline]
    fn clearance(&self) -> &Clearance {
        &self.clearance
    }

    #[inline]
    fn clearance_mut(&mut self) -> &mut Clearance {
        &mut self.clearance
    }

    #[inline]
    fn lane(&self) -> &Lane {
        &self.lane
    }

    #[inline]
    fn lane_mut(&mut self) -> &mut Lane {
        &mut self.lane
    }

    fn from_client(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        bytes: &[u8],
    ) -> Result<usize, Box<Parting>> {
        Ok(self.take_client(core, doors, bytes)?)
    }

    fn from_target(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        bytes: &[u8],
    ) -> Result<usize, Box<Parting>> {
        Ok(self.take_target(core, doors, bytes)?)
    }

    fn note(&mut self, core: &mut Core, client: &mut Vec<u8>, note: Note<'_, Rc<Known>>) -> bool {
        match note {
            Note::Asked(asked) => self.asked(client, asked),
            Note::Answered(key, answer) => self.lane.answered(key, answer),
            Note::Analysed(text, known) => self.analysed(text, known),
            Note::CatalogCame { target } if self.clearance.target().name == target => self.catalog_came(core),
            Note::CatalogCame { .. } => return false,
            Note::RulesChanged => self.rules_changed(core),
        }
        true
    }

    fn wants_client(&self) -> bool {
        self.lane.waiting == Waiting::No && !self.leaving && !self.lane.client_is_gone()
    }

    fn target_waits(&self) -> bool {
        self.target_waits
    }

    fn target_goes_on(&mut self) {
        self.target_waits = false;
    }

    fn is_amid_message(&self) -> bool {
        self.pass_target > 0
    }

    fn cancel(&mut self, now_us: u64, token: &[u8]) -> Option<Cancelled> {
        let (pid, key) = of_token(token)?;
        if pid != self.target_pid || !self.own_key.matches(key) {
            return None;
        }
        if self.lane.cancel(now_us) {
            return Some(Cancelled::TakenBack);
        }
        Some(Cancelled::AtTarget(self.side_cancel()))
    }

    fn client_gone(&mut self) {
        self.lane.client_gone();
    }

    fn leave_if_gone(&mut self, target: &mut Vec<u8>) -> bool {
        if self.lane.client_is_gone() && !self.leaving && self.lane.waiting == Waiting::No {
            self.leaving = true;
            if self.is_amid_data() {
                // The rest never comes, and a goodbye would be taken for it: the target's socket closes.
                return true;
            }
            headgate_postgres::write::terminate(target);
        }
        self.leaving && self.owes_nothing()
    }

    fn sever(&mut self, core: &mut Core) -> bool {
        self.clearance
            .withdraw(core, &mut self.lane, Withdrawal::ClientGone);
        self.reading = Reading::Fresh;
        self.lane.waiting = Waiting::No;
        self.leaving = true;
        let executes = self.owed.executions().next().is_some();
        if executes {
            core.effects.push(Effect::CancelTarget(self.side_cancel()));
        }
        executes
    }

    fn target_closed_in_order(&self) -> bool {
        self.leaving || self.owed.is_parting()
    }

    fn goodbye(&mut self, target: &mut Vec<u8>) {
        // It would be taken for the rest of a message that has gone in part.
        if !self.is_amid_data() {
            headgate_postgres::write::terminate(target);
        }
    }

    fn close(&mut self, core: &mut Core, close: Close<'_>) -> Result<(), NoRoom> {
        let (bytes, records) = self.close_bytes(core, close.reason);
        let mut room = Room::ask_at_most(core, bytes, records)?;
        // Each of these can only fail for want of room, which was asked for in sum.
        let _ = self.end_data_in(core, &mut room, headgate_recording::StreamOutcome::Cut, "");
        self.names.all_gone();
        // Room was asked for one reply of each kind: the first's.
        let mut first = true;
        while let Some(execution) = self.names.gone() {
            if !std::mem::take(&mut first) {
                execution.borrow_mut().forget_reply(core);
            }
            let _ = self.end_one_gone(core, &mut room, &execution);
        }
        let mut first = true;
        while let Some(about) = self.owed.take_next() {
            if let Some(execution) = about.execution() {
                let execution = Rc::clone(execution);
                if !std::mem::take(&mut first) {
                    execution.borrow_mut().forget_reply(core);
                }
                let error = RecordedError {
                    code: "08006".to_owned(),
                    message: "the session ended before the answer".to_owned(),
                };
                let _ = self.end_execution(core, &mut room, &execution, StatementOutcome::Cut, Some(&error));
            }
        }
        let _ = self.clearance.close(core, &mut self.lane, &mut room, close);
        Ok(())
    }
}
