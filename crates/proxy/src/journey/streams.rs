//! The HTTP/2 connections of one worker to one upstream: few, each with many requests on it at a time.

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::{
    Ping,
    client::{self, SendRequest},
};
use token_source::connect;
use tokio::{
    sync::watch::{self, Receiver},
    task::yield_now,
    time::Instant,
};
use tokio_util::io::InspectReader;

use super::pool::Pool;
use crate::{fault::Fault, sieve::Sieve, sweep::Watch};

/// One worker's HTTP/2 connections to one upstream.
#[derive(Debug, Default)]
pub struct Streams {
    open: RefCell<Vec<Rc<Shared>>>,
    /// The connection that is being opened, for all requests that wait for one.
    opening: RefCell<Option<Opening>>,
}

/// What becomes of a connection that is being opened; `None` until that is known.
type Opening = Receiver<Option<Result<Rc<Shared>, Fault>>>;

/// A place for one request on a connection that others share; what is under way on it is reset when it is dropped.
#[derive(Debug)]
pub struct Stream {
    shared: Rc<Shared>,
    /// The time-out of the request.
    pub watch: Rc<Watch>,
    /// The connection carried a request before: the upstream may be closing it at this moment.
    pub reused: bool,
}

/// A connection.
struct Shared {
    sender: SendRequest<Bytes>,
    opened: Instant,
    under_way: Cell<usize>,
    carried: Cell<bool>,
    /// When the last request on it ended, or it was opened.
    quiet_since: Cell<Instant>,
}

impl Streams {
    /// A place for a request: on a connection that has one, or on a new one. Before one that cannot be sent twice takes the
    /// first place on a connection, it is looked whether the upstream has just closed that.
    ///
    /// # Errors
    /// `upstream_unreachable`, `upstream_tls`, `upstream_timeout`; `upstream_protocol` where the upstream speaks no
    /// HTTP/2.
    pub async fn place(&self, pool: &Rc<Pool>, repeatable: bool) -> Result<Stream, Fault> {
        let mut in_vain = 0;
        let mut looks = !repeatable;
        loop {
            if let Some(shared) = self.vacant().or_else(|| self.full_from_the_start()) {
                if looks && shared.carried.get() && shared.under_way.get() == 0 {
                    // The runtime asks the kernel, and each connection reads what there is, before this goes on.
                    looks = false;
                    yield_now().await;
                    continue;
                }
                return Ok(Stream::on(shared, pool));
            }
            if in_vain == MOST_IN_VAIN {
                tracing::warn!(upstream = %pool.upstream().name, "the upstream ends connections before they carry anything");
                return Err(Fault::UpstreamProtocol);
            }
            let mut opening = self.opening(pool);
            let opened = match opening.wait_for(Option::is_some).await {
                Ok(outcome) => outcome.clone(),
                Err(_) => None,
            };
            let opened = opened.unwrap_or(Err(Fault::UpstreamUnreachable))?;
            // It was long in coming: whatever is taken now has not been looked at.
            looks = !repeatable;
            // Else its places have been taken by others who waited.
            in_vain += usize::from(opened.has_ended());
        }
    }

    /// Closes what has carried nothing for too long, once it has said so to the upstream.
    pub fn reap(&self, now: Instant, keep: Duration) {
        self.open.borrow_mut().retain(|shared| {
            !shared.has_ended()
                && (shared.under_way.get() > 0
                    || now.duration_since(shared.quiet_since.get()) < keep)
        });
    }

    /// Takes no more requests on any connection that there is; each ends with the last request on it.
    pub fn retire_all(&self) {
        self.open.take();
    }

    /// The fullest connection that has room: so that the others grow quiet and are closed.
    fn vacant(&self) -> Option<Rc<Shared>> {
        let mut open = self.open.borrow_mut();
        open.retain(|shared| !shared.has_ended());
        let with_room = open.iter().filter(|shared| shared.has_room());
        with_room
            .max_by_key(|shared| shared.under_way.get())
            .cloned()
    }

