//! The Secrets of a Kubernetes API: `get`, `list` and `watch` of one at a time, as the API server answers them, with
//! what goes wrong there.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

/// A running API server. Its threads end with the process, or when it [`stops`](Cluster::stop).
#[derive(Debug)]
pub struct Cluster {
    address: SocketAddr,
    shared: Arc<Shared>,
}

/// What the API was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// One object by its name.
    Get,
    /// A list with the one object of that name.
    List,
    /// Changes of it from a version on.
    Watch,
}

/// How a watch ends that was going well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchEnd {
    /// As after its time, in order.
    Orderly,
    /// The connection breaks, in the middle of a line.
    Cut,
    /// An `ERROR` event with the status 410: the version is too old.
    Gone,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    stopped: bool,
    /// By `namespace/name`.
    secrets: HashMap<String, Secret>,
}

/// One Secret, which may not be there, and how the API behaves towards those who ask for it.
#[derive(Debug, Default)]
struct Secret {
    data: Option<BTreeMap<String, String>>,
    events: Vec<(u64, String)>,
    asked: Vec<Verb>,
    status: Option<u16>,
    /// How all watches end that were open when this was last set.
    ended: Option<(u64, WatchEnd)>,
    /// Each watch ends at once.
    ends_at_once: bool,
    /// Values are answered as they are, which is not base64.
    spoilt: bool,
}

impl Cluster {
    /// Starts one on a free port.
    ///
    /// # Errors
    /// Fails when it cannot listen.
    pub fn start() -> io::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Starts one at this address.
    ///
    /// # Errors
    /// Fails when it cannot listen there.
    pub fn start_at(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if served.state().stopped {
                    break;
                }
                let served = Arc::clone(&served);
                thread::spawn(move || serve(&served, &stream));
            }
        });
        Ok(Self { address, shared })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A kubeconfig that leads here, with the token that is wanted.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        kubeconfig(self.address)
    }

    /// Creates or replaces a Secret; its values are texts.
    pub fn put(&self, namespace: &str, name: &str, data: &[(&str, &str)]) {
        let data: BTreeMap<_, _> = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), BASE64_STANDARD.encode(value)))
            .collect();
        self.change(namespace, name, |secret, version| {
            let kind = match secret.data {
                Some(_) => "MODIFIED",
                None => "ADDED",
            };
            let event = json!({"type": kind, "object": object(namespace, name, &data, version)});
            secret.events.push((version, event.to_string()));
            secret.data = Some(data);
        });
    }

    /// Deletes a Secret.
    pub fn delete(&self, namespace: &str, name: &str) {
        self.change(namespace, name, |secret, version| {
            if let Some(data) = secret.data.take() {
                let object = object(namespace, name, &data, version);
                let event = json!({"type": "DELETED", "object": object});
                secret.events.push((version, event.to_string()));
            }
        });
    }

    /// Answers every request for a Secret with a status such as 403, until it is set to `None`.
    pub fn refuse(&self, namespace: &str, name: &str, status: Option<u16>) {
        self.change(namespace, name, |secret, _| secret.status = status);
    }

    /// Ends the watches of a Secret that are open now.
    pub fn end_watches(&self, namespace: &str, name: &str, end: WatchEnd) {
        self.change(namespace, name, |secret, version| {
            secret.ended = Some((version, end));
        });
    }

    /// Ends each watch of a Secret, in order, as soon as it has begun.
    pub fn end_watches_at_once(&self, namespace: &str, name: &str, at_once: bool) {
        self.change(namespace, name, |secret, _| secret.ends_at_once = at_once);
    }

    /// Answers with the values of a Secret as they are, which no client can read.
    pub fn spoil(&self, namespace: &str, name: &str, spoilt: bool) {
        self.change(namespace, name, |secret, _| secret.spoilt = spoilt);
    }

    /// What was asked about a Secret so far.
    #[must_use]
    pub fn asked(&self, namespace: &str, name: &str) -> Vec<Verb> {
        let state = self.shared.state();
        let secret = state.secrets.get(&format!("{namespace}/{name}"));
        secret.map_or_else(Vec::new, |secret| secret.asked.clone())
    }

    /// Breaks every connection and listens no more.
    pub fn stop(&self) {
        self.shared.state().stopped = true;
        self.shared.changed.notify_all();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }

    fn change(&self, namespace: &str, name: &str, change: impl FnOnce(&mut Secret, u64)) {
        let mut state = self.shared.state();
        state.version += 1;
        let version = state.version;
        let place = format!("{namespace}/{name}");
        change(state.secrets.entry(place).or_default(), version);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A kubeconfig that leads to an address, with the token that a [`Cluster`] wants.
#[must_use]
pub fn kubeconfig(address: SocketAddr) -> String {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "simulated",
        "clusters": [{"name": "simulated", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "proxy", "user": {"token": TOKEN}}],
        "contexts": [{"name": "simulated", "context": {"cluster": "simulated", "user": "proxy"}}],
    })
    .to_string()
}

