//! What fuzz targets need of the parts that read a worker's files.

use std::fs::File;
use std::os::fd::OwnedFd;

use calve_vmm::Shape;
use calve_vmm::memory::Stretch;

use crate::layers::Layers;
use crate::saved::{Cause, Saved};

/// What a machine of this shape, thawed from `below`, says that it has written.
///
/// # Errors
///
/// For everything that a sound worker would not send.
pub fn written(fds: Vec<OwnedFd>, shape: Shape, below: File) -> Result<Vec<Stretch>, Cause> {
    let saved = Saved::new(fds)?;
    // Whether or not it is a state: no machine is made of this one.
    let _ = saved.state(shape);
    let (runs, _) = saved.written(shape, &Layers::whole(below)?)?;
    Ok(runs)
}
