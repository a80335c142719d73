//! The little SQL that the simulated server understands: enough for every way in which a statement can begin, go on, fail
//! and end. A real PostgreSQL understands the same texts in the same way, which `real.rs` tries.
//!
//! A comment `/*!stage*/` tells the simulated server alone to fail there; for a real one it is a comment.

/// An identifier is cut at this many bytes, at the border of a character.
pub const NAME_BYTES_MAX: usize = 63;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rows {
    Constant(String),
    /// `select n from generate_series(1, to) n`.
    Series {
        to: u64,
    },
    /// `select 10/(n-at) from generate_series(1, to) n`: fails at row `at`.
    Divide {
        at: u64,
        to: u64,
    },
    /// `select $1::int`.
    Parameter,
    /// `select email from customers`, `select id, email from customers`.
    Customers {
        id: bool,
    },
    /// `select email || '' from customers`: a value whose column no description tells.
    Derived,
    /// `select pg_sleep(…)`: a moment in which a cancel can come.
    Sleep,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Table {
    /// `log(n int)`: what was committed is there at the end.
    Log,
    /// `late(n int unique deferrable initially deferred)`: equal values fail at commit.
    Late,
    /// `t(i int)`.
    T,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Number {
    Is(i64),
    Parameter,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Count {
    All,
    Rows(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sql {
    Select(Rows),
    Insert {
        table: Table,
        values: Vec<Number>,
        returning: bool,
    },
    /// Of no row: the server's log says that it ran.
    Update,
    Delete,
    Begin,
    Commit,
    Rollback,
    Savepoint(Vec<u8>),
    RollbackTo(Vec<u8>),
    Release(Vec<u8>),
    /// A setting that means nothing to anybody.
    Set,
    Reset,
    CopyIn(Table),
    CopyOut(Rows),
    Prepare {
        name: Vec<u8>,
        statement: Box<Sql>,
        text: Vec<u8>,
    },
    Execute {
        name: Vec<u8>,
        arguments: Vec<i64>,
    },
    Deallocate(Option<Vec<u8>>),
    Declare {
        name: Vec<u8>,
        hold: bool,
        rows: Rows,
    },
    Fetch {
        name: Vec<u8>,
        count: Count,
    },
    Close(Option<Vec<u8>>),
    DiscardAll,
    /// Turns off `standard_conforming_strings` by way of a view over `pg_settings`.
    SettingByView,
    /// Parses, and is about what is not there.
    Missing(&'static str),
}

/// Where a statement was told to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Parse,
    Bind,
    Describe,
    Execute,
    Commit,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    pub sql: Sql,
    pub fails: Option<Stage>,
    /// Says something of its own while it runs.
    pub notice: bool,
    pub status: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    pub statements: Vec<Statement>,
    /// How many identifiers were cut.
    pub cut: usize,
}

/// What a rule may think of a statement, by its first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Update,
    Delete,
    Other,
}

impl Statement {
    /// The worst of what it does, and of what it carries.
    pub fn kind(&self) -> Kind {
        self.sql.kind()
    }
}

impl Sql {
    pub fn kind(&self) -> Kind {
        match self {
            Sql::Update | Sql::SettingByView => Kind::Update,
            Sql::Delete => Kind::Delete,
            Sql::Prepare { statement, .. } => statement.kind(),
            _ => Kind::Other,
        }
    }

    /// COMMIT, ROLLBACK and ROLLBACK TO are all that a failed transaction takes.
    pub fn ends_transaction(&self) -> bool {
        matches!(self, Sql::Commit | Sql::Rollback | Sql::RollbackTo(_))
    }

    pub fn is_transaction(&self) -> bool {
        matches!(
            self,
            Sql::Begin
                | Sql::Commit
                | Sql::Rollback
                | Sql::Savepoint(_)
                | Sql::RollbackTo(_)
                | Sql::Release(_)
        )
    }

    pub fn parameters(&self) -> usize {
        match self {
            Sql::Select(Rows::Parameter) => 1,
            Sql::Insert { values, .. } => values.iter().filter(|v| **v == Number::Parameter).count().min(1),
            _ => 0,
        }
    }
}

/// Cut as the server cuts identifiers: by bytes, at the border of a character.
pub fn cut_identifier(name: &[u8]) -> &[u8] {
    let Some(mut end) = (name.len() > NAME_BYTES_MAX).then_some(NAME_BYTES_MAX) else {
        return name;
    };
    while end > 0 && name.get(end).is_some_and(|b| b & 0xc0 == 0x80) {
        end -= 1;
    }
    name.get(..end).unwrap_or(name)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(Vec<u8>),
    Quoted(Vec<u8>),
    Number(i64),
    Text,
    Sign(u8),
}

struct Lexed {
    tokens: Vec<(Token, usize, usize)>,
    cut: usize,
    marks: Vec<(usize, String)>,
}

/// `None` is a syntax error.
fn lex(text: &[u8]) -> Option<Lexed> {
    let mut lexed = Lexed {
        tokens: Vec::new(),
        cut: 0,
        marks: Vec::new(),
    };
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let start = at;
        let rest = text.get(at..)?;
        match byte {
            b' ' | b'\n' | b'\t' => at += 1,
            b'-' if rest.starts_with(b"--") => {
                at = memchr::memchr(b'\n', rest).map_or(text.len(), |n| at + n)
            }
            b'/' if rest.starts_with(b"/*") => {
                let end = memchr::memmem::find(rest, b"*/")?;
                let inner = rest.get(2..end)?;
                if let Some(mark) = inner.strip_prefix(b"!") {
                    lexed
                        .marks
                        .push((start, String::from_utf8_lossy(mark).into_owned()));
                }
                at += end + 2;
            }
            b'\'' => {
                at += 2 + memchr::memchr(b'\'', rest.get(1..)?)?;
                lexed.tokens.push((Token::Text, start, at));
            }
            b'"' => {
                let end = memchr::memchr(b'"', rest.get(1..)?)?;
                let name = rest.get(1..=end)?;
                if name.is_empty() {
                    return None;
                }
                let short = cut_identifier(name);
                lexed.cut += usize::from(short.len() < name.len());
                at += 2 + end;
                lexed.tokens.push((Token::Quoted(short.to_vec()), start, at));
            }
            b'0'..=b'9' => {
                while text.get(at).is_some_and(u8::is_ascii_digit) {
                    at += 1;
                }
                let digits = std::str::from_utf8(text.get(start..at)?).ok()?;
                lexed
                    .tokens
                    .push((Token::Number(digits.parse().ok()?), start, at));
            }
            b if b.is_ascii_alphabetic() || b == b'_' || b >= 0x80 => {
                while text
                    .get(at)
                    .is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80)
                {
                    at += 1;
                }
                let name = text.get(start..at)?.to_ascii_lowercase();
                let short = cut_identifier(&name);
                lexed.cut += usize::from(short.len() < name.len());
                lexed.tokens.push((Token::Word(short.to_vec()), start, at));
            }
            other => {
                at += 1;
                lexed.tokens.push((Token::Sign(other), start, at));
            }
        }
    }
    Some(lexed)
}

/// Reads a text. `Err` is a syntax error, with the number of identifiers that were cut before it was found.
#[expect(
    clippy::result_unit_err,
    reason = "a server says of a syntax error that it is one"
)]
pub fn parse(text: &[u8]) -> Result<Parsed, ()> {
    let lexed = lex(text).ok_or(())?;
    let mut parsed = Parsed {
        statements: Vec::new(),
        cut: lexed.cut,
    };
    let end = lexed.tokens.len();
    let mut from = 0;
    while from < end {
        let to = (from..end)
            .find(|n| lexed.tokens[*n].0 == Token::Sign(b';'))
            .unwrap_or(end);
        if from < to {
            let tokens = &lexed.tokens[from..to];
            let mut reader = Reader { text, tokens, at: 0 };
            let sql = reader.statement().ok_or(())?;
            if reader.at < tokens.len() {
                return Err(());
            }
            let begins = if from == 0 { 0 } else { lexed.tokens[from - 1].1 };
            let ends = lexed.tokens.get(to).map_or(text.len(), |t| t.1);
            let mut statement = Statement {
                sql,
                fails: None,
                notice: false,
                status: false,
            };
            for (_, mark) in lexed.marks.iter().filter(|(at, _)| (begins..ends).contains(at)) {
                match mark.as_str() {
                    "parse" => statement.fails = Some(Stage::Parse),
                    "bind" => statement.fails = Some(Stage::Bind),
                    "describe" => statement.fails = Some(Stage::Describe),
                    "execute" => statement.fails = Some(Stage::Execute),
                    "commit" => statement.fails = Some(Stage::Commit),
                    "notice" => statement.notice = true,
                    "status" => statement.status = true,
                    _ => {}
                }
            }
            parsed.statements.push(statement);
        }
        from = to + 1;
    }
    Ok(parsed)
}