/// Answers the requests of a connection, until it ends.
fn serve(shared: &Shared, stream: &TcpStream) {
    let mut lines = BufReader::new(stream);
    while let Some((target, token)) = read_head(&mut lines) {
        if shared.state().stopped || answer(shared, stream, &target, &token).is_err() {
            break;
        }
    }
}

/// The target of a GET, and the bearer token.
fn read_head(lines: &mut BufReader<&TcpStream>) -> Option<(String, String)> {
    let (mut target, mut token) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok().filter(|count| *count > 0)?;
        let line = line.trim_end();
        if line.is_empty() {
            return Some((target, token));
        }
        if let Some(rest) = line.strip_prefix("GET ") {
            target = rest.split(' ').next()?.to_owned();
        } else if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("authorization")
        {
            token = value.trim_start_matches("Bearer ").to_owned();
        }
    }
}

fn answer(shared: &Shared, stream: &TcpStream, target: &str, token: &str) -> io::Result<()> {
    let Some(request) = Request::parse(target) else {
        return send_status(stream, 404);
    };
    if token != TOKEN {
        return send_status(stream, 401);
    }
    let mut state = shared.state();
    let version = state.version;
    let secret = state.secrets.entry(request.place()).or_default();
    secret.asked.push(request.verb);
    if let Some(status) = secret.status {
        drop(state);
        return send_status(stream, status);
    }
    let data = secret.data.clone().map(|mut data| {
        if secret.spoilt {
            data.values_mut().for_each(spoil);
        }
        data
    });
    let found = data
        .as_ref()
        .map(|data| object(&request.namespace, &request.name, data, version));
    drop(state);
    match (request.verb, found) {
        (Verb::Get, Some(object)) => send(stream, 200, &object),
        (Verb::Get, None) => send_status(stream, 404),
        (Verb::List, found) => {
            let items: Vec<_> = found.into_iter().collect();
            let list = json!({
                "kind": "SecretList",
                "apiVersion": "v1",
                "metadata": {"resourceVersion": version.to_string()},
                "items": items,
            });
            send(stream, 200, &list)
        }
        (Verb::Watch, _) => watch(shared, stream, &request),
    }
}

