//! An upstream that writes the credential into its answer tells it to nobody: it is overwritten in heads, texts and
//! trailers, whatever the spelling and however it is cut; and what is no text passes byte for byte.

use std::{
    io::{Cursor, Read as _, Write as _},
    net::SocketAddr,
    sync::{Mutex, mpsc},
};

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

use crate::{
    client::{self, PATIENCE, eventually, find, read_some},
    origin::{Origin, everything},
    proxy::{Proxy, World, assert_no_secret},
    scripted::scripted,
    streams::{Http2, drain, ok, upstream, uri, within},
    websocket::{SWITCH, handshake},
};

const SECRET: &str = "canary+license/token=7c";
const IN_QUERY: &str = "attach = [{ credential = 'raw', query = 'token' }]";

/// As it stands in the query, in the hand of another client, in a URL within a URL, in JSON and in HTML.
const SPELLINGS: [&str; 8] = [
    SECRET,
    "canary%2Blicense%2Ftoken%3D7c",
    "canary%2blicense%2ftoken%3d7c",
    "canary%2Blicense/token%3D7c",
    "canary%252Blicense%252Ftoken%253D7c",
    "canary+license\\/token=7c",
    "canary\\u002blicense/token\\u003D7c",
    "canary+license&#x2F;token&#61;7c",
];

const SCRUBBED: &str = "watsonx_auth_proxy_scrubbed_total";

fn scrubbed(proxy: &Proxy, part: &str) -> f64 {
    proxy.metric(&format!("{SCRUBBED}{{route=\"raw\",where=\"{part}\"}}"))
}

fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\n{head}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// What a request gets from an upstream that gives this answer to everything.
fn got(route: &str, answer: Vec<u8>, lines: &[&str]) -> (client::Answer, Origin) {
    let world = World::new();
    let origin = Origin::answering(move |_| answer.clone());
    let proxy = origin.proxied(&world, "", "", route);
    let got = client::get(proxy.address(), "/x", lines);
    world.end(proxy);
    (got, origin)
}

#[test]
fn a_page_that_repeats_the_credential_is_masked_in_place() {
    let world = World::new();
    let page = SPELLINGS
        .map(|spelling| format!("<p>{spelling}</p>"))
        .concat();
    let masked = SPELLINGS
        .map(|spelling| format!("<p>{}</p>", "*".repeat(spelling.len())))
        .concat();
    let sent = page.clone();
    let origin = Origin::answering(move |request| {
        let head = "Content-Type: text/html; charset=utf-8\r\nETag: \"1\"\r\n";
        if request.target().starts_with("/whole") {
            return answer(head, sent.as_bytes());
        }
        // Each byte a piece of its own.
        let pieces = sent.chars().map(|c| format!("1\r\n{c}\r\n"));
        let body = pieces.collect::<String>() + "0\r\n\r\n";
        format!("HTTP/1.1 200 OK\r\n{head}Transfer-Encoding: chunked\r\n\r\n{body}").into_bytes()
    });
    let proxy = origin.proxied(&world, "", "", IN_QUERY);
    for target in ["/whole", "/pieces"] {
        let got = proxy.get(target, &[]);
        assert_eq!(got.text(), masked, "{target}");
        assert_eq!(got.header("etag"), Some("\"1\""));
        let length = got
            .header("content-length")
            .map(|length| length.parse().unwrap());
        assert_eq!(length, (target == "/whole").then_some(page.len()));
    }
    assert_eq!(scrubbed(&proxy, "body"), 2.0, "one per answer");
    assert_eq!(scrubbed(&proxy, "header"), 0.0);
    let warnings = proxy.printed().matches("where it was overwritten").count();
    assert_eq!(warnings, 2, "one per answer");
    world.end(proxy);
}

#[test]
fn the_page_of_license_service_is_masked_without_a_word_in_the_file() {
    let world = World::new();
    let proxy = world.start(
        "listener.local = { address = '127.0.0.1:0' }\n[route.license]\npath = '/license'\nupstream = 'license'\n\
         attach = 'license'\npreset = 'license-service'\nallow = ['*']\n",
    );
    proxy.ready();
    let answer = proxy.get("/license/simulator/leak", &[]);
    assert!(answer.text().contains("token=****"), "{}", answer.text());
    assert_no_secret(&answer.text(), &world.secrets());
    // All of what was echoed is in the answer, in JSON.
    let answer = proxy.get("/license/simulator/echo", &[]);
    assert!(
        answer.json()["target"]
            .as_str()
            .unwrap()
            .contains("token=****")
    );
    world.end(proxy);
}

