//! The families of facts as rules.toml writes them: a file each, and an arm here.

pub(crate) mod sql;

use crate::problem::Problems;
use crate::text::RuleText;
use headgate_plane::{Effect, Protocol, RuleFamily};

/// The tables of a rule.
pub(crate) fn tables(
    rule: &RuleText,
    effect: Effect,
    name: &str,
    problems: &mut Problems<'_>,
) -> Vec<RuleFamily> {
    let sql = sql::table(rule, effect, name, problems).map(RuleFamily::Sql);
    sql.into_iter().collect()
}

/// Whether the table says of which statements the rule is.
pub(crate) fn restricts(family: &RuleFamily) -> bool {
    match family {
        RuleFamily::Sql(table) => sql::restricts(table),
    }
}

/// Whether statements of the protocol can have the verb.
pub(crate) fn verb(protocol: Protocol, word: &str) -> Result<(), String> {
    match protocol {
        Protocol::Postgres | Protocol::Mysql => sql::verb(word),
        Protocol::Http | Protocol::Kubernetes | Protocol::Mcp | Protocol::Ssh => Ok(()),
    }
}
