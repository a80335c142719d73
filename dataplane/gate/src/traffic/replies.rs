//! The target's messages, in order, against what it owes.

use super::expect::Expect;
use super::intake::{Outs, recorded_error};
use super::plan::Columns;
use super::run::{Cover, Run, RunRef};
use super::{Traffic, TrafficEnd, Waiting};
use crate::core::{Core, Effect};
use crate::permit::{ClientDoor, Masked};
use crate::record;
use headgate_mask::{CopyMasker, Plan, scrub};
use headgate_postgres::backend::{Backend, ReportFields, RowDescription, TransactionStatus};
use headgate_postgres::{PeerMisbehaved, backend, frame, write};
use headgate_recording::{RecordedError, StatementOutcome};
use headgate_sql::{Action, Copy, Statement};
use std::rc::Rc;

impl Traffic {
    /// Handles what can be handled at the front of the target's `data`; returns how many bytes are done with. Stops where
    /// there is no room to record: then `target_waits` is true.
    pub fn from_target(&mut self, core: &mut Core, outs: &mut Outs<'_>, data: &[u8]) -> Result<usize, TrafficEnd> {
        let mut used = 0;
        self.target_waits = false;
        loop {
            let rest = data.get(used..).unwrap_or(&[]);
            if rest.is_empty() {
                break;
            }
            if self.pass_target > 0 {
                used += self.pass_piece(core, outs, rest);
                continue;
            }
            if !record::has_room(core, 0) {
                self.target_waits = true;
                core.metrics.spool_waits += 1;
                break;
            }
            let tag = rest.first().copied().unwrap_or(0);
            if tag == b'D' || tag == b'd' {
                match self.rows(core, outs, rest, tag)? {
                    0 => break,
                    n => used += n,
                }
                continue;
            }
            let max = core.settings.target_message_bytes_max;
            let Some(header) = frame::peek(rest, max).map_err(misbehaved)? else { break };
            let Some(raw) = rest.get(..header.len) else { break };
            let decoded = Backend::decode(header.tag, header.body(rest).unwrap_or(&[])).map_err(misbehaved)?;
            self.reply(core, outs, decoded, raw)?;
            used += header.len;
        }
        if used > 0 && self.waiting == Waiting::Target {
            // Something was answered: what waits for that is tried again (a full queue has room now, without any Sync).
            self.waiting = Waiting::No;
        }
        Ok(used)
    }

    /// Part of a message that passes unmasked and in pieces.
    fn pass_piece(&mut self, core: &mut Core, outs: &mut Outs<'_>, rest: &[u8]) -> usize {
        let n = self.pass_target.min(rest.len());
        let piece = rest.get(..n).unwrap_or(rest);
        ClientDoor::new(outs.client).send(&Masked::by_plan(piece));
        if let Some(run) = self.expect.front().and_then(Expect::run) {
            run.borrow_mut().keep(core, piece);
        }
        self.pass_target -= n;
        if self.pass_target == 0 && !self.late.is_empty() {
            outs.client.append(&mut self.late);
        }
        n
    }

