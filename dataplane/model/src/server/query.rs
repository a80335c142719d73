//! The simple Query, and what a gate in between refuses of it.

use super::*;

impl Server {
    pub(super) fn kind_of(&self, statement: &Statement) -> Kind {
        match &statement.sql {
            Sql::Execute { name, .. } => self
                .prepared
                .get(name)
                .and_then(|p| p.statement.clone())
                .map_or(Kind::Other, |inner| self.kind_of(&inner)),
            Sql::Fetch { name, .. } => self
                .portals
                .get(name)
                .and_then(|p| p.statement.clone())
                .map_or(Kind::Other, |inner| inner.kind()),
            _ => statement.kind(),
        }
    }

    /// What rules can speak of in it, `Other` where there is nothing else.
    pub(super) fn kinds<'s>(&self, statements: impl Iterator<Item = &'s Rc<Statement>>) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = statements
            .map(|s| self.kind_of(s))
            .filter(|kind| *kind != Kind::Other)
            .collect();
        if kinds.is_empty() {
            kinds.push(Kind::Other);
        }
        kinds
    }

    pub(super) fn refused(&mut self, moment: Moment, text: &[u8], kinds: &[Kind]) -> Done {
        match &mut self.refuse {
            Some(refuse) => kinds
                .iter()
                .find_map(|kind| refuse(moment, text, *kind))
                .map_or(Ok(()), Err),
            None => Ok(()),
        }
    }

    pub(super) fn read(&mut self, text: &[u8]) -> Done<Vec<Rc<Statement>>> {
        let parsed = sql::parse(text).map_err(|()| SYNTAX)?;
        for _ in 0..parsed.cut {
            self.report(b'N', "NOTICE", "42622", "identifier will be truncated");
        }
        let marks = self.manual.marks;
        let keep = |mut statement: Statement| {
            if !marks {
                (statement.fails, statement.notice, statement.status) = (None, false, false);
            }
            Rc::new(statement)
        };
        Ok(parsed.statements.into_iter().map(keep).collect())
    }

    pub(super) fn begin(&mut self, what: What, text: Rc<[u8]>, source: Rc<[u8]>) {
        let message = self.messages - 1;
        self.units.push(Unit {
            what,
            text,
            source,
            message,
            executions: 0,
            ran: Vec::new(),
            stood_for: Vec::new(),
            tags: Vec::new(),
            error: None,
        });
    }

    pub(super) fn query(&mut self, body: &[u8]) -> Done {
        let text = only_string(body)?;
        let text: Rc<[u8]> = text.into();
        let unit = self.units.len();
        self.begin(What::Query, text.clone(), text.clone());
        self.simple = Some(Simple {
            text: text.clone(),
            statements: Vec::new(),
            at: 0,
            unit,
        });
        self.start()?;
        let statements = self.read(&text);
        let kinds = statements
            .as_ref()
            .map_or(vec![Kind::Other], |s| self.kinds(s.iter()));
        // What a gate refused, or could not read, may not have come here, and drops nothing then.
        if !self.keeps_unnamed {
            self.prepared.remove(&b""[..]);
        }
        self.refused(Moment::Query, &text, &kinds)?;
        if !self.keeps_unnamed || statements.is_ok() {
            self.prepared.remove(&b""[..]);
        }
        let statements = statements?;
        self.log.push([b"statement: ", &text[..]].concat());
        if statements.is_empty() {
            self.simple = None;
            self.finish()?;
            self.simply(b'I');
            self.ready();
            return Ok(());
        }
        self.simple = Some(Simple {
            text,
            statements,
            at: 0,
            unit,
        });
        self.go_on()
    }

    /// The statements of a simple query, up to its end or until one waits.
    pub(super) fn go_on(&mut self) -> Done {
        loop {
            let Some(simple) = &self.simple else { return Ok(()) };
            let (unit, text) = (simple.unit, simple.text.clone());
            let Some(statement) = simple.statements.get(simple.at).cloned() else {
                self.simple = None;
                self.ready();
                return Ok(());
            };
            let several = simple.statements.len() > 1;
            if self.block == Block::Failed && !statement.sql.ends_transaction() {
                return Err(ABORTED);
            }
            self.start()?;
            if several && self.block == Block::None {
                self.block = Block::Implicit;
            }
            analysed(&statement)?;
            if statement.fails == Some(Stage::Bind) {
                return Err(Error::new("XX001", "it was told to fail at bind"));
            }
            self.portals.remove(&b""[..]);
            let mut portal = self.opened(Some(statement), text, Vec::new(), None, Some(unit));
            let outcome = match self.run(&mut portal, 0, true) {
                Ok(outcome) => outcome,
                Err(error) => {
                    // In a block the portal is still there, for what can only fail.
                    // Its text went with the query.
                    (portal.at, portal.text, portal.unit) = (0, Vec::new().into(), None);
                    portal.failed = true;
                    portal.dangles = true;
                    self.portals.insert(Vec::new(), portal);
                    return Err(error);
                }
            };
            match outcome {
                Outcome::Complete(tag) => self.simple_completed(tag)?,
                Outcome::Suspended => {}
                Outcome::Waits(wait) => {
                    self.waiting = Some(Waiting { wait, portal: None });
                    return Ok(());
                }
            }
        }
    }

    pub(super) fn simple_completed(&mut self, tag: Tag) -> Done {
        let Some(simple) = &mut self.simple else {
            return Ok(());
        };
        let unit = simple.unit;
        let transaction = simple
            .statements
            .get(simple.at)
            .is_some_and(|s| s.sql.is_transaction());
        simple.at += 1;
        let (last, several) = (simple.at == simple.statements.len(), simple.statements.len() > 1);
        if last {
            if several && self.block == Block::Implicit {
                self.block = Block::None;
            }
            self.finish()?;
        } else if transaction {
            self.finish()?;
        }
        self.units[unit].tags.push(tag.text());
        self.complete(&tag);
        Ok(())
    }
}

/// What is found out when a text is analysed, before anything of it runs.
pub(super) fn analysed(statement: &Statement) -> Done {
    if let Sql::Missing(code) = &statement.sql {
        return Err(Error::new(code, "it does not exist"));
    }
    if statement.fails == Some(Stage::Parse) {
        return Err(Error::new("XX001", "it was told to fail at parse"));
    }
    Ok(())
}

pub(super) fn only_string(body: &[u8]) -> Done<&[u8]> {
    let mut fields = Fields(body);
    let text = fields.string().ok_or(INVALID_STRING)?;
    end_of(&fields)?;
    Ok(text)
}
