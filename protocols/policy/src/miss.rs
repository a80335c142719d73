//! Why a rule did not match: borrowed, so that the hot path allocates nothing for a reason that nobody reads.

use crate::family::FamilySet;
use headgate_plane::ClassSet;
use std::fmt;

pub(crate) enum Miss<'a> {
    Empty,
    ClassNone(ClassSet),
    ClassNotCovered(ClassSet),
    VerbNone,
    Verb(&'a str),
    /// It speaks of families of which the statement has no facts.
    OtherFamily(FamilySet),
    /// For deny and hold: none of a kind is one of the rule's.
    NoneOf {
        what: &'static str,
    },
    /// For allow: one of a kind that the rule does not cover.
    NotCovered {
        what: &'static str,
        name: &'a dyn fmt::Display,
    },
    /// One that only a switch opens.
    Pinned {
        what: &'static str,
        name: &'a str,
        switch: &'static str,
    },
    /// One that the rule would have to name.
    NotNamed {
        what: &'static str,
        name: &'a str,
    },
    Unreadable,
    Time,
    When,
    WhenFailed(String),
}

fn list(classes: ClassSet) -> String {
    classes.iter().map(|c| c.name()).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Miss<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Miss::Empty => f.write_str("there is no statement to look at"),
            Miss::ClassNone(is) => write!(f, "the statement is {}, none of which the rule names", list(*is)),
            Miss::ClassNotCovered(missing) => write!(f, "does not cover class {}", list(*missing)),
            Miss::VerbNone => f.write_str("no verb of the statement is one of the rule's"),
            Miss::Verb(verb) => write!(f, "does not cover verb `{verb}`"),
            Miss::OtherFamily(set) => write!(f, "speaks of {}, and the statement has no such facts", set.names()),
            Miss::NoneOf { what: "setting" } => {
                f.write_str("no setting that the statement touches is one of the rule's")
            }
            Miss::NoneOf { what } => write!(f, "no {what} of the statement is one of the rule's"),
            Miss::NotCovered { what, name } => write!(f, "does not cover {what} `{name}`"),
            Miss::Pinned { what, name, switch } => {
                write!(f, "the gateway pins the {what} `{name}`, and the rule has no {switch}")
            }
            Miss::NotNamed { what, name } => write!(f, "does not name the {what} `{name}`"),
            Miss::Unreadable => f.write_str(
                "the text cannot be read, and the rule has no danger_unreadable or says more of the statement",
            ),
            Miss::Time => f.write_str("outside its time"),
            Miss::When => f.write_str("its `when` is false"),
            Miss::WhenFailed(error) => write!(f, "its `when` fails: {error}"),
        }
    }
}
