//! Sessions in progress: what the recorder keeps while it writes, and what a verifier keeps while it reads. Both use this,
//! so that rows and summaries made by one are the same as those made by the other.

use crate::chain::{Chain, ChainLink, Hash};
use crate::chunk::Ended;
use crate::outline::Outline;
use crate::rows::{OpenSession, SessionEnd, SessionRow};
use crate::view::{BodyView, EventKind, EventView};
use headgate_plane::{SessionId, Who};
use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

/// What queries filter a session's statements by.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SessionFacts {
    /// The principal, and everybody in the chain.
    pub people: Vec<String>,
    /// Its target's name.
    pub target: String,
}

impl SessionFacts {
    /// Of whoever it is, on this target.
    pub fn new(who: &Who, target: &str) -> SessionFacts {
        let mut people = who.chain.clone();
        people.push(who.principal.clone());
        SessionFacts {
            people,
            target: target.to_owned(),
        }
    }
}

/// A session that goes on.
#[derive(Clone, Debug)]
pub struct Live {
    /// Which.
    pub session: SessionId,
    /// Spool that it comes through; 0 for the recorder's own.
    pub generation: u128,
    /// Over its records so far.
    pub chain: Chain,
    /// The number that is due.
    pub next_seq: u32,
    /// How many it has had.
    pub statements: u32,
    /// Its latest record's time.
    pub last_us: u64,
    /// What its statements are found by.
    pub facts: Arc<SessionFacts>,
    /// Of the chunk in the making: the session's number in it, and the link over its records so far.
    link: Option<(u32, ChainLink)>,
}

/// A record as the chains take it.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Whose it is.
    pub session: SessionId,
    /// Its number in the session.
    pub seq: u32,
    /// When it happened.
    pub unix_us: u64,
    /// What it is.
    pub kind: EventKind,
    /// `None` for what only needs counting: statements, replies and ends.
    pub body: Option<&'a BodyView<'a>>,
    /// The record up to its reply.
    pub head: &'a [u8],
    /// Empty also where it is erased.
    pub reply: &'a [u8],
}

impl<'a> Piece<'a> {
    /// Of a record and its outline.
    pub fn of_outline(record: &'a [u8], outline: &'a Outline<'a>) -> Piece<'a> {
        let (head, reply) = outline.split(record);
        Piece {
            session: outline.session,
            seq: outline.seq,
            unix_us: outline.unix_us,
            kind: outline.kind,
            body: outline.body(),
            head,
            reply,
        }
    }

    /// Of an event that was read.
    pub fn of_view(view: &'a EventView<'a>, head: &'a [u8], reply: &'a [u8]) -> Piece<'a> {
        let (session, seq, unix_us) = (view.session, view.seq, view.unix_us);
        Piece {
            session,
            seq,
            unix_us,
            kind: view.body.kind(),
            body: Some(&view.body),
            head,
            reply,
        }
    }
}

/// What an event did to its session.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The session's number in the chunk.
    pub number: u32,
    /// The sequence number that should have come, if another came.
    pub expected: Option<u32>,
    /// The session's first event, and it is not one that begins a session.
    pub headless: bool,
    /// The session, where it ended with this record.
    pub ended: Option<Ended>,
    /// As counted here, not as the session says.
    pub statements: u32,
}

/// Hashes the ids of sessions: 128 bits that are random by themselves, folded with a secret of this process so that nobody
/// makes ids that fall together.
#[derive(Clone)]
struct Ids(u64, u64);

struct IdHasher(u64, u64, u64);

impl Default for Ids {
    fn default() -> Ids {
        let random = RandomState::new();
        Ids(random.hash_one(1u8), random.hash_one(2u8) | 1)
    }
}

impl BuildHasher for Ids {
    type Hasher = IdHasher;

    fn build_hasher(&self) -> IdHasher {
        IdHasher(self.0, self.1, 0)
    }
}

impl Hasher for IdHasher {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "both halves of a number are used, each alone"
    )]
    fn write_u128(&mut self, id: u128) {
        let (low, high) = (id as u64 ^ self.0, (id >> 64) as u64 ^ self.1);
        let folded = u128::from(low) * u128::from(high | 1);
        self.2 = (folded as u64 ^ (folded >> 64) as u64).wrapping_mul(self.1);
    }

    /// Only for completeness: an id is one u128.
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u128(u128::from(self.2) << 8 | u128::from(*byte));
        }
    }

    fn finish(&self) -> u64 {
        self.2
    }
}

/// Sessions in progress, and the links of the chunk in the making. [`Sessions::close`] ends a chunk.
#[derive(Default)]
pub struct Sessions {
    /// Places in `live`.
    places: HashMap<SessionId, usize, Ids>,
    live: Vec<Option<Live>>,
    free: Vec<usize>,
    last: Option<(SessionId, usize)>,
    /// Places of sessions with a link, and some whose session ended.
    touched: Vec<usize>,
    /// By number: hashes of the replies of links that are closed.
    reply_hashes: Vec<Option<Hash>>,
    /// By number: hashes of replies that are gone.
    erased: Vec<Option<Hash>>,
}

impl Sessions {
    fn place(&self, id: SessionId) -> Option<usize> {
        match self.last {
            Some((last, place)) if last == id => Some(place),
            _ => self.places.get(&id).copied(),
        }
    }

    /// One that goes on.
    pub fn get(&self, id: SessionId) -> Option<&Live> {
        self.live.get(self.place(id)?)?.as_ref()
    }

    /// How many go on.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether none goes on.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Ids of a generation's sessions, sorted.
    pub fn of(&self, generation: u128) -> Vec<SessionId> {
        let live = self.live.iter().flatten();
        let mut ids: Vec<_> = live
            .filter(|l| l.generation == generation)
            .map(|l| l.session)
            .collect();
        ids.sort_unstable();
        ids
    }

