//! One request of a `steps` credential: whom it asks, and how.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use token_source::{
    Origin, Trust,
    credential::steps::{Content, Json, Step, Template},
};
use toml::{Spanned, de::DeValue};

use super::{
    header,
    template::{Templates, names_a_secret},
    trust,
    upstream::{
        Keys, egress, origin_wrong, refuse_careless_plain_http, warn_of_needless_plain_http,
    },
};
use crate::config::wire::Table;

/// The request that a step makes; takes nothing yet. `None` where a mistake was noted.
pub(super) fn request(
    table: &mut Table<'_>,
    templates: &Templates<'_>,
    place: &str,
) -> Option<Step> {
    let target = target(table, templates, place);
    let headers = headers(table, templates);
    let content = content(table, templates);
    let method = method(table);
    let (origin, path, query) = target?;
    Some(Step {
        method: method?,
        origin,
        path,
        query,
        headers: headers?,
        content: content?,
        takes: Vec::new(),
    })
}

/// `POST`, or `GET` where nothing is sent, unless `method` says otherwise.
fn method(table: &mut Table<'_>) -> Option<Method> {
    let has_body = table.key("json").is_some() || table.key("form").is_some();
    let Some(span) = table.key("method") else {
        return Some(if has_body { Method::POST } else { Method::GET });
    };
    let words = [
        ("GET", &Method::GET),
        ("POST", &Method::POST),
        ("PUT", &Method::PUT),
        ("PATCH", &Method::PATCH),
    ];
    let method = table.choice("method", &words)?;
    if method == Method::GET && has_body {
        let hint = "leave out method: it is POST where there is a body";
        table.reading.mistake(span, "a GET sends no body", hint);
        return None;
    }
    Some(method.clone())
}

