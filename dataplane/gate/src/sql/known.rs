//! What a core knows of SQL texts: facts by exact bytes, by shape, and the verdicts that follow from them.
//!
//! Keys are compared whole; the hash only finds the bucket and is seeded per process (a crafted collision costs a
//! compare, never a foreign verdict). Bounds: [`TEXTS_MAX`] entries of at most [`TEXT_BYTES_MAX`] each in either table, and
//! [`TABLE_BYTES_MAX`] of a table with all that is kept at its texts (verdicts, exposures, plans); a full table is emptied by
//! halves, oldest first.

use headgate_mask::{Exposure, Hints, Plan};
use headgate_plane::Class;
use headgate_policy::{ContextId, Verdict};
use headgate_sql::{Action, Facts, SessionSettings, Statement, Unreadable};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// How many texts either table has.
pub const TEXTS_MAX: usize = 8192;
/// The longest text that is kept.
pub const TEXT_BYTES_MAX: usize = 16 << 10;
/// Of one table: keys, facts, verdicts and plans.
pub const TABLE_BYTES_MAX: usize = 64 << 20;
/// Of one entry beside what is counted.
const ENTRY_BYTES: usize = 512;
const VERDICT_BYTES: usize = 160;
const EXPOSURE_BYTES: usize = 32;

/// One text's facts, shared by all that use it on this core.
pub struct Known {
    /// What the parser found.
    pub facts: Result<Facts, Unreadable>,
    /// Verdicts by who asks and under which catalog. Few: one per group of alike sessions.
    verdicts: RefCell<Vec<(ContextId, u64, Rc<Verdict>)>>,
    /// As it is recorded.
    pub class: u16,
    /// As they are recorded.
    pub verbs: Vec<String>,
    /// It runs what names stand for: EXECUTE, FETCH.
    pub needs_names: bool,
    /// Some statement of it changes what names mean, or the catalog.
    pub changes_names: bool,
    /// Some statement of it may leave the session with other settings.
    pub changes_settings: bool,
    /// Some statement of it ends what holds settings: a transaction, a savepoint.
    pub ends_settings: bool,
    /// Some statement of it touches a setting that is kept or followed.
    pub touches_settings: bool,
    /// Data of the client follows it (COPY FROM STDIN), or may: nobody can say of a text without facts.
    pub brings_data: bool,
    /// What it exposes of the labels of whom (the caller's number).
    exposures: RefCell<Vec<(u64, Exposure, Hints)>>,
    /// How its rows are covered, by whom they are for and how the target described them.
    plans: RefCell<Vec<KeptPlan>>,
    /// The names of its relations, under which catalog.
    relations: RefCell<Option<(u64, Rc<[String]>)>>,
    /// The version of names under which the catalog was seen to know all of its names; 0 for none.
    complete_at: Cell<u64>,
    /// What the facts take.
    facts_bytes: usize,
    /// What has been kept here since: verdicts, exposures, plans, names.
    kept_bytes: Cell<usize>,
}

const VERDICTS_MAX: usize = 64;
const EXPOSURES_MAX: usize = 16;
const PLANS_MAX: usize = 4;
const DESCRIPTION_BYTES_MAX: usize = 4 << 10;

struct KeptPlan {
    caller: u64,
    hints: Hints,
    description: Box<[u8]>,
    plan: Rc<Plan>,
}

/// What the facts of one statement take, near enough.
fn statement_bytes(statement: &Statement) -> usize {
    let strings = |list: &[String]| list.iter().map(|s| s.len() + size_of::<String>()).sum::<usize>();
    let relations: usize = statement
        .relations
        .iter()
        .map(|r| r.name.len() + r.schema.as_ref().map_or(0, String::len) + 64)
        .sum();
    let functions: usize = statement
        .functions
        .iter()
        .map(|f| f.name.len() + f.schema.as_ref().map_or(0, String::len) + 64)
        .sum();
    let inner = match &statement.action {
        Action::Prepare { inner, .. } | Action::Declare { inner, .. } => statement_bytes(inner),
        Action::Copy(copy) => strings(&copy.columns) + copy.outputs.len() * 64,
        _ => 0,
    };
    size_of::<Statement>()
        + strings(&statement.verbs)
        + strings(&statement.columns)
        + relations
        + functions
        + inner
}

