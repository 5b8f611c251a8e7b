//! A request on its way to the upstream: its head first, and each piece of its body as it comes.

use std::{
    io::{self, IoSlice, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderName, header, request::Parts};
use http_body::Body as _;
use tokio::io::AsyncWrite;

use super::super::{rewrite::take_out, survey::Survey, upload::Upload};

/// A request that has not gone out whole.
pub struct Sending {
    upload: Upload,
    ending: Ending,
    /// What is to be written now: the head or what frames the piece, the piece, and what ends it.
    before: Outgoing,
    piece: Bytes,
    behind: &'static [u8],
    /// Nothing comes after that.
    is_last: bool,
}

/// How the upstream knows the end of the body.
#[derive(Debug)]
enum Ending {
    /// After so many more bytes.
    Length(u64),
    /// Each piece has its size before it; the end may have trailers of these names.
    Chunked(Vec<HeaderName>),
}

/// Bytes that are overwritten once they have been written, since the credential may be among them: freed as soon as
/// that, and all memory is wiped when it is freed.
#[derive(Default)]
struct Outgoing {
    bytes: Vec<u8>,
    written: usize,
}

/// Why a request does not go out whole.
#[derive(Debug)]
pub enum Broken {
    /// Its body broke off.
    Upload,
    /// The upstream takes no more.
    Line(io::Error),
}

impl Sending {
    /// A request with this head and this body, which is chunked where the client's is.
    pub fn new(head: &Parts, upload: Upload) -> Self {
        let is_last = upload.is_end_stream();
        let ending = match upload.size_hint().exact() {
            _ if is_last => Ending::Length(0),
            Some(size) if !head.headers.contains_key(header::TRANSFER_ENCODING) => {
                Ending::Length(size)
            }
            _ => Ending::Chunked(declared(&head.headers)),
        };
        Self {
            before: Outgoing::head(head, &ending),
            upload,
            ending,
            piece: Bytes::new(),
            behind: b"",
            is_last,
        }
    }

    /// Writes what there is to write, and takes more of the body when that is done; ready when nothing is left.
    pub fn poll<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broken>> {
        loop {
            let mut waits = false;
            if !self.is_last && self.piece.is_empty() && self.behind.is_empty() {
                waits = self.poll_piece(cx)?.is_pending();
            }
            // The head does not wait for the body, but goes with what is there of it.
            ready!(self.poll_write(stream, cx)).map_err(Broken::Line)?;
            if waits {
                return Poll::Pending;
            }
            if self.is_last {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Takes the next piece of the body, which may be its end.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let Some(frame) = ready!(Pin::new(&mut self.upload).poll_frame(cx)) else {
            return Poll::Ready(self.end_with(HeaderMap::new()));
        };
        let frame = frame.map_err(|_| Broken::Upload)?;
        let piece = match frame.into_data() {
            Ok(piece) => piece,
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                return Poll::Ready(self.end_with(trailers));
            }
        };
        let size = piece.len() as u64;
        match &mut self.ending {
            Ending::Length(left) => {
                *left = left.checked_sub(size).ok_or(Broken::Upload)?;
                self.is_last = *left == 0 && self.upload.is_end_stream();
            }
            // It would be the end.
            Ending::Chunked(_) if size == 0 => {}
            Ending::Chunked(_) => {
                write!(self.before.bytes, "{size:x}\r\n").expect("there is always room");
                self.is_last = self.upload.is_end_stream();
                self.behind = match self.is_last {
                    true => b"\r\n0\r\n\r\n",
                    false => b"\r\n",
                };
            }
        }
        self.piece = piece;
        Poll::Ready(Ok(()))
    }

    /// The end of the body, with the trailers that the head has announced.
    fn end_with(&mut self, mut trailers: HeaderMap) -> Result<(), Broken> {
        self.is_last = true;
        match &self.ending {
            Ending::Length(0) => Ok(()),
            Ending::Length(_) => Err(Broken::Upload),
            Ending::Chunked(declared) => {
                take_out(&mut trailers, |name| !declared.contains(name));
                self.before.bytes.extend_from_slice(b"0\r\n");
                self.before.lines(&trailers);
                self.before.bytes.extend_from_slice(b"\r\n");
                Ok(())
            }
        }
    }

    /// Writes all that is to be written now.
    fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let before = self.before.left();
            let written = if self.piece.is_empty() && self.behind.is_empty() {
                if before.is_empty() {
                    break;
                }
                Pin::new(&mut *stream).poll_write(cx, before)
            } else {
                let all = [before, &self.piece, self.behind].map(IoSlice::new);
                Pin::new(&mut *stream).poll_write_vectored(cx, &all)
            };
            let size = ready!(written)?;
            if size == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let size = self.before.wrote(size);
            let of_piece = size.min(self.piece.len());
            self.piece.advance(of_piece);
            self.behind = &self.behind[size - of_piece..];
        }
        Pin::new(stream).poll_flush(cx)
    }
}

