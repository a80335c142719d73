//! Checks the whole history with the public key alone: chunks, their tree, its signatures, spools' positions, sessions'
//! chains, and everything that is derived from them.
//!
//! What each attack meets: a changed, missing or exchanged chunk does not fit its leaf, and the leaves fit the signed
//! roots; a changed leaf does not fit the next signed root; a tail cut off after a checkpoint is older than that
//! checkpoint's size; cut off together with its checkpoints it is found only against a checkpoint kept elsewhere
//! ([`verify_against`]).

use crate::error::AuditError;
use crate::load::unpack;
use crate::store::View;
use headgate_plane::SessionId;
use headgate_recording::chain::Hash;
use headgate_recording::checkpoint::{self, PublicKey};
use headgate_recording::chunk::{Chunk, ChunkError, Ended};
use headgate_recording::rows::{SessionEnd, SessionRow, from_bytes};
use headgate_recording::sessions::{Piece, Sessions};
use headgate_recording::summary::Summarizer;
use headgate_recording::tree::{Edge, leaf_hash};
use headgate_recording::{EventView, keys};
use rocksdb::Direction;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

/// More are counted, not listed.
const FINDINGS_MAX: usize = 100;

/// One broken place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub chunk: Option<u64>,
    pub session: Option<String>,
    pub what: String,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct VerifyReport {
    /// Nothing is broken.
    pub ok: bool,
    pub chunks: u64,
    pub records: u64,
    /// Sessions that began.
    pub sessions: u64,
    /// Of them, without an end.
    pub open_sessions: u64,
    pub checkpoints: u64,
    /// Chunks under the newest good checkpoint.
    pub sealed_chunks: u64,
    /// The newest good checkpoint, a signed note: keep it elsewhere, and the history up to it cannot be cut any more.
    pub newest_checkpoint: Option<String>,
    /// In the order of the history; the first names the first broken place.
    pub findings: Vec<Finding>,
    pub findings_not_listed: u64,
}

struct Verifier<'k> {
    key: &'k PublicKey,
    report: VerifyReport,
    sessions: Sessions,
    /// Where each spool's next range must begin.
    spools: HashMap<u128, u64>,
    summarizer: Summarizer,
    begun_rows: u64,
    /// Sessions in progress that have a row.
    begun: HashSet<SessionId>,
}

/// Verifies the database at `dir`, as it is now; the recorder may be running.
pub fn verify(dir: &Path, key: &PublicKey) -> Result<VerifyReport, AuditError> {
    verify_against(dir, key, &[])
}

/// The same, and that the history goes on from checkpoints that were kept elsewhere (signed notes).
pub fn verify_against(dir: &Path, key: &PublicKey, kept: &[String]) -> Result<VerifyReport, AuditError> {
    let scratch = Scratch::new()?;
    let view = View::secondary(dir, &scratch.0)?;
    let mut verifier = Verifier {
        key,
        report: VerifyReport::default(),
        sessions: Sessions::default(),
        spools: HashMap::new(),
        summarizer: Summarizer::default(),
        begun_rows: 0,
        begun: HashSet::new(),
    };
    verifier.run(&view, kept)?;
    let mut report = verifier.report;
    report.ok = report.findings.is_empty();
    Ok(report)
}

/// A directory of our own for RocksDB's notes, gone afterwards.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> Result<Scratch, AuditError> {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("headgate-verify-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(|e| AuditError::Scratch { why: e.to_string() })?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A signed statement about the tree.
struct Signed {
    root: Hash,
    note: String,
    elsewhere: bool,
}

