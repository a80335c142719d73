//! The client's messages, in order, at the front of what has arrived.

use super::expect::{EXPECT_MAX, Expect};
use super::given::Given;
use super::names::{Lookup, Op, Portal, Prepared};
use super::plan::Formats;
use super::run::RunRef;
use super::{Front, Traffic, TrafficEnd, Waiting};
use crate::core::{Core, Effect};
use crate::denial::Denial;
use crate::known::Known;
use crate::permit::{Permitted, TargetDoor};
use crate::record;
use headgate_plane::{Class, ClassSet, Effect as Ruling};
use headgate_policy::Verdict;
use headgate_postgres::backend::TransactionStatus;
use headgate_postgres::frontend::{Bind, Frontend, Kind, Parse};
use headgate_postgres::{frame, write};
use headgate_recording::{BodyRef, Bytes, Parameters, RecordedError, StatementOutcome, Texts, Verdict as Recorded};
use headgate_sql::{Action, Facts, Statement};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// A name that no client uses: Parse of it, with words that are no SQL, is our way of failing at the target.
const REFUSED_NAME: &[u8] = b"headgate refused";
const REFUSED_TEXT: &[u8] = b"headgate refused what stood here";

/// What became of the message at the front.
pub(super) enum Moved {
    Done,
    /// It stays at the front; `waiting` says for what.
    Stays,
}

/// Where a session's two directions end.
pub struct Outs<'a> {
    pub client: &'a mut Vec<u8>,
    pub target: &'a mut Vec<u8>,
}

impl Traffic {
    /// Handles what can be handled at the front of `data`; returns how many bytes are done with.
    pub fn from_client(&mut self, core: &mut Core, outs: &mut Outs<'_>, data: &[u8]) -> Result<usize, TrafficEnd> {
        let mut used = 0;
        while self.waiting == Waiting::No {
            let rest = data.get(used..).unwrap_or(&[]);
            if rest.is_empty() {
                break;
            }
            if self.pass_client > 0 {
                let n = self.pass_client.min(rest.len());
                TargetDoor::new(outs.target).pass(rest.get(..n).unwrap_or(rest));
                self.pass_client -= n;
                used += n;
                continue;
            }
            // CopyData passes in pieces, so its length is bounded by the target alone.
            let max = if rest.first() == Some(&b'd') { 1 << 30 } else { core.settings.client_message_bytes_max };
            let Some(header) = frame::peek(rest, max).map_err(TrafficEnd::ClientMisbehaved)? else { break };
            if !Frontend::is_known(header.tag) {
                return Err(TrafficEnd::ClientMisbehaved(headgate_postgres::PeerMisbehaved::UnknownMessage { tag: header.tag }));
            }
            if header.tag == b'd' {
                self.pass_client = header.len;
                continue;
            }
            let Some(message) = rest.get(..header.len) else { break };
            let body = header.body(rest).unwrap_or(&[]);
            let decoded = Frontend::decode(header.tag, body).map_err(TrafficEnd::ClientMisbehaved)?;
            if self.expect.len() >= EXPECT_MAX {
                self.waiting = Waiting::Target;
                break;
            }
            match self.message(core, outs, decoded, message)? {
                Moved::Done => {
                    used += header.len;
                    self.front = Front::Fresh;
                }
                Moved::Stays => break,
            }
        }
        Ok(used)
    }

