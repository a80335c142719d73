//! What PostgreSQL says beside the message when it cannot read a text. Its parser tells us the message and the place alone;
//! code, detail and hint follow from the message.
//!
//! Source: the `ereport` calls of PostgreSQL 18's scan.l and gram.y.

/// What belongs to a message of the scanner or the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyntaxReport {
    /// PostgreSQL's code for it.
    pub sqlstate: &'static str,
    /// PostgreSQL's DETAIL.
    pub detail: Option<&'static str>,
    /// PostgreSQL's HINT.
    pub hint: Option<&'static str>,
}

const PLAIN: SyntaxReport = SyntaxReport {
    sqlstate: "42601",
    detail: None,
    hint: None,
};

/// (beginning of the message, SQLSTATE). Everything else is 42601.
const CODES: &[(&str, &str)] = &[
    ("CREATE ASSERTION is not yet implemented", "0A000"),
    ("CREATE EXTENSION ... FROM is no longer supported", "0A000"),
    ("CREATE OR REPLACE CONSTRAINT TRIGGER is not supported", "0A000"),
    (
        "CREATE SCHEMA IF NOT EXISTS cannot include schema elements",
        "0A000",
    ),
    ("MATCH PARTIAL not yet implemented", "0A000"),
    ("UNENCRYPTED PASSWORD is no longer supported", "0A000"),
    ("UNIQUE predicate is not yet implemented", "0A000"),
    ("WITH CHECK OPTION not supported on recursive views", "0A000"),
    ("a column list with SET ", "0A000"),
    ("aggregates cannot have output arguments", "0A000"),
    ("constraints cannot be altered to be NOT VALID", "0A000"),
    ("current database cannot be changed", "0A000"),
    ("dropping an enum value is not implemented", "0A000"),
    (
        "only string constants are supported in JSON_TABLE path specification",
        "0A000",
    ),
    ("column number must be in range from 1 to ", "22023"),
    ("precision for type float must be ", "22023"),
    ("unrecognized JSON encoding: ", "22023"),
    ("modulus for hash partition provided more than once", "42710"),
    ("remainder for hash partition provided more than once", "42710"),
    ("frame end cannot be UNBOUNDED PRECEDING", "42P20"),
    ("frame start cannot be UNBOUNDED FOLLOWING", "42P20"),
    ("frame starting from ", "42P20"),
    ("role name \"", "42939"),
    ("CURRENT_ROLE cannot be used as a role name here", "42939"),
    ("CURRENT_USER cannot be used as a role name here", "42939"),
    ("SESSION_USER cannot be used as a role name here", "42939"),
    ("unsafe use of \\' in a string literal", "22P06"),
    ("invalid byte sequence for encoding ", "22021"),
    ("stack depth limit exceeded", "54001"),
];

const HINTS: &[(&str, &str)] = &[
    (
        "UNENCRYPTED PASSWORD is no longer supported",
        "Remove UNENCRYPTED to store the password in encrypted form instead.",
    ),
    (
        "unrecognized row security option ",
        "Only PERMISSIVE or RESTRICTIVE policies are supported currently.",
    ),
    (
        "missing argument",
        "Use NONE to denote the missing argument of a unary operator.",
    ),
    (
        "LIMIT #,# syntax is not supported",
        "Use separate LIMIT and OFFSET clauses.",
    ),
    (
        "unsafe use of \\' in a string literal",
        "Use '' to write quotes in strings. \\' is insecure in client-only encodings.",
    ),
];

/// Code, detail and hint that PostgreSQL gives with `message`.
pub fn report(message: &str) -> SyntaxReport {
    let find = |table: &[(&str, &'static str)]| {
        table
            .iter()
            .find(|(start, _)| message.starts_with(start))
            .map(|(_, said)| *said)
    };
    let mut report = SyntaxReport {
        hint: find(HINTS),
        ..PLAIN
    };
    if let Some(code) = find(CODES) {
        report.sqlstate = code;
    }
    // A bad code point adds "value". The same words for `U&'…'` have 42601: of the two, `E'…'` is the one that is written.
    if message == "invalid Unicode escape" {
        report.sqlstate = "22025";
        report.hint = Some("Unicode escapes must be \\uXXXX or \\UXXXXXXXX.");
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_are_syntax_errors_and_some_are_not() {
        assert_eq!(report("syntax error at or near \"x\""), PLAIN);
        assert_eq!(
            report("precision for type float must be at least 1 bit").sqlstate,
            "22023"
        );
        assert_eq!(report("invalid Unicode escape").sqlstate, "22025");
        assert_eq!(
            report("invalid Unicode escape value at or near \"x\"").sqlstate,
            "42601"
        );
        assert!(report("LIMIT #,# syntax is not supported").hint.is_some());
    }
}
