//! The runtime that a function is built on: one for all functions of a language, kernel, root image and shape.

use std::thread;
use std::time::Duration;

use calve_fleet::{BuildError, BuildSpec, Fleet, RuntimeSpec, build_runtime};
use calve_snapshots::{Error, Store};

use super::build::show;
use crate::failure::Failure;
use crate::interrupt;
use crate::progress::Bar;

/// How often to look whether another process has built it.
const LOOK: Duration = Duration::from_millis(200);

/// The name of the runtime for `spec`, which is built if it is not there. Whoever builds the same one meanwhile is
/// waited for.
pub(super) fn ensure(
    fleet: &Fleet,
    store: &Store,
    spec: &BuildSpec,
    bar: &Bar,
) -> Result<String, Failure> {
    let spec = RuntimeSpec::under(spec);
    let title = format!("runtime {}", spec.runtime);
    loop {
        interrupt::check()?;
        // One that is damaged, or of another host, is built anew.
        if fleet.has_runtime(store, &spec.name) {
            return Ok(spec.name);
        }
        if store.is_trusting() && !store.is_signing() {
            let text = format_args!(
                "{title} must be built first, and nothing is opened here that is not signed: give --sign-key"
            );
            return Err(Failure::usage(text));
        }
        match build_runtime(fleet, store, &spec, &mut |step| show(bar, &title, step)) {
            Ok(_) => return Ok(spec.name),
            Err(BuildError::Store(Error::NameBusy(_))) => {
                bar.stage(&format!("Waiting for another process to build {title}"));
                thread::sleep(LOOK);
            }
            Err(error) => return Err(Failure::from(error).about(&title)),
        }
    }
}
