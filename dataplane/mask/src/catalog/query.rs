//! The queries that fetch a catalog, or some relations of one. Immune to the session's search_path: names, functions and
//! operators are qualified, and names of others are literals without backslashes.
//!
//! Rows have six text columns; the first says what the row is:
//!
//! | kind | a | b | c | d | e |
//! | --- | --- | --- | --- | --- | --- |
//! | `s` | place in current_schemas(true) | schema | | | |
//! | `p` | a role | its search_path as it is set for this database, absent if it cannot be known | | | |
//! | `n` | oid | schema | `u` if the role may use it | | |
//! | `r` | oid | schema | name | relkind | |
//! | `l` | oid | attnum | label | | |
//! | `i` | child oid | parent oid | | | |
//! | `a` | oid | attnum | name | type oid | `s` if generated, `d` if dropped |
//! | `g` | oid | generated attnum | attnum it is computed from | | |
//! | `d` | view oid | base oid | base attnum, 0 for the whole | | |
//! | `v` | view oid | flags: `w` whole rows, `f` functions that nobody vouches for, `p` statistics | its rewrite rule | | |
//! | `x` | oid of a relation of statistics | | | | |
//! | `q` | oid | attnum of a column that shows other sessions' statements | | | |
//! | `t` | oid of a type that is a string | | | | |
//! | `u` | oid of a relation that labels reach | | | | |
//! | `z` | the end | | | | |
//!
//! The statement that asks what has changed answers with `s`, `p`, `n`, `r` and `l` as above, and:
//!
//! | kind | a | b | c | d | e |
//! | --- | --- | --- | --- | --- | --- |
//! | `k` | the oids of all relations, where some that were known may be gone | | | | |
//! | `o` | oid of a new view that reads what no dependency names | | | | |
//! | `y` | the oldest transaction that runs | how many relations there are | a digest of the rest | what is set for roles and databases | |

use super::Lookup;
use std::fmt::Write;

/// The first and only field of kind `z`: a result without it was cut off.
pub(super) const END: &[u8] = b"headgate-mask-1";

/// Relations that hold samples of other relations' values.
const STATISTICS: &str =
    "'{pg_statistic,pg_stats,pg_statistic_ext_data,pg_stats_ext,pg_stats_ext_exprs}'::pg_catalog.name[]";

/// Views that show statements with their literals, and the columns that do.
const TEXTS: &str =
    "'{pg_stat_activity,pg_stat_statements,pg_prepared_statements,pg_cursors}'::pg_catalog.name[]";
const TEXT_COLUMNS: &str = "'{query,statement}'::pg_catalog.text[]";

/// Functions of PostgreSQL itself that read relations or files which no dependency names.
const READERS: &str = "'{query_to_xml,query_to_xml_and_xmlschema,cursor_to_xml,table_to_xml,table_to_xml_and_xmlschema,schema_to_xml,schema_to_xml_and_xmlschema,database_to_xml,database_to_xml_and_xmlschema,pg_read_file,pg_read_binary_file,lo_get,loread,ts_stat,ts_rewrite}'::pg_catalog.name[]";

/// A backslash would be read by the session's standard_conforming_strings, and a brace could be taken for a place in the
/// texts below. A NUL cannot be in a statement, nor in a name of PostgreSQL: such a name matches nothing.
fn literal(text: &str) -> String {
    let mut out = String::from("('");
    for c in text.chars() {
        match c {
            '\0' => {}
            '\'' => out.push_str("''"),
            '\\' | '{' => {
                let _ = write!(
                    out,
                    "'::pg_catalog.text OPERATOR(pg_catalog.||) pg_catalog.chr({}) OPERATOR(pg_catalog.||) '",
                    u32::from(c)
                );
            }
            c => out.push(c),
        }
    }
    out.push_str("'::pg_catalog.text)");
    out
}

/// One simple-protocol SQL text whose rows feed [`super::CatalogBuilder::row`]. `labels` are the `schema.table.column`
/// names of all mask rules of the snapshot. The path is that of the session which is asked.
pub fn catalog_query(labels: &[&str]) -> String {
    kept_columns(
        text(
            &[
                WANT,
                CATALOG,
                PATH_ROWS,
                " UNION ALL ",
                CATALOG_ROWS,
                TYPE_ROWS,
                FACT_ROWS,
            ],
            labels,
            None,
        ),
        &[],
    )
}

