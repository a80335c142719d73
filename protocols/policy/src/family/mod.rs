//! Families of facts: what statements of a kind do, and what rules can say of it.
//!
//! A protocol composes families: PostgreSQL and MySQL are `sql`. The judge knows none of them by name. A family is a file
//! here, a line in the list below, an arm of [`headgate_plane::RuleFamily`] and its place in [`of_protocol`].
//!
//! A rule that has a family's table, or a field of it in its condition, is of statements that have facts of that family, and
//! of no others.

pub mod sql;

use crate::condition::Field;
use crate::miss::Miss;
use crate::verdict::Why;
use headgate_plane::{MaskRule, Protocol, Rule};
use std::borrow::Cow;

/// What one family's statements do, and what rules can say of it.
pub(crate) trait Family {
    /// The name of its table in rules.toml, and the root of its fields in conditions.
    const NAME: &'static str;
    /// What a condition sees of its facts.
    const FIELDS: &'static [Field];

    /// Of one statement.
    type Facts<'a>: std::fmt::Debug;
    /// What one rule says of them.
    type Table: std::fmt::Debug;

    /// Of a rule: of its table, and of its resources as this family spells them.
    fn compile(rule: &Rule) -> Result<Self::Table, String>;
    /// Whether the rule has a table of this family.
    fn speaks(table: &Self::Table) -> bool;
    /// Whether the table says of which statements the rule is; one that only opens does not.
    fn restricts(table: &Self::Table) -> bool;
    /// Whether full names must be known before the rule is asked.
    fn wants_names(table: &Self::Table) -> bool;

    /// For deny and hold: whether, for every field of the table, any part of the statement is in it.
    fn meets<'r>(table: &'r Self::Table, facts: &'r Self::Facts<'_>) -> Result<(), Miss<'r>>;
    /// For allow: whether the table covers all of the statement.
    fn covers<'r>(table: &'r Self::Table, facts: &'r Self::Facts<'_>) -> Result<(), Miss<'r>>;
    /// For deny and hold: whether any of what the statement is about is among the rule's resources.
    fn meets_resources(table: &Self::Table, facts: &Self::Facts<'_>) -> bool;
    /// For allow: whether all of it is.
    fn covers_resources<'r>(table: &'r Self::Table, facts: &'r Self::Facts<'_>) -> Result<(), Miss<'r>>;

    /// Full names of what the statement is about.
    fn resources<'x>(facts: &'x Self::Facts<'_>, all: &mut Vec<Cow<'x, str>>);

    /// Whether the statement does something that only a rule opens which names it, whatever its classes are.
    fn demands(facts: &Self::Facts<'_>) -> bool;
    /// For allow: whether the rule names all of that.
    fn names<'r>(table: &'r Self::Table, facts: &'r Self::Facts<'_>) -> Result<(), Miss<'r>>;
    /// Whether the rule names such things and says nothing else: then it opens those and nothing else.
    fn only_names(table: &Self::Table) -> bool;
    /// For hold: whether a reviewer's yes under the rules that hold it opens all of that.
    fn approved<'r>(facts: &Self::Facts<'_>, held_by: impl Iterator<Item = &'r Self::Table> + Clone) -> bool
    where
        Self::Table: 'r;
    /// What of it nothing opens, ever.
    fn pinned(facts: &Self::Facts<'_>) -> Option<Why>;
    /// What of it no rule opened.
    fn unnamed(facts: &Self::Facts<'_>) -> Option<Why>;
}

/// The list of families, each a module with its type and its bit: from it come the facts of a statement, the tables of a rule, and what is asked of both.
macro_rules! families {
    ($($(#[$doc:meta])* $field:ident::$family:ident = $bit:literal),+ $(,)?) => {
        /// The facts of one statement, of each family that it has any of.
        #[derive(Debug, Default)]
        pub(crate) struct FactsOf<'a> {
            $($(#[$doc])* pub(crate) $field: Option<$field::Facts<'a>>,)+
        }

        /// What one rule says, in the words of each family.
        #[derive(Debug)]
        pub(crate) struct Tables {
            $(pub(crate) $field: <$field::$family as Family>::Table,)+
        }

        impl FamilySet {
            /// Of the families whose names are these.
            pub(crate) const ALL: &'static [(FamilySet, &'static str)] =
                &[$((FamilySet(1 << $bit), <$field::$family as Family>::NAME),)+];
        }

        /// What conditions see of the families' facts.
        pub(crate) const FIELDS: &[&[Field]] = &[$(<$field::$family as Family>::FIELDS,)+];

        impl FactsOf<'_> {
            pub(crate) fn demands(&self) -> bool {
                $(self.$field.as_ref().is_some_and(<$field::$family as Family>::demands))||+
            }

            pub(crate) fn resources<'x>(&'x self, all: &mut Vec<Cow<'x, str>>) {
                $(if let Some(facts) = &self.$field {
                    <$field::$family as Family>::resources(facts, all);
                })+
            }

            pub(crate) fn approved(&self, held_by: &[&Tables]) -> bool {
                $(self.$field.as_ref().is_none_or(|facts| {
                    <$field::$family as Family>::approved(facts, held_by.iter().map(|tables| &tables.$field))
                }))&&+
            }

            pub(crate) fn pinned(&self) -> Option<Why> {
                None$(.or_else(|| self.$field.as_ref().and_then(<$field::$family as Family>::pinned)))+
            }

            pub(crate) fn unnamed(&self) -> Option<Why> {
                None$(.or_else(|| self.$field.as_ref().and_then(<$field::$family as Family>::unnamed)))+
            }
        }

        impl Tables {
            pub(crate) fn compile(rule: &Rule) -> Result<Tables, String> {
                Ok(Tables { $($field: <$field::$family as Family>::compile(rule)?,)+ })
            }

            /// The families that the rule has a table of.
            pub(crate) fn speaks(&self) -> FamilySet {
                let set = FamilySet::EMPTY;
                $(let set = if <$field::$family as Family>::speaks(&self.$field) { set.union(FamilySet(1 << $bit)) } else { set };)+
                set
            }

            pub(crate) fn restrict(&self) -> bool {
                $(<$field::$family as Family>::restricts(&self.$field))||+
            }

            pub(crate) fn wants_names(&self) -> bool {
                $(<$field::$family as Family>::wants_names(&self.$field))||+
            }

            pub(crate) fn only_names(&self) -> bool {
                $(<$field::$family as Family>::only_names(&self.$field))||+
            }

            pub(crate) fn meets<'r>(&'r self, facts: &'r FactsOf<'_>) -> Result<(), Miss<'r>> {
                $(if let Some(facts) = &facts.$field {
                    <$field::$family as Family>::meets(&self.$field, facts)?;
                })+
                Ok(())
            }

            pub(crate) fn covers<'r>(&'r self, facts: &'r FactsOf<'_>) -> Result<(), Miss<'r>> {
                $(if let Some(facts) = &facts.$field {
                    <$field::$family as Family>::covers(&self.$field, facts)?;
                })+
                Ok(())
            }

            pub(crate) fn meets_resources(&self, facts: &FactsOf<'_>) -> bool {
                $(facts.$field.as_ref().is_some_and(|facts| <$field::$family as Family>::meets_resources(&self.$field, facts)))||+
            }

            pub(crate) fn covers_resources<'r>(&'r self, facts: &'r FactsOf<'_>) -> Result<(), Miss<'r>> {
                $(if let Some(facts) = &facts.$field {
                    <$field::$family as Family>::covers_resources(&self.$field, facts)?;
                })+
                Ok(())
            }

            pub(crate) fn names<'r>(&'r self, facts: &'r FactsOf<'_>) -> Result<(), Miss<'r>> {
                $(if let Some(facts) = &facts.$field {
                    <$field::$family as Family>::names(&self.$field, facts)?;
                })+
                Ok(())
            }
        }
    };
}

