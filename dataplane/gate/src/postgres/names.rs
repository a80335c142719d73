//! The prepared statements and portals of one session, as the target has them and as they will be.
//!
//! Messages are judged while earlier ones are still on their way, so a name has a committed meaning (the target said
//! yes) and pending ones (sent, not answered). A *segment* is everything up to one ReadyForQuery. Within a segment a
//! failure makes the target skip the rest, so a pending meaning of the same segment can be relied on: either it holds
//! or nothing that leans on it runs. A pending meaning of an earlier segment cannot: it may be skipped while later
//! segments run. Whoever asks for such a name waits.
//!
//! A name is what the server makes of it: its tables of prepared statements and of portals keep 63 bytes and compare no
//! more, so names that differ later are one ([`canonical`]). Wire protocol and SQL share both name spaces.
//!
//! Invariant: pending operations stand in the order in which the target answers them.
//! Bounds: [`NAMES_MAX`] names of each kind; what they keep is charged to the session's meter.
//! Spec: `src/backend/commands/prepare.c`, `src/backend/utils/mmgr/portalmem.c` (NAMEDATALEN keys).

use super::columns::{Columns, Formats};
use crate::core::memory::{Charge, Meter};
use crate::sql::known::Known;
use hashbrown::HashMap;
use headgate_mask::{Caller, Hints, Plan};
use headgate_plane::Parameter;
use headgate_sql::Facts;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

pub const NAMES_MAX: usize = 10_000;
/// What the server keeps of a name: NAMEDATALEN without its zero.
pub const NAME_BYTES_MAX: usize = 63;
/// Of a prepared statement or portal, beside its text, its columns and its parameters.
pub const THING_BYTES: usize = 512;

/// The name as the server's tables have it.
///
/// For a name of the wire these are its first 63 bytes, wherever a character ends. A name in SQL was cut by the server's
/// (and our) scanner before, at a character's end, so it is not longer.
#[inline]
pub fn canonical(name: &[u8]) -> &[u8] {
    name.get(..NAME_BYTES_MAX).unwrap_or(name)
}

/// A name of SQL as the server has it: its scanner cuts at a character's border.
#[inline]
pub fn sql_name(name: &str) -> &[u8] {
    name.get(..name.floor_char_boundary(NAME_BYTES_MAX))
        .unwrap_or(name)
        .as_bytes()
}

/// A plan, and what it was made for: the caller's number, the result formats, the hints.
pub type KeptPlan = (u64, Formats, Hints, Rc<Plan>);

/// A prepared statement: by Parse, or by SQL's PREPARE.
pub struct Prepared {
    pub text: Rc<[u8]>,
    pub known: Rc<Known>,
    /// Type OIDs given at Parse.
    pub types: Box<[u32]>,
    /// From the target's RowDescription, once described.
    pub columns: RefCell<Option<Rc<Columns>>>,
    /// The plan made last.
    pub plan: RefCell<Option<KeptPlan>>,
    /// The version of names when it was described.
    pub described_at: Cell<u64>,
    /// It was described as having no rows.
    pub no_rows: Cell<bool>,
    /// It fetches from a cursor that was there when it was prepared.
    pub fetches: Cell<bool>,
    /// Only the inner statement of SQL's PREPARE: which of the text's statements it is.
    pub inner_of: Option<usize>,
    /// Its number in the recording; 0 for what SQL prepared, which its statement's record shows.
    pub number: u32,
    /// What it keeps of the session's memory.
    charge: Charge,
    /// Of a text that others were prepared by, too.
    _shared: Option<Rc<Charge>>,
    /// Nobody can say what the target has under its name: nothing of it runs.
    pub doubtful: bool,
}

/// A text that may prepare many statements: kept once, and charged once.
pub struct SharedText {
    text: Rc<[u8]>,
    charge: Rc<Charge>,
}

impl SharedText {
    /// What keeping it takes.
    pub fn bytes(text: &[u8], known: &Known) -> usize {
        text.len() + known.own_bytes(text)
    }

