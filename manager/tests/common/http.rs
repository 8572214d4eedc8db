//! An HTTP client of a few lines: a connection for each request, so that what happens to one is seen alone.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};

use super::{LONG, zip_of};

/// Somebody with a key, or without.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) addr: SocketAddr,
    /// `Authorization`, or empty.
    pub(crate) bearer: String,
    /// Twelve digits.
    pub(crate) account: String,
    /// `Host`, where it is another than the host's own.
    pub(crate) host: String,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// Reads it from a connection that is closed after it.
    pub(crate) fn read(stream: &mut TcpStream) -> Self {
        stream.set_read_timeout(Some(LONG)).unwrap();
        let mut bytes = Vec::new();
        // A server that closes before it has read everything resets the connection, after its answer.
        if let Err(error) = stream.read_to_end(&mut bytes) {
            assert!(!bytes.is_empty(), "no answer: {error}");
        }
        Self::parse(&bytes)
    }

    /// Reads it from all that was sent.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let at = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let at = at.unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(bytes)));
        let head = std::str::from_utf8(&bytes[..at]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        Self { status, headers: lines.map(header).collect(), body: bytes[at + 4..].to_vec() }
    }

    /// Every value of a header.
    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let found = self.headers.iter().filter(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str()).collect()
    }

    /// The body as it was before it was cut into chunks (RFC 9112, section 7.1), and whether it is whole.
    pub(crate) fn unchunked(&self) -> (Vec<u8>, bool) {
        assert_eq!(self.header("transfer-encoding"), "chunked");
        let (mut rest, mut body) = (&self.body[..], Vec::new());
        while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
            let size = std::str::from_utf8(&rest[..end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            let Some(data) = rest.get(end + 2..end + 2 + size) else { break };
            if size == 0 {
                return (body, true);
            }
            body.extend_from_slice(data);
            rest = rest.get(end + 2 + size + 2..).unwrap_or_default();
        }
        (body, false)
    }

    /// A header; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map_or("", |(_, value)| value)
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {self:?} {}", String::from_utf8_lossy(&self.body)))
    }

    /// The name of the error, which is in Lambda's shape.
    pub(crate) fn error(&self) -> &str {
        let body = self.json();
        let whose = if self.status >= 500 { "Service" } else { "User" };
        assert_eq!(body["Type"], whose, "{body}");
        assert!(body["Message"].as_str().is_some_and(|text| !text.is_empty()), "{body}");
        assert_eq!(body["Message"], body["message"], "{body}");
        self.header("x-amzn-errortype")
    }

    /// Itself, if its status is that.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// The machine that has answered.
    pub(crate) fn machine(&self) -> String {
        self.json()["machine"].as_str().unwrap().to_owned()
    }

    /// How many calls that machine has had.
    pub(crate) fn calls(&self) -> u64 {
        self.json()["calls"].as_u64().unwrap()
    }
}

impl Client {
    /// The same without a key.
    pub(crate) fn stranger(&self) -> Self {
        Self { bearer: String::new(), ..self.clone() }
    }

    /// The same, asking another host.
    pub(crate) fn at(&self, host: &str) -> Self {
        Self { host: host.to_owned(), ..self.clone() }
    }

