use http::HeaderMap;
use http_body_util::StreamBody;
use proptest::prelude::*;

use super::{
    super::needle::tests::{naively_masked, value_and_text},
    *,
};

const VALUE: &str = "canary+license/token=7c";

fn scrub(values: &[&str]) -> Scrub {
    let needles = values.iter().map(|value| {
        let needle: Vec<_> = Needle::new(value).into_iter().collect();
        Rc::from(needle)
    });
    Scrub::new(needles.collect())
}

/// What comes out of the filter, piece by piece, trailers as `T`.
async fn filtered(scrub: &mut Scrub, pieces: &[&str], trailers: bool) -> Vec<String> {
    let mut frames: Vec<_> = (pieces.iter())
        .map(|piece| Frame::data(Bytes::copy_from_slice(piece.as_bytes())))
        .collect();
    if trailers {
        frames.push(Frame::trailers(HeaderMap::new()));
    }
    let frames = frames.into_iter().map(Ok::<_, Cut>);
    let mut body = StreamBody::new(tokio_stream::iter(frames));
    let mut out = Vec::new();
    while let Some(frame) = std::future::poll_fn(|cx| scrub.poll_frame(&mut body, cx)).await {
        out.push(match frame.unwrap().into_data() {
            Ok(piece) => String::from_utf8(piece.to_vec()).unwrap(),
            Err(_) => "T".to_owned(),
        });
    }
    assert!(scrub.is_empty());
    out
}

#[tokio::test]
async fn a_value_across_pieces_is_overwritten_and_only_its_beginning_is_held() {
    let mut scrub = scrub(&[VALUE]);
    let pieces = ["a canary", "+license%2", "Ftoken=7c b ca", "n", "\n\n"];
    assert_eq!(
        filtered(&mut scrub, &pieces, false).await,
        ["a ", "", "*************************", "", "can\n\n"].map(|piece| match piece {
            text if text.starts_with('*') => text.to_owned() + " b ",
            text => text.to_owned(),
        })
    );
    assert!(scrub.take_news() && !scrub.take_news());
}

#[tokio::test]
async fn what_is_held_goes_on_at_the_end_and_before_trailers() {
    let out = filtered(&mut scrub(&[VALUE]), &["x canary"], false).await;
    assert_eq!(out, ["x ", "canary"]);
    let out = filtered(&mut scrub(&[VALUE]), &["x canary"], true).await;
    assert_eq!(out, ["x ", "canary", "T"]);
    let out = filtered(&mut scrub(&[VALUE]), &["x"], true).await;
    assert_eq!(out, ["x", "T"]);
}

#[tokio::test]
async fn an_event_is_never_kept_waiting() {
    let mut scrub = scrub(&["eyJhbGciOiJSUzI1NiJ9.eyJl"]);
    for event in ["data: {\"e\": \"eyJhbGci\"}\n\n", ": e\n\n", "{\"a\": 1}\n"] {
        assert_eq!(scrub.pass(Bytes::from_static(event.as_bytes())), event);
    }
}

#[test]
fn every_value_of_the_request_is_looked_for() {
    let mut scrub = scrub(&["first-value", "second-value"]);
    scrub.ended = true;
    let text = Bytes::from_static(b"second-value first-value third-value");
    assert_eq!(scrub.pass(text), "************ *********** third-value");
}

#[test]
fn a_value_that_is_the_beginning_of_another_hides_none_of_it() {
    let mut scrub = scrub(&["first-value", "first-value-2"]);
    assert_eq!(scrub.pass(Bytes::from_static(b"first-value")), "");
    assert_eq!(scrub.pass(Bytes::from_static(b"-2 ")), "************* ");
}

