//! Objects and privileges: CREATE, ALTER, DROP, GRANT and their kin, one row for each of PostgreSQL's node tags.

use crate::children::{ForeignTable, untyped};
use crate::extract::{Access, Extract, Place, qualified};
use crate::objects;
use headgate_plane::Class;
use headgate_sql::Unreadable;
use pg_raw_parse::list::NodeList;
use pg_raw_parse::raw::{AlterTableType as At, ObjectType};
use pg_raw_parse::{Node, nodes};

/// Whether a command brings in code, or works outside this session.
#[derive(Clone, Copy, PartialEq)]
enum Code {
    No,
    Yes,
}

impl<'a> Extract<'a> {
    /// `false`: not one of these.
    pub fn utility(&mut self, node: Node<'a>, place: Place) -> Result<bool, Unreadable> {
        use Code::{No, Yes};
        // Its rows come from a file, a program or another server, by options that only the server's wrapper understands.
        if let Some(table) = ForeignTable::read(node) {
            if let Some(relation) = table.create.relation() {
                self.made(relation);
            }
            self.ddl("create foreign table");
            self.add(Class::Opaque);
            self.descend(node, place.with(Access::Write))?;
            return Ok(true);
        }
        let (verb, code) = match node {
            Node::CreateStmt(create) => {
                if let Some(relation) = create.relation() {
                    self.made(relation);
                }
                ("create table", No)
            }
            Node::ViewStmt(view) => {
                if let Some(relation) = view.view() {
                    self.made(relation);
                }
                self.push(view.query(), place.inside());
                if let Some(relation) = view.view() {
                    self.push(Node::RangeVar(relation), place.with(Access::Write));
                }
                self.ddl("create view");
                return Ok(true);
            }
            Node::CreateSchemaStmt(schema) => {
                self.ddl("create schema");
                self.push_all(
                    schema.schema_elts(),
                    Place {
                        command: true,
                        ..place.inside()
                    },
                );
                return Ok(true);
            }
            Node::IndexStmt(_) => ("create index", No),
            Node::CreateSeqStmt(_) => ("create sequence", No),
            Node::AlterSeqStmt(_) => ("alter sequence", No),
            Node::CreateDomainStmt(_) => ("create domain", No),
            Node::AlterDomainStmt(_) => ("alter domain", No),
            Node::CompositeTypeStmt(kind) => {
                if let Some(relation) = kind.typevar() {
                    self.made(relation);
                }
                ("create type", No)
            }
            Node::CreateEnumStmt(_) => ("create type", No),
            Node::CreateRangeStmt(_) => ("create type", Yes),
            Node::AlterEnumStmt(_) => ("alter type", No),
            Node::AlterTypeStmt(_) => ("alter type", Yes),
            Node::CreateStatsStmt(_) => ("create statistics", No),
            Node::AlterStatsStmt(_) => ("alter statistics", No),
            Node::AlterCollationStmt(_) => ("alter collation", No),
            Node::CreateTableSpaceStmt(_) => ("create tablespace", Yes),
            Node::DropTableSpaceStmt(_) => ("drop tablespace", No),
            Node::AlterTableSpaceOptionsStmt(_) => ("alter tablespace", No),
            Node::AlterTableMoveAllStmt(_) => ("alter table", No),
            Node::CreatedbStmt(_) => ("create database", No),
            Node::DropdbStmt(_) => ("drop database", No),
            Node::AlterDatabaseStmt(_)
            | Node::AlterDatabaseRefreshCollStmt(_)
            | Node::AlterDatabaseSetStmt(_) => ("alter database", No),
            Node::AlterTSDictionaryStmt(_) => ("alter text search dictionary", Yes),
            Node::AlterTSConfigurationStmt(_) => ("alter text search configuration", No),
            // Code that runs later, or elsewhere.
            Node::CreateFunctionStmt(create) => {
                if create.is_procedure {
                    ("create procedure", Yes)
                } else {
                    ("create function", Yes)
                }
            }
            Node::AlterFunctionStmt(_) => ("alter function", Yes),
            Node::CreateTrigStmt(trigger) => {
                self.function(trigger.funcname());
                ("create trigger", Yes)
            }
            Node::CreateEventTrigStmt(trigger) => {
                self.function(trigger.funcname());
                ("create event trigger", Yes)
            }
            Node::AlterEventTrigStmt(_) => ("alter event trigger", Yes),
            Node::RuleStmt(rule) => {
                self.ddl("create rule");
                self.add(Class::Opaque);
                if let Some(relation) = rule.relation() {
                    self.push(Node::RangeVar(relation), place.with(Access::Write));
                }
                self.push(rule.where_clause(), place.inside());
                self.rows.extend(["old", "new"]);
                self.push_all(
                    rule.actions(),
                    Place {
                        command: true,
                        ..place.inside()
                    },
                );
                return Ok(true);
            }
            Node::CreateExtensionStmt(_) => ("create extension", Yes),
            Node::AlterExtensionStmt(_) => ("alter extension", Yes),
            Node::AlterExtensionContentsStmt(_) => ("alter extension", Yes),
            Node::CreatePLangStmt(_) => ("create language", Yes),
            Node::CreateCastStmt(_) => ("create cast", Yes),
            Node::CreateConversionStmt(_) => ("create conversion", Yes),
            Node::CreateTransformStmt(_) => ("create transform", Yes),
            Node::CreateAmStmt(_) => ("create access method", Yes),
            Node::CreateOpClassStmt(_) => ("create operator class", Yes),
            Node::CreateOpFamilyStmt(_) => ("create operator family", Yes),
            Node::AlterOpFamilyStmt(_) => ("alter operator family", Yes),
            Node::AlterOperatorStmt(_) => ("alter operator", Yes),
            Node::CreateFdwStmt(_) => ("create foreign data wrapper", Yes),
            Node::AlterFdwStmt(_) => ("alter foreign data wrapper", Yes),
            Node::CreateForeignServerStmt(_) => ("create server", Yes),
            Node::AlterForeignServerStmt(_) => ("alter server", Yes),
            Node::CreateUserMappingStmt(_) => ("create user mapping", Yes),
            Node::AlterUserMappingStmt(_) => ("alter user mapping", Yes),
            Node::DropUserMappingStmt(_) => ("drop user mapping", Yes),
            Node::ImportForeignSchemaStmt(_) => ("import foreign schema", Yes),
            Node::CreatePublicationStmt(_) => ("create publication", Yes),
            Node::AlterPublicationStmt(_) => ("alter publication", Yes),
            Node::CreateSubscriptionStmt(_) => ("create subscription", Yes),
            Node::AlterSubscriptionStmt(_) => ("alter subscription", Yes),
            Node::DropSubscriptionStmt(_) => ("drop subscription", Yes),
            Node::AlterSystemStmt(_) => ("alter system", Yes),
            Node::DefineStmt(define) => {
                self.object_verb("create", define.kind);
                self.ddl_of(define.kind);
                self.descend(node, place.inside())?;
                return Ok(true);
            }
            Node::DropStmt(drop) => {
                self.object_verb("drop", drop.remove_type);
                // Taking something away runs nobody's code.
                self.ddl_of(ObjectType::OBJECT_TABLE);
                for object in drop.objects() {
                    self.object(drop.remove_type, object);
                }
                return Ok(true);
            }
            Node::AlterTableStmt(alter) => {
                self.object_verb("alter", alter.objtype);
                self.ddl_of(ObjectType::OBJECT_TABLE);
                self.alter_table(alter.cmds());
                self.descend(node, place.with(Access::Write))?;
                return Ok(true);
            }
            Node::RenameStmt(rename) => {
                self.object_verb("alter", rename.rename_type);
                self.new_name(rename.newname().unwrap_or_default());
                self.altered(rename.rename_type, rename.relation(), rename.object(), place);
                return Ok(true);
            }
            Node::AlterObjectSchemaStmt(alter) => {
                self.object_verb("alter", alter.object_type);
                self.altered(alter.object_type, alter.relation(), alter.object(), place);
                return Ok(true);
            }
            Node::AlterObjectDependsStmt(alter) => {
                self.object_verb("alter", alter.object_type);
                self.altered(alter.object_type, alter.relation(), alter.object(), place);
                return Ok(true);
            }
            Node::AlterOwnerStmt(alter) => {
                self.object_verb("alter", alter.object_type);
                self.add(Class::Grant);
                self.altered(alter.object_type, alter.relation(), alter.object(), place);
                return Ok(true);
            }
            Node::CommentStmt(comment) => {
                self.ddl("comment");
                self.object(comment.objtype, comment.object());
                return Ok(true);
            }
            Node::SecLabelStmt(label) => {
                self.ddl("security label");
                self.add(Class::Grant);
                self.object(label.objtype, label.object());
                return Ok(true);
            }
            _ => return self.privilege(node, place),
        };
        self.ddl(verb);
        if code == Yes {
            self.add(Class::Opaque);
        }
        self.descend(node, place.with(Access::Write))?;
        Ok(true)
    }

