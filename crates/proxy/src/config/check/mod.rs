//! From the file as written to a [`Config`]: every rule is applied, and every mistake is noted.
//!
//! A table with a mistake in it becomes `None` and keeps its name and index, so that what refers to it is still
//! checked, and not told twice.

mod address;
mod admission;
mod attach;
mod caller;
mod cloud;
mod credential;
mod form;
mod header;
mod home;
mod host;
mod listener;
mod location;
mod path;
mod pattern;
mod rate;
mod route;
mod step;
mod steps;
mod template;
mod token_endpoints;
mod trust;
mod upstream;

use std::{num::NonZeroUsize, sync::Arc};

use toml::Spanned;

use super::{
    Admin, Config, Log, defaults,
    reading::{Reading, Span, Wrong},
    wire::{Table, suggest},
};

pub(super) use self::{
    address::{Written, listen_address, loopback_address},
    location::warn_if_not_there,
    path::clean_segments,
    pattern::parse_pattern,
    upstream::origin_wrong,
};

/// The configuration, without its waivers; `None` where a mistake was noted.
pub(super) fn check(mut root: Table<'_>) -> Option<Config> {
    let reading = root.reading;
    let workers = root.number("workers", 1);
    let poll = credential::poll(&mut root).unwrap_or(defaults::POLL);
    let state_dir = root.text("state_dir");
    let state_dir = state_dir.and_then(|path| location::resolve_noting(reading, &path));
    let drain_delay = root
        .duration_or_zero("drain_delay")
        .unwrap_or(defaults::DRAIN_DELAY);
    let drain_timeout = root
        .duration_or_zero("drain_timeout")
        .unwrap_or(defaults::DRAIN_TIMEOUT);
    let log = root.table("log").map_or_else(|| Some(defaults::log()), log);

    let upstreams = upstream::upstreams(&mut root);
    let credentials = credential::credentials(&mut root, &upstreams, poll);
    let mut routes = route::routes(&mut root, &upstreams, &credentials);
    let callers = caller::callers(&mut root, &routes);
    caller::refuse_shared_keys(reading, &callers, &credentials);
    let listeners = listener::listeners(&mut root, &routes, &callers);
    token_endpoints::settle(&mut routes, &listeners);
    let admin = admin(root.table("admin"), reading);
    address::refuse_shared_addresses(reading, &listeners, &admin);
    root.later(&["tracing"]);
    root.done();

    Some(Config {
        workers: workers
            .and_then(|workers| NonZeroUsize::new(workers as usize))
            .unwrap_or_else(defaults::workers),
        listeners: built(listeners, |listener| listener)?,
        admin: Admin {
            address: admin
                .address
                .as_ref()
                .map_or(defaults::ADMIN_ADDRESS, |a| *a.get_ref()),
            address_is_default: admin.address.is_none(),
            probes: admin.probes.map(Spanned::into_inner),
        },
        upstreams: built(upstreams, |upstream| upstream)?,
        credentials: built(credentials, |credential| credential.settings)?,
        routes: built(routes, |route| route.route)?,
        callers: built(callers, |caller| caller)?,
        poll,
        log: log?,
        state_dir: state_dir.unwrap_or_else(|| defaults::state_dir(reading.environment)),
        drain_delay,
        drain_timeout,
        waivers: Vec::new(),
    })
}

/// A named table that other tables refer to by its index.
struct Declared<T> {
    name: Arc<str>,
    /// Where it is named.
    span: Span,
    built: Option<T>,
}

/// All of them, or `None` where a mistake was noted in one.
fn built<T, U>(declared: Vec<Declared<T>>, part: impl Fn(T) -> U) -> Option<Vec<U>> {
    declared
        .into_iter()
        .map(|one| one.built.map(&part))
        .collect()
}

