//! Clearance: everything between a statement that has been understood and its bytes at the target. Judged, held, permitted,
//! recorded: written once, for every protocol.
//!
//! A protocol makes a [`Subject`] of a message, has it judged by its facts, and asks [`Clearance::clear`]; what comes back
//! says what becomes of the message. Whatever it has waited for (an analyst, room, the target, people), this is asked anew
//! each time: rules, names and answer are those of now, and what is permitted is sent in the same call.
//!
//! Invariants:
//! - a statement's bytes leave only as [`permit::Permitted`], which [`Clearance`] alone makes, of the bytes that were judged
//!   and recorded; a reply's only as the masker made them ([`doors`]);
//! - nothing is written without [`room::Room`], and nothing is forwarded when a write fails;
//! - [`Clearance`] numbers a session's statements and is the only writer of its records; a [`Lane`] alone says what waits.
//!
//! Never here: a protocol, a language, a message's bytes beyond handing them on.

pub mod doors;
mod hold;
pub mod lane;
pub mod permit;
pub mod refused;
pub mod room;

pub use hold::HeldAs;
pub use lane::{Lane, Waiting};
pub use permit::{NoParameters, Permitted, StandsFor, Subject};
pub use refused::Refused;

use crate::core::Core;
use headgate_plane::{Effect as Ruling, Epoch, Grant, Protocol, SessionId, TargetSpec, Who, Withdrawal};
use headgate_policy::{Compiled, Context, Verdict};
use headgate_recording::{
    BodyRef, Bytes, Direction, ErrorRef, Parameters, RecordedError, StatementOutcome, Texts, Verdict as Ruled,
};
use hold::Held;
use permit::Leave;
use room::{NoRoom, Recorded, Recorder, Room, Unrecorded};
use std::rc::Rc;
use std::sync::Arc;

/// Of a text that is too long to be recorded.
const TEXT_CUT_BYTES: usize = 1 << 10;
/// What a statement's record takes beside texts, names and values.
const RECORD_BYTES: usize = 4 << 10;
/// A reply up to this goes into the event of its end: one event less for nearly every statement.
pub const REPLY_IN_END_BYTES_MAX: usize = 4 << 10;
/// What the end of one statement takes beside its reply: numbers, tag, error.
pub const END_BYTES_MAX: usize = 6 << 10;
/// The end of a statement that was skipped, or that the session's end cuts.
pub const SHORT_END_BYTES_MAX: usize = 512;
/// Of an error's words as they are recorded.
const ERROR_BYTES_MAX: usize = 4 << 10;

/// What a session's statements are cleared by. What every statement touches comes first.
#[repr(C)]
pub struct Clearance {
    statements: u32,
    /// Statements prepared for later that the recording has.
    prepared: u32,
    recorder: Recorder,
    policy: Arc<Compiled>,
    context: Context,
    /// Spool position that must be durable before the target's bytes may go (strict durability); 0 for none.
    strict_until: u64,
    /// Questions that fell away while there was no room to record it.
    withdrawn: Vec<(Box<Held>, Withdrawal)>,
    who: Rc<Who>,
    target: Arc<TargetSpec>,
    expires_unix_ms: u64,
}

/// What becomes of a statement.
#[derive(Debug)]
pub enum Cleared<'m> {
    /// It is recorded and may go, now.
    Go {
        /// What may go.
        permitted: Permitted<'m>,
        /// In the session, from 1.
        number: u32,
        /// When the approval is over that it goes by; `u64::MAX` without one.
        until_unix_ms: u64,
    },
    /// People have just been asked: the client is to be told so. It stays at the front.
    Asked,
    /// It stays at the front; the lane says for what.
    Waits,
    /// It is recorded as refused: the protocol's own error takes its place.
    Refused { refused: Refused, number: u32 },
}

/// A statement's last record.
#[derive(Debug)]
pub struct StatementEnd<'a> {
    /// In the session, from 1.
    pub number: u32,
    /// What became of it.
    pub outcome: StatementOutcome,
    /// On the core's clock.
    pub started_us: u64,
    /// Of the reply.
    pub rows: u64,
    /// Of the reply as the client received it.
    pub bytes: u64,
    /// Values covered.
    pub masked: u64,
    /// With an error it counts for nothing.
    pub tag: &'a str,
    /// With which it ended.
    pub error: Option<&'a RecordedError>,
    /// The reply as the client received it, up to the cap.
    pub reply: &'a [u8],
    /// Whether `reply` holds less than all.
    pub truncated: bool,
}

impl StatementEnd<'static> {
    /// The end of one that brought nothing. Its duration is none unless `started_us` is set.
    pub fn of(number: u32, outcome: StatementOutcome) -> StatementEnd<'static> {
        StatementEnd {
            number,
            outcome,
            started_us: u64::MAX,
            rows: 0,
            bytes: 0,
            masked: 0,
            tag: "",
            error: None,
            reply: &[],
            truncated: false,
        }
    }
}