#[test]
fn only_texts_of_a_route_that_says_so_are_searched() {
    let page = format!("<p>{SECRET}</p>");
    let html = answer("Content-Type: text/html\r\n", page.as_bytes());
    let lines = [
        "Accept-Encoding: gzip",
        "Range: bytes=0-9",
        "If-Range: \"1\"",
        "Request-Range: bytes=0-9",
        "Accept-Charset: utf-16",
    ];
    for (route, is_searched) in [
        (IN_QUERY.to_owned(), true),
        (format!("{IN_QUERY}\nscrub_body = false"), false),
        (String::new(), false),
        ("scrub_body = true".to_owned(), true),
    ] {
        let (got, origin) = got(&route, html.clone(), &lines);
        assert_eq!(got.text() == page, !is_searched, "{route}");
        assert_eq!(got.text().contains("canary"), !is_searched, "{route}");
        let came = origin.take_whole().remove(0);
        let (encoding, range) = match is_searched {
            true => (&b"identity"[..], 0),
            false => (&b"gzip"[..], 1),
        };
        assert_eq!(came.all("accept-encoding"), [encoding], "{route}");
        assert_eq!(came.all("range").len(), range, "{route}");
        for name in ["if-range", "request-range", "accept-charset"] {
            assert_eq!(came.all(name).len(), range, "{route} {name}");
        }
    }
}

#[test]
fn what_is_no_text_passes_byte_for_byte() {
    let mut bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    bytes.extend_from_slice(SECRET.as_bytes());
    for head in [
        "Content-Type: application/zip\r\n",
        "Content-Type: application/zip\r\nContent-Encoding: gzip\r\n",
        "Content-Type: application/octet-stream\r\nContent-MD5: x\r\nRepr-Digest: sha-256=:x:\r\n",
    ] {
        let (got, _) = got(IN_QUERY, answer(head, &bytes), &[]);
        assert!(got.body == bytes, "{head}");
        assert_eq!(
            got.header("content-length"),
            Some(&*bytes.len().to_string())
        );
        let digests = ["Repr-Digest", "Content-MD5"];
        for name in digests.iter().filter(|name| head.contains(**name)) {
            assert_eq!(got.all(name).len(), 1, "{name}");
        }
    }
}

#[test]
fn a_text_that_cannot_be_searched_does_not_pass() {
    let head = "Content-Type: application/json\r\nContent-Encoding: gzip\r\n";
    let (refused, _) = got(IN_QUERY, answer(head, b"\x1f\x8b"), &[]);
    assert_eq!(
        (refused.status, &*refused.code()),
        (502, "upstream_protocol")
    );
    let wide = "Content-Type: text/plain; charset=UTF-16\r\n";
    let (refused, _) = got(IN_QUERY, answer(wide, b"\xfe\xff"), &[]);
    assert_eq!(refused.status, 502);
    let waived = format!("{IN_QUERY}\nscrub_body = false");
    let (passed, _) = got(&waived, answer(head, b"\x1f\x8b"), &[]);
    assert_eq!((passed.status, &*passed.body), (200, &b"\x1f\x8b"[..]));
    // There is nothing to search in an answer without a body.
    let (empty, _) = got(IN_QUERY, answer(head, b""), &[]);
    assert_eq!(empty.status, 200);
}

#[test]
fn heads_without_a_body_and_parts_pass_as_they_came() {
    let world = World::new();
    let origin = Origin::answering(|request| {
        match request.method() {
        "HEAD" => b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 1234\r\nContent-Encoding: gzip\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 206 Partial Content\r\nContent-Type: text/html\r\nContent-Range: bytes 0-5/9\r\nContent-Length: 6\r\n\r\ncanary".to_vec(),
    }
    });
    let proxy = origin.proxied(&world, "", "", IN_QUERY);
    let head = proxy.send("HEAD", "/x", &[], b"");
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("1234"))
    );
    let part = proxy.get("/x", &[]);
    assert_eq!(
        (part.status, &*part.text()),
        (206, "canary"),
        "the beginning of the credential is none"
    );
    assert_eq!(part.header("content-range"), Some("bytes 0-5/9"));
    world.end(proxy);
}

