//! Fills a base tree: packages unpacked, pruned and finished.
//!
//! Packages are only unpacked. What their maintainer scripts would have done and the guest needs (the bundle of
//! certificates, the library cache, compiled Python modules, /bin/sh) is done here, in a way that depends on the
//! packages alone.

use super::{RootError, etc, prune, python};
use crate::apt::Deb;
use crate::command::{self, CommandError};
use crate::fsutil::{FileError, create_dir, in_file, remove};
use crate::progress::Progress;
use crate::runtime::Runtime;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

/// A tree being filled.
pub(super) struct Filler<'a> {
    pub(super) tree: &'a Path,
    pub(super) runtime: Runtime,
    pub(super) progress: &'a mut dyn Progress,
}

impl Filler<'_> {
    /// Makes the tree the finished userland of `debs`.
    pub(super) fn fill(&mut self, debs: &[Deb]) -> Result<(), RootError> {
        merged_usr(self.tree)?;
        let (count, runtime) = (debs.len(), self.runtime);
        self.progress.stage(&format!("Unpacking {count} packages for {runtime}"));
        for (done, deb) in (0..).zip(debs) {
            self.progress.advance(done, count as u64);
            self.unpack(deb)?;
            self.describe(deb)?;
        }
        self.progress.stage(&format!("Finishing the {runtime} root"));
        prune::prune(self.tree)?;
        etc::write(self.tree)?;
        etc::certificates(self.tree)?;
        self.shell()?;
        if runtime == Runtime::Python311 {
            self.run(&mut python::compiler(self.tree))?;
        }
        self.library_cache()
    }

    fn unpack(&mut self, deb: &Deb) -> Result<(), RootError> {
        let mut read = Command::new("dpkg-deb");
        read.arg("--fsys-tarfile").arg(&deb.path);
        let mut write = Command::new("tar");
        write.args(["--extract", "--keep-directory-symlink"]);
        write.args(["--same-permissions", "--no-same-owner"]);
        write.arg("--directory").arg(self.tree);
        let piped = command::pipe(&mut read, &mut write, self.progress);
        piped.map_err(self.failed())
    }

    /// Leaves a package's description where scanners of images without dpkg look for it.
    fn describe(&mut self, deb: &Deb) -> Result<(), RootError> {
        let fields = self.output(Command::new("dpkg-deb").arg("--field").arg(&deb.path))?;
        let dir = self.tree.join("var/lib/dpkg/status.d");
        let path = dir.join(&deb.package.name);
        create_dir(&dir)?;
        Ok(fs::write(&path, fields.join("\n") + "\n").map_err(in_file("write", &path))?)
    }

    /// Links the applets of busybox, /bin/sh among them, to where no package has put a program.
    fn shell(&mut self) -> Result<(), RootError> {
        let busybox = self.tree.join("usr/bin/busybox");
        let applets = self.output(Command::new(busybox).arg("--list-full"))?;
        for applet in applets.iter().map(Path::new) {
            let link = self.tree.join(applet);
            // `linuxrc` is for initial RAM disks and lies in the root folder.
            let wanted = applet.is_relative() && applet.components().count() > 1;
            if wanted && fs::symlink_metadata(&link).is_err() {
                create_dir(link.parent().unwrap_or(self.tree))?;
                symlink("/usr/bin/busybox", &link).map_err(in_file("create", &link))?;
            }
        }
        Ok(())
    }

    /// Writes /etc/ld.so.cache with the root's own ldconfig, which is a static program.
    fn library_cache(&mut self) -> Result<(), RootError> {
        let ldconfig = self.tree.join("usr/sbin/ldconfig");
        // `-r` changes the root folder: a user who is not root may do so in a user namespace.
        let mut command = if nix::unistd::geteuid().is_root() {
            Command::new(ldconfig)
        } else {
            let mut unshare = Command::new("unshare");
            unshare.arg("--map-root-user").arg(ldconfig);
            unshare
        };
        self.run(command.arg("-X").arg("-r").arg(self.tree))?;
        // Holds inode numbers and times.
        Ok(remove(&self.tree.join("var/cache/ldconfig"))?)
    }

    fn run(&mut self, command: &mut Command) -> Result<(), RootError> {
        command::quietly(command, self.progress).map_err(self.failed())
    }

    fn output(&mut self, command: &mut Command) -> Result<Vec<String>, RootError> {
        command::output(command, self.progress).map_err(self.failed())
    }

    fn failed(&self) -> impl FnOnce(CommandError) -> RootError + use<> {
        let runtime = self.runtime;
        move |source| RootError::Build { runtime, source }
    }
}

/// /bin, /sbin, /lib and /lib64 are symlinks into /usr, whichever path a package names.
fn merged_usr(tree: &Path) -> Result<(), FileError> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        create_dir(&tree.join("usr").join(name))?;
        let link = tree.join(name);
        symlink(Path::new("usr").join(name), &link).map_err(in_file("create", &link))?;
    }
    Ok(())
}
