//! Its bytes: lines in, words of ours out.

use crate::LINE_BYTES_MAX;
use headgate_gate::clearance::Refused;
use headgate_gate::session::protocol::{Fault, Parting};

/// The first line of `bytes`, with its end. `None`: it is not whole yet.
pub fn first(bytes: &[u8]) -> Result<Option<&[u8]>, TooLong> {
    let end = bytes.iter().take(LINE_BYTES_MAX).position(|b| *b == b'\n');
    match end.and_then(|end| bytes.get(..=end)) {
        Some(line) => Ok(Some(line)),
        None if bytes.len() >= LINE_BYTES_MAX => Err(TooLong),
        None => Ok(None),
    }
}

/// A line that does not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// The words of a line.
pub fn words(line: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(line)
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect()
}

/// A refusal: a code to decide by, and words to read.
pub fn refusal(refused: &Refused, out: &mut Vec<u8>) {
    let (code, words) = match refused {
        Refused::Rule { name, message } => (
            "denied",
            message
                .clone()
                .unwrap_or_else(|| format!("denied by rule \"{name}\"")),
        ),
        Refused::NothingAllows | Refused::NoRules => ("denied", "no rule allows it".to_owned()),
        Refused::Reviewer {
            question,
            reviewer,
            reason,
        } => ("denied", format!("{question} was denied by {reviewer}: {reason}")),
        Refused::Expired { question } => ("expired", format!("nobody answered {question}")),
        Refused::TakenBack { question, by } => ("denied", format!("{question} was taken back by {by}")),
        Refused::Unreadable { reason } => ("malformed", reason.clone()),
        Refused::CarriesMasked => ("masked", "its reply cannot be covered".to_owned()),
        Refused::SignIn(kind) => ("sign-in", kind.to_client().to_owned()),
        Refused::Revoked { reason } => ("revoked", reason.clone()),
        other => ("refused", format!("{other:?}")),
    };
    out.extend_from_slice(format!("! {code} {}\n", words.replace('\n', " ")).as_bytes());
}

/// A peer that does not speak the protocol.
pub fn misbehaved(who: &str, what: &str) -> Box<Parting> {
    Box::new(Parting {
        reason: format!("{who} misbehaved: {what}"),
        words: format!("! malformed {what}\n").into_bytes(),
        fault: Fault::Misbehaved,
        discards: who == "target",
    })
}
