//! The floor: a server that answers each request at once, with a thread for each connection and without looking at it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::{clock, stub};

/// Serves until the process ends. Where it is; `request` is the length of a request.
pub(super) fn serve(request: usize) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // It ends with its connection.
            thread::spawn(move || drop(answer(stream, request)));
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream, request: usize) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = vec![0; request];
    loop {
        stream.read_exact(&mut bytes)?;
        let body = stub::times(clock());
        let mut answer =
            format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
        answer.extend(body);
        stream.write_all(&answer)?;
    }
}
