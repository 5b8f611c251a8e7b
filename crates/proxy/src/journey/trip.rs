//! The record of one journey: begun with the head of a request, ended with its answer, counted and logged once.

use std::{rc::Rc, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, Method, StatusCode, uri::PathAndQuery};
use tokio::time::Instant;

use super::{Client, limit::Seat, replay::Outcome};
use crate::{access_log, fault::Fault, tally::RouteTally};

/// What is known of a journey so far.
#[derive(Debug)]
pub struct Trip {
    client: Rc<dyn Client>,
    tally: Rc<RouteTally>,
    /// The listener's name.
    pub listener: Arc<str>,
    /// The route's name, once there is one.
    pub route: Option<Arc<str>>,
    /// The request's method.
    pub method: Method,
    /// The target as it came; kept only where an access line is written.
    pub target: Option<PathAndQuery>,
    /// The client's `X-Request-Id`, or the one made for an answer of the proxy's own.
    pub request_id: Option<Arc<str>>,
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
    /// Bytes of the answer's body so far.
    pub bytes: u64,
    /// Its place among the requests of a route that has a limit.
    pub seat: Option<Seat>,
    complete: bool,
}

impl Trip {
    /// Begins the record; `unrouted` counts it until a route is known.
    pub fn begin(
        client: Rc<dyn Client>,
        unrouted: Rc<RouteTally>,
        listener: Arc<str>,
        method: Method,
        target: Option<PathAndQuery>,
    ) -> Self {
        unrouted.begin();
        Self {
            client,
            tally: unrouted,
            listener,
            route: None,
            method,
            target,
            request_id: None,
            is_grpc: false,
            is_handshake: false,
            started: Instant::now(),
            overhead: None,
            status: None,
            code: None,
            replay: None,
            bytes: 0,
            seat: None,
            complete: false,
        }
    }

    /// The route is known.
    pub fn routed(&mut self, route: &Arc<str>, tally: &Rc<RouteTally>) {
        tally.begin();
        self.tally.moved_on();
        self.tally = Rc::clone(tally);
        self.route = Some(Arc::clone(route));
    }

    /// Takes the client's `X-Request-Id` over where it is one.
    pub fn identify(&mut self, headers: &HeaderMap) {
        let id = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
        let sound = |id: &&str| {
            (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        };
        self.request_id = id.filter(sound).map(Arc::from);
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

    /// A credential was overwritten in the headers of the answer.
    pub fn scrubbed(&self) {
        self.tally.scrubbed();
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
        self.tally
            .end(&self.method, status, duration, self.overhead);
        if self.target.is_some() {
            access_log::write(self, status, duration);
        }
        self.client.answered();
    }
}

/// What callers and servers call a request by.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
