//! Private memory of a process.

/// Sum of `Private_Clean`, `Private_Dirty` and `Private_Hugetlb` in `/proc/PID/smaps_rollup`, KiB
/// (Linux `Documentation/filesystems/proc.rst`). `None` where it cannot be read.
pub(super) fn private_kib(pid: u32) -> Option<u64> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

fn parse(rollup: &str) -> Option<u64> {
    let mut sum = None;
    for line in rollup.lines().filter(|line| line.starts_with("Private_")) {
        let (_, value) = line.split_once(':')?;
        let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
        sum = Some(sum.unwrap_or(0_u64).checked_add(kib)?);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_lines_are_added_up() {
        let rollup = "55e0-7ffe ---p 00000000 00:00 0   [rollup]\nRss:   5000 kB\n\
                      Private_Clean:       12 kB\nPrivate_Dirty:      300 kB\nPrivate_Hugetlb: 0 kB\n";
        assert_eq!(parse(rollup), Some(312));
        assert_eq!(parse("Rss: 1 kB\n"), None);
        assert_eq!(parse("Private_Dirty: many kB\n"), None);
    }

    #[test]
    fn this_process_has_private_memory() {
        assert!(private_kib(std::process::id()).is_some_and(|kib| kib > 0));
        assert_eq!(private_kib(u32::MAX), None);
    }
}
