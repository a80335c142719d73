//! From a grant to a target that is ready: which settings of the client go on, the sign-in with the injected credential, and
//! whether the target is what the judge takes it for.
//!
//! Invariant: what a target says before it has proved itself reaches no client, and what it says of the credential that
//! Headgate injects never does.

use super::cancel::cancel_token;
use super::denial::Denial;
use super::greeting::{Opening, setting_refused};
use super::traffic::Begin;
use crate::clearance::Refused;
use crate::core::Core;
use crate::session::leg::Leg;
use crate::session::protocol::{Fault, LoggedIn, Parting};
use headgate_plane::{Effect as Ruling, Grant, Rule, TargetTls};
use headgate_postgres::backend::TransactionStatus;
use headgate_postgres::cancel::Key;
use headgate_postgres::startup::pins::{Contradiction, Pins};
use headgate_postgres::startup::policy::{Policy as StartupPolicy, for_target};
use headgate_postgres::{
    Report, TargetEvent, TargetFailed, TargetHandshake, TargetHandshakeConfig, TargetReady, TargetRefused,
    certificate, write,
};
use headgate_sql::SessionSettings;

/// What is asked of the target.
pub struct Admitted {
    /// Of the client's protocol.
    minor: u16,
    parameters: Vec<(String, String)>,
    /// What the target must report of itself; `None` where a rule lifts the pins.
    pins: Option<Pins>,
    /// What the session begins with.
    settings: SessionSettings,
}

/// From the first byte to the target to its ReadyForQuery.
pub struct Login {
    minor: u16,
    pins: Option<Pins>,
    settings: SessionSettings,
    handshake: TargetHandshake,
    awaiting_tls: bool,
}

/// Which settings of the start-up packet the rules let go on.
pub fn admit(core: &Core, opening: Opening, grant: &Grant) -> Result<Admitted, Box<Parting>> {
    let startup = opening.startup;
    let context = core.policy.context(&grant.who, &grant.target);
    let some_allow = |is: fn(&Rule) -> bool| {
        context.rules().iter().any(|i| {
            core.policy
                .rule(*i)
                .is_some_and(|rule| rule.effect == Ruling::Allow && is(rule))
        })
    };
    let allow_unpinned = some_allow(|rule| rule.statement.sql().danger_unpinned);
    // A path that only hides needs no rule; any other one that names the setting.
    let opens_path = some_allow(|rule| rule.statement.sql().settings.iter().any(|s| s == "search_path"));
    let anything = StartupPolicy {
        allow_search_path: true,
        allow_unpinned,
    };
    let asked = for_target(&startup, anything).unwrap_or_default();
    let narrows =
        path_of(&asked).is_none_or(|path| SessionSettings::default().startup_search_path_narrows(path));
    let policy = StartupPolicy {
        allow_search_path: opens_path || narrows,
        allow_unpinned,
    };
    let parameters = for_target(&startup, policy).map_err(|setting| setting_refused(&setting))?;
    let settings =
        path_of(&parameters).map_or_else(SessionSettings::default, SessionSettings::beginning_with);
    let pins = (!allow_unpinned).then(|| Pins::of(&parameters));
    Ok(Admitted {
        minor: startup.minor,
        parameters,
        pins,
        settings,
    })
}

impl Login {
    pub fn begin(
        core: &Core,
        admitted: Admitted,
        grant: &Grant,
        target: &mut Leg,
    ) -> Result<Login, Box<Parting>> {
        let config = TargetHandshakeConfig {
            tls: grant.target.tls != TargetTls::DangerOff,
            user: grant.target.user.clone(),
            database: grant.target.database.clone(),
            parameters: admitted.parameters,
            password: grant.target_secret.clone(),
            scram_keys: core.scram_keys.clone(),
            auth: grant.target.auth,
            minor: headgate_postgres::startup::MINOR_MAX,
        };
        let handshake = TargetHandshake::start(config, target.out()).map_err(|failed| {
            tracing::warn!(%failed, "target: handshake cannot begin");
            let mut words = Vec::new();
            Denial::new("08006", "Headgate cannot sign in to this target").write_fatal(&mut words);
            Box::new(Parting {
                reason: format!("target: handshake: {failed}"),
                words,
                fault: Fault::None,
                discards: false,
            })
        })?;
        Ok(Login {
            minor: admitted.minor,
            pins: admitted.pins,
            settings: admitted.settings,
            handshake,
            awaiting_tls: false,
        })
    }

    pub fn advance(
        &mut self,
        core: &Core,
        grant: &Grant,
        target: &mut Leg,
        bytes: &[u8],
    ) -> Result<LoggedIn<Begin>, Box<Parting>> {
        let (used, event) = match self.shake_hands(target, bytes) {
            Ok(Some(step)) => step,
            Ok(None) => return Ok(LoggedIn::More),
            Err(failed) => return Err(login_failed(core, grant, &failed)),
        };
        match event {
            None => Ok(LoggedIn::Used(used)),
            Some(TargetEvent::StartTls) => {
                self.awaiting_tls = true;
                Ok(LoggedIn::StartTls { used })
            }
            Some(TargetEvent::Ready(ready)) => self.ready(used, *ready),
        }
    }

