//! The verdict: deny before hold before allow; what nothing allows is denied.
//!
//! - A **deny** or **hold** rule looks at each top-level statement by itself: it matches when, for every field that it
//!   names, any part of that statement is in it, and `when` holds for that statement.
//! - An **allow** rule looks at the whole message: it must cover every class, verb, resource and whatever a family adds of
//!   every statement that does not come with access anyway. Allow rules do not add up.
//! - A rule that speaks of a family is of statements that have facts of that family, and of no others.
//! - A **hold** opens only the statements that it matches; the others of the message must be allowed as ever.
//! - `opaque` is covered only where `class` names it, or by a rule without `class` that has `danger_unreadable`.
//! - A text without facts is denied unless an allow rule has the `danger_` switch for it. It meets every deny and hold rule
//!   of the caller, for nobody can say that it does not.
//! - What a family demands to be named must be named by the allow rule, or by the rule that holds; what it pins is opened by
//!   no reviewer.
//!
//! A verdict is cacheable when no rule got so far as to look at time, at the text or at parameters, and nothing in it hangs on
//! what the session has set.
//!
//! Never here: a protocol, a language, the name of a family.

use crate::clock::Moment;
use crate::compiled::{Compiled, CompiledRule};
use crate::condition::Scene;
use crate::context::Context;
use crate::family::Tables;
use crate::miss::Miss;
use crate::part::{Asked, Judgeable, Part, Parts, Unread};
use crate::verdict::{Verdict, Why};
use headgate_plane::{Class, ClassSet, Effect, Rule, TargetSpec, Who};

/// The message as it is judged, with what the conditions of its rules may see.
pub(crate) struct Message<'a> {
    parts: Vec<Part<'a>>,
    /// Why there are none.
    unreadable: Option<String>,
    statements: usize,
    lasting: bool,
    text: &'a [u8],
    parameters: Option<u32>,
    who: &'a Who,
    target: &'a TargetSpec,
    moment: Moment,
}

impl Compiled {
    /// The verdict on a message, for a caller and target of which `context` was made.
    pub fn judge<M: Judgeable>(&self, context: &Context, asked: &Asked<'_, M>) -> Verdict {
        if self.epoch().0 == 0 {
            return Verdict::deny(Why::NoRules, false);
        }
        if context.epoch != self.epoch() {
            return Verdict::deny(Why::OtherEpoch, false);
        }
        let Some(message) = Message::read(asked) else {
            return Verdict::deny(Why::NamesMissing, false);
        };
        let mut volatile = !message.lasting;
        let mut verdict = self.decide(context, &message, &mut volatile);
        verdict.cacheable = !volatile;
        verdict
    }

    fn decide(&self, context: &Context, message: &Message<'_>, volatile: &mut bool) -> Verdict {
        // Denied either way: then a mistyped statement is told what is wrong with it, not which rule it might have met.
        if message.unreadable.is_some() && matches!(self.open(context, message, &[], volatile), Opened::Not) {
            return Verdict::deny(message.refusal(), true);
        }
        for (index, rule, compiled) in self.applicable(context, Effect::Deny) {
            if message.meets(self, rule, compiled, volatile).is_ok() {
                return Verdict::by_rule(Effect::Deny, index);
            }
        }
        let mut held_by = None;
        // Of each statement, the tables of the rules that hold it.
        let mut held: Vec<Vec<&Tables>> = Vec::new();
        for (index, rule, compiled) in self.applicable(context, Effect::Hold) {
            if message.unreadable.is_some() {
                if message.meets(self, rule, compiled, volatile).is_ok() {
                    held_by = held_by.or(Some(index));
                }
                continue;
            }
            for (at, part) in message.parts.iter().enumerate() {
                if message.part_meets(self, rule, compiled, part, volatile).is_ok() {
                    held.resize_with(message.parts.len(), Vec::new);
                    if let Some(held) = held.get_mut(at) {
                        held.push(&compiled.tables);
                    }
                    held_by = held_by.or(Some(index));
                }
            }
        }
        // A reviewer's yes stands in for the allow rule of what was held, and opens what the rules name which hold it; never
        // what is pinned, and never lost facts.
        let stands_in = |at: usize, part: &Part<'_>| {
            held.get(at)
                .is_some_and(|held| !held.is_empty() && part.facts.approved(held))
        };
        let left: Vec<&Part<'_>> = message
            .parts
            .iter()
            .enumerate()
            .filter(|(at, part)| !stands_in(*at, part))
            .map(|(_, part)| part)
            .collect();
        let opened = self.open(context, message, &left, volatile);
        match (held_by, opened) {
            (Some(index), Opened::ByRule(_) | Opened::ComesWithAccess | Opened::NothingLeft) => {
                Verdict::by_rule(Effect::Hold, index)
            }
            (None, Opened::ByRule(index)) => Verdict::by_rule(Effect::Allow, index),
            (None, Opened::ComesWithAccess | Opened::NothingLeft) => Verdict {
                effect: Effect::Allow,
                rule: None,
                cacheable: true,
                why: Why::ComesWithAccess,
            },
            (_, Opened::Not) => Verdict::deny(message.refusal(), true),
        }
    }

    fn open(
        &self,
        context: &Context,
        message: &Message<'_>,
        left: &[&Part<'_>],
        volatile: &mut bool,
    ) -> Opened {
        if message.unreadable.is_none() {
            if left.is_empty() {
                return Opened::NothingLeft;
            }
            if left.iter().all(|part| part.comes_with_access()) {
                return if context.any_allow {
                    Opened::ComesWithAccess
                } else {
                    Opened::Not
                };
            }
        }
        self.applicable(context, Effect::Allow)
            .find(|(_, rule, compiled)| message.covered(self, rule, compiled, left, volatile).is_ok())
            .map_or(Opened::Not, |(index, ..)| Opened::ByRule(index))
    }

    fn applicable<'c>(
        &'c self,
        context: &'c Context,
        effect: Effect,
    ) -> impl Iterator<Item = (u32, &'c Rule, &'c CompiledRule)> {
        context.rules.iter().filter_map(move |index| {
            let rule = self.rule(*index).filter(|rule| rule.effect == effect)?;
            Some((*index, rule, self.rules.get(usize::try_from(*index).ok()?)?))
        })
    }
}

