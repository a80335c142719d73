//! What the sessions of a crew send, made once.
//!
//! A crew is some sessions that do the same. A statement of fixed parameters is a row of bytes; one whose parameters change is
//! put together each time it is sent.

use crate::error::LoadFailed;
use crate::wire;

/// About 60 bytes of SQL; the columns are those of the synthetic target's point read.
pub const POINT_SQL: &str = "SELECT id, name, email, note FROM customers WHERE id = ";
pub const POINT_ID: &str = "4711";

/// How a statement goes over the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// One Query message a statement.
    Simple,
    /// Parse, Bind, Describe, Execute, Sync a statement.
    Extended,
    /// Parse once; Bind, Execute, Sync a statement.
    #[default]
    Prepared,
}

/// A parameter of a statement, as text.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    Fixed(String),
    /// Any number from the first to the second.
    Int(i64, i64),
    /// One after the other, over all sessions of the crew.
    Sequence,
    OneOf(Vec<String>),
    /// So many letters.
    Letters(usize),
}

/// A statement as it is written in a scenario.
#[derive(Clone, Debug)]
pub struct Work {
    pub kind: String,
    pub sql: String,
    pub parameters: Vec<Parameter>,
    pub protocol: Protocol,
    pub weight: u32,
    /// An answer without a row is a mistake.
    pub wants_rows: bool,
    /// The engine holds it: its number is put behind the SQL, and its way is followed.
    pub held: bool,
}

impl Work {
    pub fn new(kind: &str, sql: &str, protocol: Protocol) -> Work {
        Work {
            kind: kind.to_owned(),
            sql: sql.to_owned(),
            parameters: Vec::new(),
            protocol,
            weight: 1,
            wants_rows: true,
            held: false,
        }
    }

    /// The synthetic target's point read.
    pub fn point(protocol: Protocol) -> Work {
        match protocol {
            Protocol::Simple => Work::new("point", &format!("{POINT_SQL}{POINT_ID}"), protocol),
            _ => Work {
                parameters: vec![Parameter::Fixed(POINT_ID.to_owned())],
                ..Work::new("point", &format!("{POINT_SQL}$1"), protocol)
            },
        }
    }

    /// A change of one row; the synthetic target says that it was made.
    pub fn write(protocol: Protocol) -> Work {
        let parameters = vec![Parameter::Letters(40), Parameter::Int(1, 100_000)];
        Work {
            parameters,
            wants_rows: false,
            ..Work::new("write", "UPDATE customers SET note = $1 WHERE id = $2", protocol)
        }
    }

    /// What a rule of the engine holds, and the robot reviewer approves.
    pub fn held(sql: &str) -> Work {
        Work {
            wants_rows: false,
            held: true,
            ..Work::new("held", sql, Protocol::Simple)
        }
    }

    /// The synthetic target's large result.
    pub fn bulk(rows: u32) -> Work {
        Work::new(
            "bulk",
            &format!("SELECT a, b, c, d, e, f, g, h, i, j FROM bulk LIMIT {rows}"),
            Protocol::Simple,
        )
    }
}

#[derive(Clone, Debug)]
pub struct Login {
    pub user: String,
    pub database: String,
    /// Used in turn, one a session; a session that signs in again takes the next.
    pub passwords: Vec<String>,
}

impl Login {
    pub fn new(user: &str, database: &str, password: &str) -> Login {
        Login {
            user: user.to_owned(),
            database: database.to_owned(),
            passwords: vec![password.to_owned()],
        }
    }
}

/// Enough randomness for parameters and arrivals; no secret comes from it.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        // Neighbouring seeds shall not give neighbouring streams.
        Dice((seed.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 {
            0
        } else {
            ((u128::from(self.roll()) * u128::from(bound)) >> 64) as u64
        }
    }

    /// From 0 to 1, never 0.
    pub fn share(&mut self) -> f64 {
        ((self.roll() >> 11) as f64 + 1.0) / (1u64 << 53) as f64
    }
}

enum Bytes {
    Fixed(Vec<u8>),
    /// A simple query with its number behind it.
    Numbered(String),
    Made {
        name: Vec<u8>,
        sql: Option<Vec<u8>>,
        parameters: Vec<Parameter>,
    },
}

pub struct Statement {
    /// Its place in the ledger.
    pub kind: usize,
    pub wants_rows: bool,
    pub held: bool,
    bytes: Bytes,
}

impl Statement {
    pub fn write(&self, out: &mut Vec<u8>, dice: &mut Dice, sequence: &mut u64) {
        match &self.bytes {
            Bytes::Fixed(bytes) => out.extend_from_slice(bytes),
            Bytes::Numbered(sql) => {
                *sequence += 1;
                wire::message(out, b'Q', |b| {
                    wire::text(b, format!("{sql}{sequence}").as_bytes())
                });
            }
            Bytes::Made {
                name,
                sql,
                parameters,
            } => {
                if let Some(sql) = sql {
                    parse(out, name, sql);
                }
                bind(out, name, parameters, dice, sequence);
                if sql.is_some() {
                    describe(out);
                }
                execute(out);
            }
        }
    }

