//! Statements while they run.

use super::*;

impl Server {
    /// Runs a portal: of a simple query (`simple`: with a description of its rows) or by Execute.
    pub(super) fn run(&mut self, portal: &mut Portal, max: usize, simple: bool) -> Done<Outcome> {
        let Some(statement) = portal.statement.clone() else {
            return Ok(Outcome::Complete(Tag::plain("")));
        };
        if portal.failed {
            return Err(CANNOT_RUN);
        }
        let unit = portal.unit;
        let first = !portal.started;
        portal.started = true;
        if first {
            self.note_run(unit, &statement)?;
        }
        let argument = portal.argument;
        match &mut portal.strategy {
            Strategy::Once => {
                if portal.done {
                    return Err(CANNOT_RUN);
                }
                portal.done = true;
                let outcome = self.utility(&statement.sql, argument, unit)?;
                Ok(match outcome {
                    Utility::Done(tag, rows) => {
                        // Rows that were not expected when the portal was made are for a simple query alone.
                        if simple && !rows.is_empty() {
                            self.described(Some(Columns::Unnamed), &[]);
                            rows.iter().for_each(|row| self.row(row));
                        }
                        Outcome::Complete(tag)
                    }
                    Utility::Waits(wait) => Outcome::Waits(wait),
                })
            }
            Strategy::Kept(kept) => {
                if kept.is_none() {
                    let (tag, rows) = match self.utility(&statement.sql, argument, unit)? {
                        Utility::Done(tag, rows) => (tag, rows),
                        Utility::Waits(_) => (Tag::of("COPY", 0), Vec::new()),
                    };
                    *kept = Some((rows, tag));
                }
                let Some((rows, tag)) = kept else {
                    return Ok(Outcome::Suspended);
                };
                let columns = portal.columns;
                if simple {
                    self.described(columns, &[]);
                }
                let mut sent = 0;
                while let Some(row) = rows.get(portal.at).filter(|_| max == 0 || sent < max) {
                    self.row(row);
                    portal.at += 1;
                    sent += 1;
                }
                if max > 0 && sent == max {
                    return Ok(Outcome::Suspended);
                }
                Ok(Outcome::Complete(Tag {
                    words: tag.words,
                    count: tag.count.map(|_| sent),
                }))
            }
            Strategy::Select(rows) => {
                let rows = rows.clone();
                if simple {
                    self.described(portal.columns, &[]);
                }
                if rows == Rows::Sleep && self.manual.sleeps && portal.at == 0 {
                    portal.at = 1;
                    portal.at_end = true;
                    return Ok(Outcome::Waits(Wait::Sleep));
                }
                let mut sent = 0;
                while !portal.at_end && (max == 0 || sent < max) {
                    match rows.row(portal.at, argument) {
                        Some(row) => {
                            let row = row?;
                            self.row(&row);
                            portal.at += 1;
                            sent += 1;
                        }
                        None => portal.at_end = true,
                    }
                }
                if max > 0 && sent == max {
                    return Ok(Outcome::Suspended);
                }
                portal.at_end = true;
                Ok(Outcome::Complete(Tag::of("SELECT", sent)))
            }
        }
    }

    /// A statement begins to run.
    pub(super) fn note_run(&mut self, unit: Option<usize>, statement: &Statement) -> Done {
        if statement.notice {
            self.notice("it was told to say something");
        }
        if statement.status {
            self.settings.push(("TimeZone", "Europe/Berlin"));
        }
        if statement.fails == Some(Stage::Commit) {
            self.fails_at_commit = Some("XX002");
        }
        if statement.fails == Some(Stage::Execute) {
            return Err(Error::new("XX001", "it was told to fail"));
        }
        self.ran(unit, statement.sql.kind());
        Ok(())
    }

    pub(super) fn ran(&mut self, unit: Option<usize>, kind: Kind) {
        if let Some(unit) = unit.and_then(|n| self.units.get_mut(n)) {
            unit.ran.push(kind);
        }
    }

