//! Private memory of a process.
//!
//! What counts is memory that exists for this process alone: what it has written. Not `Private_*`,
//! which also counts pages of files that happen to be mapped by one process only: with one clone
//! alive, every page of the snapshot that it has read.

/// Fields of `/proc/PID/smaps_rollup` that add up to a process's own memory (Linux
/// `Documentation/filesystems/proc.rst`): pages that belong to no file, written copies of a file's
/// pages among them; those of them in swap; huge pages.
const OWN: [&str; 3] = ["Anonymous", "Swap", "Private_Hugetlb"];

/// Memory of the process that no other can share, KiB. `None` where it cannot be read.
pub(super) fn private_kib(pid: u32) -> Option<u64> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?)
}

fn parse(rollup: &str) -> Option<u64> {
    let mut sum = None;
    for line in rollup.lines() {
        let Some((field, value)) = line.split_once(':') else { continue };
        if OWN.contains(&field) {
            let kib: u64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
            sum = Some(sum.unwrap_or(0_u64).checked_add(kib)?);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_process_s_own_counts() {
        let rollup = "55e0-7ffe ---p 00000000 00:00 0   [rollup]\nRss:   5000 kB\n\
                      Private_Clean:       12 kB\nPrivate_Dirty:      900 kB\n\
                      Anonymous:          300 kB\nPrivate_Hugetlb: 0 kB\nSwap:  8 kB\n";
        assert_eq!(parse(rollup), Some(308));
        assert_eq!(parse("Rss: 1 kB\n"), None);
        assert_eq!(parse("Anonymous: many kB\n"), None);
    }

    #[test]
    fn this_process_has_private_memory() {
        assert!(private_kib(std::process::id()).is_some_and(|kib| kib > 0));
        assert_eq!(private_kib(u32::MAX), None);
    }
}
