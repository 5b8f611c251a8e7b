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
    farewell::{has_unread, linger, say_farewell},
    life::Life,
    multiplexed,
    stream::Stream,
    vitals::Vitals,
    worker::Worker,
};
use crate::journey::travel;

/// Keeps a connection until one side ends it. A parked one holds what is in this function and in its vitals; everything
/// else is boxed, so that it does not hold room for it.
pub(super) async fn keep(stream: Stream, vitals: Rc<Vitals>, listener: usize, worker: Rc<Worker>) {
    if let Some(names) = stream.names() {
        vitals.shows(names);
    }
    let mut rest = Rest {
        stream,
        read: Bytes::new(),
    };
    if rest.stream.speaks_http2() {
        return over_http2(rest, &vitals, listener, worker).await;
    }
    loop {
        if rest.read.is_empty() && !wait_parked(&rest.stream, &vitals, &worker).await {
            return Box::pin(say_farewell(&mut rest.stream)).await;
        }
        let requests = carry_requests(rest, Rc::clone(&vitals), listener, Rc::clone(&worker));
        match Box::pin(requests).await {
            Some(left) => rest = left,
            None => return,
        }
    }
}

/// What is left of a connection between requests.
struct Rest {
    stream: Stream,
    /// What hyper had read of the next request.
    read: Bytes,
}

