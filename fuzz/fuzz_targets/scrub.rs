//! Answers that say credentials, in any spelling and any pieces: what goes on has as many bytes, with `*` for each that
//! a naive search finds.

#![no_main]

use std::{
    collections::{BTreeSet, VecDeque},
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, uri::PathAndQuery};
use http_body::{Body, Frame};
use libfuzzer_sys::fuzz_target;
use token_source::{
    Keeper, Kind, Location, Settings,
    exchange::{Attempt, Exchange, Grant, Record},
};
use watsonx_auth_proxy::{
    config::Place,
    journey::{
        attach::{Attached, Attacher, Attachment},
        needle::{Needle, masked},
        rewrite::Target,
        scrub::Scrub,
        survey::Survey,
        upload::Cut,
    },
};

// How the body ends; two credentials and the sizes of pieces, a line each; the body.
fuzz_target!(|data: &[u8]| {
    let Some((&ending, data)) = data.split_first() else {
        return;
    };
    let mut lines = data.splitn(4, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let values = [value(line()), value(line())];
    let sizes = line();
    let text = written(line(), &values);

    let sought: Vec<_> = values
        .iter()
        .map(|value| value.trim_end_matches('='))
        .collect();
    let sought: Vec<_> = sought
        .into_iter()
        .filter(|value| value.len() >= 8)
        .collect();
    let expected = naively_masked(&sought, &text);
    let seen = || format!("{values:?}: {:?}", text.escape_ascii().to_string());

    let needles: Vec<_> = sought
        .iter()
        .filter_map(|value| Needle::new(value))
        .collect();
    let found = masked(&needles, &text).unwrap_or_else(|| text.clone());
    assert_eq!(shown(&found), shown(&expected), "in one piece: {}", seen());

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let attached = runtime.block_on(attached(&values));
    let scrub = Scrub::of(Survey::of(&HeaderMap::new()), &attached).expect("nothing is compressed");
    assert_eq!(scrub.is_some(), !sought.is_empty(), "{}", seen());
    let Some(mut scrub) = scrub else {
        return;
    };
    let mut body = Pieces::of(&text, sizes, ending);
    let (mut out, mut has_trailers) = (Vec::new(), false);
    let longest = sought.iter().map(|value| value.len() * LONGEST_SPELLING);
    let longest = longest.max().unwrap_or_default();
    runtime.block_on(async {
        while let Some(frame) = poll_fn(|cx| scrub.poll_frame(&mut body, cx)).await {
            assert!(!has_trailers, "behind the trailers: {}", seen());
            match frame.expect("the body is whole").into_data() {
                Ok(piece) => out.extend(piece),
                Err(_) => has_trailers = true,
            }
            assert!(body.gone - out.len() < longest, "held: {}", seen());
        }
    });
    assert_eq!(shown(&out), shown(&expected), "{sizes:?}: {}", seen());
    assert_eq!(has_trailers, ending & HAS_TRAILERS > 0, "{}", seen());
    assert!(scrub.is_empty(), "{}", seen());
    assert!(scrub.take_news() || out == text, "{}", seen());
});

/// A credential: visible ASCII, and short, since the naive search is slow.
fn value(line: &[u8]) -> String {
    let visible = line.iter().filter(|byte| byte.is_ascii_graphic());
    let mut value = String::new();
    for character in visible.take(24).copied().map(char::from) {
        // In a longer row of one character only its first spelling is followed, which the naive search does not know.
        if !value.ends_with(&character.to_string().repeat(8)) {
            value.push(character);
        }
    }
    value
}

/// The bytes, but for those that stand for the next character of a credential, in one of its spellings.
fn written(bytes: &[u8], values: &[String; 2]) -> Vec<u8> {
    let mut characters = values.each_ref().map(|value| value.bytes().cycle());
    let mut text = Vec::new();
    for &byte in bytes {
        let of_which = match byte {
            0x80..0xc0 => characters[0].next(),
            0xc0..0xf0 => characters[1].next(),
            _ => None,
        };
        match of_which.map(spellings) {
            Some(spellings) => {
                let spelling = &spellings[usize::from(byte & 0x3f) % spellings.len()];
                text.extend_from_slice(spelling.as_bytes());
            }
            None => text.push(byte),
        }
    }
    text
}

/// The text with `*` for each byte of each reading of each value.
fn naively_masked(values: &[&str], text: &[u8]) -> Vec<u8> {
    let mut masked = text.to_vec();
    for value in values {
        let value: Vec<_> = value.bytes().map(spellings).collect();
        for start in 0..text.len() {
            let mut ends = BTreeSet::from([start]);
            for spellings in &value {
                let after = |end: usize| {
                    let stands = move |spelling: &&String| stands(spelling, &text[end..]);
                    let standing = spellings.iter().filter(stands);
                    standing.map(move |spelling| end + spelling.len())
                };
                ends = ends.into_iter().flat_map(after).collect();
            }
            if let Some(&end) = ends.last() {
                masked[start..end].fill(b'*');
            }
        }
    }
    masked
}

/// Whether a text begins with a spelling; the case of letters counts only where they stand for themselves.
fn stands(spelling: &str, text: &[u8]) -> bool {
    let begins = text.get(..spelling.len());
    begins.is_some_and(|begins| match spelling.len() {
        1 => begins == spelling.as_bytes(),
        _ => begins.eq_ignore_ascii_case(spelling.as_bytes()),
    })
}

/// All that a character may be written as.
fn spellings(byte: u8) -> Vec<String> {
    let itself = char::from(byte);
    let mut spellings = vec![itself.to_string()];
    if itself.is_ascii_alphanumeric() || "-._".contains(itself) {
        return spellings;
    }
    spellings.extend(["%", "%25", "%2525", r"\u00", r"\x"].map(|way| format!("{way}{byte:02X}")));
    spellings.extend([format!("&#{byte};"), format!("&#0{byte};")]);
    spellings.extend([format!("&#x{byte:02X};"), format!(r"\{itself}")]);
    let names = [
        ('"', "quot"),
        ('&', "amp"),
        ('\'', "apos"),
        ('+', "plus"),
        ('/', "sol"),
        ('<', "lt"),
        ('=', "equals"),
        ('>', "gt"),
    ];
    let names = names.iter().filter(|(named, _)| *named == itself);
    spellings.extend(names.map(|(_, name)| format!("&{name};")));
    spellings
}

fn shown(text: &[u8]) -> String {
    text.escape_ascii().to_string()
}

/// What a request carries that has these credentials on it.
async fn attached(values: &[String; 2]) -> Attached {
    let mut attached = Attached::new();
    for value in values.iter().filter(|value| !value.is_empty()) {
        let settings = Settings {
            name: "fuzzed".into(),
            kind: Kind::Token {
                value: Location::Env("NEVER_READ".into()),
            },
            lifetime: None,
            wait_for_token: None,
            poll: Duration::from_secs(5),
        };
        let (keeper, feed) = Keeper::with_exchange(settings, Box::new(Granted(value.clone())));
        tokio::spawn(keeper.run());
        let place = Place::Query {
            name: "token".into(),
        };
        let attacher = Attacher::new(Attachment { feed, place });
        let mut target = Target::AsItCame(PathAndQuery::from_static("/"));
        let built = attacher.attach(&mut HeaderMap::new(), &mut target).await;
        attached.push(built.expect("a value is granted"));
    }
    attached
}

/// Yields this value.
struct Granted(String);

impl Exchange for Granted {
    fn exchange<'a>(&'a self, _: &'a Record) -> Attempt<'a> {
        Box::pin(async {
            Ok(Grant {
                value: self.0.clone().into(),
                expires: None,
                fixed_end: false,
            })
        })
    }
}

/// A body in pieces of these sizes, and the rest.
struct Pieces {
    left: VecDeque<Frame<Bytes>>,
    tells_end: bool,
    /// How many bytes have been read of it.
    gone: usize,
}

impl Pieces {
    fn of(mut text: &[u8], sizes: &[u8], ending: u8) -> Self {
        let mut left = VecDeque::new();
        for size in sizes
            .iter()
            .map(|size| usize::from(*size))
            .chain([usize::MAX])
        {
            let (piece, rest) = text.split_at(size.min(text.len()));
            left.push_back(Frame::data(Bytes::copy_from_slice(piece)));
            text = rest;
        }
        if ending & HAS_TRAILERS > 0 {
            left.push_back(Frame::trailers(HeaderMap::new()));
        }
        Self {
            left,
            tells_end: ending & TELLS_END > 0,
            gone: 0,
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let frame = self.left.pop_front();
        let piece = frame.as_ref().and_then(Frame::data_ref);
        self.gone += piece.map_or(0, Bytes::len);
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.tells_end && self.left.is_empty()
    }
}

/// The last frame is known to be the last, as by `Content-Length`.
const TELLS_END: u8 = 1;

const HAS_TRAILERS: u8 = 2;

/// `&equals;`
const LONGEST_SPELLING: usize = 8;
