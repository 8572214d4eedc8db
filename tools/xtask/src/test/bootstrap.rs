//! The fixture `tools/fixtures/bootstrap`: a function on AWS's Rust client, linked statically as `provided` needs it.

use std::path::PathBuf;

use crate::binaries;
use crate::process::{cargo, run, step};
use crate::workspace::Workspace;

/// Its manifest, below the checkout.
pub(crate) const MANIFEST: &str = "tools/fixtures/bootstrap/Cargo.toml";

/// Builds it and returns the program's path. It has a folder of its own in cargo's target folder: other versions of the
/// same crates would otherwise lie among ours.
pub(super) fn build(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    step("building the bootstrap for tests");
    let root = workspace.root();
    let built = workspace.target().join("fixtures");
    let (target, flags) = binaries::static_target(&root)?;
    let flags = format!("target.{target}.rustflags={}", serde_json::to_string(&flags)?);
    let mut build = cargo(&root);
    build.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    build.args(["build", "--quiet", "--release", "--locked", "--manifest-path", MANIFEST]);
    build.args(["--target", target, "--config", &flags, "--target-dir"]).arg(&built);
    run(&mut build)?;
    Ok(built.join(target).join("release/bootstrap"))
}
