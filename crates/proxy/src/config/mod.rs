//! What did the operator ask for? The file is read key by key by `wire`, turned into a [`Config`] by `check`, and
//! its mistakes are told by [`report`]. A [`Config`] that exists is right.

mod check;
mod defaults;
mod egress;
mod flags;
mod ibm;
mod places;
mod preset;
mod reading;
pub mod report;
mod source;
#[cfg(test)]
mod tests;
mod wire;

use std::{
    net::{IpAddr, SocketAddr},
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;
use token_source::{Location, Origin};

pub use self::{
    flags::FlagForm,
    report::{Mistake, Report},
    source::{Environment, Loaded, Source},
};

/// Everything the operator asked for; references between tables are resolved to indexes.
#[derive(Debug, Clone)]
pub struct Config {
    /// Threads that carry requests.
    pub workers: NonZeroUsize,
    /// Addresses that clients connect to.
    pub listeners: Vec<Listener>,
    /// Where probes and metrics are served.
    pub admin: Admin,
    /// Where requests go.
    pub upstreams: Vec<Upstream>,
    /// What is attached.
    pub credentials: Vec<token_source::Settings>,
    /// Which requests go where, with what attached.
    pub routes: Vec<Route>,
    /// Who may call where a listener asks for it.
    pub callers: Vec<Caller>,
    /// How often the places of callers' keys are looked at.
    pub poll: Duration,
    /// What is logged, and how.
    pub log: Log,
    /// Where the proxy keeps what it makes itself (the local CA).
    pub state_dir: PathBuf,
    /// Between "not ready" and "stops accepting".
    pub drain_delay: Duration,
    /// How long requests in flight may still take.
    pub drain_timeout: Duration,
    /// Defences that the operator gave up by name; told at start and counted in `waivers{kind}`.
    pub waivers: Vec<Waiver>,
}

/// An address that clients connect to.
#[derive(Debug, Clone)]
pub struct Listener {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: ListenAddress,
    /// TLS towards clients.
    pub tls: Option<ListenerTls>,
    /// PEM file of the authorities whose client certificates are taken.
    pub client_ca: Option<PathBuf>,
    /// Indexes into [`Config::callers`] of those who may come here; empty: whoever reaches it.
    pub callers: Vec<usize>,
    /// Names, besides the loopback ones, that a `Host` may carry; lower case, no port.
    pub hosts: Vec<String>,
    /// Foreign origins that a browser may call from, as `scheme://host[:port]`, lower case.
    pub origins: Vec<String>,
    /// From the first byte of a request to the end of its head.
    pub head_timeout: Duration,
    /// How long a connection may be idle.
    pub keep_alive: Duration,
    /// How long a client may neither send the body nor read the answer.
    pub stall_timeout: Duration,
    /// Largest head of a request, in bytes.
    pub max_head_size: usize,
    /// Open connections at a time, over all workers.
    pub max_connections: usize,
    /// Indexes into [`Config::routes`] of the routes served here.
    pub routes: Vec<usize>,
}

/// Who may call: all that is said of it must hold, and something is.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Where its keys are read; any of them will do.
    pub keys: Vec<Location>,
    /// The names in its client certificate; any of them will do.
    pub certificates: Vec<CertificateName>,
    /// Where it comes from.
    pub networks: Vec<IpNet>,
    /// Its unix users.
    pub uids: Vec<u32>,
    /// Its unix groups; either is enough.
    pub gids: Vec<u32>,
    /// Indexes into [`Config::routes`] of what it may reach; `None`: all.
    pub routes: Option<Vec<usize>>,
    /// How often it may call, over all workers.
    pub rate_limit: Option<RateLimit>,
    /// The header in which it says for whom it calls.
    pub identity_header: Option<HeaderName>,
}

/// A name in a client certificate's `subjectAltName`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateName {
    /// A DNS name; lower case.
    Dns(String),
    /// A URI, such as a SPIFFE id; compared byte for byte.
    Uri(String),
}

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// So often in that time, evenly.
    pub times: NonZeroU32,
    /// A second, a minute or an hour.
    pub per: Duration,
    /// So often at once, after a pause.
    pub burst: NonZeroU32,
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// One TCP address, or both loopbacks for `localhost:PORT`.
    Tcp(Vec<SocketAddr>),
    /// A unix socket.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Its file mode; default 0600.
        mode: u32,
        /// User ids that may connect; none written: our own.
        uids: Vec<u32>,
        /// Group ids that may connect.
        gids: Vec<u32>,
    },
}

impl ListenAddress {
    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(addresses) => addresses
                .iter()
                .map(SocketAddr::ip)
                .all(|ip: IpAddr| ip.is_loopback()),
            Self::Unix { .. } => true,
        }
    }
}

/// TLS towards clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerTls {
    /// A certificate chain and key from PEM files.
    Files {
        /// The chain, leaf first.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// A certificate from a local CA that the proxy makes once and keeps in `state_dir`.
    SelfSigned,
}

