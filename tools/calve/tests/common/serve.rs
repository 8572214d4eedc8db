//! A running `calve serve`, and the programs of `tests/serve` that are its clients.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::leftovers::{World, wait_until};
use super::{Place, Said};

/// How long the daemon may take to start, or to end. An emulated host is some 20 times slower than others.
const DAEMON: Duration = Duration::from_secs(120);
/// When a client is taken for hung, in seconds: less than `cargo xtask test` gives all tests of a binary, so that the
/// client's own words are seen.
const CLIENT: &str = "600";

/// The daemon, with a data folder of its own. Killed when dropped; [`Daemon::stop`] is how it should end.
pub(crate) struct Daemon {
    child: Child,
    address: SocketAddr,
    key: Key,
    place: Place,
    before: World,
}

/// Who its clients are.
struct Key {
    id: String,
    secret: String,
}

impl Daemon {
    /// Starts it, waits until it says that it is well, and makes a key.
    pub(crate) fn start() -> Self {
        let (place, before) = (Place::in_memory(), World::now());
        let address = free_address();
        let log = File::create(log(&place)).unwrap();
        let mut serve = place.command(["serve", "--listen", &address.to_string(), "--data"]);
        serve.arg(data(&place)).stdout(log.try_clone().unwrap()).stderr(log);
        let key = Key { id: String::new(), secret: String::new() };
        let child = serve.spawn().unwrap();
        let mut daemon = Self { child, address, key, place, before };
        daemon.wait_until_well();
        daemon.key = daemon.make_key();
        daemon
    }

    /// Runs a program of `tests/serve` as its client, to a good end.
    #[track_caller]
    pub(crate) fn serves(&self, program: &str) {
        let folder = self.place.folder.path().join("client");
        fs::create_dir_all(&folder).unwrap();
        let interpreter = if program.ends_with(".sh") { "bash" } else { "python3.11" };
        let mut client = Command::new("timeout");
        client.args(["--kill-after=10", CLIENT, interpreter]);
        client.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/serve").join(program));
        client.current_dir(&folder).env("CALVE_ENDPOINT", format!("http://{}", self.address));
        client
            .env("AWS_ACCESS_KEY_ID", &self.key.id)
            .env("AWS_SECRET_ACCESS_KEY", &self.key.secret);
        // What the machine's owner has configured must not matter.
        client.env("AWS_CONFIG_FILE", "/dev/null").env("AWS_SHARED_CREDENTIALS_FILE", "/dev/null");
        client.env("AWS_EC2_METADATA_DISABLED", "true").env("PYTHONDONTWRITEBYTECODE", "1");
        client.env("PYTHONPATH", given("CALVE_TEST_CLIENTS")).env("PATH", search_path());
        let said = Said::from(client.output().unwrap());
        assert!(
            said.status == Some(0) && said.stdout.ends_with("passed\n"),
            "{program} ended with {:?}\n{}{}\nthe daemon said:\n{}",
            said.status,
            said.stdout,
            said.stderr,
            self.said()
        );
    }

    /// Ends it as a service manager does. It must end well, and leave no process, socket or temporary file.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM).unwrap();
        let deadline = Instant::now() + DAEMON;
        let status = loop {
            if let Some(status) = self.ended() {
                break status;
            }
            assert!(Instant::now() < deadline, "SIGTERM does not end it:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        };
        assert_eq!(status.code(), Some(0), "{status}: the daemon said:\n{}", self.said());
        // A process that was killed may be seen for a moment longer.
        wait_until(|| World::now() == self.before);
        self.before.assert_unchanged(&self.place);
    }

    fn wait_until_well(&mut self) {
        let deadline = Instant::now() + DAEMON;
        while !is_well(self.address) {
            let ended = self.ended();
            assert!(ended.is_none(), "the daemon ended, {ended:?}:\n{}", self.said());
            assert!(Instant::now() < deadline, "/healthz is never 200:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn make_key(&self) -> Key {
        let mut create = self.place.command(["key", "create", "--tenant", "test", "--json"]);
        create.arg("--data").arg(data(&self.place));
        let key = Said::from(create.output().unwrap()).status(0).json().remove(0);
        let text = |name: &str| {
            key[name].as_str().unwrap_or_else(|| panic!("no {name} in {key}")).to_owned()
        };
        Key { id: text("access_key_id"), secret: text("secret_access_key") }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// What it has printed so far.
    fn said(&self) -> String {
        fs::read_to_string(log(&self.place)).unwrap_or_else(|error| error.to_string())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn data(place: &Place) -> PathBuf {
    place.folder.path().join("data")
}

fn log(place: &Place) -> PathBuf {
    place.folder.path().join("serve.log")
}

/// An address on which nobody listens. The kernel gives its port to nobody else soon.
fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// Whether `GET /healthz` is answered with 200.
fn is_well(address: SocketAddr) -> bool {
    let answer = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&address, DAEMON)?;
        stream.set_read_timeout(Some(DAEMON))?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: calve\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    answer().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200 "))
}

/// The search path with Debian's programs first: a version manager's `python3.11` is a shell script that looks for the
/// real one each time, which takes seconds on an emulated host.
fn search_path() -> OsString {
    let mut path = OsString::from("/usr/bin:");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    path
}

/// What `cargo xtask test` has put into the environment.
#[track_caller]
fn given(variable: &str) -> PathBuf {
    let value = std::env::var_os(variable);
    value.unwrap_or_else(|| panic!("{variable} is not set: run `cargo xtask test`")).into()
}
