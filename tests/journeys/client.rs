//! A client that says exactly what it is told to, and waits for nothing without an end.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An answer, taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// All values of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let lines = self
            .head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(": "));
        lines
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    /// The one value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name}: {all:?}");
        all.first().copied()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.text()))
    }

    /// The code of an answer that the proxy made.
    pub(crate) fn code(&self) -> String {
        self.json()["errors"][0]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// `GET target` with more header lines, on a connection of its own.
pub(crate) fn get(address: SocketAddr, target: &str, lines: &[&str]) -> Answer {
    send(address, "GET", target, lines, b"")
}

/// A request with a body of known length.
pub(crate) fn send(
    address: SocketAddr,
    method: &str,
    target: &str,
    lines: &[&str],
    body: &[u8],
) -> Answer {
    exchange(connect(address), &request(method, target, lines, body))
}

/// The bytes of a request that closes its connection.
pub(crate) fn request(method: &str, target: &str, lines: &[&str], body: &[u8]) -> Vec<u8> {
    let host = if lines
        .iter()
        .any(|line| line.to_ascii_lowercase().starts_with("host:"))
    {
        ""
    } else {
        "Host: localhost\r\n"
    };
    let length = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Length: {}\r\n", body.len())
    };
    let more: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let mut request =
        format!("{method} {target} HTTP/1.1\r\n{host}{more}{length}Connection: close\r\n\r\n")
            .into_bytes();
    request.extend_from_slice(body);
    request
}

/// Sends bytes and reads the answer to the end of the connection.
pub(crate) fn exchange(mut stream: impl Read + Write, request: &[u8]) -> Answer {
    stream.write_all(request).unwrap();
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        // An answer before the end of the request, and then the end.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !bytes.is_empty() => {}
        Err(error) => panic!(
            "no end of the answer: {error}; so far {}",
            String::from_utf8_lossy(&bytes)
        ),
    }
    parse(&bytes)
}

/// Reads one answer with a `Content-Length` from a connection that stays open.
pub(crate) fn read_one(stream: &mut impl Read) -> Answer {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = find(&bytes, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .expect("a length");
            if bytes.len() >= end + 4 + length.parse::<usize>().unwrap() {
                return parse(&bytes);
            }
        }
        bytes.extend(read_some(stream));
    }
}

/// Whatever comes next; fails at the end of the connection.
pub(crate) fn read_some(stream: &mut impl Read) -> Vec<u8> {
    let mut piece = [0; 16 * 1024];
    let size = stream.read(&mut piece).unwrap();
    assert_ne!(size, 0, "the connection ended");
    piece[..size].to_vec()
}

/// Whether the other side has closed: waits for it.
pub(crate) fn is_closed(stream: &mut impl Read) -> bool {
    matches!(stream.read(&mut [0; 1024]), Ok(0))
}

pub(crate) fn parse(bytes: &[u8]) -> Answer {
    let end = find(bytes, b"\r\n\r\n")
        .unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(bytes)));
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("{head}"));
    let mut answer = Answer {
        status,
        head,
        body: bytes[end + 4..].to_vec(),
    };
    if answer.header("transfer-encoding") == Some("chunked") {
        answer.body = unchunk(&answer.body);
    }
    answer
}

/// The content of a chunked body; fails where it was cut.
fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = find(rest, b"\r\n").expect("a chunk's size");
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        rest = &rest[end + 2..];
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

pub(crate) fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// Asks until the answer is yes; fails when it never is.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let step = Duration::from_millis(20);
    for _ in 0..PATIENCE.as_millis() / step.as_millis() {
        if let Some(yes) = ask() {
            return yes;
        }
        pause(step);
    }
    panic!("never: {what}")
}

/// Lets time pass, where its passing is what is tested.
#[expect(
    clippy::disallowed_methods,
    reason = "a test's own thread waits, no worker"
)]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
