//! The client's messages, in order, at the front of what has arrived.

use super::columns::Formats;
use super::execution::ExecutionRef;
use super::judge::Joined;
use super::names::{Bound, Lookup, Meaning, NewPrepared, Op, Portal, Prepared, SharedText, sql_name};
use super::owed::{About, CopyIn, SyncIs};
use super::parameters::BoundParameters;
use super::traffic::{Piece, Reading, Traffic, TrafficEnd, recorded_error};
use crate::clearance::doors::Doors;
use crate::clearance::room::{NoRoom, Room};
use crate::clearance::{
    Clearance, Cleared, END_BYTES_MAX, NoParameters, Refused, StandsFor, Subject, Waiting,
};
use crate::core::{Core, Effect};
use crate::postgres::denial::Denial;
use crate::sql::known::Known;
use headgate_plane::{Class, ClassSet, Effect as Ruling, OnHold};
use headgate_policy::Verdict;
use headgate_postgres::backend::TransactionStatus;
use headgate_postgres::frontend::{Bind, Execute, Frontend, Kind, Parse};
use headgate_postgres::{PeerMisbehaved, frame, write};
use headgate_recording::{ParameterSource, StatementOutcome, StreamOutcome};
use headgate_sql::{Action, Facts, Statement};
use std::rc::Rc;
use std::sync::Arc;

/// A name that no client uses: Parse of it, with words that are no SQL, is our way of failing at the target.
const REFUSED_NAME: &[u8] = b"headgate refused";
const REFUSED_TEXT: &[u8] = b"headgate refused what stood here";
/// The longest message that holds no text and no values, as the server has it (PQ_SMALL_MESSAGE_LIMIT).
const SMALL_BYTES_MAX: usize = 10_000;
/// Beside its text, what Parse may hold: a name, and an OID for each of 65,535 parameters.
const PARSE_EXTRA_BYTES_MAX: usize = 300 << 10;
/// A message longer than this is charged to the session while it arrives.
const LONG_BYTES_MIN: usize = 64 << 10;
/// The longest length that a frame may say at all, as the server has it.
const FRAME_BYTES_MAX: usize = (1 << 30) - 1;

/// What became of the message at the front.
pub(super) enum Handled {
    Done,
    /// It stays at the front; `waiting` says for what.
    Waits,
}

impl Traffic {
    /// Handles what can be handled at the front of `data`; returns how many bytes are done with.
    pub(super) fn take_client(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        data: &[u8],
    ) -> Result<usize, TrafficEnd> {
        let mut used = 0;
        while self.lane.waiting == Waiting::No {
            let rest = data.get(used..).unwrap_or(&[]);
            if self.leaving {
                return Ok(data.len());
            }
            if rest.is_empty() {
                break;
            }
            if (self.clearance.withdrawals() > 0
                && !self.clearance.record_withdrawals(core, &mut self.lane)?)
                || (self.names.has_gone() && !self.end_gone(core)?)
            {
                break;
            }
            if self.piece != Piece::None || rest.first() == Some(&b'd') {
                match self.data_in(core, doors, rest)? {
                    0 => break,
                    n => {
                        used += n;
                        continue;
                    }
                }
            }
            let Some(header) = frame::peek(rest, FRAME_BYTES_MAX).map_err(TrafficEnd::ClientMisbehaved)?
            else {
                break;
            };
            if !Frontend::is_known(header.tag) {
                return Err(TrafficEnd::ClientMisbehaved(PeerMisbehaved::UnknownMessage {
                    tag: header.tag,
                }));
            }
            let Some(message) = rest.get(..header.len) else {
                match self.arrives(core, doors, header)? {
                    Handled::Done => continue,
                    Handled::Waits => break,
                }
            };
            if header.len > longest(core, header.tag) {
                match self.arrives(core, doors, header)? {
                    Handled::Done => continue,
                    Handled::Waits => break,
                }
            }
            if self.owed.is_full(core.spool.capacity()) {
                self.lane.waiting = Waiting::Target;
                break;
            }
            match self.message(core, doors, header.tag, message)? {
                Handled::Done => {
                    used += header.len;
                    self.reading = Reading::Fresh;
                    self.next_message();
                    if header.len > LONG_BYTES_MIN {
                        self.arriving.set(0);
                    }
                }
                Handled::Waits => break,
            }
        }
        Ok(used)
    }

    /// A message that is not whole yet, or too long. `Done`: it is refused, and what comes of it is dropped.
    fn arrives(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        header: frame::Header,
    ) -> Result<Handled, TrafficEnd> {
        let max = longest(core, header.tag);
        let refused = if header.len > max {
            if max == SMALL_BYTES_MAX {
                return Err(TrafficEnd::ClientMisbehaved(PeerMisbehaved::FrameTooLong {
                    bytes: header.len,
                    max,
                }));
            }
            Refused::TooLong {
                bytes: header.len,
                max,
            }
        } else if header.len <= LONG_BYTES_MIN || self.arriving.bytes() > 0 {
            return Ok(Handled::Waits);
        } else {
            match self.meter.admits(header.len) {
                Ok(()) => {
                    self.arriving.set(header.len);
                    return Ok(Handled::Waits);
                }
                Err(full) => full.into(),
            }
        };
        match self.refuse_unread(core, doors, header.tag, Denial::of(&refused))? {
            Handled::Done => {
                self.piece = Piece::Dropped(header.len);
                Ok(Handled::Done)
            }
            Handled::Waits => Ok(Handled::Waits),
        }
    }

