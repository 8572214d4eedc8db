//! Guest memory at one moment, for others to go on from while its machine goes on, too.
//!
//! | machine | what is done while it stands still |
//! | --- | --- |
//! | booted, its memory in a memfd | its own mapping becomes private: the memfd stays as it is, and from now on the machine is one more clone of it. Nothing is copied |
//! | a clone, whose written pages are its own | the process is forked: the kernel write-protects the pages for both. The child, which still has them as they were, copies them into a memfd while the machine runs on |
//!
//! So a machine stands still for as long as it takes to change page tables, not to copy memory. The child is
//! this process in all but its memory; it does nothing but write, and ends.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::private::PageTables;
use super::stretches::stretches;
use super::{MAX_MAPPED, MemoryError, PAGE, Ram, Stretch, create};

/// Holes of a booted machine's memory from this many bytes on are no longer mapped.
const LEAST_HOLE: u64 = 1 << 20;

/// Bytes of a page, as lengths are counted.
const PAGE_LEN: usize = 4096;
const _: () = assert!(PAGE_LEN as u64 == PAGE);

/// The memory of a machine at one moment.
#[derive(Debug)]
pub enum Branch {
    /// All of it: nobody writes to this file any more.
    Whole(File),
    /// What the machine has written since it was thawed or last branched whole; it is on its way.
    Written(Copying),
}

/// Written pages by their place in memory.
#[derive(Debug)]
pub struct Written {
    /// As long as memory. What is not in `runs` has no meaning; pages of zeros are holes.
    pub file: File,
    /// Where pages were written, ascending and apart.
    pub runs: Vec<Stretch>,
}

/// Written pages that are being copied. Dropping it waits for the end.
#[derive(Debug)]
pub struct Copying {
    written: Option<Written>,
    child: Pid,
}

/// A run for the child to copy.
struct Run {
    address: usize,
    len: usize,
    offset: u64,
}

impl Ram {
    /// Keeps memory as it is now for others. Nobody may run on it meanwhile.
    pub(crate) fn branch(&mut self, tables: &PageTables) -> Result<Branch, MemoryError> {
        match self.memfd.take() {
            Some(file) => {
                self.become_clone_of(&file)?;
                Ok(Branch::Whole(file))
            }
            None => self.copy_written(tables).map(Branch::Written),
        }
    }

    fn become_clone_of(&self, file: &File) -> Result<(), MemoryError> {
        let all = Stretch { offset: 0, len: self.total() };
        // Holes as zeros of our own, for which no page of the file is made when they are written.
        self.clear(all)?;
        let held = stretches(file, LEAST_HOLE, MAX_MAPPED).map_err(MemoryError::Map)?;
        for stretch in held {
            self.place(file, stretch, libc::MAP_PRIVATE | libc::MAP_NORESERVE)?;
        }
        Ok(())
    }

    fn copy_written(&self, tables: &PageTables) -> Result<Copying, MemoryError> {
        if self.cut {
            let why = "the machine runs for a record of what it touches";
            return Err(MemoryError::Branch(io::Error::other(why)));
        }
        let file = create(self.total())?;
        let mut copies = Vec::new();
        for (region, host) in self.slots() {
            let size = usize::try_from(region.size).map_err(MemoryError::too_large)?;
            let all = host..host + size;
            // One that cannot be asked for is taken for written everywhere.
            let private = tables.private(all.clone()).unwrap_or_else(|_| vec![all]);
            copies.extend(private.into_iter().map(|run| Run {
                address: run.start,
                len: run.len(),
                offset: region.file_offset + (run.start - host) as u64,
            }));
        }
        let runs = copies.iter().map(|run| Stretch { offset: run.offset, len: run.len as u64 });
        let written = Some(Written { file, runs: runs.collect() });
        let fd = written.as_ref().map_or(-1, |written| written.file.as_raw_fd());
        // SAFETY: a plain fork(2) without fork(3)'s handlers. The child has one thread, a copy of this one,
        // in a copy of memory in which others may have held locks: it must not allocate, lock, or
        // panic, and it does not: `copy` makes system calls on numbers, and ends the process.
        let child = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) };
        if child == 0 {
            copy(fd, &copies);
        }
        let child = libc::pid_t::try_from(child).ok().filter(|pid| *pid > 0);
        let child = child.ok_or_else(|| MemoryError::Branch(io::Error::last_os_error()))?;
        Ok(Copying { written, child: Pid::from_raw(child) })
    }
}

