//! The columns of a chunk: what every record has, one kind of number after the other, so that they pack well and can be
//! filtered without touching the bodies.
//!
//! Layout: each column is a varint length and its bytes, in the order of [`Columns`]. Numbers are LEB128; differences are zigzag.

use crate::chain::Hash;
use crate::view::Kind;
use headgate_plane::SessionId;
use std::collections::HashMap;

/// The body is the whole record, because its prefix was not written as postcard would write it.
const VERBATIM: u8 = 0x80;
/// The body is with the replies; the record's hash stands in the columns.
const IN_REPLIES: u8 = 0x40;

/// One record of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub session: SessionId,
    pub seq: u32,
    pub unix_us: u64,
    pub kind: Kind,
    pub statement: u32,
    pub verbatim: bool,
    /// Where the body begins, among the bodies or among the replies.
    pub start: usize,
    pub len: usize,
    /// Of a record whose body is among the replies.
    pub reply_hash: Option<Hash>,
}

#[derive(Default)]
pub(crate) struct Columns {
    sessions: Vec<u8>,
    numbers: HashMap<SessionId, (u32, u32)>,
    session: Vec<u8>,
    seq: Vec<u8>,
    time: Vec<u8>,
    kind: Vec<u8>,
    statement: Vec<u8>,
    len: Vec<u8>,
    hash: Vec<u8>,
    last_us: u64,
}

pub(crate) struct Entry {
    pub session: SessionId,
    pub seq: u32,
    pub unix_us: u64,
    pub kind: Kind,
    pub statement: u32,
    pub verbatim: bool,
    pub len: usize,
    pub reply_hash: Option<Hash>,
}

impl Columns {
    pub fn add(&mut self, e: &Entry) {
        let next = self.numbers.len() as u32;
        let (number, last_seq) = self.numbers.entry(e.session).or_insert_with(|| {
            self.sessions.extend_from_slice(&e.session.0.to_be_bytes());
            (next, u32::MAX)
        });
        put(&mut self.session, u64::from(*number));
        put(&mut self.seq, zigzag(i64::from(e.seq.wrapping_sub(*last_seq).wrapping_sub(1) as i32)));
        *last_seq = e.seq;
        put(&mut self.time, zigzag(e.unix_us.wrapping_sub(self.last_us) as i64));
        self.last_us = e.unix_us;
        let flags = if e.verbatim { VERBATIM } else { 0 } | if e.reply_hash.is_some() { IN_REPLIES } else { 0 };
        self.kind.push(e.kind as u8 | flags);
        put(&mut self.statement, u64::from(e.statement));
        put(&mut self.len, e.len as u64);
        if let Some(hash) = &e.reply_hash {
            self.hash.extend_from_slice(hash);
        }
    }

    pub fn records(&self) -> usize {
        self.kind.len()
    }

    pub fn bytes(&self) -> usize {
        self.sessions.len() + self.hash.len() + 12 * self.kind.len()
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
            &mut self.hash,
        ];
        for column in columns {
            put(out, column.len() as u64);
            out.extend_from_slice(column);
            column.clear();
        }
        self.numbers.clear();
        self.last_us = 0;
    }
}

/// Reads the columns of `records` records. `None` for anything that does not add up.
pub(crate) fn read(bytes: &[u8], records: u32, bodies: u64, replies: u64) -> Option<Vec<Row>> {
    let mut rest = bytes;
    let mut columns: [&[u8]; 8] = [&[]; 8];
    for column in &mut columns {
        let len = usize::try_from(get(&mut rest)?).ok()?;
        (*column, rest) = rest.split_at_checked(len)?;
    }
    let [sessions, mut session, mut seq, mut time, kind, mut statement, mut len, mut hash] = columns;
    if !rest.is_empty() || sessions.len() % 16 != 0 || kind.len() != records as usize {
        return None;
    }
    let mut names: Vec<(SessionId, u32)> = Vec::with_capacity(sessions.len() / 16);
    for id in sessions.chunks_exact(16) {
        names.push((SessionId(u128::from_be_bytes(id.try_into().ok()?)), u32::MAX));
    }
    let (mut body_at, mut reply_at, mut last_us) = (0u64, 0u64, 0u64);
    let mut rows = Vec::with_capacity(kind.len());
    for flags in kind {
        let (id, last_seq) = names.get_mut(usize::try_from(get(&mut session)?).ok()?)?;
        let step = i32::try_from(unzigzag(get(&mut seq)?)).ok()? as u32;
        *last_seq = last_seq.wrapping_add(step).wrapping_add(1);
        last_us = last_us.wrapping_add(unzigzag(get(&mut time)?) as u64);
        let bytes = get(&mut len)?;
        let in_replies = flags & IN_REPLIES != 0;
        let at = if in_replies { &mut reply_at } else { &mut body_at };
        let start = usize::try_from(*at).ok()?;
        *at = at.checked_add(bytes)?;
        let reply_hash = if in_replies {
            let (one, more) = hash.split_first_chunk::<32>()?;
            hash = more;
            Some(*one)
        } else {
            None
        };
        rows.push(Row {
            session: *id,
            seq: *last_seq,
            unix_us: last_us,
            kind: Kind::of(flags & !(VERBATIM | IN_REPLIES))?,
            statement: u32::try_from(get(&mut statement)?).ok()?,
            verbatim: flags & VERBATIM != 0,
            start,
            len: usize::try_from(bytes).ok()?,
            reply_hash,
        });
    }
    let used = session.is_empty() && seq.is_empty() && time.is_empty() && statement.is_empty() && len.is_empty() && hash.is_empty();
    (used && body_at == bodies && reply_at == replies).then_some(rows)
}

fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn get(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..70).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u64::from(first & 0x7f);
        if shift == 63 && bits > 1 {
            return None;
        }
        n |= bits << shift;
        if first & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_at_their_edges() {
        for n in [0, 1, 127, 128, 300, u64::MAX / 2, u64::MAX] {
            let mut out = Vec::new();
            put(&mut out, n);
            let mut rest = out.as_slice();
            assert_eq!(get(&mut rest), Some(n));
            assert!(rest.is_empty());
            assert_eq!(get(&mut &out[..out.len() - 1]), None);
            assert_eq!(unzigzag(n) as u64, (unzigzag(zigzag(unzigzag(n)))) as u64);
        }
        assert_eq!(get(&mut [0xffu8; 11].as_slice()), None);
    }
}