/// The same without the path, for a session whose own path says nothing: see [`path_query`]. `role`: as whom the target's
/// sessions run, `None` if as the one that asks. `kept`: columns that carried a label when the catalog was read before
/// ([`super::Catalog::labelled`]): they carry it still, whatever they are called by now.
pub fn relations_query(labels: &[&str], role: Option<&str>, kept: &[super::Labelled<'_>]) -> String {
    kept_columns(
        text(&[WANT, CATALOG, CATALOG_ROWS, TYPE_ROWS, FACT_ROWS], labels, role),
        kept,
    )
}

fn kept_columns(text: String, kept: &[super::Labelled<'_>]) -> String {
    let mut rows = String::new();
    for column in kept {
        let (oid, attnum) = (column.table_oid, column.attnum);
        let _ = write!(
            rows,
            "{}({oid}::pg_catalog.oid,{attnum}::pg_catalog.int2,{})",
            if rows.is_empty() { "VALUES " } else { "," },
            literal(column.label)
        );
    }
    if rows.is_empty() {
        rows.push_str(
            "SELECT NULL::pg_catalog.oid, NULL::pg_catalog.int2, NULL::pg_catalog.text WHERE false",
        );
    }
    text.replace("{KEPT}", &rows)
}

/// Rows for [`super::CatalogBuilder::row`] that say the path which sessions of `role` begin with; `None`: the path of the
/// session that is asked, as it is now.
pub fn path_query(role: Option<&str>) -> String {
    match role {
        None => text(&[PATH_ROWS], &[], None),
        Some(_) => text(&[ROLE_PATH_ROWS], &[], role),
    }
}

pub(super) fn lookup_query(lookup: &Lookup) -> String {
    let oids: Vec<String> = lookup.oids.iter().map(u32::to_string).collect();
    let mut names: Vec<String> = lookup
        .names
        .iter()
        .map(|name| format!("{}::pg_catalog.name", literal(name)))
        .collect();
    if names.is_empty() {
        names.push("NULL::pg_catalog.name".to_owned());
    }
    text(
        &[
            LOOKUP,
            PATH_ROWS,
            " UNION ALL ",
            LOOKUP_ROWS,
            LOOKUP_TYPE_ROWS,
            FACT_ROWS,
        ],
        &[],
        None,
    )
    .replace("{OIDS}", &format!("'{{{}}}'::pg_catalog.oid[]", oids.join(",")))
    .replace("{NAMES}", &names.join(","))
}

/// The name of a prepared statement, on a connection of the gateway's own.
const CHANGES_NAME: &str = "headgate_changes";
/// A name with more dots in it than this may be anything.
const DOTS_MAX: usize = 16;

pub(super) fn prepare_changes(role: Option<&str>) -> String {
    let text = text(&[CHANGES], &[], role);
    format!(
        "PREPARE {CHANGES_NAME} (pg_catalog.text, pg_catalog.oid[], pg_catalog.text[], pg_catalog.text[], pg_catalog.text[], \
         pg_catalog.text[], pg_catalog.int8) AS {text}"
    )
}

/// `known`: how many relations. `None`: names of labels cannot be taken apart.
pub(super) fn changes(
    since: Option<&str>,
    touched: &[u32],
    labels: &[String],
    known: usize,
) -> Option<String> {
    let mut parts: [Vec<String>; 4] = Default::default();
    for label in labels {
        let dots: Vec<usize> = label.match_indices('.').map(|(at, _)| at).collect();
        if dots.len() > DOTS_MAX {
            return None;
        }
        for (n, first) in dots.iter().enumerate() {
            for second in dots.iter().skip(n + 1) {
                let cut = [
                    Some(label.as_str()),
                    label.get(..*first),
                    label.get(first + 1..*second),
                    label.get(second + 1..),
                ];
                for (list, part) in parts.iter_mut().zip(cut) {
                    list.push(literal(part?));
                }
            }
        }
    }
    let lists = parts.map(|list| format!("ARRAY[{}]::pg_catalog.text[]", list.join(",")));
    let since = since.map_or_else(|| "NULL".to_owned(), literal);
    let touched: Vec<String> = touched.iter().map(u32::to_string).collect();
    Some(format!(
        "EXECUTE {CHANGES_NAME} ({since}, '{{{}}}', {}, {known})",
        touched.join(","),
        lists.join(", ")
    ))
}

fn text(parts: &[&str], labels: &[&str], role: Option<&str>) -> String {
    let mut want = String::new();
    for label in labels {
        // Names may hold dots: every part after one may be the column's name. The whole is compared again.
        for (dot, _) in label.match_indices('.') {
            let column = label.get(dot + 1..).unwrap_or_default();
            let _ = write!(
                want,
                "{}({},{})",
                if want.is_empty() { "VALUES " } else { "," },
                literal(label),
                literal(column)
            );
        }
    }
    if want.is_empty() {
        want.push_str("SELECT NULL::pg_catalog.text, NULL::pg_catalog.text WHERE false");
    }
    let role = role.map_or_else(
        || "CURRENT_USER".to_owned(),
        |role| format!("{}::pg_catalog.name", literal(role)),
    );
    parts
        .concat()
        .replace(" = ", " OPERATOR(pg_catalog.=) ")
        .replace(" <> ", " OPERATOR(pg_catalog.<>) ")
        .replace(" >= ", " OPERATOR(pg_catalog.>=) ")
        .replace(" <= ", " OPERATOR(pg_catalog.<=) ")
        .replace(" > ", " OPERATOR(pg_catalog.>) ")
        .replace(" || ", " OPERATOR(pg_catalog.||) ")
        .replace(" ~ ", " OPERATOR(pg_catalog.~) ")
        .replace("{STATISTICS}", STATISTICS)
        .replace("{TEXTS}", TEXTS)
        .replace("{TEXT_COLUMNS}", TEXT_COLUMNS)
        .replace("{READERS}", READERS)
        .replace("{END}", &String::from_utf8_lossy(END))
        .replace("{ROLE}", &role)
        .replace("{WANT}", &want)
}

/// What the rules name.
const WANT: &str = "\
WITH RECURSIVE want(label, suffix) AS MATERIALIZED ({WANT}),
";

/// Relations that labels reach: `touched`.
const CATALOG: &str = "\
labelled AS MATERIALIZED (
  SELECT a.attrelid AS oid, a.attnum, w.label FROM want w
  JOIN pg_catalog.pg_attribute a ON a.attname::pg_catalog.text = w.suffix
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE a.attnum > 0 AND NOT a.attisdropped
  AND (n.nspname::pg_catalog.text || '.'::pg_catalog.text || c.relname::pg_catalog.text || '.'::pg_catalog.text || a.attname::pg_catalog.text) = w.label
  UNION SELECT k.oid, k.attnum, k.label FROM ({KEPT}) k(oid, attnum, label)
  JOIN pg_catalog.pg_attribute a ON a.attrelid = k.oid AND a.attnum = k.attnum AND NOT a.attisdropped),
stats AS MATERIALIZED (
  SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname::pg_catalog.text = 'pg_catalog'::pg_catalog.text AND c.relname = ANY ({STATISTICS})),
texts AS MATERIALIZED (
  SELECT a.attrelid AS oid, a.attnum FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  WHERE a.attname::pg_catalog.text = ANY ({TEXT_COLUMNS}) AND c.relkind = 'v'::pg_catalog.\"char\" AND c.relname = ANY ({TEXTS})),
deps AS MATERIALIZED (
  SELECT r.ev_class AS view, d.refobjid AS base, d.refobjsubid AS attnum FROM pg_catalog.pg_rewrite r
  JOIN pg_catalog.pg_depend d ON d.objid = r.oid AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
  WHERE r.ev_type = '1'::pg_catalog.\"char\" AND d.refobjid <> r.ev_class),
functional AS MATERIALIZED (
  SELECT r.ev_class AS oid FROM pg_catalog.pg_rewrite r
  JOIN pg_catalog.pg_depend d ON d.objid = r.oid AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
  AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
  WHERE r.ev_type = '1'::pg_catalog.\"char\" AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
    WHERE e.objid = d.refobjid AND e.classid = d.refclassid AND e.deptype = 'e'::pg_catalog.\"char\")),
odd AS MATERIALIZED (
  SELECT r.ev_class AS oid,
  r.ev_action::pg_catalog.text ~ (SELECT ':relid (' || pg_catalog.string_agg(oid::pg_catalog.text, '|'::pg_catalog.text) || ') '::pg_catalog.text FROM (SELECT oid FROM stats UNION ALL SELECT oid FROM texts) shown) AS statistics,
  r.ev_action::pg_catalog.text ~ (SELECT ':funcid (' || pg_catalog.string_agg(p.oid::pg_catalog.text, '|'::pg_catalog.text) || ') '::pg_catalog.text
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname::pg_catalog.text = 'pg_catalog'::pg_catalog.text AND p.proname = ANY ({READERS})) AS reads
  FROM pg_catalog.pg_rewrite r WHERE r.ev_class::pg_catalog.int8 >= 16384::pg_catalog.int8 AND r.ev_type = '1'::pg_catalog.\"char\"),
edges(a, b) AS MATERIALIZED (
  SELECT inhparent, inhrelid FROM pg_catalog.pg_inherits UNION ALL SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits
  UNION ALL SELECT base, view FROM deps),
touched(oid) AS (
  SELECT oid FROM labelled UNION SELECT oid FROM texts UNION SELECT oid FROM functional UNION SELECT oid FROM odd WHERE statistics OR reads
  UNION SELECT e.b FROM touched t JOIN edges e ON e.a = t.oid)
";

/// The path of the session that is asked.
const PATH_ROWS: &str = "\
SELECT 's'::pg_catalog.text AS kind, o::pg_catalog.text AS a, s::pg_catalog.text AS b, NULL::pg_catalog.text AS c, NULL::pg_catalog.text AS d, NULL::pg_catalog.text AS e
  FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) WITH ORDINALITY AS u(s, o)";

/// The path that sessions of another role begin with: what is set for the role in this database, for the role, for the
/// database, or what holds when nothing is, unless the one that asks has a path of its own and cannot see that.
const ROLE_PATH_ROWS: &str = "\
SELECT 'p'::pg_catalog.text AS kind, {ROLE}::pg_catalog.text AS a, COALESCE((
  SELECT pg_catalog.substr(u.entry, 13) FROM pg_catalog.pg_db_role_setting s CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS u(entry)
  WHERE pg_catalog.left(u.entry, 12) = 'search_path='::pg_catalog.text
  AND s.setrole = ANY (ARRAY['0'::pg_catalog.oid, (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = {ROLE})])
  AND s.setdatabase = ANY (ARRAY['0'::pg_catalog.oid, (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())])
  ORDER BY s.setrole <> '0'::pg_catalog.oid DESC, s.setdatabase <> '0'::pg_catalog.oid DESC LIMIT 1), (
  SELECT g.reset_val FROM pg_catalog.pg_settings g WHERE g.name = 'search_path'::pg_catalog.text
  AND NOT g.source = ANY ('{client,user,\"database user\",session}'::pg_catalog.text[]))) AS b,
  NULL::pg_catalog.text AS c, NULL::pg_catalog.text AS d, NULL::pg_catalog.text AS e";

/// Every relation and schema.
const CATALOG_ROWS: &str = "\
SELECT 'r'::pg_catalog.text AS kind, c.oid::pg_catalog.text AS a, n.nspname::pg_catalog.text AS b, c.relname::pg_catalog.text AS c,
  c.relkind::pg_catalog.text AS d, NULL::pg_catalog.text AS e
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = ANY ('{r,p,v,m,f,S}'::pg_catalog.\"char\"[])
UNION ALL SELECT 'l', oid::pg_catalog.text, attnum::pg_catalog.text, label, NULL, NULL FROM labelled
UNION ALL SELECT 'n', oid::pg_catalog.text, nspname::pg_catalog.text,
  CASE WHEN pg_catalog.has_schema_privilege({ROLE}, oid, 'USAGE'::pg_catalog.text) THEN 'u'::pg_catalog.text ELSE ''::pg_catalog.text END, NULL, NULL
  FROM pg_catalog.pg_namespace
";

/// The relations that were asked for, and those that decide what they show. An array's length is guessed low, so that the
/// planner goes by indexes: of a recursive query it expects thousands.
const LOOKUP: &str = "\
WITH RECURSIVE asked(oid) AS MATERIALIZED (
  SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid = ANY ({OIDS})
  UNION SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relname = ANY (ARRAY[{NAMES}])),
reached(oid) AS (
  SELECT oid FROM asked
  UNION SELECT e.oid FROM reached t CROSS JOIN LATERAL (
    SELECT i.inhparent AS oid FROM pg_catalog.pg_inherits i WHERE i.inhrelid = t.oid
    UNION ALL SELECT i.inhrelid FROM pg_catalog.pg_inherits i WHERE i.inhparent = t.oid
    UNION ALL SELECT d.refobjid FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_depend d ON d.objid = r.oid
      AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
      WHERE r.ev_class = t.oid AND r.ev_type = '1'::pg_catalog.\"char\") e),
touched(oid) AS MATERIALIZED (SELECT t.oid FROM pg_catalog.unnest(ARRAY(SELECT r.oid FROM reached r)) AS t(oid)),
stats AS MATERIALIZED (
  SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname::pg_catalog.text = 'pg_catalog'::pg_catalog.text AND c.relname = ANY ({STATISTICS})),
texts AS MATERIALIZED (
  SELECT a.attrelid AS oid, a.attnum FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  WHERE a.attname::pg_catalog.text = ANY ({TEXT_COLUMNS}) AND c.relkind = 'v'::pg_catalog.\"char\" AND c.relname = ANY ({TEXTS})),
deps AS MATERIALIZED (
  SELECT r.ev_class AS view, d.refobjid AS base, d.refobjsubid AS attnum FROM touched t
  JOIN pg_catalog.pg_rewrite r ON r.ev_class = t.oid
  JOIN pg_catalog.pg_depend d ON d.objid = r.oid AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
  WHERE r.ev_type = '1'::pg_catalog.\"char\" AND d.refobjid <> r.ev_class),
functional AS MATERIALIZED (
  SELECT r.ev_class AS oid FROM touched t
  JOIN pg_catalog.pg_rewrite r ON r.ev_class = t.oid
  JOIN pg_catalog.pg_depend d ON d.objid = r.oid AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
  AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
  WHERE r.ev_type = '1'::pg_catalog.\"char\" AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
    WHERE e.objid = d.refobjid AND e.classid = d.refclassid AND e.deptype = 'e'::pg_catalog.\"char\")),
odd AS MATERIALIZED (
  SELECT r.ev_class AS oid,
  r.ev_action::pg_catalog.text ~ (SELECT ':relid (' || pg_catalog.string_agg(oid::pg_catalog.text, '|'::pg_catalog.text) || ') '::pg_catalog.text FROM (SELECT oid FROM stats UNION ALL SELECT oid FROM texts) shown) AS statistics,
  r.ev_action::pg_catalog.text ~ (SELECT ':funcid (' || pg_catalog.string_agg(p.oid::pg_catalog.text, '|'::pg_catalog.text) || ') '::pg_catalog.text
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname::pg_catalog.text = 'pg_catalog'::pg_catalog.text AND p.proname = ANY ({READERS})) AS reads
  FROM touched t JOIN pg_catalog.pg_rewrite r ON r.ev_class = t.oid WHERE r.ev_class::pg_catalog.int8 >= 16384::pg_catalog.int8 AND r.ev_type = '1'::pg_catalog.\"char\")
";

/// The relations themselves.
const LOOKUP_ROWS: &str = "\
SELECT 'r', c.oid::pg_catalog.text, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind::pg_catalog.text, NULL
  FROM touched t JOIN pg_catalog.pg_class c ON c.oid = t.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = ANY ('{r,p,v,m,f,S}'::pg_catalog.\"char\"[])
";

/// Types that are strings.
const TYPE_ROWS: &str = "\
UNION ALL SELECT 't', oid::pg_catalog.text, NULL, NULL, NULL, NULL FROM pg_catalog.pg_type
  WHERE typcategory = 'S'::pg_catalog.\"char\" AND typtype = 'b'::pg_catalog.\"char\"
";

/// The same, of the columns that were looked up.
const LOOKUP_TYPE_ROWS: &str = "\
UNION ALL SELECT 't', oid::pg_catalog.text, NULL, NULL, NULL, NULL FROM pg_catalog.pg_type
  WHERE typcategory = 'S'::pg_catalog.\"char\" AND typtype = 'b'::pg_catalog.\"char\"
  AND oid = ANY (ARRAY(SELECT a.atttypid FROM pg_catalog.pg_attribute a JOIN touched t ON t.oid = a.attrelid))
";

/// What has changed since a transaction was the oldest that ran ($1), for a catalog in which labels reach relations ($2), with
/// labels that can be these columns ($3 to $6: label, schema, relation, column) and so many relations ($7). Arrays are opened
/// into rows, which the planner takes for few, so that it goes by indexes.
const CHANGES: &str = "\
WITH since(age) AS MATERIALIZED (SELECT pg_catalog.age($1::pg_catalog.xid)),
touched(oid) AS MATERIALIZED (SELECT t.oid FROM pg_catalog.unnest($2) AS t(oid)),
want AS MATERIALIZED (SELECT w.* FROM ROWS FROM (pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5), pg_catalog.unnest($6)) AS w(label, schema, relation, attribute)),
relations AS MATERIALIZED (
  SELECT c.oid, c.relname, c.relnamespace, c.relkind, (pg_catalog.age(c.xmin) <= (SELECT s.age FROM since s)) AS changed
  FROM pg_catalog.pg_class c WHERE c.relkind = ANY ('{r,p,v,m,f,S}'::pg_catalog.\"char\"[])),
views AS MATERIALIZED (
  SELECT r.oid, r.ev_class, r.ev_action FROM pg_catalog.pg_rewrite r WHERE pg_catalog.age(r.xmin) <= (SELECT s.age FROM since s)
  AND r.ev_type = '1'::pg_catalog.\"char\" AND NOT r.ev_class = ANY ($2)),
stats AS MATERIALIZED (
  SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = 'pg_catalog'::pg_catalog.name AND c.relname = ANY ({STATISTICS})),
texts AS MATERIALIZED (
  SELECT a.attrelid AS oid, a.attnum FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid
  WHERE a.attname::pg_catalog.text = ANY ({TEXT_COLUMNS}) AND c.relkind = 'v'::pg_catalog.\"char\" AND c.relname = ANY ({TEXTS})),
compared(x) AS (
  SELECT 'c ' || c.oid::pg_catalog.text || ' ' || c.relnamespace::pg_catalog.text || ' ' || pg_catalog.encode(pg_catalog.convert_to(c.relname::pg_catalog.text, pg_catalog.getdatabaseencoding()), 'hex'::pg_catalog.text)
    FROM touched t JOIN pg_catalog.pg_class c ON c.oid = t.oid
  UNION ALL SELECT 'a ' || a.attrelid::pg_catalog.text || ' ' || a.attnum::pg_catalog.text || ' ' || a.atttypid::pg_catalog.text || ' '
    || a.attgenerated::pg_catalog.text || ' ' || a.attisdropped::pg_catalog.text || ' ' || pg_catalog.encode(pg_catalog.convert_to(a.attname::pg_catalog.text, pg_catalog.getdatabaseencoding()), 'hex'::pg_catalog.text)
    FROM touched t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid WHERE a.attnum > 0
  UNION ALL SELECT 'f ' || f.oid::pg_catalog.text || ' ' || f.xmin::pg_catalog.text || ' ' || f.adrelid::pg_catalog.text
    FROM touched t JOIN pg_catalog.pg_attrdef f ON f.adrelid = t.oid
  UNION ALL SELECT 'i ' || i.inhrelid::pg_catalog.text || ' ' || i.inhparent::pg_catalog.text
    FROM touched t JOIN pg_catalog.pg_inherits i ON i.inhrelid = t.oid
  UNION ALL SELECT 'j ' || i.inhrelid::pg_catalog.text || ' ' || i.inhparent::pg_catalog.text
    FROM touched t JOIN pg_catalog.pg_inherits i ON i.inhparent = t.oid
  UNION ALL SELECT 'v ' || r.oid::pg_catalog.text || ' ' || r.xmin::pg_catalog.text || ' ' || r.ev_class::pg_catalog.text
    FROM touched t JOIN pg_catalog.pg_rewrite r ON r.ev_class = t.oid WHERE r.ev_type = '1'::pg_catalog.\"char\"
  UNION SELECT 'd ' || r.oid::pg_catalog.text || ' ' || r.xmin::pg_catalog.text || ' ' || d.refobjid::pg_catalog.text || ' ' || d.refobjsubid::pg_catalog.text
    FROM touched t JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = t.oid
    JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
    WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.ev_type = '1'::pg_catalog.\"char\" AND r.ev_class <> t.oid
  UNION ALL SELECT 'e ' || d.objid::pg_catalog.text || ' ' || d.deptype::pg_catalog.text FROM pg_catalog.pg_depend d
    WHERE d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
  UNION ALL SELECT 't ' || y.oid::pg_catalog.text FROM pg_catalog.pg_type y
    WHERE y.typcategory = 'S'::pg_catalog.\"char\" AND y.typtype = 'b'::pg_catalog.\"char\"
  UNION ALL SELECT 'x ' || x.oid::pg_catalog.text FROM stats x
  UNION ALL SELECT 'q ' || q.oid::pg_catalog.text || ' ' || q.attnum::pg_catalog.text FROM texts q)
SELECT 'n'::pg_catalog.text AS kind, n.oid::pg_catalog.text AS a, n.nspname::pg_catalog.text AS b,
  CASE WHEN pg_catalog.has_schema_privilege({ROLE}, n.oid, 'USAGE'::pg_catalog.text) THEN 'u'::pg_catalog.text ELSE ''::pg_catalog.text END AS c,
  NULL::pg_catalog.text AS d, NULL::pg_catalog.text AS e FROM pg_catalog.pg_namespace n
UNION ALL SELECT 'r', c.oid::pg_catalog.text, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind::pg_catalog.text, NULL
  FROM relations c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.changed
UNION ALL SELECT 'k', (SELECT pg_catalog.string_agg(c.oid::pg_catalog.text, ' '::pg_catalog.text) FROM relations c), NULL, NULL, NULL, NULL
  FROM (SELECT pg_catalog.count(*) FILTER (WHERE NOT c.changed) FROM relations c) AS old(n) WHERE $1 IS NOT NULL AND old.n <> $7
UNION ALL SELECT 'l', a.attrelid::pg_catalog.text, a.attnum::pg_catalog.text, w.label, NULL, NULL FROM want w
  JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema::pg_catalog.name AND n.nspname::pg_catalog.text = w.schema
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.relation::pg_catalog.name AND c.relname::pg_catalog.text = w.relation
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attname = w.attribute::pg_catalog.name AND a.attname::pg_catalog.text = w.attribute
  WHERE a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT 'o', r.ev_class::pg_catalog.text, NULL, NULL, NULL, NULL FROM views r WHERE
    EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.objid = r.oid AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass
      AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
        WHERE e.objid = d.refobjid AND e.classid = d.refclassid AND e.deptype = 'e'::pg_catalog.\"char\"))
    OR r.ev_action::pg_catalog.text ~ (SELECT ':relid (' || pg_catalog.string_agg(oid::pg_catalog.text, '|'::pg_catalog.text) || ') '::pg_catalog.text FROM (SELECT oid FROM stats UNION ALL SELECT oid FROM texts) shown)
    OR r.ev_action::pg_catalog.text ~ (SELECT ':funcid (' || pg_catalog.string_agg(p.oid::pg_catalog.text, '|'::pg_catalog.text) || ') '::pg_catalog.text
      FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
      WHERE n.nspname = 'pg_catalog'::pg_catalog.name AND p.proname = ANY ({READERS}))
UNION ALL SELECT 'y', pg_catalog.mod(pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot()), '4294967296'::pg_catalog.int8)::pg_catalog.text,
  (SELECT pg_catalog.count(*) FROM relations)::pg_catalog.text,
  pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to((SELECT pg_catalog.string_agg(c.x, ','::pg_catalog.text ORDER BY c.x COLLATE pg_catalog.\"C\") FROM compared c), pg_catalog.getdatabaseencoding())), 'hex'::pg_catalog.text),
  (SELECT pg_catalog.string_agg(s.x, ','::pg_catalog.text ORDER BY s.x COLLATE pg_catalog.\"C\") FROM (
    SELECT s.setdatabase::pg_catalog.text || ' ' || s.setrole::pg_catalog.text || ' ' || s.xmin::pg_catalog.text FROM pg_catalog.pg_db_role_setting s) s(x)), NULL
UNION ALL SELECT 'z', '{END}', NULL, NULL, NULL, NULL";

/// What is known of `touched`, and the end.
const FACT_ROWS: &str = "\
UNION ALL SELECT 'u', t.oid::pg_catalog.text, NULL, NULL, NULL, NULL FROM touched t
UNION ALL SELECT 'i', i.inhrelid::pg_catalog.text, i.inhparent::pg_catalog.text, NULL, NULL, NULL
  FROM pg_catalog.pg_inherits i JOIN touched t ON t.oid = i.inhrelid
UNION ALL SELECT 'a', a.attrelid::pg_catalog.text, a.attnum::pg_catalog.text, a.attname::pg_catalog.text, a.atttypid::pg_catalog.text,
  CASE WHEN a.attisdropped THEN 'd'::pg_catalog.text ELSE a.attgenerated::pg_catalog.text END
  FROM pg_catalog.pg_attribute a JOIN touched t ON t.oid = a.attrelid WHERE a.attnum > 0
UNION ALL SELECT 'g', f.adrelid::pg_catalog.text, f.adnum::pg_catalog.text, d.refobjsubid::pg_catalog.text, NULL, NULL
  FROM pg_catalog.pg_attrdef f JOIN touched t ON t.oid = f.adrelid
  JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum AND a.attgenerated <> ''::pg_catalog.\"char\"
  JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = f.adrelid AND d.refobjsubid > 0
  AND ((d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = f.oid)
    OR (d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = f.adrelid AND d.objsubid::pg_catalog.int4 = f.adnum::pg_catalog.int4))
UNION ALL SELECT 'd', d.view::pg_catalog.text, d.base::pg_catalog.text, d.attnum::pg_catalog.text, NULL, NULL
  FROM deps d JOIN touched t ON t.oid = d.base
UNION ALL SELECT 'v', r.ev_class::pg_catalog.text,
  (CASE WHEN r.ev_action::pg_catalog.text ~ ':varattno 0 '::pg_catalog.text THEN 'w'::pg_catalog.text ELSE ''::pg_catalog.text END)
  || (CASE WHEN o.reads OR EXISTS (SELECT FROM functional f WHERE f.oid = r.ev_class) THEN 'f'::pg_catalog.text ELSE ''::pg_catalog.text END)
  || (CASE WHEN o.statistics THEN 'p'::pg_catalog.text ELSE ''::pg_catalog.text END), r.ev_action::pg_catalog.text, NULL, NULL
  FROM pg_catalog.pg_rewrite r JOIN touched t ON t.oid = r.ev_class LEFT JOIN odd o ON o.oid = r.ev_class
  WHERE r.ev_type = '1'::pg_catalog.\"char\"
UNION ALL SELECT 'x', oid::pg_catalog.text, NULL, NULL, NULL, NULL FROM stats
UNION ALL SELECT 'q', oid::pg_catalog.text, attnum::pg_catalog.text, NULL, NULL, NULL FROM texts
UNION ALL SELECT 'z', '{END}', NULL, NULL, NULL, NULL";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_leave_its_literal() {
        let text = catalog_query(&["public.t'; DROP TABLE x; --.c\\'d"]);
        assert!(text.contains("'public.t''; DROP TABLE x; --.c'"));
        assert!(
            !text.contains('\\'),
            "a backslash would depend on standard_conforming_strings"
        );
        assert!(!text.contains(" = "), "an unqualified operator");
        let labels = ["public.t'; DROP TABLE x; --.c\\'d".to_owned()];
        let text = changes(Some("7"), &[1, 2], &labels, 3).unwrap();
        assert!(
            text.contains("'t''; DROP TABLE x; --'") && text.contains("'{1,2}'"),
            "{text}"
        );
        assert!(!text.contains('\\'), "{text}");
        assert!(!prepare_changes(None).contains(" = "), "an unqualified operator");
        assert!(
            changes(None, &[], &[".".repeat(17)], 0).is_none(),
            "too many ways to read it"
        );
    }
}
