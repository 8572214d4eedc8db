//! The browser that the console is looked at with: installed for the one test that needs it.

use crate::packages;

/// The test's target.
const TARGET: &str = "net_console";
/// Chromium, and what drives it by the W3C's WebDriver protocol; in one version, as Debian has them.
const PACKAGES: [&str; 2] = ["chromium", "chromium-driver"];

/// Installs what a test target needs of these.
pub(super) fn ensure_for(target: &str) -> anyhow::Result<()> {
    if target == TARGET { packages::install(&PACKAGES) } else { Ok(()) }
}
