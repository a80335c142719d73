//! One client session: sign in, prepare, then one statement after the other, or several on their way.
//!
//! Invariant: at most `depth` statements are on their way; each is complete with its own ReadyForQuery.
//! Never here: reading values. A row's bytes are kept on request, so that whoever runs a bench can see whether it was masked.

use crate::error::LoadFailed;
use crate::ledger::Ledger;
use crate::scram::{ClientExchange, KeyRing, MECHANISM};
use crate::script::{Dice, Script};
use crate::wire::{self, NextFrame};
use std::collections::VecDeque;
use std::time::Instant;

enum Step {
    SigningIn(Option<Box<ClientExchange>>),
    Preparing,
    /// Ready; what is on its way stands in `on_the_way`.
    Open,
}

/// A statement that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Sent {
    /// When it was sent; in an open loop, when it should have been.
    since: Instant,
    kind: usize,
    /// Of a held statement; 0 for all others.
    number: u64,
}

/// What an error in an answer does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnError {
    /// It ends the run.
    #[default]
    Stop,
    /// It is counted; a session that was cut is opened again.
    Count,
}

pub struct Client {
    pub number: usize,
    pub crew: usize,
    pub started: Instant,
    step: Step,
    on_the_way: VecDeque<Sent>,
    /// Statements whose time has come while the session was busy (open loop).
    pub due: VecDeque<Instant>,
    rows: u64,
    failed: bool,
    dice: Dice,
}

impl Client {
    /// The session and its first packet. `number`: which of the crew's logins it is.
    pub fn start(number: usize, script: &Script) -> (Client, Vec<u8>) {
        let client = Client {
            number,
            crew: script.crew,
            started: Instant::now(),
            step: Step::SigningIn(None),
            on_the_way: VecDeque::new(),
            due: VecDeque::new(),
            rows: 0,
            failed: false,
            dice: Dice::new(number as u64),
        };
        (client, script.startup(number))
    }

    /// Whether a statement is on its way.
    pub fn is_waiting(&self) -> bool {
        !self.on_the_way.is_empty()
    }

    pub fn is_open(&self) -> bool {
        matches!(self.step, Step::Open)
    }

    /// Since when its oldest statement waits for an answer.
    pub fn waits_since(&self) -> Option<Instant> {
        self.on_the_way.front().map(|sent| sent.since)
    }

    /// Sends the next statements, if there are some to send.
    pub fn ask(&mut self, script: &Script, out: &mut Vec<u8>, ledger: &mut Ledger) {
        if !self.is_open() {
            return;
        }
        while self.on_the_way.len() < script.depth {
            let since = if script.open_loop {
                match self.due.pop_front() {
                    Some(since) => since,
                    None => return,
                }
            } else {
                ledger.clock()
            };
            let Some(statement) = script.pick(&mut self.dice) else {
                return;
            };
            statement.write(out, &mut self.dice, &mut ledger.sequence);
            let number = if statement.held { ledger.sequence } else { 0 };
            self.on_the_way.push_back(Sent {
                since,
                kind: statement.kind,
                number,
            });
        }
    }

    /// Uses what it can at the front of `data`; returns the bytes used.
    pub fn feed(
        &mut self,
        script: &Script,
        keys: &KeyRing,
        on_error: OnError,
        data: &[u8],
        out: &mut Vec<u8>,
        ledger: &mut Ledger,
    ) -> Result<usize, LoadFailed> {
        let mut used = 0;
        loop {
            let rest = data.get(used..).unwrap_or(&[]);
            match wire::next_frame(rest) {
                NextFrame::Part => return Ok(used),
                NextFrame::TooLong => return Err(self.misbehaved("a message longer than its bound")),
                NextFrame::Message(tag, body, len) => {
                    used += len;
                    match tag {
                        b'D' => {
                            self.rows += 1;
                            if ledger.wants_sample && self.crew == 0 {
                                ledger.sample.clear();
                                ledger.sample.extend_from_slice(body);
                            }
                        }
                        b'Z' => self.ready(script, out, ledger)?,
                        b'R' => self.authenticate(script, keys, body, out)?,
                        b'E' => self.error(on_error, body, ledger)?,
                        _ => {}
                    }
                }
            }
        }
    }

