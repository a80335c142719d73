//! The catalogs of a core's targets: what is known, how old it is, and when it is asked for again.
//!
//! A catalog is read on a connection of the gateway's own, never in a client's session, so no session's settings decide
//! what others are told. One is kept for each target (which names one database) and its labels; sessions resolve names
//! in it with their own search path.
//!
//! Invariant: only an answer is kept. A failure is remembered as a time and words, so that the next try waits a little
//! and whoever waits is told; what was known before stays until it is too old, and after that nothing is known.
//! Invariant: a catalog that began to be read before a change of the target's catalog was told is never taken for fresh.
//! Never here: connections, search paths.
//! Bounds: one slot a target of the configuration; [`FAILURE_WAIT_US_MAX`].

use crate::core::Core;
use hashbrown::HashMap;
use headgate_mask::Catalog;
use headgate_plane::{CatalogReader, Grant, Secret, TargetSpec};
use headgate_policy::Compiled;
use std::sync::Arc;

/// After a first failure; each further one doubles it.
pub const FAILURE_WAIT_US: u64 = 1_000_000;
/// The longest pause after a failure.
pub const FAILURE_WAIT_US_MAX: u64 = 30_000_000;
/// A catalog of between once and so many times the age that is wished for is used while a newer one is on its way.
const AGES_MAX: u64 = 2;

/// What a load needs: all of it comes from a session's grant, and the labels from the rules.
#[derive(Clone, Debug)]
pub struct CatalogWanted {
    /// Whose.
    pub target: Arc<TargetSpec>,
    /// Of the target's own user.
    pub secret: Secret,
    /// Who reads the catalog instead of the target's own user, where the configuration names one.
    pub reader: Option<CatalogReader>,
    /// What mask rules name.
    pub labels: Arc<[String]>,
    /// What was known before, for the same labels: they stay with their columns.
    pub before: Option<Arc<Catalog>>,
}

impl CatalogWanted {
    /// For a session of this grant.
    pub fn of(grant: &Grant, target: Arc<TargetSpec>, labels: Arc<[String]>) -> CatalogWanted {
        CatalogWanted {
            target,
            secret: grant.target_secret.clone(),
            reader: grant.catalog_reader.clone(),
            labels,
            before: None,
        }
    }
}

/// The answer to a [`CatalogWanted`], for every core.
#[derive(Clone, Debug)]
pub struct CatalogLoaded {
    /// The target's name.
    pub target: Arc<str>,
    /// What mask rules name.
    pub labels: Arc<[String]>,
    /// Changes of the target's catalog that had been told when the load began.
    pub changes: u64,
    /// How long reading took.
    pub took_us: u64,
    /// Words for the log and for whoever waits; they quote nothing that the target stores.
    pub result: Result<Arc<Catalog>, Arc<str>>,
}

/// Why a catalog could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogFailure {
    /// When, by the core's clock.
    pub at_us: u64,
    /// One after the other.
    pub times: u32,
    /// Why.
    pub words: Arc<str>,
}

impl CatalogFailure {
    fn next_try_us(&self) -> u64 {
        let doubled = FAILURE_WAIT_US << self.times.saturating_sub(1).min(16);
        self.at_us.saturating_add(doubled.min(FAILURE_WAIT_US_MAX))
    }
}

/// A target's catalog as this core last saw it.
#[derive(Clone, Debug, Default)]
pub struct CatalogSlot {
    /// The newest.
    pub catalog: Option<Arc<Catalog>>,
    /// What `catalog` was made for.
    pub labels: Arc<[String]>,
    /// Grows with each catalog that is kept; part of the key of cached verdicts.
    pub version: u64,
    /// When its load began.
    pub loaded_us: u64,
    /// The target's catalog has changed since.
    pub stale: bool,
    /// Since the last catalog that was kept.
    pub failed: Option<CatalogFailure>,
    /// A load for these labels is on its way.
    pub asked: Option<Arc<[String]>>,
    /// Changes that this core has heard of, as the process counts them.
    changes: u64,
}

/// What a session that needs a catalog does about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogState {
    /// It can be used.
    Fresh,
    /// It is used, and a newer one is asked for: [`Core::want_catalog`].
    RefreshInBackground,
    /// There is none that may be used: one is asked for, and what needs it waits.
    MustWait,
    /// There is none that may be used, and a try failed a moment ago: an error with these words, never NULLs.
    Failed(Arc<str>),
}

