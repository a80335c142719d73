//! The children of every node that PostgreSQL's raw parser can make: a table, a row for each of the parser's node tags.
//!
//! The library has a walk of its own, but it recurses (20,000 terms of `1+1+…` end the process) and knows expressions
//! only. This one is for a loop with a stack of its own.
//! Invariant: every tag of the parser has one row, and every field of a row's struct that can hold a node stands in it. The
//! match has no default arm, so a variant that a newer library brings does not compile; a tag or a field that it brings
//! without one fails a test (`children/tests.rs`, which reads the C headers of the library in use).
//! Invariant: a node whose row is not `walk` or `leaf` is an error, never a leaf.
//! Never here: meaning.

use pg_raw_parse::list::{CastNodeList, NodeList};
use pg_raw_parse::raw::{CreateForeignTableStmt, NodeTag};
use pg_raw_parse::{Node, nodes};

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

/// CREATE FOREIGN TABLE: the one statement for which the library has a struct and no [`Node`], because its first field is a
/// whole CREATE TABLE.
#[derive(Clone, Copy)]
pub(crate) struct ForeignTable<'a> {
    pub create: &'a nodes::CreateStmt,
    /// OPTIONS (…): of the server's wrapper, a file's name or a program among them.
    options: Option<&'a NodeList>,
}

impl<'a> ForeignTable<'a> {
    // JUSTIFICATION: the library gives a node of this kind as a bare tag only.
    #[allow(unsafe_code)]
    pub fn read(node: Node<'a>) -> Option<ForeignTable<'a>> {
        let Node::Invalid(raw) = node else { return None };
        if raw.type_ != NodeTag::T_CreateForeignTableStmt {
            return None;
        }
        // SAFETY: PostgreSQL's tag says what a node is: it made this one as a CreateForeignTableStmt, which the tree that `raw`
        // borrows keeps alive. Its layout is the library's own binding, checked by the library when it is built.
        let whole = unsafe { &*std::ptr::from_ref(raw).cast::<CreateForeignTableStmt>() };
        // SAFETY: a list is null or a node of the same tree; `NodeList` has the layout of `raw::List` (asserted by the library,
        // src/list.rs), and the library makes one from the other by this very cast.
        let options = unsafe { whole.options.cast::<NodeList>().as_ref() };
        Some(ForeignTable {
            create: &whole.base,
            options,
        })
    }
}

/// One field of a row: `node` holds one node of any kind, `list` a list, `typed` a list of which the library thinks to know
/// the kind, and a kind's name holds one of that kind or nothing.
macro_rules! field {
    ($n:ident.$field:ident, node, $out:ident) => {
        one($n.$field(), $out)
    };
    ($n:ident.$field:ident, list, $out:ident) => {
        list($n.$field(), $out)
    };
    ($n:ident.$field:ident, typed, $out:ident) => {
        list(untyped($n.$field()), $out)
    };
    ($n:ident.$field:ident, $kind:ident, $out:ident) => {
        $out.extend($n.$field().map(Node::$kind))
    };
}

/// `walk`: a kind and its fields that hold nodes. `leaf`: it has none. `refuse`: the raw parser does not make it, though the
/// library could show it. `no_variant`: neither does the library show it.
macro_rules! table {
    (
        walk { $($kind:ident($($field:ident: $how:ident),+),)* }
        leaf { $($leaf:ident,)* }
        refuse { $($refused:ident,)* }
        no_variant { $($tag:ident,)* }
    ) => {
        /// Appends the children of `node`, or says that it is not one that the raw parser makes.
        pub(crate) fn children<'a>(node: Node<'a>, out: &mut Vec<Node<'a>>) -> Result<(), UnknownTag> {
            match node {
                Node::None => {}
                Node::NodeList(nodes) => list(nodes, out),
                $(Node::$kind(n) => { $(field!(n.$field, $how, out);)+ })*
                $(Node::$leaf(_) => {})*
                $(Node::$refused(_) => return Err(UnknownTag),)*
                Node::Invalid(_) => {
                    let table = ForeignTable::read(node).ok_or(UnknownTag)?;
                    children(Node::CreateStmt(table.create), out)?;
                    table.options.into_iter().for_each(|options| list(options, out));
                }
            }
            Ok(())
        }

        #[cfg(test)]
        pub(crate) const ROWS: &[Row] = &[
            $(Row { kind: stringify!($kind), fields: Some(&[$((stringify!($field), stringify!($how))),+]) },)*
            $(Row { kind: stringify!($leaf), fields: Some(&[]) },)*
            $(Row { kind: stringify!($refused), fields: None },)*
            $(Row { kind: stringify!($tag), fields: None },)*
        ];

        /// A node's kind and where it is in memory.
        #[cfg(test)]
        pub(crate) fn identity(node: Node<'_>) -> (&'static str, usize) {
            match node {
                Node::None => ("None", 0),
                Node::NodeList(n) => ("List", std::ptr::from_ref(n).addr()),
                $(Node::$kind(n) => (stringify!($kind), std::ptr::from_ref(n).addr()),)*
                $(Node::$leaf(n) => (stringify!($leaf), std::ptr::from_ref(n).addr()),)*
                $(Node::$refused(n) => (stringify!($refused), std::ptr::from_ref(n).addr()),)*
                Node::Invalid(n) => match ForeignTable::read(node) {
                    Some(_) => ("CreateForeignTableStmt", std::ptr::from_ref(n).addr()),
                    None => ("Invalid", std::ptr::from_ref(n).addr()),
                },
            }
        }
    };
}

