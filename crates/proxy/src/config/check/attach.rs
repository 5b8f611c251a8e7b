//! `attach`: which credentials go where on the requests of a route, and only there.

use http::header::AUTHORIZATION;
use token_source::Kind;
use toml::{
    Spanned,
    de::{DeArray, DeValue},
};

use super::{Declared, credential::Credential, header, location, resolve};
use crate::config::{
    Attachment, Place,
    preset::Preset,
    reading::{Reading, Span},
    wire::Table,
};

/// An attachment and where it is written.
pub(super) struct Written {
    pub(super) attachment: Attachment,
    pub(super) span: Span,
}

/// `attach = "NAME"` or `attach = [{ credential, header, scheme, query }, …]`.
pub(super) fn attachments(
    table: &mut Table<'_>,
    credentials: &[Declared<Credential>],
    preset: Option<Preset>,
) -> Option<Vec<Written>> {
    let reading = table.reading;
    let Some(value) = table.value("attach") else {
        return Some(Vec::new());
    };
    let written = match value.get_ref() {
        DeValue::String(_) => {
            let name = table.text("attach")?;
            let credential = resolve(reading, credentials, &name, "credential")?;
            let kind = &credentials[credential].built.as_ref()?.settings.kind;
            let place = usual_place(kind, preset);
            refuse_kubernetes_token_in_url(reading, kind, &place, name.span())?;
            vec![Written {
                attachment: Attachment { credential, place },
                span: name.span(),
            }]
        }
        DeValue::Array(list) => listed(reading, list, credentials, preset)?,
        _ => {
            reading.mistake(
                value.span(),
                "attach is the name of a credential, or a list",
                "attach = \"NAME\", or attach = [{ credential = \"NAME\", query = \"token\" }]",
            );
            return None;
        }
    };
    refuse_two_at_one_place(reading, &written);
    Some(written)
}

fn listed<'a>(
    reading: &'a Reading<'a>,
    list: &'a DeArray<'a>,
    credentials: &[Declared<Credential>],
    preset: Option<Preset>,
) -> Option<Vec<Written>> {
    let written: Vec<_> = list
        .iter()
        .filter_map(|value| match value.get_ref() {
            DeValue::Table(entries) => attachment(
                Table::new(reading, value.span(), entries),
                credentials,
                preset,
            ),
            _ => {
                reading.mistake(
                    value.span(),
                    "each entry of the list is a table",
                    "{ credential = \"NAME\" }, with header and scheme, or query",
                );
                None
            }
        })
        .collect();
    (written.len() == list.len()).then_some(written)
}

fn attachment(
    mut table: Table<'_>,
    credentials: &[Declared<Credential>],
    preset: Option<Preset>,
) -> Option<Written> {
    let reading = table.reading;
    let span = table.span.clone();
    if table.key("credential").is_none() {
        table.missing("which credential?", "{ credential = \"NAME\" }");
    }
    let name = table.text("credential");
    let credential = name.and_then(|name| resolve(reading, credentials, &name, "credential"));
    let header = table.text("header");
    let scheme = table.text("scheme");
    let query = table.text("query");
    let place_span = query.as_ref().map_or_else(|| span.clone(), Spanned::span);
    table.done();
    let credential = credential?;
    let kind = &credentials[credential].built.as_ref()?.settings.kind;

    let place = match (header, scheme, query) {
        (None, None, None) => usual_place(kind, preset),
        (None, None, Some(query)) => query_place(reading, query)?,
        (_, _, Some(query)) => {
            reading.mistake(
                query.span(),
                "a credential goes into a header or into the query",
                "leave out query, or leave out header and scheme",
            );
            return None;
        }
        (header, scheme, None) => header_place(reading, kind, header.as_ref(), scheme)?,
    };
    refuse_kubernetes_token_in_url(reading, kind, &place, place_span)?;
    Some(Written {
        attachment: Attachment { credential, place },
        span,
    })
}

/// Where a credential goes when the operator does not say.
fn usual_place(kind: &Kind, preset: Option<Preset>) -> Place {
    preset
        .and_then(|preset| preset.place(kind))
        .unwrap_or_else(|| Place::Header {
            name: AUTHORIZATION,
            scheme: kind.scheme().to_owned(),
        })
}

fn query_place(reading: &Reading<'_>, query: Spanned<String>) -> Option<Place> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if query.get_ref().is_empty() || !query.get_ref().bytes().all(is_plain) {
        reading.mistake(
            query.span(),
            "not the name of a query parameter",
            "letters, digits, `_`, `-` and `.`",
        );
        return None;
    }
    Some(Place::Query {
        name: query.into_inner(),
    })
}

/// URLs end in logs, and the API server of the cluster takes this token too. `None` is a mistake.
fn refuse_kubernetes_token_in_url(
    reading: &Reading<'_>,
    kind: &Kind,
    place: &Place,
    span: Span,
) -> Option<()> {
    let hint = match (place, kind) {
        (Place::Query { .. }, Kind::ServiceAccount { .. }) => {
            "leave out query: it goes into the header Authorization"
        }
        (Place::Query { .. }, Kind::Token { value }) if location::is_of_kubernetes(value) => {
            "make the credential a [credential.NAME.service_account]: it goes into the header Authorization"
        }
        _ => return Some(()),
    };
    reading.mistake(span, "a Kubernetes token never goes into a URL", hint);
    None
}

/// The scheme belongs to `Authorization`; any other header has the value alone unless a scheme is written.
fn header_place(
    reading: &Reading<'_>,
    kind: &Kind,
    header: Option<&Spanned<String>>,
    scheme: Option<Spanned<String>>,
) -> Option<Place> {
    let name = match header.map(|text| (text.span(), header::header_name(text.get_ref()))) {
        None => AUTHORIZATION,
        Some((_, Ok(name))) => name,
        Some((span, Err(wrong))) => {
            reading.wrong(span, wrong);
            return None;
        }
    };
    let is_token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+');
    let scheme = match scheme {
        Some(scheme) if scheme.get_ref().bytes().all(is_token) => scheme.into_inner(),
        Some(scheme) => {
            reading.mistake(
                scheme.span(),
                "not an authentication scheme",
                "Bearer, Basic, ZenApiKey, or \"\" for the value alone",
            );
            return None;
        }
        None if name == AUTHORIZATION => kind.scheme().to_owned(),
        None => String::new(),
    };
    Some(Place::Header { name, scheme })
}

fn refuse_two_at_one_place(reading: &Reading<'_>, written: &[Written]) {
    for (index, one) in written.iter().enumerate() {
        let is_taken = written[..index].iter().any(|other| {
            match (&one.attachment.place, &other.attachment.place) {
                (Place::Header { name: one, .. }, Place::Header { name: other, .. }) => {
                    header::are_one_header(one, other)
                }
                (Place::Query { name: one }, Place::Query { name: other }) => {
                    one.eq_ignore_ascii_case(other)
                }
                _ => false,
            }
        });
        if is_taken {
            reading.mistake(
                one.span.clone(),
                "two credentials at one place",
                "give this one another header or query parameter",
            );
        }
    }
}
