//! What holds where the operator says nothing.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    path::PathBuf,
    thread,
    time::Duration,
};

use super::{Log, source::Environment};

pub(super) const DRAIN_DELAY: Duration = Duration::ZERO;
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const POLL: Duration = Duration::from_secs(5);

pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(120);
pub(super) const STALL_TIMEOUT: Duration = Duration::from_secs(5 * 60);
pub(super) const MAX_HEAD_SIZE: usize = 64 * 1024;
pub(super) const MAX_CONNECTIONS: usize = 10_000;
pub(super) const SOCKET_MODE: u32 = 0o600;

pub(super) const REPLAY_LIMIT: usize = 256 * 1024;

pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Half an hour: IBM's own clients wait as long for a model.
pub(super) const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(30 * 60);
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// Where a pod finds the token of its service account.
pub(super) const SERVICE_ACCOUNT_TOKEN: &str =
    "/var/run/secrets/kubernetes.io/serviceaccount/token";

pub(super) const ADMIN_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);
pub(super) const LISTEN_ADDRESS: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// One for each core, and four at most: more cost memory and serve nobody.
pub(super) fn workers() -> NonZeroUsize {
    let four = NonZeroUsize::new(4).expect("four is not zero");
    thread::available_parallelism().map_or(NonZeroUsize::MIN, |cores| cores.min(four))
}

pub(super) fn log() -> Log {
    Log {
        json: None,
        level: "info".to_owned(),
        access: true,
    }
}

/// systemd's `StateDirectory=`, else the user's, else the system's.
pub(super) fn state_dir(environment: &Environment) -> PathBuf {
    if let Some(given) = environment.path("STATE_DIRECTORY") {
        return given;
    }
    environment
        .path("XDG_STATE_HOME")
        .or_else(|| {
            environment
                .path("HOME")
                .map(|home| home.join(".local/state"))
        })
        .unwrap_or_else(|| PathBuf::from("/var/lib"))
        .join("watsonx-auth-proxy")
}
