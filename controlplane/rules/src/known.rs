//! The names that rules may use.

use headgate_plane::{Class, Effect, MaskMethod, OnHold, Weekday};

/// Detectors that a mask may name.
pub const DETECTORS: &[&str] = &["email", "payment_card", "us_ssn", "iban", "jwt", "aws_key"];

pub const WAIT_MS_DEFAULT: u64 = 15 * 60 * 1000;
pub const WAIT_MS_MAX: u64 = 24 * 60 * 60 * 1000;

pub(crate) const EFFECTS: &[(&str, Effect)] = &[
    ("allow", Effect::Allow),
    ("hold", Effect::Hold),
    ("deny", Effect::Deny),
];

pub(crate) const ON_HOLD: &[(&str, OnHold)] = &[("wait", OnHold::Wait), ("refuse", OnHold::Refuse)];

pub(crate) const METHODS: &[(&str, MaskMethod)] = &[
    ("redact", MaskMethod::Redact),
    ("partial", MaskMethod::Partial),
    ("hash", MaskMethod::Hash),
    ("null", MaskMethod::Null),
    ("tokenize", MaskMethod::Tokenize),
];

pub(crate) const DAYS: &[(&str, Weekday)] = &[
    ("mon", Weekday::Mon),
    ("tue", Weekday::Tue),
    ("wed", Weekday::Wed),
    ("thu", Weekday::Thu),
    ("fri", Weekday::Fri),
    ("sat", Weekday::Sat),
    ("sun", Weekday::Sun),
];

pub(crate) fn classes() -> Vec<&'static str> {
    Class::ALL.iter().map(|c| c.name()).collect()
}

pub(crate) fn effect_name(effect: Effect) -> &'static str {
    match effect {
        Effect::Allow => "allow",
        Effect::Hold => "hold",
        Effect::Deny => "deny",
    }
}

/// Looks a name up in one of the tables above.
pub(crate) fn named<T: Copy>(kind: &str, name: &str, table: &[(&str, T)]) -> Result<T, String> {
    let names: Vec<&str> = table.iter().map(|(n, _)| *n).collect();
    table
        .iter()
        .find(|(n, _)| *n == name)
        .map(|(_, value)| *value)
        .ok_or_else(|| crate::problem::unknown(kind, name, &names))
}
