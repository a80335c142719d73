//! Transactions: blocks, implicit ones, savepoints, and what their ends take with them.

use super::*;

impl Server {
    pub(super) fn start(&mut self) -> Done {
        if self.stuck {
            self.stuck = false;
            return Err(Error::new(
                "XX000",
                "StartTransactionCommand: unexpected state STARTED",
            ));
        }
        if !self.open {
            self.open = true;
        } else if self.manual.pipeline_is_block && self.pipelined && self.block == Block::None {
            self.block = Block::Implicit;
        }
        Ok(())
    }

    /// The end of a message's own transaction; in a block nothing ends.
    pub(super) fn finish(&mut self) -> Done {
        if !self.open {
            return Ok(());
        }
        if let Some(to) = self.rolls_back_to.take()
            && let Some(savepoint) = self.savepoints.get(to)
        {
            self.inserted.truncate(savepoint.inserted);
            self.fails_at_commit = savepoint.fails_at_commit;
            self.strings_off = savepoint.strings_off;
            self.savepoints.truncate(to + 1);
            self.portals.retain(|_, portal| portal.level <= to);
            self.block = Block::In;
        }
        self.open = false;
        self.pipelined = false;
        if self.block == Block::None {
            self.commit()
        } else {
            Ok(())
        }
    }

    pub(super) fn commit(&mut self) -> Done {
        self.block = Block::None;
        self.savepoints.clear();
        if let Some(code) = self.fails_at_commit.take() {
            self.inserted.clear();
            self.drop_portals();
            return Err(Error::new(code, "it fails at commit"));
        }
        self.committed.append(&mut self.inserted);
        self.strings_off_committed = self.strings_off;
        self.portals.retain(|_, portal| portal.hold);
        for portal in self.portals.values_mut() {
            portal.fresh = false;
            portal.level = 0;
        }
        Ok(())
    }

    /// What an error ends: the message's own transaction, or the block's life.
    pub(super) fn abort(&mut self) {
        self.stuck = false;
        self.open = false;
        self.pipelined = false;
        match self.block {
            Block::None | Block::Implicit => self.roll_back(),
            Block::In | Block::Failed => {
                self.strings_off = self
                    .savepoints
                    .last()
                    .map_or(self.strings_off_committed, |s| s.strings_off);
                self.block = Block::Failed;
            }
        }
    }

    pub(super) fn roll_back(&mut self) {
        self.block = Block::None;
        self.savepoints.clear();
        self.rolls_back_to = None;
        self.inserted.clear();
        self.fails_at_commit = None;
        self.strings_off = self.strings_off_committed;
        self.drop_portals();
    }

    pub(super) fn drop_portals(&mut self) {
        self.portals.retain(|_, portal| portal.hold && !portal.fresh);
    }
}
