//! Both ends of a WebSocket in the hands of a test, and the proxy between them.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::mpsc::{self, Receiver},
};

use crate::{
    client::{self, PATIENCE},
    proxy::{Proxy, World},
    scripted::{self, config_in_front_of, scripted},
};

/// An upstream's right answer to a handshake.
pub(crate) const SWITCH: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// The bytes of a handshake with more header lines.
pub(crate) fn handshake(target: &str, lines: &[&str]) -> Vec<u8> {
    let more: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
    .into_bytes()
}

/// A proxy whose upstream is the test itself: it gets each connection after its first head.
pub(crate) struct Between {
    pub(crate) world: World,
    pub(crate) proxy: Proxy,
    came: Receiver<(TcpStream, String)>,
}

impl Between {
    /// With what the file says before its tables, the upstream's table and the listener's besides.
    pub(crate) fn start(keys: &str, upstream: &str, listener: &str) -> Self {
        let (give, came) = mpsc::channel();
        let address = scripted(move |stream, head| {
            let stream = stream.try_clone().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.set_write_timeout(Some(PATIENCE)).unwrap();
            stream.set_nodelay(true).unwrap();
            // The test may be over.
            let _ = give.send((stream, head));
        });
        let world = World::new();
        let config = config_in_front_of(address, upstream, listener);
        let proxy = world.start_with(&format!("{keys}\n{config}"));
        proxy.ready();
        Self { world, proxy, came }
    }

    /// The next connection that the upstream gets.
    pub(crate) fn upstream(&self) -> (TcpStream, String) {
        self.came.recv_timeout(PATIENCE).expect("a connection")
    }

    /// Whether the upstream has got another connection.
    pub(crate) fn is_upstream_alone(&self) -> bool {
        self.came.try_recv().is_err()
    }

    /// An open WebSocket: the client's end and the upstream's.
    pub(crate) fn open(&self) -> (TcpStream, TcpStream) {
        let mut client = client::connect(self.proxy.address());
        client.write_all(&handshake("/chat", &[])).unwrap();
        let (mut upstream, _) = self.upstream();
        upstream.write_all(SWITCH).unwrap();
        let head = scripted::head(&mut client).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        (client, upstream)
    }

    /// The access line of the one WebSocket, once it has ended.
    pub(crate) fn line(&self) -> serde_json::Value {
        client::eventually("an access line", || {
            self.proxy.printed().lines().find_map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).ok()?;
                (line["target"] == "access" && line["status"] == 101).then_some(line)
            })
        })
    }

    pub(crate) fn end(self) {
        self.world.end(self.proxy);
    }
}

/// What one end says is what the other one hears.
pub(crate) fn passes(from: &mut TcpStream, to: &mut TcpStream, said: &[u8]) {
    from.write_all(said).unwrap();
    let mut heard = vec![0; said.len()];
    to.read_exact(&mut heard).unwrap();
    assert_eq!(heard, said);
}