impl Outgoing {
    /// A head, as RFC 9112 has it.
    fn head(head: &Parts, ending: &Ending) -> Self {
        let lines = head.headers.iter();
        let size: usize = lines
            .map(|(name, value)| name.as_str().len() + value.len() + 4)
            .sum();
        let target = head
            .uri
            .path_and_query()
            .map_or("/", |target| target.as_str());
        let method = head.method.as_str();
        let mut head_bytes = Self {
            bytes: Vec::with_capacity(method.len() + target.len() + size + REST_OF_HEAD),
            written: 0,
        };
        let bytes = &mut head_bytes.bytes;
        bytes.extend_from_slice(method.as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(target.as_bytes());
        bytes.extend_from_slice(b" HTTP/1.1\r\n");
        let had_framing = head_bytes.lines(&head.headers);
        let bytes = &mut head_bytes.bytes;
        match ending {
            Ending::Chunked(_) => bytes.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            // Without a body there is nothing to be said, unless it was said before.
            Ending::Length(0) if !had_framing => {}
            Ending::Length(size) => {
                write!(bytes, "content-length: {size}\r\n").expect("there is always room");
            }
        }
        bytes.extend_from_slice(b"\r\n");
        head_bytes
    }

    /// A line for each header, but for those that frame the body, since who frames it says how; whether there were any.
    fn lines(&mut self, headers: &HeaderMap) -> bool {
        let mut had_framing = false;
        for (name, value) in headers {
            if name == header::CONTENT_LENGTH || name == header::TRANSFER_ENCODING {
                had_framing = true;
            } else {
                self.bytes.extend_from_slice(name.as_str().as_bytes());
                self.bytes.extend_from_slice(b": ");
                self.bytes.extend_from_slice(value.as_bytes());
                self.bytes.extend_from_slice(b"\r\n");
            }
        }
        had_framing
    }

    fn left(&self) -> &[u8] {
        &self.bytes[self.written..]
    }

    /// So many bytes have been written, some of them perhaps behind these: how many.
    fn wrote(&mut self, size: usize) -> usize {
        let of_these = size.min(self.left().len());
        self.written += of_these;
        if self.left().is_empty() {
            *self = Self::default();
        }
        size - of_these
    }
}

/// Without the content, which has the credential, and is the client's.
impl std::fmt::Debug for Sending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sending")
            .field("ending", &self.ending)
            .field("is_last", &self.is_last)
            .finish_non_exhaustive()
    }
}

/// The trailers that a head announces.
fn declared(headers: &HeaderMap) -> Vec<HeaderName> {
    let listed = Survey::of(headers).listed(&header::TRAILER);
    listed
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .collect()
}

/// Room for what is neither method nor target nor a header that came, in bytes.
const REST_OF_HEAD: usize = 48;

#[cfg(test)]
mod tests;