#[test]
fn text_is_what_says_so_and_what_says_nothing() {
    let said = |kinds: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for kind in kinds {
            headers.append(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        is_text(Survey::of(&headers))
    };
    for kind in [
        "text/html; charset=utf-8",
        "text/event-stream",
        "text/csv",
        "Application/JSON",
        "application/problem+json",
        "application/x-ndjson",
        "application/xml",
        "image/svg+xml ; a=b",
        "application/javascript",
        "application/x-www-form-urlencoded",
        "message/http",
        "*/*",
        "multipart/mixed; boundary=x",
        "application/http",
        "application/grpc-web-text+proto",
        "application/grpc+json",
        "application/x-yaml",
        "application/x-javascript",
        "application/json5",
        "application/jsonl",
        "application/toml",
        "application/sql",
        "application/jwt",
        "\"application/json\"",
        "image/png, application/json",
        "nonsense",
    ] {
        assert!(said(&[kind]), "{kind}");
    }
    for kind in [
        "application/zip",
        "application/octet-stream",
        "application/pdf",
        "image/png",
        "application/grpc+proto",
        "application/json-zip",
        "application/grpc",
        "application/grpc-web+proto",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.sqlite3",
    ] {
        assert!(!said(&[kind]), "{kind}");
    }
    assert!(said(&[]));
    assert!(said(&["application/zip", "text/plain"]));
}

#[test]
fn an_encoding_that_says_something_is_one() {
    for (coding, is) in [
        ("gzip", true),
        ("identity", false),
        ("Identity", false),
        ("none", false),
        ("UTF-8", false),
        ("", false),
        ("identity, gzip", true),
    ] {
        let headers =
            HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(coding))]);
        assert_eq!(is_encoded(Survey::of(&headers)), is, "{coding}");
    }
}

#[test]
fn a_charset_without_the_bytes_of_ascii_cannot_be_searched() {
    for (kind, is) in [
        ("text/plain; charset=utf-16", true),
        ("text/plain;x=y; Charset = \"UTF-16LE\"", true),
        ("text/plain; charset=utf-32be", true),
        ("text/plain; charset=UTF-7", true),
        ("text/plain; charset=ibm037", true),
        ("text/plain; charset=cp1047", true),
        ("text/plain; charset=ebcdic-us", true),
        ("text/plain; charset=cp1252", false),
        ("text/plain; charset=utf-8", false),
        ("text/plain; charset=iso-8859-1", false),
        ("text/plain; charset", false),
        ("text/plain", false),
    ] {
        let headers =
            HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))]);
        assert_eq!(is_in_other_characters(Survey::of(&headers)), is, "{kind}");
    }
}

proptest! {
    #[test]
    fn pieces_change_nothing((value, text) in value_and_text(), borders in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        let mut borders: Vec<usize> = borders.iter().map(|at| at.index(text.len() + 1)).collect();
        borders.extend([0, text.len()]);
        borders.sort_unstable();
        let mut scrub = scrub(&[&value]);
        // No character of these has a longer spelling than `%2525xx`.
        let longest = value.len() * 7;
        let (mut out, mut came) = (Vec::new(), 0);
        for border in borders.windows(2) {
            scrub.ended = border[1] == text.len();
            out.extend(scrub.pass(Bytes::copy_from_slice(&text[border[0]..border[1]])));
            came = border[1];
            prop_assert_eq!(out.len() + scrub.held.len(), came);
            prop_assert!(scrub.held.len() < longest);
        }
        out.extend(scrub.end());
        prop_assert_eq!(out.len(), came);
        prop_assert_eq!(out.escape_ascii().to_string(), naively_masked(&value, &text).escape_ascii().to_string());
    }
}

#[test]
fn what_is_known_at_once_to_be_text_is_read_as_one_piece_by_piece() {
    let kinds = [
        "application/json",
        "application/json;charset=utf-8",
        "application/json;charset=UTF-8",
        "application/json; charset=utf-8",
        "application/json; charset=UTF-8",
        "text/event-stream",
        "text/event-stream; charset=utf-8",
        "text/html",
        "text/html; charset=utf-8",
        "text/html; charset=UTF-8",
        "text/plain",
        "text/plain; charset=utf-8",
    ];
    for kind in kinds.map(HeaderValue::from_static) {
        assert!(is_usual_text(&kind), "{kind:?}");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, kind)]);
        let headers = Survey::of(&headers);
        assert!(is_text(headers) && !is_in_other_characters(headers));
    }
    for kind in [
        "application/zip",
        "text/html; charset=utf-16",
        "text/plain,a",
    ] {
        assert!(!is_usual_text(&HeaderValue::from_static(kind)), "{kind}");
    }
}
