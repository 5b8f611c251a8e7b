//! What an upstream says: the heads of answers, what comes behind them, and how much of it is read at a time.

use std::{
    cell::RefCell,
    fmt, io,
    mem::{self, MaybeUninit},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Method, Response, StatusCode, Version, response};
use http_body::{Frame, SizeHint};
use httparse::{ParserConfig, Status};
use hyper::ext::ReasonPhrase;
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use super::{
    super::{
        framing::{Framing, Unclear},
        rewrite::nominated,
        survey::{Names, Survey, is_word, listed},
    },
    body::Body,
    usual::{Lines, Usual},
};

/// What an upstream says on a connection.
#[derive(Default)]
pub struct Reading {
    /// What has come and was not taken yet.
    unread: Bytes,
    /// Where the next bytes go.
    room: BytesMut,
    /// How much room is made at once: what the last answer would have taken.
    size: usize,
    /// What is left of the answer's body.
    body: Body,
    /// The answer has no body, whatever its head says.
    to_head: bool,
    /// The connection can be used again when the answer has ended.
    is_kept: bool,
    /// How much has come since the request began to leave, in bytes.
    heard: usize,
    /// What the heads before had, on all connections to the upstream.
    usual: Rc<RefCell<Usual>>,
}

/// The head of an answer, and which names it has.
pub type Head = (response::Parts, Names);

/// It is no answer, or none that everybody reads alike; says nothing of its text.
#[derive(Debug, thiserror::Error)]
#[error("no answer by the letter of HTTP/1.1")]
pub struct Malformed;

impl Reading {
    /// Nothing has been said.
    pub fn new(usual: Rc<RefCell<Usual>>) -> Self {
        Self {
            is_kept: true,
            usual,
            ..Self::default()
        }
    }

    /// A request begins to leave; nothing that came before is its answer.
    pub fn begin(&mut self, method: &Method) {
        self.wipe();
        self.to_head = method == Method::HEAD;
        self.is_kept = false;
        self.size = self
            .heard
            .checked_next_power_of_two()
            .unwrap_or(LARGEST_READ)
            .clamp(SMALLEST_READ, LARGEST_READ);
        self.heard = 0;
    }

    /// Whether anything has come since.
    pub fn is_heard(&self) -> bool {
        self.heard > 0
    }

    /// Whether the answer has ended, and left nothing behind it.
    pub fn is_reusable(&self) -> bool {
        self.is_kept && self.has_ended() && self.unread.is_empty()
    }

    /// What came behind the head of an answer after which HTTP is no longer spoken.
    pub fn into_rest(self) -> Bytes {
        self.unread
    }

