//! Which rule decides a statement, and why each other one does not.
//!
//! There is no catalog here: a relation without a schema is taken to be in the first schema of the search path that is
//! given, a function without one to be PostgreSQL's own if it has one of that name. The data plane asks the target's catalog.

use crate::known::effect_name;
use crate::problem::Problem;
use crate::read::read;
use headgate_plane::{Snapshot, TargetSpec, Who};
use headgate_policy::family::sql::{Message, ResolvedRelation, ResolvedStatement, UNRESOLVED};
use headgate_policy::{Asked, Compiled, Why};
use headgate_sql::{Facts, Statement, Unreadable};
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Explanation {
    /// `allow`, `hold` or `deny`.
    pub verdict: String,
    /// The rule that decides, if one does.
    pub rule: Option<String>,
    /// What the client is told.
    pub why: String,
    /// Whether the verdict is the same at any time and for any values.
    pub lasting: bool,
    pub statements: Vec<StatementLine>,
    /// Every rule, in the operator's order.
    pub rules: Vec<RuleLine>,
    /// Masks that cover for this caller.
    pub masks: Vec<MaskLine>,
}

/// What the rules see of one statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct StatementLine {
    pub class: Vec<&'static str>,
    pub verbs: Vec<String>,
    pub relations_read: Vec<String>,
    pub relations_written: Vec<String>,
    pub functions: Vec<String>,
    pub has_where: bool,
    pub settings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct RuleLine {
    pub name: String,
    pub effect: &'static str,
    pub matches: bool,
    pub decides: bool,
    /// Why it does not match; empty when it does.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct MaskLine {
    pub name: String,
    pub columns: Vec<String>,
    pub detect: Vec<String>,
}

/// Reads `sql` as the data plane does and explains the verdict. `Err`: the snapshot does not compile.
pub fn explain(
    snapshot: &Snapshot,
    sql: &str,
    who: &Who,
    target: &TargetSpec,
    search_path: &str,
    now_unix_ms: u64,
) -> Result<Explanation, Vec<Problem>> {
    let compiled = compiled(snapshot)?;
    Ok(explain_facts(
        &compiled,
        sql,
        &read(sql),
        who,
        target,
        search_path,
        now_unix_ms,
    ))
}

pub(crate) fn compiled(snapshot: &Snapshot) -> Result<Compiled, Vec<Problem>> {
    Compiled::new(Arc::new(snapshot.clone())).map_err(|problems| {
        problems
            .into_iter()
            .map(|p| Problem {
                line: 0,
                column: 0,
                rule: p.rule,
                message: p.reason,
            })
            .collect()
    })
}

/// The same over facts that are already there.
pub fn explain_facts(
    compiled: &Compiled,
    sql: &str,
    facts: &Result<Facts, Unreadable>,
    who: &Who,
    target: &TargetSpec,
    search_path: &str,
    now_unix_ms: u64,
) -> Explanation {
    let resolved: Vec<ResolvedStatement> = match facts {
        Ok(facts) => facts.statements.iter().map(|s| resolve(s, search_path)).collect(),
        Err(_) => Vec::new(),
    };
    let what = Message {
        facts: facts.as_ref(),
        resolved: &resolved,
        session: &headgate_sql::settings::BEGAN,
    };
    let asked = Asked {
        what: &what,
        text: sql.as_bytes(),
        parameters: None,
        who,
        target,
        now_unix_ms,
    };
    let (verdict, traces) = compiled.trace(&asked);
    let rules = traces
        .into_iter()
        .filter_map(|trace| {
            let rule = compiled.rule(trace.rule)?;
            Some(RuleLine {
                name: rule.name.clone(),
                effect: effect_name(rule.effect),
                matches: trace.matches,
                decides: verdict.why == Why::RuleMatched && verdict.rule == Some(trace.rule),
                reason: trace.reason,
            })
        })
        .collect();
    let context = compiled.context(who, target);
    let masks = context
        .masks()
        .iter()
        .filter_map(|index| compiled.mask(*index))
        .map(|mask| MaskLine {
            name: mask.name.clone(),
            columns: mask.columns.clone(),
            detect: mask.detect.clone(),
        });
    let rule_name = verdict.rule_name(compiled);
    Explanation {
        verdict: effect_name(verdict.effect).to_owned(),
        rule: (!rule_name.is_empty()).then(|| rule_name.to_owned()),
        why: verdict.to_client(compiled),
        lasting: verdict.cacheable,
        statements: match facts {
            Ok(facts) => facts
                .statements
                .iter()
                .zip(&resolved)
                .map(|(s, r)| line(s, r))
                .collect(),
            Err(_) => Vec::new(),
        },
        rules,
        masks: masks.collect(),
    }
}

fn resolve(statement: &Statement, search_path: &str) -> ResolvedStatement {
    let mut names = ResolvedStatement::as_written(statement);
    for relation in names.relations.iter_mut().filter(|r| r.schema == UNRESOLVED) {
        relation.schema = search_path.to_owned();
    }
    names
}

fn line(statement: &Statement, names: &ResolvedStatement) -> StatementLine {
    let relations = |wanted: fn(&ResolvedRelation) -> bool| {
        names
            .relations
            .iter()
            .filter(|r| wanted(r))
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    StatementLine {
        class: statement.class.iter().map(headgate_plane::Class::name).collect(),
        verbs: statement.verbs.clone(),
        relations_read: relations(|r| r.read),
        relations_written: relations(|r| r.written),
        functions: names.functions.iter().map(ToString::to_string).collect(),
        has_where: statement.has_where,
        settings: statement.settings.iter().map(|s| s.name.clone()).collect(),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.verdict, self.why)?;
        for (number, statement) in (1..).zip(&self.statements) {
            write!(
                f,
                "  statement {number}: {} ({})",
                statement.verbs.join(", "),
                statement.class.join(", ")
            )?;
            for (what, names) in [
                ("reads", &statement.relations_read),
                ("writes", &statement.relations_written),
                ("calls", &statement.functions),
            ] {
                if !names.is_empty() {
                    write!(f, "; {what} {}", names.join(", "))?;
                }
            }
            if !statement.has_where {
                write!(f, "; without WHERE")?;
            }
            if !statement.settings.is_empty() {
                write!(f, "; touches settings {}", statement.settings.join(", "))?;
            }
            writeln!(f)?;
        }
        for rule in &self.rules {
            let says = match (rule.decides, rule.matches) {
                (true, _) => "decides",
                (false, true) => "matches, and another rule goes before it",
                (false, false) => rule.reason.as_str(),
            };
            writeln!(f, "  {:5} \"{}\": {says}", rule.effect, rule.name)?;
        }
        for mask in &self.masks {
            writeln!(f, "  mask  \"{}\" covers for this caller", mask.name)?;
        }
        Ok(())
    }
}
