//! Upstreams that do exactly what a test wants, and a proxy in front of one.

use std::{
    io::Read as _,
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
};

use crate::{
    client,
    proxy::{Proxy, World},
};

/// A server that treats each connection by `script`, on a thread of its own, after it has read a head.
pub(crate) fn scripted(
    script: impl Fn(&mut TcpStream, String) + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let script = std::sync::Arc::new(script);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, script) = (stream.unwrap(), std::sync::Arc::clone(&script));
            thread::spawn(move || {
                if let Some(head) = head(&mut stream) {
                    script(&mut stream, head);
                }
            });
        }
    });
    address
}

/// The next head on a connection, byte by byte, so that nothing of what follows is taken; `None` at its end.
pub(crate) fn head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while client::find(&head, b"\r\n\r\n").is_none() {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8(head).unwrap())
}

/// A proxy in front of one plain server, with what the upstream's and the listener's tables say besides.
pub(crate) fn in_front_of(
    world: &World,
    address: SocketAddr,
    upstream: &str,
    listener: &str,
) -> Proxy {
    world.start_with(&config_in_front_of(address, upstream, listener))
}

/// The configuration of such a proxy.
pub(crate) fn config_in_front_of(address: SocketAddr, upstream: &str, listener: &str) -> String {
    format!(
        "workers = 1\nadmin = {{ address = '127.0.0.1:0' }}\n[listener.local]\naddress = '127.0.0.1:0'\n{listener}\n\
         [upstream.odd]\nurl = 'http://{address}/base'\nplain_http = true\n{upstream}\n\
         [credential.odd.token]\nvalue = {{ file = 'license-token' }}\nupstream = 'odd'\n\
         [route.odd]\npath = '/'\nupstream = 'odd'\nattach = [{{ credential = 'odd', header = 'Iam-Token' }}]\n"
    )
}