    fn len(&self) -> usize {
        match &self.bytes {
            Bytes::Fixed(bytes) => bytes.len(),
            Bytes::Numbered(_) | Bytes::Made { .. } => {
                let mut out = Vec::new();
                self.write(&mut out, &mut Dice::new(0), &mut 0);
                out.len()
            }
        }
    }
}

fn parse(out: &mut Vec<u8>, name: &[u8], sql: &[u8]) {
    wire::message(out, b'P', |b| {
        wire::text(b, name);
        wire::text(b, sql);
        b.extend_from_slice(&0u16.to_be_bytes());
    });
}

fn bind(out: &mut Vec<u8>, name: &[u8], parameters: &[Parameter], dice: &mut Dice, sequence: &mut u64) {
    wire::message(out, b'B', |b| {
        wire::text(b, b"");
        wire::text(b, name);
        b.extend_from_slice(&0u16.to_be_bytes());
        b.extend_from_slice(&u16::try_from(parameters.len()).unwrap_or(u16::MAX).to_be_bytes());
        for parameter in parameters {
            match parameter {
                Parameter::Fixed(text) => wire::value(b, text.as_bytes()),
                Parameter::Int(from, to) => {
                    let span = to.abs_diff(*from).saturating_add(1);
                    let value = i128::from(*from) + i128::from(dice.below(span));
                    wire::value(b, value.to_string().as_bytes());
                }
                Parameter::Sequence => {
                    *sequence += 1;
                    wire::value(b, sequence.to_string().as_bytes());
                }
                Parameter::OneOf(texts) => {
                    let at = usize::try_from(dice.below(texts.len() as u64)).unwrap_or(0);
                    wire::value(b, texts.get(at).map_or(&[][..], |t| t.as_bytes()));
                }
                Parameter::Letters(count) => {
                    let text: Vec<u8> = (0..*count)
                        .map(|_| b'a' + u8::try_from(dice.below(26)).unwrap_or(0))
                        .collect();
                    wire::value(b, &text);
                }
            }
        }
        b.extend_from_slice(&0u16.to_be_bytes());
    });
}

fn describe(out: &mut Vec<u8>) {
    wire::message(out, b'D', |b| b.extend_from_slice(b"P\0"));
}

fn execute(out: &mut Vec<u8>) {
    wire::message(out, b'E', |b| {
        wire::text(b, b"");
        b.extend_from_slice(&0u32.to_be_bytes());
    });
    wire::message(out, b'S', |_| {});
}

/// Of a crew's sessions.
pub struct Script {
    pub crew: usize,
    startup: Vec<u8>,
    pub login: Login,
    /// Sent once a session, before the first statement; ends with Sync. Empty: nothing to prepare.
    pub prepare: Vec<u8>,
    work: Vec<Statement>,
    /// Sums of the weights up to each statement.
    weights: Vec<u64>,
    /// Statements on their way in one session.
    pub depth: usize,
    /// Statements start when their time has come, not when the session is free.
    pub open_loop: bool,
    /// Sign in, ask what there is to ask once, and leave: the login's own place in the ledger.
    pub logins: Option<usize>,
    pub read_bytes_per_s: Option<u64>,
    /// Its sessions are there to be ended by the robot reviewer: each has a name of its own, and an end is no error.
    pub victims: bool,
}

fn startup(login: &Login, application: &str) -> Vec<u8> {
    let mut startup = Vec::new();
    wire::untagged(&mut startup, |b| {
        b.extend_from_slice(&wire::PROTOCOL_3_0.to_be_bytes());
        for (name, value) in [
            ("user", login.user.as_str()),
            ("database", &login.database),
            ("application_name", application),
            ("client_encoding", "UTF8"),
        ] {
            wire::text(b, name.as_bytes());
            wire::text(b, value.as_bytes());
        }
        b.push(0);
    });
    startup
}

impl Script {
    /// `first_kind`: the ledger's place of the first statement; the others follow it.
    pub fn new(
        crew: usize,
        first_kind: usize,
        login: Login,
        work: &[Work],
        depth: usize,
    ) -> Result<Script, LoadFailed> {
        let mut prepare = Vec::new();
        let mut statements = Vec::new();
        let (mut weights, mut sum) = (Vec::new(), 0);
        for (number, one) in work.iter().enumerate() {
            if one.sql.as_bytes().contains(&0) || one.sql.len() > wire::FRAME_BYTES_MAX / 2 {
                return Err(LoadFailed::Usage(format!(
                    "{}: a statement with a zero byte, or longer than half a megabyte",
                    one.kind
                )));
            }
            // One name is enough for most, and the shortest.
            if one.held && one.protocol != Protocol::Simple {
                return Err(LoadFailed::Usage(format!(
                    "{}: a held statement is a simple one",
                    one.kind
                )));
            }
            let name = if number == 0 {
                "s".to_owned()
            } else {
                format!("s{number}")
            };
            let bytes = bytes(one, name.as_bytes(), &mut prepare)?;
            statements.push(Statement {
                kind: first_kind + number,
                wants_rows: one.wants_rows,
                held: one.held,
                bytes,
            });
            sum += u64::from(one.weight.max(1));
            weights.push(sum);
        }
        if !prepare.is_empty() {
            wire::message(&mut prepare, b'S', |_| {});
        }
        Ok(Script {
            crew,
            startup: startup(&login, "loadtest"),
            login,
            prepare,
            work: statements,
            weights,
            depth: depth.max(1),
            open_loop: false,
            logins: None,
            read_bytes_per_s: None,
            victims: false,
        })
    }

