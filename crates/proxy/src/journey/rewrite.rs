//! Rewrite: what the client must not say is taken out, and the request is addressed to the upstream.

use std::{borrow::Cow, fmt};

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{self, Entry},
    request::Parts,
    uri::PathAndQuery,
};
use smallvec::SmallVec;

use super::{
    admit::Peer,
    query::{has, without},
    route::{Path, Route},
    survey::{Names, Survey, is_word, listed},
};
use crate::{config::Forwarded, fault::Fault};

/// How the heads of a route's requests are rewritten.
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// Something is attached: forged authentication is taken out.
    pub attaches: bool,
    /// Headers that something is attached in, besides `Authorization`.
    pub attached_headers: InAnySpelling,
    /// Headers that are between callers and the proxy, whoever sends them where: those of keys and identities.
    pub of_callers: InAnySpelling,
    /// Query parameters that are taken out, in every spelling: the attached ones and the preset's.
    pub dropped_query: Vec<String>,
    /// Query parameters added when absent: decoded name, and the encoded pair.
    pub default_query: Vec<(String, String)>,
    /// Headers set on each request.
    pub set_headers: Vec<(HeaderName, HeaderValue)>,
    /// Cookies pass.
    pub pass_cookies: bool,
    /// The credential is looked for in the bodies of answers: they have to come whole and as they are.
    pub scrub_body: bool,
    /// What becomes of `Forwarded` and `X-Forwarded-*`.
    pub forwarded: Forwarded,
    /// The upstream's authority.
    pub host: HeaderValue,
    /// What we are called in `Via`.
    pub via: Via,
}

/// Headers that are known by their names with `_` for `-`, too, and the other way round.
#[derive(Debug, Clone)]
pub struct InAnySpelling {
    headers: Vec<HeaderName>,
    /// In all spellings.
    names: Names,
}

/// What this process is called in `Via`: nobody else's name, so that a loop is one.
#[derive(Debug, Clone)]
pub struct Via {
    name: String,
    http_10: HeaderValue,
    http_11: HeaderValue,
    http_2: HeaderValue,
}

/// The target of a request on its way upstream.
#[derive(Clone)]
pub enum Target {
    /// Byte for byte as the client sent it.
    AsItCame(PathAndQuery),
    /// With a base path, without a prefix, or with another query.
    Rewritten(String),
    /// With a credential in its query.
    Attached(PathAndQuery),
}

/// Nothing of it: a credential may stand in its query.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Target")
    }
}

impl Rewrite {
    /// A copy that shares no header value with this one: each use of a shared value is counted where all workers count.
    #[must_use]
    pub fn unshared(&self) -> Self {
        let set_headers = self.set_headers.iter();
        Self {
            set_headers: set_headers
                .map(|(name, value)| (name.clone(), unshared(value)))
                .collect(),
            host: unshared(&self.host),
            via: Via::new(self.via.name.clone()),
            ..self.clone()
        }
    }

    /// Whether cookies end here, both ways: a session of the platform's is a credential.
    pub fn drops_cookies(&self) -> bool {
        self.attaches && !self.pass_cookies
    }

    /// Rewrites the headers of a request in place.
    ///
    /// # Errors
    /// `loop_detected` when the request came through this process before.
    pub fn headers(&self, head: &mut Parts, peer: &Peer, tls: bool) -> Result<(), Fault> {
        let survey = Survey::of(&head.headers);
        self.check_loop(survey)?;
        // gRPC asks for trailers; any other transfer coding is between the client and us.
        let keeps_te = survey.lists(&header::TE, "trailers");
        let keeps_expect = !expects_leave(survey) || may_wait_for_leave(survey, head.version);
        let nominated = nominated(survey.all(&header::CONNECTION));
        let ours = self.ours();
        take_out(&mut head.headers, |name| {
            self.is_dropped(name, ours, &nominated)
        });
        if !keeps_expect {
            head.headers.remove(header::EXPECT);
        }
        if keeps_te {
            head.headers
                .insert(header::TE, HeaderValue::from_static("trailers"));
        }
        if self.forwarded == Forwarded::Append {
            append_forwarded(&mut head.headers, peer, tls);
        }
        for (name, value) in &self.set_headers {
            head.headers.insert(name, value.clone());
        }
        if self.scrub_body {
            let identity = HeaderValue::from_static("identity");
            head.headers.insert(header::ACCEPT_ENCODING, identity);
        }
        head.headers.insert(header::HOST, self.host.clone());
        self.via.append(&mut head.headers, head.version);
        head.version = Version::HTTP_11;
        Ok(())
    }

    /// Rewrites the trailers of a request in place: what must not stand in its head does not stand there either, nor
    /// does what would frame or address the message after the fact.
    pub fn trailers(&self, trailers: &mut HeaderMap) {
        let nominated = nominated(trailers.get_all(header::CONNECTION));
        let ours = self.ours();
        take_out(trailers, |name| {
            SAID_BEFORE.contains(name) || self.is_dropped(name, ours, &nominated)
        });
    }

