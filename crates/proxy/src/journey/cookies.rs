//! Where cookies pass, those of the upstream become the listener's: it is the listener that a client gives them back to.

use http::{HeaderMap, HeaderValue, header};

use super::{
    location::{path_on_listener, prefix_on_listener},
    route::Route,
};

/// Makes each `Set-Cookie` one of the listener's, in their order. `tls`: clients speak TLS with it.
pub fn adopt(headers: &mut HeaderMap, route: &Route, tls: bool) {
    for (_, line) in headers
        .iter_mut()
        .filter(|(name, _)| *name == header::SET_COOKIE)
    {
        let adopted = adopted(line.as_bytes(), route, tls);
        if let Ok(adopted) = HeaderValue::from_bytes(&adopted) {
            *line = adopted;
        }
    }
}

/// Name and value stay byte for byte, and so does each attribute that says nothing of where the cookie belongs.
fn adopted(line: &[u8], route: &Route, tls: bool) -> Vec<u8> {
    let mut parts = line.split(|byte| *byte == b';');
    let pair = parts.next().unwrap_or_default();
    let mut adopted = pair.to_vec();
    let is_named = |start: &[u8]| {
        let name = pair.trim_ascii_start();
        name.len() >= start.len() && name[..start.len()].eq_ignore_ascii_case(start)
    };
    // Browsers refuse a cookie of such a name without `Secure`, and with any other path than `/`.
    let is_of_host = is_named(b"__host-");
    let stays_secure = tls || is_of_host || is_named(b"__secure-");
    // The last `Path` counts; without one a client takes the folder of the request, which may be above the route.
    let mut has_path = false;
    for attribute in parts {
        let at = memchr::memchr(b'=', attribute);
        let name = attribute[..at.unwrap_or(attribute.len())].trim_ascii();
        let value = at.map_or(&[][..], |at| attribute[at + 1..].trim_ascii());
        match name.to_ascii_lowercase().as_slice() {
            b"domain" => continue,
            b"secure" | b"partitioned" if !stays_secure => continue,
            // Only a secure cookie may go along from other sites.
            b"samesite" if !stays_secure && value.eq_ignore_ascii_case(b"none") => continue,
            b"path" if !is_of_host && value.starts_with(b"/") => {
                has_path = true;
                adopted.extend_from_slice(b"; Path=");
                adopted.extend_from_slice(&path(value, route));
            }
            name => {
                has_path &= name != b"path";
                adopted.push(b';');
                adopted.extend_from_slice(attribute);
            }
        }
    }
    let prefix = prefix_on_listener(route);
    if !has_path && !is_of_host && !prefix.is_empty() {
        adopted.extend_from_slice(b"; Path=");
        adopted.extend_from_slice(prefix.as_bytes());
    }
    adopted
}

/// Below the route's prefix, whatever the upstream said: elsewhere are the routes of others.
fn path(value: &[u8], route: &Route) -> Vec<u8> {
    let prefix = prefix_on_listener(route);
    let Ok(text) = std::str::from_utf8(value) else {
        return if prefix.is_empty() {
            value.to_vec()
        } else {
            prefix.into_bytes()
        };
    };
    // Of a path above the upstream's base path the listener has only what is below.
    let is_above = route
        .base_path
        .strip_prefix(text.trim_end_matches('/'))
        .is_some_and(|rest| rest.starts_with('/'));
    let mut path = path_on_listener(if is_above { "" } else { text }, route);
    // `/a/` would not be sent with `/a`.
    if path.len() > 1 && path.ends_with('/') && (is_above || text == "/") {
        path.pop();
    }
    let is_below = path
        .strip_prefix(&prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if is_below { path } else { prefix }.into_bytes()
}
