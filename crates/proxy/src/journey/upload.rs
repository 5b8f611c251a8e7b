//! The body of a request on its way to the upstream: each piece goes on as it comes, none is kept.

use std::{
    cell::Cell,
    error::Error,
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::Client;
use crate::{fault::Fault, sweep::Watch};

/// How far a request body has come; shared with the step that waits for the answer.
#[derive(Debug, Default)]
pub struct Progress {
    /// The whole body has been handed over.
    pub ended: Cell<bool>,
    /// Why it never will be.
    pub fault: Cell<Option<Fault>>,
    /// The head of the answer is there: the deadline is no longer the request's.
    pub answered: Cell<bool>,
}

/// A request body.
#[derive(Debug)]
pub struct Upload {
    incoming: Option<Incoming>,
    left: Option<u64>,
    drops_trailers: bool,
    progress: Rc<Progress>,
    client: Option<Rc<dyn Client>>,
    deadline: Option<(Rc<Watch>, Duration)>,
}

/// A body that ended without being whole; says nothing more, since a peer may see the text.
#[derive(Debug)]
pub struct Cut;

impl Upload {
    /// A body as it comes from the client.
    pub fn new(incoming: Incoming, client: Rc<dyn Client>) -> Self {
        let mut upload = Self::empty();
        upload.progress.ended.set(incoming.is_end_stream());
        upload.incoming = Some(incoming);
        upload.client = Some(client);
        upload
    }

    /// The body of a request that has none.
    pub fn empty() -> Self {
        let progress = Progress {
            ended: Cell::new(true),
            ..Progress::default()
        };
        Self {
            incoming: None,
            left: None,
            drops_trailers: false,
            progress: Rc::new(progress),
            client: None,
            deadline: None,
        }
    }

    /// No more than `max` bytes; and no trailers where something is attached, since a forged credential may stand in
    /// them.
    pub fn limit(&mut self, max: Option<u64>, drops_trailers: bool) {
        self.left = max;
        self.drops_trailers = drops_trailers;
    }

    /// The upstream has `within` to answer from the last piece that went out; while the client owes one, it has no
    /// deadline.
    pub fn moves_deadline(&mut self, watch: Rc<Watch>, within: Duration) {
        self.deadline = Some((watch, within));
    }

    /// How far it has come.
    pub fn progress(&self) -> Rc<Progress> {
        Rc::clone(&self.progress)
    }

    /// Reads what a refused request still sends, up to a bound: a client that writes its whole body before it reads
    /// the answer would be cut off from it.
    pub fn discard(mut self) {
        if self.is_end_stream() {
            return;
        }
        self.left = Some(MOST_DISCARDED);
        tokio::task::spawn_local(async move {
            while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await {}
        });
    }

    fn wait(&self, waits: bool) {
        if let Some(client) = &self.client {
            client.waits_for_body(waits);
        }
        if let Some((watch, within)) = self
            .deadline
            .as_ref()
            .filter(|_| !self.progress.answered.get())
        {
            match waits {
                true => watch.disarm(),
                false => watch.arm(*within),
            }
        }
    }

    fn end(&self) {
        self.progress.ended.set(true);
        if let Some(client) = &self.client {
            client.body_ended();
        }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        let Some(incoming) = &mut this.incoming else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        let ends = incoming.is_end_stream();
        this.wait(polled.is_pending());
        let fault = match ready!(polled) {
            Some(Ok(frame)) => {
                let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                match this.left {
                    Some(left) if size > left => Fault::BodyTooLarge,
                    left => {
                        this.left = left.map(|left| left - size);
                        // hyper asks a body that is known to have ended for nothing more.
                        if ends || frame.is_trailers() {
                            this.end();
                        }
                        let dropped = frame.is_trailers() && this.drops_trailers;
                        return Poll::Ready((!dropped).then_some(Ok(frame)));
                    }
                }
            }
            None => {
                this.end();
                return Poll::Ready(None);
            }
            Some(Err(error)) if is_end_of_connection(&error) => Fault::ClientGone,
            Some(Err(_)) => Fault::BadRequest,
        };
        this.progress.fault.set(Some(fault));
        Poll::Ready(Some(Err(Cut)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(client) = &self.client {
            client.waits_for_body(false);
        }
    }
}

/// Whether a body broke off with its connection, as opposed to one that is malformed.
fn is_end_of_connection(error: &hyper::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let kind = error
        .source()
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    error.is_incomplete_message()
        || error.is_canceled()
        || matches!(
            kind,
            Some(BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
        )
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the body was cut short")
    }
}

impl Error for Cut {}

/// What is read of the body of a refused request, in bytes.
const MOST_DISCARDED: u64 = 16 << 20;
