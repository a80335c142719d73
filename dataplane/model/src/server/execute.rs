//! Execute, Sync and the function call.

use super::*;

impl Server {
    pub(super) fn execute(&mut self, body: &[u8]) -> Done {
        let mut fields = Fields(body);
        let name = fields.string().ok_or(INVALID_STRING)?;
        let max = fields.long().ok_or(SHORT)?;
        end_of(&fields)?;
        let max = if i32::try_from(max).is_ok() {
            max as usize
        } else {
            0
        };
        let key = wire_key(name);
        let Some(portal) = self.portals.get(&key) else {
            return Err(Error::new("34000", "portal does not exist"));
        };
        if portal.dangles && self.guarded {
            return Err(Error::new("34000", "portal does not exist"));
        }
        if portal.dangles {
            self.unsent.clear();
            self.crashed = true;
            self.ended = true;
            return Ok(());
        }
        let (text, named) = (portal.text.clone(), portal.statement.clone());
        let changed = named
            .as_ref()
            .is_some_and(|s| !self.meaning(s).is(&portal.meaning));
        if changed && self.guarded {
            return Err(Error::new(REFUSED, "what it stands for has changed"));
        }
        let unit = match portal.unit {
            Some(unit) => unit,
            None => {
                self.begin(What::Cursor, text.clone(), text.clone());
                let kinds = self.kinds(named.iter());
                let unit = self.units.len() - 1;
                if let Err(error) = self.refused(Moment::Cursor, &text, &kinds) {
                    self.units[unit].error = Some(error.code);
                    return Err(error);
                }
                unit
            }
        };
        self.units[unit].executions += 1;
        let done = self.execute_portal(name, key, max, unit);
        if let Err(error) = done {
            self.units[unit].error = Some(error.code);
        }
        done
    }

    pub(super) fn execute_portal(&mut self, name: &[u8], key: Vec<u8>, max: usize, unit: usize) -> Done {
        let Some(portal) = self.portals.get(&key) else {
            return Ok(());
        };
        let Some(statement) = portal.statement.clone() else {
            // Of no statement, or its Bind failed at a parameter: either way nothing is there to run.
            self.simply(b'I');
            return Ok(());
        };
        self.start()?;
        let Some(portal) = self.portals.get(&key) else {
            return Ok(());
        };
        let mut line = if portal.at > 0 {
            b"execute fetch from ".to_vec()
        } else {
            b"execute ".to_vec()
        };
        let shown = if portal.statement_name.is_empty() {
            &b"<unnamed>"[..]
        } else {
            &portal.statement_name
        };
        line.extend_from_slice(shown);
        if !name.is_empty() {
            line.push(b'/');
            line.extend_from_slice(name);
        }
        line.extend_from_slice(b": ");
        line.extend_from_slice(&portal.text);
        self.log.push(line);
        if self.block == Block::Failed && !statement.sql.ends_transaction() {
            return Err(ABORTED);
        }
        // It is not in its own way while it runs.
        let Some(mut portal) = self.portals.remove(&key) else {
            return Ok(());
        };
        let own = portal.unit.replace(unit);
        let before = portal.at;
        self.formats.clone_from(&portal.formats);
        self.kinds_of_columns = portal
            .columns
            .map_or_else(Vec::new, |c| c.fields().iter().map(|f| f.3).collect());
        let outcome = self.run(&mut portal, max, false);
        self.formats.clear();
        match outcome {
            Ok(Outcome::Complete(tag)) => {
                portal.unit = own;
                self.completed_as(key, portal, tag, unit)
            }
            Ok(Outcome::Suspended) => {
                portal.unit = own;
                self.portals.insert(key, portal);
                self.pipelined = true;
                self.simply(b's');
                Ok(())
            }
            Ok(Outcome::Waits(wait)) => {
                self.waiting = Some(Waiting {
                    wait,
                    portal: Some((key, portal)),
                });
                Ok(())
            }
            Err(error) => {
                portal.unit = own;
                portal.done = true;
                portal.failed = true;
                portal.at = before;
                self.portals.insert(key, portal);
                Err(error)
            }
        }
    }

    pub(super) fn completed(&mut self, key: Vec<u8>, portal: Portal, tag: Tag) -> Done {
        let unit = portal.unit.unwrap_or(0);
        let done = self.completed_as(key, portal, tag, unit);
        if let Err(error) = done {
            self.units[unit].error = Some(error.code);
        }
        done
    }

    pub(super) fn completed_as(&mut self, key: Vec<u8>, portal: Portal, tag: Tag, unit: usize) -> Done {
        let ends = portal
            .statement
            .as_ref()
            .is_some_and(|s| s.sql.is_transaction() || s.sql == Sql::DiscardAll);
        self.portals.insert(key, portal);
        if ends {
            self.finish()?;
        } else {
            self.pipelined = true;
        }
        self.units[unit].tags.push(tag.text());
        self.complete(&tag);
        Ok(())
    }

    pub(super) fn call(&mut self, body: &[u8]) -> Done {
        self.start()?;
        let mut fields = Fields(body);
        let function = fields.long().ok_or(SHORT)?;
        let unit = self.units.len();
        let name: Rc<[u8]> = function.to_string().into_bytes().into();
        self.begin(What::Call, name.clone(), name);
        let done = self.called(function, fields);
        match done {
            Err(error) => self.units[unit].error = Some(error.code),
            Ok(()) => self.units[unit].ran.push(Kind::Other),
        }
        done?;
        self.finish()?;
        self.ready();
        Ok(())
    }

    pub(super) fn called(&mut self, function: u32, mut fields: Fields<'_>) -> Done {
        let refused = self.refused(Moment::Call, b"", &[Kind::Other]);
        if refused.is_err() && !self.keeps_unnamed {
            // A gate may have sent a query that fails in its place.
            self.prepared.remove(&b""[..]);
        }
        refused?;
        if self.block == Block::Failed {
            return Err(ABORTED);
        }
        if function != INT4PL {
            return Err(Error::new("42883", "function does not exist"));
        }
        for _ in 0..fields.short().ok_or(SHORT)? {
            fields.short().ok_or(SHORT)?;
        }
        if fields.short().ok_or(SHORT)? != 2 {
            return Err(Error::new(
                "08P01",
                "function call message contains another number of arguments",
            ));
        }
        let mut sum = 0;
        for _ in 0..2 {
            sum += number(fields.value().ok_or(SHORT)?.unwrap_or(b"0"))?;
        }
        fields.short().ok_or(SHORT)?;
        put(&mut self.unsent, b'V', |o| {
            value(o, Some(sum.to_string().as_bytes()))
        });
        Ok(())
    }

    pub(super) fn sync(&mut self, body: &[u8]) -> Done {
        empty(body)?;
        if self.block == Block::Implicit {
            self.block = Block::None;
            // Seen in 18: where a query or a function call stood last in the pipeline's block, Sync ends the block and not its
            // transaction. What follows fails, and nothing of the pipeline is kept.
            self.stuck = !self.open;
        }
        self.finish()?;
        self.ready();
        Ok(())
    }
}
