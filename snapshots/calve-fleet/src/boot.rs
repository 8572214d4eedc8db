//! What a machine is booted from, and what it is connected to.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use calve_proto::limits::{
    DEFAULT_INIT_TIMEOUT_MS, DEFAULT_LOG_LIMIT, DEFAULT_TIMEOUT_MS, UP_PORT,
};
use calve_proto::wire;
use calve_vmm::{Access, Shape};
use nix::sys::socket::{SockType, getsockopt, sockopt};

/// A machine to boot.
#[derive(Debug)]
pub struct BootSpec {
    /// Memory and vCPUs; as many disks as `disks` has.
    pub shape: Shape,
    /// Kernel: `vmlinux` or `bzImage`.
    pub kernel: File,
    /// Initial RAM file system.
    pub initrd: Option<File>,
    /// Kernel command line.
    pub cmdline: String,
    /// `/dev/vda`, `/dev/vdb`, … with what the guest may do to them. Files of read-write disks
    /// must be open for writing.
    pub disks: Vec<(File, Access)>,
    /// Where the serial console goes.
    pub console: ConsoleTo,
    /// Ports of the host that the guest may connect to.
    pub ports: Ports,
    /// How long until the agent in the guest must be up; for machines with an agent only.
    pub up_timeout: Duration,
}

impl BootSpec {
    /// Time until the agent must be up where nothing else is said: a boot takes well under a
    /// second on hardware, some 20 times that under emulation.
    pub const UP_TIMEOUT: Duration = Duration::from_secs(60);

    /// A machine that boots `kernel`, with its console kept for error messages.
    pub fn new(shape: Shape, kernel: File, cmdline: impl Into<String>) -> Self {
        Self {
            shape,
            kernel,
            initrd: None,
            cmdline: cmdline.into(),
            disks: Vec::new(),
            console: ConsoleTo::Tail,
            ports: Ports::default(),
            up_timeout: Self::UP_TIMEOUT,
        }
    }

    /// Whether the guest may write to one of its disks.
    pub(crate) fn writes_disks(&self) -> bool {
        self.disks.iter().any(|(_, access)| *access == Access::ReadWrite)
    }
}

/// Where a machine's serial console goes.
#[derive(Debug, Default)]
pub enum ConsoleTo {
    /// The last few KiB are kept, for error messages.
    #[default]
    Tail,
    /// To this descriptor, such as a terminal, as it comes. Typing comes from the other one, if
    /// there is one; both are handed to the worker.
    Terminal {
        /// Written to. Make it non-blocking, or the guest waits for its reader.
        output: OwnedFd,
        /// Read from.
        input: Option<OwnedFd>,
    },
    /// Nowhere.
    Nowhere,
}

/// Ports of the host (CID 2) that a guest may connect to. Others are refused.
///
/// Connections are delivered while somebody waits for the machine (a call, a boot).
#[derive(Debug, Default)]
pub struct Ports {
    accept: BTreeMap<u32, SyncSender<UnixStream>>,
}

impl Ports {
    /// Most ports of one machine, the agent's own included.
    pub const MAX: usize = 64;

    /// Delivers connections to `port` to `receiver`; those for which its channel has no room are closed, so that a guest
    /// does not decide how many wait. Replaces an earlier one of that port;
    /// [`UP_PORT`] is the agent's. Ports beyond [`Ports::MAX`] are refused like unknown ones.
    #[must_use]
    pub fn accept(mut self, port: u32, receiver: SyncSender<UnixStream>) -> Self {
        if port != UP_PORT && (self.accept.len() + 1 < Self::MAX || self.accept.contains_key(&port))
        {
            self.accept.insert(port, receiver);
        }
        self
    }

