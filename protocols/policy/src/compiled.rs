//! A snapshot as tables.

use crate::{Asked, Context, ContextId, Verdict, Why};
use headgate_plane::{Epoch, MaskRule, Rule, Snapshot, TargetSpec, Who};
use std::sync::Arc;

/// Why a snapshot cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Name of the rule or mask.
    pub rule: String,
    pub reason: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rule \"{}\": {}", self.rule, self.reason)
    }
}

/// `Send + Sync`; put it behind an `Arc`.
#[derive(Debug)]
pub struct Compiled {
    snapshot: Arc<Snapshot>,
}

impl Compiled {
    pub fn new(snapshot: Arc<Snapshot>) -> Result<Compiled, Vec<Problem>> {
        Ok(Compiled { snapshot })
    }

    /// Denies everything: what a gateway uses before its first snapshot.
    pub fn none() -> Compiled {
        Compiled { snapshot: Arc::default() }
    }

    pub fn epoch(&self) -> Epoch {
        self.snapshot.epoch
    }

    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    pub fn rule(&self, index: u32) -> Option<&Rule> {
        self.snapshot.rules.get(usize::try_from(index).ok()?)
    }

    pub fn mask(&self, index: u32) -> Option<&MaskRule> {
        self.snapshot.masks.get(usize::try_from(index).ok()?)
    }

    pub fn context(&self, _who: &Who, _target: &TargetSpec) -> Context {
        Context {
            id: ContextId(0),
            epoch: self.epoch(),
            rules: Box::default(),
            masks: Box::default(),
            names_wanted: false,
            any_allow: false,
            any_hold: false,
        }
    }

    pub fn judge(&self, _context: &Context, _asked: &Asked<'_>) -> Verdict {
        Verdict::deny(Why::NothingAllows, true)
    }
}
