//! The lab's inside: what answers the callers. Runs as `calve-lab agent`, the same program as outside,
//! from this machine's files, so both ends of the wire are always of one version.
//!
//! ```text
//!  PID 1 (sh) ── agent ─┬─ server of port 1 ── supervisor (PID 1 of its own namespace) ── command
//!                       └─ server of port N ── …
//! ```
//!
//! A server is a process and not a thread, as only a process with one thread may take children into a
//! new process namespace. Its death costs one port; the end of the agent ends the nested host.

mod port;
mod server;
mod supervisor;

use std::fs;
use std::process::Command;

pub use port::Port;
pub use server::serve;
pub use supervisor::supervise;

/// What the driver of virtio-serial shows of its ports.
const PORTS: &str = "/sys/class/virtio-ports";
/// The path by which a process of ours starts another one.
const SELF: &str = "/proc/self/exe";

/// A failure inside the lab; its text ends up on the console or in the caller's hands.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {action}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The nested host has no port to its callers.
    #[error("no virtio-serial port below {PORTS}")]
    NoPort,
    /// A supervisor with no command to supervise.
    #[error("no command given")]
    NoCommand,
}

impl Error {
    fn system<E: Into<std::io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}

/// Starts a server for every port and waits for them all to end, which none does by itself.
pub fn run() -> Result<(), Error> {
    let ports = fs::read_dir(PORTS).map_err(Error::system("list the ports"))?;
    let mut servers = Vec::new();
    for port in ports.flatten() {
        let mut server = Command::new(SELF);
        server.arg("serve").arg(port.file_name());
        servers.push(server.spawn().map_err(Error::system("start the server of a port"))?);
    }
    if servers.is_empty() {
        return Err(Error::NoPort);
    }
    for mut server in servers {
        let status = server.wait().map_err(Error::system("wait for a server"))?;
        eprintln!("the server of a port ended: {status}");
    }
    Ok(())
}
