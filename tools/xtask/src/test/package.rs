//! The Debian package, for the one test that looks into it: of the release build that is there already.

use crate::workspace::Workspace;
use crate::{deb, packages};

/// The test's target.
const TARGET: &str = "net_package";
/// What looks at units.
const PACKAGES: [&str; 1] = ["systemd"];

/// Builds it, and installs what a test target needs to look at it.
pub(super) fn ensure_for(target: &str, workspace: &Workspace) -> anyhow::Result<()> {
    if target != TARGET {
        return Ok(());
    }
    packages::install(&PACKAGES)?;
    deb::build(workspace)?;
    Ok(())
}