    pub fn new(meter: &Rc<Meter>, text: &[u8], known: &Known) -> SharedText {
        SharedText {
            text: Rc::from(text),
            charge: Rc::new(Charge::new(meter, SharedText::bytes(text, known))),
        }
    }
}

/// A portal or cursor.
#[derive(Clone)]
pub struct Portal {
    pub prepared: Rc<Prepared>,
    /// The run that Bind opened, so that Execute finds its record.
    pub execution: super::execution::ExecutionRef,
    /// Of the rules under which it was bound.
    pub epoch: headgate_plane::Epoch,
    /// How many parameters were bound.
    pub parameters: u32,
    /// When the approval is over that let it be bound; `u64::MAX` without one.
    pub until_unix_ms: u64,
    /// It is a cursor of DECLARE: its statement is over, and each reading of it is one of its own.
    pub is_cursor: bool,
    /// It is one WITH HOLD.
    pub holds: bool,
    /// The transaction that made it was committed.
    pub settled: bool,
    /// ROLLBACK, perhaps to a savepoint, may have taken it.
    pub doubtful: bool,
    /// It fetches from a cursor that was there when it was bound.
    pub fetches: bool,
    /// What EXECUTE or FETCH stood for when it was bound, and so was judged.
    pub meaning: Meaning,
    /// What was bound to it, where it has a name: SQL can FETCH from it.
    pub bound: Option<Rc<Bound>>,
}

/// What a statement stands for by a name: one thing, however many things bear that name in turn.
#[derive(Clone)]
pub enum Meaning {
    /// It stands for itself, or its name for nothing that is known.
    Nothing,
    Statement(Rc<Prepared>),
    /// A portal or cursor, by the execution that opened it.
    Portal(super::execution::ExecutionRef),
}

impl Meaning {
    pub fn is(&self, other: &Meaning) -> bool {
        match (self, other) {
            (Meaning::Nothing, Meaning::Nothing) => true,
            (Meaning::Statement(a), Meaning::Statement(b)) => Rc::ptr_eq(a, b),
            (Meaning::Portal(a), Meaning::Portal(b)) => Rc::ptr_eq(a, b),
            _ => false,
        }
    }
}

/// The parameters of a named portal.
pub struct Bound {
    pub parameters: Vec<Parameter>,
    _charge: Charge,
}

impl Bound {
    pub fn new(meter: &Rc<Meter>, parameters: Vec<Parameter>) -> Rc<Bound> {
        let bytes: usize = parameters
            .iter()
            .map(|p| 48 + p.value.as_ref().map_or(0, Vec::len))
            .sum();
        Rc::new(Bound {
            parameters,
            _charge: Charge::new(meter, THING_BYTES + bytes),
        })
    }
}

/// What a new prepared statement is made of.
pub struct NewPrepared<'a> {
    pub text: &'a [u8],
    pub known: Rc<Known>,
    pub types: Box<[u32]>,
    pub inner_of: Option<usize>,
    pub number: u32,
    pub doubtful: bool,
}

impl Prepared {
    /// What keeping it takes, before its columns are known.
    pub fn bytes(text: &[u8], known: &Known, types: usize) -> usize {
        THING_BYTES + text.len() + known.own_bytes(text) + types * 4
    }

    pub fn new(meter: &Rc<Meter>, new: NewPrepared<'_>) -> Rc<Prepared> {
        let charge = Charge::new(meter, Prepared::bytes(new.text, &new.known, new.types.len()));
        Rc::new(Prepared {
            text: Rc::from(new.text),
            known: new.known,
            types: new.types,
            columns: RefCell::new(None),
            plan: RefCell::new(None),
            described_at: Cell::new(0),
            no_rows: Cell::new(false),
            fetches: Cell::new(false),
            inner_of: new.inner_of,
            number: new.number,
            charge,
            _shared: None,
            doubtful: new.doubtful,
        })
    }

