//! The chunk in the making: every event goes to its session's chain, to the chunk's columns and to its summary.

use headgate_plane::SessionId;
use headgate_recording::chunk::{Builder, ChunkFacts, Ended, SpoolRange};
use headgate_recording::rows::{SessionRow, Summary};
use headgate_recording::sessions::{Applied, Piece, Sessions};
use headgate_recording::summary::Summarizer;
use headgate_recording::view::EventKind;
use headgate_recording::{Body, Event, Outline, OutlineReader, RecorderNote, What, encode};
use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

/// A chunk is cut at this many bytes before packing.
pub const COMMAND_BYTES: usize = 256 << 10;
pub const REPLY_BYTES: usize = 1 << 20;
/// Of bytes that are no event, as much is kept.
const MALFORMED_BYTES_MAX: usize = 1 << 20;

/// The recorder's own generation: its notes come through no spool.
pub const OWN: u128 = 0;

pub fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

pub struct Packer {
    pub sessions: Sessions,
    /// Session id of this run of the recorder.
    pub run: SessionId,
    run_seq: u32,
    pub builder: Builder,
    reader: OutlineReader,
    pub summarizer: Summarizer,
    pub ended: Vec<Ended>,
    /// Rows of sessions that began in this chunk.
    pub begun: HashMap<SessionId, SessionRow>,
    /// What ended them: the row is finished when the chunk is cut.
    pub finished: Vec<(SessionId, Finish)>,
    scratch: Vec<u8>,
}

/// A last event and what it did, kept until the row is written.
pub struct Finish {
    pub record: Vec<u8>,
    pub applied: Applied,
}

impl Packer {
    pub fn new(sessions: Sessions, run: SessionId) -> Packer {
        Packer {
            sessions,
            run,
            run_seq: 0,
            builder: Builder::default(),
            reader: OutlineReader::default(),
            summarizer: Summarizer::default(),
            ended: Vec::new(),
            begun: HashMap::new(),
            finished: Vec::new(),
            scratch: Vec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.builder.records() == 0
    }

    pub fn is_full(&self) -> bool {
        self.builder.command_bytes() >= COMMAND_BYTES || self.builder.reply_bytes() >= REPLY_BYTES
    }

    /// Bytes from a spool. What only a recorder may say is not taken from there.
    pub fn take(&mut self, generation: u128, position: u64, record: &[u8], chunk: u64) {
        match self.reader.read(record) {
            Ok(outline) if !matches!(outline.kind, EventKind::SessionLost | EventKind::Recorder) => {
                self.add(generation, record, &outline, chunk);
            }
            _ => {
                let kept = record.get(..MALFORMED_BYTES_MAX).unwrap_or(record).to_vec();
                self.note(
                    RecorderNote::Malformed {
                        generation,
                        position,
                        bytes: kept,
                    },
                    chunk,
                );
            }
        }
    }

    fn add(&mut self, generation: u128, record: &[u8], outline: &Outline<'_>, chunk: u64) {
        let session = outline.session;
        let applied = self
            .sessions
            .apply(generation, &Piece::of_outline(record, outline));
        self.builder.add(record, outline, applied.number);
        let facts = match outline.kind {
            EventKind::Statement | EventKind::Prepared => self.sessions.get(session).map(|live| &*live.facts),
            _ => None,
        };
        self.summarizer
            .add_outline(outline, &mut self.reader, applied.number, facts);
        if outline.seq == 0
            && let What::Other(view) = &outline.what
            && let Some(row) = SessionRow::begun(view, chunk)
        {
            self.begun.insert(session, SessionRow { generation, ..row });
        }
        if applied.expected.is_some() || applied.headless {
            let expected = applied.expected.unwrap_or(0);
            self.note(
                RecorderNote::OutOfOrder {
                    session,
                    expected,
                    found: outline.seq,
                },
                chunk,
            );
        }
        if let Some(ended) = &applied.ended {
            self.ended.push(ended.clone());
            if outline.kind != EventKind::Recorder {
                self.finished.push((
                    session,
                    Finish {
                        record: record.to_vec(),
                        applied,
                    },
                ));
            }
        }
    }

    fn own(&mut self, generation: u128, event: &Event, chunk: u64) {
        let mut record = std::mem::take(&mut self.scratch);
        record.clear();
        encode(event, &mut record);
        if let Ok(outline) = self.reader.read(&record) {
            self.add(generation, &record, &outline, chunk);
        }
        self.scratch = record;
    }

    /// Something that the recorder itself has to say.
    pub fn note(&mut self, note: RecorderNote, chunk: u64) {
        let event = Event {
            session: self.run,
            seq: self.run_seq,
            unix_us: unix_us(),
            body: Body::Recorder { note },
        };
        self.run_seq += 1;
        self.own(OWN, &event, chunk);
    }

    /// Ends all sessions of a generation that nobody will end any more. The recorder's current run is not among them.
    pub fn lose(&mut self, generation: u128, reason: &str, chunk: u64) -> usize {
        let mut lost = 0;
        for session in self.sessions.of(generation) {
            let Some(live) = self.sessions.get(session) else {
                continue;
            };
            if session == self.run {
                continue;
            }
            let body = Body::SessionLost {
                reason: reason.to_owned(),
            };
            let event = Event {
                session,
                seq: live.next_seq,
                unix_us: unix_us().max(live.last_us),
                body,
            };
            self.own(generation, &event, chunk);
            lost += 1;
        }
        lost
    }

    pub fn summary(&mut self, number: u64) -> Summary {
        self.summarizer.finish(number)
    }

    /// Closes the sessions' links over the chunk in the making, and takes what it says of itself.
    pub fn about(&mut self, number: u64, spools: Vec<SpoolRange>) -> ChunkFacts {
        let reply_hashes = self.sessions.close();
        ChunkFacts {
            number,
            run: self.run.0,
            spools,
            ended: std::mem::take(&mut self.ended),
            reply_hashes,
        }
    }
}