    fn privilege(&mut self, node: Node<'a>, place: Place) -> Result<bool, Unreadable> {
        let verb = match node {
            Node::GrantStmt(grant) => {
                if grant.is_grant {
                    "grant"
                } else {
                    "revoke"
                }
            }
            Node::GrantRoleStmt(grant) => {
                if grant.is_grant {
                    "grant role"
                } else {
                    "revoke role"
                }
            }
            Node::AlterDefaultPrivilegesStmt(_) => "alter default privileges",
            Node::CreateRoleStmt(_) => "create role",
            // What ALTER ROLE … SET carries is looked at as any SET.
            Node::AlterRoleStmt(_) | Node::AlterRoleSetStmt(_) => "alter role",
            Node::DropRoleStmt(_) => "drop role",
            Node::DropOwnedStmt(_) => "drop owned",
            Node::ReassignOwnedStmt(_) => "reassign owned",
            Node::CreatePolicyStmt(_) => "create policy",
            Node::AlterPolicyStmt(_) => "alter policy",
            _ => return Ok(false),
        };
        match node {
            Node::DropOwnedStmt(_)
            | Node::ReassignOwnedStmt(_)
            | Node::CreatePolicyStmt(_)
            | Node::AlterPolicyStmt(_) => self.ddl(verb),
            _ => self.verb(verb),
        }
        self.add(Class::Grant);
        if let Node::GrantStmt(grant) = node {
            for privilege in untyped(grant.privileges()) {
                if let Node::AccessPriv(privilege) = privilege {
                    self.columns
                        .extend(untyped(privilege.cols()).iter().filter_map(Node::as_str));
                }
            }
            self.push_all(untyped(grant.objects()), place.with(Access::Touch));
            return Ok(true);
        }
        self.descend(node, place.with(Access::Touch))?;
        Ok(true)
    }

