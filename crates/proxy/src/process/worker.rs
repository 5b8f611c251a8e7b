//! One thread that carries requests, with its own listening sockets, upstream connections and counts. A request
//! never changes thread, and workers share nothing that changes but the plan, the feeds and the limits that are set.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::Cache;
use rustls::ServerConfig;
use token_source::connect::with_causes;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::{Builder, LocalOptions},
    sync::{Notify, mpsc, oneshot},
};
use tokio_rustls::TlsAcceptor;

use super::{
    connection::{self, Limits, Stream},
    listen::Listening,
    plan::PlanCell,
    shutdown::{Phase, PhaseReceiver},
};
use crate::{
    fault::Fault,
    journey::{Plan, UNROUTED, View, admit::Peer},
    sweep::Sweeper,
    tally::{Counts, Tally},
};

/// Everything that a worker is given; made on the control thread.
#[derive(Debug)]
pub struct Post {
    /// The plan in force.
    pub plan: Arc<PlanCell>,
    /// Its sockets.
    pub doors: Vec<Door>,
    /// Questions of the control thread.
    pub questions: mpsc::UnboundedReceiver<Question>,
    /// How far the end has come.
    pub phase: PhaseReceiver,
}

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

/// What the control thread asks a worker; that it answers says that it is alive.
#[derive(Debug)]
pub enum Question {
    /// What it counted.
    Counts(oneshot::Sender<Counts>),
}

/// What all tasks of a worker share.
#[derive(Debug)]
pub struct Worker {
    plan: RefCell<PlanView>,
    sweeper: Rc<Sweeper>,
    tally: Tally,
    draining: Cell<bool>,
    stop_accepting: Notify,
    open: Cell<usize>,
    all_closed: Notify,
}

struct PlanView {
    cache: Cache<Arc<PlanCell>, Arc<Plan>>,
    seen: Arc<Plan>,
    view: Rc<View>,
}

/// Runs a worker on this thread until the end.
///
/// # Errors
/// When the operating system refuses a runtime or a socket.
pub fn run(post: Post) -> io::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    let outcome = runtime.block_on(work(post));
    // A look-up that hangs must not hold up the end.
    runtime.shutdown_background();
    outcome
}

async fn work(mut post: Post) -> io::Result<()> {
    let worker = Rc::new(Worker::new(post.plan));
    let sweeping = Rc::clone(&worker);
    tokio::task::spawn_local(async move { sweeping.sweeper.run(|| sweeping.view().reap()).await });
    for door in post.doors {
        accept_at(door, &worker)?;
    }
    loop {
        tokio::select! {
            question = post.questions.recv() => match question {
                Some(Question::Counts(answer)) => drop(answer.send(worker.tally.counts())),
                // The control thread is gone.
                None => return Ok(()),
            },
            changed = post.phase.changed() => {
                if changed.is_err() || *post.phase.borrow() == Phase::Ended {
                    return Ok(());
                }
                if *post.phase.borrow() == Phase::Draining {
                    worker.drain();
                }
            }
            () = worker.all_closed.notified(), if worker.is_draining() => {
                if worker.open.get() == 0 {
                    return Ok(());
                }
            }
        }
    }
}

impl Worker {
    fn new(plan: Arc<PlanCell>) -> Self {
        let (sweeper, tally) = (Sweeper::new(), Tally::default());
        let mut cache = Cache::new(plan);
        let seen = Arc::clone(cache.load());
        let view = Rc::new(View::new(Arc::clone(&seen), &sweeper, &tally));
        Self {
            plan: RefCell::new(PlanView { cache, seen, view }),
            sweeper,
            tally,
            draining: Cell::new(false),
            stop_accepting: Notify::new(),
            open: Cell::new(0),
            all_closed: Notify::new(),
        }
    }

    /// The view of the plan in force; a request takes it once.
    pub fn view(&self) -> Rc<View> {
        let mut plan = self.plan.borrow_mut();
        let PlanView { cache, seen, view } = &mut *plan;
        let current = cache.load();
        if !Arc::ptr_eq(current, seen) {
            *seen = Arc::clone(current);
            *view = Rc::new(View::new(Arc::clone(current), &self.sweeper, &self.tally));
        }
        Rc::clone(view)
    }

    /// The clock of its time-outs.
    pub fn sweeper(&self) -> &Rc<Sweeper> {
        &self.sweeper
    }

