//! One linear pass over a text before any grammar sees it. It decides nothing about meaning; it keeps off the parser
//! what could hang or end it.
//!
//! Invariant: for a text that PostgreSQL's scanner accepts, this pass cuts tokens where that scanner cuts them (with
//! `standard_conforming_strings` on), so that what it counts is what the scanner meets. Where the scanner would stop
//! with an error, the two may part.
//! Bounds: time and memory linear in the text; `RESCAN_MAX` extra steps. No recursion.
//!
//! What is long costs the parser no more than its length, so lists are bounded by the text alone: rows of VALUES, terms of
//! AND and OR, branches of CASE, parameters. What is deep grows stacks, and is bounded a little above what PostgreSQL 15 to
//! 18 take themselves: their grammar stops at 10,000 things that are open at once, and an expression like `1+1+…` of more
//! than a few thousand terms is beyond their `max_stack_depth`.
//!
//! Measured reasons: 400 KB of nested comment costs PostgreSQL's scanner 93 CPU-seconds. It is the run of operator
//! characters that does it: the scanner takes the longest run after `/*`, or in an operator, and gives most of it
//! back, again and again. So `/**//**/…` and `++++…` are as bad at nesting 1; [`RESCAN_MAX`] bounds what is given back.

use crate::Unreadable;

/// No configuration can lift the length of a text above this: the analysts' memory is sized for it.
pub const BYTES_ABSOLUTE_MAX: usize = 4 << 20;

/// How many characters the scanner may take and give back, summed over the text.
pub const RESCAN_MAX: usize = 1 << 20;

/// How much a text may be before a parser sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Its length.
    pub bytes_max: usize,
    /// Its words and signs.
    pub tokens_max: usize,
    /// `/* /* */ */` is 2.
    pub comment_depth_max: usize,
    /// Parentheses, brackets and CASE that are open at once.
    pub depth_max: usize,
    /// Tokens of one depth between two things that end an element of a list (a comma, a semicolon, AND, OR, WHEN, THEN,
    /// ELSE): bounds chains such as `1+1+…`, `NOT NOT …`, `… UNION …`.
    pub chain_max: usize,
}

impl Caps {
    /// What holds unless the configuration has less.
    pub const DEFAULT: Caps = Caps {
        bytes_max: 4 << 20,
        tokens_max: 2_000_000,
        comment_depth_max: 8,
        depth_max: 10_000,
        chain_max: 100_000,
    };
}

impl Default for Caps {
    fn default() -> Self {
        Caps::DEFAULT
    }
}

/// What an analyst refuses before it parses.
pub fn precheck(text: &[u8], caps: &Caps) -> Result<(), Unreadable> {
    let bytes_max = caps.bytes_max.min(BYTES_ABSOLUTE_MAX);
    if text.len() > bytes_max {
        return Err(Unreadable::TooLong {
            bytes: text.len(),
            max: bytes_max,
        });
    }
    if std::str::from_utf8(text).is_err() {
        return Err(Unreadable::NotUtf8);
    }
    if memchr::memchr(0, text).is_some() {
        return Err(Unreadable::Unterminated);
    }
    Pass {
        text,
        at: 0,
        caps,
        tokens: 0,
        rescan: 0,
        open: vec![Open::default()],
    }
    .run()
}

struct Pass<'a> {
    text: &'a [u8],
    at: usize,
    caps: &'a Caps,
    tokens: usize,
    rescan: usize,
    /// What is open, and the outside.
    open: Vec<Open>,
}

#[derive(Clone, Copy, Default)]
struct Open {
    /// Tokens of the current element of its list.
    chain: usize,
    /// CASE, not a parenthesis.
    case: bool,
}

