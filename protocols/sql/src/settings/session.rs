//! What a session has of the followed settings, through transactions and savepoints. Pure: the gate holds one for each
//! session, applies what the target confirmed and undoes what it undid.
//!
//! Invariant: a value given here is the target's; where it could be one of several, it is `Unknown`.
//! Never here: which schemas exist, and whose `$user` is: the catalog knows that.
//! The gate must not judge a statement while one that [`SessionSettings::moves`] is on its way, nor use names of a prepared
//! statement that were resolved under another path: the target reads it anew at its execution.

use super::path::{narrows, of_setting, shadows_catalog};
use super::{ANY, Scope, SettingChange, SettingValue};
use crate::{Action, Facts, Statement};
use headgate_plane::Class;

/// Where bare names are looked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SearchPathSetting {
    /// What the session began with and the target decides (for role and database). Until it is told, it is held to be
    /// PostgreSQL's own `"$user", public`.
    Began,
    /// Names as the catalog stores them; `$user` stands for the name of the current role.
    Listed(Vec<String>),
    /// Bare names cannot be resolved.
    Unknown,
}

/// PostgreSQL's own default.
const DEFAULT_PATH: [&str; 2] = ["$user", "public"];

impl SearchPathSetting {
    /// The list to resolve names with. `None`: the catalog's default path for [`SearchPathSetting::Began`], nothing for
    /// [`SearchPathSetting::Unknown`].
    pub fn schemas(&self) -> Option<&[String]> {
        match self {
            SearchPathSetting::Listed(list) => Some(list),
            _ => None,
        }
    }

    /// Whether bare names cannot be resolved.
    pub fn is_unknown(&self) -> bool {
        *self == SearchPathSetting::Unknown
    }

    /// Whether a bare name of `pg_catalog` may stand for something else.
    pub fn shadows_catalog(&self) -> bool {
        match self {
            SearchPathSetting::Began => false,
            SearchPathSetting::Listed(list) => shadows_catalog(list),
            SearchPathSetting::Unknown => true,
        }
    }

    fn narrowed_by(&self, new: &[String]) -> bool {
        match self {
            SearchPathSetting::Began => narrows(&DEFAULT_PATH, new),
            SearchPathSetting::Listed(now) => narrows(now, new),
            // Nothing along an empty path is still nothing more than before.
            SearchPathSetting::Unknown => narrows::<&str, _>(&[], new),
        }
    }
}

/// By whom statements are run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RoleSetting {
    /// The one that signed in at the target.
    Began,
    /// As SET ROLE had it.
    Named(String),
    /// It cannot be known.
    Unknown,
}

/// The settings that are followed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Followed {
    /// Where bare names are looked for.
    pub search_path: SearchPathSetting,
    /// As whom, after SET ROLE.
    pub role: RoleSetting,
    /// As whom, after SET SESSION AUTHORIZATION.
    pub session_authorization: RoleSetting,
}

impl Followed {
    const BEGAN: Followed = Followed {
        search_path: SearchPathSetting::Began,
        role: RoleSetting::Began,
        session_authorization: RoleSetting::Began,
    };

    const UNKNOWN: Followed = Followed {
        search_path: SearchPathSetting::Unknown,
        role: RoleSetting::Unknown,
        session_authorization: RoleSetting::Unknown,
    };

    fn change(&mut self, change: &SettingChange, began: &Followed) {
        match change.name.as_str() {
            // RESET ALL leaves role and authorization as they are.
            ANY if change.value == SettingValue::Default => self.search_path = began.search_path.clone(),
            ANY => *self = Followed::UNKNOWN,
            "search_path" => {
                self.search_path = match &change.value {
                    SettingValue::Default => began.search_path.clone(),
                    SettingValue::Schemas(list) => SearchPathSetting::Listed(list.clone()),
                    SettingValue::Text(_) | SettingValue::Unknown => SearchPathSetting::Unknown,
                }
            }
            "role" => {
                self.role = match &change.value {
                    SettingValue::Default => began.role.clone(),
                    SettingValue::Text(name) if is_none(name) => RoleSetting::Began,
                    SettingValue::Text(name) => RoleSetting::Named(name.clone()),
                    _ => RoleSetting::Unknown,
                }
            }
            "session_authorization" => {
                self.session_authorization = match &change.value {
                    SettingValue::Default => began.session_authorization.clone(),
                    SettingValue::Text(name) => RoleSetting::Named(name.clone()),
                    _ => RoleSetting::Unknown,
                };
                // The server forgets SET ROLE with it.
                self.role = RoleSetting::Began;
            }
            _ => {}
        }
    }

