//! The command line of the agent as an ordinary process.

use std::path::PathBuf;

use lexopt::{Arg, Error, Parser};

/// Where to listen, where the code and its layers lie, where the agent's own files go.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) listen: PathBuf,
    pub(crate) task_root: PathBuf,
    pub(crate) layers_root: Option<PathBuf>,
    pub(crate) run_dir: PathBuf,
}

impl Options {
    /// Reads the arguments.
    pub(crate) fn parse(mut parser: Parser) -> Result<Self, Error> {
        let (mut listen, mut task_root, mut layers_root, mut run_dir) = (None, None, None, None);
        while let Some(arg) = parser.next()? {
            let slot = match arg {
                Arg::Long("listen") => &mut listen,
                Arg::Long("task-root") => &mut task_root,
                Arg::Long("layers-root") => &mut layers_root,
                Arg::Long("run-dir") => &mut run_dir,
                other => return Err(other.unexpected()),
            };
            *slot = Some(PathBuf::from(parser.value()?));
        }
        let usage = "usage outside a guest: calve-agent --listen SOCKET --task-root DIR --run-dir DIR \
                     [--layers-root DIR]";
        match (listen, task_root, run_dir) {
            (Some(listen), Some(task_root), Some(run_dir)) => {
                Ok(Self { listen, task_root, layers_root, run_dir })
            }
            _ => Err(usage.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_places_are_needed() {
        let parse = |args: &[&str]| Options::parse(Parser::from_args(args));
        assert!(parse(&["--listen", "a", "--task-root", "b"]).is_err());
        assert!(parse(&["--listen"]).is_err());
        assert!(parse(&["--loud"]).is_err());
        let options = parse(&["--listen", "a", "--task-root=b", "--run-dir", "c"]).unwrap();
        assert_eq!((options.task_root, options.layers_root), (PathBuf::from("b"), None));
        let all = ["--listen", "a", "--task-root=b", "--run-dir", "c", "--layers-root", "d"];
        assert_eq!(parse(&all).unwrap().layers_root, Some(PathBuf::from("d")));
    }
}