/// `slot`: of the target, if there is one. `labels`: of the rules that hold now.
pub fn catalog_state(
    slot: Option<&CatalogSlot>,
    now_us: u64,
    age_us_max: u64,
    labels: &Arc<[String]>,
) -> CatalogState {
    let Some(slot) = slot else {
        return CatalogState::MustWait;
    };
    let waits = slot
        .failed
        .as_ref()
        .filter(|failed| now_us < failed.next_try_us());
    let age_us = now_us.saturating_sub(slot.loaded_us);
    let fits = slot.catalog.is_some() && !slot.stale && same(&slot.labels, labels);
    if fits && age_us <= age_us_max {
        CatalogState::Fresh
    } else if fits && age_us <= age_us_max.saturating_mul(AGES_MAX) {
        if waits.is_some() {
            CatalogState::Fresh
        } else {
            CatalogState::RefreshInBackground
        }
    } else {
        waits.map_or(CatalogState::MustWait, |failed| {
            CatalogState::Failed(Arc::clone(&failed.words))
        })
    }
}

fn same(some: &Arc<[String]>, other: &Arc<[String]>) -> bool {
    Arc::ptr_eq(some, other) || some == other
}

/// The labels of all mask rules, made once a policy: all sessions of a target can share one catalog.
#[derive(Default)]
pub struct Labels {
    of: Option<Arc<Compiled>>,
    labels: Arc<[String]>,
}

impl Labels {
    fn get(&mut self, policy: &Arc<Compiled>) -> &Arc<[String]> {
        if !self.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, policy)) {
            let mut labels: Vec<String> = policy
                .snapshot()
                .masks
                .iter()
                .flat_map(|m| m.columns.iter().cloned())
                .collect();
            labels.sort();
            labels.dedup();
            if *labels != *self.labels {
                self.labels = labels.into();
            }
            self.of = Some(Arc::clone(policy));
        }
        &self.labels
    }
}

impl Core {
    /// What a catalog must know for the rules that hold now.
    pub fn catalog_labels(&mut self) -> Arc<[String]> {
        Arc::clone(self.labels.get(&self.policy))
    }

    /// For a session that needs the catalog of `target`.
    pub fn catalog_state(&mut self, target: &str) -> CatalogState {
        let labels = self.labels.get(&self.policy);
        catalog_state(
            self.catalogs.get(target),
            self.clock.now_us,
            self.settings.catalog_age_ms_max.saturating_mul(1000),
            labels,
        )
    }

    /// Asks for a load, unless one is on its way. The answer comes to every session of the target: `Session::catalog_came`.
    pub fn want_catalog(&mut self, mut wanted: CatalogWanted) {
        let slot = self.catalogs.entry_ref(wanted.target.name.as_str()).or_default();
        if slot
            .asked
            .as_ref()
            .is_some_and(|asked| same(asked, &wanted.labels))
        {
            return;
        }
        slot.asked = Some(Arc::clone(&wanted.labels));
        wanted.before = slot
            .catalog
            .clone()
            .filter(|_| same(&slot.labels, &wanted.labels));
        self.effects.push(crate::core::Effect::LoadCatalog(wanted));
    }

    /// A statement of this core changed the target's catalog, or may have.
    pub fn mark_catalog_stale(&mut self, target: &str) {
        self.catalog_events += 1;
        if let Some(slot) = self.catalogs.get_mut(target) {
            slot.stale = true;
        }
    }

    /// So many changes of the target's catalog have been told in this process.
    pub fn catalog_changed(&mut self, target: &str, changes: u64) {
        self.catalog_events += 1;
        let slot = self.catalogs.entry_ref(target).or_default();
        if slot.changes < changes {
            slot.changes = changes;
            slot.stale = true;
        }
    }

    /// The rules are others: catalogs that know their labels stay.
    pub fn catalogs_follow_rules(&mut self) {
        self.catalog_events += 1;
        let labels = self.catalog_labels();
        for slot in self
            .catalogs
            .values_mut()
            .filter(|slot| !same(&slot.labels, &labels))
        {
            slot.catalog = None;
        }
    }

    /// A load has ended. Of one that another core asked for, or that is for labels of before, only what helps is kept.
    pub fn catalog_loaded(&mut self, loaded: &CatalogLoaded) {
        self.catalog_events += 1;
        let current = self.catalog_labels();
        let now_us = self.clock.now_us;
        let slot = self.catalogs.entry_ref(&*loaded.target).or_default();
        if slot
            .asked
            .as_ref()
            .is_some_and(|asked| same(asked, &loaded.labels))
        {
            slot.asked = None;
        }
        if !same(&loaded.labels, &current) {
            return;
        }
        match &loaded.result {
            Ok(catalog) => {
                self.catalog_version += 1;
                slot.version = self.catalog_version;
                slot.catalog = Some(Arc::clone(catalog));
                slot.labels = Arc::clone(&loaded.labels);
                slot.loaded_us = now_us.saturating_sub(loaded.took_us);
                slot.stale = loaded.changes < slot.changes;
                slot.failed = None;
            }
            Err(words) => {
                let times = slot
                    .failed
                    .as_ref()
                    .map_or(0, |failed| failed.times)
                    .saturating_add(1);
                slot.failed = Some(CatalogFailure {
                    at_us: now_us,
                    times,
                    words: Arc::clone(words),
                });
            }
        }
    }
}

