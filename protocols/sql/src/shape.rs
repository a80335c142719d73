//! The shape of a statement: its text with plain literals taken out, so that statements that differ in values alone
//! share one entry of the verdict cache.
//!
//! Invariant: two texts of one shape have the same [`crate::Facts`], or PostgreSQL refuses one of them. Whatever is not
//! certain has no shape, and its exact bytes are the key. Tested against the real parser in `protocols/sqlparse`.
//! Taken out: digits that stand alone; `'…'` of valid UTF-8 without backslash, quote or prefix, not continued.
//! No shape: comments, dollar quotes, `E'' B'' X'' N'' U&`, words glued to a literal, numbers with letters or
//! underscores, non-ASCII outside quotes, NUL anywhere, a second statement, a first word other than
//! select, insert, update, delete, with, values (facts of SET, COPY and the like hang on their literals), and any text
//! with `set_config` in it.
//! Bounds: linear; writes at most `text.len()` bytes to `out`; allocates nothing once `out` has grown.

use crate::lexer::starts_identifier;

/// Texts longer than this have no shape: their exact bytes are as good a key.
pub const SHAPE_BYTES_MAX: usize = 64 << 10;

/// What stands in a shape for digits, and for a literal. No text with these bytes has a shape.
const DIGITS: u8 = 1;
const LITERAL: u8 = 2;

/// What was taken out of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShapeInfo {
    /// How many literals were taken out.
    pub literals: usize,
}

/// Writes the shape of `text` into `out` (cleared first). `None`: the text has no shape, and `out` holds nothing of use.
pub fn shape(text: &[u8], out: &mut Vec<u8>) -> Option<ShapeInfo> {
    out.clear();
    // A NUL in a literal is refused by the lexer: it must not pass as the shape of a text without one.
    if text.len() > SHAPE_BYTES_MAX || memchr::memchr(0, text).is_some() || !may_have_shape(text) {
        return None;
    }
    let mut literals = 0;
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let next = text.get(at + 1).copied();
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' => {
                out.push(byte);
                at += 1;
            }
            b'-' if next == Some(b'-') => return None,
            b'/' if next == Some(b'*') => return None,
            b';' => {
                if !text.get(at + 1..)?.iter().all(|b| b.is_ascii_whitespace()) {
                    return None;
                }
                out.push(byte);
                at += 1;
            }
            b'\'' => {
                let body = text.get(at + 1..)?;
                let length = memchr::memchr2(b'\'', b'\\', body)?;
                if body.get(length) != Some(&b'\'') || std::str::from_utf8(body.get(..length)?).is_err() {
                    return None;
                }
                at += length + 2;
                out.push(LITERAL);
                literals += 1;
                // A quote or a letter right here, or a quote after blanks, would make one literal of two, or a prefix.
                let rest = text.get(at..)?;
                if rest.first().is_some_and(|b| glues(*b)) {
                    return None;
                }
                if rest.iter().find(|b| !b.is_ascii_whitespace() && **b != 0x0b) == Some(&b'\'') {
                    return None;
                }
            }
            b'"' => {
                let body = text.get(at + 1..)?;
                let length = memchr::memchr(b'"', body)?;
                let quoted = text.get(at..at + length + 2)?;
                if std::str::from_utf8(quoted).is_err() || quoted.iter().any(|b| *b < b' ') {
                    return None;
                }
                out.extend_from_slice(quoted);
                at += length + 2;
                if text.get(at).is_some_and(|b| glues(*b)) {
                    return None;
                }
            }
            b'$' => {
                // A parameter, kept as it is. Anything else after a dollar may open a dollar quote.
                let digits = text
                    .get(at + 1..)?
                    .iter()
                    .take_while(|b| b.is_ascii_digit())
                    .count();
                let end = at + 1 + digits;
                if digits == 0 || text.get(end).is_some_and(|b| glues(*b) || *b == b'.') {
                    return None;
                }
                out.extend_from_slice(text.get(at..end)?);
                at = end;
            }
            b'0'..=b'9' => {
                let digits = text.get(at..)?.iter().take_while(|b| b.is_ascii_digit()).count();
                let mut end = at + digits;
                if text.get(end) == Some(&b'.') {
                    // A decimal stays. `1.` and `1..2` are left to the parser.
                    let fraction = text
                        .get(end + 1..)?
                        .iter()
                        .take_while(|b| b.is_ascii_digit())
                        .count();
                    if fraction == 0 {
                        return None;
                    }
                    end += 1 + fraction;
                    out.extend_from_slice(text.get(at..end)?);
                } else {
                    out.push(DIGITS);
                    literals += 1;
                }
                if text.get(end).is_some_and(|b| glues(*b) || *b == b'.') {
                    return None;
                }
                at = end;
            }
            b'.' if next.is_some_and(|b| b.is_ascii_digit()) => return None,
            b'A'..=b'Z' | b'a'..=b'z' | b'_' => {
                let length = text
                    .get(at..)?
                    .iter()
                    .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_' || **b == b'$')
                    .count();
                let word = text.get(at..at + length)?;
                at += length;
                // `E'…'`, `U&'…'`, `date'…'`, a name that goes on in another alphabet.
                match text.get(at) {
                    Some(b'\'' | b'"' | 0x80..) => return None,
                    Some(b'&') if word.eq_ignore_ascii_case(b"u") => return None,
                    _ => {}
                }
                if word.eq_ignore_ascii_case(b"set_config") {
                    return None;
                }
                out.extend_from_slice(word);
            }
            b' '..=b'~' => {
                out.push(byte);
                at += 1;
            }
            _ => return None,
        }
    }
    Some(ShapeInfo { literals })
}

