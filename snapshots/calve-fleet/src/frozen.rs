//! A snapshot that was opened and checked once, for any number of clones.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use calve_snapshots::{Manifest, Snapshot, State, Workset};
use calve_vmm::memory::regions;
use calve_vmm::{MachineState, Shape, ShapeError};
use thiserror::Error;

use crate::content::{Content, touched};
use crate::error::OpenError;
use crate::layers::Layers;

/// A snapshot ready to be thawed: its files are open, its state was decoded as a machine.
///
/// Everything in it is immutable and shared by all clones, from any number of threads.
#[derive(Debug)]
pub struct Frozen {
    snapshot: Arc<Snapshot>,
    content: Arc<Content>,
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
        let content = content(&snapshot, shape);
        let content = content.map_err(|source| OpenError::Memory { name: name(), source })?;
        Ok(Self { snapshot: Arc::new(snapshot), content: Arc::new(content) })
    }

    /// Shape of its machine: what to [prepare](crate::Fleet::prepare) shells for.
    pub fn shape(&self) -> Shape {
        self.content.shape
    }

    /// The snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The function's deadline where a call brings none.
    pub fn timeout(&self) -> Duration {
        self.content.timeout
    }

    /// The same snapshot with another working set than its own: for clones that are thawed from now on, by whoever has seen
    /// what they [touch](crate::Clone::workset). Nothing is written to a store.
    ///
    /// # Errors
    ///
    /// When there are no descriptors or no memory left.
    pub fn with_workset(&self, workset: &Workset) -> io::Result<Self> {
        let content = Arc::new(self.content.with_workset(workset)?);
        Ok(Self { snapshot: self.snapshot.clone(), content })
    }

    pub(crate) fn content(&self) -> &Arc<Content> {
        &self.content
    }
}

fn content(snapshot: &Snapshot, shape: Shape) -> io::Result<Content> {
    let manifest = snapshot.manifest();
    let disks = [snapshot.root()].into_iter().chain(snapshot.code());
    let disks = disks.map(std::fs::File::try_clone).collect::<io::Result<_>>()?;
    let files = manifest.layers.iter().zip(snapshot.memory());
    let files = files.map(|(layer, file)| Ok((file.try_clone()?, layer.extents.clone())));
    let mut layers = Layers::of(files.collect::<io::Result<Vec<_>>>()?)?;
    layers.plan.touched = touched(snapshot.workset());
    let timeout = Duration::from_millis(manifest.function.timeout_ms);
    Content::new(shape, timeout, snapshot.state(), layers, disks)
}

/// Decodes the sections of a state file as a machine.
///
/// # Errors
///
/// Names the first section that is missing, damaged or of another version.
pub fn machine_state(state: &State) -> Result<MachineState, calve_vmm::StateError> {
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
    let shape = Shape::new(machine.memory_mib, machine.vcpus, machine.disks)?;
    if state.shape() != shape {
        return Err(Mismatch::Shapes { state: state.shape(), manifest: shape });
    }
    let expected = regions(&shape).into_iter().map(|r| (r.gpa, r.size, r.file_offset));
    let found = machine.memory.regions().iter().map(|r| (r.gpa, r.size, r.file_offset));
    if expected.eq(found) { Ok(shape) } else { Err(Mismatch::Memory) }
}
