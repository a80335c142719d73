//! What a session's statements are judged by, and the verdict on one: known facts, joined with what names stand for,
//! resolved, judged, cached.
//!
//! [`Judging`] has the rules, the masks, the catalog with its search path, and what the session has set; this file is its
//! only writer.
//!
//! The catalog is read on a connection of the gateway's own ([`crate::sql::catalogs`]). What this session alone can see (its own
//! uncommitted DDL), what is newer than the catalog, and a search path that nobody can tell are asked for in the session,
//! between two statements, by a look-up whose answer lies over the shared catalog. Invariant: what is not known is an error
//! or doubt that the client is told of, never a silent NULL.

use super::intake::Seen;
use super::names::{Lookup, Meaning, Prepared, sql_name};
use super::owed::About;
use super::traffic::{Traffic, TrafficEnd};
use crate::clearance::doors::Doors;
use crate::clearance::{Clearance, Refused, StandsFor, Waiting};
use crate::core::Core;
use crate::sql::catalogs::{CatalogState, CatalogWanted};
use crate::sql::known::Known;
use headgate_mask::{
    Caller, Catalog, CatalogBuilder, Exposure, FIRST_USER_OID, Hints, Lookup as CatalogLookup, SearchPath,
};
use headgate_plane::{Class, ClassSet, Effect as Ruling, SessionId};
use headgate_policy::family::sql::{Message, ResolvedStatement, UNRESOLVED};
use headgate_policy::{Asked, Context, Verdict, Why};
use headgate_postgres::backend::{Backend, TransactionStatus};
use headgate_postgres::frame;
use headgate_sql::builtin::{self, FunctionKind, RelationKind};
use headgate_sql::settings::{RoleSetting, SearchPathSetting};
use headgate_sql::{Action, Facts, SessionSettings, Statement};
use std::rc::Rc;
use std::sync::Arc;

/// By what the statements of a session are judged now.
pub(crate) struct Judging {
    pub(super) caller: Caller,
    /// Of `caller`: what was worked out for another one is worked out anew.
    pub(super) caller_number: u64,
    /// Of what names mean: the catalog and the path together. Part of the key of cached verdicts.
    version: u64,
    /// Events of catalogs on this core when this session last looked, and until when what it saw is fresh.
    seen_events: u64,
    fresh_until_us: u64,
    /// A statement that may change the session's settings is on its way: names mean what it leaves.
    moving: u32,
    /// Settings were changed since the transaction began.
    moved: bool,
    /// A statement of the open transaction may have changed the target's catalog.
    touched: bool,
    /// Such a statement was sent, and its transaction is not known to be over: no catalog of others says what it sees.
    own_ddl: bool,
    /// The shared catalog, or what this session asked for itself over it.
    catalog: Option<Arc<Catalog>>,
    shared: Option<Arc<Catalog>>,
    shared_version: u64,
    /// What lies over the shared catalog was asked for before the last own DDL.
    overlay_outdated: bool,
    path: Option<SearchPath>,
    settings: SessionSettings,
    /// What the target told of the path, while settings do not say it.
    path_told: Option<SearchPath>,
    looking: Option<Box<Looking>>,
    /// Why the last look-up came to nothing.
    look_up_failed: Option<String>,
    /// What was looked up for the message at the front: not asked for twice.
    looked_for: Vec<String>,
    role: String,
    /// See [`Judging::meaning`].
    meaning: Option<Rc<[(String, String)]>>,
}

struct Looking {
    builder: CatalogBuilder,
    broken: Option<String>,
}

/// Facts of a text together with what its EXECUTE and FETCH stand for.
pub(super) struct Joined {
    pub known: Rc<Known>,
    pub stands_for: Vec<StandsFor>,
    /// It runs a name of which nobody can say what the target has under it.
    pub doubtful: bool,
}

impl Joined {
    pub(super) fn plain(known: &Rc<Known>) -> Joined {
        Joined {
            known: Rc::clone(known),
            stands_for: Vec::new(),
            doubtful: false,
        }
    }
}

