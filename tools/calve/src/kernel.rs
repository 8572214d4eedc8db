//! A first look at a kernel that a user brings, before minutes are spent on everything else.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::failure::{Failure, line};

/// `0x7f "ELF"` (System V ABI, ch. 4): vmlinux.
const ELF: &[u8] = b"\x7fELF";
/// Magic of the setup header, and where it lies (Linux `Documentation/arch/x86/boot.rst`): bzImage.
const SETUP: (&[u8], usize) = (b"HdrS", 0x202);

/// Opens the kernel at `path`, unless it is clearly none.
pub(crate) fn open(path: &Path) -> Result<File, Failure> {
    let file = open_image(path, "kernel")?;
    let mut head = Vec::new();
    let read = (&file).take((SETUP.1 + SETUP.0.len()) as u64).read_to_end(&mut head);
    read.map_err(|e| unreadable(path, "kernel", &e))?;
    if head.starts_with(ELF) || head.get(SETUP.1..) == Some(SETUP.0) {
        return open_image(path, "kernel");
    }
    Err(Failure::usage(format_args!(
        "kernel {} is no kernel: neither an ELF file nor a bzImage; give the vmlinux or bzImage of an x86-64 Linux",
        path.display()
    )))
}

/// Opens a file of the kind `what`. Anything that cannot be read at any offset is refused, before opening it could
/// wait for ever, as it does for a FIFO.
pub(crate) fn open_image(path: &Path, what: &str) -> Result<File, Failure> {
    check(path, what)?;
    File::open(path).map_err(|e| unreadable(path, what, &e))
}

/// As [`open_image`], for reading and writing.
pub(crate) fn open_writable(path: &Path, what: &str) -> Result<File, Failure> {
    check(path, what)?;
    File::options().read(true).write(true).open(path).map_err(|e| unreadable(path, what, &e))
}

fn check(path: &Path, what: &str) -> Result<(), Failure> {
    use std::os::unix::fs::FileTypeExt;
    let kind = std::fs::metadata(path).map_err(|e| unreadable(path, what, &e))?.file_type();
    if kind.is_file() || kind.is_block_device() {
        return Ok(());
    }
    let text = format_args!("{what} {} is no regular file; check the path", path.display());
    Err(Failure::usage(text))
}

fn unreadable(path: &Path, what: &str, error: &io::Error) -> Failure {
    let text =
        format_args!("cannot read {what} {}: {}; check the path", path.display(), line(error));
    Failure::usage(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_kernel_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k");
        let refused = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            open(&path).err().map(|failure| failure.line().to_owned())
        };
        for bad in [&b""[..], b"#!/bin/sh\n", &[0; 4096], b"\x7fEL"] {
            let line = refused(bad).unwrap();
            assert!(line.contains("/k is no kernel"), "{line}");
        }
        assert_eq!(refused(b"\x7fELF..."), None);
        let mut bzimage = vec![0; 4096];
        bzimage[SETUP.1..SETUP.1 + 4].copy_from_slice(SETUP.0);
        assert_eq!(refused(&bzimage), None);
    }

    #[test]
    fn folders_and_missing_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let line = |path: &Path| open(path).unwrap_err().line().to_owned();
        assert!(line(dir.path()).contains("is no regular file"));
        assert!(line(&dir.path().join("none")).contains("No such file"));
    }
}