    fn message(&mut self, core: &mut Core, outs: &mut Outs<'_>, decoded: Frontend<'_>, raw: &[u8]) -> Result<Moved, TrafficEnd> {
        if self.skipping && !matches!(decoded, Frontend::Sync | Frontend::Terminate) {
            // The target skips to Sync behind the message that we refused; so nothing of this would run.
            return Ok(Moved::Done);
        }
        let mut target = TargetDoor::new(outs.target);
        match decoded {
            Frontend::Query(query) => return self.query(core, outs, query.text, raw),
            Frontend::Parse(parse) => return self.parse(core, outs, &parse, raw),
            Frontend::Bind(bind) => return self.bind(core, outs, &bind, raw),
            Frontend::Execute(execute) => return Ok(self.execute(core, outs, execute.portal, raw)),
            Frontend::FunctionCall(call) => return self.function_call(core, outs, call.oid, raw),
            Frontend::Describe { kind: Kind::Statement, name } => {
                let prepared = match self.names.statement(name, self.segment) {
                    Lookup::Wait => return Ok(self.stay(Waiting::Target)),
                    Lookup::Found(prepared) => Some(prepared),
                    Lookup::Unknown => None,
                };
                target.pass(raw);
                Expect::DescribeStatement(prepared).place(self);
            }
            Frontend::Describe { kind: Kind::Portal, name } => {
                let run = match self.names.portal(name, self.segment) {
                    Lookup::Wait => return Ok(self.stay(Waiting::Target)),
                    Lookup::Found(portal) => Some(portal.run),
                    Lookup::Unknown => None,
                };
                target.pass(raw);
                Expect::DescribePortal(run).place(self);
            }
            Frontend::Close { kind, name } => {
                target.pass(raw);
                let name: Box<[u8]> = name.into();
                let op = if kind == Kind::Statement { Op::DropStatement(name) } else { Op::DropPortal(name) };
                self.names.push(self.segment, op);
                Expect::Close.place(self);
            }
            Frontend::Sync => {
                target.pass(raw);
                if !self.copy_in {
                    Expect::Sync.place(self);
                }
            }
            Frontend::Flush => target.pass(raw),
            Frontend::CopyDone | Frontend::CopyFail { .. } => {
                target.pass(raw);
                self.copy_in = false;
                Expect::CopyEnd.place(self);
            }
            Frontend::CopyData(_) => return Ok(Moved::Stays),
            Frontend::Terminate => {
                target.pass(raw);
                return Err(TrafficEnd::Terminated);
            }
            Frontend::Password(_) => {
                let wrong = headgate_postgres::PeerMisbehaved::OutOfPlace { tag: b'p', state: "Traffic" };
                return Err(TrafficEnd::ClientMisbehaved(wrong));
            }
        }
        Ok(Moved::Done)
    }

    pub(super) fn stay(&mut self, waiting: Waiting) -> Moved {
        self.waiting = waiting;
        Moved::Stays
    }

    /// The facts of a text: known, or asked of an analyst. `None`: the message stays.
    fn facts_of(&mut self, core: &mut Core, outs: &mut Outs<'_>, text: &[u8]) -> Option<Rc<Known>> {
        match &self.front {
            Front::Known(known) => return Some(Rc::clone(known)),
            Front::Held(held) => return Some(Rc::clone(&held.known)),
            Front::Analysing => {
                self.waiting = Waiting::Analyst;
                return None;
            }
            Front::Fresh => {}
        }
        self.refresh(core);
        if self.wants_catalog_now(core, outs.target) {
            return None;
        }
        if let Some(known) = core.known.get(text) {
            return Some(known);
        }
        core.metrics.texts_analysed += 1;
        core.effects.push(Effect::Analyse { text: Arc::from(text) });
        self.front = Front::Analysing;
        self.waiting = Waiting::Analyst;
        None
    }

    /// Room to record this message and its end; else it stays.
    fn room_for(&mut self, core: &mut Core, raw: &[u8]) -> Result<bool, TrafficEnd> {
        if record::has_room(core, raw.len()) {
            return Ok(true);
        }
        if !record::can_fit(core, raw.len()) {
            let denial = Denial::new("54000", "Headgate: the message is longer than what can be recorded")
                .hint("Raise spool_bytes in headgate.toml, or send data in smaller pieces or with COPY.");
            return Err(TrafficEnd::TooMuch(denial));
        }
        core.metrics.spool_waits += 1;
        self.waiting = Waiting::Room;
        Ok(false)
    }

