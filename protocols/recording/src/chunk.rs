//! A chunk: some hundred to some thousand records, packed.
//!
//! Value in `chunk`: magic, u32 length of the header, header (postcard), columns (packed), bodies (packed).
//! Value in `resp`: the bodies of the ReplyParts (packed). The header holds its hash, so the chunk's leaf binds it, and the
//! columns hold the hash of each such record, so the replies can be dropped one day and the chains still verify.
//!
//! Packing itself (zstd) is handed in: this crate stays free of C. Bounds: [`PART_BYTES_MAX`] per part before packing.

use crate::chain::{Hash, record_hash};
use crate::codec::EVENT_BYTES_MAX;
use crate::columns::{self, Columns, Entry, Row};
use crate::view::EventView;
use headgate_plane::SessionId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"HGCHUNK1";
/// Two of the largest records and then some.
pub const PART_BYTES_MAX: u64 = 64 << 20;
const _: () = assert!(PART_BYTES_MAX as usize > 2 * EVENT_BYTES_MAX);
/// Longest prefix (session, seq, time) that postcard writes.
const PREFIX_BYTES_MAX: usize = 19 + 5 + 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub raw: u64,
    pub packed: u64,
}

/// Which bytes of a spool are in the chunk: [from, to). Dense over all chunks, for each generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolRange {
    pub generation: u128,
    pub from: u64,
    pub to: u64,
}

/// A session whose last event is in the chunk: how long its chain became.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub session: SessionId,
    pub count: u32,
    pub head: Hash,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub number: u64,
    /// Session id of the recorder's run.
    pub run: u128,
    pub first_us: u64,
    pub last_us: u64,
    pub records: u32,
    pub spools: Vec<SpoolRange>,
    pub ended: Vec<Ended>,
    pub columns: Part,
    pub bodies: Part,
    pub replies: Part,
    /// SHA-256 of the value in `resp`; zeroes if there is none.
    pub replies_hash: Hash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    Magic,
    Header,
    /// A part is longer than allowed, or not as long as the header says.
    Length,
    Packing,
    Columns,
    /// The replies are not those that the header names.
    RepliesHash,
    /// The replies are not there.
    RepliesMissing,
}

impl std::fmt::Display for ChunkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ChunkError::Magic => "not a chunk",
            ChunkError::Header => "the chunk's header cannot be read",
            ChunkError::Length => "a part of the chunk is not as long as its header says",
            ChunkError::Packing => "a part of the chunk cannot be unpacked",
            ChunkError::Columns => "the chunk's columns do not add up",
            ChunkError::RepliesHash => "the replies are not those that the chunk names",
            ChunkError::RepliesMissing => "the chunk's replies are missing",
        })
    }
}

impl std::error::Error for ChunkError {}

/// Takes records until somebody finishes the chunk.
#[derive(Default)]
pub struct Builder {
    columns: Columns,
    bodies: Vec<u8>,
    replies: Vec<u8>,
    first_us: u64,
    last_us: u64,
}

/// A finished chunk.
pub struct Packed {
    pub value: Vec<u8>,
    pub replies: Option<Vec<u8>>,
}

impl Builder {
    /// `view` is what `record` reads as.
    pub fn add(&mut self, record: &[u8], view: &EventView<'_>) {
        let mut buffer = [0u8; PREFIX_BYTES_MAX];
        let prefix: &[u8] = prefix(view.session, view.seq, view.unix_us, &mut buffer);
        let verbatim = !record.starts_with(prefix);
        let body = if verbatim { record } else { &record[prefix.len()..] };
        let kind = view.body.kind();
        let is_reply = kind == crate::view::Kind::ReplyPart;
        let reply_hash = is_reply.then(|| record_hash(record));
        self.columns.add(&Entry {
            session: view.session,
            seq: view.seq,
            unix_us: view.unix_us,
            kind,
            statement: view.body.statement(),
            verbatim,
            len: body.len(),
            reply_hash,
        });
        if is_reply { &mut self.replies } else { &mut self.bodies }.extend_from_slice(body);
        if self.columns.records() == 1 {
            self.first_us = view.unix_us;
            self.last_us = view.unix_us;
        }
        self.first_us = self.first_us.min(view.unix_us);
        self.last_us = self.last_us.max(view.unix_us);
    }

    pub fn records(&self) -> usize {
        self.columns.records()
    }

    /// Bytes without the replies.
    pub fn command_bytes(&self) -> usize {
        self.bodies.len() + self.columns.bytes()
    }

    pub fn reply_bytes(&self) -> usize {
        self.replies.len()
    }

