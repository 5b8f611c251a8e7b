//! A credential goes to its own upstream only, and does not come back in an answer.

use crate::{origin::Origin, proxy::World};

#[test]
fn each_upstream_gets_its_own_credential() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    proxy.get("/license/products", &["Host: 127.0.0.1"]);
    proxy.get("/ml/v1/foundation_model_specs?version=2025-02-01", &[]);
    proxy.get("/license/products", &[]);
    let got = world.got();
    assert_eq!(got.len(), 3);
    for request in got {
        let everything = format!("{} {:?}", request.target, request.headers);
        let is_license = request.service == simulator::Service::License;
        assert_eq!(
            everything.contains("canary%2Blicense"),
            is_license,
            "{everything}"
        );
        assert_eq!(
            everything.contains("Bearer ey"),
            !is_license,
            "{everything}"
        );
    }
    world.end(proxy);
}

#[test]
fn redirects_are_passed_on_not_followed() {
    let world = World::new();
    let proxy = world.usual();
    let answer = proxy.get("/simulator/redirect?to=https://elsewhere.example/x", &[]);
    assert_eq!(
        answer.header("location"),
        Some("https://elsewhere.example/x")
    );
    assert!((300..400).contains(&answer.status));
    let ours = format!(
        "/simulator/redirect?to={}/ml/v1/x",
        world.simulator.platform_url()
    );
    assert_eq!(
        proxy.get(&ours, &[]).header("location"),
        Some("/ml/v1/x"),
        "mapped back to the listener"
    );
    let open = format!("{}//evil.example/x", world.simulator.platform_url());
    let answer = proxy.get(&format!("/simulator/redirect?to={open}"), &[]);
    assert_eq!(
        answer.header("location"),
        Some(&*open),
        "not made into another host"
    );
    assert_eq!(world.got().len(), 3, "nobody followed");
    world.end(proxy);
}

#[test]
fn an_answer_that_repeats_the_credential_is_masked() {
    let world = World::new();
    let proxy = world.start(
        r#"
listener.local = { address = "127.0.0.1:0" }
[route.license]
path = "/license"
upstream = "license"
attach = [{ credential = "license", query = "token" }]
strip_prefix = true
[route.platform]
path = "/"
upstream = "platform"
attach = "platform"
"#,
    );
    proxy.ready();
    for target in ["/license/simulator/leak", "/simulator/leak"] {
        let answer = proxy.get(target, &[]);
        crate::proxy::assert_no_secret(&answer.head, &world.secrets());
        assert!(
            answer.head.contains("****"),
            "nothing was there to mask: {}",
            answer.head
        );
        assert!(answer.all("set-cookie").is_empty());
    }
    assert!(proxy.metric("watsonx_auth_proxy_scrubbed_total") >= 2.0);
}

#[test]
fn cookies_are_dropped_both_ways_unless_they_are_passed() {
    let world = World::new();
    let proxy = world.start(
        r#"
listener.local = { address = "127.0.0.1:0" }
[route.dropped]
path = "/"
upstream = "platform"
attach = "platform"
[route.passed]
path = "/passed"
strip_prefix = true
upstream = "platform"
attach = "platform"
cookies = "pass"
"#,
    );
    for (prefix, passes) in [("", false), ("/passed", true)] {
        let answer = proxy.get(&format!("{prefix}/simulator/cookie"), &["Cookie: a=b"]);
        assert_eq!(!answer.all("set-cookie").is_empty(), passes);
        assert_eq!(
            !world
                .got()
                .last()
                .unwrap()
                .header_values("cookie")
                .is_empty(),
            passes
        );
    }
}

#[test]
fn a_route_with_nothing_attached_passes_what_the_client_says() {
    let world = World::new();
    let proxy = world.start("listener.local = { address = '127.0.0.1:0' }\nroute.bare = { path = '/', upstream = 'platform' }\n");
    proxy.get("/ml/v1/x?token=mine", &["Authorization: Bearer mine"]);
    let got = world.got_one();
    assert_eq!(got.header_values("authorization"), ["Bearer mine"]);
    assert_eq!(got.target, "/ml/v1/x?token=mine");
    world.end(proxy);
}

#[test]
fn without_a_credential_the_clients_own_does_not_pass() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = world.start(&format!(
        r#"
listener.local = {{ address = "127.0.0.1:0" }}
[upstream.raw]
url = "http://{}"
plain_http = true
[credential.absent.token]
value = {{ file = "absent" }}
upstream = "raw"
[route.header]
path = "/header"
upstream = "raw"
attach = "absent"
[route.query]
path = "/query"
upstream = "raw"
attach = [{{ credential = "absent", query = "token" }}]
"#,
        origin.address
    ));
    for target in ["/header", "/query?token=mine", "/query?%74oken=mine"] {
        let answer = proxy.get(target, &["Authorization: Bearer mine"]);
        assert_eq!(
            (answer.status, answer.code()),
            (503, "credential_unavailable".into()),
            "{target}"
        );
        assert!(answer.header("retry-after").is_some());
    }
    assert!(origin.take().is_empty(), "something went upstream");
    world.end(proxy);
}
