//! The hosts and origins that a listener answers to, as requests write them.

use std::net::{IpAddr, Ipv6Addr};

use super::{read_each, trust::is_host};
use crate::{
    config::{reading::Wrong, wire::Table},
    host::is_odd_number,
};

pub(super) fn hosts(table: &mut Table<'_>) -> Option<Vec<String>> {
    checked_list(table, "hosts", |text| {
        const HINT: &str = "names without scheme and port: \"proxy.internal\"";
        let address = text.parse::<IpAddr>();
        let is_in_full = address.is_ok_and(|ip| !ip.to_string().eq_ignore_ascii_case(text));
        match text {
            _ if !is_host(text) => Err(Wrong::new("not a host name", HINT)),
            _ if is_odd_number(text) || is_in_full => Err(Wrong::new(
                "no request has its Host written like this",
                "an address in its usual form: \"127.0.0.1\", \"fd00::1\"",
            )),
            _ => Ok(()),
        }
    })
}

pub(super) fn origins(table: &mut Table<'_>) -> Option<Vec<String>> {
    checked_list(table, "origins", origin)
}

/// An origin as browsers write it; any other form would never be met.
fn origin(text: &str) -> Result<(), Wrong> {
    let wrong = || {
        Wrong::new(
            "not an origin",
            "scheme, host and port where it is not the usual one, each by its name: \"https://grafana.internal\"",
        )
    };
    let (authority, usual) = match text.strip_prefix("https://") {
        Some(rest) => (rest, 443),
        None => (text.strip_prefix("http://").ok_or_else(wrong)?, 80),
    };
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or_else(wrong)?;
            address.parse::<Ipv6Addr>().map_err(|_| wrong())?;
            (None, port)
        }
        None => {
            let colon = authority.find(':').unwrap_or(authority.len());
            (Some(&authority[..colon]), &authority[colon..])
        }
    };
    let is_name = |host| is_host(host) && !is_odd_number(host);
    if !host.is_none_or(is_name) {
        return Err(wrong());
    }
    if port.is_empty() {
        return Ok(());
    }
    let digits = port.strip_prefix(':').ok_or_else(wrong)?;
    match digits.parse::<u16>() {
        Ok(port) if port == usual => Err(Wrong::new(
            "browsers leave out the usual port: no request would come from this origin",
            "leave it out: \"https://grafana.internal\"",
        )),
        Ok(port) if port != 0 && port.to_string() == digits => Ok(()),
        _ => Err(wrong()),
    }
}

/// A list of names, in lower case; none where the key is not there.
fn checked_list(
    table: &mut Table<'_>,
    key: &'static str,
    check: impl Fn(&str) -> Result<(), Wrong>,
) -> Option<Vec<String>> {
    if table.key(key).is_none() {
        return Some(Vec::new());
    }
    let texts = table.texts(key)?;
    let read = |text: &str| check(text).map(|()| text.to_ascii_lowercase());
    read_each(table.reading, &texts, read)
}
