//! One HTTP exchange on a connection of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than a browser takes to start on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// As they came, each a line.
    pub(crate) headers: String,
    pub(crate) body: String,
}

/// Sends a request with a body of JSON, and reads the whole answer.
pub(crate) fn exchange(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Answer {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {to}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    (&stream).write_all(format!("{head}{body}").as_bytes()).unwrap();

    let mut stream = BufReader::new(stream);
    let mut headers = String::new();
    while !headers.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut headers).unwrap(), 0, "{method} {path}: {headers:?}");
    }
    let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
    let mut body = Vec::new();
    // A server may keep the connection open all the same.
    match header(&headers, "content-length") {
        Some(length) => stream.take(length.parse().unwrap()).read_to_end(&mut body).unwrap(),
        None => stream.read_to_end(&mut body).unwrap(),
    };
    Answer { status, headers, body: String::from_utf8(body).unwrap() }
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }
}

fn header<'a>(headers: &'a str, name: &str) -> Option<&'a str> {
    let lines = headers.lines().filter_map(|line| line.split_once(':'));
    let mut found = lines.filter(|(key, _)| key.eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value.trim())
}
