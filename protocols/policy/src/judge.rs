//! The verdict: deny before hold before allow; what nothing allows is denied.
//!
//! - A **deny** or **hold** rule looks at each top-level statement by itself: it matches when, for every field that it
//!   names, any part of that statement is in it, and `when` holds for that statement.
//! - An **allow** rule looks at the whole message: it must cover every class, verb, relation and function of every
//!   statement that does not come with access anyway. Allow rules do not add up.
//! - A **hold** opens only the statements that it matches; the others of the message must be allowed as ever.
//! - `opaque` is covered only where `class` names it, or by a rule without `class` that has `danger_unreadable`.
//! - A text without facts, and a pinned setting, are denied unless an allow rule has the `danger_` switch for it. A text
//!   without facts meets every deny and hold rule of the caller, for nobody can say that it does not.
//! - A setting that is followed or guarded needs an allow rule that names it, unless the change does nothing or only hides
//!   (`headgate_sql::settings`). What a session has when a statement's turn comes is worked out through the text.
//!
//! A verdict is cacheable when no rule got so far as to look at time, at the text or at parameters, and nothing in it hangs on
//! what the session has set.

use crate::asked::{Asked, ResolvedRelation, ResolvedStatement};
use crate::clock::Moment;
use crate::compiled::{COMES_WITH_ACCESS, Compiled, CompiledRule};
use crate::condition::Scene;
use crate::context::Context;
use crate::miss::Miss;
use crate::verdict::{Verdict, Why};
use headgate_plane::{Class, ClassSet, Effect, Rule, RuleStatement};
use headgate_sql::builtin::{self, RelationKind};
use headgate_sql::settings::ANY;
use headgate_sql::{Action, Facts, Needs, SessionSettings, SettingChange, Statement, Unreadable};
use std::borrow::Cow;

/// One top-level statement with its names.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub statement: &'a Statement,
    pub names: &'a ResolvedStatement,
    pub class: ClassSet,
    /// Settings that need an allow rule which names them.
    pub opens: Vec<&'a str>,
    /// A setting that no rule opens.
    pub pinned: Option<&'a str>,
}

impl<'a> Part<'a> {
    /// `session` is what it has when the statement's turn comes.
    pub(crate) fn new(
        statement: &'a Statement,
        names: &'a ResolvedStatement,
        session: &SessionSettings,
    ) -> Part<'a> {
        let mut class = statement.class.union(names.class_added);
        let unsure = |f: &headgate_sql::Function| f.schema.is_none();
        if session.search_path().shadows_catalog() && statement.functions.iter().any(unsure) {
            // A bare name of PostgreSQL's own may be somebody's function.
            class = class.with(Class::Opaque);
        }
        // A statement of no class is one that nobody understood.
        let class = if class.is_empty() {
            ClassSet::of(&[Class::Opaque])
        } else {
            class
        };
        let mut part = Part {
            statement,
            names,
            class,
            opens: Vec::new(),
            pinned: None,
        };
        for change in settings(statement) {
            match change.needs(session) {
                Needs::Nothing => {}
                Needs::Rule(name) if part.opens.contains(&name) => {}
                Needs::Rule(name) => part.opens.push(name),
                Needs::Never(name) => part.pinned = part.pinned.or(Some(name)),
            }
        }
        part
    }

    /// Classes that need an allow rule of their own.
    fn needs(&self) -> ClassSet {
        self.class.minus(COMES_WITH_ACCESS)
    }

    fn comes_with_access(&self) -> bool {
        self.needs().is_empty() && self.pinned.is_none() && self.opens.is_empty()
    }

    /// In a statement that also reads something else, system catalogs still need no mention, unless they hold data.
    fn comes_along(&self, relation: &ResolvedRelation) -> bool {
        self.class.contains(Class::Catalog)
            && !relation.written
            && builtin::relation(Some(&relation.schema), &relation.name) == RelationKind::Catalog
    }
}

/// A text without statements is judged as one that does nothing: it comes with access.
static NOTHING: Statement = Statement {
    class: ClassSet::EMPTY,
    verbs: Vec::new(),
    relations: Vec::new(),
    functions: Vec::new(),
    columns: Vec::new(),
    has_where: true,
    has_limit: false,
    parameters: 0,
    hidden_columns: false,
    action: Action::Plain,
    settings: Vec::new(),
    changes_catalog: false,
};
static NO_NAMES: ResolvedStatement = ResolvedStatement {
    relations: Vec::new(),
    functions: Vec::new(),
    class_added: ClassSet::EMPTY,
};

/// What a statement touches, and what it prepares touches.
fn settings(statement: &Statement) -> impl Iterator<Item = &SettingChange> {
    let inner = match &statement.action {
        Action::Prepare { inner, .. } | Action::Declare { inner, .. } => inner.settings.as_slice(),
        _ => &[],
    };
    statement.settings.iter().chain(inner)
}

