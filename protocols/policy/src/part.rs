//! What the judge is shown of a message: its statements, each with the facts that every protocol has and those of its
//! families.

use crate::family::{FactsOf, FamilySet};
use headgate_plane::{Class, ClassSet, TargetSpec, Who};

/// A message that can be judged: a family reads it, the judge knows no more of it than [`Parts`].
///
/// Invariant: reading the same value twice says the same.
pub trait Judgeable {
    /// The statements of the message, or why nobody can say what they do.
    fn read(&self) -> Result<Parts<'_>, Unread>;
}

/// Why a message has no facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// It cannot be read; the reason as the client may read it.
    Unreadable {
        reason: String,
        /// Whether the same bytes are unreadable the next time, too.
        lasting: bool,
    },
    /// What was handed over beside the facts does not belong to them: a mistake of Headgate itself. It denies.
    Mistaken,
}

/// The statements of one message.
#[derive(Debug)]
pub struct Parts<'a> {
    /// In order. Never empty where the family has a statement that does nothing; else empty means that.
    pub list: Vec<Part<'a>>,
    /// How many statements the message has.
    pub statements: usize,
    /// Whether every session with the same names would get the same verdict: nothing hangs on what this one has set.
    pub lasting: bool,
}

/// One statement.
#[derive(Debug)]
pub struct Part<'a> {
    pub(crate) class: ClassSet,
    pub(crate) verbs: &'a [String],
    /// Full names that no family spells: compared whole.
    pub(crate) resources: &'a [String],
    pub(crate) parameters: u32,
    pub(crate) families: FamilySet,
    pub(crate) facts: FactsOf<'a>,
}

impl<'a> Part<'a> {
    /// A statement of these classes and verbs. One of no class is one that nobody understood: it is opaque.
    pub fn new(class: ClassSet, verbs: &'a [String]) -> Part<'a> {
        let class = if class.is_empty() {
            ClassSet::of(&[Class::Opaque])
        } else {
            class
        };
        Part {
            class,
            verbs,
            resources: &[],
            parameters: 0,
            families: FamilySet::EMPTY,
            facts: FactsOf::default(),
        }
    }

    /// What is there to be judged of a message without statements: it comes with access.
    pub fn nothing() -> Part<'a> {
        Part {
            class: ClassSet::EMPTY,
            ..Part::new(ClassSet::EMPTY, &[])
        }
    }

    /// What it is about, where no family spells it: full names, compared whole.
    #[must_use]
    pub fn about(self, resources: &'a [String]) -> Part<'a> {
        Part { resources, ..self }
    }

    /// How many parameters it has by itself, for a message that binds none.
    #[must_use]
    pub fn with_parameters(self, parameters: u32) -> Part<'a> {
        Part { parameters, ..self }
    }

    /// Classes that need an allow rule of their own.
    pub(crate) fn needs(&self) -> ClassSet {
        self.class.minus(crate::compiled::COMES_WITH_ACCESS)
    }

    pub(crate) fn comes_with_access(&self) -> bool {
        self.needs().is_empty() && !self.facts.demands()
    }
}

/// One message to be judged.
#[derive(Debug)]
pub struct Asked<'a, M> {
    /// What it does.
    pub what: &'a M,
    /// Its exact bytes, as far as they are text.
    pub text: &'a [u8],
    /// How many parameters are bound; `None` where the message binds none (CEL then sees how many the text names).
    pub parameters: Option<u32>,
    /// The same caller and target that the context was made of.
    pub who: &'a Who,
    /// See `who`.
    pub target: &'a TargetSpec,
    /// What `time` and `now` are held against.
    pub now_unix_ms: u64,
}

impl<M> Clone for Asked<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Asked<'_, M> {}
