//! The target's messages, in order, against what it owes.
//!
//! Each is looked up in the table of [`owed`] before anything else happens with it: what the table does not expect ends the
//! session before a byte of it reaches the client.

use super::columns::Columns;
use super::execution::{Cover, Execution, ExecutionRef};
use super::names::Prepared;
use super::owed::{About, CopyFailed, Owes, Said, Step};
use super::traffic::{Traffic, TrafficEnd, outcome_of, recorded_error};
use crate::clearance::doors::Doors;
use crate::clearance::room::{NoRoom, Room};
use crate::clearance::{END_BYTES_MAX, REPLY_IN_END_BYTES_MAX, SHORT_END_BYTES_MAX, Waiting, cut};
use crate::core::{Core, Effect};
use crate::postgres::denial::Denial;
use crate::sql::catalogs::CatalogState;
use headgate_mask::{CopyMasker, Masked, Plan, scrub};
use headgate_postgres::backend::{Backend, ReportFields, RowDescription, TransactionStatus};
use headgate_postgres::{PeerMisbehaved, backend, frame, write};
use headgate_recording::{RecordedError, StatementOutcome, StreamOutcome};
use headgate_sql::{Action, Copy, Statement};
use std::rc::Rc;

impl Traffic {
    /// Handles what can be handled at the front of the target's `data`; returns how many bytes are done with. Stops where
    /// there is no room to record: then `target_waits` is true.
    pub(super) fn take_target(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        data: &[u8],
    ) -> Result<usize, TrafficEnd> {
        let mut used = 0;
        self.target_waits = false;
        loop {
            let rest = data.get(used..).unwrap_or(&[]);
            if rest.is_empty() {
                break;
            }
            if self.pass_target > 0 {
                used += self.pass_piece(core, doors, rest)?;
                continue;
            }
            let tag = rest.first().copied().unwrap_or(0);
            if tag == b'D' || tag == b'd' {
                match self.rows(core, doors, rest, tag)? {
                    0 => break,
                    n => used += n,
                }
                continue;
            }
            let max = core.settings.target_message_bytes_max;
            let Some(header) = frame::peek(rest, max).map_err(misbehaved)? else {
                break;
            };
            let Some(raw) = rest.get(..header.len) else { break };
            let decoded =
                Backend::decode(header.tag, header.body(rest).unwrap_or(&[])).map_err(misbehaved)?;
            if !self.reply(core, doors, decoded, raw)? {
                break;
            }
            used += header.len;
        }
        if used > 0 && self.lane.waiting == Waiting::Target {
            // Something was answered: what waits for that is tried again (a full queue has room now, without any Sync).
            self.lane.waiting = Waiting::No;
        }
        Ok(used)
    }

    /// Part of a message that passes unmasked and in pieces.
    fn pass_piece(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        rest: &[u8],
    ) -> Result<usize, TrafficEnd> {
        let n = self.pass_target.min(rest.len());
        let piece = rest.get(..n).unwrap_or(rest);
        let Some(execution) = self.owed.front_execution() else {
            return Err(out_of_place(b'D'));
        };
        let mut execution = execution.borrow_mut();
        let Cover::Pass(pass) = &execution.cover else {
            return Err(out_of_place(b'D'));
        };
        doors.client.send(pass.pass(piece));
        execution.keep(core, piece);
        drop(execution);
        self.pass_target -= n;
        if self.pass_target == 0 && !self.late.is_empty() {
            doors.client.own().append(&mut self.late);
        }
        Ok(n)
    }

