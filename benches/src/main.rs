//! `calve-bench`: what users wait for, measured beside a floor and a peer.
//!
//! `measure` prints one JSON object on standard output, so that it can run where no file lasts, such as
//! the lab; `report` makes tables and a page of such objects. `cargo xtask bench` does both.

mod facts;
mod floor;
mod functions;
mod host;
mod html;
mod linux;
mod native;
mod neighbour;
mod peer;
mod report;
mod samples;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// What users wait for, measured.
#[derive(Parser)]
#[command(name = "calve-bench")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Tiny guests on any /dev/kvm
    Native {
        /// Samples of each operation
        #[arg(long, default_value_t = 100)]
        samples: usize,
        /// Take turns with the bare-KVM floor, the least that any program must do
        #[arg(long)]
        floor: bool,
    },
    /// Linux guests; needs a KVM with hardware behind it, or the lab
    Linux(linux::Options),
    /// The function host, without machines: what it adds to a call, and how it starts
    Host(host::Options),
    /// A process of `host`: makes requests on a schedule
    #[command(hide = true)]
    Load,
    /// A process of `host`: opens a data folder
    #[command(hide = true)]
    Open {
        /// The folder
        data: PathBuf,
    },
    /// Tables on standard output and a page, from what was measured
    Report {
        /// What `native` and `linux` have printed
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// Where the page goes
        #[arg(long)]
        html: Option<PathBuf>,
    },
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().task {
        Task::Native { samples, floor } => print(&native::measure(samples, floor)?),
        Task::Linux(options) => print(&linux::measure(&options)?),
        Task::Host(options) => {
            let run = host::measure(&options)?;
            if options.json { print(&run) } else { report::show(&run) }
        }
        Task::Load => host::load(),
        Task::Open { data } => host::open(&data),
        Task::Report { runs, html } => report::make(&runs, html.as_deref()),
    }
}

fn print<T: serde::Serialize>(what: &T) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(what)?);
    Ok(())
}