    /// The spools that those that go on come through.
    pub fn generations(&self) -> BTreeSet<u128> {
        self.live.iter().flatten().map(|l| l.generation).collect()
    }

    fn insert(&mut self, live: Live) -> usize {
        let id = live.session;
        let place = self.free.pop().unwrap_or(self.live.len());
        match self.live.get_mut(place) {
            Some(slot) => *slot = Some(live),
            None => self.live.push(Some(live)),
        }
        self.places.insert(id, place);
        place
    }

    fn remove(&mut self, id: SessionId, place: usize) {
        self.last = None;
        self.places.remove(&id);
        if let Some(slot) = self.live.get_mut(place) {
            *slot = None;
            self.free.push(place);
        }
    }

    /// Adds a record to its session's link, and says what that did.
    #[expect(
        clippy::panic,
        reason = "a place without a session is a mistake of ours, and the chain must not go on after it"
    )]
    pub fn apply(&mut self, generation: u128, piece: &Piece<'_>) -> Applied {
        let mut applied = Applied::default();
        let place = match self.place(piece.session) {
            Some(place) => place,
            None => {
                applied.headless = !piece.kind.begins_session();
                self.insert(Live {
                    session: piece.session,
                    generation,
                    chain: Chain::start(piece.session),
                    next_seq: 0,
                    statements: 0,
                    last_us: 0,
                    facts: Arc::default(),
                    link: None,
                })
            }
        };
        self.last = Some((piece.session, place));
        let Some(live) = self.live.get_mut(place).and_then(Option::as_mut) else {
            panic!("sessions: a place without a session");
        };
        if live.next_seq != piece.seq {
            applied.expected = Some(live.next_seq);
        }
        live.next_seq = piece.seq.saturating_add(1);
        live.last_us = piece.unix_us;
        if piece.kind == EventKind::Statement {
            live.statements = live.statements.saturating_add(1);
        }
        if let Some(BodyView::SessionOpen { who, target, .. }) = piece.body {
            live.facts = Arc::new(SessionFacts::new(who, target));
        }
        let (number, link) = live.link.get_or_insert_with(|| {
            let number = u32::try_from(self.reply_hashes.len()).unwrap_or(u32::MAX);
            self.touched.push(place);
            self.reply_hashes.push(None);
            (number, live.chain.link())
        });
        applied.number = *number;
        link.add(piece.head, piece.reply);
        let stopped = matches!(
            piece.body,
            Some(BodyView::Recorder {
                note: crate::RecorderNote::Stopped
            })
        );
        if piece.kind.ends_session() || stopped {
            close(live, &self.erased, &mut self.reply_hashes);
            applied.ended = Some(Ended {
                session: piece.session,
                count: live.chain.count,
                head: live.chain.head,
            });
            applied.statements = live.statements;
            self.remove(piece.session, place);
        }
        applied
    }

    /// Before a chunk's records: what its replies hashed to, by number of the session, because they are gone.
    pub fn expect_erased(&mut self, hashes: &[Option<Hash>]) {
        self.erased = hashes.to_vec();
    }

    /// After a chunk's records: closes the links. Gives the hashes of the replies, by number of the session.
    pub fn close(&mut self) -> Vec<Option<Hash>> {
        for place in std::mem::take(&mut self.touched) {
            if let Some(live) = self.live.get_mut(place).and_then(Option::as_mut) {
                close(live, &self.erased, &mut self.reply_hashes);
            }
        }
        self.erased.clear();
        std::mem::take(&mut self.reply_hashes)
    }

    /// For a restart, sorted. Links that are not closed are not in it.
    pub fn snapshot(&self) -> Vec<OpenSession> {
        let live = self.live.iter().flatten();
        let mut all: Vec<OpenSession> = live
            .map(|l| OpenSession {
                session: l.session,
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

    /// Goes on with a session that was open.
    pub fn restore(&mut self, open: &OpenSession, facts: SessionFacts) {
        self.insert(Live {
            session: open.session,
            generation: open.generation,
            chain: open.chain(),
            next_seq: open.next_seq,
            statements: open.statements,
            last_us: open.last_us,
            facts: Arc::new(facts),
            link: None,
        });
    }
}

fn close(live: &mut Live, erased: &[Option<Hash>], reply_hashes: &mut [Option<Hash>]) {
    let Some((number, link)) = live.link.take() else {
        return;
    };
    let erased = erased.get(number as usize).copied().flatten();
    let hash = live.chain.close(link, erased);
    if let Some(slot) = reply_hashes.get_mut(number as usize) {
        *slot = hash;
    }
}

impl SessionRow {
    /// The row of a session that begins with this event; `None` if it does not begin one that people look for.
    pub fn begun(view: &EventView<'_>, chunk: u64) -> Option<SessionRow> {
        let mut row = SessionRow {
            opened_us: view.unix_us,
            first_chunk: chunk,
            last_chunk: chunk,
            ..SessionRow::default()
        };
        match &view.body {
            BodyView::SessionOpen {
                who,
                target,
                environment,
                role,
                credential_id,
                epoch,
                protocol,
                target_session,
            } => {
                row.who = who.clone();
                row.target = (*target).to_owned();
                row.environment = (*environment).to_owned();
                row.role = (*role).to_owned();
                row.credential_id = (*credential_id).to_owned();
                row.epoch = epoch.0;
                row.protocol = protocol.name().to_owned();
                row.target_session = (*target_session).to_owned();
            }
            BodyView::SignInRefused {
                target,
                user,
                address,
                ..
            } => {
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
            BodyView::SessionClose {
                reason,
                bytes_from_client,
                bytes_to_client,
                ..
            } => {
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
