//! The columns of a chunk: what every record has, one kind of number after the other, so that they pack well and can be
//! filtered without touching the bodies.
//!
//! Layout: each column is a varint length and its bytes, in the order of [`Columns`]. Numbers are LEB128; differences are
//! zigzag. A session has a number in the chunk, dense from 0 in the order of coming; one that begins again after its end
//! has a second one.

use crate::chain::Hash;
use crate::varint::{get, put, unzigzag, zigzag};
use crate::view::EventKind;
use headgate_plane::SessionId;

/// The body is the whole record, because its prefix was not written as postcard would write it.
const VERBATIM: u8 = 0x80;

/// One record of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whose record it is.
    pub session: SessionId,
    /// The session's number in the chunk.
    pub number: u32,
    /// Its number in the session.
    pub seq: u32,
    /// When it happened.
    pub unix_us: u64,
    /// What it is.
    pub kind: EventKind,
    /// Which statement it is about, or 0.
    pub statement: u32,
    /// Whether the record is kept with its prefix, because postcard would write that otherwise.
    pub verbatim: bool,
    /// Where the body begins, among the bodies: the record without prefix and reply.
    pub start: usize,
    /// Its length, without prefix and reply.
    pub len: usize,
    /// Where the reply begins, among the replies.
    pub reply_start: usize,
    /// Of its reply.
    pub reply_len: usize,
}

/// All records of a chunk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// One for each record, in order.
    pub rows: Vec<Row>,
    /// By number of the session: the hash of its replies in the chunk.
    pub reply_hashes: Vec<Option<Hash>>,
}

#[derive(Default)]
pub(crate) struct Columns {
    sessions: Vec<u8>,
    /// By number of the session.
    last_seqs: Vec<u32>,
    session: Vec<u8>,
    seq: Vec<u8>,
    time: Vec<u8>,
    kind: Vec<u8>,
    statement: Vec<u8>,
    len: Vec<u8>,
    reply: Vec<u8>,
    last_us: u64,
}

pub(crate) struct Entry {
    pub session: SessionId,
    pub number: u32,
    pub seq: u32,
    pub unix_us: u64,
    pub kind: EventKind,
    pub statement: u32,
    pub verbatim: bool,
    pub len: usize,
    pub reply_len: usize,
}

impl Columns {
    /// One record more.
    pub fn add(&mut self, e: &Entry) {
        let place = e.number as usize;
        if place >= self.last_seqs.len() {
            assert!(
                place == self.last_seqs.len(),
                "columns: numbers of sessions are dense, not {place}"
            );
            self.sessions.extend_from_slice(&e.session.0.to_be_bytes());
            self.last_seqs.push(u32::MAX);
        }
        // It was there, or has just been put there.
        let Some(last_seq) = self.last_seqs.get_mut(place) else {
            return;
        };
        put(&mut self.session, u64::from(e.number));
        put(
            &mut self.seq,
            zigzag(i64::from(e.seq.wrapping_sub(*last_seq).wrapping_sub(1) as i32)),
        );
        *last_seq = e.seq;
        put(
            &mut self.time,
            zigzag(e.unix_us.wrapping_sub(self.last_us) as i64),
        );
        self.last_us = e.unix_us;
        self.kind
            .push(e.kind.number() | if e.verbatim { VERBATIM } else { 0 });
        put(&mut self.statement, u64::from(e.statement));
        put(&mut self.len, e.len as u64);
        put(&mut self.reply, e.reply_len as u64);
    }

    /// How many there are.
    pub fn records(&self) -> usize {
        self.kind.len()
    }

    /// How long the columns are so far.
    pub fn bytes(&self) -> usize {
        self.sessions.len() + 12 * self.kind.len()
    }

    /// Writes all columns to `out` and starts anew.
    pub fn take(&mut self, out: &mut Vec<u8>) {
        let columns = [
            &mut self.sessions,
            &mut self.session,
            &mut self.seq,
            &mut self.time,
            &mut self.kind,
            &mut self.statement,
            &mut self.len,
            &mut self.reply,
        ];
        for column in columns {
            put(out, column.len() as u64);
            out.extend_from_slice(column);
            column.clear();
        }
        self.last_seqs.clear();
        self.last_us = 0;
    }
}

/// Reads the columns of `records` records. `None` for anything that does not add up.
pub(crate) fn read(bytes: &[u8], records: u32, bodies: u64, replies: u64, mut hashes: &[u8]) -> Option<Rows> {
    let mut rest = bytes;
    let mut columns: [&[u8]; 8] = [&[]; 8];
    for column in &mut columns {
        let len = usize::try_from(get(&mut rest)?).ok()?;
        (*column, rest) = rest.split_at_checked(len)?;
    }
    let [
        sessions,
        mut session,
        mut seq,
        mut time,
        kind,
        mut statement,
        mut len,
        mut reply,
    ] = columns;
    if !rest.is_empty() || sessions.len() % 16 != 0 || kind.len() != records as usize {
        return None;
    }
    // Id, last seq, whether it has replies.
    let mut names: Vec<(SessionId, u32, bool)> = Vec::with_capacity(sessions.len() / 16);
    for id in sessions.chunks_exact(16) {
        names.push((
            SessionId(u128::from_be_bytes(id.try_into().ok()?)),
            u32::MAX,
            false,
        ));
    }
    let (mut body_at, mut reply_at, mut last_us) = (0u64, 0u64, 0u64);
    let mut rows = Vec::with_capacity(kind.len());
    for flags in kind {
        let number = u32::try_from(get(&mut session)?).ok()?;
        let (id, last_seq, replied) = names.get_mut(number as usize)?;
        let step = i32::try_from(unzigzag(get(&mut seq)?)).ok()? as u32;
        *last_seq = last_seq.wrapping_add(step).wrapping_add(1);
        last_us = last_us.wrapping_add(unzigzag(get(&mut time)?) as u64);
        let (body, reply) = (get(&mut len)?, get(&mut reply)?);
        *replied |= reply > 0;
        rows.push(Row {
            session: *id,
            number,
            seq: *last_seq,
            unix_us: last_us,
            kind: EventKind::of(flags & !VERBATIM)?,
            statement: u32::try_from(get(&mut statement)?).ok()?,
            verbatim: flags & VERBATIM != 0,
            start: usize::try_from(body_at).ok()?,
            len: usize::try_from(body).ok()?,
            reply_start: usize::try_from(reply_at).ok()?,
            reply_len: usize::try_from(reply).ok()?,
        });
        body_at = body_at.checked_add(body)?;
        reply_at = reply_at.checked_add(reply)?;
    }
    let mut reply_hashes = Vec::with_capacity(names.len());
    for (_, _, replied) in names {
        reply_hashes.push(if replied {
            let (one, more) = hashes.split_first_chunk::<32>()?;
            hashes = more;
            Some(*one)
        } else {
            None
        });
    }
    let used = [session, seq, time, statement, len, reply, hashes]
        .iter()
        .all(|column| column.is_empty());
    (used && body_at == bodies && reply_at == replies).then_some(Rows { rows, reply_hashes })
}