/// Sends events of later versions than that of the request as they come, in chunks, until the watch ends.
fn watch(shared: &Shared, mut stream: &TcpStream, request: &Request) -> io::Result<()> {
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes())?;
    let began = request.version;
    let mut sent = began;
    loop {
        let (lines, end, stopped) = {
            let state = shared.state();
            let wait = |state: &mut State| {
                let Some(secret) = state.secrets.get(&request.place()) else {
                    return !state.stopped;
                };
                let has_news = secret.events.iter().any(|(version, _)| *version > sent);
                !(state.stopped || has_news || secret.end(began).is_some())
            };
            let (state, _) = shared
                .changed
                .wait_timeout_while(state, LONGEST_WATCH, wait)
                .unwrap_or_else(PoisonError::into_inner);
            let Some(secret) = state.secrets.get(&request.place()) else {
                return Err(io::ErrorKind::ConnectionAborted.into());
            };
            // Nothing that happened after the end.
            let last = secret.ended.map(|(version, _)| version);
            let last = last.filter(|version| *version > began).unwrap_or(u64::MAX);
            let is_news = |(version, _): &&(u64, String)| (sent + 1..=last).contains(version);
            let lines: Vec<_> = secret.events.iter().filter(is_news).cloned().collect();
            (lines, secret.end(began), state.stopped)
        };
        for (version, line) in lines {
            send_chunk(stream, &format!("{line}\n"))?;
            sent = version;
        }
        match end {
            None if stopped => return Err(io::ErrorKind::ConnectionAborted.into()),
            None => {}
            Some(WatchEnd::Cut) => {
                stream.write_all(b"ff\r\n{\"type\":\"MODIF")?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Some(WatchEnd::Gone) => {
                let event = json!({"type": "ERROR", "object": status(410)});
                send_chunk(stream, &format!("{event}\n"))?;
                return stream.write_all(b"0\r\n\r\n");
            }
            Some(WatchEnd::Orderly) => return stream.write_all(b"0\r\n\r\n"),
        }
    }
}

impl Secret {
    /// How a watch ends that began at a version, if it has ended.
    fn end(&self, began: u64) -> Option<WatchEnd> {
        let ended = self.ended.filter(|(version, _)| *version > began);
        ended
            .map(|(_, end)| end)
            .or(self.ends_at_once.then_some(WatchEnd::Orderly))
    }
}

struct Request {
    verb: Verb,
    namespace: String,
    name: String,
    version: u64,
}

impl Request {
    /// Only what a Role with `resourceNames` allows: one Secret, by its name.
    fn parse(target: &str) -> Option<Self> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let rest = path.strip_prefix("/api/v1/namespaces/")?;
        let (namespace, rest) = rest.split_once("/secrets")?;
        let query: HashMap<_, _> = form_urlencoded::parse(query.as_bytes()).collect();
        let (verb, name) = if let Some(name) = rest.strip_prefix('/') {
            (Verb::Get, name)
        } else {
            let name = query.get("fieldSelector")?.strip_prefix("metadata.name=")?;
            let is_watch = query.get("watch").is_some_and(|watch| watch == "true");
            (if is_watch { Verb::Watch } else { Verb::List }, name)
        };
        let version = query.get("resourceVersion").map(|version| version.parse());
        Some(Self {
            verb,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            version: version.and_then(Result::ok).unwrap_or(0),
        })
    }

    fn place(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

fn object(namespace: &str, name: &str, data: &BTreeMap<String, String>, version: u64) -> Value {
    let applied = json!({"data": data}).to_string();
    json!({
        "kind": "Secret",
        "apiVersion": "v1",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "resourceVersion": version.to_string(),
            // `kubectl apply` leaves the values here, too.
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied},
        },
        "data": data,
        "type": "Opaque",
    })
}

fn spoil(value: &mut String) {
    let bytes = BASE64_STANDARD.decode(&*value).unwrap_or_default();
    *value = String::from_utf8_lossy(&bytes).into_owned();
}

fn status(code: u16) -> Value {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        410 => "Expired",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "simulated",
        "reason": reason,
        "code": code,
    })
}

fn send_status(stream: &TcpStream, code: u16) -> io::Result<()> {
    send(stream, code, &status(code))
}

fn send(mut stream: &TcpStream, code: u16, body: &Value) -> io::Result<()> {
    let body = body.to_string();
    let head = format!(
        "HTTP/1.1 {code} Simulated\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + &body).as_bytes())
}

fn send_chunk(mut stream: &TcpStream, text: &str) -> io::Result<()> {
    stream.write_all(format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
}

const TOKEN: &str = "simulated-cluster-token-8d2e";
const LONGEST_WATCH: Duration = Duration::from_secs(300);
