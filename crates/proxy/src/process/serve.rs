//! A proxy from its configuration to its end: sockets, plan, workers, and the control thread among them.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, atomic::AtomicUsize},
    thread::JoinHandle,
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    certificate::{self, CertificateError, Shown},
    control::{self, Control},
    door::Door,
    keys, listen,
    plan::{self, PlanCell},
    shutdown::{Phase, Stops},
    vitals::Limits,
    worker::{self, Post, Question},
};
use crate::config::{Config, ListenAddress, Listener};

/// Why a proxy cannot start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// An address cannot be listened at.
    #[error("{name}: cannot listen at {address}: {error}")]
    Listen {
        /// The table that names the address.
        name: String,
        /// The address.
        address: String,
        /// What the operating system says.
        error: io::Error,
    },
    /// A listener has no certificate to show.
    #[error("listener {name}: {error}")]
    Certificate {
        /// The listener.
        name: String,
        /// Why not.
        error: CertificateError,
    },
    /// The operating system refuses a thread or a runtime.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// A worker ended without being told to.
    #[error("a worker ended unexpectedly")]
    WorkerLost,
    /// A worker does not end, which only a defect can make it do.
    #[error("a worker does not end")]
    WorkerStuck,
    /// A keeper, or another task without which nothing goes on for long, ended, which only a defect can make it do.
    #[error("a task ended unexpectedly")]
    TaskLost,
}

/// Serves on this thread and its workers until the end is asked for and has come.
///
/// # Errors
/// When it cannot start, or a worker is lost.
pub fn serve(config: &Config, stops: Stops) -> Result<(), ServeError> {
    let count = config.workers.get();
    let plan::PlanAndKeepers {
        plan,
        feeds,
        keepers,
        keys,
    } = plan::build(config);
    let cell = Arc::new(PlanCell::from_pointee(plan));
    let (phase, phases) = watch::channel(Phase::Serving);

    let mut doors: Vec<Vec<Door>> = (0..count).map(|_| Vec::new()).collect();
    let mut sockets = SocketFiles(Vec::new());
    let mut certificates = Vec::new();
    for (index, listener) in config.listeners.iter().enumerate() {
        let shown = show_certificate(listener, config)?;
        if let Some(end) = shown.as_ref().and_then(|shown| shown.ends) {
            certificates.push((Arc::clone(&listener.name), end));
        }
        let tls = shown.map(|shown| shown.tls);
        let places = open_doors(index, listener, tls.as_ref(), &mut doors)?;
        if let ListenAddress::Unix { path, .. } = &listener.address {
            sockets.0.push(path.clone());
        }
        tracing::info!(listener = %listener.name, at = places.join(" "), tls = listener.tls.is_some(), "listening");
    }
    tell_ways(config);
    let admin_sockets = control::listen(config)?;

    // Before the first request, which would be refused without a word of the reason.
    keys::read_all(&keys).map_err(ServeError::Thread)?;

    let (lost, worker_lost) = mpsc::unbounded_channel();
    let mut workers = Vec::new();
    let mut questions: Vec<mpsc::UnboundedSender<Question>> = Vec::new();
    for (index, doors) in doors.into_iter().enumerate() {
        let (asks, asked) = mpsc::unbounded_channel();
        let post = Post {
            plan: Arc::clone(&cell),
            doors,
            questions: asked,
            phase: phases.clone(),
        };
        questions.push(asks);
        workers.push(start_worker(index, post, lost.clone())?);
    }
    let control = Control {
        config,
        feeds,
        keepers,
        keys,
        certificates,
        questions,
        phase,
        worker_lost,
    };
    control.run(admin_sockets, stops)?;
    workers.into_iter().try_for_each(join_worker)?;
    tracing::info!("ended");
    Ok(())
}

