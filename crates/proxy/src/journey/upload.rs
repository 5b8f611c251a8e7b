//! The body of a request on its way to the upstream: each piece goes on as it comes, and a copy may be kept.

use std::{
    cell::{Cell, RefCell},
    error::Error,
    fmt,
    future::Future as _,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::{
    sync::oneshot,
    time::{Sleep, sleep},
};

use super::{Client, kept::Kept, progress::Progress, view::View};
use crate::{fault::Fault, sweep::Watch};

/// A request body.
#[derive(Debug)]
pub struct Upload {
    progress: Rc<Progress>,
    sending: u32,
    /// Boxed, since a request is moved often, and most have no body.
    rest: Option<Box<Rest>>,
}

/// What only a body has that is still to be sent.
#[derive(Debug, Default)]
struct Rest {
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

impl Upload {
    /// A body as it comes from the client, which may wait for leave to send it (`Expect: 100-continue`).
    pub fn new(
        incoming: Incoming,
        client: Rc<dyn Client>,
        waits_for_leave: bool,
        is_http2: bool,
    ) -> Self {
        Self::with(
            Rc::new(Progress {
                ended: Cell::new(incoming.is_end_stream()),
                waits_for_leave: Cell::new(waits_for_leave),
                incoming: RefCell::new(Some(incoming)),
                client: Some(client),
                is_untouched: Cell::new(true),
                is_http2,
                ..Progress::default()
            }),
            None,
        )
    }

    /// The body of a request that has none.
    pub fn empty() -> Self {
        Self::with(
            Rc::new(Progress {
                ended: Cell::new(true),
                is_untouched: Cell::new(true),
                ..Progress::default()
            }),
            None,
        )
    }

    /// What is still to be sent of a body, which begins with what was read of it before.
    pub(super) fn with(progress: Rc<Progress>, again: Option<Kept>) -> Self {
        Self {
            sending: progress.sending.get(),
            progress,
            rest: again.map(|again| {
                Box::new(Rest {
                    again: Some(again),
                    ..Rest::default()
                })
            }),
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
    pub fn moves_deadline(&mut self, watch: &Rc<Watch>, within: Duration) {
        if !self.is_end_stream() {
            self.rest().deadline = Some((Rc::clone(watch), within));
        }
    }

    /// Waits for leave to go out where the client does; the upstream's word is to be told to what is returned, which says
    /// whether that gave it.
    pub fn awaits_leave(&mut self) -> Option<impl Fn(StatusCode) -> bool + use<>> {
        if !self.progress.waits_for_leave.get() || self.is_end_stream() {
            return None;
        }
        let (tell, told) = oneshot::channel();
        self.rest().leave = Some(Leave {
            told,
            is_refused: false,
            enough: Box::pin(sleep(LEAVE_TIME)),
        });
        let tell = Cell::new(Some(tell));
        Some(move |status| {
            let tell = match status {
                StatusCode::CONTINUE => tell.take(),
                _ => None,
            };
            tell.is_some_and(|tell| tell.send(()).is_ok())
        })
    }

    /// How far it has come.
    pub fn progress(&self) -> Rc<Progress> {
        Rc::clone(&self.progress)
    }

    fn again(&self) -> Option<&Kept> {
        self.rest.as_ref()?.again.as_ref()
    }

    fn rest(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }

    /// Whether the body goes out by another sending of the request now.
    fn is_void(&self) -> bool {
        self.sending != self.progress.sending.get()
    }

    fn wait(&self, waits: bool) {
        self.progress.wait(waits);
        let deadline = self.rest.as_ref().and_then(|rest| rest.deadline.as_ref());
        if let Some((watch, within)) = deadline.filter(|_| !self.progress.answered.get()) {
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
        let again = match &mut this.rest {
            None => None,
            Some(rest) => {
                if let Some(leave) = &mut rest.leave {
                    ready!(leave.poll_given(cx));
                    rest.leave = None;
                }
                rest.again.take()
            }
        };
        if let Some(again) = again {
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
                        // Nobody asks a body that is known to have ended for more.
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
            None if this.progress.is_http2 && !ends => Fault::ClientGone,
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
        self.again().is_none() && rest.map_or(self.progress.ended.get(), Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let again = self.again().map_or(0, Kept::size) as u64;
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
