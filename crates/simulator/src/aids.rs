//! Test aids under `/simulator/`, on both ports and without any authentication; no real platform has them.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::{
    answer::{Answer, html, in_chunks, json, not_found},
    target::query_value,
};

/// Answers `/simulator/<aid>`. `mirror`, which sends the body back while it arrives, and
/// `early` are answered before there is a whole request.
///
/// | aid | answer |
/// |---|---|
/// | `echo` | method, target, headers and body length as JSON |
/// | `redirect?to=URL` | 302 with that `Location` |
/// | `slow?ms=N` | 200 after N milliseconds |
/// | `cookie` | 200 with two cookies |
/// | `status/NNN` | that status |
/// | `early/NNN` | that status as soon as the head is there; the body is then read and dropped |
/// | `chunked/NNN` | that status, with a body in chunks |
/// | `leak` | target and `Authorization`, as they arrived, in every header and place where a credential can leak |
pub(crate) async fn answer(request: &Request<Bytes>, segments: &[&str]) -> Answer {
    match segments {
        ["echo"] => json(StatusCode::OK, &echo(request)),
        ["redirect"] => redirect(request),
        ["slow"] => {
            let pause = query_value(request.uri(), "ms").and_then(|ms| ms.parse().ok());
            sleep(Duration::from_millis(pause.unwrap_or(0))).await;
            json(StatusCode::OK, &json!({ "slept_ms": pause }))
        }
        ["cookie"] => cookie(),
        ["status", code] => status(code),
        ["chunked", code] => in_chunks(status(code), CHUNK_INTERVAL).await,
        ["leak"] => leak(request),
        _ => not_found(),
    }
}

/// The status that is written in the path.
pub(crate) fn status(code: &str) -> Answer {
    match code.parse() {
        Ok(status) => json(status, &json!({ "status": status.as_u16() })),
        Err(_) => not_found(),
    }
}

fn echo(request: &Request<Bytes>) -> Value {
    let headers: Vec<Value> = request
        .headers()
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    json!({
        "method": request.method().as_str(),
        "target": request.uri().to_string(),
        "headers": headers,
        "body_length": request.body().len(),
    })
}

fn redirect(request: &Request<Bytes>) -> Answer {
    let to = query_value(request.uri(), "to").unwrap_or_default();
    let Ok(location) = HeaderValue::try_from(to) else {
        return not_found();
    };
    with_header(html(StatusCode::FOUND, ""), header::LOCATION, location)
}

fn cookie() -> Answer {
    let mut answer = json(StatusCode::OK, &json!({}));
    for cookie in ["first=1; Path=/", "second=2; Path=/; HttpOnly"] {
        answer
            .headers_mut()
            .append(header::SET_COOKIE, HeaderValue::from_static(cookie));
    }
    answer
}

fn leak(request: &Request<Bytes>) -> Answer {
    let target = request.uri().to_string();
    let authorization = request
        .headers()
        .get(header::AUTHORIZATION)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
        .unwrap_or_default();
    let page = format!(
        "<html><body><a href=\"{target}\">{target}</a><p>{authorization}</p></body></html>\n"
    );
    let headers = [
        (header::LOCATION, target.clone()),
        (header::CONTENT_LOCATION, target.clone()),
        (header::LINK, format!("<{target}>; rel=\"next\"")),
        (header::REFRESH, format!("0; url={target}")),
        (header::SET_COOKIE, format!("last={authorization}; Path=/")),
        (
            HeaderName::from_static("x-received-authorization"),
            authorization,
        ),
        (HeaderName::from_static("x-received-target"), target),
    ];
    headers
        .into_iter()
        .fold(html(StatusCode::OK, page), |answer, (name, value)| {
            // What cannot be a header value cannot leak through one.
            match HeaderValue::try_from(value) {
                Ok(value) => with_header(answer, name, value),
                Err(_) => answer,
            }
        })
}

fn with_header<B>(mut answer: Response<B>, name: HeaderName, value: HeaderValue) -> Response<B> {
    answer.headers_mut().insert(name, value);
    answer
}

const CHUNK_INTERVAL: Duration = Duration::from_millis(5);
