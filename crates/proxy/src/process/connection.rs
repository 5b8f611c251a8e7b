//! A client's connection from accept to close: parked while idle, active while a request is under way.
//!
//! A parked connection is a bare socket that waits to become readable; hyper's buffers exist only while it is
//! active. All its time-outs are one deadline that moves with what happens, and one sweeper per worker looks at it.

use std::{
    cell::RefCell,
    convert::Infallible,
    error::Error,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::{Buf as _, Bytes};
use http::{Request, Version};
use http_body::Body;
use hyper::{
    body::Incoming,
    rt::{Read, ReadBufCursor, Write},
    server::conn::http1,
    service::{HttpService, service_fn},
};
use hyper_util::rt::TokioIo;

use super::{
    farewell::{linger, say_farewell},
    multiplexed,
    stream::Stream,
    vitals::{Limits, Vitals},
    worker::Worker,
};
use crate::journey::{admit::Peer, travel};

/// Keeps a connection until one side ends it.
pub async fn keep(stream: Stream, peer: Peer, listener: usize, limits: Limits, worker: Rc<Worker>) {
    if stream.speaks_http2() {
        let read = Bytes::new();
        return over_http2(stream, read, peer, listener, limits, worker).await;
    }
    let mut builder = http1::Builder::new();
    builder
        .max_buf_size(limits.max_head_size.max(SMALLEST_BUFFER))
        .max_header_size(limits.max_head_size);
    let vitals = Rc::new(Vitals::new(peer, limits, &worker));
    let mut stream = TokioIo::new(stream);
    let mut read = Bytes::new();
    loop {
        if read.is_empty() && !parked(stream.inner(), &vitals, &worker).await {
            return say_farewell(&mut stream).await;
        }
        vitals.becomes_active(!read.is_empty());
        let io = Watched {
            stream,
            read,
            vitals: Rc::clone(&vitals),
            is_shut: false,
        };
        let tunnel = RefCell::new(None);
        let service = service_fn(|request: Request<Incoming>| {
            vitals.is_http_10.set(request.version() == Version::HTTP_10);
            let turn = vitals.head_is_complete(!request.body().is_end_stream());
            let journey = travel(request, worker.view(), listener, turn);
            async {
                let mut answer = journey.await;
                if let Some(opened) = answer.body_mut().tunnel() {
                    tunnel.replace(Some(opened));
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let connection = Box::new(builder.serve_connection(io, service));
        let parts = match active(connection, &vitals, &worker).await {
            Next::Closed => return,
            Next::Refused(io) => {
                let stream = io.stream.into_inner();
                return Box::pin(linger(stream, &vitals, &worker)).await;
            }
            Next::Parked(parts) => parts,
            Next::Http2(parts) => {
                let stream = parts.io.stream.into_inner();
                let read = parts.read_buf;
                return over_http2(stream, read, peer, listener, limits, worker).await;
            }
            Next::Ended(parts) => {
                let Watched {
                    mut stream,
                    read,
                    is_shut,
                    ..
                } = parts.io;
                match tunnel.take() {
                    Some(tunnel) => {
                        let early = match read.is_empty() {
                            true => parts.read_buf,
                            false => [parts.read_buf, read].concat().into(),
                        };
                        // Boxed, so that a parked connection does not hold room for it.
                        Box::pin(tunnel.carry(stream.into_inner(), early)).await;
                    }
                    None => {
                        // hyper leaves that to others where a request offered an upgrade, whatever came of it.
                        if !is_shut {
                            say_farewell(&mut stream).await;
                        }
                        Box::pin(linger(stream.into_inner(), &vitals, &worker)).await;
                    }
                }
                return;
            }
        };
        stream = parts.io.stream;
        // What hyper had read of the next request goes in front of what is still to come; where that is nothing, its
        // buffer must not stay.
        read = if parts.read_buf.is_empty() {
            Bytes::new()
        } else {
            parts.read_buf
        };
        tracing::trace!(has_some_of_a_head = !read.is_empty(), "quiet");
    }
}

/// Goes on over HTTP/2; boxed, so that a parked connection does not hold room for it.
fn over_http2(
    stream: Stream,
    read: Bytes,
    peer: Peer,
    listener: usize,
    limits: Limits,
    worker: Rc<Worker>,
) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(multiplexed::keep(
        stream, read, peer, listener, limits, worker,
    ))
}

/// Waits for the first byte of the next request; `false` when the connection is to be closed. A request that is
/// already there is served, even at the end.
async fn parked(stream: &Stream, vitals: &Vitals, worker: &Worker) -> bool {
    vitals.parks();
    poll_fn(|cx| {
        if let Poll::Ready(readable) = stream.poll_readable(cx) {
            return Poll::Ready(readable.is_ok());
        }
        let passed = vitals.watch.poll_passed(cx).is_ready();
        if passed || worker.is_draining() {
            Poll::Ready(false)
        } else {
            Poll::Pending
        }
    })
    .await
}

/// What becomes of a connection that was active.
enum Next<S> {
    /// It broke, or is to be closed.
    Closed,
    /// hyper's parser took offence, and has said so and the end.
    Refused(Watched),
    /// It has been quiet for long enough to be parked.
    Parked(http1::Parts<Watched, S>),
    /// The client began HTTP/2; what it said is in the read buffer.
    Http2(http1::Parts<Watched, S>),
    /// HTTP has ended on it: it is closed, or goes on as a tunnel.
    Ended(http1::Parts<Watched, S>),
}

/// Drives hyper's connection until it ends or is to go on in another way.
async fn active<S, B>(
    mut connection: Box<http1::Connection<Watched, S>>,
    vitals: &Vitals,
    worker: &Worker,
) -> Next<S>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (mut told_to_end, mut cut) = (false, false);
    let (mut is_http2, mut has_ended, mut has_failed) = (false, false, false);
    let quiet = poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(cx) {
                match ended {
                    Err(error) if error.is_parse_version_h2() => is_http2 = true,
                    Err(error) => {
                        worker.connection_failed(&error);
                        // The end of the connection is the end of the answer: a cut one must not look whole.
                        cut = error.is_user() && vitals.is_http_10.get();
                        has_failed = true;
                    }
                    Ok(()) => has_ended = true,
                }
                return Poll::Ready(false);
            }
            if !worker.is_draining() || told_to_end {
                match vitals.watch.poll_passed(cx) {
                    // hyper does not read while it has bytes that it cannot use yet, and would not see the end behind
                    // them. It flushes at the end of each turn: the socket is looked at there.
                    Poll::Ready(()) if vitals.looks_for_client() => continue,
                    passed => return passed.map(|()| vitals.is_quiet()),
                }
            }
            // Only now that it has read what is there: else it would end without looking.
            told_to_end = true;
            vitals.drains();
            Pin::new(&mut *connection).graceful_shutdown();
        }
    })
    .await;
    if cut {
        connection.into_parts().io.stream.into_inner().reset();
        return Next::Closed;
    }
    if quiet {
        return Next::Parked(connection.into_parts());
    }
    if has_failed {
        let io = connection.into_parts().io;
        return match io.is_shut {
            true => Next::Refused(io),
            false => Next::Closed,
        };
    }
    match (is_http2, has_ended) {
        (true, _) => Next::Http2(connection.into_parts()),
        (false, true) => Next::Ended(connection.into_parts()),
        (false, false) => Next::Closed,
    }
}

/// A client's bytes on their way to and from hyper, with an eye on what moves.
#[derive(Debug)]
struct Watched {
    stream: TokioIo<Stream>,
    /// Read before the connection was parked.
    read: Bytes,
    vitals: Rc<Vitals>,
    /// Its end has been said.
    is_shut: bool,
}

impl Read for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.read.is_empty() {
            let size = this.read.len().min(buf.remaining());
            buf.put_slice(&this.read[..size]);
            this.read.advance(size);
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if polled.is_ready() {
            this.vitals.has_read();
        }
        polled
    }
}

impl Write for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.vitals.blocks_write(polled.is_pending());
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.vitals.is_look_due() && this.stream.inner().is_gone() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let polled = Pin::new(&mut this.stream).poll_flush(cx);
        this.vitals.blocks_write(polled.is_pending());
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.is_shut = true;
        let polled = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.vitals.blocks_write(polled.is_pending());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.vitals.blocks_write(polled.is_pending());
        polled
    }
}

/// The smallest buffer that hyper takes.
const SMALLEST_BUFFER: usize = 8192;