    /// What is certain when it is either this or that.
    fn or(&mut self, other: &Followed) {
        if self.search_path != other.search_path {
            self.search_path = SearchPathSetting::Unknown;
        }
        if self.role != other.role {
            self.role = RoleSetting::Unknown;
        }
        if self.session_authorization != other.session_authorization {
            self.session_authorization = RoleSetting::Unknown;
        }
    }
}

/// `none` is no role's name, in this spelling only.
fn is_none(role: &str) -> bool {
    role == "none"
}

/// The settings of a session that are followed, through transactions and savepoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSettings {
    began: Followed,
    now: Followed,
    /// What COMMIT leaves: `now` without what was set for the transaction alone.
    kept: Followed,
    /// What ROLLBACK leaves.
    before: Followed,
    /// What the transaction had besides, so that a savepoint in it may hold it. `None`: nothing but `before`.
    between: Option<Followed>,
}

/// A session that has just begun.
pub static BEGAN: SessionSettings = SessionSettings {
    began: Followed::BEGAN,
    now: Followed::BEGAN,
    kept: Followed::BEGAN,
    before: Followed::BEGAN,
    between: None,
};

impl Default for SessionSettings {
    fn default() -> SessionSettings {
        BEGAN.clone()
    }
}

impl SessionSettings {
    /// A session whose startup packet, role or database gives it this `search_path` (the setting's text). A text that
    /// cannot be read makes it unknown.
    pub fn beginning_with(search_path: &str) -> SessionSettings {
        let mut session = SessionSettings::default();
        session.learn_beginning(search_path);
        session
    }

    /// The target told what `search_path` the session began with: wherever it is still in force, it is known from now on.
    pub fn learn_beginning(&mut self, search_path: &str) {
        let told = of_setting(search_path).map_or(SearchPathSetting::Unknown, SearchPathSetting::Listed);
        let between = self.between.as_mut();
        for place in [&mut self.began, &mut self.now, &mut self.kept, &mut self.before]
            .into_iter()
            .chain(between)
        {
            if place.search_path == SearchPathSetting::Began {
                place.search_path = told.clone();
            }
        }
    }

    /// The target told what `search_path` is now (ParameterStatus of PostgreSQL 18, or an answer to SHOW), after all that it
    /// was sent. Outside a transaction only.
    pub fn learn(&mut self, search_path: &str) {
        let told = of_setting(search_path).map_or(SearchPathSetting::Unknown, SearchPathSetting::Listed);
        for place in [&mut self.now, &mut self.kept, &mut self.before] {
            place.search_path = told.clone();
        }
        self.between = None;
    }

    /// What is in force.
    pub fn now(&self) -> &Followed {
        &self.now
    }

    /// What the session began with.
    pub fn began(&self) -> &Followed {
        &self.began
    }

    /// Where bare names are looked for now.
    pub fn search_path(&self) -> &SearchPathSetting {
        &self.now.search_path
    }

    /// Whether a value for the startup packet's `search_path` changes nothing or only hides: a client may have it without
    /// a rule.
    pub fn startup_search_path_narrows(&self, value: &str) -> bool {
        of_setting(value).is_some_and(|list| self.now.search_path.narrowed_by(&list))
    }