    /// Rows (`D`) or COPY data (`d`) at the front of `rest`: as many as are there. 0: more bytes are needed.
    fn rows(&mut self, core: &mut Core, outs: &mut Outs<'_>, rest: &[u8], tag: u8) -> Result<usize, TrafficEnd> {
        self.skip_marks();
        if matches!(self.expect.front(), Some(Expect::Catalog)) {
            return self.catalog_rows(core, rest);
        }
        let run = match self.expect.front() {
            Some(Expect::Execute { run, .. } | Expect::Simple(run)) => run,
            _ => return Err(out_of_place(tag)),
        };
        let mut borrowed = run.borrow_mut();
        let run = &mut *borrowed;
        if matches!(run.cover, Cover::Unset) && tag == b'D' {
            let prepared = run.prepared.as_ref();
            run.cover = match prepared.and_then(|p| p.plan(&self.caller, self.caller_number, &run.formats, run.hints)) {
                Some(plan) => covering(plan),
                // Rows that nothing described: what they hold is not known, and nothing of them may pass.
                None => return Err(TrafficEnd::TargetMisbehaved("rows came without a description".to_owned())),
            };
        }
        match &mut run.cover {
            Cover::Pass => {
                let mut end = 0;
                let mut count = 0;
                while let Some(next) = rest.get(end..).filter(|next| next.first() == Some(&tag)) {
                    let Some(header) = frame::peek(next, 1 << 30).map_err(misbehaved)? else { break };
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
                    run.rows += count;
                }
                let whole = rest.get(..end).unwrap_or(rest);
                ClientDoor::new(outs.client).send(&Masked::by_plan(whole));
                run.keep(core, whole);
                self.pass_target = end - whole.len();
                Ok(whole.len())
            }
            Cover::Rows(plan) if tag == b'D' => {
                let end = whole_messages(rest, tag, core.settings.target_message_bytes_max)?;
                let Some(whole) = rest.get(..end).filter(|w| !w.is_empty()) else { return Ok(0) };
                let start = outs.client.len();
                let stats =
                    plan.mask_run(&mut core.scratch, whole, outs.client).map_err(|e| TrafficEnd::TargetMisbehaved(e.to_string()))?;
                run.rows += stats.rows;
                run.masked += stats.masked;
                run.keep(core, outs.client.get(start..).unwrap_or(&[]));
                Ok(end)
            }
            Cover::Copy(masker) if tag == b'd' => {
                let max = core.settings.target_message_bytes_max;
                let Some((header, payload)) = frame::split(rest, max).map_err(misbehaved)? else { return Ok(0) };
                let mut masked = core.buffer();
                masker.data(payload, &mut masked).map_err(|e| TrafficEnd::TargetMisbehaved(e.to_string()))?;
                let start = outs.client.len();
                if !masked.is_empty() {
                    write::copy_data(outs.client, &masked).map_err(|e| TrafficEnd::TargetMisbehaved(e.to_string()))?;
                }
                run.keep(core, outs.client.get(start..).unwrap_or(&[]));
                core.recycle(masked);
                Ok(header.len)
            }
            Cover::Unset | Cover::Rows(_) | Cover::Copy(_) => Err(out_of_place(tag)),
        }
    }

    fn catalog_rows(&mut self, core: &Core, rest: &[u8]) -> Result<usize, TrafficEnd> {
        let max = core.settings.target_message_bytes_max;
        let Some((header, body)) = frame::split(rest, max).map_err(misbehaved)? else { return Ok(0) };
        if let Backend::DataRow(values) = Backend::decode(header.tag, body).map_err(misbehaved)? {
            let fields: Vec<Option<&[u8]>> = values.collect();
            if let Some(builder) = &mut self.catalog_loading
                && let Err(error) = builder.row(&fields)
            {
                tracing::warn!(%error, "catalog: cannot be used");
                self.catalog_loading = None;
                self.catalog_broken = true;
            }
        }
        Ok(header.len)
    }

    fn skip_marks(&mut self) {
        while matches!(self.expect.front(), Some(Expect::CopyEnd)) {
            self.expect.pop_front();
        }
    }

    fn forward(&mut self, core: &mut Core, outs: &mut Outs<'_>, raw: &[u8], run: Option<&RunRef>) {
        let masked = Masked::carries_no_values(raw);
        ClientDoor::new(outs.client).send(&masked);
        if let Some(run) = run {
            run.borrow_mut().keep(core, raw);
        }
    }

