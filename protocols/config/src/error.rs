//! What is wrong with a configuration, with the place and the line's own text.

use std::fmt;

/// One thing that an operator has to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// From 1; `None` where no line of the file is to blame.
    pub line: Option<usize>,
    /// From 1, in characters.
    pub column: Option<usize>,
    /// The line as it stands in the file.
    pub text: Option<String>,
    /// What is wrong, and what would be right.
    pub message: String,
    /// What to write instead, where that is known.
    pub help: Option<String>,
}

impl ConfigProblem {
    pub(crate) fn bare(message: impl Into<String>) -> Self {
        ConfigProblem {
            line: None,
            column: None,
            text: None,
            message: message.into(),
            help: None,
        }
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.message)?;
        if let (Some(line), Some(column), Some(text)) = (self.line, self.column, &self.text) {
            let gutter = line.to_string();
            write!(
                f,
                "\n  {gutter} | {text}\n  {:1$} | {2:>3$}",
                "",
                gutter.len(),
                "^",
                column
            )?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// Everything that was found at once. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file, as it was named.
    pub file: String,
    /// All of them, in the order of the file.
    pub problems: Vec<ConfigProblem>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}: {problem}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
