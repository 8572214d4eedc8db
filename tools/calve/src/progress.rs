//! A bar on a terminal, nothing in a pipe.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::interrupt;

/// Shows how far long work has come, on stderr; gone without a trace when dropped.
///
/// indicatif draws nothing where stderr is no terminal.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// A bar for work whose extent is not known yet.
    pub(crate) fn new() -> Self {
        let bar = ProgressBar::no_length();
        bar.set_style(style("{spinner} {wide_msg} {elapsed}"));
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar }
    }

    /// Begins a stage.
    pub(crate) fn stage(&self, what: &str) {
        self.bar.set_style(style("{spinner} {wide_msg} {elapsed}"));
        self.bar.set_message(what.to_owned());
        self.bar.unset_length();
    }

    /// Shows that `done` of `total` units of the stage are finished.
    pub(crate) fn advance(&self, done: u64, total: u64) {
        if self.bar.length() != Some(total) {
            self.bar.set_style(style("{spinner} {msg} {wide_bar} {percent:>3}% {elapsed}"));
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
    }

    /// Writes something to the terminal without tearing the bar.
    pub(crate) fn suspend<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl calve_image::Progress for Bar {
    fn stage(&mut self, what: &str) {
        Self::stage(self, what);
    }

    fn advance(&mut self, done: u64, total: u64) {
        Self::advance(self, done, total);
    }

    fn cancelled(&self) -> bool {
        interrupt::came()
    }
}

/// A style from one of the two templates above. A template that did not parse would show the default bar.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