    fn reply(&mut self, core: &mut Core, outs: &mut Outs<'_>, decoded: Backend<'_>, raw: &[u8]) -> Result<(), TrafficEnd> {
        let tag = raw.first().copied().unwrap_or(0);
        // These come at any time and belong to no entry.
        match decoded {
            Backend::NoticeResponse(fields) => {
                if !matches!(self.expect.front(), Some(Expect::Catalog)) {
                    self.report(core, outs, fields, b'N', raw);
                }
                return Ok(());
            }
            Backend::NotificationResponse { pid, channel, payload } => {
                match scrub::scrub_text(&self.caller, payload) {
                    None => self.forward(core, outs, raw, None),
                    // What was cut is shorter than what came, so it can be written.
                    Some(clean) => drop(write::notification(outs.client, pid, channel, &clean)),
                }
                return Ok(());
            }
            Backend::ParameterStatus { .. } => {
                if self.may_tell_parameter() {
                    self.forward(core, outs, raw, None);
                }
                return Ok(());
            }
            Backend::ErrorResponse(fields) => return self.error(core, outs, fields, raw),
            _ => {}
        }
        self.skip_marks();
        if matches!(self.expect.front(), Some(Expect::Catalog)) {
            if let Backend::ReadyForQuery { status } = decoded {
                self.expect.pop_front();
                self.segments_done += 1;
                self.status = status;
                let builder = self.catalog_loading.take().map(|b| *b);
                self.catalog_broken = false;
                self.catalog_loaded(core, builder);
                self.greet(outs.client);
            }
            return Ok(());
        }
        match (&decoded, self.expect.front()) {
            (Backend::ParseComplete, Some(Expect::Parse)) => {
                self.expect.pop_front();
                self.names.commit_next();
                self.forward(core, outs, raw, None);
            }
            (Backend::BindComplete, Some(Expect::Bind(_))) => {
                self.expect.pop_front();
                self.names.commit_next();
                self.forward(core, outs, raw, None);
            }
            (Backend::CloseComplete, Some(Expect::Close)) => {
                self.expect.pop_front();
                self.names.commit_next();
                self.forward(core, outs, raw, None);
            }
            (Backend::ParameterDescription(_), Some(Expect::OwnDescribe(_))) => {}
            (Backend::RowDescription(description), Some(Expect::OwnDescribe(prepared))) => {
                prepared.described(Columns::read(*description), self.catalog_version);
                self.expect.pop_front();
            }
            (Backend::NoData, Some(Expect::OwnDescribe(_))) => {
                self.expect.pop_front();
            }
            (Backend::ParameterDescription(_), Some(Expect::DescribeStatement(_))) => self.forward(core, outs, raw, None),
            (Backend::RowDescription(description), Some(Expect::DescribeStatement(prepared))) => {
                if let Some(prepared) = prepared
                    && !self.caller.is_free()
                {
                    prepared.described(Columns::read(*description), self.catalog_version);
                }
                self.expect.pop_front();
                self.forward(core, outs, raw, None);
            }
            (Backend::RowDescription(description), Some(Expect::DescribePortal(run))) => {
                let run = run.clone();
                if let Some(run) = &run
                    && !self.caller.is_free()
                {
                    self.cover_by(&mut run.borrow_mut(), *description, raw);
                }
                self.expect.pop_front();
                self.forward(core, outs, raw, run.as_ref());
            }
            (Backend::NoData, Some(Expect::DescribeStatement(_) | Expect::DescribePortal(_))) => {
                self.expect.pop_front();
                self.forward(core, outs, raw, None);
            }
            (Backend::RowDescription(description), Some(Expect::Simple(run))) => {
                let run = Rc::clone(run);
                if !self.caller.is_free() {
                    self.cover_by(&mut run.borrow_mut(), *description, raw);
                }
                self.forward(core, outs, raw, Some(&run));
            }
            (Backend::CommandComplete { tag }, Some(Expect::Execute { .. })) => {
                self.execute_done(core, outs, raw, tag);
            }
            (Backend::EmptyQueryResponse, Some(Expect::Execute { .. })) => self.execute_done(core, outs, raw, b""),
            (Backend::PortalSuspended, Some(Expect::Execute { run, .. })) => {
                let run = Rc::clone(run);
                self.expect.pop_front();
                self.forward(core, outs, raw, Some(&run));
            }
            (Backend::CommandComplete { tag }, Some(Expect::Simple(run))) => {
                let run = Rc::clone(run);
                self.command_done(&run, tag);
                self.forward(core, outs, raw, Some(&run));
            }
            (Backend::EmptyQueryResponse, Some(Expect::Simple(run))) => {
                let run = Rc::clone(run);
                self.forward(core, outs, raw, Some(&run));
            }
            (Backend::CopyInResponse(_), Some(Expect::Simple(run) | Expect::Execute { run, .. })) => {
                let run = Rc::clone(run);
                self.copy_in_began();
                self.forward(core, outs, raw, Some(&run));
            }
            (Backend::CopyOutResponse(response), Some(Expect::Simple(run) | Expect::Execute { run, .. })) => {
                let run = Rc::clone(run);
                self.copy_out_began(&run, response.columns.len())?;
                self.forward(core, outs, raw, Some(&run));
            }
            (Backend::CopyDone, Some(Expect::Simple(run) | Expect::Execute { run, .. })) => {
                let run = Rc::clone(run);
                self.copy_out_done(core, outs, &run)?;
                self.forward(core, outs, raw, Some(&run));
            }
            (Backend::FunctionCallResponse(_), Some(Expect::Function(run))) => {
                let run = Rc::clone(run);
                self.forward(core, outs, raw, Some(&run));
            }
            (Backend::ReadyForQuery { status }, Some(front)) if front.ends_segment() => {
                self.ready(core, outs, raw, *status);
            }
            _ => return Err(out_of_place(tag)),
        }
        Ok(())
    }