/// The index of the table that `reference` names; a mistake where there is none.
fn resolve<T>(
    reading: &Reading<'_>,
    declared: &[Declared<T>],
    reference: &Spanned<String>,
    kind: &str,
) -> Option<usize> {
    let found = declared
        .iter()
        .position(|one| *one.name == **reference.get_ref());
    let names = declared.iter().map(|one| &*one.name);
    reading.show_if_near(reference, names.clone());
    if found.is_none() {
        let hint = if declared.is_empty() {
            format!("there is no [{kind}.…] table at all")
        } else {
            suggest(reference.get_ref(), names, &format!("the {kind}s are"))
        };
        reading.mistake(
            reference.span(),
            format!("there is no {kind} of this name"),
            hint,
        );
    }
    found
}

/// Indexes of the tables that are named, each with where it is named, and each once; `None` where one is not there.
fn resolve_each<T>(
    reading: &Reading<'_>,
    declared: &[Declared<T>],
    names: &[Spanned<String>],
    kind: &str,
) -> Option<Vec<(Span, usize)>> {
    let mut found: Vec<(_, usize)> = Vec::new();
    let mut are_all = true;
    for name in names {
        match resolve(reading, declared, name, kind) {
            None => are_all = false,
            Some(index) if found.iter().any(|(_, other)| *other == index) => {
                reading.mistake(name.span(), "named twice", "leave one out");
            }
            Some(index) => found.push((name.span(), index)),
        }
    }
    are_all.then_some(found)
}

/// What texts mean, where all of them are right.
fn read_each<T>(
    reading: &Reading<'_>,
    texts: &[Spanned<String>],
    read: impl Fn(&str) -> Result<T, Wrong>,
) -> Option<Vec<T>> {
    let right = texts.iter().filter_map(|text| match read(text.get_ref()) {
        Ok(right) => Some(right),
        Err(wrong) => {
            reading.wrong(text.span(), wrong);
            None
        }
    });
    let right: Vec<_> = right.collect();
    (right.len() == texts.len()).then_some(right)
}

fn log(mut table: Table<'_>) -> Option<Log> {
    let json = table.choice("format", &[("human", false), ("json", true)]);
    let level = table.text("level");
    let access = table.boolean("access").unwrap_or(true);
    if let Some(level) = &level
        && !is_filter(level.get_ref())
    {
        table.reading.mistake(
            level.span(),
            "not a log level",
            "error, warn, info, debug, trace or off, or several such as \"info,rustls=warn\"",
        );
    }
    table.done();
    let level = level.map_or_else(|| defaults::log().level, Spanned::into_inner);
    Some(Log {
        json,
        level,
        access,
    })
}

/// `LEVEL` or `TARGET=LEVEL`, several with commas between them.
fn is_filter(text: &str) -> bool {
    text.split(',').all(|part| {
        let level = part
            .rsplit_once('=')
            .map_or(part, |(_, level)| level)
            .trim();
        let levels = ["off", "error", "warn", "info", "debug", "trace"];
        levels.iter().any(|known| known.eq_ignore_ascii_case(level))
    })
}

/// The admin addresses that the operator wrote.
struct WrittenAdmin {
    address: Option<Spanned<std::net::SocketAddr>>,
    probes: Option<Spanned<std::net::SocketAddr>>,
}

fn admin(table: Option<Table<'_>>, reading: &Reading<'_>) -> WrittenAdmin {
    let Some(mut table) = table else {
        return WrittenAdmin {
            address: None,
            probes: None,
        };
    };
    let mut read = |key, parse: fn(&str) -> Result<std::net::SocketAddr, Wrong>| {
        let text = table.text(key)?;
        match parse(text.get_ref()) {
            Ok(address) => {
                reading.show(text.span());
                Some(Spanned::new(text.span(), address))
            }
            Err(wrong) => {
                reading.wrong(text.span(), wrong);
                None
            }
        }
    };
    let address = read("address", loopback_address);
    let probes = read("probes", address::socket_address);
    table.done();
    WrittenAdmin { address, probes }
}