    fn shake_hands(
        &mut self,
        target: &mut Leg,
        bytes: &[u8],
    ) -> Result<Option<(usize, Option<TargetEvent>)>, TargetFailed> {
        if self.awaiting_tls {
            if target.is_handshaking() {
                return Ok(None);
            }
            let binding = target
                .peer_certificate()
                .and_then(|c| certificate::tls_server_end_point(&c));
            let handshake = std::mem::replace(&mut self.handshake, TargetHandshake::Done);
            self.handshake = handshake.tls_started(binding, target.out())?;
            self.awaiting_tls = false;
        }
        let handshake = std::mem::replace(&mut self.handshake, TargetHandshake::Done);
        let (next, advance) = handshake.advance(bytes, target.out())?;
        self.handshake = next;
        Ok(match advance.event {
            None if advance.used == 0 => None,
            event => Some((advance.used, event)),
        })
    }

    fn ready(&mut self, used: usize, ready: TargetReady) -> Result<LoggedIn<Begin>, Box<Parting>> {
        if let Some(Err(contradiction)) = self.pins.map(|pins| pins.verify(&ready.parameters)) {
            return Err(contradicted(&contradiction));
        }
        let own_key = Key::new(self.minor, Core::random());
        let mut welcome = Vec::with_capacity(512);
        write::authentication_ok(&mut welcome);
        for (name, value) in &ready.parameters {
            // They came in a message of this very form and have no zero.
            let _ = write::parameter_status(&mut welcome, name.as_bytes(), value.as_bytes());
        }
        let _ = write::backend_key_data(&mut welcome, ready.pid, own_key.as_bytes());
        write::ready_for_query(&mut welcome, TransactionStatus::Idle);
        Ok(LoggedIn::Ready {
            used,
            token: cancel_token(ready.pid, own_key.as_bytes()),
            begin: Begin {
                target_pid: ready.pid,
                target_key: ready.key,
                own_key,
                welcome,
                pins: self.pins,
                settings: std::mem::take(&mut self.settings),
                notices: ready.notices,
            },
        })
    }
}

/// The search path that a session begins with, where the client sets one: the last counts.
fn path_of(settings: &[(String, String)]) -> Option<&str> {
    settings
        .iter()
        .rev()
        .find(|(name, _)| name.eq_ignore_ascii_case("search_path"))
        .map(|(_, value)| value.as_str())
}

/// The target is not what the judge takes it for.
fn contradicted(contradiction: &Contradiction) -> Box<Parting> {
    tracing::warn!("sign-in ended: {contradiction}");
    // Nothing that a client does mends it, but for an encoding that it asked for.
    let code = if contradiction.name.ends_with("_encoding") {
        "22023"
    } else {
        "08004"
    };
    let mut words = Vec::new();
    Denial::new(code, format!("Headgate ended the sign-in: {contradiction}"))
        .hint(contradiction.hint())
        .write_fatal(&mut words);
    Box::new(Parting {
        reason: contradiction.to_string(),
        words,
        fault: Fault::Misbehaved,
        discards: false,
    })
}

/// The target does not let us in.
fn login_failed(core: &Core, grant: &Grant, failed: &TargetFailed) -> Box<Parting> {
    tracing::warn!(target_name = %grant.target.name, %failed, "target: sign-in failed");
    let mut words = Vec::new();
    // A trigger on login may speak of what is covered: doubt masks.
    let free = core.policy.context(&grant.who, &grant.target).masks().is_empty();
    let shown = match failed {
        TargetFailed::Refused(refused) => {
            let proved = refused.authenticated || grant.target.tls == TargetTls::VerifyFull;
            write_refusal(refused, proved, free, &mut words)
        }
        _ => false,
    };
    if !shown {
        Denial::of(&Refused::TargetSignIn).write_fatal(&mut words);
    }
    Box::new(Parting {
        reason: format!("target: {failed}"),
        words,
        fault: Fault::None,
        discards: false,
    })
}

/// What a target that has not proved itself is believed: that it has no room, or not yet. Its words are not shown.
const WITHOUT_PROOF: [(&str, &str); 2] = [
    ("53300", "the target takes no more connections at the moment"),
    ("57P03", "the target does not take connections at the moment"),
];

/// The target's refusal as the client may read it: its own SQLSTATE, on which clients decide whether to try again. `false`: it
/// may not be shown.
fn write_refusal(refused: &TargetRefused, proved: bool, free: bool, out: &mut Vec<u8>) -> bool {
    let code = refused.sqlstate();
    // Class 28 speaks of the credential that Headgate injects.
    if code.starts_with("28") {
        return false;
    }
    if !proved {
        let Some((code, words)) = WITHOUT_PROOF.iter().find(|(known, _)| *known == code) else {
            return false;
        };
        Report::fatal(code, words).write_error(out);
        return true;
    }
    let mut report = Report::fatal(code, "the target refused the session");
    if free {
        report.message = refused.get(b'M').unwrap_or(report.message);
        report.detail = refused.get(b'D');
        report.hint = refused.get(b'H');
    }
    report.write_error(out);
    true
}