    /// The target as it goes upstream, with everything in it but the credential.
    pub fn target(&self, route: &Route, came: &PathAndQuery, path: Path<'_>) -> Target {
        let query = came.query();
        let kept = query.map(|query| without(query, &self.dropped_query));
        let added = self
            .default_query
            .iter()
            .filter(|(name, _)| !query.is_some_and(|query| has(query, name)));
        let added: SmallVec<[&str; 2]> = added.map(|(_, pair)| pair.as_str()).collect();
        let same_query = added.is_empty() && matches!(kept, None | Some(Cow::Borrowed(_)));
        let same_path = route.base_path.is_empty() && path.as_str().len() == came.path().len();
        // One that has no path (`http://host?query`) means `/`, and has to say so from here on.
        if same_query && same_path && came.as_str().starts_with('/') {
            return Target::AsItCame(came.clone());
        }
        let mut target = route.base_path.clone();
        target.push_str(path.as_str());
        let pairs = kept
            .as_deref()
            .filter(|kept| !kept.is_empty())
            .into_iter()
            .chain(added);
        for (index, pairs) in pairs.enumerate() {
            target.push(if index == 0 { '?' } else { '&' });
            target.push_str(pairs);
        }
        Target::Rewritten(target)
    }

    fn is_dropped(&self, name: &HeaderName, ours: Names, nominated: &[HeaderName]) -> bool {
        (may_be_ours(name, ours) && self.is_ours_in_any_spelling(name)) || nominated.contains(name)
    }

    /// The names that may be dropped, but for those of which only the beginning is known.
    fn ours(&self) -> Names {
        const OURS: Names = Names::of(&[
            "accept-charset",
            "authorization",
            "connection",
            "content-length",
            "cookie",
            "forwarded",
            "http2-settings",
            "if-range",
            "keep-alive",
            "range",
            "request-range",
            "te",
            "transfer-encoding",
            "upgrade",
            "x-proxy-key",
        ]);
        OURS.union(self.attached_headers.names)
            .union(self.of_callers.names)
    }

    fn is_ours_in_any_spelling(&self, name: &HeaderName) -> bool {
        let text = name.as_str();
        let dropped = match text {
            // Who sends the body says how it is framed, and knows it by these.
            "transfer-encoding" | "content-length" | "host" => return false,
            _ if memchr::memchr(b'_', text.as_bytes()).is_none() => self.is_ours(text),
            // Many servers take `_` and `-` for one, and would count both.
            _ => match &*text.replace('_', "-") {
                "transfer-encoding" | "content-length" => true,
                dashed => self.is_ours(dashed),
            },
        };
        dropped
            || (self.attaches && self.attached_headers.include(text))
            || self.of_callers.include(text)
    }

    /// Whether a header of this name is not the client's to send on.
    fn is_ours(&self, text: &str) -> bool {
        match text {
            "connection" | "keep-alive" | "te" | "upgrade" | "http2-settings" => true,
            "authorization" | "x-proxy-key" => self.attaches,
            "cookie" => self.drops_cookies(),
            // In two parts of an answer nobody finds what stands across both.
            "range" | "if-range" | "request-range" => self.scrub_body,
            // In UTF-16 nobody finds it either.
            "accept-charset" => self.scrub_body,
            // Nobody could tell our element of it from the client's.
            "forwarded" => true,
            _ if text.starts_with("proxy-") => true,
            _ if text.starts_with("x-forwarded-") => self.forwarded == Forwarded::Remove,
            _ => false,
        }
    }

    fn check_loop(&self, headers: Survey<'_>) -> Result<(), Fault> {
        let ours = self.via.name.as_bytes();
        let is_ours = |via: &HeaderValue| memchr::memmem::find(via.as_bytes(), ours).is_some();
        if headers.all(&header::VIA).any(is_ours) {
            Err(Fault::LoopDetected)
        } else {
            Ok(())
        }
    }
}

/// A first look, which ends here for nearly all: a name in another spelling has the same length and ends.
fn may_be_ours(name: &HeaderName, ours: Names) -> bool {
    ours.may_have(name)
        || matches!(
            name.as_str().as_bytes(),
            [b'p', b'r', ..] | [b'x', _, b'f', ..]
        )
}

fn unshared(value: &HeaderValue) -> HeaderValue {
    let mut copy = HeaderValue::from_bytes(value.as_bytes()).expect("it was one before");
    copy.set_sensitive(value.is_sensitive());
    copy
}

impl InAnySpelling {
    fn include(&self, text: &str) -> bool {
        let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte };
        self.headers.iter().any(|header| {
            let bytes = header.as_str().bytes();
            bytes.map(dashed).eq(text.bytes().map(dashed))
        })
    }
}

impl From<Vec<HeaderName>> for InAnySpelling {
    fn from(headers: Vec<HeaderName>) -> Self {
        let names = headers.iter().fold(Names::of(&[]), |names, header| {
            names.union(match header.as_str().as_bytes() {
                // Other spellings have other ends.
                [b'-' | b'_', ..] | [.., b'-' | b'_'] => Names::ALL,
                _ => Names::of(&[header.as_str()]),
            })
        });
        Self { headers, names }
    }
}

