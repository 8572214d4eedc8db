//! Starts the runtime's process.
//!
//! An executable `bootstrap` in the code folder is a client of the Runtime API, whatever the configured runtime: so
//! `awslambdaric` runs on the Python root image. Without one, Python and Node get our shims, and other runtimes the
//! `bootstrap` of a layer.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use calve_proto::{ErrorKind, FunctionError};
use command_fds::{CommandFdExt, FdMapping};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::Pid;

use super::env::environment;
use super::shim::ShimLink;
use super::{Backend, Function, layers};
use crate::lambda_api::LambdaApi;
use crate::logs::LogPump;
use crate::place::Place;

/// Descriptor on which a shim finds its socket.
const SHIM_FD: i32 = 3;

/// Our shims' files, as they are laid out under the run folder.
const SHIM_FILES: [(&str, &str); 12] = [
    ("python/__main__.py", include_str!("../../shims/python/__main__.py")),
    (
        "python/calve_runtime/__init__.py",
        include_str!("../../shims/python/calve_runtime/__init__.py"),
    ),
    ("python/calve_runtime/link.py", include_str!("../../shims/python/calve_runtime/link.py")),
    ("python/calve_runtime/loader.py", include_str!("../../shims/python/calve_runtime/loader.py")),
    (
        "python/calve_runtime/context.py",
        include_str!("../../shims/python/calve_runtime/context.py"),
    ),
    ("python/calve_runtime/freeze.py", include_str!("../../shims/python/calve_runtime/freeze.py")),
    ("python/snapshot_restore_py.py", include_str!("../../shims/python/snapshot_restore_py.py")),
    ("node/main.cjs", include_str!("../../shims/node/main.cjs")),
    ("node/link.cjs", include_str!("../../shims/node/link.cjs")),
    ("node/loader.cjs", include_str!("../../shims/node/loader.cjs")),
    ("node/freeze.cjs", include_str!("../../shims/node/freeze.cjs")),
    ("node/stream.cjs", include_str!("../../shims/node/stream.cjs")),
];

/// Name of a function's own runtime.
const BOOTSTRAP: &str = "bootstrap";
/// Tells a shim that its function comes later. Set by us alone.
pub(super) const PRELOAD: &str = "CALVE_PRELOAD";

/// Why no process came to be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    /// Neither a known language nor a bootstrap.
    #[error(
        "no executable `bootstrap` in {0} or in a layer, and runtime `{1}` has no handler loader; add one, or use python3.N or nodeN"
    )]
    NoEntrypoint(PathBuf, String),
    /// The root image lacks the language.
    #[error("runtime `{0}` is not in this root image ({1} not found on PATH)")]
    NoInterpreter(String, String),
    /// A system call failed.
    #[error("cannot {0}")]
    System(&'static str, #[source] io::Error),
}

impl From<&LaunchError> for FunctionError {
    fn from(error: &LaunchError) -> Self {
        let text = match error {
            LaunchError::System(_, source) => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        Self::new(ErrorKind::Init, "Runtime.InvalidEntrypoint", text)
    }
}

/// A runtime that has been started.
#[derive(Debug)]
pub(crate) struct Launch {
    /// Leader of the runtime's process group.
    pub(crate) pid: Pid,
    pub(crate) backend: Backend,
    pub(crate) logs: LogPump,
}

/// What to execute.
struct Program {
    path: PathBuf,
    args: Vec<PathBuf>,
}

/// What a runtime is started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Its function, at once.
    Function,
    /// A function that it is told of later.
    Runtime,
}

/// Variables that a process reads when it starts, by prefix: a function that sets one gets a process of its own.
const READ_AT_START: [&str; 14] = [
    "PYTHON", "NODE_", "LD_", "GLIBC_", "MALLOC_", "OPENSSL_", "SSL_", "UV_", "LC_", "LANG", "TZ",
    "HOME", "PATH", "ICU_",
];

/// Whether a runtime without a function can become this one's.
pub(crate) fn adoptable(place: &impl Place, function: &Function) -> bool {
    let early = |name: &str| READ_AT_START.iter().any(|prefix| name.starts_with(prefix));
    bootstrap(place, &function.configure.runtime).is_none()
        && !layers::has_libraries(place.layers_root())
        && !function.configure.env.iter().any(|variable| early(&variable.name))
}

/// The program that is the runtime, if it is not a shim of ours: the function's own; of a layer, only where there is no
/// shim, as it may have been made for another runtime.
fn bootstrap(place: &impl Place, runtime: &str) -> Option<PathBuf> {
    let own = place.task_root().join(BOOTSTRAP);
    let of_layer = (!has_shim(runtime)).then(|| place.layers_root().join(BOOTSTRAP));
    std::iter::once(own).chain(of_layer).find(|path| is_executable(path))
}

