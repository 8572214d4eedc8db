//! Did the kernel kill the runtime for memory?
//!
//! A machine runs one function, so the machine's memory is the function's: no memory cgroup is needed (its accounting
//! would cost every page fault), and the kernel never picks PID 1 as its victim (`mm/oom_kill.c`,
//! `oom_unkillable_task`). Each kill counts in `oom_kill` of /proc/vmstat.

/// The number of memory kills so far; 0 where the kernel does not say.
pub(crate) fn kills() -> u64 {
    std::fs::read_to_string("/proc/vmstat").ok().as_deref().and_then(parse).unwrap_or(0)
}

fn parse(vmstat: &str) -> Option<u64> {
    vmstat.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_found_among_its_neighbours() {
        assert_eq!(parse("oom_kills 9\noom_kill 3\npgfault 7\n"), Some(3));
        assert_eq!(parse("pgfault 7\n"), None);
    }
}
