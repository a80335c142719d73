//! SET, RESET and `set_config`: which setting, and whether it is one that the gateway pins.

use crate::extract::{Extract, constant, qualified};
use headgate_plane::Class;
use headgate_sql::settings::is_pinned;
use pg_raw_parse::raw::VariableSetKind;
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
            self.add(if transaction { Class::Transaction } else { Class::Session });
        }
        match set.kind {
            // Back to what the session began with; see `settings`.
            VariableSetKind::VAR_RESET_ALL => {}
            VariableSetKind::VAR_SET_MULTI => {}
            VariableSetKind::VAR_SET_VALUE => {
                let mut args = set.args().iter();
                let value = match (args.next(), args.next()) {
                    (Some(arg), None) => constant(arg),
                    _ => None,
                };
                self.setting(name, value.as_deref());
            }
            _ => self.setting(name, None),
        }
    }

    /// `set_config(name, value, is_local)`. A name that is not a plain literal can be any.
    pub fn set_config(&mut self, call: &'a nodes::FuncCall) {
        if !matches!(qualified(call.funcname()), Some((None | Some("pg_catalog"), "set_config"))) {
            return;
        }
        let args = call.args();
        let text = |at: usize| match args.get(at) {
            Some(node @ Node::A_Const(_)) => constant(node),
            _ => None,
        };
        match text(0) {
            Some(name) if args.len() == 3 => self.setting(&name, text(1).as_deref()),
            _ => self.pinned = Some("*".to_owned()),
        }
    }

    fn setting(&mut self, name: &str, value: Option<&str>) {
        if is_pinned(name, value) && self.pinned.is_none() {
            self.pinned = Some(name.to_ascii_lowercase());
        }
    }
}
