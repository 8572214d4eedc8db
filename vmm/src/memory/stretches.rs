//! Which stretches of a sparse file hold data: what of it is worth a mapping.

use std::fs::File;
use std::io;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

use super::{PAGE, Stretch};

/// The stretches of `file` that hold data, in whole pages and ascending: at most `most`, so with as many
/// of the larger holes left out as that allows. Holes below `least` bytes are not worth a mapping.
///
/// # Errors
///
/// Whatever `lseek` says of the file.
pub fn stretches(file: &File, least: u64, most: usize) -> io::Result<Vec<Stretch>> {
    let mut all = Vec::<Stretch>::new();
    let mut from = 0;
    while let Some(data) = seek(file, from, Whence::SeekData)? {
        let hole = seek(file, data, Whence::SeekHole)?.unwrap_or(data);
        // File systems keep data in blocks of their own size.
        let (offset, end) = (data - data % PAGE, hole.next_multiple_of(PAGE));
        match all.last_mut() {
            Some(last) if offset.saturating_sub(last.end()) < least => last.len = end - last.offset,
            _ => all.push(Stretch { offset, len: end - offset }),
        }
        if end <= from {
            return Err(io::Error::other("a file whose holes move"));
        }
        from = end;
    }
    Ok(join(all, most))
}

/// Joins ascending stretches over the smallest gaps between them until there are at most `most`.
pub fn join(all: Vec<Stretch>, most: usize) -> Vec<Stretch> {
    if all.len() <= most {
        return all;
    }
    // The gaps that stay are the largest.
    let gap = |n: usize| all[n].offset - all[n - 1].end();
    let mut gaps: Vec<usize> = (1..all.len()).collect();
    gaps.sort_unstable_by_key(|&n| std::cmp::Reverse(gap(n)));
    gaps.truncate(most.saturating_sub(1));
    gaps.sort_unstable();
    let starts = std::iter::once(0).chain(gaps.iter().copied());
    let ends = gaps.iter().copied().chain([all.len()]);
    let joined = starts.zip(ends).map(|(from, to)| {
        let offset = all[from].offset;
        Stretch { offset, len: all[to - 1].end() - offset }
    });
    joined.collect()
}

/// Seeks from `offset`; `None` where there is only hole up to the end.
fn seek(file: &File, offset: u64, what: Whence) -> io::Result<Option<u64>> {
    let offset = i64::try_from(offset).map_err(io::Error::other)?;
    match lseek(file, offset, what) {
        Ok(found) => u64::try_from(found).map(Some).map_err(io::Error::other),
        // No data from here to the end (lseek(2)).
        Err(Errno::ENXIO) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_largest_holes_are_left_out() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(128 * MIB).unwrap();
        // Data at 0, 4, 5, 32, 40 and 100 MiB: holes of 4, 1, 27, 8 and 60 MiB, and the rest.
        for at in [0, 4, 5, 32, 40, 100] {
            file.write_all_at(&[1; 4096], at * MIB).unwrap();
        }
        let of = |least, most| {
            let found = stretches(&file, least, most).unwrap();
            found.iter().map(|at| (at.offset / MIB, at.len)).collect::<Vec<_>>()
        };
        assert_eq!(of(PAGE, 64).len(), 6);
        assert_eq!(of(2 * MIB, 64)[1], (4, MIB + PAGE));
        assert_eq!(of(PAGE, 3), [(0, 5 * MIB + PAGE), (32, 8 * MIB + PAGE), (100, PAGE)]);
        assert_eq!(of(PAGE, 1), [(0, 100 * MIB + PAGE)]);
    }

    #[test]
    fn a_file_of_nothing_has_none() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(MIB).unwrap();
        assert_eq!(stretches(&file, PAGE, 8).unwrap(), []);
    }
}