    /// One of the statements that a text of SQL prepares or declares.
    pub fn within(meter: &Rc<Meter>, shared: &SharedText, known: &Rc<Known>, at: usize) -> Rc<Prepared> {
        let charge = Charge::new(meter, THING_BYTES);
        Rc::new(Prepared {
            text: Rc::clone(&shared.text),
            known: Rc::clone(known),
            types: Box::default(),
            columns: RefCell::new(None),
            plan: RefCell::new(None),
            described_at: Cell::new(0),
            no_rows: Cell::new(false),
            inner_of: Some(at),
            fetches: Cell::new(false),
            number: 0,
            charge,
            _shared: Some(Rc::clone(&shared.charge)),
            doubtful: false,
        })
    }

    /// What stands under a name of which nobody can say what the target has under it: nothing of it runs.
    fn in_doubt(meter: &Rc<Meter>) -> Rc<Prepared> {
        let facts = Facts {
            statements: vec![super::judge::unknown_name()],
        };
        let new = NewPrepared {
            text: b"(what this name stands for cannot be told)",
            known: Known::new(Ok(facts)),
            types: Box::default(),
            inner_of: None,
            number: 0,
            doubtful: true,
        };
        Prepared::new(meter, new)
    }

    pub fn described(&self, columns: Columns, catalog: u64) {
        let before = self.columns.borrow().as_ref().map_or(0, |c| c.bytes());
        self.charge.set(
            self.charge
                .bytes()
                .saturating_sub(before)
                .saturating_add(columns.bytes()),
        );
        *self.columns.borrow_mut() = Some(Rc::new(columns));
        *self.plan.borrow_mut() = None;
        self.no_rows.set(false);
        self.described_at.set(catalog);
    }

    /// The target said that it has no rows: none may come.
    pub fn describes_no_rows(&self, catalog: u64) {
        self.columns.borrow_mut().take();
        *self.plan.borrow_mut() = None;
        self.no_rows.set(true);
        self.described_at.set(catalog);
    }

    /// Whether the target has described it under this version of names.
    pub fn is_described(&self, catalog: u64) -> bool {
        self.described_at.get() == catalog && (self.no_rows.get() || self.columns.borrow().is_some())
    }

    /// The plan of its rows; made once for each caller and set of formats. `None`: its columns are not known.
    pub fn plan(&self, caller: &Caller, number: u64, formats: &Formats, hints: Hints) -> Option<Rc<Plan>> {
        let mut kept = self.plan.borrow_mut();
        if let Some((n, f, h, plan)) = &*kept
            && *n == number
            && f == formats
            && *h == hints
        {
            return Some(Rc::clone(plan));
        }
        let columns = self.columns.borrow().clone()?;
        let plan = Rc::new(columns.plan(caller, Some(formats), hints));
        *kept = Some((number, formats.clone(), hints, Rc::clone(&plan)));
        Some(plan)
    }
}

/// What a message does to names once the target has done it. Made by its functions, which cut names as the server does.
pub enum Op {
    SetStatement(Box<[u8]>, Rc<Prepared>),
    DropStatement(Box<[u8]>),
    DropAllStatements,
    SetPortal(Box<[u8]>, Portal),
    DropPortal(Box<[u8]>),
    DropAllPortals,
}

pub enum Lookup<T> {
    Found(T),
    Unknown,
    /// The answer hangs on an earlier segment: ask again when that one is over.
    Wait,
}

/// Comparing an empty slice with its dangling pointer costs 80 ns (a masked load of an unmapped page), and nearly every
/// name is empty: lengths come first.
#[inline]
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && (a.is_empty() || a == b)
}

impl Op {
    pub fn set_statement(name: &[u8], prepared: Rc<Prepared>) -> Op {
        Op::SetStatement(canonical(name).into(), prepared)
    }

    pub fn drop_statement(name: &[u8]) -> Op {
        Op::DropStatement(canonical(name).into())
    }

