//! Which cores the shards get.

use headgate_config::Cores;

/// The kernel's numbers of the cores that this process may use.
pub fn allowed() -> Vec<usize> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status
        .lines()
        .find_map(|l| l.strip_prefix("Cpus_allowed_list:"))
        .unwrap_or("0");
    parse_list(list.trim())
}

fn parse_list(text: &str) -> Vec<usize> {
    let mut cores = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            Some((from, to)) => {
                if let (Ok(from), Ok(to)) = (from.trim().parse::<usize>(), to.trim().parse::<usize>()) {
                    cores.extend(from..=to.min(from + 4096));
                }
            }
            None => cores.extend(part.trim().parse::<usize>().ok()),
        }
    }
    cores
}

/// One core a shard. A count beyond the cores that there are is cut to them.
pub fn shards(wanted: &Cores) -> Vec<usize> {
    let allowed = allowed();
    match wanted {
        Cores::Auto => allowed,
        Cores::Count(n) => allowed.into_iter().take(*n as usize).collect(),
        Cores::List(list) => list.iter().map(|c| *c as usize).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_of_cores_is_read() {
        assert_eq!(parse_list("0-2,5, 7-8"), [0, 1, 2, 5, 7, 8]);
        assert!(!allowed().is_empty());
    }
}
