//! What a fresh machine needs before anything of ours runs on it. Every part is kept: a second
//! set-up takes seconds.

use calve_lab::BootFiles;

use crate::process::{command, run, step};
use crate::workspace::Workspace;
use crate::{binaries, packages};

/// What tests look at workers with, and sign with.
const TESTS: [&str; 2] = ["strace", "openssl"];

/// Sets everything up.
pub(crate) fn run_all(workspace: &Workspace) -> anyhow::Result<()> {
    host(workspace)?;
    images(workspace)
}

/// Packages and binaries.
pub(crate) fn host(workspace: &Workspace) -> anyhow::Result<()> {
    let wanted = [&calve_lab::PACKAGES[..], calve_image::HOST_PACKAGES, &TESTS].concat();
    packages::install(&wanted)?;
    binaries::build(workspace)
}

/// The lab's boot files, the guest kernel and the root images.
fn images(workspace: &Workspace) -> anyhow::Result<()> {
    lab_files(workspace)?;
    step("building the guest kernel and the root images, where they are not cached");
    let calve = workspace.release().join("calve");
    run(command(calve, &workspace.root()).args(["image", "build"]))
}

/// The lab's boot files.
pub(crate) fn lab_files(workspace: &Workspace) -> anyhow::Result<()> {
    if BootFiles::cached(&calve_lab::cache_dir()).is_some() {
        return Ok(());
    }
    packages::install(&calve_lab::PACKAGES)?;
    packages::refresh_lists()?;
    let lab = workspace.release().join("calve-lab");
    run(command(lab, &workspace.root()).arg("prepare"))
}
