//! The sql family: relations, functions, columns and settings.
//!
//! - An allow rule must name every setting that the session would follow or guard, beside covering the rest; one that names
//!   settings and says nothing else opens those and nothing else. A pinned setting is opened by `danger_unpinned` alone, and
//!   by no reviewer.
//! - In a statement that also reads something else, system catalogs need no mention, unless they hold data.
//! - What a session has when a statement's turn comes is worked out through the text, statement by statement.
//! - Columns are known by their bare names. What touches columns without naming them (`*`, a whole row, INSERT without a
//!   list) may touch any.

mod names;
mod resolved;

pub use resolved::{ResolvedFunction, ResolvedRelation, ResolvedStatement, UNRESOLVED};

use crate::condition::{Field, Read, Sample, Shown};
use crate::family::{FactsOf, Family, FamilySet, of_protocol};
use crate::miss::Miss;
use crate::part::{Judgeable, Part, Parts, Unread};
use crate::verdict::Why;
use headgate_plane::{Class, ClassSet, Effect, Rule};
use headgate_sql::builtin::{self, RelationKind};
use headgate_sql::settings::{ANY, Guard, guard};
use headgate_sql::{Action, Needs, SessionSettings, SettingChange, Statement, Unreadable};
use names::Names;
use std::borrow::Cow;
use std::collections::HashSet;

pub(crate) const FAMILY: FamilySet = FamilySet(1);

/// The family, for [`crate::family`].
#[derive(Debug)]
pub(crate) struct Sql;

/// A text with its facts, as a session sends it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// What is known of the text, or why nothing is.
    pub facts: Result<&'a headgate_sql::Facts, &'a Unreadable>,
    /// One for each of `facts.statements`, in order. Empty: names are taken as written
    /// ([`ResolvedStatement::as_written`]), which is enough where [`crate::Context::any_rule_names_resources`] is false.
    /// Any other length is doubt and denies.
    pub resolved: &'a [ResolvedStatement],
    /// What the session has of the settings that are followed ([`headgate_sql::settings::BEGAN`] for one that is new).
    /// For a text of several statements: before the first of them.
    pub session: &'a SessionSettings,
}

/// What one statement does.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    statement: &'a Statement,
    names: Cow<'a, ResolvedStatement>,
    class: ClassSet,
    /// Settings that need an allow rule which names them.
    opens: Vec<&'a str>,
    /// A setting that no rule opens.
    pinned: Option<&'a str>,
}

/// What one rule says. Small, with what is rare behind pointers: a caller's rules are gone through for each new text.
#[derive(Debug)]
pub(crate) struct Table {
    relations: Option<Box<Names>>,
    functions: Option<Box<Names>>,
    columns: Option<Box<Columns>>,
    resources: Option<Box<Names>>,
    settings: Box<[String]>,
    spoken: bool,
    danger_unpinned: bool,
}

/// Bare names, or all of them.
#[derive(Debug)]
struct Columns {
    all: bool,
    names: HashSet<Box<str>>,
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
    unnamed_columns: false,
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

impl Judgeable for Message<'_> {
    fn read(&self) -> Result<Parts<'_>, Unread> {
        let facts = match self.facts {
            Ok(facts) => facts,
            Err(why) => {
                return Err(Unread::Unreadable {
                    reason: reason(why),
                    lasting: !matches!(why, Unreadable::AnalystLost)
                        && !self.session.search_path().shadows_catalog(),
                });
            }
        };
        let statements = facts.statements.len();
        if !self.resolved.is_empty() && self.resolved.len() != statements {
            return Err(Unread::Mistaken);
        }
        if facts.statements.is_empty() {
            let facts = Facts {
                statement: &NOTHING,
                names: Cow::Borrowed(&NO_NAMES),
                class: ClassSet::EMPTY,
                opens: Vec::new(),
                pinned: None,
            };
            return Ok(Parts {
                list: vec![Part::nothing().with_sql(facts)],
                statements,
                lasting: !self.session.search_path().shadows_catalog(),
            });
        }
        let mut session = Cow::Borrowed(self.session);
        let mut list = Vec::with_capacity(statements);
        for (at, statement) in facts.statements.iter().enumerate() {
            let names = match self.resolved.get(at) {
                Some(names) => Cow::Borrowed(names),
                None if session.search_path().shadows_catalog() => {
                    Cow::Owned(ResolvedStatement::in_doubt(statement))
                }
                None => Cow::Owned(ResolvedStatement::as_written(statement)),
            };
            list.push(part(statement, names, &session));
            if at + 1 < statements && SessionSettings::moves(statement) {
                session.to_mut().foresee(statement);
            }
        }
        Ok(Parts {
            list,
            statements,
            lasting: !hangs_on_session(&facts.statements, self.session),
        })
    }
}