    /// Refuses, in its place, a message of which nobody read more than its tag.
    fn refuse_unread(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        tag: u8,
        denial: Denial,
    ) -> Result<Handled, TrafficEnd> {
        if self.awaits_copy() {
            return Ok(self.stay(Waiting::Target));
        }
        if matches!(self.owed.copy_in(), CopyIn::Open(_)) {
            return Err(copy_broken(tag));
        }
        if self.owed.is_skipping() {
            return Ok(Handled::Done);
        }
        if self.owed.is_full(core.spool.capacity()) {
            return Ok(self.stay(Waiting::Target));
        }
        if headgate_postgres::frontend::skips_to_sync(tag) {
            self.refuse_extended(doors, denial, None);
            return Ok(Handled::Done);
        }
        self.refuse_query(core, doors, denial, None)
    }

    fn awaits_copy(&self) -> bool {
        matches!(self.owed.copy_in(), CopyIn::Awaited { .. }) && !self.owed.is_skipping()
    }

    fn message(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        tag: u8,
        raw: &[u8],
    ) -> Result<Handled, TrafficEnd> {
        if self.owed.is_skipping() && !matches!(tag, b'S' | b'X') {
            // The target skips to Sync behind the message that we refused; so nothing of this would run.
            return Ok(Handled::Done);
        }
        match self.owed.copy_in() {
            CopyIn::Closed if matches!(tag, b'c' | b'f') => {
                // The server ignores the end of a COPY that it does not read (any more).
                return Ok(Handled::Done);
            }
            CopyIn::Closed => {}
            CopyIn::Awaited { .. } => return Ok(self.stay(Waiting::Target)),
            CopyIn::Open(_) => return self.amid_copy(core, doors, tag, raw),
        }
        if tag == b'S' {
            // With a body, too, which the target complains of before it says ReadyForQuery.
            doors.target.pass(raw);
            self.owed.sent(About::Sync);
            return Ok(Handled::Done);
        }
        let body = raw.get(frame::HEADER_BYTES..).unwrap_or(&[]);
        let decoded = match Frontend::decode(tag, body) {
            Ok(decoded) => decoded,
            Err(error) => match error.flaw() {
                Some(flaw) => {
                    return self.refuse_unread(
                        core,
                        doors,
                        tag,
                        Denial::new(flaw.sqlstate(), flaw.to_string()),
                    );
                }
                None => return Err(TrafficEnd::ClientMisbehaved(error)),
            },
        };
        if let Frontend::Describe { kind, name } = decoded
            && self.may_lose(kind, name)
        {
            return Ok(self.stay(Waiting::Target));
        }
        match decoded {
            Frontend::Query(query) => return self.query(core, doors, query.text, raw),
            Frontend::Parse(parse) => return self.parse(core, doors, &parse, raw),
            Frontend::Bind(bind) => return self.bind(core, doors, &bind, raw),
            Frontend::Execute(execute) => return self.execute(core, doors, &execute, raw),
            Frontend::FunctionCall(call) => return self.function_call(core, doors, call.oid, raw),
            Frontend::Describe {
                kind: Kind::Statement,
                name,
            } => {
                let prepared = match self.names.statement(name, self.owed.segment()) {
                    Lookup::Wait => return Ok(self.stay(Waiting::Target)),
                    Lookup::Found(prepared) => Some(prepared),
                    Lookup::Unknown => None,
                };
                if let Some(prepared) = &prepared
                    && let Some(moved) =
                        self.fetches_what_is_gone(doors, &prepared.known, prepared.fetches.get())
                {
                    return Ok(moved);
                }
                doors.target.pass(raw);
                self.owed.sent(About::DescribeStatement(prepared));
            }
            Frontend::Describe {
                kind: Kind::Portal,
                name,
            } => {
                let execution = match self.names.portal(name, self.owed.segment()) {
                    Lookup::Wait => return Ok(self.stay(Waiting::Target)),
                    Lookup::Found(portal) => {
                        let known = &portal.prepared.known;
                        if let Some(moved) = self.fetches_what_is_gone(doors, known, portal.fetches) {
                            return Ok(moved);
                        }
                        Some(portal.execution)
                    }
                    Lookup::Unknown => None,
                };
                doors.target.pass(raw);
                self.owed.sent(About::DescribePortal(execution));
            }
            Frontend::Close { kind, name } => {
                doors.target.pass(raw);
                let op = if kind == Kind::Statement {
                    Op::drop_statement(name)
                } else {
                    Op::drop_portal(name)
                };
                self.names.push(self.owed.segment(), op);
                self.owed.sent(About::Close);
            }
            Frontend::Flush => doors.target.pass(raw),
            Frontend::Terminate => {
                doors.target.pass(raw);
                self.leaving = true;
            }
            // They were dealt with above.
            Frontend::CopyData(_) | Frontend::CopyDone | Frontend::CopyFail { .. } | Frontend::Sync => {}
            Frontend::Password(_) => {
                return Err(TrafficEnd::ClientMisbehaved(PeerMisbehaved::OutOfPlace {
                    tag: b'p',
                    state: "Traffic",
                }));
            }
        }
        Ok(Handled::Done)
    }

