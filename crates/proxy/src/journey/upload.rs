//! The body of a request on its way to the upstream: each piece goes on as it comes, none is kept.

use std::{
    cell::{Cell, RefCell},
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

/// How far a request body has come; shared with the steps that wait for the answer, which may take it back.
#[derive(Debug, Default)]
pub struct Progress {
    /// The whole body has been handed over.
    pub ended: Cell<bool>,
    /// Why it never will be.
    pub fault: Cell<Option<Fault>>,
    /// The head of the answer is there: the deadline is no longer the request's.
    pub answered: Cell<bool>,
    /// The client sends the body only when it is told to, which reading it does.
    waits_for_leave: Cell<bool>,
    incoming: RefCell<Option<Incoming>>,
    client: Option<Rc<dyn Client>>,
}

/// A request body.
#[derive(Debug)]
pub struct Upload {
    progress: Rc<Progress>,
    left: Option<u64>,
    drops_trailers: bool,
    deadline: Option<(Rc<Watch>, Duration)>,
}

/// A body that ended without being whole; says nothing more, since a peer may see the text.
#[derive(Debug)]
pub struct Cut;

impl Progress {
    /// Reads what the client still sends of a body that goes nowhere, up to a bound: a client that writes its whole
    /// body before it reads the answer would be cut off from it. One that waits for leave to send it gets none.
    pub fn discard_rest(&self) {
        let (Some(mut incoming), Some(client)) = (self.incoming.take(), self.client.clone()) else {
            return;
        };
        if self.ended.get() {
            return;
        }
        if self.waits_for_leave.get() {
            client.body_dropped();
            return;
        }
        tokio::task::spawn_local(async move {
            let mut left = MOST_DISCARDED;
            let ended = loop {
                let frame = poll_fn(|cx| {
                    let polled = Pin::new(&mut incoming).poll_frame(cx);
                    client.waits_for_body(polled.is_pending());
                    polled
                });
                match frame.await {
                    Some(Ok(frame)) => {
                        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len))
                    }
                    None => break true,
                    Some(Err(_)) => break false,
                }
                if left == 0 {
                    break false;
                }
                if incoming.is_end_stream() {
                    break true;
                }
            };
            match ended {
                true => client.body_ended(),
                false => client.body_dropped(),
            }
        });
    }

    fn wait(&self, waits: bool) {
        if let Some(client) = &self.client {
            client.waits_for_body(waits);
        }
    }

    fn end(&self) {
        self.ended.set(true);
        if let Some(client) = &self.client {
            client.body_ended();
        }
    }
}

impl Upload {
    /// A body as it comes from the client, which may wait for leave to send it (`Expect: 100-continue`).
    pub fn new(incoming: Incoming, client: Rc<dyn Client>, waits_for_leave: bool) -> Self {
        Self::with(Progress {
            ended: Cell::new(incoming.is_end_stream()),
            waits_for_leave: Cell::new(waits_for_leave),
            incoming: RefCell::new(Some(incoming)),
            client: Some(client),
            ..Progress::default()
        })
    }

    /// The body of a request that has none.
    pub fn empty() -> Self {
        Self::with(Progress {
            ended: Cell::new(true),
            ..Progress::default()
        })
    }

    fn with(progress: Progress) -> Self {
        Self {
            progress: Rc::new(progress),
            left: None,
            drops_trailers: false,
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

    fn wait(&self, waits: bool) {
        self.progress.wait(waits);
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
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        let mut slot = this.progress.incoming.borrow_mut();
        let Some(incoming) = &mut *slot else {
            // There never was a body, or it has been taken back.
            return Poll::Ready((!this.progress.ended.get()).then_some(Err(Cut)));
        };
        this.progress.waits_for_leave.set(false);
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        let ends = incoming.is_end_stream();
        drop(slot);
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
                            this.progress.end();
                        }
                        let dropped = frame.is_trailers() && this.drops_trailers;
                        return Poll::Ready((!dropped).then_some(Ok(frame)));
                    }
                }
            }
            None => {
                this.progress.end();
                return Poll::Ready(None);
            }
            Some(Err(error)) if is_end_of_connection(&error) => Fault::ClientGone,
            Some(Err(_)) => Fault::BadRequest,
        };
        this.progress.fault.set(Some(fault));
        Poll::Ready(Some(Err(Cut)))
    }

    fn is_end_stream(&self) -> bool {
        self.progress
            .incoming
            .borrow()
            .as_ref()
            .map_or(self.progress.ended.get(), Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &*self.progress.incoming.borrow() {
            Some(incoming) => incoming.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // A body that was taken back is somebody else's to wait for.
        if self.progress.incoming.borrow().is_some() {
            self.progress.wait(false);
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
const MOST_DISCARDED: usize = 16 << 20;
