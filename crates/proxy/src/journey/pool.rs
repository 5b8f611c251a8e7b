//! The connections of one worker to one upstream: taken from the idle ones, last used first, or opened.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use http::HeaderValue;
use token_source::connect::{self, ConnectError, Connector};
use tokio::time::Instant;

use super::{
    http1::{Connection, Usual},
    streams::Streams,
};
use crate::{
    config::Protocol,
    fault::Fault,
    sweep::{Sweeper, Tick, Watch, ticks},
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

impl Upstream {
    /// The fault that one of its time-outs has passed; the log says which.
    pub fn late(&self, time_out: &'static str) -> Fault {
        tracing::warn!(upstream = %self.name, time_out, "the upstream is late");
        Fault::UpstreamTimeout
    }
}

/// One worker's connections to one upstream.
#[derive(Debug)]
pub struct Pool {
    upstream: Arc<Upstream>,
    sweeper: Rc<Sweeper>,
    idle: RefCell<Vec<(Box<Connection>, Tick)>>,
    opened: Rc<Cell<u64>>,
    /// What the heads of its answers have in common.
    usual: Rc<RefCell<Usual>>,
    /// When that was last forgotten.
    forgotten: Cell<Tick>,
    /// Connections over HTTP/2, where that is spoken; then none are idle above.
    pub streams: Option<Streams>,
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
            usual: Rc::default(),
            forgotten: Cell::new(0),
        })
    }

    /// The upstream that the connections lead to.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// An idle connection that is not known to be closed. The kernel is asked if it has been idle for more than a moment,
    /// as the sweeper counts, and wherever the caller wants that.
    pub fn idle(&self, asks_kernel: bool) -> Option<Box<Connection>> {
        let mut idle = self.idle.borrow_mut();
        while let Some((connection, since)) = idle.pop() {
            let asks_kernel = asks_kernel || self.sweeper.now() - since > MOMENT;
            if connection.is_quiet(asks_kernel) {
                return Some(connection);
            }
        }
        None
    }

    /// A new connection for HTTP/1.1; one that is `for_upgrade` carries nothing else.
    ///
    /// # Errors
    /// `upstream_unreachable`, `upstream_tls`, `upstream_timeout`.
    pub async fn open(&self, for_upgrade: bool) -> Result<Box<Connection>, Fault> {
        let stream = self.connect().await?;
        // Boxed, since it goes from hand to hand with each request.
        let connection = Connection::new(stream, self.watch(), Rc::clone(&self.usual), for_upgrade);
        Ok(Box::new(connection))
    }

    /// A new connection on which nothing has been said.
    ///
    /// # Errors
    /// `upstream_unreachable`, `upstream_tls`, `upstream_timeout`.
    pub async fn connect(&self) -> Result<connect::Connection, Fault> {
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
        Ok(stream)
    }

    /// A time-out for something that is under way here.
    pub fn watch(&self) -> Watch {
        self.sweeper.watch()
    }

    /// Takes a connection back whose request and answer have both ended.
    pub fn put_back(&self, mut connection: Box<Connection>) {
        if !connection.is_reusable() {
            return;
        }
        connection.settle();
        let mut idle = self.idle.borrow_mut();
        if idle.len() == MAX_IDLE {
            idle.remove(0);
        }
        idle.push((connection, self.sweeper.now()));
    }

    /// A value that was attached has ceased to be in force. Connections that many requests share remember what stood in
    /// their heads, and take no more.
    pub fn retire_shared(&self) {
        if let Some(streams) = &self.streams {
            streams.retire_all();
        }
    }

    /// Forgets what the heads of answers have in common: an upstream may have written a credential there.
    pub fn forget(&self) {
        self.usual.take();
    }

    /// How much memory the idle ones keep for answers, in bytes.
    #[cfg(test)]
    pub fn idle_room(&self) -> usize {
        let idle = self.idle.borrow();
        idle.iter().map(|(connection, _)| connection.room()).sum()
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
            streams.retire_all();
        }
    }

    /// Closes what has been idle for too long, and sooner what a burst has left: before the upstream does, as far as one
    /// can know. What stays holds nothing of an answer for longer than a moment.
    pub fn reap(&self, now: Tick) {
        if now - self.forgotten.get() > MOMENT {
            self.forgotten.set(now);
            self.forget();
        }
        let mut idle = self.idle.borrow_mut();
        let mut excess = idle.len().saturating_sub(SPARE);
        idle.retain_mut(|(connection, since)| {
            if now - *since > MOMENT {
                connection.clear();
            }
            let keep = if excess > 0 { KEEP_EXCESS } else { KEEP_IDLE };
            excess = excess.saturating_sub(1);
            now - *since < ticks(keep) && connection.is_quiet(false)
        });
        if let Some(streams) = &self.streams {
            streams.reap(Instant::now(), KEEP_IDLE);
        }
    }
}

/// Below the 60 s after which nginx closes an idle connection.
const KEEP_IDLE: Duration = Duration::from_secs(50);

/// Idle connections beyond it were needed by a burst, and hold memory on both sides.
const SPARE: usize = 8;

/// How long such a connection stays.
const KEEP_EXCESS: Duration = Duration::from_secs(5);

/// How old the runtime's word on a socket may be for a request that can be sent again, and how long something of an answer
/// is kept.
const MOMENT: Tick = ticks(Duration::from_secs(1));

/// Idle connections kept to one upstream.
const MAX_IDLE: usize = 256;
