//! The connections of one worker to one upstream: taken from the idle ones, last used first, or opened.

use std::{
    cell::{Cell, RefCell},
    io,
    mem::MaybeUninit,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use http::HeaderValue;
use hyper::client::conn::http1::{self, Parts, SendRequest};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use token_source::connect::{self, ConnectError, Connector, with_causes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
    task::AbortHandle,
    time::Instant,
};

use super::{forward::before, streams::Streams, upload::Upload};
use crate::{
    config::Protocol,
    fault::Fault,
    sweep::{Sweeper, Watch},
    tally::Tally,
};

/// Where requests go, and how long each step may take.
#[derive(Debug)]
pub struct Upstream {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Its authority, for `Host`.
    pub authority: HeaderValue,
    /// What is spoken with it.
    pub protocol: Protocol,
    /// How it is connected to.
    pub connector: Connector,
    /// TCP connect and TLS handshake together.
    pub connect_timeout: Duration,
    /// From the last byte of the request to the first of the answer.
    pub first_byte_timeout: Duration,
    /// Between two pieces of an answer.
    pub idle_timeout: Duration,
}

/// One worker's connections to one upstream.
#[derive(Debug)]
pub struct Pool {
    upstream: Arc<Upstream>,
    sweeper: Rc<Sweeper>,
    idle: RefCell<Vec<(Connection, Instant)>>,
    opened: Rc<Cell<u64>>,
    /// How often a value that is attached here has ceased to be in force.
    renewals: Cell<u32>,
    /// How many connections from before the last renewal may still be closed in this tick.
    closable: Cell<usize>,
    /// Where HTTP/2 is spoken: then nothing of the above is used.
    pub streams: Option<Streams>,
}

/// A connection that carries one request at a time; closed when it is dropped, whatever is under way on it.
#[derive(Debug)]
pub struct Connection {
    /// Sends a request; the other half runs in a task of its own.
    pub sender: SendRequest<Upload>,
    /// The time-out of the request under way.
    pub watch: Rc<Watch>,
    /// It carried a request before: the upstream may be closing it at this moment.
    pub reused: bool,
    /// What the upstream has said to the request under way.
    pub heard: Rc<Heard>,
    driver: AbortHandle,
    /// How many renewals there had been when it was opened.
    renewals: u32,
    /// Opened for an upgrade: its bytes without HTTP, after a 101. Such a connection is not used again.
    bare: Option<oneshot::Receiver<Parts<TokioIo<Line>>>>,
}

/// How much an upstream has said.
#[derive(Debug, Default)]
pub struct Heard {
    bytes: Cell<usize>,
    /// The head of an answer is awaited, which has a bound.
    awaits_head: Cell<bool>,
    /// The socket is looked at before the next request is written to it; if it has closed, or has something to say
    /// that nobody asked for, the request comes back unsent.
    look: Cell<bool>,
}

/// The bytes of an upstream, with an eye on how many have come.
#[derive(Debug)]
pub struct Line {
    stream: connect::Connection,
    heard: Rc<Heard>,
}

impl Pool {
    /// An empty pool.
    pub fn new(upstream: Arc<Upstream>, sweeper: Rc<Sweeper>, tally: &Tally) -> Rc<Self> {
        let opened = tally.opened(&upstream.name);
        let streams = (upstream.protocol == Protocol::Http2).then(Streams::default);
        Rc::new(Self {
            upstream,
            streams,
            sweeper,
            idle: RefCell::new(Vec::new()),
            opened,
            renewals: Cell::new(0),
            closable: Cell::new(0),
        })
    }

    /// The upstream that the connections lead to.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// An idle connection that is not known to be closed. Its socket is looked at first if it has been idle for more
    /// than a moment, or if the request goes out only `once`.
    pub fn idle(&self, once: bool) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        let mut at = idle.len();
        while at > 0 {
            at -= 1;
            let connection = &mut idle[at].0;
            match connection
                .sender
                .poll_ready(&mut Context::from_waker(Waker::noop()))
            {
                Poll::Ready(Ok(())) => {
                    // What is left stays in the order of its use.
                    let (connection, since) = idle.remove(at);
                    connection.heard.look.set(once || since.elapsed() > MOMENT);
                    return Some(connection);
                }
                Poll::Ready(Err(_)) => drop(idle.remove(at)),
                // Its task has not come round to saying that the last answer is done.
                Poll::Pending => {}
            }
        }
        None
    }

    /// A new connection, which may be one for an upgrade.
    ///
    /// # Errors
    /// `upstream_unreachable`, `upstream_tls`, `upstream_timeout`.
    pub async fn open(&self, for_upgrade: bool) -> Result<Connection, Fault> {
        let (line, heard) = self.connect().await?;
        let mut builder = http1::Builder::new();
        builder
            .max_buf_size(MAX_ANSWER_HEAD)
            .max_header_size(MAX_ANSWER_HEAD);
        let (sender, connection) = builder
            .handshake(TokioIo::new(line))
            .await
            .map_err(|_| Fault::UpstreamProtocol)?;
        let name = Arc::clone(&self.upstream.name);
        let (hand_over, bare) = for_upgrade.then(oneshot::channel).unzip();
        let driver = tokio::task::spawn_local(async move {
            let ended = match hand_over {
                None => connection.await,
                Some(hand_over) => Box::pin(connection.without_shutdown()).await.map(|parts| {
                    // Nobody waits for it where the answer was no 101.
                    let _ = hand_over.send(parts);
                }),
            };
            if let Err(error) = ended {
                tracing::debug!(upstream = %name, error = with_causes(&error), "connection ended");
            }
        });
        Ok(Connection {
            sender,
            watch: Rc::new(self.watch()),
            reused: false,
            heard,
            driver: driver.abort_handle(),
            renewals: self.renewals.get(),
            bare,
        })
    }

    /// A new connection on which nothing has been said, and how much has been heard on it.
    ///
    /// # Errors
    /// `upstream_unreachable`, `upstream_tls`, `upstream_timeout`.
    pub async fn connect(&self) -> Result<(Line, Rc<Heard>), Fault> {
        let stream = self
            .upstream
            .connector
            .connect(self.upstream.connect_timeout)
            .await
            .map_err(|error| {
                tracing::warn!(upstream = %self.upstream.name, error = error.cause(), "cannot connect");
                match error {
                    ConnectError::Timeout => Fault::UpstreamTimeout,
                    ConnectError::Tls(_) => Fault::UpstreamTls,
                    ConnectError::Unreachable(_) | ConnectError::Egress(_) => {
                        Fault::UpstreamUnreachable
                    }
                }
            })?;
        self.opened.set(self.opened.get() + 1);
        let heard = Rc::<Heard>::default();
        let line = Line {
            stream,
            heard: Rc::clone(&heard),
        };
        Ok((line, heard))
    }

    /// A time-out for something that is under way here.
    pub fn watch(&self) -> Watch {
        self.sweeper.watch()
    }

    /// Takes a connection back whose request and answer have both ended, unless it was opened for an upgrade.
    pub fn put_back(&self, mut connection: Connection, now: Instant) {
        if connection.sender.is_closed() || connection.bare.is_some() || self.outlived(&connection)
        {
            return;
        }
        connection.watch.disarm();
        connection.reused = true;
        let mut idle = self.idle.borrow_mut();
        if idle.len() == MAX_IDLE {
            idle.remove(0);
        }
        idle.push((connection, now));
    }

    /// A value that was attached has ceased to be in force. hyper's buffers hold the last head that each connection has
    /// sent, so none of them is kept for long: a few are closed with each tick, the longest idle first, and no request
    /// finds all of them gone at once.
    pub fn renew(&self) {
        self.renewals.set(self.renewals.get() + 1);
        if let Some(streams) = &self.streams {
            streams.drop_idle();
        }
    }

    /// Whether a connection is from before a renewal, and its turn to be closed.
    fn outlived(&self, connection: &Connection) -> bool {
        let left = self.closable.get();
        let is_due = connection.renewals != self.renewals.get() && left > 0;
        self.closable.set(left - usize::from(is_due));
        is_due
    }

    /// How many are idle.
    #[cfg(test)]
    pub fn idle_count(&self) -> usize {
        self.idle.borrow().len()
    }

    /// Closes everything that is idle.
    pub fn drop_idle(&self) {
        self.idle.take();
        if let Some(streams) = &self.streams {
            streams.drop_idle();
        }
    }

    /// Closes what has been idle for too long, and sooner what a burst has left: before the upstream does, as far as one can know.
    pub fn reap(&self, now: Instant) {
        self.closable.set(CLOSED_PER_TICK);
        let mut idle = self.idle.borrow_mut();
        let mut excess = idle.len().saturating_sub(SPARE);
        idle.retain(|(connection, since)| {
            let keep = if excess > 0 { KEEP_EXCESS } else { KEEP_IDLE };
            excess = excess.saturating_sub(1);
            !connection.sender.is_closed()
                && now.duration_since(*since) < keep
                && !self.outlived(connection)
        });
        if let Some(streams) = &self.streams {
            streams.reap(now, KEEP_IDLE);
        }
    }
}

