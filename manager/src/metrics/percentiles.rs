//! The last times of each function to its first output, and what they come to.
//!
//! Prometheus has the host as a whole; this has each function, for the console. Recording waits for nobody: a window is
//! a ring of atomics, of which a reader sees each value old or new.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

/// Times that a window has.
const KEPT: usize = 4096;

/// Times that it makes room for at once: a function that is hardly ever called takes 1 KiB, not 16.
const CHUNK: usize = 256;

/// Microseconds; zero is no time yet.
type Chunk = [AtomicU32; CHUNK];

/// The last 4,096 times of one function, and how many calls there were.
#[derive(Debug, Default)]
pub struct Window {
    /// How many there ever were. (It may wrap around: `KEPT` divides what `usize` counts to.)
    recorded: AtomicUsize,
    chunks: [OnceLock<Box<Chunk>>; KEPT / CHUNK],
    calls: AtomicU64,
    errors: AtomicU64,
}

/// How many calls of a function were answered since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub calls: u64,
    /// Those whose answer was no result: the function's error, out of time, or no answer at all.
    pub errors: u64,
}

/// What the times of a window come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Times that it is made from.
    pub count: usize,
    /// Half took no longer.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// None took longer.
    pub max: Duration,
}

impl Window {
    /// Counts a call that was answered.
    pub fn count(&self, failed: bool) {
        // In this order, and read in the other: there are never more errors than calls.
        self.calls.fetch_add(1, Ordering::SeqCst);
        if failed {
            self.errors.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// How many there were.
    pub fn tally(&self) -> Tally {
        let errors = self.errors.load(Ordering::SeqCst);
        Tally { calls: self.calls.load(Ordering::SeqCst), errors }
    }

    /// Keeps a time, in place of the oldest if there are enough. Longer ones than 71 minutes count as that.
    pub fn record(&self, took: Duration) {
        let at = self.recorded.fetch_add(1, Ordering::Relaxed) % KEPT;
        let chunk =
            self.chunks[at / CHUNK].get_or_init(|| Box::new([const { AtomicU32::new(0) }; CHUNK]));
        let micros = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        chunk[at % CHUNK].store(micros.max(1), Ordering::Relaxed);
    }

    /// What the times come to; none if there are none.
    pub fn summary(&self) -> Option<Summary> {
        let chunks = self.chunks.iter().filter_map(OnceLock::get);
        let all = chunks.flat_map(|chunk| chunk.iter()).map(|time| time.load(Ordering::Relaxed));
        let mut micros: Vec<u32> = all.filter(|&micros| micros > 0).collect();
        micros.sort_unstable();
        let max = Duration::from_micros((*micros.last()?).into());
        // The nearest rank: the first that so many of a hundred do not exceed.
        let percentile = |percent: usize| {
            let rank = (micros.len() * percent).div_ceil(100);
            Duration::from_micros(micros[rank - 1].into())
        };
        Some(Summary { count: micros.len(), p50: percentile(50), p99: percentile(99), max })
    }
}

/// The windows of all functions, by tenant and name.
#[derive(Debug, Default)]
pub struct Percentiles {
    windows: RwLock<HashMap<String, HashMap<String, Arc<Window>>>>,
}

impl Percentiles {
    /// Without functions.
    pub fn new() -> Self {
        Self::default()
    }

    /// The window of a function. Who records often keeps it.
    pub fn window(&self, tenant: &str, function: &str) -> Arc<Window> {
        let windows = self.windows.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(window) = windows.get(tenant).and_then(|tenant| tenant.get(function)) {
            return Arc::clone(window);
        }
        drop(windows);
        let mut windows = self.windows.write().unwrap_or_else(PoisonError::into_inner);
        let of_tenant = windows.entry(tenant.to_owned()).or_default();
        Arc::clone(of_tenant.entry(function.to_owned()).or_default())
    }

    /// Keeps a time of a function.
    pub fn record(&self, tenant: &str, function: &str, took: Duration) {
        self.window(tenant, function).record(took);
    }

    /// The window of a function that was called.
    pub fn find(&self, tenant: &str, function: &str) -> Option<Arc<Window>> {
        let windows = self.windows.read().unwrap_or_else(PoisonError::into_inner);
        windows.get(tenant)?.get(function).cloned()
    }

    /// What the times of a function come to; none if there are none.
    pub fn summary(&self, tenant: &str, function: &str) -> Option<Summary> {
        self.find(tenant, function)?.summary()
    }

    /// Forgets the functions that are not there any more.
    pub fn retain(&self, is_there: impl Fn(&str, &str) -> bool) {
        let windows = self.windows.read().unwrap_or_else(PoisonError::into_inner);
        let all = windows.iter().flat_map(|(tenant, of)| of.keys().map(move |name| (tenant, name)));
        let gone = all.filter(|(tenant, name)| !is_there(tenant, name));
        let gone: Vec<_> = gone.map(|(tenant, name)| (tenant.clone(), name.clone())).collect();
        drop(windows);
        if gone.is_empty() {
            return;
        }
        // Held for those alone: whoever makes a call waits for it.
        let mut windows = self.windows.write().unwrap_or_else(PoisonError::into_inner);
        for (tenant, name) in gone {
            if let Some(of_tenant) = windows.get_mut(&tenant) {
                of_tenant.remove(&name);
                if of_tenant.is_empty() {
                    windows.remove(&tenant);
                }
            }
        }
    }
}
