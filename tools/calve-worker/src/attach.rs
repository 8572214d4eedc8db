//! From descriptors to what a machine's devices are connected to.

use std::sync::Arc;

use calve_fleet::control::{Attach, ControlError, DiskSpec, Files, Socket};
use calve_vmm::{Attachments, Disk, VsockHost};

use crate::keyboard::Keyboard;
use crate::ports::Ports;

/// What the devices get, and what the main loop keeps.
pub(crate) struct Attached {
    pub(crate) attachments: Attachments,
    pub(crate) keyboard: Option<Keyboard>,
}

/// Takes the descriptors in the order of [`Attach`]'s fields; all must be used up.
pub(crate) fn attach(
    attach: Attach,
    mut files: Files,
    socket: &Arc<Socket>,
) -> Result<Attached, ControlError> {
    let disks = attach.disks.into_iter().map(|spec| disk(spec, &mut files));
    let disks = disks.collect::<Result<_, _>>()?;
    let listener = attach.listener.then(|| files.listener()).transpose()?;
    let streams = attach.streams.into_iter().map(|port| Ok((port, files.stream()?)));
    let streams = streams.collect::<Result<_, ControlError>>()?;
    let console = attach.console.then(|| files.file()).transpose()?;
    let keyboard = attach.keyboard.then(|| files.file()).transpose()?;
    files.finish()?;
    let host_ports = Box::new(Ports::new(socket.clone(), attach.host_ports));
    let vsock = VsockHost { cid: attach.cid, listener, streams, host_ports };
    let console = console.map(|file| Box::new(file) as calve_vmm::Console);
    Ok(Attached {
        attachments: Attachments { disks, vsock, console },
        keyboard: keyboard.map(Keyboard::new),
    })
}

fn disk(spec: DiskSpec, files: &mut Files) -> Result<Disk, ControlError> {
    Ok(Disk { file: files.file()?, access: spec.access(), id: spec.id, room: spec.room })
}
