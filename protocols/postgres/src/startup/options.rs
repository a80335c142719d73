//! `options` of the start-up packet: `-c name=value`, `-cname=value`, `--name=value`.
//!
//! Invariant: every step takes at least one byte, so any text ends. Only these three spellings are read; any other switch of
//! `postgres` is an error, never passed over.
//! Spec: PostgreSQL, pg_split_opts() and process_postgres_switches().

use std::fmt;

/// Why the switches of a start-up packet cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionsError {
    /// A switch other than the three spellings of a setting.
    UnknownSwitch(String),
    /// `-c` at the end, or a setting without `=`.
    ValueMissing(String),
    /// A setting without a name.
    NameMissing,
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OptionsError::UnknownSwitch(word) => {
                write!(f, "options: \"{word}\" is not of the form -c name=value")
            }
            OptionsError::ValueMissing(word) => write!(f, "options: \"{word}\" requires a value"),
            OptionsError::NameMissing => f.write_str("options: a setting without a name"),
        }
    }
}

impl std::error::Error for OptionsError {}

/// The settings in their order. Names have `_` for `-`, as PostgreSQL reads them.
pub fn parse(options: &str) -> Result<Vec<(String, String)>, OptionsError> {
    let mut settings = Vec::new();
    let mut words = words(options).into_iter();
    while let Some(word) = words.next() {
        let setting = if word == "-c" {
            words.next().ok_or(OptionsError::ValueMissing(word))?
        } else if let Some(rest) = word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            rest.to_owned()
        } else {
            return Err(OptionsError::UnknownSwitch(word));
        };
        let Some((name, value)) = setting.split_once('=') else {
            return Err(OptionsError::ValueMissing(setting));
        };
        if name.is_empty() {
            return Err(OptionsError::NameMissing);
        }
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

/// Words between blanks; a backslash takes away the meaning of what follows it.
fn words(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = options.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => words.extend(word.take()),
            '\\' => {
                // A backslash at the very end is nothing, but it begins a word.
                let word = word.get_or_insert_default();
                word.extend(chars.next());
            }
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(options: &str) -> Vec<(String, String)> {
        parse(options).unwrap()
    }

    #[test]
    fn three_spellings_are_one_setting() {
        let one = vec![("geqo".to_owned(), "off".to_owned())];
        assert_eq!(pairs("-c geqo=off"), one);
        assert_eq!(pairs("  -cgeqo=off\t"), one);
        assert_eq!(pairs("--geqo=off"), one);
        assert_eq!(pairs("--extra-float-digits=3")[0].0, "extra_float_digits");
    }

    #[test]
    fn a_backslash_keeps_a_blank_in_the_value() {
        assert_eq!(
            pairs(r"-c DateStyle=ISO,\ DMY -c a=\\b\ "),
            [
                ("DateStyle".to_owned(), "ISO, DMY".to_owned()),
                ("a".to_owned(), r"\b ".to_owned()),
            ]
        );
        assert_eq!(pairs("-c a=b\\")[0].1, "b");
        assert_eq!(pairs("-c a==b=c")[0].1, "=b=c");
    }

    #[test]
    fn an_empty_name_is_refused_and_does_not_spin() {
        assert_eq!(parse("-c="), Err(OptionsError::NameMissing));
        assert_eq!(parse("-c ="), Err(OptionsError::NameMissing));
        assert_eq!(parse("--=1"), Err(OptionsError::NameMissing));
        assert!(
            parse("-c").is_err()
                && parse("-c x").is_err()
                && parse("--").is_err()
                && parse("--role").is_err()
        );
        assert_eq!(pairs(""), []);
        assert_eq!(pairs("   "), []);
    }

    #[test]
    fn other_switches_are_refused_by_name() {
        for word in ["-e", "-B", "-d5", "-Eccrole=x", "role=x", "\\", "-"] {
            assert!(
                matches!(
                    parse(&format!("-c geqo=off {word}")),
                    Err(OptionsError::UnknownSwitch(_))
                ),
                "{word}"
            );
        }
    }
}
