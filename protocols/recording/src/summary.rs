//! What a chunk holds, collected while it is made and again while it is verified, so that a query knows whether to open it.

use crate::event::{Direction, Verdict};
use crate::outline::{Outline, OutlineReader, What};
use crate::rows::Summary;
use crate::sessions::SessionFacts;
use crate::view::{BodyView, EventView};
use headgate_plane::SessionId;
use std::collections::BTreeSet;

/// Collects a chunk's summary.
#[derive(Default)]
pub struct Summarizer {
    made: Summary,
    /// By number of the session: whether its people and target are in already.
    known: Vec<bool>,
    people: BTreeSet<String>,
    targets: BTreeSet<String>,
    resources: BTreeSet<String>,
    rules: BTreeSet<String>,
    codes: BTreeSet<String>,
    /// Chunks so far, from 1: what a tail is marked with.
    chunks: u64,
}

fn keep(set: &mut BTreeSet<String>, value: &str) {
    if !set.contains(value) {
        set.insert(value.to_owned());
    }
}

impl Summarizer {
    fn begin(&mut self, session: SessionId, number: u32, unix_us: u64) {
        let made = &mut self.made;
        if made.records == 0 {
            made.first_us = unix_us;
            self.chunks += 1;
        }
        made.records = made.records.saturating_add(1);
        made.first_us = made.first_us.min(unix_us);
        made.last_us = made.last_us.max(unix_us);
        if number as usize >= self.known.len() {
            self.known.resize(number as usize + 1, false);
            made.sessions.push(session);
        }
    }

    fn judged<'n>(&mut self, verdict: Verdict, rule: &str, resources: impl Iterator<Item = &'n str>) {
        self.made.verdicts |= 1 << (verdict as u8);
        keep(&mut self.rules, rule);
        for resource in resources {
            keep(&mut self.resources, resource);
        }
    }

    fn people(&mut self, number: u32, facts: Option<&SessionFacts>) {
        if let Some(facts) = facts
            && let Some(known) = self.known.get_mut(number as usize)
            && !std::mem::replace(known, true)
        {
            keep(&mut self.targets, &facts.target);
            for name in &facts.people {
                keep(&mut self.people, name);
            }
        }
    }

    fn body(&mut self, number: u32, body: &BodyView<'_>, facts: Option<&SessionFacts>) {
        match body {
            BodyView::Statement {
                verdict,
                rule,
                resources,
                ..
            } => {
                self.made.statements = self.made.statements.saturating_add(1);
                self.judged(*verdict, rule, resources.iter().copied());
                self.people(number, facts);
            }
            BodyView::Prepared {
                verdict,
                rule,
                resources,
                ..
            } => {
                self.made.prepared = self.made.prepared.saturating_add(1);
                self.judged(*verdict, rule, resources.iter().copied());
                self.people(number, facts);
            }
            BodyView::Stream {
                direction: Direction::ToTarget,
                ..
            } => self.made.data = true,
            BodyView::StatementEnd {
                error: Some(error), ..
            } => {
                self.made.errors = true;
                keep(&mut self.codes, error.code);
            }
            BodyView::Recorder { .. } | BodyView::Admin { .. } => self.made.notes = true,
            _ => {}
        }
    }

    /// `facts` are those of the event's session, `number` is its number in the chunk.
    pub fn add(&mut self, view: &EventView<'_>, number: u32, facts: Option<&SessionFacts>) {
        self.begin(view.session, number, view.unix_us);
        self.body(number, &view.body, facts);
    }

    /// The same from an outline and its reader.
    pub fn add_outline(
        &mut self,
        outline: &Outline<'_>,
        reader: &mut OutlineReader,
        number: u32,
        facts: Option<&SessionFacts>,
    ) {
        self.begin(outline.session, number, outline.unix_us);
        match &outline.what {
            What::Statement(place) => {
                self.made.statements = self.made.statements.saturating_add(1);
                self.tail(reader, *place, number, facts);
            }
            What::Prepared(place) => {
                self.made.prepared = self.made.prepared.saturating_add(1);
                self.tail(reader, *place, number, facts);
            }
            What::Stream {
                direction: Direction::ToTarget,
            } => self.made.data = true,
            What::StatementEnd { code: Some(code) } => {
                self.made.errors = true;
                keep(&mut self.codes, code);
            }
            What::Other(view) => self.body(number, &view.body, facts),
            What::Stream {
                direction: Direction::ToClient,
            }
            | What::StatementEnd { code: None } => {}
        }
    }

    fn tail(&mut self, reader: &mut OutlineReader, place: usize, number: u32, facts: Option<&SessionFacts>) {
        if let Some(tail) = reader.tail(place)
            && std::mem::replace(&mut tail.mark, self.chunks) != self.chunks
        {
            self.judged(
                tail.verdict,
                &tail.rule,
                tail.resources.iter().map(String::as_str),
            );
        }
        self.people(number, facts);
    }

    /// Gives the summary, and starts anew.
    pub fn finish(&mut self, number: u64) -> Summary {
        let mut made = std::mem::take(&mut self.made);
        made.number = number;
        made.sessions.sort_unstable();
        made.sessions.dedup();
        self.known.clear();
        made.people = std::mem::take(&mut self.people).into_iter().collect();
        made.targets = std::mem::take(&mut self.targets).into_iter().collect();
        made.resources = std::mem::take(&mut self.resources).into_iter().collect();
        made.rules = std::mem::take(&mut self.rules).into_iter().collect();
        made.codes = std::mem::take(&mut self.codes).into_iter().collect();
        made
    }
}
