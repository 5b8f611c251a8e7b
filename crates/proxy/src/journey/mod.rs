//! What happens to a request? The files of this folder are its steps, and [`travel`] takes them in order.

pub mod admit;
pub mod answer;
pub mod attach;
pub mod caller;
pub mod cookies;
pub mod decoy;
pub mod downgrade;
pub mod fingerprint;
pub mod forward;
pub mod framing;
pub mod http1;
pub mod kept;
pub mod limit;
pub mod location;
pub mod multiplex;
pub mod needle;
pub mod pool;
pub mod progress;
pub mod query;
pub mod rate;
pub mod readings;
pub mod replay;
pub mod respond;
pub mod rewrite;
pub mod route;
pub mod scrub;
pub mod streams;
pub mod survey;
pub mod token_endpoints;
pub mod trip;
pub mod upgrade;
pub mod upload;
pub mod view;

use std::{fmt, pin::pin, rc::Rc, sync::Arc};

use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header,
    request::Parts, response,
};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use self::{
    admit::{Admission, Admitted, Peer},
    answer::{Answer, Passing},
    attach::{Attached, Attacher},
    caller::{Callers, CertificateNames},
    decoy::Login,
    limit::Limit,
    pool::Upstream,
    rate::Rate,
    route::{Passage, Path, Route},
    scrub::Scrub,
    survey::Survey,
    trip::Trip,
    upload::Upload,
    view::View,
};
use crate::{
    fault::{Fault, Rule},
    panics::{Panicked, caught},
};

/// Everything that requests are decided by; built whole from a configuration and swapped whole.
#[derive(Debug)]
pub struct Plan {
    /// Who may come in where, and to which routes.
    pub listeners: Vec<ListenerPlan>,
    /// Longest prefix first.
    pub routes: Vec<Route>,
    /// Where requests go.
    pub upstreams: Vec<Arc<Upstream>>,
    /// One access line per request.
    pub access_log: bool,
}

/// Who may come in at a listener, and to which routes.
#[derive(Debug)]
pub struct ListenerPlan {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// Who may come in.
    pub admission: Admission,
    /// By what name, where it asks for one.
    pub callers: Callers,
    /// Indexes into the plan's routes, in its order.
    pub routes: Vec<usize>,
}

/// A request's turn on its client's connection, as far as the journey has to tell it something.
pub trait Client: fmt::Debug {
    /// The other end.
    fn peer(&self) -> Peer;
    /// The names in the certificate that it has shown.
    fn certificate(&self) -> Option<&CertificateNames> {
        None
    }
    /// Whether the journey waits for the next piece of the request's body.
    fn waits_for_body(&self, waits: bool);
    /// The last of the request's body has come.
    fn body_ended(&self);
    /// Nobody reads the rest of the request's body.
    fn body_dropped(&self);
    /// The answer has ended, well or not.
    fn answered(&self);
}

/// Takes a request from the client through all steps; there is always an answer.
pub async fn travel(
    request: Request<Incoming>,
    view: Rc<View>,
    listener: usize,
    client: Rc<dyn Client>,
) -> Response<Answer> {
    let name = Rc::clone(&view.listeners[listener]);
    let listener = &view.plan.listeners[listener];
    let (mut head, body) = request.into_parts();
    let target = if view.plan.access_log {
        head.uri.path_and_query().cloned()
    } else {
        None
    };
    let unrouted = Rc::clone(&view.unrouted);
    let mut trip = Trip::begin(
        Rc::clone(&client),
        unrouted,
        name,
        head.method.clone(),
        target,
    );
    let is_http2 = head.version == Version::HTTP_2;
    trip.is_grpc = is_http2 && is_grpc(&head.headers);

    let readable = match is_http2 {
        true => downgrade::as_http1(&mut head, !body.is_end_stream(), listener.admission.tls),
        false => Ok(()),
    };
    let headers = Survey::of(&head.headers);
    trip.identify(headers);
    let waits_for_leave = head.version == Version::HTTP_11 && rewrite::expects_leave(headers);
    let body = Upload::new(body, Rc::clone(&client), waits_for_leave, is_http2);
    let progress = body.progress();
    trip.uploads(&progress);
    let is_handshake = upgrade::is_handshake(&head, headers, !body.is_end_stream());
    trip.is_handshake = is_handshake;

    let refuse = |fault, trip| {
        progress.discard_rest();
        respond::refuse(fault, trip)
    };

    let admitted = readable.and_then(|()| {
        let admission = &listener.admission;
        admission.admit(&client.peer(), &head, headers, &view.last_host)
    });
    let mut answer = match &admitted {
        Err(fault) => refuse(*fault, trip),
        Ok(admitted) if admitted.preflight => respond::preflight(&head.headers, trip),
        Ok(admitted) => {
            let taken = caught(pin!(steps(
                &mut head,
                body,
                &view,
                listener,
                &admitted.host.name,
                &client,
                &mut trip,
            )))
            .await;
            match taken {
                Ok(Ok((head, passing))) => {
                    trip.status = Some(head.status);
                    let body = match head.status {
                        StatusCode::SWITCHING_PROTOCOLS => Answer::switch(*passing, trip),
                        _ => Answer::passing(passing, trip),
                    };
                    Response::from_parts(head, body)
                }
                Ok(Err(Early::Fault(fault))) => refuse(fault, trip),
                Ok(Err(Early::Decoy(login))) => {
                    // Its body may carry a real key: it is dropped unseen.
                    progress.discard_rest();
                    decoy::answer(login, trip)
                }
                Err(Panicked) => refuse(Fault::InternalError, trip),
            }
        }
    };
    if let Ok(Admitted {
        origin: Some(origin),
        ..
    }) = admitted
    {
        respond::share_with(origin, answer.headers_mut());
    }
    if is_handshake && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        // What the client has sent behind its handshake is no request, whoever on the way takes it for one.
        let close = HeaderValue::from_static("close");
        answer.headers_mut().insert(header::CONNECTION, close);
    }
    answer
}