    /// Where a FETCH had a cursor when it was prepared or bound (`fetches`), and has none now, a Describe of it kills PostgreSQL
    /// (seen in 15.18 and 18.6: a null portal is looked at, and all sessions of the server end): it is refused as its Execute
    /// would be. Found out when nothing is on its way that could make or take the cursor. `None`: it may be described.
    fn fetches_what_is_gone(
        &mut self,
        doors: &mut Doors<'_>,
        known: &Known,
        fetches: bool,
    ) -> Option<Handled> {
        let name = known.fetches_from()?;
        if !self.owed.is_empty() {
            // What was sent without a Sync is answered all the same.
            write::flush(doors.target.own());
            return Some(self.stay(Waiting::Target));
        }
        if !fetches {
            return None;
        }
        match self.names.portal(sql_name(name), self.owed.segment()) {
            Lookup::Found(cursor) if !cursor.doubtful => None,
            Lookup::Wait => Some(self.stay(Waiting::Target)),
            Lookup::Found(_) | Lookup::Unknown => {
                self.refuse_extended(doors, Denial::unknown_portal(name.as_bytes()), None);
                Some(Handled::Done)
            }
        }
    }

    /// A Query on its way takes the statement without a name with it, and the portal.
    fn may_lose(&self, kind: Kind, name: &[u8]) -> bool {
        name.is_empty()
            && self.owed.queries() > 0
            && match kind {
                Kind::Statement => self.names.unnamed_statement_is_settled(),
                Kind::Portal => self.names.unnamed_portal_is_settled(),
            }
    }

    /// While the target reads COPY data it takes their end, and ignores Sync and Flush. Anything else ends its session.
    fn amid_copy(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        tag: u8,
        raw: &[u8],
    ) -> Result<Handled, TrafficEnd> {
        match tag {
            b'S' => {
                debug_assert_eq!(self.owed.sync_is(), SyncIs::Ignored, "owed: COPY data is read");
                self.owed.withheld_sync();
            }
            b'H' if raw.len() == frame::HEADER_BYTES => {}
            // A target that reads COPY data ignores this, too; one that has failed meanwhile answers it with an error.
            b'H' => return Err(copy_broken(tag)),
            b'c' | b'f' => {
                let (outcome, reason) = if tag == b'c' {
                    (StreamOutcome::Done, String::new())
                } else {
                    let words = raw
                        .get(frame::HEADER_BYTES..)
                        .unwrap_or(&[])
                        .split(|b| *b == 0)
                        .next()
                        .unwrap_or(&[]);
                    (
                        StreamOutcome::Failed,
                        crate::clearance::cut(&String::from_utf8_lossy(words)),
                    )
                };
                let mut room = match Room::ask(core, END_BYTES_MAX, 1) {
                    Ok(room) => room,
                    Err(NoRoom::Yet { bytes } | NoRoom::Ever { bytes, .. }) => {
                        self.lane.wait_for_room(bytes);
                        return Ok(Handled::Waits);
                    }
                };
                self.end_data_in(core, &mut room, outcome, &reason)?;
                doors.target.pass(raw);
                self.owed.copy_end_sent();
            }
            b'X' => {
                doors.target.pass(raw);
                self.leaving = true;
            }
            other => return Err(copy_broken(other)),
        }
        Ok(Handled::Done)
    }

    pub(super) fn stay(&mut self, waiting: Waiting) -> Handled {
        self.lane.waiting = waiting;
        Handled::Waits
    }

    /// The facts of a text: known, or asked of an analyst. `None`: the message stays.
    fn facts_of(&mut self, core: &mut Core, text: &[u8]) -> Option<Rc<Known>> {
        match &self.reading {
            Reading::Known(known) => return Some(Rc::clone(known)),
            Reading::Analysing(asked) if **asked == *text => {
                self.lane.waiting = Waiting::Analyst;
                return None;
            }
            Reading::Analysing(_) | Reading::Fresh => {}
        }
        if let Some(known) = core.known.get(text) {
            return Some(known);
        }
        core.metrics.texts_analysed += 1;
        let text: Arc<[u8]> = Arc::from(text);
        core.effects.push(Effect::Analyse {
            text: Arc::clone(&text),
        });
        self.reading = Reading::Analysing(text);
        self.lane.waiting = Waiting::Analyst;
        None
    }

    fn query(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        text: &[u8],
        raw: &[u8],
    ) -> Result<Handled, TrafficEnd> {
        self.refresh(core);
        let Some(known) = self.facts_of(core, text) else {
            return Ok(Handled::Waits);
        };
        let Some(joined) = self.joined(&known) else {
            return Ok(self.stay(Waiting::Target));
        };
        let (verdict, doubt) = match self.see_through(core, doors, &joined, text, None)? {
            Seen::Stays => return Ok(Handled::Waits),
            Seen::Verdict(verdict) => (verdict, None),
            Seen::Doubt(verdict, refused) => (verdict, Some(refused)),
        };
        let subject = self.subject(raw, text, &joined, &NoParameters, 0);
        let objection = doubt
            .or_else(|| self.too_many_names(&known, text))
            .or_else(|| self.objection(&joined, &verdict));
        let execution = match self
            .clearance
            .clear(core, &mut self.lane, &subject, &verdict, objection)?
        {
            Cleared::Go {
                permitted, number, ..
            } => {
                doors.target.send(&permitted);
                self.open_execution(core, number, &joined.known)
            }
            Cleared::Asked => return Ok(self.is_held(doors, &known, &verdict)),
            Cleared::Waits => return Ok(Handled::Waits),
            Cleared::Refused { refused, number } => {
                let execution = self.open_execution(core, number, &known);
                let denial = Denial::of_statement(&refused, &joined.known);
                return self.refuse_query(core, doors, denial, Some(execution));
            }
        };
        if known.changes_names {
            self.note_actions(core, &known, text, &execution);
        }
        self.sent_execution(&execution, &joined.known, known.needs_names);
        self.owed.sent(About::Query(execution));
        if known.brings_data {
            self.owed
                .may_copy_in(known.facts.as_ref().map_or(true, |f| f.statements.len() > 1));
        }
        Ok(Handled::Done)
    }

