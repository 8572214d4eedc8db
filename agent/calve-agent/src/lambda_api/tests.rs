use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use calve_proto::ErrorKind;
use calve_proto::limits::MAX_BODY;

use super::*;

/// The API and the loop around it, with blocking clients in the same thread: each step runs the loop until it is idle.
struct Server {
    api: LambdaApi,
    poll: Poll,
    events: Vec<RuntimeEvent>,
}

impl Server {
    fn new() -> Self {
        let api = LambdaApi::listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self { api, poll: Poll::new().unwrap(), events: Vec::new() }
    }

    fn connect(&self) -> BufReader<TcpStream> {
        BufReader::new(TcpStream::connect(self.api.address()).unwrap())
    }

    /// Serves everything that is ready; at least one thing must be.
    fn step(&mut self) {
        self.api.flush(&self.poll, true).unwrap();
        let mut ready = self.poll.wait(None).unwrap();
        while !ready.is_empty() {
            for token in ready {
                self.api.on_ready(token, &mut self.events);
                self.api.flush(&self.poll, true).unwrap();
            }
            ready = self.poll.wait(Some(std::time::Instant::now())).unwrap();
        }
    }

    /// Sends a request and serves it; its answer may come later.
    fn send(&mut self, client: &mut BufReader<TcpStream>, request: &str) {
        client.get_mut().write_all(request.as_bytes()).unwrap();
        self.step();
    }

    fn ask(&mut self, client: &mut BufReader<TcpStream>, request: &str) -> (u16, String, String) {
        self.send(client, request);
        read_reply(client)
    }

    fn take_events(&mut self) -> Vec<RuntimeEvent> {
        std::mem::take(&mut self.events)
    }
}

fn get(path: &str) -> String {
    format!("GET {PREFIX}{path} HTTP/1.1\r\nHost: x\r\n\r\n")
}

fn post(path: &str, headers: &str, body: &str) -> String {
    let len = body.len();
    format!(
        "POST {PREFIX}{path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len}\r\n\r\n{body}"
    )
}

/// Status, head and body.
fn read_reply(client: &mut BufReader<TcpStream>) -> (u16, String, String) {
    let (mut head, mut len) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        assert!(client.read_line(&mut head).unwrap() > 0, "hung up after {head:?}");
    }
    for line in head.lines() {
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            len = value.parse().unwrap();
        }
    }
    let mut body = vec![0; len];
    client.read_exact(&mut body).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, String::from_utf8(body).unwrap())
}

fn invocation(id: &str) -> Invocation {
    Invocation {
        request_id: id.into(),
        event: b"{\"n\":1}".into(),
        deadline_epoch_ms: 1234,
        function_arn: "arn:x".into(),
        trace_id: "Root=1".into(),
        stream: false,
    }
}