    pub fn misbehaved(&self, what: &'static str) -> LoadFailed {
        LoadFailed::Misbehaved {
            session: self.number,
            what,
        }
    }

    fn error(&mut self, on_error: OnError, body: &[u8], ledger: &mut Ledger) -> Result<(), LoadFailed> {
        let (sqlstate, message) = (wire::report_field(body, b'C'), wire::report_field(body, b'M'));
        // V is never translated; before PostgreSQL 9.6 there was S alone.
        let is_fatal = [b'V', b'S']
            .iter()
            .any(|field| matches!(wire::report_field(body, *field).as_str(), "FATAL" | "PANIC"));
        if on_error == OnError::Stop || is_fatal || !self.is_open() {
            return Err(LoadFailed::Refused {
                session: self.number,
                sqlstate,
                message,
            });
        }
        self.failed = true;
        ledger.failed(
            self.on_the_way.front().map(|sent| sent.kind),
            format!("{sqlstate}: {message}"),
        );
        Ok(())
    }

    fn authenticate(
        &mut self,
        script: &Script,
        keys: &KeyRing,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), LoadFailed> {
        let Step::SigningIn(exchange) = &mut self.step else {
            return Err(self.misbehaved("a sign-in after the sign-in"));
        };
        let password = script.password(self.number);
        let (code, rest) = match body.split_first_chunk::<4>() {
            Some((code, rest)) => (u32::from_be_bytes(*code), rest),
            None => return Err(self.misbehaved("a request to sign in that is cut short")),
        };
        let said = match (code, exchange) {
            (0, _) => Ok(()),
            (3, _) => {
                wire::message(out, b'p', |b| wire::text(b, password.as_bytes()));
                Ok(())
            }
            (10, exchange) if memchr::memmem::find(rest, b"SCRAM-SHA-256\0").is_some() => {
                let (started, first) = ClientExchange::start();
                *exchange = Some(Box::new(started));
                wire::message(out, b'p', |b| {
                    wire::text(b, MECHANISM.as_bytes());
                    wire::value(b, first.as_bytes());
                });
                Ok(())
            }
            (11, Some(exchange)) => exchange.answer(rest, password, keys).map(|last| {
                wire::message(out, b'p', |b| b.extend_from_slice(last.as_bytes()));
            }),
            (12, Some(exchange)) => exchange.finish(rest),
            (5, _) => {
                Err("it asks for an MD5 password, which this tool does not speak: use scram-sha-256 or trust")
            }
            _ => Err("it asks for a kind of sign-in other than a password in the clear or SCRAM-SHA-256"),
        };
        said.map_err(|what| self.misbehaved(what))
    }

    fn ready(&mut self, script: &Script, out: &mut Vec<u8>, ledger: &mut Ledger) -> Result<(), LoadFailed> {
        match self.step {
            Step::SigningIn(_) if !script.prepare.is_empty() => {
                out.extend_from_slice(&script.prepare);
                self.step = Step::Preparing;
            }
            Step::SigningIn(_) | Step::Preparing => {
                self.step = Step::Open;
                ledger.became_ready = true;
            }
            Step::Open => {
                let Some(sent) = self.on_the_way.pop_front() else {
                    return Err(self.misbehaved("ReadyForQuery that nothing asked for"));
                };
                let rows = std::mem::take(&mut self.rows);
                if std::mem::take(&mut self.failed) {
                    return Ok(());
                }
                if rows == 0 && script.wants_rows(sent.kind) {
                    return Err(self.misbehaved("a statement was answered without a row"));
                }
                if sent.number != 0 {
                    let now = ledger.clock();
                    ledger.held_answered.push((sent.number, now));
                }
                ledger.answered(sent.kind, sent.since, rows);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
