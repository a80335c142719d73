//! Which settings the gateway keeps as they are, because they change how statements are read, by whom, or what leaves.
//!
//! Harmless is: a setting not listed here; `client_encoding` to any spelling of UTF-8; `standard_conforming_strings` to
//! on; `backslash_quote` to `safe_encoding`; `row_security` to on; `client_min_messages` to notice or above (below, the
//! server tells values in messages). `search_path` is pinned for every value: even an empty list or `pg_catalog`
//! alone changes how names resolve, which the gateway's catalog does not follow. Back to the default is not
//! harmless: what the default is, the target decides. RESET ALL and DISCARD ALL go back to what the session began with, which is what the
//! gateway asked for in the startup packet.
//!
//! Not pinned although it can weaken a target that leans on it: `app.…` settings read by row security policies.

/// Names, besides everything that begins with one of [`PREFIXES`].
const PINNED: &[&str] = &[
    "allow_in_place_tablespaces",
    "allow_system_table_mods",
    "backslash_quote",
    "backtrace_functions",
    "client_encoding",
    "client_min_messages",
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
    "role",
    "row_security",
    "search_path",
    "server_encoding",
    "session_authorization",
    "session_preload_libraries",
    "session_replication_role",
    "standard_conforming_strings",
    "transform_null_equals",
    "zero_damaged_pages",
];

/// What writes values into the server's log or back to the client as messages.
const PREFIXES: &[&str] = &["log_", "debug_", "trace_", "auto_explain.", "pgaudit.", "plpgsql.", "ssl_"];

/// Whether setting `name` to `value` is for the gateway alone. `value` is `None` when it is a default or cannot be known.
pub fn is_pinned(name: &str, value: Option<&str>) -> bool {
    let name = name.to_ascii_lowercase();
    if PREFIXES.iter().any(|p| name.starts_with(p)) {
        return true;
    }
    if !PINNED.contains(&name.as_str()) {
        return false;
    }
    let Some(value) = value else { return true };
    let value = value.trim().to_ascii_lowercase();
    match name.as_str() {
        // The server ignores everything but letters and digits in an encoding's name.
        "client_encoding" => {
            let plain: String = value.chars().filter(char::is_ascii_alphanumeric).collect();
            !(value.is_ascii() && (plain == "utf8" || plain == "unicode"))
        }
        "standard_conforming_strings" | "row_security" => !matches!(value.as_str(), "on" | "true" | "yes" | "1" | "t" | "y"),
        "backslash_quote" => value != "safe_encoding",
        "client_min_messages" => !matches!(value.as_str(), "notice" | "warning" | "error"),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::is_pinned;

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
        assert!(!is_pinned("work_mem", None));
    }
}
