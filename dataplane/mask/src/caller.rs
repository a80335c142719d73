//! Which mask rules bind one session, ready for planning.

use crate::catalog::Catalog;
use headgate_plane::MaskRule;
use headgate_sql::Statement;
use std::sync::Arc;

/// Cheap to clone. Built at sign-in, and again when the snapshot or the catalog changes.
#[derive(Clone, Debug)]
pub struct Caller {
    inner: Arc<CallerInner>,
}

#[derive(Debug)]
struct CallerInner {
    bound: bool,
}

/// What one statement can reach of a caller's labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// It names a relation that holds, or shows, labelled columns (by bare name, whatever the schema), or statistics.
    /// Its errors and notices are replaced by templates.
    pub touches: bool,
    /// Some of its outputs may be computed from labelled columns.
    pub may_compute: bool,
}

impl Caller {
    /// `rules`: the mask rules that match this session (who, target, unless already judged). `catalog`: `None` while it
    /// is not known, which is doubt. `key`: of `hash` and `tokenize`.
    pub fn new(rules: &[&MaskRule], _catalog: Option<Arc<Catalog>>, _key: &[u8; 32]) -> Caller {
        Caller { inner: Arc::new(CallerInner { bound: !rules.is_empty() }) }
    }

    /// No mask rule binds this session: every plan passes.
    pub fn is_free(&self) -> bool {
        !self.inner.bound
    }

    pub fn exposure(&self, _statement: &Statement) -> Exposure {
        Exposure { touches: self.inner.bound, may_compute: self.inner.bound }
    }
}
