//! `token_endpoints` of a route: what happens to calls of the platform's own token endpoints, as written or by who can
//! call.

use toml::Spanned;

use super::{Declared, route::CheckedRoute};
use crate::config::{Listener, TokenEndpoints, wire::Table};

/// What the route says.
pub(super) fn written(
    table: &mut Table<'_>,
    place: &str,
    attaches: bool,
) -> Option<TokenEndpoints> {
    let words = [
        ("decoy", TokenEndpoints::Decoy),
        ("deny", TokenEndpoints::Deny),
        ("forward", TokenEndpoints::Forward),
    ];
    let written = table.choice("token_endpoints", &words)?;
    match written {
        TokenEndpoints::Forward => table.reading.waive("forward", place.to_owned()),
        TokenEndpoints::Decoy if !attaches => {
            let span = table.value("token_endpoints").map(Spanned::span);
            table.reading.mistake(
                span.unwrap_or_default(),
                "this route attaches nothing: a client with a decoy would be turned away",
                "attach = \"NAME\", or leave it out: clients log in at the upstream themselves",
            );
        }
        TokenEndpoints::Decoy | TokenEndpoints::Deny => {}
    }
    Some(written)
}

/// Where nothing is written, clients of this machine get decoys, and others nothing: those who may call a shared
/// listener know that it is a proxy.
pub(super) fn settle(routes: &mut [Declared<CheckedRoute>], listeners: &[Declared<Listener>]) {
    for (index, checked) in routes.iter_mut().enumerate() {
        let Some(checked) = &mut checked.built else {
            continue;
        };
        let is_local = (listeners.iter().filter_map(|one| one.built.as_ref()))
            .filter(|listener| listener.routes.contains(&index))
            .all(|listener| listener.address.is_local());
        if is_local && !checked.has_token_endpoints && !checked.route.attach.is_empty() {
            checked.route.token_endpoints = TokenEndpoints::Decoy;
        }
    }
}