/// Takes out of an answer what belongs to one connection only, as far as who has read it has not done so.
pub fn drop_hop_by_hop(headers: &mut HeaderMap, names: Names) {
    let mut named = SmallVec::new();
    if names.may_have(&header::CONNECTION)
        && let Entry::Occupied(lines) = headers.entry(header::CONNECTION)
    {
        named = nominated(lines.iter());
        lines.remove();
    }
    if names.may_have_one(const { Names::of(&OF_ONE_CONNECTION) }) {
        for name in OF_ONE_CONNECTION {
            headers.remove(name);
        }
    }
    for name in named {
        headers.remove(name);
    }
}

/// Takes out all headers of names that are to go; says whether there were any. One look at each name costs less than to
/// look each one up.
pub fn take_out(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) -> bool {
    let mut names = headers.keys().filter(|name| goes(name));
    // Nearly always there is none, or the one that follows.
    let Some(first) = names.next().cloned() else {
        return false;
    };
    let others: SmallVec<[HeaderName; 4]> = names.cloned().collect();
    headers.remove(first);
    for name in others {
        headers.remove(name);
    }
    true
}

/// Whether a client waits for leave to send its body.
pub fn expects_leave(headers: Survey<'_>) -> bool {
    let is_leave = |e: &HeaderValue| e.as_bytes().eq_ignore_ascii_case(b"100-continue");
    headers
        .only(&header::EXPECT)
        .is_ok_and(|expected| expected.is_some_and(is_leave))
}

/// Whether there is anything to wait for leave with: over HTTP/1.0 nobody does, and without a body it means nothing.
fn may_wait_for_leave(headers: Survey<'_>, version: Version) -> bool {
    let length = headers.first(&header::CONTENT_LENGTH);
    version > Version::HTTP_10
        && (headers.has(&header::TRANSFER_ENCODING) || length.is_some_and(|length| length != "0"))
}

/// The headers that these lines of `Connection` name; never those that frame or address the message.
pub fn nominated<'a>(
    lines: impl IntoIterator<Item = &'a HeaderValue>,
) -> SmallVec<[HeaderName; 2]> {
    let mut names = SmallVec::new();
    listed(lines).for_each(|listed| {
        let is_about_connection = is_word(listed, "keep-alive") || is_word(listed, "close");
        if !is_about_connection
            && let Ok(name) = HeaderName::from_bytes(listed)
            && ![
                header::HOST,
                header::CONTENT_LENGTH,
                header::TRANSFER_ENCODING,
            ]
            .contains(&name)
        {
            names.push(name);
        }
    });
    names
}

fn append_forwarded(headers: &mut HeaderMap, peer: &Peer, tls: bool) {
    let host = headers.get(header::HOST).cloned();
    let append = |headers: &mut HeaderMap, name: &'static str, value: &str| {
        let name = HeaderName::from_static(name);
        let before = headers
            .get_all(&name)
            .iter()
            .filter_map(|line| line.to_str().ok());
        let all = before.chain([value]).collect::<Vec<_>>().join(", ");
        if let Ok(all) = HeaderValue::from_str(&all) {
            headers.insert(name, all);
        }
    };
    if let Peer::Tcp { remote, .. } = peer {
        append(
            headers,
            "x-forwarded-for",
            &remote.ip().to_canonical().to_string(),
        );
    }
    append(
        headers,
        "x-forwarded-proto",
        if tls { "https" } else { "http" },
    );
    if let Some(host) = host.as_ref().and_then(|host| host.to_str().ok()) {
        append(headers, "x-forwarded-host", host);
    }
}

impl Via {
    /// A name for this process.
    pub fn new(name: String) -> Self {
        let value = |version| {
            HeaderValue::try_from(format!("{version} {name}")).expect("a name is visible ASCII")
        };
        Self {
            http_10: value("1.0"),
            http_11: value("1.1"),
            http_2: value("2.0"),
            name,
        }
    }

    /// Says that a message came through here, which version it came in.
    pub fn append(&self, headers: &mut HeaderMap, version: Version) {
        let ours = match version {
            Version::HTTP_10 => &self.http_10,
            Version::HTTP_2 => &self.http_2,
            _ => &self.http_11,
        };
        headers.append(header::VIA, ours.clone());
    }
}

/// What an answer says, besides `Connection`, to us and not to the client.
const OF_ONE_CONNECTION: [&str; 6] = [
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// What trailers cannot change any more (RFC 9110, section 6.5.1).
static SAID_BEFORE: [HeaderName; 11] = [
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::HOST,
    header::MAX_FORWARDS,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
];

#[cfg(test)]
impl Default for Rewrite {
    fn default() -> Self {
        Self {
            attaches: true,
            attached_headers: Vec::new().into(),
            of_callers: Vec::new().into(),
            dropped_query: Vec::new(),
            default_query: Vec::new(),
            set_headers: Vec::new(),
            pass_cookies: false,
            scrub_body: false,
            forwarded: Forwarded::Remove,
            host: HeaderValue::from_static("upstream:1"),
            via: Via::new("watsonx-auth-proxy-test".into()),
        }
    }
}

#[cfg(test)]
mod tests;
