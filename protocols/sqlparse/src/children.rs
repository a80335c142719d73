//! The children of every node that PostgreSQL's raw parser can make: a table, read off the structs of `pg_raw_parse`.
//!
//! The library has a walk of its own, but it recurses (20,000 terms of `1+1+…` end the process) and knows expressions
//! only. This one is for a loop with a stack of its own.
//! Invariant: a node that is not in the table is an error, never a leaf.
//! Never here: meaning.

use pg_raw_parse::Node;
use pg_raw_parse::list::{CastNodeList, NodeList};

fn one<'a>(node: Node<'a>, out: &mut Vec<Node<'a>>) {
    match node {
        Node::None => {}
        node => out.push(node),
    }
}

fn list<'a>(nodes: &'a NodeList, out: &mut Vec<Node<'a>>) {
    nodes.iter().for_each(|node| one(node, out));
}

/// Takes from a list the element type that the library read off a comment in PostgreSQL's header. Some of those comments
/// are wrong (GRANT ON FUNCTION has no relations), and the typed iterator panics there.
// JUSTIFICATION: the library offers no safe way from the typed list to the plain one.
#[allow(unsafe_code)]
pub(crate) fn untyped<T>(list: &CastNodeList<T>) -> &NodeList {
    // SAFETY: `CastNodeList<T>` is `#[repr(transparent)]` over `NodeList` and a `PhantomData<T>` (pg_raw_parse 0.1.0,
    // src/list.rs; the version is pinned), and the library itself makes one from the other by this very cast.
    unsafe { &*std::ptr::from_ref(list).cast::<NodeList>() }
}

