//! Any request that is one by the letter arrives as it was, with the credential and nothing else: requests at random,
//! one after the other over connections that are kept.

use std::{cell::RefCell, io::Write as _, net::TcpStream};

use proptest::{
    collection::vec,
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};

use crate::{
    client::{connect, read_some},
    origin::{Origin, assert_credential, assert_same, shown},
    proxy::{Proxy, World},
    strict::{self, Message, Read},
};

/// What is drawn of a request.
#[derive(Debug, Clone)]
struct Drawn {
    method: String,
    target: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Body,
    /// Sent in two pieces, cut here.
    cut: prop::sample::Index,
}

#[derive(Debug, Clone)]
enum Body {
    None,
    Length(Vec<u8>),
    /// Pieces, and the extension and trailer of each odd one.
    Chunked(Vec<Vec<u8>>, String),
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let method = prop_oneof![
        select(vec![
            "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"
        ])
        .prop_map(str::to_owned),
        "[A-Z][A-Z!#$%&'*+.^_`|~0-9-]{0,12}",
    ];
    let segment = "[A-Za-z0-9_~!$&'()*+,=:@-]([A-Za-z0-9._~!$&'()*+,;=:@-]|%[2-7][0134689]){0,12}";
    let path = vec(segment, 0..4).prop_map(|segments| format!("/{}", segments.join("/")));
    let query = proptest::option::of("[!$-/0-;=?-Z_a-z~]{0,40}");
    let target = (path, query).prop_map(|(path, query)| match query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    });
    let name = prop_oneof![
        4 => "[xX][A-Za-z0-9!#$%&'*+.^_`|~-]{0,20}",
        2 => select(vec!["Accept", "User-Agent", "Content-Type", "If-Match", "Range", "Traceparent", "X-Request-Id", "Priority"])
            .prop_map(str::to_owned),
        1 => select(vec![
            "Authorization", "authorization", "Proxy-Authorization", "Cookie", "Keep-Alive", "TE", "Via", "Forwarded",
            "X-Forwarded-For", "Upgrade", "Proxy-Connection", "X_Forwarded_For", "Content_Length", "Transfer_Encoding",
        ])
        .prop_map(str::to_owned),
    ];
    let value = vec(
        prop_oneof![8 => 0x21..=0x7e_u8, 1 => Just(b' '), 1 => Just(b'\t'), 1 => 0x80..=0xff_u8],
        0..30,
    );
    let connection = select(vec![
        "keep-alive",
        "x-a, X-B",
        "authorization",
        "host, content-length",
        "",
    ]);
    let connection = proptest::option::weighted(0.2, connection);
    let fields = (vec((name, value), 0..12), connection).prop_map(|(mut fields, connection)| {
        fields.extend(connection.map(|value| ("Connection".to_owned(), value.into())));
        fields
    });
    let bytes = || vec(any::<u8>(), 0..3000);
    let body = prop_oneof![
        Just(Body::None),
        bytes().prop_map(Body::Length),
        (
            vec(vec(any::<u8>(), 1..2000), 0..5),
            "[a-z]{1,9}(=[a-z]{1,9}|=\"[ -!#-Z]{0,9}\")?"
        )
            .prop_map(|(chunks, extension)| Body::Chunked(chunks, extension)),
    ];
    (method, target, fields, body, any::<prop::sample::Index>())
        .prop_filter("methods that are refused", |(method, ..)| {
            !matches!(&**method, "TRACE" | "CONNECT")
        })
        .prop_map(|(method, target, fields, body, cut)| Drawn {
            method,
            target,
            fields,
            body,
            cut,
        })
}

impl Drawn {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!(
            "{} {} HTTP/1.1\r\nHost: localhost\r\n",
            self.method, self.target
        )
        .into_bytes();
        for (name, value) in &self.fields {
            bytes.extend_from_slice(format!("{name}: ").as_bytes());
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        match &self.body {
            Body::None => bytes.extend_from_slice(b"\r\n"),
            Body::Length(body) => {
                bytes.extend_from_slice(
                    format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes(),
                );
                bytes.extend_from_slice(body);
            }
            Body::Chunked(chunks, extension) => {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for (index, chunk) in chunks.iter().enumerate() {
                    let extension = if index % 2 == 1 {
                        format!(";{extension}")
                    } else {
                        String::new()
                    };
                    bytes.extend_from_slice(format!("{:X}{extension}\r\n", chunk.len()).as_bytes());
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
                let trailer = if chunks.len() % 2 == 1 {
                    "X-Trailer: x\r\n"
                } else {
                    ""
                };
                bytes.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
            }
        }
        bytes
    }
}

/// A connection that is used for as long as the answers allow it.
struct Client<'a> {
    proxy: &'a Proxy,
    stream: Option<TcpStream>,
}

impl Client<'_> {
    fn ask(&mut self, request: &[u8], cut: usize, to_head: bool) -> Message {
        let stream = self
            .stream
            .get_or_insert_with(|| connect(self.proxy.address()));
        stream.write_all(&request[..cut]).unwrap();
        stream.write_all(&request[cut..]).unwrap();
        let mut all = Vec::new();
        loop {
            match strict::answer(&all, to_head, false) {
                Read::Whole(answer, size) => {
                    assert_eq!(size, all.len(), "more than one answer: {}", shown(&all));
                    if !answer.keeps_connection() {
                        self.stream = None;
                    }
                    return answer;
                }
                Read::Partial => all.extend(read_some(stream)),
                Read::Malformed(why) => panic!("{why}: {}", shown(&all)),
            }
        }
    }
}

#[test]
fn any_request_arrives_as_it_was_with_exactly_the_credential() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = origin.proxied(&world, "", "", "");
    let client = RefCell::new(Client {
        proxy: &proxy,
        stream: None,
    });
    let config = Config {
        cases: 3000,
        max_shrink_time: 20_000,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&drawn(), |drawn| {
        let request = drawn.bytes();
        let Read::Whole(sent, size) = strict::request(&request) else {
            return Err(TestCaseError::fail(format!(
                "no request: {}",
                shown(&request)
            )));
        };
        prop_assert_eq!(size, request.len());
        let to_head = drawn.method == "HEAD";
        let answer = client
            .borrow_mut()
            .ask(&request, drawn.cut.index(request.len()), to_head);
        prop_assert_eq!(answer.status(), 200, "{}", shown(&request));
        let came = origin.take_whole();
        prop_assert_eq!(came.len(), 1);
        assert_credential(&came[0]);
        assert_same(&sent, &came[0]);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    world.end(proxy);
}
