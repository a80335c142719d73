//! The verdict on one statement: known facts, joined with what names stand for, resolved, judged, cached.

use super::names::Lookup;
use super::{Traffic, Waiting};
use crate::core::Core;
use crate::known::Known;
use headgate_mask::{CatalogBuilder, Exposure, Hints, catalog_query};
use headgate_plane::{Class, ClassSet};
use headgate_policy::{Asked, ResolvedStatement, UNRESOLVED, Verdict};
use headgate_sql::builtin::{self, FunctionKind, RelationKind};
use headgate_sql::{Action, Facts, Statement};
use std::rc::Rc;
use std::sync::Arc;

impl Traffic {
    /// The context follows the newest snapshot, between two statements.
    pub(super) fn refresh(&mut self, core: &mut Core) {
        if !Arc::ptr_eq(&self.policy, &core.policy) {
            self.policy = Arc::clone(&core.policy);
            self.context = self.policy.context(&self.who, &self.target);
            self.catalog_tried = false;
            // Names can still be resolved with the old catalog; labels it may lack, so for masks it counts as unknown.
            self.labels_current = false;
            self.take_up_masks(core);
        } else if self.catalogs_seen != core.catalog_version && !self.own_ddl {
            self.catalogs_seen = core.catalog_version;
            if let Some(slot) = core.catalogs.get(&self.target.name)
                && slot.version > self.catalog_version
            {
                self.adopt(core);
            }
        }
    }

    /// Takes over the core's catalog of this target.
    fn adopt(&mut self, core: &mut Core) {
        let Some(slot) = core.catalogs.get(&self.target.name) else { return };
        if slot.version != self.catalog_version || !self.labels_current {
            self.catalog = slot.catalog.clone();
            self.catalog_version = slot.version;
            self.labels_current = true;
            self.take_up_masks(core);
        }
    }

    pub(super) fn take_up_masks(&mut self, core: &mut Core) {
        let catalog = self.catalog.as_ref().filter(|_| self.labels_current).map(|c| (self.catalog_version, c));
        let numbered = core.callers.get(&self.policy, self.context.masks(), catalog, &core.mask_key);
        self.caller = numbered.caller;
        self.caller_number = numbered.number;
    }

    fn needs_catalog(&self) -> bool {
        !self.caller.is_free() || self.context.any_rule_names_relations()
    }

    /// The catalog query covers the labels of all mask rules, so that all sessions of a core can share its answer.
    fn labels(&self) -> Vec<&str> {
        self.policy.snapshot().masks.iter().flat_map(|m| m.columns.iter().map(String::as_str)).collect()
    }

    /// Takes the core's catalog, or sends our own query for it: true while that is under way. Only between transactions,
    /// so that it is never part of one of the client's.
    pub(super) fn wants_catalog_now(&mut self, core: &mut Core, target_out: &mut Vec<u8>) -> bool {
        if self.catalog_loading.is_some() {
            return true;
        }
        let (needed, greeting) = (self.needs_catalog(), self.welcome.is_some());
        if !needed && !greeting {
            return false;
        }
        let age_max_us = core.settings.catalog_age_ms_max * 1000;
        let fresh = core.catalogs.get(&self.target.name).is_some_and(|slot| {
            // A statement that runs is not kept waiting for age alone; a new session takes the newest. A session that
            // needs names for its recording only takes what there is until it is old.
            (!slot.stale || !needed) && (!greeting || core.clock.now_us.saturating_sub(slot.loaded_us) < age_max_us)
        });
        if fresh && !self.own_ddl {
            self.adopt(core);
            return false;
        }
        let idle = self.owes_nothing() && self.status == headgate_postgres::backend::TransactionStatus::Idle;
        if !idle || (self.catalog_tried && self.catalog.is_none()) {
            return false;
        }
        let labels = self.labels();
        let text = catalog_query(&labels);
        self.catalog_loading = Some(Box::new(CatalogBuilder::new(&labels)));
        if headgate_postgres::write::query(target_out, text.as_bytes()).is_err() {
            self.catalog_loading = None;
            return false;
        }
        super::Expect::Catalog.place(self);
        self.waiting = Waiting::Catalog;
        true
    }

    pub(super) fn catalog_loaded(&mut self, core: &mut Core, builder: Option<CatalogBuilder>) {
        // Rules may have come meanwhile that name other labels: then the next session loads again.
        let outdated = !Arc::ptr_eq(&self.policy, &core.policy);
        let catalog = builder.map(CatalogBuilder::finish).map(Arc::new);
        if catalog.is_none() {
            tracing::warn!(target_name = %self.target.name, "catalog: could not be loaded; everything unknown is covered");
        }
        self.catalog_tried = true;
        self.catalog_version = core.keep_catalog(&self.target.name, catalog.clone());
        if outdated {
            core.mark_catalog_stale(&self.target.name);
        }
        self.catalog = catalog;
        self.labels_current = true;
        self.take_up_masks(core);
        if self.waiting == Waiting::Catalog {
            self.waiting = Waiting::No;
        }
    }

