//! Which settings change how statements are read, by whom, or what leaves; and what a session has of them.
//!
//! | kind | settings | passes |
//! | --- | --- | --- |
//! | followed | `search_path`, `role`, `session_authorization` | what changes nothing; what only hides; else by a rule that names it |
//! | guarded | what weakens the target or its log: `row_security`, `session_replication_role`, `log_…` | harmless values; else by a rule that names it |
//! | pinned | what judge and target would read differently by, or what tells values in messages | harmless values only |
//!
//! Harmless is: a setting not listed here; `client_encoding` to any spelling of UTF-8; `standard_conforming_strings` to
//! on; `backslash_quote` to `safe_encoding`; `row_security` to on; `client_min_messages` to notice or above (below, the
//! server tells values in messages). Back to the default is harmless everywhere: it is what the session began with, which
//! is what the gateway asked for in the startup packet and what the target's owner gave the role.
//!
//! Not guarded although it can weaken a target that leans on it: `app.…` settings read by row security policies.

mod guard;
mod path;
mod session;

pub use guard::{Guard, guard, is_harmless, is_pinned};
pub use path::{SCHEMAS_MAX, SETTING_BYTES_MAX, narrows, of_setting, schema_name};
pub use session::{BEGAN, Followed, RoleSetting, SearchPathSetting, SessionSettings};

use serde::{Deserialize, Serialize};

/// What stands for a name that cannot be known, or for all settings at once.
pub const ANY: &str = "*";

/// One setting that a statement touches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingChange {
    /// Lower case. [`ANY`] with [`SettingValue::Default`]: all go back but `role` and `session_authorization` (RESET ALL).
    /// [`ANY`] with any other value: it cannot be known which one is touched.
    pub name: String,
    /// What it becomes.
    pub value: SettingValue,
    /// For how long.
    pub scope: Scope,
    /// False where it may not come to it, or not in this order: `set_config` beside a FROM, in a CASE, in a CTE.
    pub certain: bool,
}

/// What a setting becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SettingValue {
    /// What the session began with: RESET, SET … TO DEFAULT.
    Default,
    /// As written.
    Text(String),
    /// `search_path` as a list of schemas, each spelt as the catalog stores it; `$user` stands for the role's name.
    Schemas(Vec<String>),
    /// Computed, too long, or of no interest (the setting is neither followed, guarded nor pinned).
    Unknown,
}

/// How long a change lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Until the session ends. Undone if the transaction around it is.
    Session,
    /// SET LOCAL, `set_config(…, true)`: until the transaction ends.
    Transaction,
    /// Not of this session: ALTER ROLE, ALTER DATABASE, a function's own SET.
    Stored,
}

/// What a change needs so that it may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs<'a> {
    /// It changes nothing, or nothing that matters.
    Nothing,
    /// An allow rule that names the setting.
    Rule(&'a str),
    /// The gateway keeps it, whatever rules say.
    Never(&'a str),
}

impl SettingChange {
    /// What it needs in a session that has `session`.
    pub fn needs(&self, session: &SessionSettings) -> Needs<'_> {
        let name = self.name.as_str();
        if self.value == SettingValue::Default && self.scope != Scope::Stored {
            return Needs::Nothing;
        }
        if name == ANY {
            return Needs::Never(name);
        }
        if is_harmless(name, &self.value) {
            return Needs::Nothing;
        }
        match (guard(name), self.scope) {
            (Guard::None, _) => Needs::Nothing,
            (Guard::Pinned, _) | (_, Scope::Stored) => Needs::Never(name),
            (Guard::Guarded, _) => Needs::Rule(name),
            (Guard::Followed, _) if session.keeps_or_narrows(self) => Needs::Nothing,
            (Guard::Followed, _) => Needs::Rule(name),
        }
    }

    /// Whether the answer of [`SettingChange::needs`] hangs on what the session has.
    pub fn hangs_on_session(&self) -> bool {
        self.value != SettingValue::Default && guard(&self.name) == Guard::Followed
    }
}
