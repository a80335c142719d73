//! The shape of `rules.toml`, with the place of every value. Meaning is checked in `compile`.

use serde::Deserialize;
use std::collections::BTreeMap;
use toml::Spanned;

pub(crate) type Words = Option<Spanned<Vec<Spanned<String>>>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileText {
    #[serde(default)]
    pub rule: Vec<RuleText>,
    #[serde(default)]
    pub mask: Vec<MaskText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleText {
    pub name: Spanned<String>,
    pub who: Option<Spanned<WhoText>>,
    pub target: Option<TargetText>,
    pub statement: Option<StatementText>,
    pub sql: Option<SqlText>,
    pub when: Option<Spanned<String>>,
    pub time: Option<Spanned<TimeText>>,
    pub effect: Spanned<String>,
    pub message: Option<Spanned<String>>,
    pub reviewers: Option<Spanned<ReviewersText>>,
    pub wait: Option<Spanned<String>>,
    pub on_hold: Option<Spanned<String>>,
    pub data: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WhoText {
    pub groups: Words,
    pub principals: Words,
    pub actors: Words,
    pub chain: Words,
    pub issuers: Words,
    pub addresses: Words,
    pub applications: Words,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TargetText {
    pub names: Words,
    pub environment: Option<Spanned<OneOrMany>>,
    pub protocols: Words,
    pub labels: Option<BTreeMap<String, Spanned<OneOrMany>>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or a list of strings")]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StatementText {
    pub class: Words,
    pub verbs: Words,
    pub resources: Words,
    pub danger_unreadable: Option<Spanned<bool>>,
    /// From here on the sql family's, which stood here before there were families.
    pub relations: Words,
    pub functions: Words,
    pub settings: Words,
    pub danger_unpinned: Option<Spanned<bool>>,
}

/// The sql family's table.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SqlText {
    pub relations: Words,
    pub functions: Words,
    pub columns: Words,
    pub settings: Words,
    pub danger_unpinned: Option<Spanned<bool>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimeText {
    pub days: Words,
    pub from: Option<Spanned<String>>,
    pub to: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReviewersText {
    pub groups: Words,
    pub principals: Words,
    pub quorum: Option<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MaskText {
    pub name: Spanned<String>,
    pub who: Option<Spanned<WhoText>>,
    pub target: Option<TargetText>,
    pub columns: Words,
    pub sql: Option<SqlMaskText>,
    pub detect: Words,
    pub method: Option<Spanned<String>>,
    pub unless: Option<Spanned<WhoText>>,
}

/// What the sql family's replies have: columns.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SqlMaskText {
    pub columns: Words,
}
