//! The shard's end. `reserve` and `commit` touch no shared word; `publish` is one store, and a wake-up only if the
//! recorder said that it sleeps.

use crate::Generation;
use crate::layout::{
    AWAKE, CAPACITY_BYTES_MAX, CAPACITY_BYTES_MIN, HEADER_BYTES, MAGIC, PARKED, RECORD_HEAD_BYTES,
    RecordKind, framed,
};
use crate::map::Map;
use crate::sys::{self, Side};
use crate::wish;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU32, fence};
use std::time::{Duration, Instant};

/// The shard's end of a spool.
pub struct Producer {
    map: Arc<Map>,
    /// Committed bytes.
    written: u64,
    /// Published bytes.
    published: u64,
    /// The last tail seen; the real one is never smaller.
    tail_seen: u64,
    /// Payload bytes of the slice handed out last.
    reserved: usize,
}

impl Producer {
    /// Opens the spool at `path`, or makes it with room for `bytes` (rounded up to a power of two), mode 0600. A second
    /// producer is refused with `ErrorKind::ResourceBusy`. An existing spool keeps its size until it is drained.
    pub fn open_or_create(path: &Path, bytes: usize) -> io::Result<Producer> {
        Producer::open_or_create_mode(path, bytes, 0o600)
    }

    /// The same with another mode, for a recorder that runs as another user of the directory's group (0660).
    pub fn open_or_create_mode(path: &Path, bytes: usize, mode: u32) -> io::Result<Producer> {
        let capacity = bytes
            .max(CAPACITY_BYTES_MIN)
            .checked_next_power_of_two()
            .filter(|n| *n <= CAPACITY_BYTES_MAX)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let map = match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => {
                take(&file)?;
                let map = Map::open(file)?;
                let header = map.header();
                let drained = header.producer.head.load(Acquire) == header.consumer.tail.load(Acquire);
                if map.capacity() != capacity && drained {
                    create(path, capacity, mode)?
                } else {
                    map
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => create(path, capacity, mode)?,
            Err(error) => return Err(error),
        };
        let head = map.header().producer.head.load(Acquire);
        let tail = map.header().consumer.tail.load(Acquire);
        if head < tail || head - tail > map.capacity() as u64 || head % 8 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "spool: head and tail are not a ring's",
            ));
        }
        let mut producer = Producer {
            map: Arc::new(map),
            written: head,
            published: head,
            tail_seen: tail,
            reserved: 0,
        };
        producer.announce()?;
        Ok(producer)
    }

    /// Tells the recorder, in order, that a new producer begins here. Waits for room: a spool left full by a killed data
    /// plane is drained by the recorder first.
    fn announce(&mut self) -> io::Result<()> {
        let id = sys::random()?.to_le_bytes();
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(room) = self.reserve(id.len()) {
                room.copy_from_slice(&id);
                self.finish(id.len(), RecordKind::Opened);
                self.publish();
                return Ok(());
            }
            if Instant::now() > until {
                return Err(io::Error::new(
                    io::ErrorKind::StorageFull,
                    "spool: full, and no recorder drains it",
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Room for a payload of `n` bytes, or `None` when the ring has none (or could never have). A slice that is not
    /// committed is simply handed out again.
    #[inline]
    pub fn reserve(&mut self, n: usize) -> Option<&mut [u8]> {
        let need = framed(n)?;
        if n > u32::MAX as usize || !self.has_room(need) {
            return None;
        }
        self.reserved = n;
        let start = self.map.at(self.written);
        // SAFETY: `at` promises `capacity` bytes from there, need <= free <= capacity, and RECORD_HEAD_BYTES + n <= need.
        // The range [written, written + need) is not published, so no consumer reads it, and released, so none did stop;
        // `&mut self` keeps a second slice away. The bytes are initialised: file pages are.
        Some(unsafe { std::slice::from_raw_parts_mut(start.add(RECORD_HEAD_BYTES), n) })
    }

    #[inline]
    fn has_room(&mut self, need: usize) -> bool {
        let limit = self.map.capacity() as u64;
        if self.written - self.tail_seen + need as u64 <= limit {
            return true;
        }
        self.tail_seen = self
            .map
            .header()
            .consumer
            .tail
            .load(Acquire)
            .clamp(self.tail_seen, self.published);
        self.written - self.tail_seen + need as u64 <= limit
    }

    /// Keeps the first `m` bytes of the slice handed out last as one record. The recorder sees it after [`Self::publish`].
    ///
    /// Panics if `m` is more than was reserved: that would be a mistake of ours, and the record would be cut.
    #[inline]
    pub fn commit(&mut self, m: usize) {
        self.finish(m, RecordKind::Event);
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "a record is no longer than was reserved, which is less than the ring"
    )]
    #[inline]
    fn finish(&mut self, m: usize, kind: RecordKind) {
        assert!(
            m <= self.reserved,
            "spool: commit of {m} bytes, {} reserved",
            self.reserved
        );
        self.reserved = 0;
        let start = self.map.at(self.written);
        // SAFETY: `reserve` checked room for the head and at least m bytes; 8-aligned because positions are.
        unsafe {
            start.cast::<u32>().write(m as u32);
            start.add(4).cast::<u32>().write(kind.word());
        }
        self.written += ((m + RECORD_HEAD_BYTES + 7) & !7) as u64;
    }

    /// Shows all committed records to the recorder, and wakes it if it is parked. Once per turn of the loop.
    #[inline]
    pub fn publish(&mut self) {
        if self.written == self.published {
            return;
        }
        let header = self.map.header();
        header.producer.head.store(self.written, Release);
        self.published = self.written;
        // Pairs with the fence in `consumer::sleep`: either we see its flag, or it sees our head.
        fence(SeqCst);
        if header.sleep.sleeping.load(Relaxed) == PARKED {
            self.wake();
        }
    }

    /// Publishes, and asks the recorder to put everything committed so far on disk now. Then watch [`Self::durable_position`].
    pub fn urgent(&mut self) {
        self.publish();
        self.wait_for_durable(self.written);
    }

    /// Whether everything before `position` is on disk. If not, the recorder is asked to put it there now, and every step on
    /// the way wakes the [`Watch`]es.
    pub fn wait_for_durable(&mut self, position: u64) -> bool {
        if self.durable_position() >= position {
            return true;
        }
        self.publish();
        let header = self.map.header();
        if wish::ask_durable(&header.producer.urgent, &header.consumer.durable, position) {
            return true;
        }
        self.end_nap();
        false
    }

    #[cold]
    fn wake(&self) {
        let word = &self.map.header().sleep.sleeping;
        if word.swap(AWAKE, AcqRel) != AWAKE {
            sys::futex_wake(word);
        }
    }

    /// Whether at least `bytes` are free, framing included. Looks at the recorder's position only if the last one seen
    /// does not show it, and waits as [`Self::wait_for_free`] does if that does not either.
    #[inline]
    pub fn has_free(&mut self, bytes: usize) -> bool {
        self.has_room(bytes) || self.wait_for_free(bytes)
    }

    /// Whether at least `bytes` are free, framing included. If not, what is committed is published, a napping recorder is
    /// told, and the release that gives so much room wakes the [`Watch`]es. Several may wait: the one that needs least is
    /// waked for, and all look again. Room that the ring can never have is not waited for.
    #[cold]
    pub fn wait_for_free(&mut self, bytes: usize) -> bool {
        self.publish();
        let capacity = self.map.capacity();
        if bytes > capacity {
            return false;
        }
        let want = (self.written + bytes as u64).saturating_sub(capacity as u64);
        let header = self.map.header();
        if want == 0 || wish::ask_room(&header.wish.room, &header.consumer.tail, want) {
            return self.has_room(bytes);
        }
        self.end_nap();
        false
    }

    /// The recorder may be napping over what somebody waits for: it is told, once for each nap. Comes after a full fence.
    fn end_nap(&self) {
        if self.map.header().sleep.sleeping.load(SeqCst) != AWAKE {
            self.wake();
        }
    }

    /// Bytes that a sequence of records may still take, each with [`RECORD_HEAD_BYTES`] and padding.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "no more is written and unread than the ring holds"
    )]
    pub fn free(&mut self) -> usize {
        self.tail_seen = self
            .map
            .header()
            .consumer
            .tail
            .load(Acquire)
            .clamp(self.tail_seen, self.published);
        self.map.capacity() - (self.written - self.tail_seen) as usize
    }

    /// Of the ring, in bytes.
    pub fn capacity(&self) -> usize {
        self.map.capacity()
    }

    /// Bytes committed so far: the end of the record committed last.
    pub fn position(&self) -> u64 {
        self.written
    }

    /// Everything before it is in the recorder's write-ahead log: it survives any process.
    pub fn recorded_position(&self) -> u64 {
        self.map.header().consumer.tail.load(Acquire)
    }

    /// Everything before it is on disk: it survives the machine.
    pub fn durable_position(&self) -> u64 {
        self.map.header().consumer.durable.load(Acquire)
    }

    /// Which file this is, for ever.
    pub fn generation(&self) -> Generation {
        self.map.generation()
    }

    /// Whether a recorder holds the other end. A kernel call.
    pub fn recorder_is_there(&self) -> io::Result<bool> {
        sys::is_locked(&self.map.file, Side::Consumer)
    }

    /// Whether the recorder sleeps, as far as can be seen: for tests and for people.
    pub fn recorder_sleeps(&self) -> bool {
        self.map.header().sleep.sleeping.load(Acquire) != AWAKE
    }

    /// A handle for another thread that hears when what was waited for is there.
    pub fn watch(&self) -> Watch {
        Watch {
            map: Arc::clone(&self.map),
            seen: self.map.header().consumer.moved.load(Acquire),
        }
    }

    /// A handle for another thread that waits for durability, so that the shard need not.
    pub fn durable_watch(&self) -> DurableWatch {
        DurableWatch {
            map: Arc::clone(&self.map),
        }
    }
}

