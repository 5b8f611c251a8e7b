//! `attach`: which credentials go where on the requests of a route, and only there.

use http::header::AUTHORIZATION;
use token_source::Kind;
use toml::{
    Spanned,
    de::{DeArray, DeValue},
};

use super::{Declared, credential::Credential, header, resolve, trust::is_same_server};
use crate::config::{
    Attachment, Place, Upstream,
    preset::Preset,
    reading::{Reading, Span, Wrong},
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
    table.done();
    let credential = credential?;
    let kind = &credentials[credential].built.as_ref()?.settings.kind;

    let place = match (header, scheme, query) {
        (None, None, None) => usual_place(kind, preset),
        (None, None, Some(query)) => query_place(reading, kind, query)?,
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

fn query_place(reading: &Reading<'_>, kind: &Kind, query: Spanned<String>) -> Option<Place> {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let wrong = if matches!(kind, Kind::ServiceAccount { .. }) {
        Wrong::new(
            "a Kubernetes token never goes into a URL",
            "leave out query: it goes into the header Authorization",
        )
    } else if query.get_ref().is_empty() || !query.get_ref().bytes().all(is_plain) {
        Wrong::new(
            "not the name of a query parameter",
            "letters, digits, `_`, `-` and `.`",
        )
    } else {
        return Some(Place::Query {
            name: query.into_inner(),
        });
    };
    reading.wrong(query.span(), wrong);
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

/// A use of a credential by a route: for the rule that it goes to one server only.
pub(super) struct Use {
    pub(super) credential: usize,
    pub(super) upstream: usize,
    pub(super) span: Span,
}

/// A credential goes only to the server it was configured for; where none was, to the first that a route names.
pub(super) fn refuse_strangers(
    reading: &Reading<'_>,
    uses: &[Use],
    credentials: &[Declared<Credential>],
    upstreams: &[Declared<Upstream>],
) {
    for (index, one) in uses.iter().enumerate() {
        let (Some(credential), Some(upstream)) = (
            &credentials[one.credential].built,
            &upstreams[one.upstream].built,
        ) else {
            continue;
        };
        let name = &credentials[one.credential].name;
        let stranger = &upstream.name;
        if let Some(home) = &credential.home {
            if !is_same_server(home, &upstream.origin) {
                reading.mistake(
                    one.span.clone(),
                    format!("credential `{name}` is not for the server of upstream `{stranger}`"),
                    format!(
                        "a credential goes to one server only: if that is this one, write \
                         upstream = \"{stranger}\" in [credential.{name}.{}]; if not, name another credential",
                        credential.settings.kind.name()
                    ),
                );
            }
            continue;
        }
        let first = uses[..index]
            .iter()
            .find(|other| other.credential == one.credential);
        let first = first.and_then(|first| upstreams[first.upstream].built.as_ref());
        if let Some(first) = first
            && !is_same_server(&first.origin, &upstream.origin)
        {
            reading.mistake(
                one.span.clone(),
                format!("credential `{name}` would go to two servers"),
                format!(
                    "another route attaches it for upstream `{}`, this one for `{stranger}`: \
                     write two [credential.…] tables, one for each",
                    first.name
                ),
            );
        }
    }
}