/// Whether a session's prepared statements or cursors are others after it.
pub(crate) fn names_change(action: &Action) -> bool {
    matches!(
        action,
        Action::Prepare { .. }
            | Action::Deallocate { .. }
            | Action::Discard { .. }
            | Action::Declare { .. }
            | Action::CloseCursor { .. }
    )
}

impl Known {
    /// What a parser found.
    pub fn new(facts: Result<Facts, Unreadable>) -> Rc<Known> {
        let (class, verbs) = match &facts {
            Ok(facts) => {
                let mut verbs: Vec<String> = Vec::new();
                for verb in facts.statements.iter().flat_map(|s| s.verbs.iter()) {
                    if !verbs.contains(verb) {
                        verbs.push(verb.clone());
                    }
                }
                (facts.class().0, verbs)
            }
            Err(_) => (0, Vec::new()),
        };
        let facts_bytes = facts
            .as_ref()
            .map_or(0, |f| f.statements.iter().map(statement_bytes).sum());
        let any = |is: fn(&Statement) -> bool| facts.as_ref().is_ok_and(|f| f.statements.iter().any(is));
        let needs_names = any(|s| matches!(s.action, Action::Execute { .. } | Action::Fetch { .. }));
        let changes_names = any(|s| s.changes_catalog || names_change(&s.action));
        let touches_settings = any(|s| !s.settings.is_empty());
        let changes_settings = facts.is_err()
            || touches_settings
            || any(|s| s.class.contains(Class::Opaque) || matches!(s.action, Action::Discard { all: true }));
        let ends_settings = any(SessionSettings::moves);
        let brings_data = facts.is_err() || any(|s| matches!(&s.action, Action::Copy(copy) if !copy.out));
        Rc::new(Known {
            facts,
            verdicts: RefCell::default(),
            class,
            verbs,
            needs_names,
            changes_names,
            changes_settings,
            ends_settings,
            touches_settings,
            brings_data,
            exposures: RefCell::default(),
            plans: RefCell::default(),
            relations: RefCell::default(),
            complete_at: Cell::new(0),
            facts_bytes,
            kept_bytes: Cell::new(0),
        })
    }

    /// The cursor that a text of one FETCH reads.
    pub fn fetches_from(&self) -> Option<&str> {
        match self.facts.as_ref().ok()?.statements.as_slice() {
            [
                Statement {
                    action: Action::Fetch { name },
                    ..
                },
            ] => Some(name),
            _ => None,
        }
    }

    /// What it takes by itself where no core shares it: long texts are kept by their sessions alone.
    pub fn own_bytes(&self, text: &[u8]) -> usize {
        if text.len() > TEXT_BYTES_MAX {
            self.bytes()
        } else {
            0
        }
    }

    /// What it takes with all that is kept here.
    pub fn bytes(&self) -> usize {
        ENTRY_BYTES + self.facts_bytes + self.kept_bytes.get()
    }

    fn keep(&self, bytes: usize) {
        self.kept_bytes.set(self.kept_bytes.get().saturating_add(bytes));
    }

    fn let_go(&self, bytes: usize) {
        self.kept_bytes.set(self.kept_bytes.get().saturating_sub(bytes));
    }

    /// What was judged of it, for whoever it is, with these names.
    pub fn verdict(&self, context: ContextId, catalog: u64) -> Option<Rc<Verdict>> {
        self.verdicts
            .borrow()
            .iter()
            .find(|(c, v, _)| *c == context && *v == catalog)
            .map(|(_, _, verdict)| Rc::clone(verdict))
    }

