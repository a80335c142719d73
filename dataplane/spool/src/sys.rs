//! The few kernel calls: byte-range locks of the open file, futexes, random bytes.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// The byte of the file that stands for a side.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Producer = 0,
    Consumer = 1,
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "small constants of the system, wider in libc than in its own struct"
)]
fn range(side: Side) -> libc::flock {
    // SAFETY: `flock` is a plain C struct for which all zeroes is a value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = libc::F_WRLCK as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = side as libc::off_t;
    lock.l_len = 1;
    lock
}

/// Takes a side's lock for the life of this open file; `Ok(false)` if somebody else holds it. The kernel lets it go when
/// the process dies, however it dies.
pub(crate) fn lock(file: &File, side: Side) -> io::Result<bool> {
    let mut lock = range(side);
    // SAFETY: the descriptor is open while `file` lives, and `lock` outlives the call.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &mut lock) };
    if done == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(false),
        _ => Err(error),
    }
}

/// Whether another open file holds that side's lock.
#[expect(clippy::cast_possible_truncation, reason = "as in `range`")]
pub(crate) fn is_locked(file: &File, side: Side) -> io::Result<bool> {
    let mut lock = range(side);
    // SAFETY: as in `lock`.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &mut lock) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(lock.l_type != libc::F_UNLCK as libc::c_short)
}

/// Wakes all waiters of a futex word in shared memory.
pub(crate) fn futex_wake(word: &AtomicU32) {
    // SAFETY: the word lives in a mapping that `word` borrows; FUTEX_WAKE only looks the address up.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE,
            i32::MAX,
            0usize,
            0usize,
            0u32,
        )
    };
}

/// Waits while the word is `expected`. Spurious returns are part of the contract.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32, timeout: Duration) {
    let time = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: word and time outlive the call; FUTEX_WAIT reads both.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            expected,
            &raw const time,
            0usize,
            0u32,
        )
    };
}

#[repr(C)]
struct WaitV {
    val: u64,
    uaddr: u64,
    flags: u32,
    reserved: u32,
}

const FUTEX_WAITERS_MAX: usize = 128;
const FUTEX_SIZE_U32: u32 = 2;

/// Waits while each word is what is expected of it (Linux 5.16). Spurious returns are part of the contract. With more than
/// 128 words the rest is looked at after 10 ms at most.
pub(crate) fn futex_wait_any<'a>(words: impl Iterator<Item = (&'a AtomicU32, u32)>, timeout: Duration) {
    let wait = |(word, expected): (&AtomicU32, u32)| WaitV {
        val: u64::from(expected),
        uaddr: word.as_ptr() as u64,
        flags: FUTEX_SIZE_U32,
        reserved: 0,
    };
    let mut waits: Vec<WaitV> = words.map(wait).collect();
    let mut timeout = timeout;
    if waits.len() > FUTEX_WAITERS_MAX {
        waits.truncate(FUTEX_WAITERS_MAX);
        timeout = timeout.min(Duration::from_millis(10));
    }
    if waits.is_empty() {
        std::thread::sleep(timeout);
        return;
    }
    // SAFETY: `now` is written by the call and plain data.
    let mut until: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut until) };
    let nanos = i64::from(timeout.subsec_nanos()) + until.tv_nsec;
    until.tv_sec += i64::try_from(timeout.as_secs()).unwrap_or(3600) + nanos / 1_000_000_000;
    until.tv_nsec = nanos % 1_000_000_000;
    // SAFETY: `waits` and `until` outlive the call; the words live in mappings that the caller borrows.
    let got = unsafe {
        libc::syscall(
            libc::SYS_futex_waitv,
            waits.as_ptr(),
            waits.len(),
            0u32,
            &raw const until,
            libc::CLOCK_MONOTONIC,
        )
    };
    if got < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
        std::thread::sleep(timeout.min(Duration::from_millis(1)));
    }
}

pub(crate) fn random() -> io::Result<u128> {
    let mut bytes = [0u8; 16];
    // SAFETY: the buffer is as long as said.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got != 16 {
        return Err(io::Error::last_os_error());
    }
    Ok(u128::from_le_bytes(bytes))
}

/// Takes all pages now, so that a full tmpfs is an error at start and never a SIGBUS later.
pub(crate) fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    let len = libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, len) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}
