//! Errors, notices, notifications, parameter status and EXPLAIN lines: data channels beside the rows.
//!
//! PostgreSQL's errors quote values (`invalid input syntax for type integer: "bob@x.io"`, `Key (email)=(…)`, `Failing row
//! contains (…)`), some of them one character at a time. So where a statement touches labels no word of the report is
//! kept: its message is a template by SQLSTATE. Elsewhere the detectors go over every field.

use crate::caller::{Caller, CallerInner};
use crate::field::{Outcome, apply_alone};
use crate::plan::{ColumnAction, ScanForm};
use crate::rows::Scratch;

const WITHHELD: &str = " (details withheld: the statement touches masked columns)";

/// The fields of one ErrorResponse or NoticeResponse, made fit for the caller. `touches`: [`crate::Exposure::touches`] of
/// the statement that caused it, or true if that is not known.
///
/// Kept where it touches: severity, SQLSTATE, the names of schema, table, column, type and constraint that the catalog
/// or the form of an identifier vouch for, and the position in the caller's own text. Everything else is dropped.
pub fn scrub_report<'a>(
    caller: &Caller,
    touches: bool,
    fields: impl Iterator<Item = (u8, &'a [u8])>,
    out: &mut Vec<(u8, Vec<u8>)>,
) {
    let inner = &caller.inner;
    if !(inner.bound && inner.has_labels && touches) {
        out.extend(
            fields.map(|(code, value)| (code, scrub_text(caller, value).unwrap_or_else(|| value.to_vec()))),
        );
        return;
    }
    let fields: Vec<(u8, &[u8])> = fields.collect();
    let field = |wanted: u8| fields.iter().find(|(code, _)| *code == wanted).map(|(_, v)| *v);
    let state = field(b'C').filter(|s| is_state(s)).unwrap_or(b"XX000");
    let known_table = known_table(inner, field(b's'), field(b't'));
    for (code, value) in &fields {
        let kept: Vec<u8> = match code {
            b'S' | b'V' if value.len() <= 32 && !value.contains(&b' ') => value.to_vec(),
            b'C' => state.to_vec(),
            b'M' => {
                let mut message = template(state).as_bytes().to_vec();
                message.extend_from_slice(WITHHELD.as_bytes());
                message
            }
            b'P' if value.len() <= 10 && value.iter().all(u8::is_ascii_digit) => value.to_vec(),
            // Only of a relation that exists: RAISE can put anything into these.
            b's' | b't' | b'c' | b'n'
                if known_table && is_identifier(value) && scrub_text(caller, value).is_none() =>
            {
                value.to_vec()
            }
            _ => continue,
        };
        out.push((*code, kept));
    }
}

/// A NotificationResponse payload, an EXPLAIN line, a ParameterStatus value: what the detectors find is covered.
/// `None`: nothing to cover, forward as it is.
pub fn scrub_text(caller: &Caller, text: &[u8]) -> Option<Vec<u8>> {
    let inner = &caller.inner;
    if !inner.bound || inner.kinds.is_empty() {
        return None;
    }
    let mut out = Vec::new();
    let outcome = apply_alone(
        inner,
        ColumnAction::Scan(ScanForm::Text),
        text,
        &mut Scratch::default(),
        &mut out,
    );
    (outcome == Outcome::Changed).then_some(out)
}

fn is_state(state: &[u8]) -> bool {
    state.len() == 5
        && CLASSES
            .iter()
            .any(|(class, _)| state.starts_with(class.as_bytes()))
        && state.iter().all(u8::is_ascii_alphanumeric)
}

fn is_identifier(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() < 64
        && name
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$') || *b >= 0x80)
}

fn known_table(inner: &CallerInner, schema: Option<&[u8]>, table: Option<&[u8]>) -> bool {
    let (Some(catalog), Some(table)) = (&inner.catalog, table.and_then(|t| std::str::from_utf8(t).ok()))
    else {
        return false;
    };
    match schema.map(std::str::from_utf8) {
        Some(Ok(schema)) => catalog.resolve(&inner.path, Some(schema), table).is_some(),
        Some(Err(_)) => false,
        None => catalog.resolve(&inner.path, None, table).is_some(),
    }
}

/// What is said for a SQLSTATE: of the state itself where it is common, else of its class.
fn template(state: &[u8]) -> &'static str {
    let by = |table: &[(&str, &'static str)]| {
        table
            .iter()
            .find(|(s, _)| state.starts_with(s.as_bytes()))
            .map(|(_, t)| *t)
    };
    by(&STATES).or_else(|| by(&CLASSES)).unwrap_or("error")
}

const STATES: [(&str, &str); 26] = [
    ("22P02", "invalid text representation"),
    ("22P03", "invalid binary representation"),
    ("22001", "value too long for its type"),
    ("22003", "numeric value out of range"),
    ("22007", "invalid date or time format"),
    ("22008", "date or time field overflow"),
    ("22012", "division by zero"),
    ("22023", "invalid parameter value"),
    ("23502", "null value violates a not-null constraint"),
    ("23503", "violation of a foreign key constraint"),
    ("23505", "duplicate key value violates a unique constraint"),
    ("23514", "violation of a check constraint"),
    ("23P01", "violation of an exclusion constraint"),
    (
        "25P02",
        "current transaction is aborted, commands ignored until end of transaction block",
    ),
    ("40001", "could not serialize access"),
    ("40P01", "deadlock detected"),
    ("42501", "permission denied"),
    ("42601", "syntax error"),
    ("42703", "column does not exist"),
    ("42804", "data type mismatch"),
    ("42883", "function or operator does not exist"),
    ("42P01", "relation does not exist"),
    ("53300", "too many connections"),
    ("57014", "statement cancelled"),
    ("57P01", "terminating connection"),
    ("P0001", "raised exception"),
];

const CLASSES: [(&str, &str); 43] = [
    ("00", "notice"),
    ("01", "warning"),
    ("02", "no data"),
    ("03", "SQL statement not yet complete"),
    ("08", "connection exception"),
    ("09", "triggered action exception"),
    ("0A", "feature not supported"),
    ("0B", "invalid transaction initiation"),
    ("0F", "locator exception"),
    ("0L", "invalid grantor"),
    ("0P", "invalid role specification"),
    ("0Z", "diagnostics exception"),
    ("20", "case not found"),
    ("21", "cardinality violation"),
    ("22", "data exception"),
    ("23", "integrity constraint violation"),
    ("24", "invalid cursor state"),
    ("25", "invalid transaction state"),
    ("26", "invalid SQL statement name"),
    ("27", "triggered data change violation"),
    ("28", "invalid authorization specification"),
    ("2B", "dependent privilege descriptors still exist"),
    ("2D", "invalid transaction termination"),
    ("2F", "SQL routine exception"),
    ("34", "invalid cursor name"),
    ("38", "external routine exception"),
    ("39", "external routine invocation exception"),
    ("3B", "savepoint exception"),
    ("3D", "invalid catalog name"),
    ("3F", "invalid schema name"),
    ("40", "transaction rollback"),
    ("42", "syntax error or access rule violation"),
    ("44", "WITH CHECK OPTION violation"),
    ("53", "insufficient resources"),
    ("54", "program limit exceeded"),
    ("55", "object not in prerequisite state"),
    ("57", "operator intervention"),
    ("58", "system error"),
    ("72", "snapshot failure"),
    ("F0", "configuration file error"),
    ("HV", "foreign data wrapper error"),
    ("P0", "PL/pgSQL error"),
    ("XX", "internal error"),
];
