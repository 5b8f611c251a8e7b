//! The body of a request on its way to the upstream: each piece goes on as it comes, and a copy may be kept.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt,
    future::{Future as _, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    sync::Mutex,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{
    sync::oneshot,
    time::{Sleep, sleep},
};

use super::{
    Client, View,
    kept::{Charge, Kept, Memory},
};
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
    /// How many more bytes the body may have.
    left: Cell<Option<u64>>,
    /// Over HTTP/2, where a reset may look like an end.
    is_stream: bool,
    /// By which route's rules its trailers are cleaned.
    route: RefCell<Option<(Rc<View>, usize)>>,
    /// All that has been read so far; `None` where it is not kept, or no longer.
    kept: RefCell<Option<Kept>>,
    /// What was kept and is on its way once more.
    charge: RefCell<Option<Charge>>,
    /// Nothing has been read so far.
    is_untouched: Cell<bool>,
    /// Nothing goes on until it is known whether the request is to be sent once more: who waits to go on.
    held: RefCell<Option<Option<Waker>>>,
    /// How often the body was begun; the upload of an earlier sending is void.
    sending: Cell<u32>,
}

/// A request body.
#[derive(Debug)]
pub struct Upload {
    progress: Rc<Progress>,
    sending: u32,
    /// What was read of it when it was sent before.
    again: Option<Kept>,
    deadline: Option<(Rc<Watch>, Duration)>,
    /// The client has not been told to send it.
    leave: Option<Leave>,
}

/// Leave to send a body that the client holds back: the upstream's to give, by a `100 Continue`. After a while it is
/// taken for given, since many servers never say it.
#[derive(Debug)]
struct Leave {
    told: oneshot::Receiver<()>,
    /// The final answer has come instead.
    is_refused: bool,
    enough: Pin<Box<Sleep>>,
}

