//! `calve serve` with AWS's other clients: the command line `aws`, and the runtime clients for Python and Rust, each
//! unchanged; and layers by boto3.
//!
//! Apart from `lab_serve`, so that the two run side by side.

mod common;

use common::serve::Daemon;

#[test]
#[ignore = "needs the lab"]
fn the_aws_command_makes_calls_and_deletes_a_function() {
    let daemon = Daemon::start();
    daemon.serves("cli.sh");
    daemon.stop();
}

#[test]
#[ignore = "needs the lab"]
fn the_runtime_clients_for_python_and_rust_serve_their_functions() {
    let daemon = Daemon::start();
    daemon.serves("ric.py");
    daemon.serves("rust.py");
    daemon.stop();
}

#[test]
#[ignore = "needs the lab"]
fn a_function_imports_from_its_layers() {
    let daemon = Daemon::start();
    daemon.serves("layers.py");
    daemon.stop();
}
