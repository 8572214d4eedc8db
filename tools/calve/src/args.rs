//! The command line, as clap sees it.
//!
//! Texts here are what `--help` shows: each command says what it does, what it prints and how it is used.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueHint};

use calve_image::Runtime;

mod examples;
mod host;
#[cfg(test)]
mod tests;
pub(crate) mod usage;
mod values;

pub(crate) use host::{
    Configuration, Create, CreateEvent, Data, Event, Events, Function, Functions, Invoke, Key,
    Layer, Layers, PublishLayer, Qualifier, Server, Top, Update, Waiting,
};
pub(crate) use values::EnvVar;

/// Calls functions in micro-VMs that are split off frozen snapshots.
#[derive(Debug, Parser)]
#[command(name = "calve", version, after_help = examples::CALVE, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Where snapshots are kept [default: the user's data folder, such as ~/.local/share/calve]
    #[arg(long, global = true, env = "CALVE_STORE", hide_env_values = true)]
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath, value_parser = path_or_empty())]
    pub(crate) store: Option<PathBuf>,

    /// Refuse snapshots that none of these keys has signed: an Ed25519 public key in PEM, or a folder of them
    #[arg(long, global = true, env = "CALVE_TRUSTED_KEYS", hide_env_values = true)]
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath, value_parser = path_or_empty())]
    pub(crate) trusted_keys: Option<PathBuf>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what this host offers, what is missing, and the remedy
    #[command(after_help = examples::DOCTOR)]
    Doctor {
        /// Print one JSON object instead of the table
        #[arg(long)]
        json: bool,
    },
    /// Build and list the kernel and the root images
    #[command(subcommand, after_help = examples::IMAGE)]
    Image(Image),
    /// Build, list, check and remove snapshots
    #[command(subcommand, after_help = examples::SNAPSHOT)]
    Snapshot(Snapshot),
    /// Call a function, each call in a fresh machine
    #[command(after_help = examples::RUN)]
    Run(Run),
    /// Call a machine, then fork it as it is: each further call goes to a child of its own
    #[command(after_help = examples::FORK)]
    Fork(Fork),
    /// Boot a plain machine with its serial console on the terminal
    #[command(after_help = examples::BOOT)]
    Boot(Boot),
    /// Serve functions over HTTP, with an API that AWS Lambda's clients speak
    #[command(after_help = examples::SERVE)]
    Serve(Serve),
    /// Make, list and remove access keys of a function host
    #[command(subcommand, after_help = examples::KEY)]
    Key(Key),
    /// Make, change, call and remove functions of a running function host
    #[command(after_help = examples::FUNCTION)]
    Function(Functions),
    /// Publish, list and remove layers, which functions of a running function host share
    #[command(after_help = examples::LAYER)]
    Layer(Layers),
    /// Make, list and remove event sources of a running function host
    #[command(after_help = examples::EVENT)]
    Event(Events),
    /// Watch a running function host: its machines, its queues, its functions
    #[command(after_help = examples::TOP)]
    Top(Top),
    /// Print the completion script of a shell
    #[command(after_help = examples::COMPLETIONS)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen [default: 127.0.0.1:9470]
    #[arg(long, value_name = "ADDR:PORT", env = "CALVE_LISTEN")]
    pub(crate) listen: Option<std::net::SocketAddr>,

    /// Where everything is kept; made if it is not there, for this user alone
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, env = "CALVE_DATA")]
    pub(crate) data: Option<PathBuf>,

    /// Settings in TOML, named as the options are; options and variables win
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, env = "CALVE_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// The region in ARNs [default: us-east-1]
    #[arg(long, value_name = "NAME", env = "CALVE_REGION")]
    pub(crate) region: Option<String>,

    /// What the host names of function URLs end with [default: lambda-url.<region>.localhost]
    #[arg(long, value_name = "DOMAIN", env = "CALVE_URL_DOMAIN")]
    pub(crate) url_domain: Option<String>,

    /// Guest memory of all machines together, MiB [default: three quarters of what is available]
    #[arg(long, value_name = "MIB", env = "CALVE_MEMORY", value_parser = clap::value_parser!(u64).range(128..))]
    pub(crate) memory: Option<u64>,

    /// Machines at the same time [default: 500]
    #[arg(long, value_name = "N", env = "CALVE_MACHINES", value_parser = clap::value_parser!(u32).range(1..=5000))]
    pub(crate) machines: Option<u32>,

    /// Snapshots that are built at the same time [default: 1]
    #[arg(long, value_name = "N", env = "CALVE_BUILDS", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) builds: Option<u32>,

    /// Seconds that a call waits for a machine at most [default: 2]
    #[arg(long, value_name = "S", env = "CALVE_PATIENCE")]
    pub(crate) patience: Option<u32>,

    /// Memory for bodies of requests before it is known who sends them, MiB [default: 256]
    #[arg(long, value_name = "MIB", env = "CALVE_BODIES", value_parser = clap::value_parser!(u32).range(140..=1 << 20))]
    pub(crate) bodies: Option<u32>,

    /// Seconds until an asynchronous call that its function failed is tried again [default: 60]
    #[arg(long, value_name = "S", env = "CALVE_RETRY")]
    pub(crate) retry: Option<u32>,

    /// Seconds that calls under way have when the host is told to end [default: 60]
    #[arg(long, value_name = "S", env = "CALVE_GRACE")]
    pub(crate) grace: Option<u32>,

    /// How the log is written: for people, or a JSON object a line [default: text]
    #[arg(long, value_name = "FORMAT", env = "CALVE_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,

    /// Leave the first root key, as ID:SECRET, in this new file for this user alone, instead of printing it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, env = "CALVE_FIRST_KEY")]
    #[arg(value_parser = path_or_empty())]
    pub(crate) first_key: Option<PathBuf>,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Build what is not built yet and print where it is
    #[command(after_help = examples::IMAGE)]
    Build {
        /// Root images to build besides the kernel; all of them if none is given
        #[arg(value_name = "RUNTIME", value_parser = runtime())]
        runtimes: Vec<Runtime>,
    },
    /// List what is built
    #[command(after_help = examples::IMAGE)]
    Ls {
        /// Print one JSON object a line instead of the table
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Snapshot {
    /// Boot a function, warm it up, freeze it
    #[command(after_help = examples::BUILD)]
    Build(Box<Build>),
    /// List the snapshots of the store
    #[command(after_help = examples::SNAPSHOT)]
    Ls {
        /// Print one JSON object a line instead of the table
        #[arg(long)]
        json: bool,
    },
    /// Print what is known about a snapshot as one JSON object
    #[command(after_help = examples::SNAPSHOT)]
    Inspect {
        /// The snapshot
        name: String,
    },
    /// Read back every byte of a snapshot and its images, and compare digests
    #[command(after_help = examples::SNAPSHOT)]
    Verify {
        /// The snapshot
        name: String,
    },
    /// Read back a snapshot and sign it, for hosts that refuse others
    #[command(after_help = examples::SIGN)]
    Sign {
        /// The snapshot
        name: String,
        /// Ed25519 private key in PEM
        #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
        key: PathBuf,
    },
    /// Remove a snapshot, and the images that no other one needs
    #[command(after_help = examples::SNAPSHOT)]
    Rm {
        /// The snapshots
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Build {
    /// Name of the snapshot; an older one of that name is replaced
    pub(crate) name: String,
    /// Language runtime
    #[arg(long, value_parser = runtime())]
    pub(crate) runtime: Runtime,
    /// Folder with the function's code; the function sees it as /var/task
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) code: PathBuf,
    /// Folder or zip file of a layer; may be repeated. The function sees all of them merged as /opt, later ones over
    /// earlier ones
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) layer: Vec<PathBuf>,
    /// What to call, as `module.function`; told to a `bootstrap` as _HANDLER
    #[arg(long, value_name = "MODULE.FUNCTION")]
    #[arg(required_if_eq_any = [("runtime", "python3.11"), ("runtime", "node20")])]
    pub(crate) handler: Option<String>,
    /// Memory of the machine in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = values::memory)]
    pub(crate) memory: u32,
    /// Processors of the machine
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::vcpus)]
    pub(crate) vcpus: u8,
    /// Deadline of a call in seconds
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = values::seconds)]
    pub(crate) timeout: Duration,
    /// Deadline of the function's start in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = values::seconds)]
    pub(crate) init_timeout: Duration,
    /// Environment variable of the function; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<EnvVar>,
    /// Event of a call to make before the freeze, as JSON, @FILE or - for stdin; may be repeated. The first
    /// one is also what two clones are tried with, to learn which memory a call touches. Not for a bootstrap that waits in restore/next
    /// (awslambdaric with restore hooks): its hooks would have run by then
    #[arg(long, value_name = "EVENT")]
    pub(crate) warm: Vec<String>,
    /// Kernel to use instead of Calve's own: vmlinux or bzImage
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) kernel: Option<PathBuf>,
    /// Boot the function in a machine of its own, instead of building it on a snapshot of its runtime that all
    /// functions share. Its clones have a little less to do; it takes more disk and page cache
    #[arg(long)]
    pub(crate) flat: bool,
    /// Sign the snapshot, and its runtime where that is built with it: an Ed25519 private key in PEM
    #[arg(long, value_name = "FILE", env = "CALVE_SIGN_KEY", hide_env_values = true)]
    #[arg(value_hint = ValueHint::FilePath, value_parser = path_or_empty())]
    pub(crate) sign_key: Option<PathBuf>,
    /// Root image to use instead of the runtime's own; it must hold Calve's agent as /sbin/calve-agent
    #[arg(long, value_name = "IMG", value_hint = ValueHint::FilePath)]
    pub(crate) root: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// The snapshot to call
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) calls: Calls,
    /// Boot the machine from its images instead of thawing it, to compare
    #[arg(long)]
    pub(crate) cold: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Fork {
    /// The snapshot to thaw the parent from
    pub(crate) name: String,
    /// Event to call the parent with before it is forked, as JSON, @FILE or - for stdin; may be repeated
    #[arg(long, value_name = "EVENT")]
    pub(crate) before: Vec<String>,
    #[command(flatten)]
    pub(crate) calls: Calls,
}

