//! Numbers for what names mean: one for each catalog with each search path that a session of this core has.
//!
//! Verdicts, exposures and plans that hang on names are kept under such a number; it is never used twice on a core.
//! Bounds: [`SIGHTS_MAX`], the oldest goes first (and what was kept under it is worked out anew).

use headgate_mask::{Catalog, SearchPath};
use std::sync::Arc;

const SIGHTS_MAX: usize = 64;

struct Sight {
    catalog: Arc<Catalog>,
    path: Option<SearchPath>,
    number: u64,
}

#[derive(Default)]
pub(crate) struct Sights(Vec<Sight>);

impl Sights {
    /// `last`: the number given last on this core.
    pub(crate) fn number(
        &mut self,
        catalog: &Arc<Catalog>,
        path: Option<&SearchPath>,
        last: &mut u64,
    ) -> u64 {
        if let Some(sight) = self
            .0
            .iter()
            .find(|s| Arc::ptr_eq(&s.catalog, catalog) && s.path.as_ref() == path)
        {
            return sight.number;
        }
        *last += 1;
        if self.0.len() >= SIGHTS_MAX {
            self.0.remove(0);
        }
        self.0.push(Sight {
            catalog: Arc::clone(catalog),
            path: path.cloned(),
            number: *last,
        });
        *last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_with_a_path_has_one_number_for_all_sessions() {
        let (mut sights, mut last) = (Sights::default(), 7);
        let (one, other) = (Arc::new(Catalog::default()), Arc::new(Catalog::default()));
        let path = SearchPath::named(["a"], "r");
        assert_eq!(sights.number(&one, None, &mut last), 8);
        assert_eq!(sights.number(&one, Some(&path), &mut last), 9);
        assert_eq!(sights.number(&other, Some(&path), &mut last), 10);
        assert_eq!(
            sights.number(&one, Some(&SearchPath::named(["a"], "r")), &mut last),
            9
        );
        assert_eq!(sights.number(&one, None, &mut last), 8);
    }
}
