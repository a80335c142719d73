//! From a path such as `listener.1.address`, or a byte offset, to line and column.

use crate::error::ConfigProblem;
use toml::de::{DeTable, DeValue};

/// A problem at `offset` bytes into `source`.
pub(crate) fn at(source: &str, offset: usize, message: String) -> ConfigProblem {
    let mut offset = offset.min(source.len());
    while !source.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = source.get(..offset).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    let line = before.matches('\n').count() + 1;
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    let text = source
        .get(line_start..)
        .and_then(|rest| rest.lines().next())
        .unwrap_or_default();
    // A tab would move the caret away from what it points at.
    let text = text.replace('\t', " ");
    ConfigProblem {
        line: Some(line),
        column: Some(column),
        text: Some(text),
        message,
        help: None,
    }
}

/// A problem with the value at `path`, or with the deepest table on the way to it that is there.
pub(crate) fn of(source: &str, path: &str, message: impl Into<String>) -> ConfigProblem {
    let message = message.into();
    match offset(source, path) {
        Some(offset) => at(source, offset, message),
        None => ConfigProblem::bare(message),
    }
}

fn offset(source: &str, path: &str) -> Option<usize> {
    let root = DeTable::parse(source).ok()?;
    let mut parts = path.split('.');
    let mut found = None;
    let (key, first) = root.get_ref().get_key_value(parts.next()?)?;
    found = Some(key.span().start).or(found);
    let mut value = first.get_ref();
    for part in parts {
        value = match value {
            DeValue::Array(items) => match part.parse::<usize>().ok().and_then(|i| items.get(i)) {
                Some(item) => {
                    found = Some(item.span().start);
                    item.get_ref()
                }
                None => break,
            },
            DeValue::Table(table) => match table.get_key_value(part) {
                Some((key, item)) => {
                    found = Some(key.span().start);
                    item.get_ref()
                }
                None => break,
            },
            _ => break,
        };
    }
    found
}
