//! A function host of a few lines, on a real socket: it says what a test wants, and tells what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::{Place, Said};

/// The key that commands are given.
pub(crate) const KEY: &str = "AKIAABCDEFGHIJKLMNOP:very/secret+value";

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// `GET /path?query`.
    pub(crate) line: String,
    /// By name in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Heard {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Text>) -> Self {
        Self { status, headers: Vec::new(), body: body.into().0 }
    }

    /// An error as the host makes them.
    pub(crate) fn error(status: u16, name: &str, message: &str) -> Self {
        let body = serde_json::json!({ "Type": "User", "Message": message, "message": message });
        Self::new(status, body).header("x-amzn-errortype", name)
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }
}

/// A body: text, or a document.
#[derive(Debug)]
pub(crate) struct Text(String);

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<serde_json::Value> for Text {
    fn from(document: serde_json::Value) -> Self {
        Self(document.to_string())
    }
}

/// The host. Ends with the test's process.
#[derive(Debug)]
pub(crate) struct Stub {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Stub {
    /// A host that answers its requests one after the other; `answer` also gets how many there were before.
    pub(crate) fn new(answer: impl Fn(&Heard, usize) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                // A client that was killed has nothing to say.
                let Some(request) = read(&stream) else { continue };
                let before = all.lock().unwrap().len();
                let reply = answer(&request, before);
                all.lock().unwrap().push(request);
                let _ = write(&mut stream, &reply);
            }
        });
        Self { address, heard }
    }

    /// A host that always says the same.
    pub(crate) fn always(reply: impl Fn() -> Reply + Send + 'static) -> Self {
        Self::new(move |_, _| reply())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What it was asked, in order.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// The first lines of what it was asked.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.heard().into_iter().map(|heard| heard.line).collect()
    }

    /// Runs a command that talks to this host.
    pub(crate) fn calve(&self, place: &Place, args: &[&str]) -> Said {
        self.command(place, args).output().unwrap().into()
    }

    /// A command that talks to this host. A proxy of the environment must not matter.
    pub(crate) fn command(&self, place: &Place, args: &[&str]) -> std::process::Command {
        let mut command = place.command(args);
        command.env("CALVE_URL", self.url()).env("CALVE_KEY", KEY);
        command
            .env("http_proxy", "http://127.0.0.1:9")
            .env_remove("no_proxy")
            .env_remove("NO_PROXY");
        command
    }
}

fn read(stream: &TcpStream) -> Option<Heard> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    if reader.read_line(&mut first).ok()? == 0 {
        return None;
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let line = first.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    Some(Heard { line, headers, body })
}

fn write(stream: &mut TcpStream, reply: &Reply) -> std::io::Result<()> {
    let (status, length) = (reply.status, reply.body.len());
    let mut head = format!("HTTP/1.1 {status} Said\r\nConnection: close\r\n");
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    // An answer that has nothing in it has no length either (RFC 9110, section 8.6).
    if status != 204 {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    write!(stream, "{head}\r\n{}", reply.body)
}
