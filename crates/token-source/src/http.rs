//! One request to a token endpoint over a connection of its own: bounded in time and size, redirects not followed.
//! And one to any other server, for who wants to know what it says to a credential.

use std::{
    pin::pin,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version,
    header::{ACCEPT, CONNECTION, CONTENT_LENGTH, DATE, HOST, RETRY_AFTER, USER_AGENT},
    uri::PathAndQuery,
};
use http_body_util::{BodyExt as _, Full};
use hyper::{Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use secrecy::zeroize::Zeroizing;
use tokio::{select, time};

use crate::{
    connect::Connector,
    exchange::{ExchangeError, Record},
};

/// A body that is wiped when it was sent; hyper's write buffer, where it goes through, is not.
pub(crate) type Body = Zeroizing<Vec<u8>>;

/// What a token endpoint said.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// How long it asks us to stay away.
    pub(crate) retry_after: Option<Duration>,
    /// Empty unless the status is a success: nobody reads the other bodies, and nothing may log them.
    pub(crate) body: Body,
}

/// What is heard besides, for a [`Record`] that is kept.
#[derive(Default)]
pub(crate) struct Heard {
    /// The first 4 KiB of a body whose status is no success.
    pub(crate) refusal: Body,
    /// The body is longer.
    pub(crate) is_cut: bool,
    /// The server's clock.
    pub(crate) date: Option<SystemTime>,
}

/// Sends a request whose URI is a path (and a query), which goes behind the origin's base path, and reads the answer.
///
/// # Errors
/// [`ExchangeError`]: no connection, connection lost, more than 30 s in all, more than 256 KiB.
pub(crate) async fn send(
    connector: &Connector,
    request: Request<Body>,
    record: &Record,
) -> Result<Answer, ExchangeError> {
    send_and_record(connector, request, None, true, record).await
}

/// As [`send`]; `record` is told of `path` instead of the request's own, which has values in it.
pub(crate) async fn send_with_values(
    connector: &Connector,
    request: Request<Body>,
    path: &str,
    record: &Record,
) -> Result<Answer, ExchangeError> {
    send_and_record(connector, request, Some(path), true, record).await
}

/// Sends a GET with these headers, and reads no more than its status; `target` is a path with or without a query, which
/// goes behind the origin's base path. `record` is told of it.
///
/// # Errors
/// As in an exchange: no connection, connection lost, more than 30 s in all.
pub async fn ask(
    connector: &Connector,
    target: PathAndQuery,
    headers: HeaderMap,
    record: &Record,
) -> Result<StatusCode, ExchangeError> {
    let mut request = Request::new(Body::default());
    *request.uri_mut() = Uri::from(target);
    *request.headers_mut() = headers;
    let answer = send_and_record(connector, request, None, false, record).await?;
    Ok(answer.status)
}

/// Which bodies are read.
#[derive(Clone, Copy)]
struct Bodies {
    success: bool,
    refusal: bool,
}

async fn send_and_record(
    connector: &Connector,
    request: Request<Body>,
    path: Option<&str>,
    reads_success: bool,
    record: &Record,
) -> Result<Answer, ExchangeError> {
    let bodies = Bodies {
        success: reads_success,
        refusal: record.is_kept(),
    };
    let mut account = record.begin(connector, &request, path);
    let (answer, heard) = time::timeout(TIME_LIMIT, round_trip(connector, request, bodies))
        .await
        .unwrap_or(Err(ExchangeError::Timeout))?;
    if let Some(account) = &mut account {
        account.hear(&answer, &heard);
    }
    Ok(answer)
}