impl Pass<'_> {
    fn run(mut self) -> Result<(), Unreadable> {
        while let Some(byte) = self.peek(0) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => self.at += 1,
                b'-' if self.peek(1) == Some(b'-') => self.line_comment(),
                b'/' if self.peek(1) == Some(b'*') => self.block_comment()?,
                b'\'' => self.literal(false)?,
                b'"' => self.quoted_identifier()?,
                b'$' => self.dollar()?,
                b'(' | b'[' => {
                    self.token()?;
                    self.at += 1;
                    self.opens(false)?;
                }
                b')' | b']' => {
                    // A CASE that is open here is a name that looks like one.
                    while self.open.len() > 1 && self.open.pop().is_some_and(|open| open.case) {}
                    self.token()?;
                    self.at += 1;
                }
                b',' | b';' => {
                    self.token()?;
                    self.next_element();
                    self.at += 1;
                }
                b'0'..=b'9' => self.number()?,
                _ if starts_identifier(byte) => self.word()?,
                _ if is_operator(byte) => {
                    self.given_back(self.at)?;
                    self.token()?;
                    self.at += 1;
                }
                _ => {
                    self.token()?;
                    self.at += 1;
                }
            }
        }
        Ok(())
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn token(&mut self) -> Result<(), Unreadable> {
        self.tokens += 1;
        if self.tokens > self.caps.tokens_max {
            return Err(Unreadable::TooManyTokens {
                max: self.caps.tokens_max,
            });
        }
        if let Some(open) = self.open.last_mut() {
            open.chain += 1;
            if open.chain > self.caps.chain_max {
                return Err(Unreadable::TooDeep {
                    max: self.caps.chain_max,
                });
            }
        }
        Ok(())
    }

    fn opens(&mut self, case: bool) -> Result<(), Unreadable> {
        if self.open.len() > self.caps.depth_max {
            return Err(Unreadable::TooDeep {
                max: self.caps.depth_max,
            });
        }
        self.open.push(Open { chain: 0, case });
        Ok(())
    }

    fn next_element(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.chain = 0;
        }
    }

    /// Counts the run of operator characters from `from`, which the scanner takes whole before it decides.
    fn given_back(&mut self, from: usize) -> Result<(), Unreadable> {
        let rest = self.text.get(from..).unwrap_or_default();
        self.rescan += rest.iter().take_while(|b| is_operator(**b)).count();
        if self.rescan > RESCAN_MAX {
            return Err(Unreadable::TooManyTokens { max: RESCAN_MAX });
        }
        Ok(())
    }

    fn line_comment(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        self.at += memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
    }

    fn block_comment(&mut self) -> Result<(), Unreadable> {
        let mut depth = 0usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => {
                    depth += 1;
                    if depth > self.caps.comment_depth_max {
                        return Err(Unreadable::TooDeep {
                            max: self.caps.comment_depth_max,
                        });
                    }
                    self.at += 2;
                    self.given_back(self.at)?;
                }
                (Some(b'*'), Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return Ok(());
                    }
                }
                (Some(_), _) => self.at += 1,
                (None, _) => return Err(Unreadable::Unterminated),
            }
        }
    }

    /// A literal from its opening quote to its end, with the pieces that continue it on later lines. In an escape string
    /// a backslash takes the next byte along, in the continued pieces too.
    fn literal(&mut self, escapes: bool) -> Result<(), Unreadable> {
        self.token()?;
        loop {
            self.at += 1;
            loop {
                match self.peek(0) {
                    None => return Err(Unreadable::Unterminated),
                    Some(b'\\') if escapes => self.at += 2,
                    Some(b'\'') if self.peek(1) == Some(b'\'') => self.at += 2,
                    Some(b'\'') => break,
                    Some(_) => self.at += 1,
                }
            }
            self.at += 1;
            match self.continued() {
                Some(quote) => self.at = quote,
                None => return Ok(()),
            }
        }
    }

    /// Where a literal that just ended goes on: a quote after whitespace (with `--` comments) that has a line break.
    fn continued(&self) -> Option<usize> {
        let mut at = self.at;
        let mut line_break = false;
        loop {
            match self.text.get(at)? {
                b'\n' | b'\r' => {
                    line_break = true;
                    at += 1;
                }
                b' ' | b'\t' | 0x0b | 0x0c => at += 1,
                b'-' if self.text.get(at + 1) == Some(&b'-') => {
                    let rest = self.text.get(at..)?;
                    at += memchr::memchr2(b'\n', b'\r', rest)?;
                }
                b'\'' if line_break => return Some(at),
                _ => return None,
            }
        }
    }

    fn quoted_identifier(&mut self) -> Result<(), Unreadable> {
        self.token()?;
        self.at += 1;
        loop {
            match self.peek(0) {
                None => return Err(Unreadable::Unterminated),
                Some(b'"') if self.peek(1) == Some(b'"') => self.at += 2,
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(_) => self.at += 1,
            }
        }
    }

    /// `$1`, `$tag$ … $tag$`, or a lone `$` (which the grammar refuses).
    fn dollar(&mut self) -> Result<(), Unreadable> {
        self.token()?;
        let rest = self.text.get(self.at..).unwrap_or_default();
        let tag = rest
            .iter()
            .skip(1)
            .take_while(|b| starts_identifier(**b) || b.is_ascii_digit())
            .count();
        let tagged = rest.get(1).is_some_and(|b| !b.is_ascii_digit()) && rest.get(tag + 1) == Some(&b'$');
        if !tagged {
            self.at += 1;
            while self.peek(0).is_some_and(|b| b.is_ascii_digit()) {
                self.at += 1;
            }
            return Ok(());
        }
        let (delimiter, body) = rest.split_at(tag + 2);
        match memchr::memmem::find(body, delimiter) {
            Some(end) => {
                self.at += 2 * delimiter.len() + end;
                Ok(())
            }
            None => Err(Unreadable::Unterminated),
        }
    }

    fn number(&mut self) -> Result<(), Unreadable> {
        self.token()?;
        while self.peek(0).is_some_and(|b| b.is_ascii_digit() || b == b'_') {
            self.at += 1;
        }
        Ok(())
    }

    fn word(&mut self) -> Result<(), Unreadable> {
        match (self.peek(0), self.peek(1), self.peek(2)) {
            (Some(b'e' | b'E'), Some(b'\''), _) => {
                self.at += 1;
                return self.literal(true);
            }
            (Some(b'b' | b'B' | b'x' | b'X' | b'n' | b'N'), Some(b'\''), _) => {
                self.at += 1;
                return self.literal(false);
            }
            (Some(b'u' | b'U'), Some(b'&'), Some(b'\'')) => {
                self.at += 2;
                return self.literal(false);
            }
            (Some(b'u' | b'U'), Some(b'&'), Some(b'"')) => {
                self.at += 2;
                return self.quoted_identifier();
            }
            _ => {}
        }
        self.token()?;
        let start = self.at;
        while self
            .peek(0)
            .is_some_and(|b| starts_identifier(b) || b.is_ascii_digit() || b == b'$')
        {
            self.at += 1;
        }
        let word = self.text.get(start..self.at).unwrap_or_default();
        let is = |keyword: &[u8]| word.eq_ignore_ascii_case(keyword);
        match word.len() {
            2 if is(b"or") => self.next_element(),
            3 if is(b"and") => self.next_element(),
            3 if is(b"end") && self.open.last().is_some_and(|open| open.case) => {
                self.open.pop();
            }
            4 if is(b"when") || is(b"then") || is(b"else") => self.next_element(),
            4 if is(b"case") => self.opens(true)?,
            _ => {}
        }
        Ok(())
    }
}

