//! What is read of an answer does not depend on how it comes, and is what hyper reads.

use std::{collections::VecDeque, task::Waker};

use http::{HeaderMap, HeaderName, header};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncWriteExt as _, ReadBuf, duplex};

use super::{
    super::{
        body::{LARGEST_TRAILERS, MOST_ODD, USUAL_SIZE_LINE},
        is_interim,
    },
    *,
};

/// Bytes as they come, piece by piece.
struct Pieces(VecDeque<Vec<u8>>);

impl AsyncRead for Pieces {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let pieces = &mut self.get_mut().0;
        if let Some(piece) = pieces.front_mut() {
            let size = piece.len().min(buffer.remaining());
            buffer.put_slice(&piece[..size]);
            piece.drain(..size);
            if piece.is_empty() {
                pieces.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What a reader makes of some bytes.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
enum Read {
    /// No answer.
    None,
    /// An answer that breaks off in its body.
    Cut(StatusCode),
    /// An answer.
    Whole(StatusCode, HeaderMap, Vec<u8>, HeaderMap),
}

/// What we make of them, and whether the connection can be used again.
fn ours(method: &Method, pieces: impl IntoIterator<Item = Vec<u8>>) -> (Read, bool) {
    let mut stream = Pieces(
        pieces
            .into_iter()
            .filter(|piece| !piece.is_empty())
            .collect(),
    );
    let cx = &mut Context::from_waker(Waker::noop());
    let mut reading = Reading::new(Rc::default());
    reading.begin(method);
    let mut more = |reading: &mut Reading| match reading.poll_more(&mut stream, cx) {
        Poll::Ready(more) => more.unwrap(),
        Poll::Pending => unreachable!("pieces come at once"),
    };
    let head = loop {
        match reading.head() {
            Err(Malformed) => return (Read::None, false),
            Ok(Some((head, _))) if is_interim(head.status) => {}
            Ok(Some((head, _))) => break head,
            Ok(None) if more(&mut reading) => {}
            Ok(None) => return (Read::None, false),
        }
    };
    let (mut body, mut trailers) = (Vec::new(), HeaderMap::new());
    loop {
        match reading.frame() {
            Err(Malformed) => return (Read::Cut(head.status), false),
            Ok(Some(frame)) => match frame.into_data() {
                Ok(data) => body.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().unwrap(),
            },
            Ok(None) if reading.has_ended() => break,
            Ok(None) if more(&mut reading) || reading.ends() => {}
            Ok(None) => return (Read::Cut(head.status), false),
        }
    }
    let whole = Read::Whole(head.status, head.headers, body, trailers);
    (whole, reading.is_reusable())
}

/// What hyper makes of them.
fn hypers(method: &Method, bytes: &[u8]) -> Read {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(async {
        let (near, mut far) = duplex(1 << 20);
        let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await.unwrap();
        let driven = tokio::spawn(connection);
        let request = http::Request::builder().method(method).uri("/");
        let asked = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap());
        let says = async {
            // hyper takes what lies there before it has asked for nobody's.
            let mut first = [0];
            tokio::io::AsyncReadExt::read_exact(&mut far, &mut first)
                .await
                .unwrap();
            far.write_all(bytes).await.unwrap();
            far.shutdown().await.unwrap();
        };
        let (answer, ()) = tokio::join!(asked, says);
        let Ok(answer) = answer else {
            return Read::None;
        };
        let (head, body) = answer.into_parts();
        let read = match body.collect().await {
            Err(_) => Read::Cut(head.status),
            Ok(collected) => {
                let trailers = collected.trailers().cloned().unwrap_or_default();
                let body = collected.to_bytes().to_vec();
                let mut headers = head.headers;
                if head.status != StatusCode::SWITCHING_PROTOCOLS {
                    headers.remove(header::CONNECTION);
                }
                Read::Whole(head.status, headers, body, trailers)
            }
        };
        driven.abort();
        read
    })
}

fn whole(answer: &str) -> (u16, String, bool) {
    match ours(&Method::GET, [answer.into()]) {
        (Read::Whole(status, _, body, _), kept) => {
            (status.as_u16(), String::from_utf8(body).unwrap(), kept)
        }
        (other, _) => panic!("{answer:?}: {other:?}"),
    }
}

#[test]
fn an_answer_ends_where_its_head_says() {
    let ok = |rest: &str| whole(&format!("HTTP/1.1 200 OK\r\n{rest}"));
    assert_eq!(ok("Content-Length: 2\r\n\r\nok"), (200, "ok".into(), true));
    assert_eq!(
        ok("Content-Length: 2\r\n\r\nok+"),
        (200, "ok".into(), false)
    );
    assert_eq!(ok("Content-Length: 0\r\n\r\n"), (200, String::new(), true));
    assert_eq!(ok("\r\nto the end"), (200, "to the end".into(), false));
    let chunks = "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n1;a=b\r\n!\r\n0\r\n";
    assert_eq!(ok(&format!("{chunks}\r\n")), (200, "ok!".into(), true));
    assert_eq!(
        ok(&format!("{chunks}A: b\r\n\r\n")),
        (200, "ok!".into(), true)
    );
    assert_eq!(ok(&format!("{chunks}\r\n+")), (200, "ok!".into(), false));
    let close = "Connection: a, Close\r\nContent-Length: 2\r\n\r\nok";
    assert_eq!(ok(close), (200, "ok".into(), false));
    let early = "HTTP/1.1 103 Early\r\nLink: a\r\n\r\nHTTP/1.1 100 \r\n\r\nHTTP/1.1 204 No\r\n\r\n";
    assert_eq!(whole(early), (204, String::new(), true));
    let none = "HTTP/1.1 304 Same\r\nContent-Length: 9\r\n\r\n";
    assert_eq!(whole(none), (304, String::new(), true));
    let old = "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n";
    assert_eq!(whole(&format!("{old}\r\nok")), (200, "ok".into(), false));
    let kept = format!("{old}Connection: keep-alive\r\n");
    assert_eq!(whole(&format!("{kept}\r\nok")), (200, "ok".into(), true));
    let both = format!("{kept}Connection: close\r\n\r\nok");
    assert_eq!(whole(&both), (200, "ok".into(), false));
    let odd = "HTTP/1.1 100 Go\r\nTransfer-Encoding: gzip\r\n\r\nHTTP/1.1 204 No\r\n\r\n";
    assert_eq!(whole(odd), (204, String::new(), true));
}

#[test]
fn what_is_said_of_the_connection_ends_here() {
    let said =
        "Connection: X-Own , keep-alive\r\nConnection: Content-Length\r\nX-Own: a\r\nY: b\r\n";
    let answer = format!("HTTP/1.1 200 OK\r\n{said}Content-Length: 2\r\n\r\nok");
    let (read, kept) = ours(&Method::GET, [answer.into_bytes()]);
    let Read::Whole(_, headers, ..) = read else {
        panic!("{read:?}");
    };
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!((names, kept), (vec!["content-length", "y"], true));
    let switch = "HTTP/1.1 101 Over\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let (read, kept) = ours(&Method::GET, [switch.into()]);
    let has_both = |headers: &HeaderMap| {
        headers.contains_key(header::CONNECTION) && headers.contains_key(header::UPGRADE)
    };
    assert!(
        matches!(&read, Read::Whole(_, headers, ..) if has_both(headers)),
        "{read:?} {kept}"
    );
}

#[test]
fn nothing_of_an_answer_stays_behind() {
    let cx = &mut Context::from_waker(Waker::noop());
    for rest in [
        "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\n\r\n",
        "Content-Length: 2\r\n\r\nok",
        "Content-Length: 0\r\n\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\nX: held\r\n{rest}");
        let mut stream = Pieces([answer.into_bytes()].into());
        let mut reading = Reading::new(Rc::default());
        reading.begin(&Method::GET);
        assert!(matches!(
            reading.poll_more(&mut stream, cx),
            Poll::Ready(Ok(true))
        ));
        // As long as another part of the block is held, it is this one alone.
        let held = reading.unread.slice(..1);
        drop(reading.head().unwrap());
        while reading.frame().unwrap().is_some() {}
        assert!(
            reading.is_reusable() && reading.unread.is_empty(),
            "{rest:?}"
        );
        reading.clear();
        assert!(held.is_unique(), "{rest:?}");
    }
}

#[test]
fn only_the_room_of_a_small_answer_is_kept() {
    let cx = &mut Context::from_waker(Waker::noop());
    for (size, is_kept) in [(20, true), (2_900, true), (3_900, false), (9_000, false)] {
        let body = "canary".repeat(size / 6);
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = Pieces([answer.into_bytes()].into());
        let mut reading = Reading::new(Rc::default());
        reading.begin(&Method::GET);
        while !reading.is_reusable() {
            if matches!(reading.head(), Ok(None)) {
                let _ = reading.poll_more(&mut stream, cx);
                continue;
            }
            while !reading.has_ended() {
                if reading.frame().unwrap().is_none() {
                    let _ = reading.poll_more(&mut stream, cx);
                }
            }
        }
        assert_eq!(reading.room() > 0, is_kept, "{size}");
    }
}

#[test]
fn an_answer_to_head_has_no_body() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
    let (read, kept) = ours(&Method::HEAD, [answer.into()]);
    assert!(matches!(read, Read::Whole(_, _, body, _) if body.is_empty()) && kept);
}