impl Judging {
    pub(super) fn begin(core: &mut Core, clearance: &Clearance, settings: SessionSettings) -> Judging {
        let path = SearchPath::default();
        let caller = core
            .callers
            .get(clearance.policy(), &[], None, &path, &core.mask_key)
            .caller;
        let mut judging = Judging {
            caller,
            caller_number: 0,
            version: 0,
            seen_events: 0,
            fresh_until_us: 0,
            moving: 0,
            moved: false,
            touched: false,
            own_ddl: false,
            catalog: None,
            shared: None,
            shared_version: 0,
            overlay_outdated: false,
            path: None,
            settings,
            path_told: None,
            looking: None,
            look_up_failed: None,
            looked_for: Vec::new(),
            role: clearance.target().user.clone(),
            meaning: None,
        };
        judging.take_up(core, clearance);
        judging
    }

    pub(super) fn catalog_version(&self) -> u64 {
        self.version
    }

    /// Whether one of these tables is newer than the catalog. What is made in this session and not committed is not in the
    /// catalog of others however new that is.
    pub(super) fn is_news(&self, mut tables: impl Iterator<Item = u32>) -> bool {
        let Some(catalog) = self.catalog.as_ref().filter(|_| !self.own_ddl) else {
            return false;
        };
        tables.any(|oid| oid >= FIRST_USER_OID && !catalog.knows(oid))
    }

    fn needs_catalog(&self, context: &Context) -> bool {
        !self.caller.is_free() || context.any_rule_names_resources()
    }

    /// What the session has set that says what names in a text mean, for whoever is asked about it; `None` where it is as the
    /// target gives it. What is not known is this session's own: the same text in another one may mean something else.
    pub(super) fn meaning(&self) -> Option<Rc<[(String, String)]>> {
        self.meaning.clone()
    }

    fn meaning_now(&self, session: SessionId) -> Option<Rc<[(String, String)]>> {
        let now = self.settings.now();
        let unknown = || format!("not known (session {session})");
        let path = match &now.search_path {
            SearchPathSetting::Began => None,
            SearchPathSetting::Listed(list) => {
                let quoted: Vec<_> = list
                    .iter()
                    .map(|name| format!("\"{}\"", name.replace('"', "\"\"")))
                    .collect();
                Some(quoted.join(", "))
            }
            SearchPathSetting::Unknown => Some(unknown()),
        };
        let role = |role: &RoleSetting| match role {
            RoleSetting::Began => None,
            RoleSetting::Named(name) => Some(name.clone()),
            RoleSetting::Unknown => Some(unknown()),
        };
        let all = [
            ("search_path", path),
            ("role", role(&now.role)),
            ("session_authorization", role(&now.session_authorization)),
        ];
        let set: Vec<_> = all
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect();
        (!set.is_empty()).then(|| set.into())
    }

    /// Masks and names follow the catalog, the path and the rules of now.
    fn take_up(&mut self, core: &mut Core, clearance: &Clearance) {
        self.meaning = self.meaning_now(clearance.session());
        let role = match &self.settings.now().role {
            RoleSetting::Named(name) => Some(name.as_str()),
            RoleSetting::Began => Some(self.role.as_str()),
            RoleSetting::Unknown => None,
        };
        self.path = match (self.settings.search_path(), role) {
            (SearchPathSetting::Began, _) => self.catalog.as_ref().map(|c| c.default_path().clone()),
            (SearchPathSetting::Listed(list), Some(role)) => {
                Some(SearchPath::named(list.iter().map(String::as_str), role))
            }
            (SearchPathSetting::Listed(_) | SearchPathSetting::Unknown, _) => self.path_told.clone(),
        };
        let nowhere = SearchPath::default();
        let path = self.path.as_ref().unwrap_or(&nowhere);
        let sight = self.catalog.as_ref().map_or(0, |catalog| {
            core.sights
                .number(catalog, self.path.as_ref(), &mut core.catalog_version)
        });
        self.version = sight;
        let catalog = self
            .catalog
            .as_ref()
            .filter(|_| self.path.is_some())
            .map(|catalog| (sight, catalog));
        let numbered = core.callers.get(
            clearance.policy(),
            clearance.context().masks(),
            catalog,
            path,
            &core.mask_key,
        );
        self.caller = numbered.caller;
        self.caller_number = numbered.number;
    }

