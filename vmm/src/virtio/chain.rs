//! Walking a descriptor chain (VIRTIO 1.3, §2.7.5) that a hostile driver may have built.
//!
//! `virtio_queue`'s iterator ends a bad chain silently, as if it were whole; [`walk`] tells the two
//! apart and bounds the number of descriptors.

use virtio_queue::DescriptorChain;
use virtio_queue::desc::split::Descriptor;

use super::device::Broken;
use crate::memory::GuestMemory;

/// Shows every descriptor of a chain in order.
///
/// A chain is refused where it is empty, loops, leads out of its table or out of guest memory, has
/// more than `max` descriptors, or a device-readable one after a device-writable one (§2.7.4.2),
/// and where `show` refuses a descriptor.
pub(super) fn walk(
    chain: &mut DescriptorChain<&GuestMemory>,
    max: usize,
    mut show: impl FnMut(&Descriptor) -> Result<(), Broken>,
) -> Result<(), Broken> {
    let mut ended = false;
    let mut writable = false;
    for descriptor in chain.take(max) {
        if writable && !descriptor.is_write_only() {
            return Err(Broken);
        }
        writable = descriptor.is_write_only();
        ended = !descriptor.has_next();
        show(&descriptor)?;
    }
    if ended { Ok(()) } else { Err(Broken) }
}