impl Copying {
    /// Waits until everything is copied.
    ///
    /// # Errors
    ///
    /// When the copy could not be made, as for want of memory.
    pub fn wait(mut self) -> Result<Written, MemoryError> {
        let incomplete = |why: &str| MemoryError::Branch(io::Error::other(why.to_owned()));
        let written = self.written.take().ok_or_else(|| incomplete("it was waited for"))?;
        match self.reap() {
            Ok(WaitStatus::Exited(_, 0)) => Ok(written),
            // The only reason that the child has to give.
            Ok(WaitStatus::Exited(_, errno)) => {
                Err(MemoryError::Branch(io::Error::from_raw_os_error(errno)))
            }
            Ok(_) => Err(incomplete("the process that copies it was killed")),
            Err(errno) => Err(MemoryError::Branch(errno.into())),
        }
    }

    fn reap(&self) -> nix::Result<WaitStatus> {
        loop {
            match waitpid(self.child, None) {
                Err(Errno::EINTR) => {}
                done => return done,
            }
        }
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        if self.written.is_some() {
            // It ends by itself, soon; nobody wants what it has to say.
            let _ = self.reap();
        }
    }
}

/// Writes the pages of `runs` that are not all zero to their places in a file, and ends the process: with
/// status 0, or the number of an error.
fn copy(fd: libc::c_int, runs: &[Run]) -> ! {
    leave_all_but(fd);
    let mut status = 0;
    for run in runs {
        if let Err(errno) = copy_run(fd, run) {
            status = errno as libc::c_int;
            break;
        }
    }
    // SAFETY: ends this process, at once and without any clean-up.
    unsafe { libc::_exit(status) }
}

/// Ends with this process's parent, and lets go of all descriptors but one: of a machine's streams, which would not
/// end while a copy is held, and of the machine itself.
fn leave_all_but(fd: libc::c_int) {
    let before = u32::try_from(fd - 1).unwrap_or(0);
    let after = u32::try_from(fd + 1).unwrap_or(u32::MAX);
    // SAFETY: a system call on numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    for (first, last) in [(0, before), (after, u32::MAX)] {
        // SAFETY: nothing in this process uses a descriptor but `fd` any more.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0_u32) };
    }
}

fn copy_run(fd: libc::c_int, run: &Run) -> Result<(), Errno> {
    let page = PAGE_LEN;
    let is_zero = |at: usize| (0..page / 8).all(|word| word_at(run.address + at + word * 8) == 0);
    let mut from = 0;
    while from < run.len {
        if is_zero(from) {
            from += page;
            continue;
        }
        let mut to = from + page;
        while to < run.len && !is_zero(to) {
            to += page;
        }
        write_at(fd, run.address + from, to - from, run.offset + from as u64)?;
        from = to;
    }
    Ok(())
}

fn word_at(address: usize) -> u64 {
    // SAFETY: aligned, and within a run, which lies in guest memory; in this process nobody writes to it.
    unsafe { (address as *const u64).read_volatile() }
}