    /// Takes over the core's catalog of the target, if it is another one.
    fn adopt(&mut self, core: &mut Core, clearance: &Clearance) {
        let Some(slot) = core.catalogs.get(&clearance.target().name) else {
            return;
        };
        let Some(catalog) = slot.catalog.clone() else {
            return;
        };
        let same = self
            .shared
            .as_ref()
            .is_some_and(|shared| Arc::ptr_eq(shared, &catalog));
        self.seen_events = core.catalog_events;
        self.fresh_until_us = slot
            .loaded_us
            .saturating_add(core.settings.catalog_age_ms_max.saturating_mul(1000));
        if same {
            return;
        }
        self.shared_version = slot.version;
        self.shared = Some(Arc::clone(&catalog));
        // What lies over it is asked for anew when it is next needed.
        self.overlay_outdated = self.own_ddl;
        if self.own_ddl {
            // Of the message at the front, too.
            self.looked_for.clear();
        }
        self.catalog = Some(catalog);
        self.take_up(core, clearance);
    }

    /// A statement that may change the target's catalog is sent.
    pub(super) fn own_ddl_sent(&mut self, _core: &mut Core) {
        self.own_ddl = true;
        self.overlay_outdated = true;
    }

    /// What is sent may undo DDL of the transaction: what was looked up in it holds no longer.
    pub(super) fn own_ddl_may_be_undone(&mut self) {
        self.overlay_outdated |= self.own_ddl;
    }

    /// Names mean what own DDL made of them, and that has not been asked for yet.
    fn own_names_unknown(&self) -> bool {
        self.own_ddl && self.overlay_outdated
    }

    /// It has come to its end.
    pub(super) fn catalog_touched(&mut self) {
        self.touched = true;
    }

    /// The session is between transactions. Whether its DDL has become everybody's.
    pub(super) fn transaction_ended(
        &mut self,
        core: &mut Core,
        clearance: &Clearance,
        nothing_owed: bool,
        failed: bool,
    ) -> bool {
        if self.moved {
            self.moved = false;
            if failed {
                self.settings.rollback()
            } else {
                self.settings.commit()
            }
            self.take_up(core, clearance);
        }
        if self.own_ddl && nothing_owed {
            self.own_ddl = false;
            self.overlay_outdated = false;
            self.catalog = self.shared.clone();
            self.take_up(core, clearance);
        }
        let touched = std::mem::take(&mut self.touched);
        if touched {
            core.mark_catalog_stale(&clearance.target().name);
        }
        touched
    }

    /// A statement is sent that may leave the session with other settings.
    pub(super) fn moves_sent(&mut self) {
        self.moving += 1;
    }

    /// Whether the end of a transaction or savepoint gives back settings.
    pub(super) fn may_end_settings(&self) -> bool {
        self.moved || self.moving > 0
    }

    /// It is done, failed or skipped.
    pub(super) fn moves_over(&mut self) {
        self.moving = self.moving.saturating_sub(1);
    }

    /// The target has done one statement.
    pub(super) fn done_statement(
        &mut self,
        core: &mut Core,
        clearance: &Clearance,
        statement: &Statement,
        tag: &[u8],
    ) {
        if !SessionSettings::moves(statement) {
            return;
        }
        if statement.action == Action::Commit && tag == b"ROLLBACK" {
            self.settings.rollback();
        } else {
            self.settings.apply_statement(statement);
        }
        self.moved = true;
        self.path_told = None;
        self.take_up(core, clearance);
    }

    /// What a text of unknown facts may have set.
    pub(super) fn done_unknown(&mut self, core: &mut Core, clearance: &Clearance) {
        self.settings.doubt();
        self.moved = true;
        self.path_told = None;
        self.take_up(core, clearance);
    }

    /// The relations of a text as `schema.name`, for the recording.
    pub(super) fn relations_of(&self, known: &Known) -> Rc<[String]> {
        known.relations(self.version, |facts| {
            let resolved = facts.statements.iter().map(|s| self.resolve(s));
            resolved
                .flat_map(|s| s.relations)
                .map(|r| format!("{}.{}", r.schema, r.name))
                .collect()
        })
    }

