//! A connection to a server, plain or encrypted, as one byte stream.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncBufRead as _, AsyncRead, AsyncWrite, BufReader, Interest, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// An open connection.
#[derive(Debug)]
pub enum Connection {
    /// To an `http` origin.
    Plain(TcpStream),
    /// To an `https` origin.
    Tls(Box<Encrypted>),
}

/// A stream over TLS.
#[derive(Debug)]
pub struct Encrypted {
    stream: TlsStream<BufReader<TcpStream>>,
    /// What came behind the data that was read last.
    error: Option<io::Error>,
}

impl Encrypted {
    /// Reads what there is, without a look for more where that must come from the socket. And TLS is not asked where
    /// nothing has come there, which the socket tells four times as fast: HTTP looks more often than there is something.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(error) = self.error.take() {
            return Poll::Ready(Err(error));
        }
        if self.is_drained() && self.tcp().poll_read_ready(cx).is_pending() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        loop {
            let is_first = buffer.filled().len() == before;
            match Pin::new(&mut self.stream).poll_fill_buf(cx) {
                Poll::Ready(Ok(data)) => {
                    let size = data.len().min(buffer.remaining());
                    buffer.put_slice(&data[..size]);
                    Pin::new(&mut self.stream).consume(size);
                    if size == 0 || buffer.remaining() == 0 || self.is_drained() {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Pending if is_first => return Poll::Pending,
                Poll::Pending => return Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) if is_first => return Poll::Ready(Err(error)),
                Poll::Ready(Err(error)) => {
                    self.error = Some(error);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Whether all that has been read from the socket has been decrypted, as far as it can be, and taken.
    fn is_drained(&self) -> bool {
        let (buffered, tls) = self.stream.get_ref();
        buffered.buffer().is_empty() && tls.wants_read()
    }

    fn tcp(&self) -> &TcpStream {
        self.stream.get_ref().0.get_ref()
    }
}

impl From<TlsStream<BufReader<TcpStream>>> for Connection {
    fn from(stream: TlsStream<BufReader<TcpStream>>) -> Self {
        Self::Tls(Box::new(Encrypted {
            stream,
            error: None,
        }))
    }
}

impl Connection {
    /// The socket below; to look at, not to read from.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.tcp(),
        }
    }

    /// Whether all that has come was taken, as far as the runtime has heard of it; where this says no there may still be
    /// nothing.
    pub fn is_drained(&self) -> bool {
        let is_decrypted = match self {
            Self::Plain(_) => true,
            Self::Tls(tls) => tls.error.is_none() && tls.is_drained(),
        };
        // The closure is called where the runtime does not know that there is nothing, and says that there may be.
        let may_be_more = self.tcp().try_io(Interest::READABLE, || Ok(()));
        is_decrypted && may_be_more.is_err()
    }

    /// The protocol that the server chose; `None` where it chose none, and without TLS.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(tls) => tls.stream.get_ref().1.alpn_protocol(),
        }
    }
}

/// Calls the same method on whichever stream it is.
macro_rules! forward {
    ($self:ident, $method:ident ( $($argument:expr),* )) => {
        match $self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).$method($($argument),*),
            Self::Tls(tls) => Pin::new(&mut tls.stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Self::Tls(tls) => tls.poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        forward!(self, poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self, poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Tls(tls) => tls.stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        sync::Arc,
        thread,
        time::Duration,
    };

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use rustls::{ClientConfig, RootCertStore, ServerConfig, ServerConnection};
    use tokio::{io::AsyncReadExt as _, time::timeout};
    use tokio_rustls::TlsConnector;

    use super::*;

    /// Ends the handshake and sends these bytes, encrypted, with a record behind them that is none; all in one piece.
    fn say_and_break(listener: &TcpListener, config: Arc<ServerConfig>, said: &[u8]) {
        let (mut socket, _) = listener.accept().unwrap();
        let mut server = ServerConnection::new(config).unwrap();
        while server.is_handshaking() {
            while server.wants_write() {
                server.write_tls(&mut socket).unwrap();
            }
            server.read_tls(&mut socket).unwrap();
            server.process_new_packets().unwrap();
        }
        server.writer().write_all(said).unwrap();
        let mut piece = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut piece).unwrap();
        }
        piece.extend_from_slice(&[23, 3, 3, 1, 0]);
        piece.extend_from_slice(&[0; 256]);
        socket.write_all(&piece).unwrap();
        // TCP stays open until the client ends it.
        let _ = socket.read_to_end(&mut Vec::new());
    }

    #[tokio::test]
    async fn what_breaks_tls_right_behind_data_is_told() {
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
        let server = Arc::new(server);
        // rustls reads 4 KiB at a time: the error is to come with the data, and after it.
        for size in (2_600..4_200).step_by(50) {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = Arc::clone(&server);
            let says = thread::spawn(move || say_and_break(&listener, server, &vec![b'x'; size]));
            let tcp = TcpStream::connect(address).await.unwrap();
            let tcp = BufReader::with_capacity(64 << 10, tcp);
            let connector = TlsConnector::from(Arc::new(client.clone()));
            let name = "localhost".try_into().unwrap();
            let tls = connector.connect(name, tcp).await.unwrap();
            let mut connection = Connection::from(tls);
            let mut said = vec![0; 64 << 10];
            let read = async { while connection.read(&mut said).await.is_ok() {} };
            let told = timeout(Duration::from_secs(10), read).await;
            assert!(told.is_ok(), "behind {size} bytes");
            drop(connection);
            says.join().unwrap();
        }
    }
}
