//! A statement on its way: what is recorded of it, and how its reply is covered.
//!
//! Executions are used again: one that is over goes to the core's [`Executions`], and the next statement takes it from there once
//! nothing of its old session holds it any more. So a statement in steady state allocates nothing.
//! Bounds: [`EXECUTIONS_MAX`]; a run that rests holds no text, no reply and no plan.

use super::columns::Formats;
use super::names::Prepared;
use crate::core::Core;
use crate::core::memory::{Charge, Meter};
use crate::sql::known::Known;
use headgate_mask::{Caller, CopyMasker, Exposure, Hints, PassRows, Plan};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

pub type ExecutionRef = Rc<RefCell<Execution>>;

#[derive(Default)]
pub enum Cover {
    /// No result has been described yet.
    #[default]
    Unset,
    /// Nothing to cover in this result.
    Pass(PassRows),
    Rows(Rc<Plan>),
    Copy(Box<CopyMasker>),
}

impl Cover {
    /// Before a result is described: only a caller whom no mask rule binds needs no description.
    #[inline]
    pub fn of_caller(caller: &Caller) -> Cover {
        PassRows::of_caller(caller).map_or(Cover::Unset, Cover::Pass)
    }

    pub fn of_plan(plan: Rc<Plan>) -> Cover {
        PassRows::of_plan(&plan).map_or(Cover::Rows(plan), Cover::Pass)
    }
}

#[derive(Default)]
pub struct Execution {
    /// In the session, from 1.
    pub number: u32,
    pub started_us: u64,
    pub rows: u64,
    pub bytes: u64,
    pub masked: u64,
    /// The reply as the client received it, up to the cap.
    pub head: Vec<u8>,
    pub truncated: bool,
    /// Of `head`, while it waits for the next Execute of its portal.
    pub head_charge: Option<Charge>,
    /// `None` when it is over.
    pub known: Option<Rc<Known>>,
    /// What its rows are of, in extended use; `None` when it is over.
    pub prepared: Option<Rc<Prepared>>,
    /// In which formats the client asked for them.
    pub formats: Formats,
    pub cover: Cover,
    /// For whom `cover` was made.
    pub caller_number: u64,
    pub exposure: Exposure,
    pub hints: Hints,
    pub ended: bool,
    /// The target has bound it to its portal.
    pub bound: bool,
    /// Its Execute was sent.
    pub executed: bool,
    /// The target has stopped reading it at a limit of rows.
    pub suspended: bool,
    /// Its portal is gone: whatever is said of it from now on, nothing more of it runs.
    pub portal_gone: bool,
    /// ROLLBACK to a savepoint may have taken its portal.
    pub portal_doubtful: bool,
    /// Commands of a multi-statement Query that are complete.
    pub commands_done: usize,
    /// The commands (by place in the text) with which one names operation each becomes true.
    pub ops_at: Vec<usize>,
    /// It may change the catalog.
    pub changes_catalog: bool,
    /// It was sent, and may leave the session with other settings.
    pub moves: bool,
    /// `known` has what its names stand for, too.
    pub joined: bool,
    /// The last command's; worth something only where `tagged`.
    tag: String,
    tagged: bool,
    /// Of a simple Query, if there was one.
    pub error: Option<headgate_recording::RecordedError>,
}

impl Execution {
    /// Keeps what goes to the client, up to the cap.
    pub fn keep(&mut self, core: &mut Core, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        let cap = core.settings.reply_record_bytes;
        if self.head.capacity() == 0 && cap > 0 {
            self.head = core.buffer();
        }
        let room = cap.saturating_sub(self.head.len());
        if room >= bytes.len() {
            self.head.extend_from_slice(bytes);
        } else {
            self.head.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            self.truncated = true;
        }
    }

    /// The reply is not kept: there is no room to record it with so many others.
    pub fn forget_reply(&mut self, core: &mut Core) {
        self.truncated |= !self.head.is_empty();
        self.head_charge = None;
        core.recycle(std::mem::take(&mut self.head));
    }

    /// Its portal is read on later, or never: until then what is kept of the reply is the session's memory.
    pub fn suspend(&mut self, core: &mut Core, meter: &Rc<Meter>) {
        self.head_charge = None;
        let bytes = self.head.capacity();
        if bytes > 0 && meter.admits(bytes).is_ok() {
            self.head_charge = Some(Charge::new(meter, bytes));
        } else {
            self.forget_reply(core);
        }
    }

    /// The command tag of CommandComplete, which is ASCII and short: a longer one is cut. It nearly always is the one that
    /// this execution's memory had the last time, too.
    pub fn set_tag(&mut self, tag: &[u8]) {
        let tag = tag.get(..TAG_BYTES_MAX).unwrap_or(tag);
        self.tagged = true;
        if self.tag.as_bytes() != tag {
            self.tag.clear();
            match std::str::from_utf8(tag) {
                Ok(tag) => self.tag.push_str(tag),
                Err(_) => self.tag.push_str(&String::from_utf8_lossy(tag)),
            }
        }
    }