/// What ends the steps before there is an upstream's answer.
enum Early {
    /// Something is wrong.
    Fault(Fault),
    /// It is a login, which goes no further.
    Decoy(Login),
}

impl From<Fault> for Early {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

/// The steps of an admitted request, in order.
async fn steps(
    head: &mut Parts,
    body: Upload,
    view: &Rc<View>,
    listener: &ListenerPlan,
    host: &str,
    client: &Rc<dyn Client>,
    trip: &mut Trip,
) -> Result<(response::Parts, Box<Passing>), Early> {
    // admit, where it matters who it is
    let caller = listener.callers.recognise(&**client, &mut head.headers)?;
    if let Some(caller) = caller {
        trip.called_by(caller, &head.headers);
        caller.rate.as_ref().map(Rate::take).transpose()?;
    }

    // route
    let came = std::mem::take(&mut head.uri)
        .into_parts()
        .path_and_query
        .ok_or(Fault::BadRequest)?;
    if head.method == Method::OPTIONS && came == "*" {
        return Err(Fault::MethodNotAllowed.into());
    }
    let path = Path::parse(came.path())?;
    query::check(came.query())?;
    let (index, path) = view.find(listener, host, path)?;
    let mine = &view.routes[index];
    let route = &mine.route;
    trip.routed(&mine.name, &mine.tally);
    if caller.is_some_and(|caller| !caller.may_reach(index)) {
        return Err(Fault::CallerNotAllowed(Rule::Route).into());
    }
    route.rate.as_deref().map(Rate::take).transpose()?;
    let passage = route.pass(&head.method, path)?;
    if route
        .max_body
        .is_some_and(|max| body.size_hint().lower() > max)
    {
        return Err(Fault::BodyTooLarge.into());
    }
    if let Passage::Decoy(login) = passage {
        return Err(Early::Decoy(login));
    }
    trip.seat = route.limit.as_ref().map(Limit::take_seat).transpose()?;

    // rewrite
    route
        .rewrite
        .headers(head, &client.peer(), listener.admission.tls)?;
    trip.is_handshake &= view.pools[route.upstream].streams.is_none();
    if trip.is_handshake {
        upgrade::insert_headers(&mut head.headers);
    }
    let mut target = route.rewrite.target(route, &came, path);

    // attach
    let attachers: &[Attacher] = match passage {
        Passage::Public => &[],
        _ => &mine.attachers,
    };
    let bare = (!attachers.is_empty()).then(|| target.clone());
    let mut attached = Attached::new();
    for attacher in attachers {
        attached.push(attacher.attach(&mut head.headers, &mut target).await?);
    }
    head.uri = Uri::from(target.into_path_and_query()?);
    trip.carries(&attached);

    // forward
    trip.leaves(Instant::now());
    let pool = &view.pools[route.upstream];
    body.limit(route.max_body);
    body.cleans_trailers(view, index);
    let progress = body.progress();
    if !attachers.is_empty() {
        progress.keep(route.replay_limit, &view.memory);
    }
    let mut answer = forward::forward(pool, head, body, trip.is_handshake).await?;

    // and once more, after a 401
    let was_rejected = answer.0.0.status == StatusCode::UNAUTHORIZED;
    match bare.filter(|_| was_rejected) {
        // Boxed, since it is rare, and each request has room for what is not.
        Some(bare) => {
            let replay = replay::replay(answer, head, bare, attachers, &mut attached, pool, trip);
            answer = Box::pin(replay).await?;
            trip.carries(&attached);
        }
        None => progress.forget(),
    }

    // respond
    let ((mut answer, names), mut passing) = answer;
    let switches = upgrade::is_switch(&answer, trip.is_handshake)?;
    let tls = listener.admission.tls;
    let upstream = pool.upstream();
    respond::clean(&mut answer, names, route, upstream, &attached, tls, trip);
    if switches {
        answer.headers.remove(header::CONTENT_LENGTH);
        upgrade::insert_headers(&mut answer.headers);
    } else if route.rewrite.scrub_body && !passing.incoming.is_end_stream() {
        let scrub = Scrub::of(Survey::with(&answer.headers, names), &attached);
        passing.scrub = scrub.inspect_err(|_| {
            tracing::warn!(
                route = &*route.name,
                "the upstream compressed a text that is to be searched for the credential, or did not write it in ASCII \
                 and its like; scrub_body = false lets it pass"
            );
        })?;
    }
    passing.attached = attached;
    passing.drops_cookies = route.rewrite.drops_cookies();
    Ok((answer, passing))
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}
