//! What PostgreSQL's object types are called in its command tags.

use pg_raw_parse::raw::ObjectType as O;

/// As in `DROP …` and `ALTER …`. A column or a constraint counts as its table.
pub(crate) fn name(kind: O::Type) -> Option<&'static str> {
    Some(match kind {
        O::OBJECT_ACCESS_METHOD => "access method",
        O::OBJECT_AGGREGATE => "aggregate",
        O::OBJECT_ATTRIBUTE | O::OBJECT_TYPE => "type",
        O::OBJECT_CAST => "cast",
        O::OBJECT_COLLATION => "collation",
        O::OBJECT_COLUMN | O::OBJECT_DEFAULT | O::OBJECT_TABCONSTRAINT | O::OBJECT_TABLE => "table",
        O::OBJECT_CONVERSION => "conversion",
        O::OBJECT_DATABASE => "database",
        O::OBJECT_DEFACL => "default privileges",
        O::OBJECT_DOMAIN | O::OBJECT_DOMCONSTRAINT => "domain",
        O::OBJECT_EVENT_TRIGGER => "event trigger",
        O::OBJECT_EXTENSION => "extension",
        O::OBJECT_FDW => "foreign data wrapper",
        O::OBJECT_FOREIGN_SERVER => "server",
        O::OBJECT_FOREIGN_TABLE => "foreign table",
        O::OBJECT_FUNCTION => "function",
        O::OBJECT_INDEX => "index",
        O::OBJECT_LANGUAGE => "language",
        O::OBJECT_LARGEOBJECT => "large object",
        O::OBJECT_MATVIEW => "materialized view",
        O::OBJECT_OPCLASS => "operator class",
        O::OBJECT_OPERATOR | O::OBJECT_AMOP | O::OBJECT_AMPROC => "operator",
        O::OBJECT_OPFAMILY => "operator family",
        O::OBJECT_PARAMETER_ACL => "parameter",
        O::OBJECT_POLICY => "policy",
        O::OBJECT_PROCEDURE => "procedure",
        O::OBJECT_PUBLICATION | O::OBJECT_PUBLICATION_NAMESPACE | O::OBJECT_PUBLICATION_REL => "publication",
        O::OBJECT_ROLE => "role",
        O::OBJECT_ROUTINE => "routine",
        O::OBJECT_RULE => "rule",
        O::OBJECT_SCHEMA => "schema",
        O::OBJECT_SEQUENCE => "sequence",
        O::OBJECT_STATISTIC_EXT => "statistics",
        O::OBJECT_SUBSCRIPTION => "subscription",
        O::OBJECT_TABLESPACE => "tablespace",
        O::OBJECT_TRANSFORM => "transform",
        O::OBJECT_TRIGGER => "trigger",
        O::OBJECT_TSCONFIGURATION => "text search configuration",
        O::OBJECT_TSDICTIONARY => "text search dictionary",
        O::OBJECT_TSPARSER => "text search parser",
        O::OBJECT_TSTEMPLATE => "text search template",
        O::OBJECT_USER_MAPPING => "user mapping",
        O::OBJECT_VIEW => "view",
        _ => return None,
    })
}

/// How many trailing parts of a dotted name are the object's own and not its relation's. `None`: no relation in it.
pub(crate) fn parts_after_relation(kind: O::Type) -> Option<usize> {
    match kind {
        O::OBJECT_TABLE
        | O::OBJECT_VIEW
        | O::OBJECT_MATVIEW
        | O::OBJECT_INDEX
        | O::OBJECT_SEQUENCE
        | O::OBJECT_FOREIGN_TABLE => Some(0),
        O::OBJECT_COLUMN
        | O::OBJECT_TABCONSTRAINT
        | O::OBJECT_TRIGGER
        | O::OBJECT_RULE
        | O::OBJECT_POLICY => Some(1),
        _ => None,
    }
}

/// Objects that run somebody's code, or bring code or other servers in.
pub(crate) fn runs_code(kind: O::Type) -> bool {
    matches!(
        kind,
        O::OBJECT_ACCESS_METHOD
            | O::OBJECT_AGGREGATE
            | O::OBJECT_CAST
            | O::OBJECT_CONVERSION
            | O::OBJECT_EVENT_TRIGGER
            | O::OBJECT_EXTENSION
            | O::OBJECT_FDW
            | O::OBJECT_FOREIGN_SERVER
            | O::OBJECT_FOREIGN_TABLE
            | O::OBJECT_FUNCTION
            | O::OBJECT_LANGUAGE
            | O::OBJECT_LARGEOBJECT
            | O::OBJECT_OPCLASS
            | O::OBJECT_OPERATOR
            | O::OBJECT_OPFAMILY
            | O::OBJECT_PROCEDURE
            | O::OBJECT_PUBLICATION
            | O::OBJECT_ROUTINE
            | O::OBJECT_RULE
            | O::OBJECT_SUBSCRIPTION
            | O::OBJECT_TRANSFORM
            | O::OBJECT_TRIGGER
            | O::OBJECT_TSPARSER
            | O::OBJECT_TSTEMPLATE
            | O::OBJECT_USER_MAPPING
    )
}
