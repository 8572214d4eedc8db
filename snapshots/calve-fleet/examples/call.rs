//! Calls a frozen function in fresh clones: `call STORE NAME EVENT [COUNT]`.

use std::error::Error;

use calve_fleet::{CallOptions, Fleet, Options};
use calve_snapshots::Store;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [store, name, event, count @ ..] = &args[..] else {
        return Err("usage: call STORE NAME EVENT [COUNT]".into());
    };
    let count = count.first().map_or(Ok(1), |count| count.parse())?;
    Fleet::check_host()?;
    let fleet = Fleet::new(Options::default())?;
    let frozen = fleet.open(&Store::open(store)?, name)?;
    for _ in 0..count {
        let mut clone = fleet.thaw(&frozen)?;
        let outcome = clone.call(event.as_bytes(), CallOptions::default())?;
        let (machine, times) = (&outcome.machine, outcome.timings);
        match &outcome.result {
            Ok(json) => println!("{machine}: {}", String::from_utf8_lossy(json)),
            Err(error) => println!("{machine}: failed: {error}"),
        }
        println!("{machine}: {} µs to the first output", times.first_output_us);
    }
    Ok(())
}
