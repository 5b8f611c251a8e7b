//! The credential is overwritten in the body of an answer while it streams, across the borders of its pieces.

use std::{
    mem,
    ops::Range,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, header};
use http_body::{Body, Frame};
use smallvec::SmallVec;

use super::{attach::Attached, needle::Needle, survey::Survey, upload::Cut};
use crate::fault::Fault;

/// A filter in the way of a body. What it finds becomes as many `*`, so that the length stands; it holds back only what
/// may be the beginning of a credential.
#[derive(Debug)]
pub struct Scrub {
    needles: SmallVec<[Rc<[Needle]>; 2]>,
    /// The end of what has come, as it came.
    held: Bytes,
    /// How many bytes of it belong to a hit that began before it.
    covered: usize,
    /// The trailers, where something had to go before them.
    trailers: Option<Box<Frame<Bytes>>>,
    /// The body has ended.
    ended: bool,
    found: bool,
    told: bool,
}

impl Scrub {
    /// A filter for the body of an answer with these headers; `None` where it is no text.
    ///
    /// # Errors
    /// `upstream_protocol` for a text that is compressed, or in characters that are not those of ASCII, though nobody
    /// asked for that: it cannot be searched, and might say the credential.
    pub fn of(headers: Survey<'_>, attached: &Attached) -> Result<Option<Self>, Fault> {
        let needles = attached.iter().map(|built| built.needles());
        let needles: SmallVec<_> = needles.filter(|needles| !needles.is_empty()).collect();
        if needles.is_empty() {
            return Ok(None);
        }
        let kind = headers.only(&header::CONTENT_TYPE);
        if matches!(kind, Ok(Some(kind)) if is_usual_text(kind))
            && !headers.names.may_have(&header::CONTENT_ENCODING)
        {
            return Ok(Some(Self::new(needles)));
        }
        if !is_text(headers) {
            return Ok(None);
        }
        if is_encoded(headers) || is_in_other_characters(headers) {
            return Err(Fault::UpstreamProtocol);
        }
        Ok(Some(Self::new(needles)))
    }

    fn new(needles: SmallVec<[Rc<[Needle]>; 2]>) -> Self {
        Self {
            needles,
            held: Bytes::new(),
            covered: 0,
            trailers: None,
            ended: false,
            found: false,
            told: false,
        }
    }

    /// The next frame of a body. An empty piece says that all that came is held.
    pub fn poll_frame<B>(
        &mut self,
        body: &mut B,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>>
    where
        B: Body<Data = Bytes, Error = Cut> + Unpin,
    {
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(*trailers)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let mut polled = ready!(Pin::new(&mut *body).poll_frame(cx));
        match &mut polled {
            Some(Ok(frame)) => match frame.data_mut() {
                Some(piece) => {
                    self.ended = body.is_end_stream();
                    *piece = self.pass(mem::take(piece));
                }
                None => {
                    let rest = self.end();
                    if !rest.is_empty() {
                        let trailers = mem::replace(frame, Frame::data(rest));
                        self.trailers = Some(Box::new(trailers));
                    }
                }
            },
            None => {
                let rest = self.end();
                if !rest.is_empty() {
                    polled = Some(Ok(Frame::data(rest)));
                }
            }
            Some(Err(Cut)) => {}
        }
        Poll::Ready(polled)
    }

    /// Whether nothing is left here to go on.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty() && self.trailers.is_none()
    }

    /// Whether a credential was found; said once.
    pub fn take_news(&mut self) -> bool {
        self.found && !mem::replace(&mut self.told, true)
    }

    fn end(&mut self) -> Bytes {
        self.ended = true;
        self.pass(Bytes::new())
    }

    /// What can go on now: of what was held and this piece all but what may be the beginning of a credential.
    fn pass(&mut self, piece: Bytes) -> Bytes {
        let mut text = joined(mem::take(&mut self.held), piece);
        let mut hits: SmallVec<[Range<usize>; 2]> = SmallVec::new();
        let mut open = text.len();
        for needle in self.needles.iter().flat_map(|of| of.iter()) {
            open = open.min(needle.find(&text, |hit| hits.push(hit)));
        }
        if hits.is_empty() && open == text.len() && self.covered == 0 {
            return text;
        }
        self.found |= !hits.is_empty();
        if self.ended {
            open = text.len();
        }
        // What begins in the part that is held is found there again.
        hits.retain(|hit| hit.start < open);
        if self.covered > 0 {
            hits.push(0..self.covered);
        }
        let covered = hits.iter().map(|hit| hit.end).max().unwrap_or(0);
        self.covered = covered.saturating_sub(open);
        self.held = text.split_off(open);
        if hits.is_empty() {
            return text;
        }
        let mut masked = BytesMut::from(text);
        for hit in hits {
            masked[hit.start..hit.end.min(open)].fill(b'*');
        }
        masked.freeze()
    }
}

