//! What a worker may do: read and write the descriptors it has, ask for memory, and end.
//!
//! libpg_query opens a pipe for each parse and puts it in stderr's place, so `pipe`, `dup` and `close` stay. `openat` fails
//! with EACCES: glibc's allocator looks into /proc before it gives memory back, and can live without. `socket`, `connect`,
//! `execve`, `clone`, `ioctl` and everything else end the process (SIGSYS).

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};
use std::collections::BTreeMap;
use std::io;

/// The costliest text of 4 MiB takes 630 MiB, most others less than half of it.
const ADDRESS_SPACE_BYTES_MAX: u64 = 768 << 20;
/// Over a worker's life; the pool replaces it long before.
const CPU_SECONDS_MAX: u64 = 3600;
/// stdin, stdout, stderr, the socket, a pipe's two ends, a saved stderr.
const DESCRIPTORS_MAX: u64 = 16;

/// Closes the sandbox around every thread of the calling process, for good.
pub fn close() -> io::Result<()> {
    limits()?;
    // Of two filters the kernel obeys the stricter answer: the second one turns the first one's `openat` into an error.
    for filter in [no_open(), filter()] {
        let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(other)?;
        // Sets no_new_privs first, and synchronises all threads.
        apply_filter_all_threads(&program).map_err(other)?;
    }
    Ok(())
}

fn no_open() -> Result<SeccompFilter, seccompiler::BackendError> {
    let rules = BTreeMap::from([(libc::SYS_openat, Vec::new())]);
    let refuse = SeccompAction::Errno(u32::try_from(libc::EACCES).unwrap_or(1));
    SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        refuse,
        std::env::consts::ARCH.try_into()?,
    )
}

fn other(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

fn filter() -> Result<SeccompFilter, seccompiler::BackendError> {
    let no_exec = || -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
        let exec = u64::try_from(libc::PROT_EXEC).unwrap_or(u64::MAX);
        let condition = SeccompCondition::new(2, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(exec), 0)?;
        Ok(vec![SeccompRule::new(vec![condition])?])
    };
    let always = [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_close,
        libc::SYS_exit,
        libc::SYS_exit_group,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_brk,
        libc::SYS_madvise,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_rt_sigreturn,
        libc::SYS_rt_sigprocmask,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_clock_gettime,
        libc::SYS_getrandom,
        libc::SYS_fcntl,
        libc::SYS_dup,
        libc::SYS_dup3,
        libc::SYS_pipe2,
        libc::SYS_openat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_dup2,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_pipe,
    ];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        always.into_iter().map(|call| (call, Vec::new())).collect();
    rules.insert(libc::SYS_mmap, no_exec()?);
    rules.insert(libc::SYS_mprotect, no_exec()?);
    SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )
}

// JUSTIFICATION: three system calls that the standard library has no safe form for.
#[allow(unsafe_code)]
fn limits() -> io::Result<()> {
    let set = |resource, max: u64| {
        let limit = libc::rlimit {
            rlim_cur: max,
            rlim_max: max,
        };
        // SAFETY: `limit` is a valid rlimit for the whole call, and the kernel only reads it.
        if unsafe { libc::setrlimit(resource, &raw const limit) } == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    set(libc::RLIMIT_AS, ADDRESS_SPACE_BYTES_MAX)?;
    set(libc::RLIMIT_CPU, CPU_SECONDS_MAX)?;
    set(libc::RLIMIT_CORE, 0)?;
    set(libc::RLIMIT_FSIZE, 0)?;
    set(libc::RLIMIT_NPROC, 0)?;
    set(libc::RLIMIT_NOFILE, DESCRIPTORS_MAX)?;
    // SAFETY: PR_SET_DUMPABLE takes plain numbers. Nobody of the same user may then read this process's memory.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Closes every descriptor above stderr, whatever the parent left open.
// JUSTIFICATION: no safe form exists. The caller must not hold a descriptor above 2 yet.
#[allow(unsafe_code)]
pub(crate) fn close_inherited() {
    // SAFETY: called first thing in the worker's main, before any Rust object owns a descriptor above 2.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32);
    }
}