#[test]
fn what_nobody_says_is_refused() {
    let chunks = |chunks: &str| {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        ours(&Method::GET, [answer.into_bytes()]).0
    };
    let cut = Read::Cut(StatusCode::OK);
    for odd in [
        "\r\n\r\n",
        " 2\r\nok\r\n0\r\n\r\n",
        "+2\r\nok\r\n0\r\n\r\n",
        "0x2\r\nok\r\n0\r\n\r\n",
        "2;a\nb\r\nok\r\n0\r\n\r\n",
        "2\nok\n0\n\n",
        "2\r\nok0\r\n\r\n",
        "2\r\nok\n0\r\n\r\n",
        "2\r\nok\r+0\r\n\r\n",
        "11111111111111111\r\nok\r\n0\r\n\r\n",
        "2\r\nok\r\n0\r\nA : b\r\n\r\n",
        "2\r\nok\r\n0\r\nA: b\n\n",
        "2\r\nok\r\n0\r\nA: b\r\n c\r\n\r\n",
    ] {
        assert_eq!(chunks(odd), cut, "{odd:?}");
    }
    for times in [1, 20] {
        let extension = "a".repeat(MOST_ODD / times + USUAL_SIZE_LINE);
        let endless = format!("2;{extension}\r\nok\r\n").repeat(times);
        assert_eq!(chunks(&format!("{endless}0\r\n\r\n")), cut, "{times}");
    }
    let endless = format!("0\r\nA: {}\r\n\r\n", "b".repeat(LARGEST_TRAILERS));
    assert_eq!(chunks(&endless), cut);
    let early = "HTTP/1.1 100 Go\r\n\r\n".repeat(MOST_BYTES_BEFORE_ANSWER / 19 + 1)
        + "HTTP/1.1 204 No\r\n\r\n";
    assert_eq!(ours(&Method::GET, [early.into_bytes()]).0, Read::None);
    let empty = "\r\n".repeat(LARGEST_HEAD) + "HTTP/1.1 204 No\r\n\r\n";
    assert_eq!(ours(&Method::GET, [empty.into_bytes()]).0, Read::None);
    let large = format!("HTTP/1.1 204 No\r\nA: {}\r\n\r\n", "b".repeat(LARGEST_HEAD));
    assert_eq!(ours(&Method::GET, [large.into_bytes()]).0, Read::None);
}

