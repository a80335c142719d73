//! Memory of processes, as the kernel counts it.

use super::engines::{Engines, family};
use super::kind::Kind;
use crate::Result;

/// Bytes. Shared pages count by the share of each that has them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    pub pss: f64,
    /// Of it, shared memory: the spool.
    pub shared: f64,
}

impl Memory {
    fn of(pids: &[u32]) -> Memory {
        let mut all = Memory::default();
        for pid in pids {
            let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            all.pss += kilobytes(&text, "Pss:") * 1024.0;
            all.shared += kilobytes(&text, "Pss_Shmem:") * 1024.0;
        }
        all
    }

    pub fn of_forwarder(engines: &Engines, kind: Kind) -> Result<Memory> {
        Ok(Memory::of(engines.forwarder(kind)?.as_slice()))
    }

    pub fn of_all(engines: &Engines, kind: Kind) -> Memory {
        Memory::of(&engines.root(kind).map_or_else(Vec::new, family))
    }
}

/// What the kernel keeps for itself on the whole machine: sockets' structures are slab, their buffers `sockstat`'s pages.
pub fn kernel() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let slab = kilobytes(&text, "SUnreclaim:") * 1024.0;
    let sockets = std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let pages = sockets
        .lines()
        .find(|l| l.starts_with("TCP:"))
        .and_then(|l| l.split_whitespace().last())
        .and_then(|n| n.parse::<f64>().ok());
    slab + pages.unwrap_or(0.0) * 4096.0
}

fn kilobytes(text: &str, name: &str) -> f64 {
    text.lines()
        .find_map(|l| l.strip_prefix(name))
        .and_then(|l| l.split_whitespace().next())
        .and_then(|n| n.parse().ok())
        .unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_memory_is_read() {
        let own = Memory::of(&[std::process::id()]);
        assert!(own.pss > 100.0 * 1024.0 && own.shared <= own.pss, "{own:?}");
        assert_eq!(
            kilobytes("Rss: 7 kB\nPss:     12 kB\nPss_Shmem: 3 kB\n", "Pss:"),
            12.0
        );
        assert!(kernel() > 0.0);
    }
}