/// `url` taken apart: a server, and templates for path and query.
fn target(
    table: &mut Table<'_>,
    templates: &Templates<'_>,
    place: &str,
) -> Option<(Origin, Template, Option<Template>)> {
    let reading = table.reading;
    let keys = Keys::OF_URL;
    let trust = trust::trust_or_default(table, keys.tls, place);
    let egress = egress(table);
    table.key("plain_http");
    if table.key(keys.url).is_none() {
        table.missing("a step needs a url", "url = \"https://host/path\"");
    }
    let url = table.text(keys.url)?;
    let text = url.get_ref();
    let authority = text.find("://").map_or(0, |at| at + "://".len());
    let end = text[authority..]
        .find(['/', '?', '#', '\\'])
        .map_or(text.len(), |at| authority + at);
    let (server, target) = text.split_at(end);
    if server.contains('{') {
        let hint = "only what is behind the host may be put in: https://host/path/{name}";
        reading.mistake(url.span(), "the server of a url is written as it is", hint);
        return None;
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let at = |text: &str| Spanned::new(url.span(), text.to_owned());
    let path = templates.read(&at(if path.is_empty() { "/" } else { path }));
    let query = query.map(|query| self::query(templates, &at(query)));
    let path = path?;
    let query = match query {
        Some(query) => Some(query?),
        None => None,
    };
    let written = format!("{server}{}", path.with_stand_ins("x"));
    let mut origin = match Origin::parse(&written, Arc::new(trust.clone().unwrap_or_default())) {
        Ok(origin) => origin,
        Err(error) => {
            reading.wrong(url.span(), origin_wrong(error));
            return None;
        }
    };
    // The path is a template's.
    origin.base_path.clear();
    origin.egress = egress?;
    if target.is_empty() {
        reading.show(url.span());
    }
    refuse_careless_plain_http(table, &origin, url.span(), &keys, place);
    warn_of_needless_plain_http(table, &[&origin]);
    trust.map(|_: Trust| (origin, path, query))
}

fn query(templates: &Templates<'_>, text: &Spanned<String>) -> Option<Template> {
    for pair in text.get_ref().split('&') {
        if let Some((name, value)) = pair.split_once('=') {
            let value = Spanned::new(text.span(), value.to_owned());
            templates.read_named(name, &value)?;
        }
    }
    let template = templates.read(text)?;
    let is_plain = |b: u8| b.is_ascii_graphic() && !b"#\"<>\\^`{|}".contains(&b);
    if !template.with_stand_ins("x").bytes().all(is_plain) {
        let hint =
            "percent-encode what is between the values; the values are encoded by themselves";
        let what = "a query has characters that no URL may carry";
        templates.reading.mistake(text.span(), what, hint);
        return None;
    }
    Some(template)
}

fn headers(
    table: &mut Table<'_>,
    templates: &Templates<'_>,
) -> Option<Vec<(HeaderName, Template)>> {
    let Some(headers) = table.table("headers") else {
        return table.key("headers").is_none().then(Vec::new);
    };
    let reading = headers.reading;
    let count = headers.entries().len();
    let mut read: Vec<(HeaderName, Template)> = Vec::new();
    for (key, value) in headers.pairs() {
        let name = match header::header_name(key.get_ref()) {
            Ok(name) => name,
            Err(wrong) => {
                reading.wrong(key.span(), wrong);
                continue;
            }
        };
        let Some(template) = templates.read_named(key.get_ref(), &value) else {
            continue;
        };
        let is_plain = template.with_stand_ins("x").is_ascii()
            && HeaderValue::from_str(&template.with_stand_ins("x")).is_ok();
        if !is_plain {
            let hint = "visible ASCII characters and spaces";
            reading.mistake(value.span(), "not the value of a header", hint);
        } else if read.iter().any(|(other, _)| *other == name) {
            let hint = "leave it out here";
            reading.mistake(key.span(), "this header is set already", hint);
        } else {
            read.push((name, template));
        }
    }
    (read.len() == count).then_some(read)
}

fn content(table: &mut Table<'_>, templates: &Templates<'_>) -> Option<Content> {
    let reading = table.reading;
    let form_span = table.key("form");
    let json = table.value("json");
    let form = table.table("form");
    match (json, form_span) {
        (None, None) => Some(Content::Nothing),
        (Some(value), None) => self::json(templates, "", value).map(Content::Json),
        (None, Some(_)) => {
            let form = form?;
            let count = form.entries().len();
            let pairs = form.pairs();
            let pairs: Vec<_> = pairs
                .into_iter()
                .filter_map(|(name, value)| {
                    let template = templates.read_named(name.get_ref(), &value);
                    templates.refuse_braces(name.span(), name.get_ref())?;
                    Some((name.into_inner(), template?))
                })
                .collect();
            (pairs.len() == count).then_some(Content::Form(pairs))
        }
        (Some(_), Some(span)) => {
            let hint = "keep the one that the server wants";
            reading.mistake(span, "both json and form", hint);
            None
        }
    }
}

/// A value of `json` under a name; the name of a list is that of what is in it.
fn json(templates: &Templates<'_>, name: &str, value: &Spanned<DeValue<'_>>) -> Option<Json> {
    let refuse = |what: &'static str, hint: &'static str| {
        templates.reading.mistake(value.span(), what, hint);
        None
    };
    match value.get_ref() {
        DeValue::String(text) => {
            let text = Spanned::new(value.span(), text.to_string());
            templates.read_named(name, &text).map(Json::Text)
        }
        DeValue::Integer(_) | DeValue::Float(_) if names_a_secret(name) => {
            let hint = "put it in as a text, from a place: inputs = { pin = { file = \"…\" } }";
            refuse("this looks like a credential", hint)
        }
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Some(Json::Integer(number)),
            Err(_) => refuse("a number that is too large", "write it as a text"),
        },
        DeValue::Float(float) => match float.as_str().parse() {
            Ok(number) if f64::is_finite(number) => Some(Json::Float(number)),
            _ => refuse("JSON has no such number", "write it as a text"),
        },
        DeValue::Boolean(boolean) => Some(Json::Boolean(*boolean)),
        DeValue::Datetime(_) => refuse("JSON has no times", "write it as a text"),
        DeValue::Array(list) => {
            let items: Vec<_> = list
                .iter()
                .map(|value| json(templates, name, value))
                .collect();
            items.into_iter().collect::<Option<_>>().map(Json::List)
        }
        DeValue::Table(table) => {
            let mut entries: Vec<_> = table.iter().collect();
            entries.sort_by_key(|(key, _)| key.span().start);
            let pairs: Vec<_> = entries
                .into_iter()
                .map(|(key, value)| {
                    let name = key.get_ref().to_string();
                    let json = json(templates, &name, value);
                    templates.refuse_braces(key.span(), &name)?;
                    Some((name, json?))
                })
                .collect();
            pairs.into_iter().collect::<Option<_>>().map(Json::Object)
        }
    }
}
