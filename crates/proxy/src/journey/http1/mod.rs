//! HTTP/1.1 with an upstream: one request at a time on a connection, written and read by the task of the request.
//!
//! hyper's client has a task for each connection, to which a request goes through one channel and from which its answer
//! comes through two more. Here nothing is between a request and its socket: that was a fifth of what a request cost
//! (`docs/performance.md`), what has left and what has been heard is known rather than guessed at, and nothing that
//! was sent or heard stays in a buffer. Heads and the sizes of chunks are parsed by `httparse`, as they are in hyper.

mod body;
mod reading;
mod sending;
mod usual;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    mem::MaybeUninit,
    net::Shutdown,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use http::{StatusCode, request::Parts};
use http_body::{Frame, SizeHint};
use socket2::SockRef;
use token_source::connect;
use tokio::{
    io::{AsyncRead as _, ReadBuf},
    task::JoinHandle,
};

pub use self::{
    reading::{Head, Malformed, Reading},
    sending::{Broken, Sending},
    usual::Usual,
};
use super::upload::{Cut, Upload};
use crate::{fault::Fault, sweep::Watch};

/// A connection that carries one request at a time; closed when it is dropped, whatever is under way on it.
#[derive(Debug)]
pub struct Connection {
    line: Rc<Line>,
    reading: Reading,
    /// What is still to go out of a request whose answer has begun.
    rest: Option<Rest>,
    /// The time-out of the request under way.
    pub watch: Rc<Watch>,
    /// It carried a request before: the upstream may be closing it at this moment.
    pub reused: bool,
    /// It is for one request, which asks for an upgrade: who refuses may have understood what followed otherwise.
    for_upgrade: bool,
}

/// The bytes of a connection, for who writes and who reads.
#[derive(Debug)]
struct Line {
    stream: RefCell<connect::Connection>,
    request: Cell<Way>,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// It goes out.
    Leaving,
    /// It has gone out whole, or there was none.
    Left,
    /// The upstream takes no more of it. It may have reset the connection, which only the writer is told: an end of the
    /// stream no longer counts as the end of an answer.
    Refused,
    /// It has broken off: nothing passes for the end of its answer.
    Cut,
}

/// A request on its way out in a task of its own; it ends with whoever holds this.
#[derive(Debug)]
struct Rest(JoinHandle<()>);

/// Why there is no answer to a request.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// The body of the request has broken off.
    #[error("the request broke off")]
    Cut,
    /// The connection has ended, or failed, before a byte of an answer.
    #[error("the connection ended before an answer")]
    Unheard(#[source] io::Error),
    /// The connection has ended, or failed, in the head of an answer.
    #[error("the connection ended in the head of an answer")]
    Broken(#[source] io::Error),
    /// What came is no answer.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl Unanswered {
    /// What the client is told.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unheard(error) | Self::Broken(error) if connect::is_of_tls(error) => {
                Fault::UpstreamTls
            }
            _ => Fault::UpstreamProtocol,
        }
    }
}

impl Connection {
    /// A connection on which nothing has been said.
    pub fn new(
        stream: connect::Connection,
        watch: Watch,
        usual: Rc<RefCell<Usual>>,
        for_upgrade: bool,
    ) -> Self {
        Self {
            line: Rc::new(Line {
                stream: RefCell::new(stream),
                request: Cell::new(Way::Left),
            }),
            reading: Reading::new(usual),
            rest: None,
            watch: Rc::new(watch),
            reused: false,
            for_upgrade,
        }
    }

    /// Sends a request and waits for the head of its answer; those before it (1xx) end here. What has not gone out by
    /// then goes on while the body of the answer is read.
    ///
    /// # Errors
    /// [`Unanswered`]; the connection is of no use then.
    pub async fn ask(&mut self, head: &Parts, mut upload: Upload) -> Result<Head, Unanswered> {
        let leave = upload.awaits_leave();
        let (line, reading) = (&self.line, &mut self.reading);
        reading.begin(&head.method);
        line.request.set(Way::Leaving);
        let mut sending = Some(Sending::new(head, upload));
        let mut refusal = None;
        let answer = poll_fn(|cx| {
            let stream = &mut *line.stream.borrow_mut();
            let mut has_leave = false;
            loop {
                match sending.as_mut().map(|sending| sending.poll(stream, cx)) {
                    None | Some(Poll::Pending) => {}
                    Some(Poll::Ready(Ok(()))) => {
                        line.request.set(Way::Left);
                        sending = None;
                    }
                    Some(Poll::Ready(Err(Broken::Upload))) => {
                        return Poll::Ready(Err(Unanswered::Cut));
                    }
                    // Before it closed it may have said why.
                    Some(Poll::Ready(Err(Broken::Line(error)))) => {
                        line.request.set(Way::Refused);
                        refusal = Some(error);
                        sending = None;
                    }
                }
                if has_leave {
                    // The client is told by hyper, in its next turn, since its body has been asked for now; and not any
                    // more once there is an answer.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                while !has_leave {
                    match reading.head()? {
                        None => match ready!(reading.poll_more(stream, cx)) {
                            Ok(true) => {}
                            ended => {
                                let error = refusal.take().or(ended.err());
                                let error = error.unwrap_or(io::ErrorKind::UnexpectedEof.into());
                                return Poll::Ready(Err(match reading.is_heard() {
                                    true => Unanswered::Broken(error),
                                    false => Unanswered::Unheard(error),
                                }));
                            }
                        },
                        Some((head, _)) if is_interim(head.status) => {
                            if let Some(leave) = &leave {
                                has_leave = leave(head.status);
                            }
                        }
                        Some(head) => return Poll::Ready(Ok(head)),
                    }
                }
            }
        })
        .await?;
        self.rest = sending.map(|sending| Rest::of(sending, Rc::clone(&self.line)));
        Ok(answer)
    }

