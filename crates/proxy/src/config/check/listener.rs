//! `[listener.NAME]`: addresses that clients connect to, and who can reach them.

use std::{path::PathBuf, sync::Arc};

use toml::Spanned;

use super::{
    Declared, address,
    admission::{self, Ways},
    host::{hosts, origins},
    location, resolve_each,
    route::CheckedRoute,
};
use crate::config::{
    Caller, ListenAddress, Listener, ListenerTls, defaults,
    reading::{Reading, Span},
    wire::{Named, Table},
};

/// A listener and where its address is written.
pub(super) fn listeners(
    root: &mut Table<'_>,
    routes: &[Declared<CheckedRoute>],
    callers: &[Declared<Caller>],
) -> Vec<Declared<Listener>> {
    let reading = root.reading;
    let Some(tables) = root.named("listener") else {
        reading.mistake_of_file(
            "there is no listener: nobody could call",
            "[listener.local] with address = \"127.0.0.1:8080\"",
        );
        return Vec::new();
    };
    let listeners: Vec<_> = tables
        .into_iter()
        .map(|Named { name, mut table }| {
            let span = table
                .value("address")
                .map_or(table.span.clone(), Spanned::span);
            Declared {
                name: name.clone(),
                span,
                built: listener(name, table, routes, callers),
            }
        })
        .collect();
    if listeners.iter().all(|listener| listener.built.is_some()) {
        let unserved = ("no listener serves this route", "routes");
        warn_of_unnamed(reading, &listeners, routes, |one| &one.routes, unserved);
        let unnamed = ("no listener names this caller", "callers");
        warn_of_unnamed(reading, &listeners, callers, |one| &one.callers, unnamed);
    }
    listeners
}

fn listener(
    name: Arc<str>,
    mut table: Table<'_>,
    routes: &[Declared<CheckedRoute>],
    callers: &[Declared<Caller>],
) -> Option<Listener> {
    let address = address(&mut table);
    let tls = tls(&mut table, address.as_ref());
    let hosts = hosts(&mut table);
    let origins = origins(&mut table);
    let mut timeout = |key, default| table.duration(key).unwrap_or(default);
    let head_timeout = timeout("head_timeout", defaults::HEAD_TIMEOUT);
    let keep_alive = timeout("keep_alive", defaults::KEEP_ALIVE);
    let stall_timeout = timeout("stall_timeout", defaults::STALL_TIMEOUT);
    let max_head_size = max_head_size(&mut table);
    let max_connections = table.number("max_connections", 1);
    let served = served(&mut table, routes);
    let ways = Ways {
        address: address.as_ref(),
        has_tls: !matches!(tls, Some(None)),
        client_ca: tls
            .as_ref()
            .and_then(|tls| tls.as_ref()?.client_ca.as_ref()),
    };
    // Where neither is written, that is told instead.
    let says_who = table.has("callers") || table.has("anyone");
    let admitted = admission::admitted(&mut table, &ways, callers, &name);
    let span = table.span.clone();
    let at = table.key("address").unwrap_or_else(|| span.clone());
    let reading = table.reading;
    table.done();

    if let (Some(address), Some(named)) = (&address, &admitted) {
        let named = named.iter().filter_map(|at| callers[*at].built.as_ref());
        warn_of_closed_socket(reading, &at, address, named);
    }
    let (address, served) = (address?, served?);
    refuse_two_of_one_path(reading, routes, &served);
    if says_who && admitted.is_some() && !address.is_local() {
        refuse_unlimited_routes(reading, routes, &served, &name);
    }
    if served.is_empty() && !routes.is_empty() {
        reading.mistake(
            span,
            "this listener serves no route",
            "routes = [\"NAME\"], or leave it out",
        );
    }
    let (tls, client_ca) = match tls? {
        Some(tls) => (Some(tls.shown), tls.client_ca.map(Spanned::into_inner)),
        None => (None, None),
    };
    Some(Listener {
        name,
        address,
        tls,
        client_ca,
        callers: admitted?,
        hosts: hosts?,
        origins: origins?,
        head_timeout,
        keep_alive,
        stall_timeout,
        max_head_size: max_head_size?,
        max_connections: max_connections.map_or(defaults::MAX_CONNECTIONS, |n| n as usize),
        routes: served,
    })
}

