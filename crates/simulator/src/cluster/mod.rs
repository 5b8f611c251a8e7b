//! The Secrets of a Kubernetes API: `get`, `list` and `watch` of one at a time, as the API server answers them, with
//! what goes wrong there.

mod serve;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
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
        Self::start_on(TcpListener::bind(("127.0.0.1", 0))?)
    }

    /// Starts one that listens here.
    ///
    /// # Errors
    /// Fails when its address is not known.
    pub fn start_on(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let served = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if served.state().stopped {
                    break;
                }
                let served = Arc::clone(&served);
                thread::spawn(move || serve::serve(&served, &stream));
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

impl Secret {
    /// How a watch ends that began at a version, if it has ended.
    fn end(&self, began: u64) -> Option<WatchEnd> {
        let ended = self.ended.filter(|(version, _)| *version > began);
        ended
            .map(|(_, end)| end)
            .or(self.ends_at_once.then_some(WatchEnd::Orderly))
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

const TOKEN: &str = "simulated-cluster-token-8d2e";
