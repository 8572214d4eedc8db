//! Inotify: tells which files have been closed by their writers or moved in (inotify(7)).
//!
//! A thread reads it. If nobody takes what it tells, it waits, the kernel's queue overflows, and that is told as well.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use tokio::sync::mpsc;

use super::inbox::Inbox;

/// A file is complete.
const COMPLETE: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE.union(AddWatchFlags::IN_MOVED_TO);

/// What is to be told: that, or that the folder is no longer where it was.
const MASK: AddWatchFlags = COMPLETE
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// Reads that wait to be taken.
const WAITING: usize = 64;

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// A source's file is complete.
    Ready(String, OsString),
    /// A source's folder has to be looked at.
    Look(String),
    /// Something got lost: all have to be.
    LookAtAll,
}

/// Watches folders. Cheap to clone.
#[derive(Clone)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    /// The thread ends when the last of these is dropped.
    _alive: Arc<PipeWriter>,
}

struct Shared {
    inotify: Inotify,
    /// Which source a watch is of.
    sources: Mutex<HashMap<WatchDescriptor, String>>,
}

impl Watch {
    /// Watches nothing yet.
    pub(super) fn new() -> io::Result<(Self, mpsc::Receiver<Vec<Sign>>)> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let shared = Arc::new(Shared { inotify, sources: Mutex::default() });
        let (end, alive) = io::pipe()?;
        let (signs, told) = mpsc::channel(WAITING);
        let of_thread = shared.clone();
        std::thread::Builder::new()
            .name("folders".to_owned())
            .spawn(move || of_thread.tell(&end, &signs))?;
        Ok((Self { shared, _alive: Arc::new(alive) }, told))
    }

    /// Watches a folder for a source; no harm if it does already.
    pub(super) fn add(&self, inbox: &Inbox, source: &str) -> io::Result<()> {
        // Locked first: what happens from now on is known to be the source's.
        let mut sources = self.shared.lock();
        let watch = self.shared.inotify.add_watch(&inbox.path(), MASK)?;
        let stale = sources.iter().find(|(other, of)| **other != watch && *of == source);
        if let Some(stale) = stale.map(|(stale, _)| *stale) {
            self.forget(&mut sources, stale);
        }
        sources.insert(watch, source.to_owned());
        Ok(())
    }

    /// Watches for a source no more.
    pub(super) fn remove(&self, source: &str) {
        let mut sources = self.shared.lock();
        let found = sources.iter().find(|(_, of)| *of == source).map(|(watch, _)| *watch);
        if let Some(watch) = found {
            self.forget(&mut sources, watch);
        }
    }

    fn forget(&self, sources: &mut HashMap<WatchDescriptor, String>, watch: WatchDescriptor) {
        sources.remove(&watch);
        // The kernel ends the watch of a folder that is gone.
        let _ = self.shared.inotify.rm_watch(watch);
    }
}

impl Shared {
    fn tell(&self, end: &PipeReader, signs: &mpsc::Sender<Vec<Sign>>) {
        loop {
            let mut fds = [
                PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN),
                PollFd::new(end.as_fd(), PollFlags::empty()),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => {
                    tracing::error!(%error, "folders are not watched any more, only scanned");
                    return;
                }
            }
            let ended = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
            if ended(&fds[1]) {
                return;
            }
            let told = match self.inotify.read_events() {
                Ok(events) => {
                    let sources = self.lock();
                    events.into_iter().filter_map(|event| sign(event, &sources)).collect()
                }
                Err(Errno::EAGAIN | Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "folders are not watched any more, only scanned");
                    return;
                }
            };
            if signs.blocking_send(told).is_err() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WatchDescriptor, String>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sign(event: InotifyEvent, sources: &HashMap<WatchDescriptor, String>) -> Option<Sign> {
    if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
        return Some(Sign::LookAtAll);
    }
    let source = sources.get(&event.wd)?.clone();
    Some(match event.name {
        Some(name) if event.mask.intersects(COMPLETE) => Sign::Ready(source, name),
        _ => Sign::Look(source),
    })
}
