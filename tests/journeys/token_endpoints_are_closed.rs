//! Nobody takes the credential away, or mints another one, through the proxy.

use crate::proxy::World;

#[test]
fn in_every_spelling_and_at_every_route_shape() {
    let world = World::new();
    let proxy = world.start(
        r#"
listener.local = { address = "127.0.0.1:0" }
[upstream.based]
url = "PLATFORM/icp4d-api"
tls = { ca = "ca.crt" }
[route.platform]
path = "/"
upstream = "platform"
attach = "platform"
[route.stripped]
path = "/cpd"
strip_prefix = true
upstream = "platform"
attach = "platform"
[route.based]
path = "/based"
strip_prefix = true
upstream = "based"
attach = "platform"
"#
        .replace("PLATFORM", &world.simulator.platform_url())
        .as_str(),
    );
    proxy.ready();
    let logins = world.simulator.logins().authorize.attempts;
    let mut denied = 0;
    for path in [
        "/icp4d-api/v1/authorize",
        "/ICP4D-API/V1/AUTHORIZE",
        "/%69cp4d-api/v1/authorize",
        "/icp4d-api;x=y/v1/authorize",
        "/x/icp4d-api/v1/authorize/",
        "//icp4d-api/v1/authorize",
        "/./icp4d-api/v1/authorize",
        "/x/../icp4d-api/v1/authorize",
        "/x/%2e%2e/icp4d-api/v1/authorize",
        "/icp4d-api%2fv1/authorize",
        "/icp4d-api\\v1\\authorize",
        "/v1/preauth/validateAuth",
        "/v1/preauth/signin",
        "/idprovider/v1/auth/identitytoken",
        "/usermgmt/v1/user/apiKey",
        "/api/v1/usermgmt/v1/user/apiKey",
        "/zen-data/v1/x/secrets",
        "/api/v1/secrets",
        "/identity/token",
        "/auth/login",
        "/lakehouse/api/v2/auth/authenticate",
    ] {
        for (prefix, method) in [("", "GET"), ("", "POST"), ("/cpd", "GET"), ("/cpd", "POST")] {
            let answer = proxy.send(
                method,
                &format!("{prefix}{path}"),
                &["Content-Type: application/json"],
                b"{}",
            );
            let code = answer.code();
            assert!(
                matches!(
                    (answer.status, &*code),
                    (403, "token_endpoint_denied") | (400, "bad_request")
                ),
                "{method} {prefix}{path}: {} {code}",
                answer.status
            );
            denied += u32::from(answer.status == 403);
        }
    }
    assert!(denied >= 50, "{denied}");
    let absolute = proxy.get("http://localhost/usermgmt/v1/user/apiKey", &[]);
    assert_eq!(absolute.code(), "token_endpoint_denied");
    assert_eq!(
        proxy.get("/based/v1/authorize", &[]).code(),
        "token_endpoint_denied",
        "through the base path"
    );
    assert!(
        world.got().is_empty(),
        "something of a refused request arrived: {:#?}",
        world.got()
    );
    assert_eq!(world.simulator.logins().authorize.attempts, logins);
    assert_eq!(
        proxy.get("/usermgmt/v1/user/currentUserInfo", &[]).status,
        200
    );
    assert_eq!(
        proxy
            .get("/api/v1/usermgmt/v1/user/tokenExpiry", &[])
            .code(),
        "",
        "the upstream's answer"
    );
    world.end(proxy);
}

#[test]
fn forward_is_a_waiver() {
    let world = World::new();
    let proxy = world.start(
        "listener.local = { address = '127.0.0.1:0' }\n[route.platform]\npath = '/'\nupstream = 'platform'\n\
         attach = 'platform'\ntoken_endpoints = 'forward'\n",
    );
    assert_eq!(proxy.get("/usermgmt/v1/user/apiKey", &[]).status, 200);
    assert!(
        (proxy.metric("watsonx_auth_proxy_waivers{kind=\"forward\"}") - 1.0).abs() < f64::EPSILON
    );
}