    pub fn set_portal(name: &[u8], portal: Portal) -> Op {
        Op::SetPortal(canonical(name).into(), portal)
    }

    pub fn drop_portal(name: &[u8]) -> Op {
        Op::DropPortal(canonical(name).into())
    }
}

#[derive(Default)]
pub struct Names {
    recent: Recent,
    statements: Table<Rc<Prepared>>,
    portals: Table<Portal>,
    pending: VecDeque<(u64, Op)>,
    /// Statements of portals that are gone before they came to their end.
    gone: Vec<super::execution::ExecutionRef>,
}

/// The named statement that was looked up last: a client that prepares one and runs it again and again is served from here,
/// without a hash and without the table's memory. Forgotten with each change of the table.
struct Recent {
    name: [u8; NAME_BYTES_MAX],
    bytes: u8,
    prepared: Option<Rc<Prepared>>,
}

impl Default for Recent {
    fn default() -> Recent {
        Recent {
            name: [0; NAME_BYTES_MAX],
            bytes: 0,
            prepared: None,
        }
    }
}

impl Recent {
    #[inline]
    fn get(&self, name: &[u8]) -> Option<&Rc<Prepared>> {
        let prepared = self.prepared.as_ref()?;
        let own = self.name.get(..usize::from(self.bytes)).unwrap_or(&[]);
        same(own, name).then_some(prepared)
    }

    /// `name` is canonical.
    fn keep(&mut self, name: &[u8], prepared: &Rc<Prepared>) {
        if let (Some(place), Ok(bytes)) = (self.name.get_mut(..name.len()), u8::try_from(name.len())) {
            place.copy_from_slice(name);
            self.bytes = bytes;
            self.prepared = Some(Rc::clone(prepared));
        }
    }
}

/// Things by name. The one without a name, which nearly every statement uses, has a place of its own.
struct Table<T> {
    unnamed: Option<T>,
    named: HashMap<Box<[u8]>, T>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table {
            unnamed: None,
            named: HashMap::new(),
        }
    }
}

impl<T: Clone> Table<T> {
    fn get(&self, name: &[u8]) -> Option<&T> {
        if name.is_empty() {
            self.unnamed.as_ref()
        } else {
            self.named.get(name)
        }
    }

    /// Returns what had the name before.
    fn set(&mut self, name: Box<[u8]>, thing: T) -> Option<T> {
        if name.is_empty() {
            self.unnamed.replace(thing)
        } else {
            self.named.insert(name, thing)
        }
    }

    fn remove(&mut self, name: &[u8]) -> Option<T> {
        if name.is_empty() {
            self.unnamed.take()
        } else {
            self.named.remove(name)
        }
    }
}

impl Names {
    pub fn statement(&self, name: &[u8], segment: u64) -> Lookup<Rc<Prepared>> {
        let name = canonical(name);
        self.pending_statement(name, segment).unwrap_or_else(|| {
            let prepared = self.recent.get(name).or_else(|| self.statements.get(name));
            prepared.map_or(Lookup::Unknown, |p| Lookup::Found(Rc::clone(p)))
        })
    }

    /// The same, and the name will be asked for again.
    pub fn statement_to_bind(&mut self, name: &[u8], segment: u64) -> Lookup<Rc<Prepared>> {
        let name = canonical(name);
        if let Some(pending) = self.pending_statement(name, segment) {
            return pending;
        }
        if let Some(prepared) = self.recent.get(name) {
            return Lookup::Found(Rc::clone(prepared));
        }
        let Some(prepared) = self.statements.get(name) else {
            return Lookup::Unknown;
        };
        if !name.is_empty() {
            self.recent.keep(name, prepared);
        }
        Lookup::Found(Rc::clone(prepared))
    }

