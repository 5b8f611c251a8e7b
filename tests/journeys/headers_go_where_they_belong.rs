//! Headers of one connection stay on it, forged ones go, and everything else arrives as it was, both ways.

use std::io::Write as _;

use crate::{
    client::{self, Answer},
    origin::{CREDENTIAL, Origin, assert_credential, everything, shown},
    proxy::{Proxy, World},
    strict::Message,
};

/// The one request that arrives when these lines are sent.
fn sent(proxy: &Proxy, origin: &Origin, lines: &[&str]) -> Message {
    let answer = proxy.get("/x", lines);
    assert_eq!(answer.status, 200, "{lines:?}");
    let mut came = origin.take_whole();
    assert_eq!(came.len(), 1, "{lines:?}");
    assert_credential(&came[0]);
    came.remove(0)
}

#[test]
fn what_belongs_to_one_connection_does_not_go_upstream() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = origin.proxied(&world, "", "", "");
    let came = sent(
        &proxy,
        &origin,
        &[
            "Connection: close, X-Named, HOST, content-length, authorization",
            "Connection:",
            "Connection: X-Second, te , transfer-encoding",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "Proxy-Authorization: Basic eA==",
            "Proxy-Authenticate: Basic",
            "Proxy-Features: x",
            "TE: gzip, Trailers;q=0.5, trailers",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
            "X-Named: a",
            "X-Second: b",
            "X-Kept: c",
        ],
    );
    let names: Vec<_> = came.fields.iter().map(|(name, _)| name.as_str()).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        ["authorization", "host", "te", "via", "x-kept"],
        "{came:?}"
    );
    assert_eq!(came.all("te"), [b"trailers"]);
    let plain = sent(&proxy, &origin, &["TE: gzip", "Connection: TE"]);
    assert!(plain.all("te").is_empty(), "{plain:?}");
    world.end(proxy);
}

#[test]
fn an_underscore_hides_nothing() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = origin.proxied(
        &world,
        "",
        "",
        "attach = [{ credential = 'raw' }, { credential = 'raw', header = 'Iam-Token' }]",
    );
    let answer = proxy.get(
        "/x",
        &[
            "Content_Length: 3",
            "Transfer_Encoding: chunked",
            "X_Forwarded_For: 1.2.3.4",
            "X-Forwarded_Proto: https",
            "Proxy_Authorization: Basic eA==",
            "X_Proxy_Key: x",
            "Keep_Alive: x",
            "Iam_Token: forged",
            "iam_token: forged",
            "Authorization_: passes inert",
            "X_Mine: passes",
        ],
    );
    assert_eq!(answer.status, 200);
    let came = origin.take_whole().remove(0);
    let odd = came.fields.iter().filter(|(name, _)| name.contains('_'));
    let odd: Vec<_> = odd.map(|(name, _)| name.as_str()).collect();
    assert_eq!(odd, ["authorization_", "x_mine"]);
    assert_eq!(came.all("authorization"), [CREDENTIAL]);
    assert_eq!(came.all("iam-token").len(), 1);
    world.end(proxy);
}

#[test]
fn what_is_end_to_end_arrives_as_it_was() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = origin.proxied(&world, "", "", "");
    let mut request = b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n".to_vec();
    request.extend_from_slice(
        b"X-Bytes: \x80\xff\xe4\tz\r\nX-Two: 1\r\nx-other: o\r\nX-TWO: 2\r\nx-two:\r\n",
    );
    request.extend_from_slice(b"Accept:   spaced   \r\nTraceparent: 00-ab-cd-01\r\nX-Request-Id: r1\r\nVia: 1.0 front\r\n\r\n");
    let got = everything(proxy.address(), &request);
    assert!(got.starts_with(b"HTTP/1.1 200"), "{}", shown(&got));
    let came = origin.take_whole().remove(0);
    assert_eq!(came.all("x-bytes"), [b"\x80\xff\xe4\tz"]);
    assert_eq!(
        came.all("x-two"),
        [&b"1"[..], b"2", b""],
        "repeated, in order"
    );
    assert_eq!(came.all("accept"), [b"spaced"]);
    assert_eq!(came.all("traceparent"), [b"00-ab-cd-01"]);
    assert_eq!(came.all("x-request-id"), [b"r1"]);
    let via = came.all("via");
    assert!(
        via[0] == b"1.0 front" && via[1].starts_with(b"1.1 watsonx-auth-proxy-") && via.len() == 2,
        "{came:?}"
    );

    let old = everything(
        proxy.address(),
        b"GET /x HTTP/1.0\r\nHost: localhost\r\n\r\n",
    );
    assert!(
        old.starts_with(b"HTTP/1.") && old.ends_with(b"GET /x HTTP/1.1"),
        "{}",
        shown(&old)
    );
    let came = origin.take_whole().remove(0);
    assert!(
        came.all("via")[0].starts_with(b"1.0 watsonx-auth-proxy-"),
        "{came:?}"
    );
    world.end(proxy);
}

