//! Facts of a SQL text by PostgreSQL's own parser: libpg_query's raw tree (PostgreSQL 18 grammar), walked in a loop.
//!
//! Runs in the analyst processes (`dataplane/analyst`), never on a shard. [`read()`] runs [`headgate_sql::precheck`] first;
//! [`facts`] does not.
//! Never here: a catalog. Names are as written; what they resolve to is for who has a catalog.
//! Bounds: [`NODES_MAX`] nodes; no recursion over the tree. Each parse of libpg_query opens and closes a pipe.
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]
#![cfg_attr(not(test), deny(clippy::panic, clippy::cast_possible_truncation))]
#![deny(missing_docs)]

mod children;
mod command;
mod copy;
mod extract;
mod objects;
#[cfg(test)]
mod oracle;
mod query;
mod scopes;
mod set;
#[cfg(test)]
mod statements;
mod utility;

use headgate_sql::{Caps, Facts, Unreadable, precheck};
use pg_raw_parse::Node;
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// More nodes than this, and the text is refused. Two tokens make about four.
pub const NODES_MAX: usize = 8_000_000;

/// A text that does not end is shown to the parser up to this length.
const UNTERMINATED_BYTES_MAX: usize = 64 << 10;

/// What is known of a text with no statement in it (an empty query, blanks, lone semicolons).
pub const NOTHING: Facts = Facts {
    statements: Vec::new(),
};

/// Parses `text` and says what it does. An error is one of `Syntax`, `TooManyTokens`, `UnknownNode`.
pub fn facts(text: &str) -> Result<Facts, Unreadable> {
    // The library panics where a list holds what its header did not say. That is one statement refused, not a
    // process lost.
    catch_unwind(AssertUnwindSafe(|| parse(text)))
        .unwrap_or_else(|_| Err(Unreadable::UnknownNode { tag: "panic".into() }))
}

fn parse(text: &str) -> Result<Facts, Unreadable> {
    let tree = match pg_raw_parse::parse(text) {
        Ok(tree) => tree,
        Err(pg_raw_parse::Error::StatementContainedNul(_)) => return Err(Unreadable::Unterminated),
        Err(error) => return Err(syntax(text, &error.to_string())),
    };
    let mut statements = Vec::with_capacity(tree.len());
    for node in tree.stmts() {
        if !matches!(node, Node::None) {
            statements.push(extract::statement(node)?);
        }
    }
    Ok(Facts { statements })
}

/// Parses `text` within `caps` and says what it does: the linear check first, then the parser. What an analyst does.
pub fn read(text: &[u8], caps: &Caps) -> Result<Facts, Unreadable> {
    let checked = precheck(text, caps);
    let utf8 = |text| std::str::from_utf8(text).map_err(|_| Unreadable::NotUtf8);
    match checked {
        Ok(()) => facts(utf8(text)?),
        // PostgreSQL has words for it, and a place. What the pass has not looked at (all after the place where something
        // begins and does not end) is kept short.
        Err(Unreadable::Unterminated) if text.len() <= UNTERMINATED_BYTES_MAX => match facts(utf8(text)?) {
            Err(syntax @ Unreadable::Syntax { .. }) => Err(syntax),
            _ => Err(Unreadable::Unterminated),
        },
        Err(other) => Err(other),
    }
}

/// PostgreSQL quotes the rest of a text that does not end.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// PostgreSQL's own words and place. The library keeps the place to itself: asked once more, in another way, the same
/// parser tells it.
fn syntax(text: &str, error: &str) -> Unreadable {
    let mut message = error
        .strip_prefix("Invalid statement: ")
        .unwrap_or(error)
        .to_owned();
    // PostgreSQL's word for an allocation that failed. Nothing is wrong with the text but its size.
    if message.starts_with("out of memory") {
        return Unreadable::TooManyTokens { max: NODES_MAX };
    }
    let position = cursor(text);
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    Unreadable::Syntax { message, position }
}

/// The 1-based place, in characters, at which the parser refuses a text; 0 where it names none.
// JUSTIFICATION: `pg_raw_parse` reads the error's place out of C and gives no safe way to it. Its own `normalize` makes the
// same call.
#[allow(unsafe_code)]
fn cursor(text: &str) -> usize {
    let Ok(text) = CString::new(text) else { return 0 };
    // SAFETY: the text ends with a NUL and outlives the call; the function catches PostgreSQL's errors itself.
    let result = unsafe { pg_raw_parse::raw::pg_query_normalize(text.as_ptr()) };
    // SAFETY: `error` is null or points to what the library allocated for this result, freed below and nowhere else.
    let position = unsafe { result.error.as_ref() }.map_or(0, |error| error.cursorpos);
    // SAFETY: the result is freed once, by the function made for it, with its error.
    unsafe { pg_raw_parse::raw::pg_query_free_normalize_result(result) };
    usize::try_from(position).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syntax_error_carries_postgresqls_words_and_place() {
        assert_eq!(
            facts("select é from where"),
            Err(Unreadable::Syntax {
                message: "syntax error at or near \"where\"".into(),
                position: 15
            })
        );
        assert_eq!(
            facts("select nope nope nope"),
            Err(Unreadable::Syntax {
                message: "syntax error at or near \"nope\"".into(),
                position: 18
            })
        );
        assert_eq!(
            facts("select 1 from"),
            Err(Unreadable::Syntax {
                message: "syntax error at end of input".into(),
                position: 14
            })
        );
    }

    #[test]
    fn what_does_not_end_is_refused_in_postgresqls_words() {
        let said = |text: &str| match read(text.as_bytes(), &Caps::DEFAULT) {
            Err(Unreadable::Syntax { message, position }) => (message, position),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(
            said("select 'é"),
            ("unterminated quoted string at or near \"'é\"".into(), 8)
        );
        assert_eq!(
            said("select 1 /* x"),
            ("unterminated /* comment at or near \"/* x\"".into(), 10)
        );
        assert_eq!(
            said("select \"a"),
            ("unterminated quoted identifier at or near \"\"a\"".into(), 8)
        );
        assert_eq!(
            said("select $a$ $b$"),
            (
                "unterminated dollar-quoted string at or near \"$a$ $b$\"".into(),
                8
            )
        );
        assert_eq!(said("selec 'a"), ("syntax error at or near \"selec\"".into(), 1));
        let long = format!("select '{}", "é".repeat(20_000));
        assert!(said(&long).0.len() <= MESSAGE_BYTES_MAX);
        let longer = format!("select '{}", "a".repeat(UNTERMINATED_BYTES_MAX));
        assert_eq!(
            read(longer.as_bytes(), &Caps::DEFAULT),
            Err(Unreadable::Unterminated)
        );
        assert_eq!(read(b"select 1\0", &Caps::DEFAULT), Err(Unreadable::Unterminated));
    }

    #[test]
    fn an_empty_text_has_no_statement() {
        for text in ["", " ", ";", " ; ;", "-- nothing"] {
            assert_eq!(facts(text), Ok(NOTHING), "{text:?}");
        }
    }
}