    /// Reads more; `false` when the stream has ended.
    pub fn poll_more<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        if !self.unread.is_empty() {
            // The beginning of a line; its end is to come behind it. Alone in its block it is not copied.
            self.room = BytesMut::new();
            self.room = BytesMut::from(mem::take(&mut self.unread));
        }
        if self.heard == 0 || self.room.capacity() - self.room.len() < LEAST_READ {
            self.room.reserve(self.size);
        }
        let size = ready!(poll_read_buf(Pin::new(stream), cx, &mut self.room))?;
        if self.room.len() == self.room.capacity() {
            self.size = (2 * self.size).min(LARGEST_READ);
        }
        self.unread = self.room.split().freeze();
        self.heard = self.heard.saturating_add(size);
        Poll::Ready(Ok(size > 0))
    }

    /// The head of an answer, or of one before it (1xx), if it has come whole.
    ///
    /// # Errors
    /// When it never will be one.
    pub fn head(&mut self) -> Result<Option<Head>, Malformed> {
        if self.unread.is_empty() {
            return Ok(None);
        }
        if self.heard > MOST_BYTES_BEFORE_ANSWER {
            return Err(Malformed);
        }
        let mut lines = [const { MaybeUninit::uninit() }; MOST_LINES];
        let mut read = httparse::Response::new(&mut []);
        let parsed = ParserConfig::default().parse_response_with_uninit_headers(
            &mut read,
            &self.unread,
            &mut lines,
        );
        let size = match parsed.map_err(|_| Malformed)? {
            Status::Complete(size) if size <= LARGEST_HEAD => size,
            Status::Partial if self.unread.len() <= LARGEST_HEAD => return Ok(None),
            _ => return Err(Malformed),
        };

        let (mut head, ()) = Response::new(()).into_parts();
        head.version = match read.version {
            Some(0) => Version::HTTP_10,
            _ => Version::HTTP_11,
        };
        let status = read.code.ok_or(Malformed)?;
        head.status = StatusCode::from_u16(status).map_err(|_| Malformed)?;
        if let Some(reason) = read.reason
            && head.status.canonical_reason() != Some(reason)
        {
            let reason = self.unread.slice_ref(reason.as_bytes());
            head.extensions
                .insert(ReasonPhrase::try_from(reason).map_err(|_| Malformed)?);
        }
        // After a switch it is no longer about this connection, but says to what it goes over.
        let is_switch = head.status == StatusCode::SWITCHING_PROTOCOLS;
        let mut connection = Lines::new();
        head.headers = self.usual.borrow_mut().headers(
            read.headers,
            &self.unread,
            (!is_switch).then_some(&mut connection),
        )?;
        self.unread.advance(size);
        for name in nominated(&connection) {
            head.headers.remove(name);
        }
        let headers = Survey::of(&head.headers);
        self.body = self.body_behind(&head, headers)?;
        let says = |word| listed(&connection).any(|said| is_word(said, word));
        self.is_kept = !says("close") && (head.version > Version::HTTP_10 || says("keep-alive"));
        let names = headers.names;
        self.settle();
        Ok(Some((head, names)))
    }

    /// The body behind a head, per RFC 9112, section 6.3.
    fn body_behind(&self, head: &response::Parts, headers: Survey<'_>) -> Result<Body, Malformed> {
        if head.status.is_informational() {
            return Ok(Body::default());
        }
        let framing = Framing::of_answer(head, headers).map_err(|Unclear| Malformed)?;
        let has_none = matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        if has_none || self.to_head {
            return Ok(Body::default());
        }
        Ok(Body::framed(framing))
    }

    /// What has come of the body, as far as one can tell.
    ///
    /// # Errors
    /// When it is framed as nothing is.
    pub fn frame(&mut self) -> Result<Option<Frame<Bytes>>, Malformed> {
        let frame = self.body.frame(&mut self.unread)?;
        self.settle();
        Ok(frame)
    }

    /// Overwrites the last answer, since the next one may be long in coming; its room is used again if it has all been
    /// passed on.
    fn wipe(&mut self) {
        if self.room.try_reclaim(SMALLEST_READ) {
            self.room.resize(self.heard.min(SMALLEST_READ), 0);
            self.room.clear();
        } else {
            self.clear();
        }
    }

    /// Lets go of the room of the last answer.
    pub fn clear(&mut self) {
        self.room = BytesMut::new();
    }

    /// How much room there is, in bytes.
    #[cfg(test)]
    pub fn room(&self) -> usize {
        self.room.capacity()
    }

    /// Takes what is between pieces, so that an end which has come is known with the last of them; and keeps no room for
    /// what does not come, but for the next answer that of a small one.
    fn settle(&mut self) {
        // What is wrong with it is told to who asks for the next piece.
        let _ = self.body.take_framing(&mut self.unread);
        let is_small = self.size == SMALLEST_READ && self.heard <= SMALLEST_READ - LEAST_READ;
        if self.has_ended() && !is_small {
            self.clear();
        }
        if self.unread.is_empty() {
            // It would hold the whole block that it was a part of.
            self.unread = Bytes::new();
        }
    }

    /// The stream has ended; whether that is the end of the body.
    pub fn ends(&mut self) -> bool {
        let ends = self.body.ends();
        if ends {
            self.is_kept = false;
            self.settle();
        }
        ends
    }

    /// Whether there is nothing more of the body to come.
    pub fn has_ended(&self) -> bool {
        self.body.has_ended()
    }

    /// How much is to come.
    pub fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Without the content, which is the upstream's and the client's.
impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reading")
            .field("body", &self.body)
            .field("unread", &self.unread.len())
            .finish_non_exhaustive()
    }
}

/// Largest head of an answer, in bytes.
const LARGEST_HEAD: usize = 64 << 10;

/// Headers of an answer, or trailers.
pub(super) const MOST_LINES: usize = 100;

/// What may come before the head of an answer is whole, in bytes: 1xx answers without an end are no answer. More than
/// a head and what is read ahead of its body.
const MOST_BYTES_BEFORE_ANSWER: usize = 4 * LARGEST_HEAD;

/// Room for what is read at once, in bytes; it doubles as long as all of it is used.
const SMALLEST_READ: usize = 4 << 10;

const LARGEST_READ: usize = 64 << 10;

/// Room that is not worth a read.
const LEAST_READ: usize = 1 << 10;

#[cfg(test)]
mod tests;