    /// A connection on which the upstream takes no request for the moment, if it was opened just now: another would be no
    /// better. Its requests wait there, within their time-outs.
    fn full_from_the_start(&self) -> Option<Rc<Shared>> {
        let open = self.open.borrow();
        let mut new = open
            .iter()
            .filter(|shared| shared.opened.elapsed() < BETWEEN_OPENINGS);
        new.find(|shared| shared.sender.current_max_send_streams() == 0)
            .cloned()
    }

    /// Opens a connection, unless one is being opened; the requests that wait for it share its outcome. It goes on
    /// when they give up.
    fn opening(&self, pool: &Rc<Pool>) -> Opening {
        // One whose task is gone will not be known.
        if let Some(opening) =
            (self.opening.borrow().as_ref()).filter(|it| it.has_changed().is_ok())
        {
            return opening.clone();
        }
        let (outcome, opening) = watch::channel(None);
        self.opening.replace(Some(opening.clone()));
        let pool = Rc::clone(pool);
        tokio::task::spawn_local(async move {
            let opened = open(&pool).await;
            if let Some(streams) = &pool.streams {
                streams.opening.take();
                if let Ok(shared) = &opened {
                    streams.open.borrow_mut().push(Rc::clone(shared));
                }
                let _ = outcome.send(Some(opened));
            }
        });
        opening
    }
}

impl Stream {
    fn on(shared: Rc<Shared>, pool: &Pool) -> Self {
        shared.under_way.set(shared.under_way.get() + 1);
        Self {
            reused: shared.carried.replace(true),
            shared,
            watch: Rc::new(pool.watch()),
        }
    }

    /// Sends a request on it.
    pub fn sender(&self) -> SendRequest<Bytes> {
        self.shared.sender.clone()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let shared = &self.shared;
        shared.under_way.set(shared.under_way.get() - 1);
        shared.quiet_since.set(Instant::now());
    }
}

impl Shared {
    /// The upstream takes no more requests on it, or it is closed.
    fn has_ended(&self) -> bool {
        let mut sender = self.sender.clone();
        matches!(
            sender.poll_ready(&mut Context::from_waker(Waker::noop())),
            Poll::Ready(Err(_))
        )
    }

    fn has_room(&self) -> bool {
        let most = self.sender.current_max_send_streams().min(MOST_STREAMS);
        self.under_way.get() < most
    }
}

/// Opens a connection and drives it in a task of its own.
async fn open(pool: &Rc<Pool>) -> Result<Rc<Shared>, Fault> {
    let name = Arc::clone(&pool.upstream().name);
    let stream = pool.connect().await?;
    if pool.upstream().connector.origin().tls && stream.alpn() != Some(b"h2") {
        tracing::warn!(
            upstream = %name,
            "the upstream speaks no HTTP/2 (it did not choose h2 in the TLS handshake): see its protocol"
        );
        return Err(Fault::UpstreamProtocol);
    }
    let heard = Rc::new(Cell::new(false));
    let hears = Rc::clone(&heard);
    let stream = InspectReader::new(stream, move |_: &[u8]| hears.set(true));
    let mut builder = client::Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(MOST_STREAMS)
        .max_concurrent_reset_streams(MOST_REMEMBERED)
        .reset_stream_duration(REMEMBERED_FOR)
        .max_local_error_reset_streams(None)
        .data_frame_budget(FRAME_BUDGET)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_ANSWER_HEAD)
        .max_send_buffer_size(SEND_BUFFER);
    let (sender, mut connection) = builder
        .handshake(Sieve::of_server(stream))
        .await
        .map_err(|error| fault(&error))?;
    let shared = Rc::new(Shared {
        sender,
        opened: Instant::now(),
        under_way: Cell::new(0),
        carried: Cell::new(false),
        quiet_since: Cell::new(Instant::now()),
    });

    // Not the connection itself: it closes when nobody can send on it any more.
    let busy = Rc::downgrade(&shared);
    let mut pings = connection.ping_pong().expect("nobody else has taken it");
    let silence = pool.watch();
    silence.arm(SILENCE);
    tokio::task::spawn_local(async move {
        let mut awaits_pong = false;
        let ended = poll_fn(|cx| {
            loop {
                if let Poll::Ready(ended) = Pin::new(&mut connection).poll(cx) {
                    return Poll::Ready(ended.map_err(|error| told(&error)));
                }
                if pings.poll_pong(cx).is_ready() && awaits_pong {
                    awaits_pong = false;
                    heard.set(false);
                    // gRPC servers close a connection that pings more often than this without a message.
                    silence.arm(BETWEEN_PINGS);
                }
                if silence.poll_passed(cx).is_pending() {
                    return Poll::Pending;
                }
                let is_busy = busy
                    .upgrade()
                    .is_some_and(|shared| shared.under_way.get() > 0);
                match (heard.take() || !is_busy, awaits_pong) {
                    (true, _) => silence.arm(SILENCE),
                    (false, true) => return Poll::Ready(Err("no answer to a PING".into())),
                    (false, false) => {
                        awaits_pong = pings.send_ping(Ping::opaque()).is_ok();
                        silence.arm(PONG_WITHIN);
                    }
                }
            }
        })
        .await;
        if let Err(reason) = ended {
            tracing::debug!(upstream = %name, reason, "connection ended");
        }
    });
    Ok(shared)
}

