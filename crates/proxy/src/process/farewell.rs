//! The end of a client's connection, so that the client gets all that was said to it.
//!
//! A socket that is closed with bytes of the client's unread, or that still gets some, is reset; and a reset takes from
//! the client what it has not read yet. So, where there is more than was read, the end is said first, and what comes is
//! read and dropped until the client has ended as well.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    time::Instant,
};

use super::{
    stream::Stream,
    vitals::{FAREWELL, Vitals},
    worker::Worker,
};
use crate::journey::progress::MOST_DISCARDED_OF_CLIENT;

/// The end of a TLS connection is said, not just done; a client that does not take it is not waited for.
pub(super) async fn say_farewell(stream: &mut Stream) {
    let end = poll_fn(|cx| Pin::new(&mut *stream).poll_shutdown(cx));
    let _ = tokio::time::timeout(FAREWELL, end).await;
}

/// Whether something of the client's is to be read, as far as the runtime knows.
pub(super) fn has_unread(stream: &Stream) -> bool {
    let readable = stream.poll_readable(&mut Context::from_waker(Waker::noop()));
    readable.is_ready()
}

/// Reads and drops what the client still sends behind our own end, until it ends as well, has sent nothing for a while,
/// or too much, or has taken too long for it.
pub(super) async fn linger(stream: Stream, vitals: &Vitals, worker: &Worker) {
    // Nobody is to understand it.
    let mut stream = stream.without_tls();
    let mut left = MOST_DISCARDED_OF_CLIENT;
    let last = Instant::now() + vitals.limits().stall_timeout;
    let mut is_draining = worker.is_draining();
    vitals.lingers(is_draining);
    poll_fn(|cx| {
        loop {
            let mut space = [0; PIECE];
            let mut piece = ReadBuf::new(&mut space);
            match Pin::new(&mut stream).poll_read(cx, &mut piece) {
                Poll::Ready(Ok(())) if !piece.filled().is_empty() => {
                    left = left.saturating_sub(piece.filled().len());
                    if left == 0 || Instant::now() > last {
                        return Poll::Ready(());
                    }
                    // At the end of the process nobody is waited for twice.
                    if !is_draining {
                        vitals.lingers(is_draining);
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending if worker.is_draining() && !is_draining => {
                    is_draining = true;
                    vitals.lingers(is_draining);
                    return vitals.watch.poll_passed(cx);
                }
                Poll::Pending => return vitals.watch.poll_passed(cx),
            }
        }
    })
    .await;
}

const PIECE: usize = 8 << 10;
