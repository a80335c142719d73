//! What a target reports of itself and the gateway takes for granted: a report that says otherwise ends the session.
//!
//! Invariant: a session is judged under its pins from the first byte; [`Pins::verify`] finds each of them in what the target
//! says while it lets us in, and [`Pins::contradiction`] looks at every ParameterStatus that follows.
//! A pin that is missing is doubt, and doubt refuses.
//!
//! Only settings that a server reports (`GUC_REPORT`) can be seen here. The gateway pins others, too, which no report names:
//! `backslash_quote`, `row_security`, `session_replication_role`, `client_min_messages`, `lo_compat_privileges`,
//! `allow_system_table_mods`, `transform_null_equals`, `zero_damaged_pages`, the libraries that are preloaded and
//! `log_…`, `debug_…` (the list is `headgate_sql::settings`): the judge keeps them from being set, and a target that has
//! other defaults for its role is not noticed. Reported and not pinned: `session_authorization`, `is_superuser` and
//! `search_path` (since 18), which the session follows; `default_transaction_read_only` and `in_hot_standby` (since 14),
//! `DateStyle`, `TimeZone` and the like, which change no reading.
//! Spec: "Asynchronous Operations", the parameters that are reported.

use super::encoding::{self, ClientEncoding, RequestedEncoding};
use std::fmt;

/// What one session takes for granted of its target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pins {
    client_encoding: ClientEncoding,
}

/// The settings that are pinned and reported, with what they must be. The order is that of the reports of PostgreSQL.
const TABLE: [(&str, Rule); 3] = [
    ("client_encoding", Rule::ClientEncoding),
    ("server_encoding", Rule::ServerEncoding),
    ("standard_conforming_strings", Rule::Is("on")),
];

#[derive(Clone, Copy)]
enum Rule {
    Is(&'static str),
    /// What the client asked for, or UTF8: both are read as the judge reads.
    ClientEncoding,
    /// One that a server can have, and in which what the client writes is read as the judge reads it.
    ServerEncoding,
}

/// A target that is not what the gateway takes it for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// Of the setting.
    pub name: &'static str,
    /// `None`: the target did not report it.
    pub value: Option<String>,
    /// What it has to be.
    pub wanted: &'static str,
}

impl Contradiction {
    /// What whoever meets it can do.
    pub fn hint(&self) -> &'static str {
        match self.name {
            "server_encoding" => ENCODING_HINT,
            _ if self.value.is_none() => {
                "The target, or what stands before it, must report this setting as PostgreSQL does."
            }
            _ => "The target, its role or a pooler before it overrides what Headgate asks for.",
        }
    }
}

pub(super) const ENCODING_HINT: &str =
    "Set the client's encoding to UTF8, for example PGCLIENTENCODING=UTF8.";

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Contradiction { name, value, wanted } = self;
        match value {
            Some(value) => write!(
                f,
                "the target reports {name} = {value}, which Headgate pins to {wanted}"
            ),
            None => write!(
                f,
                "the target does not report {name}, which Headgate pins to {wanted}"
            ),
        }
    }
}

impl std::error::Error for Contradiction {}

impl Pins {
    /// Of a session that begins with `settings`: what [`super::policy::for_target`] hands on.
    pub fn of(settings: &[(String, String)]) -> Pins {
        let last = settings
            .iter()
            .rev()
            .find(|(name, _)| name.eq_ignore_ascii_case("client_encoding"));
        match last.map(|(_, value)| encoding::asked(value)) {
            Some(RequestedEncoding::Read(client_encoding)) => Pins { client_encoding },
            _ => Pins::default(),
        }
    }

    /// Every report while a session lives. `None`: it contradicts nothing, or is of a setting that is not pinned.
    pub fn contradiction(&self, name: &[u8], value: &[u8]) -> Option<Contradiction> {
        let (name, rule) = TABLE
            .iter()
            .find(|(pinned, _)| name.eq_ignore_ascii_case(pinned.as_bytes()))?;
        let text = std::str::from_utf8(value).ok();
        if text.is_some_and(|text| self.holds(*rule, text)) {
            return None;
        }
        Some(Contradiction {
            name,
            value: Some(String::from_utf8_lossy(value).into_owned()),
            wanted: self.wanted(*rule),
        })
    }

    /// All reports of a sign-in together: each pin must be among them.
    pub fn verify(&self, reported: &[(String, String)]) -> Result<(), Contradiction> {
        for (name, value) in reported {
            if let Some(contradiction) = self.contradiction(name.as_bytes(), value.as_bytes()) {
                return Err(contradiction);
            }
        }
        match TABLE
            .iter()
            .find(|(pinned, _)| !reported.iter().any(|(name, _)| name.eq_ignore_ascii_case(pinned)))
        {
            Some((name, rule)) => Err(Contradiction {
                name,
                value: None,
                wanted: self.wanted(*rule),
            }),
            None => Ok(()),
        }
    }

