//! `calve`: the command-line door to snapshots, clones and plain machines.
//!
//! ```text
//! args ──► one module per command ──► calve-image, calve-snapshots, calve-fleet, calve-manager
//!                   │        └────────► host ──HTTP──► a running function host
//!                   │
//!                   └─ every error ──► failure (one line, one exit status)
//! ```
//!
//! A command returns `Ok` or a [`Failure`]; only this file prints it and exits. Signals do not end the process, they
//! make the command fail ([`interrupt`]), so that whatever it has made is unmade by destructors.

mod args;
mod boot;
mod completions;
mod doctor;
mod event;
mod failure;
mod fleet;
mod function;
mod host;
mod image;
mod interrupt;
mod kernel;
mod key;
mod layer;
mod logs;
mod near;
mod programs;
mod progress;
mod run;
mod serve;
mod snapshot;
mod source;
mod stdio;
mod store;
mod table;
mod terminal;
mod top;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use failure::{Failure, Status};

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        terminal::restore();
        stdio::say(format_args!("internal error, please report it: {}", one_line(panic)));
        std::process::exit(i32::from(Status::Machine as u8));
    }));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if args::usage::is_answer(&error) => {
            return finish(stdio::print(error.render().to_string().as_bytes()));
        }
        Err(error) => return finish(Err(Failure::usage(args::usage::line(&error)))),
    };
    finish(interrupt::install().and_then(|()| dispatch(cli)))
}

fn dispatch(cli: Cli) -> Result<(), Failure> {
    let store = store::Place::new(cli.store, cli.trusted_keys);
    match cli.command {
        Command::Doctor { json } => doctor::run(&store, json),
        Command::Image(command) => image::run(command),
        Command::Snapshot(command) => snapshot::run(&store, command),
        Command::Run(args) => run::run(&store, &args),
        Command::Fork(args) => run::fork(&store, &args),
        Command::Boot(args) => boot::run(&args),
        Command::Serve(args) => serve::run(&store, args),
        Command::Key(command) => key::run(command),
        Command::Function(args) => function::run(args),
        Command::Layer(args) => layer::run(args),
        Command::Event(args) => source::run(args),
        Command::Top(args) => top::run(&args),
        Command::Completions { shell } => completions::run(shell),
    }
}

/// Says what went wrong and chooses the exit status.
fn finish(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    // Whatever failed while a signal was being obeyed failed because of it.
    let failure = if interrupt::came() { Failure::interrupted() } else { failure };
    if let Failure::Told { line, .. } = &failure {
        stdio::say(line);
    }
    failure.status().map_or(ExitCode::SUCCESS, ExitCode::from)
}

fn one_line(panic: &std::panic::PanicHookInfo<'_>) -> String {
    panic.to_string().replace('\n', " ")
}
