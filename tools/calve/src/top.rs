//! `calve top`: what a running host does, once a second on a terminal, once and for all anywhere else.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use crate::args::Top as Args;
use crate::failure::Failure;
use crate::host::{Ask, Host};
use crate::terminal::{Keys, Screen};
use crate::{interrupt, stdio};

mod view;

use view::Top;

/// How often the view is drawn.
const EVERY: Duration = Duration::from_secs(1);

/// Rows where the terminal does not say how many it has.
const ROWS: usize = 24;

/// Shows the host.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    // Looking changes nothing; leaving at once restores the terminal, too.
    let _guard = interrupt::leave_at_once();
    let host = Host::new(&args.server)?;
    // What fails at first fails the command; what fails later may come back.
    let first = look(&host)?;
    if args.once || !io::stdout().is_terminal() {
        return stdio::print(first.text().as_bytes());
    }
    follow(&host, first)
}

fn look(host: &Host) -> Result<Top, Failure> {
    host.document(Ask::get("/calve/v1/top"))
}

/// Draws until somebody has seen enough.
fn follow(host: &Host, first: Top) -> Result<(), Failure> {
    let unusable = |error: io::Error| stdio::unwritable(&error);
    let keys = Keys::enter().map_err(unusable)?;
    let screen = Screen::enter().map_err(unusable)?;
    let mut shown = first;
    let mut trouble = None;
    loop {
        let began = Instant::now();
        let frame = frame(&shown, trouble.as_ref());
        screen.draw(&frame).map_err(unusable)?;
        if wait(keys.as_ref(), EVERY.saturating_sub(began.elapsed())) {
            return Ok(());
        }
        trouble = match look(host) {
            Ok(top) => {
                shown = top;
                None
            }
            Err(failure) => Some(failure),
        };
    }
}

/// The lines that fit on the terminal.
fn frame(top: &Top, trouble: Option<&Failure>) -> Vec<String> {
    let rows = terminal_size::terminal_size_of(io::stdout());
    let rows = rows.map_or(ROWS, |(_, height)| usize::from(height.0)).max(1);
    let mut lines: Vec<String> =
        trouble.map(|failure| failure.line().to_owned()).into_iter().collect();
    lines.extend(top.text().lines().map(str::to_owned));
    lines.truncate(rows);
    lines
}

/// Waits for the next look; whether `q` was pressed instead.
fn wait(keys: Option<&Keys>, time: Duration) -> bool {
    match keys {
        Some(keys) => keys.wait_for(b'q', time),
        None => {
            std::thread::sleep(time);
            false
        }
    }
}
