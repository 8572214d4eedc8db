//! Calve's other programs: looked for beside this one and where a package puts them, unless the environment names them.

use std::path::{Path, PathBuf};

use crate::failure::{Failure, Status};

/// A program that commands rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// The process around one machine.
    Worker,
    /// PID 1 of the guest, packed into root images.
    Agent,
}

impl Program {
    /// Its file name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Worker => "calve-worker",
            Self::Agent => "calve-agent",
        }
    }

    /// The variable that names another place.
    pub(crate) const fn variable(self) -> &'static str {
        match self {
            Self::Worker => "CALVE_WORKER",
            Self::Agent => "CALVE_AGENT",
        }
    }
}

/// Where `program` is.
pub(crate) fn find(program: Program) -> Result<PathBuf, Failure> {
    let (name, variable) = (program.name(), program.variable());
    let given = std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from);
    let own = || std::env::current_exe().ok()?.parent().map(|folder| places(folder, name));
    let places = given.map(|path| vec![path]).or_else(own).unwrap_or_default();
    match places.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(missing(name, variable, places.first())),
    }
}

/// Where a program may be if nobody says: beside this one, as builds and archives have it; or where packages put programs that
/// nobody calls by name, `lib/calve` beside `bin` (Filesystem Hierarchy Standard 3.0, §4.6).
fn places(folder: &Path, name: &str) -> Vec<PathBuf> {
    let lib = folder.parent().map(|prefix| prefix.join("lib/calve").join(name));
    std::iter::once(folder.join(name)).chain(lib).collect()
}

fn missing(name: &str, variable: &str, place: Option<&PathBuf>) -> Failure {
    let place = place.map_or_else(|| "this program".into(), |path| path.display().to_string());
    let text = format_args!(
        "{name} is not at {place}; install it beside `calve`, or name its place in {variable}"
    );
    Failure::new(Status::Host, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_beside_this_one_or_in_lib() {
        let places = places(Path::new("/usr/bin"), "calve-worker");
        assert_eq!(
            places,
            [Path::new("/usr/bin/calve-worker"), Path::new("/usr/lib/calve/calve-worker")]
        );
    }
}
