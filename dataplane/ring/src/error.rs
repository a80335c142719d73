//! What keeps a ring from starting or running. Each variant tells the operator what to do and has an exit code of its own.
//!
//! Exit codes 71..=79 are the contract of `headgate doctor` and of the start of the data plane; they never change meaning.

use std::fmt;
use std::io;
use std::net::SocketAddr;

/// Why a ring could not be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RingError {
    /// Older than Linux 6.1.
    KernelTooOld {
        /// The kernel's, as `uname` says it.
        release: String,
    },
    /// `kernel.io_uring_disabled` is 1 or 2.
    DisabledBySysctl {
        /// What the sysctl says.
        value: u32,
    },
    /// The kernel knows io_uring but refuses it to this process: a seccomp profile, or a security module.
    Forbidden,
    /// Ring memory did not fit into RLIMIT_MEMLOCK.
    MemlockTooLow {
        /// What the limit is.
        limit_bytes: u64,
    },
    /// The kernel is new enough by its number but lacks a needed part.
    FeatureMissing {
        /// What is lacking.
        feature: &'static str,
    },
    /// An address could not be listened at.
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        errno: i32,
    },
    /// The thread could not be pinned.
    Pin {
        /// To which core.
        core: usize,
        /// What the kernel said.
        errno: i32,
    },
    /// A value of [`crate::RingSettings`] that cannot be kept.
    Config {
        /// Which setting, and what it has to be.
        what: &'static str,
    },
    /// Anything else that the kernel said no to.
    System {
        /// What was being done.
        what: &'static str,
        /// What the kernel said.
        errno: i32,
    },
}

impl RingError {
    /// What a program ends with: another number for each kind.
    pub fn exit_code(&self) -> i32 {
        match self {
            RingError::KernelTooOld { .. } => 71,
            RingError::DisabledBySysctl { .. } => 72,
            RingError::Forbidden => 73,
            RingError::MemlockTooLow { .. } => 74,
            RingError::FeatureMissing { .. } => 75,
            RingError::Listen { .. } => 76,
            RingError::Pin { .. } => 77,
            RingError::Config { .. } => 78,
            RingError::System { .. } => 79,
        }
    }

    pub(crate) fn system(what: &'static str, error: &io::Error) -> Self {
        RingError::System {
            what,
            errno: errno_of(error),
        }
    }

    /// Names the refusal of `io_uring_setup`.
    pub(crate) fn of_setup(error: &io::Error) -> Self {
        match errno_of(error) {
            libc::ENOSYS => RingError::FeatureMissing {
                feature: "io_uring (not built into this kernel)",
            },
            libc::EPERM | libc::EACCES => match crate::sys::io_uring_disabled() {
                Some(value) if value > 0 => RingError::DisabledBySysctl { value },
                _ => RingError::Forbidden,
            },
            libc::ENOMEM => RingError::MemlockTooLow {
                limit_bytes: crate::sys::memlock_bytes().unwrap_or(u64::MAX),
            },
            libc::EINVAL => RingError::FeatureMissing {
                feature: "IORING_SETUP_SINGLE_ISSUER with IORING_SETUP_DEFER_TASKRUN",
            },
            errno => RingError::System {
                what: "io_uring_setup",
                errno,
            },
        }
    }
}

/// The errno of an error; EIO for those that carry none.
pub(crate) fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let says = |errno: &i32| io::Error::from_raw_os_error(*errno);
        match self {
            RingError::KernelTooOld { release } => {
                write!(f, "this kernel is {release}; Headgate needs Linux 6.1 or newer: boot a newer kernel")
            }
            RingError::DisabledBySysctl { value } => write!(
                f,
                "io_uring is switched off (kernel.io_uring_disabled = {value}): run `sysctl -w kernel.io_uring_disabled=0` and keep it in /etc/sysctl.d"
            ),
            RingError::Forbidden => f.write_str(
                "io_uring is refused to this process: a container's seccomp profile or a security module blocks it; allow io_uring_setup, io_uring_enter and io_uring_register (Docker: --security-opt seccomp=<a profile with these>)",
            ),
            RingError::MemlockTooLow { limit_bytes } => write!(
                f,
                "no memory may be locked for io_uring (RLIMIT_MEMLOCK is {limit_bytes} bytes): set LimitMEMLOCK=infinity in the unit, or `ulimit -l unlimited`"
            ),
            RingError::FeatureMissing { feature } => {
                write!(f, "this kernel lacks {feature}: boot Linux 6.1 or newer, as its distribution built it")
            }
            RingError::Listen { address, errno } => {
                write!(f, "cannot listen on {address} ({}): is it taken, or not an address of this machine?", says(errno))
            }
            RingError::Pin { core, errno } => write!(
                f,
                "cannot run on core {core} ({}): it is not online or not in this process's CPU set; name other cores or fewer shards",
                says(errno)
            ),
            RingError::Config { what } => write!(f, "the ring cannot be built as configured: {what}"),
            RingError::System { what, errno } => write!(f, "{what} failed: {}", says(errno)),
        }
    }
}

impl std::error::Error for RingError {}
