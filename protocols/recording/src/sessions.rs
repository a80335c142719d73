//! Sessions in progress: what the recorder keeps while it writes, and what a verifier keeps while it reads. Both use this,
//! so that rows and summaries made by one are the same as those made by the other.

use crate::chain::{Chain, Hash};
use crate::chunk::Ended;
use crate::rows::{OpenSession, SessionEnd, SessionRow, Summary};
use crate::view::{BodyView, EventView, Kind};
use headgate_plane::{SessionId, Who};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// What queries filter a session's statements by.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub people: Vec<String>,
    pub target: String,
}

impl Facts {
    pub fn new(who: &Who, target: &str) -> Facts {
        let mut people = who.chain.clone();
        people.push(who.principal.clone());
        Facts { people, target: target.to_owned() }
    }
}

#[derive(Clone, Debug)]
pub struct Live {
    /// Spool that it comes through; 0 for the recorder's own.
    pub generation: u128,
    pub chain: Chain,
    pub next_seq: u32,
    pub statements: u32,
    pub last_us: u64,
    pub facts: Arc<Facts>,
}

/// What an event did to its session.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The sequence number that should have come, if another came.
    pub expected: Option<u32>,
    /// The session's first event, and it is not one that begins a session.
    pub headless: bool,
    pub ended: Option<Ended>,
    /// As counted here, not as the session says.
    pub statements: u32,
}

#[derive(Default)]
pub struct Sessions {
    live: HashMap<SessionId, Live>,
}

impl Sessions {
    pub fn get(&self, id: SessionId) -> Option<&Live> {
        self.live.get(&id)
    }

    pub fn len(&self) -> usize {
        self.live.len()
    }

    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Ids of a generation's sessions, sorted.
    pub fn of(&self, generation: u128) -> Vec<SessionId> {
        let mut ids: Vec<_> = self.live.iter().filter(|(_, l)| l.generation == generation).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    pub fn generations(&self) -> BTreeSet<u128> {
        self.live.values().map(|l| l.generation).collect()
    }

    /// Adds a record to its session's chain, and says what that did.
    pub fn apply(&mut self, generation: u128, record: &[u8], view: &EventView<'_>) -> Applied {
        let kind = view.body.kind();
        let mut applied = Applied::default();
        let live = self.live.entry(view.session).or_insert_with(|| {
            applied.headless =
                !matches!(kind, Kind::SessionOpen | Kind::SignInRefused | Kind::Recorder | Kind::Admin);
            Live {
                generation,
                chain: Chain::start(view.session),
                next_seq: 0,
                statements: 0,
                last_us: 0,
                facts: Arc::default(),
            }
        });
        if live.next_seq != view.seq {
            applied.expected = Some(live.next_seq);
        }
        live.next_seq = view.seq.saturating_add(1);
        live.chain.add(record);
        live.last_us = view.unix_us;
        match &view.body {
            BodyView::SessionOpen { who, target, .. } => live.facts = Arc::new(Facts::new(who, target)),
            BodyView::Statement { .. } => live.statements = live.statements.saturating_add(1),
            _ => {}
        }
        let stopped = matches!(&view.body, BodyView::Recorder(crate::RecorderNote::Stopped));
        if kind.ends_session() || stopped {
            applied.ended = Some(Ended { session: view.session, count: live.chain.count, head: live.chain.head });
            applied.statements = live.statements;
            self.live.remove(&view.session);
        }
        applied
    }

    /// The same for a reply whose bytes are no longer there: its hash keeps the chain whole. Returns the sequence number
    /// that should have come, if another came.
    pub fn apply_hash(&mut self, id: SessionId, seq: u32, hash: &Hash) -> Option<u32> {
        let live = self.live.get_mut(&id)?;
        let expected = (live.next_seq != seq).then_some(live.next_seq);
        live.next_seq = seq.saturating_add(1);
        live.chain.add_hash(hash);
        expected
    }

    /// For a restart, sorted.
    pub fn snapshot(&self) -> Vec<OpenSession> {
        let mut all: Vec<OpenSession> = self
            .live
            .iter()
            .map(|(id, l)| OpenSession {
                session: *id,
                generation: l.generation,
                head: l.chain.head,
                next_seq: l.next_seq,
                count: l.chain.count,
                statements: l.statements,
                last_us: l.last_us,
            })
            .collect();
        all.sort_unstable_by_key(|o| o.session);
        all
    }

    pub fn restore(&mut self, open: &OpenSession, facts: Facts) {
        let live = Live {
            generation: open.generation,
            chain: open.chain(),
            next_seq: open.next_seq,
            statements: open.statements,
            last_us: open.last_us,
            facts: Arc::new(facts),
        };
        self.live.insert(open.session, live);
    }

    /// Sets where a session comes from, which the records do not say.
    pub fn set_generation(&mut self, id: SessionId, generation: u128) {
        if let Some(live) = self.live.get_mut(&id) {
            live.generation = generation;
        }
    }
}

impl SessionRow {
    /// The row of a session that begins with this event; `None` if it does not begin one that people look for.
    pub fn begun(view: &EventView<'_>, chunk: u64) -> Option<SessionRow> {
        let mut row =
            SessionRow { opened_us: view.unix_us, first_chunk: chunk, last_chunk: chunk, ..SessionRow::default() };
        match &view.body {
            BodyView::SessionOpen { who, target, environment, role, credential_id, epoch, protocol, target_pid } => {
                row.who = who.clone();
                row.target = (*target).to_owned();
                row.environment = (*environment).to_owned();
                row.role = (*role).to_owned();
                row.credential_id = (*credential_id).to_owned();
                row.epoch = epoch.0;
                row.protocol = (*protocol).to_owned();
                row.target_pid = *target_pid;
            }
            BodyView::SignInRefused { target, user, address, .. } => {
                // Nobody is known: the name is what the client said, and goes where roles go.
                row.role = (*user).to_owned();
                row.target = (*target).to_owned();
                row.who.address = (*address).to_owned();
            }
            BodyView::Admin { .. } => {
                row.target = "headgate".to_owned();
                row.protocol = "admin".to_owned();
            }
            _ => return None,
        }
        Some(row)
    }

