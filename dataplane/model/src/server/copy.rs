//! What a client sends while COPY reads, and what ends a statement that waits: data, a wake-up, a cancel.

use super::*;

impl Server {
    /// In COPY from the client: data, its end, Flush and Sync that are ignored; anything else costs the connection.
    pub(super) fn copy_message(&mut self, tag: u8, body: &[u8]) -> Fate {
        let extended = self.simple.is_none();
        if matches!(tag, b'd' | b'c') && std::mem::take(&mut self.cancel_pending) {
            self.wake_with(Err(CANCELLED), extended);
            return Fate::Processed;
        }
        match tag {
            b'H' | b'S' => return Fate::Passed,
            b'd' => {
                if let Err(error) = self.copy_data(body) {
                    self.wake_with(Err(error), extended);
                }
            }
            b'c' => {
                let done = self.copy_end();
                self.wake_with(done, extended);
            }
            b'f' => self.wake_with(Err(Error::new("57014", "COPY from stdin failed")), extended),
            _ => {
                self.report(
                    b'E',
                    "ERROR",
                    "08P01",
                    "unexpected message type during COPY from stdin",
                );
                let unit = self.unit();
                self.units[unit].error = Some("08P01");
                self.report(b'E', "FATAL", LOST.code, LOST.message);
                self.abort();
                self.ended = true;
            }
        }
        Fate::Processed
    }

    pub(super) fn unit(&self) -> usize {
        match (&self.simple, &self.waiting) {
            (Some(simple), _) => simple.unit,
            (
                None,
                Some(Waiting {
                    portal: Some((_, portal)),
                    ..
                }),
            ) => portal.unit.unwrap_or(0),
            _ => 0,
        }
    }

    pub(super) fn copy_data(&mut self, data: &[u8]) -> Done {
        let Some(Waiting {
            wait:
                Wait::Copy {
                    table,
                    partial,
                    rows,
                    ended,
                },
            ..
        }) = &mut self.waiting
        else {
            return Ok(());
        };
        partial.extend_from_slice(data);
        while let Some(at) = memchr::memchr(b'\n', partial) {
            let line: Vec<u8> = partial.drain(..=at).collect();
            let line = &line[..at];
            if *ended {
                continue;
            }
            if line == b"\\." {
                *ended = true;
                continue;
            }
            let n = number(line)?;
            *rows += 1;
            if *table == Table::Log {
                self.inserted.push(n);
            }
        }
        Ok(())
    }

    pub(super) fn copy_end(&mut self) -> Done<Tag> {
        let Some(Waiting {
            wait:
                Wait::Copy {
                    table,
                    partial,
                    rows,
                    ended,
                },
            ..
        }) = &mut self.waiting
        else {
            return Ok(Tag::plain(""));
        };
        if !partial.is_empty() && !*ended && partial.as_slice() != b"\\." {
            let n = number(partial)?;
            *rows += 1;
            if *table == Table::Log {
                self.inserted.push(n);
            }
        }
        Ok(Tag::of("COPY", *rows))
    }

    /// What waited is over: the statement, and what comes behind it, go on.
    pub(super) fn wake_with(&mut self, done: Done<Tag>, extended: bool) {
        let Some(waiting) = self.waiting.take() else {
            return;
        };
        self.cancel_pending = false;
        let done = match (done, waiting.portal) {
            (Ok(tag), Some((key, mut portal))) => {
                portal.done = true;
                self.completed(key, portal, tag)
            }
            (Ok(tag), None) => self.simple_completed(tag).and_then(|()| self.go_on()),
            (Err(error), portal) => {
                if let Some(simple) = &self.simple {
                    let statement = simple.statements.get(simple.at).cloned();
                    let mut left = self.opened(statement, Vec::new().into(), Vec::new(), None, None);
                    left.dangles = true;
                    self.portals.insert(Vec::new(), left);
                }
                if let Some(unit) = portal.as_ref().and_then(|p| p.1.unit) {
                    self.units[unit].error = Some(error.code);
                }
                if let Some((key, mut portal)) = portal {
                    portal.done = true;
                    self.portals.insert(key, portal);
                }
                Err(error)
            }
        };
        if let Err(error) = done {
            self.fail(error, extended);
        }
    }

    /// The sleeping statement has slept.
    pub fn wake(&mut self) {
        if self.sleeps() {
            let extended = self.simple.is_none();
            self.row(&[Some(Vec::new())]);
            self.wake_with(Ok(Tag::of("SELECT", 1)), extended);
        }
    }

    /// A cancel request of another connection: it finds a statement that sleeps, or nothing. In COPY it is noticed when the
    /// next data have been read.
    pub fn cancel(&mut self) -> bool {
        if self.copies_in() {
            self.cancel_pending = true;
            return true;
        }
        let found = self.sleeps();
        if found {
            let extended = self.simple.is_none();
            self.wake_with(Err(CANCELLED), extended);
        }
        found
    }
}
