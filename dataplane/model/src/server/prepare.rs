//! Parse and Bind.

use super::*;

impl Server {
    pub(super) fn parse(&mut self, body: &[u8]) -> Done {
        let mut fields = Fields(body);
        let name = fields.string().ok_or(INVALID_STRING)?;
        let text = fields.string().ok_or(INVALID_STRING)?;
        for _ in 0..fields.short().ok_or(SHORT)? {
            fields.long().ok_or(SHORT)?;
        }
        end_of(&fields)?;
        self.start()?;
        let statements = self.read(text);
        let kinds = statements
            .as_ref()
            .map_or(vec![Kind::Other], |s| self.kinds(s.iter()));
        if name.is_empty() && !self.keeps_unnamed {
            self.prepared.remove(&b""[..]);
        }
        self.refused(Moment::Parse, text, &kinds)?;
        if name.is_empty() && (!self.keeps_unnamed || statements.is_ok()) {
            self.prepared.remove(&b""[..]);
        }
        let statements = statements?;
        if statements.len() > 1 {
            return Err(Error::new(
                "42601",
                "cannot insert multiple commands into a prepared statement",
            ));
        }
        let statement = statements.into_iter().next();
        if let Some(statement) = &statement {
            if self.block == Block::Failed && !statement.sql.ends_transaction() {
                return Err(ABORTED);
            }
            analysed(statement)?;
        }
        let key = wire_key(name);
        if !key.is_empty() && self.prepared.contains_key(&key) {
            return Err(Error::new("42P05", "prepared statement already exists"));
        }
        let text: Rc<[u8]> = text.into();
        self.prepare(key, text.clone(), text, statement);
        self.simply(b'1');
        Ok(())
    }

    pub(super) fn prepare(
        &mut self,
        key: Vec<u8>,
        text: Rc<[u8]>,
        source: Rc<[u8]>,
        statement: Option<Rc<Statement>>,
    ) {
        let columns = statement.as_ref().and_then(|s| self.columns_of(&s.sql));
        let parameters = statement.as_ref().map_or(0, |s| s.sql.parameters());
        self.prepared.insert(
            key,
            Rc::new(Prepared {
                text,
                source,
                statement,
                columns,
                parameters,
            }),
        );
    }

    /// What it returns, as far as can be said now.
    pub(super) fn columns_of(&self, sql: &Sql) -> Option<Columns> {
        match sql {
            Sql::Select(rows) => Some(rows.columns()),
            Sql::Insert { returning: true, .. } => Some(Columns::N),
            Sql::Execute { name, .. } => self.prepared.get(name).and_then(|p| p.columns),
            Sql::Fetch { name, .. } => self.portals.get(name).and_then(|p| p.columns),
            _ => None,
        }
    }

    pub(super) fn bind(&mut self, body: &[u8]) -> Done {
        let mut fields = Fields(body);
        let name = fields.string().ok_or(INVALID_STRING)?;
        let statement_name = fields.string().ok_or(INVALID_STRING)?;
        let Some(prepared) = self.prepared.get(&wire_key(statement_name)).cloned() else {
            return Err(Error::new("26000", "prepared statement does not exist"));
        };
        self.start()?;
        let kinds = self.kinds(prepared.statement.iter());
        self.refused(Moment::Bind, &prepared.source, &kinds)?;
        let formats = fields.short().ok_or(SHORT)?;
        for _ in 0..formats {
            fields.short().ok_or(SHORT)?;
        }
        let count = fields.short().ok_or(SHORT)?;
        if formats > 1 && formats != count {
            return Err(Error::new(
                "08P01",
                "bind message has more formats than parameters",
            ));
        }
        if count != prepared.parameters {
            return Err(Error::new(
                "08P01",
                "bind message supplies another number of parameters",
            ));
        }
        let unit = self.units.len();
        self.begin(What::Bind, prepared.text.clone(), prepared.source.clone());
        let done = self.bind_prepared(name, statement_name, &prepared, fields, count, unit);
        if let Err(error) = done {
            self.units[unit].error = Some(error.code);
        }
        done
    }

