//! `sql = { … }` of a rule, and the fields of `statement` that are the sql family's too.

use crate::problem::{Problems, unknown};
use crate::text::{RuleText, SqlText, StatementText, Words};
use crate::values::{each, words};
use headgate_plane::{Class, ClassSet, Effect, RuleSql};
use headgate_sql::settings::{ANY, Guard, guard};
use toml::Spanned;

/// Verbs that facts may hold, in lower case.
pub const VERBS: &[&str] = &include!("sql_verbs.in");

/// Classes that a statement of a database can have.
pub(crate) const CLASSES: ClassSet = ClassSet::EMPTY
    .with(Class::Read)
    .with(Class::Write)
    .with(Class::Ddl)
    .with(Class::Grant)
    .with(Class::Session)
    .with(Class::Transaction)
    .with(Class::Catalog)
    .with(Class::Maintenance)
    .with(Class::Opaque);

pub(crate) fn verb(word: &str) -> Result<(), String> {
    if VERBS.contains(&word) {
        Ok(())
    } else {
        Err(unknown("verb", word, VERBS))
    }
}

pub(crate) fn restricts(table: &RuleSql) -> bool {
    let lists = [
        &table.relations,
        &table.functions,
        &table.columns,
        &table.settings,
    ];
    lists.iter().any(|list| !list.is_empty())
}

/// `None`: the rule says nothing of the kind.
pub(crate) fn table(
    rule: &RuleText,
    effect: Effect,
    name: &str,
    problems: &mut Problems<'_>,
) -> Option<RuleSql> {
    let (none, nothing) = (SqlText::default(), StatementText::default());
    let own = rule.sql.as_ref().unwrap_or(&none);
    let older = rule.statement.as_ref().unwrap_or(&nothing);
    let relations = once(&own.relations, &older.relations, "relations", name, problems);
    let functions = once(&own.functions, &older.functions, "functions", name, problems);
    let settings = once(&own.settings, &older.settings, "settings", name, problems);
    each(relations, name, problems, |word| {
        if word == "*" || word.contains('.') {
            Ok(())
        } else {
            Err(format!("relation `{word}` has no schema: write `public.{word}`"))
        }
    });
    each(&own.columns, name, problems, |word| {
        if word == "*" || !word.contains(['.', '*']) {
            Ok(())
        } else {
            Err(format!(
                "column `{word}`: a column is named without its relation, as in `email`; `*` stands for all"
            ))
        }
    });
    each(settings, name, problems, |word| setting(word, effect));
    let mut unpinned = false;
    for switch in [&own.danger_unpinned, &older.danger_unpinned]
        .into_iter()
        .flatten()
    {
        if *switch.as_ref() && effect != Effect::Allow {
            problems.add(name, switch.span(), "a danger_ switch is for allow rules");
        }
        unpinned |= *switch.as_ref();
    }
    let table = RuleSql {
        relations: words(relations, "relations", name, problems),
        functions: words(functions, "functions", name, problems),
        columns: words(&own.columns, "columns", name, problems),
        settings: words(settings, "settings", name, problems),
        danger_unpinned: unpinned,
    };
    (table != RuleSql::default()).then_some(table)
}

/// A field that can stand in either place stands in one.
fn once<'t>(
    own: &'t Words,
    older: &'t Words,
    what: &str,
    name: &str,
    problems: &mut Problems<'_>,
) -> &'t Words {
    if let (Some(_), Some(older)) = (own, older) {
        let message = format!("sql.{what} and statement.{what} are the same field: give it once");
        problems.add(name, Spanned::span(older), message);
    }
    if own.is_some() { own } else { older }
}

/// A name as facts have it; in an allow rule one that a rule can open.
fn setting(word: &str, effect: Effect) -> Result<(), String> {
    if word.is_empty() || word == ANY || word != word.to_ascii_lowercase() {
        return Err(format!(
            "setting `{word}` is not a name in lower case, as in `search_path`"
        ));
    }
    match guard(word) {
        Guard::Pinned if effect == Effect::Allow => Err(format!(
            "the gateway keeps the setting `{word}` whatever rules say: an allow rule cannot open it"
        )),
        Guard::None if effect == Effect::Allow => Err(format!(
            "the setting `{word}` is every client's own: it needs no rule that opens it"
        )),
        _ => Ok(()),
    }
}
