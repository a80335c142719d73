//! The verdict on one message, and why.

use headgate_plane::{Effect, OnHold, Reviewers, Rule};

/// What becomes of one message. Names of rules and reviewers are read through [`crate::Compiled::rule`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub effect: Effect,
    /// Index into `Snapshot.rules` of the rule that decided; `None` when no rule did.
    pub rule: Option<u32>,
    /// Whether the same facts, names and context always get this verdict in every session with the same `search_path`. False
    /// when a rule that was consulted looks at time, at the text or at parameters, and when it hangs on other settings of the
    /// session or on what a transaction would leave of them.
    pub cacheable: bool,
    pub why: Why,
}

/// Which reason decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The rule of [`Verdict::rule`] decided.
    RuleMatched,
    /// Transaction control, system catalogs and harmless settings come with any allow rule of the caller on this target.
    ComesWithAccess,
    /// No allow rule covers the whole message.
    NothingAllows,
    /// No rules have reached this gateway yet (epoch 0).
    NoRules,
    /// The text has no facts; the reason as the client may read it.
    Unreadable { reason: String },
    /// The message touches what the gateway pins, such as a `setting`; `*` when it cannot be known which.
    Pinned { what: &'static str, name: String },
    /// The message touches what must be named, such as a `setting`, and no rule that covers the rest names it.
    NotOpened { what: &'static str, name: String },
    /// The context was made of another snapshot: make it anew and ask again.
    OtherEpoch,
    /// The names handed over do not belong to the facts: a mistake of Headgate itself.
    NamesMissing,
}

impl Verdict {
    pub(crate) fn deny(why: Why, cacheable: bool) -> Verdict {
        Verdict {
            effect: Effect::Deny,
            rule: None,
            cacheable,
            why,
        }
    }

    pub(crate) fn by_rule(effect: Effect, index: u32) -> Verdict {
        Verdict {
            effect,
            rule: Some(index),
            cacheable: true,
            why: Why::RuleMatched,
        }
    }

    /// The rule that decided.
    pub fn matched<'a>(&self, compiled: &'a crate::Compiled) -> Option<&'a Rule> {
        self.rule.and_then(|index| compiled.rule(index))
    }

    /// The name of the rule that decided; empty when none did.
    pub fn rule_name<'a>(&self, compiled: &'a crate::Compiled) -> &'a str {
        self.matched(compiled).map_or("", |rule| rule.name.as_str())
    }

    /// The operator's own words for the client.
    pub fn message<'a>(&self, compiled: &'a crate::Compiled) -> Option<&'a str> {
        self.matched(compiled).and_then(|rule| rule.message.as_deref())
    }

    /// Who may answer, for a hold.
    pub fn reviewers<'a>(&self, compiled: &'a crate::Compiled) -> Option<&'a Reviewers> {
        self.matched(compiled).and_then(|rule| rule.reviewers.as_ref())
    }

    /// How long a held statement waits; 0 when no rule decided.
    pub fn wait_ms(&self, compiled: &crate::Compiled) -> u64 {
        self.matched(compiled).map_or(0, |rule| rule.wait_ms)
    }

    /// Whether a COPY … FROM STDIN that is held may go on although no reviewer sees its data.
    pub fn data_open(&self, compiled: &crate::Compiled) -> bool {
        self.matched(compiled).is_some_and(|rule| rule.data_open)
    }

    /// Whether the client of a held statement waits, or is refused with the question's number.
    pub fn on_hold(&self, compiled: &crate::Compiled) -> OnHold {
        self.matched(compiled).map_or(OnHold::Wait, |rule| rule.on_hold)
    }

    /// One sentence for the client's error or notice. Says nothing of who may do what.
    pub fn to_client(&self, compiled: &crate::Compiled) -> String {
        if let (Why::RuleMatched, Some(rule)) = (&self.why, self.matched(compiled)) {
            let said = match self.effect {
                Effect::Allow => "allowed by rule",
                Effect::Hold => "held for approval by rule",
                Effect::Deny => "denied by rule",
            };
            return match &rule.message {
                Some(message) => format!("{said} \"{}\": {message}", rule.name),
                None => format!("{said} \"{}\"", rule.name),
            };
        }
        self.why.to_string()
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::RuleMatched => f.write_str("decided by a rule"),
            Why::ComesWithAccess => f.write_str("allowed: comes with access to this target"),
            Why::NothingAllows => f.write_str("denied: no rule allows the whole statement"),
            Why::NoRules => f.write_str("denied: the gateway has no rules yet"),
            Why::Unreadable { reason } => write!(f, "denied: the statement cannot be read: {reason}"),
            Why::Pinned { what, name } if name == "*" => {
                write!(f, "denied: it can change a {what} that the gateway pins")
            }
            Why::Pinned { what, name } => write!(f, "denied: the gateway pins the {what} \"{name}\""),
            Why::NotOpened { what, name } => write!(f, "denied: no rule opens the {what} \"{name}\""),
            Why::OtherEpoch => f.write_str("denied: the rules have just changed"),
            Why::NamesMissing => f.write_str("denied: the names in the statement could not be resolved"),
        }
    }
}
