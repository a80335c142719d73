//! From verdict to action for one statement, at the moment of forwarding: recorded and permitted, held, or refused.
//!
//! Whatever the message has waited for (an analyst, room, the target, people), this is asked anew each time: rules, names,
//! catalog and answer are those of now, and what is permitted is sent in the same call.

use super::execution::ExecutionRef;
use super::parameters::BoundParameters;
use super::traffic::{Front, Traffic, TrafficEnd};
use crate::clearance::doors::Doors;
use crate::clearance::permit::{Leave, Permitted, Subject};
use crate::clearance::refused::Refused;
use crate::clearance::room::{NoRoom, Recorded};
use crate::core::Core;
use crate::sql::known::Known;
use headgate_plane::{Effect as Ruling, Parameter};
use headgate_policy::Verdict;
use headgate_recording::{BodyRef, Bytes, Parameters, Texts, Verdict as Ruled};
use headgate_sql::Action;
use std::rc::Rc;

/// Of a text that is too long to be recorded.
const TEXT_CUT_BYTES: usize = 1 << 10;
/// What a statement's record takes beside texts, names and values.
const RECORD_BYTES: usize = 4 << 10;

/// What EXECUTE and FETCH stand for.
#[derive(Clone)]
pub(super) struct StandsFor {
    pub text: Rc<[u8]>,
    pub parameters: Vec<Parameter>,
}

/// One statement, seen through.
pub(super) struct Asking<'a> {
    /// The facts of its text.
    pub known: &'a Rc<Known>,
    /// The same with what its names stand for.
    pub joined: &'a Rc<Known>,
    pub stands_for: &'a [StandsFor],
    pub verdict: &'a Rc<Verdict>,
    pub text: &'a [u8],
    pub parameters: BoundParameters<'a>,
    /// The number of the Parse that prepared it; 0 for none.
    pub prepared: u32,
}

pub(super) enum Cleared<'m> {
    Go {
        permitted: Permitted<'m>,
        execution: ExecutionRef,
        /// When the approval is over that it goes by; `u64::MAX` without one.
        until_unix_ms: u64,
    },
    /// It stays at the front; `waiting` says for what.
    Stays,
    Refused(Refused, ExecutionRef),
}

