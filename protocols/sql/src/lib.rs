//! What a statement does, as plain data; and the linear lexer that stands before every parser. Does no IO, parses no
//! grammar: PostgreSQL's own parser lives in `protocols/sqlparse` and runs in the analyst processes.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)
)]
#![cfg_attr(not(test), deny(clippy::panic, clippy::cast_possible_truncation))]
#![deny(missing_docs)]

pub mod builtin;
pub mod facts;
pub mod lexer;
pub mod settings;
pub mod shape;
pub mod syntax;

pub use facts::*;
pub use lexer::{Caps, precheck};
pub use settings::{Needs, Scope, SessionSettings, SettingChange, SettingValue};
pub use shape::{ShapeInfo, shape};