/// What the client is told.
pub fn fault(error: &h2::Error) -> Fault {
    match error.get_io().is_some_and(connect::is_of_tls) {
        true => Fault::UpstreamTls,
        false => Fault::UpstreamProtocol,
    }
}

/// What became of a request or a connection, without any text of the upstream's.
pub fn told(error: &h2::Error) -> String {
    match (error.reason(), error.get_io()) {
        (Some(reason), _) if error.is_go_away() => format!("GOAWAY, {reason:?}"),
        (Some(reason), _) => format!("RST_STREAM, {reason:?}"),
        (None, Some(io)) if connect::is_of_tls(io) => io.to_string(),
        (None, Some(io)) => io.kind().to_string(),
        (None, None) => "the stream cannot be used".into(),
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("under_way", &self.under_way.get())
            .finish_non_exhaustive()
    }
}

/// How far new connections are apart to an upstream that takes no request on them.
const BETWEEN_OPENINGS: Duration = Duration::from_secs(1);

/// New connections in a row that end before a request has a place on one: another is no better.
const MOST_IN_VAIN: usize = 3;

/// Requests on one connection at a time, however many more the upstream would take.
const MOST_STREAMS: usize = 100;

/// What an upstream may send of one answer before its client has taken anything of it: 12 MB/s at 20 ms.
const STREAM_WINDOW: u32 = 256 << 10;

/// Streams that were called off, and how long each is remembered: what the upstream still sends on one that is
/// forgotten counts against the whole connection.
const MOST_REMEMBERED: usize = 10_000;
const REMEMBERED_FOR: Duration = Duration::from_secs(30);

/// What small frames may take of memory beyond their content before the connection is ended: so much that streams which
/// nobody reads cannot end those of others.
const FRAME_BUDGET: usize = MOST_STREAMS * STREAM_WINDOW as usize * 255;

/// Room for all of them: a client that does not read must not hold up the others' answers.
const CONNECTION_WINDOW: u32 = MOST_STREAMS as u32 * STREAM_WINDOW;

/// What of one request's body may wait to be written.
const SEND_BUFFER: usize = 64 << 10;

/// Largest head of an answer, in bytes.
const MAX_ANSWER_HEAD: u32 = 64 << 10;

/// An upstream with requests under way that says nothing from one of these to the next is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(20);

/// How long it has to answer.
const PONG_WITHIN: Duration = Duration::from_secs(20);

/// Between two such questions while it still says nothing else.
const BETWEEN_PINGS: Duration = Duration::from_secs(310);

#[cfg(test)]
mod tests;
