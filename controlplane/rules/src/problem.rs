//! What is wrong with a text, and where.

use serde::Serialize;
use std::fmt;
use std::ops::Range;

/// One thing that is wrong. Line and column count from 1, columns in characters; both are 0 where no place is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Problem {
    pub line: usize,
    pub column: usize,
    /// Name of the rule, mask or case; empty outside of one.
    pub rule: String,
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}, column {}: ", self.line, self.column)?;
        }
        if !self.rule.is_empty() {
            write!(f, "\"{}\": ", self.rule)?;
        }
        f.write_str(&self.message)
    }
}

/// Collects problems of one text.
pub(crate) struct Problems<'a> {
    text: &'a str,
    pub list: Vec<Problem>,
}

impl<'a> Problems<'a> {
    pub fn new(text: &'a str) -> Problems<'a> {
        Problems {
            text,
            list: Vec::new(),
        }
    }

    pub fn add(&mut self, rule: &str, span: Range<usize>, message: impl Into<String>) {
        let (line, column) = place(self.text, span.start);
        self.list.push(Problem {
            line,
            column,
            rule: rule.to_owned(),
            message: message.into(),
        });
    }

    /// An error of the TOML reader: bad syntax, an unknown key, a value of the wrong kind.
    pub fn add_toml(&mut self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        let rule = name_around(self.text, span.start);
        let message = with_suggestion(error.message());
        self.add(&rule, span, message);
    }

    /// In the order of the text.
    pub fn into_sorted(mut self) -> Vec<Problem> {
        self.list.sort_by_key(|p| (p.line, p.column));
        self.list
    }
}

fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |i| i + 1);
    (
        before.matches('\n').count() + 1,
        before.get(line_start..).unwrap_or("").chars().count() + 1,
    )
}

/// The name of the table that the offset stands in; for errors that come before names are read.
fn name_around(text: &str, offset: usize) -> String {
    let start = text
        .get(..offset)
        .and_then(|before| before.rfind("[["))
        .unwrap_or(0);
    let table = text.get(start..).unwrap_or("");
    let end = table
        .get(2..)
        .and_then(|rest| rest.find("\n[["))
        .map_or(table.len(), |i| i + 2);
    let line = table
        .get(..end)
        .unwrap_or("")
        .lines()
        .find(|l| l.trim_start().starts_with("name"));
    line.and_then(|l| l.split('"').nth(1)).unwrap_or("").to_owned()
}

/// `unknown field `grops`, expected one of `groups`, …` gets the nearest name added.
fn with_suggestion(message: &str) -> String {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let nearest = message
        .starts_with("unknown field")
        .then(|| quoted.next())
        .flatten();
    match nearest.and_then(|wrong| near(wrong, quoted)) {
        Some(right) => format!("{message}; did you mean `{right}`?"),
        None => message.to_owned(),
    }
}

/// The known name that is nearest to a wrong one, if any is near.
pub(crate) fn near<'n>(wrong: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let wrong = wrong.trim().to_lowercase();
    let known: Vec<&str> = known.into_iter().collect();
    // `truncate` for `truncate table`, `close` for `close cursor`.
    let longer = |name: &&&str| {
        name.strip_prefix(wrong.as_str())
            .is_some_and(|rest| rest.starts_with(' '))
    };
    if let Some(name) = known.iter().find(longer) {
        return Some(name);
    }
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wrong, name), name))
        .filter(|(distance, name)| *distance <= 2.max(name.len() / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// `there is no class `reed`; did you mean `read`?`, or all that there are.
pub(crate) fn unknown(kind: &str, wrong: &str, known: &[&str]) -> String {
    match near(wrong, known.iter().copied()) {
        Some(right) => format!("there is no {kind} `{wrong}`; did you mean `{right}`?"),
        None if known.len() <= 12 => format!("there is no {kind} `{wrong}`; there are {}", known.join(", ")),
        None => format!("there is no {kind} `{wrong}`"),
    }
}