    /// What operations on their way make of the name, which is canonical.
    #[inline]
    fn pending_statement(&self, name: &[u8], segment: u64) -> Option<Lookup<Rc<Prepared>>> {
        for (at, op) in self.pending.iter().rev() {
            let meaning = match op {
                Op::SetStatement(n, prepared) if same(n, name) => Some(Rc::clone(prepared)),
                Op::DropStatement(n) if same(n, name) => None,
                Op::DropAllStatements if !name.is_empty() => None,
                _ => continue,
            };
            return Some(match meaning {
                _ if *at != segment => Lookup::Wait,
                Some(prepared) => Lookup::Found(prepared),
                None => Lookup::Unknown,
            });
        }
        None
    }

    /// What the name was given last, confirmed or not: enough to know that the same was recorded before.
    pub fn last_statement(&self, name: &[u8]) -> Option<Rc<Prepared>> {
        let name = canonical(name);
        for (_, op) in self.pending.iter().rev() {
            match op {
                Op::SetStatement(n, prepared) if same(n, name) => return Some(Rc::clone(prepared)),
                Op::DropStatement(n) if same(n, name) => return None,
                Op::DropAllStatements if !name.is_empty() => return None,
                _ => {}
            }
        }
        self.statements.get(name).map(Rc::clone)
    }

    pub fn portal(&self, name: &[u8], segment: u64) -> Lookup<Portal> {
        let name = canonical(name);
        for (at, op) in self.pending.iter().rev() {
            let meaning = match op {
                Op::SetPortal(n, portal) if same(n, name) => Some(portal.clone()),
                Op::DropPortal(n) if same(n, name) => None,
                Op::DropAllPortals => None,
                _ => continue,
            };
            return match meaning {
                _ if *at != segment => Lookup::Wait,
                Some(portal) => Lookup::Found(portal),
                None => Lookup::Unknown,
            };
        }
        self.portals
            .get(name)
            .map_or(Lookup::Unknown, |p| Lookup::Found(p.clone()))
    }

    pub fn is_full(&self) -> bool {
        self.statements.named.len() >= NAMES_MAX
            || self.portals.named.len() >= NAMES_MAX
            || self.pending.len() >= NAMES_MAX
    }

    /// The table of statements changes.
    fn statements(&mut self) -> &mut Table<Rc<Prepared>> {
        self.recent.prepared = None;
        &mut self.statements
    }

    /// The oldest pending operation. An empty queue begins again where its memory does: with one statement at a time, each
    /// session then touches the same lines for each.
    fn take_next(&mut self) -> Option<Op> {
        let (_, op) = self.pending.pop_front()?;
        if self.pending.is_empty() {
            self.pending.clear();
        }
        Some(op)
    }

    /// Whether a text may push so many operations, of which so many make names.
    pub fn admits(&self, operations: usize, made: usize) -> bool {
        let named = self.statements.named.len().max(self.portals.named.len());
        self.pending.len() + operations <= NAMES_MAX && named + made <= NAMES_MAX
    }

    pub fn push(&mut self, segment: u64, op: Op) {
        self.pending.push_back((segment, op));
    }

    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// The target said yes to the oldest pending operation.
    pub fn commit_next(&mut self) {
        let Some(op) = self.take_next() else {
            return;
        };
        match op {
            Op::SetStatement(name, prepared) => {
                if prepared.known.needs_names {
                    prepared.fetches.set(self.has_cursor_of(&prepared.known));
                }
                drop(self.statements().set(name, prepared));
            }
            Op::DropStatement(name) => drop(self.statements().remove(&name)),
            // The one without a name is no part of the server's table: it stays.
            Op::DropAllStatements => self.statements().named.clear(),
            Op::SetPortal(name, mut portal) => {
                portal.fetches =
                    portal.prepared.known.needs_names && self.has_cursor_of(&portal.prepared.known);
                let before = self.portals.set(name, portal);
                self.let_go(before);
            }
            Op::DropPortal(name) => {
                let before = self.portals.remove(&name);
                self.let_go(before);
            }
            Op::DropAllPortals => {
                // CLOSE ALL closes cursors; portals of the wire are closed with them.
                let all: Vec<Portal> = self
                    .portals
                    .named
                    .drain()
                    .map(|(_, portal)| portal)
                    .chain(self.portals.unnamed.take())
                    .collect();
                all.into_iter().for_each(|portal| self.let_go(Some(portal)));
            }
        }
    }

