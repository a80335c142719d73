//! Which settings of the client's start-up packet go into the target's.
//!
//! Invariant: what is handed on is on the closed list below, under its value rule; everything else is refused by name,
//! never passed over in silence. Settings inside `options` are judged one by one and handed on as parameters, before the
//! packet's own parameters: PostgreSQL reads both as the same source, in this order, so the last one wins as it would have.
//! What the judge depends on is said to the target even when the client does not say it.
//! Handing them on in the packet (and not by SET) keeps what RESET returns to.
//! A name that no PostgreSQL knows and a value that none takes are refused with the server's own words and SQLSTATE, which
//! drivers look at.

use super::Startup;
use super::encoding::{self, RequestedEncoding};
use super::options::{self, OptionsError};
use super::pins;
use std::fmt;

/// What a client may set at connection start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The client may choose `search_path`.
    pub allow_search_path: bool,
    /// Everything is handed on but `replication`. For conformance runs.
    pub allow_unpinned: bool,
}

/// Why a setting at connection start is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingRefused {
    /// It would change how statements are read, or as whom.
    Pinned {
        /// Of the setting.
        name: String,
    },
    /// Not on the list.
    Unlisted {
        /// Of the setting.
        name: String,
    },
    /// No PostgreSQL has a setting of this name.
    Unknown {
        /// Of the setting.
        name: String,
    },
    /// On the list, but not with this value.
    Value {
        /// Of the setting.
        name: String,
        /// As it was asked for.
        value: String,
        /// What it may be.
        wanted: &'static str,
    },
    /// No value of this setting.
    Invalid {
        /// Of the setting.
        name: String,
        /// As it was asked for.
        value: String,
    },
    /// An encoding in which Headgate cannot judge.
    Encoding {
        /// As it was asked for.
        value: String,
    },
    /// Replication is not carried.
    Replication,
    /// The switches cannot be read.
    Options(OptionsError),
}

impl SettingRefused {
    /// PostgreSQL's code for it.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            SettingRefused::Pinned { .. } | SettingRefused::Unlisted { .. } => "42501",
            SettingRefused::Unknown { .. } => "42704",
            SettingRefused::Value { .. }
            | SettingRefused::Invalid { .. }
            | SettingRefused::Encoding { .. } => "22023",
            SettingRefused::Replication => "0A000",
            SettingRefused::Options(_) => "42601",
        }
    }

    /// What the client can do.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            SettingRefused::Encoding { .. } => Some(pins::ENCODING_HINT),
            SettingRefused::Invalid { name, .. } if name.eq_ignore_ascii_case("client_encoding") => {
                Some(pins::ENCODING_HINT)
            }
            SettingRefused::Replication => {
                Some("Take backups and replicate from the database itself; pg_dump works through Headgate.")
            }
            SettingRefused::Pinned { .. } | SettingRefused::Unlisted { .. } => {
                Some("Leave it out of the connection's parameters.")
            }
            _ => None,
        }
    }
}

