//! A machine as its worker gives it back: its state, and its memory or what of it was written. Nothing in it
//! is to be trusted.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use calve_snapshots::State;
use calve_snapshots::state::MAX_STATE_LEN;
use calve_vmm::memory::Stretch;
use calve_vmm::{MachineState, Shape};

use crate::frozen::machine_state;
use crate::layers::{Layers, is_of_one_length, read_only};

const PAGE: u64 = 4096;

pub(crate) type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What came from a worker.
#[derive(Debug)]
pub(crate) struct Saved {
    state: File,
    memory: File,
    /// Which pages of memory were written; all of it counts where there is none.
    runs: Option<File>,
}

impl Saved {
    /// A worker can pass descriptors of anything: only regular files are read.
    pub(crate) fn new(fds: Vec<OwnedFd>) -> Result<Self, Cause> {
        let mut files = fds.into_iter().map(|fd| {
            let file = File::from(fd);
            if file.metadata()?.is_file() {
                Ok(file)
            } else {
                Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"))
            }
        });
        let (Some(state), Some(memory)) = (files.next(), files.next()) else {
            return Err("files are missing".into());
        };
        let runs = files.next().transpose()?;
        Ok(Self { state: state?, memory: memory?, runs })
    }

    /// The state, which must be of `shape`.
    pub(crate) fn state(&self, shape: Shape) -> Result<(State, MachineState), Cause> {
        let length = self.state.metadata()?.len();
        let length = usize::try_from(length).ok().filter(|n| *n <= MAX_STATE_LEN);
        let mut bytes = vec![0; length.ok_or("its state is over the limit")?];
        self.state.read_exact_at(&mut bytes, 0)?;
        let state = State::try_from(&bytes[..])?;
        let machine = machine_state(&state)?;
        if machine.shape() != shape {
            return Err("its state is of another shape".into());
        }
        Ok((state, machine))
    }

    /// What a machine of `shape` has written over `below`: where it is not the same, and all of its memory.
    pub(crate) fn written(
        self,
        shape: Shape,
        below: &Layers,
    ) -> Result<(Vec<Stretch>, Layers), Cause> {
        let (file, runs) = self.checked(shape)?;
        let runs = read_runs(&runs.ok_or("it is no clone")?, shape.memory_bytes())?;
        let runs = below.differing(&file, &runs)?;
        let runs = below.bridge(&file, runs)?;
        let layers = below.over(read_only(&file)?, &runs)?;
        Ok((runs, layers))
    }

    /// The memory of a machine of `shape` that had `below` when it was thawed or last forked.
    pub(crate) fn memory(self, shape: Shape, below: Option<&Layers>) -> Result<Layers, Cause> {
        let (memory, runs) = self.checked(shape)?;
        match (runs, below) {
            (None, _) => Ok(Layers::whole(read_only(&memory)?)?),
            (Some(_), None) => Err("it has written to memory that it does not have".into()),
            (Some(runs), Some(below)) => {
                let runs = read_runs(&runs, shape.memory_bytes())?;
                let runs = below.bridge(&memory, runs)?;
                Ok(below.over(read_only(&memory)?, &runs)?)
            }
        }
    }

    fn checked(self, shape: Shape) -> Result<(File, Option<File>), Cause> {
        if self.memory.metadata()?.len() != shape.memory_bytes() {
            return Err("its memory is of another size".into());
        }
        // Clones would fault on what is cut off under them.
        if !is_of_one_length(&self.memory) {
            return Err("its memory can still change its length".into());
        }
        Ok((self.memory, self.runs))
    }
}