#[test]
fn forwarded_headers_go_or_grow_by_the_routes_word() {
    let forged = [
        "X-Forwarded-For: 9.9.9.9",
        "X-Forwarded-Host: evil",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Prefix: /x",
        "Forwarded: for=9.9.9.9",
        "Connection: X-Forwarded-For, X-Forwarded-Proto",
    ];
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = origin.proxied(&world, "", "", "");
    let came = sent(&proxy, &origin, &forged);
    assert!(
        !came
            .fields
            .iter()
            .any(|(name, _)| name.contains("forwarded")),
        "{came:?}"
    );
    world.end(proxy);

    let proxy = origin.proxied(&world, "", "", "forwarded = 'append'");
    let came = sent(&proxy, &origin, &forged[..5]);
    assert_eq!(came.all("x-forwarded-for"), [b"9.9.9.9, 127.0.0.1"]);
    assert_eq!(came.all("x-forwarded-host"), [&b"evil, localhost"[..]]);
    assert!(came.all("forwarded").is_empty(), "nothing of ours is in it");
    let port = proxy.address().port();
    let named = sent(&proxy, &origin, &[&format!("Host: localhost:{port}")]);
    let host = format!("localhost:{port}");
    assert_eq!(named.all("x-forwarded-host"), [host.as_bytes()]);
    let nominated = sent(&proxy, &origin, &forged);
    assert_eq!(
        nominated.all("x-forwarded-for"),
        [b"127.0.0.1"],
        "ours survives"
    );
    assert_eq!(
        nominated.all("x-forwarded-proto"),
        [b"http"],
        "ours survives"
    );
    world.end(proxy);
}

#[test]
fn nothing_that_a_client_says_changes_route_or_credential() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = origin.proxied(&world, "", "", "");
    for line in [
        "X-Original-URL: /admin",
        "X-Rewrite-URL: /admin",
        "X-HTTP-Method-Override: DELETE",
        "X-Forwarded-Uri: /admin",
        "User-Agent: kube-probe/1.30",
    ] {
        assert_eq!(sent(&proxy, &origin, &[line]).start, "GET /x HTTP/1.1");
    }
    world.end(proxy);
}

/// The answer of the proxy to an answer with these lines, on a connection that is to stay open.
fn answered(lines: &str) -> (Answer, String) {
    let world = World::new();
    let bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{lines}\r\nok").into_bytes();
    let origin = Origin::answering(move |_| bytes.clone());
    let proxy = origin.proxied(&world, "", "", "");
    let mut stream = client::connect(proxy.address());
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let answer = client::read_one(&mut stream);
    assert_eq!((answer.status, &*answer.text()), (200, "ok"), "{lines}");
    let names = answer
        .head
        .lines()
        .skip(1)
        .filter_map(|line| line.split(':').next());
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    let names = names.join(" ");
    world.end(proxy);
    (answer, names)
}

#[test]
fn what_belongs_to_one_connection_does_not_come_back() {
    let (answer, names) = answered(
        "Connection: keep-alive, X-Named, content-length, date\r\nConnection: X-Second\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: close\r\nProxy-Authenticate: Basic\r\nProxy-Authentication-Info: x\r\nUpgrade: h2c\r\n\
         X-Named: a\r\nX-Second: b\r\nX-Kept: c\r\nX-Kept: d\r\n",
    );
    assert_eq!(names, "content-length date via x-kept x-kept");
    assert_eq!(answer.all("x-kept"), ["c", "d"]);
}

#[test]
fn an_answer_keeps_its_date_and_server_and_gets_a_date_and_via() {
    let (answer, _) = answered(
        "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: zen\r\nVia: 1.1 inner\r\nX-A: \u{e4}\r\n",
    );
    assert_eq!(answer.header("date"), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
    assert_eq!(answer.header("server"), Some("zen"));
    let via = answer.all("via");
    assert!(
        via[0] == "1.1 inner" && via[1].starts_with("1.1 watsonx-auth-proxy-"),
        "{via:?}"
    );
    let (answer, names) = answered("");
    assert_eq!(names, "content-length date via");
    assert!(answer.header("date").unwrap().ends_with(" GMT"));
}