enum Opened {
    ByRule(u32),
    ComesWithAccess,
    NothingLeft,
    Not,
}

impl<'a> Message<'a> {
    /// `None`: a mistake of whoever asks.
    pub(crate) fn read<M: Judgeable>(asked: &Asked<'a, M>) -> Option<Message<'a>> {
        let (parts, unreadable) = match asked.what.read() {
            Ok(mut parts) => {
                if parts.list.is_empty() {
                    parts.list.push(Part::nothing());
                }
                (parts, None)
            }
            Err(Unread::Unreadable { reason, lasting }) => {
                let none = Parts {
                    list: Vec::new(),
                    statements: 0,
                    lasting,
                };
                (none, Some(reason))
            }
            Err(Unread::Mistaken) => return None,
        };
        Some(Message {
            parts: parts.list,
            unreadable,
            statements: parts.statements,
            lasting: parts.lasting,
            text: asked.text,
            parameters: asked.parameters,
            who: asked.who,
            target: asked.target,
            moment: Moment::of(asked.now_unix_ms),
        })
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &Part<'a>> {
        self.parts.iter()
    }

    /// For deny and hold: whether any statement of the message, or the lack of facts, meets the rule.
    pub(crate) fn meets<'r>(
        &'r self,
        policy: &Compiled,
        rule: &'r Rule,
        compiled: &'r CompiledRule,
        volatile: &mut bool,
    ) -> Result<(), Miss<'r>> {
        if self.unreadable.is_some() {
            return self.conditions(policy, rule, compiled, None, volatile, true);
        }
        let mut miss = Miss::Empty;
        for part in &self.parts {
            match self.part_meets(policy, rule, compiled, part, volatile) {
                Ok(()) => return Ok(()),
                Err(why) => miss = why,
            }
        }
        Err(miss)
    }

    fn part_meets<'r>(
        &'r self,
        policy: &Compiled,
        rule: &'r Rule,
        compiled: &'r CompiledRule,
        part: &'r Part<'_>,
        volatile: &mut bool,
    ) -> Result<(), Miss<'r>> {
        let wanted = &rule.statement;
        if !part.families.holds(compiled.speaks) {
            return Err(Miss::OtherFamily(compiled.speaks));
        }
        if wanted.class.is_some_and(|class| !class.intersects(part.class)) {
            return Err(Miss::ClassNone(part.class));
        }
        if !wanted.verbs.is_empty() && !part.verbs.iter().any(|verb| wanted.verbs.contains(verb)) {
            return Err(Miss::VerbNone);
        }
        if !wanted.resources.is_empty()
            && !part.resources.iter().any(|name| is_in(&wanted.resources, name))
            && !compiled.tables.meets_resources(&part.facts)
        {
            return Err(Miss::NoneOf { what: "resource" });
        }
        compiled.tables.meets(&part.facts)?;
        self.conditions(policy, rule, compiled, Some(part), volatile, true)
    }

    /// For allow: whether the rule covers all of `left`, or the lack of facts.
    pub(crate) fn covered<'r>(
        &'r self,
        policy: &Compiled,
        rule: &'r Rule,
        compiled: &'r CompiledRule,
        left: &[&'r Part<'_>],
        volatile: &mut bool,
    ) -> Result<(), Miss<'r>> {
        if self.unreadable.is_some() {
            let grants = &rule.statement;
            let bare = grants.class.is_none()
                && grants.verbs.is_empty()
                && grants.resources.is_empty()
                && !compiled.tables.restrict();
            if !grants.danger_unreadable || !bare {
                return Err(Miss::Unreadable);
            }
            return self.conditions(policy, rule, compiled, None, volatile, false);
        }
        // All that is plain to see first: what needs time or text is looked at only where the rest is covered.
        let wanting = || left.iter().copied().filter(|part| !part.comes_with_access());
        for part in wanting() {
            part_covered(rule, compiled, part)?;
        }
        for part in wanting() {
            self.conditions(policy, rule, compiled, Some(part), volatile, false)?;
        }
        Ok(())
    }

    /// `time` and `when`. In doubt the answer is `doubt`: true for what restricts, false for what opens.
    fn conditions<'r>(
        &self,
        policy: &Compiled,
        rule: &Rule,
        compiled: &CompiledRule,
        part: Option<&Part<'_>>,
        volatile: &mut bool,
        doubt: bool,
    ) -> Result<(), Miss<'r>> {
        if let Some(window) = &rule.time {
            *volatile = true;
            if !self.moment.inside(window) {
                return Err(Miss::Time);
            }
        }
        let Some(condition) = &compiled.condition else {
            return Ok(());
        };
        *volatile |= condition.volatile();
        let scene = Scene {
            part,
            statements: self.statements,
            parameters: self.parameters,
            text: self.text,
            who: self.who,
            target: self.target,
            moment: &self.moment,
        };
        match condition.holds(&policy.evaluator, &scene) {
            Ok(true) => Ok(()),
            Ok(false) => Err(Miss::When),
            Err(_) if doubt => Ok(()),
            Err(error) => Err(Miss::WhenFailed(error)),
        }
    }

    fn refusal(&self) -> Why {
        if let Some(reason) = &self.unreadable {
            return Why::Unreadable {
                reason: reason.clone(),
            };
        }
        let facts = || self.parts.iter().map(|part| &part.facts);
        facts()
            .find_map(|facts| facts.pinned())
            .or_else(|| facts().find_map(|facts| facts.unnamed()))
            .unwrap_or(Why::NothingAllows)
    }
}