    /// Whether a change of a followed setting leaves it as it is, or (a path) only hides.
    pub(super) fn keeps_or_narrows(&self, change: &SettingChange) -> bool {
        match (change.name.as_str(), &change.value) {
            (_, SettingValue::Default) => true,
            ("search_path", SettingValue::Schemas(list)) => self.now.search_path.narrowed_by(list),
            // Back to the one that signed in.
            ("role", SettingValue::Text(name)) if is_none(name) => true,
            ("role", SettingValue::Text(name)) => {
                matches!(&self.now.role, RoleSetting::Named(now) if now == name)
            }
            // Setting it to what it is would still forget SET ROLE.
            ("session_authorization", SettingValue::Text(name)) => {
                matches!(&self.now.session_authorization, RoleSetting::Named(now) if now == name)
                    && self.now.role == RoleSetting::Began
            }
            _ => false,
        }
    }

    /// Whether this statement can leave the session with other settings, or ends what holds them.
    pub fn moves(statement: &Statement) -> bool {
        !statement.settings.is_empty()
            || matches!(
                statement.action,
                Action::Commit | Action::Rollback | Action::Savepoint | Action::Discard { all: true }
            )
            || statement.class.contains(Class::Opaque)
            || ends_transaction(statement)
    }

    /// The target has done what these say.
    pub fn apply(&mut self, changes: &[SettingChange]) {
        for change in changes.iter().filter(|c| c.scope != Scope::Stored) {
            let old = self.now.clone();
            self.now.change(change, &self.began);
            if change.scope == Scope::Session {
                let kept = self.kept.clone();
                // What the change says of other settings (none but `*` and an authorization do) it says of what is kept, too.
                self.kept.change(change, &self.began);
                // RESET ALL passes over what stands at its default now, although SET LOCAL alone may have put it there.
                let passed_over = change.name == ANY && old.search_path == self.began.search_path;
                if !change.certain || passed_over {
                    self.kept.or(&kept);
                }
            }
            if !change.certain {
                self.now.or(&old);
            }
            match &mut self.between {
                Some(between) => between.or(&self.now),
                None => self.between = Some(self.now.clone()),
            }
        }
    }

    /// The target has done the statement (CommandComplete): its settings, and what it ends. After an opaque one nobody can
    /// say what it set: see [`SessionSettings::doubt`]. A COMMIT that the target answers with ROLLBACK is a
    /// [`SessionSettings::rollback`] instead.
    pub fn apply_statement(&mut self, statement: &Statement) {
        // What it touches is touched at its EXECUTE.
        if matches!(statement.action, Action::Prepare { .. }) {
            return;
        }
        self.apply(&statement.settings);
        if statement.class.contains(Class::Opaque) {
            self.doubt();
        }
        match statement.action {
            Action::Commit => self.commit(),
            Action::Rollback => self.rollback(),
            Action::Savepoint if statement.verbs.iter().any(|v| v == "rollback") => {
                self.rollback_to_savepoint()
            }
            _ if ends_transaction(statement) => self.commit(),
            _ => {}
        }
    }

    /// The same before the target has said a word, for the next statement of the same text: a COMMIT may turn out to be a
    /// ROLLBACK.
    pub fn foresee(&mut self, statement: &Statement) {
        let undone = self.before.clone();
        self.apply_statement(statement);
        if statement.action == Action::Commit {
            self.now.or(&undone);
            self.kept.or(&undone);
            self.before.or(&undone);
        }
    }

    /// What the session has when the turn of each statement of a text comes. One for each, in order.
    pub fn in_turn(&self, facts: &Facts) -> Vec<SessionSettings> {
        let mut session = self.clone();
        let turn = |statement: &Statement| {
            let now = session.clone();
            if SessionSettings::moves(statement) {
                session.foresee(statement);
            }
            now
        };
        facts.statements.iter().map(turn).collect()
    }

    /// Something ran that may have set `search_path` unseen (a user's function, DO, CALL). The role is not in doubt where a
    /// function cannot set it for longer than it runs; `set_config('role', …)` in one can, so it is.
    pub fn doubt(&mut self) {
        self.now = Followed::UNKNOWN;
        self.kept = Followed::UNKNOWN;
        self.between = Some(Followed::UNKNOWN);
    }

