//! A web page, a rebound DNS name or another unix user must not act with the credential.

use std::os::unix::{fs::PermissionsExt as _, net::UnixStream};

use crate::{client, proxy::World};

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
