//! A web page, a rebound DNS name or another unix user must not act with the credential.

use std::os::unix::{fs::PermissionsExt as _, net::UnixStream};

use crate::{client, proxy::World, streams::Http2};

const SPECS: &str = "/ml/v1/foundation_model_specs?version=2025-02-01";

#[test]
fn host_and_origin() {
    let world = World::new();
    let proxy = world.start(
        r#"
listener.local = { address = "127.0.0.1:0", hosts = ["proxy.internal"], origins = ["https://grafana.internal"] }
[route.platform]
path = "/"
upstream = "platform"
attach = "platform"
"#,
    );
    proxy.ready();
    for (lines, details) in [
        (&["Host: evil.example"][..], "host"),
        (&["Host: localhost.evil"], "host"),
        (&["Host: 127.0.0.1.nip.io"], "host"),
        (&["Origin: https://evil.example"], "origin"),
        (&["Origin: null"], "origin"),
        (&["Sec-Fetch-Site: cross-site"], "origin"),
    ] {
        let answer = proxy.get(SPECS, lines);
        assert_eq!(
            (answer.status, answer.code()),
            (403, "caller_not_allowed".into()),
            "{lines:?}"
        );
        assert!(
            answer
                .header("proxy-status")
                .unwrap()
                .contains(&format!("details=\"{details}\"")),
            "{lines:?}"
        );
    }
    assert!(world.got().is_empty());
    for lines in [
        &["Host: LocalHost:99"][..],
        &["Host: proxy.internal"],
        &["Host: [::1]:8080"],
        &["Sec-Fetch-Site: none"],
    ] {
        assert_eq!(proxy.get(SPECS, lines).status, 200, "{lines:?}");
    }

    let listed = "Origin: https://grafana.internal";
    let answer = proxy.get(SPECS, &[listed]);
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, Some("https://grafana.internal"))
    );
    let before = world.got().len();
    let preflight = proxy.send(
        "OPTIONS",
        SPECS,
        &[
            listed,
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: x-a",
        ],
        b"",
    );
    assert_eq!(preflight.status, 204);
    assert_eq!(
        preflight.header("access-control-allow-methods"),
        Some("POST")
    );
    assert_eq!(
        preflight.header("access-control-allow-headers"),
        Some("x-a")
    );
    assert_eq!(world.got().len(), before, "a preflight is answered here");
    let refused = proxy.get("/icp4d-api/v1/authorize", &[listed]);
    assert_eq!(
        (
            refused.status,
            refused.header("access-control-allow-origin")
        ),
        (403, Some("https://grafana.internal"))
    );
    world.end(proxy);
}

#[tokio::test]
async fn a_host_is_judged_alike_in_each_form_that_it_comes_in() {
    let world = World::new();
    let proxy = world.start(
        r#"
listener.local = { address = "127.0.0.1:0", hosts = ["proxy.internal"] }
[route.platform]
path = "/"
upstream = "platform"
attach = "platform"
"#,
    );
    proxy.ready();
    let streams = Http2::connect(proxy.address()).await;
    for (host, status) in [
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("127.0.0.1", 200),
        ("127.9.9.9:80", 200),
        ("[::1]", 200),
        ("[::ffff:127.0.0.1]:80", 200),
        ("Proxy.Internal:443", 200),
        ("localhost.", 403),
        ("localhost.evil", 403),
        ("127.0.0.1.nip.io", 403),
        ("proxy.internal.evil", 403),
        ("evil.example", 403),
        ("[::ffff:192.0.2.1]", 403),
        ("0.0.0.0", 403),
        ("user@localhost", 400),
        ("localhost:80@evil.example", 400),
        ("127.1", 400),
        ("2130706433", 400),
    ] {
        let line = format!("Host: {host}");
        assert_eq!(proxy.get(SPECS, &[&line]).status, status, "{host}");
        let absolute = format!("http://{host}{SPECS}");
        assert_eq!(proxy.get(&absolute, &[&line]).status, status, "{absolute}");
        let request = http::Request::get(&absolute).body(()).unwrap();
        let reply = streams.send(request, None).await;
        // What is no authority at all ends its stream.
        let judged = reply.map_or(400, |reply| reply.status.as_u16());
        assert_eq!(judged, status, ":authority {host}");
    }
    assert_eq!(proxy.get(SPECS, &["Host:"]).status, 400);
    let other = ["Host: localhost"];
    assert_eq!(
        proxy
            .get(&format!("http://evil.example{SPECS}"), &other)
            .status,
        400
    );
    world.end(proxy);
}

#[test]
fn a_link_that_a_person_follows_passes_and_nothing_else_from_elsewhere() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    let link = [
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Mode: navigate",
        "Sec-Fetch-Dest: document",
    ];
    let answer = proxy.get(SPECS, &link);
    assert_eq!(
        (answer.status, answer.header("access-control-allow-origin")),
        (200, None)
    );
    let frame = [link[0], link[1], "Sec-Fetch-Dest: iframe"];
    assert_eq!(proxy.get(SPECS, &frame).status, 403);
    assert_eq!(proxy.send("POST", SPECS, &link, b"").status, 403);
    let with_origin = [&link[..], &["Origin: https://evil.example"]].concat();
    assert_eq!(proxy.get(SPECS, &with_origin).status, 403);
    for line in ["Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: none"] {
        assert_eq!(proxy.get(SPECS, &[line]).status, 200, "{line}");
    }
    assert_eq!(proxy.get(SPECS, &["Sec-Fetch-Site: same-site"]).status, 403);
    world.end(proxy);
}

#[test]
fn unix_sockets() {
    let world = World::new();
    let us = rustix::process::getuid().as_raw();
    let proxy = world.start(&format!(
        r#"
listener.tcp = {{ address = "127.0.0.1:0" }}
listener.ours = {{ address = "unix:ours.sock" }}
listener.others = {{ address = "unix:others.sock", uids = [{}], mode = "0666" }}
[route.platform]
path = "/"
upstream = "platform"
attach = "platform"
"#,
        us + 1
    ));
    proxy.ready();
    let call = |name: &str, host: &str| {
        let stream = UnixStream::connect(world.path(name)).unwrap();
        stream.set_read_timeout(Some(client::PATIENCE)).unwrap();
        client::exchange(stream, &client::request("GET", SPECS, &[host], b""))
    };
    assert_eq!(call("ours.sock", "Host: localhost").status, 200);
    assert_eq!(call("ours.sock", "Host: evil.example").status, 403);
    let refused = call("others.sock", "Host: localhost");
    assert_eq!(
        (refused.status, refused.code()),
        (403, "caller_not_allowed".into())
    );
    assert!(
        refused
            .header("proxy-status")
            .unwrap()
            .contains("details=\"user\"")
    );
    let mode = |name: &str| {
        std::fs::metadata(world.path(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!((mode("ours.sock"), mode("others.sock")), (0o600, 0o666));
    world.end(proxy);
    assert!(
        !world.path("ours.sock").exists(),
        "the file goes with the listener"
    );
}

#[test]
fn routes_of_a_listener() {
    let world = World::new();
    let proxy = world.start(
        r#"
listener.one = { address = "127.0.0.1:0", routes = ["license"] }
[route.license]
path = "/license"
upstream = "license"
attach = "license"
preset = "license-service"
[route.platform]
path = "/"
upstream = "platform"
attach = "platform"
host = "platform.localhost"
"#,
    );
    assert_eq!(proxy.get("/license/products", &[]).status, 200);
    let answer = proxy.get("/ml/v1/x", &[]);
    assert_eq!((answer.status, answer.code()), (404, "no_route".into()));
    world.end(proxy);
}
