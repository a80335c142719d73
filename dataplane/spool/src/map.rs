//! The mapping: header page, then the ring twice, back to back.
//!
//! JUSTIFICATION: a ring that may wrap inside a record would cost two copies and a branch per field on the data plane's
//! path; mapped twice, `reserve` hands out one slice. No safe crate offers that over a file.

use crate::layout::{CAPACITY_BYTES_MAX, CAPACITY_BYTES_MIN, HEADER_BYTES, Header, MAGIC};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering::{Acquire, Relaxed};

/// A larger ring is mapped page by page, as it is used.
const POPULATE_BYTES_MAX: usize = 256 << 20;

pub(crate) struct Map {
    base: *mut u8,
    capacity: usize,
    /// Keeps the lock.
    pub file: File,
}

// SAFETY: the mapping belongs to the struct; all shared words in it are atomics, and the ring's bytes are only reached
// through `&mut Producer` (bytes not yet published) and `&mut Consumer` (bytes published, not yet released).
unsafe impl Send for Map {}
// SAFETY: as above; `&Map` gives safe access to the atomics only.
unsafe impl Sync for Map {}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

impl Map {
    /// Maps an existing file after checking that it is what it says.
    pub fn open(file: File) -> io::Result<Map> {
        let len = usize::try_from(file.metadata()?.len()).map_err(|_| bad("spool: file too long"))?;
        let capacity = len
            .checked_sub(HEADER_BYTES)
            .ok_or_else(|| bad("spool: file shorter than its header"))?;
        if !capacity.is_power_of_two() || !(CAPACITY_BYTES_MIN..=CAPACITY_BYTES_MAX).contains(&capacity) {
            return Err(bad("spool: the file's length is not a ring's"));
        }
        let map = Map::whole(file, capacity)?;
        if map.header().fixed.magic.load(Acquire) != MAGIC {
            return Err(bad("spool: not a spool file"));
        }
        if map.header().fixed.capacity.load(Relaxed) != capacity as u64 {
            return Err(bad("spool: header and length of the file differ"));
        }
        Ok(map)
    }

    /// Maps `HEADER_BYTES + capacity` bytes of the file. `capacity` is a power of two of whole pages.
    pub fn whole(file: File, capacity: usize) -> io::Result<Map> {
        let whole = HEADER_BYTES + 2 * capacity;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a fresh anonymous reservation; nothing else lives there.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                whole,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let map = Map {
            base: base.cast(),
            capacity,
            file,
        };
        // The pages are there already (`sys::allocate`): put them into the page table now, not one fault after the other
        // while statements wait.
        let ahead = if capacity <= POPULATE_BYTES_MAX {
            libc::MAP_POPULATE
        } else {
            0
        };
        let fixed = libc::MAP_SHARED | libc::MAP_FIXED | ahead;
        // SAFETY: both targets lie inside the reservation made above: [0, H + C) and [H + C, H + 2C).
        unsafe {
            let first = libc::mmap(
                base,
                HEADER_BYTES + capacity,
                protection,
                fixed,
                map.file.as_raw_fd(),
                0,
            );
            if first == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            let second = libc::mmap(
                map.base.add(HEADER_BYTES + capacity).cast(),
                capacity,
                protection,
                fixed,
                map.file.as_raw_fd(),
                HEADER_BYTES as libc::off_t,
            );
            if second == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(map)
    }

    /// Of the ring, in bytes.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The words that both sides share.
    pub fn header(&self) -> &Header {
        // SAFETY: the first page of the mapping is at least a Header (asserted in layout.rs), page-aligned, made of
        // atomics only, for which every bit pattern is a value; it lives as long as self.
        unsafe { &*self.base.cast::<Header>() }
    }

    /// Which file this is, for ever.
    pub fn generation(&self) -> crate::Generation {
        let fixed = &self.header().fixed;
        crate::Generation(
            u128::from(fixed.generation_low.load(Relaxed))
                | (u128::from(fixed.generation_high.load(Relaxed)) << 64),
        )
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "less than the capacity, which is a length in memory"
    )]
    /// Where a position lies. The `capacity` bytes from there are inside the mapping.
    pub fn at(&self, position: u64) -> *mut u8 {
        let offset = (position & (self.capacity as u64 - 1)) as usize;
        // SAFETY: offset < capacity, so the pointer stays inside the first copy of the ring.
        unsafe { self.base.add(HEADER_BYTES + offset) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the reservation made in `map`, whole; nobody can borrow from it any more.
        unsafe { libc::munmap(self.base.cast(), HEADER_BYTES + 2 * self.capacity) };
    }
}
