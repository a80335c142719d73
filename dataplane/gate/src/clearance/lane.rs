//! An ordered stream of statements, of which one may wait at the front. PostgreSQL, MySQL and HTTP/1.1 have one in a
//! session, SSH one in a channel.

use super::hold::Held;
use headgate_plane::{Answer, QuestionKey};

/// Why the message at the front does not move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waiting {
    /// It moves.
    #[default]
    No,
    /// For an analyst.
    Analyst,
    /// For people.
    Answer,
    /// For room in the spool.
    Room,
    /// For the target: to answer, to owe less, or to say what it reads next.
    Target,
    /// For what is known of the target's names.
    Catalog,
}

/// What waits at the front of a stream, and for what.
#[derive(Default)]
pub struct Lane {
    /// Set by whoever finds that the front cannot go on, and reset by what it waits for.
    pub waiting: Waiting,
    /// The client went away without a word: nothing is asked on its behalf.
    pub(super) gone: bool,
    pub(super) held: Option<Box<Held>>,
    /// Bytes that must be free in the spool before what waits for room can go on.
    room_wanted: usize,
}

impl Lane {
    /// Whether the statement at the front is held.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// The client of this lane has gone away.
    pub fn client_is_gone(&self) -> bool {
        self.gone
    }

    /// Bytes that must be free in the spool before this lane goes on.
    pub fn room_wanted(&self) -> usize {
        self.room_wanted
    }

    /// What is at the front waits until so many bytes of the spool are free.
    pub fn wait_for_room(&mut self, bytes: usize) {
        self.waiting = Waiting::Room;
        self.room_wanted = bytes;
    }

    /// The target's side of the lane waits until so many bytes of the spool are free; the front may go on.
    pub fn target_wants_room(&mut self, bytes: usize) {
        self.room_wanted = bytes;
    }

    /// People answered, or took their answer back before it was spent.
    pub fn answered(&mut self, key: QuestionKey, answer: Answer) {
        if let Some(held) = &mut self.held
            && held.question.key == key
            && (held.answer.is_none() || matches!(answer, Answer::Revoked { .. }))
        {
            held.answer = Some(answer);
            self.waiting = Waiting::No;
        }
    }

    /// The client takes back what is held. False: nothing is.
    pub fn cancel(&mut self, now_us: u64) -> bool {
        let Some(held) = &mut self.held else { return false };
        held.cancelled_us.get_or_insert(now_us);
        self.waiting = Waiting::No;
        true
    }

    /// The client went away: nothing is held on its behalf.
    pub fn client_gone(&mut self) {
        self.gone = true;
        if let Some(held) = &mut self.held {
            held.cancelled_us = Some(0);
            self.waiting = Waiting::No;
        }
    }

    /// When something happens by time alone: the deadline of a question, or a cancel that waits for its number.
    pub fn deadline_unix_ms(&self) -> Option<u64> {
        match &self.held {
            Some(held) if held.cancelled_us.is_some() => Some(0),
            Some(held) if held.answer.is_none() => Some(held.question.deadline_unix_ms),
            _ => None,
        }
    }

    /// The question at the front is looked at again: its deadline, or a cancel that waits for its number, may be due.
    pub fn time_passes(&mut self) {
        if self.waiting == Waiting::Answer {
            self.waiting = Waiting::No;
        }
    }

    /// Room in the spool may be there again.
    pub fn retry(&mut self) {
        if self.waiting == Waiting::Room {
            self.waiting = Waiting::No;
        }
    }
}
