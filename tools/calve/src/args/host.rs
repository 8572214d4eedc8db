//! The commands around a function host: its keys, its functions, their layers, its event sources, a view of it.

use std::fmt;
use std::path::PathBuf;

use clap::{ArgAction, Args, Subcommand, ValueHint};

use super::examples;
use super::values::{EnvVar, Setting, lambda_memory, lambda_seconds};
use crate::host::DEFAULT_URL;

/// Where the host is and who asks. Of no use to the commands that need no running host.
#[derive(Clone, Args)]
pub(crate) struct Server {
    /// Address of the function host
    #[arg(long, global = true, env = "CALVE_URL", value_name = "URL", value_hint = ValueHint::Url)]
    #[arg(default_value = DEFAULT_URL, hide_env_values = true, help_heading = "Function host")]
    pub(crate) url: String,
    /// Access key, as `calve key create` prints it: the id, a colon, the secret. Others on this machine can see a
    /// command line; they cannot see the variable
    #[arg(
        long,
        global = true,
        env = "CALVE_KEY",
        hide_env_values = true,
        value_name = "ID:SECRET"
    )]
    #[arg(help_heading = "Function host")]
    pub(crate) key: Option<String>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("url", &self.url).finish_non_exhaustive()
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Key {
    /// Make an access key, and its tenant if there is none of that name
    #[command(after_help = examples::KEY)]
    Create {
        #[command(flatten)]
        data: Data,
        /// Whose key it is: up to 63 of a-z, 0-9 and -
        #[arg(long, value_name = "NAME")]
        tenant: String,
        /// Let the key act on all tenants
        #[arg(long)]
        root: bool,
        /// Print one JSON object instead of two lines
        #[arg(long)]
        json: bool,
    },
    /// List access keys, without their secrets
    #[command(after_help = examples::KEY)]
    Ls {
        #[command(flatten)]
        data: Data,
        /// Only the keys of this tenant
        #[arg(long, value_name = "NAME")]
        tenant: Option<String>,
        /// Print one JSON object a line instead of the table
        #[arg(long)]
        json: bool,
    },
    /// Remove an access key
    #[command(after_help = examples::KEY)]
    Rm {
        #[command(flatten)]
        data: Data,
        /// The key's id
        id: String,
    },
}

/// Where a function host keeps everything.
#[derive(Debug, Args)]
pub(crate) struct Data {
    /// The folder that the function host keeps its data in; the host may run, or not have run yet
    #[arg(long = "data", env = "CALVE_DATA", hide_env_values = true, value_name = "DIR")]
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Functions {
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(subcommand)]
    pub(crate) command: Function,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Function {
    /// Make a function, and wait until it can be called
    #[command(after_help = examples::FUNCTION_CREATE)]
    Create(Create),
    /// Change a function's code or configuration, and wait until calls go to what is new
    #[command(after_help = examples::FUNCTION_UPDATE)]
    Update(Update),
    /// List functions
    #[command(after_help = examples::FUNCTION)]
    Ls {
        /// Print one JSON object a line instead of the table
        #[arg(long)]
        json: bool,
    },
    /// Print what is known about a function as one JSON object
    #[command(after_help = examples::FUNCTION)]
    Get {
        /// The function
        name: String,
        #[command(flatten)]
        qualifier: Qualifier,
    },
    /// Remove functions with all their versions
    #[command(after_help = examples::FUNCTION)]
    Rm {
        /// The functions
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// Call a function
    #[command(after_help = examples::INVOKE)]
    Invoke(Invoke),
    /// Print what a function's latest calls came to and what it printed
    #[command(after_help = examples::FUNCTION_LOGS)]
    Logs {
        /// The function
        name: String,
        /// Print one JSON object a call instead
        #[arg(long)]
        json: bool,
    },
}

/// Which version is meant.
#[derive(Debug, Args)]
pub(crate) struct Qualifier {
    /// Version or alias [default: what is not published, $LATEST]
    #[arg(long = "qualifier", value_name = "VERSION")]
    pub(crate) value: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Name of the function
    pub(crate) name: String,
    /// The function's code: a folder, or a zip file of one
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) code: PathBuf,
    /// Language runtime, by Calve's name or AWS Lambda's: python3.11, node20, nodejs20.x, provided, provided.al2023
    #[arg(long)]
    pub(crate) runtime: String,
    /// What to call, as `module.function`; told to a `bootstrap` as _HANDLER
    #[arg(long, value_name = "MODULE.FUNCTION")]
    #[arg(required_if_eq_any = [("runtime", "python3.11"), ("runtime", "node20"), ("runtime", "nodejs20.x")])]
    pub(crate) handler: Option<String>,
    #[command(flatten)]
    pub(crate) configuration: Configuration,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true)
    .args(["code", "runtime", "handler", "memory", "timeout", "env", "layer", "no_layers"]))]
