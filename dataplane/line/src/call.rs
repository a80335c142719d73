//! Its facts: a call names one tool. Class, verb and resource are what every rule can speak of, so it needs no family.

use headgate_plane::{Class, ClassSet};
use headgate_policy::{Judgeable, Part, Parts, Unread};

/// One call.
#[derive(Debug)]
pub struct Call {
    pub verbs: [String; 1],
    /// The tool.
    pub resources: Vec<String>,
}

impl Call {
    /// Of the words of a line. `None`: it is none.
    pub fn of(words: &[String]) -> Option<Call> {
        let [call, tool, ..] = words else { return None };
        (call == "call").then(|| Call {
            verbs: [call.clone()],
            resources: vec![tool.clone()],
        })
    }

    pub fn class(&self) -> ClassSet {
        ClassSet::of(&[Class::Call])
    }
}

impl Judgeable for Call {
    fn read(&self) -> Result<Parts<'_>, Unread> {
        Ok(Parts {
            list: vec![Part::new(self.class(), &self.verbs).about(&self.resources)],
            statements: 1,
            lasting: true,
        })
    }
}
