//! A snapshot that was opened and checked once, for any number of clones.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use calve_snapshots::{Manifest, Snapshot, State};
use calve_vmm::memory::regions;
use calve_vmm::{MachineState, Shape, ShapeError};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use thiserror::Error;

use crate::control::DiskSpec;
use crate::error::OpenError;

/// A snapshot ready to be thawed: its files are open, its state was decoded as a machine.
///
/// Everything in it is immutable and shared by all clones, from any number of threads.
#[derive(Debug)]
pub struct Frozen {
    snapshot: Snapshot,
    shape: Shape,
    /// The very bytes that were checked, sealed: what a worker loads is what we have decoded.
    state: File,
}

/// State and manifest of a snapshot are not of one machine.
#[derive(Debug, Error)]
enum Mismatch {
    #[error("its manifest describes a machine that cannot be")]
    Shape(#[from] ShapeError),
    #[error("its state is of {state:?}, its manifest of {manifest:?}")]
    Shapes { state: Shape, manifest: Shape },
    #[error("its memory does not lie where a machine of its size has it")]
    Memory,
}

impl Frozen {
    /// Checks that `snapshot`, whose files the store has verified, is a machine of this build.
    ///
    /// # Errors
    ///
    /// [`OpenError::State`] with what is wrong.
    pub fn new(snapshot: Snapshot) -> Result<Self, OpenError> {
        let name = || snapshot.name().to_owned();
        let damaged = |source| OpenError::State { name: name(), source };
        let state = machine_state(snapshot.state()).map_err(|e| damaged(e.into()))?;
        let shape = check(&state, snapshot.manifest()).map_err(|e| damaged(e.into()))?;
        let state = sealed(&snapshot.state().encode())
            .map_err(|source| OpenError::Memory { name: name(), source })?;
        Ok(Self { snapshot, shape, state })
    }

    /// Shape of its machine: what to [prepare](crate::Fleet::prepare) shells for.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The function's deadline where a call brings none.
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.snapshot.manifest().function.timeout_ms)
    }

    /// State and memory, in the order of a `Thaw` command.
    pub(crate) fn content(&self) -> [BorrowedFd<'_>; 2] {
        [self.state.as_fd(), self.snapshot.memory().as_fd()]
    }

    /// The root image and the code.
    pub(crate) fn disks(&self) -> impl Iterator<Item = (DiskSpec, BorrowedFd<'_>)> {
        let disk = |id: &str| DiskSpec { writable: false, id: id.into() };
        let root = (disk("root"), self.snapshot.root().as_fd());
        [root].into_iter().chain(self.snapshot.code().map(|code| (disk("code"), code.as_fd())))
    }
}

/// Decodes the sections of a state file as a machine.
pub(crate) fn machine_state(state: &State) -> Result<MachineState, calve_vmm::StateError> {
    let sections: Vec<_> = state
        .sections()
        .iter()
        .map(|s| calve_vmm::Section {
            name: s.name.clone(),
            version: s.version,
            bytes: s.bytes.clone(),
        })
        .collect();
    MachineState::try_from(&sections[..])
}

fn check(state: &MachineState, manifest: &Manifest) -> Result<Shape, Mismatch> {
    let machine = &manifest.machine;
    let disks = if manifest.images.code.is_some() { 2 } else { 1 };
    let shape = Shape::new(machine.memory_mib, machine.vcpus, disks)?;
    if state.shape() != shape {
        return Err(Mismatch::Shapes { state: state.shape(), manifest: shape });
    }
    let expected = regions(&shape).into_iter().map(|r| (r.gpa, r.size, r.file_offset));
    let found = machine.memory.regions().iter().map(|r| (r.gpa, r.size, r.file_offset));
    if expected.eq(found) { Ok(shape) } else { Err(Mismatch::Memory) }
}

/// Bytes in a file that nobody can change any more.
fn sealed(bytes: &[u8]) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let mut file = File::from(memfd_create("calve-state", flags)?);
    file.write_all(bytes)?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;

    #[test]
    fn a_sealed_file_keeps_its_bytes() {
        let mut file = sealed(b"state").unwrap();
        file.rewind().unwrap();
        assert!(file.write_all(b"other").is_err());
        assert!(file.set_len(0).is_err());
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "state");
    }
}
