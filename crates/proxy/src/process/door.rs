//! Where connections come in: a listening socket in a worker's hands, accepted at until the end.

use std::{
    cell::Cell,
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::{
    connection,
    listen::Listening,
    stream::Stream,
    vitals::{Limits, Vitals},
    worker::Worker,
};
use crate::journey::admit::Peer;

/// A listening socket, with what its connections need.
#[derive(Debug)]
pub struct Door {
    /// Index of its listener in the plan.
    pub listener: usize,
    /// The listener's name.
    pub name: Arc<str>,
    /// The socket.
    pub socket: Listening,
    /// TLS towards clients.
    pub tls: Option<Arc<ServerConfig>>,
    /// Time-outs of its connections.
    pub limits: Limits,
    /// Open connections of the listener, over all workers.
    pub open: Arc<AtomicUsize>,
    /// How many there may be.
    pub max_open: usize,
}

/// A door in the hands of its worker's runtime.
struct Entrance {
    listener: usize,
    name: Arc<str>,
    socket: Accepting,
    tls: Option<TlsAcceptor>,
    limits: Limits,
    open: Arc<AtomicUsize>,
    max_open: usize,
    connections: Rc<Cell<u64>>,
    worker: Rc<Worker>,
}

impl Door {
    /// The task that accepts for as long as the worker does.
    ///
    /// # Errors
    /// When the worker's runtime does not take the socket.
    pub fn open(self, worker: &Rc<Worker>) -> io::Result<impl Future<Output = ()> + use<>> {
        let entrance = Entrance {
            listener: self.listener,
            connections: worker.tally().connections(&self.name),
            name: self.name,
            socket: Accepting::new(self.socket)?,
            tls: self.tls.map(TlsAcceptor::from),
            limits: self.limits,
            open: self.open,
            max_open: self.max_open,
            worker: Rc::clone(worker),
        };
        // It counts as a connection, so that a drain does not end before the accept queue is empty.
        worker.opened();
        Ok(entrance.stand_open())
    }
}

impl Entrance {
    /// Accepts; and at the end still serves what is in the accept queue: to close the socket would reset it.
    async fn stand_open(self) {
        while !self.worker.is_draining() {
            let accepted = tokio::select! {
                biased;
                accepted = self.accept_below_limit() => accepted,
                () = self.worker.stops_accepting() => break,
            };
            match accepted {
                Ok((stream, peer)) => self.serve(stream, peer),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(listener = %self.name, %error, "cannot accept");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        // Ends at the first pause: nobody is left in the queue.
        while let Ok(accepted) = tokio::time::timeout(Duration::ZERO, self.socket.accept()).await {
            match accepted {
                Ok((stream, peer)) => self.serve(stream, peer),
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => break,
            }
        }
        let worker = Rc::clone(&self.worker);
        drop(self);
        worker.closed();
    }

    /// Accepts as soon as there are fewer open connections than the limit; until then they wait in the queue.
    async fn accept_below_limit(&self) -> io::Result<(Stream, Peer)> {
        while self.open.load(Ordering::Relaxed) >= self.max_open {
            tokio::time::sleep(PAUSE).await;
        }
        self.socket.accept().await
    }

    fn serve(&self, stream: Stream, peer: Peer) {
        let open = Open::new(&self.open, &self.connections, &self.worker);
        let (tls, worker) = (self.tls.clone(), Rc::clone(&self.worker));
        let (listener, within) = (self.listener, self.limits.head_timeout);
        let vitals = Rc::new(Vitals::new(peer, self.limits, &worker));
        tokio::task::spawn_local(async move {
            let _open = open;
            let stream = match (tls, stream) {
                (Some(tls), Stream::Tcp(tcp)) => {
                    // Boxed, so that the connection does not hold room for it afterwards.
                    match Box::pin(shake_hands(tls, tcp, within)).await {
                        Some(stream) => stream,
                        None => return,
                    }
                }
                (_, stream) => stream,
            };
            connection::keep(stream, vitals, listener, worker).await;
        });
    }
}

async fn shake_hands(tls: TlsAcceptor, tcp: TcpStream, within: Duration) -> Option<Stream> {
    match tokio::time::timeout(within, tls.accept(tcp)).await {
        Ok(Ok(stream)) => Some(Stream::Tls(Box::new(stream))),
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

/// A listening socket in the hands of its worker's runtime.
enum Accepting {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener),
}

impl Accepting {
    fn new(socket: Listening) -> io::Result<Self> {
        Ok(match socket {
            Listening::Tcp(socket) => Self::Tcp(TcpListener::from_std(socket)?),
            #[cfg(unix)]
            Listening::Unix(socket) => Self::Unix(tokio::net::UnixListener::from_std(socket)?),
        })
    }

    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Tcp(socket) => {
                let (stream, remote) = socket.accept().await?;
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?;
                Ok((Stream::Tcp(stream), Peer::Tcp { remote, local }))
            }
            #[cfg(unix)]
            Self::Unix(socket) => {
                let (stream, _) = socket.accept().await?;
                let who = stream.peer_cred()?;
                Ok((
                    Stream::Unix(stream),
                    Peer::Unix {
                        uid: who.uid(),
                        gid: who.gid(),
                        // 0 is a process that is not in our PID namespace.
                        pid: who
                            .pid()
                            .and_then(|pid| u32::try_from(pid).ok())
                            .filter(|pid| *pid > 0),
                    },
                ))
            }
        }
    }
}

/// Counts a connection for as long as it lives.
struct Open {
    open: Arc<AtomicUsize>,
    connections: Rc<Cell<u64>>,
    worker: Rc<Worker>,
}

impl Open {
    fn new(open: &Arc<AtomicUsize>, connections: &Rc<Cell<u64>>, worker: &Rc<Worker>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        connections.set(connections.get() + 1);
        worker.opened();
        Self {
            open: Arc::clone(open),
            connections: Rc::clone(connections),
            worker: Rc::clone(worker),
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.connections.set(self.connections.get() - 1);
        self.worker.closed();
    }
}

/// Whether the error is that of the connection that was to be accepted, and the next one may be fine.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, NotConnected};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted | NotConnected
    )
}

/// How long to wait when there are no descriptors or no places left.
const PAUSE: Duration = Duration::from_millis(100);