    /// A message as it is judged, shown and recorded.
    fn subject<'m>(
        &self,
        wire: &'m [u8],
        text: &'m [u8],
        joined: &'m Joined,
        parameters: &'m dyn ParameterSource,
        prepared: u32,
    ) -> Subject<'m> {
        Subject {
            wire,
            text,
            stands_for: &joined.stands_for,
            parameters,
            prepared,
            class: joined.known.class,
            verbs: &joined.known.verbs,
            resources: self.judging.relations_of(&joined.known),
            facts_bytes: joined.known.bytes(),
            settings: self.judging.meaning(),
            brings_data: joined.known.brings_data,
        }
    }

    /// What masks have against a statement that the rules would let go.
    fn objection(&self, joined: &Joined, verdict: &Verdict) -> Option<Refused> {
        if joined.doubtful && verdict.effect != Ruling::Deny {
            return Some(Refused::NameInDoubt);
        }
        if verdict.effect == Ruling::Deny || !self.judging.exposure(&joined.known).0.sinks {
            return None;
        }
        Some(match &joined.known.facts {
            Ok(_) => Refused::CarriesMasked,
            // Of a text that cannot be read nobody can say where it carries them: why it cannot be read is what helps.
            Err(_) => Refused::Unreadable {
                reason: String::new(),
            },
        })
    }

    /// People were asked about the message at the front, of which this is known.
    fn is_held(&mut self, doors: &mut Doors<'_>, known: &Rc<Known>, verdict: &Verdict) -> Handled {
        self.reading = Reading::Known(Rc::clone(known));
        if verdict.on_hold(self.clearance.policy()) == OnHold::Wait {
            self.tell_held(doors.client.own(), verdict);
        }
        Handled::Waits
    }

    fn parse(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        parse: &Parse<'_>,
        raw: &[u8],
    ) -> Result<Handled, TrafficEnd> {
        let (name, text) = (parse.name, parse.text);
        self.refresh(core);
        let Some(known) = self.facts_of(core, text) else {
            return Ok(Handled::Waits);
        };
        let Some(joined) = self.joined(&known) else {
            return Ok(self.stay(Waiting::Target));
        };
        let (verdict, doubt) = match self.see_through(core, doors, &joined, text, None)? {
            Seen::Stays => return Ok(Handled::Waits),
            Seen::Verdict(verdict) => (verdict, None),
            Seen::Doubt(verdict, refused) => (verdict, Some(refused)),
        };
        let subject = self.subject(raw, text, &joined, &NoParameters, 0);
        if verdict.effect == Ruling::Deny {
            return Ok(
                match self
                    .clearance
                    .clear(core, &mut self.lane, &subject, &verdict, doubt)?
                {
                    Cleared::Refused { refused, number } => {
                        let execution = self.open_execution(core, number, &known);
                        self.refuse_extended(doors, Denial::of_statement(&refused, &known), Some(execution));
                        Handled::Done
                    }
                    Cleared::Go { .. } | Cleared::Asked | Cleared::Waits => Handled::Waits,
                },
            );
        }
        let before = self.prepared_before(parse, &known);
        if before.as_ref().is_none_or(|before| before.number == 0) {
            let kept = if self.names.is_full() {
                Err(Refused::SessionFull {
                    bytes: super::names::NAMES_MAX,
                    max: super::names::NAMES_MAX,
                })
            } else {
                self.meter
                    .admits(Prepared::bytes(text, &known, parse.types().len()))
                    .map_err(Refused::from)
            };
            if let Some(refused) = kept.err().or_else(|| Clearance::never_fits(core, &subject)) {
                self.refuse_extended(doors, Denial::of(&refused), None);
                return Ok(Handled::Done);
            }
        }
        // As it was, and as it is recorded: a driver that parses before each Bind costs no more than one that prepares once.
        let again = before.as_ref().map(|before| before.number);
        let name_of_server = super::names::canonical(name);
        let Some((permitted, number)) =
            self.clearance
                .prepare(core, &mut self.lane, &subject, &verdict, name_of_server, again)?
        else {
            return Ok(Handled::Waits);
        };
        let prepared = match before {
            Some(before) if before.number == number => before,
            _ => {
                let new = NewPrepared {
                    text,
                    known: Rc::clone(&known),
                    types: parse.types().collect(),
                    inner_of: None,
                    number,
                    doubtful: false,
                };
                Prepared::new(&self.meter, new)
            }
        };
        doors.target.send(&permitted);
        self.names
            .push(self.owed.segment(), Op::set_statement(name, Rc::clone(&prepared)));
        self.owed.sent(About::Parse);
        // The rows of an Execute come without a description; the plan needs it, so we ask ourselves.
        if !known.needs_names
            && self.wants_description(&prepared)
            && write::describe(doors.target.own(), Kind::Statement, name).is_ok()
        {
            self.owed.sent(About::OwnDescribe(prepared));
        }
        Ok(Handled::Done)
    }

    /// Whether the target is to be asked how a prepared statement's rows look: unless that is known, or nothing is covered.
    fn wants_description(&self, prepared: &Prepared) -> bool {
        !self.judging.caller.is_free() && !prepared.is_described(self.judging.catalog_version())
    }

    /// The same of a portal that was bound just now. After a change of the catalog the same statement may read other tables,
    /// and one of SQL's PREPARE was never described. What stands for a name (EXECUTE, FETCH) has the rows of what the name
    /// means when it is bound, whatever it meant when it was prepared: it is asked for each time. The portal is asked, behind
    /// its Bind, so that what the client sees of a Bind that fails is that.
    fn describe_bound(
        &mut self,
        doors: &mut Doors<'_>,
        portal: &[u8],
        prepared: &Rc<Prepared>,
        execution: &ExecutionRef,
    ) {
        let needs_names = prepared.known.needs_names && !self.judging.caller.is_free();
        if (needs_names || self.wants_description(prepared))
            && write::describe(doors.target.own(), Kind::Portal, portal).is_ok()
        {
            self.owed.sent(About::OwnDescribePortal {
                prepared: Rc::clone(prepared),
                execution: Rc::clone(execution),
            });
        }
    }

    /// The statement of this name, if the same text with the same types made it.
    fn prepared_before(&self, parse: &Parse<'_>, known: &Rc<Known>) -> Option<Rc<Prepared>> {
        let before = self.names.last_statement(parse.name)?;
        let same = Rc::ptr_eq(&before.known, known)
            && *before.text == *parse.text
            && before.types.iter().copied().eq(parse.types())
            && before.inner_of.is_none();
        same.then_some(before)
    }

    fn bind(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        bind: &Bind<'_>,
        raw: &[u8],
    ) -> Result<Handled, TrafficEnd> {
        self.refresh(core);
        if self.may_lose(Kind::Statement, bind.statement) {
            return Ok(self.stay(Waiting::Target));
        }
        let prepared = match self.names.statement_to_bind(bind.statement, self.owed.segment()) {
            Lookup::Wait => return Ok(self.stay(Waiting::Target)),
            Lookup::Found(prepared) if prepared.doubtful => {
                self.refuse_extended(doors, Denial::of(&Refused::NameInDoubt), None);
                return Ok(Handled::Done);
            }
            Lookup::Found(prepared) => prepared,
            Lookup::Unknown => {
                self.refuse_extended(doors, Denial::unknown_statement(bind.statement), None);
                return Ok(Handled::Done);
            }
        };
        let known = Rc::clone(&prepared.known);
        let (Some(joined), Some(meaning)) = (self.joined_prepared(&prepared), self.meaning(&prepared)) else {
            return Ok(self.stay(Waiting::Target));
        };
        let count = u32::try_from(bind.parameters().len()).unwrap_or(u32::MAX);
        let (verdict, doubt) = match self.see_through(core, doors, &joined, &prepared.text, Some(count))? {
            Seen::Stays => return Ok(Handled::Waits),
            Seen::Verdict(verdict) => (verdict, None),
            Seen::Doubt(verdict, refused) => (verdict, Some(refused)),
        };
        // A named portal can be fetched from by SQL later: what it was bound to belongs to that statement.
        let named = !bind.portal.is_empty();
        let full = match &doubt {
            None if named && self.names.is_full() => Some(Refused::SessionFull {
                bytes: super::names::NAMES_MAX,
                max: super::names::NAMES_MAX,
            }),
            None if named => self.meter.admits(raw.len()).map_err(Refused::from).err(),
            _ => None,
        };
        let parameters = BoundParameters::by(bind, &prepared.types);
        let subject = self.subject(raw, &prepared.text, &joined, &parameters, prepared.number);
        let objection = doubt.or(full).or_else(|| self.objection(&joined, &verdict));
        let (execution, until_unix_ms) =
            match self
                .clearance
                .clear(core, &mut self.lane, &subject, &verdict, objection)?
            {
                Cleared::Go {
                    permitted,
                    number,
                    until_unix_ms,
                } => {
                    doors.target.send(&permitted);
                    (self.open_execution(core, number, &joined.known), until_unix_ms)
                }
                Cleared::Asked => return Ok(self.is_held(doors, &known, &verdict)),
                Cleared::Waits => return Ok(Handled::Waits),
                Cleared::Refused { refused, number } => {
                    let execution = self.open_execution(core, number, &known);
                    let denial = Denial::of_statement(&refused, &joined.known);
                    self.refuse_extended(doors, denial, Some(execution));
                    return Ok(Handled::Done);
                }
            };
        {
            let mut execution = execution.borrow_mut();
            execution.prepared = Some(Rc::clone(&prepared));
            execution.formats = Formats::read(bind.result_formats().iter());
        }
        let bound = named.then(|| Bound::new(&self.meter, parameters.list()));
        let portal = Portal {
            prepared: Rc::clone(&prepared),
            execution: Rc::clone(&execution),
            epoch: self.clearance.epoch(),
            parameters: count,
            until_unix_ms,
            is_cursor: false,
            holds: false,
            settled: false,
            doubtful: false,
            fetches: false,
            meaning,
            bound,
        };
        self.names
            .push(self.owed.segment(), Op::set_portal(bind.portal, portal));
        self.owed.sent(About::Bind(Rc::clone(&execution)));
        self.describe_bound(doors, bind.portal, &prepared, &execution);
        Ok(Handled::Done)
    }

    fn execute(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        execute: &Execute<'_>,
        raw: &[u8],
    ) -> Result<Handled, TrafficEnd> {
        let name = execute.portal;
        self.refresh(core);
        if self.may_lose(Kind::Portal, name) {
            return Ok(self.stay(Waiting::Target));
        }
        let portal = match self.names.portal(name, self.owed.segment()) {
            Lookup::Wait => return Ok(self.stay(Waiting::Target)),
            Lookup::Found(portal) => portal,
            Lookup::Unknown => {
                self.refuse_extended(doors, Denial::unknown_portal(name), None);
                return Ok(Handled::Done);
            }
        };
        if core.clock.unix_ms() >= portal.until_unix_ms {
            // The approval was for then: what it let be bound does not begin after its time.
            self.refuse_extended(
                doors,
                Denial::of(&Refused::Expired {
                    question: "the question".to_owned(),
                }),
                None,
            );
            return Ok(Handled::Done);
        }
        let is_cursor = portal.is_cursor;
        if self.is_covered_anew(&portal)
            && let Some(moved) = self.fetches_what_is_gone(doors, &portal.prepared.known, portal.fetches)
        {
            return Ok(moved);
        }
        if !is_cursor && portal.prepared.known.needs_names {
            // What it stands for is looked up by the target when it runs; what was judged is what it stood for at Bind.
            let Some(now) = self.meaning(&portal.prepared) else {
                return Ok(self.stay(Waiting::Target));
            };
            if !now.is(&portal.meaning) {
                self.refuse_extended(doors, Denial::meaning_changed(), None);
                return Ok(Handled::Done);
            }
        }
        // What SQL prepared does nothing of what the text does that prepared it.
        let whole = !is_cursor && portal.prepared.inner_of.is_none();
        if whole && let Some(refused) = self.too_many_names(&portal.prepared.known, &portal.prepared.text) {
            self.refuse_extended(doors, Denial::of(&refused), Some(portal.execution));
            return Ok(Handled::Done);
        }
        // Rules that changed since Bind are asked again; what they no longer allow does not begin, nor go on.
        let outdated = portal.epoch != self.clearance.epoch();
        let execution = if is_cursor || outdated {
            // A cursor is judged as its whole DECLARE: whoever must ask for that must ask to read on.
            let joined = if is_cursor {
                Some(Joined::plain(&portal.prepared.known))
            } else {
                self.joined_prepared(&portal.prepared)
            };
            let Some(joined) = joined else {
                return Ok(self.stay(Waiting::Target));
            };
            let verdict = match self.see_through(
                core,
                doors,
                &joined,
                &portal.prepared.text,
                Some(portal.parameters),
            )? {
                Seen::Stays => return Ok(Handled::Waits),
                Seen::Verdict(verdict) | Seen::Doubt(verdict, _) => verdict,
            };
            match self.execute_again(core, doors, name, &portal, &joined, &verdict)? {
                Some(execution) => execution,
                None if self.lane.waiting == Waiting::No => return Ok(Handled::Done),
                None => return Ok(Handled::Waits),
            }
        } else {
            Rc::clone(&portal.execution)
        };
        execution.borrow_mut().executed = true;
        self.cover_anew(doors, name, &execution, &portal);
        doors.target.pass(raw);
        let before = self.names.pending_len();
        if whole && portal.prepared.known.changes_names {
            self.note_actions(core, &portal.prepared.known, &portal.prepared.text, &execution);
        }
        let operations = self.names.pending_len() - before;
        if !is_cursor {
            let known = execution.borrow().known.clone();
            if let Some(known) = known {
                self.sent_execution(&execution, &known, portal.prepared.known.needs_names);
            }
        }
        self.owed.sent(About::Execute {
            execution,
            operations,
        });
        if whole && portal.prepared.known.brings_data {
            self.owed.may_copy_in(false);
            // What follows waits until it is clear whether data are wanted; where none are (a text that nobody could read need
            // not be a COPY), the server keeps its answer until it is asked for, and amid COPY it passes this over.
            write::flush(doors.target.own());
        }
        Ok(Handled::Done)
    }

    /// Execute of a cursor of DECLARE (its own statement is over; what is fetched is one of its own), or of a portal that was
    /// bound under other rules. `None`: refused, or waiting for room.
    fn execute_again(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        name: &[u8],
        portal: &Portal,
        joined: &Joined,
        verdict: &Rc<Verdict>,
    ) -> Result<Option<ExecutionRef>, TrafficEnd> {
        let is_cursor = portal.is_cursor;
        if !is_cursor && verdict.effect == Ruling::Allow {
            return Ok(Some(Rc::clone(&portal.execution)));
        }
        let text = format!("FETCH FROM {}", String::from_utf8_lossy(name));
        let stands_for = [StandsFor {
            text: Rc::clone(&portal.prepared.text),
            parameters: Vec::new(),
        }];
        let subject = Subject {
            stands_for: &stands_for,
            ..self.subject(&[], text.as_bytes(), joined, &NoParameters, 0)
        };
        if verdict.effect == Ruling::Allow {
            let Some(number) = self.clearance.goes_on(core, &mut self.lane, &subject, verdict)? else {
                return Ok(None);
            };
            let execution = self.open_execution(core, number, &joined.known);
            execution.borrow_mut().prepared = Some(Rc::clone(&portal.prepared));
            return Ok(Some(execution));
        }
        // As FETCH in SQL would be judged: an approval of DECLARE, or of Bind, is not one of reading on without end.
        let said = verdict.to_client(self.clearance.policy());
        let changed = Refused::RulesChanged { said: said.clone() };
        let refused = self
            .clearance
            .refuse(core, &mut self.lane, &subject, verdict, changed)?;
        if let Cleared::Refused { refused, number } = refused {
            let execution = self.open_execution(core, number, &joined.known);
            let denial = if is_cursor {
                Denial::cursor_held(&said)
            } else {
                Denial::of(&refused)
            };
            self.refuse_extended(doors, denial, Some(execution));
        }
        Ok(None)
    }

    /// Whether how the portal's rows are covered has to be found out again. A cursor of SQL was never described.
    fn is_covered_anew(&self, portal: &Portal) -> bool {
        portal.is_cursor || portal.execution.borrow().caller_number != self.judging.caller_number
    }

    /// A portal that goes on under other masks than it began with is covered by those of now.
    fn cover_anew(&mut self, doors: &mut Doors<'_>, name: &[u8], execution: &ExecutionRef, portal: &Portal) {
        let prepared = &portal.prepared;
        if !self.is_covered_anew(portal) {
            return;
        }
        let (exposure, hints) = self.judging.exposure(&prepared.known);
        {
            let mut execution = execution.borrow_mut();
            execution.caller_number = self.judging.caller_number;
            execution.cover = super::execution::Cover::of_caller(&self.judging.caller);
            execution.exposure = exposure;
            execution.hints = hints;
            execution.prepared = Some(Rc::clone(prepared));
        }
        self.describe_bound(doors, name, prepared, execution);
    }

    fn function_call(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        oid: u32,
        raw: &[u8],
    ) -> Result<Handled, TrafficEnd> {
        self.refresh(core);
        let text = format!("function call {oid}");
        let statement = Statement {
            class: ClassSet::of(&[Class::Opaque]),
            verbs: vec!["function call".to_owned()],
            has_where: true,
            hidden_columns: true,
            ..Statement::default()
        };
        let known = match &self.reading {
            Reading::Known(known) => Rc::clone(known),
            _ => Known::new(Ok(Facts {
                statements: vec![statement],
            })),
        };
        let joined = Joined::plain(&known);
        let uncovered = !self.judging.caller.is_free();
        let verdict = if uncovered {
            // Its result has no description: what it holds cannot be covered.
            Rc::new(Verdict {
                effect: Ruling::Deny,
                rule: None,
                cacheable: false,
                why: headgate_policy::Why::NothingAllows,
            })
        } else {
            match self.see_through(core, doors, &joined, text.as_bytes(), None)? {
                Seen::Stays => return Ok(Handled::Waits),
                Seen::Verdict(verdict) | Seen::Doubt(verdict, _) => verdict,
            }
        };
        let parameters = BoundParameters::call(raw);
        let subject = self.subject(raw, text.as_bytes(), &joined, &parameters, 0);
        let objection = uncovered.then_some(Refused::CarriesMasked);
        match self
            .clearance
            .clear(core, &mut self.lane, &subject, &verdict, objection)?
        {
            Cleared::Go {
                permitted, number, ..
            } => {
                doors.target.send(&permitted);
                let execution = self.open_execution(core, number, &known);
                self.sent_execution(&execution, &known, false);
                self.owed.sent(About::Function(execution));
                Ok(Handled::Done)
            }
            Cleared::Asked => Ok(self.is_held(doors, &known, &verdict)),
            Cleared::Waits => Ok(Handled::Waits),
            Cleared::Refused { refused, number } => {
                let execution = self.open_execution(core, number, &known);
                let denial = if uncovered {
                    Denial::call_uncovered()
                } else {
                    Denial::of_statement(&refused, &known)
                };
                self.refuse_query(core, doors, denial, Some(execution))
            }
        }
    }

    /// Ends a refused message that ReadyForQuery answers: at the target too, or here when nothing is at stake there.
    fn refuse_query(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        denial: Denial,
        execution: Option<ExecutionRef>,
    ) -> Result<Handled, TrafficEnd> {
        if self.owed.is_at_rest() && self.pass_target == 0 {
            let mut room = match Room::ask(core, END_BYTES_MAX, 2) {
                Ok(room) => room,
                Err(NoRoom::Yet { bytes } | NoRoom::Ever { bytes, .. }) => {
                    // Its refusal stands in the recording; its end goes by the target, which needs no room now.
                    let _ = bytes;
                    return Ok(self.refuse_at_target(doors, denial, execution));
                }
            };
            denial.write_error(doors.client.own());
            write::ready_for_query(doors.client.own(), TransactionStatus::Idle);
            if let Some(execution) = execution {
                let error = recorded_error(&denial);
                let outcome = if error.code == "57014" {
                    StatementOutcome::Cancelled
                } else {
                    StatementOutcome::NotRun
                };
                self.end_execution(core, &mut room, &execution, outcome, Some(&error))?;
            }
            return Ok(Handled::Done);
        }
        Ok(self.refuse_at_target(doors, denial, execution))
    }

    fn refuse_at_target(
        &mut self,
        doors: &mut Doors<'_>,
        denial: Denial,
        execution: Option<ExecutionRef>,
    ) -> Handled {
        // Cannot fail: the text is ours and short.
        let _ = write::query(doors.target.own(), REFUSED_TEXT);
        self.owed.sent(About::RefusedQuery {
            denial: Box::new(denial),
            execution,
        });
        Handled::Done
    }

    fn refuse_extended(&mut self, doors: &mut Doors<'_>, denial: Denial, execution: Option<ExecutionRef>) {
        let _ = write::parse(doors.target.own(), REFUSED_NAME, REFUSED_TEXT, &[]);
        // So that the denial comes at once even to a client that sends Flush instead of Sync.
        write::flush(doors.target.own());
        self.owed.sent(About::Refused {
            denial: Box::new(denial),
            execution,
        });
    }

    /// Why what a text of SQL prepares and declares cannot be kept, if it cannot.
    fn too_many_names(&self, known: &Known, text: &[u8]) -> Option<Refused> {
        let facts = known.facts.as_ref().ok().filter(|_| known.changes_names)?;
        let (mut operations, mut made) = (0, 0);
        for statement in &facts.statements {
            operations += usize::from(crate::sql::known::names_change(&statement.action));
            made += usize::from(matches!(
                statement.action,
                Action::Prepare { .. } | Action::Declare { .. }
            ));
        }
        if !self.names.admits(operations, made) {
            return Some(Refused::SessionFull {
                bytes: super::names::NAMES_MAX,
                max: super::names::NAMES_MAX,
            });
        }
        if made == 0 {
            return None;
        }
        let bytes = made * super::names::THING_BYTES + SharedText::bytes(text, known);
        self.meter.admits(bytes).map_err(Refused::from).err()
    }

    /// What the statements of a text will do to names once the target has done them.
    fn note_actions(&mut self, core: &mut Core, known: &Rc<Known>, text: &[u8], execution: &ExecutionRef) {
        let Ok(facts) = &known.facts else { return };
        if facts.statements.iter().any(|s| s.changes_catalog) {
            execution.borrow_mut().changes_catalog = true;
            self.judging.own_ddl_sent(core);
        }
        let mut operations_at = Vec::new();
        let mut shared = None;
        let mut inner = |at| {
            let shared = shared.get_or_insert_with(|| SharedText::new(&self.meter, text, known));
            Prepared::within(&self.meter, shared, known, at)
        };
        for (at, statement) in facts.statements.iter().enumerate() {
            let op = match &statement.action {
                Action::Prepare { name, .. } => Op::set_statement(sql_name(name), inner(at)),
                Action::Deallocate { name: Some(name) } => Op::drop_statement(sql_name(name)),
                Action::Deallocate { name: None } => Op::DropAllStatements,
                Action::Discard { all: true } => Op::DropAllStatements,
                Action::Declare { name, hold, .. } => {
                    let portal = Portal {
                        prepared: inner(at),
                        execution: Rc::clone(execution),
                        epoch: self.clearance.epoch(),
                        parameters: 0,
                        until_unix_ms: u64::MAX,
                        is_cursor: true,
                        holds: *hold,
                        settled: false,
                        doubtful: false,
                        fetches: false,
                        meaning: Meaning::Nothing,
                        bound: None,
                    };
                    Op::set_portal(sql_name(name), portal)
                }
                Action::CloseCursor { name: Some(name) } => Op::drop_portal(sql_name(name)),
                Action::CloseCursor { name: None } => Op::DropAllPortals,
                _ => continue,
            };
            self.names.push(self.owed.segment(), op);
            operations_at.push(at);
        }
        if !operations_at.is_empty() {
            execution.borrow_mut().ops_at = operations_at;
        }
    }
}

/// What came of looking at a statement.
pub(super) enum Seen {
    /// It stays at the front; `waiting` says for what.
    Stays,
    Verdict(Rc<Verdict>),
    /// What it reads cannot be told: a verdict of deny, and why.
    Doubt(Rc<Verdict>, Refused),
}

/// The longest message of `tag` that is read.
fn longest(core: &Core, tag: u8) -> usize {
    match tag {
        b'Q' => core.settings.statement_bytes_max.saturating_add(16),
        b'P' => core
            .settings
            .statement_bytes_max
            .saturating_add(PARSE_EXTRA_BYTES_MAX),
        b'B' | b'F' => core.settings.client_message_bytes_max,
        // Its reason is of any length to the server, but not worth more.
        b'f' => LONG_BYTES_MIN,
        _ => SMALL_BYTES_MAX,
    }
}

/// The server takes nothing but data while it reads COPY data: it has lost its place in the stream then, and ends.
fn copy_broken(tag: u8) -> TrafficEnd {
    TrafficEnd::CopyBroken(
        Denial::new(
            "08P01",
            format!("unexpected message type 0x{tag:02X} during COPY from stdin"),
        )
        .detail("The session ends, as PostgreSQL ends it: what would be read next is not known."),
    )
}
