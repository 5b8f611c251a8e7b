//! The body of an answer on its way to the client: each piece goes on as it comes, none is kept.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::{
    attach::Attached,
    forward::before,
    http1::Connection,
    multiplex::Pump,
    pool::Pool,
    progress::Progress,
    respond::clean_trailers,
    scrub::Scrub,
    streams::Stream,
    trip::{Part, Trip},
    upgrade::Tunnel,
    upload::Cut,
};
use crate::{fault::Fault, sweep::Watch};

/// The body of an answer; with it the journey's record ends, and the connection goes back to its pool.
#[derive(Debug)]
pub struct Answer {
    source: Source,
    /// The record of the journey; it ends when the answer does, unless a tunnel has it.
    trip: Option<Box<Trip>>,
}

#[derive(Debug)]
enum Source {
    /// Made by the proxy.
    Own(Option<Bytes>),
    /// Passed on from the upstream.
    Upstream(Box<Passing>),
    /// No body: the upstream switches protocols.
    Switch(Option<Box<Tunnel>>),
}

/// An answer on its way through, and the connection that it comes from.
#[derive(Debug)]
pub struct Passing {
    /// The upstream's body, and what carries it.
    pub incoming: Incoming,
    /// Its pool.
    pool: Rc<Pool>,
    /// Whether the request body has gone out whole: else the connection cannot be used again.
    pub progress: Rc<Progress>,
    /// The next piece is waited for, with a deadline.
    waits: bool,
    /// There is none: it has been cut.
    is_cut: bool,
    /// What must not come back in trailers.
    pub attached: Attached,
    /// No cookies in trailers either.
    pub drops_cookies: bool,
    /// What looks for the credential in the body.
    pub scrub: Option<Scrub>,
}

/// An upstream's body, with what carries it and its request.
#[derive(Debug)]
pub enum Incoming {
    /// A connection of its own, to go back to the pool.
    Alone(Box<Connection>),
    /// A place on one that others share, and the request body on its way out. Each piece that is taken makes room for
    /// another.
    Shared(RecvStream, Stream, Option<Pump>),
    /// It has been taken whole, and nothing carries it any more.
    Ended,
}

impl Answer {
    /// An answer that the proxy made.
    pub fn own(text: impl Into<Bytes>, mut trip: Box<Trip>) -> Self {
        let text = text.into();
        trip.sent(text.len());
        trip.complete();
        Self {
            source: Source::Own(Some(text)),
            trip: Some(trip),
        }
    }

    /// An answer that is passed on.
    pub fn passing(passing: Box<Passing>, trip: Box<Trip>) -> Self {
        if let Some(watch) = passing.incoming.watch() {
            watch.disarm();
        }
        let mut answer = Self {
            source: Source::Upstream(passing),
            trip: Some(trip),
        };
        if answer.is_end_stream() {
            // hyper asks such a body for nothing.
            answer.complete();
        }
        answer
    }

    /// No body, but a tunnel that opens when the head has gone out.
    pub fn switch(passing: Passing, trip: Box<Trip>) -> Self {
        Self {
            source: Source::Switch(Tunnel::behind(passing, trip).map(Box::new)),
            trip: None,
        }
    }

    /// The tunnel that opens with this answer, for whoever has the client's connection.
    pub fn tunnel(&mut self) -> Option<Box<Tunnel>> {
        match &mut self.source {
            Source::Switch(tunnel) => tunnel.take(),
            _ => None,
        }
    }

    fn complete(&mut self) {
        if let Some(trip) = &mut self.trip {
            trip.complete();
        }
        if let Source::Upstream(passing) = &mut self.source {
            passing.put_back();
        }
    }
}

impl Passing {
    /// The connection, where it is this answer's alone, and how long it may be idle.
    pub fn into_connection(self) -> Option<(Box<Connection>, Duration)> {
        match self.incoming {
            Incoming::Alone(connection) => Some((connection, self.pool.upstream().idle_timeout)),
            Incoming::Shared(..) | Incoming::Ended => None,
        }
    }

    /// An answer whose head has come.
    pub fn new(incoming: Incoming, pool: &Rc<Pool>, progress: Rc<Progress>) -> Box<Self> {
        Box::new(Self {
            incoming,
            pool: Rc::clone(pool),
            progress,
            waits: false,
            is_cut: false,
            attached: Attached::new(),
            drops_cookies: false,
            scrub: None,
        })
    }

    /// The deadline counts from when the next piece is first waited for: a client that reads slowly does not
    /// make the upstream late.
    fn is_late(&mut self, cx: &Context<'_>) -> bool {
        let Some(watch) = self.incoming.watch() else {
            return false;
        };
        if !self.waits {
            self.waits = true;
            watch.arm(self.pool.upstream().idle_timeout);
        }
        watch.poll_passed(cx).is_ready()
    }

    /// Reads the rest of an answer that nobody wants, up to a bound, so that its connection can be used again; unless
    /// the request had a body, of which nobody knows whether the upstream has read it all.
    pub fn discard(mut self) {
        if !self.progress.is_bodiless() {
            return;
        }
        tokio::task::spawn_local(async move {
            let mut left = MOST_DISCARDED_OF_ANSWER;
            let read = async {
                while !self.incoming.is_end_stream() {
                    match poll_fn(|cx| Pin::new(&mut self.incoming).poll_frame(cx)).await {
                        None => break,
                        Some(Err(_)) => return false,
                        Some(Ok(frame)) => {
                            let size = frame.data_ref().map_or(0, Bytes::len);
                            match left.checked_sub(size) {
                                Some(rest) => left = rest,
                                None => return false,
                            }
                        }
                    }
                }
                true
            };
            if let Ok(true) = tokio::time::timeout(DISCARD_TIME, read).await {
                self.incoming.put_back(&self.pool);
            }
        });
    }

