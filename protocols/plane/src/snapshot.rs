//! Rules as they reach the data plane: `rules.toml` after checking, numbered by epoch.
//!
//! The control plane builds it (`controlplane/rules`), `protocols/policy` compiles it into tables. Order is the
//! operator's; effect order (deny > hold > allow) is the policy's. An empty snapshot denies everything.

use crate::ids::Epoch;
use crate::protocol::Protocol;
use serde::{Deserialize, Serialize};

/// The rules, compiled from what an operator wrote.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Goes up with each.
    pub epoch: Epoch,
    /// In the order of the file.
    pub rules: Vec<Rule>,
    /// In the order of the file.
    pub masks: Vec<MaskRule>,
}

/// One `[[rule]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// As the file has it.
    pub name: String,
    /// Whom it is about.
    pub who: RuleWho,
    /// Which targets it is about.
    pub target: RuleTarget,
    /// Which statements it is about.
    pub statement: RuleStatement,
    /// CEL, already checked to compile. Sees `statement`, `who`, `target`, `now`.
    pub when: Option<String>,
    /// When it holds.
    pub time: Option<TimeWindow>,
    /// What it does.
    pub effect: Effect,
    /// Said to the client on deny (and on hold, in the notice).
    pub message: Option<String>,
    /// Who may answer; of hold rules alone.
    pub reviewers: Option<Reviewers>,
    /// How long a held statement waits.
    pub wait_ms: u64,
    /// Hold only: a COPY … FROM STDIN goes on after approval although no reviewer sees its data and no digest binds it.
    /// Without it, one that is held is refused.
    #[serde(default)]
    pub data_open: bool,
    /// Hold only: what becomes of the client meanwhile.
    #[serde(default)]
    pub on_hold: OnHold,
}

/// What a held statement's client does while people decide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnHold {
    /// It waits: its session reads no further until there is an answer.
    #[default]
    Wait,
    /// It gets an error with the question's number at once. The question stands until its deadline, and the identical
    /// statement of the same identity spends the approval, once, in whatever session.
    Refuse,
}

impl OnHold {
    /// As `rules.toml` and the API spell it.
    pub fn name(self) -> &'static str {
        match self {
            OnHold::Wait => "wait",
            OnHold::Refuse => "refuse",
        }
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// The statement may run.
    Allow,
    /// People are asked.
    Hold,
    /// The statement may not run.
    Deny,
}

/// An absent (empty) list does not restrict. Lists of one field are alternatives; fields are all required.
/// For `allow`, only the principal and the outermost actor count for `principals`, `actors`; `chain` can only narrow
/// (so a `chain` list in an allow rule is refused by the compiler of rules).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleWho {
    /// Who is answerable.
    pub principals: Vec<String>,
    /// Of the principal.
    pub groups: Vec<String>,
    /// Who acts.
    pub actors: Vec<String>,
    /// Matches when any of these is anywhere in the chain.
    pub chain: Vec<String>,
    /// Issuer URLs, or `local`.
    pub issuers: Vec<String>,
    /// CIDR blocks of the client.
    pub addresses: Vec<String>,
    /// As `application_name` has them.
    pub applications: Vec<String>,
}

/// Which targets a rule is of. An empty list does not restrict, but for one thing: see [`RuleTarget::protocols`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleTarget {
    /// As clients call them.
    pub names: Vec<String>,
    /// As the configuration has them.
    pub environments: Vec<String>,
    /// Key and value. Values of one key are alternatives; every key is required.
    pub labels: Vec<(String, String)>,
    /// Empty: of every protocol that the rule's fields speak of. An allow rule that names neither targets nor protocols and has
    /// neutral fields only is of the sql family's.
    #[serde(default)]
    pub protocols: Vec<Protocol>,
}

/// What a rule says of the statement. For allow every named set must cover the whole statement; for deny and hold a
/// rule matches when, for every named field, any part of the statement is in it.
///
/// The fields here are neutral: statements of every protocol have them. What only some have stands in `families`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleStatement {
    /// `None`: any class except, for allow, what the two `danger_` switches keep out.
    pub class: Option<ClassSet>,
    /// Lower case, as in `select`, `create table`.
    pub verbs: Vec<String>,
    /// Full names as records have them, spelt as each family spells them: `schema.name`, `schema.*` or `*` in sql.
    #[serde(default)]
    pub resources: Vec<String>,
    /// Allow only: covers text that the parser cannot read, too. For conformance runs.
    pub danger_unreadable: bool,
    /// At most one table of each family. A table that says nothing is as one that is absent.
    #[serde(default)]
    pub families: Vec<RuleFamily>,
}

/// What a rule says in the words of one family of facts. On the link: new arms go to the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleFamily {
    /// Of PostgreSQL and MySQL.
    Sql(RuleSql),
}

/// The sql family's table: `sql = { … }` in rules.toml.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleSql {
    /// `schema.name`, `schema.*` or `*`.
    pub relations: Vec<String>,
    /// Bare name for `pg_catalog`, else `schema.name`, `schema.*`, `*`.
    pub functions: Vec<String>,
    /// Bare names of columns that the statement reads or writes, or `*`.
    pub columns: Vec<String>,
    /// Lower case. Allow: opens these settings, of those that are followed or guarded; alone, it opens nothing else. Deny
    /// and hold: any of these is touched.
    pub settings: Vec<String>,
    /// Allow only: covers settings that the gateway otherwise pins. For conformance runs.
    pub danger_unpinned: bool,
}

impl RuleStatement {
    /// A statement of which only the sql family's table says something.
    pub fn of_sql(sql: RuleSql) -> RuleStatement {
        RuleStatement {
            families: vec![RuleFamily::Sql(sql)],
            ..RuleStatement::default()
        }
    }

