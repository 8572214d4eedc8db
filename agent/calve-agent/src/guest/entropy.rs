//! Fresh randomness for the guest's kernel (random(4), `drivers/char/random.c`).

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use calve_proto::limits::SEED_LEN;

/// `struct rand_pool_info` with room for the longest seed.
#[repr(C)]
struct RandPoolInfo {
    /// Entropy credited, in bits.
    entropy_count: libc::c_int,
    /// Length of the seed, in bytes.
    buf_size: libc::c_int,
    buf: [u8; *SEED_LEN.end()],
}

// The kernel's ioctl number holds the size of two ints, whatever follows them.
nix::ioctl_write_ptr!(add_entropy, b'R', 0x03, [libc::c_int; 2]);
nix::ioctl_none!(reseed_crng, b'R', 0x07);

/// Mixes `seed` in, credits it, and makes the generator start over from it: the next `getrandom` of any process sees it.
pub(super) fn reseed(random: &File, seed: &[u8]) -> io::Result<()> {
    let mut info = RandPoolInfo { entropy_count: 0, buf_size: 0, buf: [0; *SEED_LEN.end()] };
    let room = info.buf.get_mut(..seed.len()).ok_or(io::ErrorKind::InvalidInput)?;
    room.copy_from_slice(seed);
    info.buf_size = i32::try_from(seed.len()).map_err(io::Error::other)?;
    info.entropy_count = info.buf_size * 8;
    // SAFETY: the kernel reads two ints and then `buf_size` bytes; `info` has them in this layout (repr(C), and the
    // bytes follow the ints without padding) and `buf_size` is at most the length of `buf`, checked above.
    unsafe { add_entropy(random.as_raw_fd(), (&raw const info).cast()) }?;
    // SAFETY: takes no argument.
    unsafe { reseed_crng(random.as_raw_fd()) }?;
    Ok(())
}
