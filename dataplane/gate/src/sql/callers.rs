//! What mask rules mean for a session, made once for all sessions of a core that are alike.
//!
//! A [`Caller`] follows from the rules that bind it, the catalog and the search path alone, so sessions that have these in
//! common share one. Each has a number that no other has had: whatever is worked out for a caller is kept under it.
//! Bounds: [`CALLERS_MAX`], the oldest goes first; a new policy empties the list.

use headgate_mask::{Caller, Catalog, SearchPath};
use headgate_plane::MaskRule;
use headgate_policy::Compiled;
use std::sync::Arc;

const CALLERS_MAX: usize = 64;

#[derive(Clone)]
pub struct NumberedCaller {
    /// Unique on this core, from 1.
    pub number: u64,
    pub caller: Caller,
}

struct Entry {
    masks: Box<[u32]>,
    /// Version of the catalog; `None`: not known, or not with these labels.
    catalog: Option<u64>,
    path: SearchPath,
    caller: NumberedCaller,
}

#[derive(Default)]
pub struct Callers {
    policy: Option<Arc<Compiled>>,
    entries: Vec<Entry>,
    last: u64,
}

impl Callers {
    /// `masks`: indexes into the policy's mask rules. `catalog`: with its version; versions are never used twice on a core.
    /// `path`: of the session.
    pub fn get(
        &mut self,
        policy: &Arc<Compiled>,
        masks: &[u32],
        catalog: Option<(u64, &Arc<Catalog>)>,
        path: &SearchPath,
        key: &[u8; 32],
    ) -> NumberedCaller {
        if !self.policy.as_ref().is_some_and(|p| Arc::ptr_eq(p, policy)) {
            self.policy = Some(Arc::clone(policy));
            self.entries.clear();
        }
        let version = catalog.map(|(version, _)| version);
        if let Some(entry) = self
            .entries
            .iter()
            .find(|e| e.catalog == version && *e.masks == *masks && e.path == *path)
        {
            return entry.caller.clone();
        }
        let rules: Vec<&MaskRule> = masks.iter().filter_map(|i| policy.mask(*i)).collect();
        self.last += 1;
        let caller = NumberedCaller {
            number: self.last,
            caller: Caller::new(&rules, catalog.map(|(_, c)| Arc::clone(c)), path, key),
        };
        if self.entries.len() >= CALLERS_MAX {
            self.entries.remove(0);
        }
        self.entries.push(Entry {
            masks: masks.into(),
            catalog: version,
            path: path.clone(),
            caller: caller.clone(),
        });
        caller
    }
}