    fn resolve(&self, statement: &Statement) -> ResolvedStatement {
        if self.settings.search_path().shadows_catalog() && self.path_told.is_none() {
            let Some(path) = &self.path else {
                return ResolvedStatement::in_doubt(statement);
            };
            return self.resolve_along(statement, path, ResolvedStatement::in_doubt(statement));
        }
        let nowhere = SearchPath::default();
        self.resolve_along(
            statement,
            self.path.as_ref().unwrap_or(&nowhere),
            ResolvedStatement::as_written(statement),
        )
    }

    fn resolve_along(
        &self,
        statement: &Statement,
        path: &SearchPath,
        mut resolved: ResolvedStatement,
    ) -> ResolvedStatement {
        for (relation, written) in resolved.relations.iter_mut().zip(&statement.relations) {
            if written.schema.is_some() {
                continue;
            }
            let found = self
                .catalog
                .as_deref()
                .and_then(|c| c.resolve(path, None, &written.name));
            if let Some((schema, name, _)) = found {
                relation.schema = schema.to_owned();
                relation.name = name.to_owned();
            } else if builtin::relation(None, &written.name) != RelationKind::User {
                relation.schema = "pg_catalog".to_owned();
            } else if let Some(schema) = self.creates_in(statement, path) {
                relation.schema = schema;
            }
        }
        for function in &mut resolved.functions {
            if function.schema.as_deref() == Some(UNRESOLVED)
                && builtin::function(None, &function.name) != FunctionKind::User
            {
                function.schema = None;
            }
        }
        resolved
    }

    /// Where an unqualified new relation will go: the first schema of the search_path.
    fn creates_in(&self, statement: &Statement, path: &SearchPath) -> Option<String> {
        let creates = statement.verbs.iter().any(|v| v.starts_with("create "));
        if !creates {
            return None;
        }
        self.catalog
            .as_deref()
            .and_then(|c| c.creation_schema(path))
            .map(str::to_owned)
    }

    pub(super) fn exposure(&self, known: &Known) -> (Exposure, Hints) {
        if self.caller.is_free() {
            return (
                Exposure::default(),
                Hints {
                    may_compute: false,
                    opaque: false,
                    known: true,
                },
            );
        }
        if self.own_ddl {
            // What a ROLLBACK in it gives back is this session's own affair.
            return self.work_out_exposure(known);
        }
        known.exposure(self.caller_number, || self.work_out_exposure(known))
    }

    fn work_out_exposure(&self, known: &Known) -> (Exposure, Hints) {
        match &known.facts {
            Ok(facts) => {
                let mut all = Exposure::default();
                // Of a relation with labels that is renamed, or joins another one, and of what a ROLLBACK gives back, the
                // statements behind it see more than the catalog says.
                let mut moved = false;
                for statement in &facts.statements {
                    let one = self.caller.exposure_amid(statement, moved);
                    moved |= statement.changes_catalog && one.touches || self.own_ddl && undoes(statement);
                    all.touches |= one.touches;
                    all.may_compute |= one.may_compute;
                    all.sinks |= one.sinks;
                }
                let opaque = facts.class().contains(Class::Opaque);
                (
                    all,
                    Hints {
                        may_compute: all.may_compute,
                        opaque,
                        known: true,
                    },
                )
            }
            Err(_) => (
                Exposure {
                    touches: true,
                    may_compute: true,
                    sinks: true,
                },
                Hints {
                    may_compute: true,
                    opaque: true,
                    known: false,
                },
            ),
        }
    }
}

/// What has to be looked up in the session before a statement is judged.
enum Missing {
    Nothing,
    Names(Vec<String>),
}

impl Traffic {
    /// What is judged by follows the newest rules and catalog, at every look at a message.
    pub(super) fn refresh(&mut self, core: &mut Core) {
        if self.clearance.follow_rules(core) {
            self.judging.fresh_until_us = 0;
            self.judging.take_up(core, &self.clearance);
        }
    }

