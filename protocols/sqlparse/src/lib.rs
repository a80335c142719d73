//! Facts of a SQL text by PostgreSQL's own parser: libpg_query's raw tree (PostgreSQL 18 grammar), walked in a loop.
//!
//! Runs in the analyst processes (`dataplane/analyst`), never on a shard. Callers run
//! [`headgate_sql::precheck`] first; [`facts`] does not.
//! Never here: a catalog. Names are as written; what they resolve to is for who has a catalog.
//! Bounds: [`NODES_MAX`] nodes; no recursion over the tree. Each parse of libpg_query opens and closes a pipe.
#![deny(unsafe_code)]

mod children;
mod command;
mod copy;
mod extract;
mod objects;
mod query;
mod set;
mod utility;

use headgate_sql::{Facts, Unreadable};
use pg_raw_parse::Node;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// More nodes than this, and the text is refused.
pub const NODES_MAX: usize = 1_000_000;

/// What is known of a text with no statement in it (an empty query, blanks, lone semicolons).
pub const NOTHING: Facts = Facts { statements: Vec::new() };

/// Parses `text` and says what it does. An error is one of `Syntax`, `TooManyTokens`, `UnknownNode`.
pub fn facts(text: &str) -> Result<Facts, Unreadable> {
    // The library panics where a list holds what its header did not say. That is one statement refused, not a
    // process lost.
    catch_unwind(AssertUnwindSafe(|| read(text))).unwrap_or_else(|_| Err(Unreadable::UnknownNode { tag: "panic".into() }))
}

fn read(text: &str) -> Result<Facts, Unreadable> {
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

/// The library keeps the position of an error to itself. PostgreSQL's words name the token it stopped at: where that
/// token is in the text only once, its place is known. Else 0.
fn syntax(text: &str, error: &str) -> Unreadable {
    let message = error.strip_prefix("Invalid statement: ").unwrap_or(error).to_owned();
    let position = if message.ends_with("at end of input") {
        text.chars().count() + 1
    } else {
        let token = message.split_once("at or near \"").and_then(|(_, rest)| rest.strip_suffix('"'));
        let place = token.filter(|t| !t.is_empty()).and_then(|t| {
            let mut places = text.match_indices(t);
            places.next().filter(|_| places.next().is_none())
        });
        place.map_or(0, |(byte, _)| text.get(..byte).map_or(0, |before| before.chars().count() + 1))
    };
    Unreadable::Syntax { message, position }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syntax_error_carries_postgresqls_words_and_place() {
        assert_eq!(
            facts("select é from where"),
            Err(Unreadable::Syntax { message: "syntax error at or near \"where\"".into(), position: 15 })
        );
        assert_eq!(facts("select 1 from"), Err(Unreadable::Syntax { message: "syntax error at end of input".into(), position: 14 }));
    }

    #[test]
    fn an_empty_text_has_no_statement() {
        for text in ["", " ", ";", " ; ;", "-- nothing"] {
            assert_eq!(facts(text), Ok(NOTHING), "{text:?}");
        }
    }
}