    /// The sql family's table; an empty one where there is none.
    pub fn sql(&self) -> &RuleSql {
        static NOTHING: RuleSql = RuleSql {
            relations: Vec::new(),
            functions: Vec::new(),
            columns: Vec::new(),
            settings: Vec::new(),
            danger_unpinned: false,
        };
        self.families
            .iter()
            .map(|RuleFamily::Sql(sql)| sql)
            .next()
            .unwrap_or(&NOTHING)
    }

    /// The same, to be written; an empty one is added where there is none.
    #[expect(
        clippy::indexing_slicing,
        reason = "the place was found, or has just been made"
    )]
    pub fn sql_mut(&mut self) -> &mut RuleSql {
        let at = self
            .families
            .iter()
            .position(|family| matches!(family, RuleFamily::Sql(_)))
            .unwrap_or_else(|| {
                self.families.push(RuleFamily::Sql(RuleSql::default()));
                self.families.len() - 1
            });
        let RuleFamily::Sql(sql) = &mut self.families[at];
        sql
    }
}

/// A class of statements: DESIGN.md section 4. The discriminant is the bit in [`ClassSet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Class {
    /// Reads rows.
    Read = 0,
    /// Changes rows.
    Write = 1,
    /// Makes, changes or drops objects.
    Ddl = 2,
    /// Roles and privileges.
    Grant = 3,
    /// Settings and what belongs to the session.
    Session = 4,
    /// Begins and ends transactions.
    Transaction = 5,
    /// System catalogs that hold no user's data.
    Catalog = 6,
    /// VACUUM, ANALYZE, REINDEX and their like.
    Maintenance = 7,
    /// What cannot be known.
    Opaque = 8,
    /// Runs a program: SSH, exec.
    Command = 9,
    /// A tool whose effect only its server knows.
    Call = 10,
}

impl Class {
    /// In the order of their bits.
    pub const ALL: [Class; 11] = [
        Class::Read,
        Class::Write,
        Class::Ddl,
        Class::Grant,
        Class::Session,
        Class::Transaction,
        Class::Catalog,
        Class::Maintenance,
        Class::Opaque,
        Class::Command,
        Class::Call,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Class::Read => "read",
            Class::Write => "write",
            Class::Ddl => "ddl",
            Class::Grant => "grant",
            Class::Session => "session",
            Class::Transaction => "transaction",
            Class::Catalog => "catalog",
            Class::Maintenance => "maintenance",
            Class::Opaque => "opaque",
            Class::Command => "command",
            Class::Call => "call",
        }
    }

    /// From a rule's spelling.
    pub fn parse(name: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|c| c.name() == name)
    }
}

/// A set of classes as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClassSet(pub u16);

impl ClassSet {
    /// None.
    pub const EMPTY: ClassSet = ClassSet(0);

    /// These.
    pub fn of(classes: &[Class]) -> ClassSet {
        classes.iter().fold(ClassSet::EMPTY, |set, c| set.with(*c))
    }

    /// These, and one more.
    #[must_use]
    pub const fn with(self, class: Class) -> ClassSet {
        ClassSet(self.0 | (1 << class as u16))
    }

    /// Whether it is among them.
    pub const fn contains(self, class: Class) -> bool {
        self.0 & (1 << class as u16) != 0
    }

    /// These and those.
    #[must_use]
    pub const fn union(self, other: ClassSet) -> ClassSet {
        ClassSet(self.0 | other.0)
    }

    /// What is in `self` and not in `other`.
    #[must_use]
    pub const fn minus(self, other: ClassSet) -> ClassSet {
        ClassSet(self.0 & !other.0)
    }

    /// Whether they have one in common.
    pub const fn intersects(self, other: ClassSet) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// In the order of their bits.
    pub fn iter(self) -> impl Iterator<Item = Class> {
        Class::ALL.into_iter().filter(move |c| self.contains(*c))
    }
}

/// Local wall-clock times in UTC, minutes since midnight; `from > to` goes over midnight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeWindow {
    /// Empty: every day.
    pub days: Vec<Weekday>,
    /// Minutes since midnight.
    pub from_minute: u16,
    /// Minutes since midnight; less than `from_minute` goes over midnight.
    pub to_minute: u16,
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weekday {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

/// Who may answer a question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reviewers {
    /// By name.
    pub principals: Vec<String>,
    /// By group.
    pub groups: Vec<String>,
    /// How many different people must approve; at least 1.
    pub quorum: u32,
}

/// One `[[mask]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MaskRule {
    /// As the file has it.
    pub name: String,
    /// Whom it masks. Empty: everybody.
    pub who: RuleWho,
    /// Which targets it is about.
    pub target: RuleTarget,
    /// `schema.table.column`.
    pub columns: Vec<String>,
    /// Detectors over all other text columns: `email`, `payment_card`, `us_ssn`, …
    pub detect: Vec<String>,
    /// What becomes of a value.
    pub method: MaskMethod,
    /// Who reads in clear.
    pub unless: Option<RuleWho>,
}

/// What becomes of a value that is masked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaskMethod {
    /// The whole value becomes `****` of the same length in characters (text) or is nulled (binary of a non-text type).
    #[default]
    Redact,
    /// Keeps the little that people need to recognise it: first letter and domain's TLD of an e-mail, last four of a card.
    Partial,
    /// Keyed, so that it cannot be guessed from a dictionary. Equal values stay equal.
    Hash,
    /// NULL.
    Null,
    /// Keyed, same shape as the value (digits for digits, letters for letters).
    Tokenize,
}