/// Whether another session's settings could lead to another verdict.
fn hangs_on_session(statements: &[Statement], session: &SessionSettings) -> bool {
    let before_the_last = statements.len().saturating_sub(1);
    statements
        .iter()
        .any(|statement| settings(statement).any(SettingChange::hangs_on_session))
        || statements
            .iter()
            .take(before_the_last)
            .any(SessionSettings::moves)
        || session.search_path().shadows_catalog()
}

/// `session` is what it has when the statement's turn comes.
fn part<'a>(
    statement: &'a Statement,
    names: Cow<'a, ResolvedStatement>,
    session: &SessionSettings,
) -> Part<'a> {
    let mut class = statement.class.union(names.class_added);
    let unsure = |f: &headgate_sql::Function| f.schema.is_none();
    if session.search_path().shadows_catalog() && statement.functions.iter().any(unsure) {
        // A bare name of PostgreSQL's own may be somebody's function.
        class = class.with(Class::Opaque);
    }
    let part = Part::new(class, &statement.verbs).with_parameters(u32::from(statement.parameters));
    let mut facts = Facts {
        statement,
        names,
        class: part.class,
        opens: Vec::new(),
        pinned: None,
    };
    for change in settings(statement) {
        match change.needs(session) {
            Needs::Nothing => {}
            Needs::Rule(name) if facts.opens.contains(&name) => {}
            Needs::Rule(name) => facts.opens.push(name),
            Needs::Never(name) => facts.pinned = facts.pinned.or(Some(name)),
        }
    }
    part.with_sql(facts)
}

impl<'a> Part<'a> {
    #[expect(clippy::needless_update, reason = "families to come have facts beside these")]
    fn with_sql(self, facts: Facts<'a>) -> Part<'a> {
        Part {
            families: self.families.union(FAMILY),
            facts: FactsOf {
                sql: Some(facts),
                ..self.facts
            },
            ..self
        }
    }
}

impl Facts<'_> {
    /// In a statement that also reads something else, system catalogs still need no mention, unless they hold data.
    fn comes_along(&self, relation: &ResolvedRelation) -> bool {
        self.class.contains(Class::Catalog)
            && !relation.written
            && builtin::relation(Some(&relation.schema), &relation.name) == RelationKind::Catalog
    }

    fn covered_by<'r>(&'r self, names: Option<&Names>, what: &'static str) -> Result<(), Miss<'r>> {
        let Some(names) = names else { return Ok(()) };
        let missing = |r: &&ResolvedRelation| !self.comes_along(r) && !names.covers_relation(r);
        match self.names.relations.iter().find(missing) {
            None => Ok(()),
            Some(name) => Err(Miss::NotCovered { what, name }),
        }
    }

    fn met_by(&self, names: Option<&Names>) -> bool {
        names.is_none_or(|names| self.names.relations.iter().any(|r| names.meets_relation(r)))
    }
}

