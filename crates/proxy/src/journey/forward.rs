//! Step 5: the request goes to the upstream and the head of its answer comes back.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::Poll,
};

use http::{Request, request::Parts, response};
use http_body::Body as _;
use hyper::ext::on_informational;
use token_source::connect::with_causes;

use super::{
    answer::{Carrier, Incoming, Passing},
    multiplex,
    pool::Pool,
    upload::Upload,
};
use crate::{fault::Fault, sweep::Watch};

/// Sends a request over an idle connection or a new one, and waits for the head of the answer.
///
/// A request of which nothing had left when the upstream closed an idle connection is sent again on a new one; so is
/// an idempotent request without a body before a byte of an answer. A request that asks for an upgrade has a new
/// connection to itself.
///
/// # Errors
/// `upstream_*`; `bad_request`, `body_too_large` and `client_gone` when the client's body ends the request.
pub async fn forward(
    pool: &Rc<Pool>,
    head: Parts,
    upload: Upload,
    upgrades: bool,
) -> Result<(response::Parts, Passing), Fault> {
    if let Some(streams) = &pool.streams {
        return multiplex::forward(pool, streams, head, upload).await;
    }
    let upstream = pool.upstream();
    let idle = if upgrades { None } else { pool.idle() };
    let mut connection = match idle {
        Some(connection) => connection,
        None => pool.open(upgrades).await?,
    };
    let progress = upload.progress();
    let repeatable = upload.is_end_stream() && head.method.is_idempotent();
    let mut request = Request::from_parts(head, upload);
    if let Some(tell) = request.body_mut().awaits_leave() {
        on_informational(&mut request, move |answer| tell(answer.status()));
    }
    loop {
        let spare = (connection.reused && repeatable).then(|| head_of(&request));
        request
            .body_mut()
            .moves_deadline(Rc::clone(&connection.watch), upstream.first_byte_timeout);
        connection.watch.arm(upstream.first_byte_timeout);
        connection.heard.begin();
        let answer = connection.sender.try_send_request(request);
        let mut error = match before(&connection.watch, answer).await {
            None => return Err(Fault::UpstreamTimeout),
            Some(Ok(answer)) => {
                progress.answered.set(true);
                connection.heard.head();
                let (head, incoming) = answer.into_parts();
                let carrier = Carrier::Alone(connection);
                let incoming = Incoming::Http1(incoming);
                return Ok((head, Passing::new(incoming, carrier, pool, progress)));
            }
            Some(Err(error)) => error,
        };
        if let Some(fault) = progress.fault.get() {
            return Err(fault);
        }
        let unsent = error.take_message().filter(|_| connection.reused);
        let Some(again) = unsent.or(spare.filter(|_| connection.heard.is_nothing())) else {
            tracing::warn!(upstream = %upstream.name, error = with_causes(error.error()), "no answer");
            return Err(Fault::UpstreamProtocol);
        };
        tracing::debug!(upstream = %upstream.name, "the upstream closed an idle connection, sending again");
        request = again;
        connection = pool.open(upgrades).await?;
    }
}

/// The future's output, unless the deadline passes first.
pub async fn before<F: Future>(watch: &Watch, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => watch.poll_passed(cx).map(|()| None),
    })
    .await
}

/// A request with the same head and no body.
fn head_of(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}
