//! `[caller.NAME]`: who may call, how it is known, and what it may do.

use std::{net::IpAddr, sync::Arc};

use http::HeaderName;
use ipnet::{IpNet, Ipv4Net};
use token_source::{Kind, Location};
use toml::{Spanned, de::DeValue};

use super::{
    Declared,
    credential::Credential,
    form,
    header::{header_name, names_a_credential},
    location, rate, read_each, resolve,
    route::CheckedRoute,
    trust::is_host,
};
use crate::config::{
    Caller, CertificateName,
    reading::{Reading, Wrong},
    wire::{Named, Table},
};

pub(super) fn callers(
    root: &mut Table<'_>,
    routes: &[Declared<CheckedRoute>],
) -> Vec<Declared<Caller>> {
    root.named("caller")
        .unwrap_or_default()
        .into_iter()
        .map(|Named { name, table }| Declared {
            name: name.clone(),
            span: table.span.clone(),
            built: caller(name, table, routes),
        })
        .collect()
}

fn caller(
    name: Arc<str>,
    mut table: Table<'_>,
    routes: &[Declared<CheckedRoute>],
) -> Option<Caller> {
    if !IDENTIFIES.iter().any(|key| table.has(key)) {
        table.missing(
            "nothing says how this caller is known",
            "key = { file = \"/run/keys/NAME\" }, certificate = \"…\", networks = [\"10.0.0.0/8\"], uids = [1001] or \
             gids = [2000]",
        );
    }
    let keys = keys(&mut table);
    let certificates = one_or_more(&mut table, "certificate", certificate_name);
    let networks = one_or_more(&mut table, "networks", network);
    let uids = numbers(&mut table, "uids");
    let gids = numbers(&mut table, "gids");
    let routes = reached(&mut table, routes);
    let rate_limit = rate::rate_limit(&mut table);
    let identity_header = identity_header(&mut table);
    table.done();
    let caller = Caller {
        name,
        keys: keys?,
        certificates: certificates?,
        networks: networks?,
        uids: uids?,
        gids: gids?,
        routes: routes?,
        rate_limit: rate_limit?,
        identity_header: identity_header?,
    };
    let is_known = !(caller.keys.is_empty()
        && caller.certificates.is_empty()
        && caller.networks.is_empty()
        && caller.uids.is_empty()
        && caller.gids.is_empty());
    is_known.then_some(caller)
}

/// One place, or several while a key is replaced by another.
fn keys(table: &mut Table<'_>) -> Option<Vec<Location>> {
    let Some(value) = table.value("key") else {
        return Some(Vec::new());
    };
    let DeValue::Array(list) = value.get_ref() else {
        return Some(vec![location::secret(table, "key")?]);
    };
    refuse_empty(table, "key", list.is_empty())?;
    let keys: Vec<_> = list
        .iter()
        .filter_map(|value| match value.get_ref() {
            DeValue::Table(entries) => {
                form::location(Table::new(table.reading, value.span(), entries))
            }
            _ => {
                table.reading.mistake(
                    value.span(),
                    "a secret is never written in the configuration",
                    format!("write where it is read: {}", form::forms("key")),
                );
                None
            }
        })
        .collect();
    (keys.len() == list.len()).then_some(keys)
}

/// A text or a list of them, each of which is to be right.
fn one_or_more<T>(
    table: &mut Table<'_>,
    key: &'static str,
    read: fn(&str) -> Result<T, Wrong>,
) -> Option<Vec<T>> {
    let Some(value) = table.value(key) else {
        return Some(Vec::new());
    };
    let texts = match value.get_ref() {
        DeValue::String(_) => vec![table.text(key)?],
        _ => table.texts(key)?,
    };
    refuse_empty(table, key, texts.is_empty())?;
    read_each(table.reading, &texts, read)
}

/// An empty list would read as "none of them" to one and as "any of them" to another.
fn refuse_empty(table: &mut Table<'_>, key: &'static str, is_empty: bool) -> Option<()> {
    if is_empty {
        let span = table.key(key).unwrap_or_default();
        let hint = "write one, or leave it out";
        table.reading.mistake(span, format!("{key} is empty"), hint);
    }
    (!is_empty).then_some(())
}

fn certificate_name(text: &str) -> Result<CertificateName, Wrong> {
    const HINT: &str = "a DNS name or a URI of its subjectAltName: \"grafana.internal\", \"spiffe://example.org/grafana\"";
    if let Some((scheme, rest)) = text.split_once(':') {
        let is_scheme = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        let is_uri = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.bytes().all(is_scheme)
            && !rest.is_empty()
            && rest.bytes().all(|b| b.is_ascii_graphic());
        return match is_uri {
            true => Ok(CertificateName::Uri(text.to_owned())),
            false => Err(Wrong::new("not a name in a certificate", HINT)),
        };
    }
    if text.contains(['=', '*']) {
        return Err(Wrong::new(
            "names are compared as a whole, and the common name (CN) is not looked at",
            HINT,
        ));
    }
    if !is_host(text) || text.parse::<IpAddr>().is_ok() {
        return Err(Wrong::new("not a name in a certificate", HINT));
    }
    Ok(CertificateName::Dns(text.to_ascii_lowercase()))
}

