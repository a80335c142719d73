//! The loop: drain, cut, write, release, sync, seal; sleep when there is nothing to do.
//!
//! Order that everything rests on: a spool's room is released after the batch with its records is in the write-ahead
//! log; the durable position moves after a sync; a checkpoint is made only of what is synced.
//!
//! The recorder rests only when every spool is read to its end: what was read in the last round says nothing about what
//! is left, because a helping ends before the record that does not fit.

use crate::pack::{OWN, Packer, unix_us};
use crate::spools::{self, Spool};
use crate::store::{Batch, Store};
use crate::{Counters, RecorderError, Settings, recover};
use headgate_plane::SessionId;
use headgate_recording::checkpoint::Signer;
use headgate_recording::chunk::SpoolRange;
use headgate_recording::rows::{OpenSessions, SessionRow, SpoolRow, from_bytes, to_bytes};
use headgate_recording::tree::{Edge, leaf_hash};
use headgate_recording::{EventView, RecorderNote, keys};
use headgate_spool::{Consumer, RecordKind};
use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Ring bytes of one spool between two looks at the others.
const HELPING_BYTES: usize = 128 << 10;
const LOOK_EVERY: Duration = Duration::from_millis(500);
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// Chunks between two snapshots of the sessions in progress: what a restart reads again.
const SNAPSHOT_CHUNKS: u64 = 64;
const RETRY_AFTER: Duration = Duration::from_secs(1);
const STOP_MAX: Duration = Duration::from_secs(3);
/// A wake-up costs as much as a dozen records, so the recorder sleeps while records gather: whoever cannot wait (something
/// urgent, a spool that fills up) wakes it. It sleeps so long that about a helping comes together: longer ones would be read
/// when they have left the caches, and keep the core for so long at once that others who share it feel it.
const NAP_MIN: Duration = Duration::from_micros(500);
const NAP_MAX: Duration = Duration::from_millis(8);
/// A spool that is fuller than this part is read more often, and what was read of it is written as soon as there is nothing
/// more to read, to give the room back.
pub(crate) const PRESSED: usize = 8;

struct Recorder<'s> {
    settings: &'s Settings,
    stop: &'s AtomicBool,
    counters: &'s Counters,
    store: Store,
    signer: Signer,
    packer: Packer,
    edge: Edge,
    spools: BTreeMap<String, Spool>,
    packing: zstd::bulk::Compressor<'static>,
    /// When the first record of the chunk in the making came.
    begun: Option<Instant>,
    /// Something is written that is not synced.
    dirty: bool,
    synced: Instant,
    /// The size that the newest checkpoint is of.
    sealed: u64,
    sealed_at: Instant,
    snapshot_at: u64,
    looked: Option<Instant>,
    complained: bool,
}

/// Records until `stop` is set; then drains, seals and returns.
pub fn run(settings: &Settings, stop: &AtomicBool) -> Result<(), RecorderError> {
    run_counting(settings, stop, &Counters::default())
}