    /// The target answered the oldest pending operation with an error of its own: it did nothing.
    pub fn fails_next(&mut self) {
        drop(self.take_next());
    }

    /// The target answered the oldest pending operation with an error. PREPARE and DEALLOCATE are not undone by one: they stand
    /// if the error was their commit's. Where a name had a meaning that PREPARE was to give another one, the server has refused
    /// that, and keeps what it had; where it had none, the name means the new statement or nothing. A name that was to go has
    /// its meaning or none, and what comes next may take it or not: it is in doubt until the target says what it means.
    pub fn perhaps_next(&mut self, meter: &Rc<Meter>) {
        match self.take_next() {
            Some(Op::SetStatement(name, prepared)) if self.statements.get(&name).is_none() => {
                self.statements().set(name, prepared);
            }
            Some(Op::DropStatement(name)) if self.statements.get(&name).is_some() => {
                self.statements().set(name, Prepared::in_doubt(meter));
            }
            Some(Op::DropAllStatements) if !self.statements.named.is_empty() => {
                let doubt = Prepared::in_doubt(meter);
                let all = self.statements().named.values_mut();
                all.for_each(|prepared| *prepared = Rc::clone(&doubt));
            }
            // CLOSE is not undone either.
            Some(Op::DropPortal(_) | Op::DropAllPortals) => self.doubt_portals(),
            _ => {}
        }
    }

    /// Whether the cursor that a FETCH reads is there, as the target has it now.
    fn has_cursor_of(&self, known: &Known) -> bool {
        known
            .fetches_from()
            .is_some_and(|name| self.portals.get(sql_name(name)).is_some())
    }

    /// Whether the target has confirmed anything without a name.
    #[inline]
    pub fn has_unnamed(&self) -> bool {
        self.statements.unnamed.is_some() || self.portals.unnamed.is_some()
    }

    /// Whether the statement without a name is the one that the target has confirmed.
    pub fn unnamed_statement_is_settled(&self) -> bool {
        let is_it =
            |op: &Op| matches!(op, Op::SetStatement(name, _) | Op::DropStatement(name) if name.is_empty());
        self.statements.unnamed.is_some() && !self.pending.iter().any(|(_, op)| is_it(op))
    }

    /// The same of the portal.
    pub fn unnamed_portal_is_settled(&self) -> bool {
        let is_it = |op: &Op| matches!(op, Op::SetPortal(name, _) | Op::DropPortal(name) if name.is_empty());
        self.portals.unnamed.is_some() && !self.pending.iter().any(|(_, op)| is_it(op))
    }

    /// A simple Query drops the statement without a name, whatever becomes of it, and the portal, once one of its statements
    /// begins (`begins`: it has some). One that fails leaves a portal of its own there whose statements are freed memory to
    /// PostgreSQL (seen in 15.18: its Execute may kill the server): to the gate there is none.
    pub fn query_done(&mut self, begins: bool) {
        self.statements().unnamed = None;
        if begins {
            let portal = self.portals.unnamed.take();
            self.let_go(portal);
        }
    }

    /// Portals that a transaction which was not committed yet has made may be gone.
    fn doubt_portals(&mut self) {
        let all = self.portals.named.values_mut().chain(&mut self.portals.unnamed);
        for portal in all.filter(|portal| !portal.settled) {
            portal.doubtful = true;
            // The execution of a cursor is its DECLARE's, which does not end with it (and may be the one that speaks).
            if !portal.is_cursor {
                portal.execution.borrow_mut().portal_doubtful = true;
            }
        }
    }

