//! `cargo xtask lab`: `calve-lab`, with our binaries built and on the search path.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;

use crate::workspace::Workspace;
use crate::{binaries, setup};

/// What `calve-lab` calls its commands; anything else is a command for the lab.
const COMMANDS: [&str; 6] = ["run", "up", "exec", "down", "status", "prepare"];

/// Becomes `calve-lab`, so that signals and the exit status are between it and the caller.
pub(crate) fn run(workspace: &Workspace, arguments: &[OsString]) -> anyhow::Result<()> {
    let arguments = translate(arguments, &search_path(workspace));
    let lab = match arguments.first().and_then(|name| name.to_str()) {
        Some("run" | "exec" | "up") => {
            binaries::build(workspace)?;
            setup::lab_files(workspace)?;
            workspace.release().join("calve-lab")
        }
        _ => binaries::build_lab(workspace)?,
    };
    let error = Command::new(&lab).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}", lab.display()))
}

/// The folders of our binaries and of the test binaries.
fn search_path(workspace: &Workspace) -> [PathBuf; 2] {
    [workspace.release(), workspace.target().join("debug/deps")]
}

/// Turns `-- CMD` and `CMD` into `run -- CMD`, and adds the search path where a command runs.
fn translate(arguments: &[OsString], path: &[PathBuf]) -> Vec<OsString> {
    let is_command = |name: &OsStr| name.to_str().is_some_and(|name| COMMANDS.contains(&name));
    let (name, rest) = match arguments.split_first() {
        Some((first, rest)) if is_command(first) => (first.clone(), rest.to_vec()),
        Some((first, _)) if first == "--help" || first == "-h" => return arguments.to_vec(),
        Some((first, _)) if first.as_encoded_bytes().starts_with(b"-") => {
            (OsString::from("run"), arguments.to_vec())
        }
        _ => ("run".into(), [&["--".into()][..], arguments].concat()),
    };
    let mut all = vec![name];
    if all[0] == "run" || all[0] == "exec" {
        for folder in path {
            all.extend(["--path".into(), folder.into()]);
        }
    }
    all.extend(rest);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_and_an_order_to_the_lab_are_told_apart() {
        for (given, expected) in [
            ("-- up", "run --path /p -- up"),
            ("uname -a", "run --path /p -- uname -a"),
            ("--cpus 2 -- nproc", "run --path /p --cpus 2 -- nproc"),
            ("run --mem 512 -- nproc", "run --path /p --mem 512 -- nproc"),
            ("exec -- nproc", "exec --path /p -- nproc"),
            ("up --mem 512", "up --mem 512"),
            ("--help", "--help"),
        ] {
            let words: Vec<_> = given.split(' ').map(OsString::from).collect();
            let told = translate(&words, &["/p".into()]);
            assert_eq!(told.join(OsStr::new(" ")), expected);
        }
    }
}
