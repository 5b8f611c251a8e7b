//! `[route.NAME]`: which requests go to which upstream, with what attached.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use toml::Spanned;

use super::{
    Declared, attach, clean_segments, credential::Credential, header, home, pattern, rate, resolve,
    token_endpoints, trust,
};
use crate::config::{
    Forwarded, LARGEST_REPLAY_LIMIT, Pattern, Place, Route, TokenEndpoints, UNROUTED, Upstream,
    defaults,
    preset::Preset,
    reading::{Reading, Span},
    wire::{Named, Table},
};

/// A route, and what the rules of listeners need to know about it.
pub(super) struct CheckedRoute {
    pub(super) route: Route,
    /// Whether `preset` or `allow` says what may pass; `allow = ["*"]` is a word on it too.
    pub(super) is_limited: bool,
    pub(super) path: Span,
    /// `token_endpoints` is written: listeners have no say in it.
    pub(super) has_token_endpoints: bool,
}

pub(super) fn routes(
    root: &mut Table<'_>,
    upstreams: &[Declared<Upstream>],
    credentials: &[Declared<Credential>],
) -> Vec<Declared<CheckedRoute>> {
    let reading = root.reading;
    let Some(tables) = root.named("route") else {
        reading.mistake_of_file(
            "there is no route",
            "[route.NAME] with path = \"/\" and upstream = \"NAME\"",
        );
        return Vec::new();
    };
    let mut uses = Vec::new();
    let routes: Vec<_> = tables
        .into_iter()
        .map(|Named { name, table }| Declared {
            name: name.clone(),
            span: table.span.clone(),
            built: route(name, table, upstreams, credentials, &mut uses),
        })
        .collect();
    for route in routes.iter().filter(|route| *route.name == *UNROUTED) {
        let hint = "metrics and logs call requests so that reached no route";
        reading.mistake(route.span.clone(), "this name is taken", hint);
    }
    home::refuse_strangers(reading, &uses, credentials, upstreams);
    if routes.iter().all(|route| route.built.is_some()) {
        warn_of_idle_credentials(reading, &uses, credentials);
    }
    routes
}

fn route(
    name: Arc<str>,
    mut table: Table<'_>,
    upstreams: &[Declared<Upstream>],
    credentials: &[Declared<Credential>],
    uses: &mut Vec<home::Use>,
) -> Option<CheckedRoute> {
    let place = format!("route.{name}");
    let path = path(&mut table);
    let host = host(&mut table);
    let upstream = upstream(&mut table, upstreams);
    let preset = table.choice("preset", &Preset::NAMES);
    let written = attach::attachments(&mut table, credentials, preset);
    let access = access(&mut table, preset, &place);
    let strip_prefix = table.boolean("strip_prefix");
    let attaches = written.as_ref().is_none_or(|written| !written.is_empty());
    let token_endpoints = token_endpoints::written(&mut table, &place, attaches);
    let cookies = table.choice("cookies", &[("drop", false), ("pass", true)]);
    let scrub_body = scrub_body(&mut table, written.as_deref().unwrap_or_default(), &place);
    let set_headers = set_headers(&mut table, written.as_deref().unwrap_or_default());
    let default_query = default_query(&mut table, written.as_deref().unwrap_or_default());
    let max_body = table.size("max_body").map(Spanned::into_inner);
    let max_in_flight = table.number("max_in_flight", 1);
    let replay_limit = replay_limit(&mut table);
    let words = [("remove", Forwarded::Remove), ("append", Forwarded::Append)];
    let forwarded = table
        .choice("forwarded", &words)
        .unwrap_or(Forwarded::Remove);
    let rate_limit = rate::rate_limit(&mut table);
    let has_preset = table.key("preset").is_some();
    table.done();

    if let (Some(upstream), Some(written)) = (upstream, &written) {
        uses.extend(written.iter().map(|one| home::Use {
            credential: one.attachment.credential,
            upstream,
            span: one.span.clone(),
        }));
    }
    let (path, prefix) = path?;
    let access = access?;
    let (upstream, attach) = (upstream?, written?);
    Some(CheckedRoute {
        is_limited: has_preset || access.is_written,
        path,
        has_token_endpoints: token_endpoints.is_some(),
        route: Route {
            name,
            prefix,
            host: host?,
            upstream,
            attach: attach.into_iter().map(|one| one.attachment).collect(),
            strip_prefix: strip_prefix.unwrap_or(preset.is_some_and(Preset::strip_prefix)),
            allow: access.allow,
            deny: access.deny,
            warn: access.warn,
            public: access.public,
            token_endpoints: token_endpoints.unwrap_or(TokenEndpoints::Deny),
            pass_cookies: cookies.unwrap_or(false),
            scrub_body,
            set_headers,
            default_query,
            drop_query: preset.map(Preset::drop_query).unwrap_or_default(),
            max_body,
            max_in_flight,
            rate_limit: rate_limit?,
            replay_limit,
            forwarded,
        },
    })
}

