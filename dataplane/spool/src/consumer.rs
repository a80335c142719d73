//! The recorder's end. Believes nothing that it reads.

use crate::Generation;
use crate::layout::{AWAKE, Header, NAPPING, PARKED, RECORD_HEAD_BYTES, RecordKind, framed};
use crate::map::Map;
use crate::sys::{self, Side};
use crate::wish;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::fence;
use std::time::Duration;

/// A spool that does not keep its own rules. Nothing more can be read from it: where the next record begins is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolError {
    /// The published position went back, or beyond what the ring can hold.
    HeadOutOfRange {
        /// What this side has read up to.
        read: u64,
        /// What the producer says.
        head: u64,
        /// Of the ring, in bytes.
        capacity: usize,
    },
    /// A record claims more bytes than were published.
    RecordTooLong {
        /// Of the record.
        position: u64,
        /// Its length, as it says.
        bytes: usize,
        /// What is published behind it.
        published: usize,
    },
    /// The word that says what a record is says nothing that is known.
    UnknownKind {
        /// Of the record.
        position: u64,
        /// What stands there.
        word: u32,
    },
    /// A resume position outside what is in the ring.
    SeekOutOfRange {
        /// What was asked for.
        position: u64,
        /// The oldest byte that is still there.
        tail: u64,
        /// Behind the newest.
        head: u64,
    },
}

impl std::fmt::Display for SpoolError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SpoolError::HeadOutOfRange { read, head, capacity } => {
                write!(
                    f,
                    "published position {head} does not fit read position {read} and capacity {capacity}"
                )
            }
            SpoolError::RecordTooLong {
                position,
                bytes,
                published,
            } => {
                write!(
                    f,
                    "record at {position} claims {bytes} bytes where {published} are published"
                )
            }
            SpoolError::UnknownKind { position, word } => {
                write!(f, "record at {position} is of unknown kind {word:#x}")
            }
            SpoolError::SeekOutOfRange { position, tail, head } => {
                write!(
                    f,
                    "position {position} is not in the ring, which holds {tail}..{head}"
                )
            }
        }
    }
}

impl std::error::Error for SpoolError {}

/// The recorder's end of a spool.
pub struct Consumer {
    map: Map,
    /// Read bytes, this process's own count.
    read: u64,
    /// Released bytes, this process's own count; the word in shared memory is written from it and never read back.
    tail: u64,
    durable: u64,
    /// Bytes are copied here before anybody looks at them.
    copy: Vec<u8>,
    inode: u64,
}

