//! What two readers may take for different requests gets a clear answer, and nothing of it reaches the upstream.

use std::io::{Read as _, Write as _};

use crate::{client, proxy::World};

#[test]
fn nothing_ambiguous_arrives() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    for (request, expected) in [
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
            "400",
        ),
        (
            "GET http://evil/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "400",
        ),
        (
            "GET http://u:p@localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "400",
        ),
        (
            "GET https://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "400",
        ),
        ("TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"),
        ("Trace / HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"),
        ("connect /x HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"),
        (
            "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "405",
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"),
        ("GET * HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"),
        (
            "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: identity\r\n\r\n",
            "400",
        ),
        (
            "POST / HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: +1\r\n\r\na",
            "400",
        ),
        ("GET /a/../b HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"),
        ("GET /a%2fb HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"),
        ("GET /a//b HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"),
        ("GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
            "400",
        ),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nX : a\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\n: a\r\n\r\n", "400"),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\nX: a\r\n folded\r\n\r\n",
            "400",
        ),
    ] {
        let mut stream = client::connect(proxy.address());
        stream.write_all(request.as_bytes()).unwrap();
        let mut start = [0; 12];
        stream
            .read_exact(&mut start)
            .unwrap_or_else(|error| panic!("{request:?}: {error}"));
        assert_eq!(
            &String::from_utf8_lossy(&start)[9..],
            expected,
            "{request:?}"
        );
    }
    assert!(world.got().is_empty(), "{:#?}", world.got());
    assert_eq!(
        proxy.get("/simulator/status/200", &[]).status,
        200,
        "a clean request still gets its answer"
    );
    world.end(proxy);
}

#[test]
fn heads_have_a_limit() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    let large = format!("X-Large: {}", "x".repeat(70_000));
    assert_eq!(proxy.get("/simulator/status/200", &[&large]).status, 431);
    let fits = format!("X-Large: {}", "x".repeat(60_000));
    assert_eq!(proxy.get("/simulator/status/200", &[&fits]).status, 200);
    let many: Vec<String> = (0..101).map(|n| format!("X-{n}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(proxy.get("/simulator/status/200", &many).status, 431);
    assert_eq!(world.got().len(), 1);
    let counted =
        proxy.metric("watsonx_auth_proxy_faults_total{route=\"none\",code=\"head_too_large\"}");
    assert!(counted >= 1.0, "the parser's refusals are counted");
    world.end(proxy);
}

#[test]
fn pipelined_requests_get_their_own_answers() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    let mut stream = client::connect(proxy.address());
    let one =
        |n: u8| format!("GET /simulator/redirect?to=/n{n} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream
        .write_all(format!("{}{}GET /bad path HTTP/1.1\r\n\r\n", one(1), one(2)).as_bytes())
        .unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    let order: Vec<_> = ["location: /n1", "location: /n2", "HTTP/1.1 400"]
        .iter()
        .map(|part| all.find(part))
        .collect();
    assert!(
        order.is_sorted() && order.iter().all(Option::is_some),
        "{all}"
    );
    assert_eq!(world.got().len(), 2);
    world.end(proxy);
}