pub(crate) struct Update {
    /// The function
    pub(crate) name: String,
    /// Its new code: a folder, or a zip file of one
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) code: Option<PathBuf>,
    /// Its new language runtime
    #[arg(long)]
    pub(crate) runtime: Option<String>,
    /// What to call now, as `module.function`
    #[arg(long, value_name = "MODULE.FUNCTION")]
    pub(crate) handler: Option<String>,
    /// Take all layers away
    #[arg(long, conflicts_with = "layer")]
    pub(crate) no_layers: bool,
    #[command(flatten)]
    pub(crate) configuration: Configuration,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

/// What a new function has a default for, and a change leaves as it is.
#[derive(Debug, Args)]
pub(crate) struct Configuration {
    /// Memory of its machines in MiB [default of a new function: 128]
    #[arg(long, value_name = "MIB", value_parser = lambda_memory())]
    pub(crate) memory: Option<u32>,
    /// Deadline of a call in whole seconds [default of a new function: 3]
    #[arg(long, value_name = "SECONDS", value_parser = lambda_seconds())]
    pub(crate) timeout: Option<u32>,
    /// Environment variable of the function; may be repeated. Those given take the place of all there were
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<EnvVar>,
    /// Layer version, as `calve layer publish` prints it; may be repeated, up to five times: later ones win over earlier
    /// ones. Those given take the place of all there were
    #[arg(long, value_name = "ARN")]
    pub(crate) layer: Vec<String>,
}

/// When the command is done.
#[derive(Debug, Args)]
pub(crate) struct Waiting {
    /// Wait until calls go to what is new; this is the default
    #[arg(long, hide = true, conflicts_with = "no_wait")]
    wait: bool,
    /// Do not wait until the function can be called
    #[arg(long, action = ArgAction::SetTrue)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Invoke {
    /// The function
    pub(crate) name: String,
    /// The event, as JSON, @FILE or - for stdin
    #[arg(long, value_name = "EVENT")]
    pub(crate) event: String,
    #[command(flatten)]
    pub(crate) qualifier: Qualifier,
    /// Do not wait for the result: the host keeps the event, and calls until the function takes it
    #[arg(long = "async")]
    pub(crate) in_background: bool,
    /// Routing value: calls with the same one go to the same machine
    #[arg(long, value_name = "VALUE", conflicts_with = "in_background")]
    pub(crate) route: Option<String>,
    /// Of calls with the same key one runs, and all get its result
    #[arg(long, value_name = "KEY")]
    pub(crate) idempotency_key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Layers {
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(subcommand)]
    pub(crate) command: Layer,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Layer {
    /// Publish a version of a layer
    #[command(after_help = examples::LAYER)]
    Publish(PublishLayer),
    /// List layers, each with its latest version, or the versions of one
    #[command(after_help = examples::LAYER)]
    Ls {
        /// The layer whose versions to list, the newest first
        name: Option<String>,
        /// Print one JSON object a line instead of the table
        #[arg(long)]
        json: bool,
    },
    /// Remove versions of layers; functions that have them keep them
    #[command(after_help = examples::LAYER)]
    Rm {
        /// The versions, as NAME:VERSION or ARN
        #[arg(required = true, value_name = "VERSION")]
        versions: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct PublishLayer {
    /// Name of the layer
    pub(crate) name: String,
    /// What functions see as /opt: a folder, or a zip file of one
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) content: PathBuf,
    /// What it is
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// Its licence
    #[arg(long, value_name = "TEXT")]
    pub(crate) license: Option<String>,
    /// Runtime that it is for, to be shown in lists; may be repeated
    #[arg(long)]
    pub(crate) runtime: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Events {
    #[command(flatten)]
    pub(crate) server: Server,
    #[command(subcommand)]
    pub(crate) command: Event,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Event {
    /// List event sources
    #[command(after_help = examples::EVENT)]
    Ls {
        /// Print one JSON object a line instead of the table
        #[arg(long)]
        json: bool,
    },
    /// Send what happens somewhere to a function
    #[command(after_help = examples::EVENT)]
    Create(CreateEvent),
    /// Remove event sources
    #[command(after_help = examples::EVENT)]
    Rm {
        /// Their ids
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateEvent {
    /// The function that is called
    pub(crate) function: String,
    #[command(flatten)]
    pub(crate) qualifier: Qualifier,
    /// What the events come from: file-drop, schedule, queue or table
    #[arg(long)]
    pub(crate) kind: String,
    /// A setting of that kind; may be repeated. A VALUE that is JSON is sent as such, any other as text
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) set: Vec<Setting>,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Print the table once instead of a view that follows; so it is, too, where stdout is no terminal
    #[arg(long)]
    pub(crate) once: bool,
}