/// The message as it is judged, with what the conditions of its rules may see.
pub(crate) struct Message<'a> {
    parts: Vec<Part<'a>>,
    unreadable: Option<&'a Unreadable>,
    statements: usize,
    asked: &'a Asked<'a>,
    moment: Moment,
}

impl Compiled {
    pub fn judge(&self, context: &Context, asked: &Asked<'_>) -> Verdict {
        if self.epoch().0 == 0 {
            return Verdict::deny(Why::NoRules, false);
        }
        if context.epoch != self.epoch() {
            return Verdict::deny(Why::OtherEpoch, false);
        }
        let Some(names) = names(asked) else {
            return Verdict::deny(Why::NamesMissing, false);
        };
        let message = Message::new(asked, &names);
        let mut volatile =
            matches!(message.unreadable, Some(Unreadable::AnalystLost)) || message.hangs_on_session();
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
        let mut held: Vec<Option<Opens<'_>>> = vec![None; message.parts.len()];
        for (index, rule, compiled) in self.applicable(context, Effect::Hold) {
            if message.unreadable.is_some() {
                if message.meets(self, rule, compiled, volatile).is_ok() {
                    held_by = held_by.or(Some(index));
                }
                continue;
            }
            for (part, held) in message.parts.iter().zip(held.iter_mut()) {
                if message.part_meets(self, rule, compiled, part, volatile).is_ok() {
                    held.get_or_insert_default().push(&rule.statement.settings);
                    held_by = held_by.or(Some(index));
                }
            }
        }
        // A reviewer's yes stands in for the allow rule of what was held, and opens the settings that the rules name which
        // hold it; never a pinned one, and never lost facts.
        let stands_in = |part: &Part<'_>, held: &Option<Opens<'_>>| {
            let opened = |name: &&str| held.iter().flatten().any(|list| list.iter().any(|s| s == name));
            held.is_some() && part.pinned.is_none() && part.opens.iter().all(opened)
        };
        let left: Vec<&Part<'_>> = message
            .parts
            .iter()
            .zip(&held)
            .filter(|(part, held)| !stands_in(part, held))
            .map(|(part, _)| part)
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

/// The settings that each rule names which holds a statement.
type Opens<'r> = Vec<&'r [String]>;

enum Opened {
    ByRule(u32),
    ComesWithAccess,
    NothingLeft,
    Not,
}

/// `None` when the names do not belong to the facts.
pub(crate) fn names<'a>(asked: &Asked<'a>) -> Option<Cow<'a, [ResolvedStatement]>> {
    match asked.facts {
        Err(_) => Some(Cow::Borrowed(&[])),
        Ok(facts) if asked.resolved.is_empty() => Some(Cow::Owned(as_written(facts, asked.session))),
        Ok(facts) if facts.statements.len() == asked.resolved.len() => Some(Cow::Borrowed(asked.resolved)),
        Ok(_) => None,
    }
}

fn as_written(facts: &Facts, session: &SessionSettings) -> Vec<ResolvedStatement> {
    let resolve =
        |session: &SessionSettings, statement: &Statement| match session.search_path().shadows_catalog() {
            false => ResolvedStatement::as_written(statement),
            true => ResolvedStatement::in_doubt(statement),
        };
    in_turn(facts, session, |statement, session, _| {
        resolve(session, statement)
    })
}

/// Goes through the statements of a text with what the session will have when the turn of each comes.
fn in_turn<'f, T>(
    facts: &'f Facts,
    session: &SessionSettings,
    mut each: impl FnMut(&'f Statement, &SessionSettings, usize) -> T,
) -> Vec<T> {
    let mut session = Cow::Borrowed(session);
    let mut list = Vec::with_capacity(facts.statements.len());
    for (at, statement) in facts.statements.iter().enumerate() {
        list.push(each(statement, &session, at));
        if at + 1 < facts.statements.len() && SessionSettings::moves(statement) {
            session.to_mut().foresee(statement);
        }
    }
    list
}

