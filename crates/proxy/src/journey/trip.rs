//! The record of one journey: begun with the head of a request, ended with its answer, counted and logged once.

use std::{rc::Rc, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, uri::PathAndQuery};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::{
    Client, admit::Peer, attach::Attached, caller::Caller, limit::Seat, progress::Progress,
    replay::Outcome, survey::Survey,
};
use crate::{access_log, fault::Fault, tally::RouteTally};

/// What is known of a journey so far.
#[derive(Debug)]
pub struct Trip {
    client: Rc<dyn Client>,
    tally: Rc<RouteTally>,
    /// The listener's name.
    pub listener: Rc<str>,
    /// The caller's name, where the listener asks for one.
    pub caller: Option<Arc<str>>,
    /// For whom a caller that is trusted with it says that it calls.
    pub identity: Option<HeaderValue>,
    /// The route's name, once there is one.
    pub route: Option<Rc<str>>,
    /// The request's method.
    pub method: Method,
    /// The target as it came; kept only where an access line is written.
    pub target: Option<PathAndQuery>,
    /// The client's `X-Request-Id`, or the one made for an answer of the proxy's own.
    pub request_id: Option<Arc<str>>,
    /// The trace that the request belongs to, as the client has it.
    pub traceparent: Option<HeaderValue>,
    /// How far the request's body has come.
    pub upload: Option<Rc<Progress>>,
    /// Which values of credentials it went out with, in their order.
    pub credentials: SmallVec<[u32; 2]>,
    /// A gRPC call: a fault is told by a status of gRPC's.
    pub is_grpc: bool,
    /// The client asks for a WebSocket.
    pub is_handshake: bool,
    /// When the head was complete.
    pub started: Instant,
    /// What the proxy added before the request left.
    pub overhead: Option<Duration>,
    /// The status that the client sees.
    pub status: Option<StatusCode>,
    /// The code of the fault that stopped it.
    pub code: Option<&'static str>,
    /// What came of a 401, if the upstream answered with one to what was attached.
    pub replay: Option<Outcome>,
    /// It was a login, and got a decoy.
    pub is_decoy: bool,
    /// Bytes of the answer's body so far.
    pub bytes: u64,
    /// Its place among the requests of a route that has a limit.
    pub seat: Option<Seat>,
    complete: bool,
}

/// A part of an answer that a credential was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A header, or the reason beside the status.
    Header,
    /// The body.
    Body,
    /// A trailer.
    Trailer,
}

impl Part {
    /// The word for it in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Body => "body",
            Self::Trailer => "trailer",
        }
    }
}

impl Trip {
    /// Begins the record; `unrouted` counts it until a route is known.
    pub fn begin(
        client: Rc<dyn Client>,
        unrouted: Rc<RouteTally>,
        listener: Rc<str>,
        method: Method,
        target: Option<PathAndQuery>,
    ) -> Box<Self> {
        unrouted.begin();
        // Boxed: the record goes from hand to hand with the request and its answer.
        Box::new(Self {
            client,
            tally: unrouted,
            listener,
            caller: None,
            identity: None,
            route: None,
            method,
            target,
            request_id: None,
            traceparent: None,
            upload: None,
            credentials: SmallVec::new(),
            is_grpc: false,
            is_handshake: false,
            started: Instant::now(),
            overhead: None,
            status: None,
            code: None,
            replay: None,
            is_decoy: false,
            bytes: 0,
            seat: None,
            complete: false,
        })
    }

    /// The route is known.
    pub fn routed(&mut self, route: &Rc<str>, tally: &Rc<RouteTally>) {
        tally.begin();
        self.tally.moved_on();
        self.tally = Rc::clone(tally);
        self.route = Some(Rc::clone(route));
    }

    /// Whether there will be a line about it.
    fn is_logged(&self) -> bool {
        self.target.is_some()
    }

    /// The other end of its connection.
    pub fn peer(&self) -> Peer {
        self.client.peer()
    }

    /// It is known who calls.
    pub fn called_by(&mut self, caller: &Caller, headers: &HeaderMap) {
        self.caller = Some(Arc::clone(&caller.name));
        if self.is_logged() {
            self.identity = caller.identity(headers);
        }
    }

    /// A body is on its way.
    pub fn uploads(&mut self, progress: &Rc<Progress>) {
        if self.is_logged() {
            self.upload = Some(Rc::clone(progress));
        }
    }

    /// The request goes out with this attached, or has gone out with all of it.
    pub fn carries(&mut self, attached: &Attached) {
        if self.is_logged() {
            let values = attached.iter();
            self.credentials = values.map(|built| built.fingerprint.short()).collect();
        }
    }

    /// Takes over what the client calls the request by: its `X-Request-Id`, where it is one, and its trace.
    pub fn identify(&mut self, headers: Survey<'_>) {
        if self.is_logged() {
            self.traceparent = headers.first(&TRACEPARENT).cloned();
        }
        let id = headers.first(&REQUEST_ID).and_then(|id| id.to_str().ok());
        let sound = |id: &&str| {
            (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        };
        self.request_id = id.filter(sound).map(Arc::from);
    }

    /// What an answer of the proxy's own calls the request by: as the client does, else by an identifier that is made here.
    pub fn id(&mut self) -> Arc<str> {
        let new = || format!("{:032x}", fastrand::u128(..)).into();
        Arc::clone(self.request_id.get_or_insert_with(new))
    }

    /// The request leaves for the upstream now.
    pub fn leaves(&mut self, now: Instant) {
        self.overhead = Some(now.duration_since(self.started));
    }

    /// The upstream answered 401 to what was attached, and this came of it.
    pub fn replayed(&mut self, outcome: Outcome) {
        self.replay = Some(outcome);
        self.tally.replay(outcome.name());
    }

    /// A credential was overwritten in a part of the answer.
    pub fn scrubbed(&self, part: Part) {
        let (route, part) = (self.route.as_deref(), part.name());
        tracing::warn!(
            route,
            "where" = part,
            "the upstream put the credential into its answer, where it was overwritten"
        );
        self.tally.scrubbed(part);
    }

    /// Bytes of the answer's body went on.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// The answer is whole.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// Something stopped the journey.
    pub fn fault(&mut self, fault: Fault) {
        self.code = Some(fault.code());
        self.tally.fault(fault.code());
    }
}

impl Drop for Trip {
    fn drop(&mut self) {
        let missing = match self.tally.has_ended() {
            true => Fault::ProcessEnded,
            false => Fault::ClientGone,
        };
        if !self.complete && self.code.is_none() {
            self.fault(missing);
        }
        let status = self.status.unwrap_or(missing.status());
        let duration = self.started.elapsed();
        let caller = self.caller.as_ref();
        self.tally
            .end(&self.method, status, caller, duration, self.overhead);
        if self.is_logged() {
            access_log::write(self, status, duration);
        }
        self.client.answered();
    }
}

/// What callers and servers call a request by.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The trace context of the W3C.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