    pub fn tag(&self) -> &str {
        if self.tagged { &self.tag } else { "" }
    }

    /// As new, but for memory that is worth keeping: each field is named, so that none is forgotten.
    fn renew(&mut self) {
        let Execution {
            number,
            started_us,
            rows,
            bytes,
            masked,
            head,
            truncated,
            head_charge,
            known,
            prepared,
            formats,
            cover,
            caller_number,
            exposure,
            hints,
            ended,
            bound,
            executed,
            suspended,
            portal_gone,
            portal_doubtful,
            commands_done,
            ops_at,
            changes_catalog,
            moves,
            joined,
            tag: _,
            tagged,
            error,
        } = self;
        (*number, *started_us, *rows, *bytes, *masked, *caller_number) = (0, 0, 0, 0, 0, 0);
        (*truncated, *ended, *executed, *changes_catalog) = (false, false, false, false);
        (*bound, *suspended, *portal_gone, *portal_doubtful) = (false, false, false, false);
        (*moves, *joined, *tagged, *commands_done) = (false, false, false, 0);
        (*known, *prepared, *error, *cover, *head) = (None, None, None, Cover::Unset, Vec::new());
        *head_charge = None;
        (*formats, *exposure, *hints) = (Formats::default(), Exposure::default(), Hints::default());
        ops_at.clear();
    }
}

/// More runs than this are not kept.
const EXECUTIONS_MAX: usize = 1024;
/// Of a tag that is recorded, and room of one that is kept.
const TAG_BYTES_MAX: usize = 256;

/// So many of those that came to rest last are looked at for one that nobody names any more.
const WARM_LOOKS: usize = 4;

/// The runs of a core that are over; those that came to rest last stand last.
#[derive(Default)]
pub struct Executions(VecDeque<ExecutionRef>);

impl Executions {
    /// A run as new: the warmest that is free, or else the oldest.
    pub(super) fn take(&mut self) -> ExecutionRef {
        let warm = (0..self.0.len()).rev().take(WARM_LOOKS).find(|at| {
            self.0
                .get(*at)
                .is_some_and(|execution| Rc::strong_count(execution) == 1)
        });
        let execution = match warm {
            Some(at) => self.0.swap_remove_back(at),
            None => self.0.pop_front(),
        };
        let mut execution = execution.unwrap_or_default();
        match Rc::get_mut(&mut execution) {
            Some(place) => {
                place.get_mut().renew();
                execution
            }
            // A portal of its session still names it.
            None => ExecutionRef::default(),
        }
    }

    /// `run` is over; whoever still names it finds it ended.
    pub(super) fn rest(&mut self, execution: &ExecutionRef) {
        if self.0.len() < EXECUTIONS_MAX {
            let mut place = execution.borrow_mut();
            place.known = None;
            place.prepared = None;
            if place.tag.capacity() > TAG_BYTES_MAX {
                place.tag = String::new();
                place.tagged = false;
            }
            self.0.push_back(Rc::clone(execution));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_to_rest_last_is_taken_first_unless_it_is_still_named_and_is_as_new() {
        let mut all = Executions::default();
        let (cold, warm, named) = (all.take(), all.take(), all.take());
        for (number, execution) in (1..).zip([&cold, &warm, &named]) {
            {
                let mut execution = execution.borrow_mut();
                execution.number = number;
                (execution.ended, execution.executed, execution.truncated) = (true, true, true);
                execution.set_tag(b"SELECT 1");
                execution.ops_at.push(3);
                execution.head.extend_from_slice(b"of an Execute after its end");
                execution.error = Some(headgate_recording::RecordedError {
                    code: "57014".to_owned(),
                    message: String::new(),
                });
            }
            all.rest(execution);
        }
        let [cold, warm] = [cold, warm].map(|execution| Rc::as_ptr(&execution));
        let taken = all.take();
        assert_eq!(Rc::as_ptr(&taken), warm);
        {
            let execution = taken.borrow();
            assert_eq!((execution.number, execution.tag()), (0, ""));
            assert!(!execution.ended && !execution.executed && !execution.truncated);
            assert!(execution.ops_at.is_empty() && execution.head.is_empty() && execution.error.is_none());
        }
        let next = all.take();
        assert_eq!(Rc::as_ptr(&next), cold);
        next.borrow_mut().set_tag(b"SELECT 1");
        assert_eq!(next.borrow().tag(), "SELECT 1");
        next.borrow_mut().set_tag(b"INSERT 0 1");
        assert_eq!(next.borrow().tag(), "INSERT 0 1");
        let new = all.take();
        assert!(!Rc::ptr_eq(&new, &named), "somebody names it");
        assert_eq!(named.borrow().number, 3);
    }
}
