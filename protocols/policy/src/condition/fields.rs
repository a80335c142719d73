//! What conditions see: one table, of which each family has its part.
//!
//! A row says where the value comes from, and that decides all else: what names the field passes the check, what its value
//! reads is what the evaluation shows and what a context's key holds, and whether a verdict that looks at it is kept follows
//! from the source. The reference page is made from the rows ([`reference`]).

use crate::clock::{Moment, weekday_name};
use crate::condition::{CEL_TEXT_BYTES_MAX, Scene, Unshown};
use crate::family::{self, FactsOf, FamilySet};
use crate::part::Part;
use headgate_plane::{TargetSpec, Who};
use std::borrow::Cow;

/// A value as a condition sees it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shown<'a> {
    Bool(bool),
    Number(i64),
    Text(&'a str),
    Texts(Vec<Cow<'a, str>>),
    Map(&'a [(String, String)]),
}

/// A made-up value of the field's type: conditions are tried out on it when they are compiled, and the reference shows it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sample {
    Bool(bool),
    Number(i64),
    Text(&'static str),
    Texts(&'static [&'static str]),
    /// One key with its value.
    Map(&'static str, &'static str),
}

/// Where a value comes from.
#[derive(Clone, Copy)]
pub(crate) enum Read {
    /// The caller: part of the context's key.
    Who(for<'x> fn(&'x Who) -> Shown<'x>),
    /// The target: part of the context's key.
    Target(for<'x> fn(&'x TargetSpec) -> Shown<'x>),
    /// The neutral facts of the statement, which are the same whenever its text and names are.
    Part(for<'x> fn(&'x Part<'x>) -> Shown<'x>),
    /// A family's facts of the statement; `None` where it has none of that family.
    Family(for<'x> fn(&'x FactsOf<'x>) -> Option<Shown<'x>>),
    /// The neutral facts of the whole message, the same whenever its text is.
    Message(for<'x> fn(&'x Scene<'x>) -> Shown<'x>),
    /// What this message alone brings: its bytes, its values. Never kept.
    Given(for<'x> fn(&'x Scene<'x>) -> Result<Shown<'x>, Unshown>),
    /// The time of the question. Never kept.
    Now(for<'x> fn(&'x Moment) -> Shown<'x>),
}

/// For how long a verdict that looked at a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// As long as the caller and the target are the same: the field is in the context's key.
    ByIdentity,
    /// As long as the text and its names are the same, which is what verdicts are kept by.
    ByText,
    /// Not at all.
    Never,
}

/// One field that conditions can name.
pub(crate) struct Field {
    pub root: &'static str,
    pub name: &'static str,
    pub sample: Sample,
    read: Read,
    /// For the reference.
    is: &'static str,
    /// Whether full names must be known before it can be shown.
    pub names: bool,
    /// Another root that has it as well, since before there were families.
    also_in: Option<&'static str>,
}

impl std::fmt::Debug for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.root, self.name)
    }
}

impl Field {
    pub(crate) const fn new(
        root: &'static str,
        name: &'static str,
        sample: Sample,
        read: Read,
        is: &'static str,
    ) -> Field {
        Field {
            root,
            name,
            sample,
            read,
            is,
            names: false,
            also_in: None,
        }
    }

    /// It shows full names.
    pub(crate) const fn with_names(self) -> Field {
        Field { names: true, ..self }
    }

    /// It can be written under another root, too.
    pub(crate) const fn also_in(self, root: &'static str) -> Field {
        Field {
            also_in: Some(root),
            ..self
        }
    }

    pub(crate) fn kept(&self) -> Kept {
        match self.read {
            Read::Who(_) | Read::Target(_) => Kept::ByIdentity,
            Read::Part(_) | Read::Family(_) | Read::Message(_) => Kept::ByText,
            Read::Given(_) | Read::Now(_) => Kept::Never,
        }
    }

    /// The family that it is of: a rule that names it is of statements with such facts.
    pub(crate) fn family(&self) -> FamilySet {
        match self.read {
            Read::Family(_) => FamilySet::named(self.root),
            Read::Who(_)
            | Read::Target(_)
            | Read::Part(_)
            | Read::Message(_)
            | Read::Given(_)
            | Read::Now(_) => FamilySet::EMPTY,
        }
    }

    /// What it shows of caller and target; `None`: it shows nothing of them.
    pub(crate) fn of_identity<'x>(&self, who: &'x Who, target: &'x TargetSpec) -> Option<Shown<'x>> {
        match self.read {
            Read::Who(read) => Some(read(who)),
            Read::Target(read) => Some(read(target)),
            Read::Part(_) | Read::Family(_) | Read::Message(_) | Read::Given(_) | Read::Now(_) => None,
        }
    }