    /// Rows (`D`) or COPY data (`d`) at the front of `rest`: as many as are there. 0: more bytes are needed.
    fn rows(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        rest: &[u8],
        tag: u8,
    ) -> Result<usize, TrafficEnd> {
        let said = if tag == b'D' {
            Said::DataRow
        } else {
            Said::CopyData
        };
        let Step::On(owes) = self.owed.step(said) else {
            return Err(out_of_place(tag));
        };
        if matches!(self.owed.front(), Some(About::LookUp)) {
            return self.look_up_rows(core, rest);
        }
        let Some(execution) = self.owed.front_execution() else {
            return Err(out_of_place(tag));
        };
        let execution = Rc::clone(execution);
        let mut borrowed = execution.borrow_mut();
        let execution = &mut *borrowed;
        if matches!(execution.cover, Cover::Unset) && tag == b'D' {
            let prepared = execution.prepared.as_ref();
            execution.cover = match prepared.and_then(|p| {
                p.plan(
                    &self.judging.caller,
                    self.judging.caller_number,
                    &execution.formats,
                    execution.hints,
                )
            }) {
                Some(plan) => Cover::of_plan(plan),
                // Rows that nothing described: what they hold is not known, and nothing of them may pass.
                None => {
                    return Err(TrafficEnd::TargetMisbehaved(
                        "rows came without a description".to_owned(),
                    ));
                }
            };
        }
        let used = match &mut execution.cover {
            Cover::Pass(pass) => {
                let pass = *pass;
                let mut end = 0;
                let mut count = 0;
                while let Some(next) = rest.get(end..).filter(|next| next.first() == Some(&tag)) {
                    let Some(header) = frame::peek(next, 1 << 30).map_err(misbehaved)? else {
                        break;
                    };
                    end += header.len;
                    count += 1;
                    if end >= rest.len() {
                        break;
                    }
                }
                if count == 0 {
                    return Ok(0);
                }
                if tag == b'D' {
                    execution.rows += count;
                }
                let whole = rest.get(..end).unwrap_or(rest);
                doors.client.send(pass.pass(whole));
                execution.keep(core, whole);
                self.pass_target = end - whole.len();
                whole.len()
            }
            Cover::Rows(plan) if tag == b'D' => {
                let end = whole_messages(rest, tag, core.settings.target_message_bytes_max)?;
                let Some(whole) = rest.get(..end).filter(|w| !w.is_empty()) else {
                    return Ok(0);
                };
                let plan = Rc::clone(plan);
                let (stats, sent) = doors
                    .client
                    .rows(&plan, &mut core.scratch, whole)
                    .map_err(masking)?;
                execution.rows += stats.rows;
                execution.masked += stats.masked;
                execution.keep(core, sent);
                end
            }
            Cover::Copy(masker) if tag == b'd' => {
                let max = core.settings.target_message_bytes_max;
                let Some((header, payload)) = frame::split(rest, max).map_err(misbehaved)? else {
                    return Ok(0);
                };
                let mut masked = core.buffer();
                masker.data(payload, &mut masked).map_err(masking)?;
                let start = doors.client.mark();
                if !masked.is_empty() {
                    write::copy_data(doors.client.own(), &masked).map_err(masking)?;
                }
                execution.keep(core, doors.client.since(start));
                core.recycle(masked);
                header.len
            }
            Cover::Unset | Cover::Rows(_) | Cover::Copy(_) => return Err(out_of_place(tag)),
        };
        drop(borrowed);
        self.owed.advance(owes);
        Ok(used)
    }

    /// A message that carries no value of a table.
    fn forward(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        raw: &[u8],
        execution: Option<&ExecutionRef>,
    ) -> Result<(), TrafficEnd> {
        let masked =
            Masked::without_values(raw).or_else(|| Masked::for_free_caller(&self.judging.caller, raw));
        let Some(masked) = masked else {
            return Err(TrafficEnd::TargetMisbehaved(
                "values came where none can be covered".to_owned(),
            ));
        };
        doors.client.send(masked);
        if let Some(execution) = execution {
            execution.borrow_mut().keep(core, raw);
        }
        Ok(())
    }

    /// One message other than a row. False: there is no room to record what it ends, and nothing has happened.
    fn reply(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        decoded: Backend<'_>,
        raw: &[u8],
    ) -> Result<bool, TrafficEnd> {
        let tag = raw.first().copied().unwrap_or(0);
        let Some(said) = Said::of(&decoded) else {
            self.aside(core, doors, decoded, raw)?;
            return Ok(true);
        };
        let step = self.owed.step(said);
        if let (Step::On(_) | Step::Done, Backend::RowDescription(description)) = (step, &decoded)
            && self.awaits_catalog_for(core, *description)
        {
            self.target_waits = true;
            return Ok(false);
        }
        // What the end of a statement, or of several that an error takes along, writes into the recording.
        let mut room = match step {
            Step::Unexpected => return Err(out_of_place(tag)),
            Step::On(_) => None,
            // Nothing ends with the answer to Parse, Bind, Close and Describe, nor with that to Sync alone.
            Step::Done if !matches!(self.owed.front(), Some(About::Execute { .. })) => None,
            Step::Ready if matches!(self.owed.front(), Some(About::Sync)) && self.data_in.is_none() => None,
            Step::Done | Step::Ready | Step::Fails | Step::Parts => match self.room_for_ends(core, 1)? {
                None => return Ok(false),
                room => room,
            },
            Step::Skips => match self.room_for_ends(core, self.owed.skipped_count())? {
                None => return Ok(false),
                room => room,
            },
        };
        match (step, decoded, &mut room) {
            (Step::On(owes), decoded, _) => self.goes_on(core, doors, owes, decoded, raw)?,
            (Step::Done, decoded, room) => self.done(core, doors, room.as_mut(), decoded, raw)?,
            (Step::Ready, Backend::ReadyForQuery { status }, room) => {
                self.ready(core, doors, room.as_mut(), raw, status)?
            }
            (Step::Fails, Backend::ErrorResponse(fields), Some(room)) => {
                self.fails(core, doors, room, fields, raw)?
            }
            (Step::Skips, Backend::ErrorResponse(fields), Some(room)) => {
                self.skips(core, doors, room, fields, raw)?
            }
            (Step::Parts, Backend::ErrorResponse(fields), Some(room)) => {
                self.parts(core, doors, room, fields, raw)?
            }
            _ => return Err(out_of_place(tag)),
        }
        Ok(true)
    }