/// Where probes and metrics are served.
#[derive(Debug, Clone)]
pub struct Admin {
    /// `/livez`, `/readyz`, `/metrics`; Host-checked.
    pub address: SocketAddr,
    /// Whether the operator wrote `address`: a default that is in use is a warning, a written one an error.
    pub address_is_default: bool,
    /// The same paths for kubelet and Prometheus: any Host.
    pub probes: Option<SocketAddr>,
}

/// A base URL and how it is reached.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Scheme, host, port, base path and trust.
    pub origin: Origin,
    /// What is spoken with it.
    pub protocol: Protocol,
    /// TCP connect and TLS handshake together.
    pub connect_timeout: Duration,
    /// From the last byte of the request to the first of the answer.
    pub first_byte_timeout: Duration,
    /// Between two pieces of an answer.
    pub idle_timeout: Duration,
}

/// Which requests go to which upstream, with what attached.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Decoded segments of the path prefix; empty for `/`.
    pub prefix: Vec<String>,
    /// Only for this `Host` (lower case, no port).
    pub host: Option<String>,
    /// Index into [`Config::upstreams`].
    pub upstream: usize,
    /// What is attached; empty: the client's own headers pass.
    pub attach: Vec<Attachment>,
    /// The prefix is taken off before the upstream's base path is put in front.
    pub strip_prefix: bool,
    /// What may pass; `None`: everything.
    pub allow: Option<Vec<Pattern>>,
    /// What may not, whatever `allow` says.
    pub deny: Vec<Pattern>,
    /// `allow` and `deny` are only logged.
    pub warn: bool,
    /// What is forwarded with nothing attached.
    pub public: Vec<Pattern>,
    /// What happens to calls of the platform's own token endpoints.
    pub token_endpoints: TokenEndpoints,
    /// Whether cookies pass, both ways.
    pub pass_cookies: bool,
    /// Whether the credential is looked for, and overwritten, in the bodies of answers.
    pub scrub_body: bool,
    /// Headers set on each request.
    pub set_headers: Vec<(HeaderName, HeaderValue)>,
    /// Query parameters added when absent: name and value, both percent-encoded.
    pub default_query: Vec<(String, String)>,
    /// Names of query parameters that are taken off besides the attached ones (a forged license token).
    pub drop_query: Vec<String>,
    /// Largest request body, in bytes.
    pub max_body: Option<u64>,
    /// Requests under way at a time, over all workers.
    pub max_in_flight: Option<u32>,
    /// Requests in a time, over all workers.
    pub rate_limit: Option<RateLimit>,
    /// How much of a request body is kept, in bytes, to send it once more after a 401.
    pub replay_limit: usize,
    /// What becomes of `Forwarded` and `X-Forwarded-*`.
    pub forwarded: Forwarded,
}

/// A credential on a request: where it is put.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// Index into [`Config::credentials`].
    pub credential: usize,
    /// Header or query.
    pub place: Place,
}

/// Where a credential is put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `NAME: SCHEME VALUE`; an empty scheme puts the value alone.
    Header {
        /// The header.
        name: HeaderName,
        /// The scheme, without the space.
        scheme: String,
    },
    /// `NAME=VALUE` in the query, percent-encoded.
    Query {
        /// The parameter's name.
        name: String,
    },
}

/// A method and a path as it goes upstream (after `strip_prefix`, before the upstream's base path).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// The methods; empty: any. GET includes HEAD.
    pub methods: Vec<Method>,
    /// Decoded segments that must be equal; the last one is empty where the path ends with a slash.
    pub segments: Vec<String>,
    /// A last `*`: anything may follow (at least one more segment, which may be empty).
    pub rest: bool,
}

/// What happens to calls of the platform's own token endpoints on a route that attaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenEndpoints {
    /// 403 `token_endpoint_denied`.
    Deny,
    /// Logins are answered with a token that is worth nothing; all else as by `Deny`.
    Decoy,
    /// They pass: whoever reaches the listener can take the credential away.
    Forward,
}

/// What is spoken with an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: agreed on in the TLS handshake, or simply spoken where there is none.
    Http2,
}

/// What becomes of `Forwarded` and `X-Forwarded-*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// Removed.
    Remove,
    /// The client's address is appended.
    Append,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Human or JSON; `None`: human on a terminal, JSON otherwise.
    pub json: Option<bool>,
    /// A `tracing` filter; `RUST_LOG` wins.
    pub level: String,
    /// One line per request.
    pub access: bool,
}

/// A defence that the operator gave up by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiver {
    /// `insecure`, `plain_http`, `anyone`, `allow_all`, `forward`, `scrub_body`, `plain_key`.
    pub kind: &'static str,
    /// What it was given up for, such as `upstream.platform`.
    pub place: String,
}

/// What requests are counted under that reach no route, so that no route is called so.
pub const UNROUTED: &str = "none";

/// The largest `replay_limit`, in bytes: what one worker keeps of all its requests together.
pub const LARGEST_REPLAY_LIMIT: u64 = 16 << 20;