    /// The rows that follow are covered as their description says.
    fn cover_by(&self, run: &mut Run, description: RowDescription<'_>, raw: &[u8]) {
        let hints = run.hints;
        let make = || Columns::read(description).plan(&self.caller, None, hints);
        run.cover = covering(match &run.known {
            Some(known) => known.plan(self.caller_number, hints, raw, make),
            None => Rc::new(make()),
        });
    }

    fn execute_done(&mut self, core: &mut Core, outs: &mut Outs<'_>, raw: &[u8], tag: &[u8]) {
        let Some(Expect::Execute { run, ops, .. }) = self.expect.pop_front() else { return };
        for _ in 0..ops {
            self.names.commit_next();
        }
        {
            let mut run = run.borrow_mut();
            self.catalog_touched |= run.changes_catalog;
            run.set_tag(tag);
        }
        self.forward(core, outs, raw, Some(&run));
        self.end_run(core, &run, StatementOutcome::Done, None);
    }

    /// One command of a simple Query is complete.
    fn command_done(&mut self, run: &RunRef, tag: &[u8]) {
        let mut run = run.borrow_mut();
        let at = run.commands_done;
        run.commands_done += 1;
        run.set_tag(tag);
        if !self.caller.is_free() {
            run.cover = Cover::Unset;
        }
        self.catalog_touched |= run.changes_catalog;
        while run.ops_at.first() == Some(&at) {
            run.ops_at.remove(0);
            self.names.commit_next();
        }
    }

    /// The target reads COPY data now: Sync and Flush that it finds before the end of the data owe nothing.
    fn copy_in_began(&mut self) {
        let end = self.expect.iter().position(|e| matches!(e, Expect::CopyEnd));
        self.copy_in = end.is_none();
        let end = end.unwrap_or(self.expect.len());
        let mut at = 0;
        let mut removed = 0;
        self.expect.retain(|e| {
            let drop = at > 0 && at < end && matches!(e, Expect::Sync);
            at += 1;
            removed += u64::from(drop);
            !drop
        });
        // Their segments never were.
        self.segments_done += removed;
    }

    fn copy_out_began(&mut self, run: &RunRef, columns: usize) -> Result<(), TrafficEnd> {
        if self.caller.is_free() {
            return Ok(());
        }
        let mut run = run.borrow_mut();
        let found = match run.known.as_ref().map(|k| &k.facts) {
            Some(Ok(facts)) => {
                let copies = facts.statements.iter().filter_map(copy_of);
                // Of several in one text, the one whose turn it is.
                let mut turn: Vec<(&Copy, &Statement)> = copies.filter(|(copy, _)| copy.out).collect();
                if turn.len() > 1 {
                    let at = run.commands_done;
                    turn = facts.statements.get(at).and_then(copy_of).into_iter().collect();
                }
                turn.first().map(|(copy, statement)| ((*copy).clone(), (*statement).clone()))
            }
            _ => None,
        };
        let Some((copy, statement)) = found else {
            return Err(TrafficEnd::TargetMisbehaved("COPY data that no statement announced".to_owned()));
        };
        let plan = Plan::for_copy(&self.caller, &copy, Some(&statement), columns);
        run.cover = if plan.is_pass() {
            Cover::Pass
        } else {
            let masker = CopyMasker::new(plan, &copy).map_err(|e| TrafficEnd::TargetMisbehaved(e.to_string()))?;
            Cover::Copy(Box::new(masker))
        };
        Ok(())
    }

