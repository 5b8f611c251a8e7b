//! `steps`: up to three requests of the operator's own making, the last of which is answered with the token.

use std::time::Duration;

use http::{Request, header::CONTENT_TYPE};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{
    Attempt, Exchange, ExchangeError, Grant, Record,
    answer::{EXPIRATION, EXPIRES_IN, Issued, Paths, judge},
    document::Document,
    read_text,
    request::{self, Form, LONGEST_IN_URL, encoded, is_dots, sensitive_text},
};
use crate::{
    clock,
    connect::Connector,
    credential::{
        self,
        steps::{Content, INPUTS, Json, Step, Template},
    },
    http::{self as endpoint, Body},
};

pub(super) struct Steps {
    /// One for each step.
    servers: Vec<Connector>,
    settings: credential::Steps,
    /// Where each value goes that there will be.
    destinations: Vec<Destination>,
    fallback: Duration,
}

/// Where a value goes that cannot be written in any way there.
#[derive(Clone, Copy, Default)]
struct Destination {
    is_header: bool,
    is_path: bool,
    is_url: bool,
}

impl Exchange for Steps {
    fn exchange<'a>(&'a self, record: &'a Record) -> Attempt<'a> {
        Box::pin(self.walk(record))
    }
}

impl Steps {
    pub(super) fn new(settings: credential::Steps, fallback: Duration) -> Self {
        let steps = &settings.steps;
        let taken: usize = steps.iter().map(|step| step.takes.len()).sum();
        let mut destinations = vec![Destination::default(); settings.inputs.len() + taken];
        for step in steps {
            for value in step.headers.iter().flat_map(|(_, header)| header.values()) {
                destinations[value].is_header = true;
            }
            for value in step.path.values() {
                destinations[value].is_path = true;
            }
            for value in step
                .path
                .values()
                .chain(step.query.iter().flat_map(Template::values))
            {
                destinations[value].is_url = true;
            }
        }
        Self {
            servers: steps
                .iter()
                .map(|step| Connector::new(step.origin.clone()))
                .collect(),
            destinations,
            settings,
            fallback,
        }
    }

    async fn walk(&self, record: &Record) -> Result<Grant, ExchangeError> {
        let mut values = Vec::with_capacity(self.destinations.len());
        for input in &self.settings.inputs {
            let value = read_text(INPUTS, input, record).await?;
            // Before anything is sent, also what a later step needs.
            if !self.can_go(&value, values.len()) {
                return Err(ExchangeError::Unsendable { part: INPUTS });
            }
            values.push(value);
        }
        let steps = self.settings.steps.iter().zip(&self.servers);
        let mut last = None;
        for ((step, server), name) in steps.zip(NAMES) {
            let request = request(step, &values).ok_or(match last {
                None => ExchangeError::Unsendable { part: INPUTS },
                // Not to be asked again at once: the answer is likely to be the same.
                Some((_, _, step)) => ExchangeError::Garbage { step },
            })?;
            let path = step.path.to_string();
            let sent = clock::now();
            let answer = endpoint::send_with_values(server, request, &path, record).await?;
            judge(name, &answer)?;
            let document = Document::parse(&answer.body);
            for path in &step.takes {
                let value = document
                    .as_ref()
                    .and_then(|document| take(document, path))
                    .filter(|value| self.can_go(value, values.len()))
                    .ok_or(ExchangeError::Garbage { step: name })?;
                record.conceal(&value);
                values.push(value);
            }
            last = Some((document, sent, name));
        }
        let (document, sent, step) = last.expect("there is at least one step");
        let paths = Paths {
            token: self.settings.token.as_deref(),
            expires_in: self.settings.expires_in.as_deref().unwrap_or(EXPIRES_IN),
            expiration: self.settings.expiration.as_deref().unwrap_or(EXPIRATION),
        };
        let issued = document.and_then(|document| Issued::find(&document, &paths, record));
        let issued = issued.ok_or(ExchangeError::Garbage { step })?;
        Ok(issued.into_grant(sent, self.fallback))
    }

    /// Whether the value of that number can be written wherever it goes.
    fn can_go(&self, value: &SecretString, number: usize) -> bool {
        #[expect(clippy::disallowed_methods, reason = "its characters are looked at")]
        let value = value.expose_secret();
        let destination = self.destinations[number];
        let fits_header = !destination.is_header || sensitive_text(value).is_some();
        let fits_path = !destination.is_path || !is_dots(value);
        let fits_url = !destination.is_url || value.len() <= LONGEST_IN_URL;
        fits_header && fits_path && fits_url
    }
}

/// A text or a number for later steps.
fn take(document: &Document, path: &str) -> Option<SecretString> {
    match document.at(path)? {
        Value::String(text) if !text.is_empty() => Some(text.as_str().into()),
        Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}

/// `None` where the target is longer than any server takes.
fn request(step: &Step, values: &[SecretString]) -> Option<Request<Body>> {
    let encode = |value| encoded(value).to_string();
    let mut target = step.path.render(values, encode);
    if let Some(query) = &step.query {
        target.push('?');
        target.push_str(&query.render(values, encode));
    }
    if target.len() > LONGEST_TARGET {
        return None;
    }
    let (body, content_type) = match &step.content {
        Content::Nothing => (Body::default(), None),
        Content::Json(json) => (request::json(&Filled { json, values }), Some(request::JSON)),
        Content::Form(pairs) => (form_body(pairs, values), Some(request::FORM)),
    };
    let mut request = Request::builder()
        .method(step.method.clone())
        .uri(target.as_str())
        .body(body)
        .expect("a path of a configuration is one, and values are percent-encoded in it");
    if let Some(content_type) = content_type {
        request.headers_mut().insert(CONTENT_TYPE, content_type);
    }
    for (name, template) in &step.headers {
        let value = sensitive_text(&plain(template, values))
            .expect("literals were checked with the configuration, values when they came");
        request.headers_mut().insert(name, value);
    }
    Some(request)
}

fn plain(template: &Template, values: &[SecretString]) -> Zeroizing<String> {
    template.render(values, |value| value)
}

fn form_body(pairs: &[(String, Template)], values: &[SecretString]) -> Body {
    let mut form = Form::default();
    for (name, template) in pairs {
        form.add(name, &plain(template, values));
    }
    form.body()
}

/// JSON with its values put in.
struct Filled<'a> {
    json: &'a Json,
    values: &'a [SecretString],
}

impl Serialize for Filled<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fill = |json| Filled {
            json,
            values: self.values,
        };
        match self.json {
            Json::Text(template) => serializer.serialize_str(&plain(template, self.values)),
            Json::Integer(number) => serializer.serialize_i64(*number),
            Json::Float(number) => serializer.serialize_f64(*number),
            Json::Boolean(boolean) => serializer.serialize_bool(*boolean),
            Json::List(list) => serializer.collect_seq(list.iter().map(fill)),
            Json::Object(pairs) => {
                serializer.collect_map(pairs.iter().map(|(name, json)| (name, fill(json))))
            }
        }
    }
}

/// What logs call them.
const NAMES: [&str; credential::Steps::MOST_STEPS] = ["step 1", "step 2", "step 3"];
/// Four times what servers usually take, and half of what a URI can hold.
const LONGEST_TARGET: usize = 32 << 10;
