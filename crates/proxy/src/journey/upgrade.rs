//! WebSocket: a handshake takes all the steps of a request; after the upstream's 101 the bytes of both sides are passed
//! on as they are, until both have ended.

use std::{
    cell::Cell,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header, request, response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

use super::{answer::Passing, forward::before, http1::Connection, survey::Survey, trip::Trip};
use crate::{fault::Fault, sweep::Watch};

/// The way of the bytes after an upgrade; with it the journey's record ends.
#[derive(Debug)]
pub struct Tunnel {
    /// Where the upstream's 101 came from.
    connection: Box<Connection>,
    /// How long nothing may move.
    idle_timeout: Duration,
    trip: Box<Trip>,
}

/// One end of a tunnel, with an eye on what moves.
struct End<'a, S> {
    stream: S,
    /// What had been read of it before the tunnel was open.
    early: Bytes,
    patience: &'a Patience,
    /// What is written here is counted there.
    trip: Option<&'a mut Trip>,
    is_broken: bool,
}

/// How long nothing may move between both ends.
struct Patience {
    watch: Rc<Watch>,
    within: Cell<Duration>,
}

/// How a tunnel has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Both sides have ended.
    Whole,
    /// Nothing has moved for too long.
    Silent,
    /// The client broke off.
    ClientBroke,
    /// The upstream broke off.
    UpstreamBroke,
}

/// Whether a request is a WebSocket handshake. Any other upgrade is an offer that a server may pass over, and is not
/// made to the upstream: nobody here could tell what the bytes after it are.
pub fn is_handshake(head: &request::Parts, headers: Survey<'_>, has_body: bool) -> bool {
    headers.lists(&header::UPGRADE, WEBSOCKET)
        && !has_body
        && head.method == Method::GET
        && head.version == Version::HTTP_11
        && headers.lists(&header::CONNECTION, UPGRADE)
        && headers.has(&header::SEC_WEBSOCKET_KEY)
        && headers.has(&header::SEC_WEBSOCKET_VERSION)
}

/// Says in the head of a handshake, or of the answer to it, what was taken out as the other connection's.
pub fn insert_headers(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static(UPGRADE));
    headers.insert(header::UPGRADE, HeaderValue::from_static(WEBSOCKET));
}

/// Whether the upstream goes over to WebSocket with this answer.
///
/// # Errors
/// `upstream_protocol` when it goes over to something else, or unasked.
pub fn is_switch(answer: &response::Parts, was_asked: bool) -> Result<bool, Fault> {
    if answer.status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(false);
    }
    let headers = Survey::of(&answer.headers);
    let to = headers.only(&header::UPGRADE).ok().flatten();
    let is_websocket =
        to.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()));
    let is_right = was_asked
        && is_websocket
        && answer.version == Version::HTTP_11
        && headers.lists(&header::CONNECTION, UPGRADE);
    match is_right {
        true => Ok(true),
        false => Err(Fault::UpstreamProtocol),
    }
}

impl Tunnel {
    /// A tunnel behind an upstream's answer [that switches](is_switch); `None` where its connection is not its own.
    pub fn behind(passing: Passing, trip: Box<Trip>) -> Option<Self> {
        let (connection, idle_timeout) = passing.into_connection()?;
        Some(Self {
            connection,
            idle_timeout,
            trip,
        })
    }

    /// Passes bytes on until both sides have ended, one breaks off, or nothing has moved for the idle time-out. An end
    /// is passed on as well, and the other direction goes on; a side that then says nothing for a minute has missed it.
    ///
    /// `early` is what the client sent before it saw the 101. Each way has a buffer of 8 KiB; where it is full, the
    /// side that sends waits.
    pub async fn carry<S>(mut self, client: S, early: Bytes)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let watch = Rc::clone(&self.connection.watch);
        let Some((upstream, said)) = self.connection.into_bytes() else {
            return self.trip.fault(Fault::UpstreamProtocol);
        };
        let patience = Patience {
            watch,
            within: Cell::new(self.idle_timeout),
        };
        let client = End {
            trip: Some(&mut self.trip),
            ..End::new(client, early, &patience)
        };
        let upstream = End::new(upstream, said, &patience);
        match pass_on(upstream, client).await {
            Ending::Whole => self.trip.complete(),
            Ending::Silent => {
                let (route, time_out) = (self.trip.route.as_deref(), "idle_timeout");
                tracing::warn!(route, time_out, "nothing has moved in a WebSocket");
                self.trip.fault(Fault::UpstreamTimeout);
            }
            Ending::ClientBroke => self.trip.fault(Fault::ClientGone),
            Ending::UpstreamBroke => self.trip.fault(Fault::UpstreamProtocol),
        }
    }
}