    fn query(&mut self, core: &mut Core, outs: &mut Outs<'_>, text: &[u8], raw: &[u8]) -> Result<Moved, TrafficEnd> {
        if !self.room_for(core, raw)? {
            return Ok(Moved::Stays);
        }
        let Some(known) = self.facts_of(core, outs, text) else { return Ok(Moved::Stays) };
        let Some(joined) = self.joined(&known) else { return Ok(self.stay(Waiting::Target)) };
        let verdict = self.judge(core, &joined, text, None);
        let run = match self.decide(core, outs.client, &known, &joined, &verdict, text, Given::NONE, raw) {
            Decision::Forward(permitted, run) => {
                TargetDoor::new(outs.target).send(permitted);
                run
            }
            Decision::Stays => return Ok(Moved::Stays),
            Decision::Refuse(denial, run) => {
                self.refuse_query(core, outs, denial, run);
                return Ok(Moved::Done);
            }
        };
        if known.acts {
            self.note_actions(core, &known, text, &run);
        }
        Expect::Simple(run).place(self);
        Ok(Moved::Done)
    }

    fn parse(&mut self, core: &mut Core, outs: &mut Outs<'_>, parse: &Parse<'_>, raw: &[u8]) -> Result<Moved, TrafficEnd> {
        let (name, text) = (parse.name, parse.text);
        if !self.room_for(core, raw)? {
            return Ok(Moved::Stays);
        }
        let Some(known) = self.facts_of(core, outs, text) else { return Ok(Moved::Stays) };
        let Some(joined) = self.joined(&known) else { return Ok(self.stay(Waiting::Target)) };
        let verdict = self.judge(core, &joined, text, None);
        let Some(permitted) = Permitted::to_be_described(&verdict, raw) else {
            let (denial, run) = self.deny(core, &known, &verdict, text, Given::NONE);
            self.refuse_extended(outs, denial, Some(run));
            return Ok(Moved::Done);
        };
        if self.names.is_full() {
            let denial = Denial::new("54000", "Headgate: too many prepared statements in one session").hint("Close some.");
            self.refuse_extended(outs, denial, None);
            return Ok(Moved::Done);
        }
        TargetDoor::new(outs.target).send(permitted);
        let prepared = self.prepared(parse, known);
        self.names.push(self.segment, Op::SetStatement(name.into(), Rc::clone(&prepared)));
        Expect::Parse.place(self);
        let described = prepared.columns.borrow().is_some() && prepared.described_at.get() == self.catalog_version;
        if !self.caller.is_free() && !described {
            // The rows of an Execute come without a description; the plan needs it, so we ask ourselves.
            if write::describe(outs.target, Kind::Statement, name).is_ok() {
                Expect::OwnDescribe(prepared).place(self);
            }
        }
        Ok(Moved::Done)
    }

    /// The same text under the same name is what it was: a driver that parses before each Bind costs no more than one that
    /// prepares once, and its result need not be described anew.
    fn prepared(&self, parse: &Parse<'_>, known: Rc<Known>) -> Rc<Prepared> {
        if let Lookup::Found(before) = self.names.statement(parse.name, self.segment)
            && Rc::ptr_eq(&before.known, &known)
            && *before.text == *parse.text
            && before.types.iter().copied().eq(parse.types())
            && before.inner_of.is_none()
        {
            return before;
        }
        Rc::new(Prepared {
            text: Rc::from(parse.text),
            known,
            types: parse.types().collect(),
            columns: RefCell::new(None),
            plan: RefCell::new(None),
            described_at: Cell::new(0),
            inner_of: None,
        })
    }

