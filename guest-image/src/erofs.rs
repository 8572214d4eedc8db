//! Packs a folder into an EROFS image whose bytes depend on nothing but names, contents, modes and links.

use crate::command::{self, CommandError};
use crate::progress::Progress;
use std::path::Path;
use std::process::Command;

/// File system UUID of images: a random one would make equal trees differ.
pub(crate) const UUID: [u8; 16] = *b"calve\0\x40\0\x80\0erofs\0";

/// Time stamp of every file: 1980-01-01, the earliest a zip archive can hold. Python's `zipfile` refuses 1970.
const TIMESTAMP: &str = "315532800";

/// Bumped whenever the flags below change what comes out; part of the keys of images.
pub(crate) const FORMAT: &str = "erofs 1: plain, no xattrs, compact inodes, 1980";

/// Writes the image of `tree` to `out`, with a UUID that says what kind of image it is. Owners become root; extended attributes, access lists and times are left out.
///
/// mkfs.erofs lays files out in name order whatever order the folder lists them in, so the result is the same on
/// every file system. Nothing is compressed: what a guest reads is then the host's page cache, without a second copy.
pub(crate) fn pack(
    tree: &Path,
    out: &Path,
    uuid: [u8; 16],
    progress: &mut dyn Progress,
) -> Result<(), CommandError> {
    let mut mkfs = Command::new("mkfs.erofs");
    mkfs.args(["--quiet", "-x-1", "--all-root", "-Eforce-inode-compact"]);
    mkfs.arg(format!("-T{TIMESTAMP}")).arg(format!("-U{}", text(uuid))).arg(out).arg(tree);
    // erofs-utils lets this variable override -T.
    mkfs.env_remove("SOURCE_DATE_EPOCH");
    command::quietly(&mut mkfs, progress)
}

/// A UUID as people write it (RFC 9562, section 4).
fn text(uuid: [u8; 16]) -> String {
    let hex = hex::encode(uuid);
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    parts.join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest;
    use crate::progress::Silent;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// Writes the same tree, its files created in the order of `order`.
    fn plant(tree: &Path, order: impl Iterator<Item = usize>, file: &str) {
        for i in order {
            let path = tree.join(format!("d{}/{}{i}", i % 7, "x".repeat(i % 5)));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, file.repeat(i * 17)).unwrap();
            if i % 11 == 0 {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        symlink("d1/x1", tree.join("link")).unwrap();
        fs::set_permissions(tree, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn equal_trees_give_equal_bytes_and_a_changed_file_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let image = |name: &str, order: &mut dyn Iterator<Item = usize>, file: &str| {
            let tree = dir.path().join(name);
            fs::create_dir(&tree).unwrap();
            plant(&tree, order, file);
            let out = dir.path().join(format!("{name}.erofs"));
            pack(&tree, &out, UUID, &mut Silent).unwrap();
            let bytes = fs::read(&out).unwrap();
            let at = usize::try_from(calve_proto::image::UUID_OFFSET).unwrap();
            assert_eq!(bytes[at..at + 16], UUID, "where the agent looks for it");
            let length = bytes.len();
            assert_eq!(length % 4096, 0, "a whole number of blocks");
            digest::of_file(&out).unwrap()
        };
        // Other folder, other creation order, later time stamps.
        let first = image("a", &mut (0..300), "z");
        let second = image("other-name", &mut (0..300).rev(), "z");
        let third = image("c", &mut (0..300), "y");
        assert_eq!(first, second);
        assert_ne!(first, third);
    }
}