    /// Packs what was added, and starts anew.
    pub fn finish(
        &mut self,
        number: u64,
        run: u128,
        spools: Vec<SpoolRange>,
        ended: Vec<Ended>,
        pack: &mut dyn FnMut(&[u8]) -> std::io::Result<Vec<u8>>,
    ) -> std::io::Result<Packed> {
        let records = u32::try_from(self.columns.records()).unwrap_or(u32::MAX);
        let mut raw = Vec::with_capacity(self.columns.bytes());
        self.columns.take(&mut raw);
        let columns = pack(&raw)?;
        let bodies = pack(&self.bodies)?;
        let replies = if self.replies.is_empty() { None } else { Some(pack(&self.replies)?) };
        let part = |raw: usize, packed: usize| Part { raw: raw as u64, packed: packed as u64 };
        let header = Header {
            number,
            run,
            first_us: self.first_us,
            last_us: self.last_us,
            records,
            spools,
            ended,
            columns: part(raw.len(), columns.len()),
            bodies: part(self.bodies.len(), bodies.len()),
            replies: part(self.replies.len(), replies.as_ref().map_or(0, Vec::len)),
            replies_hash: replies.as_ref().map_or([0; 32], |r| Sha256::digest(r).into()),
        };
        self.bodies.clear();
        self.replies.clear();
        let header = crate::rows::to_bytes(&header);
        let mut value = Vec::with_capacity(12 + header.len() + columns.len() + bodies.len());
        value.extend_from_slice(MAGIC);
        value.extend_from_slice(&u32::try_from(header.len()).unwrap_or(u32::MAX).to_le_bytes());
        value.extend_from_slice(&header);
        value.extend_from_slice(&columns);
        value.extend_from_slice(&bodies);
        Ok(Packed { value, replies })
    }
}

fn prefix(session: SessionId, seq: u32, unix_us: u64, buffer: &mut [u8]) -> &[u8] {
    postcard::to_slice(&(session, seq, unix_us), buffer).map_or(&[], |used| &*used)
}

/// A chunk whose parts are still packed.
pub struct Chunk<'a> {
    pub header: Header,
    columns: &'a [u8],
    bodies: &'a [u8],
}

/// Unpacks bytes that are exactly so long when unpacked.
pub type Unpack<'u> = &'u dyn Fn(&[u8], usize) -> Option<Vec<u8>>;

impl<'a> Chunk<'a> {
    /// Reads the header and finds the parts. Takes hostile bytes.
    pub fn read(value: &'a [u8]) -> Result<Chunk<'a>, ChunkError> {
        let rest = value.strip_prefix(MAGIC).ok_or(ChunkError::Magic)?;
        let (len, rest) = rest.split_first_chunk::<4>().ok_or(ChunkError::Header)?;
        let (header, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or(ChunkError::Header)?;
        let header: Header = crate::rows::from_bytes(header).ok_or(ChunkError::Header)?;
        if [header.columns.raw, header.bodies.raw, header.replies.raw].iter().any(|raw| *raw > PART_BYTES_MAX) {
            return Err(ChunkError::Length);
        }
        let columns_len = usize::try_from(header.columns.packed).map_err(|_| ChunkError::Length)?;
        let (columns, bodies) = rest.split_at_checked(columns_len).ok_or(ChunkError::Length)?;
        if bodies.len() as u64 != header.bodies.packed {
            return Err(ChunkError::Length);
        }
        Ok(Chunk { header, columns, bodies })
    }

    pub fn rows(&self, unpack: Unpack<'_>) -> Result<Vec<Row>, ChunkError> {
        let raw = unpack_part(self.columns, self.header.columns.raw, unpack)?;
        columns::read(&raw, self.header.records, self.header.bodies.raw, self.header.replies.raw).ok_or(ChunkError::Columns)
    }

    pub fn bodies(&self, unpack: Unpack<'_>) -> Result<Vec<u8>, ChunkError> {
        unpack_part(self.bodies, self.header.bodies.raw, unpack)
    }

    /// The replies from the value of `resp`, after checking that they are the ones.
    pub fn replies(&self, value: Option<&[u8]>, unpack: Unpack<'_>) -> Result<Vec<u8>, ChunkError> {
        if self.header.replies.raw == 0 {
            return Ok(Vec::new());
        }
        let value = value.ok_or(ChunkError::RepliesMissing)?;
        let hash: Hash = Sha256::digest(value).into();
        if hash != self.header.replies_hash {
            return Err(ChunkError::RepliesHash);
        }
        unpack_part(value, self.header.replies.raw, unpack)
    }
}

fn unpack_part(packed: &[u8], raw: u64, unpack: Unpack<'_>) -> Result<Vec<u8>, ChunkError> {
    let len = usize::try_from(raw).map_err(|_| ChunkError::Length)?;
    let bytes = unpack(packed, len).ok_or(ChunkError::Packing)?;
    if bytes.len() != len { Err(ChunkError::Length) } else { Ok(bytes) }
}

impl Row {
    /// Puts the record together again, byte for byte. `parts` is the bodies, or the replies for a reply.
    pub fn record(&self, parts: &[u8], out: &mut Vec<u8>) -> Result<(), ChunkError> {
        out.clear();
        if !self.verbatim {
            let mut buffer = [0u8; PREFIX_BYTES_MAX];
            out.extend_from_slice(prefix(self.session, self.seq, self.unix_us, &mut buffer));
        }
        let end = self.start.checked_add(self.len).ok_or(ChunkError::Columns)?;
        out.extend_from_slice(parts.get(self.start..end).ok_or(ChunkError::Columns)?);
        Ok(())
    }
}
