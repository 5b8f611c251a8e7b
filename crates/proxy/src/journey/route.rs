//! Route: which route takes a request, and whether the route lets it pass. Everything is matched on decoded
//! segments of one path, and that path is what goes upstream.

use std::sync::Arc;

use http::Method;
use percent_encoding::percent_decode;

use super::{
    attach::Attachment, decoy::Login, limit::Limit, rate::Rate, readings, rewrite::Rewrite,
    token_endpoints,
};
use crate::{
    access_log,
    config::{Pattern, TokenEndpoints},
    fault::Fault,
};

/// Which requests go to which upstream, with what attached.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Decoded segments of the path prefix; empty for `/`.
    pub prefix: Vec<String>,
    /// Only for this `Host`, lower case.
    pub host: Option<String>,
    /// Index of its upstream in the plan.
    pub upstream: usize,
    /// The upstream's base path: empty, or without a slash at its end.
    pub base_path: String,
    /// The prefix is taken off.
    pub strip_prefix: bool,
    /// What may pass; `None`: everything.
    pub allow: Option<Vec<Pattern>>,
    /// What may not.
    pub deny: Vec<Pattern>,
    /// `allow` and `deny` are only logged.
    pub warn: bool,
    /// What is forwarded with nothing attached.
    pub public: Vec<Pattern>,
    /// What happens to calls of the platform's token endpoints.
    pub token_endpoints: TokenEndpoints,
    /// What is attached; empty: the client's own headers pass.
    pub attach: Vec<Attachment>,
    /// How the head is rewritten.
    pub rewrite: Rewrite,
    /// Largest request body, in bytes.
    pub max_body: Option<u64>,
    /// How many requests may be under way.
    pub limit: Option<Arc<Limit>>,
    /// How often requests may come.
    pub rate: Option<Arc<Rate>>,
    /// How much of a request body is kept, in bytes, to send it once more after a 401.
    pub replay_limit: usize,
}

/// How a request passes a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// With what the route attaches.
    Attached,
    /// With nothing attached.
    Public,
    /// Not at all: it is a login, and gets a decoy.
    Decoy(Login),
}

/// A path that means one thing only: no dot segments, no empty segments but the last, no encoded slashes.
#[derive(Debug, Clone, Copy)]
pub struct Path<'a>(&'a str);

impl<'a> Path<'a> {
    /// Takes a path that everybody reads alike; it is forwarded byte for byte.
    ///
    /// # Errors
    /// `bad_request` for a path that two readers may take for different ones.
    pub fn parse(path: &'a str) -> Result<Self, Fault> {
        let Some(segments) = path.strip_prefix('/') else {
            return Err(Fault::BadRequest);
        };
        // Nearly all paths are clear at the first look: no segment is empty or begins with a dot, and nothing is encoded.
        let mut before = b'/';
        let is_plain = |byte: u8| {
            let starts = std::mem::replace(&mut before, byte) == b'/';
            match byte {
                b'/' | b'.' => !starts,
                b'%' | b'\\' | b';' => false,
                _ => byte.is_ascii_graphic(),
            }
        };
        if segments.bytes().all(is_plain) {
            return Ok(Self(path));
        }
        let mut segments = segments.split('/').peekable();
        while let Some(segment) = segments.next() {
            let is_last = segments.peek().is_none();
            if !is_clear(segment) || (segment.is_empty() && !is_last) {
                return Err(Fault::BadRequest);
            }
        }
        Ok(Self(path))
    }

    /// The path as it came.
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// The segments as they came; `/a/` has a last empty one.
    pub(super) fn segments(self) -> impl Iterator<Item = &'a str> {
        self.0[1..].split('/')
    }

    /// The same without a slash at its end.
    fn without_slash(self) -> Self {
        let bare = self.0.strip_suffix('/').filter(|bare| !bare.is_empty());
        Self(bare.unwrap_or(self.0))
    }

    /// Whether it has these segments; with `rest`, and at least one more.
    fn is(self, wanted: &[String], rest: bool) -> bool {
        let mut segments = self.segments();
        let mut next_is = |wanted: &String| {
            let segment = segments.next();
            segment.is_some_and(|segment| segment_is(segment, wanted))
        };
        wanted.iter().all(&mut next_is) && segments.next().is_some() == rest
    }

    /// Where the path goes on after `prefix`: empty, or with a slash at its start.
    fn after(self, prefix: &[String]) -> Option<Self> {
        let mut rest = self.0;
        for wanted in prefix {
            let segment = rest.strip_prefix('/')?;
            let end = segment.find('/').unwrap_or(segment.len());
            if !segment_is(&segment[..end], wanted) {
                return None;
            }
            rest = &segment[end..];
        }
        Some(Self(rest))
    }
}

