//! `calve-lab`: the nested KVM host at the command line.

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use calve_lab::{
    BootFiles, Command, Error, Machine, OneShot, Output, Persistent, State, agent, cache_dir,
    watch_signals,
};
use clap::{Args, Parser, Subcommand};

/// The status of a command that took too long, as of timeout(1).
const TIMED_OUT: u8 = 124;
/// The status when the lab itself failed, as of timeout(1) and `docker run`.
const LAB_FAILED: u8 = 125;
/// The status after SIGINT, as a shell says it.
const INTERRUPTED: u8 = 130;

/// A real KVM host where the processor has none: QEMU's emulation of AMD SVM with Debian's kernel on
/// it, and this machine's files as its root under a RAM overlay.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

const EXAMPLES: &str = "\
Examples:
  calve-lab run -- ls -l /dev/kvm         one command in a lab of its own
  calve-lab up                            a lab that stays
  calve-lab exec --timeout 60 -- uname -a a command in it; several may run at once
  calve-lab down

What a command writes is gone with the lab; /run and /dev/shm start empty.
The exit status is the command's; 124 after a time-out, 125 if the lab itself failed.";

#[derive(Subcommand)]
enum Sub {
    /// Run a command in a lab of its own, which ends with it
    Run {
        #[command(flatten)]
        machine: MachineArgs,
        #[command(flatten)]
        command: CommandArgs,
    },
    /// Start a lab that stays until `down`
    Up {
        #[command(flatten)]
        machine: MachineArgs,
        #[command(flatten)]
        name: Name,
        /// Stay in the foreground, say `ready`, and end the lab with standard input or on a signal
        #[arg(long)]
        hold: bool,
    },
    /// Run a command in a lab that is up
    Exec {
        #[command(flatten)]
        name: Name,
        /// Do not look whether files of this machine have changed since the lab read them
        #[arg(long)]
        keep_caches: bool,
        #[command(flatten)]
        command: CommandArgs,
    },
    /// End a lab and every command in it
    Down {
        #[command(flatten)]
        name: Name,
    },
    /// Say whether a lab is up
    Status {
        #[command(flatten)]
        name: Name,
    },
    /// Make the boot files in the cache folder, so that no later start has to
    Prepare,
    #[command(hide = true)]
    Agent,
    #[command(hide = true)]
    Serve { port: PathBuf },
    #[command(hide = true)]
    Supervise {
        #[arg(last = true, required = true)]
        argv: Vec<OsString>,
    },
}

#[derive(Args)]
struct Name {
    /// The lab's name, for more than one side by side
    #[arg(long, env = "CALVE_LAB_NAME", default_value = "default")]
    name: String,
}

#[derive(Args)]
struct MachineArgs {
    /// Processors; one thread of this machine emulates them all
    #[arg(long, env = "CALVE_LAB_CPUS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    cpus: u32,
    /// Memory in MiB, RAM file systems included
    #[arg(long, env = "CALVE_LAB_MEM", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(512..=65_536))]
    mem: u32,
    /// MiB of an empty disk of its own at /disk, gone with the lab
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(16..=65_536))]
    disk: Option<u32>,
}

#[derive(Args)]
struct CommandArgs {
    /// End the command after this many seconds
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Put a folder on the command's search path; that of this program is on it already
    #[arg(long, value_name = "DIR")]
    path: Vec<PathBuf>,
    /// Set a variable of the command
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// Run the command in this folder instead of the current one
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// The command
    #[arg(last = true, required = true, value_name = "CMD")]
    argv: Vec<OsString>,
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl CommandArgs {
    fn command(self) -> Command {
        let beside = std::env::current_exe().ok();
        let beside = beside.as_deref().and_then(|program| program.parent());
        let mut command = Command::new(self.argv);
        for folder in beside.into_iter().map(PathBuf::from).chain(self.path.into_iter().rev()) {
            // A relative folder means one of the caller's, wherever the command runs.
            command = command.path(std::path::absolute(&folder).unwrap_or(folder));
        }
        for (name, value) in self.env {
            command = command.env(name, value);
        }
        if let Some(seconds) = self.timeout {
            command = command.timeout(Duration::from_secs(seconds));
        }
        match self.cwd {
            Some(folder) => command.current_dir(folder),
            None => command,
        }
    }
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            let status = match error.downcast_ref() {
                Some(Error::TimedOut { .. }) => TIMED_OUT,
                Some(Error::Interrupted { .. }) => INTERRUPTED,
                _ => LAB_FAILED,
            };
            eprintln!("calve-lab: {error:#}");
            ExitCode::from(status)
        }
    }
}

fn run(command: Sub) -> anyhow::Result<u8> {
    let (mut stdout, mut stderr) = (std::io::stdout().lock(), std::io::stderr().lock());
    let mut output = Output { stdout: &mut stdout, stderr: &mut stderr };
    match command {
        Sub::Run { machine, command } => {
            let (machine, files) = (machine.machine()?, boot_files()?);
            let interrupt = watch_signals()?;
            let lab = OneShot::boot(&machine, &files)?;
            Ok(lab.run(&command.command(), &mut output, Some(interrupt.as_fd()))?)
        }
        Sub::Up { machine, name, hold } => {
            let (lab, machine, files) = (name.lab()?, machine.machine()?, boot_files()?);
            if hold {
                lab.hold(&machine, &files, std::io::stdin(), || println!("ready"))?;
            } else {
                lab.up(&machine, &files)?;
            }
            Ok(0)
        }
        Sub::Exec { name, keep_caches, command } => {
            let command = command.command();
            let command = if keep_caches { command.keep_caches() } else { command };
            let interrupt = watch_signals()?;
            Ok(name.lab()?.exec(&command, &mut output, Some(interrupt.as_fd()))?)
        }
        Sub::Down { name } => {
            name.lab()?.down()?;
            Ok(0)
        }
        Sub::Status { name } => status(&name.lab()?),
        Sub::Prepare => {
            boot_files()?;
            Ok(0)
        }
        Sub::Agent => {
            drop((stdout, stderr));
            agent::run()?;
            Ok(0)
        }
        Sub::Serve { port } => {
            drop((stdout, stderr));
            match agent::serve(&port)? {}
        }
        Sub::Supervise { argv } => {
            drop((stdout, stderr));
            Ok(agent::supervise(&argv)?)
        }
    }
}

fn boot_files() -> Result<BootFiles, Error> {
    BootFiles::prepare(&cache_dir(), &mut |step| eprintln!("calve-lab: {step}"))
}

fn status(lab: &Persistent) -> anyhow::Result<u8> {
    match lab.state()? {
        State::Down => {
            println!("down");
            Ok(1)
        }
        State::Up { pid, busy, ports } => {
            println!("up: process {pid}, {busy} of {ports} ports busy");
            Ok(0)
        }
    }
}

impl MachineArgs {
    fn machine(&self) -> anyhow::Result<Machine> {
        let program = std::env::current_exe().context("cannot find this program's path")?;
        Ok(Machine { cpus: self.cpus, mem_mib: self.mem, program, disk_mib: self.disk })
    }
}

impl Name {
    fn lab(&self) -> Result<Persistent, Error> {
        Persistent::named(&self.name)
    }
}