impl Columns {
    fn parse(list: &[String]) -> Result<Option<Columns>, String> {
        if list.is_empty() {
            return Ok(None);
        }
        let mut columns = Columns {
            all: false,
            names: HashSet::new(),
        };
        for name in list {
            match name.as_str() {
                "*" => columns.all = true,
                "" => return Err("an empty name".to_owned()),
                dotted if dotted.contains(['.', '*']) => {
                    return Err(format!(
                        "column `{name}`: a column is named without its relation, as in `email`; `*` stands for all"
                    ));
                }
                name => {
                    columns.names.insert(name.into());
                }
            }
        }
        Ok(Some(columns))
    }

    /// Of a statement that touches columns which it does not name, any column may be one of them.
    fn meets(&self, statement: &Statement) -> bool {
        let named = |name: &String| self.names.contains(name.as_str());
        // `email(customers)` is `customers.email` written in another way.
        let calls = |f: &headgate_sql::Function| self.names.contains(f.name.as_str());
        statement.unnamed_columns
            || statement.columns.iter().any(named)
            || statement.functions.iter().any(calls)
            || (self.all && !statement.columns.is_empty())
    }
}

/// What a statement touches beside those that it names.
const UNNAMED: &str = "*";

impl Family for Sql {
    const NAME: &'static str = "sql";
    const FIELDS: &'static [Field] = FIELDS;
    type Facts<'a> = Facts<'a>;
    type Table = Table;

    fn compile(rule: &Rule) -> Result<Table, String> {
        let sql = rule.statement.sql();
        if rule.effect != Effect::Allow && sql.danger_unpinned {
            return Err("danger_unpinned is for allow rules".to_owned());
        }
        if rule.effect == Effect::Allow
            && let Some(name) = sql.settings.iter().find(|name| guard(name) == Guard::Pinned)
        {
            // A rule that seems to open what nothing opens would be read as if it did.
            return Err(format!(
                "the gateway keeps the setting `{name}` whatever rules say: sql.settings cannot open it"
            ));
        }
        if sql
            .settings
            .iter()
            .any(|name| name.is_empty() || name == ANY || *name != name.to_ascii_lowercase())
        {
            return Err("sql.settings are names in lower case".to_owned());
        }
        Ok(Table {
            relations: Names::relations(&sql.relations)?.map(Box::new),
            functions: Names::functions(&sql.functions)?.map(Box::new),
            columns: Columns::parse(&sql.columns)?.map(Box::new),
            resources: resources(rule)?.map(Box::new),
            settings: sql.settings.as_slice().into(),
            spoken: *sql != headgate_plane::RuleSql::default(),
            danger_unpinned: sql.danger_unpinned,
        })
    }

    fn speaks(table: &Table) -> bool {
        table.spoken
    }

    fn restricts(table: &Table) -> bool {
        table.relations.is_some()
            || table.functions.is_some()
            || table.columns.is_some()
            || !table.settings.is_empty()
    }

    fn wants_names(table: &Table) -> bool {
        table.relations.is_some() || table.functions.is_some() || table.resources.is_some()
    }

