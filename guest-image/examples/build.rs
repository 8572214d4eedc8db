//! Builds the guest kernel and one root image into the user's cache, telling each stage:
//!
//! ```text
//! cargo run -p calve-image --example build -- python3.11 target/x86_64-unknown-linux-musl/release/calve-agent
//! ```

use calve_image::{Cache, Progress, Runtime, kernel, ls, root};
use std::path::PathBuf;
use std::time::Instant;

struct Stages(Instant);

impl Progress for Stages {
    fn stage(&mut self, what: &str) {
        eprintln!("{:7.1} s  {what}", self.0.elapsed().as_secs_f64());
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(runtime), Some(agent)) = (arguments.next(), arguments.next()) else {
        return Err("usage: build RUNTIME AGENT".into());
    };
    let runtime: Runtime = runtime.parse()?;
    let cache = Cache::from_env()?;
    let mut progress = Stages(Instant::now());
    root::ensure(&cache, runtime, &PathBuf::from(agent), &mut progress)?;
    kernel::ensure(&cache, &mut progress)?;
    progress.stage("Done");
    for entry in ls(&cache)? {
        println!("{:10} {:9} {} {}", entry.name, entry.bytes, entry.sha256, entry.path.display());
    }
    Ok(())
}
