//! The body of an answer on its way to the client: each piece goes on as it comes, none is kept.

use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{
    pool::{Connection, Pool},
    trip::Trip,
    upgrade::Tunnel,
    upload::{Cut, Progress},
};
use crate::fault::Fault;

/// The body of an answer; with it the journey's record ends, and the connection goes back to its pool.
#[derive(Debug)]
pub struct Answer {
    source: Source,
    /// The record of the journey; it ends when the answer does, unless a tunnel has it.
    trip: Option<Trip>,
}

#[derive(Debug)]
enum Source {
    /// Made by the proxy.
    Own(Option<Bytes>),
    /// Passed on from the upstream.
    Upstream(Box<Passing>),
    /// None: the upstream switches protocols.
    Switch(Option<Box<Tunnel>>),
}

/// An answer on its way through, and the connection that it comes from.
#[derive(Debug)]
pub struct Passing {
    /// The upstream's body.
    pub incoming: Incoming,
    /// The connection, to go back to the pool when the answer has ended.
    pub connection: Option<Connection>,
    /// Its pool.
    pub pool: Rc<Pool>,
    /// Whether the request body has gone out whole: else the connection cannot be used again.
    pub progress: Rc<Progress>,
    /// The next piece is waited for, with a deadline.
    pub waits: bool,
}

impl Answer {
    /// An answer that the proxy made.
    pub fn own(text: impl Into<Bytes>, mut trip: Trip) -> Self {
        let text = text.into();
        trip.sent(text.len());
        trip.complete();
        Self {
            source: Source::Own(Some(text)),
            trip: Some(trip),
        }
    }

    /// An answer that is passed on.
    pub fn passing(passing: Passing, trip: Trip) -> Self {
        if let Some(connection) = &passing.connection {
            connection.watch.disarm();
        }
        let mut answer = Self {
            source: Source::Upstream(Box::new(passing)),
            trip: Some(trip),
        };
        if answer.is_end_stream() {
            // hyper asks such a body for nothing.
            answer.complete();
        }
        answer
    }

    /// No body, but a tunnel that opens when the head has gone out.
    pub fn switch(passing: Passing, trip: Trip) -> Self {
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
    /// The deadline counts from when the next piece is first waited for: a client that reads slowly does not
    /// make the upstream late.
    fn is_late(&mut self, cx: &Context<'_>) -> bool {
        let Some(connection) = &self.connection else {
            return false;
        };
        if !self.waits {
            self.waits = true;
            connection.watch.arm(self.pool.upstream().idle_timeout);
        }
        connection.watch.poll_passed(cx).is_ready()
    }

    /// Reads the rest of an answer that nobody wants, up to a bound, so that its connection can be used again; unless
    /// the request had a body, of which nobody knows whether the upstream has read it all.
    pub fn discard(mut self) {
        let is_clean = self.progress.is_bodiless();
        let Some(connection) = self.connection.take().filter(|_| is_clean) else {
            return;
        };
        tokio::task::spawn_local(async move {
            let mut left = MOST_DISCARDED;
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
                self.pool.put_back(connection, Instant::now());
            }
        });
    }

    fn put_back(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if self.progress.ended.get() {
            self.pool.put_back(connection, Instant::now());
        } else {
            drop(connection);
            self.progress.discard_rest();
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
        match Pin::new(&mut passing.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                passing.waits = false;
                trip.sent(frame.data_ref().map_or(0, Bytes::len));
                if passing.incoming.is_end_stream() {
                    this.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.complete();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(_))) => {
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
                    trip.fault(Fault::UpstreamTimeout);
                    return Poll::Ready(Some(Err(Cut)));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(text) => text.as_ref().is_none_or(Bytes::is_empty),
            Source::Upstream(passing) => passing.incoming.is_end_stream(),
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
const MOST_DISCARDED: usize = 64 << 10;

const DISCARD_TIME: Duration = Duration::from_secs(5);
