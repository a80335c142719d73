//! SELECT, VALUES, INSERT, UPDATE, DELETE, MERGE and WITH.

use crate::children::untyped;
use crate::extract::{Access, Cte, Extract, Place};
use headgate_plane::Class;
use headgate_sql::settings::ANY;
use headgate_sql::{Scope, SettingValue, Unreadable};
use pg_raw_parse::raw::{CmdType, SetOperation};
use pg_raw_parse::{Node, nodes};

impl<'a> Extract<'a> {
    pub fn query(&mut self, node: Node<'a>, place: Place) -> Result<(), Unreadable> {
        match node {
            Node::SelectStmt(select) => self.select(select, place),
            Node::InsertStmt(insert) => self.insert(insert, place),
            Node::UpdateStmt(update) => self.update(update, place),
            Node::DeleteStmt(delete) => self.delete(delete, place),
            Node::MergeStmt(merge) => self.merge(merge, place),
            _ => {}
        }
        Ok(())
    }

    /// The place where the names of a WITH are in sight. Its queries are put on the stack.
    fn with(&mut self, with: Option<&'a nodes::WithClause>, place: Place) -> Place {
        let Some(with) = with else { return place };
        let first = self.stack.len();
        let mut scope = place.scope;
        for node in untyped(with.ctes()) {
            let Node::CommonTableExpr(cte) = node else {
                continue;
            };
            self.push(
                cte.ctequery(),
                Place {
                    scope,
                    ..place.inside()
                },
            );
            if let Some(cycle) = cte.cycle_clause() {
                self.push(cycle.cycle_mark_value(), place.inside());
                self.push(cycle.cycle_mark_default(), place.inside());
            }
            self.ctes.push(Cte {
                name: cte.ctename().unwrap_or_default(),
                parent: scope,
            });
            scope = self.ctes.len();
        }
        if with.recursive {
            for (_, inner) in self.stack.iter_mut().skip(first) {
                inner.scope = scope;
            }
        }
        Place { scope, ..place }
    }

    fn select(&mut self, select: &'a nodes::SelectStmt, place: Place) {
        if place.command {
            self.selects = true;
            if select.into_clause().is_some() {
                self.verb("select into");
            }
            self.verb("select");
            // LIMIT ALL and LIMIT NULL are none.
            self.has_limit |= match select.limit_count() {
                Node::None => false,
                Node::A_Const(constant) => !constant.isnull,
                _ => true,
            };
        }
        if let Some(into) = select.into_clause() {
            self.add(Class::Ddl);
            self.add(Class::Write);
            self.changes_catalog = true;
            self.push(Node::IntoClause(into), place.inside());
        }
        let place = self.with(select.with_clause(), place);
        let inside = place.inside();
        let plain = select.op == SetOperation::SETOP_NONE && place.output && select.into_clause().is_none();
        self.push_all(
            untyped(select.target_list()),
            Place {
                star: plain,
                ..inside
            },
        );
        for list in [
            select.distinct_clause(),
            select.from_clause(),
            select.group_clause(),
            select.window_clause(),
            select.values_lists(),
            untyped(select.sort_clause()),
        ] {
            self.push_all(list, inside);
        }
        for node in [
            select.where_clause(),
            select.having_clause(),
            select.limit_offset(),
            select.limit_count(),
        ] {
            self.push(node, inside);
        }
        // LIMIT and ORDER BY of a set operation stand on the outer node; its arms are no commands of their own.
        for arm in [select.larg(), select.rarg()].into_iter().flatten() {
            self.push(Node::SelectStmt(arm), inside);
        }
    }

    fn insert(&mut self, insert: &'a nodes::InsertStmt, place: Place) {
        self.verb("insert");
        self.add(Class::Write);
        let place = self.with(insert.with_clause(), place);
        self.target(insert.relation(), place);
        self.target_columns(insert.cols(), place);
        self.unnamed_columns |= insert.cols().is_empty();
        // INSERT … SELECT is a query that the statement carries; VALUES is not.
        let selects = matches!(insert.select_stmt(), Node::SelectStmt(s) if s.values_lists().is_empty());
        self.push(
            insert.select_stmt(),
            Place {
                command: selects && place.command,
                ..place.inside()
            },
        );
        if let Some(conflict) = insert.on_conflict_clause() {
            self.rows.insert("excluded");
            if !conflict.target_list().is_empty() {
                self.verb("update");
                self.reads_target(insert.relation(), false);
            }
            if let Some(infer) = conflict.infer() {
                self.push(Node::InferClause(infer), place.inside());
            }
            self.target_columns(untyped(conflict.target_list()), place);
            self.push(conflict.where_clause(), place.inside());
        }
        self.returning(insert.returning_clause(), insert.relation(), place);
    }

