//! `[upstream.NAME]`: a base URL and how it is reached.

use std::sync::Arc;

use token_source::{
    Origin, Trust,
    connect::{Egress, EgressProxy, OriginError},
};
use toml::Spanned;

use super::{Declared, location, trust};
use crate::config::{
    Protocol, Upstream, defaults,
    reading::{Span, Wrong},
    wire::{Named, Table},
};

pub(super) fn upstreams(root: &mut Table<'_>) -> Vec<Declared<Upstream>> {
    root.named("upstream")
        .unwrap_or_default()
        .into_iter()
        .map(|Named { name, table }| Declared {
            name: name.clone(),
            span: table.span.clone(),
            built: upstream(name, table),
        })
        .collect()
}

fn upstream(name: Arc<str>, mut table: Table<'_>) -> Option<Upstream> {
    let place = format!("upstream.{name}");
    if table.key("url").is_none() {
        table.missing(
            "an upstream needs a url",
            "url = \"https://host[:port][/path]\"",
        );
    }
    let origin = origin(&mut table, &Keys::OF_URL, &place);
    if let Some(origin) = &origin {
        warn_of_needless_plain_http(&mut table, &[origin]);
    }
    let mut timeout = |key, default| table.duration(key).unwrap_or(default);
    let connect_timeout = timeout("connect_timeout", defaults::CONNECT_TIMEOUT);
    let first_byte_timeout = timeout("first_byte_timeout", defaults::FIRST_BYTE_TIMEOUT);
    let idle_timeout = timeout("idle_timeout", defaults::IDLE_TIMEOUT);
    let words = [("http1", Protocol::Http1), ("http2", Protocol::Http2)];
    let protocol = table.choice("protocol", &words).unwrap_or(Protocol::Http1);
    table.done();
    Some(Upstream {
        name,
        origin: origin?,
        protocol,
        connect_timeout,
        first_byte_timeout,
        idle_timeout,
    })
}

/// The keys that name a server.
pub(super) struct Keys {
    pub(super) url: &'static str,
    pub(super) tls: &'static str,
    /// The `host[:port]` that is asked by plain HTTP without a waiver.
    pub(super) plain_by_nature: Option<&'static str>,
}

impl Keys {
    /// The usual ones.
    pub(super) const OF_URL: Self = Self {
        url: "url",
        tls: "tls",
        plain_by_nature: None,
    };
}

/// The server that a table names, with `plain_http` for both of its URLs; `place` names its waivers.
pub(super) fn origin(table: &mut Table<'_>, keys: &Keys, place: &str) -> Option<Origin> {
    let trust = trust::trust_or_default(table, keys.tls, place);
    let egress = egress(table);
    table.key("plain_http");
    let url = table.text(keys.url)?;
    let mut origin = match Origin::parse(url.get_ref(), Arc::new(trust.clone().unwrap_or_default()))
    {
        Ok(origin) => origin,
        Err(error) => {
            table.reading.wrong(url.span(), origin_wrong(error));
            return None;
        }
    };
    // No user, no query and no path: a name that everybody may know.
    if origin.base_path.is_empty() {
        table.reading.show(url.span());
    }
    refuse_careless_plain_http(table, &origin, url.span(), keys, place);
    origin.egress = egress?;
    trust.map(|_: Trust| origin)
}

/// `proxy`: the way to the servers of a table; `None` where a mistake was noted.
pub(super) fn egress(table: &mut Table<'_>) -> Option<Egress> {
    let Some(value) = table.value("proxy") else {
        return Some(Egress::OfEnvironment);
    };
    if !value.get_ref().is_table() {
        let text = table.text("proxy")?;
        if text.get_ref() == "none" {
            table.reading.show(text.span());
            return Some(Egress::Direct);
        }
        return proxy(table, &text).map(Egress::Through);
    }
    let mut inner = table.table("proxy")?;
    if inner.key("url").is_none() {
        inner.missing("which proxy?", PROXY_HINT);
    }
    let url = inner.text("url");
    let found = url.and_then(|url| proxy(&inner, &url));
    let has_username = inner.key("username").is_some();
    let login = match (has_username, inner.key("password")) {
        (false, None) => Some(None),
        (true, Some(_)) => {
            let username = location::text(&mut inner, "username");
            let password = location::secret(&mut inner, "password");
            username.zip(password).map(Some)
        }
        (_, one) => {
            let span = one.or_else(|| inner.key("username")).unwrap_or_default();
            let hint = "username = \"…\" and password = { file = \"…\" }, or neither";
            let what = "a login to a proxy needs both username and password";
            inner.reading.mistake(span, what, hint);
            None
        }
    };
    inner.done();
    let found = found?;
    Some(Egress::Through(match login? {
        Some((username, password)) => found.with_login(username, password),
        None => found,
    }))
}

fn proxy(table: &Table<'_>, url: &Spanned<String>) -> Option<EgressProxy> {
    let found = EgressProxy::parse(url.get_ref());
    match &found {
        Some(_) => table.reading.show(url.span()),
        None if url.get_ref().contains('@') => table.reading.mistake(
            url.span(),
            "a URL must not carry a user or password",
            "proxy = { url = \"…\", username = \"…\", password = { file = \"…\" } }",
        ),
        None => table
            .reading
            .mistake(url.span(), "not the URL of a proxy", PROXY_HINT),
    }
    found
}

const PROXY_HINT: &str = "\"http://host:port\", \"socks5://host:port\", or \"none\"";

/// What is wrong with a base URL, with what to do.
pub(crate) fn origin_wrong(error: OriginError) -> Wrong {
    let hint = match error {
        OriginError::Userinfo => {
            "leave out `user:password@`; a [credential.…] table says who the proxy is"
        }
        OriginError::Query => "leave out `?` and `#` and all after it; see default_query of routes",
        OriginError::Malformed | OriginError::Scheme | OriginError::Path => {
            "https://cpd-instance.apps.example.com, with :port and /path where needed"
        }
    };
    Wrong::new(error.to_string(), hint)
}

/// An `http://` url needs `plain_http`, which is then a waiver.
pub(super) fn refuse_careless_plain_http(
    table: &mut Table<'_>,
    origin: &Origin,
    url: Span,
    keys: &Keys,
    place: &str,
) {
    let plain_http = table.boolean("plain_http").unwrap_or(false);
    if origin.tls {
        return;
    }
    if let Some(tls) = table.key(keys.tls) {
        table.reading.mistake(
            tls,
            format!("{} has no meaning for an http:// url", keys.tls),
            format!("leave it out, or write https:// in {}", keys.url),
        );
    }
    if keys.plain_by_nature == Some(origin.authority().as_str()) {
        return;
    }
    if !plain_http {
        table.reading.mistake(
            url,
            "credentials would cross the network in the clear",
            "write https://, or waive TLS by name: plain_http = true",
        );
    }
    table.reading.waive("plain_http", place.to_owned());
}

/// `plain_http = true` where none of the URLs of the table is `http://`.
pub(super) fn warn_of_needless_plain_http(table: &mut Table<'_>, origins: &[&Origin]) {
    if table.boolean("plain_http") == Some(true)
        && origins.iter().all(|origin| origin.tls)
        && let Some(waiver) = table.key("plain_http")
    {
        let what = match origins {
            [_] => "plain_http waives TLS, and the url is https://",
            _ => "plain_http waives TLS, and no url here is http://",
        };
        table.reading.warning(
            waiver,
            what,
            "leave it out: a waiver that is not needed would hide a mistake later",
        );
    }
}
