//! How long work tells its caller where it stands, and asks whether to go on.

/// Receives the progress of a build. Every method has a default that does nothing.
pub trait Progress {
    /// A new stage begins; `what` is a short phrase such as `Building the guest kernel`.
    fn stage(&mut self, what: &str) {
        let _ = what;
    }

    /// `done` of about `total` units of the stage are finished.
    fn advance(&mut self, done: u64, total: u64) {
        let _ = (done, total);
    }

    /// Asked about ten times a second. After `true` the running program is ended, temporary files are removed, and
    /// the build returns an `Interrupted` error.
    fn cancelled(&self) -> bool {
        false
    }
}

/// Prints nothing and never cancels.
#[derive(Debug, Default, Clone, Copy)]
pub struct Silent;

impl Progress for Silent {}