impl fmt::Display for SettingRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SettingRefused::Pinned { name } => write!(
                f,
                "Headgate fixes the setting \"{name}\": it cannot be given at connection start"
            ),
            SettingRefused::Unlisted { name } => write!(
                f,
                "Headgate does not hand on the setting \"{name}\" at connection start"
            ),
            SettingRefused::Value { name, value, wanted } => {
                write!(
                    f,
                    "Headgate does not hand on \"{name}\" with the value \"{value}\": {wanted} is possible"
                )
            }
            SettingRefused::Unknown { name } => write!(f, "unrecognized configuration parameter \"{name}\""),
            SettingRefused::Invalid { name, value } => {
                write!(f, "invalid value for parameter \"{name}\": \"{value}\"")
            }
            SettingRefused::Encoding { value } => {
                write!(
                    f,
                    "Headgate reads statements as UTF-8: it does not carry client_encoding \"{value}\""
                )
            }
            SettingRefused::Replication => f.write_str("Headgate does not carry replication connections"),
            SettingRefused::Options(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SettingRefused {}

/// Handed on with any value: what libpq and drivers send, and what changes only how values look or how long things take.
const LISTED: [&str; 39] = [
    "application_name",
    "bytea_output",
    "client_connection_check_interval",
    "client_min_messages",
    "constraint_exclusion",
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "datestyle",
    "deadlock_timeout",
    "default_statistics_target",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "effective_cache_size",
    "effective_io_concurrency",
    "extra_float_digits",
    "from_collapse_limit",
    "geqo",
    "geqo_threshold",
    "hash_mem_multiplier",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "join_collapse_limit",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "max_parallel_workers_per_gather",
    "plan_cache_mode",
    "random_page_cost",
    "seq_page_cost",
    "statement_timeout",
    "synchronous_commit",
    "timezone",
    "transaction_timeout",
    "work_mem",
];

/// Refused with a word of their own: they change how a statement is read, or as whom it runs.
const PINNED: [&str; 13] = [
    "array_nulls",
    "backslash_quote",
    "default_tablespace",
    "dynamic_library_path",
    "escape_string_warning",
    "local_preload_libraries",
    "quote_all_identifiers",
    "role",
    "row_security",
    "search_path",
    "session_authorization",
    "session_preload_libraries",
    "session_replication_role",
];

/// Always said to the target: its roles and databases may have defaults of their own, and the judge reads UTF-8 with strings
/// as the standard has them.
const PINS: [(&str, &str); 2] = [("client_encoding", "UTF8"), ("standard_conforming_strings", "on")];

/// Every setting of PostgreSQL up to 18, also those that are gone; in lower case.
const KNOWN: &str = include_str!("known_settings.txt");

/// Whether this is a session that reads the target's log or files and no SQL: asked before anybody is asked who they are.
pub fn replication(startup: &Startup) -> Result<(), SettingRefused> {
    for (name, value) in &startup.parameters {
        // This name PostgreSQL compares letter by letter.
        if name == "replication" && !is_off(value) {
            let known = is_on(value) || value == "database";
            return Err(if known {
                SettingRefused::Replication
            } else {
                SettingRefused::Invalid {
                    name: name.clone(),
                    value: value.clone(),
                }
            });
        }
    }
    Ok(())
}

/// The parameters for the target's start-up packet (without user and database), or the setting that is refused.
pub fn for_target(startup: &Startup, policy: Policy) -> Result<Vec<(String, String)>, SettingRefused> {
    replication(startup)?;
    let mut settings = Vec::new();
    let mut parameters = Vec::new();
    for (name, value) in &startup.parameters {
        match name.as_str() {
            // These two names PostgreSQL compares letter by letter.
            "replication" => {}
            "options" if policy.allow_unpinned => settings.push((name.clone(), value.clone())),
            // The last one counts.
            "options" => settings = options::parse(value).map_err(SettingRefused::Options)?,
            _ => parameters.push((name.clone(), value.clone())),
        }
    }
    settings.append(&mut parameters);
    if !policy.allow_unpinned {
        settings
            .iter()
            .try_for_each(|(name, value)| judge(name, value, policy))?;
        for (name, value) in PINS {
            if !settings.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
                settings.push((name.to_owned(), value.to_owned()));
            }
        }
    }
    Ok(settings)
}

fn judge(name: &str, value: &str, policy: Policy) -> Result<(), SettingRefused> {
    let folded = name.to_ascii_lowercase();
    let folded = folded.as_str();
    let value_rule = |fits: bool, wanted: &'static str| {
        if fits {
            Ok(())
        } else {
            Err(SettingRefused::Value {
                name: name.to_owned(),
                value: value.to_owned(),
                wanted,
            })
        }
    };
    match folded {
        "client_encoding" => match encoding::asked(value) {
            // With `server_encoding` it is looked at again when the target reports that.
            RequestedEncoding::Read(_) => Ok(()),
            RequestedEncoding::NotRead => Err(SettingRefused::Encoding {
                value: value.to_owned(),
            }),
            RequestedEncoding::Unknown => Err(SettingRefused::Invalid {
                name: name.to_owned(),
                value: value.to_owned(),
            }),
        },
        "standard_conforming_strings" => value_rule(is_on(value), "on"),
        // The owner of the target may have set it for the role; a client must not take it off.
        "default_transaction_read_only" => value_rule(is_on(value), "on"),
        "search_path" if policy.allow_search_path => Ok(()),
        _ if LISTED.binary_search(&folded).is_ok() || folded.starts_with("enable_") => Ok(()),
        _ if PINNED.binary_search(&folded).is_ok() => Err(SettingRefused::Pinned {
            name: name.to_owned(),
        }),
        // A name with a dot is an extension's, or anybody's.
        _ if !folded.contains('.') && !KNOWN.lines().any(|known| known == folded) => {
            Err(SettingRefused::Unknown {
                name: name.to_owned(),
            })
        }
        _ => Err(SettingRefused::Unlisted {
            name: name.to_owned(),
        }),
    }
}