fn write_at(fd: libc::c_int, mut from: usize, mut len: usize, mut at: u64) -> Result<(), Errno> {
    while len > 0 {
        let offset = libc::off_t::try_from(at).map_err(|_| Errno::EOVERFLOW)?;
        // SAFETY: the range is a part of a run, mapped and readable.
        let done = unsafe { libc::pwrite(fd, from as *const libc::c_void, len, offset) };
        match usize::try_from(done) {
            Ok(0) => return Err(Errno::EIO),
            Ok(done) => {
                from += done;
                at += done as u64;
                len -= done;
            }
            Err(_) => match Errno::last() {
                Errno::EINTR => {}
                errno => return Err(errno),
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use vm_memory::{Bytes, GuestAddress};

    use super::super::{MemoryPlan, regions};
    use super::*;
    use crate::layout::HOLE_END;
    use crate::shape::Shape;

    const MIB: u64 = 1 << 20;

    fn ram(mib: u32) -> Ram {
        Ram::reserve(&Shape::new(mib, 1, 0).unwrap()).unwrap()
    }

    fn put(ram: &Ram, page: u64, byte: u8) {
        ram.guest().write_slice(&[byte; 4096], GuestAddress(page * PAGE)).unwrap();
    }

    fn byte(ram: &Ram, page: u64) -> u8 {
        ram.guest().read_obj(GuestAddress(page * PAGE)).unwrap()
    }

    fn byte_of(file: &File, page: u64) -> u8 {
        let mut found = [0];
        file.read_exact_at(&mut found, page * PAGE).unwrap();
        found[0]
    }

    #[test]
    fn a_booted_machine_leaves_its_memfd_behind_and_goes_on() {
        let mut ram = ram(8);
        ram.fill().unwrap();
        put(&ram, 1, 7);
        put(&ram, 1500, 8);
        let Branch::Whole(file) = ram.branch(&PageTables::open()).unwrap() else {
            panic!("not whole")
        };
        assert!(ram.memfd().is_none());
        assert_eq!([byte(&ram, 1), byte(&ram, 1500), byte(&ram, 800)], [7, 8, 0]);
        put(&ram, 1, 1);
        put(&ram, 800, 2);
        assert_eq!([byte_of(&file, 1), byte_of(&file, 1500), byte_of(&file, 800)], [7, 8, 0]);
        // And again, now as a clone of that file.
        let Branch::Written(copying) = ram.branch(&PageTables::open()).unwrap() else {
            panic!("not written")
        };
        let written = copying.wait().unwrap();
        assert_eq!([byte_of(&written.file, 1), byte_of(&written.file, 800)], [1, 2]);
    }

    #[test]
    fn what_a_clone_has_written_is_copied_as_it_was() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(3080 * MIB).unwrap();
        file.write_all_at(&[5; 4096 * 8], 0).unwrap();
        let mut ram = ram(3080);
        let plan = MemoryPlan::whole(3080 * MIB);
        ram.map(std::slice::from_ref(&file), &plan).unwrap();
        put(&ram, 1, 6);
        put(&ram, 2, 0);
        let above = GuestAddress(HOLE_END + 3 * PAGE);
        ram.guest().write_slice(&[9; 4096], above).unwrap();
        let Branch::Written(copying) = ram.branch(&PageTables::open()).unwrap() else {
            panic!("not written")
        };
        // While it is being copied, the machine goes on.
        put(&ram, 1, 66);
        put(&ram, 3, 33);
        ram.guest().write_slice(&[99; 4096], above).unwrap();
        let Written { file: copy, runs } = copying.wait().unwrap();
        let offset = regions(&Shape::new(3080, 1, 0).unwrap())[1].file_offset + 3 * PAGE;
        assert_eq!(
            [byte_of(&copy, 1), byte_of(&copy, 2), byte_of(&copy, offset / PAGE)],
            [6, 0, 9]
        );
        let holds = |page: u64| runs.iter().any(|r| (r.offset..r.end()).contains(&(page * PAGE)));
        assert!(holds(1) && holds(2) && holds(offset / PAGE));
        // Where the kernel tells, that is all.
        if PageTables::open().private(0..1).is_ok() {
            let pages: Vec<_> = runs.iter().map(|r| (r.offset / PAGE, r.len / PAGE)).collect();
            assert_eq!(pages, [(1, 2), (offset / PAGE, 1)]);
        }
    }

    #[test]
    fn a_kernel_that_cannot_tell_has_everything_copied() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(2 * MIB).unwrap();
        file.write_all_at(&[5; 4096], 0).unwrap();
        let mut ram = ram(2);
        ram.map(std::slice::from_ref(&file), &MemoryPlan::whole(2 * MIB)).unwrap();
        put(&ram, 9, 9);
        let Branch::Written(copying) = ram.branch(&PageTables::closed()).unwrap() else {
            panic!("not written")
        };
        let written = copying.wait().unwrap();
        assert_eq!(written.runs, [Stretch { offset: 0, len: 2 * MIB }]);
        assert_eq!([0, 1, 9].map(|page| byte_of(&written.file, page)), [5, 0, 9]);
    }
}