impl Clearance {
    /// Records the session's first words. `None`: there is no room for them yet, and nothing has happened.
    pub fn open(
        core: &mut Core,
        session: SessionId,
        grant: &Grant,
        protocol: Protocol,
        target_session: &str,
    ) -> Option<Clearance> {
        let open = BodyRef::SessionOpen {
            who: &grant.who,
            target: &grant.target.name,
            environment: &grant.target.environment,
            role: &grant.target.user,
            credential_id: &grant.credential_id,
            epoch: grant.epoch,
            protocol,
            target_session,
        };
        let mut room = Room::for_body(core, &open).ok()?;
        let mut recorder = Recorder::new(session);
        let _recorded = recorder.write(core, &mut room, open).ok()?;
        let policy = Arc::clone(&core.policy);
        let context = policy.context(&grant.who, &grant.target);
        Some(Clearance {
            statements: 0,
            prepared: 0,
            recorder,
            policy,
            context,
            strict_until: 0,
            withdrawn: Vec::new(),
            who: Rc::new(grant.who.clone()),
            target: Arc::new(grant.target.clone()),
            expires_unix_ms: grant.expires_unix_ms,
        })
    }

    /// Which session.
    pub fn session(&self) -> SessionId {
        self.recorder.session
    }

    /// Whose session.
    pub fn who(&self) -> &Who {
        &self.who
    }

    /// Of the session.
    pub fn target(&self) -> &Arc<TargetSpec> {
        &self.target
    }

    /// The rules that the session is judged by now.
    pub fn policy(&self) -> &Arc<Compiled> {
        &self.policy
    }

    /// Who, on what, for the judge.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Of the rules that the session is judged by now.
    pub fn epoch(&self) -> Epoch {
        self.context.epoch()
    }

    /// When the credential is over.
    pub fn expires_unix_ms(&self) -> u64 {
        self.expires_unix_ms
    }

    /// Statements so far.
    pub fn statements(&self) -> u32 {
        self.statements
    }

    /// Follows the core's rules. True: they are others than before.
    pub fn follow_rules(&mut self, core: &Core) -> bool {
        if Arc::ptr_eq(&self.policy, &core.policy) {
            return false;
        }
        self.policy = Arc::clone(&core.policy);
        self.context = self.policy.context(&self.who, &self.target);
        true
    }

    /// Whether the target's bytes may go: under strict durability not before what they do is on disk.
    pub fn may_send(&mut self, core: &mut Core) -> bool {
        if self.strict_until > 0 {
            if !core.spool.wait_for_durable(self.strict_until) {
                return false;
            }
            self.strict_until = 0;
        }
        true
    }

    /// Whether what goes to the target waits for the disk.
    pub fn waits_for_disk(&self) -> bool {
        self.strict_until > 0
    }