/// The same, and says meanwhile what it does.
pub fn run_counting(
    settings: &Settings,
    stop: &AtomicBool,
    counters: &Counters,
) -> Result<(), RecorderError> {
    let signer = crate::key::load_or_create(&settings.key)?;
    let store = Store::open(&settings.audit_dir)?;
    let edge = store.edge()?;
    let next = store.next_chunk()?;
    if edge.size != next {
        return Err(RecorderError::Unfit {
            what: format!("{next} chunks, and a tree over {}", edge.size),
        });
    }
    let sessions = recover::sessions(&store, next)?;
    let mut random = [0u8; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let session = SessionId::v7(unix_us() / 1000, u128::from_le_bytes(random));
    let now = Instant::now();
    let mut recorder = Recorder {
        settings,
        stop,
        counters,
        store,
        signer,
        packer: Packer::new(sessions, session),
        sealed: 0,
        edge,
        spools: BTreeMap::new(),
        packing: zstd::bulk::Compressor::new(1)?,
        begun: None,
        // What the recorder before us wrote may be in no more than the page cache.
        dirty: true,
        synced: now,
        sealed_at: now,
        snapshot_at: next,
        looked: None,
        complained: false,
    };
    recorder.start(next);
    recorder.work()
}

impl Recorder<'_> {
    fn start(&mut self, chunks: u64) {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .unwrap_or_default()
            .trim()
            .to_owned();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let at = self.edge.size;
        self.packer.note(
            RecorderNote::Started {
                version,
                host,
                process: std::process::id(),
                chunks,
            },
            at,
        );
        self.look();
        // The runs before this one that did not end in order.
        self.packer.lose(OWN, "the recorder ended without stopping", at);
        let here: Vec<u128> = self.spools.values().map(Spool::generation).collect();
        for generation in self.packer.sessions.generations() {
            if generation != OWN && !here.contains(&generation) {
                self.packer.lose(generation, "the spool is gone", at);
            }
        }
        tracing::info!(chunks, spools = here.len(), "recorder: started");
    }

    fn work(&mut self) -> Result<(), RecorderError> {
        let mut nap = NAP_MIN;
        // Ring bytes read since the last rest.
        let mut gathered = 0;
        let mut told_to_stop: Option<Instant> = None;
        loop {
            let stopping = self.stop.load(Ordering::Relaxed);
            if stopping {
                told_to_stop.get_or_insert_with(Instant::now);
            }
            if self.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
                self.look();
            }
            let pressed = self.sound().any(Spool::is_pressed);
            let moved = self.drain();
            let more = self.sound().any(|s| s.consumer.has_more());
            let urgent = self.sound().any(|s| s.consumer.is_urgent());
            if !self.packer.is_empty() {
                let age = self.begun.get_or_insert_with(Instant::now).elapsed();
                // While there is more to read, the chunk fills by itself, and a full one packs better than two halves.
                let awaited = !more && (pressed || self.sound().any(|s| s.consumer.is_room_wanted()));
                let held = self.sound().any(Spool::holds_much);
                let due = urgent
                    || awaited
                    || held
                    || stopping
                    || self.packer.is_full()
                    || age >= self.settings.linger;
                if due && !self.cut(urgent) {
                    return Ok(());
                }
            }
            if self.dirty && (urgent || self.synced.elapsed() >= self.settings.sync) {
                self.sync();
            }
            if self.edge.size != self.sealed && self.sealed_at.elapsed() >= CHECKPOINT_EVERY {
                self.seal();
            }
            // A data plane that goes on writing must not keep the recorder from stopping: the spool keeps the rest.
            let over = told_to_stop.is_some_and(|at| at.elapsed() >= STOP_MAX);
            if stopping {
                if moved > 0 && !over {
                    continue;
                }
                return self.finish();
            }
            gathered += moved;
            if !more {
                nap = match std::mem::take(&mut gathered) {
                    HELPING_BYTES.. => nap / 2,
                    _ if pressed => nap / 2,
                    few if few < HELPING_BYTES / 4 => nap * 2,
                    _ => nap,
                }
                .clamp(NAP_MIN, NAP_MAX);
                self.rest(nap);
            }
        }
    }

    /// The spools that can be read.
    fn sound(&self) -> impl Iterator<Item = &Spool> {
        self.spools.values().filter(|spool| !spool.broken)
    }

    /// Looks for spools that came, went, or lost their producer.
    fn look(&mut self) {
        self.looked = Some(Instant::now());
        let at = self.edge.size;
        let found = spools::look(&self.settings.spool_dir, &self.spools, &mut self.complained);
        for name in found.gone {
            if let Some(spool) = self.spools.remove(&name) {
                self.packer.lose(spool.generation(), "the spool was replaced", at);
            }
        }
        for (name, path, consumer) in found.new {
            self.open(name, path, consumer);
        }
        for spool in self.spools.values_mut() {
            match spool.consumer.producer_is_there() {
                Ok(true) => spool.abandoned = false,
                // Asked in this order: nothing can follow from a producer that is not there.
                Ok(false) if !spool.abandoned && (spool.broken || !spool.consumer.has_more()) => {
                    spool.abandoned = true;
                    let lost = self.packer.lose(spool.generation(), "the data plane ended", at);
                    if lost > 0 {
                        tracing::warn!(
                            spool = spool.name,
                            lost,
                            "recorder: the data plane ended with sessions open"
                        );
                    }
                }
                _ => {}
            }
        }
    }

    fn open(&mut self, name: String, path: std::path::PathBuf, mut consumer: Consumer) {
        let generation = consumer.generation().0;
        let saved = match self.store.get(keys::META, &keys::spool(generation)) {
            Ok(row) => row
                .and_then(|bytes| from_bytes::<SpoolRow>(&bytes))
                .map_or(0, |row| row.position),
            // Not to be taken for a spool that was never seen: it is looked at again.
            Err(error) => return tracing::error!(%error, "recorder: a spool's position cannot be read"),
        };
        let at = self.edge.size;
        let tail = consumer.released_position();
        if consumer.seek(saved).is_err() {
            let reason = "the spool does not go on where the database ends".to_owned();
            tracing::error!(spool = name, saved, tail, "recorder: a gap");
            self.packer.note(
                RecorderNote::Gap {
                    generation,
                    from: saved,
                    to: tail,
                    reason,
                },
                at,
            );
        }
        let recorded = consumer.released_position();
        self.packer.note(
            RecorderNote::SpoolOpened {
                name: name.clone(),
                generation,
                position: recorded,
            },
            at,
        );
        tracing::info!(spool = name, position = recorded, "recorder: opened a spool");
        let spool = Spool {
            name: name.clone(),
            path,
            consumer,
            recorded,
            broken: false,
            abandoned: false,
        };
        self.spools.insert(name, spool);
    }

    /// A helping from each spool. A full chunk is cut at once. Returns ring bytes read.
    fn drain(&mut self) -> usize {
        let mut moved = 0;
        for place in 0..self.spools.len() {
            if self.packer.is_full() && !self.cut(false) {
                return moved;
            }
            let at = self.edge.size;
            let Some(spool) = self.spools.values_mut().nth(place).filter(|s| !s.broken) else {
                continue;
            };
            let generation = spool.generation();
            let packer = &mut self.packer;
            let drained = spool
                .consumer
                .drain(HELPING_BYTES, |position, kind, record| match kind {
                    RecordKind::Event => packer.take(generation, position, record, at),
                    RecordKind::Opened => {
                        packer.lose(generation, "the data plane was started again", at);
                        packer.note(RecorderNote::ProducerOpened { generation, position }, at);
                    }
                });
            match drained {
                Ok(bytes) => moved += bytes,
                Err(error) => {
                    spool.broken = true;
                    let from = spool.consumer.read_position();
                    tracing::error!(spool = spool.name, %error, "recorder: the spool cannot be read on; its sessions will wait");
                    self.packer.note(
                        RecorderNote::Gap {
                            generation,
                            from,
                            to: from,
                            reason: error.to_string(),
                        },
                        at,
                    );
                }
            }
        }
        moved
    }

    /// Writes the chunk in the making. Tries until it is in the write-ahead log; `false` if told to stop before that.
    fn cut(&mut self, sync: bool) -> bool {
        let number = self.edge.size;
        let mut batch = Batch::default();
        let mut ranges = Vec::new();
        for spool in self.spools.values() {
            let to = spool.consumer.read_position();
            if to != spool.recorded {
                let generation = spool.generation();
                ranges.push(SpoolRange {
                    generation,
                    from: spool.recorded,
                    to,
                });
                let row = SpoolRow {
                    name: spool.name.clone(),
                    position: to,
                };
                batch.put(keys::META, &keys::spool(generation), to_bytes(&row));
            }
        }
        self.rows(number, &mut batch);
        let about = self.packer.about(number, ranges);
        let packing = &mut self.packing;
        let made = self
            .packer
            .builder
            .finish(about, &mut |raw| packing.compress(raw));
        let packed = match made {
            Ok(packed) => packed,
            // Only memory can be short here, and there is nothing to go on with.
            Err(error) => panic!("recorder: a chunk cannot be packed: {error}"),
        };
        let leaf = leaf_hash(number, &packed.value);
        let mut edge = self.edge.clone();
        edge.add(leaf);
        batch.put(
            keys::IDX,
            &keys::summary(number),
            to_bytes(&self.packer.summary(number)),
        );
        batch.put(keys::CHUNK, &keys::chunk(number), packed.value);
        if let Some(replies) = packed.replies {
            batch.put(keys::RESP, &keys::chunk(number), replies);
        }
        batch.put(keys::META, &keys::leaf(number), leaf.to_vec());
        batch.put(keys::META, keys::EDGE, to_bytes(&edge));
        if number + 1 >= self.snapshot_at + SNAPSHOT_CHUNKS || self.stop.load(Ordering::Relaxed) {
            self.snapshot_at = number + 1;
            let open = OpenSessions {
                before: number + 1,
                sessions: self.packer.sessions.snapshot(),
            };
            batch.put(keys::META, keys::OPEN, to_bytes(&open));
        }
        if !self.insist(&batch, number, sync) {
            return false;
        }
        self.counters.chunks.fetch_add(1, Ordering::Relaxed);
        self.edge = edge;
        self.begun = None;
        self.dirty = true;
        for spool in self.spools.values_mut() {
            spool.recorded = spool.consumer.read_position();
            spool.consumer.release(spool.recorded);
        }
        if sync {
            self.synced_now();
        }
        true
    }

    /// Rows of sessions that began or ended in the chunk.
    fn rows(&mut self, number: u64, batch: &mut Batch) {
        let mut rows: HashMap<SessionId, SessionRow> = std::mem::take(&mut self.packer.begun);
        for (id, finish) in std::mem::take(&mut self.packer.finished) {
            let known = match rows.remove(&id) {
                Some(row) => Some(row),
                None => loop {
                    match self.store.session(id) {
                        Ok(row) => break row,
                        Err(error) => self.mend(&error),
                    }
                },
            };
            // A run of the recorder, and what began with none of its first events, have no row.
            let Some(mut row) = known else { continue };
            if let Ok(view) = EventView::read(&finish.record) {
                row.finish(&view, &finish.applied, number);
            }
            rows.insert(id, row);
        }
        for (id, row) in rows {
            batch.put(keys::SESS, &keys::session(id), to_bytes(&row));
        }
    }

    /// Writes a batch, opening the database anew after each failure. Nothing is released meanwhile, so the spools fill and
    /// the sessions wait.
    fn insist(&mut self, batch: &Batch, number: u64, sync: bool) -> bool {
        loop {
            let Err(error) = self.store.write(batch, sync) else {
                return true;
            };
            if self.stop.load(Ordering::Relaxed) {
                tracing::error!(%error, "recorder: stopped while the database cannot be written; the spools keep the rest");
                return false;
            }
            self.mend(&error);
            // It may have landed all the same.
            if self.store.next_chunk().is_ok_and(|next| next > number) {
                self.dirty = true;
                return true;
            }
        }
    }

    fn mend(&mut self, error: &RecorderError) {
        tracing::error!(%error, "recorder: the database fails; trying again, and nothing is released until then");
        std::thread::sleep(RETRY_AFTER);
        if let Err(error) = self.store.reopen() {
            tracing::error!(%error, "recorder: the database cannot be opened");
        }
    }

    fn sync(&mut self) {
        match self.store.sync() {
            Ok(()) => self.synced_now(),
            Err(error) => self.mend(&error),
        }
    }

    fn synced_now(&mut self) {
        self.dirty = false;
        self.synced = Instant::now();
        for spool in self.spools.values_mut() {
            spool.consumer.set_durable(spool.recorded);
        }
    }

    /// Signs the tree as it is. Only what is on disk is sealed: a checkpoint kept elsewhere must not outlive its chunks.
    fn seal(&mut self) {
        if self.dirty {
            self.sync();
        }
        if self.dirty {
            return;
        }
        let size = self.edge.size;
        let note = self.signer.sign(size, &self.edge.root(), unix_us() / 1000);
        let mut batch = Batch::default();
        batch.put(keys::META, &keys::checkpoint(size), note.into_bytes());
        self.sealed_at = Instant::now();
        match self.store.write(&batch, false) {
            Ok(()) => self.sealed = size,
            Err(error) => self.mend(&error),
        }
    }

    fn rest(&self, nap: Duration) {
        let ends: Vec<&Consumer> = self.sound().map(|s| &s.consumer).collect();
        let mut pause = LOOK_EVERY.saturating_sub(self.looked.map_or(Duration::ZERO, |at| at.elapsed()));
        if self.edge.size != self.sealed {
            pause = pause.min(CHECKPOINT_EVERY.saturating_sub(self.sealed_at.elapsed()));
        }
        if self.dirty {
            pause = pause.min(self.settings.sync.saturating_sub(self.synced.elapsed()));
        }
        let pause = if self.packer.is_empty() {
            // Nothing waits for company: the first record to come ends the pause.
            headgate_spool::park(&ends, pause.max(NAP_MIN))
        } else {
            let age = self.begun.map_or(Duration::ZERO, |at| at.elapsed());
            pause = pause.min(self.settings.linger.saturating_sub(age));
            headgate_spool::nap(&ends, nap.min(pause).max(NAP_MIN))
        };
        if pause.slept {
            self.counters.naps.fetch_add(1, Ordering::Relaxed);
            self.counters
                .naps_with_work
                .fetch_add(u64::from(pause.had_work), Ordering::Relaxed);
        }
    }

    fn finish(&mut self) -> Result<(), RecorderError> {
        self.packer.note(RecorderNote::Stopped, self.edge.size);
        if !self.cut(true) {
            return Ok(());
        }
        self.seal();
        self.store.sync()?;
        tracing::info!(chunks = self.edge.size, "recorder: stopped");
        Ok(())
    }
}
