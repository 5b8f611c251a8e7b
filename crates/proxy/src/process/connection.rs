//! A client's connection from accept to close: parked while idle, active while a request is under way.
//!
//! A parked connection is a bare socket that waits to become readable; hyper's buffers exist only while it is
//! active. All its time-outs are one deadline that moves with what happens, and one sweeper per worker looks at it.

use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    error::Error,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
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

use super::{multiplexed, stream::Stream, worker::Worker};
use crate::{
    journey::{Client, admit::Peer, travel},
    sweep::Watch,
};

/// The time-outs of a listener's connections.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// From the first byte of a request to the end of its head.
    pub head_timeout: Duration,
    /// How long a connection may be idle.
    pub keep_alive: Duration,
    /// How long a client may neither send the body nor read the answer.
    pub stall_timeout: Duration,
    /// Largest head of a request, in bytes.
    pub max_head_size: usize,
}

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
            return say_farewell(stream).await;
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
            Next::Parked(parts) => parts,
            Next::Http2(parts) => {
                let stream = parts.io.stream.into_inner();
                let read = parts.read_buf;
                return over_http2(stream, read, peer, listener, limits, worker).await;
            }
            Next::Ended(parts) => {
                let Watched {
                    stream,
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
                    // hyper leaves that to others where a request offered an upgrade, whatever came of it.
                    None if !is_shut => say_farewell(stream).await,
                    None => {}
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

/// The end of a TLS connection is said, not just done; a client that does not take it is not waited for.
async fn say_farewell(mut stream: TokioIo<Stream>) {
    let end = poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx));
    let _ = tokio::time::timeout(FAREWELL, end).await;
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
    let (mut is_http2, mut has_ended) = (false, false);
    let quiet = poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(cx) {
                match ended {
                    Err(error) if error.is_parse_version_h2() => is_http2 = true,
                    Err(error) => {
                        worker.connection_failed(&error);
                        // The end of the connection is the end of the answer: a cut one must not look whole.
                        cut = error.is_user() && vitals.is_http_10.get();
                    }
                    Ok(()) => has_ended = true,
                }
                return Poll::Ready(false);
            }
            if !worker.is_draining() || told_to_end {
                return vitals.watch.poll_passed(cx).map(|()| vitals.is_quiet());
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
    match (is_http2, has_ended) {
        (true, _) => Next::Http2(connection.into_parts()),
        (false, true) => Next::Ended(connection.into_parts()),
        (false, false) => Next::Closed,
    }
}

/// What a connection is doing, as its time-outs see it.
#[derive(Debug)]
struct Vitals {
    peer: Peer,
    limits: Limits,
    watch: Watch,
    phase: Cell<Phase>,
    /// Which request is under way, or was last. What is left of an earlier one says nothing about the connection.
    request: Cell<u64>,
    /// Some of its body is still to come: whatever is read is no head.
    body_open: Cell<bool>,
    /// Nobody reads that body any more; hyper skips it or closes.
    body_dropped: Cell<bool>,
    waits_for_body: Cell<bool>,
    write_blocked: Cell<bool>,
    draining: Cell<bool>,
    /// The request under way is of HTTP/1.0, which knows no chunks.
    is_http_10: Cell<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Between requests.
    Idle,
    /// A head is to be complete in time: some of it has come, or of a body that is skipped before it.
    Head,
    /// A request is under way.
    Journey,
    /// Its answer has ended before its body, which is still read.
    Rest,
}

/// The turn of one request on its connection.
#[derive(Debug)]
struct Turn {
    vitals: Rc<Vitals>,
    request: u64,
}

impl Vitals {
    fn new(peer: Peer, limits: Limits, worker: &Worker) -> Self {
        Self {
            peer,
            limits,
            watch: worker.sweeper().watch(),
            phase: Cell::new(Phase::Idle),
            request: Cell::new(0),
            body_open: Cell::new(false),
            body_dropped: Cell::new(false),
            waits_for_body: Cell::new(false),
            write_blocked: Cell::new(false),
            draining: Cell::new(false),
            is_http_10: Cell::new(false),
        }
    }

    fn parks(&self) {
        self.watch
            .arm(self.limits.keep_alive.saturating_sub(PARK_AFTER));
    }

    fn becomes_active(&self, has_some_of_a_head: bool) {
        self.phase.set(Phase::Idle);
        self.watch.arm(PARK_AFTER);
        if has_some_of_a_head {
            self.has_read();
        }
    }

    fn has_read(&self) {
        if self.phase.get() == Phase::Idle {
            self.awaits_head();
        }
    }

    fn awaits_head(&self) {
        self.phase.set(Phase::Head);
        self.watch.arm(self.limits.head_timeout);
    }

    fn head_is_complete(self: &Rc<Self>, has_body: bool) -> Rc<dyn Client> {
        let request = self.request.get() + 1;
        self.request.set(request);
        self.phase.set(Phase::Journey);
        self.body_open.set(has_body);
        self.body_dropped.set(false);
        self.waits_for_body.set(false);
        self.await_client();
        Rc::new(Turn {
            vitals: Rc::clone(self),
            request,
        })
    }

    fn answered(&self) {
        match (self.body_open.get(), self.body_dropped.get()) {
            (true, true) => self.awaits_head(),
            (open, _) => {
                self.phase.set(if open { Phase::Rest } else { Phase::Idle });
                self.await_client();
            }
        }
    }

    fn body_ended(&self) {
        self.body_open.set(false);
        self.waits_for_body(false);
        if self.phase.get() == Phase::Rest {
            self.answered();
        }
    }

    fn body_dropped(&self) {
        self.body_dropped.set(true);
        self.waits_for_body(false);
        if self.phase.get() == Phase::Rest {
            self.answered();
        }
    }

    fn waits_for_body(&self, waits: bool) {
        if self.waits_for_body.replace(waits) != waits {
            self.await_client();
        }
    }

    fn blocks_write(&self, blocked: bool) {
        if self.write_blocked.replace(blocked) != blocked {
            self.await_client();
        }
    }

    /// The end is near: the rest of a body whose answer is given is not waited for.
    fn drains(&self) {
        self.draining.set(true);
        self.await_client();
    }

    /// The client has to do something, within the stall time-out; or nothing at all.
    fn await_client(&self) {
        match self.phase.get() {
            Phase::Rest if self.draining.get() => self.watch.arm(FAREWELL),
            _ if self.waits_for_body.get() || self.write_blocked.get() => {
                self.watch.arm(self.limits.stall_timeout)
            }
            Phase::Journey => self.watch.disarm(),
            Phase::Rest => self.watch.arm(self.limits.stall_timeout),
            Phase::Idle => self.watch.arm(PARK_AFTER),
            Phase::Head => {}
        }
    }

    /// Whether a passed deadline means that nothing is going on, as opposed to a client that is too slow.
    fn is_quiet(&self) -> bool {
        self.phase.get() == Phase::Idle
            && !self.body_open.get()
            && !self.waits_for_body.get()
            && !self.write_blocked.get()
    }
}

impl Turn {
    /// The connection, while it is still about this request.
    fn current(&self) -> Option<&Vitals> {
        (self.vitals.request.get() == self.request).then_some(&*self.vitals)
    }
}

impl Client for Turn {
    fn peer(&self) -> Peer {
        self.vitals.peer
    }

    fn waits_for_body(&self, waits: bool) {
        if let Some(vitals) = self.current() {
            vitals.waits_for_body(waits);
        }
    }

    fn body_ended(&self) {
        if let Some(vitals) = self.current() {
            vitals.body_ended();
        }
    }

    fn body_dropped(&self) {
        if let Some(vitals) = self.current() {
            vitals.body_dropped();
        }
    }

    fn answered(&self) {
        if let Some(vitals) = self.current() {
            vitals.answered();
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
        let polled = Pin::new(&mut this.stream).poll_flush(cx);
        this.vitals.blocks_write(polled.is_pending());
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.is_shut = true;
        Pin::new(&mut this.stream).poll_shutdown(cx)
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

/// How long a connection is quiet before it is parked.
const PARK_AFTER: Duration = Duration::from_secs(1);

/// How long a client may take to take the end of its connection.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// The smallest buffer that hyper takes.
const SMALLEST_BUFFER: usize = 8192;