impl Route {
    /// The path as it goes upstream, after `strip_prefix` and before the base path; `None`: not this route's.
    pub fn take<'a>(&self, host: &str, path: Path<'a>) -> Option<Path<'a>> {
        if self.host.as_deref().is_some_and(|only| only != host) {
            return None;
        }
        let rest = path.after(&self.prefix)?;
        match self.strip_prefix {
            true if rest.0.is_empty() => Some(Path("/")),
            true => Some(rest),
            false => Some(path),
        }
    }

    /// Whether the path passes, and how.
    ///
    /// # Errors
    /// `token_endpoint_denied` and `path_not_allowed`.
    pub fn pass(&self, method: &Method, path: Path<'_>) -> Result<Passage, Fault> {
        let lists = self.public.len() + self.deny.len() + usize::from(self.allow.is_some());
        let forms = match lists > 0 && readings::are_several(path.as_str()) {
            true => readings::of(path.as_str()),
            false => Some(Vec::new()),
        };
        // What a list says of a path holds only if it says so of all that a chain of servers may read in it.
        let all = |says: &dyn Fn(Path<'_>) -> bool| {
            let forms = forms.as_ref();
            says(path) && forms.is_some_and(|forms| forms.iter().all(|form| says(Path(form))))
        };
        let is_on = |list: &[Pattern], path: Path<'_>| {
            list.iter().any(|pattern| pattern.matches(method, path))
        };
        if all(&|path: Path<'_>| is_on(&self.public, path)) {
            return Ok(Passage::Public);
        }
        if !self.attach.is_empty()
            && self.token_endpoints != TokenEndpoints::Forward
            && token_endpoints::leads_to_one(&self.base_path, path)
        {
            let login = match self.token_endpoints {
                TokenEndpoints::Decoy => token_endpoints::login(method, &self.base_path, path),
                TokenEndpoints::Deny | TokenEndpoints::Forward => None,
            };
            return login.map(Passage::Decoy).ok_or(Fault::TokenEndpointDenied);
        }
        let passes = |path: Path<'_>| {
            let is_allowed = self.allow.as_ref().is_none_or(|allow| is_on(allow, path));
            let is_denied = self.deny.iter().any(|deny| deny.may_mean(method, path));
            is_allowed && !is_denied
        };
        if all(&passes) {
            return Ok(Passage::Attached);
        }
        if self.warn {
            access_log::warn_of_refusal(&self.name, method, path);
            return Ok(Passage::Attached);
        }
        Err(Fault::PathNotAllowed)
    }
}

impl Pattern {
    /// Whether the method and path are meant.
    pub fn matches(&self, method: &Method, path: Path<'_>) -> bool {
        let named = self.methods.contains(method)
            || (*method == Method::HEAD && self.methods.contains(&Method::GET));
        (self.methods.is_empty() || named) && path.is(&self.segments, self.rest)
    }

    /// Whether they may be meant by a server that minds neither the case of a method nor a `/` behind a path.
    fn may_mean(&self, method: &Method, path: Path<'_>) -> bool {
        let is_named = |named: &Method| {
            let asked = method.as_str();
            asked.eq_ignore_ascii_case(named.as_str())
                || (*named == Method::GET && asked.eq_ignore_ascii_case("HEAD"))
        };
        let bare = match &self.segments[..] {
            [bare @ .., last] if last.is_empty() => bare,
            bare => bare,
        };
        (self.methods.is_empty() || self.methods.iter().any(is_named))
            && (path.is(&self.segments, self.rest) || path.without_slash().is(bare, self.rest))
    }
}

/// Whether a segment with escapes, dots or parameters is still unambiguous.
fn is_clear(segment: &str) -> bool {
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => return false,
            b'%' => {
                let (Some(high), Some(low)) =
                    (bytes.next().and_then(hex), bytes.next().and_then(hex))
                else {
                    return false;
                };
                let decoded = high << 4 | low;
                if matches!(decoded, b'/' | b'\\') || decoded.is_ascii_control() {
                    return false;
                }
            }
            _ if !byte.is_ascii_graphic() => return false,
            _ => {}
        }
    }
    let name = significant(segment);
    !(segment_is(segment, ".")
        || segment_is(segment, "..")
        || (name.is_empty() && !segment.is_empty()))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// What of a segment is compared: `;params` are forwarded as they are and ignored, encoded or not.
pub(super) fn significant(segment: &str) -> &str {
    let end = memchr::memchr2(b';', b'%', segment.as_bytes());
    match end {
        None => segment,
        Some(_) => {
            let bytes = segment.as_bytes();
            let end = (0..bytes.len()).find(|&at| {
                bytes[at] == b';'
                    || bytes[at..]
                        .get(..3)
                        .is_some_and(|e| e.eq_ignore_ascii_case(b"%3b"))
            });
            &segment[..end.unwrap_or(segment.len())]
        }
    }
}

/// Whether a raw segment, decoded and without its parameters, is `wanted`.
fn segment_is(segment: &str, wanted: &str) -> bool {
    let name = significant(segment);
    name == wanted || (name.contains('%') && percent_decode(name.as_bytes()).eq(wanted.bytes()))
}

#[cfg(test)]
mod tests;
