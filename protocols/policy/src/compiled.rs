//! A snapshot as tables, and its narrowing to one caller on one target.

use crate::clock;
use crate::condition::{Condition, Evaluator, Field, Shown};
use crate::context::{Context, ContextId};
use crate::family::{self, FamilySet, Tables};
use crate::people::{Doubt, People, target_applies};
use headgate_plane::{
    Class, ClassSet, Effect, Epoch, MaskRule, OnHold, Rule, RuleWho, Snapshot, TargetSpec, Who,
};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How many contexts of one epoch are remembered so that equal ones share an id. Beyond it each gets an id of its own.
pub const SHARED_CONTEXTS_MAX: usize = 16 * 1024;

/// Ids are never reused in a process: a cache that outlives an epoch cannot give the verdicts of another.
static NEXT_CONTEXT: AtomicU64 = AtomicU64::new(1);

/// Why a snapshot cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Name of the rule or mask.
    pub rule: String,
    pub reason: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\": {}", self.rule, self.reason)
    }
}

/// `Send + Sync`; put it behind an `Arc`. Its rules, masks and tables never change.
#[derive(Debug)]
pub struct Compiled {
    snapshot: Arc<Snapshot>,
    pub(crate) rules: Vec<CompiledRule>,
    masks: Vec<CompiledMask>,
    pub(crate) evaluator: Evaluator,
    shared: Mutex<HashMap<Vec<u8>, ContextId>>,
}

#[derive(Debug)]
pub(crate) struct CompiledRule {
    people: People,
    pub(crate) tables: Tables,
    pub(crate) condition: Option<Condition>,
    /// Families that its tables and its condition speak of: it is of statements that have facts of all of them.
    pub(crate) speaks: FamilySet,
}

#[derive(Debug)]
struct CompiledMask {
    people: People,
    unless: Option<People>,
}

impl Compiled {
    pub fn new(snapshot: Arc<Snapshot>) -> Result<Compiled, Vec<Problem>> {
        let evaluator = Evaluator::new();
        let mut problems = Vec::new();
        let mut rules = Vec::with_capacity(snapshot.rules.len());
        for rule in &snapshot.rules {
            match compile_rule(rule, &evaluator) {
                Ok(compiled) => rules.push(compiled),
                Err(reason) => problems.push(Problem {
                    rule: rule.name.clone(),
                    reason,
                }),
            }
        }
        let mut masks = Vec::with_capacity(snapshot.masks.len());
        for mask in &snapshot.masks {
            match compile_mask(mask) {
                Ok(compiled) => masks.push(compiled),
                Err(reason) => problems.push(Problem {
                    rule: mask.name.clone(),
                    reason,
                }),
            }
        }
        if u32::try_from(rules.len().max(masks.len())).is_err() {
            problems.push(Problem {
                rule: String::new(),
                reason: "more rules than can be numbered".to_owned(),
            });
        }
        if problems.is_empty() {
            Ok(Compiled {
                snapshot,
                rules,
                masks,
                evaluator,
                shared: Mutex::default(),
            })
        } else {
            Err(problems)
        }
    }

    /// Denies everything: what a gateway uses before its first snapshot.
    pub fn none() -> Compiled {
        Compiled {
            snapshot: Arc::default(),
            rules: Vec::new(),
            masks: Vec::new(),
            evaluator: Evaluator::new(),
            shared: Mutex::default(),
        }
    }

    pub fn epoch(&self) -> Epoch {
        self.snapshot.epoch
    }

    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    pub fn rule(&self, index: u32) -> Option<&Rule> {
        self.snapshot.rules.get(usize::try_from(index).ok()?)
    }

    pub fn mask(&self, index: u32) -> Option<&MaskRule> {
        self.snapshot.masks.get(usize::try_from(index).ok()?)
    }

