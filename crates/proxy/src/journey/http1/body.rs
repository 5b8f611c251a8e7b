//! The body of an answer, taken out of what has come by the way it is framed (RFC 9112, sections 6 and 7).

use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use httparse::Status;

use super::{
    super::framing::Framing,
    reading::{MOST_LINES, Malformed},
    usual::header,
};

/// What is left of a body.
#[derive(Debug, Default)]
pub(super) struct Body {
    left: Left,
    /// How many bytes of extensions its chunks had, which mean nothing here.
    odd: usize,
}

/// How the rest of a body is framed.
#[derive(Debug, Default, Clone, Copy)]
enum Left {
    /// Nothing.
    #[default]
    Ended,
    /// So many bytes.
    Length(u64),
    /// Pieces, each with its size before it.
    Chunked(Chunk),
    /// All that comes before the stream ends.
    UntilEnd,
}

/// What comes next of a chunked body.
#[derive(Debug, Clone, Copy)]
enum Chunk {
    /// The size of a piece.
    Size,
    /// So much of it.
    Data(u64),
    /// The end of its line.
    DataEnd,
    /// The last lines.
    Trailers,
}

impl Body {
    /// One that is framed like this.
    pub(super) fn framed(framing: Framing) -> Self {
        let left = match framing {
            Framing::Length(0) => Left::Ended,
            Framing::Length(length) => Left::Length(length),
            Framing::Chunked => Left::Chunked(Chunk::Size),
            Framing::Unsaid => Left::UntilEnd,
        };
        Self { left, odd: 0 }
    }

    /// Takes what has come of it, as far as one can tell.
    ///
    /// # Errors
    /// When it is framed as nothing is.
    pub(super) fn frame(&mut self, unread: &mut Bytes) -> Result<Option<Frame<Bytes>>, Malformed> {
        self.take_framing(unread)?;
        let left = match self.left {
            _ if unread.is_empty() => return Ok(None),
            Left::Ended | Left::Chunked(Chunk::Size | Chunk::DataEnd) => return Ok(None),
            Left::Chunked(Chunk::Trailers) => {
                let trailers = self.trailers(unread)?;
                return Ok(trailers.map(Frame::trailers));
            }
            Left::Length(left) | Left::Chunked(Chunk::Data(left)) => left,
            Left::UntilEnd => u64::MAX,
        };
        let size = usize::try_from(left).map_or(unread.len(), |left| left.min(unread.len()));
        let piece = unread.split_to(size);
        let left = left - size as u64;
        self.left = match (self.left, left) {
            (Left::Length(_), 0) => Left::Ended,
            (Left::Length(_), left) => Left::Length(left),
            (Left::Chunked(_), 0) => Left::Chunked(Chunk::DataEnd),
            (Left::Chunked(_), left) => Left::Chunked(Chunk::Data(left)),
            (body, _) => body,
        };
        Ok(Some(Frame::data(piece)))
    }

    /// Takes the sizes of pieces, and the end where there are no trailers, as far as they have come.
    ///
    /// # Errors
    /// When they are none.
    pub(super) fn take_framing(&mut self, unread: &mut Bytes) -> Result<(), Malformed> {
        while let Left::Chunked(chunk) = self.left {
            let next = match chunk {
                Chunk::Data(_) => return Ok(()),
                Chunk::DataEnd => match &**unread {
                    [b'\r', b'\n', ..] => {
                        unread.advance(2);
                        Left::Chunked(Chunk::Size)
                    }
                    [] | [b'\r'] => return Ok(()),
                    _ => return Err(Malformed),
                },
                Chunk::Size => match self.chunk_size(unread)? {
                    None => return Ok(()),
                    Some(0) => Left::Chunked(Chunk::Trailers),
                    Some(size) => Left::Chunked(Chunk::Data(size)),
                },
                Chunk::Trailers if unread.starts_with(b"\r\n") => {
                    unread.advance(2);
                    Left::Ended
                }
                Chunk::Trailers => return Ok(()),
            };
            self.left = next;
        }
        Ok(())
    }

    /// The size of the next piece, if its line has come whole.
    fn chunk_size(&mut self, unread: &mut Bytes) -> Result<Option<u64>, Malformed> {
        let Some(first) = unread.first() else {
            return Ok(None);
        };
        // The library takes a line without a digit for a size of zero.
        if !first.is_ascii_hexdigit() {
            return Err(Malformed);
        }
        let (line, size) = match httparse::parse_chunk_size(unread).map_err(|_| Malformed)? {
            Status::Complete((line, size)) => (line, Some(size)),
            Status::Partial => (unread.len(), None),
        };
        let odd = line.saturating_sub(USUAL_SIZE_LINE);
        if self.odd + odd > MOST_ODD || !has_whole_ends(&unread[..line]) {
            return Err(Malformed);
        }
        if size.is_some() {
            self.odd += odd;
            unread.advance(line);
        }
        Ok(size)
    }

    /// The last lines of a chunked body, if they have come whole.
    fn trailers(&mut self, unread: &mut Bytes) -> Result<Option<HeaderMap>, Malformed> {
        let mut lines = [httparse::EMPTY_HEADER; MOST_LINES];
        match httparse::parse_headers(unread, &mut lines).map_err(|_| Malformed)? {
            Status::Complete((size, lines))
                if size <= LARGEST_TRAILERS && has_whole_ends(&unread[..size]) =>
            {
                let trailers = lines.iter().map(|line| header(line, unread));
                let trailers = trailers.collect::<Result<_, _>>()?;
                unread.advance(size);
                self.left = Left::Ended;
                Ok(Some(trailers))
            }
            Status::Partial if unread.len() <= LARGEST_TRAILERS => Ok(None),
            _ => Err(Malformed),
        }
    }

    /// The stream has ended; whether that is the end of the body.
    pub(super) fn ends(&mut self) -> bool {
        let ends = matches!(self.left, Left::UntilEnd);
        if ends {
            self.left = Left::Ended;
        }
        ends
    }

    /// Whether there is nothing more of it to come.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.left, Left::Ended)
    }

    /// How much is to come.
    pub(super) fn size_hint(&self) -> SizeHint {
        match self.left {
            Left::Ended => SizeHint::with_exact(0),
            Left::Length(left) => SizeHint::with_exact(left),
            Left::Chunked(_) | Left::UntilEnd => SizeHint::default(),
        }
    }
}

/// Whether no line ends with a line feed alone: who takes none of those for an end would see other lines.
fn has_whole_ends(lines: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', lines).all(|at| lines[..at].ends_with(b"\r"))
}

/// A chunk's size with the end of its line, in bytes; what is longer has extensions.
pub(super) const USUAL_SIZE_LINE: usize = 18;

/// What may stand there besides, in bytes, of all chunks of a body.
pub(super) const MOST_ODD: usize = 16 << 10;

/// All trailers, in bytes.
pub(super) const LARGEST_TRAILERS: usize = 16 << 10;
