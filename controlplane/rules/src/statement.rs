//! What a rule says of statements: the neutral fields here, those of each family in its file.

use crate::family;
use crate::known;
use crate::problem::{Problems, unknown};
use crate::text::{RuleText, StatementText};
use crate::values::{each, protocols, words};
use headgate_plane::{Class, ClassSet, Effect, Protocol, RuleStatement};
use toml::Spanned;

pub(crate) fn statement(
    rule: &RuleText,
    effect: Effect,
    name: &str,
    problems: &mut Problems<'_>,
) -> RuleStatement {
    let nothing = StatementText::default();
    let text = rule.statement.as_ref().unwrap_or(&nothing);
    let class = each(&text.class, name, problems, |word| {
        Class::parse(word).ok_or_else(|| unknown("class", word, &known::classes()))
    });
    words(&text.class, "class", name, problems);
    let families = family::tables(rule, effect, name, problems);
    let protocols = rule.target.as_ref().map(protocols).unwrap_or_default();
    each(&text.verbs, name, problems, |word| verb(word, &protocols));
    let statement = RuleStatement {
        class: text.class.as_ref().map(|_| ClassSet::of(&class)),
        verbs: words(&text.verbs, "verbs", name, problems),
        resources: words(&text.resources, "resources", name, problems),
        danger_unreadable: text.danger_unreadable.as_ref().is_some_and(|d| *d.as_ref()),
        families,
    };
    if let Some(switch) = text.danger_unreadable.as_ref().filter(|on| *on.as_ref()) {
        if effect != Effect::Allow {
            problems.add(name, switch.span(), "a danger_ switch is for allow rules");
        } else if says_more(&statement) {
            problems.add(
                name,
                switch.span(),
                "danger_unreadable never matches beside class, verbs, resources or a family's fields: give it a rule of its own",
            );
        }
    }
    asks_for_protocols(rule, &statement, effect, name, problems);
    statement
}

/// Whether the rule says of which statements it is, beside that they need not be readable.
fn says_more(statement: &RuleStatement) -> bool {
    let lists = [&statement.verbs, &statement.resources];
    statement.class.is_some()
        || lists.iter().any(|list| !list.is_empty())
        || statement.families.iter().any(family::restricts)
}

/// Verbs of a protocol that no family knows yet are taken as they are.
fn verb(word: &str, protocols: &[Protocol]) -> Result<(), String> {
    if protocols.is_empty() {
        return family::sql::verb(word).map_err(|why| {
            format!("{why}; for verbs of other protocols than databases', name target.protocols")
        });
    }
    let mut refused = None;
    for protocol in protocols {
        match family::verb(*protocol, word) {
            Ok(()) => return Ok(()),
            Err(why) => refused = refused.or(Some(why)),
        }
    }
    refused.map_or(Ok(()), Err)
}

/// An allow rule that names neither targets nor protocols, and has neutral fields only, is of databases: one that means more
/// by its classes must say so.
fn asks_for_protocols(
    rule: &RuleText,
    statement: &RuleStatement,
    effect: Effect,
    name: &str,
    problems: &mut Problems<'_>,
) {
    let said = rule
        .target
        .as_ref()
        .is_some_and(|t| t.protocols.is_some() || t.names.is_some());
    if effect != Effect::Allow || said {
        return;
    }
    let (Some(classes), Some(text)) = (
        statement.class,
        rule.statement.as_ref().and_then(|s| s.class.as_ref()),
    ) else {
        return;
    };
    let never = classes.minus(family::sql::CLASSES);
    if let Some(class) = never.iter().next() {
        problems.add(
            name,
            Spanned::span(text),
            format!(
                "class `{}` is of no database's statement, and an allow rule without target.protocols or target.names is of databases: name target.protocols",
                class.name()
            ),
        );
    }
}
