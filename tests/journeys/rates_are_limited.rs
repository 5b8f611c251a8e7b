//! `rate_limit` counts over all workers, says when to come again, and holds back nobody else.

use http::Request;

use crate::{
    client::{self, Answer},
    proxy::World,
    scripted::scripted,
    streams::{Http2, uri},
};

const KEYS: [&str; 2] = ["canary-key-of-alice-012", "canary-key-of-bob-01234"];

/// Answers by status, in order.
fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status).collect()
}

#[tokio::test]
async fn of_a_route_and_of_a_caller() {
    let world = World::new();
    world.write("alice", KEYS[0]);
    world.write("bob", KEYS[1]);
    let address = scripted(|stream, _| {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        let _ = std::io::Write::write_all(stream, answer);
    });
    let proxy = world.start(&format!(
        r#"
listener.local = {{ address = "127.0.0.1:0", callers = ["alice", "bob"] }}
caller.alice = {{ key = {{ file = "alice" }}, rate_limit = "1/m burst 5" }}
caller.bob = {{ key = {{ file = "bob" }} }}
[upstream.raw]
url = "http://{address}"
plain_http = true
[route.limited]
path = "/limited"
upstream = "raw"
rate_limit = "2/h"
[route.free]
path = "/free"
upstream = "raw"
"#
    ));
    let keys = KEYS.map(|key| format!("X-Proxy-Key: {key}"));
    let [alice, bob] = keys.each_ref();
    // On connections of their own, to whichever worker.
    let get = |target: &str, key: &str| proxy.get(target, &[key]);
    let answers: Vec<_> = (0..6).map(|_| get("/limited", bob)).collect();
    assert_eq!(statuses(&answers), [200, 200, 429, 429, 429, 429]);
    let refused = &answers[2];
    assert_eq!(refused.code(), "rate_limited");
    let seconds: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1700..=1800).contains(&seconds), "{seconds}");

    let answers: Vec<_> = (0..8).map(|_| get("/free", alice)).collect();
    assert_eq!(statuses(&answers), [200, 200, 200, 200, 200, 429, 429, 429]);
    let seconds: u32 = answers[5].header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    for _ in 0..8 {
        assert_eq!(get("/free", bob).status, 200, "nobody else is held back");
    }
    // Who is not known uses up nothing of anybody's.
    assert_eq!(client::get(proxy.address(), "/free", &[]).status, 401);

    let grpc = Http2::connect(proxy.address()).await;
    let request = Request::post(uri("/limited/x.Y/Z"))
        .header("content-type", "application/grpc")
        .header("x-proxy-key", KEYS[1]);
    let reply = grpc
        .send(request.body(()).unwrap(), Some(b""))
        .await
        .unwrap();
    assert_eq!(
        (reply.status.as_u16(), &reply.headers["grpc-status"]),
        (200, &"8".parse().unwrap())
    );
    assert!(reply.headers.contains_key("retry-after"));
    let unknown = Request::post(uri("/limited/x.Y/Z")).header("content-type", "application/grpc");
    let reply = grpc
        .send(unknown.body(()).unwrap(), Some(b""))
        .await
        .unwrap();
    assert_eq!(reply.headers["grpc-status"], "16");

    let fault = |route: &str| {
        let start = "watsonx_auth_proxy_faults_total{route=";
        proxy.metric(&format!("{start}\"{route}\",code=\"rate_limited\"}}"))
    };
    // A caller's comes before its route is looked for.
    assert_eq!((fault("limited"), fault("none")), (5.0, 3.0));
    proxy.end([world.secrets(), KEYS.map(str::to_owned).to_vec()].concat());
}