struct Reader<'t> {
    text: &'t [u8],
    tokens: &'t [(Token, usize, usize)],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|t| &t.0)
    }

    fn word(&mut self, word: &str) -> bool {
        let is = matches!(self.peek(), Some(Token::Word(w)) if w == word.as_bytes());
        self.at += usize::from(is);
        is
    }

    /// All of these, or none is taken.
    fn words(&mut self, words: &str) -> bool {
        let start = self.at;
        for word in words.split(' ') {
            let taken = match word.as_bytes() {
                [sign] if !sign.is_ascii_alphabetic() => self.sign(*sign),
                _ => self.word(word),
            };
            if !taken {
                self.at = start;
                return false;
            }
        }
        true
    }

    fn sign(&mut self, sign: u8) -> bool {
        let is = self.peek() == Some(&Token::Sign(sign));
        self.at += usize::from(is);
        is
    }

    fn number(&mut self) -> Option<i64> {
        let negative = self.sign(b'-');
        let Some(Token::Number(n)) = self.peek() else {
            return None;
        };
        let n = *n;
        self.at += 1;
        Some(if negative { -n } else { n })
    }

    fn name(&mut self) -> Option<Vec<u8>> {
        let name = match self.peek()? {
            Token::Word(name) | Token::Quoted(name) => name.clone(),
            _ => return None,
        };
        self.at += 1;
        Some(name)
    }

    fn table(&mut self) -> Option<Table> {
        let name = self.name()?;
        Some(match name.as_slice() {
            b"log" => Table::Log,
            b"late" => Table::Late,
            b"t" => Table::T,
            _ => return None,
        })
    }

    fn rows(&mut self) -> Option<Rows> {
        if !self.word("select") {
            return None;
        }
        if self.words("n from generate_series (") {
            return self.series().map(|to| Rows::Series { to });
        }
        if self.words("id , email from customers") {
            return Some(Rows::Customers { id: true });
        }
        if self.words("email | |") {
            self.at += 1;
            return self.words("from customers").then_some(Rows::Derived);
        }
        if self.words("email from customers") {
            return Some(Rows::Customers { id: false });
        }
        if self.words("pg_sleep (") {
            self.number()?;
            if self.sign(b'.') {
                self.number()?;
            }
            return self.sign(b')').then_some(Rows::Sleep);
        }
        if self.sign(b'$') {
            self.number()?;
            return self.words(": : int").then_some(Rows::Parameter);
        }
        let n = self.number()?;
        if n == 10 && self.words("/ ( n -") {
            let at = u64::try_from(self.number()?).ok()?;
            return self
                .words(") from generate_series (")
                .then(|| self.series())
                .flatten()
                .map(|to| Rows::Divide { at, to });
        }
        Some(Rows::Constant(n.to_string()))
    }

    /// `1, 5) n`, behind the bracket.
    fn series(&mut self) -> Option<u64> {
        self.number()?;
        self.sign(b',').then_some(())?;
        let to = u64::try_from(self.number()?).ok()?;
        self.words(") n").then_some(to)
    }

    fn statement(&mut self) -> Option<Sql> {
        if self.words("select no_such_column") {
            return Some(Sql::Missing("42703"));
        }
        if self.words("select n from no_such_table") {
            return Some(Sql::Missing("42P01"));
        }
        if matches!(self.peek(), Some(Token::Word(w)) if w == b"select") {
            return self.rows().map(Sql::Select);
        }
        if self.words("insert into") {
            let table = self.table()?;
            self.word("values").then_some(())?;
            let mut values = Vec::new();
            loop {
                self.sign(b'(').then_some(())?;
                if self.sign(b'$') {
                    self.number()?;
                    values.push(Number::Parameter);
                } else {
                    values.push(Number::Is(self.number()?));
                }
                self.sign(b')').then_some(())?;
                if !self.sign(b',') {
                    break;
                }
            }
            let returning = self.words("returning n");
            return Some(Sql::Insert {
                table,
                values,
                returning,
            });
        }
        if self.words("update log set n = n where n =") {
            self.number()?;
            return Some(Sql::Update);
        }
        if self.words("update settings set setting =") {
            self.at += 1;
            self.words("where name =").then_some(())?;
            self.at += 1;
            return Some(Sql::SettingByView);
        }
        if self.words("delete from log where n =") {
            self.number()?;
            return Some(Sql::Delete);
        }
        if self.word("begin") {
            return Some(Sql::Begin);
        }
        if self.word("commit") {
            return Some(Sql::Commit);
        }
        if self.words("rollback to") {
            return self.name().map(Sql::RollbackTo);
        }
        if self.word("rollback") {
            return Some(Sql::Rollback);
        }
        if self.word("savepoint") {
            return self.name().map(Sql::Savepoint);
        }
        if self.word("release") {
            return self.name().map(Sql::Release);
        }
        if self.words("set application_name =") {
            self.at += 1;
            return Some(Sql::Set);
        }
        if self.words("reset application_name") {
            return Some(Sql::Reset);
        }
        if self.words("copy (") {
            let rows = self.rows()?;
            return self.words(") to stdout").then_some(Sql::CopyOut(rows));
        }
        if self.word("copy") {
            let table = self.table()?;
            return self.words("from stdin").then_some(Sql::CopyIn(table));
        }
        if self.word("prepare") {
            let name = self.name()?;
            self.word("as").then_some(())?;
            let start = self.tokens.get(self.at)?.1;
            let statement = self.statement()?;
            if !matches!(
                statement,
                Sql::Select(_)
                    | Sql::Insert { .. }
                    | Sql::Update
                    | Sql::SettingByView
                    | Sql::Delete
                    | Sql::Missing(_)
            ) {
                return None;
            }
            let end = self.tokens.get(self.at.checked_sub(1)?)?.2;
            let text = self.text.get(start..end)?.to_vec();
            return Some(Sql::Prepare {
                name,
                statement: Box::new(statement),
                text,
            });
        }
        if self.word("execute") {
            let name = self.name()?;
            let mut arguments = Vec::new();
            if self.sign(b'(') {
                arguments.push(self.number()?);
                self.sign(b')').then_some(())?;
            }
            return Some(Sql::Execute { name, arguments });
        }
        if self.word("deallocate") {
            if self.word("all") {
                return Some(Sql::Deallocate(None));
            }
            return self.name().map(|name| Sql::Deallocate(Some(name)));
        }
        if self.word("declare") {
            let name = self.name()?;
            self.word("cursor").then_some(())?;
            let hold = self.words("with hold");
            self.word("for").then_some(())?;
            let rows = self.rows()?;
            return Some(Sql::Declare { name, hold, rows });
        }
        if self.word("fetch") {
            let count = if self.words("all from") {
                Count::All
            } else {
                let n = u64::try_from(self.number()?).ok()?;
                self.word("from").then_some(())?;
                Count::Rows(n)
            };
            return self.name().map(|name| Sql::Fetch { name, count });
        }
        if self.word("close") {
            if self.word("all") {
                return Some(Sql::Close(None));
            }
            return self.name().map(|name| Sql::Close(Some(name)));
        }
        self.words("discard all").then_some(Sql::DiscardAll)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_the_little_language_are_read() {
        let one = |text: &str| {
            parse(text.as_bytes()).map(|p| p.statements.into_iter().map(|s| s.sql).collect::<Vec<_>>())
        };
        assert_eq!(
            one("select 17 /* #3 */"),
            Ok(vec![Sql::Select(Rows::Constant("17".to_owned()))])
        );
        assert_eq!(one(";; -- nothing"), Ok(vec![]));
        assert_eq!(one("selec 1"), Err(()));
        assert_eq!(
            one("select 10/(n-3) from generate_series(1,5) n"),
            Ok(vec![Sql::Select(Rows::Divide { at: 3, to: 5 })])
        );
        assert_eq!(
            one("select n from generate_series(1, 5) n; commit"),
            Ok(vec![Sql::Select(Rows::Series { to: 5 }), Sql::Commit])
        );
        assert_eq!(one("select $1::int"), Ok(vec![Sql::Select(Rows::Parameter)]));
        let prepare = one("prepare \"a b\" as update log set n = n where n = 4; select 1").unwrap();
        assert!(
            matches!(&prepare[0], Sql::Prepare { name, text, .. } if name == b"a b" && text.starts_with(b"update") && text.ends_with(b"4"))
        );
        assert!(matches!(
            one("update settings set setting = 'off' where name = 'x'").unwrap()[..],
            [Sql::SettingByView]
        ));
    }

    #[test]
    fn an_identifier_is_cut_at_the_border_of_a_character() {
        let long = "é".repeat(32);
        assert_eq!(cut_identifier(long.as_bytes()), "é".repeat(31).as_bytes());
        assert_eq!(cut_identifier(&[b'a'; 64]), &[b'a'; 63]);
        assert_eq!(cut_identifier(&[b'a'; 63]), &[b'a'; 63]);
    }
}
