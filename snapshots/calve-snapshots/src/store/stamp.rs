//! Stamps: "this very file was found to have this digest", so that it need not be read again.
//!
//! A stamp records device, inode, size and change time (ctime) of a file that was hashed through an
//! open handle. It is believed while all four are the same.
//!
//! What that is worth: every write, truncation or change of mode through the file system moves the
//! ctime, which no call sets back, so whatever damages a file *from above* voids its stamp. Not
//! noticed are bits that rot on the medium, writes to the raw device, a clock wound back, and stores
//! through a shared mapping that was made writable before the file was hashed (on tmpfs, through any
//! shared mapping). Rot is for [`Store::verify`], which never reads a stamp. The others take the store's
//! owner or root, who could as well write the stamp, or replace the snapshot by another with the right
//! digests. A hostile guest or worker has no writable handle on any file of the store.
//!
//! A link moves the ctime, too: after a snapshot was built on a runtime, or removed, the runtime's memory is read once
//! more by whoever opens it next.
//!
//! The clock behind ctime ticks every 1 to 10 ms (CONFIG_HZ), and a second write within a tick leaves
//! it as it is. So, as git does with its index, a file that changed within [`SETTLED`] before it was
//! hashed gets no stamp.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Store;
use crate::Digest;

/// Age below which a change may still hide a later one. Far more than a tick: clocks of network file
/// systems run apart.
const SETTLED: Duration = Duration::from_secs(1);

/// What a file looked like before it was hashed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    text: String,
    settled: bool,
}

impl Stamp {
    pub(crate) fn of(file: &File) -> io::Result<Self> {
        let m = file.metadata()?;
        let text =
            format!("{} {} {} {}.{:09}\n", m.dev(), m.ino(), m.len(), m.ctime(), m.ctime_nsec());
        Ok(Self { text, settled: changed_before(&m, SystemTime::now().checked_sub(SETTLED)) })
    }
}

#[cfg(test)]
impl Stamp {
    pub(crate) fn settled(&self) -> bool {
        self.settled
    }
}

fn changed_before(metadata: &Metadata, limit: Option<SystemTime>) -> bool {
    let limit = limit.and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    let seconds = u64::try_from(metadata.ctime()).ok();
    limit.zip(seconds).is_some_and(|(limit, seconds)| seconds < limit.as_secs())
}

impl Store {
    /// Whether the file that `now` describes was hashed before and found to have `digest`.
    pub(crate) fn has_stamp(&self, digest: Digest, now: &Stamp) -> bool {
        let mut text = String::new();
        let limit = now.text.len() as u64 + 1;
        let read =
            self.stamps.read(&digest.hex()).and_then(|f| f.take(limit).read_to_string(&mut text));
        read.is_ok() && text == now.text
    }

    /// Records that `file` has `digest`, if it is still as it was `before` it was hashed. A stamp that
    /// cannot be written is only a hash computed once more.
    pub(crate) fn stamp(&self, digest: Digest, file: &File, before: &Stamp) {
        let unchanged = Stamp::of(file).is_ok_and(|after| after.text == before.text);
        if before.settled && unchanged && self.stamps.unlink(&digest.hex()).is_ok() {
            // Not fsynced: a torn stamp matches nothing.
            let _ = self
                .stamps
                .create(&digest.hex())
                .map(|mut stamp| stamp.write_all(before.text.as_bytes()));
        }
    }
}