/// Whether a byte right after a literal, a number, a parameter or a quoted name would be read as part of it, or could be.
fn glues(byte: u8) -> bool {
    starts_identifier(byte) || byte.is_ascii_digit() || matches!(byte, b'\'' | b'"' | b'$' | b'&')
}

fn may_have_shape(text: &[u8]) -> bool {
    let start = text
        .iter()
        .position(|b| !b.is_ascii_whitespace())
        .unwrap_or(text.len());
    let word = text.get(start..).unwrap_or_default();
    let word = word
        .get(..word.iter().take_while(|b| b.is_ascii_alphabetic()).count())
        .unwrap_or_default();
    [
        &b"select"[..],
        b"insert",
        b"update",
        b"delete",
        b"with",
        b"values",
    ]
    .iter()
    .any(|k| word.eq_ignore_ascii_case(k))
        && !names_set_config(text)
}

/// In quotes too: `"set_config"('search_path', …)` is the same call.
fn names_set_config(text: &[u8]) -> bool {
    memchr::memchr2_iter(b's', b'S', text).any(|at| {
        text.get(at..at + 10)
            .is_some_and(|word| word.eq_ignore_ascii_case(b"set_config"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Option<String> {
        let mut out = Vec::new();
        shape(text.as_bytes(), &mut out)?;
        Some(String::from_utf8(out).expect("a shape of ASCII text"))
    }

    #[test]
    fn plain_values_are_taken_out() {
        assert_eq!(
            of("select * from t where id = 42 and name = 'bob'"),
            of("select * from t where id = 7 and name = ''")
        );
        assert_eq!(
            of("select * from t limit 10;").as_deref(),
            Some("select * from t limit \u{1};")
        );
        assert_eq!(
            of("insert into t values (-1, 'é')"),
            of("insert into t values (-22, 'x')")
        );
    }

    #[test]
    fn names_parameters_and_decimals_stay() {
        assert_ne!(of("select * from users_2024"), of("select * from users_2025"));
        assert_ne!(of("select $1"), of("select $2"));
        assert_ne!(of("select 1.5"), of("select 1.6"));
        assert_ne!(of("select \"a1\" from t"), of("select \"a2\" from t"));
        assert_ne!(of("select f(1,2)"), of("select f(1)"));
        assert_ne!(
            of("select * from public.users x"),
            of("select * from hr.secrets x")
        );
    }

    #[test]
    fn doubt_has_no_shape() {
        for text in [
            "select E'a'",
            "select e'a'",
            "select b'0'",
            "select N'a'",
            "select U&'a'",
            "select u&\"a\"",
            "select 'a\\'",
            "select 'a''b'",
            "select 'a'\n'b'",
            "select 'a' 'b'",
            "select 'a'b",
            "select $$a$$",
            "select $a$x$a$",
            "select 1 -- c",
            "select /* c */ 1",
            "select 1; drop table t",
            "select 1; select 2",
            "set x to 'y'",
            "copy t to stdout (delimiter ',')",
            "select set_config('role', 'x', true)",
            "select \"set_config\"('role', 'x', true)",
            "explain select 1",
            "select é",
            "select a\u{e9}",
            "select 1e5",
            "select 0x10",
            "select 1_000",
            "select .5",
            "select 1.",
            "select 1'a'",
            "select $1'a'",
            "select \"a",
            "select 'a",
            "select date'2020-01-01'",
            "select \u{1}",
            "select 'a\0'",
            "prepare p as select 1",
            "",
        ] {
            assert_eq!(of(text), None, "{text}");
        }
        assert_eq!(shape(b"select '\xff'", &mut Vec::new()), None);
    }
}