    pub(super) fn utility(&mut self, sql: &Sql, argument: Option<i64>, unit: Option<usize>) -> Done<Utility> {
        let done = |words| Ok(Utility::Done(Tag::plain(words), Vec::new()));
        match sql {
            Sql::Select(rows) => {
                let rows = all_rows(rows, argument)?;
                Ok(Utility::Done(Tag::of("SELECT", rows.len()), rows))
            }
            Sql::Insert {
                table,
                values,
                returning,
            } => {
                let mut rows = Vec::new();
                let numbers: Vec<Option<i64>> = values
                    .iter()
                    .map(|v| if let Number::Is(n) = v { Some(*n) } else { argument })
                    .collect();
                match table {
                    Table::Log => self.inserted.extend(numbers.iter().flatten()),
                    Table::Late => {
                        let mut seen = numbers.iter().flatten().collect::<Vec<_>>();
                        seen.sort_unstable();
                        if seen.windows(2).any(|w| w[0] == w[1]) {
                            self.fails_at_commit = Some("23505");
                        }
                    }
                    Table::T => {}
                }
                if *returning {
                    rows = numbers
                        .iter()
                        .map(|n| vec![n.map(|n| n.to_string().into_bytes())])
                        .collect();
                }
                Ok(Utility::Done(Tag::of("INSERT 0", values.len()), rows))
            }
            Sql::Update => Ok(Utility::Done(Tag::of("UPDATE", 0), Vec::new())),
            Sql::Delete => Ok(Utility::Done(Tag::of("DELETE", 0), Vec::new())),
            Sql::SettingByView => {
                self.strings_off = true;
                Ok(Utility::Done(
                    Tag::of("UPDATE", 0),
                    vec![vec![Some(b"off".to_vec())]],
                ))
            }
            Sql::Missing(code) => Err(Error::new(code, "it does not exist")),
            Sql::Begin => {
                if self.block == Block::In {
                    self.warning("25001", "there is already a transaction in progress");
                }
                self.block = Block::In;
                done("BEGIN")
            }
            Sql::Commit => match self.block {
                Block::Failed => {
                    self.roll_back();
                    done("ROLLBACK")
                }
                block => {
                    if block != Block::In {
                        self.warning("25P01", "there is no transaction in progress");
                    }
                    // It ends when the statement has: an error of the commit stands in its place.
                    self.block = Block::None;
                    done("COMMIT")
                }
            },
            Sql::Rollback => {
                if matches!(self.block, Block::None | Block::Implicit) {
                    self.warning("25P01", "there is no transaction in progress");
                }
                self.roll_back();
                done("ROLLBACK")
            }
            Sql::Savepoint(name) => {
                if self.block != Block::In {
                    return Err(NO_BLOCK);
                }
                self.savepoints.push(Savepoint {
                    name: name.clone(),
                    inserted: self.inserted.len(),
                    fails_at_commit: self.fails_at_commit,
                    strings_off: self.strings_off,
                });
                done("SAVEPOINT")
            }
            Sql::RollbackTo(name) | Sql::Release(name) => {
                let back = matches!(sql, Sql::RollbackTo(_));
                if !(self.block == Block::In || back && self.block == Block::Failed) {
                    return Err(NO_BLOCK);
                }
                let Some(at) = self.savepoints.iter().rposition(|s| s.name == *name) else {
                    return Err(Error::new("3B001", "savepoint does not exist"));
                };
                if back {
                    self.rolls_back_to = Some(at);
                    return done("ROLLBACK");
                }
                self.savepoints.truncate(at);
                for portal in self.portals.values_mut() {
                    portal.level = portal.level.min(at);
                }
                done("RELEASE")
            }
            Sql::Set => {
                self.settings.push(("application_name", "a"));
                done("SET")
            }
            Sql::Reset => {
                self.settings.push(("application_name", ""));
                done("RESET")
            }
            Sql::CopyIn(table) => {
                put(&mut self.unsent, b'G', |o| {
                    o.push(0);
                    short(o, 1);
                    short(o, 0);
                });
                self.flush();
                Ok(Utility::Waits(Wait::Copy {
                    table: table.clone(),
                    partial: Vec::new(),
                    rows: 0,
                    ended: false,
                }))
            }
            Sql::CopyOut(rows) => {
                put(&mut self.unsent, b'H', |o| {
                    o.push(0);
                    short(
                        o,
                        if matches!(rows, Rows::Customers { id: true }) {
                            2
                        } else {
                            1
                        },
                    );
                    short(o, 0);
                    if matches!(rows, Rows::Customers { id: true }) {
                        short(o, 0);
                    }
                });
                let mut n = 0;
                while let Some(row) = rows.row(n, None) {
                    let row = row?;
                    put(&mut self.unsent, b'd', |o| {
                        for (at, field) in row.iter().enumerate() {
                            if at > 0 {
                                o.push(b'\t');
                            }
                            o.extend_from_slice(field.as_deref().unwrap_or(b"\\N"));
                        }
                        o.push(b'\n');
                    });
                    n += 1;
                }
                self.simply(b'c');
                Ok(Utility::Done(Tag::of("COPY", n), Vec::new()))
            }
            Sql::Prepare {
                name,
                statement,
                text,
            } => {
                if let Sql::Missing(code) = **statement {
                    return Err(Error::new(code, "it does not exist"));
                }
                if self.prepared.contains_key(name) {
                    return Err(Error::new("42P05", "prepared statement already exists"));
                }
                let inner = Statement {
                    sql: (**statement).clone(),
                    fails: None,
                    notice: false,
                    status: false,
                };
                let source = self.source(unit);
                self.prepare(name.clone(), text.as_slice().into(), source, Some(Rc::new(inner)));
                done("PREPARE")
            }
            Sql::Execute { name, arguments } => {
                let Some(prepared) = self.prepared.get(name).cloned() else {
                    return Err(Error::new("26000", "prepared statement does not exist"));
                };
                // Where none is taken nobody counts.
                if prepared.parameters > 0 && prepared.parameters != arguments.len() {
                    return Err(Error::new("42601", "wrong number of parameters"));
                }
                let Some(statement) = prepared.statement.clone() else {
                    return done("");
                };
                if let Some(unit) = unit.and_then(|n| self.units.get_mut(n)) {
                    unit.stood_for.push(prepared.text.clone());
                }
                self.note_run(unit, &statement)?;
                self.utility(&statement.sql, arguments.first().copied(), unit)
            }
            Sql::Deallocate(None) => {
                self.prepared.retain(|name, _| name.is_empty());
                done("DEALLOCATE ALL")
            }
            Sql::Deallocate(Some(name)) => match self.prepared.remove(name) {
                Some(_) => done("DEALLOCATE"),
                None => Err(Error::new("26000", "prepared statement does not exist")),
            },
            Sql::Declare { name, hold, rows } => {
                if !hold && self.block == Block::None {
                    return Err(Error::new(
                        "25P01",
                        "DECLARE CURSOR can only be used in transaction blocks",
                    ));
                }
                if self.portals.contains_key(name) {
                    return Err(Error::new("42P03", "cursor already exists"));
                }
                let statement = Statement {
                    sql: Sql::Select(rows.clone()),
                    fails: None,
                    notice: false,
                    status: false,
                };
                let text = self.source(unit);
                let mut portal = self.opened(Some(Rc::new(statement)), text, Vec::new(), None, None);
                portal.hold = *hold;
                self.portals.insert(name.clone(), portal);
                done("DECLARE CURSOR")
            }
            Sql::Fetch { name, count } => {
                let Some(mut portal) = self.portals.remove(name) else {
                    return Err(Error::new("34000", "cursor does not exist"));
                };
                let fetched = if portal.failed {
                    Err(CANNOT_RUN)
                } else {
                    self.fetch(&mut portal, count, unit)
                };
                portal.failed |= fetched.is_err();
                self.portals.insert(name.clone(), portal);
                let rows = fetched?;
                Ok(Utility::Done(Tag::of("FETCH", rows.len()), rows))
            }
            Sql::Close(None) => {
                self.portals.clear();
                done("CLOSE CURSOR ALL")
            }
            Sql::Close(Some(name)) => match self.portals.remove(name) {
                Some(_) => done("CLOSE CURSOR"),
                None => Err(Error::new("34000", "cursor does not exist")),
            },
            Sql::DiscardAll => {
                if self.block != Block::None || self.pipelined {
                    return Err(Error::new(
                        "25001",
                        "DISCARD ALL cannot run inside a transaction block",
                    ));
                }
                self.portals.clear();
                self.prepared.retain(|name, _| name.is_empty());
                done("DISCARD ALL")
            }
        }
    }

