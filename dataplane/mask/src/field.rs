//! One field and its action.

use crate::caller::CallerInner;
use crate::detect::{self, Kind, Kinds};
use crate::method::{cover, severity, stronger};
use crate::plan::{ColumnAction, ScanForm};
use crate::prefilter;
use headgate_plane::MaskMethod;

/// What became of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Unchanged,
    /// Its new value was appended.
    Changed,
    Null,
}

/// A hit inside one field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit {
    start: usize,
    end: usize,
    kind: Kind,
    method: MaskMethod,
}

/// Does `action` to `value`, which is not NULL. `candidates`: positions proposed by the prefilter, relative to `value`.
/// Appends to `out` only when it answers `Changed`.
pub(crate) fn apply(
    inner: &CallerInner,
    action: ColumnAction,
    value: &[u8],
    candidates: impl Iterator<Item = usize>,
    hits: &mut Vec<Hit>,
    out: &mut Vec<u8>,
) -> Outcome {
    let form = match action {
        ColumnAction::Pass => return Outcome::Unchanged,
        ColumnAction::Null => return Outcome::Null,
        ColumnAction::Mask(method) => {
            cover(method, None, value, &inner.key, out);
            return Outcome::Changed;
        }
        ColumnAction::Scan(form) => form,
    };
    let card = match form {
        ScanForm::BinaryInt8 => is_card_int8(value),
        ScanForm::BinaryNumeric => is_card_numeric(value),
        _ => false,
    };
    if matches!(form, ScanForm::BinaryInt8 | ScanForm::BinaryNumeric) {
        return if card { Outcome::Null } else { Outcome::Unchanged };
    }
    hits.clear();
    let kinds = if form == ScanForm::Number {
        Kinds::NONE.with(Kind::PaymentCard)
    } else {
        inner.kinds
    };
    for at in candidates {
        if let Some((kind, range)) = detect::at(kinds, value, at) {
            hits.push(Hit {
                start: range.start,
                end: range.end,
                kind,
                method: inner.method_of(kind),
            });
        }
    }
    if hits.is_empty() {
        return Outcome::Unchanged;
    }
    if form == ScanForm::Number {
        return Outcome::Null;
    }
    merge(hits);
    let mut at = 0;
    for hit in hits.iter() {
        out.extend_from_slice(value.get(at..hit.start).unwrap_or_default());
        let found = value.get(hit.start..hit.end).unwrap_or_default();
        match form {
            ScanForm::Fill => out.resize(out.len() + found.len(), b'*'),
            ScanForm::Json if is_bare_number(value, hit, found) => out.extend_from_slice(b"null"),
            _ => cover(hit.method, Some(hit.kind), found, &inner.key, out),
        }
        at = hit.end;
    }
    out.extend_from_slice(value.get(at..).unwrap_or_default());
    Outcome::Changed
}

/// [`apply`] for a value outside of any run: the prefilter is asked here.
pub(crate) fn apply_alone(
    inner: &CallerInner,
    action: ColumnAction,
    value: &[u8],
    scratch: &mut crate::rows::Scratch,
    out: &mut Vec<u8>,
) -> Outcome {
    scratch.candidates.clear();
    if matches!(action, ColumnAction::Scan(_)) {
        prefilter::candidates(inner.kinds, value, 0, value.len(), &mut scratch.candidates);
    }
    apply(
        inner,
        action,
        value,
        scratch.candidates.iter().copied(),
        &mut scratch.hits,
        out,
    )
}

/// Puts hits in order and joins those that overlap: the joint one is covered by the stronger method, never partly.
fn merge(hits: &mut Vec<Hit>) {
    hits.sort_unstable_by_key(|h| (h.start, h.end));
    let mut kept = 0usize;
    for i in 0..hits.len() {
        let Some(hit) = hits.get(i).copied() else { break };
        match kept.checked_sub(1).and_then(|last| hits.get_mut(last)) {
            // The payload of a token looks like a token, too.
            Some(last) if hit.end <= last.end && hit.kind == last.kind => {}
            Some(last) if hit.start < last.end => {
                if severity(hit.method) >= severity(last.method) {
                    last.kind = hit.kind;
                }
                // At least redacted: a partial form of the one could show what the other covers.
                last.method = stronger(Some(stronger(Some(last.method), hit.method)), MaskMethod::Redact);
                last.end = last.end.max(hit.end);
            }
            _ => {
                if let Some(slot) = hits.get_mut(kept) {
                    *slot = hit;
                }
                kept += 1;
            }
        }
    }
    hits.truncate(kept);
}

fn is_bare_number(value: &[u8], hit: &Hit, found: &[u8]) -> bool {
    let opens = |b: &u8| matches!(b, b':' | b',' | b'[' | b' ' | b'\n' | b'\t' | b'\r' | 1);
    let closes = |b: &u8| matches!(b, b',' | b']' | b'}' | b' ' | b'\n' | b'\t' | b'\r');
    if !found.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let before = hit.start.checked_sub(1).and_then(|i| value.get(i));
    if !before.is_none_or(opens) || !value.get(hit.end).is_none_or(closes) {
        return false;
    }
    // Outside of a string the quotes before it pair up.
    let (mut inside, mut escaped) = (false, false);
    for b in value.iter().take(hit.start) {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = inside,
            b'"' => inside = !inside,
            _ => {}
        }
    }
    !inside
}

fn is_card_int8(value: &[u8]) -> bool {
    let Ok(bytes) = <[u8; 8]>::try_from(value) else {
        return false;
    };
    let number = i64::from_be_bytes(bytes);
    number >= 1_000_000_000_000 && detect::is_card(number.to_string().as_bytes())
}

/// A positive numeric without a fraction whose digits are a card's. Anything odd is no number of a card.
fn is_card_numeric(value: &[u8]) -> bool {
    let word = |i: usize| Some(u16::from_be_bytes([*value.get(2 * i)?, *value.get(2 * i + 1)?]));
    let (Some(count), Some(weight), Some(sign)) = (word(0), word(1), word(2)) else {
        return false;
    };
    // 19 digits are at most six groups of four, whatever the alignment.
    if sign != 0 || weight > 5 || count > weight + 1 {
        return false;
    }
    let mut text = String::new();
    for i in 0..=usize::from(weight) {
        let group = if i < usize::from(count) {
            word(4 + i).unwrap_or(0)
        } else {
            0
        };
        text.push_str(&format!("{group:04}"));
    }
    detect::is_card(text.trim_start_matches('0').as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_in_a_binary_number_is_seen() {
        assert!(is_card_int8(&4_111_111_111_111_111i64.to_be_bytes()));
        assert!(!is_card_int8(&4_111_111_111_111_112i64.to_be_bytes()));
        assert!(!is_card_int8(&[0; 4]));
        let mut numeric = Vec::new();
        for word in [4u16, 3, 0, 0, 4111, 1111, 1111, 1111] {
            numeric.extend(word.to_be_bytes());
        }
        assert!(is_card_numeric(&numeric));
        numeric[0..2].copy_from_slice(&3u16.to_be_bytes());
        assert!(!is_card_numeric(&numeric));
    }
}