    fn bind(&mut self, core: &mut Core, outs: &mut Outs<'_>, bind: &Bind<'_>, raw: &[u8]) -> Result<Moved, TrafficEnd> {
        if !self.room_for(core, raw)? {
            return Ok(Moved::Stays);
        }
        self.refresh(core);
        let prepared = match self.names.statement(bind.statement, self.segment) {
            Lookup::Wait => return Ok(self.stay(Waiting::Target)),
            Lookup::Found(prepared) => prepared,
            Lookup::Unknown => {
                let name = String::from_utf8_lossy(bind.statement);
                let denial = Denial::new("26000", format!("prepared statement \"{name}\" does not exist"));
                self.refuse_extended(outs, denial, None);
                return Ok(Moved::Done);
            }
        };
        let known = Rc::clone(&prepared.known);
        let Some(joined) = self.joined(&known) else { return Ok(self.stay(Waiting::Target)) };
        let text = &*prepared.text;
        let count = u32::try_from(bind.parameters().len()).unwrap_or(u32::MAX);
        let verdict = self.judge(core, &joined, text, Some(count));
        let given = Given::by(bind, &prepared.types);
        let run = match self.decide(core, outs.client, &known, &joined, &verdict, text, given, raw) {
            Decision::Forward(permitted, run) => {
                // After a change of the catalog the same statement may read other tables: its columns are asked for again.
                let outdated =
                    !self.caller.is_free() && prepared.columns.borrow().is_some() && prepared.described_at.get() != self.catalog_version;
                if outdated && write::describe(outs.target, Kind::Statement, bind.statement).is_ok() {
                    Expect::OwnDescribe(Rc::clone(&prepared)).place(self);
                }
                TargetDoor::new(outs.target).send(permitted);
                run
            }
            Decision::Stays => return Ok(Moved::Stays),
            Decision::Refuse(denial, run) => {
                self.refuse_extended(outs, denial, Some(run));
                return Ok(Moved::Done);
            }
        };
        {
            let mut run = run.borrow_mut();
            run.prepared = Some(Rc::clone(&prepared));
            run.formats = Formats::read(bind.result_formats().iter());
        }
        let portal = Portal { prepared, run: Rc::clone(&run), epoch: self.context.epoch() };
        self.names.push(self.segment, Op::SetPortal(bind.portal.into(), portal));
        Expect::Bind(run).place(self);
        Ok(Moved::Done)
    }

    fn execute(&mut self, core: &mut Core, outs: &mut Outs<'_>, name: &[u8], raw: &[u8]) -> Moved {
        self.refresh(core);
        let portal = match self.names.portal(name, self.segment) {
            Lookup::Wait => return self.stay(Waiting::Target),
            Lookup::Found(portal) => portal,
            Lookup::Unknown => {
                let denial = Denial::new("34000", format!("portal \"{}\" does not exist", String::from_utf8_lossy(name)));
                self.refuse_extended(outs, denial, None);
                return Moved::Done;
            }
        };
        // Rules that changed since Bind are asked again; what they no longer allow does not begin, nor go on.
        if portal.epoch != self.context.epoch() {
            let Some(joined) = self.joined(&portal.prepared.known) else { return self.stay(Waiting::Target) };
            let verdict = self.judge(core, &joined, &portal.prepared.text, None);
            if verdict.effect != Ruling::Allow {
                let denial = Denial::of_verdict(&verdict, &self.policy, None).detail("The rules changed after the statement was bound.");
                self.refuse_extended(outs, denial, None);
                return Moved::Done;
            }
        }
        let is_cursor = portal.prepared.inner_of.is_some();
        let run = if is_cursor {
            // A cursor of DECLARE: its own statement is over; what is fetched is one of its own.
            let known = Rc::clone(&portal.prepared.known);
            let text = format!("FETCH FROM {}", String::from_utf8_lossy(name));
            let verdict = self.judge(core, &known, &portal.prepared.text, None);
            if verdict.effect != Ruling::Allow {
                // As FETCH in SQL would be judged: an approval of DECLARE is not one of reading on without end.
                let (mut denial, run) = self.deny(core, &known, &verdict, text.as_bytes(), Given::NONE);
                denial.hint = Some("Read this cursor with FETCH: that can be held and approved.".to_owned());
                self.refuse_extended(outs, denial, Some(run));
                return Moved::Done;
            }
            let run = self.open_run(core, &known);
            self.record_statement(core, run.borrow().number, &known, &verdict, text.as_bytes(), Given::NONE, Recorded::Allow);
            run.borrow_mut().prepared = Some(Rc::clone(&portal.prepared));
            run
        } else {
            Rc::clone(&portal.run)
        };
        TargetDoor::new(outs.target).pass(raw);
        let before = self.pending_ops();
        if !is_cursor && portal.prepared.known.acts {
            self.note_actions(core, &portal.prepared.known, &portal.prepared.text, &run);
        }
        let ops = self.pending_ops() - before;
        Expect::Execute { run, ops }.place(self);
        Moved::Done
    }

