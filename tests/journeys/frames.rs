//! Raw HTTP/2 frames, right and wrong, over a socket.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::Duration,
};

use crate::client;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A frame as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A connection on which anything can be said.
pub(crate) struct Wire(TcpStream);

impl Wire {
    /// After the preface, with these settings.
    pub(crate) fn open(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut wire = Self(client::connect(address));
        let mut payload = Vec::new();
        for (key, value) in settings {
            payload.extend(key.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        let mut first = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        first.extend(frame(SETTINGS, 0, 0, &payload));
        assert!(wire.send(&first));
        wire
    }

    /// An upstream's end: the preface has come, and settings are said.
    fn accept(stream: TcpStream) -> Option<Self> {
        stream.set_nodelay(true).unwrap();
        let mut wire = Self(stream);
        let mut preface = [0; 24];
        wire.0.read_exact(&mut preface).ok()?;
        wire.frame(SETTINGS, 0, 0, &[]).then_some(wire)
    }

    /// Whether it can be written.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    pub(crate) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.send(&frame(kind, flags, stream, payload))
    }

    /// Says no more; whether the other side has closed the connection as well, in time.
    pub(crate) fn close(&mut self) -> bool {
        // It may be gone already.
        let _ = self.0.shutdown(Shutdown::Write);
        self.0.set_read_timeout(Some(client::PATIENCE)).unwrap();
        let read = io::copy(&mut self.0, &mut io::sink());
        !read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// What comes behind the head of a request, up to its end.
    pub(crate) fn body(&mut self, head: &Frame) -> Vec<u8> {
        let mut body = Vec::new();
        let mut has_ended = head.flags & END_STREAM != 0;
        while !has_ended {
            let piece = self.until(&[DATA]).expect("more of the body");
            has_ended = piece.flags & END_STREAM != 0;
            body.extend(piece.payload);
        }
        body
    }

    /// The next frame; `None` at the end of the connection, or when none comes in time.
    pub(crate) fn next(&mut self, within: Duration) -> Option<Frame> {
        self.0.set_read_timeout(Some(within)).unwrap();
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let [a, b, c, kind, flags, s, t, u, v] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes([s, t, u, v]),
            payload,
        })
    }

    /// Reads until a frame of one of these kinds comes; `None` at the end of the connection.
    pub(crate) fn until(&mut self, kinds: &[u8]) -> Option<Frame> {
        loop {
            let frame = self.next(client::PATIENCE)?;
            if kinds.contains(&frame.kind) {
                return Some(frame);
            }
        }
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An upstream that treats each connection by `script`, on a thread of its own.
pub(crate) fn upstream(script: impl Fn(&mut Wire) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let script = Arc::new(script);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, script) = (stream.unwrap(), Arc::clone(&script));
            thread::spawn(move || Wire::accept(stream).map(|mut wire| script(&mut wire)));
        }
    });
    address
}

/// A header block without tables and Huffman codes.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    block
}

/// What each request has.
pub(crate) fn request<'a>(method: &'a str, path: &'a str, more: &[(&'a str, &'a str)]) -> Vec<u8> {
    let mut fields = vec![
        (":method", method),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", path),
    ];
    fields.extend(more);
    block(&fields)
}