    /// Resolved once for each version of the catalog.
    pub fn relations(&self, catalog: u64, resolve: impl FnOnce(&Facts) -> Rc<[String]>) -> Rc<[String]> {
        let mut place = self.relations.borrow_mut();
        match &*place {
            Some((version, names)) if *version == catalog => Rc::clone(names),
            _ => {
                let names = self.facts.as_ref().map_or_else(|_| Rc::default(), resolve);
                if let Some((_, before)) = place.take() {
                    self.let_go(names_bytes(&before));
                }
                self.keep(names_bytes(&names));
                *place = Some((catalog, Rc::clone(&names)));
                names
            }
        }
    }

    /// Whether the catalog was seen to know all of its names under this version.
    #[inline]
    pub fn is_complete(&self, names: u64) -> bool {
        names != 0 && self.complete_at.get() == names
    }

    pub fn set_complete(&self, names: u64) {
        self.complete_at.set(names);
    }

    /// Worked out once for each caller.
    pub fn exposure(&self, caller: u64, work_out: impl FnOnce() -> (Exposure, Hints)) -> (Exposure, Hints) {
        let mut exposures = self.exposures.borrow_mut();
        if let Some((_, exposure, hints)) = exposures.iter().find(|(number, _, _)| *number == caller) {
            return (*exposure, *hints);
        }
        let (exposure, hints) = work_out();
        if exposures.len() >= EXPOSURES_MAX {
            exposures.remove(0);
        } else {
            self.keep(EXPOSURE_BYTES);
        }
        exposures.push((caller, exposure, hints));
        (exposure, hints)
    }

    /// Made once for each caller and description (the bytes of RowDescription).
    pub fn plan(
        &self,
        caller: u64,
        hints: Hints,
        description: &[u8],
        make: impl FnOnce() -> Plan,
    ) -> Rc<Plan> {
        let mut plans = self.plans.borrow_mut();
        if let Some(kept) = plans
            .iter()
            .find(|k| k.caller == caller && k.hints == hints && *k.description == *description)
        {
            return Rc::clone(&kept.plan);
        }
        let plan = Rc::new(make());
        if description.len() <= DESCRIPTION_BYTES_MAX {
            if plans.len() >= PLANS_MAX {
                let oldest = plans.remove(0);
                self.let_go(oldest.description.len() * 2);
            }
            // A plan has an action for each column, and a description some twenty bytes: twice it covers both.
            self.keep(description.len() * 2);
            plans.push(KeptPlan {
                caller,
                hints,
                description: description.into(),
                plan: Rc::clone(&plan),
            });
        }
        plan
    }

    /// Keeps what was judged of it.
    pub fn remember(&self, context: ContextId, catalog: u64, verdict: Rc<Verdict>) {
        let mut verdicts = self.verdicts.borrow_mut();
        if verdicts.len() >= VERDICTS_MAX {
            verdicts.remove(0);
        } else {
            self.keep(VERDICT_BYTES);
        }
        verdicts.push((context, catalog, verdict));
    }
}

fn names_bytes(names: &[String]) -> usize {
    names.iter().map(|n| n.len() + size_of::<String>()).sum()
}

struct Entry {
    known: Rc<Known>,
    /// When it was last asked for, in look-ups of this table.
    used: Cell<u64>,
}

#[derive(Default)]
struct Table {
    map: hashbrown::HashMap<Box<[u8]>, Entry, SeededHash>,
    clock: Cell<u64>,
    /// As counted last, and what has come since.
    bytes: usize,
    puts: u32,
}

/// After so many new texts a table is counted anew.
const RECOUNT_PUTS: u32 = 256;

impl Table {
    fn get(&self, key: &[u8]) -> Option<Rc<Known>> {
        let entry = self.map.get(key)?;
        let now = self.clock.get() + 1;
        self.clock.set(now);
        entry.used.set(now);
        Some(Rc::clone(&entry.known))
    }

    fn put(&mut self, key: &[u8], known: Rc<Known>) {
        if key.len() > TEXT_BYTES_MAX {
            return;
        }
        if self.map.len() >= TEXTS_MAX || self.grows_to(key.len() + known.bytes()) > TABLE_BYTES_MAX {
            self.halve();
        }
        let now = self.clock.get();
        self.map.insert(
            key.into(),
            Entry {
                known,
                used: Cell::new(now),
            },
        );
    }