    /// A session that will need the catalog, or that names relations in its recording, has it asked for at once.
    pub(super) fn want_catalog(&mut self, core: &mut Core) {
        match core.catalog_state(&self.clearance.target().name) {
            CatalogState::Fresh => self.judging.adopt(core, &self.clearance),
            CatalogState::RefreshInBackground | CatalogState::MustWait => {
                let wanted = self.catalog_wanted(core);
                core.want_catalog(wanted);
                self.judging.adopt(core, &self.clearance);
            }
            CatalogState::Failed(_) => {}
        }
    }

    fn catalog_wanted(&self, core: &mut Core) -> CatalogWanted {
        CatalogWanted {
            target: Arc::clone(self.clearance.target()),
            secret: self.secret.clone(),
            reader: self.reader.clone(),
            labels: core.catalog_labels(),
            before: None,
        }
    }

    /// The core has another catalog of this target, or could not get one.
    pub(super) fn catalog_came(&mut self, core: &mut Core) {
        let newer = core
            .catalogs
            .get(&self.clearance.target().name)
            .is_some_and(|slot| slot.catalog.is_some() && slot.version != self.judging.shared_version);
        // What this session made and looked up lies over the one before: replies that are on their way are of that, and so is
        // the answer to a look-up. The next look at a statement takes up the newer one.
        let under_way = self.judging.looking.is_some() || (self.judging.own_ddl && !self.owed.is_empty());
        if newer && !under_way {
            self.judging.adopt(core, &self.clearance);
        }
        if self.lane.waiting == Waiting::Catalog && self.judging.looking.is_none() {
            self.lane.waiting = Waiting::No;
        }
    }

    /// The verdict on a statement by what holds now, or what it waits for.
    pub(super) fn see_through(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        joined: &Joined,
        text: &[u8],
        parameters: Option<u32>,
    ) -> Result<Seen, TrafficEnd> {
        if self.owed.is_empty() {
            // Nothing is on its way.
            self.judging.moving = 0;
        }
        if self.judging.moving > 0
            && (joined.known.touches_settings || self.judging.needs_catalog(self.clearance.context()))
        {
            // What is on its way may change what names mean. Its answer comes when it is asked for.
            headgate_postgres::write::flush(doors.target.own());
            self.lane.waiting = Waiting::Target;
            return Ok(Seen::Stays);
        }
        if self.judging.needs_catalog(self.clearance.context()) {
            let fresh = self.judging.seen_events == core.catalog_events
                && core.clock.now_us < self.judging.fresh_until_us;
            if !fresh {
                match core.catalog_state(&self.clearance.target().name) {
                    CatalogState::Fresh => self.judging.adopt(core, &self.clearance),
                    CatalogState::RefreshInBackground => {
                        let wanted = self.catalog_wanted(core);
                        core.want_catalog(wanted);
                        self.judging.adopt(core, &self.clearance);
                        self.judging.fresh_until_us = core.clock.now_us.saturating_add(1_000_000);
                    }
                    CatalogState::MustWait => {
                        let wanted = self.catalog_wanted(core);
                        core.want_catalog(wanted);
                        self.lane.waiting = Waiting::Catalog;
                        return Ok(Seen::Stays);
                    }
                    CatalogState::Failed(why) => return Ok(self.doubt(why.to_string())),
                }
            }
            if let Missing::Names(names) = self.missing(joined) {
                if self.judging.own_names_unknown() && !self.owed.is_empty() {
                    // DDL of our own is on its way: what it makes of the names is asked for when it is done.
                    headgate_postgres::write::flush(doors.target.own());
                    self.lane.waiting = Waiting::Target;
                    return Ok(Seen::Stays);
                }
                let reads = |statement: &Statement| statement.relations.iter().any(|r| r.read);
                if self.judging.own_names_unknown()
                    && !self.owed.is_between()
                    && !self.judging.caller.is_free()
                    && joined
                        .known
                        .facts
                        .as_ref()
                        .is_ok_and(|facts| facts.statements.iter().any(reads))
                {
                    // A look-up would end the implicit transaction that the DDL stands in.
                    let why = "send Sync behind DDL before what it may have changed is read";
                    return Ok(self.doubt(why.to_owned()));
                }
                if self.look_up(doors, names) {
                    return Ok(Seen::Stays);
                }
                if let Some(why) = self.judging.look_up_failed.take() {
                    return Ok(self.doubt(why));
                }
            }
        } else if self.judging.seen_events != core.catalog_events {
            // Names for the recording only: what there is.
            self.judging.adopt(core, &self.clearance);
            self.judging.seen_events = core.catalog_events;
        }
        let verdict = self.judge(core, &joined.known, text, parameters);
        if verdict.effect == Ruling::Hold && self.judging.moving > 0 {
            // People are asked about what it means, and that has to stand.
            headgate_postgres::write::flush(doors.target.own());
            self.lane.waiting = Waiting::Target;
            return Ok(Seen::Stays);
        }
        Ok(Seen::Verdict(verdict))
    }