/// The spellings of parse_bool(), in full or unique beginnings of them.
fn is_on(value: &str) -> bool {
    matches!(
        value.to_ascii_lowercase().as_str(),
        "on" | "true" | "tru" | "tr" | "t" | "yes" | "ye" | "y" | "1"
    )
}

fn is_off(value: &str) -> bool {
    matches!(
        value.to_ascii_lowercase().as_str(),
        "off" | "of" | "false" | "fals" | "fal" | "fa" | "f" | "no" | "n" | "0"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn startup(parameters: &[(&str, &str)]) -> Startup {
        Startup {
            minor: 0,
            user: "u".into(),
            database: "d".into(),
            parameters: parameters
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect(),
            negotiate: None,
        }
    }

    /// Without the pins, if the client did not say them itself.
    fn handed_on(parameters: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut settings = for_target(&startup(parameters), Policy::default()).unwrap();
        for (name, value) in PINS {
            assert!(
                settings.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)),
                "{name} is not said"
            );
            if !parameters.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
                settings.retain(|(n, v)| (n.as_str(), v.as_str()) != (name, value));
            }
        }
        settings
    }

    fn refused(parameters: &[(&str, &str)]) -> SettingRefused {
        for_target(&startup(parameters), Policy::default()).unwrap_err()
    }

    #[test]
    fn the_lists_are_sorted_so_that_they_are_found() {
        assert!(LISTED.is_sorted() && PINNED.is_sorted());
    }

    #[test]
    fn what_libpq_jdbc_and_asyncpg_send_is_handed_on_as_it_was_spelt() {
        let sent = [
            ("client_encoding", "'utf-8'"),
            ("application_name", "psql"),
            ("DateStyle", "ISO"),
            ("TimeZone", "Europe/Berlin"),
            ("extra_float_digits", "2"),
            ("IntervalStyle", "postgres_verbose"),
            ("enable_seqscan", "off"),
        ];
        let expected: Vec<(String, String)> = sent
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        assert_eq!(handed_on(&sent), expected);
    }

    #[test]
    fn settings_inside_options_come_first_and_as_parameters() {
        let got = handed_on(&[
            ("application_name", "a"),
            ("options", "-c geqo=off --statement-timeout=5s"),
        ]);
        let names: Vec<&str> = got.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["geqo", "statement_timeout", "application_name"]);
    }

    #[test]
    fn pinned_settings_are_refused_in_every_spelling_and_place() {
        for name in [
            "role",
            "ROLE",
            "Session_Authorization",
            "search_path",
            "backslash_quote",
            "session_replication_role",
        ] {
            assert_eq!(
                refused(&[(name, "x")]),
                SettingRefused::Pinned { name: name.into() }
            );
            for options in [
                format!("-c {name}=x"),
                format!("-c geqo=on -c{name}=x"),
                format!("--{}=x", name.replace('_', "-")),
            ] {
                assert!(
                    matches!(refused(&[("options", &options)]), SettingRefused::Pinned { .. }),
                    "{options}"
                );
            }
        }
        assert!(matches!(
            refused(&[("options", "-c geqo=\\ on\t-c role=x")]),
            SettingRefused::Pinned { .. }
        ));
    }

    #[test]
    fn values_that_change_how_text_is_read_are_refused() {
        for value in ["SJIS", "WIN1252", "LATIN1"] {
            let refusal = refused(&[("client_encoding", value)]);
            assert_eq!(
                (refusal.sqlstate(), refusal.hint()),
                ("22023", Some(pins::ENCODING_HINT)),
                "{value}"
            );
            assert!(
                pins::ENCODING_HINT.contains("PGCLIENTENCODING=UTF8") && refusal.to_string().contains(value)
            );
        }
        for value in ["utf16", "", "auto", "nope"] {
            let refusal = refused(&[("client_encoding", value)]);
            assert_eq!(
                refusal.to_string(),
                format!("invalid value for parameter \"client_encoding\": \"{value}\"")
            );
            assert_eq!(refusal.sqlstate(), "22023");
        }
        for value in ["off", "", "0", "o"] {
            assert!(
                matches!(
                    refused(&[("standard_conforming_strings", value)]),
                    SettingRefused::Value { .. }
                ),
                "{value}"
            );
        }
        assert_eq!(
            handed_on(&[
                ("Standard_Conforming_Strings", "ON"),
                ("CLIENT_ENCODING", "UNICODE")
            ])
            .len(),
            2
        );
    }

    #[test]
    fn the_encoding_of_a_terminal_without_a_locale_is_handed_on() {
        let settings = for_target(&startup(&[("client_encoding", "SQL_ASCII")]), Policy::default()).unwrap();
        let asked: Vec<_> = settings
            .iter()
            .filter(|(name, _)| name == "client_encoding")
            .collect();
        assert_eq!(
            asked,
            [&("client_encoding".to_owned(), "SQL_ASCII".to_owned())],
            "and UTF8 is not said beside it"
        );
        assert_ne!(pins::Pins::of(&settings), pins::Pins::default());
    }

    #[test]
    fn what_no_postgresql_knows_is_refused_as_the_server_would() {
        let refusal = refused(&[("nosuch", "7s")]);
        assert_eq!(
            (refusal.sqlstate(), refusal.to_string().as_str()),
            ("42704", "unrecognized configuration parameter \"nosuch\"")
        );
        for known in LISTED.iter().chain(&PINNED) {
            assert!(KNOWN.lines().any(|name| name == *known), "{known}");
        }
        assert!(KNOWN.lines().is_sorted());
    }

    #[test]
    fn what_is_on_no_list_is_refused_by_its_name() {
        let refusal = refused(&[("shared_preload_libraries", "x")]);
        assert_eq!(
            refusal,
            SettingRefused::Unlisted {
                name: "shared_preload_libraries".into()
            }
        );
        assert!(refusal.to_string().contains("shared_preload_libraries"));
        assert!(matches!(
            refused(&[("my.setting", "x")]),
            SettingRefused::Unlisted { .. }
        ));
        assert!(matches!(
            refused(&[("OPTIONS", "-c role=x")]),
            SettingRefused::Unknown { .. }
        ));
        assert!(matches!(
            refused(&[("options", "-e")]),
            SettingRefused::Options(_)
        ));
    }

    #[test]
    fn replication_is_refused_even_when_nothing_is_pinned() {
        let unpinned = Policy {
            allow_unpinned: true,
            ..Policy::default()
        };
        for value in ["true", "database", "1", "on"] {
            assert_eq!(
                replication(&startup(&[("replication", value)])),
                Err(SettingRefused::Replication)
            );
            for policy in [Policy::default(), unpinned] {
                assert_eq!(
                    for_target(&startup(&[("replication", value)]), policy),
                    Err(SettingRefused::Replication)
                );
            }
        }
        assert_eq!(
            replication(&startup(&[("replication", "maybe")]))
                .unwrap_err()
                .sqlstate(),
            "22023"
        );
        assert_eq!(
            replication(&startup(&[("replication", "")]))
                .unwrap_err()
                .sqlstate(),
            "22023"
        );
        assert_eq!(
            for_target(&startup(&[("replication", "false")]), unpinned),
            Ok(vec![])
        );
        let all = [
            ("role", "x"),
            ("options", "-e -c search_path=x"),
            ("client_encoding", "SJIS"),
        ];
        let got = for_target(&startup(&all), unpinned).unwrap();
        assert_eq!(got[0], ("options".into(), "-e -c search_path=x".into()));
        assert_eq!(got.len(), 3);
    }

    #[test]
    fn the_search_path_is_handed_on_only_where_the_target_allows_it() {
        let policy = Policy {
            allow_search_path: true,
            ..Policy::default()
        };
        assert_eq!(
            for_target(&startup(&[("search_path", "shop")]), policy).unwrap()[0].0,
            "search_path"
        );
    }
}
