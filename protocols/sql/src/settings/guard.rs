//! The tables of settings that are kept, and what is harmless in them.

use super::SettingValue;

/// How much of a setting is a client's own business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// It is: nothing that is judged follows from it.
    None,
    /// Says by whom and in which schemas a statement is read: the gateway follows it.
    Followed,
    /// Weakens the target, its log or its extensions: a rule opens it by name.
    Guarded,
    /// Judge and target would read different bytes, or values would leave in messages: no rule opens it.
    Pinned,
}

const FOLLOWED: &[&str] = &["role", "search_path", "session_authorization"];

const PINNED: &[&str] = &[
    "backslash_quote",
    "client_encoding",
    "client_min_messages",
    "server_encoding",
    "standard_conforming_strings",
];

/// Besides everything that begins with one of [`PREFIXES`].
const GUARDED: &[&str] = &[
    "allow_in_place_tablespaces",
    "allow_system_table_mods",
    "backtrace_functions",
    "createrole_self_grant",
    "dynamic_library_path",
    "event_triggers",
    "exit_on_error",
    "extension_control_path",
    "ignore_checksum_failure",
    "ignore_system_indexes",
    "is_superuser",
    "lo_compat_privileges",
    "local_preload_libraries",
    "row_security",
    "session_preload_libraries",
    "session_replication_role",
    "transform_null_equals",
    "zero_damaged_pages",
];

/// What writes values into the server's log. `client_min_messages` keeps them from the client.
const PREFIXES: &[&str] = &[
    "log_",
    "debug_",
    "trace_",
    "auto_explain.",
    "pgaudit.",
    "plpgsql.",
    "ssl_",
];

/// `name` in any case.
pub fn guard(name: &str) -> Guard {
    let name = name.to_ascii_lowercase();
    let name = name.as_str();
    if FOLLOWED.contains(&name) {
        Guard::Followed
    } else if PINNED.contains(&name) {
        Guard::Pinned
    } else if GUARDED.contains(&name) || PREFIXES.iter().any(|p| name.starts_with(p)) {
        Guard::Guarded
    } else {
        Guard::None
    }
}

/// Whether this value does no harm in any session. Of followed settings none is known to.
pub fn is_harmless(name: &str, value: &SettingValue) -> bool {
    let name = name.to_ascii_lowercase();
    if guard(&name) == Guard::None {
        return true;
    }
    let SettingValue::Text(value) = value else {
        return false;
    };
    let value = value.trim().to_ascii_lowercase();
    match name.as_str() {
        // The server ignores everything but letters and digits in an encoding's name.
        "client_encoding" => {
            let plain: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
            value.is_ascii() && (plain == "utf8" || plain == "unicode")
        }
        "standard_conforming_strings" | "row_security" => {
            matches!(value.as_str(), "on" | "true" | "yes" | "1" | "t" | "y")
        }
        "backslash_quote" => value == "safe_encoding",
        "client_min_messages" => matches!(value.as_str(), "notice" | "warning" | "error"),
        _ => false,
    }
}

/// Whether setting `name` to `value` is not a client's own business in any session. `None`: it cannot be known.
pub fn is_pinned(name: &str, value: Option<&str>) -> bool {
    !is_harmless(
        name,
        &value.map_or(SettingValue::Unknown, |v| SettingValue::Text(v.to_owned())),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_drivers_set_is_harmless() {
        for (name, value) in [
            ("client_encoding", "UTF8"),
            ("client_encoding", "utf-8"),
            ("CLIENT_ENCODING", "'Unicode'"),
            ("standard_conforming_strings", "on"),
            ("client_min_messages", "WARNING"),
            ("DateStyle", "ISO"),
            ("TimeZone", "UTC"),
            ("extra_float_digits", "3"),
            ("application_name", "x"),
            ("statement_timeout", "0"),
            ("default_transaction_isolation", "serializable"),
            ("bytea_output", "hex"),
            ("escape_string_warning", "off"),
        ] {
            assert!(!is_pinned(name, Some(value)), "{name} {value}");
        }
    }

    #[test]
    fn what_changes_the_reading_is_pinned() {
        for (name, value) in [
            ("client_encoding", "SJIS"),
            ("client_encoding", "u\u{17f}utf8"),
            ("standard_conforming_strings", "off"),
            ("search_path", "evil"),
            ("search_path", ""),
            ("Role", "postgres"),
            ("session_authorization", "postgres"),
            ("backslash_quote", "on"),
            ("client_min_messages", "debug5"),
            ("client_min_messages", "log"),
            ("session_replication_role", "replica"),
            ("row_security", "off"),
            ("lo_compat_privileges", "on"),
            ("log_statement", "all"),
            ("debug_print_parse", "on"),
        ] {
            assert!(is_pinned(name, Some(value)), "{name} {value}");
        }
        assert!(is_pinned("client_encoding", None));
        assert_eq!(guard("Search_Path"), Guard::Followed);
        assert_eq!(guard("client_min_messages"), Guard::Pinned);
        assert_eq!(guard("log_statement"), Guard::Guarded);
        assert!(!is_pinned("work_mem", None));
    }
}