/// Waits for the end of a worker that has been told to end, but not for ever.
#[expect(
    clippy::disallowed_methods,
    reason = "this thread has nothing else to do any more"
)]
fn join_worker(worker: JoinHandle<()>) -> Result<(), ServeError> {
    let told = Instant::now();
    while !worker.is_finished() {
        if told.elapsed() > JOIN_TIME {
            return Err(ServeError::WorkerStuck);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    worker.join().map_err(|_| ServeError::WorkerLost)
}

/// One line for each server that is reached through an egress proxy.
fn tell_ways(config: &Config) {
    for (table, name, origin) in config.servers() {
        if let Ok(Some(proxy)) = origin.way() {
            let (server, through) = (origin.url(), proxy.url());
            tracing::info!(of = %format_args!("{table}.{name}"), server, through, "reached through an egress proxy");
        }
    }
}

/// Listens at a listener's address, with a door for every worker; returns where.
fn open_doors(
    index: usize,
    listener: &Listener,
    tls: Option<&Arc<ServerConfig>>,
    doors: &mut [Vec<Door>],
) -> Result<Vec<String>, ServeError> {
    let bound =
        listen::listen(&listener.address, doors.len()).map_err(|error| ServeError::Listen {
            name: format!("listener.{}", listener.name),
            address: match &listener.address {
                ListenAddress::Tcp(addresses) => {
                    let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                    addresses.join(" ")
                }
                ListenAddress::Unix { path, .. } => path.display().to_string(),
            },
            error,
        })?;
    let open = Arc::new(AtomicUsize::new(0));
    for (doors, sockets) in doors.iter_mut().zip(bound.per_worker) {
        doors.extend(sockets.into_iter().map(|socket| Door {
            listener: index,
            name: Arc::clone(&listener.name),
            socket,
            tls: tls.map(Arc::clone),
            limits: Limits {
                head_timeout: listener.head_timeout,
                park_after: PARK_AFTER,
                keep_alive: listener.keep_alive,
                stall_timeout: listener.stall_timeout,
                max_head_size: listener.max_head_size,
            },
            open: Arc::clone(&open),
            max_open: listener.max_connections,
        }));
    }
    Ok(bound.places)
}

/// What a listener shows, if it speaks TLS.
fn show_certificate(listener: &Listener, config: &Config) -> Result<Option<Shown>, ServeError> {
    let Some(tls) = &listener.tls else {
        return Ok(None);
    };
    let shown = certificate::show(tls, listener.client_ca.as_deref(), &config.state_dir);
    let shown = shown.map_err(|error| ServeError::Certificate {
        name: listener.name.to_string(),
        error,
    })?;
    if let Some(ca) = &shown.ca {
        tracing::info!(listener = %listener.name, ca = %ca.display(), "clients have to trust this local CA");
    }
    Ok(Some(shown))
}

/// Starts a worker's thread; one that ends, by a panic too, says so.
fn start_worker(
    index: usize,
    post: Post,
    lost: mpsc::UnboundedSender<usize>,
) -> Result<JoinHandle<()>, ServeError> {
    struct TellsItsEnd(usize, mpsc::UnboundedSender<usize>);
    impl Drop for TellsItsEnd {
        fn drop(&mut self) {
            let _ = self.1.send(self.0);
        }
    }
    let work = move || {
        let _tells_its_end = TellsItsEnd(index, lost);
        if let Err(error) = worker::run(post) {
            tracing::error!(worker = index, %error, "a worker cannot go on");
        }
    };
    std::thread::Builder::new()
        .name(format!("worker-{index}"))
        .spawn(work)
        .map_err(ServeError::Thread)
}

/// Files of unix sockets, removed at the end.
struct SocketFiles(Vec<PathBuf>);

impl Drop for SocketFiles {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// How long a worker may take to end once all that it does has been dropped.
const JOIN_TIME: Duration = Duration::from_secs(5);

/// How long a connection is quiet before it is parked: above what lies between two requests of a busy client, for which
/// the change would have to be paid each time.
const PARK_AFTER: Duration = Duration::from_secs(1);
