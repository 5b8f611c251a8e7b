//! A connection to a server, plain or encrypted, as one byte stream.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, BufReader, ReadBuf},
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
    /// All that has been read from the socket has been decrypted and taken.
    is_drained: bool,
}

impl Encrypted {
    /// TLS is asked only where something has come: HTTP looks for more several times for each piece that there is, and
    /// the socket tells four times as fast that there is nothing.
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let tcp = self.stream.get_ref().0.get_ref();
        if self.is_drained && tcp.poll_read_ready(cx).is_pending() {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let (buffered, tls) = self.stream.get_ref();
        self.is_drained = buffered.buffer().is_empty() && tls.wants_read();
        polled
    }
}

impl From<TlsStream<BufReader<TcpStream>>> for Connection {
    fn from(stream: TlsStream<BufReader<TcpStream>>) -> Self {
        Self::Tls(Box::new(Encrypted {
            stream,
            is_drained: false,
        }))
    }
}

impl Connection {
    /// The socket below; to look at, not to read from.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.stream.get_ref().0.get_ref(),
        }
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
