//! The walk: a loop over a stack of nodes, and what expressions and names say. Queries are in `query.rs`, utility
//! commands in `command.rs` and `utility.rs`.
//!
//! Invariant: every node of the tree is visited, but for lists of names that a handler reads itself.
//! Invariant: a CTE's name hides relations exactly where PostgreSQL lets it (its WITH, in order, or all of it when recursive).

use crate::children::{children, untyped};
use crate::{NODES_MAX, set};
use headgate_plane::{Class, ClassSet};
use headgate_sql::builtin::{self, FunctionKind, RelationKind};
use headgate_sql::{Action, Function, Relation, SettingChange, Statement, Unreadable};
use pg_raw_parse::list::NodeList;
use pg_raw_parse::{ConstValue, Node, nodes};
use std::collections::{BTreeMap, BTreeSet};

/// What a relation met here is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    /// Named, with none of its rows read or written.
    Touch,
}

/// Where in the tree a node is.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Index + 1 into `Extract::ctes`; 0: no CTE in sight.
    pub scope: usize,
    pub access: Access,
    /// A query here is a command (it counts as a verb), not a sub-select.
    pub command: bool,
    /// The rows of a query here go to the client, each column with its origin.
    pub output: bool,
    /// A `*` here hides nothing.
    pub star: bool,
}

impl Place {
    pub const TOP: Place = Place {
        scope: 0,
        access: Access::Read,
        command: true,
        output: true,
        star: false,
    };

    /// For what is inside a query: expressions, FROM.
    pub fn inside(self) -> Place {
        Place {
            access: Access::Read,
            command: false,
            output: false,
            star: false,
            ..self
        }
    }

    pub fn with(self, access: Access) -> Place {
        Place {
            access,
            ..self.inside()
        }
    }
}

pub(crate) struct Cte<'a> {
    pub name: &'a str,
    pub parent: usize,
}

