//! How a command ends when it does not succeed: a sentence, and what to do next.

use std::fmt;

#[derive(Debug)]
pub struct Fail {
    pub message: String,
    pub hint: Option<String>,
    /// 1: failed. 2: the command line asked for something that cannot be.
    pub code: u8,
}

impl Fail {
    pub fn new(message: impl Into<String>) -> Fail {
        Fail {
            message: message.into(),
            hint: None,
            code: 1,
        }
    }

    pub fn usage(message: impl Into<String>) -> Fail {
        Fail {
            message: message.into(),
            hint: None,
            code: 2,
        }
    }

    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Fail {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Fail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "headgate: {}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  {hint}"),
            None => Ok(()),
        }
    }
}

impl From<std::io::Error> for Fail {
    fn from(error: std::io::Error) -> Fail {
        Fail::new(error.to_string())
    }
}

impl From<serde_json::Error> for Fail {
    fn from(error: serde_json::Error) -> Fail {
        Fail::new(format!("an answer could not be read: {error}"))
    }
}
