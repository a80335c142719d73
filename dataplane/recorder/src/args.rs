//! The command line: a few flags, each with a value.

use crate::{RecorderError, Settings};
use std::path::PathBuf;
use std::time::Duration;

pub const USAGE: &str =
    "headgate-recorder --audit-dir DIR --spool-dir DIR --key FILE [--linger-ms 100] [--sync-ms 100]";

fn milliseconds(flag: &str, value: &str) -> Result<Duration, RecorderError> {
    match value.parse::<u64>() {
        Ok(ms @ 1..=60_000) => Ok(Duration::from_millis(ms)),
        _ => Err(RecorderError::Usage {
            what: format!("{flag} wants milliseconds from 1 to 60000, not {value:?}"),
        }),
    }
}

/// Reads the flags after the program's name, as `--flag value` or `--flag=value`.
pub fn parse(args: impl Iterator<Item = String>) -> Result<Settings, RecorderError> {
    let (mut audit_dir, mut spool_dir, mut key) = (None, None, None);
    let (mut linger, mut sync) = (Duration::from_millis(100), Duration::from_millis(100));
    let mut args = args;
    while let Some(arg) = args.next() {
        let (flag, value) = match arg.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (arg.clone(), args.next()),
        };
        let value = value.ok_or_else(|| RecorderError::Usage {
            what: format!("{flag} wants a value\n{USAGE}"),
        })?;
        match flag.as_str() {
            "--audit-dir" => audit_dir = Some(PathBuf::from(value)),
            "--spool-dir" => spool_dir = Some(PathBuf::from(value)),
            "--key" => key = Some(PathBuf::from(value)),
            "--linger-ms" => linger = milliseconds(&flag, &value)?,
            "--sync-ms" => sync = milliseconds(&flag, &value)?,
            _ => {
                return Err(RecorderError::Usage {
                    what: format!("unknown flag {flag}\n{USAGE}"),
                });
            }
        }
    }
    match (audit_dir, spool_dir, key) {
        (Some(audit_dir), Some(spool_dir), Some(key)) => Ok(Settings {
            audit_dir,
            spool_dir,
            key,
            linger,
            sync,
        }),
        _ => Err(RecorderError::Usage {
            what: format!("--audit-dir, --spool-dir and --key are needed\n{USAGE}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Settings, RecorderError> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_come_in_both_spellings_and_mistakes_are_named() {
        let settings = read("--audit-dir /a --spool-dir=/s --key k --linger-ms 7").unwrap();
        assert_eq!(
            (settings.linger, settings.sync),
            (Duration::from_millis(7), Duration::from_millis(100))
        );
        assert!(
            read("--audit-dir /a")
                .unwrap_err()
                .to_string()
                .contains("--spool-dir")
        );
        assert!(read("--audit-dir /a --spool-dir /s --key k --sync-ms 0").is_err());
        assert!(
            read("--nonsense 1")
                .unwrap_err()
                .to_string()
                .contains("--nonsense")
        );
        assert!(read("--key").is_err());
    }
}
