//! Forward, over HTTP/2: the request goes out on a connection that it shares with others.

use std::{
    future::{Future as _, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture};
use http::{Request, Response, StatusCode, Uri, header, request::Parts, uri::Scheme};
use http_body::Body as _;
use tokio::task::AbortHandle;

use super::{
    answer::{Incoming, Passing},
    forward::before,
    framing::{Framing, Unclear},
    http1::Head,
    pool::Pool,
    streams::{Streams, fault, told},
    survey::Survey,
    upload::Upload,
};
use crate::fault::Fault;

/// A request body on its way out; it ends with whoever holds this.
#[derive(Debug)]
pub struct Pump(AbortHandle);

/// Sends a request on a connection that has room, and waits for the head of the answer.
///
/// One that the upstream says it has not looked at (a refused stream, or one above the last of a GOAWAY) is sent again,
/// where its body can be; so is an idempotent one whose connection broke before it was answered.
///
/// # Errors
/// Those of [`super::forward::forward`].
pub async fn forward(
    pool: &Rc<Pool>,
    streams: &Streams,
    head: &Parts,
    mut upload: Upload,
) -> Result<(Head, Box<Passing>), Fault> {
    let upstream = pool.upstream();
    let progress = upload.progress();
    let repeatable = upload.is_end_stream() && head.method.is_idempotent();
    let mut sendings = 1;
    loop {
        let request = addressed(head, pool)?;
        let stream = streams.place(pool, repeatable).await?;
        stream.watch.arm(upstream.first_byte_timeout);
        upload.moves_deadline(&stream.watch, upstream.first_byte_timeout);
        let ended = upload.is_end_stream();
        let leave = upload.awaits_leave();
        let error = match stream.sender().send_request(request, ended) {
            Ok((answer, body)) => {
                let pump = (!ended).then(|| Pump::start(upload, body));
                match before(&stream.watch, pin!(final_answer(answer, leave))).await {
                    None => return Err(upstream.late("first_byte_timeout")),
                    Some(Ok(answer)) => {
                        progress.answered.set(true);
                        let (head, body) = answer.into_parts();
                        let headers = Survey::of(&head.headers);
                        Framing::of_answer(&head, headers)
                            .map_err(|Unclear| Fault::UpstreamProtocol)?;
                        let names = headers.names;
                        let incoming = Incoming::Shared(body, stream, pump);
                        return Ok(((head, names), Passing::new(incoming, pool, progress)));
                    }
                    Some(Err(error)) => error,
                }
            }
            Err(error) => error,
        };
        if let Some(fault) = progress.fault.get() {
            return Err(fault);
        }
        let has_broken = error.is_io() && stream.reused;
        let again = is_unprocessed(&error) || (has_broken && head.method.is_idempotent());
        if !again || sendings == MOST_SENDINGS || !progress.hold()? {
            tracing::warn!(upstream = %upstream.name, error = told(&error), "no answer");
            progress.forget();
            return Err(fault(&error));
        }
        tracing::debug!(upstream = %upstream.name, error = told(&error), "not processed, sending again");
        sendings += 1;
        upload = progress.again();
    }
}

/// The final answer. Interim ones (1xx) end here, and too many of them are no answer. Leave to send the body is told to
/// whoever waits for it.
async fn final_answer(
    mut answer: ResponseFuture,
    leave: Option<impl Fn(StatusCode) -> bool>,
) -> Result<Response<RecvStream>, h2::Error> {
    let mut interim = 0;
    poll_fn(|cx| {
        while let Poll::Ready(Some(Ok(head))) = answer.poll_informational(cx) {
            interim += 1;
            if interim > MOST_INTERIM {
                return Poll::Ready(Err(Reason::ENHANCE_YOUR_CALM.into()));
            }
            if leave.as_ref().is_some_and(|leave| leave(head.status())) {
                // The client is told when its body is asked for, and not any more once there is an answer.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Pin::new(&mut answer).poll(cx)
    })
    .await
}

/// The request as HTTP/2 has it: the address in the target, no `Host`, no framing but its length.
fn addressed(head: &Parts, pool: &Pool) -> Result<Request<()>, Fault> {
    let mut head = head.clone();
    let upstream = pool.upstream();
    let mut target = std::mem::take(&mut head.uri).into_parts();
    let tls = upstream.connector.origin().tls;
    target.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    let authority = upstream.authority.as_bytes();
    target.authority = Some(authority.try_into().map_err(|_| Fault::BadRequest)?);
    head.uri = Uri::from_parts(target).map_err(|_| Fault::BadRequest)?;
    head.headers.remove(header::HOST);
    head.headers.remove(header::TRANSFER_ENCODING);
    Ok(Request::from_parts(head, ()))
}

/// Whether the upstream says that it did nothing with the request.
fn is_unprocessed(error: &h2::Error) -> bool {
    // Streams that a GOAWAY includes end in another way.
    error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
}

impl Pump {
    fn start(upload: Upload, stream: SendStream<Bytes>) -> Self {
        Self(tokio::task::spawn_local(pump(upload, stream)).abort_handle())
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        // What the upstream no longer reads would hold its client.
        self.0.abort();
    }
}

/// Sends each piece as it comes and as the upstream has room for it; a body that does not come whole resets the stream.
async fn pump(mut upload: Upload, mut stream: SendStream<Bytes>) {
    loop {
        let frame = poll_fn(|cx| match stream.poll_reset(cx) {
            Poll::Ready(_) => Poll::Ready(None),
            Poll::Pending => Pin::new(&mut upload).poll_frame(cx).map(Some),
        });
        let goes_on = match frame.await {
            // The upstream takes no more of it.
            None => return,
            Some(None) => {
                send(&mut stream, Bytes::new(), true).await;
                return;
            }
            Some(Some(Err(_))) => return stream.send_reset(Reason::CANCEL),
            Some(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    let ends = upload.is_end_stream();
                    send(&mut stream, data, ends).await.is_some() && !ends
                }
                Err(frame) => {
                    let trailers = frame.into_trailers().unwrap_or_default();
                    // It fails where the upstream takes no more of it.
                    let _ = stream.send_trailers(trailers);
                    return;
                }
            },
        };
        if !goes_on {
            return;
        }
    }
}

/// Sends a piece as far as there is room, again and again; `None` when the stream takes no more.
async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes, ends: bool) -> Option<()> {
    if data.is_empty() && ends {
        return stream.send_data(data, true).ok();
    }
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let room = poll_fn(|cx| stream.poll_capacity(cx)).await?.ok()?;
        let piece = data.split_to(room.min(data.len()));
        let is_last = ends && data.is_empty();
        stream.send_data(piece, is_last).ok()?;
    }
    Some(())
}

/// How many interim answers may come.
const MOST_INTERIM: u32 = 1000;

/// How often a request is sent that the upstream does not process.
const MOST_SENDINGS: u32 = 3;