impl Verifier<'_> {
    fn find(&mut self, chunk: Option<u64>, session: Option<SessionId>, what: impl Into<String>) {
        if self.report.findings.len() >= FINDINGS_MAX {
            self.report.findings_not_listed += 1;
            return;
        }
        self.report.findings.push(Finding {
            chunk,
            session: session.map(|s| s.to_string()),
            what: what.into(),
        });
    }

    fn run(&mut self, view: &View, kept: &[String]) -> Result<(), AuditError> {
        let mut signed = self.signed(view, kept)?;
        // Two trees: over the leaves as stored, and over the leaves as the chunks give them.
        let (mut stored, mut computed) = (Edge::default(), Edge::default());
        // Chunks whose bytes are not those of the stored leaf, since the last good root.
        let mut good = 0u64;
        let mut next = 0u64;
        for entry in view.scan(keys::CHUNK, &keys::chunk(0), Direction::Forward)? {
            let (key, value) = entry?;
            let Some(number) = keys::chunk_number(&key) else {
                self.find(None, None, "a key among the chunks is not a number");
                continue;
            };
            while next < number {
                self.find(Some(next), None, format!("chunk {next} is missing"));
                let leaf = self.leaf(view, next)?;
                stored.add(leaf.unwrap_or_default());
                computed.add(leaf.unwrap_or_default());
                next += 1;
                self.root(&mut signed, next, &mut good, &stored, &mut computed);
            }
            let leaf = leaf_hash(number, &value);
            let leaf_stored = self.leaf(view, number)?;
            if leaf_stored.is_some_and(|l| l != leaf) {
                self.find(
                    Some(number),
                    None,
                    format!("chunk {number} is not the one that was sealed: its bytes do not fit its leaf"),
                );
            } else if leaf_stored.is_none() {
                self.find(
                    Some(number),
                    None,
                    format!("the leaf of chunk {number} is missing"),
                );
            }
            stored.add(leaf_stored.unwrap_or(leaf));
            computed.add(leaf);
            next = number + 1;
            self.root(&mut signed, next, &mut good, &stored, &mut computed);
            self.report.chunks += 1;
            self.chunk(view, number, &value)?;
        }
        for (size, list) in std::mem::take(&mut signed) {
            let place = if list.iter().any(|s| s.elsewhere) {
                "a checkpoint kept elsewhere"
            } else {
                "a checkpoint"
            };
            self.find(
                Some(next),
                None,
                format!("the tail was cut off: {place} covers {size} chunks, and {next} are there"),
            );
        }
        let edge = view
            .get(keys::META, keys::EDGE)?
            .and_then(|bytes| from_bytes::<Edge>(&bytes));
        if edge.unwrap_or_default().size > next {
            self.find(
                Some(next),
                None,
                "the tail was cut off: the tree's edge counts more chunks".to_owned(),
            );
        }
        self.rows(view)?;
        self.report.open_sessions = self.sessions.len() as u64;
        Ok(())
    }

    fn leaf(&self, view: &View, number: u64) -> Result<Option<Hash>, AuditError> {
        Ok(view
            .get(keys::META, &keys::leaf(number))?
            .and_then(|l| l.try_into().ok()))
    }

    /// Checkpoints of the database and those kept elsewhere, by size, signatures checked.
    fn signed(&mut self, view: &View, kept: &[String]) -> Result<BTreeMap<u64, Vec<Signed>>, AuditError> {
        let mut signed: BTreeMap<u64, Vec<Signed>> = BTreeMap::new();
        let mut last_ms = 0;
        for entry in view.scan(keys::META, &keys::checkpoint(0), Direction::Forward)? {
            let (key, value) = entry?;
            let Some(size) = keys::checkpoint_size(&key) else {
                break;
            };
            self.report.checkpoints += 1;
            let note = String::from_utf8_lossy(&value).into_owned();
            match checkpoint::verify(&note, self.key) {
                Ok(read) if read.size != size => {
                    self.find(
                        None,
                        None,
                        format!("the checkpoint at {size} is of {} chunks", read.size),
                    );
                }
                Ok(read) => {
                    if read.unix_ms < last_ms {
                        self.find(
                            None,
                            None,
                            format!("the checkpoint of {size} chunks is older than the one before it"),
                        );
                    }
                    last_ms = read.unix_ms;
                    signed.entry(size).or_default().push(Signed {
                        root: read.root,
                        note,
                        elsewhere: false,
                    });
                }
                Err(error) => self.find(None, None, format!("the checkpoint of {size} chunks: {error}")),
            }
        }
        for note in kept {
            match checkpoint::verify(note, self.key) {
                Ok(read) => {
                    let entry = Signed {
                        root: read.root,
                        note: note.clone(),
                        elsewhere: true,
                    };
                    signed.entry(read.size).or_default().push(entry);
                }
                Err(error) => self.find(None, None, format!("a checkpoint kept elsewhere: {error}")),
            }
        }
        Ok(signed)
    }

    /// Compares the roots of this size, and says which chunks a wrong one may be about.
    fn root(
        &mut self,
        signed: &mut BTreeMap<u64, Vec<Signed>>,
        size: u64,
        good: &mut u64,
        stored: &Edge,
        computed: &mut Edge,
    ) {
        let Some(list) = signed.remove(&size) else { return };
        for one in list {
            let by_leaves = one.root == stored.root();
            let place = if one.elsewhere {
                "kept elsewhere"
            } else {
                "of the database"
            };
            if by_leaves {
                self.report.sealed_chunks = size;
                self.report.newest_checkpoint = Some(one.note);
                *good = size;
                // The leaves are the sealed ones; a chunk that does not fit was named, and the tree goes on from them.
                *computed = stored.clone();
            } else if one.root == computed.root() {
                self.find(
                    None,
                    None,
                    format!(
                        "leaves of chunks {good} to {} were changed; the chunks fit the checkpoint",
                        size - 1
                    ),
                );
                self.report.sealed_chunks = size;
                self.report.newest_checkpoint = Some(one.note);
            } else {
                let what = format!(
                    "chunks {good} to {} are not those that were sealed in the checkpoint {place} of {size} chunks",
                    size - 1
                );
                self.find(Some(*good), None, what);
            }
        }
    }

    fn chunk(&mut self, view: &View, number: u64, value: &[u8]) -> Result<(), AuditError> {
        if let Err(why) = self.records(view, number, value)? {
            self.find(Some(number), None, format!("chunk {number}: {why}"));
            self.summarizer.finish(number);
            self.sessions.close();
        }
        Ok(())
    }

    fn records(
        &mut self,
        view: &View,
        number: u64,
        value: &[u8],
    ) -> Result<Result<(), ChunkError>, AuditError> {
        let chunk = match Chunk::read(value) {
            Ok(chunk) => chunk,
            Err(why) => return Ok(Err(why)),
        };
        if chunk.header.number != number {
            self.find(
                Some(number),
                None,
                format!("chunk {number} says that it is chunk {}", chunk.header.number),
            );
        }
        for range in &chunk.header.spools {
            let next = self.spools.insert(range.generation, range.to).unwrap_or(0);
            if next != range.from {
                let what = format!(
                    "chunk {number}: spool {:032x} goes on at {}, where {next} was next",
                    range.generation, range.from
                );
                self.find(Some(number), None, what);
            }
        }
        let (rows, bodies) = match (chunk.rows(&unpack), chunk.bodies(&unpack)) {
            (Ok(rows), Ok(bodies)) => (rows, bodies),
            (Err(why), _) | (_, Err(why)) => return Ok(Err(why)),
        };
        let replies = chunk.replies(view.get(keys::RESP, &keys::chunk(number))?.as_deref(), &unpack);
        if let Err(why) = &replies {
            self.find(Some(number), None, format!("chunk {number}: {why}"));
        }
        // Replies that are gone were named already; the chains are checked by the hashes that the chunk keeps of them.
        let replies = replies.ok();
        if replies.is_none() {
            self.sessions.expect_erased(&rows.reply_hashes);
        }
        let mut ended = Vec::new();
        let (mut head, mut record) = (Vec::new(), Vec::new());
        for row in &rows.rows {
            self.report.records += 1;
            let read = row.head(&bodies, &mut head).and_then(|()| match &replies {
                Some(replies) => row.record(&bodies, replies, &mut record).and(row.reply(replies)),
                None => row.record_without_reply(&bodies, &mut record).and(Ok(&[][..])),
            });
            let reply = match read {
                Ok(reply) => reply,
                Err(why) => return Ok(Err(why)),
            };
            let Ok(event) = EventView::read(&record) else {
                self.find(
                    Some(number),
                    Some(row.session),
                    format!("chunk {number}: record {} cannot be read", row.seq),
                );
                continue;
            };
            if (event.session, event.seq, event.body.kind()) != (row.session, row.seq, row.kind) {
                self.find(
                    Some(number),
                    Some(row.session),
                    format!("chunk {number}: record {} is not what its column says", row.seq),
                );
            }
            let applied = self.sessions.apply(0, &Piece::of_view(&event, &head, reply));
            if let Some(expected) = applied.expected {
                self.find(
                    Some(number),
                    Some(row.session),
                    format!(
                        "chunk {number}: event {} follows where {expected} was next",
                        row.seq
                    ),
                );
            } else if applied.headless {
                self.find(
                    Some(number),
                    Some(row.session),
                    format!("chunk {number}: the session has no beginning"),
                );
            }
            let begun = row.seq == 0 && SessionRow::begun(&event, number).is_some();
            if begun {
                self.report.sessions += 1;
                self.begun_rows += 1;
                self.begun.insert(row.session);
            }
            if let Some(end) = applied.ended {
                self.end_row(view, number, &end)?;
                ended.push(end);
            }
            let facts = self
                .sessions
                .get(event.session)
                .map(|live| std::sync::Arc::clone(&live.facts));
            self.summarizer.add(&event, applied.number, facts.as_deref());
        }
        if self.sessions.close() != rows.reply_hashes {
            self.find(
                Some(number),
                None,
                format!("chunk {number}: its replies do not fit the hashes that the chains have of them"),
            );
        }
        if ended != chunk.header.ended {
            let session = ended
                .iter()
                .zip(&chunk.header.ended)
                .find(|(a, b)| a != b)
                .map(|(a, _)| a.session);
            self.find(
                Some(number),
                session,
                format!("chunk {number}: a session's chain does not end as the chunk says"),
            );
        }
        let summary = self.summarizer.finish(number);
        if view.summary(number)?.is_none_or(|stored| stored != summary) {
            self.find(
                Some(number),
                None,
                format!("the summary of chunk {number} is not the chunk's: queries would miss rows"),
            );
        }
        Ok(Ok(()))
    }

    fn end_row(&mut self, view: &View, number: u64, end: &Ended) -> Result<(), AuditError> {
        if !self.begun.remove(&end.session) {
            return Ok(());
        }
        match view.session(end.session)? {
            None => self.find(Some(number), Some(end.session), "the session's row is missing"),
            Some(row) if row.end == SessionEnd::Open || row.head != end.head || row.records != end.count => {
                self.find(
                    Some(number),
                    Some(end.session),
                    "the session's row does not fit its chain",
                );
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Rows of sessions that are in no chunk, or the other way round.
    fn rows(&mut self, view: &View) -> Result<(), AuditError> {
        let mut rows = 0u64;
        for entry in view.scan(keys::SESS, &[], Direction::Forward)? {
            entry?;
            rows += 1;
        }
        if rows != self.begun_rows {
            self.find(
                None,
                None,
                format!(
                    "{rows} rows of sessions, and {} sessions in the chunks",
                    self.begun_rows
                ),
            );
        }
        Ok(())
    }
}
