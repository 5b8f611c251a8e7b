//! A request's way from its head to the service that it is for, and the answer's way back.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, StatusCode, header, request::Parts};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::sleep;

use crate::{
    Outage, Refusal, Service, TokenState, aids,
    answer::{self, Answer},
    carried, license,
    platform::{self, login::Endpoint},
    server::{Port, Shared},
    target,
};

/// Why a connection ends without an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Abandoned {
    /// The outage asks for it.
    #[error("closed on purpose")]
    OnPurpose,
    /// The request's body did not arrive whole.
    #[error("the request broke off")]
    BrokenRequest,
}

/// Answers one request.
pub(crate) async fn respond(
    port: &Port,
    connection: u64,
    request: Request<Incoming>,
) -> Result<Answer, Abandoned> {
    let shared = &port.shared;
    let (head, body) = request.into_parts();
    let tokens = carried::tokens(&shared.state(), port.service, &head);
    let bad = tokens
        .iter()
        .copied()
        .find(|token| *token != TokenState::Valid);
    let sequence = shared
        .recorder()
        .begin(port.service, connection, &head, tokens);
    let Some(inner) = port.inner_path(head.uri.path()) else {
        return Ok(answer::not_found());
    };
    let segments = target::segments(&inner);
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    if let ["simulator", "mirror"] = segments.as_slice() {
        return Ok(mirror(shared, sequence, &head, body));
    }
    if let Some(answer) = early(port, &segments, bad) {
        drain(shared, sequence, body);
        return Ok(answer);
    }
    let Some(request) = receive(shared, sequence, head, body).await? else {
        return Ok(answer::html(
            StatusCode::PAYLOAD_TOO_LARGE,
            "Payload Too Large\n",
        ));
    };
    if let ["simulator", aid @ ..] = segments.as_slice() {
        return Ok(aids::answer(&request, aid).await);
    }
    if port.service == Service::License {
        return Ok(license::answer(&shared.state(), &request, &inner));
    }
    if !is_on(port, &segments) {
        return Ok(answer::not_found());
    }
    if let Some(endpoint) = Endpoint::at(&segments, request.body()) {
        return login(shared, endpoint, &request).await;
    }
    let (answer, pause) = {
        let mut state = shared.state();
        let answer = if state.refuses(&segments) {
            platform::refusal(TokenState::Revoked)
        } else {
            platform::answer(&mut state, &request, &segments)
        };
        let in_chunks =
            state.refusal == Refusal::Chunked && answer.status() == StatusCode::UNAUTHORIZED;
        (answer, in_chunks.then_some(state.options.frame_interval))
    };
    Ok(match pause {
        Some(pause) => answer::in_chunks(answer, pause).await,
        None => answer,
    })
}

/// Where the Watson Data APIs have a host of their own, it has nothing else, and the platform has not them.
fn is_on(port: &Port, segments: &[&str]) -> bool {
    let is_data = segments.first() == Some(&"v2");
    match port.service {
        Service::DataPlatform => is_data,
        _ => !is_data || port.shared.state().options.data_platform_address.is_none(),
    }
}

/// What is answered before the body is looked at: the aid for it, and refusals where they are told early.
fn early(port: &Port, segments: &[&str], bad: Option<TokenState>) -> Option<Answer> {
    if let ["simulator", "early", status] = segments {
        return Some(aids::status(status));
    }
    let state = port.shared.state();
    if port.service == Service::License
        || state.refusal != Refusal::Early
        || !platform::asks_for_a_token(segments)
    {
        return None;
    }
    if state.refuses(segments) {
        return Some(platform::refusal(TokenState::Revoked));
    }
    bad.map(platform::refusal)
}

/// Reads what still comes of a body, so that the client can write all of it and finds the answer: a connection that
/// is closed with bytes unread is reset, and the answer may be lost.
fn drain(shared: &Arc<Shared>, sequence: u64, mut body: Incoming) {
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                return;
            };
            if let Some(data) = frame.data_ref() {
                shared.recorder().extend(sequence, data);
            }
        }
        shared.recorder().complete(sequence);
    });
}

/// Reads the whole body; `None` if it is larger than any API call may be.
async fn receive(
    shared: &Shared,
    sequence: u64,
    head: Parts,
    mut body: Incoming,
) -> Result<Option<Request<Bytes>>, Abandoned> {
    let mut whole = BytesMut::new();
    let mut too_large = false;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Abandoned::BrokenRequest)?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        shared.recorder().extend(sequence, &data);
        too_large |= whole.len() + data.len() > LARGEST_BODY;
        if !too_large {
            whole.extend_from_slice(&data);
        }
    }
    shared.recorder().complete(sequence);
    Ok((!too_large).then(|| Request::from_parts(head, whole.freeze())))
}

/// Sends the body back while it arrives, of any size.
fn mirror(shared: &Arc<Shared>, sequence: u64, head: &Parts, body: Incoming) -> Answer {
    let shared = Arc::clone(shared);
    let body = body.map_frame(move |frame| {
        if let Some(data) = frame.data_ref() {
            shared.recorder().extend(sequence, data);
        }
        frame
    });
    let mut answer = Answer::new(body.boxed_unsync());
    if let Some(content_type) = head.headers.get(header::CONTENT_TYPE) {
        answer
            .headers_mut()
            .insert(header::CONTENT_TYPE, content_type.clone());
    }
    answer
}

async fn login(
    shared: &Shared,
    endpoint: Endpoint,
    request: &Request<Bytes>,
) -> Result<Answer, Abandoned> {
    let (delay, outage, retry_after) = {
        let mut state = shared.state();
        endpoint.tally(&mut state.logins).attempts += 1;
        (state.login_delay, state.outage, state.retry_after)
    };
    if !delay.is_zero() {
        sleep(delay).await;
    }
    let mut answer = match outage {
        None => {
            return Ok(platform::login::answer(
                &mut shared.state(),
                endpoint,
                request,
            ));
        }
        Some(Outage::Closed) => return Err(Abandoned::OnPurpose),
        Some(Outage::Hanging) => std::future::pending().await,
        Some(Outage::Unavailable) => answer::application_not_available(),
        Some(Outage::RateLimited) => endpoint.rate_limited(request),
    };
    if let Some(pause) = retry_after {
        answer
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(pause.as_secs()));
    }
    Ok(answer)
}

const LARGEST_BODY: usize = 8 * 1024 * 1024;