async fn round_trip(
    connector: &Connector,
    request: Request<Body>,
    bodies: Bodies,
) -> Result<(Answer, Heard), ExchangeError> {
    let request = complete(connector, request);
    let stream = connector
        .connect(TIME_LIMIT)
        .await
        .map_err(ExchangeError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(ExchangeError::Broken)?;
    let answer = async {
        let response = sender.send_request(request).await;
        read(response.map_err(ExchangeError::Broken)?, bodies).await
    };
    // Both are driven here rather than in a task, so that dropping the attempt drops the connection.
    let (mut connection, mut answer) = (pin!(connection), pin!(answer));
    let mut open = true;
    loop {
        select! {
            answer = &mut answer => return answer,
            _ = &mut connection, if open => open = false,
        }
    }
}

fn complete(connector: &Connector, request: Request<Body>) -> Request<Full<Bytes>> {
    let origin = connector.origin();
    let (mut parts, body) = request.into_parts();
    let target = parts.uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let target = format!("{}{target}", origin.base_path);
    parts.uri = Uri::from(
        PathAndQuery::try_from(target).expect("an origin's base path is made of URI characters"),
    );
    parts.version = Version::HTTP_11;
    let host = HeaderValue::try_from(origin.authority())
        .expect("an origin's host is a DNS name or an address");
    parts.headers.insert(HOST, host);
    parts
        .headers
        .entry(ACCEPT)
        .or_insert(HeaderValue::from_static("application/json"));
    parts
        .headers
        .entry(USER_AGENT)
        .or_insert(HeaderValue::from_static(AGENT));
    parts
        .headers
        .insert(CONNECTION, HeaderValue::from_static("close"));
    // hyper leaves it out where there is no body, and some servers want it of any POST (411).
    if body.is_empty() && parts.method != Method::GET {
        parts
            .headers
            .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    Request::from_parts(parts, Full::new(Bytes::from_owner(body)))
}

async fn read(
    response: Response<Incoming>,
    bodies: Bodies,
) -> Result<(Answer, Heard), ExchangeError> {
    let (parts, mut incoming) = response.into_parts();
    let mut body = Body::default();
    let mut heard = Heard::default();
    if parts.status.is_success() && bodies.success {
        // All the room at once: a vector that grows leaves copies behind.
        body.reserve(SIZE_LIMIT);
        while let Some(frame) = incoming.frame().await {
            let Ok(data) = frame.map_err(ExchangeError::Broken)?.into_data() else {
                continue;
            };
            if body.len() + data.len() > SIZE_LIMIT {
                return Err(ExchangeError::TooLarge);
            }
            body.extend_from_slice(&data);
        }
    } else if !parts.status.is_success() && bodies.refusal {
        let hears = hear(&mut incoming, &mut heard);
        if time::timeout(REFUSAL_TIME_LIMIT, hears).await.is_err() {
            heard.is_cut = true;
        }
    }
    heard.date = date(&parts.headers);
    let answer = Answer {
        status: parts.status,
        retry_after: retry_after(&parts.headers, SystemTime::now()),
        body,
    };
    Ok((answer, heard))
}

/// The start of a body; what breaks off says as much as came.
async fn hear(incoming: &mut Incoming, heard: &mut Heard) {
    heard.refusal.reserve(REFUSAL_LIMIT);
    loop {
        let data = match incoming.frame().await {
            None => return,
            Some(Err(_)) => {
                heard.is_cut = true;
                return;
            }
            Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
        };
        let room = REFUSAL_LIMIT - heard.refusal.len();
        heard
            .refusal
            .extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            heard.is_cut = true;
            return;
        }
    }
}

fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(DATE)?.to_str().ok()?.trim()).ok()
}

/// `Retry-After` as seconds or as a date; a date in the past asks for nothing.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => httpdate::parse_http_date(text)
            .ok()?
            .duration_since(now)
            .ok(),
    }
}

const TIME_LIMIT: Duration = Duration::from_secs(30);
const SIZE_LIMIT: usize = 256 << 10;
/// Enough for any message, and for a page around it.
const REFUSAL_LIMIT: usize = 4 << 10;
/// The status is known by then.
const REFUSAL_TIME_LIMIT: Duration = Duration::from_secs(5);
/// The name that operators of platforms know.
const AGENT: &str = concat!("watsonx-auth-proxy/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        let cases = [
            ("120", Some(120)),
            ("0", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:48:37 GMT", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("99999999999999999999999", None),
        ];
        for (value, expected) in cases {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            assert_eq!(
                retry_after(&headers, now),
                expected.map(Duration::from_secs),
                "{value}"
            );
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
