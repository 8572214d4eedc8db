//! Checks of what Calve itself needs: its programs, images, tools and folders.

use std::path::Path;

use calve_image::{Cache, EntryKind, Runtime};
use nix::sys::statvfs::statvfs;

use super::Check;
use crate::failure::line;
use crate::programs::{self, Program};
use crate::store::Place;
use crate::table;

/// Space that one more snapshot may take: a machine of the default size, its images, and some.
const ROOM: u64 = 1 << 30;

/// All of them.
pub(super) fn checks(place: &Place) -> Vec<Check> {
    vec![
        program("worker", Program::Worker),
        program("agent", Program::Agent),
        images(),
        tools(),
        store(place),
    ]
}

fn program(name: &'static str, program: Program) -> Check {
    match programs::find(program) {
        Ok(path) => Check::ok(name, path.display()),
        Err(failure) => {
            let (found, remedy) = failure.line().split_once("; ").unwrap_or((failure.line(), ""));
            match program {
                Program::Worker => Check::missing(name, found, remedy),
                // Only new root images need it.
                Program::Agent => Check::warn(name, found, remedy),
            }
        }
    }
}

fn images() -> Check {
    const NAME: &str = "images";
    let entries = Cache::from_env().map_err(|e| line(&e));
    let entries = entries.and_then(|cache| calve_image::ls(&cache).map_err(|e| line(&e)));
    let entries = match entries {
        Ok(entries) => entries,
        Err(why) => return Check::warn(NAME, why, "set CALVE_CACHE to a folder of your own"),
    };
    let kernel = entries.iter().any(|e| e.kind == EntryKind::Kernel);
    let root =
        |r: &Runtime| entries.iter().any(|e| e.kind == EntryKind::Root && e.name == r.as_str());
    let lacking: Vec<_> = (!kernel)
        .then_some("kernel")
        .into_iter()
        .chain(Runtime::ALL.iter().filter(|r| !root(r)).map(|r| r.as_str()))
        .collect();
    if lacking.is_empty() {
        Check::ok(NAME, "kernel and all root images are built")
    } else {
        let found = format_args!("not built yet: {}", lacking.join(", "));
        Check::warn(NAME, found, "built when first needed, or by `calve image build`")
    }
}

/// The packages that image recipes need.
fn tools() -> Check {
    const NAME: &str = "build tools";
    // dpkg's own list of files: the surest sign that a package is unpacked.
    let listed = |package: &&&str| {
        let info = Path::new("/var/lib/dpkg/info");
        let plain = info.join(format!("{package}.list"));
        plain.exists() || info.join(format!("{package}:amd64.list")).exists()
    };
    let lacking: Vec<_> =
        calve_image::HOST_PACKAGES.iter().filter(|p| !listed(p)).copied().collect();
    if lacking.is_empty() {
        Check::ok(NAME, "all there")
    } else {
        let packages = lacking.join(" ");
        let found = format_args!("without {packages}");
        Check::warn(NAME, found, format_args!("to build images: apt-get install {packages}"))
    }
}

fn store(place: &Place) -> Check {
    const NAME: &str = "store";
    let path = match place.path() {
        Ok(path) => path,
        Err(failure) => return Check::warn(NAME, failure.line(), "name one with --store"),
    };
    // It need not exist yet: what matters is the folder it is or will be in.
    let Some(existing) = path.ancestors().find(|dir| dir.is_dir()) else {
        return Check::warn(NAME, path.display(), "name another one with --store");
    };
    let another = "choose another one with --store";
    if nix::unistd::access(existing, nix::unistd::AccessFlags::W_OK).is_err() {
        return Check::warn(
            NAME,
            format_args!("{} cannot be written", existing.display()),
            another,
        );
    }
    match statvfs(existing) {
        Err(e) => Check::warn(NAME, format_args!("{}: {e}", existing.display()), another),
        Ok(fs) => {
            // Both are unsigned long: 64 bits wherever Calve runs.
            #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
            let free = (fs.blocks_available() as u64).saturating_mul(fs.fragment_size() as u64);
            let found = format!("{}, {} free", path.display(), table::bytes(free));
            match free < ROOM {
                true => Check::warn(NAME, found, format_args!("free some space, or {another}")),
                false => Check::ok(NAME, found),
            }
        }
    }
}
