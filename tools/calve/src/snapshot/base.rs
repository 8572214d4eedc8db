//! The runtime that a function is built on: one for all functions of a language, kernel, root image and shape.

use std::path::Path;
use std::thread;
use std::time::Duration;

use calve_fleet::{BootSpec, BuildError, BuildSpec, Fleet, RuntimeSpec, build_runtime};
use calve_snapshots::{Digest, Error, Store};

use super::build::show;
use crate::failure::Failure;
use crate::interrupt;
use crate::progress::Bar;

/// What the names of runtimes begin with.
pub(super) const PREFIX: &str = "runtime.";
/// How long a language may take to start, whatever its functions may.
const START: Duration = Duration::from_secs(300);
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
    let runtime = &spec.function.runtime;
    let name = name(spec);
    let title = format!("runtime {runtime}");
    let spec = RuntimeSpec {
        name: name.clone(),
        runtime: runtime.clone(),
        memory_mib: spec.memory_mib,
        vcpus: spec.vcpus,
        kernel: spec.kernel.clone(),
        root: spec.root.clone(),
        cmdline: spec.cmdline.clone(),
        init_timeout: START,
        up_timeout: BootSpec::UP_TIMEOUT,
    };
    loop {
        interrupt::check()?;
        // One that is damaged, or of another host, is built anew.
        if fleet.has_runtime(store, &name) {
            return Ok(name);
        }
        if store.is_trusting() && !store.is_signing() {
            let text = format_args!(
                "{title} must be built first, and nothing is opened here that is not signed: give --sign-key"
            );
            return Err(Failure::usage(text));
        }
        match build_runtime(fleet, store, &spec, &mut |step| show(bar, &title, step)) {
            Ok(_) => return Ok(name),
            Err(BuildError::Store(Error::NameBusy(_))) => {
                bar.stage(&format!("Waiting for another process to build {title}"));
                thread::sleep(LOOK);
            }
            Err(error) => return Err(Failure::from(error).about(&title)),
        }
    }
}

/// Made of everything that a function and its runtime must have in common. Images of the cache lie in folders that
/// are named after all that goes into them.
fn name(spec: &BuildSpec) -> String {
    let folder = |path: &Path| path.parent().map(Path::to_owned).unwrap_or_default();
    let (kernel, root) = (folder(&spec.kernel), folder(&spec.root));
    let all = [kernel.as_os_str(), root.as_os_str(), spec.cmdline.as_ref()];
    let all = all.map(|part| part.to_string_lossy().into_owned()).join("\n");
    let key: String = Digest::of(all.as_bytes()).hex().chars().take(12).collect();
    let BuildSpec { memory_mib, vcpus, function, .. } = spec;
    format!("{PREFIX}{}.{memory_mib}m.{vcpus}c.{key}", function.runtime)
}