/// Hears the recorder's wakes of one spool. Keeps the spool mapped.
pub struct Watch {
    map: Arc<Map>,
    /// The count of wakes that were acted on.
    seen: u32,
}

impl Watch {
    fn word(&self) -> &AtomicU32 {
        &self.map.header().consumer.moved
    }

    fn has_moved(&mut self) -> bool {
        let now = self.word().load(Acquire);
        std::mem::replace(&mut self.seen, now) != now
    }

    /// Blocks until the recorder of any of these spools did what its producer waited for ([`Producer::wait_for_free`],
    /// [`Producer::wait_for_durable`]), or the time is over. `moved` is called with the place of each that did.
    pub fn wait_any(watches: &mut [Watch], timeout: Duration, mut moved: impl FnMut(usize)) {
        let mut look = |watches: &mut [Watch]| {
            let mut any = false;
            for (at, watch) in watches.iter_mut().enumerate() {
                if watch.has_moved() {
                    any = true;
                    moved(at);
                }
            }
            any
        };
        // A wake that comes after the look changes the word, and the wait ends before it begins.
        if !look(watches) {
            sys::futex_wait_any(watches.iter().map(|watch| (watch.word(), watch.seen)), timeout);
            look(watches);
        }
    }
}

/// Waits for [`Producer::durable_position`] to move. Keeps the spool mapped.
#[derive(Clone)]
pub struct DurableWatch {
    map: Arc<Map>,
}