/// What is called, how often, and what is printed of it.
#[derive(Debug, Args)]
pub(crate) struct Calls {
    /// The event, as JSON, @FILE or - for stdin
    #[arg(long, value_name = "EVENT", required_unless_present = "events")]
    pub(crate) event: Option<String>,
    /// File with one event a line, each for a call of its own; - for stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["event", "count"], value_hint = ValueHint::FilePath)]
    pub(crate) events: Option<PathBuf>,
    /// Calls to make, each in a fresh machine
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::calls())]
    pub(crate) count: u64,
    /// Machines to use at a time
    #[arg(long, value_name = "P", default_value_t = 1, value_parser = values::machines())]
    pub(crate) parallel: u64,
    /// Print one JSON object a call: result or error, machine, timings, memory
    #[arg(long)]
    pub(crate) json: bool,
    /// Deadline of a call in seconds [default: the snapshot's]
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    pub(crate) timeout: Option<Duration>,
    /// Let the kernel use huge pages under clones: fewer faults, more memory
    #[arg(long)]
    pub(crate) huge_pages: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Boot {
    /// Kernel: vmlinux or bzImage
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) kernel: PathBuf,
    /// Root image, the guest's /dev/vda
    #[arg(long, value_name = "IMG", value_hint = ValueHint::FilePath)]
    pub(crate) root: Option<PathBuf>,
    /// Let the guest write to the root image
    #[arg(long, requires = "root")]
    pub(crate) writable: bool,
    /// Initial RAM file system
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) initrd: Option<PathBuf>,
    /// Kernel command line, in place of the default one
    #[arg(long, value_name = "STRING")]
    pub(crate) cmdline: Option<String>,
    /// Memory in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = values::memory)]
    pub(crate) memory: u32,
    /// Processors
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = values::vcpus)]
    pub(crate) vcpus: u8,
    /// End the machine after this many seconds
    #[arg(long, value_name = "SECONDS", value_parser = values::seconds)]
    pub(crate) timeout: Option<Duration>,
}

/// A variable of the environment that is set but empty counts as not set; clap's own parser refuses it.
fn path_or_empty() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

fn runtime() -> impl TypedValueParser<Value = Runtime> {
    PossibleValuesParser::new(Runtime::ALL.map(Runtime::as_str))
        .try_map(|name| name.parse::<Runtime>())
}