/// A proxy in front of any upstream, with a credential in its query.
fn in_front_of(world: &World, address: SocketAddr, upstream: &str) -> Proxy {
    let proxy = world.start_with(&format!(
        "workers = 1\npoll = '200ms'\nadmin = {{ address = '127.0.0.1:0' }}\nlistener.local = {{ address = '127.0.0.1:0' }}\n\
         [upstream.raw]\nurl = 'http://{address}'\nplain_http = true\n{upstream}\n\
         [credential.raw.token]\nvalue = {{ file = 'license-token' }}\nupstream = 'raw'\n\
         [route.raw]\npath = '/'\nupstream = 'raw'\n{IN_QUERY}\n"
    ));
    proxy.ready();
    proxy
}

#[test]
fn events_are_searched_and_not_kept_waiting() {
    let world = World::new();
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let address = scripted(move |stream, _| {
        let gone = gone.lock().unwrap();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        for piece in [
            "data: canary\n\n",
            "data: canary+license%2",
            "Ftoken=7c\n\ndata: c",
            "\n\n",
        ] {
            let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
            stream.write_all(chunk.as_bytes()).unwrap();
            gone.recv_timeout(PATIENCE).unwrap();
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
    });
    let proxy = in_front_of(&world, address, "");
    let mut stream = client::connect(proxy.address());
    stream
        .write_all(&client::request("GET", "/x", &[], b""))
        .unwrap();
    let mut all = Vec::new();
    let mut read_until = |wanted: &str| {
        while find(&all, wanted.as_bytes()).is_none() {
            all.extend(read_some(&mut stream));
        }
        go.send(()).unwrap();
        String::from_utf8(all.clone()).unwrap()
    };
    read_until("data: canary\n\n\r\n");
    let held = read_until("data: \r\n");
    assert!(!held.contains("canary+"), "{held}");
    let masked = format!(
        "{}\n\ndata: \r\n",
        "*".repeat("canary+license%2Ftoken=7c".len())
    );
    read_until(&masked);
    read_until("c\n\n\r\n");
    read_until("0\r\n\r\n");
    world.end(proxy);
}

#[test]
fn trailers_come_after_what_was_held_back() {
    let world = World::new();
    let address = upstream(100, |_, _, mut answer| {
        Box::pin(async move {
            let head = ok()
                .header("content-type", "text/plain")
                .header("trailer", "x-sum");
            let mut stream = answer.send_response(head.body(()).unwrap(), false).unwrap();
            for piece in ["a canary+lic", "ense/token=7c b ", "canary"] {
                let piece = Bytes::from_static(piece.as_bytes());
                stream.send_data(piece, false).unwrap();
            }
            let mut trailers = HeaderMap::new();
            trailers.insert(
                "x-sum",
                HeaderValue::from_static("of canary%2blicense/token=7c"),
            );
            stream.send_trailers(trailers).unwrap();
        })
    });
    let proxy = in_front_of(&world, address, "protocol = 'http2'");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (body, trailers) = runtime.block_on(within(async {
        let client = Http2::connect(proxy.address()).await;
        let request = http::Request::get(uri("/x")).header("te", "trailers");
        let (answer, _) = client
            .0
            .clone()
            .send_request(request.body(()).unwrap(), true)
            .unwrap();
        let (_, mut body) = answer.await.unwrap().into_parts();
        drain(&mut body).await.unwrap()
    }));
    let masked = "*".repeat(SECRET.len());
    assert_eq!(
        String::from_utf8(body).unwrap(),
        format!("a {masked} b canary")
    );
    assert_eq!(trailers.unwrap()["x-sum"], format!("of {masked}**"));
    assert_eq!(scrubbed(&proxy, "body"), 1.0);
    assert_eq!(scrubbed(&proxy, "trailer"), 1.0);
    world.end(proxy);
}

#[test]
fn no_header_carries_it_and_no_reason() {
    let head: String = SPELLINGS
        .iter()
        .enumerate()
        .map(|(n, spelling)| format!("X-{n}: {spelling}\r\n"))
        .collect();
    let next = "/products?page=2&token=canary%2blicense/token%3D7c";
    let lines = format!(
        "HTTP/1.1 200 {SECRET}\r\n{head}Location: {next}\r\nContent-Location: {next}\r\n\
         Link: <{next}>; rel=\"next\"\r\nLink: </x>; title=\"{SECRET}\"\r\n\
         Refresh: 0; url=https://elsewhere.example/login?return=%2Fproducts%3Ftoken%3Dcanary%252Blicense%252Ftoken%253D7c\r\n\
         Set-Cookie: a={SECRET}; Path=/\r\nWWW-Authenticate: x token=\"canary+license\\/token=7c\"\r\n\
         Content-Length: 0\r\n\r\n"
    );
    let world = World::new();
    let origin = Origin::answering(move |_| lines.clone().into_bytes());
    for (route, more) in [
        (IN_QUERY.to_owned(), ""),
        ("cookies = 'pass'".to_owned(), "a=***"),
    ] {
        let proxy = origin.proxied(&world, "", "", &route);
        let got = proxy.get("/x", &[]);
        assert!(!got.head.contains("canary"), "{}", got.head);
        assert!(got.head.starts_with("HTTP/1.1 200 OK\r\n"), "{}", got.head);
        for (n, spelling) in SPELLINGS.iter().enumerate() {
            let value = got.header(&format!("x-{n}")).unwrap().to_owned();
            assert_eq!(value, "*".repeat(spelling.len()));
        }
        assert_eq!(got.all("link").len(), 2);
        let cookie = got.all("set-cookie").concat();
        assert!(cookie.starts_with(more) && cookie.is_empty() == more.is_empty());
        assert_eq!(scrubbed(&proxy, "header"), 1.0, "one per answer");
        world.end(proxy);
    }
}

#[test]
fn no_name_of_a_header_carries_it() {
    let world = World::new();
    world.write("key", "CanaryKeyOfItsOwn1");
    let lines =
        "HTTP/1.1 200 OK\r\nX-CanaryKeyOfItsOwn1-Y: 1\r\nX-Other: 2\r\nContent-Length: 0\r\n\r\n";
    let origin = Origin::answering(|_| lines.as_bytes().to_vec());
    let proxy = world.start_with(&format!(
        "admin = {{ address = '127.0.0.1:0' }}\nlistener.local = {{ address = '127.0.0.1:0' }}\n\
         [upstream.raw]\nurl = 'http://{}'\nplain_http = true\n\
         [credential.raw.token]\nvalue = {{ file = 'key' }}\nupstream = 'raw'\n\
         [route.raw]\npath = '/'\nupstream = 'raw'\nattach = 'raw'\n",
        origin.address
    ));
    let got = proxy.get("/x", &[]);
    assert!(
        !got.head.to_ascii_lowercase().contains("canary"),
        "{}",
        got.head
    );
    assert_eq!(got.header("x-other"), Some("2"));
    assert_eq!(scrubbed(&proxy, "header"), 1.0);
    proxy.end(vec!["CanaryKeyOfItsOwn1".into()]);
}

#[test]
fn a_reason_of_the_upstreams_own_stays() {
    let world = World::new();
    let origin = Origin::answering(|_| b"HTTP/1.1 200 Fine\r\nContent-Length: 0\r\n\r\n".to_vec());
    let proxy = origin.proxied(&world, "", "", IN_QUERY);
    let got = everything(proxy.address(), &client::request("GET", "/x", &[], b""));
    assert!(got.starts_with(b"HTTP/1.1 200 Fine\r\n"));
    world.end(proxy);
}

#[test]
fn a_password_does_not_come_back_alone() {
    for (kind, key) in [("basic", "password"), ("zen_api_key", "api_key")] {
        let world = World::new();
        world.write("key", "canary-key-of-its-own1");
        let pair = BASE64_STANDARD.encode("me:canary-key-of-its-own1");
        let unpadded = pair.trim_end_matches('=').to_owned();
        assert_ne!(pair, unpadded);
        let page = format!("{pair} {unpadded} canary-key-of-its-own1");
        let head = format!("Content-Type: text/plain\r\nX-Said: {page}\r\n");
        let origin = Origin::answering(move |_| answer(&head, page.as_bytes()));
        let proxy = world.start_with(&format!(
            "admin = {{ address = '127.0.0.1:0' }}\nlistener.local = {{ address = '127.0.0.1:0' }}\n\
             [upstream.raw]\nurl = 'http://{}'\nplain_http = true\n\
             [credential.raw.{kind}]\nusername = 'me'\n{key} = {{ file = 'key' }}\nupstream = 'raw'\n\
             [route.raw]\npath = '/'\nupstream = 'raw'\nattach = 'raw'\nscrub_body = true\n",
            origin.address
        ));
        let got = proxy.get("/x", &[]);
        assert_eq!(got.status, 200, "{}", got.text());
        let came = origin.take_whole().remove(0);
        assert!(came.all("authorization")[0].ends_with(pair.as_bytes()));
        for text in [got.header("x-said").unwrap(), &got.text()] {
            assert!(
                !text.contains("canary") && !text.contains(&unpadded),
                "{text}"
            );
        }
        proxy.end(vec!["canary-key-of-its-own1".into(), unpadded]);
    }
}

#[test]
fn each_value_of_the_request_is_overwritten() {
    let world = World::new();
    let new = "canary-another-value";
    let page = format!("{SECRET} {new}");
    let address = scripted(move |stream, head| {
        let is_new = head.contains(new);
        let status = match head.contains("/old-is-right") && is_new {
            true => "401 Unauthorized",
            false => "200 OK",
        };
        let length = page.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nX-Is-New: {is_new}\r\nX-Page: {page}\r\n\
             Content-Length: {length}\r\nConnection: close\r\n\r\n{page}"
        );
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let proxy = in_front_of(&world, address, "");
    let get = |target| client::get(proxy.address(), target, &[]);
    assert_eq!(get("/x").header("x-is-new"), Some("false"));
    world.write("license-token", new);
    eventually("the new value", || {
        let got = get("/x");
        let is_new = got.header("x-is-new") == Some("true");
        is_new.then(|| assert!(!got.text().contains(new)))
    });
    // A second sending, with the value before: both were attached.
    let got = get("/old-is-right");
    assert_eq!((got.status, got.header("x-is-new")), (200, Some("false")));
    let masked = format!("{} {}", "*".repeat(SECRET.len()), "*".repeat(new.len()));
    assert_eq!(got.text(), masked);
    assert_eq!(got.header("x-page"), Some(&*masked));
    proxy.end(vec![SECRET.to_owned(), new.to_owned()]);
}

#[test]
fn a_signed_snapshot_passes_byte_for_byte() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    let target = "/license/snapshot?startDate=2026-01-01&endDate=2026-01-31";
    let answer = client::get(proxy.address(), target, &[]);
    assert_eq!(answer.header("content-type"), Some("application/zip"));
    let length = answer.header("content-length").unwrap().to_owned();
    assert_eq!(length, answer.body.len().to_string());
    let mut archive = ZipArchive::new(Cursor::new(answer.body)).unwrap();
    let mut read = |name: &str| {
        let mut content = Vec::new();
        let mut file = archive.by_name(name).unwrap();
        file.read_to_end(&mut content).unwrap();
        content
    };
    let checksums = read("checksum.txt");
    let mut sums = 0;
    for line in std::str::from_utf8(&checksums).unwrap().lines() {
        let (sum, name) = line.split_once("  ").unwrap();
        let digest = digest(&SHA256, &read(name));
        let hex = digest.as_ref().iter().map(|byte| format!("{byte:02x}"));
        assert_eq!(sum, hex.collect::<String>(), "{name}");
        sums += 1;
    }
    assert_eq!(sums, 3);
    let pem = String::from_utf8(read("pub_key.pem")).unwrap();
    let key: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = BASE64_STANDARD.decode(key.trim()).unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key)
        .verify(&checksums, &read("signature.rsa"))
        .unwrap();
    world.end(proxy);
}

#[test]
fn a_snapshot_stays_what_was_signed_even_with_the_credential_in_it() {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    archive.start_file("log.txt", stored).unwrap();
    archive.write_all(SECRET.as_bytes()).unwrap();
    let archive = archive.finish().unwrap().into_inner();
    assert!(find(&archive, SECRET.as_bytes()).is_some());
    let (got, _) = got(
        IN_QUERY,
        answer("Content-Type: application/zip\r\n", &archive),
        &[],
    );
    assert!(got.body == archive);
}

#[test]
fn what_passes_in_a_websocket_is_not_searched() {
    let world = World::new();
    let address = scripted(|stream, _| {
        let switch = [SWITCH, SECRET.as_bytes()].concat();
        stream.write_all(&switch).unwrap();
        let _ = stream.read(&mut [0]);
    });
    let proxy = in_front_of(&world, address, "");
    let mut stream = client::connect(proxy.address());
    stream.write_all(&handshake("/chat", &[])).unwrap();
    let mut all = Vec::new();
    while find(&all, SECRET.as_bytes()).is_none() {
        all.extend(read_some(&mut stream));
    }
    drop(stream);
    world.end(proxy);
}