    /// A transaction ended well: COMMIT, or ReadyForQuery (idle) after a message that stood alone and did not fail.
    pub fn commit(&mut self) {
        self.now = self.kept.clone();
        self.before = self.kept.clone();
        self.between = None;
    }

    /// A transaction was undone: ROLLBACK, or ReadyForQuery (idle) after an error outside a transaction block.
    pub fn rollback(&mut self) {
        self.now = self.before.clone();
        self.kept = self.before.clone();
        self.between = None;
    }

    /// ROLLBACK TO: what the transaction had at the savepoint. Which of the values that is, is not followed: where it had
    /// several, it is unknown until the transaction ends well or is undone.
    pub fn rollback_to_savepoint(&mut self) {
        if let Some(between) = &self.between {
            let mut now = self.before.clone();
            now.or(between);
            self.now = now.clone();
            self.kept = now.clone();
            self.between = Some(now);
        }
    }
}

fn ends_transaction(statement: &Statement) -> bool {
    statement.verbs.iter().any(|v| v == "prepare transaction")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, value: SettingValue, scope: Scope) -> SettingChange {
        SettingChange {
            name: name.into(),
            value,
            scope,
            certain: true,
        }
    }

    fn path(list: &[&str], scope: Scope) -> SettingChange {
        set(
            "search_path",
            SettingValue::Schemas(list.iter().map(|s| (*s).to_owned()).collect()),
            scope,
        )
    }

    fn listed(list: &[&str]) -> SearchPathSetting {
        SearchPathSetting::Listed(list.iter().map(|s| (*s).to_owned()).collect())
    }

    #[test]
    fn a_change_lasts_as_long_as_its_scope() {
        let mut s = SessionSettings::default();
        s.apply(&[path(&["a"], Scope::Session)]);
        s.apply(&[path(&["b"], Scope::Transaction)]);
        assert_eq!(*s.search_path(), listed(&["b"]));
        let mut undone = s.clone();
        s.commit();
        assert_eq!(*s.search_path(), listed(&["a"]));
        undone.rollback();
        assert_eq!(*undone.search_path(), SearchPathSetting::Began);
        s.apply(&[path(&["c"], Scope::Transaction), path(&["d"], Scope::Session)]);
        assert_eq!(*s.search_path(), listed(&["d"]));
        s.commit();
        assert_eq!(*s.search_path(), listed(&["d"]));
        s.apply(&[set("search_path", SettingValue::Default, Scope::Session)]);
        assert_eq!(*s.search_path(), SearchPathSetting::Began);
        s.rollback();
        assert_eq!(*s.search_path(), listed(&["d"]));
        s.apply(&[
            set("role", SettingValue::Text("x".into()), Scope::Session),
            set(ANY, SettingValue::Default, Scope::Session),
        ]);
        assert_eq!(
            (&s.now().search_path, &s.now().role),
            (&SearchPathSetting::Began, &RoleSetting::Named("x".into()))
        );
        s.apply(&[set(
            "session_authorization",
            SettingValue::Default,
            Scope::Session,
        )]);
        assert_eq!(s.now(), &Followed::BEGAN);
        s.apply(&[path(&["x"], Scope::Stored)]);
        assert_eq!(
            s.now(),
            &Followed::BEGAN,
            "a function's own setting is not the session's"
        );
    }

    #[test]
    fn a_savepoint_gives_back_what_was_there_or_doubt() {
        let mut s = SessionSettings::default();
        s.rollback_to_savepoint();
        assert_eq!(
            *s.search_path(),
            SearchPathSetting::Began,
            "nothing was changed in the transaction"
        );
        s.apply(&[path(&["a"], Scope::Session)]);
        s.rollback_to_savepoint();
        assert!(s.search_path().is_unknown());
        s.commit();
        assert!(s.search_path().is_unknown());
        s.apply(&[set("search_path", SettingValue::Default, Scope::Session)]);
        s.commit();
        assert_eq!(*s.search_path(), SearchPathSetting::Began);
    }

    #[test]
    fn what_may_not_have_happened_is_doubt() {
        let mut s = SessionSettings::default();
        s.apply(&[SettingChange {
            certain: false,
            ..path(&[], Scope::Session)
        }]);
        assert!(s.search_path().is_unknown());
        s.rollback();
        s.apply(&[set("search_path", SettingValue::Unknown, Scope::Session)]);
        assert!(s.search_path().is_unknown() && s.now().role == RoleSetting::Began);
        s.learn("public");
        assert_eq!(*s.search_path(), listed(&["public"]));
        s.doubt();
        assert_eq!(s.now(), &Followed::UNKNOWN);
        s.rollback();
        assert_eq!(
            *s.search_path(),
            listed(&["public"]),
            "what was set was undone as well"
        );
    }

    #[test]
    fn a_commit_in_the_same_text_may_be_a_rollback() {
        let commit = Statement {
            action: Action::Commit,
            ..Statement::default()
        };
        let mut s = SessionSettings::default();
        s.apply(&[path(&["a"], Scope::Session)]);
        let mut seen = s.clone();
        s.foresee(&commit);
        assert!(s.search_path().is_unknown());
        seen.apply_statement(&commit);
        assert_eq!(*seen.search_path(), listed(&["a"]));
        seen.foresee(&commit);
        assert_eq!(*seen.search_path(), listed(&["a"]), "nothing hangs on it");
    }

    #[test]
    fn each_statement_of_a_text_has_what_the_one_before_it_leaves() {
        let set = |list: &[&str]| Statement {
            settings: vec![path(list, Scope::Session)],
            ..Statement::default()
        };
        let facts = Facts {
            statements: vec![
                Statement::default(),
                set(&["a"]),
                set(&["b"]),
                Statement::default(),
            ],
        };
        let paths: Vec<_> = SessionSettings::default()
            .in_turn(&facts)
            .into_iter()
            .map(|s| s.now.search_path)
            .collect();
        assert_eq!(
            paths,
            [
                SearchPathSetting::Began,
                SearchPathSetting::Began,
                listed(&["a"]),
                listed(&["b"])
            ]
        );
    }

    #[test]
    fn roles_are_followed_and_an_authorization_forgets_them() {
        let text = |t: &str| SettingValue::Text(t.into());
        let mut s = SessionSettings::default();
        s.apply(&[set("role", text("admin"), Scope::Session)]);
        assert_eq!(s.now().role, RoleSetting::Named("admin".into()));
        s.apply(&[set("session_authorization", text("bob"), Scope::Session)]);
        assert_eq!(
            (&s.now().role, &s.now().session_authorization),
            (&RoleSetting::Began, &RoleSetting::Named("bob".into()))
        );
        s.apply(&[
            set("role", text("x"), Scope::Session),
            set("role", text("none"), Scope::Session),
        ]);
        assert_eq!(s.now().role, RoleSetting::Began);
    }

    #[test]
    fn what_a_session_began_with_can_be_learnt_later() {
        let mut s = SessionSettings::default();
        assert!(s.startup_search_path_narrows("public") && !s.startup_search_path_narrows("shop"));
        s.apply(&[path(&["public"], Scope::Transaction)]);
        s.learn_beginning("shop, public");
        s.commit();
        assert_eq!(*s.search_path(), listed(&["shop", "public"]));
        assert!(s.startup_search_path_narrows("shop") && !s.startup_search_path_narrows("\"$user\""));
        assert!(SessionSettings::beginning_with("a b").search_path().is_unknown());
        assert!(
            SessionSettings::beginning_with("public, pg_catalog")
                .search_path()
                .shadows_catalog()
        );
        assert!(
            !SessionSettings::beginning_with("pg_catalog, public")
                .search_path()
                .shadows_catalog()
        );
    }
}