/// Appends the children of `node`, or says that it is not in the table.
#[rustfmt::skip]
pub(crate) fn children<'a>(node: Node<'a>, out: &mut Vec<Node<'a>>) -> Result<(), UnknownTag> {
    match node {
        Node::None => {}
        Node::NodeList(nodes) => list(nodes, out),
        Node::Alias(n) => list(n.colnames(), out),
        Node::RangeVar(n) => out.extend(n.alias().map(Node::Alias)),
        Node::IntoClause(n) => {
            out.extend(n.rel().map(Node::RangeVar));
            list(n.col_names(), out);
            list(n.options(), out);
        }
        Node::GroupingFunc(n) => list(n.args(), out),
        Node::NamedArgExpr(n) => one(n.arg(), out),
        Node::BoolExpr(n) => list(n.args(), out),
        Node::SubLink(n) => {
            one(n.testexpr(), out);
            list(n.oper_name(), out);
            one(n.subselect(), out);
        }
        Node::CaseExpr(n) => {
            one(n.arg(), out);
            list(n.args(), out);
            one(n.defresult(), out);
        }
        Node::CaseWhen(n) => {
            one(n.expr(), out);
            one(n.result(), out);
        }
        Node::RowExpr(n) => {
            list(n.args(), out);
            list(untyped(n.colnames()), out);
        }
        Node::CoalesceExpr(n) => list(n.args(), out),
        Node::MinMaxExpr(n) => list(n.args(), out),
        Node::XmlExpr(n) => {
            list(n.named_args(), out);
            list(untyped(n.arg_names()), out);
            list(n.args(), out);
        }
        Node::JsonReturning(n) => out.extend(n.format().map(Node::JsonFormat)),
        Node::JsonValueExpr(n) => {
            one(n.raw_expr(), out);
            one(n.formatted_expr(), out);
            out.extend(n.format().map(Node::JsonFormat));
        }
        Node::JsonIsPredicate(n) => {
            one(n.expr(), out);
            out.extend(n.format().map(Node::JsonFormat));
        }
        Node::JsonBehavior(n) => one(n.expr(), out),
        Node::NullTest(n) => one(n.arg(), out),
        Node::BooleanTest(n) => one(n.arg(), out),
        Node::JoinExpr(n) => {
            one(n.larg(), out);
            one(n.rarg(), out);
            list(untyped(n.using_clause()), out);
            out.extend(n.join_using_alias().map(Node::Alias));
            one(n.quals(), out);
            out.extend(n.alias().map(Node::Alias));
        }
        Node::TypeName(n) => {
            list(untyped(n.names()), out);
            list(n.typmods(), out);
            list(n.array_bounds(), out);
        }
        Node::ColumnRef(n) => list(n.fields(), out),
        Node::A_Expr(n) => {
            list(n.name(), out);
            one(n.lexpr(), out);
            one(n.rexpr(), out);
        }
        Node::TypeCast(n) => {
            one(n.arg(), out);
            out.extend(n.type_name().map(Node::TypeName));
        }
        Node::CollateClause(n) => {
            one(n.arg(), out);
            list(n.collname(), out);
        }
        Node::FuncCall(n) => {
            list(n.funcname(), out);
            list(n.args(), out);
            list(untyped(n.agg_order()), out);
            one(n.agg_filter(), out);
            out.extend(n.over().map(Node::WindowDef));
        }
        Node::A_Indices(n) => {
            one(n.lidx(), out);
            one(n.uidx(), out);
        }
        Node::A_Indirection(n) => {
            one(n.arg(), out);
            list(n.indirection(), out);
        }
        Node::A_ArrayExpr(n) => list(n.elements(), out),
        Node::ResTarget(n) => {
            list(n.indirection(), out);
            one(n.val(), out);
        }
        Node::MultiAssignRef(n) => one(n.source(), out),
        Node::SortBy(n) => {
            one(n.node(), out);
            list(n.use_op(), out);
        }
        Node::WindowDef(n) => {
            list(n.partition_clause(), out);
            list(untyped(n.order_clause()), out);
            one(n.start_offset(), out);
            one(n.end_offset(), out);
        }
        Node::RangeSubselect(n) => {
            one(n.subquery(), out);
            out.extend(n.alias().map(Node::Alias));
        }
        Node::RangeFunction(n) => {
            list(n.functions(), out);
            out.extend(n.alias().map(Node::Alias));
            list(untyped(n.coldeflist()), out);
        }
        Node::RangeTableFunc(n) => {
            one(n.docexpr(), out);
            one(n.rowexpr(), out);
            list(n.namespaces(), out);
            list(untyped(n.columns()), out);
            out.extend(n.alias().map(Node::Alias));
        }
        Node::RangeTableFuncCol(n) => {
            out.extend(n.type_name().map(Node::TypeName));
            one(n.colexpr(), out);
            one(n.coldefexpr(), out);
        }
        Node::RangeTableSample(n) => {
            one(n.relation(), out);
            list(n.method(), out);
            list(n.args(), out);
            one(n.repeatable(), out);
        }
        Node::ColumnDef(n) => {
            out.extend(n.type_name().map(Node::TypeName));
            one(n.raw_default(), out);
            out.extend(n.identity_sequence().map(Node::RangeVar));
            out.extend(n.coll_clause().map(Node::CollateClause));
            list(n.constraints(), out);
            list(n.fdwoptions(), out);
        }
        Node::TableLikeClause(n) => out.extend(n.relation().map(Node::RangeVar)),
        Node::IndexElem(n) => {
            one(n.expr(), out);
            list(n.collation(), out);
            list(n.opclass(), out);
            list(n.opclassopts(), out);
        }
        Node::DefElem(n) => one(n.arg(), out),
        Node::LockingClause(n) => list(n.locked_rels(), out),
        Node::XmlSerialize(n) => {
            one(n.expr(), out);
            out.extend(n.type_name().map(Node::TypeName));
        }
        Node::PartitionElem(n) => {
            one(n.expr(), out);
            list(n.collation(), out);
            list(n.opclass(), out);
        }
        Node::PartitionSpec(n) => list(untyped(n.part_params()), out),
        Node::PartitionBoundSpec(n) => {
            list(n.listdatums(), out);
            list(n.lowerdatums(), out);
            list(n.upperdatums(), out);
        }
        Node::PartitionCmd(n) => {
            out.extend(n.name().map(Node::RangeVar));
            out.extend(n.bound().map(Node::PartitionBoundSpec));
        }
        Node::GroupingSet(n) => list(n.content(), out),
        Node::WithClause(n) => list(untyped(n.ctes()), out),
        Node::InferClause(n) => {
            list(n.index_elems(), out);
            one(n.where_clause(), out);
        }
        Node::OnConflictClause(n) => {
            out.extend(n.infer().map(Node::InferClause));
            list(untyped(n.target_list()), out);
            one(n.where_clause(), out);
        }
        Node::CTESearchClause(n) => list(n.search_col_list(), out),
        Node::CTECycleClause(n) => {
            list(n.cycle_col_list(), out);
            one(n.cycle_mark_value(), out);
            one(n.cycle_mark_default(), out);
        }
        Node::CommonTableExpr(n) => {
            list(n.aliascolnames(), out);
            one(n.ctequery(), out);
            out.extend(n.search_clause().map(Node::CTESearchClause));
            out.extend(n.cycle_clause().map(Node::CTECycleClause));
        }
        Node::MergeWhenClause(n) => {
            one(n.condition(), out);
            list(n.target_list(), out);
            list(n.values(), out);
        }
        Node::ReturningClause(n) => {
            list(untyped(n.options()), out);
            list(n.exprs(), out);
        }
        Node::JsonOutput(n) => {
            out.extend(n.type_name().map(Node::TypeName));
            out.extend(n.returning().map(Node::JsonReturning));
        }
        Node::JsonArgument(n) => out.extend(n.val().map(Node::JsonValueExpr)),
        Node::JsonFuncExpr(n) => {
            out.extend(n.context_item().map(Node::JsonValueExpr));
            one(n.pathspec(), out);
            list(n.passing(), out);
            out.extend(n.output().map(Node::JsonOutput));
            out.extend(n.on_empty().map(Node::JsonBehavior));
            out.extend(n.on_error().map(Node::JsonBehavior));
        }
        Node::JsonTablePathSpec(n) => one(n.string(), out),
        Node::JsonTable(n) => {
            out.extend(n.context_item().map(Node::JsonValueExpr));
            out.extend(n.pathspec().map(Node::JsonTablePathSpec));
            list(n.passing(), out);
            list(untyped(n.columns()), out);
            out.extend(n.on_error().map(Node::JsonBehavior));
            out.extend(n.alias().map(Node::Alias));
        }
        Node::JsonTableColumn(n) => {
            out.extend(n.type_name().map(Node::TypeName));
            out.extend(n.pathspec().map(Node::JsonTablePathSpec));
            out.extend(n.format().map(Node::JsonFormat));
            list(n.columns(), out);
            out.extend(n.on_empty().map(Node::JsonBehavior));
            out.extend(n.on_error().map(Node::JsonBehavior));
        }
        Node::JsonKeyValue(n) => {
            one(n.key(), out);
            out.extend(n.value().map(Node::JsonValueExpr));
        }
        Node::JsonParseExpr(n) => {
            out.extend(n.expr().map(Node::JsonValueExpr));
            out.extend(n.output().map(Node::JsonOutput));
        }
        Node::JsonScalarExpr(n) => {
            one(n.expr(), out);
            out.extend(n.output().map(Node::JsonOutput));
        }
        Node::JsonSerializeExpr(n) => {
            out.extend(n.expr().map(Node::JsonValueExpr));
            out.extend(n.output().map(Node::JsonOutput));
        }
        Node::JsonObjectConstructor(n) => {
            list(untyped(n.exprs()), out);
            out.extend(n.output().map(Node::JsonOutput));
        }
        Node::JsonArrayConstructor(n) => {
            list(untyped(n.exprs()), out);
            out.extend(n.output().map(Node::JsonOutput));
        }
        Node::JsonArrayQueryConstructor(n) => {
            one(n.query(), out);
            out.extend(n.output().map(Node::JsonOutput));
            out.extend(n.format().map(Node::JsonFormat));
        }
        Node::JsonAggConstructor(n) => {
            out.extend(n.output().map(Node::JsonOutput));
            one(n.agg_filter(), out);
            list(n.agg_order(), out);
            out.extend(n.over().map(Node::WindowDef));
        }
        Node::JsonObjectAgg(n) => {
            out.extend(n.constructor().map(Node::JsonAggConstructor));
            out.extend(n.arg().map(Node::JsonKeyValue));
        }
        Node::JsonArrayAgg(n) => {
            out.extend(n.constructor().map(Node::JsonAggConstructor));
            out.extend(n.arg().map(Node::JsonValueExpr));
        }
        Node::InsertStmt(n) => {
            out.extend(n.relation().map(Node::RangeVar));
            list(n.cols(), out);
            one(n.select_stmt(), out);
            out.extend(n.on_conflict_clause().map(Node::OnConflictClause));
            out.extend(n.returning_clause().map(Node::ReturningClause));
            out.extend(n.with_clause().map(Node::WithClause));
        }
        Node::DeleteStmt(n) => {
            out.extend(n.relation().map(Node::RangeVar));
            list(n.using_clause(), out);
            one(n.where_clause(), out);
            out.extend(n.returning_clause().map(Node::ReturningClause));
            out.extend(n.with_clause().map(Node::WithClause));
        }
        Node::UpdateStmt(n) => {
            out.extend(n.relation().map(Node::RangeVar));
            list(untyped(n.target_list()), out);
            one(n.where_clause(), out);
            list(n.from_clause(), out);
            out.extend(n.returning_clause().map(Node::ReturningClause));
            out.extend(n.with_clause().map(Node::WithClause));
        }
        Node::MergeStmt(n) => {
            out.extend(n.relation().map(Node::RangeVar));
            one(n.source_relation(), out);
            one(n.join_condition(), out);
            list(untyped(n.merge_when_clauses()), out);
            out.extend(n.returning_clause().map(Node::ReturningClause));
            out.extend(n.with_clause().map(Node::WithClause));
        }
        Node::SelectStmt(n) => {
            list(n.distinct_clause(), out);
            out.extend(n.into_clause().map(Node::IntoClause));
            list(untyped(n.target_list()), out);
            list(n.from_clause(), out);
            one(n.where_clause(), out);
            list(n.group_clause(), out);
            one(n.having_clause(), out);
            list(n.window_clause(), out);
            list(n.values_lists(), out);
            list(untyped(n.sort_clause()), out);
            one(n.limit_offset(), out);
            one(n.limit_count(), out);
            list(untyped(n.locking_clause()), out);
            out.extend(n.with_clause().map(Node::WithClause));
            out.extend(n.larg().map(Node::SelectStmt));
            out.extend(n.rarg().map(Node::SelectStmt));
        }
        Node::ReturnStmt(n) => one(n.returnval(), out),
        Node::CreateSchemaStmt(n) => {
            out.extend(n.authrole().map(Node::RoleSpec));
            list(n.schema_elts(), out);
        }
        Node::AlterTableStmt(n) => {
            out.extend(n.relation().map(Node::RangeVar));
            list(n.cmds(), out);
        }
        Node::AlterTableCmd(n) => {
            out.extend(n.newowner().map(Node::RoleSpec));
            one(n.def(), out);
        }
        Node::AlterCollationStmt(n) => list(n.collname(), out),
        Node::AlterDomainStmt(n) => {
            list(n.type_name(), out);
            one(n.def(), out);
        }
        Node::GrantStmt(n) => {
            list(untyped(n.objects()), out);
            list(untyped(n.privileges()), out);
            list(untyped(n.grantees()), out);
            out.extend(n.grantor().map(Node::RoleSpec));
        }
        Node::ObjectWithArgs(n) => {
            list(n.objname(), out);
            list(n.objargs(), out);
            list(untyped(n.objfuncargs()), out);
        }
        Node::AccessPriv(n) => list(untyped(n.cols()), out),
        Node::GrantRoleStmt(n) => {
            list(n.granted_roles(), out);
            list(n.grantee_roles(), out);
            list(n.opt(), out);
            out.extend(n.grantor().map(Node::RoleSpec));
        }
        Node::AlterDefaultPrivilegesStmt(n) => {
            list(untyped(n.options()), out);
            out.extend(n.action().map(Node::GrantStmt));
        }
        Node::CopyStmt(n) => {
            out.extend(n.relation().map(Node::RangeVar));
            one(n.query(), out);
            list(n.attlist(), out);
            list(untyped(n.options()), out);
            one(n.where_clause(), out);
        }
        Node::VariableSetStmt(n) => list(n.args(), out),
        Node::CreateStmt(n) => {
            out.extend(n.relation().map(Node::RangeVar));
            list(n.table_elts(), out);
            list(n.inh_relations(), out);
            out.extend(n.partbound().map(Node::PartitionBoundSpec));
            out.extend(n.partspec().map(Node::PartitionSpec));
            out.extend(n.of_typename().map(Node::TypeName));
            list(untyped(n.constraints()), out);
            list(n.nnconstraints(), out);
            list(n.options(), out);
        }
        Node::Constraint(n) => {
            one(n.raw_expr(), out);
            list(n.keys(), out);
            list(n.including(), out);
            list(n.exclusions(), out);
            list(n.options(), out);
            one(n.where_clause(), out);
            out.extend(n.pktable().map(Node::RangeVar));
            list(n.fk_attrs(), out);
            list(n.pk_attrs(), out);
            list(n.fk_del_set_cols(), out);
        }
        Node::CreateTableSpaceStmt(n) => {
            out.extend(n.owner().map(Node::RoleSpec));
            list(n.options(), out);
        }
        Node::AlterTableSpaceOptionsStmt(n) => list(n.options(), out),
        Node::AlterTableMoveAllStmt(n) => list(n.roles(), out),
        Node::CreateExtensionStmt(n) => list(untyped(n.options()), out),
        Node::AlterExtensionStmt(n) => list(untyped(n.options()), out),
        Node::AlterExtensionContentsStmt(n) => one(n.object(), out),
        Node::CreateFdwStmt(n) => {
            list(n.func_options(), out);
            list(n.options(), out);
        }
        Node::AlterFdwStmt(n) => {
            list(n.func_options(), out);
            list(n.options(), out);
        }
        Node::CreateForeignServerStmt(n) => list(n.options(), out),
        Node::AlterForeignServerStmt(n) => list(n.options(), out),
        Node::CreateUserMappingStmt(n) => {
            out.extend(n.user().map(Node::RoleSpec));
            list(n.options(), out);
        }
        Node::AlterUserMappingStmt(n) => {
            out.extend(n.user().map(Node::RoleSpec));
            list(n.options(), out);
        }
        Node::DropUserMappingStmt(n) => out.extend(n.user().map(Node::RoleSpec)),
        Node::ImportForeignSchemaStmt(n) => {
            list(untyped(n.table_list()), out);
            list(n.options(), out);
        }
        Node::CreatePolicyStmt(n) => {
            out.extend(n.table().map(Node::RangeVar));
            list(n.roles(), out);
            one(n.qual(), out);
            one(n.with_check(), out);
        }
        Node::AlterPolicyStmt(n) => {
            out.extend(n.table().map(Node::RangeVar));
            list(n.roles(), out);
            one(n.qual(), out);
            one(n.with_check(), out);
        }
        Node::CreateAmStmt(n) => list(n.handler_name(), out),
        Node::CreateTrigStmt(n) => {
            out.extend(n.relation().map(Node::RangeVar));
            list(n.funcname(), out);
            list(untyped(n.args()), out);
            list(n.columns(), out);
            one(n.when_clause(), out);
            list(n.transition_rels(), out);
            out.extend(n.constrrel().map(Node::RangeVar));
        }
        Node::CreateEventTrigStmt(n) => {
            list(untyped(n.whenclause()), out);
            list(n.funcname(), out);
        }
        Node::CreatePLangStmt(n) => {
            list(n.plhandler(), out);
            list(n.plinline(), out);
            list(n.plvalidator(), out);
        }
        Node::CreateRoleStmt(n) => list(untyped(n.options()), out),
        Node::AlterRoleStmt(n) => {
            out.extend(n.role().map(Node::RoleSpec));
            list(untyped(n.options()), out);
        }
        Node::AlterRoleSetStmt(n) => {
            out.extend(n.role().map(Node::RoleSpec));
            out.extend(n.setstmt().map(Node::VariableSetStmt));
        }
        Node::DropRoleStmt(n) => list(n.roles(), out),
        Node::CreateSeqStmt(n) => {
            out.extend(n.sequence().map(Node::RangeVar));
            list(n.options(), out);
        }
        Node::AlterSeqStmt(n) => {
            out.extend(n.sequence().map(Node::RangeVar));
            list(n.options(), out);
        }
        Node::DefineStmt(n) => {
            list(untyped(n.defnames()), out);
            list(n.args(), out);
            list(untyped(n.definition()), out);
        }
        Node::CreateDomainStmt(n) => {
            list(untyped(n.domainname()), out);
            out.extend(n.type_name().map(Node::TypeName));
            out.extend(n.coll_clause().map(Node::CollateClause));
            list(untyped(n.constraints()), out);
        }
        Node::CreateOpClassStmt(n) => {
            list(untyped(n.opclassname()), out);
            list(n.opfamilyname(), out);
            out.extend(n.datatype().map(Node::TypeName));
            list(untyped(n.items()), out);
        }
        Node::CreateOpClassItem(n) => {
            out.extend(n.name().map(Node::ObjectWithArgs));
            list(n.order_family(), out);
            list(n.class_args(), out);
            out.extend(n.storedtype().map(Node::TypeName));
        }
        Node::CreateOpFamilyStmt(n) => list(untyped(n.opfamilyname()), out),
        Node::AlterOpFamilyStmt(n) => {
            list(untyped(n.opfamilyname()), out);
            list(untyped(n.items()), out);
        }
        Node::DropStmt(n) => list(n.objects(), out),
        Node::TruncateStmt(n) => list(n.relations(), out),
        Node::CommentStmt(n) => one(n.object(), out),
        Node::SecLabelStmt(n) => one(n.object(), out),
        Node::DeclareCursorStmt(n) => one(n.query(), out),
        Node::IndexStmt(n) => {
            out.extend(n.relation().map(Node::RangeVar));
            list(untyped(n.index_params()), out);
            list(n.index_including_params(), out);
            list(untyped(n.options()), out);
            one(n.where_clause(), out);
            list(n.exclude_op_names(), out);
        }
        Node::CreateStatsStmt(n) => {
            list(untyped(n.defnames()), out);
            list(untyped(n.stat_types()), out);
            list(n.exprs(), out);
            list(untyped(n.relations()), out);
        }
        Node::StatsElem(n) => one(n.expr(), out),
        Node::AlterStatsStmt(n) => {
            list(untyped(n.defnames()), out);
            one(n.stxstattarget(), out);
        }
        Node::CreateFunctionStmt(n) => {
            list(n.funcname(), out);
            list(untyped(n.parameters()), out);
            out.extend(n.return_type().map(Node::TypeName));
            list(untyped(n.options()), out);
            one(n.sql_body(), out);
        }
        Node::FunctionParameter(n) => {
            out.extend(n.arg_type().map(Node::TypeName));
            one(n.defexpr(), out);
        }
        Node::AlterFunctionStmt(n) => {
            out.extend(n.func().map(Node::ObjectWithArgs));
            list(untyped(n.actions()), out);
        }
        Node::DoStmt(n) => list(untyped(n.args()), out),
        Node::CallStmt(n) => out.extend(n.funccall().map(Node::FuncCall)),
        Node::RenameStmt(n) => {
            out.extend(n.relation().map(Node::RangeVar));
            one(n.object(), out);
        }
        Node::AlterObjectDependsStmt(n) => {
            out.extend(n.relation().map(Node::RangeVar));
            one(n.object(), out);
            out.extend(n.extname().map(Node::String));
        }
        Node::AlterObjectSchemaStmt(n) => {
            out.extend(n.relation().map(Node::RangeVar));
            one(n.object(), out);
        }
        Node::AlterOwnerStmt(n) => {
            out.extend(n.relation().map(Node::RangeVar));
            one(n.object(), out);
            out.extend(n.newowner().map(Node::RoleSpec));
        }
        Node::AlterOperatorStmt(n) => {
            out.extend(n.opername().map(Node::ObjectWithArgs));
            list(untyped(n.options()), out);
        }
        Node::AlterTypeStmt(n) => {
            list(n.type_name(), out);
            list(untyped(n.options()), out);
        }
        Node::RuleStmt(n) => {
            out.extend(n.relation().map(Node::RangeVar));
            one(n.where_clause(), out);
            list(n.actions(), out);
        }
        Node::TransactionStmt(n) => list(n.options(), out),
        Node::CompositeTypeStmt(n) => {
            out.extend(n.typevar().map(Node::RangeVar));
            list(untyped(n.coldeflist()), out);
        }
        Node::CreateEnumStmt(n) => {
            list(untyped(n.type_name()), out);
            list(untyped(n.vals()), out);
        }
        Node::CreateRangeStmt(n) => {
            list(untyped(n.type_name()), out);
            list(untyped(n.params()), out);
        }
        Node::AlterEnumStmt(n) => list(untyped(n.type_name()), out),
        Node::ViewStmt(n) => {
            out.extend(n.view().map(Node::RangeVar));
            list(n.aliases(), out);
            one(n.query(), out);
            list(n.options(), out);
        }
        Node::CreatedbStmt(n) => list(untyped(n.options()), out),
        Node::AlterDatabaseStmt(n) => list(untyped(n.options()), out),
        Node::AlterDatabaseSetStmt(n) => out.extend(n.setstmt().map(Node::VariableSetStmt)),
        Node::DropdbStmt(n) => list(n.options(), out),
        Node::AlterSystemStmt(n) => out.extend(n.setstmt().map(Node::VariableSetStmt)),
        Node::ClusterStmt(n) => {
            out.extend(n.relation().map(Node::RangeVar));
            list(untyped(n.params()), out);
        }
        Node::VacuumStmt(n) => {
            list(untyped(n.options()), out);
            list(untyped(n.rels()), out);
        }
        Node::VacuumRelation(n) => {
            out.extend(n.relation().map(Node::RangeVar));
            list(n.va_cols(), out);
        }
        Node::ExplainStmt(n) => {
            one(n.query(), out);
            list(untyped(n.options()), out);
        }
        Node::CreateTableAsStmt(n) => {
            one(n.query(), out);
            out.extend(n.into().map(Node::IntoClause));
        }
        Node::RefreshMatViewStmt(n) => out.extend(n.relation().map(Node::RangeVar)),
        Node::LockStmt(n) => list(n.relations(), out),
        Node::ConstraintsSetStmt(n) => list(n.constraints(), out),
        Node::ReindexStmt(n) => {
            out.extend(n.relation().map(Node::RangeVar));
            list(untyped(n.params()), out);
        }
        Node::CreateConversionStmt(n) => {
            list(n.conversion_name(), out);
            list(n.func_name(), out);
        }
        Node::CreateCastStmt(n) => {
            out.extend(n.sourcetype().map(Node::TypeName));
            out.extend(n.targettype().map(Node::TypeName));
            out.extend(n.func().map(Node::ObjectWithArgs));
        }
        Node::CreateTransformStmt(n) => {
            out.extend(n.type_name().map(Node::TypeName));
            out.extend(n.fromsql().map(Node::ObjectWithArgs));
            out.extend(n.tosql().map(Node::ObjectWithArgs));
        }
        Node::PrepareStmt(n) => {
            list(untyped(n.argtypes()), out);
            one(n.query(), out);
        }
        Node::ExecuteStmt(n) => list(n.params(), out),
        Node::DropOwnedStmt(n) => list(n.roles(), out),
        Node::ReassignOwnedStmt(n) => {
            list(n.roles(), out);
            out.extend(n.newrole().map(Node::RoleSpec));
        }
        Node::AlterTSDictionaryStmt(n) => {
            list(untyped(n.dictname()), out);
            list(untyped(n.options()), out);
        }
        Node::AlterTSConfigurationStmt(n) => {
            list(untyped(n.cfgname()), out);
            list(n.tokentype(), out);
            list(n.dicts(), out);
        }
        Node::PublicationTable(n) => {
            out.extend(n.relation().map(Node::RangeVar));
            one(n.where_clause(), out);
            list(n.columns(), out);
        }
        Node::PublicationObjSpec(n) => out.extend(n.pubtable().map(Node::PublicationTable)),
        Node::CreatePublicationStmt(n) => {
            list(untyped(n.options()), out);
            list(n.pubobjects(), out);
        }
        Node::AlterPublicationStmt(n) => {
            list(untyped(n.options()), out);
            list(n.pubobjects(), out);
        }
        Node::CreateSubscriptionStmt(n) => {
            list(n.publication(), out);
            list(untyped(n.options()), out);
        }
        Node::AlterSubscriptionStmt(n) => {
            list(n.publication(), out);
            list(untyped(n.options()), out);
        }
        Node::MergeSupportFunc(_)
        | Node::SQLValueFunction(_)
        | Node::JsonFormat(_)
        | Node::SetToDefault(_)
        | Node::CurrentOfExpr(_)
        | Node::Integer(_)
        | Node::Float(_)
        | Node::Boolean(_)
        | Node::String(_)
        | Node::BitString(_)
        | Node::ParamRef(_)
        | Node::A_Const(_)
        | Node::RoleSpec(_)
        | Node::A_Star(_)
        | Node::ReturningOption(_)
        | Node::TriggerTransition(_)
        | Node::ATAlterConstraint(_)
        | Node::ReplicaIdentityStmt(_)
        | Node::VariableShowStmt(_)
        | Node::DropTableSpaceStmt(_)
        | Node::AlterEventTrigStmt(_)
        | Node::ClosePortalStmt(_)
        | Node::FetchStmt(_)
        | Node::NotifyStmt(_)
        | Node::ListenStmt(_)
        | Node::UnlistenStmt(_)
        | Node::LoadStmt(_)
        | Node::AlterDatabaseRefreshCollStmt(_)
        | Node::CheckPointStmt(_)
        | Node::DiscardStmt(_)
        | Node::DeallocateStmt(_)
        | Node::DropSubscriptionStmt(_) => {}
        _ => return Err(UnknownTag),
    }
    Ok(())
}

/// A node that is not in the table.
pub(crate) struct UnknownTag;
