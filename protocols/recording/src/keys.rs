//! The column families of the audit database and the order of their keys. Fixed for ever: a secondary instance of RocksDB
//! gets stuck for good on a family that comes or goes. `text` is there for a later dictionary of statement texts.
//!
//! | family | key | value |
//! | --- | --- | --- |
//! | `chunk` | number, u64 | a chunk: `chunk.rs` |
//! | `resp` | number, u64 | the replies and the data at the end of that chunk's records, packed; absent if there are none |
//! | `idx` | `s`, number | [`crate::rows::Summary`] of the chunk |
//! | `sess` | session id, u128 | [`crate::rows::SessionRow`] |
//! | `text` | | nothing yet |
//! | `meta` | `c`, size | checkpoint: a signed note |
//! | `meta` | `l`, number | leaf hash of the chunk, 32 bytes |
//! | `meta` | `p`, generation | [`crate::rows::SpoolRow`] |
//! | `meta` | `e` | the tree's [`crate::tree::Edge`] |
//! | `meta` | `o` | [`crate::rows::OpenSessions`] |
//! | `meta` | `v` | [`LAYOUT`], one byte |
//!
//! All numbers are big-endian, so that the order of keys is the order of time. `idx`, `sess` and the rows of `meta` but `c`
//! are derived: they can be made again from the chunks, and verification compares them.

/// The format of events, chunks and rows: a database of another one is refused.
pub const LAYOUT: u8 = 3;

/// Chunks, by number.
pub const CHUNK: &str = "chunk";
/// Replies of chunks, by number.
pub const RESP: &str = "resp";
/// Summaries of chunks, by number.
pub const IDX: &str = "idx";
/// Sessions, by id.
pub const SESS: &str = "sess";
/// Nothing yet.
pub const TEXT: &str = "text";
/// Checkpoints, leaves, and what the recorder goes on from.
pub const META: &str = "meta";

/// In this order, on both sides. RocksDB's own `default` comes first and stays empty.
pub const FAMILIES: [&str; 7] = ["default", CHUNK, RESP, IDX, SESS, TEXT, META];

/// The tree's edge.
pub const EDGE: &[u8] = b"e";
/// Sessions that are open.
pub const OPEN: &[u8] = b"o";
/// The version of the layout.
pub const LAYOUT_KEY: &[u8] = b"v";

/// Key of a chunk and of its replies.
pub fn chunk(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// The number in a key of `chunk` or `resp`.
pub fn chunk_number(key: &[u8]) -> Option<u64> {
    key.try_into().ok().map(u64::from_be_bytes)
}

fn tagged(tag: u8, number: u64) -> [u8; 9] {
    let mut key = [tag; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

fn untagged(tag: u8, key: &[u8]) -> Option<u64> {
    key.strip_prefix(&[tag]).and_then(chunk_number)
}

/// Key of a chunk's summary.
pub fn summary(number: u64) -> [u8; 9] {
    tagged(b's', number)
}

/// The chunk's number in such a key.
pub fn summary_number(key: &[u8]) -> Option<u64> {
    untagged(b's', key)
}

/// Key of the checkpoint of so many chunks.
pub fn checkpoint(size: u64) -> [u8; 9] {
    tagged(b'c', size)
}

/// How many chunks, in such a key.
pub fn checkpoint_size(key: &[u8]) -> Option<u64> {
    untagged(b'c', key)
}

/// Key of a chunk's leaf.
pub fn leaf(number: u64) -> [u8; 9] {
    tagged(b'l', number)
}

/// Key of a session.
pub fn session(id: headgate_plane::SessionId) -> [u8; 16] {
    id.0.to_be_bytes()
}

/// The session in such a key.
pub fn session_id(key: &[u8]) -> Option<headgate_plane::SessionId> {
    key.try_into()
        .ok()
        .map(|k| headgate_plane::SessionId(u128::from_be_bytes(k)))
}

/// Key of where a spool is drained to.
pub fn spool(generation: u128) -> [u8; 17] {
    let mut key = [b'p'; 17];
    key[1..].copy_from_slice(&generation.to_be_bytes());
    key
}