    /// Room for the ends of `count` statements. `None`: not yet; the target's bytes wait.
    fn room_for_ends(&mut self, core: &mut Core, count: usize) -> Result<Option<Room>, TrafficEnd> {
        let more = count.saturating_sub(1).saturating_mul(SHORT_END_BYTES_MAX);
        let bytes = core.settings.reply_record_bytes + REPLY_IN_END_BYTES_MAX + END_BYTES_MAX + more;
        match Room::ask(core, bytes, count * 2 + 2) {
            Ok(room) => Ok(Some(room)),
            Err(NoRoom::Yet { bytes } | NoRoom::Ever { bytes, .. }) => {
                self.target_waits = true;
                self.lane.target_wants_room(bytes);
                Ok(None)
            }
        }
    }

    /// What may come at any time and belongs to no entry.
    fn aside(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        decoded: Backend<'_>,
        raw: &[u8],
    ) -> Result<(), TrafficEnd> {
        if self.owed.is_parting() {
            return Err(out_of_place(raw.first().copied().unwrap_or(0)));
        }
        let own = matches!(self.owed.front(), Some(About::LookUp));
        match decoded {
            Backend::NoticeResponse(_) if own => {}
            Backend::NoticeResponse(fields) => drop(self.report(core, doors, fields, b'N', raw)?),
            Backend::NotificationResponse {
                pid,
                channel,
                payload,
            } => match scrub::scrub_text(&self.judging.caller, payload) {
                None if self.judging.caller.is_free() => self.forward(core, doors, raw, None)?,
                None => drop(write::notification(doors.client.own(), pid, channel, payload)),
                // What was cut is shorter than what came, so it can be written.
                Some(clean) => drop(write::notification(doors.client.own(), pid, channel, &clean)),
            },
            Backend::ParameterStatus { name, value } => {
                self.reported(name, value)?;
                if self.may_tell_parameter() {
                    // A name, and a value in which nothing is to be covered, or no longer: written anew.
                    let clean = scrub::scrub_text(&self.judging.caller, value);
                    let value = clean.as_deref().unwrap_or(value);
                    let _ = write::parameter_status(doors.client.own(), name, value);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The front has part of its answer.
    fn goes_on(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        owes: Owes,
        decoded: Backend<'_>,
        raw: &[u8],
    ) -> Result<(), TrafficEnd> {
        let execution = match self.owed.front() {
            Some(About::LookUp | About::OwnDescribe(_)) => {
                self.owed.advance(owes);
                return Ok(());
            }
            front => front.and_then(About::execution).map(Rc::clone),
        };
        match decoded {
            Backend::RowDescription(description) => {
                if let Some(execution) = &execution
                    && !self.judging.caller.is_free()
                {
                    self.cover_by(&mut execution.borrow_mut(), description, raw);
                }
            }
            Backend::CommandComplete { tag } => {
                if let Some(execution) = &execution {
                    let at = execution.borrow().commands_done;
                    self.command_done(execution, tag);
                    self.moved(core, execution, at, tag);
                }
            }
            Backend::FunctionCallResponse(_) => {
                if let Some(execution) = &execution {
                    self.moved(core, execution, 0, b"");
                }
            }
            Backend::CopyInResponse(_) => {
                let statement = execution
                    .as_ref()
                    .map_or(0, |execution| execution.borrow().number);
                self.begin_data_in(statement);
            }
            Backend::CopyOutResponse(response) => {
                if let Some(execution) = &execution {
                    self.copy_out_began(execution, response.columns.len())?;
                }
            }
            Backend::CopyDone => {
                if let Some(execution) = &execution {
                    self.copy_out_done(core, doors, execution)?;
                }
            }
            _ => {}
        }
        self.owed.advance(owes);
        self.forward(core, doors, raw, execution.as_ref())
    }

    /// The front has all of its answer, without ReadyForQuery. There is room where a statement ends with it.
    fn done(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        room: Option<&mut Room>,
        decoded: Backend<'_>,
        raw: &[u8],
    ) -> Result<(), TrafficEnd> {
        let Some(about) = self.owed.done(None) else {
            return Ok(());
        };
        match about {
            About::Parse | About::Bind(_) | About::Close => {
                if let About::Bind(execution) = &about {
                    execution.borrow_mut().bound = true;
                }
                self.names.commit_next();
                self.forward(core, doors, raw, None)
            }
            About::OwnDescribe(prepared) => {
                self.described(&prepared, &decoded);
                Ok(())
            }
            About::OwnDescribePortal { prepared, execution } => {
                self.described(&prepared, &decoded);
                if let Backend::RowDescription(description) = decoded {
                    self.cover_by(&mut execution.borrow_mut(), description, raw);
                }
                Ok(())
            }
            About::DescribeStatement(prepared) => {
                if let (Some(prepared), Backend::RowDescription(description)) = (&prepared, decoded)
                    && !self.judging.caller.is_free()
                {
                    prepared.described(Columns::read(description), self.judging.catalog_version());
                }
                self.forward(core, doors, raw, None)
            }
            About::DescribePortal(execution) => {
                if let (Some(execution), Backend::RowDescription(description)) = (&execution, decoded)
                    && !self.judging.caller.is_free()
                {
                    self.cover_by(&mut execution.borrow_mut(), description, raw);
                }
                self.forward(core, doors, raw, execution.as_ref())
            }
            About::Execute { execution, .. } if matches!(decoded, Backend::PortalSuspended) => {
                // It goes on with another Execute, or never: what it may have set by now is doubt until then.
                self.moved(core, &execution, 0, b"");
                execution.borrow_mut().suspended = true;
                if std::mem::take(&mut execution.borrow_mut().moves) {
                    self.judging.moves_over();
                }
                self.forward(core, doors, raw, Some(&execution))?;
                execution.borrow_mut().suspend(core, &self.meter);
                Ok(())
            }
            About::Execute {
                execution,
                operations,
            } => {
                for _ in 0..operations {
                    self.names.commit_next();
                }
                {
                    let mut execution = execution.borrow_mut();
                    if execution.changes_catalog {
                        self.judging.catalog_touched();
                    }
                    if let Backend::CommandComplete { tag } = decoded {
                        execution.set_tag(tag);
                    }
                }
                let tag = if let Backend::CommandComplete { tag } = decoded {
                    tag
                } else {
                    b""
                };
                self.names
                    .command_done(tag, tag == b"ROLLBACK" && is_rollback(&execution));
                self.moved(core, &execution, 0, tag);
                self.forward(core, doors, raw, Some(&execution))?;
                let room = room.ok_or(TrafficEnd::Unrecorded)?;
                self.end_data_in(core, room, StreamOutcome::Failed, "the target read no further")?;
                Ok(self.end_execution(core, room, &execution, StatementOutcome::Done, None)?)
            }
            About::Sync
            | About::Query(_)
            | About::Function(_)
            | About::Refused { .. }
            | About::RefusedQuery { .. }
            | About::LookUp => Err(out_of_place(raw.first().copied().unwrap_or(0))),
        }
    }

    /// Rows of a relation that is newer than the catalog are not answered before the catalog has been read again, once. What is
    /// then still not known is of this session alone: doubt covers it.
    fn awaits_catalog_for(&mut self, core: &mut Core, description: RowDescription<'_>) -> bool {
        let ours = matches!(self.owed.front(), Some(About::LookUp));
        if ours || self.judging.caller.is_free() || !self.judging.is_news(description.map(|f| f.table_oid)) {
            self.asked_for_news = false;
            return false;
        }
        let target = std::sync::Arc::clone(self.clearance.target());
        if !self.asked_for_news {
            self.asked_for_news = true;
            core.mark_catalog_stale(&target.name);
        }
        let waits = core.catalog_state(&target.name) == CatalogState::MustWait;
        if waits {
            self.want_catalog(core);
        } else {
            self.asked_for_news = false;
        }
        waits
    }

    /// The target's answer to a Describe of our own.
    fn described(&self, prepared: &Prepared, said: &Backend<'_>) {
        match said {
            Backend::RowDescription(description) => {
                prepared.described(Columns::read(*description), self.judging.catalog_version())
            }
            _ => prepared.describes_no_rows(self.judging.catalog_version()),
        }
    }

    /// The rows that follow are covered as their description says.
    fn cover_by(&self, execution: &mut Execution, description: RowDescription<'_>, raw: &[u8]) {
        // What the masks of now have against it, where it was begun under others. Without facts any more, whoever executes it
        // again asks.
        if execution.caller_number != self.judging.caller_number
            && let Some(known) = &execution.known
        {
            (execution.exposure, execution.hints) = self.judging.exposure(known);
            execution.caller_number = self.judging.caller_number;
        }
        let hints = execution.hints;
        let make = || Columns::read(description).plan(&self.judging.caller, None, hints);
        execution.cover = Cover::of_plan(match &execution.known {
            Some(known) => known.plan(self.judging.caller_number, hints, raw, make),
            None => Rc::new(make()),
        });
    }

    /// One command of a simple Query is complete.
    fn command_done(&mut self, execution: &ExecutionRef, tag: &[u8]) {
        let mut operations = 0;
        {
            let mut execution = execution.borrow_mut();
            let at = execution.commands_done;
            execution.commands_done += 1;
            execution.set_tag(tag);
            if !self.judging.caller.is_free() {
                execution.cover = Cover::Unset;
            }
            if execution.changes_catalog {
                self.judging.catalog_touched();
            }
            while execution.ops_at.first() == Some(&at) {
                execution.ops_at.remove(0);
                operations += 1;
            }
        }
        for _ in 0..operations {
            self.names.commit_next();
        }
        self.names.command_done(tag, false);
    }

    /// The target has done the statement at `at` of a run that may leave the session with other settings.
    fn moved(&mut self, core: &mut Core, execution: &ExecutionRef, at: usize, tag: &[u8]) {
        if !execution.borrow().moves {
            return;
        }
        let known = execution.borrow().known.clone();
        match known.as_ref().map(|k| &k.facts) {
            Some(Ok(facts)) => {
                // A joined text has what its names stand for behind each statement: all of it is done with that statement.
                let all = facts.statements.len() == 1 || execution.borrow().joined;
                let done = facts
                    .statements
                    .iter()
                    .enumerate()
                    .filter(|(n, _)| all || *n == at);
                for (_, statement) in done {
                    self.judging.done_statement(core, &self.clearance, statement, tag);
                }
            }
            _ => self.judging.done_unknown(core, &self.clearance),
        }
    }

    fn copy_out_began(&mut self, execution: &ExecutionRef, columns: usize) -> Result<(), TrafficEnd> {
        if self.judging.caller.is_free() {
            return Ok(());
        }
        let mut execution = execution.borrow_mut();
        let found = match execution.known.as_ref().map(|k| &k.facts) {
            Some(Ok(facts)) => {
                let copies = facts.statements.iter().filter_map(copy_of);
                // Of several in one text, the one whose turn it is.
                let mut turn: Vec<(&Copy, &Statement)> = copies.filter(|(copy, _)| copy.out).collect();
                if turn.len() > 1 {
                    let at = execution.commands_done;
                    turn = facts.statements.get(at).and_then(copy_of).into_iter().collect();
                }
                turn.first()
                    .map(|(copy, statement)| ((*copy).clone(), (*statement).clone()))
            }
            _ => None,
        };
        let Some((copy, statement)) = found else {
            return Err(TrafficEnd::TargetMisbehaved(
                "COPY data that no statement announced".to_owned(),
            ));
        };
        let plan = Plan::for_copy(&self.judging.caller, &copy, Some(&statement), columns);
        execution.cover = match headgate_mask::PassRows::of_plan(&plan) {
            Some(pass) => Cover::Pass(pass),
            None => Cover::Copy(Box::new(CopyMasker::new(plan, &copy).map_err(masking)?)),
        };
        Ok(())
    }

    fn copy_out_done(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        execution: &ExecutionRef,
    ) -> Result<(), TrafficEnd> {
        let mut execution = execution.borrow_mut();
        if let Cover::Copy(masker) = &mut execution.cover {
            let mut tail = core.buffer();
            let stats = masker.finish(&mut tail).map_err(masking)?;
            if !tail.is_empty() {
                write::copy_data(doors.client.own(), &tail).map_err(masking)?;
            }
            core.recycle(tail);
            execution.rows += stats.rows;
            execution.masked += stats.masked;
            execution.cover = Cover::Unset;
        }
        Ok(())
    }

    /// There is room where anything ends with it.
    fn ready(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        room: Option<&mut Room>,
        raw: &[u8],
        status: TransactionStatus,
    ) -> Result<(), TrafficEnd> {
        let Some(front) = self.owed.done(Some(status)) else {
            return Ok(());
        };
        self.names.end_segment(self.owed.segments_done());
        let segment_failed = std::mem::take(&mut self.segment_failed);
        if self.lane.waiting == Waiting::Target {
            self.lane.waiting = Waiting::No;
        }
        match &front {
            About::Query(execution) if self.names.has_unnamed() => {
                let is_empty = match execution.borrow().known.as_ref().map(|known| &known.facts) {
                    Some(Ok(facts)) => facts.statements.is_empty(),
                    _ => false,
                };
                self.names.query_done(!is_empty);
            }
            // One that cannot be read, which begins nothing.
            About::RefusedQuery { .. } => self.names.query_done(false),
            About::LookUp => self.names.query_done(true),
            _ => {}
        }
        if matches!(front, About::LookUp) {
            self.looked_up(core);
            return Ok(());
        }
        if status == TransactionStatus::Idle {
            let failed = front
                .execution()
                .is_some_and(|execution| execution.borrow().error.is_some())
                || segment_failed;
            self.names.transaction_ended(failed);
            self.transaction_touches = self
                .owed
                .executions()
                .any(|execution| execution.borrow().exposure.touches);
            if self
                .judging
                .transaction_ended(core, &self.clearance, self.owed.is_empty(), failed)
            {
                core.effects.push(Effect::CatalogChanged {
                    target: self.clearance.target().name.clone(),
                });
            }
        }
        let Some(room) = room else {
            return match front {
                About::Sync => self.forward(core, doors, raw, None),
                _ => Err(TrafficEnd::Unrecorded),
            };
        };
        self.end_data_in(core, room, StreamOutcome::Failed, "the target read no further")?;
        match front {
            About::Query(execution) | About::Function(execution) => {
                self.forward(core, doors, raw, Some(&execution))?;
                let error = execution.borrow_mut().error.take();
                let outcome = error.as_ref().map_or(StatementOutcome::Done, outcome_of);
                self.end_execution(core, room, &execution, outcome, error.as_ref())?;
            }
            About::RefusedQuery { denial, execution } => {
                self.forward(core, doors, raw, None)?;
                if let Some(execution) = execution {
                    self.end_refused(core, room, &execution, &denial)?;
                }
            }
            _ => self.forward(core, doors, raw, None)?,
        }
        Ok(())
    }

    fn end_refused(
        &mut self,
        core: &mut Core,
        room: &mut Room,
        execution: &ExecutionRef,
        denial: &Denial,
    ) -> Result<(), TrafficEnd> {
        let error = recorded_error(denial);
        let outcome = if error.code == "57014" {
            StatementOutcome::Cancelled
        } else {
            StatementOutcome::NotRun
        };
        Ok(self.end_execution(core, room, execution, outcome, Some(&error))?)
    }

    /// An error that ReadyForQuery follows.
    fn fails(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        room: &mut Room,
        fields: ReportFields<'_>,
        raw: &[u8],
    ) -> Result<(), TrafficEnd> {
        let failed = self.copy_broke(core, room)?;
        let execution = match self.owed.front() {
            Some(About::LookUp) => {
                let why = String::from_utf8_lossy(fields.message().unwrap_or(b"")).into_owned();
                self.look_up_failed(cut(&why));
                self.owed.advance(Owes::Ready);
                return Ok(());
            }
            Some(About::RefusedQuery { denial, .. }) => {
                denial.write_error(doors.client.own());
                self.owed.advance(Owes::Ready);
                return Ok(());
            }
            front => front.and_then(About::execution).map(Rc::clone),
        };
        let start = doors.client.mark();
        let error = self.report(core, doors, fields, b'E', raw)?;
        if let Some(execution) = &execution {
            let execution = execution.borrow();
            if execution.ops_at.first() == Some(&execution.commands_done) {
                // Alone in a transaction block it has no commit that could have failed: it did nothing.
                let alone = execution
                    .known
                    .as_ref()
                    .is_some_and(|known| known.facts.as_ref().is_ok_and(|f| f.statements.len() == 1));
                if alone && self.status() != TransactionStatus::Idle {
                    self.names.fails_next();
                } else {
                    self.names.perhaps_next(&self.meter);
                }
            }
        }
        if let Some(execution) = execution {
            let mut execution = execution.borrow_mut();
            execution.keep(core, doors.client.since(start));
            execution.error = Some(error);
        }
        self.owed.advance(Owes::Ready);
        self.send_withheld(doors, failed);
        Ok(())
    }

    /// An error in extended use: the target skips to Sync, and so does what it owes.
    fn skips(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        room: &mut Room,
        fields: ReportFields<'_>,
        raw: &[u8],
    ) -> Result<(), TrafficEnd> {
        let failed = self.copy_broke(core, room)?;
        let (error, outcome) = match self.owed.front() {
            Some(About::Refused { denial, .. }) => {
                denial.write_error(doors.client.own());
                (recorded_error(denial), StatementOutcome::NotRun)
            }
            _ => {
                let error = self.report(core, doors, fields, b'E', raw)?;
                let outcome = outcome_of(&error);
                (error, outcome)
            }
        };
        let skipped = RecordedError {
            code: error.code.clone(),
            message: "skipped after an error before it".to_owned(),
        };
        let mut first = true;
        while let Some(about) = self.owed.skip() {
            if let Some(execution) = about.execution() {
                let execution = Rc::clone(execution);
                if self.outlives_skip(&execution, &about, first) {
                    first = false;
                    continue;
                }
                if !first {
                    // Room was asked for one reply.
                    execution.borrow_mut().forget_reply(core);
                }
                let (outcome, error) = match (first, &about) {
                    (true, _) => (outcome, error.clone()),
                    (false, About::Refused { denial, .. } | About::RefusedQuery { denial, .. }) => (
                        StatementOutcome::NotRun,
                        RecordedError {
                            code: denial.code.to_owned(),
                            message: "refused, and skipped after an error before it".to_owned(),
                        },
                    ),
                    (false, _) => (StatementOutcome::NotRun, skipped.clone()),
                };
                self.end_execution(core, room, &execution, outcome, Some(&error))?;
            }
            first = false;
        }
        self.segment_failed = true;
        if self.owed.is_skipping() {
            self.clearance
                .withdraw(core, &mut self.lane, headgate_plane::Withdrawal::Skipped);
        }
        self.names.skipped(self.owed.segments_done() + 1);
        if self.lane.waiting == Waiting::Target {
            self.lane.waiting = Waiting::No;
        }
        self.send_withheld(doors, failed);
        Ok(())
    }

    /// A portal that was bound before the target skipped a message about it: it may still be there, and what becomes of its
    /// statement is told when it runs or when it is gone.
    fn outlives_skip(&mut self, execution: &ExecutionRef, about: &About, failed_itself: bool) -> bool {
        let mut execution = execution.borrow_mut();
        let outlives = match about {
            About::Execute { .. } => !failed_itself,
            About::DescribePortal(_) => true,
            _ => false,
        };
        if !outlives || !execution.bound || execution.portal_gone {
            return false;
        }
        if matches!(about, About::Execute { .. }) {
            execution.executed = execution.suspended;
            if std::mem::take(&mut execution.moves) {
                self.judging.moves_over();
            }
        }
        true
    }

    /// COPY data are read no further, if they were.
    fn copy_broke(&mut self, core: &mut Core, room: &mut Room) -> Result<u32, TrafficEnd> {
        let failed = self.owed.copy_failed();
        self.end_data_in(
            core,
            room,
            StreamOutcome::Failed,
            "the target failed while it read them",
        )?;
        match failed {
            CopyFailed::Send(syncs) => Ok(syncs),
            CopyFailed::Unclear => Err(TrafficEnd::CopyBroken(
                Denial::new("08P01", "Headgate ended the session: COPY failed, and a Sync stood amid its data")
                    .detail("Whether the target answers that Sync cannot be told, so what it answers from here on could not be, either.")
                    .hint("Send Sync behind CopyDone or CopyFail only."),
            )),
        }
    }

    /// Syncs that a failed COPY has not read after all.
    fn send_withheld(&mut self, doors: &mut Doors<'_>, syncs: u32) {
        for _ in 0..syncs {
            write::sync(doors.target.own());
            self.owed.sent(About::Sync);
        }
    }

    /// The target ends the session by itself: its words are handed on, and nothing more is sent or shown.
    fn parts(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        room: &mut Room,
        fields: ReportFields<'_>,
        raw: &[u8],
    ) -> Result<(), TrafficEnd> {
        self.end_data_in(core, room, StreamOutcome::Cut, "")?;
        let execution = self.owed.front_execution().map(Rc::clone);
        let error = self.report(core, doors, fields, b'E', raw)?;
        if let Some(execution) = execution {
            // Whether it was committed before the target ended the session cannot be told from here.
            self.end_execution(core, room, &execution, StatementOutcome::Cut, Some(&error))?;
        }
        self.owed.part();
        Ok(())
    }

    /// An error or notice, scrubbed for a caller who may not read everything. Returns it as the client got it.
    fn report(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        fields: ReportFields<'_>,
        tag: u8,
        raw: &[u8],
    ) -> Result<RecordedError, TrafficEnd> {
        let text = |value: Option<&[u8]>| cut(&String::from_utf8_lossy(value.unwrap_or(b"")));
        if self.judging.caller.is_free() {
            self.forward(core, doors, raw, None)?;
            return Ok(RecordedError {
                code: text(fields.sqlstate()),
                message: text(fields.message()),
            });
        }
        // Deferred constraints and triggers speak at COMMIT or Sync, of what earlier statements of the transaction touched.
        let touches = self.transaction_touches
            || self
                .owed
                .front_execution()
                .is_some_and(|execution| execution.borrow().exposure.touches);
        let mut clean = Vec::new();
        scrub::scrub_report(&self.judging.caller, touches, fields, &mut clean);
        let out = doors.client.own();
        let start = out.len();
        let written = write::message(out, tag, |out| {
            for (code, value) in &clean {
                out.push(*code);
                headgate_wire::write::put_cstr(out, value)?;
            }
            out.push(0);
            Ok(())
        });
        if written.is_err() {
            // A zero in a scrubbed text: the words go, the message stays.
            out.truncate(start);
            let report =
                headgate_postgres::Report::new("ERROR", "XX000", "the target's message was withheld");
            if tag == b'E' {
                report.write_error(out)
            } else {
                report.write_notice(out)
            }
        }
        let field = |code: u8| text(clean.iter().find(|(c, _)| *c == code).map(|(_, v)| v.as_slice()));
        Ok(RecordedError {
            code: field(b'C'),
            message: field(b'M'),
        })
    }

    /// ParameterStatus repeats what a statement set: a channel, when that statement can read what is covered.
    fn may_tell_parameter(&self) -> bool {
        if self.judging.caller.is_free() {
            return true;
        }
        match self.owed.front_execution() {
            None => true,
            Some(execution) => {
                let exposure = execution.borrow().exposure;
                !exposure.touches && !exposure.may_compute
            }
        }
    }
}

/// ROLLBACK of all, not to a savepoint.
fn is_rollback(execution: &ExecutionRef) -> bool {
    match execution.borrow().known.as_ref().map(|known| &known.facts) {
        Some(Ok(facts)) => matches!(
            facts.statements.as_slice(),
            [Statement {
                action: Action::Rollback,
                ..
            }]
        ),
        _ => false,
    }
}

fn copy_of(statement: &Statement) -> Option<(&Copy, &Statement)> {
    match &statement.action {
        Action::Copy(copy) => Some((copy, statement)),
        _ => None,
    }
}

/// Length of all whole messages of `tag` at the front.
fn whole_messages(bytes: &[u8], tag: u8, max: usize) -> Result<usize, TrafficEnd> {
    let mut end = 0;
    while let Some(next) = bytes.get(end..).filter(|next| next.first() == Some(&tag)) {
        let Some(header) = frame::peek(next, max).map_err(misbehaved)? else {
            break;
        };
        if header.len > next.len() {
            break;
        }
        end += header.len;
    }
    Ok(end)
}

fn misbehaved(error: PeerMisbehaved) -> TrafficEnd {
    TrafficEnd::TargetMisbehaved(error.to_string())
}

fn masking<E: std::fmt::Display>(error: E) -> TrafficEnd {
    TrafficEnd::TargetMisbehaved(error.to_string())
}

fn out_of_place(tag: u8) -> TrafficEnd {
    let name = backend::name(tag).unwrap_or("an unknown message");
    TrafficEnd::TargetMisbehaved(format!("{name} where nothing of the kind is owed"))
}
