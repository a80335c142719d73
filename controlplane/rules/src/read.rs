//! A SQL text to facts, as the data plane's analysts do it: the linear check first, then PostgreSQL's own parser.

use headgate_sql::{Caps, Facts, Unreadable};
use std::thread::Builder;

/// What the analysts' parser has: the grammar's own functions recurse over some deep expressions.
const PARSE_STACK_BYTES: usize = 32 << 20;

pub fn read(sql: &str) -> Result<Facts, Unreadable> {
    std::thread::scope(|scope| {
        let parse = Builder::new()
            .name("parse".to_owned())
            .stack_size(PARSE_STACK_BYTES)
            .spawn_scoped(scope, || {
                headgate_sqlparse::read(sql.as_bytes(), &Caps::default())
            });
        parse
            .ok()
            .and_then(|thread| thread.join().ok())
            .unwrap_or(Err(Unreadable::AnalystLost))
    })
}