impl DurableWatch {
    /// What is on disk, up to.
    pub fn durable_position(&self) -> u64 {
        self.map.header().consumer.durable.load(Acquire)
    }

    /// Blocks until the durable position is at least `position`, or the time is over; returns it.
    pub fn wait(&self, position: u64, timeout: Duration) -> u64 {
        let header = self.map.header();
        let until = Instant::now() + timeout;
        header.watch.watchers.fetch_add(1, SeqCst);
        let reached = loop {
            let changes = header.consumer.durable_changes.load(SeqCst);
            let durable = header.consumer.durable.load(SeqCst);
            let left = until.saturating_duration_since(Instant::now());
            if durable >= position || left.is_zero() {
                break durable;
            }
            sys::futex_wait(&header.consumer.durable_changes, changes, left);
        };
        header.watch.watchers.fetch_sub(1, SeqCst);
        reached
    }
}

fn take(file: &File) -> io::Result<()> {
    if sys::lock(file, Side::Producer)? {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        "spool: another producer has it",
    ))
}

/// Makes the file whole, locked and filled in under another name, then moves it into place.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the lower half, and then the upper one"
)]
fn create(path: &Path, capacity: usize, mode: u32) -> io::Result<Map> {
    let generation = sys::random()?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let mut new_name = std::ffi::OsString::from(".new-");
    new_name.push(name);
    new_name.push(format!("-{generation:032x}"));
    let new = path.with_file_name(new_name);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)?;
    let made = (|| {
        take(&file)?;
        sys::allocate(&file, (HEADER_BYTES + capacity) as u64)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        let map = Map::whole(file, capacity)?;
        let fixed = &map.header().fixed;
        fixed.capacity.store(capacity as u64, Relaxed);
        fixed.generation_low.store(generation as u64, Relaxed);
        fixed.generation_high.store((generation >> 64) as u64, Relaxed);
        fixed.magic.store(MAGIC, Release);
        std::fs::rename(&new, path)?;
        Ok(map)
    })();
    if made.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    made
}
