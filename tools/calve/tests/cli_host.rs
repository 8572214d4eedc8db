//! Event sources, and the view that follows a host.
#![allow(clippy::unwrap_used, reason = "in the functions that the tests are made of")]

mod common;

use std::fs::File;
use std::io::Read;
use std::process::Stdio;

use common::stub::{Reply, Stub};
use common::{Place, Said};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

fn top() -> Reply {
    let function = json!({ "name": "resize", "tenant": "acme", "calls": 3, "p50_ms": 1.5,
        "p99_ms": null, "errors": 1 });
    let machines = json!({ "booting": 0, "warm": 2, "idle": 1, "busy": 3, "leaving": 0 });
    Reply::new(
        200,
        json!({ "machines": machines, "waiting": 4, "queue": 5, "functions": [function] }),
    )
}

#[test]
fn sources_are_made_listed_and_removed() {
    let place = Place::new();
    let source = || {
        json!({ "id": "s-1", "function": "f", "qualifier": "live", "enabled": true,
            "settings": { "kind": "file-drop", "folder": "/srv/in", "batch": 5 } })
    };
    let stub = Stub::new(move |heard, _| match heard.line.split(' ').next() {
        Some("GET") => Reply::new(200, json!({ "sources": [source()] })),
        Some("POST") => Reply::new(201, source()),
        _ => Reply::new(204, ""),
    });
    let create =
        "event create f --kind file-drop --set folder=/srv/in --set batch=5 --qualifier live";
    let said = stub.calve(&place, &common::words(create)).status(0);
    assert_eq!(said.stdout, "s-1\n");
    let settings = json!({ "kind": "file-drop", "folder": "/srv/in", "batch": 5 });
    let wanted = json!({ "function": "f:live", "settings": settings });
    assert_eq!(stub.heard()[0].json(), wanted);

    let create =
        "event create f --kind table --set database=shop.db --set table=orders --set existing=true";
    stub.calve(&place, &common::words(create)).status(0);
    let settings =
        json!({ "kind": "table", "database": "shop.db", "table": "orders", "existing": true });
    assert_eq!(stub.heard()[1].json(), json!({ "function": "f", "settings": settings }));

    let said = stub.calve(&place, &["event", "ls"]).status(0).stdout;
    let rows: Vec<Vec<&str>> = said.lines().map(common::words).collect();
    assert_eq!(rows[1], ["s-1", "file-drop", "f:live", "batch=5", "folder=/srv/in"]);
    let said = stub.calve(&place, &["event", "ls", "--json"]).status(0).json();
    assert_eq!(said, [source()]);

    stub.calve(&place, &["event", "rm", "s-1", "s/2"]).status(0).silent();
    let path = "/calve/v1/sources";
    assert_eq!(stub.lines()[4..], [format!("DELETE {path}/s-1"), format!("DELETE {path}/s%2F2")]);
    let kind = ["event", "create", "f", "--kind", "queue", "--set", "kind=file-drop"];
    stub.calve(&place, &kind).status(2).line("give the kind with --kind");
}

#[test]
fn top_is_a_table_where_nobody_can_follow() {
    let place = Place::new();
    let stub = Stub::always(top);
    let said = stub.calve(&place, &["top"]).status(0);
    assert_eq!(
        said.stdout,
        "BOOTING  WARM  IDLE  BUSY  LEAVING  CALLS WAITING  EVENTS QUEUED\n\
         0        2     1     3     0        4              5\n\
         \n\
         FUNCTION  TENANT  CALLS  ERRORS  P50     P99\n\
         resize    acme    3      1       1.5 ms  -\n"
    );
    assert_eq!((said.stderr.as_str(), stub.lines()), ("", vec!["GET /calve/v1/top".to_owned()]));
}

/// Reads from a terminal until `text` has come.
fn read_until(terminal: &mut File, seen: &mut String, text: &str) {
    let mut bytes = [0; 4096];
    while !seen.contains(text) {
        let count = terminal.read(&mut bytes).unwrap_or_else(|e| panic!("{e}: {seen:?}"));
        assert!(count > 0, "no {text:?} in {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
}

#[test]
fn top_follows_the_host_and_gives_the_terminal_back() {
    let place = Place::new();
    // Trouble on the way does not end the view.
    let stub = Stub::new(|_, before| match before {
        1 => Reply::error(500, "ServiceException", "for a moment"),
        _ => top(),
    });
    let terminal = nix::pty::openpty(None, None).unwrap();
    let mut master = File::from(terminal.master);
    let mut command = stub.command(&place, &["top"]);
    command.stdout(terminal.slave).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    // It holds the other end, which would keep this one from ending.
    drop(command);
    let mut seen = String::new();
    read_until(&mut master, &mut seen, "resize");
    assert!(seen.starts_with("\x1b[?1049h"), "{seen:?}");
    read_until(&mut master, &mut seen, "for a moment");
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
    Said::from(child.wait_with_output().unwrap()).status(130).line("interrupted");
    read_until(&mut master, &mut seen, "\x1b[?1049l");
    assert!(seen.ends_with("\x1b[?7h\x1b[?25h\x1b[?1049l"), "{seen:?}");
}

#[test]
fn top_fails_where_there_is_no_host() {
    let place = Place::new();
    let mut command = place.command(["top", "--url", "http://127.0.0.1:9", "--key", "a:b"]);
    Said::from(command.output().unwrap()).status(3).silent().line("cannot reach the function host");
}
