//! The bytes of a client, however they come.

use std::{
    io::{self, ErrorKind},
    mem::MaybeUninit,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::{AsyncBufRead as _, AsyncRead, AsyncWrite, Interest, ReadBuf, Ready},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::journey::caller::CertificateNames;

/// The bytes of a client.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS, after its handshake.
    Tls(Box<TlsStream<TcpStream>>),
    /// A unix socket.
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
}

impl Stream {
    /// Whether HTTP/2 was agreed on in the TLS handshake.
    pub fn speaks_http2(&self) -> bool {
        matches!(self, Self::Tls(tls) if tls.get_ref().1.alpn_protocol() == Some(b"h2"))
    }

    /// The names in the certificate that the client has shown.
    pub fn names(&self) -> Option<Rc<CertificateNames>> {
        let Self::Tls(tls) = self else {
            return None;
        };
        let chain = tls.get_ref().1.peer_certificates()?;
        Some(Rc::new(CertificateNames::of(chain)?))
    }

    /// Ready when a byte, or the end, can be read.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_read_ready(cx),
            // A request that came together with the end of the handshake has left the socket already.
            Self::Tls(tls) if !tls.get_ref().1.wants_read() => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.get_ref().0.poll_read_ready(cx),
            #[cfg(unix)]
            Self::Unix(unix) => unix.poll_read_ready(cx),
        }
    }

    /// Ready when the client has ended, or the connection is broken; else the task is woken by what comes, unless something
    /// of the client's lies there already. That is left to whoever reads, and hides an end behind it.
    pub fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let look = Interest::READABLE;
        match self {
            Self::Tcp(tcp) => poll_end(
                || tcp.poll_read_ready(cx),
                || tcp.try_io(look, || peek(&SockRef::from(&*tcp))),
            ),
            // TLS has an end of its own, which is a record like others.
            Self::Tls(tls) => match Pin::new(tls).poll_fill_buf(cx) {
                Poll::Ready(Ok(said)) if !said.is_empty() => Poll::Pending,
                polled => polled.map(|_| ()),
            },
            #[cfg(unix)]
            Self::Unix(unix) => poll_end(
                || unix.poll_read_ready(cx),
                || unix.try_io(look, || peek(&SockRef::from(&*unix))),
            ),
        }
    }

    /// Whether the client has closed its end, or the connection is broken, whatever lies before that unread: the runtime
    /// has been told by the kernel, and no call is made.
    pub fn is_gone(&self) -> bool {
        let look = Interest::READABLE;
        match self {
            Self::Tcp(tcp) => is_closed(tcp.ready(look)),
            Self::Tls(tls) => is_closed(tls.get_ref().0.ready(look)),
            #[cfg(unix)]
            Self::Unix(unix) => is_closed(unix.ready(look)),
        }
    }

    /// The socket alone: what comes over it is not decrypted any more.
    #[must_use]
    pub fn without_tls(self) -> Self {
        match self {
            Self::Tls(tls) => Self::Tcp(tls.into_inner().0),
            other => other,
        }
    }

    /// Ends the connection so that the client sees it break off, as far as the transport can say so: over TLS an end
    /// that was not said is one, and a unix socket has no such thing.
    pub fn reset(self) {
        let tcp = match &self {
            Self::Tcp(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
            #[cfg(unix)]
            Self::Unix(_) => return,
        };
        let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
    }
}

fn poll_end(
    mut poll_readable: impl FnMut() -> Poll<io::Result<()>>,
    peek: impl Fn() -> io::Result<usize>,
) -> Poll<()> {
    while ready!(poll_readable()).is_ok() {
        match peek() {
            // What the runtime knew was old, and it knows better now.
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Ok(1..) => return Poll::Pending,
            Ok(0) | Err(_) => break,
        }
    }
    Poll::Ready(())
}

fn peek(socket: &SockRef<'_>) -> io::Result<usize> {
    socket.peek(&mut [MaybeUninit::uninit()])
}

fn is_closed(readiness: impl Future<Output = io::Result<Ready>>) -> bool {
    match pin!(readiness).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(readiness) => readiness.is_ok_and(Ready::is_read_closed),
        Poll::Pending => false,
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
            #[cfg(unix)]
            Self::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
            #[cfg(unix)]
            Self::Unix(unix) => Pin::new(unix).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
            #[cfg(unix)]
            Self::Unix(unix) => Pin::new(unix).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            #[cfg(unix)]
            Self::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
            #[cfg(unix)]
            Self::Unix(unix) => unix.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
            #[cfg(unix)]
            Self::Unix(unix) => Pin::new(unix).poll_write_vectored(cx, bufs),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        io::{Read as _, Write as _},
        net::{Ipv4Addr, TcpListener},
        sync::Arc,
        thread,
        time::Duration,
    };

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig};
    use tokio_rustls::TlsAcceptor;

    use super::*;

    /// Sends the end of its handshake and a request in one piece; returns when the server closes.
    fn shake_hands_and_ask(address: std::net::SocketAddr, config: Arc<ClientConfig>) {
        let mut socket = std::net::TcpStream::connect(address).unwrap();
        let mut client = ClientConnection::new(config, "localhost".try_into().unwrap()).unwrap();
        while client.is_handshaking() {
            while client.wants_write() {
                client.write_tls(&mut socket).unwrap();
            }
            client.read_tls(&mut socket).unwrap();
            client.process_new_packets().unwrap();
        }
        client.writer().write_all(b"GET / HTTP/1.1\r\n").unwrap();
        let mut piece = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut piece).unwrap();
        }
        socket.write_all(&piece).unwrap();
        let _ = socket.read(&mut [0; 1024]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_with_the_end_of_the_handshake_is_seen() {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["localhost".into()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let key = signing_key.serialize_der().try_into().unwrap();
        let server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let asking = thread::spawn(move || shake_hands_and_ask(address, Arc::new(client)));
        let (tcp, _) = listener.accept().unwrap();
        tcp.set_nonblocking(true).unwrap();
        let tcp = TcpStream::from_std(tcp).unwrap();
        let tls = TlsAcceptor::from(Arc::new(server))
            .accept(tcp)
            .await
            .unwrap();

        let stream = Stream::Tls(Box::new(tls));
        let readable = poll_fn(|cx| stream.poll_readable(cx));
        tokio::time::timeout(Duration::from_secs(60), readable)
            .await
            .expect("the request is there")
            .unwrap();
        drop(stream);
        asking.join().unwrap();
    }
}
