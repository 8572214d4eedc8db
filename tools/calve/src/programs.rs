//! Calve's other programs: looked for beside this one, unless the environment names them.

use std::path::PathBuf;

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
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join(name));
    let path = given.or_else(beside).ok_or_else(|| missing(name, variable, "this program"))?;
    match path.is_file() {
        true => Ok(path),
        false => Err(missing(name, variable, &path.display().to_string())),
    }
}

fn missing(name: &str, variable: &str, place: &str) -> Failure {
    let text = format_args!(
        "{name} is not at {place}; install it beside `calve`, or name its place in {variable}"
    );
    Failure::new(Status::Host, text)
}