/// A body that ended without being whole; says nothing more, since a peer may see the text.
#[derive(Debug)]
pub struct Cut;

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
        if self.waits_for_leave.get() || self.is_stream {
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
        Upload {
            progress: Rc::clone(self),
            sending: self.sending.get(),
            again,
            deadline: None,
            leave: None,
        }
    }

    /// How many bytes are still to come, as far as the client has said.
    fn expected(&self) -> usize {
        let incoming = self.incoming.borrow();
        let hint = incoming.as_ref().map(Body::size_hint).unwrap_or_default();
        usize::try_from(hint.lower()).unwrap_or(usize::MAX)
    }

    /// Keeps a piece that was read, if everything before it was kept.
    fn keep_piece(&self, piece: &[u8]) {
        self.is_untouched.set(false);
        let mut kept = self.kept.borrow_mut();
        if kept.as_mut().is_some_and(|kept| !kept.add(piece)) {
            *kept = None;
        }
    }

    fn clean(&self, trailers: &mut HeaderMap) {
        match &*self.route.borrow() {
            Some((view, route)) => view.clean_trailers(*route, trailers),
            None => trailers.clear(),
        }
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
    pub fn new(
        incoming: Incoming,
        client: Rc<dyn Client>,
        waits_for_leave: bool,
        is_stream: bool,
    ) -> Self {
        Self::with(Progress {
            ended: Cell::new(incoming.is_end_stream()),
            waits_for_leave: Cell::new(waits_for_leave),
            incoming: RefCell::new(Some(incoming)),
            client: Some(client),
            is_untouched: Cell::new(true),
            is_stream,
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
            sending: 0,
            again: None,
            deadline: None,
            leave: None,
        }
    }

    /// No more than `max` bytes.
    pub fn limit(&self, max: Option<u64>) {
        self.progress.left.set(max);
    }

    /// Its trailers are cleaned by the rules of a route, since a forged credential may stand in them.
    pub fn cleans_trailers(&self, view: &Rc<View>, route: usize) {
        if !self.progress.ended.get() {
            self.progress.route.replace(Some((Rc::clone(view), route)));
        }
    }

    /// The upstream has `within` to answer from the last piece that went out; while the client owes one, it has no
    /// deadline.
    pub fn moves_deadline(&mut self, watch: Rc<Watch>, within: Duration) {
        self.deadline = Some((watch, within));
    }

    /// Waits for leave to go out where the client does; the upstream's word is to be told to what is returned.
    pub fn awaits_leave(&mut self) -> Option<impl Fn(StatusCode) + Send + Sync + use<>> {
        if !self.progress.waits_for_leave.get() || self.is_end_stream() {
            return None;
        }
        let (tell, told) = oneshot::channel();
        self.leave = Some(Leave {
            told,
            is_refused: false,
            enough: Box::pin(sleep(LEAVE_TIME)),
        });
        let tell = Mutex::new(Some(tell));
        Some(move |status| {
            let waiting = tell.lock().ok().filter(|_| status == StatusCode::CONTINUE);
            if let Some(tell) = waiting.and_then(|mut waiting| waiting.take()) {
                let _ = tell.send(());
            }
        })
    }

    /// How far it has come.
    pub fn progress(&self) -> Rc<Progress> {
        Rc::clone(&self.progress)
    }

    /// Whether the body goes out by another sending of the request now.
    fn is_void(&self) -> bool {
        self.sending != self.progress.sending.get()
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
        if this.is_void() || this.progress.fault.get().is_some() {
            return Poll::Ready(Some(Err(Cut)));
        }
        if let Some(waiting) = &mut *this.progress.held.borrow_mut() {
            *waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if let Some(leave) = &mut this.leave {
            ready!(leave.poll_given(cx));
            this.leave = None;
        }
        if let Some(again) = this.again.take() {
            let (bytes, charge) = again.into_bytes();
            this.progress.charge.replace(Some(charge));
            if this.progress.incoming.borrow().is_none() {
                this.progress.ended.set(true);
            }
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        let mut slot = this.progress.incoming.borrow_mut();
        let Some(incoming) = &mut *slot else {
            // There never was a body, it was sent once more, or it has been taken back.
            return Poll::Ready((!this.progress.ended.get()).then_some(Err(Cut)));
        };
        this.progress.waits_for_leave.set(false);
        let polled = Pin::new(&mut *incoming).poll_frame(cx);
        let ends = incoming.is_end_stream();
        drop(slot);
        this.wait(polled.is_pending());
        let fault = match ready!(polled) {
            Some(Ok(mut frame)) => {
                let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                match this.progress.left.get() {
                    Some(left) if size > left => Fault::BodyTooLarge,
                    left => {
                        this.progress.left.set(left.map(|left| left - size));
                        if let Some(data) = frame.data_ref() {
                            this.progress.keep_piece(data);
                        }
                        // hyper asks a body that is known to have ended for nothing more.
                        if ends || frame.is_trailers() {
                            this.progress.end();
                        }
                        if let Some(trailers) = frame.trailers_mut() {
                            this.progress.clean(trailers);
                            if !trailers.is_empty() {
                                // They are not kept, and without them it would be another request.
                                this.progress.kept.take();
                                this.progress.is_untouched.set(false);
                            }
                        }
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
            }
            // hyper takes a reset without an error for an end, and a copy cut short would go on as whole.
            None if this.progress.is_stream && !ends => Fault::ClientGone,
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
        let incoming = self.progress.incoming.borrow();
        let rest = incoming.as_ref();
        self.again.is_none() && rest.map_or(self.progress.ended.get(), Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let again = self.again.as_ref().map_or(0, Kept::size) as u64;
        let incoming = self.progress.incoming.borrow();
        let rest = incoming.as_ref().map(Body::size_hint);
        match rest.map_or(Some(0), |rest| rest.exact()) {
            Some(rest) => SizeHint::with_exact(again + rest),
            None => SizeHint::default(),
        }
    }
}

impl Leave {
    fn poll_given(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_refused {
            return Poll::Pending;
        }
        match Pin::new(&mut self.told).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Ready(Err(_)) => {
                self.is_refused = true;
                Poll::Pending
            }
            Poll::Pending => self.enough.as_mut().poll(cx),
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // A body that was taken back, or is sent once more, is somebody else's to wait for.
        if !self.is_void() && self.progress.incoming.borrow().is_some() {
            self.progress.wait(false);
        }
    }
}

/// Whether a body broke off with its connection, or was called off, as opposed to one that is malformed.
fn is_end_of_connection(error: &hyper::Error) -> bool {
    let stream = error
        .source()
        .and_then(|cause| cause.downcast_ref::<h2::Error>());
    if let Some(error) = stream {
        return error.is_remote() || error.is_io();
    }
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

/// How long an upstream may keep a client waiting for leave.
const LEAVE_TIME: Duration = Duration::from_secs(1);

/// What is read of the body of a refused request, in bytes.
const MOST_DISCARDED: usize = 16 << 20;