#[derive(Default)]
pub(crate) struct Extract<'a> {
    pub stack: Vec<(Node<'a>, Place)>,
    buffer: Vec<Node<'a>>,
    pub ctes: Vec<Cte<'a>>,
    /// Names without a schema that are read where CTEs are in sight, with the place's scope.
    perhaps_ctes: Vec<(usize, &'a str)>,
    pub class: ClassSet,
    pub verbs: Vec<String>,
    pub relations: BTreeMap<(Option<&'a str>, &'a str), (bool, bool)>,
    functions: BTreeSet<(Option<&'a str>, &'a str)>,
    pub columns: BTreeSet<&'a str>,
    /// Names that, alone, can mean a whole row.
    pub rows: BTreeSet<&'a str>,
    /// References of one part, to be held against `rows` at the end.
    singles: BTreeSet<&'a str>,
    pub no_where: bool,
    pub has_limit: bool,
    parameters: u16,
    pub hidden_columns: bool,
    pub unnamed_columns: bool,
    pub action: Action,
    pub settings: Vec<SettingChange>,
    /// The outputs of this statement are computed exactly once.
    pub runs_once: bool,
    pub no_parameters: bool,
    pub changes_catalog: bool,
    /// Rows of a user's relation, or of a catalog, are read.
    user_read: bool,
    catalog_read: bool,
    /// A SELECT or VALUES is a command here.
    pub selects: bool,
}

/// The facts of one top-level statement.
pub(crate) fn statement(node: Node<'_>) -> Result<Statement, Unreadable> {
    let runs_once = matches!(node, Node::SelectStmt(select) if set::runs_once(select));
    let mut extract = Extract {
        runs_once,
        ..Extract::default()
    };
    extract.stack.push((node, Place::TOP));
    let mut nodes = 0usize;
    while let Some((node, place)) = extract.stack.pop() {
        nodes += 1;
        if nodes > NODES_MAX {
            return Err(Unreadable::TooManyTokens { max: NODES_MAX });
        }
        #[cfg(test)]
        crate::oracle::visited(node);
        extract.visit(node, place)?;
    }
    if runs_once {
        // The outputs of its list were taken off the stack from the end.
        extract.settings.reverse();
    }
    Ok(extract.finish())
}

impl<'a> Extract<'a> {
    fn visit(&mut self, node: Node<'a>, place: Place) -> Result<(), Unreadable> {
        match node {
            Node::RangeVar(range) => self.range_var(range, place),
            Node::ColumnRef(column) => self.column_ref(column, place),
            Node::ParamRef(param) => {
                let number = u16::try_from(param.number).unwrap_or(u16::MAX);
                self.parameters = self.parameters.max(number);
            }
            Node::FuncCall(call) => {
                self.function(call.funcname());
                self.set_config(call);
                self.descend(node, place.inside())?;
            }
            Node::A_Expr(expr) => {
                self.operator(expr.name());
                self.descend(node, place.inside())?;
            }
            Node::SortBy(sort) => {
                self.operator(sort.use_op());
                self.descend(node, place.inside())?;
            }
            Node::SubLink(link) => {
                self.operator(link.oper_name());
                // EXISTS looks at no column: its list is not even computed.
                let exists = link.sub_link_type == pg_raw_parse::raw::SubLinkType::EXISTS_SUBLINK;
                self.push(link.testexpr(), place.inside());
                self.push(
                    link.subselect(),
                    Place {
                        output: exists,
                        ..place.inside()
                    },
                );
            }
            Node::RangeTableSample(sample) => {
                self.function(sample.method());
                self.descend(node, place.inside())?;
            }
            Node::A_Indirection(indirection) => {
                for part in indirection.indirection() {
                    match part {
                        Node::String(name) => self.columns.extend(name.sval()),
                        Node::A_Star(_) => self.hidden_columns = true,
                        _ => {}
                    }
                }
                self.descend(node, place.inside())?;
            }
            Node::ResTarget(target) => {
                self.push(
                    target.val(),
                    Place {
                        star: place.star,
                        ..place.inside()
                    },
                );
                self.push_all(target.indirection(), place.inside());
            }
            Node::JoinExpr(join) => {
                if join.is_natural || !join.using_clause().is_empty() {
                    self.hidden_columns = true;
                }
                self.columns
                    .extend(untyped(join.using_clause()).iter().filter_map(Node::as_str));
                for alias in [join.alias(), join.join_using_alias()].into_iter().flatten() {
                    self.row_alias(alias, true);
                }
                self.descend(node, place.inside())?;
            }
            Node::RangeSubselect(subselect) => {
                if let Some(alias) = subselect.alias() {
                    self.row_alias(alias, false);
                }
                self.descend(node, place.inside())?;
            }
            // Names in FOR UPDATE OF are those of FROM.
            Node::LockingClause(_) => {}
            Node::IndexElem(elem) => {
                self.columns.extend(elem.name());
                self.descend(node, place.inside())?;
            }
            Node::Constraint(_) | Node::TableLikeClause(_) => {
                self.descend(node, place.with(Access::Touch))?
            }
            Node::IntoClause(into) => {
                if let Some(relation) = into.rel() {
                    self.made(relation);
                }
                self.descend(node, place.with(Access::Write))?;
            }
            Node::SelectStmt(_)
            | Node::InsertStmt(_)
            | Node::UpdateStmt(_)
            | Node::DeleteStmt(_)
            | Node::MergeStmt(_) => {
                self.query(node, place)?;
            }
            node => {
                if !self.command(node, place)? {
                    self.descend(node, place.with(place.access))?;
                }
            }
        }
        Ok(())
    }

    pub fn push(&mut self, node: Node<'a>, place: Place) {
        if !matches!(node, Node::None) {
            self.stack.push((node, place));
        }
    }

    pub fn push_all(&mut self, list: &'a NodeList, place: Place) {
        for node in list {
            self.push(node, place);
        }
    }

    /// All children, each at `place`.
    pub fn descend(&mut self, node: Node<'a>, place: Place) -> Result<(), Unreadable> {
        self.buffer.clear();
        children(node, &mut self.buffer).map_err(|_| unknown(node))?;
        self.stack
            .extend(self.buffer.drain(..).map(|child| (child, place)));
        Ok(())
    }

    pub fn add(&mut self, class: Class) {
        self.class = self.class.with(class);
    }

    pub fn verb(&mut self, verb: &str) {
        if !self.verbs.iter().any(|v| v == verb) {
            self.verbs.push(verb.to_owned());
        }
    }

    pub fn relation(&mut self, schema: Option<&'a str>, name: &'a str, access: Access) {
        let entry = self.relations.entry((schema, name)).or_default();
        match access {
            Access::Read => {
                entry.0 = true;
                if builtin::relation(schema, name) == RelationKind::Catalog {
                    self.catalog_read = true;
                } else {
                    self.user_read = true;
                }
            }
            Access::Write => {
                entry.1 = true;
                if builtin::relation(schema, name) != RelationKind::User {
                    self.add(Class::Opaque);
                }
            }
            Access::Touch => {}
        }
    }

    /// A relation that comes into being under this name.
    pub fn made(&mut self, relation: &'a nodes::RangeVar) {
        self.new_name(relation.relname().unwrap_or_default());
    }

    /// A temporary relation is found before `pg_catalog`: under a catalog's name it would pass for one.
    pub fn new_name(&mut self, name: &str) {
        if builtin::takes_catalog_name(name) {
            self.add(Class::Opaque);
        }
    }

    fn range_var(&mut self, range: &'a nodes::RangeVar, place: Place) {
        let name = range.relname().unwrap_or_default();
        match range.alias() {
            Some(alias) => self.row_alias(alias, true),
            None => {
                self.rows.insert(name);
            }
        }
        let schema = range.schemaname();
        if schema.is_none() && place.access == Access::Read && place.scope > 0 {
            self.perhaps_ctes.push((place.scope, name));
            return;
        }
        self.relation(schema, name, place.access);
    }

    /// Reads every relation that was met with CTEs in sight and is none of them.
    fn no_ctes(&mut self) {
        let mut met = std::mem::take(&mut self.perhaps_ctes);
        met.sort_unstable_by_key(|(scope, _)| *scope);
        let ctes = std::mem::take(&mut self.ctes);
        for name in crate::scopes::unseen(&ctes, &met) {
            self.relation(None, name, Access::Read);
        }
    }

    /// A name for rows in FROM. A column list in it renames `hides` columns of a table without naming them.
    fn row_alias(&mut self, alias: &'a nodes::Alias, hides: bool) {
        self.rows.extend(alias.aliasname());
        if hides && !alias.colnames().is_empty() {
            self.hidden_columns = true;
        }
    }

    fn column_ref(&mut self, column: &'a nodes::ColumnRef, place: Place) {
        let fields = column.fields();
        for (at, field) in fields.iter().enumerate() {
            match field {
                Node::A_Star(_) if !place.star => self.hidden_columns = true,
                Node::A_Star(_) => self.unnamed_columns = true,
                Node::String(name) if at + 1 == fields.len() => {
                    self.columns.extend(name.sval());
                    if fields.len() == 1 {
                        self.singles.extend(name.sval());
                    }
                }
                _ => {}
            }
        }
    }

    /// A function by the parts of its name, as written.
    pub fn function(&mut self, parts: &'a NodeList) {
        let Some((schema, name)) = qualified(parts) else {
            return;
        };
        match builtin::function(schema, name) {
            FunctionKind::Harmless => {}
            FunctionKind::Session => self.add(Class::Session),
            FunctionKind::Write => self.add(Class::Write),
            FunctionKind::Notify => {
                self.add(Class::Session);
                self.add(Class::Write);
            }
            FunctionKind::Opaque => self.add(Class::Opaque),
            FunctionKind::User => {
                self.add(Class::Opaque);
                self.functions.insert((schema, name));
                return;
            }
        }
        self.functions
            .insert((schema.filter(|s| *s == "pg_catalog"), name));
    }

    /// An operator that `pg_catalog` does not have is a function of somebody's.
    pub fn operator(&mut self, parts: &'a NodeList) {
        let Some((schema, name)) = qualified(parts) else {
            return;
        };
        let ours = matches!(schema, None | Some("pg_catalog"));
        // BETWEEN, LIKE and the like carry words here.
        let word = name.starts_with(|c: char| c.is_ascii_alphabetic());
        if !ours || !(word || builtin::operator(name)) {
            self.add(Class::Opaque);
        }
    }

    fn finish(mut self) -> Statement {
        self.no_ctes();
        if self.user_read {
            self.add(Class::Read);
        }
        if self.catalog_read {
            self.add(Class::Catalog);
        }
        if self.selects && !self.user_read && !self.catalog_read {
            self.add(Class::Read);
        }
        if self.singles.iter().any(|name| self.rows.contains(name)) {
            self.hidden_columns = true;
        }
        let relation = |((schema, name), (read, written)): (&(Option<&str>, &str), &(bool, bool))| Relation {
            schema: schema.map(str::to_owned),
            name: (*name).to_owned(),
            read: *read,
            written: *written,
        };
        let function = |(schema, name): &(Option<&str>, &str)| Function {
            schema: schema.map(str::to_owned),
            name: (*name).to_owned(),
        };
        Statement {
            class: self.class,
            verbs: self.verbs,
            relations: self.relations.iter().map(relation).collect(),
            functions: self.functions.iter().map(function).collect(),
            columns: self.columns.iter().map(|c| (*c).to_owned()).collect(),
            has_where: !self.no_where,
            has_limit: self.has_limit,
            parameters: if self.no_parameters { 0 } else { self.parameters },
            hidden_columns: self.hidden_columns,
            unnamed_columns: self.unnamed_columns || self.hidden_columns,
            action: self.action,
            settings: self.settings,
            changes_catalog: self.changes_catalog,
        }
    }
}

/// The last part of a name and the one before it.
pub(crate) fn qualified(parts: &NodeList) -> Option<(Option<&str>, &str)> {
    let last = parts.len().checked_sub(1)?;
    let name = parts.get(last).and_then(Node::as_str)?;
    let schema = last
        .checked_sub(1)
        .and_then(|at| parts.get(at))
        .and_then(Node::as_str);
    Some((schema, name))
}

/// The text of a constant that is a plain string or number.
pub(crate) fn constant(node: Node<'_>) -> Option<String> {
    match node {
        Node::A_Const(constant) => match constant.val()? {
            ConstValue::Unrecognized(_) | ConstValue::BitString(_) => None,
            value => Some(value.to_string()),
        },
        Node::String(text) => text.sval().map(str::to_owned),
        Node::Integer(number) => Some(number.ival.to_string()),
        Node::Float(number) => number.fval().map(str::to_owned),
        Node::Boolean(value) => Some(value.boolval.to_string()),
        _ => None,
    }
}

pub(crate) fn unknown(node: Node<'_>) -> Unreadable {
    let tag = match node {
        Node::Invalid(raw) => format!("tag {}", raw.type_),
        _ => "planner node".to_owned(),
    };
    Unreadable::UnknownNode { tag }
}
