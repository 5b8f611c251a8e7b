//! Callers as the journey knows them, built from a configuration.

use std::sync::Arc;

use http::HeaderName;

use super::keys::Key;
use crate::{
    config,
    journey::{
        admit::Users,
        caller::{Caller, KeyCell, PROXY_KEY},
        rate::Rate,
    },
};

/// All callers, and the places of their keys. `order` has the configuration's index of each of the plan's routes.
pub(super) fn build(callers: &[config::Caller], order: &[usize]) -> (Vec<Arc<Caller>>, Vec<Key>) {
    let mut keys = Vec::new();
    let callers = callers.iter().map(|caller| {
        let followed = caller.keys.iter().map(|place| {
            let cell = Arc::new(KeyCell::default());
            keys.push(Key::new(&caller.name, place.clone(), Arc::clone(&cell)));
            cell
        });
        Arc::new(Caller {
            name: Arc::clone(&caller.name),
            keys: followed.collect(),
            certificates: caller.certificates.clone(),
            networks: caller.networks.clone(),
            users: users(caller),
            reaches: (caller.routes.as_ref()).map(|reached| in_plan(reached, order)),
            rate: caller.rate_limit.map(Rate::new),
            identity_header: caller.identity_header.clone(),
        })
    });
    (callers.collect(), keys)
}

/// Headers that are between callers and the proxy.
pub(super) fn headers(callers: &[config::Caller]) -> Vec<HeaderName> {
    let identities = callers
        .iter()
        .filter_map(|caller| caller.identity_header.clone());
    let key = callers.iter().any(|caller| !caller.keys.is_empty());
    identities.chain(key.then_some(PROXY_KEY)).collect()
}

fn users(caller: &config::Caller) -> Option<Users> {
    let is_asked = !(caller.uids.is_empty() && caller.gids.is_empty());
    is_asked.then(|| Users {
        uids: caller.uids.clone(),
        gids: caller.gids.clone(),
    })
}

fn in_plan(routes: &[usize], order: &[usize]) -> Vec<usize> {
    (0..order.len())
        .filter(|at| routes.contains(&order[*at]))
        .collect()
}