    /// The message at the front is another one: what was looked up for the last is forgotten.
    pub(super) fn next_message(&mut self) {
        if !self.judging.looked_for.is_empty() {
            self.judging.looked_for.clear();
        }
    }

    fn doubt(&self, why: String) -> Seen {
        let verdict = Rc::new(Verdict {
            effect: Ruling::Deny,
            rule: None,
            cacheable: false,
            why: Why::NothingAllows,
        });
        Seen::Doubt(verdict, Refused::CatalogUnknown { why })
    }

    /// What the catalog cannot say of a statement's names.
    fn missing(&self, joined: &Joined) -> Missing {
        let judging = &self.judging;
        let Ok(facts) = &joined.known.facts else {
            return Missing::Nothing;
        };
        let Some(catalog) = &judging.catalog else {
            return Missing::Nothing;
        };
        // Catalog and path are what the version stands for. Own DDL is not in it, nor what was asked for and not found.
        let doubted = judging.own_ddl && judging.overlay_outdated;
        if !doubted && joined.known.is_complete(judging.version) {
            return Missing::Nothing;
        }
        let mut names: Vec<String> = Vec::new();
        let relations = facts.statements.iter().flat_map(|s| s.relations.iter());
        for relation in relations {
            let unknown = doubted
                || (!catalog.knows_name(&relation.name)
                    && builtin::relation(None, &relation.name) == RelationKind::User);
            if unknown && !judging.looked_for.contains(&relation.name) && !names.contains(&relation.name) {
                names.push(relation.name.clone());
            }
        }
        let bare = facts
            .statements
            .iter()
            .any(|s| s.relations.iter().any(|r| r.schema.is_none()));
        let pathless = judging.path.is_none() && judging.looked_for.is_empty() && bare;
        if names.is_empty() && !pathless {
            if !doubted && judging.looked_for.is_empty() {
                joined.known.set_complete(judging.version);
            }
            Missing::Nothing
        } else {
            Missing::Names(names)
        }
    }

    /// Asks in the session, between two statements. False: that cannot be done here, or it was done.
    fn look_up(&mut self, doors: &mut Doors<'_>, names: Vec<String>) -> bool {
        let status = self.status();
        if !self.owed.is_between()
            || self.pass_target > 0
            || status == TransactionStatus::Failed
            || self.judging.look_up_failed.is_some()
        {
            return false;
        }
        let Some(shared) = self.judging.catalog.clone() else {
            return false;
        };
        let Some(lookup) = CatalogLookup::new([], names.iter().cloned()) else {
            self.judging.look_up_failed =
                Some("a statement names more relations than are looked up at once".to_owned());
            return false;
        };
        if headgate_postgres::write::query(doors.target.own(), lookup.query().as_bytes()).is_err() {
            return false;
        }
        self.judging.looked_for.extend(names);
        // The path alone is asked for once as well.
        self.judging.looked_for.push(String::new());
        self.judging.looking = Some(Box::new(Looking {
            builder: CatalogBuilder::over(&shared, lookup),
            broken: None,
        }));
        self.owed.sent(About::LookUp);
        self.lane.waiting = Waiting::Catalog;
        true
    }