/// Copies both ways until the end.
async fn pass_on<U, C>(mut upstream: End<'_, U>, mut client: End<'_, C>) -> Ending
where
    U: AsyncRead + AsyncWrite + Unpin,
    C: AsyncRead + AsyncWrite + Unpin,
{
    let patience = upstream.patience;
    patience.begin();
    // The upstream first: what it said before it closed is passed on before it is noticed that it reads no more.
    let copied = copy_bidirectional(&mut upstream, &mut client);
    let copied = before(&patience.watch, pin!(copied)).await;
    match copied {
        None => Ending::Silent,
        Some(Ok(_)) => Ending::Whole,
        Some(Err(_)) if upstream.is_broken => Ending::UpstreamBroke,
        Some(Err(_)) => Ending::ClientBroke,
    }
}

impl Patience {
    /// From now on.
    fn begin(&self) {
        self.watch.arm(self.within.get());
    }

    /// One way has ended: who does not answer to that will hardly do so later.
    fn shorten(&self) {
        self.within.set(self.within.get().min(HALF_OPEN));
    }
}

impl<'a, S> End<'a, S> {
    fn new(stream: S, early: Bytes, patience: &'a Patience) -> Self {
        Self {
            stream,
            early,
            patience,
            trip: None,
            is_broken: false,
        }
    }

    /// Notes what came of a step, where it is done.
    fn note<T>(&mut self, done: &io::Result<T>) {
        match done {
            Ok(_) => self.patience.begin(),
            Err(_) => self.is_broken = true,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for End<'_, S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.early.is_empty() {
            let size = this.early.len().min(buf.remaining());
            buf.put_slice(&this.early[..size]);
            this.early.advance(size);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = match ready!(Pin::new(&mut this.stream).poll_read(cx, buf)) {
            // Many servers end a TLS connection without saying so. Here that cuts nothing that looks whole: a WebSocket
            // has an end of its own.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            read => read,
        };
        if buf.filled().len() == before {
            this.patience.shorten();
        }
        this.note(&read);
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for End<'_, S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.stream).poll_write(cx, bytes));
        this.note(&written);
        if let (Ok(size), Some(trip)) = (&written, &mut this.trip) {
            trip.sent(*size);
        }
        Poll::Ready(written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = ready!(Pin::new(&mut this.stream).poll_flush(cx));
        this.is_broken |= flushed.is_err();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = ready!(Pin::new(&mut this.stream).poll_shutdown(cx));
        this.is_broken |= shut.is_err();
        Poll::Ready(shut)
    }
}

const WEBSOCKET: &str = "websocket";

const UPGRADE: &str = "upgrade";

/// How long nothing may move once one way has ended.
const HALF_OPEN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
        time::{Instant, sleep},
    };

    use super::*;
    use crate::sweep::Sweeper;

    #[tokio::test(start_paused = true)]
    async fn an_upstream_that_ignores_the_end_of_its_client_is_not_waited_for_until_the_idle_time_out()
     {
        let sweeper = Sweeper::new();
        let patience = Patience {
            watch: Rc::new(sweeper.watch()),
            within: Cell::new(Duration::from_secs(900)),
        };
        let (mut client, client_end) = duplex(64);
        let (mut upstream, upstream_end) = duplex(64);
        let passes = pass_on(
            End::new(upstream_end, Bytes::new(), &patience),
            End::new(client_end, Bytes::new(), &patience),
        );
        let began = Instant::now();
        let talks = async {
            // Both ways open: the long time holds.
            sleep(Duration::from_secs(600)).await;
            client.shutdown().await.unwrap();
            // One way goes on as long as something moves.
            for _ in 0..5 {
                sleep(Duration::from_secs(50)).await;
                upstream.write_all(b"more").await.unwrap();
                let mut more = [0; 4];
                client.read_exact(&mut more).await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let ending = tokio::select! {
            () = sweeper.run(|| ()) => unreachable!("a sweeper runs for ever"),
            () = talks => unreachable!("nobody ends"),
            ending = passes => ending,
        };
        assert_eq!(ending, Ending::Silent);
        let took = began.elapsed();
        let bounds = Duration::from_secs(910)..Duration::from_secs(912);
        assert!(bounds.contains(&took), "{took:?}");
    }
}