/// Reads which pages were written: pages of a memory of so many bytes, ascending and apart. Each run is looked at
/// as it is read, so what is kept is bounded by how many there can be.
fn read_runs(file: &File, memory: u64) -> Result<Vec<Stretch>, Cause> {
    /// Bytes of the longest encoding of a run, and of their number.
    const LONGEST: u64 = 20;
    let pages = memory / PAGE;
    let length = file.metadata()?.len();
    if length > (pages / 2 + 2).saturating_mul(LONGEST) {
        return Err("it has written more runs of pages than there are".into());
    }
    let mut bytes = vec![0; usize::try_from(length)?];
    file.read_exact_at(&mut bytes, 0)?;
    let (count, mut rest) = postcard::take_from_bytes::<u64>(&bytes)?;
    let (mut runs, mut from) = (Vec::new(), 0);
    for _ in 0..count {
        let (run, after) = postcard::take_from_bytes::<Stretch>(rest)?;
        rest = after;
        let whole = run.offset % PAGE == 0 && run.len % PAGE == 0 && run.len > 0;
        let end = run.offset.checked_add(run.len).filter(|end| *end <= memory);
        match end {
            Some(end) if whole && run.offset >= from => from = end,
            _ => return Err("the runs of pages that it has written are no such".into()),
        }
        runs.push(run);
    }
    if rest.is_empty() { Ok(runs) } else { Err("more than runs of pages".into()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::layers::anonymous;

    const MIB: u64 = 1 << 20;

    fn runs_file(runs: &[(u64, u64)]) -> File {
        let run = |&(offset, len)| Stretch { offset: offset * PAGE, len: len * PAGE };
        let runs: Vec<_> = runs.iter().map(run).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&postcard::to_stdvec(&runs).unwrap()).unwrap();
        file
    }

    #[test]
    fn runs_that_cannot_be_are_refused() {
        assert_eq!(read_runs(&runs_file(&[(0, 1), (1, 2), (9, 1)]), MIB).unwrap().len(), 3);
        for bad in
            [&[(0, 0)][..], &[(5, 1), (4, 1)], &[(0, 2), (1, 1)], &[(0, 257)], &[(1 << 40, 1)]]
        {
            assert!(read_runs(&runs_file(bad), MIB).is_err(), "{bad:?}");
        }
        let mut noise = tempfile::tempfile().unwrap();
        noise.write_all(&[0xff; 100]).unwrap();
        assert!(read_runs(&noise, MIB).is_err());
        let mut longer = runs_file(&[(0, 1)]);
        longer.write_all(&[0]).unwrap();
        assert!(read_runs(&longer, MIB).is_err(), "bytes are left over");
        noise.set_len(1 << 40).unwrap();
        assert!(read_runs(&noise, MIB).is_err(), "a file of a terabyte is not read");
    }

    #[test]
    fn memory_that_cannot_be_is_refused() {
        let shape = Shape::new(2, 1, 0).unwrap();
        let below = Layers::whole(anonymous("below", 2 * MIB).unwrap()).unwrap();
        let saved = |memory, runs| Saved { state: tempfile::tempfile().unwrap(), memory, runs };
        let good = || anonymous("memory", 2 * MIB).unwrap();
        let loose = tempfile::tempfile().unwrap();
        loose.set_len(2 * MIB).unwrap();
        let refused = |saved: Saved, below| saved.memory(shape, below).unwrap_err().to_string();
        assert!(refused(saved(loose, None), None).contains("length"));
        let other = anonymous("memory", MIB).unwrap();
        assert!(refused(saved(other, None), None).contains("size"));
        let runs = Some(runs_file(&[(0, 1)]));
        assert!(refused(saved(good(), runs), None).contains("does not have"));
        assert!(saved(good(), None).memory(shape, None).is_ok());
        let runs = Some(runs_file(&[(0, 1)]));
        assert_eq!(saved(good(), runs).memory(shape, Some(&below)).unwrap().files.len(), 2);
        assert!(Saved::new(Vec::new()).is_err());
        let (end, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let fds = vec![OwnedFd::from(good()), OwnedFd::from(end)];
        assert!(Saved::new(fds).unwrap_err().to_string().contains("regular"));
    }
}