    pub(super) fn bind_prepared(
        &mut self,
        name: &[u8],
        statement_name: &[u8],
        prepared: &Rc<Prepared>,
        mut fields: Fields<'_>,
        count: usize,
        unit: usize,
    ) -> Done {
        if self.block == Block::Failed {
            let ends = prepared
                .statement
                .as_ref()
                .is_some_and(|s| s.sql.ends_transaction());
            if !ends || count > 0 {
                return Err(ABORTED);
            }
        }
        let key = wire_key(name);
        if key.is_empty() {
            self.portals.remove(&key);
        } else if self.portals.contains_key(&key) {
            return Err(Error::new("42P03", "cursor already exists"));
        }
        // It is there even when its parameters are wrong.
        let portal = self.opened(
            None,
            prepared.source.clone(),
            statement_name.to_vec(),
            None,
            Some(unit),
        );
        self.portals.insert(key.clone(), portal);
        let mut argument = None;
        for _ in 0..count {
            argument = match fields.value().ok_or(SHORT)? {
                Some(text) => Some(number(text)?),
                None => None,
            };
        }
        let mut formats = Vec::new();
        for _ in 0..fields.short().ok_or(SHORT)? {
            formats.push(u16::try_from(fields.short().ok_or(SHORT)?).unwrap_or(0));
        }
        end_of(&fields)?;
        if prepared
            .statement
            .as_ref()
            .is_some_and(|s| s.fails == Some(Stage::Bind))
        {
            return Err(Error::new("XX001", "it was told to fail at bind"));
        }
        let mut portal = self.opened(
            prepared.statement.clone(),
            prepared.source.clone(),
            statement_name.to_vec(),
            argument,
            Some(unit),
        );
        let fits = formats.len() < 2 || portal.columns.is_none_or(|c| c.fields().len() == formats.len());
        if fits {
            portal.formats = formats;
        }
        self.portals.insert(key, portal);
        if !fits {
            return Err(Error::new(
                "08P01",
                "bind message has another number of result formats than columns",
            ));
        }
        self.simply(b'2');
        Ok(())
    }

    pub(super) fn meaning(&self, statement: &Statement) -> Meaning {
        match &statement.sql {
            Sql::Execute { name, .. } => self
                .prepared
                .get(name)
                .map_or(Meaning::Nothing, |p| Meaning::Statement(p.clone())),
            Sql::Fetch { name, .. } => self
                .portals
                .get(name)
                .map_or(Meaning::Nothing, |p| Meaning::Portal(p.id)),
            _ => Meaning::Nothing,
        }
    }

    pub(super) fn opened(
        &mut self,
        statement: Option<Rc<Statement>>,
        text: Rc<[u8]>,
        statement_name: Vec<u8>,
        argument: Option<i64>,
        unit: Option<usize>,
    ) -> Portal {
        let columns = statement.as_ref().and_then(|s| self.columns_of(&s.sql));
        let strategy = match statement.as_ref().map(|s| &s.sql) {
            Some(Sql::Select(rows)) => Strategy::Select(rows.clone()),
            Some(_) if columns.is_some() => Strategy::Kept(None),
            _ => Strategy::Once,
        };
        let meaning = statement.as_ref().map_or(Meaning::Nothing, |s| self.meaning(s));
        self.portals_made += 1;
        Portal {
            id: self.portals_made,
            meaning,
            text,
            statement,
            statement_name,
            argument,
            unit,
            strategy,
            columns,
            at: 0,
            started: false,
            done: false,
            at_end: false,
            hold: false,
            fresh: true,
            level: self.savepoints.len(),
            failed: false,
            dangles: false,
            formats: Vec::new(),
        }
    }
}
