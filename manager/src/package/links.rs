//! Symlinks of a package: where they lead.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::error::{PackageError, in_path, shown};
use super::tree::{Id, Kind, ROOT, Tree};

/// The longest way that a symlink has, bytes (`PATH_MAX`).
pub(super) const MOST_WAY: u64 = 4096;

/// Symlinks on the way of a symlink (`MAXSYMLINKS`, path_resolution(7)).
const MOST_LINKS: usize = 40;

/// Names on the ways of all symlinks of a package, with those of the symlinks on them: a second's work.
const MOST_STEPS: usize = 2_000_000;

/// Where symlinks lead, by node.
pub(super) type Ways = BTreeMap<Id, Vec<u8>>;

/// Makes the symlinks, after it is clear that none of them leads out: also not by way of others, `a/..` being somewhere
/// else if `a` is a symlink.
pub(super) fn link_all(tree: &Tree, ways: &Ways, folder: &Path) -> Result<(), PackageError> {
    let mut steps = MOST_STEPS;
    for id in ways.keys() {
        if stays_inside(tree, ways, *id, &mut steps).is_none() {
            return Err(PackageError::Link(shown(&tree.path(*id))));
        }
    }
    for (id, way) in ways {
        let path = folder.join(OsStr::from_bytes(&tree.path(*id)));
        symlink(OsStr::from_bytes(way), &path).map_err(in_path(&path))?;
    }
    Ok(())
}

/// Goes the way of a symlink as a kernel would; none if it leads out, or goes on for too long. It may lead to what is
/// not there.
fn stays_inside(tree: &Tree, ways: &Ways, link: Id, steps: &mut usize) -> Option<()> {
    let mut inside = tree.parent(link);
    // Names that come after one that is not there.
    let mut beyond = 0_usize;
    let mut links = 1;
    let mut ahead = Vec::new();
    push(&mut ahead, ways.get(&link)?)?;
    while let Some(name) = ahead.pop() {
        *steps = steps.checked_sub(1)?;
        match name {
            b"" | b"." => {}
            b".." if beyond > 0 => beyond -= 1,
            b".." if inside == ROOT => return None,
            b".." => inside = tree.parent(inside),
            _ if beyond > 0 => beyond += 1,
            _ => match tree.child(inside, name) {
                Some((id, Kind::Link { .. })) => {
                    links += 1;
                    push(&mut ahead, ways.get(&id).filter(|_| links <= MOST_LINKS)?)?;
                }
                Some((id, _)) => inside = id,
                None => beyond = 1,
            },
        }
    }
    Some(())
}

/// Puts a way before what is ahead, if it is a relative one.
fn push<'a>(ahead: &mut Vec<&'a [u8]>, way: &'a [u8]) -> Option<()> {
    if way.is_empty() || way.contains(&0) || way.starts_with(b"/") {
        return None;
    }
    ahead.extend(way.split(|byte| *byte == b'/').rev());
    Some(())
}
