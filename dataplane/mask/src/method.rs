//! What a covered value becomes. All of these work on characters, never in the middle of one.

use crate::detect::Kind;
use headgate_plane::MaskMethod;

/// How strong a method is: of several that bind one column, the strongest is used.
pub(crate) fn severity(method: MaskMethod) -> u8 {
    match method {
        MaskMethod::Partial => 0,
        MaskMethod::Tokenize => 1,
        MaskMethod::Hash => 2,
        MaskMethod::Redact => 3,
        MaskMethod::Null => 4,
    }
}

pub(crate) fn stronger(a: Option<MaskMethod>, b: MaskMethod) -> MaskMethod {
    match a {
        Some(a) if severity(a) >= severity(b) => a,
        _ => b,
    }
}

/// Appends the covered form of `value`. `kind`: what a detector took it for; `None` for a labelled value. A `Null` is
/// written as `Redact`: whoever can write NULL has done so before calling.
pub(crate) fn cover(method: MaskMethod, kind: Option<Kind>, value: &[u8], key: &[u8; 32], out: &mut Vec<u8>) {
    match method {
        MaskMethod::Redact | MaskMethod::Null => redact(value, out),
        MaskMethod::Partial => partial(kind, value, out),
        MaskMethod::Hash => hash(value, key, out),
        MaskMethod::Tokenize => tokenize(value, key, out),
    }
}

/// Characters as PostgreSQL counts them in valid UTF-8; in anything else, every byte that does not continue one.
fn characters(value: &[u8]) -> usize {
    if value.is_ascii() {
        return value.len();
    }
    value.iter().filter(|b| **b & 0xc0 != 0x80).count()
}

fn redact(value: &[u8], out: &mut Vec<u8>) {
    out.resize(
        out.len() + characters(value).max(usize::from(!value.is_empty())),
        b'*',
    );
}

/// Where the character begins after which only `n` remain.
fn last_characters(value: &[u8], n: usize) -> &[u8] {
    let mut seen = 0;
    for (i, b) in value.iter().enumerate().rev() {
        if b & 0xc0 != 0x80 {
            seen += 1;
            if seen == n {
                return value.get(i..).unwrap_or_default();
            }
        }
    }
    if n == 0 { &[] } else { value }
}

fn first_character(value: &[u8]) -> &[u8] {
    let end = value.iter().skip(1).take_while(|b| **b & 0xc0 == 0x80).count() + 1;
    value.get(..end.min(value.len())).unwrap_or_default()
}

fn partial(kind: Option<Kind>, value: &[u8], out: &mut Vec<u8>) {
    let one_at = memchr::memchr(b'@', value)
        .filter(|at| memchr::memchr(b'@', value.get(at + 1..).unwrap_or_default()).is_none());
    if let (Some(at), None | Some(Kind::Email)) = (one_at, kind) {
        let (local, domain) = (
            value.get(..at).unwrap_or_default(),
            value.get(at + 1..).unwrap_or_default(),
        );
        // The last dot is near the end; a short loop finds it sooner than a search over the whole.
        let tld = domain
            .iter()
            .rposition(|b| *b == b'.')
            .and_then(|dot| domain.get(dot..))
            .filter(|tld| (3..=16).contains(&tld.len()));
        if let Some(tld) = tld {
            if value.is_ascii() {
                // As many characters as bytes: written over in place.
                let (from, kept) = (out.len(), usize::from(at >= 2));
                out.extend_from_slice(value);
                let covered = out.get_mut(from..).unwrap_or_default();
                covered.get_mut(kept..at).unwrap_or_default().fill(b'*');
                covered
                    .get_mut(at + 1..value.len() - tld.len())
                    .unwrap_or_default()
                    .fill(b'*');
                return;
            }
            let host = domain.get(..domain.len() - tld.len()).unwrap_or_default();
            let kept = if characters(local) >= 2 {
                first_character(local)
            } else {
                &[]
            };
            out.extend_from_slice(kept);
            redact(local.get(kept.len()..).unwrap_or_default(), out);
            out.push(b'@');
            redact(host, out);
            out.extend_from_slice(tld);
            return;
        }
    }
    let digits = value.iter().filter(|b| b.is_ascii_digit()).count();
    if kind == Some(Kind::PaymentCard) || (kind.is_none() && digits >= 13 && crate::detect::is_card(value)) {
        let mut left = digits;
        for b in value {
            if b.is_ascii_digit() {
                out.push(if left > 4 { b'*' } else { *b });
                left -= 1;
            } else if crate::detect::is_separator(*b) {
                out.push(*b);
            } else if b & 0xc0 != 0x80 {
                out.push(b'*');
            }
        }
        return;
    }
    let n = characters(value);
    let keep = match n {
        _ if matches!(kind, Some(Kind::Jwt | Kind::AwsKey)) => 0,
        0..=5 => 0,
        6..=8 => 2,
        9..=11 => 3,
        _ => 4,
    };
    let tail = last_characters(value, keep);
    redact(value.get(..value.len() - tail.len()).unwrap_or_default(), out);
    out.extend_from_slice(tail);
}