    /// Opens a connection and sends a request, without waiting for the answer.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> TcpStream {
        let mut stream = TcpStream::connect(self.addr).unwrap();
        self.send_on(&mut stream, method, path, headers, body);
        stream
    }

    /// Sends a request on a connection.
    pub(crate) fn send_on(
        &self,
        stream: &mut TcpStream,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) {
        let length = body.len();
        let host = if self.host.is_empty() { "calve" } else { &self.host };
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n"
        );
        if !self.bearer.is_empty() {
            head += &format!("authorization: {}\r\n", self.bearer);
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        // A server that refuses by the head alone need not take the body.
        let _ = stream.write_all(body);
    }

    /// Makes a request and waits for the answer.
    pub(crate) fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        Reply::read(&mut self.send(method, path, headers, body))
    }

    /// A request with a JSON body.
    pub(crate) fn json(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.request(method, path, &[], body.to_string().as_bytes())
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.request("GET", path, &[], b"")
    }

    /// `CreateFunction` of `code`, with further settings.
    pub(crate) fn create_with(&self, name: &str, code: &str, more: &Value) -> Reply {
        let mut body = json!({
            "FunctionName": name,
            "Runtime": "python3.11",
            "Handler": "main.handler",
            "Role": "arn:aws:iam::123456789012:role/any",
            "Code": zip_file(code),
        });
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        self.json("POST", "/2015-03-31/functions", &body)
    }

    /// Makes a function and waits until it can be called.
    pub(crate) fn create(&self, name: &str) {
        self.create_with(name, "one", &json!({})).expect(201);
        self.wait_until_active(name);
    }

    /// Makes a function with a reuse policy.
    pub(crate) fn create_kept(&self, name: &str, reuse: &str) {
        self.create(name);
        self.policy(name, &json!({ "reuse": reuse }));
    }

    /// Waits until the last build of a function is over, and has succeeded.
    pub(crate) fn wait_until_active(&self, name: &str) {
        let configuration = self.wait_until_settled(name);
        assert_eq!(configuration["State"], "Active", "{configuration}");
        assert_eq!(configuration["LastUpdateStatus"], "Successful", "{configuration}");
    }

    /// Waits until the last build of a function is over.
    pub(crate) fn wait_until_settled(&self, name: &str) -> Value {
        let path = format!("/2015-03-31/functions/{name}/configuration");
        self.poll(&path, "it is built", |seen| {
            seen["State"] != "Pending" && seen["LastUpdateStatus"] != "InProgress"
        })
    }

    /// Asks until the answer is as it should be.
    pub(crate) fn poll(&self, path: &str, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + LONG;
        loop {
            let seen = self.get(path).expect(200).json();
            if so(&seen) {
                return seen;
            }
            assert!(Instant::now() < until, "never: {what}; last: {seen}");
            // It is asked again, not trusted to be so by then; two cores are to do other things meanwhile.
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// `UpdateFunctionCode`.
    pub(crate) fn update_code(&self, name: &str, code: &str) -> Reply {
        self.json("PUT", &format!("/2015-03-31/functions/{name}/code"), &zip_file(code))
    }

    /// Sets a function's policy.
    pub(crate) fn policy(&self, name: &str, policy: &Value) {
        self.json("PUT", &format!("/calve/v1/functions/{name}/policy"), policy).expect(200);
    }

    /// Calls a function and waits for the answer.
    pub(crate) fn invoke(&self, name: &str, event: &Value) -> Reply {
        self.invoke_with(name, event, &[])
    }

    /// Calls a function with headers.
    pub(crate) fn invoke_with(&self, name: &str, event: &Value, headers: &[(&str, &str)]) -> Reply {
        self.request("POST", &invocations(name), headers, event.to_string().as_bytes())
    }

    /// Calls a function with a routing value.
    pub(crate) fn invoke_routed(&self, name: &str, route: &str, event: &Value) -> Reply {
        self.invoke_with(name, event, &[("x-calve-route", route)])
    }

    /// Calls a function asynchronously; the request's id.
    pub(crate) fn invoke_later(&self, name: &str, event: &Value) -> String {
        let reply = self.invoke_with(name, event, &[("x-amz-invocation-type", "Event")]);
        reply.expect(202).header("x-amzn-requestid").to_owned()
    }

    /// Calls a function on another thread.
    pub(crate) fn invoke_aside(&self, name: &str, event: Value) -> JoinHandle<Reply> {
        let (client, name) = (self.clone(), name.to_owned());
        thread::spawn(move || client.invoke(&name, &event))
    }

    /// Calls a function on another thread, with a routing value.
    pub(crate) fn routed_aside(&self, name: &str, route: &str, event: Value) -> JoinHandle<Reply> {
        let (client, name, route) = (self.clone(), name.to_owned(), route.to_owned());
        thread::spawn(move || client.invoke_routed(&name, &route, &event))
    }

    /// Machines and waiting requests of the host.
    pub(crate) fn wait_for_machines(&self, what: &str, so: impl Fn(&Value) -> bool) -> Value {
        self.poll("/calve/v1/top", what, so)
    }

    /// ARN of one of its functions.
    pub(crate) fn arn(&self, name: &str) -> String {
        format!("arn:aws:lambda:us-east-1:{}:function:{name}", self.account)
    }
}

/// Reads from a connection until that has come; all that has.
pub(crate) fn read_until(stream: &mut TcpStream, what: &str) -> Vec<u8> {
    stream.set_read_timeout(Some(LONG)).unwrap();
    let (mut seen, mut some) = (Vec::new(), [0; 4096]);
    while !seen.windows(what.len()).any(|window| window == what.as_bytes()) {
        let read = stream.read(&mut some).unwrap();
        assert!(read > 0, "{what} never came: {}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&some[..read]);
    }
    seen
}

/// Where a function is called.
pub(crate) fn invocations(name: &str) -> String {
    format!("/2015-03-31/functions/{name}/invocations")
}

pub(crate) fn zip_file(code: &str) -> Value {
    json!({ "ZipFile": base64::engine::general_purpose::STANDARD.encode(zip_of(code)) })
}