fn joined(first: Bytes, second: Bytes) -> Bytes {
    if first.is_empty() {
        return second;
    }
    if second.is_empty() {
        return first;
    }
    let mut both = BytesMut::with_capacity(first.len() + second.len());
    both.extend_from_slice(&first);
    both.extend_from_slice(&second);
    both.freeze()
}

/// Whether a content type is what nearly all texts say: known without reading it piece by piece.
fn is_usual_text(kind: &HeaderValue) -> bool {
    matches!(
        kind.as_bytes(),
        b"application/json"
            | b"application/json;charset=utf-8"
            | b"application/json;charset=UTF-8"
            | b"application/json; charset=utf-8"
            | b"application/json; charset=UTF-8"
            | b"text/event-stream"
            | b"text/event-stream; charset=utf-8"
            | b"text/html"
            | b"text/html; charset=utf-8"
            | b"text/html; charset=UTF-8"
            | b"text/plain"
            | b"text/plain; charset=utf-8"
    )
}

/// Whether a body is one that people and programs read as text; one that does not say what it is may be.
fn is_text(headers: Survey<'_>) -> bool {
    let mut kinds = headers.all(&header::CONTENT_TYPE).peekable();
    kinds.peek().is_none() || kinds.any(|kind| names_text(kind.as_bytes()))
}

/// A line may name several kinds, and clients differ in which they take; one may be in quotes, though none should.
fn names_text(line: &[u8]) -> bool {
    line.split(|byte| *byte == b',').any(|kind| {
        let end = memchr::memchr(b';', kind).unwrap_or(kind.len());
        is_name_of_text(&unquoted(&kind[..end]))
    })
}

fn is_name_of_text(name: &str) -> bool {
    let Some((family, name)) = name.split_once('/') else {
        return true;
    };
    let has_one_of = |words: &[&str]| words.iter().any(|word| name.contains(word));
    // A message repeats a request, as the answer to TRACE does; parts may be anything.
    matches!(family, "text" | "message" | "multipart" | "*")
        || TEXTS.contains(&name)
        || (has_one_of(&WORDS_OF_TEXTS) && !has_one_of(&WORDS_OF_OTHERS))
}

fn is_in_other_characters(headers: Survey<'_>) -> bool {
    let kinds = headers.all(&header::CONTENT_TYPE);
    let mut parts =
        kinds.flat_map(|line| line.as_bytes().split(|byte| matches!(byte, b';' | b',')));
    parts.any(|part| {
        let Some(at) = memchr::memchr(b'=', part) else {
            return false;
        };
        let charset = unquoted(&part[at + 1..]);
        unquoted(&part[..at]) == "charset"
            && OTHER_CHARACTERS
                .iter()
                .any(|start| charset.starts_with(start))
            && !charset.starts_with("cp125")
    })
}

/// In lower case, without quotes and spaces around it.
fn unquoted(text: &[u8]) -> String {
    let is_around = |c: char| c.is_ascii_whitespace() || matches!(c, '"' | '\'');
    let text = String::from_utf8_lossy(text);
    text.trim_matches(is_around).to_ascii_lowercase()
}

fn is_encoded(headers: Survey<'_>) -> bool {
    let mut codings = headers.all(&header::CONTENT_ENCODING);
    let is_none = |coding: &HeaderValue| {
        // Some servers put a charset there, or say in a word that there is nothing.
        let said = unquoted(coding.as_bytes());
        matches!(&*said, "" | "identity" | "none" | "utf-8")
    };
    !codings.all(is_none)
}

/// Names behind the slash that mean text.
const TEXTS: [&str; 8] = [
    "*",
    "csv",
    "graphql",
    "grpc-web-text",
    "grpc-web-text+proto",
    "http",
    "x-http",
    "x-www-form-urlencoded",
];

/// A name that has one of these in it means text, too.
const WORDS_OF_TEXTS: [&str; 7] = ["json", "xml", "yaml", "script", "toml", "sql", "jwt"];

/// But not with one of these: archives, the documents of an office, databases.
const WORDS_OF_OTHERS: [&str; 3] = ["zip", "openxml", "sqlite"];

/// How charsets begin in which a letter is not the byte that ASCII has for it. Of IBM's, the `cp125…` are Windows' own,
/// and have.
const OTHER_CHARACTERS: [&str; 13] = [
    "utf-16",
    "utf16",
    "utf-32",
    "utf32",
    "utf-7",
    "utf7",
    "ucs",
    "iso-10646",
    "unicode",
    "ibm",
    "cp",
    "ebcdic",
    "x-utf",
];

#[cfg(test)]
mod tests;
