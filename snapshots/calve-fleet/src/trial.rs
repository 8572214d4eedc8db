//! Trial runs of a new snapshot: which pages do its clones touch until their first answer?

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

use calve_snapshots::Workset;

use crate::call::CallOptions;
use crate::clone::Clone;
use crate::content::Content;
use crate::control::Pages;
use crate::error::WorkerError;
use crate::fleet::{Fleet, ThawOptions};
use crate::freeze::Written;
use crate::layers::Layers;
use crate::record;

/// Clones that are tried. Two differ in little; what either touches is kept.
const TRIALS: usize = 2;

/// Thaws clones of what was written, calls them with `event` if there is one, and returns what they
/// touched. Nothing where a trial fails: a snapshot without a working set is as good, only slower.
///
/// # Errors
///
/// When the fleet is cancelled.
pub(crate) fn workset(
    fleet: &Fleet,
    written: &Written<'_>,
    disks: Vec<File>,
    event: Option<&[u8]>,
) -> Result<Workset, WorkerError> {
    let mut pages = BTreeMap::<u32, bool>::new();
    let Ok(content) = content(written, disks) else { return Ok(Workset::default()) };
    let content = Arc::new(content);
    for _ in 0..TRIALS {
        let Some(touched) = trial(fleet, &content, written, event) else {
            let cancelled = fleet.canceller().is_cancelled();
            return if cancelled { Err(WorkerError::Cancelled) } else { Ok(Workset::default()) };
        };
        for (page, is_written) in touched {
            *pages.entry(page).or_default() |= is_written;
        }
    }
    Ok(Workset::of_pages(pages))
}

fn content(written: &Written<'_>, disks: Vec<File>) -> io::Result<Content> {
    let layers = Layers::of(written.draft.memory().map_err(io::Error::other)?)?;
    Content::new(written.shape, written.timeout, &written.state, layers, disks)
}

fn trial(
    fleet: &Fleet,
    content: &Arc<Content>,
    written: &Written<'_>,
    event: Option<&[u8]>,
) -> Option<Vec<(u32, bool)>> {
    let mut clone: Clone =
        fleet.thaw_content(content, ThawOptions::default(), Pages::Recorded).ok()?;
    match event {
        Some(event) => {
            let options = CallOptions { unmeasured: true, ..CallOptions::default() };
            // An error of the function is an answer, too.
            clone.call(event, options).ok()?;
        }
        None => clone.introduce().ok()?.ok()?,
    }
    record::touched(clone.pid(), &content.layers.files, &written.layout).ok()
}
