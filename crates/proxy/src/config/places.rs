//! Where a running proxy reads: every place that a configuration names.

use token_source::{Location, Origin};

use super::{Config, ListenerTls};

impl Config {
    /// Every place that something is read from while the process lives, but for what belongs to the system.
    ///
    /// Each field is named: one that is added says here whether it has places.
    pub fn places(&self) -> Vec<Location> {
        let Self {
            listeners,
            upstreams,
            credentials,
            workers: _,
            admin: _,
            routes: _,
            log: _,
            state_dir: _,
            drain_delay: _,
            drain_timeout: _,
            waivers: _,
        } = self;
        let shown = listeners.iter().flat_map(|listener| match &listener.tls {
            Some(ListenerTls::Files { certificate, key }) => vec![certificate, key],
            Some(ListenerTls::SelfSigned) | None => Vec::new(),
        });
        let shown = shown.map(|path| Location::File {
            path: path.clone(),
            field: None,
        });
        let servers = upstreams.iter().map(|upstream| &upstream.origin);
        let logins = credentials.iter().flat_map(|one| one.kind.servers());
        let read = (credentials.iter()).flat_map(|one| one.kind.places());
        shown
            .chain(servers.chain(logins).flat_map(Origin::places))
            .chain(read.map(|(_, place)| place.clone()))
            .collect()
    }
}
