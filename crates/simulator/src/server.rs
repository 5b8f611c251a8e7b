//! The thread that serves the ports: listening, TLS, connections, and the end of them.

use std::{
    convert::Infallible,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    runtime::Runtime,
    sync::{oneshot, watch},
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    Options, Service, certificates::Certificates, jwt, record::Recorder, respond::respond,
    state::State,
};

/// A running platform and License Service. They stop when it is dropped.
pub struct Simulator {
    platform_address: SocketAddr,
    license_address: SocketAddr,
    data_platform_address: Option<SocketAddr>,
    certificates: Option<Certificates>,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Simulator {
    /// Starts both services on a thread of their own and returns once they listen.
    ///
    /// # Errors
    /// Fails when an address cannot be listened on or the thread cannot be started.
    pub fn start(options: Options) -> io::Result<Self> {
        jwt::prepare();
        let certificates = options
            .tls
            .then(Certificates::generate)
            .transpose()
            .map_err(io::Error::other)?;
        let acceptor = certificates
            .as_ref()
            .map(|certificates| TlsAcceptor::from(Arc::clone(&certificates.server)));
        let platform = listen(options.platform_address)?;
        let license = listen(options.license_address)?;
        let data_platform = options.data_platform_address.map(listen).transpose()?;
        let (platform_address, license_address) = (platform.local_addr()?, license.local_addr()?);
        let data_platform_address = data_platform
            .as_ref()
            .map(std::net::TcpListener::local_addr)
            .transpose()?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(options)),
            recorder: Mutex::default(),
            closing: watch::Sender::new(()),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let port = |service| Port {
            service,
            acceptor: acceptor.clone(),
            shared: Arc::clone(&shared),
        };
        let mut ports = vec![
            (platform, port(Service::Platform)),
            (license, port(Service::License)),
        ];
        ports.extend(data_platform.map(|listener| (listener, port(Service::DataPlatform))));
        let thread = thread::Builder::new()
            .name("simulator".to_owned())
            .spawn(move || serve(&runtime, ports, stopped))?;
        Ok(Self {
            platform_address,
            license_address,
            data_platform_address,
            certificates,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// The platform's base URL, without a slash at the end.
    #[must_use]
    pub fn platform_url(&self) -> String {
        self.url(self.platform_address)
    }

    /// License Service's base URL with its base path, without a slash at the end.
    #[must_use]
    pub fn license_url(&self) -> String {
        let base = self.state().options.license_base_path.clone();
        self.url(self.license_address) + base.as_deref().unwrap_or_default()
    }

    /// The base URL of the Watson Data APIs (`/v2`), without a slash at the end: the platform's, unless they have a
    /// host of their own.
    #[must_use]
    pub fn data_platform_url(&self) -> String {
        self.url(self.data_platform_address.unwrap_or(self.platform_address))
    }

    pub(crate) fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    pub(crate) fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.shared.recorder()
    }

    pub(crate) fn close_all(&self) {
        self.shared.closing.send_replace(());
    }

    fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.certificates.is_some() {
            "https"
        } else {
            "http"
        };
        if address.ip().is_unspecified() {
            format!("{scheme}://localhost:{}", address.port())
        } else {
            format!("{scheme}://{address}")
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has already been printed.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Simulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulator")
            .field("platform_address", &self.platform_address)
            .field("license_address", &self.license_address)
            .field("data_platform_address", &self.data_platform_address)
            .field("tls", &self.certificates.is_some())
            .finish_non_exhaustive()
    }
}

pub(crate) struct Shared {
    state: Mutex<State>,
    recorder: Mutex<Recorder>,
    /// Every connection ends when this changes.
    closing: watch::Sender<()>,
}

impl Shared {
    /// A panic while it was held leaves the state as good as before: each change is one assignment.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
pub(crate) struct Port {
    pub(crate) service: Service,
    acceptor: Option<TlsAcceptor>,
    pub(crate) shared: Arc<Shared>,
}

impl Port {
    /// The path as the service sees it. License Service may live under a base path of an ingress, which takes it
    /// off; outside of that, nobody answers.
    pub(crate) fn inner_path(&self, path: &str) -> Option<String> {
        let state = self.shared.state();
        let base = match self.service {
            Service::Platform | Service::DataPlatform => "",
            Service::License => state.options.license_base_path.as_deref().unwrap_or(""),
        };
        match path.strip_prefix(base)? {
            "" => Some("/".to_owned()),
            inner if inner.starts_with('/') => Some(inner.to_owned()),
            _ => None,
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Runs until the handle is dropped; whatever is still open then ends with the runtime.
fn serve(
    runtime: &Runtime,
    ports: Vec<(std::net::TcpListener, Port)>,
    stopped: oneshot::Receiver<Infallible>,
) {
    runtime.block_on(async {
        for (listener, port) in ports {
            let listener = TcpListener::from_std(listener)
                .expect("the listener is non-blocking and the runtime has IO");
            tokio::spawn(accept(listener, port));
        }
        // The sender never sends: it is dropped.
        let _ = stopped.await;
    });
}

async fn accept(listener: TcpListener, port: Port) {
    let mut connection = 0;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely: let some connections end first.
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        // An answer in small pieces must not wait for acknowledgements; without it the answer is only slower.
        let _ = stream.set_nodelay(true);
        let port = port.clone();
        tokio::spawn(async move {
            match &port.acceptor {
                None => converse(stream, connection, &port).await,
                Some(acceptor) => {
                    // A client that does not trust the certificate leaves here.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        converse(stream, connection, &port).await;
                    }
                }
            }
        });
        connection += 1;
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, connection: u64, port: &Port) {
    let mut closing = port.shared.closing.subscribe();
    let service = service_fn(|request| respond(port, connection, request));
    let conversation = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // How a client ends its connection is no matter for the server.
        _ = conversation => {}
        _ = closing.changed() => {}
    }
}
