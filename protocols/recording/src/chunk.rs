//! A chunk: some hundred to some thousand records, packed.
//!
//! Value in `chunk`: magic, u32 length of the header, header (postcard), columns (packed), bodies (packed), hashes of the
//! replies (32 bytes for each session that has some here, in the order of their numbers).
//! Value in `resp`: the replies that stand at the end of records (packed), and the data of streams, which stands there as
//! well: wherever replies are spoken of here, it is meant, too. The header holds its hash, so the chunk's leaf binds it; and a session's chain holds the hash of its replies only, so they can be dropped one day and the chains still
//! verify.
//!
//! Packing itself (zstd) is handed in: this crate stays free of C. Bounds: [`PART_BYTES_MAX`] per part before packing.

use crate::chain::Hash;
use crate::codec::EVENT_BYTES_MAX;
use crate::columns::{self, Columns, Entry, Row, Rows};
use crate::outline::{Outline, PREFIX_BYTES_MAX, prefix};
use crate::varint;
use headgate_plane::SessionId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"HGCHUNK3";
/// Two of the largest records and then some.
pub const PART_BYTES_MAX: u64 = 64 << 20;
const _: () = assert!(PART_BYTES_MAX > 2 * EVENT_BYTES_MAX as u64);

/// Where a part of a chunk is, and how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Bytes unpacked.
    pub raw: u64,
    /// Bytes as they stand there.
    pub packed: u64,
}

/// Which bytes of a spool are in the chunk: [from, to). Dense over all chunks, for each generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolRange {
    /// Which spool file.
    pub generation: u128,
    /// First byte.
    pub from: u64,
    /// Behind the last byte.
    pub to: u64,
}

/// A session whose last event is in the chunk: how long its chain became.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The session that ended.
    pub session: SessionId,
    /// How many records it has.
    pub count: u32,
    /// Its chain's hash, over all of them.
    pub head: Hash,
}

/// The front of a chunk, readable without unpacking it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkHeader {
    /// Dense in the recording.
    pub number: u64,
    /// Session id of the recorder's run.
    pub run: u128,
    /// The earliest record's time.
    pub first_us: u64,
    /// The latest record's time.
    pub last_us: u64,
    /// How many records.
    pub records: u32,
    /// What of which spool is in it.
    pub spools: Vec<SpoolRange>,
    /// Sessions that ended in it.
    pub ended: Vec<Ended>,
    /// What each record is.
    pub columns: Part,
    /// The records, without replies.
    pub bodies: Part,
    /// Replies.
    pub replies: Part,
    /// SHA-256 of the value in `resp`; zeroes if there is none.
    pub replies_hash: Hash,
}

/// Why a chunk cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// It begins with something else.
    Magic,
    /// Its header cannot be read.
    Header,
    /// A part is longer than allowed, or not as long as the header says.
    Length,
    /// A part does not unpack to what it should.
    Packing,
    /// Its columns do not fit each other.
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
    /// The columns in one piece; kept for its memory.
    raw: Vec<u8>,
    first_us: u64,
    last_us: u64,
}

/// What a chunk says of itself beside its records.
#[derive(Default)]
pub struct ChunkFacts {
    /// Dense in the recording.
    pub number: u64,
    /// Of the recorder.
    pub run: u128,
    /// What of which spool is in it.
    pub spools: Vec<SpoolRange>,
    /// Sessions that ended in it.
    pub ended: Vec<Ended>,
    /// By number of the session in the chunk.
    pub reply_hashes: Vec<Option<Hash>>,
}

/// A finished chunk.
pub struct Packed {
    /// The chunk.
    pub value: Vec<u8>,
    /// Its replies, kept apart so that they can be erased; `None` where there are none.
    pub replies: Option<Vec<u8>>,
}

impl Builder {
    /// `outline` is that of `record`; `number` is the session's in this chunk.
    pub fn add(&mut self, record: &[u8], outline: &Outline<'_>, number: u32) {
        let (head, reply) = outline.split(record);
        let body = head.get(outline.prefix..).unwrap_or(head);
        self.columns.add(&Entry {
            session: outline.session,
            number,
            seq: outline.seq,
            unix_us: outline.unix_us,
            kind: outline.kind,
            statement: outline.statement,
            verbatim: outline.prefix == 0,
            len: body.len(),
            reply_len: reply.len(),
        });
        self.bodies.extend_from_slice(body);
        self.replies.extend_from_slice(reply);
        if self.columns.records() == 1 {
            self.first_us = outline.unix_us;
            self.last_us = outline.unix_us;
        }
        self.first_us = self.first_us.min(outline.unix_us);
        self.last_us = self.last_us.max(outline.unix_us);
    }

    /// How many records it holds so far.
    pub fn records(&self) -> usize {
        self.columns.records()
    }

    /// Bytes without the replies.
    pub fn command_bytes(&self) -> usize {
        self.bodies.len() + self.columns.bytes()
    }

    /// How many bytes of replies it holds so far.
    pub fn reply_bytes(&self) -> usize {
        self.replies.len()
    }

