//! Commands that are not queries: what carries a query, the session, transactions. Objects and privileges are in
//! `utility.rs`.
//!
//! Invariant: a command that is in neither file has no facts ([`Unreadable::UnknownNode`]).

use crate::children::untyped;
use crate::extract::{Access, Extract, Place, statement, unknown};
use headgate_plane::Class;
use headgate_sql::settings::ANY;
use headgate_sql::{Action, Scope, SettingValue, Unreadable};
use pg_raw_parse::raw::{DiscardMode, ObjectType, TransactionStmtKind as T};
use pg_raw_parse::{Node, nodes};

/// `CURSOR_OPT_HOLD` of `nodes/parsenodes.h`.
const CURSOR_OPT_HOLD: i32 = 0x20;

impl<'a> Extract<'a> {
    /// Reads `node` if it is a command. `false`: it is an expression or a clause.
    pub fn command(&mut self, node: Node<'a>, place: Place) -> Result<bool, Unreadable> {
        match node {
            Node::ExplainStmt(explain) => {
                self.verb("explain");
                self.set_action(Action::Explain);
                self.carries_execute(explain.query());
                self.push(
                    explain.query(),
                    Place {
                        command: true,
                        output: true,
                        ..place.inside()
                    },
                );
            }
            Node::PrepareStmt(prepare) => {
                self.verb("prepare");
                let inner = Box::new(statement(prepare.query())?);
                self.set_action(Action::Prepare {
                    name: owned(prepare.name()),
                    inner,
                });
                // Its parameters come with EXECUTE, not with this message.
                self.no_parameters = true;
                self.push(prepare.query(), Place::TOP);
            }
            Node::DeclareCursorStmt(declare) => {
                self.verb("declare cursor");
                let inner = Box::new(statement(declare.query())?);
                self.set_action(Action::Declare {
                    name: owned(declare.portalname()),
                    inner,
                    hold: declare.options & CURSOR_OPT_HOLD != 0,
                });
                self.push(declare.query(), Place::TOP);
            }
            Node::ExecuteStmt(execute) => {
                self.session(
                    "execute",
                    Action::Execute {
                        name: owned(execute.name()),
                    },
                );
                self.push_all(execute.params(), place.inside());
            }
            Node::DeallocateStmt(deallocate) => {
                self.session(
                    "deallocate",
                    Action::Deallocate {
                        name: deallocate.name().map(str::to_owned),
                    },
                );
            }
            Node::FetchStmt(fetch) => {
                let verb = if fetch.ismove { "move" } else { "fetch" };
                self.session(
                    verb,
                    Action::Fetch {
                        name: owned(fetch.portalname()),
                    },
                );
            }
            Node::ClosePortalStmt(close) => {
                self.session(
                    "close cursor",
                    Action::CloseCursor {
                        name: close.portalname().map(str::to_owned),
                    },
                );
            }
            Node::CreateTableAsStmt(create) => {
                self.ddl(if create.objtype == ObjectType::OBJECT_MATVIEW {
                    "create materialized view"
                } else {
                    "create table as"
                });
                self.add(Class::Write);
                self.carries_execute(create.query());
                self.push(
                    create.query(),
                    Place {
                        command: true,
                        ..place.inside()
                    },
                );
                if let Some(into) = create.into() {
                    self.push(Node::IntoClause(into), place.inside());
                }
            }
            Node::CopyStmt(copy) => self.copy(copy, place),
            Node::DoStmt(_) | Node::CallStmt(_) | Node::LoadStmt(_) => {
                self.add(Class::Opaque);
                self.changes_catalog = true;
                self.verb(match node {
                    Node::DoStmt(_) => "do",
                    Node::CallStmt(_) => "call",
                    _ => "load",
                });
                self.descend(node, place.inside())?;
            }
            Node::VariableSetStmt(set) => {
                self.variable_set(set, place.command);
                self.push_all(set.args(), place.inside());
            }
            Node::VariableShowStmt(_) => self.session("show", Action::Plain),
            Node::DiscardStmt(discard) => {
                let all = discard.target == DiscardMode::DISCARD_ALL;
                if all {
                    self.touches(
                        "session_authorization",
                        SettingValue::Default,
                        Scope::Session,
                        true,
                    );
                    self.touches(ANY, SettingValue::Default, Scope::Session, true);
                }
                self.session("discard", Action::Discard { all });
            }
            Node::ListenStmt(_) => self.session("listen", Action::Listen),
            Node::UnlistenStmt(_) => self.session("unlisten", Action::Plain),
            Node::NotifyStmt(_) => {
                self.add(Class::Write);
                self.session("notify", Action::Notify);
            }
            Node::TransactionStmt(transaction) => self.transaction(transaction),
            Node::ConstraintsSetStmt(_) => {
                self.verb("set constraints");
                self.add(Class::Transaction);
            }
            Node::LockStmt(lock) => {
                self.verb("lock table");
                self.add(Class::Transaction);
                self.push_all(lock.relations(), place.with(Access::Read));
            }
            Node::CheckPointStmt(_) => self.maintenance("checkpoint"),
            Node::VacuumStmt(vacuum) => {
                self.maintenance(if vacuum.is_vacuumcmd { "vacuum" } else { "analyze" });
                self.push_all(untyped(vacuum.rels()), place.with(Access::Touch));
            }
            Node::VacuumRelation(one) => {
                self.columns.extend(one.va_cols().iter().filter_map(Node::as_str));
                if let Some(relation) = one.relation() {
                    self.push(Node::RangeVar(relation), place.with(Access::Touch));
                }
            }
            Node::ClusterStmt(_) | Node::ReindexStmt(_) => {
                self.maintenance(if matches!(node, Node::ClusterStmt(_)) {
                    "cluster"
                } else {
                    "reindex"
                });
                self.descend(node, place.with(Access::Touch))?;
            }
            // The view's query runs with its owner's rights and fills it anew.
            Node::RefreshMatViewStmt(_) => {
                self.maintenance("refresh materialized view");
                self.add(Class::Write);
                self.descend(node, place.with(Access::Write))?;
            }
            Node::TruncateStmt(truncate) => {
                self.verb("truncate table");
                self.add(Class::Write);
                self.push_all(truncate.relations(), place.with(Access::Write));
            }
            node => {
                let known = self.utility(node, place)?;
                if !known && place.command {
                    return Err(unknown(node));
                }
                return Ok(known);
            }
        }
        Ok(true)
    }