/// Whether a name that no family spells is one of a rule's.
fn is_in(resources: &[String], name: &str) -> bool {
    resources.iter().any(|known| known == "*" || known == name)
}

/// Whether an allow rule covers one statement that does not come with access.
fn part_covered<'r>(rule: &'r Rule, compiled: &'r CompiledRule, part: &'r Part<'_>) -> Result<(), Miss<'r>> {
    let granted = &rule.statement;
    if !part.families.holds(compiled.speaks) {
        return Err(Miss::OtherFamily(compiled.speaks));
    }
    compiled.tables.names(&part.facts)?;
    let needs = part.needs();
    if needs.is_empty() {
        // What is left of it comes with access.
        return Ok(());
    }
    let covered = granted.class.unwrap_or_else(|| {
        // What a rule opens by name, saying nothing else, is all that it opens.
        if compiled.tables.only_names() && granted.verbs.is_empty() && granted.resources.is_empty() {
            return ClassSet::EMPTY;
        }
        let all = ClassSet::of(&Class::ALL);
        if granted.danger_unreadable {
            all
        } else {
            all.minus(ClassSet::of(&[Class::Opaque]))
        }
    });
    let missing = needs.minus(covered);
    if !missing.is_empty() {
        return Err(Miss::ClassNotCovered(missing));
    }
    if !granted.verbs.is_empty()
        && let Some(verb) = part.verbs.iter().find(|verb| !granted.verbs.contains(verb))
    {
        return Err(Miss::Verb(verb));
    }
    if !granted.resources.is_empty() {
        if let Some(name) = part
            .resources
            .iter()
            .find(|name| !is_in(&granted.resources, name))
        {
            return Err(Miss::NotCovered {
                what: "resource",
                name,
            });
        }
        compiled.tables.covers_resources(&part.facts)?;
    }
    compiled.tables.covers(&part.facts)
}