impl Line {
    /// The protocol that the upstream chose in the TLS handshake.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.stream.alpn()
    }
}

impl Heard {
    /// A request leaves.
    pub fn begin(&self) {
        self.bytes.set(0);
        self.awaits_head.set(true);
    }

    /// The head of its answer is there.
    pub fn head(&self) {
        self.awaits_head.set(false);
    }

    /// No byte of an answer has come.
    pub fn is_nothing(&self) -> bool {
        self.bytes.get() == 0
    }

    /// Whether anything has come since this was last asked.
    pub fn is_news(&self) -> bool {
        self.bytes.take() > 0
    }
}

impl Connection {
    /// Its bytes without HTTP, with what was read behind the 101; `None` where there are none to have, or its deadline
    /// passes first.
    pub async fn bare(&mut self) -> Option<Parts<TokioIo<Line>>> {
        before(&self.watch, self.bare.take()?).await?.ok()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // An upload that the upstream no longer reads would hold its client's connection.
        self.driver.abort();
    }
}

impl AsyncRead for Line {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        let bytes = this.heard.bytes.get().saturating_add(read);
        this.heard.bytes.set(bytes);
        if bytes > MOST_BEFORE_ANSWER && this.heard.awaits_head.get() {
            return Poll::Ready(Err(io::Error::other("an answer that never begins")));
        }
        // hyper reads before it takes the next request. The runtime knows only what was so when it last asked the
        // kernel, which under load is several requests ago.
        if this.heard.look.take() && polled.is_pending() && !is_quiet(this.stream.tcp()) {
            // The end of the stream, or as good as that.
            return Poll::Ready(Ok(()));
        }
        polled
    }
}