#[test]
fn a_client_lives_through_its_states() {
    let mut server = Server::new();
    let mut client = server.connect();
    server.send(&mut client, &get("invocation/next"));
    assert!(matches!(server.take_events()[..], [RuntimeEvent::Ready, RuntimeEvent::Thawed]));

    server.api.invoke(invocation("r-1"));
    server.api.flush(&server.poll, true).unwrap();
    let (status, head, body) = read_reply(&mut client);
    assert_eq!((status, body.as_str()), (200, "{\"n\":1}"));
    for header in [
        "Lambda-Runtime-Aws-Request-Id: r-1\r\n",
        "Lambda-Runtime-Deadline-Ms: 1234\r\n",
        "Lambda-Runtime-Invoked-Function-Arn: arn:x\r\n",
        "Lambda-Runtime-Trace-Id: Root=1\r\n",
        "Content-Type: application/json\r\n",
    ] {
        assert!(head.contains(header), "{header} is not in {head}");
    }

    let wrong = server.ask(&mut client, &post("invocation/r-0/response", "", "1"));
    assert_eq!((wrong.0, wrong.2.contains("InvalidRequestID")), (400, true));
    let early = server.ask(&mut client, &get("invocation/next"));
    assert_eq!((early.0, early.2.contains("InvalidStateTransition")), (403, true));
    let done = server.ask(&mut client, &post("invocation/r-1/response", "", "[1, 2]"));
    assert_eq!((done.0, done.2.as_str()), (202, r#"{"status":"OK"}"#));
    assert!(matches!(&server.take_events()[..], [RuntimeEvent::Result(r)] if r == b"[1, 2]"));
    let again = server.ask(&mut client, &post("invocation/r-1/response", "", "[1, 2]"));
    assert_eq!(again.0, 400);

    // An event that comes before the client asks for it waits.
    server.api.invoke(invocation("r-2"));
    assert_eq!(server.ask(&mut client, &get("invocation/next")).0, 200);
    server.take_events();
    let headers = "Lambda-Runtime-Function-Error-Type: Function.Odd\r\n";
    assert_eq!(server.ask(&mut client, &post("invocation/r-2/error", headers, "oops")).0, 202);
    assert!(
        matches!(&server.take_events()[..], [RuntimeEvent::Failed(e)] if e.error_type == "Function.Odd")
    );
}

#[test]
fn what_is_no_part_of_the_api_is_refused() {
    let mut server = Server::new();
    let mut client = server.connect();
    assert_eq!(server.ask(&mut client, "GET / HTTP/1.1\r\n\r\n").0, 404);
    assert_eq!(server.ask(&mut client, &get("invocation/a/b/c")).0, 404);
    assert_eq!(server.ask(&mut client, &post("invocation/next", "", "")).0, 405);
    assert_eq!(server.ask(&mut client, &get("invocation/r/response")).0, 405);
    let early = server.ask(&mut client, &post("invocation/r-1/response", "", "1"));
    assert_eq!(early.0, 403);
    let (status, ..) = server.ask(&mut client, "BROKEN\r\n\r\n");
    assert_eq!(status, 400);
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "a broken connection is closed");
}

#[test]
fn errors_of_init_count_only_before_ready() {
    let mut server = Server::new();
    let mut client = server.connect();
    let body = r#"{"errorType":"Runtime.ImportModuleError","errorMessage":"no"}"#;
    assert_eq!(server.ask(&mut client, &post("init/error", "", body)).0, 202);
    assert!(
        matches!(&server.take_events()[..], [RuntimeEvent::InitFailed(e)] if e.kind == ErrorKind::Init)
    );
    assert_eq!(server.ask(&mut client, &post("init/error", "", body)).0, 403);
    assert_eq!(server.ask(&mut client, &get("invocation/next")).0, 403);
}

#[test]
fn a_client_that_knows_snapshots_waits_for_its_restore() {
    let mut server = Server::new();
    let mut client = server.connect();
    server.send(&mut client, &get("restore/next"));
    assert!(matches!(server.take_events()[..], [RuntimeEvent::Ready]));
    assert!(server.api.is_parked_for_restore());
    server.api.restore();
    server.api.flush(&server.poll, true).unwrap();
    assert_eq!(read_reply(&mut client).0, 200);
    let mut second = server.connect();
    server.send(&mut second, &get("invocation/next"));
    assert!(matches!(server.take_events()[..], [RuntimeEvent::Thawed]));

    let mut server = Server::new();
    let mut client = server.connect();
    server.send(&mut client, &get("restore/next"));
    server.take_events();
    server.api.restore();
    server.api.flush(&server.poll, true).unwrap();
    read_reply(&mut client);
    let headers = "Lambda-Runtime-Function-Error-Type: Runtime.AfterRestoreError\r\n";
    assert_eq!(server.ask(&mut client, &post("restore/error", headers, "{}")).0, 202);
    assert!(
        matches!(&server.take_events()[..], [RuntimeEvent::HookFailed(e)] if e.kind == ErrorKind::Hook)
    );
}

/// A client in `invocation/next` that has got the event `r-1`.
fn running() -> (Server, BufReader<TcpStream>) {
    let mut server = Server::new();
    let mut client = server.connect();
    server.send(&mut client, &get("invocation/next"));
    server.api.invoke(invocation("r-1"));
    server.api.flush(&server.poll, true).unwrap();
    read_reply(&mut client);
    server.take_events();
    (server, client)
}

#[test]
fn bodies_may_come_in_chunks_and_after_a_continue() {
    let (mut server, mut client) = running();
    let head = format!(
        "POST {PREFIX}invocation/r-1/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    );
    server.send(&mut client, &head);
    let mut line = String::new();
    client.read_line(&mut line).unwrap();
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
    client.read_line(&mut line).unwrap();
    server.send(&mut client, "3\r\n\"ab\r\n");
    let done = server.ask(&mut client, "2\r\nc\"\r\n0\r\n\r\n");
    assert_eq!(done.0, 202);
    assert!(matches!(&server.take_events()[..], [RuntimeEvent::Result(r)] if r == b"\"abc\""));
}

#[test]
fn a_result_that_is_no_json_is_taken_and_told() {
    let (mut server, mut client) = running();
    assert_eq!(server.ask(&mut client, &post("invocation/r-1/response", "", "<html>")).0, 202);
    assert!(
        matches!(&server.take_events()[..], [RuntimeEvent::Failed(e)] if e.kind == ErrorKind::InvalidResult)
    );
}

#[test]
fn a_result_over_six_mebibytes_is_refused_and_ends_the_call() {
    let (mut server, mut client) = running();
    let len = MAX_BODY + 1;
    let head =
        format!("POST {PREFIX}invocation/r-1/response HTTP/1.1\r\nContent-Length: {len}\r\n\r\n");
    server.send(&mut client, &head);
    assert!(server.take_events().is_empty(), "the body is still to come");
    let writer = std::thread::spawn({
        let mut stream = client.get_ref().try_clone().unwrap();
        move || stream.write_all(&vec![b'1'; len]).unwrap()
    });
    while server.events.is_empty() {
        server.step();
    }
    writer.join().unwrap();
    let (status, _, body) = read_reply(&mut client);
    assert_eq!((status, body.contains("RequestEntityTooLarge")), (413, true));
    assert!(
        matches!(&server.take_events()[..], [RuntimeEvent::Failed(e)] if e.kind == ErrorKind::ResultTooLarge)
    );
}

#[test]
fn a_head_has_bounds_and_connections_are_counted() {
    let mut server = Server::new();
    let mut client = server.connect();
    let many: String = (0..100).map(|i| format!("X-{i}: y\r\n")).collect();
    assert_eq!(server.ask(&mut client, &format!("GET / HTTP/1.1\r\n{many}\r\n")).0, 431);

    let mut server = Server::new();
    let clients: Vec<_> = (0..MAX_CONNECTIONS + 4).map(|_| server.connect()).collect();
    server.step();
    assert_eq!(server.api.connections.len(), MAX_CONNECTIONS);
    drop(clients);
    while !server.api.connections.is_empty() {
        server.step();
    }
}

/// The head of a streamed response to `r-1`.
fn stream_head(headers: &str) -> String {
    format!(
        "POST {PREFIX}invocation/r-1/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\
         Lambda-Runtime-Function-Response-Mode: streaming\r\n{headers}\r\n"
    )
}

/// The same as [`running`], for a host that takes the result as it comes.
fn streaming() -> (Server, BufReader<TcpStream>) {
    let mut server = Server::new();
    let mut client = server.connect();
    server.send(&mut client, &get("invocation/next"));
    server.api.invoke(Invocation { stream: true, ..invocation("r-1") });
    server.api.flush(&server.poll, true).unwrap();
    read_reply(&mut client);
    server.take_events();
    (server, client)
}

#[test]
fn a_stream_is_passed_on_as_it_comes() {
    let (mut server, mut client) = streaming();
    server.send(&mut client, &stream_head("Content-Type: text/html\r\n"));
    assert!(server.take_events().is_empty(), "there is nothing to pass on");
    server.send(&mut client, "6\r\n<html>\r\n");
    assert!(matches!(&server.take_events()[..],
        [RuntimeEvent::Part { data, content_type }] if data == b"<html>" && content_type == "text/html"));
    let mut other = server.connect();
    let error = server.ask(&mut other, &post("invocation/r-1/error", "", "{}"));
    assert_eq!(error.0, 403, "its errors are in its trailers");
    // Half a chunk is no reason to wait for its other half.
    server.send(&mut client, "4\r\nab");
    assert!(matches!(&server.take_events()[..],
        [RuntimeEvent::Part { data, content_type }] if data == b"ab" && content_type.is_empty()));
    assert_eq!(server.ask(&mut client, "cd\r\n0\r\n\r\n").0, 202);
    assert!(matches!(&server.take_events()[..],
        [RuntimeEvent::Part { data, .. }, RuntimeEvent::Streamed] if data == b"cd"));
    let again = server.ask(&mut client, &post("invocation/r-1/response", "", "1"));
    assert_eq!(again.0, 400);
}

#[test]
fn a_stream_in_one_packet_is_one_too() {
    let (mut server, mut client) = streaming();
    let whole = stream_head("") + "1\r\nx\r\n0\r\n\r\n" + &get("invocation/next");
    assert_eq!(server.ask(&mut client, &whole).0, 202);
    let events = server.take_events();
    assert!(
        matches!(
            &events[..],
            [RuntimeEvent::Part { data, content_type }, RuntimeEvent::Streamed, ..]
                if data == b"x" && content_type == "application/octet-stream"
        ),
        "{events:?}"
    );
}

#[test]
fn a_stream_stays_with_its_client_while_the_host_is_behind() {
    let (mut server, mut client) = streaming();
    server.send(&mut client, &stream_head(""));
    server.api.flush(&server.poll, false).unwrap();
    client.get_mut().write_all(b"1\r\nx\r\n").unwrap();
    assert!(server.poll.wait(Some(std::time::Instant::now())).unwrap().is_empty());
    server.step();
    assert!(matches!(&server.take_events()[..], [RuntimeEvent::Part { .. }]));
}

#[test]
fn an_error_in_the_middle_of_a_stream_is_in_its_trailers() {
    let (mut server, mut client) = streaming();
    let body = BASE64.encode(r#"{"errorType":"Odd","errorMessage":"too late"}"#);
    let trailers = format!(
        "Lambda-Runtime-Function-Error-Type: Function.Odd\r\nLambda-Runtime-Function-Error-Body: {body}\r\n"
    );
    let whole = stream_head("") + "1\r\nx\r\n0\r\n" + &trailers + "\r\n";
    assert_eq!(server.ask(&mut client, &whole).0, 202);
    assert!(matches!(&server.take_events()[..],
        [RuntimeEvent::Part { .. }, RuntimeEvent::Failed(e)]
            if e.error_type == "Odd" && e.error_message == "too late"));

    let (mut server, mut client) = streaming();
    let trailer = "0\r\nLambda-Runtime-Function-Error-Type: Function.Odd\r\n\r\n";
    assert_eq!(server.ask(&mut client, &(stream_head("") + trailer)).0, 202);
    assert!(
        matches!(&server.take_events()[..], [RuntimeEvent::Failed(e)] if e.error_type == "Function.Odd")
    );
}

#[test]
fn a_stream_that_breaks_off_fails() {
    let truncated = |events: &[RuntimeEvent]| {
        matches!(events, [.., RuntimeEvent::Failed(e)]
            if e.error_type == "Runtime.TruncatedResponse")
    };
    let (mut server, mut client) = streaming();
    server.send(&mut client, &(stream_head("") + "4\r\nab"));
    drop(client);
    server.step();
    assert!(truncated(&server.take_events()));

    let (mut server, mut client) = streaming();
    let (status, ..) = server.ask(&mut client, &(stream_head("") + "2\r\nabX\r\n"));
    assert_eq!(status, 400);
    assert!(truncated(&server.take_events()));
}

#[test]
fn a_stream_for_a_host_that_wants_none_is_a_result_as_ever() {
    let (mut server, mut client) = running();
    let whole = stream_head("") + "3\r\n[1]\r\n0\r\n\r\n";
    assert_eq!(server.ask(&mut client, &whole).0, 202);
    assert!(matches!(&server.take_events()[..], [RuntimeEvent::Result(r)] if r == b"[1]"));
}

#[test]
fn a_stream_is_not_endless() {
    let (mut server, mut client) = streaming();
    let size = calve_proto::limits::MAX_STREAM;
    let (status, ..) = server.ask(&mut client, &(stream_head("") + &format!("{:x}\r\n", size + 1)));
    assert_eq!(status, 413);
    assert!(
        matches!(&server.take_events()[..], [RuntimeEvent::Failed(e)] if e.kind == ErrorKind::ResultTooLarge)
    );
}