fn hash(value: &[u8], key: &[u8; 32], out: &mut Vec<u8>) {
    out.extend_from_slice(b"h_");
    let digest = blake3::keyed_hash(key, value);
    out.extend(digest.to_hex().bytes().take(16));
}

/// Digits for digits, letters for letters of the same case, the rest stays. A value with nothing to exchange is redacted.
fn tokenize(value: &[u8], key: &[u8; 32], out: &mut Vec<u8>) {
    if !value.iter().any(|b| b.is_ascii_alphanumeric() || *b >= 0x80) {
        return redact(value, out);
    }
    let mut stream = blake3::Hasher::new_keyed(key)
        .update(b"tokenize")
        .update(value)
        .finalize_xof();
    let mut block = [0u8; 64];
    let mut used = block.len();
    for b in value {
        if b & 0xc0 == 0x80 {
            continue;
        }
        if used == block.len() {
            stream.fill(&mut block);
            used = 0;
        }
        let random = block.get(used).copied().unwrap_or(0);
        used += 1;
        out.push(match b {
            b'0'..=b'9' => b'0' + random % 10,
            b'A'..=b'Z' => b'A' + random % 26,
            b'a'..=b'z' | 0x80.. => b'a' + random % 26,
            _ => *b,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(method: MaskMethod, kind: Option<Kind>, value: &str) -> String {
        let mut out = Vec::new();
        cover(method, kind, value.as_bytes(), &[7; 32], &mut out);
        String::from_utf8(out).expect("covered values stay UTF-8")
    }

    #[test]
    fn redact_counts_characters_not_bytes() {
        assert_eq!(covered(MaskMethod::Redact, None, "Zoë 😀"), "*****");
        assert_eq!(covered(MaskMethod::Redact, None, ""), "");
    }

    #[test]
    fn partial_keeps_what_people_recognise() {
        let partial = |kind, v| covered(MaskMethod::Partial, kind, v);
        assert_eq!(partial(None, "bob@example.com"), "b**@*******.com");
        assert_eq!(partial(None, "émile@x.io"), "é****@*.io");
        assert_eq!(partial(None, "b@x.io"), "*@*.io");
        assert_eq!(
            partial(Some(Kind::PaymentCard), "4111 1111 1111 1234"),
            "**** **** **** 1234"
        );
        assert_eq!(partial(None, "4111111111111111"), "************1111");
        assert_eq!(partial(None, "+1 415 555 0123"), "***********0123");
        assert_eq!(partial(None, "short"), "*****");
        assert_eq!(partial(None, "a@b@c.d"), "*****.d", "two at signs are no address");
        assert_eq!(partial(None, "naïve-é"), "*****-é");
    }

    #[test]
    fn tokens_keep_the_shape_and_hashes_the_equality() {
        let token = covered(MaskMethod::Tokenize, None, "Ab-12 é");
        assert_ne!(token, "Ab-12 é");
        let b = token.as_bytes();
        assert!(
            b[0].is_ascii_uppercase()
                && b[1].is_ascii_lowercase()
                && b[2] == b'-'
                && b[3].is_ascii_digit()
                && b[6].is_ascii_lowercase()
        );
        assert_eq!(covered(MaskMethod::Tokenize, None, "!!?"), "***");
        assert_eq!(
            covered(MaskMethod::Hash, None, "x"),
            covered(MaskMethod::Hash, None, "x")
        );
        assert_ne!(
            covered(MaskMethod::Hash, None, "x"),
            covered(MaskMethod::Hash, None, "y")
        );
        assert_eq!(covered(MaskMethod::Hash, None, "x").len(), 18);
    }
}
