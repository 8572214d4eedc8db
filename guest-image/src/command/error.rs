//! Programs that are missing or fail, and the packages that have them.

use std::io;
use std::process::ExitStatus;

/// Programs the recipes run and the Debian packages they come in.
pub(super) const PACKAGES: &[(&str, &str)] = &[
    ("apt-get", "apt"),
    ("bc", "bc"),
    ("bison", "bison"),
    ("dpkg-deb", "dpkg"),
    ("dpkg-query", "dpkg"),
    ("flex", "flex"),
    ("gcc", "gcc"),
    ("gzip", "gzip"),
    ("make", "make"),
    ("mkfs.erofs", "erofs-utils"),
    ("strip", "binutils"),
    ("tar", "tar"),
    ("unshare", "util-linux"),
    ("xz", "xz-utils"),
];

/// A program that could not do its part.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It is not installed.
    #[error("`{program}` is not installed: run `apt-get install {package}`")]
    Missing {
        /// The program.
        program: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// It could not be started or waited for.
    #[error("cannot run `{program}`")]
    Run {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It ended with a failure.
    #[error("`{program}` failed ({status}): {}", telling_line(stderr))]
    Failed {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The last lines it wrote to its error output.
        stderr: Vec<String>,
    },
    /// The caller gave up; the program was ended.
    #[error("interrupted")]
    Interrupted,
}

/// The line of an error output that most likely tells the cause: the first that calls itself an error, else the last.
fn telling_line(stderr: &[String]) -> &str {
    const MARKS: [&str; 4] = ["No space left", "E: ", "error:", "Error:"];
    MARKS
        .iter()
        .find_map(|mark| stderr.iter().find(|line| line.contains(mark)))
        .or(stderr.iter().rev().find(|line| !line.trim().is_empty()))
        .map_or("it said nothing", |line| line.trim())
}

/// The error for a program that is not installed.
pub(super) fn missing(program: &str) -> CommandError {
    let package = PACKAGES.iter().find(|(name, _)| *name == program).map_or("it", |(_, p)| *p);
    CommandError::Missing { program: program.to_owned(), package }
}
