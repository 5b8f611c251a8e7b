//! Upstreams that do exactly what a test wants, and a proxy in front of one.

use std::{
    io::Read,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use rustls::{
    ServerConfig, ServerConnection,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};
use socket2::{Domain, Socket, Type};

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
    let script = Arc::new(script);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, script) = (stream.unwrap(), Arc::clone(&script));
            thread::spawn(move || {
                if let Some(head) = head(&mut stream) {
                    script(&mut stream, head);
                }
            });
        }
    });
    address
}

/// A server that speaks TLS with this certificate; each connection is served in a thread of its own.
pub(crate) fn tls_server(
    certificate: CertificateDer<'static>,
    key: &rcgen::KeyPair,
    serve: impl Fn(ServerConnection, TcpStream) + Send + Sync + 'static,
) -> SocketAddr {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = ServerConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, serve) = (stream.unwrap(), Arc::clone(&serve));
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            thread::spawn(move || serve(connection, stream));
        }
    });
    address
}

/// An address at which nobody listens, and where nobody else can as long as this is there.
pub(crate) struct Nobody(Socket);

impl Nobody {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(&any.into()).unwrap();
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }

    /// From now on somebody does.
    pub(crate) fn listen(self) -> TcpListener {
        self.0.listen(128).unwrap();
        self.0.into()
    }
}

/// The next head on a connection, byte by byte, so that nothing of what follows is taken; `None` at its end.
pub(crate) fn head(stream: &mut impl Read) -> Option<String> {
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