    pub(crate) fn show<'x>(&self, scene: &'x Scene<'x>) -> Result<Shown<'x>, Unshown> {
        let part = || scene.part.ok_or(Unshown::NoFacts);
        Ok(match self.read {
            Read::Who(read) => read(scene.who),
            Read::Target(read) => read(scene.target),
            Read::Now(read) => read(scene.moment),
            Read::Part(read) => read(part()?),
            Read::Family(read) => read(&part()?.facts).ok_or(Unshown::NoFacts)?,
            Read::Message(read) => {
                part()?;
                read(scene)
            }
            Read::Given(read) => {
                part()?;
                read(scene)?
            }
        })
    }

    fn is_in(&self, root: &str) -> bool {
        self.root == root || self.also_in == Some(root)
    }
}

impl Sample {
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Sample::Bool(_) => "true or false",
            Sample::Number(_) => "number",
            Sample::Text(_) => "text",
            Sample::Texts(_) => "list of texts",
            Sample::Map(..) => "map of texts",
        }
    }
}

fn number(n: impl TryInto<i64>) -> Shown<'static> {
    Shown::Number(n.try_into().unwrap_or(i64::MAX))
}

fn texts<'x>(list: impl Iterator<Item = &'x String>) -> Shown<'x> {
    Shown::Texts(list.map(|text| Cow::Borrowed(text.as_str())).collect())
}

const NEUTRAL: &[Field] = &[
    Field::new(
        "statement",
        "class",
        Sample::Texts(&["read"]),
        Read::Part(|part| Shown::Texts(part.class.iter().map(|c| Cow::Borrowed(c.name())).collect())),
        "its classes",
    ),
    Field::new(
        "statement",
        "verbs",
        Sample::Texts(&["select"]),
        Read::Part(|part| texts(part.verbs.iter())),
        "every command in it, outermost first",
    ),
    Field::new(
        "statement",
        "resources",
        Sample::Texts(&["public.orders"]),
        Read::Part(|part| {
            let mut all: Vec<Cow<'_, str>> = part
                .resources
                .iter()
                .map(|name| Cow::Borrowed(name.as_str()))
                .collect();
            part.facts.resources(&mut all);
            Shown::Texts(all)
        }),
        "what it is about, by full names: relations in sql",
    )
    .with_names(),
    Field::new(
        "statement",
        "statements",
        Sample::Number(1),
        Read::Message(|scene| number(scene.statements)),
        "how many the message has",
    ),
    Field::new(
        "statement",
        "parameters",
        Sample::Number(1),
        Read::Given(|scene| {
            let own = scene.part.map_or(0, |part| part.parameters);
            Ok(number(scene.parameters.unwrap_or(own)))
        }),
        "how many values come with it; how many it names, where none can",
    ),
    Field::new(
        "statement",
        "text",
        Sample::Text("select 1"),
        Read::Given(|scene| match std::str::from_utf8(scene.text) {
            _ if scene.text.len() > CEL_TEXT_BYTES_MAX => Err(Unshown::TooLarge("statement.text")),
            Ok(text) => Ok(Shown::Text(text)),
            Err(_) => Err(Unshown::NoFacts),
        }),
        "the exact text, of the whole message",
    ),
    Field::new(
        "who",
        "principal",
        Sample::Text("alice"),
        Read::Who(|who| Shown::Text(&who.principal)),
        "who is answerable",
    ),
    Field::new(
        "who",
        "groups",
        Sample::Texts(&["staff"]),
        Read::Who(|who| texts(who.groups.iter())),
        "groups of the principal",
    ),
    Field::new(
        "who",
        "actor",
        Sample::Text("agent"),
        Read::Who(|who| Shown::Text(who.actor())),
        "the outermost actor; the principal where nobody acts for it",
    ),
    Field::new(
        "who",
        "chain",
        Sample::Texts(&["agent"]),
        Read::Who(|who| texts(who.chain.iter())),
        "who acts for the principal, outermost first",
    ),
    Field::new(
        "who",
        "issuer",
        Sample::Text("local"),
        Read::Who(|who| Shown::Text(&who.issuer)),
        "who vouches for the principal: an issuer's URL, or `local`",
    ),
    Field::new(
        "who",
        "address",
        Sample::Text("127.0.0.1"),
        Read::Who(|who| Shown::Text(&who.address)),
        "the client's address",
    ),
    Field::new(
        "who",
        "application",
        Sample::Text("psql"),
        Read::Who(|who| Shown::Text(&who.application)),
        "what the client calls itself: it proves nothing",
    ),
    Field::new(
        "target",
        "name",
        Sample::Text("orders"),
        Read::Target(|target| Shown::Text(&target.name)),
        "its name",
    ),
    Field::new(
        "target",
        "environment",
        Sample::Text("production"),
        Read::Target(|target| Shown::Text(&target.environment)),
        "its environment",
    ),
    Field::new(
        "target",
        "protocol",
        Sample::Text("postgres"),
        Read::Target(|target| Shown::Text(target.protocol.name())),
        "what it speaks",
    ),
    Field::new(
        "target",
        "database",
        Sample::Text("orders"),
        Read::Target(|target| Shown::Text(&target.database)),
        "its database",
    ),
    Field::new(
        "target",
        "labels",
        Sample::Map("team", "shop"),
        Read::Target(|target| Shown::Map(&target.labels)),
        "its labels: `has(target.labels.team) && target.labels.team == \"shop\"`",
    ),
    Field::new(
        "now",
        "unix",
        Sample::Number(1_795_244_400),
        Read::Now(|now| Shown::Number(now.unix)),
        "seconds since 1970, UTC as all of `now`",
    ),
    Field::new(
        "now",
        "year",
        Sample::Number(2026),
        Read::Now(|now| Shown::Number(now.year)),
        "year",
    ),
    Field::new(
        "now",
        "month",
        Sample::Number(11),
        Read::Now(|now| Shown::Number(now.month)),
        "1 to 12",
    ),
    Field::new(
        "now",
        "day",
        Sample::Number(21),
        Read::Now(|now| Shown::Number(now.day)),
        "1 to 31",
    ),
    Field::new(
        "now",
        "hour",
        Sample::Number(7),
        Read::Now(|now| number(now.minute_of_day / 60)),
        "0 to 23",
    ),
    Field::new(
        "now",
        "minute",
        Sample::Number(0),
        Read::Now(|now| number(now.minute_of_day % 60)),
        "0 to 59",
    ),
    Field::new(
        "now",
        "weekday",
        Sample::Text("sat"),
        Read::Now(|now| Shown::Text(weekday_name(now.weekday))),
        "`mon` to `sun`",
    ),
];

