//! Respond: what the client sees. Leaks are taken out of an upstream's answer; a fault becomes an answer.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header, response::Parts,
};
use hyper::ext::ReasonPhrase;
use serde_json::json;

use super::{
    answer::Answer,
    attach::Attached,
    cookies, location,
    pool::Upstream,
    rewrite::drop_hop_by_hop,
    route::Route,
    survey::{Names, Survey},
    trip::{Part, REQUEST_ID, Trip},
};
use crate::fault::{Fault, Rule};

/// Makes the head of an upstream's answer, which has these names, fit to be passed on. `tls`: clients speak TLS with the
/// listener.
pub fn clean(
    head: &mut Parts,
    names: Names,
    route: &Route,
    upstream: &Upstream,
    attached: &Attached,
    tls: bool,
    trip: &Trip,
) {
    drop_hop_by_hop(&mut head.headers, names);
    if head.status == StatusCode::NO_CONTENT {
        head.headers.remove(header::CONTENT_LENGTH);
    }
    route.rewrite.via.append(&mut head.headers, head.version);
    head.version = http::Version::HTTP_11;
    if names.may_have(&header::SET_COOKIE) {
        match route.rewrite.drops_cookies() {
            true => drop(head.headers.remove(header::SET_COOKIE)),
            false => cookies::adopt(&mut head.headers, route, tls),
        }
    }
    location::map_back(&mut head.headers, names, route, upstream);
    let mut masked = false;
    for built in attached {
        masked |= built.mask(&mut head.headers);
        // The words beside the status are the upstream's, too; without them come the usual ones.
        let said = head.extensions.get::<ReasonPhrase>();
        if said.is_some_and(|reason| built.stands_in(reason.as_bytes())) {
            head.extensions.remove::<ReasonPhrase>();
            masked = true;
        }
    }
    if masked {
        trip.scrubbed(Part::Header);
    }
    if let Some(outcome) = trip.replay {
        let outcome = outcome.name();
        let status = format!("{PROXY_NAME}; received-status=401; details=\"{outcome}\"");
        let status = HeaderValue::try_from(status).expect("words are visible ASCII");
        head.headers.append(PROXY_STATUS, status);
    }
}

/// Makes the trailers of an upstream's answer fit to be passed on: they are read like headers by many clients.
pub fn clean_trailers(
    trailers: &mut HeaderMap,
    attached: &Attached,
    drops_cookies: bool,
    trip: &Trip,
) {
    let names = Survey::of(trailers).names;
    drop_hop_by_hop(trailers, names);
    trailers.remove(header::CONTENT_LENGTH);
    if drops_cookies {
        trailers.remove(header::SET_COOKIE);
    }
    let mut masked = false;
    for built in attached {
        masked |= built.mask(trailers);
    }
    if masked {
        trip.scrubbed(Part::Trailer);
    }
}

/// The answer that the proxy gives instead of an upstream's.
pub fn refuse(fault: Fault, mut trip: Box<Trip>) -> Response<Answer> {
    trip.fault(fault);
    trip.status = Some(fault.status());
    let id = trip.id();
    let (is_grpc, replay) = (trip.is_grpc, trip.replay);
    let is_head = trip.method == Method::HEAD;
    let text = match is_grpc {
        true => String::new(),
        false => told(fault, &id),
    };
    let length = text.len();
    // Over HTTP/2 nobody else would leave it out.
    let text = if is_head { String::new() } else { text };
    let mut answer = own(fault.status(), text, &id, trip);
    let headers = answer.headers_mut();
    if is_head && !is_grpc {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let details = match (replay, fault) {
        (Some(outcome), _) => format!("; received-status=401; details=\"{}\"", outcome.name()),
        (None, Fault::CallerNotAllowed(rule)) => format!("; details=\"{}\"", rule.name()),
        (None, _) => String::new(),
    };
    let status = format!("{PROXY_NAME}; error={}{details}", fault.code());
    headers.insert(
        PROXY_STATUS,
        HeaderValue::try_from(status).expect("codes are visible ASCII"),
    );
    if let Some(seconds) = fault.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if fault == Fault::MethodNotAllowed {
        headers.insert(header::ALLOW, HeaderValue::from_static(METHODS));
    }
    if fault == Fault::CallerNotAllowed(Rule::Key) {
        for challenge in CHALLENGES {
            headers.append(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge),
            );
        }
    }
    if fault == Fault::BadRequest {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if is_grpc {
        tell_by_grpc(fault, &mut answer);
    }
    answer
}

/// An answer of the proxy's own, in JSON, to the request with this identifier.
pub(super) fn own(status: StatusCode, text: String, id: &str, trip: Box<Trip>) -> Response<Answer> {
    let mut answer = Response::new(Answer::own(text, trip));
    *answer.status_mut() = status;
    let id = HeaderValue::from_str(id).expect("an identifier is visible ASCII");
    let json = HeaderValue::from_static("application/json");
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, json);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(REQUEST_ID, id);
    answer
}

