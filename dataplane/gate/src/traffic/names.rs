//! The prepared statements and portals of one session, as the target has them and as they will be.
//!
//! Messages are judged while earlier ones are still on their way, so a name has a committed meaning (the target said
//! yes) and pending ones (sent, not answered). A *segment* is everything up to one ReadyForQuery. Within a segment a
//! failure makes the target skip the rest, so a pending meaning of the same segment can be relied on: either it holds
//! or nothing that leans on it runs. A pending meaning of an earlier segment cannot: it may be skipped while later
//! segments run. Whoever asks for such a name waits.
//!
//! Invariant: pending operations stand in the order in which the target answers them.
//! Bounds: [`NAMES_MAX`] names of each kind.

use super::plan::{Columns, Formats};
use crate::known::Known;
use hashbrown::HashMap;
use headgate_mask::{Caller, Hints, Plan};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

pub const NAMES_MAX: usize = 10_000;

/// A prepared statement: by Parse, or by SQL's PREPARE.
pub struct Prepared {
    pub text: Rc<[u8]>,
    pub known: Rc<Known>,
    /// Type OIDs given at Parse.
    pub types: Box<[u32]>,
    /// From the target's RowDescription, once described.
    pub columns: RefCell<Option<Rc<Columns>>>,
    /// The plan made last, and what it was made for: the caller's number, the result formats, the hints.
    pub plan: RefCell<Option<(u64, Formats, Hints, Rc<Plan>)>>,
    /// The catalog's version when it was described.
    pub described_at: Cell<u64>,
    /// Only the inner statement of SQL's PREPARE: which of the text's statements it is.
    pub inner_of: Option<usize>,
}

/// A portal or cursor.
#[derive(Clone)]
pub struct Portal {
    pub prepared: Rc<Prepared>,
    /// The run that Bind opened, so that Execute finds its record.
    pub run: super::run::RunRef,
    /// Of the rules under which it was bound.
    pub epoch: headgate_plane::Epoch,
}

impl Prepared {
    pub fn described(&self, columns: Columns, catalog: u64) {
        *self.columns.borrow_mut() = Some(Rc::new(columns));
        *self.plan.borrow_mut() = None;
        self.described_at.set(catalog);
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

#[derive(Default)]
pub struct Names {
    statements: Table<Rc<Prepared>>,
    portals: Table<Portal>,
    pending: VecDeque<(u64, Op)>,
}

/// Things by name. The one without a name, which nearly every statement uses, has a place of its own.
struct Table<T> {
    unnamed: Option<T>,
    named: HashMap<Box<[u8]>, T>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { unnamed: None, named: HashMap::new() }
    }
}

impl<T: Clone> Table<T> {
    fn get(&self, name: &[u8]) -> Option<&T> {
        if name.is_empty() { self.unnamed.as_ref() } else { self.named.get(name) }
    }

    fn set(&mut self, name: Box<[u8]>, thing: T) {
        if name.is_empty() {
            self.unnamed = Some(thing);
        } else {
            self.named.insert(name, thing);
        }
    }

    fn remove(&mut self, name: &[u8]) {
        if name.is_empty() {
            self.unnamed = None;
        } else {
            self.named.remove(name);
        }
    }

    fn clear(&mut self) {
        self.unnamed = None;
        self.named.clear();
    }
}

impl Names {
    pub fn statement(&self, name: &[u8], segment: u64) -> Lookup<Rc<Prepared>> {
        for (at, op) in self.pending.iter().rev() {
            let meaning = match op {
                Op::SetStatement(n, prepared) if **n == *name => Some(Rc::clone(prepared)),
                Op::DropStatement(n) if **n == *name => None,
                Op::DropAllStatements => None,
                _ => continue,
            };
            return match meaning {
                _ if *at != segment => Lookup::Wait,
                Some(prepared) => Lookup::Found(prepared),
                None => Lookup::Unknown,
            };
        }
        self.statements.get(name).map_or(Lookup::Unknown, |p| Lookup::Found(Rc::clone(p)))
    }