    fn copy_out_done(&mut self, core: &mut Core, outs: &mut Outs<'_>, run: &RunRef) -> Result<(), TrafficEnd> {
        let mut run = run.borrow_mut();
        if let Cover::Copy(masker) = &mut run.cover {
            let mut tail = core.buffer();
            let stats = masker.finish(&mut tail).map_err(|e| TrafficEnd::TargetMisbehaved(e.to_string()))?;
            if !tail.is_empty() {
                write::copy_data(outs.client, &tail).map_err(|e| TrafficEnd::TargetMisbehaved(e.to_string()))?;
            }
            core.recycle(tail);
            run.rows += stats.rows;
            run.masked += stats.masked;
            run.cover = Cover::Unset;
        }
        Ok(())
    }

    fn ready(&mut self, core: &mut Core, outs: &mut Outs<'_>, raw: &[u8], status: TransactionStatus) {
        let front = self.expect.pop_front();
        self.segments_done += 1;
        self.status = status;
        self.names.end_segment(self.segments_done);
        if status == TransactionStatus::Idle {
            self.names.transaction_ended();
            self.own_ddl &= !self.expect.is_empty();
            self.transaction_touches = self.expect.iter().filter_map(Expect::run).any(|run| run.borrow().exposure.touches);
            if std::mem::take(&mut self.catalog_touched) {
                core.mark_catalog_stale(&self.target.name);
                core.effects.push(Effect::CatalogChanged { target: self.target.name.clone() });
            }
        }
        match front {
            Some(Expect::Simple(run) | Expect::Function(run)) => {
                self.forward(core, outs, raw, Some(&run));
                let error = run.borrow_mut().error.take();
                let outcome = error.as_ref().map_or(StatementOutcome::Done, failed);
                self.end_run(core, &run, outcome, error.as_ref());
            }
            Some(Expect::RefusedSimple { denial, run }) => {
                self.forward(core, outs, raw, None);
                if let Some(run) = run {
                    self.end_run(core, &run, StatementOutcome::NotRun, Some(&recorded_error(&denial)));
                }
            }
            _ => self.forward(core, outs, raw, None),
        }
        if self.waiting == Waiting::Target {
            self.waiting = Waiting::No;
        }
    }

    fn error(&mut self, core: &mut Core, outs: &mut Outs<'_>, fields: ReportFields<'_>, raw: &[u8]) -> Result<(), TrafficEnd> {
        self.skip_marks();
        match self.expect.front() {
            None => {
                self.report(core, outs, fields, b'E', raw);
            }
            Some(Expect::Catalog) => {
                tracing::warn!(message = %String::from_utf8_lossy(fields.message().unwrap_or(b"")), "catalog: the target refused the query");
                self.catalog_loading = None;
                self.catalog_broken = true;
            }
            Some(Expect::RefusedSimple { denial, .. }) => denial.write_error(outs.client),
            Some(Expect::Simple(run) | Expect::Function(run)) => {
                let run = Rc::clone(run);
                self.copy_in = false;
                let start = outs.client.len();
                let error = self.report(core, outs, fields, b'E', raw);
                let mut run = run.borrow_mut();
                run.keep(core, outs.client.get(start..).unwrap_or(&[]));
                run.error = Some(error);
            }
            Some(_) => self.extended_error(core, outs, fields, raw),
        }
        Ok(())
    }

