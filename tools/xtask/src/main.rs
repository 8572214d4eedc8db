//! `cargo xtask`: everything that a developer or CI runs.

mod bench;
mod binaries;
mod checks;
mod deb;
mod demo;
mod fuzz;
mod lab;
mod packages;
mod process;
mod setup;
mod subcommands;
mod test;
mod tidy;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Everything that a developer or CI runs. Each command does the set-up that it needs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install packages, build our binaries, the lab's boot files, the guest kernel and root images
    Setup,
    /// Run a command in the lab, a nested KVM host: `lab -- CMD`; or `lab up`, `exec`, `down`, `status`
    #[command(disable_help_flag = true)]
    Lab {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        arguments: Vec<OsString>,
    },
    /// Set up, check, and run every test: here, on /dev/kvm, and in the lab
    Test(test::Options),
    /// Run the fuzz targets, each for some seconds; exit status 1 where one crashes
    Fuzz(fuzz::Options),
    /// Check the rules of the house that no compiler knows
    Tidy,
    /// What CI runs: the same as `test`
    Prepush(test::Options),
    /// Freeze two functions, thaw clones of them, call each, check the answers, show the figures
    Demo(demo::Options),
    /// Build our programs and the Debian package of them
    Deb,
    /// Measure what users wait for: tiny guests here, Linux guests here or in the lab; tables and a page
    Bench(bench::Options),
    /// The part of the demo that needs machines
    #[command(hide = true)]
    DemoPerform(demo::Prepared),
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    if let Task::DemoPerform(prepared) = &task {
        // May be in the lab, where there is no cargo to ask for a workspace.
        return demo::perform(prepared);
    }
    let workspace = Workspace::find()?;
    match task {
        Task::Setup => setup::run_all(&workspace),
        Task::Lab { arguments } => lab::run(&workspace, &arguments),
        Task::Test(options) | Task::Prepush(options) => test::run_all(&workspace, &options),
        Task::Fuzz(options) => fuzz::run(&workspace, &options),
        Task::Tidy => tidy::run(&workspace),
        Task::Deb => deb::run_all(&workspace),
        Task::Bench(options) => bench::run(&workspace, &options),
        Task::Demo(options) => demo::run(&workspace, options),
        Task::DemoPerform(prepared) => demo::perform(&prepared),
    }
}
