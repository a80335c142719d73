//! Describe and Close.

use super::*;

impl Server {
    /// Seen in 15.18 and 18.6: where a FETCH had rows when it was prepared or bound, and its cursor has gone since, Describe
    /// looks at the cursor all the same, and the server process dies of it.
    pub(super) fn dies_of(
        &mut self,
        statement: &Option<Rc<Statement>>,
        columns: Option<Columns>,
    ) -> Done<bool> {
        let gone = match statement.as_ref().map(|s| &s.sql) {
            Some(Sql::Fetch { name, .. }) => columns.is_some() && !self.portals.contains_key(name),
            _ => false,
        };
        if gone && self.guarded {
            return Err(Error::new("34000", "cursor does not exist"));
        }
        if gone {
            self.unsent.clear();
            self.crashed = true;
            self.ended = true;
        }
        Ok(gone)
    }

    /// The same of EXECUTE, which is missed in good order.
    pub(super) fn stands(&self, statement: &Option<Rc<Statement>>, columns: Option<Columns>) -> Done {
        match statement.as_ref().map(|s| &s.sql) {
            Some(Sql::Execute { name, .. }) if columns.is_some() && !self.prepared.contains_key(name) => {
                Err(Error::new("26000", "prepared statement does not exist"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn describe(&mut self, body: &[u8]) -> Done {
        let mut fields = Fields(body);
        let kind = fields.byte().ok_or(SHORT)?;
        let name = fields.string().ok_or(INVALID_STRING)?;
        end_of(&fields)?;
        let told = |statement: &Option<Rc<Statement>>| match statement {
            Some(statement) if statement.fails == Some(Stage::Describe) => {
                Err(Error::new("XX001", "it was told to fail at describe"))
            }
            _ => Ok(()),
        };
        match kind {
            b'S' => {
                self.start()?;
                let Some(prepared) = self.prepared.get(&wire_key(name)).cloned() else {
                    return Err(Error::new("26000", "prepared statement does not exist"));
                };
                if self.block == Block::Failed && prepared.columns.is_some() {
                    return Err(ABORTED);
                }
                told(&prepared.statement)?;
                if self.dies_of(&prepared.statement, prepared.columns)? {
                    return Ok(());
                }
                put(&mut self.unsent, b't', |o| {
                    short(o, prepared.parameters);
                    for _ in 0..prepared.parameters {
                        o.extend_from_slice(&23u32.to_be_bytes());
                    }
                });
                self.stands(&prepared.statement, prepared.columns)?;
                self.described(prepared.columns, &[]);
                Ok(())
            }
            b'P' => {
                self.start()?;
                let Some(portal) = self.portals.get(&wire_key(name)) else {
                    return Err(Error::new("34000", "portal does not exist"));
                };
                let columns = portal.columns;
                if self.block == Block::Failed && columns.is_some() {
                    return Err(ABORTED);
                }
                told(&portal.statement)?;
                let (statement, formats) = (portal.statement.clone(), portal.formats.clone());
                if !self.dies_of(&statement, columns)? {
                    self.stands(&statement, columns)?;
                    self.described(columns, &formats);
                }
                Ok(())
            }
            _ => Err(Error::new("08P01", "invalid DESCRIBE message subtype")),
        }
    }

    pub(super) fn close(&mut self, body: &[u8]) -> Done {
        let mut fields = Fields(body);
        let kind = fields.byte().ok_or(SHORT)?;
        let name = fields.string().ok_or(INVALID_STRING)?;
        end_of(&fields)?;
        match kind {
            b'S' => drop(self.prepared.remove(&wire_key(name))),
            b'P' => drop(self.portals.remove(&wire_key(name))),
            _ => return Err(Error::new("08P01", "invalid CLOSE message subtype")),
        }
        self.simply(b'3');
        Ok(())
    }
}
