//! How far the body of a request has come, and what was kept of it: shared by its upload and the steps that wait for the
//! answer.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::Waker,
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use hyper::body::Incoming;

use super::{
    Client,
    kept::{Charge, Kept, Memory},
    upload::Upload,
    view::View,
};
use crate::fault::Fault;

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
    pub(super) waits_for_leave: Cell<bool>,
    pub(super) incoming: RefCell<Option<Incoming>>,
    pub(super) client: Option<Rc<dyn Client>>,
    /// How much of it has been read, in bytes.
    pub read: Cell<u64>,
    /// How many more bytes the body may have.
    pub(super) left: Cell<Option<u64>>,
    /// Over HTTP/2, where a reset may look like an end.
    pub(super) is_http2: bool,
    /// By which route's rules its trailers are cleaned.
    pub(super) route: RefCell<Option<(Rc<View>, usize)>>,
    /// All that has been read so far; `None` where it is not kept, or no longer.
    pub(super) kept: RefCell<Option<Kept>>,
    /// What was kept and is on its way once more.
    pub(super) charge: RefCell<Option<Charge>>,
    /// Nothing has been read so far.
    pub(super) is_untouched: Cell<bool>,
    /// Nothing goes on until it is known whether the request is to be sent once more: who waits to go on.
    pub(super) held: RefCell<Option<Option<Waker>>>,
    /// How often the body was begun; the upload of an earlier sending is void.
    pub(super) sending: Cell<u32>,
}

impl Progress {
    /// Reads what the client still sends of a body that goes nowhere, up to a bound: a client that writes its whole
    /// body before it reads the answer would be cut off from it. One that waits for leave to send it gets none; over
    /// HTTP/2 the stream is reset after the answer, and the client knows that it may stop.
    pub fn discard_rest(&self) {
        let (Some(mut incoming), Some(client)) = (self.incoming.take(), self.client.clone()) else {
            return;
        };
        if self.ended.get() {
            return;
        }
        if self.waits_for_leave.get() || self.is_http2 {
            client.body_dropped();
            return;
        }
        tokio::task::spawn_local(async move {
            let mut left = MOST_DISCARDED_OF_CLIENT;
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

    /// Keeps a copy of what is read from now on, where it has up to `most` bytes and there is memory for it.
    pub fn keep(&self, most: usize, memory: &Rc<Memory>) {
        let expected = self.expected();
        if !self.ended.get() && most > 0 && expected <= most {
            self.kept.replace(Some(Kept::new(most, Rc::clone(memory))));
        }
    }

    /// The request will not be sent once more: nothing needs to be kept.
    pub fn forget(&self) {
        self.kept.take();
        self.charge.take();
        if let Some(Some(waiting)) = self.held.take() {
            waiting.wake();
        }
    }

    /// Whether there was no body at all.
    pub fn is_bodiless(&self) -> bool {
        self.is_untouched.get() && self.ended.get()
    }

    /// Holds the body back until it is sent once more or [forgotten](Self::forget); whether it can be sent once more.
    ///
    /// # Errors
    /// When it broke off: it must not pass for a whole one.
    pub fn hold(&self) -> Result<bool, Fault> {
        if let Some(fault) = self.fault.get() {
            return Err(fault);
        }
        self.held.replace(Some(None));
        // Meanwhile nobody waits for the client.
        self.wait(false);
        Ok(self.is_untouched.get() || self.kept.borrow().is_some())
    }

    /// The body from its beginning, to be sent once more; the upload that there was is void.
    ///
    /// Only for one that [can be](Self::hold).
    pub fn again(self: &Rc<Self>) -> Upload {
        self.sending.set(self.sending.get() + 1);
        let again = self.kept.take().filter(|kept| kept.size() > 0);
        if self.ended.get() {
            self.incoming.take();
            self.ended.set(again.is_none());
        }
        self.answered.set(false);
        self.held.take();
        Upload::with(Rc::clone(self), again)
    }

    /// How many bytes are still to come, as far as the client has said.
    pub(super) fn expected(&self) -> usize {
        let incoming = self.incoming.borrow();
        let hint = incoming.as_ref().map(Body::size_hint).unwrap_or_default();
        usize::try_from(hint.lower()).unwrap_or(usize::MAX)
    }

    /// Keeps a piece that was read, if everything before it was kept.
    pub(super) fn keep_piece(&self, piece: &[u8]) {
        self.is_untouched.set(false);
        self.read.set(self.read.get() + piece.len() as u64);
        let mut kept = self.kept.borrow_mut();
        if kept.as_mut().is_some_and(|kept| !kept.add(piece)) {
            *kept = None;
        }
    }

    pub(super) fn clean(&self, trailers: &mut HeaderMap) {
        match &*self.route.borrow() {
            Some((view, route)) => view.clean_trailers(*route, trailers),
            None => trailers.clear(),
        }
    }

    pub(super) fn wait(&self, waits: bool) {
        if let Some(client) = &self.client {
            client.waits_for_body(waits);
        }
    }

    pub(super) fn end(&self) {
        self.ended.set(true);
        if let Some(client) = &self.client {
            client.body_ended();
        }
    }
}

/// What is read of what a refused client still sends, in bytes.
pub const MOST_DISCARDED_OF_CLIENT: usize = 16 << 20;