    fn holds(&self, rule: Rule, value: &str) -> bool {
        match rule {
            Rule::Is(wanted) => value == wanted,
            Rule::ClientEncoding => match encoding::asked(value) {
                RequestedEncoding::Read(encoding) => {
                    encoding == ClientEncoding::Utf8 || encoding == self.client_encoding
                }
                RequestedEncoding::NotRead | RequestedEncoding::Unknown => false,
            },
            Rule::ServerEncoding => encoding::fits(self.client_encoding, value),
        }
    }

    fn wanted(&self, rule: Rule) -> &'static str {
        match (rule, self.client_encoding) {
            (Rule::Is(wanted), _) => wanted,
            (Rule::ClientEncoding, ClientEncoding::Utf8) => "UTF8",
            (Rule::ClientEncoding, ClientEncoding::SqlAscii) => "SQL_ASCII or UTF8",
            (Rule::ServerEncoding, ClientEncoding::Utf8) => "an encoding of PostgreSQL's servers",
            (Rule::ServerEncoding, ClientEncoding::SqlAscii) => "UTF8 or SQL_ASCII for a client of SQL_ASCII",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn said(pins: Pins, name: &str, value: &str) -> Option<String> {
        pins.contradiction(name.as_bytes(), value.as_bytes())
            .map(|c| c.to_string())
    }

    /// What PostgreSQL 15 reports at sign-in.
    fn reports() -> Vec<(String, String)> {
        owned(&[
            ("in_hot_standby", "off"),
            ("integer_datetimes", "on"),
            ("TimeZone", "Etc/UTC"),
            ("IntervalStyle", "postgres"),
            ("is_superuser", "on"),
            ("application_name", ""),
            ("default_transaction_read_only", "off"),
            ("standard_conforming_strings", "on"),
            ("DateStyle", "ISO, MDY"),
            ("session_authorization", "postgres"),
            ("client_encoding", "UTF8"),
            ("server_version", "15.8"),
            ("server_encoding", "UTF8"),
        ])
    }

    #[test]
    fn what_postgresql_reports_contradicts_nothing() {
        assert_eq!(Pins::default().verify(&reports()), Ok(()));
    }

    #[test]
    fn a_pin_that_is_missing_or_reported_otherwise_is_named() {
        let pins = Pins::default();
        for (pinned, _) in TABLE {
            let mut without = reports();
            without.retain(|(name, _)| name != pinned);
            let missing = pins.verify(&without).unwrap_err();
            assert_eq!((missing.name, missing.value), (pinned, None));
            let mut other = reports();
            other
                .iter_mut()
                .filter(|(name, _)| name == pinned)
                .for_each(|(_, value)| *value = "EUC_XX".to_owned());
            assert_eq!(pins.verify(&other).unwrap_err().name, pinned);
            // A second report does not heal the first.
            other.push((pinned.to_owned(), "on".to_owned()));
            assert!(pins.verify(&other).is_err());
        }
        assert_eq!(
            said(pins, "standard_conforming_strings", "off").unwrap(),
            "the target reports standard_conforming_strings = off, which Headgate pins to on"
        );
        assert!(said(pins, "Standard_Conforming_Strings", "off").is_some());
        assert!(pins.contradiction(b"client_encoding", b"\xff").is_some());
    }

    #[test]
    fn every_pair_of_encodings_is_judged_as_the_table_says() {
        let utf8 = Pins::of(&owned(&[("client_encoding", "'utf-8'")]));
        let ascii = Pins::of(&owned(&[
            ("client_encoding", "UTF8"),
            ("CLIENT_ENCODING", "SQL_ASCII"),
        ]));
        assert_eq!(utf8, Pins::default());
        assert_ne!(ascii, utf8);
        for (name, value, of_utf8, of_ascii) in [
            ("client_encoding", "UTF8", true, true),
            ("client_encoding", "UNICODE", true, true),
            ("client_encoding", "SQL_ASCII", false, true),
            ("client_encoding", "LATIN1", false, false),
            ("client_encoding", "SJIS", false, false),
            ("server_encoding", "UTF8", true, true),
            ("server_encoding", "SQL_ASCII", true, true),
            ("server_encoding", "LATIN1", true, false),
            ("server_encoding", "SJIS", false, false),
            ("DateStyle", "German", true, true),
            ("session_authorization", "mallory", true, true),
        ] {
            assert_eq!(
                (
                    said(utf8, name, value).is_none(),
                    said(ascii, name, value).is_none()
                ),
                (of_utf8, of_ascii),
                "{name} = {value}"
            );
        }
    }
}
