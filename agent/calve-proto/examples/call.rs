//! Freezes and thaws a function in an agent that runs as an ordinary process, and calls it once on each side:
//!
//! ```text
//! calve-agent --listen /tmp/a.sock --task-root my-function --run-dir /tmp/a.run &
//! cargo run -p calve-proto --example call -- /tmp/a.sock python3.11 app.handler '{"name":"Ada"}'
//! ```
//!
//! With a machine's vsock socket in the place of `/tmp/a.sock` only [`connect`] differs: write `CONNECT 1024\n`, read the
//! line that answers it.

use std::error::Error;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use calve_proto::{Answer, Call, LogStream, Opening, Session, wire};

fn connect(path: &str) -> std::io::Result<Session<UnixStream>> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(Session::new(stream))
}

fn log(stream: LogStream, bytes: &[u8]) {
    eprint!("[{stream:?}] {}", String::from_utf8_lossy(bytes));
}

fn show(when: &str, asked: Instant, answer: Answer) {
    let took = answer.first_byte.saturating_duration_since(asked);
    match answer.outcome {
        Ok(json) => println!("{when}, after {took:?}: {}", String::from_utf8_lossy(&json)),
        Err(error) => println!("{when}, after {took:?}: {error}"),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, runtime, handler, event] = &args[..] else {
        return Err("usage: call SOCKET RUNTIME HANDLER EVENT".into());
    };

    let mut session = connect(path)?;
    let configure = wire::Configure {
        runtime: runtime.clone(),
        handler: handler.clone(),
        ..wire::Configure::default()
    };
    session.open(Opening { configure: Some(configure), ..Opening::default() })?;
    println!("the runtime took {:?} to start", session.wait_ready(&mut log)??);
    let asked = Instant::now();
    session.invoke(Call::new("warm", event.as_bytes()))?;
    show("before the freeze", asked, session.wait_answer(&mut log)?);
    session.prepare_freeze(None)?;
    session.wait_freeze_ready(&mut log)??;
    drop(session);

    // A clone starts here. Its seed must be fresh for each: take it from getrandom(2), not from this constant.
    let facts = wire::ThawFacts {
        seed: vec![0; 32],
        wall_clock_ns: u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?,
        machine_id: "clone-1".into(),
        ..wire::ThawFacts::default()
    };
    let mut session = connect(path)?;
    let asked = Instant::now();
    let call = Some(Call::new("first", event.as_bytes()));
    session.open(Opening { thaw: Some(facts), call, ..Opening::default() })?;
    show("after the thaw", asked, session.wait_answer(&mut log)?);
    Ok(())
}
