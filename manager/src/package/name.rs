//! Names of entries: paths that stay where they are put.

use super::error::{PackageError, shown};

/// The longest name in a path, as in ext4, XFS and tmpfs (`NAME_MAX`).
const MOST: usize = 255;

/// The names on the way from the root to an entry, without `.` and empty ones.
pub(super) fn parts(name: &[u8], most: usize) -> Result<Vec<&[u8]>, PackageError> {
    if name.len() > most {
        return Err(PackageError::Long { name: shown(name), most });
    }
    let outside = || PackageError::Outside(shown(name));
    if name.contains(&0) || name.starts_with(b"/") || climbs_on_windows(name) {
        return Err(outside());
    }
    let mut parts = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(outside()),
            _ if part.len() > MOST => return Err(PackageError::Long { name: shown(name), most }),
            _ => parts.push(part),
        }
    }
    if parts.is_empty() { Err(outside()) } else { Ok(parts) }
}

/// Whether a name leads elsewhere for those who take a backslash for a slash. Here it is a letter like others, and
/// nobody who looks at the folder later should see more in it.
fn climbs_on_windows(name: &[u8]) -> bool {
    let mut parts = name.split(|byte| matches!(byte, b'/' | b'\\'));
    let drive = name.len() > 2 && name[1] == b':' && name[2] == b'\\';
    name.contains(&b'\\') && (drive || name.starts_with(b"\\") || parts.any(|part| part == b".."))
}