fn path(table: &mut Table<'_>) -> Option<(Span, Vec<String>)> {
    if table.key("path").is_none() {
        table.missing(
            "a route needs a path",
            "path = \"/\", or the prefix it is for",
        );
    }
    let path = table.text("path")?;
    match clean_segments(path.get_ref()) {
        Ok(segments) => Some((path.span(), segments)),
        Err(wrong) => {
            table.reading.wrong(path.span(), wrong);
            None
        }
    }
}

/// The outer `None` is a mistake, the inner one a key that is not there.
fn host(table: &mut Table<'_>) -> Option<Option<String>> {
    let Some(host) = table.text("host") else {
        return table.key("host").is_none().then_some(None);
    };
    if trust::is_host(host.get_ref()) {
        return Some(Some(host.into_inner().to_ascii_lowercase()));
    }
    let hint = "a name or an IP address, without scheme and port";
    table.reading.mistake(host.span(), "not a host name", hint);
    None
}

fn upstream(table: &mut Table<'_>, upstreams: &[Declared<Upstream>]) -> Option<usize> {
    if table.key("upstream").is_none() {
        table.missing(
            "a route needs an upstream",
            "upstream = \"NAME\" of an [upstream.NAME] table",
        );
    }
    let name = table.text("upstream")?;
    resolve(table.reading, upstreams, &name, "upstream")
}

/// What may pass a route.
struct Access {
    allow: Option<Vec<Pattern>>,
    deny: Vec<Pattern>,
    warn: bool,
    public: Vec<Pattern>,
    /// `allow` is written, be it `["*"]`.
    is_written: bool,
}

/// What the route says goes before what its preset says.
fn access(table: &mut Table<'_>, preset: Option<Preset>, place: &str) -> Option<Access> {
    let reading = table.reading;
    let mut list = |key| match table.key(key) {
        Some(_) => {
            let texts = table.texts(key);
            texts
                .and_then(|texts| pattern::patterns(reading, &texts))
                .map(Some)
        }
        None => Some(None),
    };
    let (allow, deny, public) = (list("allow"), list("deny"), list("public"));
    let warn = table.boolean("warn").unwrap_or(false);
    let (allow, deny, public) = (allow?, deny?, public?);
    if allow.as_ref().is_some_and(Vec::is_empty)
        && let Some(span) = table.key("allow")
    {
        let hint = "allow = [\"GET /v2/*\"], or allow = [\"*\"] to waive it";
        reading.mistake(span, "allow is empty: nothing would pass", hint);
        return None;
    }
    let is_written = allow.is_some();
    let is_waived = allow
        .as_ref()
        .is_some_and(|all| all.iter().any(Pattern::is_everything));
    // A list that is only logged is no list.
    if is_waived || (warn && (is_written || preset.is_some())) {
        reading.waive("allow_all", place.to_owned());
    }
    Some(Access {
        allow: if is_waived {
            None
        } else {
            allow.or_else(|| preset.map(Preset::allow))
        },
        deny: deny.unwrap_or_default(),
        warn,
        public: public
            .or_else(|| preset.map(Preset::public))
            .unwrap_or_default(),
        is_written,
    })
}

/// What stands in a URL is what servers repeat in their pages; so there it is looked for unless the route says no.
fn scrub_body(table: &mut Table<'_>, attached: &[attach::Written], place: &str) -> bool {
    let is_in_query = attached
        .iter()
        .any(|one| matches!(one.attachment.place, Place::Query { .. }));
    let written = table.boolean("scrub_body");
    if written == Some(false) && is_in_query {
        table.reading.waive("scrub_body", place.to_owned());
    }
    if written == Some(true)
        && table.key("attach").is_none()
        && let Some(span) = table.key("scrub_body")
    {
        let hint = "leave it out, or attach a credential";
        let what = "nothing is attached here, so there is nothing to look for";
        table.reading.mistake(span, what, hint);
    }
    written.unwrap_or(is_in_query)
}