    /// What becomes of a statement with this verdict. `objection`: what its protocol has against it, whatever the verdict says.
    pub fn clear<'m>(
        &mut self,
        core: &mut Core,
        lane: &mut Lane,
        subject: &Subject<'m>,
        verdict: &Verdict,
        objection: Option<Refused>,
    ) -> Result<Cleared<'m>, Unrecorded> {
        if lane.is_held() {
            if objection.is_none() {
                return self.resume(core, lane, subject, verdict);
            }
            self.withdraw(core, lane, Withdrawal::Rejudged);
        }
        if let Some(refused) = never_fits(core, subject.record_bytes()) {
            // What it begins with is recorded, and that it was refused.
            let cut = Subject {
                text: subject.text.get(..TEXT_CUT_BYTES).unwrap_or(subject.text),
                stands_for: &[],
                parameters: &NoParameters,
                class: 0,
                verbs: &[],
                resources: Rc::default(),
                ..subject.clone()
            };
            return self.refuse(core, lane, &cut, verdict, refused);
        }
        if let Some(refused) = objection {
            return self.refuse(core, lane, subject, verdict, refused);
        }
        match verdict.effect {
            Ruling::Allow => {
                let Some(recorded) = self.record_statement(core, lane, subject, verdict, Ruled::Allow)?
                else {
                    return Ok(Cleared::Waits);
                };
                let number = self.next_number();
                core.metrics.statements_allowed += 1;
                match subject.permit(Leave::Verdict(verdict), recorded) {
                    Some(permitted) => Ok(Cleared::Go {
                        permitted,
                        number,
                        until_unix_ms: u64::MAX,
                    }),
                    None => Err(Unrecorded),
                }
            }
            Ruling::Hold if subject.brings_data && !verdict.data_open(&self.policy) => {
                self.refuse(core, lane, subject, verdict, Refused::DataUnseen)
            }
            Ruling::Hold if lane.gone => {
                // Nobody waits for an answer.
                let question = "a question".to_owned();
                self.refuse(core, lane, subject, verdict, Refused::Cancelled { question })
            }
            Ruling::Hold => {
                let Some(_recorded) = self.record_statement(core, lane, subject, verdict, Ruled::Hold)?
                else {
                    return Ok(Cleared::Waits);
                };
                let number = self.next_number();
                core.metrics.statements_held += 1;
                self.ask(core, lane, subject, verdict, number);
                Ok(Cleared::Asked)
            }
            Ruling::Deny => {
                let refused = Refused::by_verdict(verdict, &self.policy);
                self.refuse(core, lane, subject, verdict, refused)
            }
        }
    }

    /// Records a statement as denied, and refuses it.
    pub fn refuse<'m>(
        &mut self,
        core: &mut Core,
        lane: &mut Lane,
        subject: &Subject<'_>,
        verdict: &Verdict,
        refused: Refused,
    ) -> Result<Cleared<'m>, Unrecorded> {
        let Some(_recorded) = self.record_statement(core, lane, subject, verdict, Ruled::Deny)? else {
            return Ok(Cleared::Waits);
        };
        core.metrics.statements_denied += 1;
        Ok(Cleared::Refused {
            refused,
            number: self.next_number(),
        })
    }

    /// Records what is prepared for later under this name, and permits it; `again`: the number under which the very same was
    /// recorded before. `None`: it waits for room. A statement that will be held when it is to run may be prepared.
    pub fn prepare<'m>(
        &mut self,
        core: &mut Core,
        lane: &mut Lane,
        subject: &Subject<'m>,
        verdict: &Verdict,
        name: &[u8],
        again: Option<u32>,
    ) -> Result<Option<(Permitted<'m>, u32)>, Unrecorded> {
        let (recorded, number) = match again.and_then(|number| Some((self.recorder.again(number)?, number))) {
            Some(before) => before,
            None => {
                let number = self.prepared.wrapping_add(1);
                let body = BodyRef::Prepared {
                    prepared: number,
                    name: Bytes(name),
                    text: Bytes(subject.text),
                    verdict: if verdict.effect == Ruling::Allow {
                        Ruled::Allow
                    } else {
                        Ruled::Hold
                    },
                    rule: verdict.rule_name(&self.policy),
                    epoch: self.context.epoch(),
                    class: subject.class,
                    verbs: subject.verbs,
                    resources: &subject.resources,
                };
                let Some(recorded) = record(&mut self.recorder, &mut self.strict_until, core, lane, &body)?
                else {
                    return Ok(None);
                };
                self.prepared = number;
                (recorded, number)
            }
        };
        match subject.permit(Leave::ToBePrepared(verdict), recorded) {
            Some(permitted) => Ok(Some((permitted, number))),
            None => Err(Unrecorded),
        }
    }

    /// What is prepared could never be recorded when it runs.
    pub fn never_fits(core: &Core, subject: &Subject<'_>) -> Option<Refused> {
        never_fits(core, subject.record_bytes())
    }

    /// Records a statement that goes on with what was permitted before (a cursor that is read on): its message carries no
    /// statement of its own. `None`: it waits for room.
    pub fn goes_on(
        &mut self,
        core: &mut Core,
        lane: &mut Lane,
        subject: &Subject<'_>,
        verdict: &Verdict,
    ) -> Result<Option<u32>, Unrecorded> {
        if verdict.effect != Ruling::Allow {
            return Err(Unrecorded);
        }
        let Some(_recorded) = self.record_statement(core, lane, subject, verdict, Ruled::Allow)? else {
            return Ok(None);
        };
        core.metrics.statements_allowed += 1;
        Ok(Some(self.next_number()))
    }

    fn next_number(&mut self) -> u32 {
        self.statements = self.statements.wrapping_add(1);
        self.statements
    }

    /// Under the number that is given next. `None`: there is no room yet, and nothing has happened.
    fn record_statement(
        &mut self,
        core: &mut Core,
        lane: &mut Lane,
        subject: &Subject<'_>,
        verdict: &Verdict,
        ruled: Ruled,
    ) -> Result<Option<Recorded>, Unrecorded> {
        let texts: Vec<&[u8]> = subject.stands_for.iter().map(|s| &*s.text).collect();
        let body = BodyRef::Statement {
            statement: self.statements.wrapping_add(1),
            prepared: subject.prepared,
            text: Bytes(subject.text),
            stands_for: Texts::Refs(&texts),
            parameters: Parameters::Source(subject.parameters),
            verdict: ruled,
            rule: verdict.rule_name(&self.policy),
            epoch: self.context.epoch(),
            class: subject.class,
            verbs: subject.verbs,
            resources: &subject.resources,
        };
        record(&mut self.recorder, &mut self.strict_until, core, lane, &body)
    }

    /// Writes what goes on beside statements (a stream's data and its end) into room that was asked for.
    pub fn write(
        &mut self,
        core: &mut Core,
        room: &mut Room,
        body: BodyRef<'_>,
    ) -> Result<Recorded, Unrecorded> {
        let recorded = self.recorder.write(core, room, body)?;
        if core.settings.strict {
            core.spool.urgent();
            self.strict_until = core.spool.position();
        }
        Ok(recorded)
    }

    /// The last record of a statement, and its reply.
    pub fn end_statement(
        &mut self,
        core: &mut Core,
        room: &mut Room,
        end: StatementEnd<'_>,
    ) -> Result<(), Unrecorded> {
        let mut reply = end.reply;
        if reply.len() > REPLY_IN_END_BYTES_MAX {
            let body = BodyRef::Stream {
                statement: end.number,
                direction: Direction::ToClient,
                offset: 0,
                bytes: Bytes(reply),
            };
            let _ = self.recorder.write(core, room, body)?;
            reply = &[];
        }
        core.metrics.rows += end.rows;
        core.metrics.values_masked += end.masked;
        let body = BodyRef::StatementEnd {
            statement: end.number,
            outcome: end.outcome,
            duration_us: core.clock.now_us.saturating_sub(end.started_us),
            rows: end.rows,
            bytes: end.bytes,
            tag: if end.error.is_some() { "" } else { end.tag },
            error: end.error.map(ErrorRef::from),
            masked: end.masked,
            truncated: end.truncated,
            reply: Bytes(reply),
        };
        self.recorder.write(core, room, body).map(drop)
    }

    /// Questions whose withdrawal is not recorded yet.
    pub fn withdrawals(&self) -> usize {
        self.withdrawn.len()
    }

    /// Bytes and records that [`Clearance::close`] writes.
    pub fn close_bytes(&self, lane: &Lane, reason: &str) -> (usize, usize) {
        let withdrawn = self.withdrawn.len() + usize::from(lane.is_held());
        (
            withdrawn * hold::WITHDRAWN_BYTES_MAX + END_BYTES_MAX + reason.len(),
            withdrawn * 2 + 1,
        )
    }

    /// The session's last words. What is held falls away.
    pub fn close(
        &mut self,
        core: &mut Core,
        lane: &mut Lane,
        room: &mut Room,
        close: Close<'_>,
    ) -> Result<(), Unrecorded> {
        self.withdraw_all(core, lane, room)?;
        let body = BodyRef::SessionClose {
            reason: close.reason,
            statements: self.statements,
            bytes_from_client: close.bytes_from_client,
            bytes_to_client: close.bytes_to_client,
        };
        self.recorder.write(core, room, body).map(drop)
    }
}