    fn meets<'r>(table: &'r Table, facts: &'r Facts<'_>) -> Result<(), Miss<'r>> {
        let none = |what| Err(Miss::NoneOf { what });
        if !facts.met_by(table.relations.as_deref()) {
            return none("relation");
        }
        if table
            .functions
            .as_ref()
            .is_some_and(|names| !facts.names.functions.iter().any(|f| names.meets_function(f)))
        {
            return none("function");
        }
        if table
            .columns
            .as_ref()
            .is_some_and(|columns| !columns.meets(facts.statement))
        {
            return none("column");
        }
        let wanted = &table.settings;
        if !wanted.is_empty()
            && !settings(facts.statement).any(|change| change.name == ANY || wanted.contains(&change.name))
        {
            return none("setting");
        }
        Ok(())
    }

    fn covers<'r>(table: &'r Table, facts: &'r Facts<'_>) -> Result<(), Miss<'r>> {
        facts.covered_by(table.relations.as_deref(), "relation")?;
        if let Some(names) = &table.functions
            && let Some(name) = facts.names.functions.iter().find(|f| !names.covers_function(f))
        {
            return Err(Miss::NotCovered {
                what: "function",
                name,
            });
        }
        if let Some(columns) = table.columns.as_ref().filter(|columns| !columns.all) {
            let outside = |name: &&String| !columns.names.contains(name.as_str());
            let what = "column";
            if facts.statement.unnamed_columns {
                return Err(Miss::NotCovered { what, name: &UNNAMED });
            }
            if let Some(name) = facts.statement.columns.iter().find(outside) {
                return Err(Miss::NotCovered { what, name });
            }
        }
        Ok(())
    }

    fn meets_resources(table: &Table, facts: &Facts<'_>) -> bool {
        table.resources.is_some() && facts.met_by(table.resources.as_deref())
    }

    fn covers_resources<'r>(table: &'r Table, facts: &'r Facts<'_>) -> Result<(), Miss<'r>> {
        facts.covered_by(table.resources.as_deref(), "resource")
    }

    fn resources<'x>(facts: &'x Facts<'_>, all: &mut Vec<Cow<'x, str>>) {
        let relations = facts.names.relations.iter();
        all.extend(relations.map(|r| Cow::<str>::Owned(r.to_string())));
    }

    fn demands(facts: &Facts<'_>) -> bool {
        facts.pinned.is_some() || !facts.opens.is_empty()
    }

    fn names<'r>(table: &'r Table, facts: &'r Facts<'_>) -> Result<(), Miss<'r>> {
        if table.danger_unpinned {
            return Ok(());
        }
        let what = "setting";
        if let Some(name) = facts.pinned {
            return Err(Miss::Pinned {
                what,
                name,
                switch: "danger_unpinned",
            });
        }
        let opened = |name: &&&str| table.settings.iter().any(|s| s == **name);
        match facts.opens.iter().find(|name| !opened(name)) {
            None => Ok(()),
            Some(name) => Err(Miss::NotNamed { what, name }),
        }
    }

    fn only_names(table: &Table) -> bool {
        !table.settings.is_empty()
            && table.relations.is_none()
            && table.functions.is_none()
            && table.columns.is_none()
            && !table.danger_unpinned
    }

    /// A reviewer's yes opens the settings that the rules name which hold the statement; never a pinned one.
    fn approved<'r>(facts: &Facts<'_>, held_by: impl Iterator<Item = &'r Table> + Clone) -> bool {
        let named = |name: &&str| {
            held_by
                .clone()
                .any(|table| table.settings.iter().any(|s| s == name))
        };
        facts.pinned.is_none() && facts.opens.iter().all(named)
    }

    fn pinned(facts: &Facts<'_>) -> Option<Why> {
        let name = facts.pinned?.to_owned();
        Some(Why::Pinned {
            what: "setting",
            name,
        })
    }

    fn unnamed(facts: &Facts<'_>) -> Option<Why> {
        let name = (*facts.opens.first()?).to_owned();
        Some(Why::NotOpened {
            what: "setting",
            name,
        })
    }
}

/// Its columns are this family's.
pub(super) fn check_mask(mask: &headgate_plane::MaskRule) -> Result<(), String> {
    for column in &mask.columns {
        if column.split('.').count() < 3 || column.split('.').any(str::is_empty) {
            return Err(format!("column `{column}` is not `schema.table.column`"));
        }
    }
    let protocols = &mask.target.protocols;
    if !mask.columns.is_empty() && !protocols.is_empty() && !protocols.iter().any(is_mine) {
        return Err("it has columns, and none of target.protocols has any".to_owned());
    }
    Ok(())
}

fn is_mine(protocol: &headgate_plane::Protocol) -> bool {
    of_protocol(*protocol).holds(FAMILY)
}

