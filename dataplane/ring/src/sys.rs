//! What the standard library and socket2 do not offer: the eventfd, the thread's core, limits. One of this crate's files
//! with `unsafe`.

use crate::error::{RingError, errno_of};
use crate::seam::WakeFd;
use crate::{ListenSettings, RingSettings};
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, RawFd};
use std::time::Duration;

/// A blocking eventfd. Never closed: [`WakeFd`] is `Copy` and may outlive its ring, and a write to a number that meanwhile
/// names another file would be worse than one descriptor per core.
pub(crate) fn eventfd() -> io::Result<WakeFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(WakeFd(fd))
    }
}

impl WakeFd {
    /// Wakes the core from any thread.
    pub fn wake(self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the eight bytes live for the call. A full counter cannot be: it takes 2^64 - 2 wakes without a read.
        let _ = unsafe { libc::write(self.0, one.as_ptr().cast(), one.len()) };
    }
}

/// Pins the calling thread.
pub(crate) fn pin(core: usize) -> Result<(), RingError> {
    if core >= libc::CPU_SETSIZE as usize {
        return Err(RingError::Pin {
            core,
            errno: libc::EINVAL,
        });
    }
    // SAFETY: a cpu_set_t of zeros is the empty set; CPU_SET stays inside it by the test above; 0 is the calling thread.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if result == 0 {
        Ok(())
    } else {
        Err(RingError::Pin {
            core,
            errno: errno_of(&io::Error::last_os_error()),
        })
    }
}

/// RLIMIT_MEMLOCK, soft; `None` is unlimited.
pub(crate) fn memlock_bytes() -> Option<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for the answer.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    (result == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Raises this process's own limit of open files to what it is allowed to have, and returns it.
pub fn raise_descriptors_max() -> io::Result<u64> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is a valid place for the answer, then a valid value.
    let done = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit) == 0
        }
    };
    if done {
        Ok(limit.rlim_cur)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `None` where the kernel has no such switch (before 6.6).
pub(crate) fn io_uring_disabled() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
        .ok()?
        .trim()
        .parse()
        .ok()
}

pub(crate) fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|s| s.trim().to_owned())
        .unwrap_or_default()
}

/// Takes over a descriptor that the kernel has just handed out in a completion.
pub(crate) fn socket_from_completion(fd: RawFd) -> Socket {
    // SAFETY: accept gave this descriptor to us alone; its completion is read once.
    unsafe { Socket::from_raw_fd(fd) }
}

/// Blocking on purpose: io_uring answers EAGAIN on a non-blocking socket instead of waiting.
fn stream(address: SocketAddr, config: &RingSettings) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.cloexec(),
        Some(Protocol::TCP),
    )?;
    socket.set_tcp_nodelay(true)?;
    let idle = Duration::from_secs(u64::from(config.keepalive_s.max(3)));
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(idle)
            .with_interval(idle / 3)
            .with_retries(3),
    )?;
    Ok(socket)
}

/// Accepted sockets inherit TCP_NODELAY and keepalive from it.
pub(crate) fn listen(listener: &ListenSettings, config: &RingSettings) -> Result<Socket, RingError> {
    let open = || -> io::Result<Socket> {
        let socket = stream(listener.address, config)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        if listener.address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&listener.address.into())?;
        socket.listen(listener.backlog)?;
        Ok(socket)
    };
    open().map_err(|e| RingError::Listen {
        address: listener.address,
        errno: errno_of(&e),
    })
}

/// Towards a target. The kernel would take megabytes that nobody has asked for yet; a target that refuses early should be heard early,
/// and not after all that.
const UNSENT_BYTES_MAX: u32 = 128 << 10;

pub(crate) fn stream_to(address: SocketAddr, config: &RingSettings) -> io::Result<Socket> {
    let socket = stream(address, config)?;
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    Ok(socket)
}
