//! Questions that no client waits for, found by what they ask: an index, no state of its own.
//!
//! Invariant: holds exactly the records with [`Record::is_left`] that are live or, until their deadline, denied; and of those
//! that were claimed and not spent, by whom.

use crate::record::Record;
use crate::state::State;
use headgate_plane::{QuestionDigest, QuestionKey, QuestionNumber};
use std::collections::{BTreeMap, BTreeSet, HashMap};

#[derive(Default)]
pub(crate) struct Standing {
    by_digest: HashMap<QuestionDigest, BTreeSet<QuestionNumber>>,
    /// Denials by their deadline, when they are forgotten.
    denied: BTreeSet<(u64, QuestionNumber)>,
    claims: HashMap<QuestionKey, QuestionNumber>,
    of_number: BTreeMap<QuestionNumber, QuestionDigest>,
}

impl Standing {
    /// Takes up how `record` stands now.
    pub fn follow(&mut self, record: &Record) {
        if !record.is_left() {
            return;
        }
        self.claims.retain(|_, number| *number != record.number);
        if let Some(claim) = record.claim.as_ref().filter(|_| record.state != State::Spent) {
            self.claims.insert(claim.key, record.number);
        }
        if record.state.is_live() || record.state == State::Denied {
            let digest = record.question.digest;
            self.of_number.insert(record.number, digest);
            self.by_digest.entry(digest).or_default().insert(record.number);
            if record.state == State::Denied {
                self.denied
                    .insert((record.question.deadline_unix_ms, record.number));
            }
        } else {
            self.forget(record.number);
        }
    }

    /// Nothing identical finds it any more.
    fn forget(&mut self, number: QuestionNumber) {
        let Some(digest) = self.of_number.remove(&number) else {
            return;
        };
        if let Some(numbers) = self.by_digest.get_mut(&digest) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_digest.remove(&digest);
            }
        }
    }

    /// The record is gone from the shelf.
    pub fn pruned(&mut self, number: QuestionNumber) {
        self.forget(number);
        self.claims.retain(|_, n| *n != number);
        self.denied.retain(|(_, n)| *n != number);
    }

    /// Denials hold until the deadline of what they deny.
    pub fn pass_time(&mut self, now_unix_ms: u64) {
        while let Some((deadline, number)) = self.denied.first().copied()
            && deadline <= now_unix_ms
        {
            self.denied.pop_first();
            self.forget(number);
        }
    }

    /// All that ask the same, oldest first.
    pub fn identical(&self, digest: QuestionDigest) -> Vec<QuestionNumber> {
        self.by_digest
            .get(&digest)
            .map(|numbers| numbers.iter().copied().collect())
            .unwrap_or_default()
    }

    /// Which question's approval this statement has.
    pub fn claimed_by(&self, key: QuestionKey) -> Option<QuestionNumber> {
        self.claims.get(&key).copied()
    }
}