/// A node that is not in the table.
pub(crate) struct UnknownTag;

/// A row as the tests read it. `fields`: `None` where the kind is refused.
#[cfg(test)]
pub(crate) struct Row {
    pub kind: &'static str,
    pub fields: Option<&'static [(&'static str, &'static str)]>,
}

table! {
    walk {
        Alias(colnames: list),
        RangeVar(alias: Alias),
        IntoClause(rel: RangeVar, col_names: list, options: list),
        GroupingFunc(args: list),
        NamedArgExpr(arg: node),
        BoolExpr(args: list),
        SubLink(testexpr: node, oper_name: list, subselect: node),
        CaseExpr(arg: node, args: list, defresult: node),
        CaseWhen(expr: node, result: node),
        RowExpr(args: list, colnames: typed),
        CoalesceExpr(args: list),
        MinMaxExpr(args: list),
        XmlExpr(named_args: list, arg_names: typed, args: list),
        JsonReturning(format: JsonFormat),
        JsonValueExpr(raw_expr: node, formatted_expr: node, format: JsonFormat),
        JsonIsPredicate(expr: node, format: JsonFormat),
        JsonBehavior(expr: node),
        NullTest(arg: node),
        BooleanTest(arg: node),
        JoinExpr(larg: node, rarg: node, using_clause: typed, join_using_alias: Alias, quals: node, alias: Alias),
        TypeName(names: typed, typmods: list, array_bounds: list),
        ColumnRef(fields: list),
        A_Expr(name: list, lexpr: node, rexpr: node),
        TypeCast(arg: node, type_name: TypeName),
        CollateClause(arg: node, collname: list),
        FuncCall(funcname: list, args: list, agg_order: typed, agg_filter: node, over: WindowDef),
        A_Indices(lidx: node, uidx: node),
        A_Indirection(arg: node, indirection: list),
        A_ArrayExpr(elements: list),
        ResTarget(indirection: list, val: node),
        MultiAssignRef(source: node),
        SortBy(node: node, use_op: list),
        WindowDef(partition_clause: list, order_clause: typed, start_offset: node, end_offset: node),
        RangeSubselect(subquery: node, alias: Alias),
        RangeFunction(functions: list, alias: Alias, coldeflist: typed),
        RangeTableFunc(docexpr: node, rowexpr: node, namespaces: list, columns: typed, alias: Alias),
        RangeTableFuncCol(type_name: TypeName, colexpr: node, coldefexpr: node),
        RangeTableSample(relation: node, method: list, args: list, repeatable: node),
        ColumnDef(type_name: TypeName, raw_default: node, identity_sequence: RangeVar, coll_clause: CollateClause,
            constraints: list, fdwoptions: list),
        TableLikeClause(relation: RangeVar),
        IndexElem(expr: node, collation: list, opclass: list, opclassopts: list),
        DefElem(arg: node),
        LockingClause(locked_rels: list),
        XmlSerialize(expr: node, type_name: TypeName),
        PartitionElem(expr: node, collation: list, opclass: list),
        PartitionSpec(part_params: typed),
        PartitionBoundSpec(listdatums: list, lowerdatums: list, upperdatums: list),
        PartitionCmd(name: RangeVar, bound: PartitionBoundSpec),
        GroupingSet(content: list),
        WithClause(ctes: typed),
        InferClause(index_elems: list, where_clause: node),
        OnConflictClause(infer: InferClause, target_list: typed, where_clause: node),
        CTESearchClause(search_col_list: list),
        CTECycleClause(cycle_col_list: list, cycle_mark_value: node, cycle_mark_default: node),
        CommonTableExpr(aliascolnames: list, ctequery: node, search_clause: CTESearchClause, cycle_clause:
            CTECycleClause),
        MergeWhenClause(condition: node, target_list: list, values: list),
        ReturningClause(options: typed, exprs: list),
        JsonOutput(type_name: TypeName, returning: JsonReturning),
        JsonArgument(val: JsonValueExpr),
        JsonFuncExpr(context_item: JsonValueExpr, pathspec: node, passing: list, output: JsonOutput, on_empty:
            JsonBehavior, on_error: JsonBehavior),
        JsonTablePathSpec(string: node),
        JsonTable(context_item: JsonValueExpr, pathspec: JsonTablePathSpec, passing: list, columns: typed, on_error:
            JsonBehavior, alias: Alias),
        JsonTableColumn(type_name: TypeName, pathspec: JsonTablePathSpec, format: JsonFormat, columns: list, on_empty:
            JsonBehavior, on_error: JsonBehavior),
        JsonKeyValue(key: node, value: JsonValueExpr),
        JsonParseExpr(expr: JsonValueExpr, output: JsonOutput),
        JsonScalarExpr(expr: node, output: JsonOutput),
        JsonSerializeExpr(expr: JsonValueExpr, output: JsonOutput),
        JsonObjectConstructor(exprs: typed, output: JsonOutput),
        JsonArrayConstructor(exprs: typed, output: JsonOutput),
        JsonArrayQueryConstructor(query: node, output: JsonOutput, format: JsonFormat),
        JsonAggConstructor(output: JsonOutput, agg_filter: node, agg_order: list, over: WindowDef),
        JsonObjectAgg(constructor: JsonAggConstructor, arg: JsonKeyValue),
        JsonArrayAgg(constructor: JsonAggConstructor, arg: JsonValueExpr),
        InsertStmt(relation: RangeVar, cols: list, select_stmt: node, on_conflict_clause: OnConflictClause,
            returning_clause: ReturningClause, with_clause: WithClause),
        DeleteStmt(relation: RangeVar, using_clause: list, where_clause: node, returning_clause: ReturningClause,
            with_clause: WithClause),
        UpdateStmt(relation: RangeVar, target_list: typed, where_clause: node, from_clause: list, returning_clause:
            ReturningClause, with_clause: WithClause),
        MergeStmt(relation: RangeVar, source_relation: node, join_condition: node, merge_when_clauses: typed,
            returning_clause: ReturningClause, with_clause: WithClause),
        SelectStmt(distinct_clause: list, into_clause: IntoClause, target_list: typed, from_clause: list,
            where_clause: node, group_clause: list, having_clause: node, window_clause: list, values_lists: list,
            sort_clause: typed, limit_offset: node, limit_count: node, locking_clause: typed, with_clause: WithClause,
            larg: SelectStmt, rarg: SelectStmt),
        ReturnStmt(returnval: node),
        CreateSchemaStmt(authrole: RoleSpec, schema_elts: list),
        AlterTableStmt(relation: RangeVar, cmds: list),
        AlterTableCmd(newowner: RoleSpec, def: node),
        AlterCollationStmt(collname: list),
        AlterDomainStmt(type_name: list, def: node),
        GrantStmt(objects: typed, privileges: typed, grantees: typed, grantor: RoleSpec),
        ObjectWithArgs(objname: list, objargs: list, objfuncargs: typed),
        AccessPriv(cols: typed),
        GrantRoleStmt(granted_roles: list, grantee_roles: list, opt: list, grantor: RoleSpec),
        AlterDefaultPrivilegesStmt(options: typed, action: GrantStmt),
        CopyStmt(relation: RangeVar, query: node, attlist: list, options: typed, where_clause: node),
        VariableSetStmt(args: list),
        CreateStmt(relation: RangeVar, table_elts: list, inh_relations: list, partbound: PartitionBoundSpec, partspec:
            PartitionSpec, of_typename: TypeName, constraints: typed, nnconstraints: list, options: list),
        Constraint(raw_expr: node, keys: list, including: list, exclusions: list, options: list, where_clause: node,
            pktable: RangeVar, fk_attrs: list, pk_attrs: list, fk_del_set_cols: list),
        CreateTableSpaceStmt(owner: RoleSpec, options: list),
        AlterTableSpaceOptionsStmt(options: list),
        AlterTableMoveAllStmt(roles: list),
        CreateExtensionStmt(options: typed),
        AlterExtensionStmt(options: typed),
        AlterExtensionContentsStmt(object: node),
        CreateFdwStmt(func_options: list, options: list),
        AlterFdwStmt(func_options: list, options: list),
        CreateForeignServerStmt(options: list),
        AlterForeignServerStmt(options: list),
        CreateUserMappingStmt(user: RoleSpec, options: list),
        AlterUserMappingStmt(user: RoleSpec, options: list),
        DropUserMappingStmt(user: RoleSpec),
        ImportForeignSchemaStmt(table_list: typed, options: list),
        CreatePolicyStmt(table: RangeVar, roles: list, qual: node, with_check: node),
        AlterPolicyStmt(table: RangeVar, roles: list, qual: node, with_check: node),
        CreateAmStmt(handler_name: list),
        CreateTrigStmt(relation: RangeVar, funcname: list, args: typed, columns: list, when_clause: node,
            transition_rels: list, constrrel: RangeVar),
        CreateEventTrigStmt(whenclause: typed, funcname: list),
        CreatePLangStmt(plhandler: list, plinline: list, plvalidator: list),
        CreateRoleStmt(options: typed),
        AlterRoleStmt(role: RoleSpec, options: typed),
        AlterRoleSetStmt(role: RoleSpec, setstmt: VariableSetStmt),
        DropRoleStmt(roles: list),
        CreateSeqStmt(sequence: RangeVar, options: list),
        AlterSeqStmt(sequence: RangeVar, options: list),
        DefineStmt(defnames: typed, args: list, definition: typed),
        CreateDomainStmt(domainname: typed, type_name: TypeName, coll_clause: CollateClause, constraints: typed),
        CreateOpClassStmt(opclassname: typed, opfamilyname: list, datatype: TypeName, items: typed),
        CreateOpClassItem(name: ObjectWithArgs, order_family: list, class_args: list, storedtype: TypeName),
        CreateOpFamilyStmt(opfamilyname: typed),
        AlterOpFamilyStmt(opfamilyname: typed, items: typed),
        DropStmt(objects: list),
        TruncateStmt(relations: list),
        CommentStmt(object: node),
        SecLabelStmt(object: node),
        DeclareCursorStmt(query: node),
        IndexStmt(relation: RangeVar, index_params: typed, index_including_params: list, options: typed, where_clause:
            node, exclude_op_names: list),
        CreateStatsStmt(defnames: typed, stat_types: typed, exprs: list, relations: typed),
        StatsElem(expr: node),
        AlterStatsStmt(defnames: typed, stxstattarget: node),
        CreateFunctionStmt(funcname: list, parameters: typed, return_type: TypeName, options: typed, sql_body: node),
        FunctionParameter(arg_type: TypeName, defexpr: node),
        AlterFunctionStmt(func: ObjectWithArgs, actions: typed),
        DoStmt(args: typed),
        CallStmt(funccall: FuncCall),
        RenameStmt(relation: RangeVar, object: node),
        AlterObjectDependsStmt(relation: RangeVar, object: node, extname: String),
        AlterObjectSchemaStmt(relation: RangeVar, object: node),
        AlterOwnerStmt(relation: RangeVar, object: node, newowner: RoleSpec),
        AlterOperatorStmt(opername: ObjectWithArgs, options: typed),
        AlterTypeStmt(type_name: list, options: typed),
        RuleStmt(relation: RangeVar, where_clause: node, actions: list),
        TransactionStmt(options: list),
        CompositeTypeStmt(typevar: RangeVar, coldeflist: typed),
        CreateEnumStmt(type_name: typed, vals: typed),
        CreateRangeStmt(type_name: typed, params: typed),
        AlterEnumStmt(type_name: typed),
        ViewStmt(view: RangeVar, aliases: list, query: node, options: list),
        CreatedbStmt(options: typed),
        AlterDatabaseStmt(options: typed),
        AlterDatabaseSetStmt(setstmt: VariableSetStmt),
        DropdbStmt(options: list),
        AlterSystemStmt(setstmt: VariableSetStmt),
        ClusterStmt(relation: RangeVar, params: typed),
        VacuumStmt(options: typed, rels: typed),
        VacuumRelation(relation: RangeVar, va_cols: list),
        ExplainStmt(query: node, options: typed),
        CreateTableAsStmt(query: node, into: IntoClause),
        RefreshMatViewStmt(relation: RangeVar),
        LockStmt(relations: list),
        ConstraintsSetStmt(constraints: list),
        ReindexStmt(relation: RangeVar, params: typed),
        CreateConversionStmt(conversion_name: list, func_name: list),
        CreateCastStmt(sourcetype: TypeName, targettype: TypeName, func: ObjectWithArgs),
        CreateTransformStmt(type_name: TypeName, fromsql: ObjectWithArgs, tosql: ObjectWithArgs),
        PrepareStmt(argtypes: typed, query: node),
        ExecuteStmt(params: list),
        DropOwnedStmt(roles: list),
        ReassignOwnedStmt(roles: list, newrole: RoleSpec),
        AlterTSDictionaryStmt(dictname: typed, options: typed),
        AlterTSConfigurationStmt(cfgname: typed, tokentype: list, dicts: list),
        PublicationTable(relation: RangeVar, where_clause: node, columns: list),
        PublicationObjSpec(pubtable: PublicationTable),
        CreatePublicationStmt(options: typed, pubobjects: list),
        AlterPublicationStmt(options: typed, pubobjects: list),
        CreateSubscriptionStmt(publication: list, options: typed),
        AlterSubscriptionStmt(publication: list, options: typed),
    }
    leaf {
        MergeSupportFunc, SQLValueFunction, JsonFormat, SetToDefault, CurrentOfExpr, Integer, Float, Boolean, String,
        BitString, ParamRef, A_Const, RoleSpec, A_Star, ReturningOption, TriggerTransition, ATAlterConstraint,
        ReplicaIdentityStmt, VariableShowStmt, DropTableSpaceStmt, AlterEventTrigStmt, ClosePortalStmt, FetchStmt,
        NotifyStmt, ListenStmt, UnlistenStmt, LoadStmt, AlterDatabaseRefreshCollStmt, CheckPointStmt, DiscardStmt,
        DeallocateStmt, DropSubscriptionStmt,
    }
    refuse {
        Bitmapset, TableFunc, Param, Aggref, WindowFunc, WindowFuncRunCondition, SubscriptingRef, FuncExpr, OpExpr,
        ScalarArrayOpExpr, SubPlan, AlternativeSubPlan, FieldSelect, FieldStore, CoerceViaIO, ArrayCoerceExpr,
        ConvertRowtypeExpr, CollateExpr, CaseTestExpr, ArrayExpr, RowCompareExpr, JsonConstructorExpr, JsonExpr,
        MergeAction, CoerceToDomain, CoerceToDomainValue, NextValueExpr, InferenceElem, ReturningExpr, TargetEntry,
        RangeTblRef, FromExpr, OnConflictExpr, Query, PartitionRangeDatum, RangeTblEntry, RTEPermissionInfo,
        RangeTblFunction, TableSampleClause, WithCheckOption, SortGroupClause, WindowClause, RowMarkClause, RawStmt,
        SetOperationStmt, PLAssignStmt, InlineCodeBlock, CallContext,
    }
    no_variant {
        Var, Const, DistinctExpr, NullIfExpr, RelabelType, JsonTablePath, JsonTablePathScan, JsonTableSiblingJoin,
        PlannerGlobal, PlannerInfo, RelOptInfo, IndexOptInfo, ForeignKeyOptInfo, StatisticExtInfo, JoinDomain,
        EquivalenceClass, EquivalenceMember, PathKey, GroupByOrdering, PathTarget, ParamPathInfo, Path, IndexPath,
        IndexClause, BitmapHeapPath, BitmapAndPath, BitmapOrPath, TidPath, TidRangePath, SubqueryScanPath,
        ForeignPath, CustomPath, AppendPath, MergeAppendPath, GroupResultPath, MaterialPath, MemoizePath, UniquePath,
        GatherPath, GatherMergePath, NestPath, MergePath, HashPath, ProjectionPath, ProjectSetPath, SortPath,
        IncrementalSortPath, GroupPath, UpperUniquePath, AggPath, GroupingSetData, RollupData, GroupingSetsPath,
        MinMaxAggPath, WindowAggPath, SetOpPath, RecursiveUnionPath, LockRowsPath, ModifyTablePath, LimitPath,
        RestrictInfo, PlaceHolderVar, SpecialJoinInfo, OuterJoinClauseInfo, AppendRelInfo, RowIdentityVarInfo,
        PlaceHolderInfo, MinMaxAggInfo, PlannerParamItem, AggInfo, AggTransInfo, UniqueRelInfo, PlannedStmt, Result,
        ProjectSet, ModifyTable, Append, MergeAppend, RecursiveUnion, BitmapAnd, BitmapOr, SeqScan, SampleScan,
        IndexScan, IndexOnlyScan, BitmapIndexScan, BitmapHeapScan, TidScan, TidRangeScan, SubqueryScan, FunctionScan,
        ValuesScan, TableFuncScan, CteScan, NamedTuplestoreScan, WorkTableScan, ForeignScan, CustomScan, NestLoop,
        NestLoopParam, MergeJoin, HashJoin, Material, Memoize, Sort, IncrementalSort, Group, Agg, WindowAgg, Unique,
        Gather, GatherMerge, Hash, SetOp, LockRows, Limit, PlanRowMark, PartitionPruneInfo, PartitionedRelPruneInfo,
        PartitionPruneStepOp, PartitionPruneStepCombine, PlanInvalItem, ExprState, IndexInfo, ExprContext,
        ReturnSetInfo, ProjectionInfo, JunkFilter, OnConflictSetState, MergeActionState, ResultRelInfo, EState,
        WindowFuncExprState, SetExprState, SubPlanState, DomainConstraintState, ResultState, ProjectSetState,
        ModifyTableState, AppendState, MergeAppendState, RecursiveUnionState, BitmapAndState, BitmapOrState,
        ScanState, SeqScanState, SampleScanState, IndexScanState, IndexOnlyScanState, BitmapIndexScanState,
        BitmapHeapScanState, TidScanState, TidRangeScanState, SubqueryScanState, FunctionScanState, ValuesScanState,
        TableFuncScanState, CteScanState, NamedTuplestoreScanState, WorkTableScanState, ForeignScanState,
        CustomScanState, JoinState, NestLoopState, MergeJoinState, HashJoinState, MaterialState, MemoizeState,
        SortState, IncrementalSortState, GroupState, AggState, WindowAggState, UniqueState, GatherState,
        GatherMergeState, HashState, SetOpState, LockRowsState, LimitState, IndexAmRoutine, TableAmRoutine,
        TsmRoutine, EventTriggerData, TriggerData, TupleTableSlot, FdwRoutine, ExtensibleNode, ErrorSaveContext,
        IdentifySystemCmd, BaseBackupCmd, CreateReplicationSlotCmd, DropReplicationSlotCmd, AlterReplicationSlotCmd,
        StartReplicationCmd, ReadReplicationSlotCmd, TimeLineHistoryCmd, UploadManifestCmd, SupportRequestSimplify,
        SupportRequestSelectivity, SupportRequestCost, SupportRequestRows, SupportRequestIndexCondition,
        SupportRequestWFuncMonotonic, SupportRequestOptimizeWindowClause, SupportRequestModifyInPlace,
        ForeignKeyCacheInfo, IntList, OidList, XidList, AllocSetContext, GenerationContext, SlabContext, BumpContext,
        TIDBitmap, WindowObjectData,
    }
}

#[cfg(test)]
mod tests;