fn replay_limit(table: &mut Table<'_>) -> usize {
    let Some(written) = table.size("replay_limit") else {
        return defaults::REPLAY_LIMIT;
    };
    let largest = written.get_ref().min(&LARGEST_REPLAY_LIMIT);
    if largest != written.get_ref() {
        let hint = "16MiB at most: that is what a worker keeps of all its requests together";
        table
            .reading
            .mistake(written.span(), "more than is ever kept", hint);
    }
    *largest as usize
}

fn set_headers(
    table: &mut Table<'_>,
    attached: &[attach::Written],
) -> Vec<(HeaderName, HeaderValue)> {
    let Some(headers) = table.table("set_headers") else {
        return Vec::new();
    };
    let reading = headers.reading;
    let mut set: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (key, value) in headers.pairs() {
        if header::names_a_credential(key.get_ref()) {
            refuse_credential(reading, key.span());
            continue;
        }
        if header::is_credential(value.get_ref()) {
            refuse_credential(reading, value.span());
            continue;
        }
        let name = match header::header_name(key.get_ref()) {
            Ok(name) => name,
            Err(wrong) => {
                reading.wrong(key.span(), wrong);
                continue;
            }
        };
        let is_attached = attached.iter().any(|one| {
            matches!(&one.attachment.place, Place::Header { name: other, .. } if header::are_one_header(&name, other))
        });
        if is_attached
            || set
                .iter()
                .any(|(other, _)| header::are_one_header(&name, other))
        {
            let hint = "leave it out here";
            reading.mistake(key.span(), "this header is set or attached already", hint);
        } else if let Ok(value) = HeaderValue::from_str(value.get_ref()) {
            set.push((name, value));
        } else {
            let hint = "visible ASCII characters and spaces";
            reading.mistake(value.span(), "not the value of a header", hint);
        }
    }
    set
}

fn default_query(table: &mut Table<'_>, attached: &[attach::Written]) -> Vec<(String, String)> {
    let Some(query) = table.table("default_query") else {
        return Vec::new();
    };
    let reading = query.reading;
    let mut pairs = Vec::new();
    for (name, value) in query.pairs() {
        let is_attached = attached.iter().any(|one| {
            matches!(&one.attachment.place, Place::Query { name: other } if other.eq_ignore_ascii_case(name.get_ref()))
        });
        if header::names_a_credential(name.get_ref()) {
            refuse_credential(reading, name.span());
        } else if header::is_credential(value.get_ref()) {
            refuse_credential(reading, value.span());
        } else if is_attached {
            let hint = "leave it out here";
            reading.mistake(name.span(), "this parameter is attached already", hint);
        } else if name.get_ref().is_empty() {
            let hint = "default_query = { version = \"2025-02-01\" }";
            reading.mistake(name.span(), "a parameter without a name", hint);
        } else {
            let encode = |text: &str| utf8_percent_encode(text, QUERY).to_string();
            pairs.push((encode(name.get_ref()), encode(value.get_ref())));
        }
    }
    pairs
}

fn warn_of_idle_credentials(
    reading: &Reading<'_>,
    uses: &[home::Use],
    credentials: &[Declared<Credential>],
) {
    for (index, credential) in credentials.iter().enumerate() {
        if uses.iter().all(|one| one.credential != index) {
            let hint = format!(
                "attach = \"{}\" in a route, or leave the table out: it is obtained and renewed for nothing",
                credential.name
            );
            let what = "no route attaches this credential";
            reading.warning(credential.span.clone(), what, hint);
        }
    }
}

fn refuse_credential(reading: &Reading<'_>, span: Span) {
    reading.mistake(
        span,
        "this looks like a credential",
        "a secret is never written in the configuration: make it a [credential.NAME.token] and attach it, \
         [{ credential = \"NAME\", header = \"…\" }]",
    );
}

/// All but what RFC 3986 calls unreserved.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