    /// The rules and masks that this caller can meet on this target. Once per session and epoch: it goes through all.
    pub fn context(&self, who: &Who, target: &TargetSpec) -> Context {
        let mut rules = Vec::new();
        let mut seen = Seen::default();
        let (mut names_wanted, mut any_allow, mut any_hold) = (false, false, false);
        for (index, (compiled, rule)) in (0u32..).zip(self.rules.iter().zip(&self.snapshot.rules)) {
            if compiled.applies(rule, who, target).is_err() {
                continue;
            }
            rules.push(index);
            any_allow |= rule.effect == Effect::Allow;
            any_hold |= rule.effect == Effect::Hold;
            names_wanted |= compiled.tables.wants_names();
            if let Some(condition) = &compiled.condition {
                names_wanted |= condition.names_wanted();
                seen.add(condition);
            }
        }
        let masks: Vec<u32> = (0u32..)
            .zip(self.masks.iter().zip(&self.snapshot.masks))
            .filter(|(_, (compiled, mask))| compiled.covers(mask, who, target))
            .map(|(index, _)| index)
            .collect();
        Context {
            id: self.id(seen.key(&rules, &masks, who, target)),
            epoch: self.epoch(),
            rules: rules.into(),
            masks: masks.into(),
            names_wanted,
            any_allow,
            any_hold,
        }
    }

    fn id(&self, key: Vec<u8>) -> ContextId {
        // A poisoned lock leaves a map that is still true: entries are only ever added whole.
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = shared.get(&key) {
            return *id;
        }
        let id = ContextId(NEXT_CONTEXT.fetch_add(1, Ordering::Relaxed));
        if shared.len() < SHARED_CONTEXTS_MAX {
            shared.insert(key, id);
        }
        id
    }
}

impl CompiledRule {
    /// `Err` names the field of `who` or `target` that keeps the rule from this caller.
    pub(crate) fn applies(&self, rule: &Rule, who: &Who, target: &TargetSpec) -> Result<(), String> {
        let doubt = if rule.effect == Effect::Allow {
            Doubt::DoesNotApply
        } else {
            Doubt::Applies
        };
        self.people
            .apply(who, doubt)
            .map_err(|field| format!("who.{field}"))?;
        target_applies(&rule.target, target).map_err(|field| format!("target.{field}"))?;
        self.speaks_to(rule, target)
    }

    /// Whether statements of the target's protocol can have what the rule speaks of. An allow rule that says nothing of that,
    /// and names no target, is of what it was of before there were other protocols.
    fn speaks_to(&self, rule: &Rule, target: &TargetSpec) -> Result<(), String> {
        let families = family::of_protocol(target.protocol);
        if !families.holds(self.speaks) {
            return Err(format!(
                "{} of a target of {}",
                self.speaks.names(),
                target.protocol
            ));
        }
        let unsaid =
            self.speaks.is_empty() && rule.target.protocols.is_empty() && rule.target.names.is_empty();
        if rule.effect == Effect::Allow && unsaid && !families.holds(family::UNSAID) {
            return Err("target.protocols".to_owned());
        }
        Ok(())
    }
}

impl CompiledMask {
    fn covers(&self, mask: &MaskRule, who: &Who, target: &TargetSpec) -> bool {
        self.people.apply(who, Doubt::Applies).is_ok()
            && target_applies(&mask.target, target).is_ok()
            && self
                .unless
                .as_ref()
                .is_none_or(|unless| unless.apply(who, Doubt::DoesNotApply).is_err())
    }
}