    pub fn portal(&self, name: &[u8], segment: u64) -> Lookup<Portal> {
        for (at, op) in self.pending.iter().rev() {
            let meaning = match op {
                Op::SetPortal(n, portal) if **n == *name => Some(portal.clone()),
                Op::DropPortal(n) if **n == *name => None,
                Op::DropAllPortals => None,
                _ => continue,
            };
            return match meaning {
                _ if *at != segment => Lookup::Wait,
                Some(portal) => Lookup::Found(portal),
                None => Lookup::Unknown,
            };
        }
        self.portals.get(name).map_or(Lookup::Unknown, |p| Lookup::Found(p.clone()))
    }

    pub fn is_full(&self) -> bool {
        self.statements.named.len() >= NAMES_MAX || self.portals.named.len() >= NAMES_MAX || self.pending.len() >= NAMES_MAX
    }

    pub fn push(&mut self, segment: u64, op: Op) {
        self.pending.push_back((segment, op));
    }

    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// The target said yes to the oldest pending operation.
    pub fn commit_next(&mut self) {
        let Some((_, op)) = self.pending.pop_front() else { return };
        match op {
            Op::SetStatement(name, prepared) => self.statements.set(name, prepared),
            Op::DropStatement(name) => self.statements.remove(&name),
            Op::DropAllStatements => self.statements.clear(),
            Op::SetPortal(name, portal) => self.portals.set(name, portal),
            Op::DropPortal(name) => self.portals.remove(&name),
            Op::DropAllPortals => self.portals.clear(),
        }
    }

    /// The segment is over; what of it is still pending was skipped by the target.
    pub fn end_segment(&mut self, segment: u64) {
        while self.pending.front().is_some_and(|(at, _)| *at <= segment) {
            self.pending.pop_front();
        }
    }

    /// An error: what is still pending of `segment` (and of those before it) will not happen.
    pub fn skipped(&mut self, segment: u64) {
        self.end_segment(segment);
    }

    /// A transaction ended: the target has dropped the protocol's portals.
    pub fn transaction_ended(&mut self) {
        self.portals.unnamed = None;
        if !self.portals.named.is_empty() {
            self.portals.named.retain(|_, portal| portal.prepared.inner_of.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headgate_sql::Facts;

    fn prepared(text: &str) -> Rc<Prepared> {
        Rc::new(Prepared {
            text: Rc::from(text.as_bytes()),
            known: Known::new(Ok(Facts::default())),
            types: Box::default(),
            columns: RefCell::new(None),
            plan: RefCell::new(None),
            described_at: Cell::new(0),
            inner_of: None,
        })
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
        names.push(1, Op::SetStatement(b"s"[..].into(), prepared("old")));
        assert_eq!(found(names.statement(b"s", 1)), "old", "in its own segment it holds, or nothing runs");
        assert_eq!(found(names.statement(b"s", 2)), "wait");
        names.commit_next();
        names.end_segment(1);
        assert_eq!(found(names.statement(b"s", 2)), "old");
    }

    #[test]
    fn what_the_target_skipped_never_meant_anything() {
        let mut names = Names::default();
        names.push(1, Op::SetStatement(b"s"[..].into(), prepared("old")));
        names.commit_next();
        names.end_segment(1);
        names.push(2, Op::DropStatement(b"s"[..].into()));
        names.push(2, Op::SetStatement(b"s"[..].into(), prepared("new")));
        assert_eq!(found(names.statement(b"s", 2)), "new");
        names.end_segment(2);
        assert_eq!(found(names.statement(b"s", 3)), "old");
    }

    #[test]
    fn a_closed_name_is_unknown_and_all_names_go_with_discard() {
        let mut names = Names::default();
        for name in [&b"a"[..], b"b"] {
            names.push(1, Op::SetStatement(name.into(), prepared("old")));
            names.commit_next();
        }
        names.push(1, Op::DropStatement(b"a"[..].into()));
        assert_eq!(found(names.statement(b"a", 1)), "unknown");
        assert_eq!(found(names.statement(b"b", 1)), "old");
        names.push(1, Op::DropAllStatements);
        assert_eq!(found(names.statement(b"b", 1)), "unknown");
        assert_eq!(found(names.statement(b"b", 2)), "wait");
    }
}