    /// The target has done a command. COMMIT and ROLLBACK end what portals are made in, in the middle of a query or pipeline.
    /// `whole`: a ROLLBACK is not one to a savepoint.
    #[inline]
    pub fn command_done(&mut self, tag: &[u8], whole: bool) {
        match tag {
            b"COMMIT" => self.transaction_ended(false),
            b"ROLLBACK" if whole => self.transaction_ended(true),
            b"ROLLBACK" => self.doubt_portals(),
            _ => {}
        }
    }

    /// A portal is gone: a statement of it that has not come to its end never will.
    fn let_go(&mut self, portal: Option<Portal>) {
        // The run of a cursor is its DECLARE's, which has an end of its own.
        if let Some(portal) = portal
            && !portal.is_cursor
            && !portal.execution.borrow().ended
        {
            portal.execution.borrow_mut().portal_gone = true;
            self.gone.push(portal.execution);
        }
    }

    /// Portals whose statements may not have come to their end.
    pub fn open_portals(&self) -> usize {
        self.portals.named.len() + usize::from(self.portals.unnamed.is_some()) + self.gone.len()
    }

    #[inline]
    pub fn has_gone(&self) -> bool {
        !self.gone.is_empty()
    }

    pub fn gone(&mut self) -> Option<super::execution::ExecutionRef> {
        self.gone.pop()
    }

    pub fn put_back_gone(&mut self, execution: super::execution::ExecutionRef) {
        self.gone.push(execution);
    }

    /// The session ends: all portals are gone.
    pub fn all_gone(&mut self) -> usize {
        let all: Vec<Portal> = self
            .portals
            .named
            .drain()
            .map(|(_, portal)| portal)
            .chain(self.portals.unnamed.take())
            .collect();
        all.into_iter().for_each(|portal| self.let_go(Some(portal)));
        self.gone.len()
    }

    /// The segment is over; what of it is still pending was skipped by the target.
    pub fn end_segment(&mut self, segment: u64) {
        while self.pending.front().is_some_and(|(at, _)| *at <= segment) {
            self.take_next();
        }
    }

    /// An error: what is still pending of `segment` (and of those before it) will not happen.
    pub fn skipped(&mut self, segment: u64) {
        self.end_segment(segment);
    }