impl Traffic {
    pub(super) fn clear<'m>(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        asking: &Asking<'_>,
        subject: Subject<'m>,
    ) -> Result<Cleared<'m>, TrafficEnd> {
        if matches!(self.front, Front::Held(_)) {
            return self.resume_held(core, asking, subject);
        }
        let inner: usize = asking.stands_for.iter().map(|s| s.text.len()).sum();
        if let Some(refused) = never_fits(core, asking.text.len() + inner + asking.joined.bytes()) {
            // What it begins with is recorded, and that it was refused.
            let text = asking.text.get(..TEXT_CUT_BYTES).unwrap_or(asking.text);
            let known = Known::new(Ok(headgate_sql::Facts::default()));
            let cut = Asking {
                known: &known,
                joined: &known,
                stands_for: &[],
                text,
                parameters: BoundParameters::NONE,
                ..*asking
            };
            return self.refuse_statement(core, &cut, refused);
        }
        if asking.verdict.effect != Ruling::Deny && self.judging.exposure(asking.joined).0.sinks {
            // Of a text that cannot be read nobody can say where it carries them: why it cannot be read is what helps.
            let refused = asking
                .joined
                .facts
                .as_ref()
                .err()
                .map_or(Refused::Sinks, |why| Refused::Unreadable(why.clone()));
            return self.refuse_statement(core, asking, refused);
        }
        match asking.verdict.effect {
            Ruling::Allow => {
                let Some(recorded) = self.record_statement(core, asking, Ruled::Allow)? else {
                    return Ok(Cleared::Stays);
                };
                let execution = self.open_execution(core, asking.joined);
                core.metrics.statements_allowed += 1;
                match subject.permit(Leave::Verdict(asking.verdict), recorded) {
                    Some(permitted) => Ok(Cleared::Go {
                        permitted,
                        execution,
                        until_unix_ms: u64::MAX,
                    }),
                    None => Err(TrafficEnd::Unrecorded),
                }
            }
            Ruling::Hold if brings_data(asking.joined) && !asking.verdict.data_open(&self.judging.policy) => {
                self.refuse_statement(core, asking, Refused::DataUnseen)
            }
            Ruling::Hold if self.client_gone => {
                // Nobody waits for an answer.
                self.refuse_statement(
                    core,
                    asking,
                    Refused::Cancelled {
                        question: "a question".to_owned(),
                    },
                )
            }
            Ruling::Hold => {
                let Some(_recorded) = self.record_statement(core, asking, Ruled::Hold)? else {
                    return Ok(Cleared::Stays);
                };
                let execution = self.open_execution(core, asking.joined);
                core.metrics.statements_held += 1;
                self.ask(core, doors, asking, execution);
                Ok(Cleared::Stays)
            }
            Ruling::Deny => {
                let refused = Refused::by_verdict(
                    asking.verdict,
                    &self.judging.policy,
                    asking.joined.facts.as_ref().err(),
                );
                self.refuse_statement(core, asking, refused)
            }
        }
    }

    /// Records a statement as denied, and refuses it.
    pub(super) fn refuse_statement<'m>(
        &mut self,
        core: &mut Core,
        asking: &Asking<'_>,
        refused: Refused,
    ) -> Result<Cleared<'m>, TrafficEnd> {
        let Some(_recorded) = self.record_statement(core, asking, Ruled::Deny)? else {
            return Ok(Cleared::Stays);
        };
        let execution = self.open_execution(core, asking.known);
        core.metrics.statements_denied += 1;
        Ok(Cleared::Refused(refused, execution))
    }

    /// Under the number that [`Traffic::open_run`] gives next. `None`: there is no room yet, and nothing has happened.
    pub(super) fn record_statement(
        &mut self,
        core: &mut Core,
        asking: &Asking<'_>,
        ruled: Ruled,
    ) -> Result<Option<Recorded>, TrafficEnd> {
        let resources = self.judging.relations_of(asking.joined);
        let texts: Vec<&[u8]> = asking.stands_for.iter().map(|s| &*s.text).collect();
        let body = BodyRef::Statement {
            statement: self.statements.wrapping_add(1),
            prepared: asking.prepared,
            text: Bytes(asking.text),
            stands_for: Texts::Refs(&texts),
            parameters: Parameters::Source(&asking.parameters),
            verdict: ruled,
            rule: asking.verdict.rule_name(&self.judging.policy),
            epoch: self.judging.context.epoch(),
            class: asking.joined.class,
            verbs: &asking.joined.verbs,
            resources: &resources,
        };
        let written = self.recorder.record(core, &body)?;
        Ok(self.written(core, written))
    }

    /// Records what is about to be forwarded. `None`: there is no room yet; the message stays.
    pub(super) fn record(
        &mut self,
        core: &mut Core,
        body: BodyRef<'_>,
    ) -> Result<Option<Recorded>, TrafficEnd> {
        let written = self.recorder.record(core, &body)?;
        Ok(self.written(core, written))
    }

    pub(super) fn written(&mut self, core: &mut Core, written: Result<Recorded, NoRoom>) -> Option<Recorded> {
        match written {
            Ok(recorded) => {
                if core.settings.strict {
                    core.spool.urgent();
                    self.strict_until = core.spool.position();
                }
                Some(recorded)
            }
            // What can never fit was refused when its length was known.
            Err(NoRoom::Yet { bytes } | NoRoom::Ever { bytes, .. }) => {
                self.wait_for_room(bytes);
                None
            }
        }
    }
}

/// Whether the record of a statement of so many bytes (text, names and all) fits into the spool at no time. Parameters are
/// cut when they are recorded.
pub(super) fn never_fits(core: &Core, bytes: usize) -> Option<Refused> {
    let max = core.spool.capacity() / 2;
    let need = bytes
        .saturating_add(headgate_recording::bounds::VALUES_BYTES_MAX.min(max / 2))
        .saturating_add(RECORD_BYTES);
    (need > max).then_some(Refused::NoRoomEver { bytes: need, max })
}

/// Whether data of the client follows it, which nobody has seen when it is judged.
pub(super) fn brings_data(known: &Known) -> bool {
    match &known.facts {
        Ok(facts) => facts
            .statements
            .iter()
            .any(|s| matches!(&s.action, Action::Copy(copy) if !copy.out)),
        Err(_) => true,
    }
}
