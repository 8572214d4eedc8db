//! Where things are: what `cargo metadata` says of this workspace.

use std::path::PathBuf;

use anyhow::Context as _;
use cargo_metadata::{Metadata, MetadataCommand};

/// This workspace.
pub(crate) struct Workspace {
    /// All of our packages, without those that they depend on.
    pub(crate) metadata: Metadata,
}

impl Workspace {
    /// The workspace that this program was built from.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
        let metadata = MetadataCommand::new().manifest_path(manifest).no_deps().exec();
        Ok(Self { metadata: metadata.context("cannot read the workspace")? })
    }

    /// The folder of the checkout.
    pub(crate) fn root(&self) -> PathBuf {
        self.metadata.workspace_root.clone().into()
    }

    /// Cargo's target folder.
    pub(crate) fn target(&self) -> PathBuf {
        self.metadata.target_directory.clone().into()
    }

    /// The folder of our release binaries, where each looks for the others.
    pub(crate) fn release(&self) -> PathBuf {
        self.target().join("release")
    }
}