    /// The first packet of a session.
    pub fn startup(&self, number: usize) -> Vec<u8> {
        if self.victims {
            startup(&self.login, &format!("{}{number}", crate::reviewer::VICTIM))
        } else {
            self.startup.clone()
        }
    }

    pub fn pick(&self, dice: &mut Dice) -> Option<&Statement> {
        if self.work.len() < 2 {
            return self.work.first();
        }
        let at = dice.below(self.weights.last().copied().unwrap_or(0));
        self.work.get(self.weights.partition_point(|sum| *sum <= at))
    }

    pub fn has_work(&self) -> bool {
        !self.work.is_empty()
    }

    /// Whether what was asked in this place wants a row.
    pub fn wants_rows(&self, kind: usize) -> bool {
        let first = self.work.first().map_or(0, |s| s.kind);
        kind.checked_sub(first)
            .and_then(|at| self.work.get(at))
            .is_some_and(|s| s.wants_rows)
    }

    pub fn password(&self, number: usize) -> &str {
        let count = self.login.passwords.len().max(1);
        self.login
            .passwords
            .get(number % count)
            .map_or("", String::as_str)
    }

    /// Bytes of the first statement on the wire.
    pub fn statement_bytes(&self) -> usize {
        self.work.first().map_or(0, Statement::len)
    }
}

fn bytes(work: &Work, name: &[u8], prepare: &mut Vec<u8>) -> Result<Bytes, LoadFailed> {
    let sql = work.sql.as_bytes();
    let is_fixed = work.parameters.iter().all(|p| matches!(p, Parameter::Fixed(_)));
    let (name, sql) = match work.protocol {
        Protocol::Simple if !work.parameters.is_empty() => {
            return Err(LoadFailed::Usage(format!(
                "{}: a simple statement has no parameters: use extended or prepared",
                work.kind
            )));
        }
        Protocol::Simple if work.held => return Ok(Bytes::Numbered(work.sql.clone())),
        Protocol::Simple => {
            let mut out = Vec::new();
            wire::message(&mut out, b'Q', |b| wire::text(b, sql));
            return Ok(Bytes::Fixed(out));
        }
        Protocol::Extended => (&b""[..], Some(sql)),
        Protocol::Prepared => {
            parse(prepare, name, sql);
            (name, None)
        }
    };
    let made = Bytes::Made {
        name: name.to_vec(),
        sql: sql.map(<[u8]>::to_vec),
        parameters: work.parameters.clone(),
    };
    if !is_fixed {
        return Ok(made);
    }
    let mut out = Vec::new();
    Statement {
        kind: 0,
        wants_rows: false,
        held: false,
        bytes: made,
    }
    .write(&mut out, &mut Dice::new(0), &mut 0);
    Ok(Bytes::Fixed(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_share_the_statements_out() {
        let work: Vec<Work> = [("a", 1), ("b", 3)]
            .map(|(kind, weight)| Work {
                weight,
                ..Work::new(kind, "SELECT 1", Protocol::Simple)
            })
            .into();
        let script = Script::new(0, 5, Login::new("u", "d", "p"), &work, 1).expect("a script");
        let mut dice = Dice::new(7);
        let count = (0..4_000)
            .filter(|_| script.pick(&mut dice).is_some_and(|s| s.kind == 6))
            .count();
        assert!((2_700..3_300).contains(&count), "{count}");
        assert!(
            script.wants_rows(5) && script.wants_rows(6) && !script.wants_rows(7) && !script.wants_rows(4)
        );
    }

    #[test]
    fn parameters_change_where_they_should() {
        let parameters = vec![
            Parameter::Int(-3, 3),
            Parameter::Sequence,
            Parameter::OneOf(vec!["x".into()]),
            Parameter::Letters(5),
        ];
        let work = Work {
            parameters,
            ..Work::new("own", "SELECT $1, $2, $3, $4", Protocol::Prepared)
        };
        let script = Script::new(0, 0, Login::new("u", "d", "p"), &[work], 1).expect("a script");
        let (mut dice, mut sequence) = (Dice::new(1), 0);
        let mut made = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let mut out = Vec::new();
            script
                .pick(&mut dice)
                .expect("a statement")
                .write(&mut out, &mut dice, &mut sequence);
            assert!(matches!(
                wire::next_frame(&out),
                wire::NextFrame::Message(b'B', ..)
            ));
            made.insert(out);
        }
        assert_eq!((made.len(), sequence), (20, 20));
        assert!(
            Script::new(
                0,
                0,
                Login::new("u", "d", "p"),
                &[Work {
                    protocol: Protocol::Simple,
                    ..Work::point(Protocol::Prepared)
                }],
                1
            )
            .is_err()
        );
    }
}