/// By the target's name.
pub type Catalogs = HashMap<String, CatalogSlot>;

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: u64 = 30_000_000;
    const NOW: u64 = 1_000_000_000;

    fn labels(text: &str) -> Arc<[String]> {
        vec![text.to_owned()].into()
    }

    fn slot(age_us: u64) -> CatalogSlot {
        CatalogSlot {
            catalog: Some(Arc::default()),
            labels: labels("a"),
            version: 1,
            loaded_us: NOW - age_us,
            ..CatalogSlot::default()
        }
    }

    fn state(slot: &CatalogSlot) -> CatalogState {
        catalog_state(Some(slot), NOW, AGE, &labels("a"))
    }

    fn failed(ago_us: u64, times: u32) -> Option<CatalogFailure> {
        Some(CatalogFailure {
            at_us: NOW - ago_us,
            times,
            words: "the target refused".into(),
        })
    }

    #[test]
    fn a_catalog_is_used_for_its_age_then_while_a_newer_one_comes_and_then_no_more() {
        assert_eq!(
            catalog_state(None, NOW, AGE, &labels("a")),
            CatalogState::MustWait,
            "never asked for"
        );
        assert_eq!(
            state(&CatalogSlot::default()),
            CatalogState::MustWait,
            "asked for, not there"
        );
        assert_eq!(state(&slot(0)), CatalogState::Fresh);
        assert_eq!(state(&slot(AGE)), CatalogState::Fresh);
        assert_eq!(state(&slot(AGE + 1)), CatalogState::RefreshInBackground);
        assert_eq!(state(&slot(2 * AGE)), CatalogState::RefreshInBackground);
        assert_eq!(state(&slot(2 * AGE + 1)), CatalogState::MustWait);
    }

    #[test]
    fn a_changed_target_and_other_labels_are_waited_for_at_any_age() {
        for age in [0, AGE + 1, 2 * AGE + 1] {
            assert_eq!(
                state(&CatalogSlot {
                    stale: true,
                    ..slot(age)
                }),
                CatalogState::MustWait
            );
            assert_eq!(
                state(&CatalogSlot {
                    labels: labels("b"),
                    ..slot(age)
                }),
                CatalogState::MustWait
            );
        }
        let equal = CatalogSlot {
            labels: labels("a"),
            ..slot(0)
        };
        assert_eq!(
            state(&equal),
            CatalogState::Fresh,
            "another list of the same labels"
        );
    }

    #[test]
    fn a_failure_is_told_until_its_time_is_over_and_never_hides_what_is_fresh() {
        let words = CatalogState::Failed("the target refused".into());
        for (ago, times, waits) in [
            (0, 1, true),
            (FAILURE_WAIT_US - 1, 1, true),
            (FAILURE_WAIT_US, 1, false),
            (FAILURE_WAIT_US, 2, true),
            (2 * FAILURE_WAIT_US, 2, false),
            (FAILURE_WAIT_US_MAX - 1, 6, true),
            (FAILURE_WAIT_US_MAX, 6, false),
            (FAILURE_WAIT_US_MAX - 1, u32::MAX, true),
            (FAILURE_WAIT_US_MAX, u32::MAX, false),
        ] {
            let failed = failed(ago, times);
            let none = CatalogSlot {
                failed: failed.clone(),
                ..CatalogSlot::default()
            };
            let unusable = if waits {
                words.clone()
            } else {
                CatalogState::MustWait
            };
            assert_eq!(state(&none), unusable, "nothing known, {ago} {times}");
            assert_eq!(
                state(&CatalogSlot {
                    failed: failed.clone(),
                    ..slot(2 * AGE + 1)
                }),
                unusable,
                "too old, {ago} {times}"
            );
            assert_eq!(
                state(&CatalogSlot {
                    failed: failed.clone(),
                    stale: true,
                    ..slot(0)
                }),
                unusable,
                "stale, {ago} {times}"
            );
            let ageing = if waits {
                CatalogState::Fresh
            } else {
                CatalogState::RefreshInBackground
            };
            assert_eq!(
                state(&CatalogSlot {
                    failed: failed.clone(),
                    ..slot(AGE + 1)
                }),
                ageing,
                "{ago} {times}"
            );
            assert_eq!(
                state(&CatalogSlot { failed, ..slot(AGE) }),
                CatalogState::Fresh,
                "{ago} {times}"
            );
        }
    }
}