    /// Connections are to end with the request that they carry.
    pub fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// A client connection ended with an error. What hyper's parser refuses gets a bare status line from it and never
    /// becomes a journey: it is counted and logged here.
    pub fn connection_failed(&self, error: &hyper::Error) {
        let code = match () {
            () if error.is_parse_too_large() => Fault::HeadTooLarge.code(),
            () if error.is_parse() => Fault::BadRequest.code(),
            () => return tracing::debug!(error = with_causes(error), "client connection ended"),
        };
        tracing::info!(
            code,
            error = with_causes(error),
            "a request was refused by the parser"
        );
        self.tally.route(&Arc::from(UNROUTED)).fault(code);
    }

    fn drain(&self) {
        self.draining.set(true);
        self.stop_accepting.notify_waiters();
        self.sweeper.wake_all();
        self.check_closed();
    }

    fn opened(&self) {
        self.open.set(self.open.get() + 1);
    }

    fn closed(&self) {
        self.open.set(self.open.get() - 1);
        self.check_closed();
    }

    fn check_closed(&self) {
        if self.open.get() == 0 {
            self.all_closed.notify_one();
        }
    }
}

impl std::fmt::Debug for PlanView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlanView")
            .field("view", &self.view)
            .finish_non_exhaustive()
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
                    },
                ))
            }
        }
    }
}

/// Accepts at a door for as long as the worker does; at the end, what is in the accept queue is still served: to
/// close the socket would reset it.
fn accept_at(door: Door, worker: &Rc<Worker>) -> io::Result<()> {
    let Door {
        listener,
        name,
        socket,
        tls,
        limits,
        open,
        max_open,
    } = door;
    let socket = Accepting::new(socket)?;
    let worker = Rc::clone(worker);
    let tls = tls.map(TlsAcceptor::from);
    // The queue counts as one connection, so that a drain does not end before it is empty.
    worker.opened();
    tokio::task::spawn_local(async move {
        let connections = worker.tally.connections(&name);
        while !worker.is_draining() {
            let accepted = tokio::select! {
                biased;
                accepted = accept_below(&socket, &open, max_open) => accepted,
                () = worker.stop_accepting.notified() => break,
            };
            match accepted {
                Ok((stream, peer)) => serve(
                    stream,
                    peer,
                    listener,
                    limits,
                    &tls,
                    &open,
                    &connections,
                    &worker,
                ),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(listener = %name, %error, "cannot accept");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        // Ends at the first pause: nobody is left in the queue.
        while let Ok(accepted) = tokio::time::timeout(Duration::ZERO, socket.accept()).await {
            match accepted {
                Ok((stream, peer)) => {
                    serve(
                        stream,
                        peer,
                        listener,
                        limits,
                        &tls,
                        &open,
                        &connections,
                        &worker,
                    );
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(_) => break,
            }
        }
        drop(socket);
        worker.closed();
    });
    Ok(())
}

/// Accepts as soon as there are fewer than `max` open connections; until then they wait in the queue.
async fn accept_below(
    socket: &Accepting,
    open: &AtomicUsize,
    max: usize,
) -> io::Result<(Stream, Peer)> {
    while open.load(Ordering::Relaxed) >= max {
        tokio::time::sleep(PAUSE).await;
    }
    socket.accept().await
}

#[expect(
    clippy::too_many_arguments,
    reason = "everything that a connection needs, from the loop that has it"
)]
fn serve(
    stream: Stream,
    peer: Peer,
    listener: usize,
    limits: Limits,
    tls: &Option<TlsAcceptor>,
    open: &Arc<AtomicUsize>,
    connections: &Rc<Cell<u64>>,
    worker: &Rc<Worker>,
) {
    let open = Open::new(open, connections, worker);
    let acceptor = tls.clone();
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let _open = open;
        let stream = match (acceptor, stream) {
            (Some(acceptor), Stream::Tcp(tcp)) => {
                match shake_hands(&acceptor, tcp, limits.head_timeout).await {
                    Some(stream) => stream,
                    None => return,
                }
            }
            (_, stream) => stream,
        };
        connection::keep(stream, peer, listener, limits, worker).await;
    });
}

async fn shake_hands(acceptor: &TlsAcceptor, tcp: TcpStream, within: Duration) -> Option<Stream> {
    match tokio::time::timeout(within, acceptor.accept(tcp)).await {
        Ok(Ok(stream)) => Some(Stream::Tls(Box::new(stream))),
        Ok(Err(error)) => {
            tracing::debug!(%error, "TLS handshake failed");
            None
        }
        Err(_) => None,
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