/// A network as clients are seen to come from it: IPv4 in IPv6 clothes is IPv4.
fn network(text: &str) -> Result<IpNet, Wrong> {
    const HINT: &str = "an address and the length of its prefix: \"10.0.0.0/8\", \"fd00::/8\", or an address alone";
    let written = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text
            .parse::<IpNet>()
            .map_err(|_| Wrong::new("not a network", HINT))?,
    };
    let network = match written {
        IpNet::V6(v6) if v6.prefix_len() >= MAPPED => match v6.addr().to_ipv4_mapped() {
            Some(address) => {
                Ipv4Net::new(address, v6.prefix_len() - MAPPED).map_or(written, IpNet::V4)
            }
            None => written,
        },
        _ => written,
    };
    if network.prefix_len() == 0 {
        return Err(Wrong::new(
            "every address is in this network",
            "leave it out where something else is asked for; else anyone = true of the listener says it by name",
        ));
    }
    if network.trunc() != network {
        let hint = format!("\"{}\"", network.trunc());
        return Err(Wrong::new("the address goes beyond its prefix", hint));
    }
    Ok(network)
}

/// The outer `None` is a mistake.
fn numbers(table: &mut Table<'_>, key: &'static str) -> Option<Vec<u32>> {
    if table.key(key).is_none() {
        return Some(Vec::new());
    }
    let numbers = table.numbers(key)?;
    refuse_empty(table, key, numbers.is_empty())?;
    if numbers.contains(&OVERFLOW) {
        let span = table.key(key).unwrap_or_default();
        table.reading.warning(
            span,
            "the kernel says 65534 for every user whom it has no number for here (of another user namespace)",
            "a number of its own for the caller",
        );
    }
    Some(numbers)
}

/// The outer `None` is a mistake, the inner one a key that is not there.
fn reached(table: &mut Table<'_>, routes: &[Declared<CheckedRoute>]) -> Option<Option<Vec<usize>>> {
    if table.key("routes").is_none() {
        return Some(None);
    }
    let names = table.texts("routes")?;
    refuse_empty(table, "routes", names.is_empty())?;
    let reached: Vec<_> = names
        .iter()
        .filter_map(|name: &Spanned<String>| resolve(table.reading, routes, name, "route"))
        .collect();
    (reached.len() == names.len()).then_some(Some(reached))
}

/// The outer `None` is a mistake, the inner one a key that is not there.
fn identity_header(table: &mut Table<'_>) -> Option<Option<HeaderName>> {
    if table.key("identity_header").is_none() {
        return Some(None);
    }
    let text = table.text("identity_header")?;
    let wrong = match header_name(text.get_ref()) {
        // It is logged.
        Ok(name) if names_a_credential(name.as_str()) => Wrong::new(
            "a header of this name holds a credential, and this one is logged",
            "identity_header = \"X-Forwarded-User\"",
        ),
        // It is taken out of every request, whoever sends it.
        Ok(name) if has_a_meaning(name.as_str()) => Wrong::new(
            "this header has a meaning of its own, which requests would lose",
            "identity_header = \"X-Forwarded-User\"",
        ),
        Ok(name) => return Some(Some(name)),
        Err(wrong) => wrong,
    };
    table.reading.wrong(text.span(), wrong);
    None
}

/// Whether it says something of the content, the browser, the connection or the way, and not of a person.
fn has_a_meaning(name: &str) -> bool {
    let name = name.replace('_', "-");
    let families = ["accept", "access-control-", "content-", "if-", "sec-"];
    families.iter().any(|family| name.starts_with(family)) || MEANT.contains(&&*name)
}

/// A key of two callers would be that of the first; a credential's secret in the hands of a caller is no secret of the
/// proxy any more.
pub(super) fn refuse_shared_keys(
    reading: &Reading<'_>,
    callers: &[Declared<Caller>],
    credentials: &[Declared<Credential>],
) {
    let secrets = credentials.iter().flat_map(|credential| {
        let kind = credential.built.as_ref().map(|built| &built.settings.kind);
        let places = kind.map(Kind::places).unwrap_or_default();
        places
            .into_iter()
            .map(|(_, place)| (&*credential.name, place))
    });
    let secrets: Vec<_> = secrets.collect();
    for (index, caller) in callers.iter().enumerate() {
        let keys = |one: &Declared<Caller>| one.built.as_ref().map(|built| built.keys.clone());
        let own = keys(caller).unwrap_or_default();
        let shared = secrets.iter().find(|(_, place)| own.contains(place));
        if let Some((credential, _)) = shared {
            reading.mistake(
                caller.span.clone(),
                format!("its key is read where credential `{credential}` reads its secret"),
                "a key of its own: openssl rand -base64 24",
            );
        }
        let twin = callers[..index].iter().find(|other| {
            let others = keys(other).unwrap_or_default();
            own.iter().any(|place| others.contains(place))
        });
        if let Some(twin) = twin {
            reading.mistake(
                caller.span.clone(),
                format!("caller `{}` has its key at the same place", twin.name),
                "a key for each: nobody could tell them apart",
            );
        }
    }
}

const IDENTIFIES: [&str; 5] = ["key", "certificate", "networks", "uids", "gids"];

/// The length of the prefix `::ffff:0:0/96`.
const MAPPED: u8 = 96;

/// `/proc/sys/kernel/overflowuid`, as it is everywhere.
const OVERFLOW: u32 = 65534;

/// Lower case.
const MEANT: [&str; 14] = [
    "cache-control",
    "date",
    "forwarded",
    "http2-settings",
    "max-forwards",
    "origin",
    "pragma",
    "prefer",
    "range",
    "referer",
    "traceparent",
    "tracestate",
    "user-agent",
    "x-request-id",
];