/// What the SDKs of IBM and the clients of OpenAI both read.
fn told(fault: Fault, id: &str) -> String {
    let (code, message) = (fault.code(), fault.told_to_client());
    json!({
        "errors": [{"code": code, "message": message, "more_info": fault.more_info()}],
        "error": {"code": code, "message": message, "type": "proxy"},
        "trace": id,
        "status_code": fault.status().as_u16(),
    })
    .to_string()
}

/// What gRPC calls an answer of trailers only: clients would take JSON for a damaged message, whatever its status.
fn tell_by_grpc(fault: Fault, answer: &mut Response<Answer>) {
    // As gRPC has clients translate a status of HTTP.
    let status = match fault.status().as_u16() {
        401 => 16_u16,
        403 => 7,
        404 | 405 => 12,
        // gRPC itself would say UNAVAILABLE of 429, which clients take for a fault of the server.
        413 | 429 => 8,
        502..=504 => 14,
        _ => 13,
    };
    *answer.status_mut() = StatusCode::OK;
    let headers = answer.headers_mut();
    let kind = HeaderValue::from_static("application/grpc");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert("grpc-status", HeaderValue::from(status));
    let text = HeaderValue::from_static(fault.told_to_client());
    headers.insert("grpc-message", text);
}

/// The answer to a browser that asks whether a listed origin may call.
pub fn preflight(request: &HeaderMap, mut trip: Box<Trip>) -> Response<Answer> {
    trip.status = Some(StatusCode::NO_CONTENT);
    let mut answer = Response::new(Answer::own(Bytes::new(), trip));
    *answer.status_mut() = StatusCode::NO_CONTENT;
    for (asked, granted) in [
        (
            header::ACCESS_CONTROL_REQUEST_METHOD,
            header::ACCESS_CONTROL_ALLOW_METHODS,
        ),
        (
            header::ACCESS_CONTROL_REQUEST_HEADERS,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
        ),
    ] {
        if let Some(value) = request.get(asked) {
            answer.headers_mut().insert(granted, value.clone());
        }
    }
    answer.headers_mut().insert(
        header::ACCESS_CONTROL_MAX_AGE,
        HeaderValue::from_static("600"),
    );
    answer
}

/// Tells the browser that this listed origin may read the answer, whoever made it.
pub fn share_with(origin: HeaderValue, headers: &mut HeaderMap) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(EXPOSED),
    );
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
}

/// What is proxied (RFC 9110, section 15.5.6, wants a list).
const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// What the proxy calls itself in `Proxy-Status`.
const PROXY_NAME: &str = "watsonx-auth-proxy";

/// What a client may answer with that has no key yet; nothing says whether there was a wrong one.
const CHALLENGES: [&str; 2] = [
    "Bearer realm=\"watsonx-auth-proxy\"",
    "Basic realm=\"watsonx-auth-proxy\", charset=\"UTF-8\"",
];

pub(super) const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

const EXPOSED: &str = "X-Request-Id, Proxy-Status, Retry-After, Content-Disposition";