/// The variables of a runtime in its place.
fn variables(
    place: &impl Place,
    function: &Function,
    api: Option<SocketAddr>,
) -> Vec<(String, String)> {
    let (task_root, layers_root) = (place.task_root(), place.layers_root());
    environment(function, task_root, layers_root, &place.search_path(), api)
}

/// Whether a runtime has a shim of ours.
pub(crate) fn has_shim(runtime: &str) -> bool {
    runtime.starts_with("python") || runtime.starts_with("node")
}

impl Launch {
    /// Tells a runtime without a function which one it is.
    pub(crate) fn become_function(&mut self, place: &impl Place, function: &Function) {
        self.logs.set_limit(function.configure.log_limit);
        let env = variables(place, function, None);
        if let Backend::Shim(link) = &mut self.backend {
            link.load(&env.into_iter().collect());
        }
    }
}

/// Starts the runtime of `function`.
pub(crate) fn launch(
    place: &impl Place,
    function: &Function,
    start: Start,
) -> Result<Launch, LaunchError> {
    let bootstrap = bootstrap(place, &function.configure.runtime);
    if let Some(path) = bootstrap.filter(|_| start == Start::Function) {
        let api = LambdaApi::listen(place.api_address())
            .map_err(|e| LaunchError::System("listen for the Runtime API", e))?;
        let program = Program { path, args: Vec::new() };
        let env = variables(place, function, Some(api.address()));
        let (pid, logs) = spawn(place, env, &program, function.configure.log_limit, None)?;
        return Ok(Launch { pid, backend: Backend::Api(Box::new(api)), logs });
    }
    let program = shim_program(place, &function.configure.runtime)?;
    let (ours, theirs) =
        UnixStream::pair().map_err(|e| LaunchError::System("open the shim's socket", e))?;
    ours.set_nonblocking(true).map_err(|e| LaunchError::System("open the shim's socket", e))?;
    let mut env = variables(place, function, None);
    if start == Start::Runtime {
        env.push((PRELOAD.into(), "1".into()));
    }
    let limit = function.configure.log_limit;
    let (pid, logs) = spawn(place, env, &program, limit, Some(theirs.into()))?;
    Ok(Launch { pid, backend: Backend::Shim(ShimLink::new(ours)), logs })
}

/// The interpreter and the shim for a language, the shim's files written out.
fn shim_program(place: &impl Place, runtime: &str) -> Result<Program, LaunchError> {
    let dir = place.run_dir();
    let (name, args) = match runtime {
        python if python.starts_with("python") => (python, vec![dir.join("python")]),
        node if node.starts_with("node") => ("node", vec![dir.join("node/main.cjs")]),
        _ => {
            let root = place.task_root().to_owned();
            return Err(LaunchError::NoEntrypoint(root, runtime.to_owned()));
        }
    };
    let found = std::env::split_paths(&place.search_path())
        .map(|dir| dir.join(name))
        .find(|path| is_executable(path));
    let Some(path) = found else {
        return Err(LaunchError::NoInterpreter(runtime.to_owned(), name.to_owned()));
    };
    write_shims(dir).map_err(|e| LaunchError::System("write the shims", e))?;
    Ok(Program { path, args })
}

fn write_shims(dir: &Path) -> io::Result<()> {
    for (name, text) in SHIM_FILES {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Starts `program` in a process group of its own, its output in our pipes.
fn spawn(
    place: &impl Place,
    env: Vec<(String, String)>,
    program: &Program,
    log_limit: u64,
    shim: Option<OwnedFd>,
) -> Result<(Pid, LogPump), LaunchError> {
    let mut command = Command::new(&program.path);
    command
        .args(&program.args)
        .env_clear()
        .envs(env)
        .current_dir(place.task_root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if let Some(parent_fd) = shim {
        let mapping = FdMapping { parent_fd, child_fd: SHIM_FD };
        command
            .fd_mappings(vec![mapping])
            .map_err(|e| LaunchError::System("pass the shim's socket", io::Error::other(e)))?;
    }
    let mut child = command.spawn().map_err(|e| LaunchError::System("start the runtime", e))?;
    let pipes = child.stdout.take().zip(child.stderr.take());
    let (stdout, stderr) = pipes.ok_or_else(|| {
        LaunchError::System("read the runtime's output", io::ErrorKind::BrokenPipe.into())
    })?;
    let (stdout, stderr) = (OwnedFd::from(stdout), OwnedFd::from(stderr));
    for pipe in [&stdout, &stderr] {
        fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|e| LaunchError::System("read the runtime's output", e.into()))?;
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    // `child` is dropped unwaited: the agent reaps every child in one place.
    Ok((pid, LogPump::new(stdout, stderr, log_limit)))
}