/// Whether the other side has neither closed nor said anything, as the kernel knows it now.
fn is_quiet(tcp: &TcpStream) -> bool {
    let looked = SockRef::from(tcp).peek(&mut [MaybeUninit::uninit()]);
    looked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

impl AsyncWrite for Line {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
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
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }
}

/// Below the 60 s after which nginx closes an idle connection.
const KEEP_IDLE: Duration = Duration::from_secs(50);

/// Idle connections beyond it were needed by a burst, and hold memory on both sides.
const SPARE: usize = 8;

/// How long such a connection stays.
const KEEP_EXCESS: Duration = Duration::from_secs(5);

/// How many connections from before a renewal are closed with a tick: all that a worker keeps within eight seconds.
const CLOSED_PER_TICK: usize = 8;

/// How old the runtime's word on a socket may be for a request that can be sent again.
const MOMENT: Duration = Duration::from_secs(1);

/// Idle connections kept to one upstream.
const MAX_IDLE: usize = 256;

/// Largest head of an answer, in bytes.
const MAX_ANSWER_HEAD: usize = 64 * 1024;

/// What may come before the head of an answer is whole, in bytes: 1xx answers without an end are no answer. More than
/// a head and what is read ahead of its body.
const MOST_BEFORE_ANSWER: usize = 4 * MAX_ANSWER_HEAD;
