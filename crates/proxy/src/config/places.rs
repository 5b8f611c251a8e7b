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
            callers,
            upstreams,
            credentials,
            workers: _,
            admin: _,
            routes: _,
            log: _,
            poll: _,
            state_dir: _,
            drain_delay: _,
            drain_timeout: _,
            waivers: _,
        } = self;
        let shown = listeners.iter().flat_map(|listener| match &listener.tls {
            Some(ListenerTls::Files { certificate, key }) => vec![certificate, key],
            Some(ListenerTls::SelfSigned) | None => Vec::new(),
        });
        let authorities = listeners.iter().filter_map(|one| one.client_ca.as_ref());
        let shown = shown.chain(authorities).map(|path| Location::File {
            path: path.clone(),
            field: None,
        });
        let keys = callers
            .iter()
            .flat_map(|caller| caller.keys.iter().cloned());
        let servers = upstreams.iter().map(|upstream| &upstream.origin);
        let logins = credentials.iter().flat_map(|one| one.kind.servers());
        let read = (credentials.iter()).flat_map(|one| one.kind.places());
        shown
            .chain(keys)
            .chain(servers.chain(logins).flat_map(Origin::places))
            .chain(read.map(|(_, place)| place.clone()))
            .collect()
    }
}