    fn update(&mut self, update: &'a nodes::UpdateStmt, place: Place) {
        self.verb("update");
        self.add(Class::Write);
        let place = self.with(update.with_clause(), place);
        self.target(update.relation(), place);
        self.target_columns(untyped(update.target_list()), place);
        self.push_all(update.from_clause(), place.inside());
        self.condition(update.where_clause(), update.relation(), place);
        self.returning(update.returning_clause(), update.relation(), place);
        // A rule on this view calls set_config with whatever the rows hold.
        if update.relation().and_then(nodes::RangeVar::relname) == Some("pg_settings") {
            self.add(Class::Session);
            self.touches(ANY, SettingValue::Unknown, Scope::Session, false);
        }
    }

    fn delete(&mut self, delete: &'a nodes::DeleteStmt, place: Place) {
        self.verb("delete");
        self.add(Class::Write);
        let place = self.with(delete.with_clause(), place);
        self.target(delete.relation(), place);
        self.push_all(delete.using_clause(), place.inside());
        self.condition(delete.where_clause(), delete.relation(), place);
        self.returning(delete.returning_clause(), delete.relation(), place);
    }

    fn merge(&mut self, merge: &'a nodes::MergeStmt, place: Place) {
        self.verb("merge");
        self.add(Class::Write);
        let place = self.with(merge.with_clause(), place);
        self.target(merge.relation(), place);
        self.reads_target(merge.relation(), false);
        self.push(merge.source_relation(), place.inside());
        self.push(merge.join_condition(), place.inside());
        for node in untyped(merge.merge_when_clauses()) {
            let Node::MergeWhenClause(when) = node else {
                continue;
            };
            match when.command_type {
                CmdType::CMD_INSERT => {
                    self.verb("insert");
                    self.unnamed_columns |= when.target_list().is_empty();
                }
                CmdType::CMD_UPDATE => self.verb("update"),
                CmdType::CMD_DELETE => self.verb("delete"),
                _ => {}
            }
            self.push(when.condition(), place.inside());
            self.target_columns(when.target_list(), place);
            self.push_all(when.values(), place.inside());
        }
        self.returning(merge.returning_clause(), merge.relation(), place);
    }

    /// The relation that is written. A CTE cannot be one.
    fn target(&mut self, relation: Option<&'a nodes::RangeVar>, place: Place) {
        if let Some(relation) = relation {
            self.push(Node::RangeVar(relation), place.with(Access::Write));
        }
    }

    /// The written relation's rows are looked at too. Only `shown` rows make the statement one that reads.
    fn reads_target(&mut self, relation: Option<&'a nodes::RangeVar>, shown: bool) {
        let Some(relation) = relation else { return };
        let (schema, name) = (relation.schemaname(), relation.relname().unwrap_or_default());
        if shown {
            self.relation(schema, name, Access::Read);
        } else {
            self.relations.entry((schema, name)).or_default().0 = true;
        }
    }

    fn target_columns(&mut self, targets: &'a pg_raw_parse::list::NodeList, place: Place) {
        for node in targets {
            if let Node::ResTarget(target) = node {
                self.columns.extend(target.name());
            }
            self.push(node, place.inside());
        }
    }

    fn condition(&mut self, condition: Node<'a>, relation: Option<&'a nodes::RangeVar>, place: Place) {
        if matches!(condition, Node::None) {
            self.no_where = true;
        } else {
            self.reads_target(relation, false);
            self.push(condition, place.inside());
        }
    }

    fn returning(
        &mut self,
        clause: Option<&'a nodes::ReturningClause>,
        relation: Option<&'a nodes::RangeVar>,
        place: Place,
    ) {
        let Some(clause) = clause else { return };
        self.reads_target(relation, true);
        self.rows.extend(["old", "new"]);
        for option in untyped(clause.options()) {
            if let Node::ReturningOption(option) = option {
                self.rows.extend(option.value());
            }
        }
        self.push_all(
            clause.exprs(),
            Place {
                star: place.output,
                ..place.inside()
            },
        );
    }
}