    /// A transaction ended: the target has dropped the protocol's portals, and all cursors but those WITH HOLD that were made
    /// in a transaction which was committed. `failed`: this one was not.
    pub fn transaction_ended(&mut self, failed: bool) {
        let unnamed = self.portals.unnamed.take();
        self.let_go(unnamed);
        if !self.portals.named.is_empty() {
            let stays = |portal: &Portal| {
                portal.is_cursor && portal.holds && (portal.settled || !failed && !portal.doubtful)
            };
            let over: Vec<Portal> = self
                .portals
                .named
                .extract_if(|_, portal| !stays(portal))
                .map(|(_, portal)| portal)
                .collect();
            over.into_iter().for_each(|portal| self.let_go(Some(portal)));
            self.portals
                .named
                .values_mut()
                .for_each(|portal| portal.settled = true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_sql::Facts;

    fn prepared(text: &str) -> Rc<Prepared> {
        let known = Known::new(Ok(Facts::default()));
        let new = NewPrepared {
            text: text.as_bytes(),
            known,
            types: Box::default(),
            inner_of: None,
            number: 0,
            doubtful: false,
        };
        Prepared::new(&Meter::new(1 << 20, None), new)
    }

    fn found(lookup: Lookup<Rc<Prepared>>) -> &'static str {
        match lookup {
            Lookup::Found(p) if &*p.text == b"old" => "old",
            Lookup::Found(_) => "new",
            Lookup::Unknown => "unknown",
            Lookup::Wait => "wait",
        }
    }

    #[test]
    fn a_name_set_in_an_earlier_segment_is_waited_for() {
        let mut names = Names::default();
        names.push(1, Op::set_statement(b"s", prepared("old")));
        assert_eq!(
            found(names.statement(b"s", 1)),
            "old",
            "in its own segment it holds, or nothing executions"
        );
        assert_eq!(found(names.statement(b"s", 2)), "wait");
        names.commit_next();
        names.end_segment(1);
        assert_eq!(found(names.statement(b"s", 2)), "old");
    }

    #[test]
    fn what_the_target_skipped_never_meant_anything() {
        let mut names = Names::default();
        names.push(1, Op::set_statement(b"s", prepared("old")));
        names.commit_next();
        names.end_segment(1);
        names.push(2, Op::drop_statement(b"s"));
        names.push(2, Op::set_statement(b"s", prepared("new")));
        assert_eq!(found(names.statement(b"s", 2)), "new");
        names.end_segment(2);
        assert_eq!(found(names.statement(b"s", 3)), "old");
    }

    #[test]
    fn a_name_that_was_looked_up_before_means_what_it_means_now() {
        let mut names = Names::default();
        let run = |names: &mut Names, segment: u64, op: Op| {
            names.push(segment, op);
            names.commit_next();
            names.end_segment(segment);
        };
        run(&mut names, 1, Op::set_statement(b"s", prepared("old")));
        assert_eq!(found(names.statement_to_bind(b"s", 2)), "old");
        assert_eq!(found(names.statement_to_bind(b"s", 2)), "old");
        assert_eq!(found(names.statement_to_bind(b"t", 2)), "unknown");
        assert_eq!(found(names.statement_to_bind(b"", 2)), "unknown");
        run(&mut names, 2, Op::set_statement(b"s", prepared("new")));
        assert_eq!(found(names.statement_to_bind(b"s", 3)), "new");
        run(&mut names, 3, Op::drop_statement(b"s"));
        assert_eq!(found(names.statement_to_bind(b"s", 4)), "unknown");
        run(&mut names, 4, Op::set_statement(b"s", prepared("old")));
        assert_eq!(found(names.statement_to_bind(b"s", 5)), "old");
        run(&mut names, 5, Op::DropAllStatements);
        assert_eq!(found(names.statement_to_bind(b"s", 6)), "unknown");
        run(&mut names, 6, Op::set_statement(b"s", prepared("old")));
        assert_eq!(found(names.statement_to_bind(b"s", 7)), "old");
        names.push(7, Op::set_statement(b"s", prepared("new")));
        names.perhaps_next(&Meter::new(1 << 20, None));
        assert_eq!(
            found(names.statement_to_bind(b"s", 8)),
            "old",
            "the server keeps what it had"
        );
    }

    #[test]
    fn a_closed_name_is_unknown_and_all_names_go_with_discard() {
        let mut names = Names::default();
        for name in [&b"a"[..], b"b"] {
            names.push(1, Op::set_statement(name, prepared("old")));
            names.commit_next();
        }
        names.push(1, Op::drop_statement(b"a"));
        assert_eq!(found(names.statement(b"a", 1)), "unknown");
        assert_eq!(found(names.statement(b"b", 1)), "old");
        names.push(1, Op::DropAllStatements);
        assert_eq!(found(names.statement(b"b", 1)), "unknown");
        assert_eq!(found(names.statement(b"b", 2)), "wait");
    }

    #[test]
    fn names_that_are_one_to_the_server_are_one_here() {
        let mut names = Names::default();
        let name = |last: u8| [vec![b'a'; 63], vec![last]].concat();
        names.push(1, Op::set_statement(&name(b'1'), prepared("old")));
        names.commit_next();
        names.end_segment(1);
        assert_eq!(found(names.statement(&name(b'2'), 2)), "old");
        names.push(2, Op::drop_statement(&name(b'3')));
        assert_eq!(found(names.statement(&name(b'1'), 2)), "unknown");
        names.push(2, Op::set_statement(&name(b'4'), prepared("new")));
        assert_eq!(found(names.statement(&name(b'5'), 2)), "new");
    }
}
