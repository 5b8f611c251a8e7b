//! Keeps DATA frames that say nothing from `h2`, which ends a connection at the hundredth of its life.
//!
//! Streaming servers and clients may send a few of them with each message, for days. The sieve makes each a frame of a
//! kind that nobody knows: such frames are passed over, everywhere but inside of a head, as RFC 9113 wants it. An empty
//! frame takes no room of any window, so that nobody misses it. One with padding does, and stays what it is.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection whose other end speaks HTTP/2.
#[derive(Debug)]
pub struct Sieve<S> {
    stream: S,
    /// Bytes that are to come before the next frame.
    left: usize,
    /// The beginning of the next frame: its length, kind and flags.
    head: [u8; FLAGS + 1],
    /// How much of the next frame's whole head has come.
    head_size: usize,
    /// Frames that were left to `h2`, so that it refuses what no stream may have.
    left_as_they_are: u8,
    held: Held,
}

/// What has been read and not been given on.
#[derive(Debug)]
enum Held {
    Nothing,
    /// The kind of an empty DATA frame, whose flags have not come.
    Kind,
    /// Flags, for which there was no room.
    Flags(u8),
}

impl<S> Sieve<S> {
    /// A client's connection, which begins with its preface.
    pub fn of_client(stream: S) -> Self {
        Self {
            left: PREFACE,
            ..Self::of_server(stream)
        }
    }

    /// A server's connection.
    pub fn of_server(stream: S) -> Self {
        Self {
            stream,
            left: 0,
            head: [0; FLAGS + 1],
            head_size: 0,
            left_as_they_are: 0,
            held: Held::Nothing,
        }
    }

    /// Goes on by what has come, and changes what says nothing.
    fn sift(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            if self.left > 0 {
                let step = self.left.min(bytes.len() - at);
                self.left -= step;
                at += step;
                continue;
            }
            if let Some(place) = self.head.get_mut(self.head_size) {
                *place = bytes[at];
            }
            if self.head_size == FLAGS && self.says_nothing() {
                match self.left_as_they_are {
                    LEFT_AS_THEY_ARE => bytes[at - 1] = UNKNOWN,
                    _ => self.left_as_they_are += 1,
                }
            }
            self.head_size += 1;
            at += 1;
            if self.head_size == HEAD {
                self.left = length(&self.head);
                self.head_size = 0;
            }
        }
    }

    fn says_nothing(&self) -> bool {
        self.head[..FLAGS] == EMPTY_DATA && self.head[FLAGS] & (END_STREAM | PADDED) == 0
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Sieve<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if let Held::Flags(flags) = this.held {
            buf.put_slice(&[flags]);
            this.held = Held::Nothing;
            return Poll::Ready(Ok(()));
        }
        if let Held::Nothing = this.held {
            let before = buf.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            this.sift(&mut buf.filled_mut()[before..]);
            let size = buf.filled().len();
            if size == before || this.head_size != FLAGS || this.head[..FLAGS] != EMPTY_DATA {
                return Poll::Ready(Ok(()));
            }
            // What it is depends on the next byte.
            this.head_size -= 1;
            this.held = Held::Kind;
            buf.set_filled(size - 1);
            if size - 1 > before {
                return Poll::Ready(Ok(()));
            }
        }
        let mut flags = ReadBuf::new(&mut this.head[FLAGS..]);
        ready!(Pin::new(&mut this.stream).poll_read(cx, &mut flags))?;
        let has_come = !flags.filled().is_empty();
        // Else it is the end of the connection, amid a frame.
        if has_come {
            let mut pair = [DATA, this.head[FLAGS]];
            this.sift(&mut pair);
            buf.put_slice(&pair[..1]);
            this.held = Held::Flags(pair[1]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Sieve<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }
}

/// The length of a frame's payload, which its head begins with.
pub(crate) fn length(head: &[u8]) -> usize {
    let [high, middle, low] = [head[0], head[1], head[2]].map(usize::from);
    high << 16 | middle << 8 | low
}

/// What a client begins with, in bytes.
pub(crate) const PREFACE: usize = 24;

/// The size of a frame's head.
pub(crate) const HEAD: usize = 9;

/// Where in it the flags are.
const FLAGS: usize = 4;

/// Three bytes of length, one of kind.
const EMPTY_DATA: [u8; FLAGS] = [0, 0, 0, DATA];
const DATA: u8 = 0;

const END_STREAM: u8 = 1;
const PADDED: u8 = 8;

/// A kind of frame that is in use nowhere.
const UNKNOWN: u8 = 0xfb;

/// Half of what `h2` takes.
const LEFT_AS_THEY_ARE: u8 = 50;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// What comes out of the sieve where this comes in these pieces, and is read in steps of so many bytes.
    async fn sifted(pieces: &[&[u8]], step: usize) -> Vec<u8> {
        let (mut from, to) = duplex(1 << 20);
        let mut sieve = Sieve::of_server(to);
        let mut out = Vec::new();
        let mut buffer = vec![0; step];
        for piece in pieces {
            from.write_all(piece).await.unwrap();
            while let Ok(size) =
                tokio::time::timeout(Duration::from_millis(1), sieve.read(&mut buffer)).await
            {
                out.extend(&buffer[..size.unwrap()]);
            }
        }
        drop(from);
        sieve.read_to_end(&mut out).await.unwrap();
        out
    }

    /// Frames of which only the last say nothing, and may be taken for nothing.
    fn frames() -> (Vec<u8>, Vec<u8>) {
        let first = frame(DATA, 0, b"").repeat(LEFT_AS_THEY_ARE.into());
        let stay = [
            frame(DATA, END_STREAM, b""),
            frame(DATA, PADDED, &[0]),
            frame(DATA, 0, &[0; 9]),
            frame(1, 0, b""),
            frame(6, 0, &[0; 8]),
        ]
        .concat();
        let [came, goes] = [DATA, UNKNOWN].map(|kind| {
            let nothing = frame(kind, 0, b"");
            [&first[..], &nothing, &stay, &nothing, &nothing, &stay].concat()
        });
        (came, goes)
    }

    #[tokio::test(start_paused = true)]
    async fn only_frames_that_say_nothing_are_changed_however_they_come() {
        let (came, goes) = frames();
        for step in [1, 2, 3, 9, 1000] {
            assert_eq!(sifted(&[&came], step).await, goes, "in steps of {step}");
        }
        let bytes: Vec<_> = came.chunks(1).collect();
        assert_eq!(sifted(&bytes, 1000).await, goes);
        for cut in came.len() - 120..came.len() {
            let (one, other) = came.split_at(cut);
            assert_eq!(sifted(&[one, other], 1000).await, goes, "cut at {cut}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_amid_a_frame_is_the_end() {
        let (came, _) = frames();
        let cut = [&came[..], &EMPTY_DATA].concat();
        assert_eq!(sifted(&[&cut], 1000).await.len(), cut.len() - 1);
    }
}
