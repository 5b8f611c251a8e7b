//! A client's HTTP/2 connection from its first frame to its close: many requests at a time, each with a deadline of its
//! own.
//!
//! What a client owes is either the rest of a frame or head (the connection's, within the head time-out), room to write
//! (the connection's, within the stall time-out), or, on one stream, a piece of a body or room for a piece of the answer
//! (within the stall time-out: then that stream is reset, and no other). A connection that is idle for too long is ended
//! by GOAWAY, as at the end of the process.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame, SizeHint};
use hyper::{body::Incoming, rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    life::{Life, Turn},
    stream::Stream,
    worker::Worker,
};
use crate::{
    journey::{answer::Answer, travel, upload::Cut},
    sieve::Sieve,
};

/// Keeps a connection until one side ends it; `read` is what the client has said on it so far.
pub(super) async fn keep(
    stream: Stream,
    read: Bytes,
    life: Rc<Life>,
    listener: usize,
    worker: Rc<Worker>,
) {
    life.arm_deadline();
    let io = TokioIo::new(Sieve::of_client(Watched {
        stream,
        read,
        life: Rc::clone(&life),
    }));
    let service = service_fn(|request: Request<Incoming>| {
        let turn = Rc::new(Turn::new(&life, &worker));
        life.begins(&turn);
        let client = Rc::clone(&turn);
        let view = worker.view();
        // Boxed, since hyper moves it on into a task of its own, and that is moved when it ends.
        Box::pin(async move {
            let answer = travel(request, view, listener, client).await;
            Ok::<_, Infallible>(answer.map(|answer| Paced::new(answer, turn)))
        })
    });
    let mut builder = http2::Builder::new(PerStream(Rc::clone(&life)));
    builder
        .max_concurrent_streams(MOST_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(MOST_STREAMS * STREAM_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_local_error_reset_streams(MOST_LOCAL_RESETS)
        .max_header_list_size(u32::try_from(life.limits().max_head_size).unwrap_or(u32::MAX));
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut told_to_end = false;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
                if let Err(error) = ended {
                    worker.connection_failed(&error, life.peer);
                }
                return Poll::Ready(());
            }
            // Only now that it has read what is there.
            if !told_to_end && (worker.is_draining() || life.is_idle_for_too_long(cx)) {
                told_to_end = true;
                life.drains();
                connection.as_mut().graceful_shutdown();
                continue;
            }
            return match life.is_late(cx) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            };
        }
    })
    .await;
}

/// Runs each request in a task of its own, which ends when the request is late: then hyper resets its stream.
#[derive(Debug, Clone)]
struct PerStream(Rc<Life>);

impl<F: Future<Output = ()> + 'static> Executor<F> for PerStream {
    fn execute(&self, stream: F) {
        // hyper makes the task of a request right after it has called the service for it: the latest turn is this task's.
        let (turn, peer) = (self.0.latest.take(), self.0.peer);
        tokio::task::spawn_local(async move {
            let mut stream = pin!(stream);
            poll_fn(|cx| match (stream.as_mut().poll(cx), &turn) {
                (Poll::Pending, Some(turn)) => turn.watch.poll_passed(cx).map(|()| {
                    let time_out = "stall_timeout";
                    tracing::info!(%peer, time_out, "a client was too slow, and its stream is reset");
                }),
                (polled, _) => polled,
            })
            .await;
        });
    }
}

/// An answer that tells when its client has room for the next piece.
#[derive(Debug)]
struct Paced {
    answer: Answer,
    turn: Rc<Turn>,
}

impl Paced {
    fn new(answer: Answer, turn: Rc<Turn>) -> Self {
        turn.whole.set(answer.is_end_stream());
        Self { answer, turn }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.answer).poll_frame(cx);
        this.turn
            .waits_for_room(matches!(polled, Poll::Ready(Some(Ok(_)))));
        match &polled {
            // An answer that the upstream cut was not called off by the client.
            Poll::Ready(None | Some(Err(_))) => this.turn.whole.set(true),
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() || this.answer.is_end_stream() => {
                this.turn.whole.set(true);
            }
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.answer.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.answer.size_hint()
    }
}

/// A client's bytes on their way to and from hyper, with an eye on what moves.
#[derive(Debug)]
struct Watched {
    stream: Stream,
    /// Read before it was known that this is HTTP/2.
    read: Bytes,
    life: Rc<Life>,
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = if this.read.is_empty() {
            Pin::new(&mut this.stream).poll_read(cx, buf)
        } else {
            let size = this.read.len().min(buf.remaining());
            buf.put_slice(&this.read.split_to(size));
            Poll::Ready(Ok(()))
        };
        this.life.has_read(&buf.filled()[before..]);
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.life.blocks_write(polled.is_pending());
        this.life.has_written(&polled);
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(cx);
        this.life.blocks_write(polled.is_pending());
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
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
        this.life.blocks_write(polled.is_pending());
        this.life.has_written(&polled);
        polled
    }
}

/// Requests under way on one connection; what is above is refused, and may be sent again.
const MOST_STREAMS: u32 = 100;

/// What a client may send of one body before the upstream has taken anything of it. The connection has room for all of
/// them: one upload that does not go on must not hold up the others.
const STREAM_WINDOW: u32 = 64 << 10;

/// What of one answer may wait to be written.
const SEND_BUFFER: usize = 64 << 10;

/// Streams that had to be reset because of what the client sent on them, before its connection is closed; hyper's default,
/// written out.
const MOST_LOCAL_RESETS: usize = 1024;