impl<'a> Message<'a> {
    pub(crate) fn new(asked: &'a Asked<'a>, names: &'a [ResolvedStatement]) -> Message<'a> {
        let parts = match asked.facts {
            Err(_) => Vec::new(),
            Ok(Facts { statements }) if statements.is_empty() => {
                vec![Part {
                    statement: &NOTHING,
                    names: &NO_NAMES,
                    class: ClassSet::EMPTY,
                    opens: Vec::new(),
                    pinned: None,
                }]
            }
            Ok(facts) => in_turn(facts, asked.session, |s, session, at| {
                Part::new(s, names.get(at).unwrap_or(&NO_NAMES), session)
            }),
        };
        Message {
            parts,
            unreadable: asked.facts.err(),
            statements: asked.facts.map_or(0, |facts| facts.statements.len()),
            asked,
            moment: Moment::of(asked.now_unix_ms),
        }
    }

    /// Whether another session's settings could lead to another verdict.
    fn hangs_on_session(&self) -> bool {
        let before_the_last = self.parts.len().saturating_sub(1);
        self.parts
            .iter()
            .any(|part| settings(part.statement).any(SettingChange::hangs_on_session))
            || self
                .parts
                .iter()
                .take(before_the_last)
                .any(|part| SessionSettings::moves(part.statement))
            || self.asked.session.search_path().shadows_catalog()
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
        if wanted.class.is_some_and(|class| !class.intersects(part.class)) {
            return Err(Miss::ClassNone(part.class));
        }
        if !wanted.verbs.is_empty()
            && !part
                .statement
                .verbs
                .iter()
                .any(|verb| wanted.verbs.contains(verb))
        {
            return Err(Miss::VerbNone);
        }
        if compiled
            .relations
            .as_ref()
            .is_some_and(|names| !part.names.relations.iter().any(|r| names.meets_relation(r)))
        {
            return Err(Miss::RelationNone);
        }
        if compiled
            .functions
            .as_ref()
            .is_some_and(|names| !part.names.functions.iter().any(|f| names.meets_function(f)))
        {
            return Err(Miss::FunctionNone);
        }
        if !wanted.settings.is_empty()
            && !settings(part.statement)
                .any(|change| change.name == ANY || wanted.settings.contains(&change.name))
        {
            return Err(Miss::SettingNone);
        }
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
                && grants.relations.is_empty()
                && grants.functions.is_empty()
                && grants.settings.is_empty();
            if !grants.danger_unreadable || !bare {
                return Err(Miss::Unreadable);
            }
            return self.conditions(policy, rule, compiled, None, volatile, false);
        }
        let wanting: Vec<&'r Part<'_>> = left
            .iter()
            .copied()
            .filter(|part| !part.comes_with_access())
            .collect();
        // All that is plain to see first: what needs time or text is looked at only where the rest is covered.
        for part in &wanting {
            part_covered(rule, compiled, part)?;
        }
        for part in &wanting {
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
        *volatile |= condition.fields.volatile();
        let scene = Scene {
            part,
            statements: self.statements,
            parameters: self.asked.parameters,
            text: self.asked.text,
            who: self.asked.who,
            target: self.asked.target,
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
        if let Some(unreadable) = self.unreadable {
            return Why::Unreadable {
                reason: crate::verdict::reason(unreadable),
            };
        }
        let setting = self.parts.iter().find_map(|part| part.opens.first());
        match (self.parts.iter().find_map(|part| part.pinned), setting) {
            (Some(name), _) => Why::PinnedSetting {
                name: name.to_owned(),
            },
            (None, Some(name)) => Why::SettingNotOpened {
                name: (*name).to_owned(),
            },
            (None, None) => Why::NothingAllows,
        }
    }
}

/// A rule that opens settings and says nothing else of statements opens those settings and nothing else.
fn only_settings(granted: &RuleStatement) -> bool {
    !granted.settings.is_empty()
        && granted.verbs.is_empty()
        && granted.relations.is_empty()
        && granted.functions.is_empty()
        && !granted.danger_unpinned
}

/// Whether an allow rule covers one statement that does not come with access.
fn part_covered<'r>(rule: &'r Rule, compiled: &'r CompiledRule, part: &'r Part<'_>) -> Result<(), Miss<'r>> {
    let granted = &rule.statement;
    if let Some(setting) = part.pinned
        && !granted.danger_unpinned
    {
        return Err(Miss::Pinned(setting));
    }
    let opened = |name: &&&str| granted.danger_unpinned || granted.settings.iter().any(|s| s == **name);
    if let Some(setting) = part.opens.iter().find(|name| !opened(name)) {
        return Err(Miss::Setting(setting));
    }
    let needs = part.needs();
    if needs.is_empty() {
        // What is left of it comes with access.
        return Ok(());
    }
    let covered = granted.class.unwrap_or_else(|| {
        if only_settings(granted) {
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
        && let Some(verb) = part
            .statement
            .verbs
            .iter()
            .find(|verb| !granted.verbs.contains(verb))
    {
        return Err(Miss::Verb(verb));
    }
    if let Some(names) = &compiled.relations
        && let Some(relation) = part
            .names
            .relations
            .iter()
            .find(|r| !part.comes_along(r) && !names.covers_relation(r))
    {
        return Err(Miss::Relation(relation));
    }
    if let Some(names) = &compiled.functions
        && let Some(function) = part.names.functions.iter().find(|f| !names.covers_function(f))
    {
        return Err(Miss::Function(function));
    }
    Ok(())
}