/// A rule that is of other protocols spells its resources as they do.
fn resources(rule: &Rule) -> Result<Option<Names>, String> {
    let protocols = &rule.target.protocols;
    if !protocols.is_empty() && !protocols.iter().any(is_mine) {
        return Ok(None);
    }
    Names::relations(&rule.statement.resources).map_err(|why| {
        format!("resources: {why}; of other protocols' statements it would need target.protocols")
    })
}

/// Why there are no facts, as the client may read it.
fn reason(unreadable: &Unreadable) -> String {
    match unreadable {
        Unreadable::TooLong { bytes, max } => format!("it has {bytes} bytes, at most {max} are read"),
        Unreadable::TooManyTokens { max } => format!("it has more than {max} words and signs"),
        Unreadable::TooDeep { max } => format!("it is nested deeper than {max}"),
        Unreadable::NotUtf8 => "it is not UTF-8".to_owned(),
        Unreadable::Unterminated => "a literal, comment or identifier does not end".to_owned(),
        Unreadable::Syntax { message, position } => format!("{message} at character {position}"),
        Unreadable::AnalystLost => "it could not be analysed in time".to_owned(),
        Unreadable::UnknownNode { tag } => format!("Headgate does not know `{tag}`"),
    }
}

const FIELDS: &[Field] = &[
    Field::new(
        "sql",
        "relations",
        Sample::Texts(&["public.orders"]),
        Read::Family(|facts| relations(facts, |_| true)),
        "relations that it reads or writes, as `schema.name`",
    )
    .with_names()
    .also_in("statement"),
    Field::new(
        "sql",
        "relations_read",
        Sample::Texts(&["public.orders"]),
        Read::Family(|facts| relations(facts, |r| r.read)),
        "those that it reads",
    )
    .with_names()
    .also_in("statement"),
    Field::new(
        "sql",
        "relations_written",
        Sample::Texts(&["public.orders"]),
        Read::Family(|facts| relations(facts, |r| r.written)),
        "those that it writes",
    )
    .with_names()
    .also_in("statement"),
    Field::new(
        "sql",
        "columns",
        Sample::Texts(&["id"]),
        Read::Family(|facts| {
            let columns = facts.sql.as_ref()?.statement.columns.iter();
            Some(Shown::Texts(columns.map(|c| Cow::Borrowed(c.as_str())).collect()))
        }),
        "bare names of columns that it names",
    )
    .also_in("statement"),
    Field::new(
        "sql",
        "functions",
        Sample::Texts(&["lower"]),
        Read::Family(|facts| {
            let functions = facts.sql.as_ref()?.names.functions.iter();
            Some(Shown::Texts(
                functions.map(|f| Cow::Owned(f.to_string())).collect(),
            ))
        }),
        "functions that it calls: bare for those of `pg_catalog`",
    )
    .with_names()
    .also_in("statement"),
    Field::new(
        "sql",
        "has_where",
        Sample::Bool(true),
        Read::Family(|facts| Some(Shown::Bool(facts.sql.as_ref()?.statement.has_where))),
        "false when an UPDATE or DELETE in it has no WHERE",
    )
    .also_in("statement"),
    Field::new(
        "sql",
        "has_limit",
        Sample::Bool(true),
        Read::Family(|facts| Some(Shown::Bool(facts.sql.as_ref()?.statement.has_limit))),
        "whether a SELECT in it has a LIMIT",
    )
    .also_in("statement"),
];

fn relations<'x>(facts: &'x FactsOf<'x>, wanted: fn(&ResolvedRelation) -> bool) -> Option<Shown<'x>> {
    let relations = facts.sql.as_ref()?.names.relations.iter();
    Some(Shown::Texts(
        relations
            .filter(|r| wanted(r))
            .map(|r| Cow::Owned(r.to_string()))
            .collect(),
    ))
}