    /// Facts of a text together with what its EXECUTE and FETCH stand for. `None`: ask again when the target has answered.
    pub(super) fn joined(&self, known: &Rc<Known>) -> Option<Rc<Known>> {
        let Ok(facts) = &known.facts else { return Some(Rc::clone(known)) };
        if !known.leans {
            return Some(Rc::clone(known));
        }
        let mut all = Facts { statements: Vec::new() };
        for (at, statement) in facts.statements.iter().enumerate() {
            all.statements.push(statement.clone());
            // In the same text an earlier PREPARE or DECLARE gives the name its meaning.
            let same_text = facts.statements.iter().take(at).rev().find_map(|earlier| match (&earlier.action, &statement.action) {
                (Action::Prepare { name, inner }, Action::Execute { name: wanted }) if name == wanted => Some(inner),
                (Action::Declare { name, inner }, Action::Fetch { name: wanted }) if name == wanted => Some(inner),
                _ => None,
            });
            if let Some(inner) = same_text {
                all.statements.push((**inner).clone());
                continue;
            }
            match &statement.action {
                Action::Execute { name } => match self.names.statement(name.as_bytes(), self.segment) {
                    Lookup::Wait => return None,
                    Lookup::Unknown => all.statements.push(unknown_name()),
                    Lookup::Found(prepared) => push_inner(&mut all, &prepared.known, prepared.inner_of),
                },
                Action::Fetch { name } => match self.names.portal(name.as_bytes(), self.segment) {
                    Lookup::Wait => return None,
                    Lookup::Unknown => all.statements.push(unknown_name()),
                    Lookup::Found(portal) => push_inner(&mut all, &portal.prepared.known, portal.prepared.inner_of),
                },
                _ => {}
            }
        }
        Some(Known::new(Ok(all)))
    }

    pub(super) fn judge(&mut self, core: &mut Core, known: &Rc<Known>, text: &[u8], parameters: Option<u32>) -> Rc<Verdict> {
        let id = self.context.id();
        if let Some(verdict) = known.verdict(id, self.catalog_version) {
            return verdict;
        }
        let resolved = match &known.facts {
            Ok(facts) if self.context.any_rule_names_relations() => facts.statements.iter().map(|s| self.resolve(s)).collect(),
            _ => Vec::new(),
        };
        let verdict = Rc::new(self.policy.judge(
            &self.context,
            &Asked {
                facts: known.facts.as_ref(),
                resolved: &resolved,
                text,
                parameters,
                who: &self.who,
                target: &self.target,
                session: &headgate_sql::settings::BEGAN,
                now_unix_ms: core.clock.unix_ms(),
            },
        ));
        if verdict.cacheable {
            known.remember(id, self.catalog_version, Rc::clone(&verdict));
        }
        verdict
    }

    /// The relations of a text as `schema.name`, for the recording.
    pub(super) fn relations_of(&self, known: &Known) -> Rc<[String]> {
        known.relations(self.catalog_version, |facts| {
            let resolved = facts.statements.iter().map(|s| self.resolve(s));
            resolved.flat_map(|s| s.relations).map(|r| format!("{}.{}", r.schema, r.name)).collect()
        })
    }

    fn resolve(&self, statement: &Statement) -> ResolvedStatement {
        let mut resolved = ResolvedStatement::as_written(statement);
        for (relation, written) in resolved.relations.iter_mut().zip(&statement.relations) {
            if written.schema.is_some() {
                continue;
            }
            let found = self.catalog.as_deref().and_then(|c| c.resolve(None, &written.name));
            if let Some((schema, name, _)) = found {
                relation.schema = schema.to_owned();
                relation.name = name.to_owned();
            } else if builtin::relation(None, &written.name) != RelationKind::User {
                relation.schema = "pg_catalog".to_owned();
            } else if let Some(schema) = self.creates_in(statement) {
                relation.schema = schema;
            }
        }
        for function in &mut resolved.functions {
            if function.schema.as_deref() == Some(UNRESOLVED) && builtin::function(None, &function.name) != FunctionKind::User {
                function.schema = None;
            }
        }
        resolved
    }

    /// Where an unqualified new relation will go: the first schema of the search_path.
    fn creates_in(&self, statement: &Statement) -> Option<String> {
        let creates = statement.verbs.iter().any(|v| v.starts_with("create "));
        if !creates {
            return None;
        }
        self.catalog.as_deref().and_then(|c| c.creation_schema()).map(str::to_owned)
    }

    pub(super) fn exposure(&self, known: &Known) -> (Exposure, Hints) {
        if self.caller.is_free() {
            return (Exposure::default(), Hints { may_compute: false, opaque: false, known: true });
        }
        known.exposure(self.caller_number, || self.work_out_exposure(known))
    }

    fn work_out_exposure(&self, known: &Known) -> (Exposure, Hints) {
        match &known.facts {
            Ok(facts) => {
                let mut all = Exposure::default();
                for statement in &facts.statements {
                    let one = self.caller.exposure(statement);
                    all.touches |= one.touches;
                    all.may_compute |= one.may_compute;
                    all.sinks |= one.sinks;
                }
                let opaque = facts.class().contains(Class::Opaque);
                (all, Hints { may_compute: all.may_compute, opaque, known: true })
            }
            Err(_) => (Exposure { touches: true, may_compute: true, sinks: true }, Hints { may_compute: true, opaque: true, known: false }),
        }
    }
}

fn push_inner(all: &mut Facts, known: &Known, inner_of: Option<usize>) {
    let Ok(facts) = &known.facts else {
        all.statements.push(unknown_name());
        return;
    };
    match inner_of {
        None => all.statements.extend(facts.statements.iter().cloned()),
        Some(at) => match facts.statements.get(at).map(|s| &s.action) {
            Some(Action::Prepare { inner, .. } | Action::Declare { inner, .. }) => all.statements.push((**inner).clone()),
            _ => all.statements.push(unknown_name()),
        },
    }
}

/// A name that this session did not see made: what it stands for cannot be known.
fn unknown_name() -> Statement {
    Statement { class: ClassSet::of(&[Class::Opaque]), has_where: true, hidden_columns: true, ..Statement::default() }
}