    /// A row of its answer. Returns the bytes used.
    pub(super) fn look_up_rows(&mut self, core: &Core, rest: &[u8]) -> Result<usize, TrafficEnd> {
        let max = core.settings.target_message_bytes_max;
        let misbehaved = |e: headgate_postgres::PeerMisbehaved| TrafficEnd::TargetMisbehaved(e.to_string());
        let Some((header, body)) = frame::split(rest, max).map_err(misbehaved)? else {
            return Ok(0);
        };
        if let Backend::DataRow(values) = Backend::decode(header.tag, body).map_err(misbehaved)? {
            let fields: Vec<Option<&[u8]>> = values.collect();
            if let Some(looking) = &mut self.judging.looking
                && let Err(error) = looking.builder.row(&fields)
            {
                looking.broken.get_or_insert_with(|| error.to_string());
            }
        }
        self.owed.advance(super::owed::Owes::QueryRows);
        Ok(header.len)
    }

    pub(super) fn look_up_failed(&mut self, why: String) {
        if let Some(looking) = &mut self.judging.looking {
            looking.broken.get_or_insert(why);
        }
    }

    /// The look-up is over.
    pub(super) fn looked_up(&mut self, core: &mut Core) {
        if self.lane.waiting == Waiting::Catalog {
            self.lane.waiting = Waiting::No;
        }
        let Some(looking) = self.judging.looking.take() else {
            return;
        };
        let Looking { builder, broken } = *looking;
        let catalog = builder.finish();
        match broken {
            None if catalog.is_whole() => {
                self.judging.path_told = Some(catalog.default_path().clone());
                self.judging.catalog = Some(Arc::new(catalog));
                self.judging.overlay_outdated = false;
                self.judging.take_up(core, &self.clearance);
            }
            broken => {
                let why = broken.unwrap_or_else(|| "the answer was cut off".to_owned());
                tracing::warn!(target_name = %self.clearance.target().name, why, "catalog: a look-up in a session failed");
                self.judging.look_up_failed = Some(why);
            }
        }
    }

    /// Facts of a text together with what its EXECUTE and FETCH stand for. `None`: ask again when the target has answered.
    pub(super) fn joined(&self, known: &Rc<Known>) -> Option<Joined> {
        if !known.needs_names {
            return Some(Joined::plain(known));
        }
        let Ok(facts) = &known.facts else {
            return Some(Joined::plain(known));
        };
        let mut all = Facts {
            statements: Vec::new(),
        };
        let mut doubtful = false;
        let mut stands_for = Vec::new();
        for (at, statement) in facts.statements.iter().enumerate() {
            all.statements.push(statement.clone());
            // In the same text an earlier PREPARE or DECLARE gives the name its meaning, and the text shows it.
            let same_text = facts.statements.iter().take(at).rev().find_map(|earlier| {
                let (name, inner, wanted) = match (&earlier.action, &statement.action) {
                    (Action::Prepare { name, inner }, Action::Execute { name: wanted })
                    | (Action::Declare { name, inner, .. }, Action::Fetch { name: wanted }) => {
                        (name, inner, wanted)
                    }
                    _ => return None,
                };
                (sql_name(name) == sql_name(wanted)).then_some(inner)
            });
            if let Some(inner) = same_text {
                resolved(&mut all);
                all.statements.push((**inner).clone());
                continue;
            }
            match &statement.action {
                Action::Execute { name } => match self.names.statement(sql_name(name), self.owed.segment()) {
                    Lookup::Wait => return None,
                    Lookup::Unknown => all.statements.push(unknown_name()),
                    Lookup::Found(prepared) => {
                        doubtful |= prepared.doubtful;
                        resolved(&mut all);
                        push_inner(&mut all, &prepared.known, prepared.inner_of);
                        stands_for.push(StandsFor {
                            text: Rc::clone(&prepared.text),
                            parameters: Vec::new(),
                        });
                    }
                },
                Action::Fetch { name } => match self.names.portal(sql_name(name), self.owed.segment()) {
                    Lookup::Wait => return None,
                    Lookup::Unknown => all.statements.push(unknown_name()),
                    Lookup::Found(portal) => {
                        resolved(&mut all);
                        push_inner(&mut all, &portal.prepared.known, portal.prepared.inner_of);
                        let parameters = portal
                            .bound
                            .as_ref()
                            .map_or_else(Vec::new, |bound| bound.parameters.clone());
                        stands_for.push(StandsFor {
                            text: Rc::clone(&portal.prepared.text),
                            parameters,
                        });
                    }
                },
                _ => {}
            }
        }
        Some(Joined {
            known: Known::new(Ok(all)),
            stands_for,
            doubtful,
        })
    }

