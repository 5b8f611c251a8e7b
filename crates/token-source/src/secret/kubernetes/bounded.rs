//! Answers of the API that do not grow without end: the client keeps a whole body, or a whole line of a watch.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use tower::{BoxError, Service};

/// A service whose answers are bounded.
pub(super) struct Bounding<S>(pub(super) S);

/// The body of an answer, which ends with [`TooMuch`] where it is larger than any Secret.
pub(super) struct Bounded<B> {
    body: B,
    /// A watch may go on for as long as it likes, line by line.
    is_watch: bool,
    /// Of the body, or of the line.
    length: usize,
}

/// The answer is larger than any Secret.
#[derive(Debug)]
pub(super) struct TooMuch;

impl<S, Q, B> Service<Request<Q>> for Bounding<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<Bounded<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Q>) -> Self::Future {
        let mut query = request.uri().query().unwrap_or_default().split('&');
        let is_watch = query.any(|pair| pair == "watch=true");
        let answer = self.0.call(request);
        Box::pin(async move {
            Ok(answer.await?.map(|body| Bounded {
                body,
                is_watch,
                length: 0,
            }))
        })
    }
}

impl<B> Bounded<B> {
    /// Whether so much more is still within the bounds.
    fn allows(&mut self, piece: &[u8]) -> bool {
        let mut lines = piece.split(|byte| self.is_watch && *byte == b'\n');
        // What is before the first line's end belongs to what came before.
        let mut length = self.length + lines.next().map_or(0, <[u8]>::len);
        let mut longest = length;
        for line in lines {
            length = line.len();
            longest = longest.max(length);
        }
        self.length = length;
        longest <= LARGEST
    }
}

impl<B> Body for Bounded<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
            None => return Poll::Ready(None),
        };
        let is_allowed = frame.data_ref().is_none_or(|piece| self.allows(piece));
        let frame = if is_allowed {
            Ok(frame)
        } else {
            Err(TooMuch.into())
        };
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("larger than any Secret")
    }
}

impl Error for TooMuch {}

/// Bytes; a Secret has 1 MiB at most, and is a third larger in base64.
const LARGEST: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn bounded(is_watch: bool) -> Bounded<()> {
        Bounded {
            body: (),
            is_watch,
            length: 0,
        }
    }

    #[test]
    fn a_body_is_bounded_as_a_whole_and_a_watch_by_lines() {
        let half = vec![b'a'; LARGEST / 2];
        let mut body = bounded(false);
        assert!(body.allows(&half) && body.allows(&half));
        assert!(!body.allows(b"\n"));

        let mut watch = bounded(true);
        for _ in 0..3 {
            assert!(watch.allows(&half) && watch.allows(&half));
            assert!(watch.allows(b"\n{}\n"));
        }
        assert!(watch.allows(&half) && watch.allows(&half) && !watch.allows(b"a\n"));
        assert!(!bounded(true).allows(&[&half[..], &half, b"a\n"].concat()));
        assert!(!bounded(true).allows(&[b"\n", &half[..], &half, b"a\n"].concat()));
    }
}
