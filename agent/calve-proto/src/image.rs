//! What hosts and agents must agree on about code images.
//!
//! An image without layers is the function's folder itself. One with layers has two folders at its root, and another file
//! system UUID, which no content of a function can imitate: so an image says by itself how it is to be mounted, wherever it
//! has come from, and machines that were frozen before there was code need not be told.
//!
//! | folder | becomes |
//! | --- | --- |
//! | [`TASK`] | `/var/task`: the function's folder |
//! | [`OPT`] | `/opt`: all layers, merged |

/// The file system UUID of an image with layers: "calve", a version 4 and variant 8 (RFC 9562, section 5.4), "layers".
pub const LAYERED: [u8; 16] = *b"calve\0\x40\0\x80\0layers";

/// Where an EROFS image has its UUID, in bytes: the superblock's offset and the field's (Linux `fs/erofs/erofs_fs.h`).
pub const UUID_OFFSET: u64 = 1024 + 48;

/// Folder of the function's code in an image with layers.
pub const TASK: &str = "task";

/// Folder of the layers in an image with layers.
pub const OPT: &str = "opt";
