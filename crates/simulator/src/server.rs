//! The thread that serves both ports, and each request's way from the socket to the service that it is for.

use std::{
    convert::Infallible,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, StatusCode, header, request::Parts};
use http_body_util::BodyExt as _;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
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
    Options, Outage, Service, aids,
    answer::{self, Answer},
    certificates::Certificates,
    jwt, license,
    platform::{self, login::Endpoint},
    record::Recorder,
    state::State,
    target,
};

/// A running platform and License Service. They stop when it is dropped.
pub struct Simulator {
    platform_address: SocketAddr,
    license_address: SocketAddr,
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
        let (platform_address, license_address) = (platform.local_addr()?, license.local_addr()?);
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
        let ports = [
            (platform, port(Service::Platform)),
            (license, port(Service::License)),
        ];
        let thread = thread::Builder::new()
            .name("simulator".to_owned())
            .spawn(move || serve(&runtime, ports, stopped))?;
        Ok(Self {
            platform_address,
            license_address,
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
            .field("tls", &self.certificates.is_some())
            .finish_non_exhaustive()
    }
}

struct Shared {
    state: Mutex<State>,
    recorder: Mutex<Recorder>,
    /// Every connection ends when this changes.
    closing: watch::Sender<()>,
}

impl Shared {
    /// A panic while it was held leaves the state as good as before: each change is one assignment.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn recorder(&self) -> MutexGuard<'_, Recorder> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
struct Port {
    service: Service,
    acceptor: Option<TlsAcceptor>,
    shared: Arc<Shared>,
}

impl Port {
    /// The path as the service sees it. License Service may live under a base path of an ingress, which takes it
    /// off; outside of that, nobody answers.
    fn inner_path(&self, path: &str) -> Option<String> {
        let state = self.shared.state();
        let base = match self.service {
            Service::Platform => "",
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
    ports: [(std::net::TcpListener, Port); 2],
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

/// Why a connection ends without an answer.
#[derive(Debug, thiserror::Error)]
enum Abandoned {
    /// The outage asks for it.
    #[error("closed on purpose")]
    OnPurpose,
    /// The request's body did not arrive whole.
    #[error("the request broke off")]
    BrokenRequest,
}

async fn respond(
    port: &Port,
    connection: u64,
    request: Request<Incoming>,
) -> Result<Answer, Abandoned> {
    let shared = &port.shared;
    let (head, body) = request.into_parts();
    let sequence = shared.recorder().begin(port.service, connection, &head);
    let Some(inner) = port.inner_path(head.uri.path()) else {
        return Ok(answer::not_found());
    };
    let segments = target::segments(&inner);
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    if let ["simulator", "mirror"] = segments.as_slice() {
        return Ok(mirror(shared, sequence, &head, body));
    }
    let Some(request) = receive(shared, sequence, head, body).await? else {
        return Ok(answer::html(
            StatusCode::PAYLOAD_TOO_LARGE,
            "Payload Too Large\n",
        ));
    };
    if let ["simulator", aid @ ..] = segments.as_slice() {
        return Ok(aids::answer(&request, aid).await);
    }
    match port.service {
        Service::License => Ok(license::answer(&shared.state(), &request, &inner)),
        Service::Platform => match Endpoint::at(&segments) {
            Some(endpoint) => login(shared, endpoint, &request).await,
            None => Ok(platform::answer(&mut shared.state(), &request, &segments)),
        },
    }
}

/// Reads the whole body; `None` if it is larger than any API call may be.
async fn receive(
    shared: &Shared,
    sequence: u64,
    head: Parts,
    mut body: Incoming,
) -> Result<Option<Request<Bytes>>, Abandoned> {
    let mut whole = BytesMut::new();
    let mut too_large = false;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Abandoned::BrokenRequest)?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        shared.recorder().extend(sequence, &data);
        too_large |= whole.len() + data.len() > LARGEST_BODY;
        if !too_large {
            whole.extend_from_slice(&data);
        }
    }
    shared.recorder().complete(sequence);
    Ok((!too_large).then(|| Request::from_parts(head, whole.freeze())))
}

/// Sends the body back while it arrives, of any size.
fn mirror(shared: &Arc<Shared>, sequence: u64, head: &Parts, body: Incoming) -> Answer {
    let shared = Arc::clone(shared);
    let body = body.map_frame(move |frame| {
        if let Some(data) = frame.data_ref() {
            shared.recorder().extend(sequence, data);
        }
        frame
    });
    let mut answer = Answer::new(body.boxed_unsync());
    if let Some(content_type) = head.headers.get(header::CONTENT_TYPE) {
        answer
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type.clone());
    }
    answer
}

async fn login(
    shared: &Shared,
    endpoint: Endpoint,
    request: &Request<Bytes>,
) -> Result<Answer, Abandoned> {
    let (delay, outage, retry_after) = {
        let mut state = shared.state();
        endpoint.tally(&mut state.logins).attempts += 1;
        (state.login_delay, state.outage, state.retry_after)
    };
    if !delay.is_zero() {
        sleep(delay).await;
    }
    let mut answer = match outage {
        None => {
            return Ok(platform::login::answer(
                &mut shared.state(),
                endpoint,
                request,
            ));
        }
        Some(Outage::Closed) => return Err(Abandoned::OnPurpose),
        Some(Outage::Hanging) => std::future::pending().await,
        Some(Outage::Unavailable) => answer::application_not_available(),
        Some(Outage::RateLimited) => {
            answer::zen_error(StatusCode::TOO_MANY_REQUESTS, "Too many requests")
        }
    };
    if let Some(pause) = retry_after {
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(pause.as_secs()));
    }
    Ok(answer)
}

const LARGEST_BODY: usize = 8 * 1024 * 1024;