families! {
    /// Of PostgreSQL and MySQL.
    sql::Sql = 0,
}

/// What a mask says in the words of a family is spelt as that family spells it, and its targets can have it.
pub(crate) fn check_mask(mask: &MaskRule) -> Result<(), String> {
    sql::check_mask(mask)
}

/// Which families a statement can have facts of. No default arm: a protocol without families says so.
pub(crate) fn of_protocol(protocol: Protocol) -> FamilySet {
    match protocol {
        Protocol::Postgres | Protocol::Mysql => sql::FAMILY,
        Protocol::Http | Protocol::Kubernetes | Protocol::Mcp | Protocol::Ssh => FamilySet::EMPTY,
    }
}

/// What an allow rule means that says nothing of it: neither targets nor protocols, and neutral fields only. Rules were of
/// databases before there was anything else, and opening must be said.
pub(crate) const UNSAID: FamilySet = sql::FAMILY;

/// A set of families.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FamilySet(pub(crate) u16);

impl FamilySet {
    pub(crate) const EMPTY: FamilySet = FamilySet(0);

    pub(crate) const fn union(self, other: FamilySet) -> FamilySet {
        FamilySet(self.0 | other.0)
    }

    pub(crate) const fn holds(self, other: FamilySet) -> bool {
        other.0 & !self.0 == 0
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The family of that name.
    pub(crate) fn named(name: &str) -> FamilySet {
        let found = FamilySet::ALL.iter().find(|(_, known)| *known == name);
        found.map_or(FamilySet::EMPTY, |(set, _)| *set)
    }

    /// Their names.
    pub(crate) fn names(self) -> String {
        let names: Vec<&str> = FamilySet::ALL
            .iter()
            .filter(|(set, _)| self.holds(*set))
            .map(|(_, name)| *name)
            .collect();
        names.join(", ")
    }
}