    /// Packs what was added, and starts anew.
    pub fn finish(
        &mut self,
        about: ChunkFacts,
        pack: &mut dyn FnMut(&[u8]) -> std::io::Result<Vec<u8>>,
    ) -> std::io::Result<Packed> {
        let records = u32::try_from(self.columns.records()).unwrap_or(u32::MAX);
        self.raw.clear();
        self.columns.take(&mut self.raw);
        let columns = pack(&self.raw)?;
        let bodies = pack(&self.bodies)?;
        let replies = if self.replies.is_empty() {
            None
        } else {
            Some(pack(&self.replies)?)
        };
        let part = |raw: usize, packed: usize| Part {
            raw: raw as u64,
            packed: packed as u64,
        };
        let header = ChunkHeader {
            number: about.number,
            run: about.run,
            first_us: self.first_us,
            last_us: self.last_us,
            records,
            spools: about.spools,
            ended: about.ended,
            columns: part(self.raw.len(), columns.len()),
            bodies: part(self.bodies.len(), bodies.len()),
            replies: part(self.replies.len(), replies.as_ref().map_or(0, Vec::len)),
            replies_hash: replies.as_ref().map_or([0; 32], |r| Sha256::digest(r).into()),
        };
        self.bodies.clear();
        self.replies.clear();
        let header = crate::rows::to_bytes(&header);
        let hashes = 32 * about.reply_hashes.len();
        let mut value = Vec::with_capacity(12 + header.len() + columns.len() + bodies.len() + hashes);
        value.extend_from_slice(MAGIC);
        value.extend_from_slice(&u32::try_from(header.len()).unwrap_or(u32::MAX).to_le_bytes());
        value.extend_from_slice(&header);
        value.extend_from_slice(&columns);
        value.extend_from_slice(&bodies);
        for hash in about.reply_hashes.iter().flatten() {
            value.extend_from_slice(hash);
        }
        Ok(Packed { value, replies })
    }
}

/// A chunk whose parts are still packed.
pub struct Chunk<'a> {
    /// The front of it.
    pub header: ChunkHeader,
    columns: &'a [u8],
    bodies: &'a [u8],
    hashes: &'a [u8],
}

/// Unpacks bytes that are exactly so long when unpacked.
pub type Unpack<'u> = &'u dyn Fn(&[u8], usize) -> Option<Vec<u8>>;

impl<'a> Chunk<'a> {
    /// Reads the header and finds the parts. Takes hostile bytes.
    pub fn read(value: &'a [u8]) -> Result<Chunk<'a>, ChunkError> {
        let rest = value.strip_prefix(MAGIC).ok_or(ChunkError::Magic)?;
        let (len, rest) = rest.split_first_chunk::<4>().ok_or(ChunkError::Header)?;
        let (header, rest) = rest
            .split_at_checked(u32::from_le_bytes(*len) as usize)
            .ok_or(ChunkError::Header)?;
        let header: ChunkHeader = crate::rows::from_bytes(header).ok_or(ChunkError::Header)?;
        if [header.columns.raw, header.bodies.raw, header.replies.raw]
            .iter()
            .any(|raw| *raw > PART_BYTES_MAX)
        {
            return Err(ChunkError::Length);
        }
        let columns_len = usize::try_from(header.columns.packed).map_err(|_| ChunkError::Length)?;
        let bodies_len = usize::try_from(header.bodies.packed).map_err(|_| ChunkError::Length)?;
        let (columns, rest) = rest.split_at_checked(columns_len).ok_or(ChunkError::Length)?;
        let (bodies, hashes) = rest.split_at_checked(bodies_len).ok_or(ChunkError::Length)?;
        Ok(Chunk {
            header,
            columns,
            bodies,
            hashes,
        })
    }

    /// What each record is.
    pub fn rows(&self, unpack: Unpack<'_>) -> Result<Rows, ChunkError> {
        let raw = unpack_part(self.columns, self.header.columns.raw, unpack)?;
        let header = &self.header;
        columns::read(
            &raw,
            header.records,
            header.bodies.raw,
            header.replies.raw,
            self.hashes,
        )
        .ok_or(ChunkError::Columns)
    }

    /// The records, one behind the other.
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
    if bytes.len() != len {
        Err(ChunkError::Length)
    } else {
        Ok(bytes)
    }
}

fn part(parts: &[u8], start: usize, len: usize) -> Result<&[u8], ChunkError> {
    let end = start.checked_add(len).ok_or(ChunkError::Columns)?;
    parts.get(start..end).ok_or(ChunkError::Columns)
}

impl Row {
    /// The record up to its reply, byte for byte: what the session's chain goes over.
    pub fn head(&self, bodies: &[u8], out: &mut Vec<u8>) -> Result<(), ChunkError> {
        out.clear();
        if !self.verbatim {
            let mut buffer = [0u8; PREFIX_BYTES_MAX];
            out.extend_from_slice(prefix(self.session, self.seq, self.unix_us, &mut buffer));
        }
        out.extend_from_slice(part(bodies, self.start, self.len)?);
        Ok(())
    }

    /// Its reply in the chunk's replies.
    pub fn reply<'r>(&self, replies: &'r [u8]) -> Result<&'r [u8], ChunkError> {
        part(replies, self.reply_start, self.reply_len)
    }

    /// The whole record, byte for byte.
    pub fn record(&self, bodies: &[u8], replies: &[u8], out: &mut Vec<u8>) -> Result<(), ChunkError> {
        self.head(bodies, out)?;
        out.extend_from_slice(self.reply(replies)?);
        Ok(())
    }

    /// The record as if its reply were empty: for who does not need it, or where it is gone.
    pub fn record_without_reply(&self, bodies: &[u8], out: &mut Vec<u8>) -> Result<(), ChunkError> {
        self.head(bodies, out)?;
        if self.reply_len > 0 {
            let mut length = Vec::new();
            varint::put(&mut length, self.reply_len as u64);
            if !out.ends_with(&length) {
                return Err(ChunkError::Columns);
            }
            out.truncate(out.len() - length.len());
            out.push(0);
        }
        Ok(())
    }
}
