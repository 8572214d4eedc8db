//! Did the kernel kill the runtime for memory?
//!
//! A machine runs one function, so the machine's memory is the function's: no memory cgroup is needed (its accounting
//! would cost every page fault), and the kernel never picks PID 1 as its victim (`mm/oom_kill.c`,
//! `oom_unkillable_task`). What it does is in its log, of which the agent keeps a reader from the runtime's start.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc::O_NONBLOCK;
use nix::unistd::Pid;

/// Longest record of /dev/kmsg (`CONSOLE_EXT_LOG_MAX`, `kernel/printk/internal.h`); a shorter buffer is refused.
const MAX_RECORD: usize = 8 << 10;

/// The kernel's log from some moment on.
#[derive(Debug)]
pub(crate) struct KernelLog {
    /// `None` where the kernel does not let us read: then a memory kill is reported as what it looks like, SIGKILL.
    records: Option<File>,
}

impl KernelLog {
    /// The log from now on.
    pub(crate) fn from_now() -> Self {
        let open = || {
            let mut file = File::options().read(true).custom_flags(O_NONBLOCK).open("/dev/kmsg")?;
            file.seek(SeekFrom::End(0))?;
            io::Result::Ok(file)
        };
        Self { records: open().ok() }
    }

    /// Whether the kernel has killed the process `pid` for memory since.
    pub(crate) fn has_killed(&mut self, pid: Pid) -> bool {
        let Some(records) = &mut self.records else { return false };
        let mut record = [0; MAX_RECORD];
        loop {
            // One record a read.
            match records.read(&mut record) {
                Ok(0) => return false,
                Ok(n) if is_kill(&String::from_utf8_lossy(&record[..n]), pid) => return true,
                Ok(_) => {}
                // EPIPE: records were overwritten before we read them; the next read goes on behind them.
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::BrokenPipe | io::ErrorKind::Interrupted
                    ) => {}
                Err(_) => return false,
            }
        }
    }
}

/// `3,345,24003191,-;Out of memory: Killed process 31 (python3.11) total-vm:…`, or the same of a memory cgroup.
fn is_kill(record: &str, pid: Pid) -> bool {
    let text = record.split_once(';').map_or("", |(_, text)| text);
    let victim = text.split_once("ut of memory: Killed process ").map(|(_, rest)| rest);
    let number = victim.and_then(|rest| rest.split(' ').next());
    number.and_then(|number| number.parse().ok()) == Some(pid.as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_victim_is_told_by_its_number() {
        let record =
            "3,345,24003191,-;Out of memory: Killed process 31 (python3.11) total-vm:158576kB";
        assert!(is_kill(record, Pid::from_raw(31)));
        assert!(!is_kill(record, Pid::from_raw(3)));
        let record = "3,9,9,-;Memory cgroup out of memory: Killed process 7 (node) total-vm:1kB";
        assert!(is_kill(record, Pid::from_raw(7)));
        for other in
            ["", ";", "6,1,1,-;Killed process 31 (x)", "Out of memory: Killed process 31 (x)"]
        {
            assert!(!is_kill(other, Pid::from_raw(31)), "{other}");
        }
    }
}
