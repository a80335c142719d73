//! A group of receive buffers that the kernel picks from (a provided-buffer ring). One of this crate's files with `unsafe`.
//!
//! Invariant: a buffer is either the kernel's (between `give` and the completion that names it) or ours (between that
//! completion and `give`); only ours are read. Bounds: `count * bytes`, mapped once.
//!
//! JUSTIFICATION: the buffers are shared with the kernel by address, so no safe type can own them. Without provided buffers
//! every idle connection pins a buffer (104 KB against 1.7 KB measured per idle pair).

use crate::error::RingError;
use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// Anonymous pages, zeroed, unmapped on drop.
struct Pages {
    start: NonNull<u8>,
    bytes: usize,
}

impl Pages {
    fn new(bytes: usize) -> io::Result<Self> {
        // SAFETY: a new anonymous mapping touches no existing memory.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        match NonNull::new(start.cast::<u8>()) {
            Some(start) if start.as_ptr().cast() != libc::MAP_FAILED => Ok(Pages { start, bytes }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: exactly what `new` mapped. The ring is closed before its pools are dropped (order of fields in `Ring`).
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}

pub(crate) struct Pool {
    group: u16,
    /// Ids of this pool are `first_id..first_id + count`: a completion names the buffer but not its group.
    first_id: u16,
    count: u16,
    bytes: u32,
    tail: u16,
    entries: Pages,
    buffers: Pages,
}

// SAFETY: the pages are owned by this value alone and reached only through it; no thread is tied to them.
unsafe impl Send for Pool {}

impl Pool {
    /// `count` is a power of two (checked by `RingSettings::check`), and `first_id + count` fits in 16 bits.
    pub(crate) fn new(group: u16, first_id: u16, count: u16, bytes: u32) -> io::Result<Self> {
        assert!(
            count.is_power_of_two() && first_id.checked_add(count).is_some(),
            "a pool's ids fit in 16 bits"
        );
        let entries = Pages::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let buffers = Pages::new(usize::from(count) * bytes as usize)?;
        let mut pool = Pool {
            group,
            first_id,
            count,
            bytes,
            tail: 0,
            entries,
            buffers,
        };
        for id in first_id..first_id + count {
            pool.give(id);
        }
        Ok(pool)
    }

    pub(crate) fn register(&self, submitter: &Submitter<'_>) -> Result<(), RingError> {
        let address = self.entries.start.as_ptr() as u64;
        // SAFETY: the entries are page-aligned, `count` long, and stay mapped until after the ring is closed.
        unsafe { submitter.register_buf_ring_with_flags(address, self.count, self.group, 0) }.map_err(|e| {
            match e.raw_os_error() {
                Some(libc::EINVAL) => RingError::FeatureMissing {
                    feature: "provided buffer rings (IORING_REGISTER_PBUF_RING)",
                },
                Some(libc::ENOMEM) => RingError::MemlockTooLow {
                    limit_bytes: crate::sys::memlock_bytes().unwrap_or(u64::MAX),
                },
                _ => RingError::system("registering receive buffers", &e),
            }
        })
    }

    pub(crate) fn buffer_bytes(&self) -> usize {
        self.bytes as usize
    }

    pub(crate) fn owns(&self, id: u16) -> bool {
        id >= self.first_id && id - self.first_id < self.count
    }

    /// The bytes of a completion. Call only between the completion that named `id` and [`Pool::give`] of it.
    pub(crate) fn bytes(&self, id: u16, len: usize) -> &[u8] {
        assert!(
            self.owns(id) && len <= self.bytes as usize,
            "a completion names a buffer of its pool and stays inside it"
        );
        let offset = usize::from(id - self.first_id) * self.bytes as usize;
        // SAFETY: inside the mapping by the assertion; initialised, because pages start zeroed; the kernel does not write to
        // it before `give`, which borrows the pool mutably and so ends this borrow.
        unsafe { std::slice::from_raw_parts(self.buffers.start.as_ptr().add(offset), len) }
    }

    /// Hands a buffer (back) to the kernel.
    pub(crate) fn give(&mut self, id: u16) {
        assert!(self.owns(id), "a buffer goes back to its own pool");
        let offset = usize::from(id - self.first_id) * self.bytes as usize;
        let index = usize::from(self.tail & (self.count - 1));
        let entries = self.entries.start.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `index < count` entries of the mapping; the kernel reads an entry only after the tail passes it. The first
        // entry's reserved field is the tail; the setters do not touch it. Pages are aligned for both types.
        unsafe {
            let entry = &mut *entries.add(index);
            entry.set_addr(self.buffers.start.as_ptr().add(offset) as u64);
            entry.set_len(self.bytes);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(entries).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_knows_its_own_ids_and_reads_zeroes_before_any_completion() {
        let pool = Pool::new(1, 0x4000, 8, 512).unwrap();
        assert!(pool.owns(0x4000) && pool.owns(0x4007) && !pool.owns(0x4008) && !pool.owns(0x3fff));
        assert_eq!(pool.bytes(0x4007, 512), &[0u8; 512]);
    }

    #[test]
    #[should_panic(expected = "a completion names a buffer of its pool")]
    fn a_length_beyond_the_buffer_is_never_read() {
        let _ = Pool::new(0, 0, 4, 64).unwrap().bytes(3, 65);
    }
}
