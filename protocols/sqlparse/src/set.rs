//! SET, RESET, DISCARD ALL and `set_config`: which setting, to what, and for how long.
//!
//! Invariant: whatever touches a setting leaves a [`SettingChange`]; where it cannot be known which, [`ANY`].

use crate::children::untyped;
use crate::extract::{Extract, constant, qualified};
use headgate_plane::Class;
use headgate_sql::settings::{
    ANY, Guard, SCHEMAS_MAX, SETTING_BYTES_MAX, Scope, SettingChange, SettingValue, guard, of_setting,
    schema_name,
};
use pg_raw_parse::raw::{SetOperation, VariableSetKind};
use pg_raw_parse::{Node, nodes};

impl<'a> Extract<'a> {
    /// Any SET: a command, or what CREATE FUNCTION and ALTER ROLE carry.
    pub fn variable_set(&mut self, set: &'a nodes::VariableSetStmt, command: bool) {
        let name = set.name().unwrap_or_default();
        let transaction = matches!(name, "TRANSACTION" | "TRANSACTION SNAPSHOT");
        if command {
            self.verb(match set.kind {
                VariableSetKind::VAR_RESET | VariableSetKind::VAR_RESET_ALL => "reset",
                _ => "set",
            });
            self.add(if transaction {
                Class::Transaction
            } else {
                Class::Session
            });
        }
        let scope = match (command, set.is_local) {
            (false, _) => Scope::Stored,
            (true, true) => Scope::Transaction,
            (true, false) => Scope::Session,
        };
        match set.kind {
            // ALTER ROLE … RESET ALL takes away what its owner gave; it touches nothing of a session.
            VariableSetKind::VAR_RESET_ALL if scope == Scope::Stored => {}
            VariableSetKind::VAR_RESET_ALL => self.touches(ANY, SettingValue::Default, scope, true),
            // Modes of transactions.
            VariableSetKind::VAR_SET_MULTI => {}
            VariableSetKind::VAR_SET_VALUE => {
                let name = name.to_ascii_lowercase();
                let value = if name == "search_path" {
                    schemas(set)
                } else {
                    one_constant(set).map(SettingValue::Text)
                };
                self.touches(&name, value.unwrap_or(SettingValue::Unknown), scope, true);
            }
            VariableSetKind::VAR_SET_DEFAULT | VariableSetKind::VAR_RESET => {
                self.touches(name, SettingValue::Default, scope, true)
            }
            _ => self.touches(name, SettingValue::Unknown, scope, true),
        }
    }

    /// `set_config(name, value, is_local)`. A name that is not a plain literal can be any.
    pub fn set_config(&mut self, call: &'a nodes::FuncCall) {
        if !is_set_config(call) {
            return;
        }
        let args = call.args();
        let plain = args.len() == 3 && !args.iter().any(|arg| matches!(arg, Node::NamedArgExpr(_)));
        let text = |at: usize| match args.get(at) {
            Some(node @ Node::A_Const(_)) => constant(node),
            _ => None,
        };
        let Some(name) = text(0).filter(|_| plain) else {
            return self.touches(ANY, SettingValue::Unknown, Scope::Session, false);
        };
        let name = name.to_ascii_lowercase();
        let value = text(1).and_then(|value| {
            if name == "search_path" {
                of_setting(&value).map(SettingValue::Schemas)
            } else {
                Some(SettingValue::Text(value))
            }
        });
        let value = value.unwrap_or(SettingValue::Unknown);
        match args.get(2).and_then(boolean) {
            Some(true) => self.touches(&name, value, Scope::Transaction, self.runs_once),
            Some(false) => self.touches(&name, value, Scope::Session, self.runs_once),
            // For how long cannot be known: as for ever, and not for certain.
            None => self.touches(&name, value, Scope::Session, false),
        }
    }

    pub fn touches(&mut self, name: &str, value: SettingValue, scope: Scope, certain: bool) {
        let name = name.to_ascii_lowercase();
        let kept = match value {
            SettingValue::Default => true,
            SettingValue::Text(ref text) => text.len() <= SETTING_BYTES_MAX && guard(&name) != Guard::None,
            SettingValue::Schemas(ref list) => list.len() <= SCHEMAS_MAX,
            SettingValue::Unknown => false,
        };
        let change = SettingChange {
            value: if kept { value } else { SettingValue::Unknown },
            name,
            scope,
            certain,
        };
        // A text may call set_config a hundred thousand times; what is told twice says nothing new, and what is too much
        // to tell is doubt.
        if self.settings.last() == Some(&change) {
            return;
        }
        if self.settings.len() < CHANGES_MAX {
            self.settings.push(change);
        } else if let Some(last) = self.settings.last_mut() {
            *last = SettingChange {
                name: ANY.to_owned(),
                value: SettingValue::Unknown,
                scope: Scope::Session,
                certain: false,
            };
        }
    }
}

/// Changes of one statement that are told apart.
const CHANGES_MAX: usize = 64;

pub(crate) fn is_set_config(call: &nodes::FuncCall) -> bool {
    matches!(
        qualified(call.funcname()),
        Some((None | Some("pg_catalog"), "set_config"))
    )
}

/// Whether the outputs of this SELECT are computed exactly once, and in order.
pub(crate) fn runs_once(select: &nodes::SelectStmt) -> bool {
    select.op == SetOperation::SETOP_NONE
        && select.from_clause().is_empty()
        && matches!(select.where_clause(), Node::None)
        && matches!(select.having_clause(), Node::None)
        && select.group_clause().is_empty()
        && select.distinct_clause().is_empty()
        && select.values_lists().is_empty()
        && untyped(select.sort_clause()).is_empty()
        && matches!(select.limit_count(), Node::None)
        && matches!(select.limit_offset(), Node::None)
        && select.with_clause().is_none()
        && select.into_clause().is_none()
        && untyped(select.target_list()).iter().all(|node| match node {
            Node::ResTarget(target) => match target.val() {
                Node::FuncCall(call) => {
                    is_set_config(call)
                        && call.args().iter().all(|arg| matches!(arg, Node::A_Const(_)))
                        && matches!(call.agg_filter(), Node::None)
                        && call.over().is_none()
                }
                Node::A_Const(_) => true,
                _ => false,
            },
            _ => false,
        })
}

fn one_constant(set: &nodes::VariableSetStmt) -> Option<String> {
    let mut args = set.args().iter();
    match (args.next(), args.next()) {
        (Some(arg), None) => constant(arg),
        _ => None,
    }
}

/// Each argument of SET search_path is one name, whatever is in it.
fn schemas(set: &nodes::VariableSetStmt) -> Option<SettingValue> {
    let list: Option<Vec<String>> = set
        .args()
        .iter()
        .take(SCHEMAS_MAX + 1)
        .map(|arg| constant(arg).map(schema_name))
        .collect();
    list.map(SettingValue::Schemas)
}

fn boolean(node: Node<'_>) -> Option<bool> {
    match node {
        Node::A_Const(_) => match constant(node)?.to_ascii_lowercase().as_str() {
            "t" | "true" | "on" | "yes" | "y" | "1" => Some(true),
            "f" | "false" | "off" | "no" | "n" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}
