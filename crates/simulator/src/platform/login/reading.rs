//! Reads what a login sends: its content type, its headers, its form.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};

use crate::answer::{self, Answer};

/// Refuses any other method as nginx does.
pub(super) fn require_method(
    request: &Request<Bytes>,
    method: &Method,
    allowed: &'static str,
) -> Result<(), Box<Answer>> {
    if request.method() == method {
        Ok(())
    } else {
        Err(Box::new(answer::method_not_allowed(allowed)))
    }
}

/// The content type without its parameters.
pub(super) fn media_type(headers: &HeaderMap) -> Option<&str> {
    let value = only_header(headers, header::CONTENT_TYPE.as_str())?;
    value.split(';').next().map(str::trim)
}

/// The value of a header that is there once; one that is repeated counts as missing.
pub(super) fn only_header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// Names and values of a form or of a query, decoded, in order.
pub(super) struct Fields(Vec<(String, String)>);

impl Fields {
    pub(super) fn parse(text: &[u8]) -> Self {
        Self(form_urlencoded::parse(text).into_owned().collect())
    }

    /// The value of a field that is there once; one that is repeated counts as missing.
    pub(super) fn only(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(field, _)| field == name);
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// A field that is not among `known`, or is there twice.
    pub(super) fn unexpected(&self, known: &[&str]) -> Option<&str> {
        self.0
            .iter()
            .map(|(name, _)| name.as_str())
            .find(|name| !known.contains(name) || self.only(name).is_none())
    }
}