    /// The text of the message that runs.
    pub(super) fn source(&self, unit: Option<usize>) -> Rc<[u8]> {
        unit.and_then(|n| self.units.get(n))
            .map_or_else(|| (&b""[..]).into(), |u| u.text.clone())
    }

    pub(super) fn fetch(
        &mut self,
        portal: &mut Portal,
        count: &Count,
        unit: Option<usize>,
    ) -> Done<Vec<Row>> {
        let Some(statement) = portal.statement.clone() else {
            return Ok(Vec::new());
        };
        if !portal.started {
            portal.started = true;
            self.note_run(unit, &statement)?;
        }
        let argument = portal.argument;
        let max = match count {
            Count::All => usize::MAX,
            Count::Rows(n) => usize::try_from(*n).unwrap_or(usize::MAX),
        };
        let mut got = Vec::new();
        match &mut portal.strategy {
            Strategy::Select(rows) => {
                while !portal.at_end && got.len() < max {
                    match rows.row(portal.at, argument) {
                        Some(row) => got.push(row?),
                        None => {
                            portal.at_end = true;
                            break;
                        }
                    }
                    portal.at += 1;
                }
            }
            Strategy::Kept(kept) => {
                if kept.is_none()
                    && let Utility::Done(tag, rows) = self.utility(&statement.sql, argument, unit)?
                {
                    *kept = Some((rows, tag));
                }
                let rows = kept.as_ref().map_or(&[][..], |k| &k.0[..]);
                got = rows.iter().skip(portal.at).take(max).cloned().collect();
                portal.at += got.len();
            }
            Strategy::Once => return Err(Error::new("XX000", "unsupported portal strategy")),
        }
        Ok(got)
    }
}

pub(super) enum Utility {
    Done(Tag, Vec<Row>),
    Waits(Wait),
}

pub(super) fn all_rows(rows: &Rows, argument: Option<i64>) -> Done<Vec<Row>> {
    let mut all = Vec::new();
    while let Some(row) = rows.row(all.len(), argument) {
        all.push(row?);
    }
    Ok(all)
}

/// As the input function of `int` reads it: digit by digit, so that too many are told before a letter behind them.
pub(super) fn number(text: &[u8]) -> Done<i64> {
    const INVALID: Error = Error::new("22P02", "invalid input syntax for type integer");
    let text = text.trim_ascii();
    let mut n = 0i64;
    for byte in text {
        if !byte.is_ascii_digit() {
            return Err(INVALID);
        }
        n = n * 10 + i64::from(byte - b'0');
        if n > i64::from(i32::MAX) {
            return Err(Error::new("22003", "value is out of range for type integer"));
        }
    }
    if text.is_empty() { Err(INVALID) } else { Ok(n) }
}