    fn halve(&mut self) {
        let mut ages: Vec<u64> = self.map.values().map(|e| e.used.get()).collect();
        ages.sort_unstable();
        let edge = ages.get(ages.len() / 2).copied().unwrap_or(0);
        self.map.retain(|_, e| e.used.get() > edge);
        self.bytes = self.sum();
    }

    fn trim(&mut self) {
        while self.map.len() > 1 && self.sum() > TABLE_BYTES_MAX {
            self.halve();
        }
    }

    /// The table's bytes with `more`. What is kept at texts grows behind the table's back, so it is counted anew now and then.
    fn grows_to(&mut self, more: usize) -> usize {
        self.bytes += more;
        self.puts = self.puts.wrapping_add(1);
        if self.puts.is_multiple_of(RECOUNT_PUTS) || self.bytes > TABLE_BYTES_MAX {
            self.bytes = self.sum() + more;
        }
        self.bytes
    }

    fn sum(&self) -> usize {
        self.map.iter().map(|(key, e)| key.len() + e.known.bytes()).sum()
    }
}

/// xxh3 with a seed of this process.
#[derive(Clone)]
struct SeededHash(u64);

impl Default for SeededHash {
    fn default() -> Self {
        use std::hash::{BuildHasher, RandomState};
        SeededHash(RandomState::new().hash_one(0u8))
    }
}

impl std::hash::BuildHasher for SeededHash {
    type Hasher = xxhash_rust::xxh3::Xxh3;
    fn build_hasher(&self) -> Self::Hasher {
        xxhash_rust::xxh3::Xxh3::with_seed(self.0)
    }
    fn hash_one<T: std::hash::Hash>(&self, x: T) -> u64 {
        // The one-shot form: the streaming hasher is large and slow to set up.
        let mut short = OneShot {
            seed: self.0,
            hash: 0,
        };
        x.hash(&mut short);
        short.hash
    }
}

struct OneShot {
    seed: u64,
    hash: u64,
}

impl std::hash::Hasher for OneShot {
    fn finish(&self) -> u64 {
        self.hash
    }
    fn write(&mut self, bytes: &[u8]) {
        self.hash = xxhash_rust::xxh3::xxh3_64_with_seed(bytes, self.seed ^ self.hash);
    }
    fn write_usize(&mut self, n: usize) {
        self.hash = self.hash.rotate_left(5) ^ (n as u64);
    }
}

/// The two tables of a core.
#[derive(Default)]
pub struct KnownTexts {
    exact: Table,
    shapes: Table,
    scratch: Vec<u8>,
}

impl KnownTexts {
    /// What is known of a text.
    pub fn get(&mut self, text: &[u8]) -> Option<Rc<Known>> {
        if let Some(known) = self.exact.get(text) {
            return Some(known);
        }
        self.scratch.clear();
        headgate_sql::shape(text, &mut self.scratch)?;
        self.shapes.get(&self.scratch)
    }

    /// Keeps what an analyst said. An analyst that was lost says nothing about the text: not kept.
    pub fn learn(&mut self, text: &[u8], facts: Result<Facts, Unreadable>) -> Rc<Known> {
        let lost = matches!(facts, Err(Unreadable::AnalystLost));
        let known = Known::new(facts);
        if lost {
            return known;
        }
        self.scratch.clear();
        if known.facts.is_ok() && headgate_sql::shape(text, &mut self.scratch).is_some() {
            self.shapes.put(&self.scratch, Rc::clone(&known));
        } else {
            self.exact.put(text, Rc::clone(&known));
        }
        known
    }

    /// What is kept at texts grows without new texts, too: to be called once a second.
    pub fn trim(&mut self) {
        self.exact.trim();
        self.shapes.trim();
    }

    /// What both tables take.
    pub fn bytes(&self) -> usize {
        self.exact.sum() + self.shapes.sum()
    }
}
