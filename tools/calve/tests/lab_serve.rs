//! `calve serve` as boto3 knows AWS Lambda: the whole life of a function, by `serve/lifecycle.py`.

mod common;

use common::serve::Daemon;

#[test]
#[ignore = "needs the lab"]
fn a_function_lives_its_life_by_boto3() {
    let daemon = Daemon::start();
    daemon.serves("lifecycle.py");
    daemon.stop();
}