pub(crate) fn starts_identifier(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

pub(crate) fn is_operator(byte: u8) -> bool {
    matches!(
        byte,
        b'~' | b'!'
            | b'@'
            | b'#'
            | b'^'
            | b'&'
            | b'|'
            | b'`'
            | b'?'
            | b'+'
            | b'-'
            | b'*'
            | b'/'
            | b'%'
            | b'<'
            | b'>'
            | b'='
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> Result<(), Unreadable> {
        precheck(text.as_bytes(), &Caps::DEFAULT)
    }

    #[test]
    fn ordinary_statements_pass() {
        for text in [
            "",
            ";",
            "select 1",
            "select 'it''s', E'it\\'s', U&'d\\0061t', $$ ' /* $$, $a$ $$ $a$, \"a\"\"b\", b'01', x'1F', n'x'",
            "select /* a /* b */ */ 1 -- tail",
            "select a[1], (b).c from t where x = $1 and y->>'k' = $2",
            "select 'a'\n'b'",
            "select E'a'\n -- '\n'\\''",
            "select a$b$c from t",
            "select 1 as \u{e9}t\u{e9}",
            "/*********************** banner ***********************/ select 1",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_never_ends_is_refused() {
        for text in [
            "select 'a",
            "select E'a\\'",
            "select \"a",
            "/* a",
            "/* /* */",
            "select $a$ $b$",
            "select U&'",
            "select 'a'\n'",
        ] {
            assert_eq!(check(text), Err(Unreadable::Unterminated), "{text}");
        }
        assert_eq!(check("select 1\0"), Err(Unreadable::Unterminated));
        assert_eq!(
            precheck(b"select '\xff'", &Caps::DEFAULT),
            Err(Unreadable::NotUtf8)
        );
    }

    #[test]
    fn a_comment_bomb_is_refused_nested_or_in_a_row() {
        let nested = format!("{}{}select 1", "/*".repeat(9), "*/".repeat(9));
        assert_eq!(check(&nested), Err(Unreadable::TooDeep { max: 8 }));
        let eight = format!("{}{}select 1", "/*".repeat(8), "*/".repeat(8));
        assert_eq!(check(&eight), Ok(()));
        let row = format!("{}select 1", "/**/".repeat(50_000));
        assert!(check(&row).is_err());
        let spaced = format!("{}select 1", "/**/ ".repeat(50_000));
        assert_eq!(check(&spaced), Ok(()));
    }

    #[test]
    fn a_run_of_operator_characters_is_refused() {
        assert!(check(&format!("select {}1", "+".repeat(5_000))).is_err());
    }

    #[test]
    fn depth_tokens_bytes_and_chains_are_capped() {
        let depth = |max| Err(Unreadable::TooDeep { max });
        assert_eq!(
            check(&format!("select {}1{}", "(".repeat(10_000), ")".repeat(10_000))),
            Ok(())
        );
        assert_eq!(check(&format!("select {}", "(".repeat(10_001))), depth(10_000));
        assert_eq!(
            check(&format!(
                "select {}1{}",
                "case when 1 then ".repeat(10_000),
                " end".repeat(10_000)
            )),
            Ok(())
        );
        assert_eq!(
            check(&format!("select {}", "case when 1 then ".repeat(10_001))),
            depth(10_000)
        );
        assert_eq!(check(&format!("select 1{}", "+1".repeat(49_990))), Ok(()));
        assert_eq!(check(&format!("select 1{}", "+1".repeat(50_000))), depth(100_000));
        assert!(matches!(
            check(&"a,".repeat(1_000_001)),
            Err(Unreadable::TooManyTokens { .. })
        ));
        assert!(matches!(
            check(&" ".repeat((4 << 20) + 1)),
            Err(Unreadable::TooLong { .. })
        ));
        let wide = Caps {
            bytes_max: usize::MAX,
            ..Caps::DEFAULT
        };
        assert!(matches!(
            precheck(&vec![b' '; BYTES_ABSOLUTE_MAX + 1], &wide),
            Err(Unreadable::TooLong {
                max: BYTES_ABSOLUTE_MAX,
                ..
            })
        ));
    }

    #[test]
    fn lists_are_as_long_as_the_text_may_be() {
        for text in [
            format!("values (1){}", ", (1)".repeat(300_000)),
            format!("select 1 where {}", vec!["a = 1"; 300_000].join(" or ")),
            format!("select 1 where {}", vec!["a = 1"; 300_000].join(" AND ")),
            format!("select case {} end", "when a = 1 then 2 ".repeat(200_000)),
            format!(
                "select case {} end",
                "when a = 1 then case when 2 then 3 end ".repeat(90_000)
            ),
            format!("select a where b in ({})", vec!["$1"; 900_000].join(",")),
            format!(
                "insert into t values {}",
                vec!["(1, 'abc', null, 2.5)"; 150_000].join(",")
            ),
        ] {
            assert_eq!(check(&text), Ok(()), "{} bytes: {}", text.len(), &text[..40]);
        }
    }

    #[test]
    fn a_name_that_looks_like_case_does_no_harm() {
        let columns = vec!["(t.case, 1)"; 20_000].join(",");
        assert_eq!(check(&format!("values {columns}")), Ok(()));
        assert_eq!(check("select t.end, t.case from t where (a.case) end"), Ok(()));
    }

    #[test]
    fn every_cut_of_a_text_ends() {
        let text = "select 'it''s', E'a\\'b'\n'c', U&\"x\", $t$ $ $t$, /* a /* b */ */ a->>'k' -- c\n from \"t\" where $1 = 1.5e3";
        for end in 0..text.len() {
            let _ = precheck(&text.as_bytes()[..end], &Caps::DEFAULT);
        }
    }
}
