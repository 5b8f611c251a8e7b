//! Where an upstream tells a client its own address, the client reads the listener's path for it.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{pool::Upstream, query::without, route::Route, survey::Names};

/// Maps each reference to the upstream itself in the headers that clients follow; others stay byte for byte.
pub fn map_back(headers: &mut HeaderMap, names: Names, route: &Route, upstream: &Upstream) {
    let map = |reference: &str| map_reference(reference, route, upstream);
    for (name, mapped) in MAPPED.iter().filter(|(name, _)| names.may_have(name)) {
        // Several lines stay as many, in their order.
        for (_, value) in headers.iter_mut().filter(|(found, _)| *found == name) {
            let text = value.to_str().ok().and_then(|text| mapped(text, &map));
            if let Some(new) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
                *value = new;
            }
        }
    }
}

/// How the references in a header are mapped; `None` where none is.
type Mapping = fn(&str, &dyn Fn(&str) -> Option<String>) -> Option<String>;

/// The path on the listener for one on the upstream.
pub fn path_on_listener(path: &str, route: &Route) -> String {
    let under = |path: &&str| path.is_empty() || path.starts_with('/');
    let path = path
        .strip_prefix(&*route.base_path)
        .filter(under)
        .unwrap_or(path);
    let mut mapped = match route.strip_prefix {
        true => prefix_on_listener(route),
        false => String::new(),
    };
    mapped.push_str(path);
    if mapped.is_empty() {
        mapped.push('/');
    }
    mapped
}

/// The route's prefix as it stands in a path; empty for `/`.
pub fn prefix_on_listener(route: &Route) -> String {
    let mut prefix = String::new();
    for segment in &route.prefix {
        prefix.push('/');
        prefix.extend(utf8_percent_encode(segment, SEGMENT));
    }
    prefix
}

/// A reference to the upstream as one to the listener, without the parameters that the proxy attaches; `None` for any
/// other.
fn map_reference(reference: &str, route: &Route, upstream: &Upstream) -> Option<String> {
    // A browser leaves tabs and line ends out, and reads a reference that nobody has looked at.
    if reference.bytes().any(|byte| byte.is_ascii_control()) {
        return None;
    }
    let rest = match after_scheme(reference, upstream) {
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
            if !is_authority_of(authority, upstream) {
                return None;
            }
            path
        }
        None if reference.starts_with('/') => reference,
        None => return None,
    };
    let (path, query) = rest
        .split_once('?')
        .map_or((rest, None), |(path, query)| (path, Some(query)));
    let mut mapped = path_on_listener(path, route);
    if let Some(query) = query
        .map(|query| without(query, &route.rewrite.dropped_query))
        .filter(|q| !q.is_empty())
    {
        mapped.push('?');
        mapped.push_str(&query);
    }
    // A browser takes `//host` and `/\host` for another host.
    let elsewhere = mapped.starts_with("//") || mapped.starts_with("/\\");
    (!elsewhere).then_some(mapped)
}

/// What follows `scheme://` or `//`, if the scheme is the upstream's.
fn after_scheme<'a>(reference: &'a str, upstream: &Upstream) -> Option<&'a str> {
    let scheme = match upstream.connector.origin().tls {
        true => "https:",
        false => "http:",
    };
    let after = match reference.get(..scheme.len()) {
        Some(start) if start.eq_ignore_ascii_case(scheme) => &reference[scheme.len()..],
        _ => reference,
    };
    after.strip_prefix("//")
}

fn is_authority_of(authority: &str, upstream: &Upstream) -> bool {
    let origin = upstream.connector.origin();
    let with_port = format!("{}:{}", origin.authority(), origin.port);
    authority
        .as_bytes()
        .eq_ignore_ascii_case(upstream.authority.as_bytes())
        || authority.eq_ignore_ascii_case(&with_port)
}

/// `<…>; rel="next", <…>`: what stands in brackets, outside of quoted strings.
fn link(text: &str, map: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let mut mapped = String::new();
    let mut is_mapped = false;
    let mut rest = text;
    while let Some(at) = rest.find(['<', '"']) {
        let (before, inner) = rest.split_at(at + 1);
        mapped.push_str(before);
        let end = match before.ends_with('<') {
            true => inner.find('>')?,
            false => end_of_quoted(inner)?,
        };
        let (inner, after) = inner.split_at(end);
        match map(inner).filter(|_| before.ends_with('<')) {
            Some(new) => {
                is_mapped = true;
                mapped.push_str(&new);
            }
            None => mapped.push_str(inner),
        }
        let (close, after) = after.split_at(1);
        mapped.push_str(close);
        rest = after;
    }
    mapped.push_str(rest);
    is_mapped.then_some(mapped)
}

fn end_of_quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| match byte {
        _ if escaped => {
            escaped = false;
            false
        }
        b'\\' => {
            escaped = true;
            false
        }
        byte => byte == b'"',
    })
}

/// `0; url=…`, as browsers read it: in quotes or without, `url=` or not.
fn refresh(text: &str, map: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let (_, after) = text.split_once([';', ','])?;
    let mut url = after.trim_start();
    if let Some(named) = url
        .get(..3)
        .filter(|name| name.eq_ignore_ascii_case("url"))
        .and_then(|name| url[name.len()..].trim_start().strip_prefix('='))
    {
        url = named.trim_start();
    }
    if let Some(quoted) = url.strip_prefix(['"', '\'']) {
        url = quoted;
    }
    let (before, _) = text.split_at(text.len() - url.len());
    let quote = before
        .chars()
        .next_back()
        .filter(|c| matches!(c, '"' | '\''));
    let end = quote.and_then(|quote| url.find(quote)).unwrap_or(url.len());
    let (url, after) = url.split_at(end);
    Some(format!("{before}{}{after}", map(url)?))
}

/// Whose references are mapped, and how.
static MAPPED: [(HeaderName, Mapping); 4] = [
    (header::LOCATION, |text, map| map(text)),
    (header::CONTENT_LOCATION, |text, map| map(text)),
    (header::LINK, link),
    (header::REFRESH, refresh),
];

/// What may not stand in a segment as it is.
const SEGMENT: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');