    fn object_verb(&mut self, action: &str, kind: ObjectType::Type) {
        match objects::name(kind) {
            Some(name) => self.verb(&format!("{action} {name}")),
            None => {
                self.verb(action);
                self.add(Class::Opaque);
            }
        }
    }

    fn ddl_of(&mut self, kind: ObjectType::Type) {
        self.add(Class::Ddl);
        self.changes_catalog = true;
        if objects::runs_code(kind) {
            self.add(Class::Opaque);
        }
        match kind {
            ObjectType::OBJECT_ROLE | ObjectType::OBJECT_POLICY => self.add(Class::Grant),
            // A base type has functions of its own for reading and writing values.
            ObjectType::OBJECT_TYPE => self.add(Class::Opaque),
            _ => {}
        }
    }

    fn altered(
        &mut self,
        kind: ObjectType::Type,
        relation: Option<&'a nodes::RangeVar>,
        object: Node<'a>,
        place: Place,
    ) {
        self.ddl_of(match kind {
            // Another name, owner or schema for a type brings no code in.
            ObjectType::OBJECT_TYPE | ObjectType::OBJECT_ATTRIBUTE => ObjectType::OBJECT_TABLE,
            kind => kind,
        });
        match relation {
            Some(relation) => self.push(Node::RangeVar(relation), place.with(Access::Write)),
            None => self.object(kind, object),
        }
    }

    /// The relation in a dotted name, as DROP and COMMENT have it.
    fn object(&mut self, kind: ObjectType::Type, object: Node<'a>) {
        let (Some(after), Node::NodeList(parts)) = (objects::parts_after_relation(kind), object) else {
            return;
        };
        let Some(end) = parts.len().checked_sub(after + 1) else {
            return;
        };
        let Some(name) = parts.get(end).and_then(Node::as_str) else {
            return;
        };
        let schema = end
            .checked_sub(1)
            .and_then(|at| parts.get(at))
            .and_then(Node::as_str);
        self.relation(schema, name, Access::Write);
        if kind == ObjectType::OBJECT_COLUMN {
            self.columns.extend(qualified(parts).map(|(_, name)| name));
        }
    }

    /// Subcommands that say whose a table is, who sees which rows, or from which file, program or server a foreign table has
    /// them.
    fn alter_table(&mut self, commands: &'a NodeList) {
        for node in commands {
            let Node::AlterTableCmd(command) = node else {
                continue;
            };
            if matches!(
                command.subtype,
                At::AT_ChangeOwner
                    | At::AT_EnableRowSecurity
                    | At::AT_DisableRowSecurity
                    | At::AT_ForceRowSecurity
                    | At::AT_NoForceRowSecurity
            ) {
                self.add(Class::Grant);
            }
            if matches!(
                command.subtype,
                At::AT_GenericOptions | At::AT_AlterColumnGenericOptions
            ) {
                self.add(Class::Opaque);
            }
        }
    }
}