/// Every field there is.
pub(crate) fn all() -> impl Iterator<Item = &'static Field> {
    std::iter::once(NEUTRAL)
        .chain(family::FIELDS.iter().copied())
        .flatten()
}

/// The root as the table spells it.
pub(crate) fn root(name: &str) -> Option<&'static str> {
    all().map(|field| field.root).find(|root| *root == name)
}

/// The roots, each once.
pub(crate) fn roots() -> Vec<&'static str> {
    let mut roots: Vec<&'static str> = Vec::new();
    for field in all() {
        if !roots.contains(&field.root) {
            roots.push(field.root);
        }
    }
    roots
}

/// The fields of a root, those of another root that it has as well at the end.
pub(crate) fn of_root(root: &str) -> impl Iterator<Item = &'static Field> {
    all().filter(move |field| field.is_in(root))
}

/// The reference of all fields, as a table in Markdown: the section of docs/rules.md.
pub fn reference() -> String {
    let mut out =
        String::from("| field | type | is | a verdict that looks at it |\n| --- | --- | --- | --- |\n");
    for field in all() {
        let kept = match field.kept() {
            Kept::ByIdentity => "is kept, for this caller and target",
            Kept::ByText => "is kept",
            Kept::Never => "is not kept",
        };
        let older = field
            .also_in
            .map_or_else(String::new, |root| format!("; also `{root}.{}`", field.name));
        let example = match field.sample {
            Sample::Bool(value) => value.to_string(),
            Sample::Number(value) => value.to_string(),
            Sample::Text(text) => format!("'{text}'"),
            Sample::Texts(list) => format!("['{}']", list.join("', '")),
            Sample::Map(key, value) => format!("{{'{key}': '{value}'}}"),
        };
        out.push_str(&format!(
            "| `{}.{}` | {}, as `{example}` | {}{older} | {kept} |\n",
            field.root,
            field.name,
            field.sample.kind(),
            field.is,
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_fields_have_one_name() {
        let mut names: Vec<String> = all()
            .flat_map(|field| {
                std::iter::once(field.root)
                    .chain(field.also_in)
                    .map(move |root| format!("{root}.{}", field.name))
            })
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_family_s_fields_stand_under_its_name_and_no_others_do() {
        for field in all() {
            let family = FamilySet::named(field.root);
            assert_eq!(field.family(), family, "{field:?}");
        }
    }
}
