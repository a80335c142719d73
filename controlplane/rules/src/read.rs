//! A SQL text to facts, as the data plane's analysts do it: the linear check first, then PostgreSQL's own parser.

use headgate_sql::{Caps, Facts, Unreadable, precheck};

pub fn read(sql: &str) -> Result<Facts, Unreadable> {
    precheck(sql.as_bytes(), &Caps::default())?;
    headgate_sqlparse::facts(sql)
}
