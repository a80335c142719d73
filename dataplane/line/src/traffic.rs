//! Its flow: one call, one reply.

use crate::call::Call;
use crate::line;
use headgate_gate::Core;
use headgate_gate::clearance::doors::Doors;
use headgate_gate::clearance::room::{NoRoom, Room};
use headgate_gate::clearance::{
    Clearance, Cleared, Close, END_BYTES_MAX, Lane, NoParameters, Refused, StatementEnd, Subject, Waiting,
};
use headgate_gate::session::Protocol as _;
use headgate_gate::session::protocol::{Cancelled, Fault, Note, Parting, Traffic as Session};
use headgate_mask::{Caller, Masked, SearchPath};
use headgate_plane::{Grant, SessionId, Withdrawal};
use headgate_policy::Asked;
use headgate_recording::StatementOutcome;
use std::rc::Rc;

/// A call that the target owes a reply for.
struct Owed {
    number: u32,
    started_us: u64,
}

pub struct Traffic {
    clearance: Clearance,
    lane: Lane,
    owed: Option<Owed>,
    target_waits: bool,
    leaving: bool,
    /// Whom masks do not bind: they alone get replies, for nothing here knows how to cover one.
    free: Caller,
}

enum Step {
    Done,
    Stays,
}

fn unrecorded() -> Box<Parting> {
    let mut words = Vec::new();
    line::refusal(&Refused::Unrecorded, &mut words);
    Box::new(Parting {
        reason: "not recorded".to_owned(),
        words,
        fault: Fault::None,
        discards: true,
    })
}

impl Traffic {
    fn call(&mut self, core: &mut Core, doors: &mut Doors<'_>, raw: &[u8]) -> Result<Step, Box<Parting>> {
        if self.owed.is_some() {
            self.lane.waiting = Waiting::Target;
            return Ok(Step::Stays);
        }
        let words = line::words(raw);
        if matches!(&words[..], [bye] if bye == "bye") {
            doors.target.pass(raw);
            self.leaving = true;
            return Ok(Step::Done);
        }
        let Some(call) = Call::of(&words) else {
            return Err(line::misbehaved("client", "expected: call TOOL ARGUMENT, or bye"));
        };
        self.clearance.follow_rules(core);
        let text = raw.trim_ascii_end();
        let verdict = self.clearance.policy().judge(
            self.clearance.context(),
            &Asked {
                what: &call,
                text,
                parameters: None,
                who: self.clearance.who(),
                target: self.clearance.target(),
                now_unix_ms: core.clock.unix_ms(),
            },
        );
        let subject = Subject {
            wire: raw,
            text,
            stands_for: &[],
            parameters: &NoParameters,
            prepared: 0,
            class: call.class().0,
            verbs: &call.verbs,
            resources: Rc::from(call.resources.as_slice()),
            facts_bytes: 256,
            brings_data: false,
            settings: None,
        };
        let masked = !self.clearance.context().masks().is_empty();
        let objection = masked.then_some(Refused::CarriesMasked);
        let cleared = self
            .clearance
            .clear(core, &mut self.lane, &subject, &verdict, objection)
            .map_err(|_| unrecorded())?;
        match cleared {
            Cleared::Go {
                permitted, number, ..
            } => {
                doors.target.send(&permitted);
                self.owed = Some(Owed {
                    number,
                    started_us: core.clock.now_us,
                });
                Ok(Step::Done)
            }
            Cleared::Asked => {
                doors.client.own().extend_from_slice(b"~ held\n");
                Ok(Step::Stays)
            }
            Cleared::Waits => Ok(Step::Stays),
            Cleared::Refused { refused, number } => {
                crate::Line::refuse(&refused, false, doors.client.own());
                // Without room its end goes with the session's: that it was refused stands in the record.
                if let Ok(mut room) = Room::ask(core, END_BYTES_MAX, 2) {
                    let end = StatementEnd::of(number, StatementOutcome::NotRun);
                    self.clearance
                        .end_statement(core, &mut room, end)
                        .map_err(|_| unrecorded())?;
                }
                Ok(Step::Done)
            }
        }
    }

    fn reply(&mut self, core: &mut Core, doors: &mut Doors<'_>, raw: &[u8]) -> Result<Step, Box<Parting>> {
        let Some(owed) = &self.owed else {
            return Err(line::misbehaved("target", "a reply that nobody waits for"));
        };
        let outcome = match raw.first() {
            Some(b'=') => StatementOutcome::Done,
            Some(b'!') => StatementOutcome::Failed,
            _ => return Err(line::misbehaved("target", "expected a reply")),
        };
        let mut room = match Room::ask(core, END_BYTES_MAX + raw.len(), 2) {
            Ok(room) => room,
            Err(NoRoom::Yet { bytes } | NoRoom::Ever { bytes, .. }) => {
                self.target_waits = true;
                self.lane.target_wants_room(bytes);
                return Ok(Step::Stays);
            }
        };
        let Some(masked) = Masked::for_free_caller(&self.free, raw) else {
            return Err(line::misbehaved("target", "a reply that cannot be covered"));
        };
        let end = StatementEnd {
            started_us: owed.started_us,
            rows: 1,
            bytes: raw.len() as u64,
            reply: raw,
            ..StatementEnd::of(owed.number, outcome)
        };
        self.clearance
            .end_statement(core, &mut room, end)
            .map_err(|_| unrecorded())?;
        doors.client.send(masked);
        self.owed = None;
        if self.lane.waiting == Waiting::Target {
            self.lane.waiting = Waiting::No;
        }
        Ok(Step::Done)
    }
}

