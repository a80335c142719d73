//! A statement on its way: what is recorded of it, and how its reply is covered.

use crate::known::Known;
use headgate_mask::{CopyMasker, Exposure, Hints, Plan};
use std::cell::RefCell;
use std::rc::Rc;

pub type RunRef = Rc<RefCell<Run>>;

pub enum Cover {
    /// No result has been described yet.
    Unset,
    /// Nothing to cover in this result.
    Pass,
    Rows(Rc<Plan>),
    Copy(Box<CopyMasker>),
}

pub struct Run {
    /// In the session, from 1.
    pub number: u32,
    pub started_us: u64,
    pub rows: u64,
    pub bytes: u64,
    pub masked: u64,
    /// The reply as the client received it, up to the cap.
    pub head: Vec<u8>,
    pub truncated: bool,
    pub known: Rc<Known>,
    pub cover: Cover,
    pub exposure: Exposure,
    pub hints: Hints,
    pub ended: bool,
    /// Commands of a multi-statement Query that are complete.
    pub commands_done: usize,
    /// The commands (by place in the text) with which one names operation each becomes true.
    pub ops_at: Vec<usize>,
    /// It may change the catalog.
    pub changes_catalog: bool,
    /// Of a simple Query: the last command's, and the error if there was one.
    pub tag: String,
    pub error: Option<headgate_recording::RecordedError>,
}

impl Run {
    /// Keeps what goes to the client, up to the cap.
    pub fn keep(&mut self, bytes: &[u8], cap: usize) {
        self.bytes += bytes.len() as u64;
        let room = cap.saturating_sub(self.head.len());
        if room >= bytes.len() {
            self.head.extend_from_slice(bytes);
        } else {
            self.head.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            self.truncated = true;
        }
    }
}