    /// An error in extended use: the target skips to Sync, and so does what it owes.
    fn extended_error(&mut self, core: &mut Core, outs: &mut Outs<'_>, fields: ReportFields<'_>, raw: &[u8]) {
        self.copy_in = false;
        let refused = matches!(self.expect.front(), Some(Expect::Refused { .. }));
        let error = match self.expect.front() {
            Some(Expect::Refused { denial, .. }) => {
                denial.write_error(outs.client);
                recorded_error(denial)
            }
            Some(Expect::Sync) => {
                // A failed commit at Sync: ReadyForQuery follows, nothing is skipped.
                self.report(core, outs, fields, b'E', raw);
                return;
            }
            _ => self.report(core, outs, fields, b'E', raw),
        };
        let mut first = true;
        let mut synced = false;
        while let Some(front) = self.expect.front() {
            if matches!(front, Expect::Sync) {
                synced = true;
                break;
            }
            let Some(entry) = self.expect.pop_front() else { break };
            if entry.ends_segment() {
                self.segments_done += 1;
            }
            if let Some(run) = entry.run() {
                let run = Rc::clone(run);
                let error = if first {
                    error.clone()
                } else {
                    RecordedError { code: error.code.clone(), message: "skipped after an error before it".to_owned() }
                };
                let outcome = if first && !refused { failed(&error) } else { StatementOutcome::NotRun };
                self.end_run(core, &run, outcome, Some(&error));
            }
            first = false;
        }
        if !synced {
            self.skipping = true;
        }
        self.names.skipped(self.segments_done + 1);
        if self.waiting == Waiting::Target {
            self.waiting = Waiting::No;
        }
    }

    /// An error or notice, scrubbed for a caller who may not read everything. Returns it as the client got it.
    fn report(&mut self, core: &mut Core, outs: &mut Outs<'_>, fields: ReportFields<'_>, tag: u8, raw: &[u8]) -> RecordedError {
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or(b"")).into_owned();
        if self.caller.is_free() {
            self.forward(core, outs, raw, None);
            return RecordedError { code: text(fields.sqlstate()), message: text(fields.message()) };
        }
        // Deferred constraints and triggers speak at COMMIT or Sync, of what earlier statements of the transaction touched.
        let touches =
            self.transaction_touches || self.expect.front().and_then(Expect::run).is_some_and(|run| run.borrow().exposure.touches);
        let mut clean = Vec::new();
        scrub::scrub_report(&self.caller, touches, fields, &mut clean);
        let start = outs.client.len();
        let written = write::message(outs.client, tag, |out| {
            for (code, value) in &clean {
                out.push(*code);
                headgate_wire::write::put_cstr(out, value)?;
            }
            out.push(0);
            Ok(())
        });
        if written.is_err() {
            // A zero in a scrubbed text: the words go, the message stays.
            outs.client.truncate(start);
            let report = headgate_postgres::Report::new("ERROR", "XX000", "the target's message was withheld");
            if tag == b'E' { report.write_error(outs.client) } else { report.write_notice(outs.client) }
        }
        let field = |code: u8| text(clean.iter().find(|(c, _)| *c == code).map(|(_, v)| v.as_slice()));
        RecordedError { code: field(b'C'), message: field(b'M') }
    }

    /// ParameterStatus repeats what a statement set: a channel, when that statement can read what is covered.
    fn may_tell_parameter(&self) -> bool {
        if self.caller.is_free() {
            return true;
        }
        match self.expect.front().and_then(Expect::run) {
            None => true,
            Some(run) => {
                let exposure = run.borrow().exposure;
                !exposure.touches && !exposure.may_compute
            }
        }
    }
}

fn copy_of(statement: &Statement) -> Option<(&Copy, &Statement)> {
    match &statement.action {
        Action::Copy(copy) => Some((copy, statement)),
        _ => None,
    }
}

/// What an error of the target says of its statement: query_canceled is the one that is asked for.
fn failed(error: &RecordedError) -> StatementOutcome {
    if error.code == "57014" { StatementOutcome::Cancelled } else { StatementOutcome::Failed }
}

fn covering(plan: Rc<Plan>) -> Cover {
    if plan.is_pass() { Cover::Pass } else { Cover::Rows(plan) }
}

/// Length of all whole messages of `tag` at the front.
fn whole_messages(bytes: &[u8], tag: u8, max: usize) -> Result<usize, TrafficEnd> {
    let mut end = 0;
    while let Some(next) = bytes.get(end..).filter(|next| next.first() == Some(&tag)) {
        let Some(header) = frame::peek(next, max).map_err(misbehaved)? else { break };
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

fn out_of_place(tag: u8) -> TrafficEnd {
    let name = backend::name(tag).unwrap_or("an unknown message");
    TrafficEnd::TargetMisbehaved(format!("{name} where nothing of the kind is owed"))
}
