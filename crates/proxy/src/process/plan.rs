//! A plan and its keepers, built from a configuration.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use token_source::{Feed, Keeper, connect::Connector};

use super::{callers, keys::Key};
use crate::{
    config::{self, Config, ListenAddress, Place, Protocol},
    journey::{
        ListenerPlan, Plan,
        admit::{Admission, Users},
        attach::Attachment,
        caller::Callers,
        limit::Limit,
        pool::Upstream,
        rate::Rate,
        rewrite::{Rewrite, Via},
        route::Route,
    },
};

/// Where workers find the plan in force; written once as long as there is no reload, which would put another one there.
pub type PlanCell = ArcSwap<Plan>;

/// A plan, and what keeps its credentials fresh.
#[derive(Debug)]
pub struct PlanAndKeepers {
    /// What requests are decided by.
    pub plan: Plan,
    /// One per credential, in the configuration's order.
    pub feeds: Vec<Feed>,
    /// One per credential, to be run on the control thread.
    pub keepers: Vec<Keeper>,
    /// One per place of a caller's key, to be followed there too.
    pub keys: Vec<Key>,
}

/// Builds everything that a configuration asks for; nothing is contacted yet.
pub fn build(config: &Config) -> PlanAndKeepers {
    let (keepers, feeds): (Vec<_>, Vec<_>) =
        config.credentials.iter().cloned().map(Keeper::new).unzip();
    let via = Via::new(format!("watsonx-auth-proxy-{:08x}", fastrand::u32(..)));

    // Longest prefix first; among equals those that want a host.
    let mut order: Vec<usize> = (0..config.routes.len()).collect();
    order.sort_by_key(|&index| {
        let route = &config.routes[index];
        (std::cmp::Reverse(route.prefix.len()), route.host.is_none())
    });
    let (callers, keys) = callers::build(&config.callers, &order);
    let of_callers = callers::headers(&config.callers);
    let upstreams: Vec<_> = config
        .upstreams
        .iter()
        .map(|upstream| Arc::new(build_upstream(upstream)))
        .collect();
    let routes = order
        .iter()
        .map(|&index| build_route(&config.routes[index], &upstreams, &feeds, &via, &of_callers))
        .collect();
    let of_listener = |listener: &config::Listener| {
        let named = listener.callers.iter();
        Callers::new(named.map(|&index| Arc::clone(&callers[index])).collect())
    };
    let listeners = config.listeners.iter().map(|listener| ListenerPlan {
        name: Arc::clone(&listener.name),
        admission: build_admission(listener, &of_listener(listener)),
        callers: of_listener(listener),
        routes: (0..order.len())
            .filter(|at| listener.routes.contains(&order[*at]))
            .collect(),
    });
    let plan = Plan {
        listeners: listeners.collect(),
        routes,
        upstreams,
        access_log: config.log.access,
    };
    PlanAndKeepers {
        plan,
        feeds,
        keepers,
        keys,
    }
}

fn build_upstream(upstream: &config::Upstream) -> Upstream {
    Upstream {
        name: Arc::clone(&upstream.name),
        authority: HeaderValue::try_from(upstream.origin.authority())
            .expect("an authority is visible ASCII"),
        protocol: upstream.protocol,
        connector: match upstream.protocol {
            Protocol::Http1 => Connector::new(upstream.origin.clone()),
            // Both, so that a server without HTTP/2 says so instead of ending the handshake.
            Protocol::Http2 => Connector::offering(upstream.origin.clone(), &[b"h2", b"http/1.1"]),
        },
        connect_timeout: upstream.connect_timeout,
        first_byte_timeout: upstream.first_byte_timeout,
        idle_timeout: upstream.idle_timeout,
    }
}

fn build_route(
    route: &config::Route,
    upstreams: &[Arc<Upstream>],
    feeds: &[Feed],
    via: &Via,
    of_callers: &[HeaderName],
) -> Route {
    let upstream = &upstreams[route.upstream];
    let header_of = |place: &Place| match place {
        Place::Header { name, .. } => Some(name.clone()),
        Place::Query { .. } => None,
    };
    let query_of = |place: &Place| match place {
        Place::Query { name } => Some(name.clone()),
        Place::Header { .. } => None,
    };
    let places = || route.attach.iter().map(|attachment| &attachment.place);
    let attached_headers: Vec<HeaderName> = places().filter_map(header_of).collect();
    Route {
        name: Arc::clone(&route.name),
        prefix: route.prefix.clone(),
        host: route.host.clone(),
        upstream: route.upstream,
        base_path: upstream.connector.origin().base_path.clone(),
        strip_prefix: route.strip_prefix,
        allow: route.allow.clone(),
        deny: route.deny.clone(),
        warn: route.warn,
        public: route.public.clone(),
        token_endpoints: route.token_endpoints,
        attach: (route.attach.iter())
            .map(|attachment| Attachment {
                feed: feeds[attachment.credential].clone(),
                place: attachment.place.clone(),
            })
            .collect(),
        rewrite: Rewrite {
            attaches: !route.attach.is_empty(),
            attached_headers: attached_headers.into(),
            of_callers: of_callers.to_vec().into(),
            dropped_query: places()
                .filter_map(query_of)
                .chain(route.drop_query.iter().cloned())
                .collect(),
            default_query: route.default_query.iter().map(default_pair).collect(),
            set_headers: route.set_headers.clone(),
            pass_cookies: route.pass_cookies,
            scrub_body: route.scrub_body,
            forwarded: route.forwarded,
            host: upstream.authority.clone(),
            via: via.clone(),
        },
        max_body: route.max_body,
        limit: route.max_in_flight.map(Limit::new),
        rate: route.rate_limit.map(|limit| Arc::new(Rate::new(limit))),
        replay_limit: route.replay_limit,
    }
}

/// The decoded name to look for, and the pair to append where it is not found.
fn default_pair((name, value): &(String, String)) -> (String, String) {
    let decoded = percent_decode_str(name).decode_utf8_lossy().into_owned();
    (decoded, format!("{name}={value}"))
}

fn build_admission(listener: &config::Listener, callers: &Callers) -> Admission {
    let users = match &listener.address {
        // Who is named as a caller need not be named twice.
        ListenAddress::Unix { uids, gids, .. }
            if uids.is_empty() && gids.is_empty() && !listener.callers.is_empty() =>
        {
            None
        }
        ListenAddress::Unix { uids, gids, .. } => Some(admitted_users(uids, gids)),
        ListenAddress::Tcp(_) => None,
    };
    Admission {
        hosts: listener.hosts.clone(),
        origins: listener.origins.clone(),
        users,
        any_host: callers.are_all_proved(),
        tls: listener.tls.is_some(),
    }
}

/// The users that a unix socket names; ourselves where it names none.
fn admitted_users(uids: &[u32], gids: &[u32]) -> Users {
    let mut uids = uids.to_vec();
    #[cfg(unix)]
    if uids.is_empty() && gids.is_empty() {
        uids.push(rustix::process::getuid().as_raw());
    }
    Users {
        uids,
        gids: gids.to_vec(),
    }
}