impl Consumer {
    /// Opens an existing spool at its tail. A second consumer is refused with `ErrorKind::ResourceBusy`.
    pub fn open(path: &Path) -> io::Result<Consumer> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if !sys::lock(&file, Side::Consumer)? {
            return Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "spool: another consumer has it",
            ));
        }
        let inode = file.metadata()?.ino();
        let map = Map::open(file)?;
        let tail = map.header().consumer.tail.load(Acquire);
        let durable = map.header().consumer.durable.load(Acquire).min(tail);
        map.header().sleep.sleeping.store(AWAKE, SeqCst);
        Ok(Consumer {
            map,
            read: tail,
            tail,
            durable,
            copy: Vec::new(),
            inode,
        })
    }

    /// Goes on from `position`, which the recorder's database knows better than the shared word: never before the tail,
    /// because that room may have been written again.
    pub fn seek(&mut self, position: u64) -> Result<(), SpoolError> {
        let head = self.header().producer.head.load(Acquire);
        let in_ring =
            position >= self.tail && position <= head && head - self.tail <= self.map.capacity() as u64;
        if !in_ring || !position.is_multiple_of(8) {
            return Err(SpoolError::SeekOutOfRange {
                position,
                tail: self.tail,
                head,
            });
        }
        self.read = position;
        self.tail = position;
        self.header().consumer.tail.store(position, Release);
        Ok(())
    }

    /// Hands out published records in order, at most about `bytes_max` of them in ring bytes (one record at least).
    /// `each` gets the position after the record, for [`Self::release`]. Returns ring bytes read.
    pub fn drain(
        &mut self,
        bytes_max: usize,
        mut each: impl FnMut(u64, RecordKind, &[u8]),
    ) -> Result<usize, SpoolError> {
        let published = self.published()?;
        if published == 0 {
            return Ok(0);
        }
        let mut take = published.min(bytes_max.max(4096));
        self.copy_out(take);
        let mut at = 0;
        loop {
            let position = self.read + at as u64;
            let Some(head) = self.copy.get(at..at + RECORD_HEAD_BYTES) else {
                break;
            };
            let (length, word) = head.split_at(4);
            let len = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
            let word = u32::from_le_bytes(word.try_into().unwrap_or_default());
            let Some(kind) = RecordKind::of(word) else {
                return self.stop(at, SpoolError::UnknownKind { position, word });
            };
            let framed = framed(len).unwrap_or(usize::MAX);
            if framed > published - at {
                return self.stop(
                    at,
                    SpoolError::RecordTooLong {
                        position,
                        bytes: len,
                        published: published - at,
                    },
                );
            }
            if framed > take - at {
                if at > 0 {
                    break;
                }
                // One record longer than a helping: take it whole. Its head is read again from the new copy.
                take = framed;
                self.copy_out(take);
                continue;
            }
            let begin = at + RECORD_HEAD_BYTES;
            let payload = self.copy.get(begin..begin + len).unwrap_or_default();
            each(position + framed as u64, kind, payload);
            at += framed;
            if at >= take {
                break;
            }
        }
        self.read += at as u64;
        Ok(at)
    }

    /// Keeps what was handed out before the bad record.
    fn stop(&mut self, at: usize, error: SpoolError) -> Result<usize, SpoolError> {
        self.read += at as u64;
        if at > 0 { Ok(at) } else { Err(error) }
    }

    fn published(&self) -> Result<usize, SpoolError> {
        let head = self.header().producer.head.load(Acquire);
        let capacity = self.map.capacity();
        // Against the tail, not the read position: a producer cannot honestly be further than a ring ahead of it.
        let sound = head >= self.read && head - self.tail <= capacity as u64 && head.is_multiple_of(8);
        let published = usize::try_from(head.wrapping_sub(self.read))
            .ok()
            .filter(|_| sound);
        published.ok_or(SpoolError::HeadOutOfRange {
            read: self.read,
            head,
            capacity,
        })
    }

    fn copy_out(&mut self, bytes: usize) {
        self.copy.clear();
        self.copy.reserve(bytes);
        // SAFETY: bytes <= published <= capacity, and `at` promises capacity bytes; the destination was just reserved. An
        // honest producer does not write published bytes before their release. One that does races with this copy of plain
        // bytes into private memory; whatever comes out is then parsed as hostile input.
        unsafe {
            std::ptr::copy_nonoverlapping(self.map.at(self.read), self.copy.as_mut_ptr(), bytes);
            self.copy.set_len(bytes);
        }
    }

    /// Gives the room before `position` back to the producer, and wakes who waits for it. Only after it is recorded.
    pub fn release(&mut self, position: u64) {
        assert!(
            position >= self.tail && position <= self.read,
            "spool: release of {position} outside {}..{}",
            self.tail,
            self.read
        );
        self.tail = position;
        let header = self.header();
        if wish::give_room(&header.wish.room, &header.consumer.tail, position) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        let word = &self.header().consumer.moved;
        wish::wake(word);
        sys::futex_wake(word);
    }

    /// Says that everything before `position` is on disk, and wakes who waits for it.
    pub fn set_durable(&mut self, position: u64) {
        if position <= self.durable {
            return;
        }
        let before = std::mem::replace(&mut self.durable, position);
        let header = self.header();
        if wish::give_durable(
            &header.producer.urgent,
            &header.consumer.durable,
            before,
            position,
        ) {
            self.wake();
        }
        header.consumer.durable_changes.fetch_add(1, SeqCst);
        if header.watch.watchers.load(SeqCst) != 0 {
            sys::futex_wake(&header.consumer.durable_changes);
        }
    }

    /// Whether the producer waits for something on disk that is not there yet.
    pub fn is_urgent(&self) -> bool {
        let head = self.header().producer.head.load(Acquire);
        self.header().producer.urgent.load(Acquire).min(head) > self.durable
    }

    /// Whether something is published that was not read.
    pub fn has_more(&self) -> bool {
        self.header().producer.head.load(Acquire) != self.read
    }

    /// Whether the producer waits for room that what was read and not released would give it.
    pub fn is_room_wanted(&self) -> bool {
        let want = self.header().wish.room.load(Acquire);
        want > self.tail && want <= self.read
    }

    /// Bytes that are published and not released: what the producer cannot use. At most the capacity, whatever it says.
    pub fn held_bytes(&self) -> usize {
        let held = self
            .header()
            .producer
            .head
            .load(Acquire)
            .saturating_sub(self.tail);
        usize::try_from(held)
            .unwrap_or(usize::MAX)
            .min(self.map.capacity())
    }

    /// What has been handed out, up to.
    pub fn read_position(&self) -> u64 {
        self.read
    }

    /// What the producer may write over, up to.
    pub fn released_position(&self) -> u64 {
        self.tail
    }

    /// Of the ring, in bytes.
    pub fn capacity(&self) -> usize {
        self.map.capacity()
    }

    /// Which file this is, for ever.
    pub fn generation(&self) -> Generation {
        self.map.generation()
    }

    /// Whether a producer holds the other end. A kernel call.
    pub fn producer_is_there(&self) -> io::Result<bool> {
        sys::is_locked(&self.map.file, Side::Producer)
    }

    /// Whether `path` still names the file that is open here.
    pub fn is_file_at(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|m| m.ino() == self.inode)
    }

    fn header(&self) -> &Header {
        self.map.header()
    }
}

/// What came of a wish to sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// The kernel was asked to wait.
    pub slept: bool,
    /// When that was decided, something was published that was not read.
    pub had_work: bool,
}

/// Waits until any of the spools has something to read, an urgent wish, or the time is over.
pub fn park(consumers: &[&Consumer], timeout: Duration) -> Pause {
    sleep(consumers, PARKED, timeout)
}

/// Waits until any of the spools has an urgent wish, a producer that finds no room, or the time is over: a pause that records
/// which come meanwhile do not end. With something to read already there it is no pause at all.
pub fn nap(consumers: &[&Consumer], timeout: Duration) -> Pause {
    sleep(consumers, NAPPING, timeout)
}

fn sleep(consumers: &[&Consumer], how: u32, timeout: Duration) -> Pause {
    for consumer in consumers {
        consumer.header().sleep.sleeping.store(how, Relaxed);
    }
    // Pairs with the fences in `Producer::publish` and of a wish: either they see our flag, or we see what they left.
    fence(SeqCst);
    let had_work = consumers.iter().any(|c| c.has_more());
    let slept = !had_work && !consumers.iter().any(|c| c.is_urgent() || c.is_room_wanted());
    if slept {
        sys::futex_wait_any(
            consumers.iter().map(|c| (&c.header().sleep.sleeping, how)),
            timeout,
        );
    }
    for consumer in consumers {
        consumer.header().sleep.sleeping.swap(AWAKE, AcqRel);
    }
    Pause { slept, had_work }
}