    fn function_call(&mut self, core: &mut Core, outs: &mut Outs<'_>, oid: u32, raw: &[u8]) -> Result<Moved, TrafficEnd> {
        if !self.room_for(core, raw)? {
            return Ok(Moved::Stays);
        }
        self.refresh(core);
        let text = format!("function call {oid}");
        let statement = Statement {
            class: ClassSet::of(&[Class::Opaque]),
            verbs: vec!["function call".to_owned()],
            has_where: true,
            hidden_columns: true,
            ..Statement::default()
        };
        let known = match &self.front {
            Front::Held(held) => Rc::clone(&held.known),
            _ => Known::new(Ok(Facts { statements: vec![statement] })),
        };
        let verdict = if self.caller.is_free() {
            self.judge(core, &known, text.as_bytes(), None)
        } else {
            // Its result has no description: what it holds cannot be covered.
            Rc::new(Verdict { effect: Ruling::Deny, rule: None, cacheable: false, why: headgate_policy::Why::NothingAllows })
        };
        match self.decide(core, outs.client, &known, &known, &verdict, text.as_bytes(), Given::NONE, raw) {
            Decision::Forward(permitted, run) => {
                TargetDoor::new(outs.target).send(permitted);
                Expect::Function(run).place(self);
            }
            Decision::Stays => return Ok(Moved::Stays),
            Decision::Refuse(denial, run) => self.refuse_query(core, outs, denial, run),
        }
        Ok(Moved::Done)
    }