/// Records what is about to be forwarded. `None`: there is no room yet; the message stays.
fn record(
    recorder: &mut Recorder,
    strict_until: &mut u64,
    core: &mut Core,
    lane: &mut Lane,
    body: &BodyRef<'_>,
) -> Result<Option<Recorded>, Unrecorded> {
    match recorder.record(core, body)? {
        Ok(recorded) => {
            if core.settings.strict {
                core.spool.urgent();
                *strict_until = core.spool.position();
            }
            Ok(Some(recorded))
        }
        // What can never fit was refused when its length was known.
        Err(NoRoom::Yet { bytes } | NoRoom::Ever { bytes, .. }) => {
            lane.wait_for_room(bytes);
            Ok(None)
        }
    }
}

/// What a session's last record says.
#[derive(Clone, Copy, Debug)]
pub struct Close<'a> {
    /// Why.
    pub reason: &'a str,
    /// All that came in.
    pub bytes_from_client: u64,
    /// All that went out.
    pub bytes_to_client: u64,
}

/// Whether the record of a statement of so many bytes (text, names and all) fits into the spool at no time. Parameters are
/// cut when they are recorded.
fn never_fits(core: &Core, bytes: usize) -> Option<Refused> {
    let max = core.spool.capacity() / 2;
    let need = bytes
        .saturating_add(headgate_recording::bounds::VALUES_BYTES_MAX.min(max / 2))
        .saturating_add(RECORD_BYTES);
    (need > max).then_some(Refused::NoRoomEver { bytes: need, max })
}

/// An error's words as they are recorded: cut.
pub fn recorded_error(code: &str, message: &str) -> RecordedError {
    RecordedError {
        code: code.to_owned(),
        message: cut(message),
    }
}

/// As much of some words as is recorded.
pub fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(ERROR_BYTES_MAX))
        .unwrap_or(text)
        .to_owned()
}
