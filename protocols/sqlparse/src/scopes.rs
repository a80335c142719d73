//! Which names are CTEs where they are used.
//!
//! Scopes are a tree: each CTE is in sight in its own scope and in all that grow out of it. All questions are answered in one
//! walk over the tree, so that ten thousand CTEs and a million names cost no more than their number.

use crate::extract::Cte;
use std::collections::HashMap;

/// The names in `met` that no CTE in sight has. `met` is sorted by scope; a scope is the index of its CTE in `ctes`, plus 1.
pub(crate) fn unseen<'a>(ctes: &[Cte<'a>], met: &[(usize, &'a str)]) -> Vec<&'a str> {
    // The scopes that grow out of each scope, as linked lists: a parent stands before its children.
    let mut first = vec![0usize; ctes.len() + 1];
    let mut next = vec![0usize; ctes.len() + 1];
    for (scope, cte) in (1..).zip(ctes) {
        if let (Some(first), Some(next)) = (first.get_mut(cte.parent), next.get_mut(scope)) {
            *next = std::mem::replace(first, scope);
        }
    }
    let mut in_sight: HashMap<&str, usize> = HashMap::new();
    let mut unseen = Vec::new();
    let mut stack = vec![(0usize, false)];
    while let Some((scope, leaves)) = stack.pop() {
        let name = scope
            .checked_sub(1)
            .and_then(|at| ctes.get(at))
            .map(|cte| cte.name);
        if leaves {
            if let Some(count) = name.and_then(|name| in_sight.get_mut(name)) {
                *count -= 1;
            }
            continue;
        }
        if let Some(name) = name {
            *in_sight.entry(name).or_default() += 1;
        }
        let from = met.partition_point(|(s, _)| *s < scope);
        let here = met
            .get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(|(s, _)| *s == scope);
        unseen.extend(
            here.map(|(_, name)| *name)
                .filter(|name| in_sight.get(name).is_none_or(|count| *count == 0)),
        );
        stack.push((scope, true));
        let mut child = first.get(scope).copied().unwrap_or_default();
        while child > 0 {
            stack.push((child, false));
            child = next.get(child).copied().unwrap_or_default();
        }
    }
    unseen
}