    /// From verdict to action for one statement: recorded and permitted, held, or refused.
    #[allow(clippy::too_many_arguments)]
    fn decide<'m>(
        &mut self,
        core: &mut Core,
        client: &mut Vec<u8>,
        known: &Rc<Known>,
        joined: &Rc<Known>,
        verdict: &Rc<Verdict>,
        text: &[u8],
        parameters: Given<'_>,
        raw: &'m [u8],
    ) -> Decision<'m> {
        if matches!(self.front, Front::Held(_)) {
            return self.resume_held(core, raw);
        }
        if verdict.effect != Ruling::Deny && self.exposure(joined).0.sinks {
            let run = self.open_run(core, known);
            self.record_statement(core, run.borrow().number, known, verdict, text, parameters, Recorded::Deny);
            core.metrics.statements_denied += 1;
            let denial = Denial::new("42501", "Headgate: the statement can carry masked values to where they are not covered")
                .hint("Leave out the masked columns, or have somebody run it who may read them.");
            return Decision::Refuse(denial, run);
        }
        match verdict.effect {
            Ruling::Allow => {
                let run = self.open_run(core, joined);
                self.record_statement(core, run.borrow().number, known, verdict, text, parameters, Recorded::Allow);
                core.metrics.statements_allowed += 1;
                match Permitted::by_verdict(verdict, raw) {
                    Some(permitted) => Decision::Forward(permitted, run),
                    None => Decision::Stays,
                }
            }
            Ruling::Hold => {
                let run = self.open_run(core, joined);
                self.record_statement(core, run.borrow().number, known, verdict, text, parameters, Recorded::Hold);
                core.metrics.statements_held += 1;
                self.ask(core, client, known, verdict, text, &parameters.list(), run);
                Decision::Stays
            }
            Ruling::Deny => {
                let (denial, run) = self.deny(core, known, verdict, text, parameters);
                Decision::Refuse(denial, run)
            }
        }
    }

    fn deny(&mut self, core: &mut Core, known: &Rc<Known>, verdict: &Verdict, text: &[u8], parameters: Given<'_>) -> (Denial, RunRef) {
        let run = self.open_run(core, known);
        self.record_statement(core, run.borrow().number, known, verdict, text, parameters, Recorded::Deny);
        core.metrics.statements_denied += 1;
        (Denial::of_verdict(verdict, &self.policy, known.facts.as_ref().err()), run)
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn record_statement(
        &mut self,
        core: &mut Core,
        statement: u32,
        known: &Known,
        verdict: &Verdict,
        text: &[u8],
        parameters: Given<'_>,
        recorded: Recorded,
    ) {
        let relations = self.relations_of(known);
        let body = BodyRef::Statement {
            statement,
            prepared: 0,
            text: Bytes(text),
            stands_for: Texts::NONE,
            parameters: Parameters::Source(&parameters),
            verdict: recorded,
            rule: verdict.rule_name(&self.policy),
            epoch: self.context.epoch(),
            class: known.class,
            verbs: &known.verbs,
            resources: &relations,
        };
        self.recorder.write(core, body);
        if core.settings.strict {
            core.spool.urgent();
            self.strict_until = core.spool.position();
        }
    }

    /// Ends a refused statement at the target too, or here when nothing is at stake there.
    pub(super) fn refuse_query(&mut self, core: &mut Core, outs: &mut Outs<'_>, denial: Denial, run: RunRef) {
        if self.owes_nothing() && self.status == TransactionStatus::Idle {
            denial.write_error(outs.client);
            write::ready_for_query(outs.client, TransactionStatus::Idle);
            self.end_run(core, &run, StatementOutcome::NotRun, Some(&recorded_error(&denial)));
            return;
        }
        // Cannot fail: the text is ours and short.
        let _ = write::query(outs.target, REFUSED_TEXT);
        Expect::RefusedSimple { denial: Box::new(denial), run: Some(run) }.place(self);
    }

    fn refuse_extended(&mut self, outs: &mut Outs<'_>, denial: Denial, run: Option<RunRef>) {
        let _ = write::parse(outs.target, REFUSED_NAME, REFUSED_TEXT, &[]);
        // So that the denial comes at once even to a client that sends Flush instead of Sync.
        write::flush(outs.target);
        Expect::Refused { denial: Box::new(denial), run }.place(self);
        self.skipping = true;
    }

    fn pending_ops(&self) -> usize {
        self.names.pending_len()
    }

    /// What the statements of a text will do to names once the target has done them.
    fn note_actions(&mut self, core: &mut Core, known: &Rc<Known>, text: &[u8], run: &RunRef) {
        let Ok(facts) = &known.facts else { return };
        if facts.statements.iter().any(|s| s.changes_catalog) {
            self.own_ddl = true;
            if !self.caller.is_free() && self.labels_current {
                // What is read from now on may not be what the catalog says: doubt, until it is loaded again.
                self.labels_current = false;
                self.take_up_masks(core);
            }
        }
        let mut ops_at = Vec::new();
        for (at, statement) in facts.statements.iter().enumerate() {
            if statement.changes_catalog {
                run.borrow_mut().changes_catalog = true;
            }
            let op = match &statement.action {
                Action::Prepare { name, .. } => Op::SetStatement(name.as_bytes().into(), self.inner(known, text, at)),
                Action::Deallocate { name: Some(name) } => Op::DropStatement(name.as_bytes().into()),
                Action::Deallocate { name: None } => Op::DropAllStatements,
                Action::Discard { all: true } => Op::DropAllStatements,
                Action::Declare { name, .. } => {
                    let prepared = self.inner(known, text, at);
                    let portal = Portal { prepared, run: Rc::clone(run), epoch: self.context.epoch() };
                    Op::SetPortal(name.as_bytes().into(), portal)
                }
                Action::CloseCursor { name: Some(name) } => Op::DropPortal(name.as_bytes().into()),
                Action::CloseCursor { name: None } => Op::DropAllPortals,
                _ => continue,
            };
            self.names.push(self.segment, op);
            ops_at.push(at);
        }
        if !ops_at.is_empty() {
            run.borrow_mut().ops_at = ops_at;
        }
    }

    fn inner(&self, known: &Rc<Known>, text: &[u8], at: usize) -> Rc<Prepared> {
        Rc::new(Prepared {
            text: Rc::from(text),
            known: Rc::clone(known),
            types: Box::default(),
            columns: RefCell::new(None),
            plan: RefCell::new(None),
            described_at: Cell::new(0),
            inner_of: Some(at),
        })
    }
}

pub(super) enum Decision<'m> {
    Forward(Permitted<'m>, RunRef),
    Stays,
    Refuse(Denial, RunRef),
}

pub(super) fn recorded_error(denial: &Denial) -> RecordedError {
    RecordedError { code: denial.code.to_owned(), message: denial.message.clone() }
}