    /// Fills in how the session ended.
    pub fn finish(&mut self, view: &EventView<'_>, applied: &Applied, chunk: u64) {
        let (end, reason) = match &view.body {
            BodyView::SessionClose { reason, bytes_from_client, bytes_to_client, .. } => {
                self.bytes_from_client = *bytes_from_client;
                self.bytes_to_client = *bytes_to_client;
                (SessionEnd::Closed, *reason)
            }
            BodyView::SignInRefused { reason, .. } => (SessionEnd::Refused, *reason),
            BodyView::SessionLost { reason } => (SessionEnd::Lost, *reason),
            _ => return,
        };
        self.end = end;
        self.reason = reason.to_owned();
        self.ended_us = view.unix_us;
        self.last_chunk = chunk;
        self.statements = applied.statements;
        if let Some(ended) = &applied.ended {
            self.records = ended.count;
            self.head = ended.head;
        }
    }
}

/// Collects a chunk's summary.
#[derive(Default)]
pub struct Summarizer {
    made: Summary,
    sessions: HashSet<SessionId>,
    /// Sessions whose people and target are in already.
    known: HashSet<SessionId>,
    people: BTreeSet<String>,
    targets: BTreeSet<String>,
    relations: BTreeSet<String>,
    rules: BTreeSet<String>,
    sqlstates: BTreeSet<String>,
}

fn keep(set: &mut BTreeSet<String>, value: &str) {
    if !set.contains(value) {
        set.insert(value.to_owned());
    }
}

impl Summarizer {
    /// `facts` are those of the event's session.
    pub fn add(&mut self, view: &EventView<'_>, facts: Option<&Facts>) {
        let made = &mut self.made;
        if made.records == 0 {
            made.first_us = view.unix_us;
        }
        made.records = made.records.saturating_add(1);
        made.first_us = made.first_us.min(view.unix_us);
        made.last_us = made.last_us.max(view.unix_us);
        self.sessions.insert(view.session);
        match &view.body {
            BodyView::Statement { verdict, rule, relations, .. } => {
                made.statements = made.statements.saturating_add(1);
                made.verdicts |= 1 << (*verdict as u8);
                keep(&mut self.rules, rule);
                for relation in relations {
                    keep(&mut self.relations, relation);
                }
                if let Some(facts) = facts
                    && self.known.insert(view.session)
                {
                    keep(&mut self.targets, &facts.target);
                    for name in &facts.people {
                        keep(&mut self.people, name);
                    }
                }
            }
            BodyView::StatementEnd { error: Some(error), .. } => {
                made.errors = true;
                keep(&mut self.sqlstates, error.sqlstate);
            }
            BodyView::Recorder(_) | BodyView::Admin { .. } => made.notes = true,
            _ => {}
        }
    }

    /// Gives the summary, and starts anew.
    pub fn finish(&mut self, number: u64) -> Summary {
        let mut made = std::mem::take(&mut self.made);
        made.number = number;
        made.sessions = self.sessions.drain().collect();
        made.sessions.sort_unstable();
        self.known.clear();
        made.people = std::mem::take(&mut self.people).into_iter().collect();
        made.targets = std::mem::take(&mut self.targets).into_iter().collect();
        made.relations = std::mem::take(&mut self.relations).into_iter().collect();
        made.rules = std::mem::take(&mut self.rules).into_iter().collect();
        made.sqlstates = std::mem::take(&mut self.sqlstates).into_iter().collect();
        made
    }
}
