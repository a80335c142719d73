//! Why a rule did not match: borrowed, so that the hot path allocates nothing for a reason that nobody reads.

use crate::asked::{ResolvedFunction, ResolvedRelation};
use headgate_plane::ClassSet;
use std::fmt;

#[derive(Debug)]
pub(crate) enum Miss<'a> {
    Empty,
    ClassNone(ClassSet),
    ClassNotCovered(ClassSet),
    VerbNone,
    Verb(&'a str),
    RelationNone,
    Relation(&'a ResolvedRelation),
    FunctionNone,
    Function(&'a ResolvedFunction),
    Pinned(&'a str),
    Setting(&'a str),
    SettingNone,
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
            Miss::RelationNone => f.write_str("no relation of the statement is one of the rule's"),
            Miss::Relation(relation) => write!(f, "does not cover relation `{relation}`"),
            Miss::FunctionNone => f.write_str("no function of the statement is one of the rule's"),
            Miss::Function(function) => write!(f, "does not cover function `{function}`"),
            Miss::Pinned(setting) => write!(f, "the gateway pins the setting `{setting}`, and the rule has no danger_unpinned"),
            Miss::Setting(setting) => write!(f, "does not name the setting `{setting}`"),
            Miss::SettingNone => f.write_str("no setting that the statement touches is one of the rule's"),
            Miss::Unreadable => f.write_str("the text cannot be read, and the rule has no danger_unreadable or says more of the statement"),
            Miss::Time => f.write_str("outside its time"),
            Miss::When => f.write_str("its `when` is false"),
            Miss::WhenFailed(error) => write!(f, "its `when` fails: {error}"),
        }
    }
}
