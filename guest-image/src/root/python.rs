//! Compiles Python's standard library, as the packages' maintainer scripts would.
//!
//! The compiled files are of the unchecked-hash kind (PEP 552): they hold no times, so they are reproducible, and an
//! import opens one file instead of two. The library is read-only in the guest, so there is nothing to check.

use std::path::Path;
use std::process::Command;

/// Folders with modules.
const LIBRARIES: [&str; 2] = ["usr/lib/python3.11", "usr/lib/python3/dist-packages"];

/// The command that compiles every module in the tree, with the tree's own interpreter.
pub(super) fn compiler(tree: &Path) -> Command {
    // Started by the tree's own loader, so that the host's libraries do not matter.
    let mut python = Command::new(tree.join("usr/lib64/ld-linux-x86-64.so.2"));
    python.arg("--library-path").arg(tree.join("usr/lib/x86_64-linux-gnu"));
    python.arg(tree.join("usr/bin/python3.11"));
    // The interpreter's own imports must not leave compiled files of the other kind, with the host's paths in them.
    python.arg("-B");
    // One process: what is shared between constants in a compiled file depends on the order of compilation.
    python.args(["-m", "compileall", "-f", "-q", "-j1", "--invalidation-mode", "unchecked-hash"]);
    // Tracebacks name files by their path in the guest.
    python.arg("-s").arg(tree).args(["-p", "/"]);
    python.args(LIBRARIES.map(|dir| tree.join(dir)));
    // Sets are written in hash order.
    python.env_clear().env("PYTHONHASHSEED", "0").env("PYTHONHOME", tree.join("usr"));
    python.env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8");
    python
}
