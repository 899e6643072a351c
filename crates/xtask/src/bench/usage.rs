//! What a process has used, from `/proc`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// The kernel tells times in hundredths of a second, whatever its own clock (`USER_HZ`, the same on every platform we run on).
const TICK: Duration = Duration::from_millis(10);

/// What a process and its descendants have used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// CPU time, in user and kernel mode, of all threads.
    pub(super) cpu: Duration,
    /// Resident memory now, in KiB; pages that several processes share count for each.
    pub(super) resident_kib: u64,
}

/// Looks at a process and its descendants.
pub(super) fn of(pid: u32) -> Result<Usage> {
    let mut total = Usage::default();
    let mut pids = vec![pid];
    while let Some(pid) = pids.pop() {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}"));
        let stat = read("stat").with_context(|| format!("process {pid} is gone"))?;
        total.cpu += cpu(&stat).with_context(|| format!("/proc/{pid}/stat: {stat}"))?;
        total.resident_kib += resident(&read("status")?).unwrap_or(0);
        for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            pids.extend(
                children
                    .split_whitespace()
                    .filter_map(|pid| pid.parse::<u32>().ok()),
            );
        }
    }
    Ok(total)
}

/// `utime` + `stime` of a `/proc/<pid>/stat` line. The name, in parentheses, may hold anything, spaces and parentheses too.
fn cpu(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    // The first field after the name is the third of proc(5), which counts utime 14 and stime 15.
    let mut times = fields.split_whitespace().skip(11);
    let ticks = times
        .next()?
        .parse::<u32>()
        .ok()?
        .checked_add(times.next()?.parse().ok()?)?;
    Some(TICK * ticks)
}

/// `VmRSS` of a `/proc/<pid>/status` text.
fn resident(status: &str) -> Option<u64> {
    let value = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "12 (a b) c) S 1 12 12 0 -1 4194560 100 0 0 0 250 50 7 7 20 0 3 0 1 2 3";
        assert_eq!(cpu(stat), Some(Duration::from_secs(3)));
        assert_eq!(cpu("12 (x) S 1 2"), None);
    }

    #[test]
    fn resident_memory_is_read_in_kib() {
        assert_eq!(
            resident("Name:\tx\nVmRSS:\t    1234 kB\nThreads:\t1\n"),
            Some(1234)
        );
        assert_eq!(resident("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(of(std::process::id()).unwrap().resident_kib > 0);
        assert!(of(u32::MAX).is_err());
    }
}