impl Session for Traffic {
    type Begin = String;
    type Analysis = ();

    fn begin(
        core: &mut Core,
        session: SessionId,
        grant: Box<Grant>,
        begin: String,
        client: &mut Vec<u8>,
    ) -> Result<Traffic, (Box<Grant>, String)> {
        let protocol = <crate::Line as headgate_gate::session::Protocol>::PROTOCOL;
        let Some(clearance) = Clearance::open(core, session, &grant, protocol, &begin) else {
            return Err((grant, begin));
        };
        client.extend_from_slice(b"+ welcome\n");
        Ok(Traffic {
            clearance,
            lane: Lane::default(),
            owed: None,
            target_waits: false,
            leaving: false,
            free: Caller::new(&[], None, &SearchPath::default(), &core.mask_key),
        })
    }

    fn clearance(&self) -> &Clearance {
        &self.clearance
    }

    fn clearance_mut(&mut self) -> &mut Clearance {
        &mut self.clearance
    }

    fn lane(&self) -> &Lane {
        &self.lane
    }

    fn lane_mut(&mut self) -> &mut Lane {
        &mut self.lane
    }

    fn from_client(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        bytes: &[u8],
    ) -> Result<usize, Box<Parting>> {
        let mut used = 0;
        while self.lane.waiting == Waiting::No && !self.leaving {
            let rest = bytes.get(used..).unwrap_or(&[]);
            let Some(line) =
                line::first(rest).map_err(|_| line::misbehaved("client", "a line without end"))?
            else {
                break;
            };
            if self.clearance.withdrawals() > 0
                && !self
                    .clearance
                    .record_withdrawals(core, &mut self.lane)
                    .map_err(|_| unrecorded())?
            {
                break;
            }
            match self.call(core, doors, line)? {
                Step::Done => used += line.len(),
                Step::Stays => break,
            }
        }
        Ok(used)
    }

    fn from_target(
        &mut self,
        core: &mut Core,
        doors: &mut Doors<'_>,
        bytes: &[u8],
    ) -> Result<usize, Box<Parting>> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or(&[]);
            let Some(line) =
                line::first(rest).map_err(|_| line::misbehaved("target", "a line without end"))?
            else {
                break;
            };
            match self.reply(core, doors, line)? {
                Step::Done => used += line.len(),
                Step::Stays => break,
            }
        }
        Ok(used)
    }

    fn note(&mut self, core: &mut Core, client: &mut Vec<u8>, note: Note<'_, ()>) -> bool {
        match note {
            Note::Asked(asked) => {
                if let Some(held) = self.lane.numbered(asked) {
                    client.extend_from_slice(
                        format!("~ held as {} at {}\n", held.number, held.address).as_bytes(),
                    );
                }
            }
            Note::Answered(key, answer) => self.lane.answered(key, answer),
            Note::RulesChanged => self
                .clearance
                .withdraw(core, &mut self.lane, Withdrawal::Rejudged),
            Note::Analysed(..) | Note::CatalogCame { .. } => return false,
        }
        true
    }

    fn wants_client(&self) -> bool {
        self.lane.waiting == Waiting::No && !self.leaving
    }

    fn target_waits(&self) -> bool {
        self.target_waits
    }

    fn target_goes_on(&mut self) {
        self.target_waits = false;
    }

    fn is_amid_message(&self) -> bool {
        false
    }

    fn cancel(&mut self, _now_us: u64, _token: &[u8]) -> Option<Cancelled> {
        None
    }

    fn client_gone(&mut self) {
        self.lane.client_gone();
    }

    fn leave_if_gone(&mut self, target: &mut Vec<u8>) -> bool {
        if self.lane.client_is_gone() && !self.leaving && self.lane.waiting == Waiting::No {
            self.goodbye(target);
            self.leaving = true;
        }
        self.leaving && self.owed.is_none()
    }

    fn sever(&mut self, core: &mut Core) -> bool {
        self.clearance
            .withdraw(core, &mut self.lane, Withdrawal::ClientGone);
        self.lane.waiting = Waiting::No;
        self.leaving = true;
        // A call cannot be cancelled; what becomes of it is heard.
        self.owed.is_some()
    }

    fn target_closed_in_order(&self) -> bool {
        self.leaving
    }

    fn goodbye(&mut self, target: &mut Vec<u8>) {
        target.extend_from_slice(b"bye\n");
    }

    fn close(&mut self, core: &mut Core, close: Close<'_>) -> Result<(), NoRoom> {
        let (bytes, records) = self.clearance.close_bytes(&self.lane, close.reason);
        let mut room = Room::ask_at_most(core, bytes + END_BYTES_MAX, records + 2)?;
        if let Some(owed) = self.owed.take() {
            let end = StatementEnd {
                started_us: owed.started_us,
                ..StatementEnd::of(owed.number, StatementOutcome::Cut)
            };
            let _ = self.clearance.end_statement(core, &mut room, end);
        }
        let _ = self.clearance.close(core, &mut self.lane, &mut room, close);
        Ok(())
    }
}