/// Pieces that answers are made of, and some that they are not made of.
const WORDS: [&str; 34] = [
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.0 200 OK\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 204 \r\n",
    "HTTP/1.1 304 Not Modified\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Connection: close\r\n",
    "Set-Cookie: a=b\r\n",
    "Set-Cookie: c=d\r\n",
    "X: \u{fc} \r\n",
    "\r\n",
    "\r\n",
    "\r\n",
    "hello",
    "hello",
    "5\r\nhello\r\n",
    "5\r\nhello\r\n",
    "5;a=\"b\"\r\nhello\r\n",
    "0\r\n\r\n",
    "0\r\n\r\n",
    "0\r\nA: b\r\n\r\n",
    "\n",
    "\r",
    " ",
    "0",
    "a",
    ":",
];

/// What an upstream says, legible where a test fails.
#[derive(Clone)]
struct Said(Vec<u8>);

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

fn answers() -> impl Strategy<Value = Said> {
    let words = prop::collection::vec(prop::sample::select(&WORDS[..]), 0..12);
    let wild = (words, 0..7_usize).prop_map(|(words, first)| {
        let mut bytes = WORDS[first].as_bytes().to_vec();
        words
            .iter()
            .for_each(|word| bytes.extend_from_slice(word.as_bytes()));
        bytes
    });
    let chunk = prop::collection::vec(any::<u8>(), 1..40);
    let tame = prop::collection::vec(chunk, 0..5).prop_map(|chunks| {
        let mut bytes =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: \"a\"\r\n\r\n".to_vec();
        for chunk in &chunks {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\nA: b\r\n\r\n");
        bytes
    });
    let said = prop_oneof![3 => wild, 1 => tame];
    // Half of them with one byte that is another.
    let wrong = prop::option::of((
        any::<prop::sample::Index>(),
        prop::sample::select(&b"\r\n 0a:;\0\x80"[..]),
    ));
    (said, wrong).prop_map(|(mut bytes, wrong)| {
        if let Some((at, byte)) = wrong {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        Said(bytes)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn an_answer_is_the_same_however_it_comes(
        Said(bytes) in answers(),
        to_head: bool,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let method = if to_head { Method::HEAD } else { Method::GET };
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| bytes[cut[0]..cut[1]].to_vec());
        let (once, kept) = ours(&method, [bytes.clone()]);
        let (split, split_kept) = ours(&method, pieces);
        prop_assert_eq!(&once, &split);
        // What lies behind an answer is seen as soon as it has come: then the connection is not used again.
        prop_assert!(!kept || split_kept);
        let single = bytes.iter().map(|byte| vec![*byte]);
        prop_assert_eq!(once, ours(&method, single).0);
    }

    #[test]
    fn hyper_reads_the_same(Said(bytes) in answers(), to_head: bool) {
        let method = if to_head { Method::HEAD } else { Method::GET };
        let (ours, _) = ours(&method, [bytes.clone()]);
        let hypers = hypers(&method, &bytes);
        match (&ours, &hypers) {
            (Read::Whole(..), _) => prop_assert_eq!(ours, hypers),
            // Some of what can be read in two ways hyper reads in one.
            (Read::None, _) => {}
            (Read::Cut(status), Read::Cut(hypers) | Read::Whole(hypers, ..)) => prop_assert_eq!(status, hypers),
            (Read::Cut(_), Read::None) => prop_assert!(false, "{:?}: hyper sees no answer", ours),
        }
    }
}