fn address(table: &mut Table<'_>) -> Option<ListenAddress> {
    let reading = table.reading;
    let mode = mode(table);
    let uids = table.numbers("uids");
    let gids = table.numbers("gids");
    if table.key("address").is_none() {
        table.missing(
            "a listener needs an address",
            "address = \"127.0.0.1:8080\"",
        );
    }
    let text = table.text("address")?;
    match address::listen_address(text.get_ref()) {
        Err(wrong) => {
            reading.wrong(text.span(), wrong);
            None
        }
        Ok(address::Written::Tcp(addresses)) => {
            for key in ["mode", "uids", "gids"] {
                if let Some(span) = table.key(key) {
                    let hint = "address = \"unix:/run/…/proxy.sock\", or leave it out";
                    reading.mistake(span, format!("{key} is for unix sockets"), hint);
                }
            }
            reading.show(text.span());
            Some(ListenAddress::Tcp(addresses))
        }
        Ok(address::Written::Unix(path)) => {
            let path = location::resolve_noting(reading, &Spanned::new(text.span(), path))?;
            if path.as_os_str().len() > LONGEST_SOCKET_PATH {
                let what = format!("longer than {LONGEST_SOCKET_PATH} bytes");
                reading.mistake(text.span(), what, "the kernel's limit for unix sockets");
                return None;
            }
            Some(ListenAddress::Unix {
                path,
                mode: mode.unwrap_or(defaults::SOCKET_MODE),
                uids: uids.unwrap_or_default(),
                gids: gids.unwrap_or_default(),
            })
        }
    }
}

/// Those who are named must be able to open the socket, before anybody asks who they are.
fn warn_of_closed_socket<'a>(
    reading: &Reading<'_>,
    span: &Span,
    address: &ListenAddress,
    callers: impl Iterator<Item = &'a Caller>,
) {
    let ListenAddress::Unix {
        mode, uids, gids, ..
    } = address
    else {
        return;
    };
    let callers: Vec<_> = callers.collect();
    let mut users = (callers.iter().flat_map(|caller| &caller.uids)).chain(uids);
    let mut groups = (callers.iter().flat_map(|caller| &caller.gids)).chain(gids);
    // Root opens any.
    let is_other = |uid: &u32| ![0, own_user()].contains(uid);
    if mode & 0o022 == 0 && (users.any(is_other) || groups.next().is_some()) {
        reading.warning(
            span.clone(),
            format!("with mode {mode:04o} nobody but the user of the proxy can open this socket"),
            "mode = \"0666\": uids and gids say who may call",
        );
    }
}

#[cfg(unix)]
fn own_user() -> u32 {
    rustix::process::getuid().as_raw()
}

/// There are no unix sockets.
#[cfg(not(unix))]
fn own_user() -> u32 {
    0
}

fn mode(table: &mut Table<'_>) -> Option<u32> {
    let text = table.text("mode")?;
    let mode = u32::from_str_radix(text.get_ref(), 8)
        .ok()
        .filter(|mode| *mode <= 0o777);
    if mode.is_some() {
        table.reading.show(text.span());
    } else {
        let hint = "octal digits in quotes, such as \"0660\"";
        table.reading.mistake(text.span(), "not a file mode", hint);
    }
    mode
}

/// What a listener shows, and by whom the certificates that it wants to see are signed.
struct CheckedTls {
    shown: ListenerTls,
    client_ca: Option<Spanned<PathBuf>>,
}

/// The outer `None` is a mistake, the inner one a key that is not there.
fn tls(table: &mut Table<'_>, address: Option<&ListenAddress>) -> Option<Option<CheckedTls>> {
    let Some(mut tls) = table.table("tls") else {
        return table.key("tls").is_none().then_some(None);
    };
    let reading = tls.reading;
    let span = tls.span.clone();
    let self_signed = tls.boolean("self_signed").unwrap_or(false);
    let keys = [tls.key("certificate"), tls.key("key")];
    let certificate = location::file_at_start(&mut tls, "certificate");
    let key = location::file_at_start(&mut tls, "key");
    let client_ca = client_ca(&mut tls);
    tls.done();
    let shown = match (self_signed, keys) {
        (true, [None, None]) => {
            let is_loopback =
                |address| matches!(address, &ListenAddress::Tcp(_)) && address.is_local();
            if address.is_none_or(is_loopback) {
                Some(ListenerTls::SelfSigned)
            } else {
                let hint = "certificate and key for an address that others reach";
                reading.mistake(span, "self_signed is for loopback addresses", hint);
                None
            }
        }
        (false, [Some(_), Some(_)]) => Some(ListenerTls::Files {
            certificate: certificate?,
            key: key?,
        }),
        _ => {
            reading.mistake(
                span,
                "tls is either certificate and key, or self_signed",
                "{ certificate = \"tls.crt\", key = \"tls.key\" } or { self_signed = true }",
            );
            None
        }
    };
    Some(Some(CheckedTls {
        shown: shown?,
        client_ca: client_ca?,
    }))
}

