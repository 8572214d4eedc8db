//! Configuration, folders and links that a running system expects and no package ships.

use crate::fsutil::{FileError, create_dir, in_file, remove};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Files; `function` is a user that functions may run as.
const FILES: [(&str, &str); 9] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/root:/bin/sh\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n\
         function:x:1000:1000:function:/tmp:/bin/sh\n",
    ),
    ("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\nfunction:x:1000:\n"),
    ("etc/shadow", "root:*:::::::\nnobody:*:::::::\nfunction:*:::::::\n"),
    ("etc/hostname", "calve\n"),
    // No IPv6 in the guest's kernel, so no ::1 that programs would try first.
    ("etc/hosts", "127.0.0.1 localhost calve\n"),
    (
        "etc/nsswitch.conf",
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    ),
    // Each clone has its own; the agent writes it.
    ("etc/machine-id", ""),
    ("etc/resolv.conf", ""),
    ("etc/timezone", "Etc/UTC\n"),
];

/// Folders with their modes: mount points, and places that programs write to.
const FOLDERS: [(&str, u32); 16] = [
    ("dev", 0o755),
    ("home", 0o755),
    ("mnt", 0o755),
    ("opt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("srv", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("var/cache", 0o755),
    ("var/lib", 0o755),
    ("var/log", 0o755),
    ("var/runtime", 0o755),
    ("var/task", 0o755),
    ("var/tmp", 0o1777),
];

/// Links and where they lead.
const LINKS: [(&str, &str); 5] = [
    ("etc/localtime", "/usr/share/zoneinfo/Etc/UTC"),
    ("etc/mtab", "../proc/self/mounts"),
    // Where Debian's OpenSSL looks for certificates (`openssl version -d`).
    ("usr/lib/ssl/cert.pem", "/etc/ssl/certs/ca-certificates.crt"),
    ("usr/lib/ssl/certs", "/etc/ssl/certs"),
    ("var/run", "/run"),
];

/// Writes them all into a tree.
pub(super) fn write(tree: &Path) -> Result<(), FileError> {
    set_mode(tree, 0o755)?;
    for (folder, mode) in FOLDERS {
        let path = tree.join(folder);
        create_dir(&path)?;
        set_mode(&path, mode)?;
    }
    for (file, text) in FILES {
        put(&tree.join(file), text.as_bytes())?;
    }
    set_mode(&tree.join("etc/shadow"), 0o600)?;
    for (link, to) in LINKS {
        let link = tree.join(link);
        create_dir(link.parent().unwrap_or(tree))?;
        remove(&link)?;
        symlink(to, &link).map_err(in_file("create", &link))?;
    }
    Ok(())
}

/// Writes the bundle of all trusted certificates, in order of their names.
pub(super) fn certificates(tree: &Path) -> Result<(), FileError> {
    let dir = tree.join("usr/share/ca-certificates/mozilla");
    let mut files: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(&dir).map_err(in_file("read", &dir))? {
        files.push(entry.map_err(in_file("read", &dir))?.path());
    }
    files.sort();
    let mut bundle = Vec::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "crt")) {
        bundle.extend(fs::read(file).map_err(in_file("read", file))?);
        if bundle.last() != Some(&b'\n') {
            bundle.push(b'\n');
        }
    }
    put(&tree.join("etc/ssl/certs/ca-certificates.crt"), &bundle)
}

fn put(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    create_dir(path.parent().unwrap_or(path))?;
    fs::write(path, bytes).map_err(in_file("write", path))?;
    set_mode(path, 0o644)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), FileError> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .map_err(in_file("set the mode of", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_gets_users_mount_points_and_links() {
        let tree = tempfile::tempdir().unwrap();
        let mode = |name: &str| {
            fs::metadata(tree.path().join(name)).unwrap().permissions().mode() & 0o7777
        };
        write(tree.path()).unwrap();
        assert_eq!(mode("tmp"), 0o1777);
        assert_eq!(mode("root"), 0o700);
        assert_eq!(mode("etc/shadow"), 0o600);
        assert!(tree.path().join("var/task").is_dir());
        assert_eq!(fs::read_link(tree.path().join("var/run")).unwrap(), Path::new("/run"));
        // Again over what is there: a package may ship one of these.
        write(tree.path()).unwrap();
    }

    #[test]
    fn every_user_has_a_group_and_no_password() {
        let file = |name: &str| FILES.iter().find(|(n, _)| *n == name).unwrap().1;
        for user in file("etc/passwd").lines() {
            let fields: Vec<_> = user.split(':').collect();
            assert_eq!(fields.len(), 7, "{user}");
            let gid = format!(":{}:", fields[3]);
            assert!(file("etc/group").lines().any(|group| group.contains(&gid)), "{user}");
            assert!(file("etc/shadow").contains(&format!("{}:*:", fields[0])), "{user}");
        }
    }

    #[test]
    fn certificates_are_bundled_in_order_of_their_names() {
        let tree = tempfile::tempdir().unwrap();
        let dir = tree.path().join("usr/share/ca-certificates/mozilla");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("b.crt"), "B\n").unwrap();
        fs::write(dir.join("a.crt"), "A").unwrap();
        fs::write(dir.join("README"), "no").unwrap();
        certificates(tree.path()).unwrap();
        let bundle = fs::read_to_string(tree.path().join("etc/ssl/certs/ca-certificates.crt"));
        assert_eq!(bundle.unwrap(), "A\nB\n");
    }
}