/// Carries requests for as long as there are any; `None` where the connection has ended meanwhile.
async fn carry_requests(
    rest: Rest,
    vitals: Rc<Vitals>,
    listener: usize,
    worker: Rc<Worker>,
) -> Option<Rest> {
    vitals.becomes_active(!rest.read.is_empty());
    let io = Watched {
        stream: TokioIo::new(rest.stream),
        read: rest.read,
        vitals: Rc::clone(&vitals),
        is_shut: false,
    };
    let tunnel = RefCell::new(None);
    let service = service_fn(|request: Request<Incoming>| {
        vitals.is_http_10.set(request.version() == Version::HTTP_10);
        let turn = vitals.head_is_complete(!request.body().is_end_stream());
        let (view, tunnel) = (worker.view(), &tunnel);
        async move {
            let mut answer = travel(request, view, listener, turn).await;
            if let Some(opened) = answer.body_mut().tunnel() {
                tunnel.replace(Some(opened));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let max_head_size = vitals.limits().max_head_size;
    let connection = http1::Builder::new()
        .max_buf_size(max_head_size.max(SMALLEST_BUFFER))
        .max_header_size(max_head_size)
        // hyper looks for the end of a client that waits for its answer by reading ahead, into a new buffer for each
        // request. It is looked for without reading instead.
        .half_close(true)
        .serve_connection(io, service);
    match drive(Box::new(connection), &vitals, &worker).await {
        Next::Closed => None,
        Next::Refused(io) => {
            linger(io.stream.into_inner(), &vitals, &worker).await;
            None
        }
        Next::Parked(parts) => {
            // It goes in front of what is still to come; where it is nothing, its buffer must not stay.
            let read = Some(parts.read_buf).filter(|read| !read.is_empty());
            tracing::trace!(has_some_of_a_head = read.is_some(), "quiet");
            Some(Rest {
                stream: parts.io.stream.into_inner(),
                read: read.unwrap_or_default(),
            })
        }
        Next::Http2(parts) => {
            let rest = Rest {
                stream: parts.io.stream.into_inner(),
                read: parts.read_buf,
            };
            over_http2(rest, &vitals, listener, Rc::clone(&worker)).await;
            None
        }
        Next::Ended(parts) => {
            let Watched {
                stream,
                read,
                is_shut,
                ..
            } = parts.io;
            let mut stream = stream.into_inner();
            match tunnel.take() {
                Some(tunnel) => {
                    let early = match read.is_empty() {
                        true => parts.read_buf,
                        false => [parts.read_buf, read].concat().into(),
                    };
                    // Boxed, so that other connections do not hold room for it.
                    Box::pin(tunnel.carry(stream, early)).await;
                }
                None => {
                    let has_more = vitals.has_open_body()
                        || !read.is_empty()
                        || !parts.read_buf.is_empty()
                        || has_unread(&stream);
                    // hyper leaves that to others where a request offered an upgrade, whatever came of it.
                    if !is_shut {
                        say_farewell(&mut stream).await;
                    }
                    // Most clients have said all by now; their places are wanted by others.
                    if has_more {
                        linger(stream, &vitals, &worker).await;
                    }
                }
            }
            None
        }
    }
}

/// Goes on over HTTP/2; boxed, so that other connections do not hold room for it.
fn over_http2(
    rest: Rest,
    vitals: &Vitals,
    listener: usize,
    worker: Rc<Worker>,
) -> Pin<Box<dyn Future<Output = ()>>> {
    let life = Rc::new(Life::new(vitals, &worker));
    Box::pin(multiplexed::keep(
        rest.stream,
        rest.read,
        life,
        listener,
        worker,
    ))
}

/// Waits for the first byte of the next request; `false` when the connection is to be closed. A request that is
/// already there is served, even at the end.
async fn wait_parked(stream: &Stream, vitals: &Vitals, worker: &Worker) -> bool {
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

/// Why hyper's connection is driven no further.
enum Stop {
    /// Nothing happens on it.
    Quiet,
    /// The client is too slow.
    Late,
    /// HTTP has ended.
    Ended,
    /// The client began HTTP/2.
    Http2,
    /// It broke, or hyper's parser took offence.
    Failed,
    /// An answer broke off that ends with the connection.
    Cut,
}

/// Drives hyper's connection until it ends or is to go on in another way.
async fn drive<S, B>(
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
    let mut told_to_end = false;
    let stop = poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(cx) {
                return Poll::Ready(match ended {
                    Ok(()) => Stop::Ended,
                    Err(error) if error.is_parse_version_h2() => Stop::Http2,
                    Err(error) => {
                        worker.connection_failed(&error, vitals.peer());
                        // The end of the connection is the end of the answer: a cut one must not look whole.
                        match error.is_user() && vitals.is_http_10.get() {
                            true => Stop::Cut,
                            false => Stop::Failed,
                        }
                    }
                });
            }
            if !worker.is_draining() || told_to_end {
                match vitals.watch.poll_passed(cx) {
                    // hyper does not read while it has bytes that it cannot use yet, and would not see the end behind
                    // them. It flushes at the end of each turn: the socket is looked at there.
                    Poll::Ready(()) if vitals.schedule_look() => continue,
                    passed => {
                        return passed.map(|()| match vitals.is_quiet() {
                            true => Stop::Quiet,
                            false => Stop::Late,
                        });
                    }
                }
            }
            // Only now that it has read what is there: else it would end without looking.
            told_to_end = true;
            vitals.drains();
            Pin::new(&mut *connection).graceful_shutdown();
        }
    })
    .await;
    match stop {
        Stop::Quiet => Next::Parked(connection.into_parts()),
        Stop::Ended => Next::Ended(connection.into_parts()),
        Stop::Http2 => Next::Http2(connection.into_parts()),
        Stop::Failed => match connection.into_parts().io {
            io if io.is_shut => Next::Refused(io),
            _ => Next::Closed,
        },
        Stop::Cut => {
            connection.into_parts().io.stream.into_inner().reset();
            Next::Closed
        }
        Stop::Late => {
            if let Some(time_out) = vitals.time_out() {
                let peer = vitals.peer();
                tracing::info!(%peer, time_out, "a client was too slow, and its connection is closed");
            }
            Next::Closed
        }
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

impl Watched {
    /// Whether the client has gone, as far as that can be told; else the task is woken when a client that has only its
    /// answer to take may have.
    fn has_gone(&mut self, cx: &mut Context<'_>) -> bool {
        let is_due = self.vitals.take_look();
        (is_due && self.stream.inner().is_gone())
            || (self.vitals.is_waiting_for_answer()
                && self.stream.inner_mut().poll_end(cx).is_ready())
    }

    /// What came of a write, unless it waits for a client that has gone.
    fn written<T>(
        &mut self,
        polled: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        self.vitals.blocks_write(polled.is_pending());
        match polled.is_pending() && self.has_gone(cx) {
            true => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            false => polled,
        }
    }
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
        this.written(polled, cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // hyper flushes at the end of each of its turns, once all is written.
        if this.has_gone(cx) {
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
        this.written(polled, cx)
    }
}

/// The smallest buffer that hyper takes.
const SMALLEST_BUFFER: usize = 8192;

#[cfg(test)]
mod tests;
