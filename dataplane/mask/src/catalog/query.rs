//! The one query that fetches a catalog. Immune to the session's search_path: names, functions and operators are
//! qualified, and the labels are literals without backslashes.
//!
//! Rows have six text columns; the first says what the row is:
//!
//! | kind | a | b | c | d | e |
//! | --- | --- | --- | --- | --- | --- |
//! | `s` | place in current_schemas(true) | schema | | | |
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
//! | `z` | the end | | | | |

use std::fmt::Write;

/// The first and only field of kind `z`: a result without it was cut off.
pub(super) const END: &[u8] = b"headgate-mask-1";

/// Relations that hold samples of other relations' values.
const STATISTICS: &str = "'{pg_statistic,pg_stats,pg_statistic_ext_data,pg_stats_ext,pg_stats_ext_exprs}'::pg_catalog.text[]";

/// Views that show statements with their literals, and the columns that do.
const TEXTS: &str = "'{pg_stat_activity,pg_stat_statements,pg_prepared_statements,pg_cursors}'::pg_catalog.text[]";
const TEXT_COLUMNS: &str = "'{query,statement}'::pg_catalog.text[]";

/// Functions of PostgreSQL itself that read relations or files which no dependency names.
const READERS: &str = "'{query_to_xml,query_to_xml_and_xmlschema,cursor_to_xml,table_to_xml,table_to_xml_and_xmlschema,schema_to_xml,schema_to_xml_and_xmlschema,database_to_xml,database_to_xml_and_xmlschema,pg_read_file,pg_read_binary_file,lo_get,loread,ts_stat,ts_rewrite}'::pg_catalog.text[]";

fn literal(text: &str) -> String {
    // A NUL cannot be in a statement, nor in a name of PostgreSQL: such a label matches nothing. A backslash would be
    // read by the session's standard_conforming_strings.
    let pieces: Vec<String> = text.split('\\').map(|p| format!("'{}'::pg_catalog.text", p.replace('\0', "").replace('\'', "''"))).collect();
    format!("({})", pieces.join(" OPERATOR(pg_catalog.||) pg_catalog.chr(92) OPERATOR(pg_catalog.||) "))
}

/// One simple-protocol SQL text whose rows feed [`super::CatalogBuilder::row`]. `labels` are the `schema.table.column`
/// names of all mask rules of the snapshot.
pub fn catalog_query(labels: &[&str]) -> String {
    let mut want = String::new();
    for label in labels {
        // Names may hold dots: every part after one may be the column's name. The whole is compared again.
        for (dot, _) in label.match_indices('.') {
            let column = label.get(dot + 1..).unwrap_or_default();
            let _ = write!(want, "{}({},{})", if want.is_empty() { "VALUES " } else { "," }, literal(label), literal(column));
        }
    }
    if want.is_empty() {
        want.push_str("SELECT NULL::pg_catalog.text, NULL::pg_catalog.text WHERE false");
    }
    TEMPLATE
        .replace(" = ", " OPERATOR(pg_catalog.=) ")
        .replace(" <> ", " OPERATOR(pg_catalog.<>) ")
        .replace(" >= ", " OPERATOR(pg_catalog.>=) ")
        .replace(" > ", " OPERATOR(pg_catalog.>) ")
        .replace(" || ", " OPERATOR(pg_catalog.||) ")
        .replace(" ~ ", " OPERATOR(pg_catalog.~) ")
        .replace("{STATISTICS}", STATISTICS)
        .replace("{TEXTS}", TEXTS)
        .replace("{TEXT_COLUMNS}", TEXT_COLUMNS)
        .replace("{READERS}", READERS)
        .replace("{END}", &String::from_utf8_lossy(END))
        .replace("{WANT}", &want)
}

const TEMPLATE: &str = "\
WITH RECURSIVE want(label, suffix) AS MATERIALIZED ({WANT}),
labelled AS MATERIALIZED (
  SELECT a.attrelid AS oid, a.attnum, w.label FROM want w
  JOIN pg_catalog.pg_attribute a ON a.attname::pg_catalog.text = w.suffix
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE a.attnum > 0 AND NOT a.attisdropped
  AND (n.nspname::pg_catalog.text || '.'::pg_catalog.text || c.relname::pg_catalog.text || '.'::pg_catalog.text || a.attname::pg_catalog.text) = w.label),
stats AS MATERIALIZED (
  SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname::pg_catalog.text = 'pg_catalog'::pg_catalog.text AND c.relname::pg_catalog.text = ANY ({STATISTICS})),
texts AS MATERIALIZED (
  SELECT a.attrelid AS oid, a.attnum FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  WHERE a.attname::pg_catalog.text = ANY ({TEXT_COLUMNS}) AND c.relkind = 'v'::pg_catalog.\"char\" AND c.relname::pg_catalog.text = ANY ({TEXTS})),
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
    WHERE n.nspname::pg_catalog.text = 'pg_catalog'::pg_catalog.text AND p.proname::pg_catalog.text = ANY ({READERS})) AS reads
  FROM pg_catalog.pg_rewrite r WHERE r.ev_class::pg_catalog.int8 >= 16384::pg_catalog.int8 AND r.ev_type = '1'::pg_catalog.\"char\"),
edges(a, b) AS MATERIALIZED (
  SELECT inhparent, inhrelid FROM pg_catalog.pg_inherits UNION ALL SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits
  UNION ALL SELECT base, view FROM deps),
touched(oid) AS (
  SELECT oid FROM labelled UNION SELECT oid FROM texts UNION SELECT oid FROM functional UNION SELECT oid FROM odd WHERE statistics OR reads
  UNION SELECT e.b FROM touched t JOIN edges e ON e.a = t.oid)
SELECT 's'::pg_catalog.text AS kind, o::pg_catalog.text AS a, s::pg_catalog.text AS b, NULL::pg_catalog.text AS c, NULL::pg_catalog.text AS d, NULL::pg_catalog.text AS e
  FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) WITH ORDINALITY AS u(s, o)
UNION ALL SELECT 'r', c.oid::pg_catalog.text, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind::pg_catalog.text, NULL
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind = ANY ('{r,p,v,m,f,S}'::pg_catalog.\"char\"[])
UNION ALL SELECT 'l', oid::pg_catalog.text, attnum::pg_catalog.text, label, NULL, NULL FROM labelled
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
UNION ALL SELECT 't', oid::pg_catalog.text, NULL, NULL, NULL, NULL FROM pg_catalog.pg_type
  WHERE typcategory = 'S'::pg_catalog.\"char\" AND typtype = 'b'::pg_catalog.\"char\"
UNION ALL SELECT 'z', '{END}', NULL, NULL, NULL, NULL";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_leave_its_literal() {
        let text = catalog_query(&["public.t'; DROP TABLE x; --.c\\'d"]);
        assert!(text.contains("'public.t''; DROP TABLE x; --.c'"));
        assert!(!text.contains('\\'), "a backslash would depend on standard_conforming_strings");
        assert!(!text.contains(" = "), "an unqualified operator");
    }
}