fn compile_rule(rule: &Rule, evaluator: &Evaluator) -> Result<CompiledRule, String> {
    let statement = &rule.statement;
    if rule.effect == Effect::Allow {
        only_narrowed_by_chain(&rule.who)?;
    } else if statement.danger_unreadable {
        return Err("danger_unreadable is for allow rules".to_owned());
    }
    if rule.effect != Effect::Hold && rule.data_open {
        return Err("data = \"open\" is for hold rules".to_owned());
    }
    if rule.effect != Effect::Hold && rule.on_hold != OnHold::Wait {
        return Err("on_hold = \"refuse\" is for hold rules".to_owned());
    }
    if statement.class == Some(ClassSet::EMPTY) {
        return Err("statement.class is empty, so it never matches".to_owned());
    }
    if let Some(reason) = rule.time.as_ref().and_then(clock::window_problem) {
        return Err(reason.to_owned());
    }
    let tables = Tables::compile(rule)?;
    let condition = rule
        .when
        .as_deref()
        .map(|source| Condition::compile(source, evaluator))
        .transpose()?;
    let speaks = tables
        .speaks()
        .union(condition.as_ref().map_or(FamilySet::EMPTY, Condition::speaks));
    let protocols = &rule.target.protocols;
    if !protocols.is_empty() && !protocols.iter().any(|p| family::of_protocol(*p).holds(speaks)) {
        return Err(format!(
            "it speaks of {}, and none of target.protocols has statements with such facts",
            speaks.names()
        ));
    }
    Ok(CompiledRule {
        people: People::new(&rule.who)?,
        tables,
        condition,
        speaks,
    })
}

/// Only the principal and the outermost actor open a door (RFC 8693 section 4.1: prior actors are informational).
fn only_narrowed_by_chain(who: &RuleWho) -> Result<(), String> {
    if !who.chain.is_empty() && !People::names_who_may_open(who) {
        return Err("who.chain can only narrow: name principals, groups or actors as well".to_owned());
    }
    Ok(())
}

fn compile_mask(mask: &MaskRule) -> Result<CompiledMask, String> {
    if mask.columns.is_empty() && mask.detect.is_empty() {
        return Err("covers nothing: give columns or detect".to_owned());
    }
    family::check_mask(mask)?;
    if let Some(unless) = &mask.unless {
        if *unless == RuleWho::default() {
            return Err("unless names nobody, which would be everybody".to_owned());
        }
        only_narrowed_by_chain(unless)?;
    }
    Ok(CompiledMask {
        people: People::new(&mask.who)?,
        unless: mask.unless.as_ref().map(People::new).transpose()?,
    })
}

/// What of caller and target the conditions of a context can see.
#[derive(Default)]
struct Seen {
    fields: Vec<&'static Field>,
}

impl Seen {
    fn add(&mut self, condition: &Condition) {
        for field in condition.fields() {
            if !self.fields.iter().any(|seen| std::ptr::eq(*seen, field)) {
                self.fields.push(field);
            }
        }
    }

    /// Every item has its length before it, so no two different sets share a key. What a field puts here is what a condition
    /// sees of it: nothing is listed a second time.
    fn key(&self, rules: &[u32], masks: &[u32], who: &Who, target: &TargetSpec) -> Vec<u8> {
        let mut key = Vec::with_capacity(64);
        for list in [rules, masks] {
            put_count(&mut key, list.len());
            list.iter()
                .for_each(|index| key.extend_from_slice(&index.to_be_bytes()));
        }
        for shown in self
            .fields
            .iter()
            .filter_map(|field| field.of_identity(who, target))
        {
            match shown {
                Shown::Bool(value) => key.push(u8::from(value)),
                Shown::Number(value) => key.extend_from_slice(&value.to_be_bytes()),
                Shown::Text(text) => put(&mut key, text),
                Shown::Texts(list) => {
                    put_count(&mut key, list.len());
                    list.iter().for_each(|item| put(&mut key, item));
                }
                Shown::Map(pairs) => {
                    put_count(&mut key, pairs.len());
                    for (name, value) in pairs {
                        put(&mut key, name);
                        put(&mut key, value);
                    }
                }
            }
        }
        key
    }
}

fn put_count(key: &mut Vec<u8>, count: usize) {
    key.extend_from_slice(&(count as u64).to_be_bytes());
}

fn put(key: &mut Vec<u8>, text: &str) {
    put_count(key, text.len());
    key.extend_from_slice(text.as_bytes());
}

/// What every allow rule of the caller on the target brings along.
pub(crate) const COMES_WITH_ACCESS: ClassSet = ClassSet::EMPTY
    .with(Class::Session)
    .with(Class::Transaction)
    .with(Class::Catalog);