    /// What a carried EXECUTE runs is known by the gate alone, and not from here.
    fn carries_execute(&mut self, query: Node<'a>) {
        if matches!(query, Node::ExecuteStmt(_)) {
            self.add(Class::Opaque);
        }
    }

    fn transaction(&mut self, transaction: &nodes::TransactionStmt) {
        self.add(Class::Transaction);
        let (verb, action) = match transaction.kind {
            T::TRANS_STMT_BEGIN => ("begin", Action::Begin),
            T::TRANS_STMT_START => ("start transaction", Action::Begin),
            T::TRANS_STMT_COMMIT => ("commit", Action::Commit),
            T::TRANS_STMT_ROLLBACK => ("rollback", Action::Rollback),
            T::TRANS_STMT_SAVEPOINT => ("savepoint", Action::Savepoint),
            T::TRANS_STMT_RELEASE => ("release", Action::Savepoint),
            T::TRANS_STMT_ROLLBACK_TO => ("rollback", Action::Savepoint),
            T::TRANS_STMT_PREPARE => ("prepare transaction", Action::Plain),
            T::TRANS_STMT_COMMIT_PREPARED => ("commit prepared", Action::Plain),
            T::TRANS_STMT_ROLLBACK_PREPARED => ("rollback prepared", Action::Plain),
            _ => {
                self.add(Class::Opaque);
                ("transaction", Action::Plain)
            }
        };
        // Another session's work, named by a string, may be ended here.
        if matches!(
            transaction.kind,
            T::TRANS_STMT_COMMIT_PREPARED | T::TRANS_STMT_ROLLBACK_PREPARED
        ) {
            self.add(Class::Opaque);
        }
        self.verb(verb);
        self.set_action(action);
    }

    fn session(&mut self, verb: &str, action: Action) {
        self.verb(verb);
        self.add(Class::Session);
        self.set_action(action);
    }

    fn maintenance(&mut self, verb: &str) {
        self.verb(verb);
        self.add(Class::Maintenance);
    }

    pub fn ddl(&mut self, verb: &str) {
        self.verb(verb);
        self.add(Class::Ddl);
        self.changes_catalog = true;
    }

    /// The outermost command's action stays.
    pub fn set_action(&mut self, action: Action) {
        if self.action == Action::Plain {
            self.action = action;
        }
    }
}

fn owned(name: Option<&str>) -> String {
    name.unwrap_or_default().to_owned()
}
