//! Step 3: what the client must not say is taken out, and the request is addressed to the upstream.

use std::{borrow::Cow, fmt};

use http::{
    HeaderMap, HeaderName, HeaderValue, Version, header, request::Parts, uri::PathAndQuery,
};
use smallvec::SmallVec;

use super::{
    admit::Peer,
    query::{has, without},
    route::{Path, Route},
};
use crate::{config::Forwarded, fault::Fault};

/// How the heads of a route's requests are rewritten.
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// Something is attached: forged authentication is taken out.
    pub attaches: bool,
    /// Headers that something is attached in, besides `Authorization`.
    pub attached_headers: Vec<HeaderName>,
    /// Headers that are between callers and the proxy, whoever sends them where: those of keys and identities.
    pub of_callers: Vec<HeaderName>,
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
}

/// Nothing of it: a credential may stand in its query.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Target")
    }
}

impl Rewrite {
    /// Rewrites the headers of a request in place.
    ///
    /// # Errors
    /// `loop_detected` when the request came through this process before.
    pub fn headers(
        &self,
        head: &mut Parts,
        peer: &Peer,
        client_host: &str,
        tls: bool,
    ) -> Result<(), Fault> {
        self.check_loop(&head.headers)?;
        let keeps_te = asks_for_trailers(&head.headers);
        let keeps_expect = !expects_leave(&head.headers) || may_wait_for_leave(head);
        let nominated = nominated(&head.headers);
        take_out(&mut head.headers, |name| self.is_dropped(name, &nominated));
        if !keeps_expect {
            head.headers.remove(header::EXPECT);
        }
        if keeps_te {
            head.headers
                .insert(header::TE, HeaderValue::from_static("trailers"));
        }
        if self.forwarded == Forwarded::Append {
            append_forwarded(&mut head.headers, peer, client_host, tls);
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
        let nominated = nominated(trailers);
        take_out(trailers, |name| {
            FRAMES_OR_ADDRESSES.contains(name) || self.is_dropped(name, &nominated)
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
        if same_query && route.base_path.is_empty() && path.as_str().len() == came.path().len() {
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

    fn is_dropped(&self, name: &HeaderName, nominated: &[HeaderName]) -> bool {
        let text = name.as_str();
        let dropped = match text {
            // The framing stays as it is: hyper's client sends no body at all on a GET without it.
            "transfer-encoding" | "content-length" | "host" => return false,
            _ if memchr::memchr(b'_', text.as_bytes()).is_none() => self.is_ours(text),
            // Many servers take `_` and `-` for one, and would count both.
            _ => match &*text.replace('_', "-") {
                "transfer-encoding" | "content-length" => true,
                dashed => self.is_ours(dashed),
            },
        };
        dropped
            || nominated.contains(name)
            || (self.attaches && is_one_of(&self.attached_headers, text))
            || is_one_of(&self.of_callers, text)
    }

    /// Whether a header of this name is not the client's to send on.
    fn is_ours(&self, text: &str) -> bool {
        match text {
            "connection" | "keep-alive" | "te" | "upgrade" | "http2-settings" => true,
            "authorization" | "x-proxy-key" => self.attaches,
            "cookie" => self.attaches && !self.pass_cookies,
            // In two parts of an answer nobody finds what stands across both.
            "range" | "if-range" | "request-range" => self.scrub_body,
            // In UTF-16 nobody finds it either.
            "accept-charset" => self.scrub_body,
            "forwarded" => self.forwarded == Forwarded::Remove,
            _ if text.starts_with("proxy-") => true,
            _ if text.starts_with("x-forwarded-") => self.forwarded == Forwarded::Remove,
            _ => false,
        }
    }

    fn check_loop(&self, headers: &HeaderMap) -> Result<(), Fault> {
        let ours = self.via.name.as_bytes();
        let seen = headers
            .get_all(header::VIA)
            .iter()
            .any(|via| memchr::memmem::find(via.as_bytes(), ours).is_some());
        if seen {
            Err(Fault::LoopDetected)
        } else {
            Ok(())
        }
    }
}

/// Whether a name is that of one of these headers, with `_` for `-` or the other way round.
fn is_one_of(headers: &[HeaderName], text: &str) -> bool {
    let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte };
    headers.iter().any(|header| {
        let bytes = header.as_str().bytes();
        bytes.map(dashed).eq(text.bytes().map(dashed))
    })
}

/// Takes out what belongs to one connection only, in either direction; framing is left to hyper.
pub fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let nominated = nominated(headers);
    take_out(headers, |name| {
        OF_ONE_CONNECTION.contains(name) || nominated.contains(name)
    });
}

/// Takes out all headers of names that are to go; says whether there were any. One look at each name costs less than to
/// look each one up.
pub fn take_out(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) -> bool {
    let names = headers.keys().filter(|name| goes(name));
    let names: SmallVec<[HeaderName; 8]> = names.cloned().collect();
    for name in &names {
        headers.remove(name);
    }
    !names.is_empty()
}

/// Refuses a request whose [framing](framing_is_clear) two readers may take for different ones.
///
/// # Errors
/// `bad_request`.
pub fn check_framing(head: &Parts) -> Result<(), Fault> {
    match framing_is_clear(&head.headers, head.version) {
        true => Ok(()),
        false => Err(Fault::BadRequest),
    }
}

/// Whether nobody can read the framing in another way: `Transfer-Encoding` is exactly one `chunked` and not over HTTP/1.0, or
/// there is one `Content-Length`, written in the one way, or neither.
pub fn framing_is_clear(headers: &HeaderMap, version: Version) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = match (lengths.next(), lengths.next()) {
        (_, Some(_)) => return false,
        (length, None) => length.map(HeaderValue::as_bytes),
    };
    match (codings.next(), codings.next(), length) {
        (None, _, None | Some(b"0")) => true,
        (None, _, Some(digits)) => {
            digits.iter().all(u8::is_ascii_digit)
                && digits.first().is_some_and(|first| *first != b'0')
        }
        (Some(coding), None, None) => {
            coding.as_bytes().eq_ignore_ascii_case(b"chunked") && version > Version::HTTP_10
        }
        _ => false,
    }
}

/// Whether a client waits for leave to send its body.
pub fn expects_leave(headers: &HeaderMap) -> bool {
    let mut expected = headers.get_all(header::EXPECT).iter();
    let is_leave = |e: &HeaderValue| e.as_bytes().eq_ignore_ascii_case(b"100-continue");
    expected.next().is_some_and(is_leave) && expected.next().is_none()
}

/// Whether there is anything to wait for leave with: over HTTP/1.0 nobody does, and without a body it means nothing.
fn may_wait_for_leave(head: &Parts) -> bool {
    let length = head.headers.get(header::CONTENT_LENGTH);
    head.version > Version::HTTP_10
        && (head.headers.contains_key(header::TRANSFER_ENCODING)
            || length.is_some_and(|length| length != "0"))
}

/// The headers that `Connection` names; never those that frame or address the message.
fn nominated(headers: &HeaderMap) -> SmallVec<[HeaderName; 2]> {
    let lists = headers
        .get_all(header::CONNECTION)
        .iter()
        .map(HeaderValue::as_bytes);
    let tokens = lists
        .flat_map(|list| list.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii);
    tokens
        .filter(|token| {
            !token.eq_ignore_ascii_case(b"close") && !token.eq_ignore_ascii_case(b"keep-alive")
        })
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .filter(|name| {
            ![
                header::HOST,
                header::CONTENT_LENGTH,
                header::TRANSFER_ENCODING,
            ]
            .contains(name)
        })
        .collect()
}

/// gRPC asks for trailers; any other transfer coding is between the client and us.
fn asks_for_trailers(headers: &HeaderMap) -> bool {
    let lists = headers
        .get_all(header::TE)
        .iter()
        .map(HeaderValue::as_bytes);
    lists
        .flat_map(|list| list.split(|byte| *byte == b','))
        .any(|token| token.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

fn append_forwarded(headers: &mut HeaderMap, peer: &Peer, client_host: &str, tls: bool) {
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
    append(headers, "x-forwarded-host", client_host);
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
/// What trailers cannot change any more.
const FRAMES_OR_ADDRESSES: [HeaderName; 4] = [
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::HOST,
    header::TRAILER,
];

/// What an answer says to us and not to the client.
const OF_ONE_CONNECTION: [HeaderName; 7] = [
    header::CONNECTION,
    header::UPGRADE,
    header::TRANSFER_ENCODING,
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authentication-info"),
];

#[cfg(test)]
impl Default for Rewrite {
    fn default() -> Self {
        Self {
            attaches: true,
            attached_headers: vec![header::AUTHORIZATION],
            of_callers: Vec::new(),
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
