//! The shapes in which IBM's services answer: JSON, HTML pages, event streams and their error bodies.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Collected, Full, combinators::UnsyncBoxBody};
use serde_json::{Value, json};
use tokio::time::{Sleep, sleep};

use crate::random_alphanumeric;

/// The body of every answer; its error is that of a request body which is sent straight back.
pub(crate) type Body = UnsyncBoxBody<Bytes, hyper::Error>;
/// An answer on its way to the client.
pub(crate) type Answer = Response<Body>;

pub(crate) fn whole(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Answer {
    let mut answer = Response::new(
        Full::new(body.into())
            .map_err(|never| match never {})
            .boxed_unsync(),
    );
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

pub(crate) fn json(status: StatusCode, body: &Value) -> Answer {
    whole(status, "application/json", body.to_string())
}

pub(crate) fn html(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    whole(status, "text/html; charset=utf-8", body)
}

/// A server-sent event stream: the first frame at once, each further one after `interval`.
pub(crate) fn events(frames: Vec<String>, interval: Duration) -> Answer {
    let frames = frames.into_iter().map(Bytes::from).collect();
    let mut answer = Response::new(paced(frames, interval));
    let headers = answer.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

/// The same answer in chunks of a few bytes, and so without its length.
pub(crate) async fn in_chunks(answer: Answer, interval: Duration) -> Answer {
    let (head, body) = answer.into_parts();
    // A body that comes from a client and breaks off has nothing more to give.
    let whole = body
        .collect()
        .await
        .map(Collected::to_bytes)
        .unwrap_or_default();
    let chunks = whole
        .chunks(CHUNK)
        .map(|chunk| whole.slice_ref(chunk))
        .collect();
    Response::from_parts(head, paced(chunks, interval))
}

/// The error body of watsonx and the Watson Data APIs.
pub(crate) fn watsonx_error(status: StatusCode, code: &str, message: &str) -> Answer {
    json(
        status,
        &json!({
            "errors": [{
                "code": code,
                "message": message,
                "more_info": "https://cloud.ibm.com/apidocs/watsonx-ai",
            }],
            "trace": random_alphanumeric(32).to_ascii_lowercase(),
            "status_code": status.as_u16(),
        }),
    )
}

/// The error body of the platform's own (Zen) APIs.
pub(crate) fn zen_error(status: StatusCode, exception: &str) -> Answer {
    json(
        status,
        &json!({
            "_statusCode_": status.as_u16(),
            "exception": exception,
            "message": exception,
        }),
    )
}

/// 405 as nginx answers it.
pub(crate) fn method_not_allowed(allowed: &'static str) -> Answer {
    let mut answer = html(
        StatusCode::METHOD_NOT_ALLOWED,
        "<html><head><title>405 Not Allowed</title></head><body><center><h1>405 Not Allowed</h1></center></body></html>\n",
    );
    answer
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// 404 as the platform's nginx answers it for a path that no service owns.
pub(crate) fn not_found() -> Answer {
    html(
        StatusCode::NOT_FOUND,
        "<html><head><title>404 Not Found</title></head><body><center><h1>404 Not Found</h1></center></body></html>\n",
    )
}

/// What an OpenShift router answers while no pod is behind the route.
pub(crate) fn application_not_available() -> Answer {
    html(
        StatusCode::SERVICE_UNAVAILABLE,
        "<html><head><title>Application is not available</title></head><body><div>\
         <h1>Application is not available</h1>\
         <p>The application is currently not serving requests at this endpoint. \
         It may not have been started or is still starting.</p></div></body></html>\n",
    )
}

fn paced(frames: VecDeque<Bytes>, interval: Duration) -> Body {
    let paced = Paced {
        frames,
        interval,
        pause: None,
    };
    paced.boxed_unsync()
}

struct Paced {
    frames: VecDeque<Bytes>,
    interval: Duration,
    pause: Option<Pin<Box<Sleep>>>,
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let paced = self.get_mut();
        if let Some(pause) = &mut paced.pause {
            ready!(pause.as_mut().poll(context));
        }
        let frame = paced.frames.pop_front();
        paced.pause = (!paced.frames.is_empty()).then(|| Box::pin(sleep(paced.interval)));
        Poll::Ready(frame.map(|frame| Ok(Frame::data(frame))))
    }
}

/// Bytes of each chunk of an answer in chunks.
const CHUNK: usize = 8;

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn frames_keep_their_pace() {
        let start = Instant::now();
        let frames = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let mut body = events(frames, Duration::from_millis(50)).into_body();
        let mut seen = Vec::new();
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            seen.push((data, start.elapsed().as_millis()));
        }
        // Tokio's timer has a resolution of one millisecond.
        let expected = [("a", 0..1), ("b", 50..52), ("c", 100..104)];
        assert_eq!(seen.len(), expected.len());
        for ((data, at), (wanted, within)) in seen.iter().zip(expected) {
            assert_eq!(data, wanted);
            assert!(within.contains(at), "{wanted} came after {at} ms");
        }
    }
}