    /// The next frame that is there to go on.
    fn poll_frame(
        &mut self,
        trip: &Trip,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Some(scrub) = &mut self.scrub else {
            return Pin::new(&mut self.incoming).poll_frame(cx);
        };
        loop {
            let polled = scrub.poll_frame(&mut self.incoming, cx);
            if scrub.take_news() {
                trip.scrubbed(Part::Body);
            }
            let is_all_held = match &polled {
                Poll::Ready(Some(Ok(frame))) => frame.data_ref().is_some_and(Bytes::is_empty),
                _ => false,
            };
            if !is_all_held {
                return polled;
            }
            self.waits = false;
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream() && self.scrub.as_ref().is_none_or(|scrub| scrub.is_empty())
    }

    fn clean(&self, trailers: &mut HeaderMap, trip: &Trip) {
        clean_trailers(trailers, &self.attached, self.drops_cookies, trip);
    }

    fn put_back(&mut self) {
        let incoming = std::mem::replace(&mut self.incoming, Incoming::Ended);
        if self.progress.ended.get() {
            incoming.put_back(&self.pool);
        } else {
            drop(incoming);
            self.progress.discard_rest();
        }
    }
}

impl Incoming {
    fn watch(&self) -> Option<&Watch> {
        match self {
            Self::Alone(connection) => Some(&connection.watch),
            Self::Shared(_, stream, _) => Some(&stream.watch),
            Self::Ended => None,
        }
    }

    /// The answer has ended, and all of the request has been taken from its client.
    fn put_back(self, pool: &Rc<Pool>) {
        match self {
            Self::Alone(connection) if connection.is_sent() => {
                pool.put_back(connection);
            }
            Self::Alone(mut connection) => {
                // The upstream was quick to answer, and slow to read.
                connection.clear();
                let pool = Rc::clone(pool);
                tokio::task::spawn_local(async move {
                    let watch = Rc::clone(&connection.watch);
                    watch.arm(LATE_READER);
                    if before(&watch, pin!(connection.sent())).await.is_some() {
                        pool.put_back(connection);
                    }
                });
            }
            Self::Shared(..) | Self::Ended => {}
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let stream = match self.get_mut() {
            Self::Alone(connection) => return connection.poll_frame(cx),
            Self::Shared(body, ..) => body,
            Self::Ended => return Poll::Ready(None),
        };
        while let Some(data) = ready!(stream.poll_data(cx)) {
            // However it was reset, it was before its end.
            let data = data.map_err(|_| Cut)?;
            let room = stream.flow_control().release_capacity(data.len());
            debug_assert!(room.is_ok(), "released as much as was taken");
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
        }
        match ready!(stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers)))),
            Err(_) => Poll::Ready(Some(Err(Cut))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Alone(connection) => connection.has_ended(),
            Self::Shared(body, ..) => body.is_end_stream(),
            Self::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Alone(connection) => connection.size_hint(),
            Self::Shared(..) => SizeHint::default(),
            Self::Ended => SizeHint::with_exact(0),
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        let (passing, trip) = match (&mut this.source, &mut this.trip) {
            (Source::Own(text), _) => {
                let text = text.take().filter(|text| !text.is_empty());
                return Poll::Ready(text.map(|text| Ok(Frame::data(text))));
            }
            (Source::Upstream(passing), Some(trip)) => (passing, trip),
            _ => return Poll::Ready(None),
        };
        let polled = match passing.is_cut {
            true => Poll::Ready(Some(Err(Cut))),
            false => passing.poll_frame(trip, cx),
        };
        match polled {
            Poll::Ready(Some(Ok(mut frame))) => {
                passing.waits = false;
                if let Some(trailers) = frame.trailers_mut() {
                    passing.clean(trailers, trip);
                }
                trip.sent(frame.data_ref().map_or(0, Bytes::len));
                if passing.is_end_stream() {
                    this.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.complete();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(Cut))) if !passing.is_cut => {
                // hyper closes at once when it hears of it. What came before goes out first.
                passing.is_cut = true;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Some(Err(Cut))) => {
                trip.fault(
                    passing
                        .progress
                        .fault
                        .get()
                        .unwrap_or(Fault::UpstreamProtocol),
                );
                Poll::Ready(Some(Err(Cut)))
            }
            Poll::Pending => {
                if passing.is_late(cx) {
                    trip.fault(passing.pool.upstream().late("idle_timeout"));
                    return Poll::Ready(Some(Err(Cut)));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(text) => text.as_ref().is_none_or(Bytes::is_empty),
            Source::Upstream(passing) => passing.is_end_stream(),
            Source::Switch(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Source::Upstream(passing) => passing.incoming.size_hint(),
            Source::Switch(_) => SizeHint::with_exact(0),
        }
    }
}

/// What is read of an answer that nobody wants, in bytes: more than any 401 has.
const MOST_DISCARDED_OF_ANSWER: usize = 64 << 10;

const DISCARD_TIME: Duration = Duration::from_secs(5);

/// How long an upstream may take to read the end of a request that it has answered.
const LATE_READER: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