/// The outer `None` is a mistake, the inner one a key that is not there.
fn client_ca(tls: &mut Table<'_>) -> Option<Option<Spanned<PathBuf>>> {
    let Some(span) = tls.key("client_ca") else {
        return Some(None);
    };
    Some(Some(Spanned::new(
        span,
        location::file_at_start(tls, "client_ca")?,
    )))
}

fn max_head_size(table: &mut Table<'_>) -> Option<usize> {
    if table.key("max_head_size").is_none() {
        return Some(defaults::MAX_HEAD_SIZE);
    }
    let size = table.size("max_head_size")?;
    // hyper refuses to work with less.
    let is_right = (8 * 1024..=1024 * 1024).contains(size.get_ref());
    if !is_right {
        let hint = "64 KiB is the default";
        table
            .reading
            .mistake(size.span(), "not from 8KiB to 1MiB", hint);
    }
    usize::try_from(size.into_inner()).ok().filter(|_| is_right)
}

/// Indexes of the routes that are served here: those that are named, or all.
fn served(table: &mut Table<'_>, routes: &[Declared<CheckedRoute>]) -> Option<Vec<usize>> {
    if table.key("routes").is_none() {
        return Some((0..routes.len()).collect());
    }
    let names = table.texts("routes")?;
    let served = resolve_each(table.reading, routes, &names, "route")?;
    Some(served.into_iter().map(|(_, index)| index).collect())
}

fn refuse_unlimited_routes(
    reading: &Reading<'_>,
    routes: &[Declared<CheckedRoute>],
    served: &[usize],
    listener: &str,
) {
    for route in served.iter().map(|index| &routes[*index]) {
        if route.built.as_ref().is_some_and(|built| !built.is_limited) {
            reading.mistake(
                route.span.clone(),
                format!("listener `{listener}` is open to others, and this route lets everything pass"),
                "preset = \"watsonx\" or \"license-service\", or allow = [\"GET /v2/*\"]; allow = [\"*\"] waives it",
            );
        }
    }
}

fn refuse_two_of_one_path(
    reading: &Reading<'_>,
    routes: &[Declared<CheckedRoute>],
    served: &[usize],
) {
    let served: Vec<_> = served
        .iter()
        .filter_map(|index| routes[*index].built.as_ref())
        .collect();
    for (index, one) in served.iter().enumerate() {
        let twin = served[..index].iter().find(|other| {
            one.route.prefix == other.route.prefix && one.route.host == other.route.host
        });
        if let Some(twin) = twin {
            reading.mistake(
                one.path.clone(),
                format!("route `{}` has the same path and host", twin.route.name),
                "change one of them, or serve them on two listeners: routes = [\"NAME\"]",
            );
        }
    }
}

/// Nobody is to believe that a table does something: what no listener names is told.
fn warn_of_unnamed<T>(
    reading: &Reading<'_>,
    listeners: &[Declared<Listener>],
    declared: &[Declared<T>],
    named: fn(&Listener) -> &[usize],
    (what, key): (&'static str, &str),
) {
    for (index, one) in declared.iter().enumerate() {
        let names_it = |listener: &Declared<Listener>| {
            (listener.built.as_ref()).is_some_and(|built| named(built).contains(&index))
        };
        if !listeners.iter().any(names_it) {
            let hint = format!("add \"{}\" to the {key} of a listener", one.name);
            reading.warning(one.span.clone(), what, hint);
        }
    }
}

/// `sockaddr_un` has 108 bytes, the last of them zero.
const LONGEST_SOCKET_PATH: usize = 107;