    /// The next frame of the answer's body.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        loop {
            if self.line.request.get() == Way::Cut {
                return Poll::Ready(Some(Err(Cut)));
            }
            match self.reading.frame() {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.reading.has_ended() => return Poll::Ready(None),
                Ok(None) => {}
                Err(Malformed) => return Poll::Ready(Some(Err(Cut))),
            }
            let stream = &mut *self.line.stream.borrow_mut();
            match ready!(self.reading.poll_more(stream, cx)) {
                Ok(true) => {}
                Ok(false) if self.line.may_end() && self.reading.ends() => {}
                _ => return Poll::Ready(Some(Err(Cut))),
            }
        }
    }

    /// Whether all of the answer has been taken.
    pub fn has_ended(&self) -> bool {
        self.reading.has_ended()
    }

    /// How much of the answer's body is to come.
    pub fn size_hint(&self) -> SizeHint {
        self.reading.size_hint()
    }

    /// Whether another request can go out on it: the last one has gone out whole, and its answer was all that came.
    pub fn is_reusable(&self) -> bool {
        !self.for_upgrade && self.is_sent() && self.reading.is_reusable()
    }

    /// Whether the upstream has neither closed an idle connection nor said anything on it: as the runtime knows it, or
    /// the kernel (`asks_kernel`). The runtime knows what was so when it last asked, which under load is several requests
    /// ago.
    pub fn is_quiet(&self, asks_kernel: bool) -> bool {
        let stream = &mut *self.line.stream.borrow_mut();
        (stream.is_drained() || gives_nothing(stream)) && (!asks_kernel || says_nothing(stream))
    }

    /// How much memory is kept for what the upstream says next, in bytes.
    #[cfg(test)]
    pub fn room(&self) -> usize {
        self.reading.room()
    }

    /// Whether the request has gone out whole.
    pub fn is_sent(&self) -> bool {
        self.line.request.get() == Way::Left
    }

    /// Nothing is under way on it from now on.
    pub fn settle(&mut self) {
        self.watch.disarm();
        self.rest = None;
        self.reused = true;
    }

    /// Keeps nothing of an answer in memory, nor the memory for the next one.
    pub fn clear(&mut self) {
        self.reading.clear();
    }

    /// Waits until the request has gone out, or never will: an answer may end before all of its request is written.
    pub async fn sent(&mut self) {
        if let Some(Rest(goes_out)) = &mut self.rest {
            // It fails where it was called off, which only its owner does.
            let _ = goes_out.await;
        }
    }

    /// Its bytes without HTTP, after a 101, and what came behind that.
    pub fn into_bytes(self) -> Option<(connect::Connection, Bytes)> {
        drop(self.rest);
        let line = Rc::into_inner(self.line)?;
        Some((line.stream.into_inner(), self.reading.into_rest()))
    }
}

impl Rest {
    fn of(mut sending: Sending, line: Rc<Line>) -> Self {
        let goes_out = async move {
            let sent = poll_fn(|cx| sending.poll(&mut *line.stream.borrow_mut(), cx)).await;
            match sent {
                Ok(()) => line.request.set(Way::Left),
                Err(Broken::Upload) => line.cut(),
                // It may still have something to say.
                Err(Broken::Line(_)) => line.request.set(Way::Refused),
            }
        };
        Self(tokio::task::spawn_local(goes_out))
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        // What the upstream no longer reads would hold its client.
        self.0.abort();
    }
}

impl Line {
    /// Whether an end of the stream may be one that the upstream has meant.
    fn may_end(&self) -> bool {
        matches!(self.request.get(), Way::Leaving | Way::Left)
    }

    /// Ends the connection both ways, so that the answer's reader comes round to it.
    fn cut(&self) {
        self.request.set(Way::Cut);
        // It fails where there is nothing left to end.
        let _ = SockRef::from(self.stream.borrow().tcp()).shutdown(Shutdown::Both);
    }
}

/// Whether another head follows, which is the answer's.
pub fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// Whether nothing comes of what there may be to read: TLS has messages of its own, which are taken here.
fn gives_nothing(stream: &mut connect::Connection) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    let cx = &mut Context::from_waker(Waker::noop());
    let read = Pin::new(stream).poll_read(cx, &mut ReadBuf::uninit(&mut byte));
    read.is_pending()
}

/// Whether there is nothing to be read, not even an end, as the kernel knows it now.
fn says_nothing(stream: &connect::Connection) -> bool {
    let looked = SockRef::from(stream.tcp()).peek(&mut [MaybeUninit::uninit()]);
    looked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}
