//! What the kernel is told about its memory, in either protocol.

use super::Extent;
use crate::layout::{HIGH_RAM_START, HOLE_END, HOLE_START, LOW_RAM_END};
use crate::shape::Shape;

/// Whether the kernel may use a stretch; the numbers are those of both protocols (E820 and Xen's
/// `XEN_HVM_MEMMAP_TYPE_*` agree on them).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ram = 1,
    Reserved = 2,
}

/// The map of a shape, ascending, without overlap.
pub(super) fn of(shape: &Shape) -> Vec<(Extent, Kind)> {
    let size = shape.memory_bytes();
    let extent = |start: u64, end: u64| Extent { start, size: end - start };
    let mut map = vec![
        (extent(0, LOW_RAM_END), Kind::Ram),
        (extent(LOW_RAM_END, HIGH_RAM_START), Kind::Reserved),
        (extent(HIGH_RAM_START, size.min(HOLE_START)), Kind::Ram),
    ];
    if size > HOLE_START {
        map.push((extent(HOLE_END, HOLE_END + (size - HOLE_START)), Kind::Ram));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ram(mib: u32) -> u64 {
        let map = of(&Shape::new(mib, 1, 0).unwrap());
        map.iter().filter(|(_, kind)| *kind == Kind::Ram).map(|(e, _)| e.size).sum()
    }

    #[test]
    fn all_memory_but_the_reserved_part_is_usable() {
        for mib in [2, 128, 3072, 3073, 8192] {
            assert_eq!(ram(mib), (u64::from(mib) << 20) - (HIGH_RAM_START - LOW_RAM_END));
        }
    }

    #[test]
    fn the_hole_is_left_out() {
        let map = of(&Shape::new(4096, 1, 0).unwrap());
        assert!(map.iter().all(|(e, _)| e.start + e.size <= HOLE_START || e.start >= HOLE_END));
    }
}