    /// What a prepared EXECUTE or FETCH stands for now. `None`: ask again when the target has answered.
    pub(super) fn meaning(&self, prepared: &Prepared) -> Option<Meaning> {
        let action = match &prepared.known.facts {
            Ok(facts) if prepared.known.needs_names && prepared.inner_of.is_none() => {
                facts.statements.first().map(|s| &s.action)
            }
            _ => None,
        };
        Some(match action {
            Some(Action::Execute { name }) => {
                match self.names.statement(sql_name(name), self.owed.segment()) {
                    Lookup::Wait => return None,
                    Lookup::Found(prepared) => Meaning::Statement(prepared),
                    Lookup::Unknown => Meaning::Nothing,
                }
            }
            Some(Action::Fetch { name }) => match self.names.portal(sql_name(name), self.owed.segment()) {
                Lookup::Wait => return None,
                Lookup::Found(portal) => Meaning::Portal(portal.execution),
                Lookup::Unknown => Meaning::Nothing,
            },
            _ => Meaning::Nothing,
        })
    }

    /// The same of what Parse or PREPARE prepared: of SQL's PREPARE and DECLARE the inner statement alone.
    pub(super) fn joined_prepared(&self, prepared: &Prepared) -> Option<Joined> {
        if prepared.inner_of.is_none() {
            return self.joined(&prepared.known);
        }
        let mut all = Facts {
            statements: Vec::new(),
        };
        push_inner(&mut all, &prepared.known, prepared.inner_of);
        Some(Joined {
            known: Known::new(Ok(all)),
            stands_for: Vec::new(),
            doubtful: false,
        })
    }

    fn judge(
        &mut self,
        core: &mut Core,
        known: &Rc<Known>,
        text: &[u8],
        parameters: Option<u32>,
    ) -> Rc<Verdict> {
        let judging = &self.judging;
        let context = self.clearance.context();
        let id = context.id();
        if let Some(verdict) = known.verdict(id, judging.version) {
            return verdict;
        }
        let resolved = match &known.facts {
            Ok(facts) if context.any_rule_names_resources() => {
                facts.statements.iter().map(|s| judging.resolve(s)).collect()
            }
            _ => Vec::new(),
        };
        let what = Message {
            facts: known.facts.as_ref(),
            resolved: &resolved,
            session: &judging.settings,
        };
        let verdict = Rc::new(self.clearance.policy().judge(
            context,
            &Asked {
                what: &what,
                text,
                parameters,
                who: self.clearance.who(),
                target: self.clearance.target(),
                now_unix_ms: core.clock.unix_ms(),
            },
        ));
        if verdict.cacheable {
            known.remember(id, judging.version, Rc::clone(&verdict));
        }
        verdict
    }
}

/// Whether DDL of the transaction may be undone by it.
fn undoes(statement: &Statement) -> bool {
    match statement.action {
        Action::Commit | Action::Rollback => true,
        Action::Savepoint => statement.verbs.iter().any(|v| v == "rollback"),
        _ => false,
    }
}

/// What the statement pushed last stands for stands behind it now: by itself it reads nothing that is not known.
fn resolved(all: &mut Facts) {
    if let Some(last) = all.statements.last_mut() {
        last.action = Action::Plain;
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
            Some(Action::Prepare { inner, .. } | Action::Declare { inner, .. }) => {
                all.statements.push((**inner).clone())
            }
            _ => all.statements.push(unknown_name()),
        },
    }
}

/// A name that this session did not see made: what it stands for cannot be known.
pub(super) fn unknown_name() -> Statement {
    Statement {
        class: ClassSet::of(&[Class::Opaque]),
        has_where: true,
        hidden_columns: true,
        ..Statement::default()
    }
}