    /// The ports of a clone. Its agent is up already: one port less for its function to dial.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.accept.keys().copied().collect()
    }

    /// The ports of a machine that boots, the agent's included.
    pub(crate) fn numbers_at_boot(&self) -> Vec<u32> {
        [UP_PORT].into_iter().chain(self.numbers()).collect()
    }

    /// Hands a connection to whoever wants it; otherwise it is closed.
    pub(crate) fn deliver(&self, port: u32, stream: OwnedFd) {
        // A worker can pass descriptors of anything.
        let is_stream = getsockopt(&stream, sockopt::SockType) == Ok(SockType::Stream);
        if let Some(receiver) = self.accept.get(&port).filter(|_| is_stream) {
            // One that is gone or has enough wants no more connections.
            let _ = receiver.try_send(UnixStream::from(stream));
        }
    }
}

/// The function that a machine runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Name, at most 140 bytes.
    pub name: String,
    /// Version, at most 512 bytes; `$LATEST` where none is given.
    pub version: String,
    /// ARN, at most 512 bytes, or empty.
    pub arn: String,
    /// `python3.11`, `node20` or `provided`.
    pub runtime: String,
    /// `module.function`.
    pub handler: String,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Deadline of a call that brings none.
    pub timeout: Duration,
    /// How long the runtime may take to start.
    pub init_timeout: Duration,
}

impl Function {
    /// A function with the deadlines of AWS Lambda.
    pub fn new(name: &str, runtime: &str, handler: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: String::new(),
            arn: String::new(),
            runtime: runtime.to_owned(),
            handler: handler.to_owned(),
            env: BTreeMap::new(),
            timeout: Duration::from_millis(DEFAULT_TIMEOUT_MS.into()),
            init_timeout: Duration::from_millis(DEFAULT_INIT_TIMEOUT_MS.into()),
        }
    }

    pub(crate) fn configure(&self, memory_mib: u32) -> wire::Configure {
        let env = self
            .env
            .iter()
            .map(|(name, value)| wire::EnvVar { name: name.clone(), value: value.clone() });
        wire::Configure {
            runtime: self.runtime.clone(),
            handler: self.handler.clone(),
            env: env.collect(),
            timeout_ms: millis(self.timeout),
            init_timeout_ms: millis(self.init_timeout),
            memory_mib,
            function_name: self.name.clone(),
            function_version: self.version.clone(),
            function_arn: self.arn.clone(),
            log_limit: DEFAULT_LOG_LIMIT,
        }
    }
}

/// Milliseconds, never the zero that means "default".
fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn a_connection_reaches_the_receiver_of_its_port() {
        let (sender, receiver) = sync_channel(1);
        let ports = Ports::default().accept(7, sender);
        assert_eq!((ports.numbers(), ports.numbers_at_boot()), (vec![7], vec![UP_PORT, 7]));
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ports.deliver(7, theirs.into());
        receiver.try_recv().unwrap().write_all(b"x").unwrap();
        ours.read_exact(&mut [0]).unwrap();
    }

    #[test]
    fn what_is_no_stream_or_for_nobody_is_closed() {
        let (sender, receiver) = sync_channel(1);
        let ports = Ports::default().accept(7, sender);
        ports.deliver(7, File::open("/dev/null").unwrap().into());
        ports.deliver(8, UnixStream::pair().unwrap().0.into());
        assert!(receiver.try_recv().is_err());
    }

    #[test]
    fn connections_beyond_what_a_receiver_has_room_for_are_closed() {
        let (sender, receiver) = sync_channel(2);
        let ports = Ports::default().accept(7, sender);
        let mut ours: Vec<_> = (0..4)
            .map(|_| {
                let (ours, theirs) = UnixStream::pair().unwrap();
                ports.deliver(7, theirs.into());
                ours
            })
            .collect();
        for ours in &mut ours[2..] {
            assert_eq!(ours.read(&mut [0]).unwrap(), 0);
        }
        assert_eq!(receiver.try_iter().count(), 2);
    }

    #[test]
    fn the_agents_port_and_too_many_are_not_given_away() {
        let (sender, _receiver) = sync_channel(1);
        let most = (0..200).fold(Ports::default(), |p, n| p.accept(n, sender.clone()));
        assert_eq!(most.numbers_at_boot().len(), Ports::MAX);
        assert!(Ports::default().accept(UP_PORT, sender).numbers().is_empty());
    }
}
