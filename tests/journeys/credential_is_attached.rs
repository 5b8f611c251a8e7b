//! The credential is there exactly once, and nothing else of the request has changed.

use crate::{
    client,
    proxy::{Proxy, World, command},
};

#[test]
fn bearer_token_to_the_platform() {
    let world = World::new();
    let proxy = world.usual();
    let target = "/ml/v1/foundation_model_specs?version=2025-02-01&a=%20+~&b=;c=%zz&&d";
    let answer = proxy.get(
        target,
        &[
            "X-Mine: one",
            "X-Mine: two",
            "Accept: */*",
            "Traceparent: 00-ab-cd-01",
            "X-Request-Id: r1",
        ],
    );
    assert_eq!(answer.status, 200, "{}", answer.text());

    let got = world.got_one();
    assert_eq!(got.target, target, "byte for byte");
    let bearer = got.header_values("authorization");
    assert_eq!(bearer.len(), 1);
    assert!(
        world
            .simulator
            .tokens_issued()
            .iter()
            .any(|token| bearer[0] == format!("Bearer {token}"))
    );
    assert_eq!(got.header_values("x-mine"), ["one", "two"]);
    assert_eq!(got.header_values("accept"), ["*/*"]);
    assert_eq!(got.header_values("traceparent"), ["00-ab-cd-01"]);
    assert_eq!(got.header_values("x-request-id"), ["r1"]);
    assert_eq!(
        got.header_values("host"),
        [world
            .simulator
            .platform_url()
            .trim_start_matches("https://")]
    );
    assert!(got.header_values("connection").is_empty());
    world.end(proxy);
}

#[test]
fn forged_authentication_never_arrives() {
    let world = World::new();
    let proxy = world.usual();
    for forged in [
        &["Authorization: Bearer forged"][..],
        &[
            "Authorization: Bearer forged",
            "Authorization: Basic Zm9yZ2Vk",
        ],
        &[
            "authorization: basic Zm9yZ2Vk",
            "Proxy-Authorization: Basic Zm9yZ2Vk",
            "Cookie: session=forged",
        ],
        &["Connection: authorization", "Authorization: Bearer forged"],
    ] {
        world.simulator.clear_requests();
        let answer = proxy.get("/ml/v1/foundation_model_specs?version=2025-02-01", forged);
        assert_eq!(answer.status, 200, "{forged:?}: {}", answer.text());
        let got = world.got_one();
        let bearer = got.header_values("authorization");
        assert!(
            bearer.len() == 1 && bearer[0].starts_with("Bearer ey"),
            "{forged:?}"
        );
        let everything = format!("{:?}", got.headers);
        assert!(
            !everything.contains("forged") && !everything.contains("Zm9yZ2Vk"),
            "{everything}"
        );
    }
    world.end(proxy);
}

#[test]
fn license_token_in_the_query() {
    let world = World::new();
    let proxy = world.usual();
    let token = "token=canary%2Blicense%2Ftoken%3D7c";
    for (sent, arrives) in [
        ("/license/products", format!("/products?{token}")),
        ("/license/products?", format!("/products?{token}")),
        (
            "/license/products?startDate=2026-01-01&x=%zz",
            format!("/products?startDate=2026-01-01&x=%zz&{token}"),
        ),
        (
            "/license/products?token=forged",
            format!("/products?{token}"),
        ),
        (
            "/license/products?a=1&token=x&t%6Fken=y;token=z&b=2",
            format!("/products?a=1&b=2&{token}"),
        ),
        (
            "/license/products?%20TOKEN%00=x&token[]=y",
            format!("/products?token[]=y&{token}"),
        ),
    ] {
        world.simulator.clear_requests();
        let answer = proxy.get(sent, &["Authorization: Bearer forged"]);
        assert_eq!(answer.status, 200, "{sent}: {}", answer.text());
        let got = world.got_one();
        assert_eq!(got.target, arrives);
        assert!(got.header_values("authorization").is_empty());
    }
    assert_eq!(proxy.get("/license/version", &[]).status, 200);
    assert_eq!(
        world.got().last().unwrap().target,
        "/version",
        "an open path gets nothing attached"
    );
    for (method, path) in [
        ("POST", "/license/products"),
        ("GET", "/license/workloads"),
        ("GET", "/license"),
    ] {
        let answer = proxy.send(method, path, &[], b"");
        assert_eq!(
            (answer.status, answer.code()),
            (403, "path_not_allowed".into()),
            "{method} {path}"
        );
    }
    assert_eq!(
        proxy.get("/licenses", &[]).status,
        404,
        "the platform's answer: not the license route"
    );
    assert_eq!(world.got().last().unwrap().path(), "/licenses");
    world.end(proxy);
}

#[test]
fn license_service_behind_an_ingress_and_with_a_service_account() {
    let base = "/ibm-licensing-service-instance";
    let world = World::with(|options| {
        options.license_base_path = Some(base.to_owned());
        options.url_based_enabled = false;
    });
    let proxy = world.start(
        r#"
listener.local = { address = "127.0.0.1:0" }
[credential.reader.service_account]
upstream = "license"
value = { file = "sa-token" }
[route.license]
path = "/"
upstream = "license"
attach = "reader"
preset = "license-service"
"#,
    );
    let answer = proxy.get("/products?token=forged&startDate=2026-01-01", &[]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let got = world.got_one();
    assert_eq!(got.target, format!("{base}/products?startDate=2026-01-01"));
    assert_eq!(
        got.header_values("authorization"),
        ["Bearer canary-service-account-91"]
    );
    world.end(proxy);
}

#[test]
fn each_kind_of_login() {
    for (kind, keys) in [
        (
            "cp4d",
            "username = 'canary-user'\npassword = { file = 'password' }",
        ),
        (
            "cp4d_ldap",
            "username = 'canary-user'\npassword = { file = 'password' }",
        ),
        (
            "cp4d_iam",
            "username = 'canary-user'\npassword = { file = 'password' }",
        ),
        (
            "zen_api_key",
            "username = 'canary-user'\napi_key = { file = 'api-key' }",
        ),
    ] {
        let world = World::new();
        let proxy = world.start(&format!(
            "listener.local = {{ address = '127.0.0.1:0' }}\n[credential.other.{kind}]\nupstream = 'platform'\n{keys}\n\
             [route.all]\npath = '/'\nupstream = 'platform'\nattach = 'other'\n"
        ));
        let answer = proxy.get("/ml/v1/foundation_model_specs?version=2025-02-01", &[]);
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
        let scheme = if kind == "zen_api_key" {
            "ZenApiKey "
        } else {
            "Bearer ey"
        };
        assert!(
            world.got_one().header_values("authorization")[0].starts_with(scheme),
            "{kind}"
        );
        world.end(proxy);
    }
}

#[test]
fn one_credential_in_several_places() {
    let world = World::new();
    let proxy = world.start(
        r#"
listener.local = { address = "127.0.0.1:0" }
[route.data]
path = "/"
upstream = "platform"
attach = [{ credential = "platform" }, { credential = "platform", header = "Iam-Token", scheme = "Bearer" }]
set_headers = { LhInstanceId = "1234" }
default_query = { version = "2025-02-01" }
"#,
    );
    let answer = proxy.get(
        "/ml/v1/foundation_model_specs",
        &[
            "Iam-Token: forged",
            "Iam_Token: forged",
            "IAM_TOKEN: forged",
        ],
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let got = world.got_one();
    assert_eq!(
        got.target,
        "/ml/v1/foundation_model_specs?version=2025-02-01"
    );
    assert_eq!(
        got.header_values("iam-token"),
        got.header_values("authorization")
    );
    assert_eq!(got.header_values("iam-token").len(), 1);
    assert!(!format!("{:?}", got.headers).contains("forged"));
    assert_eq!(got.header_values("lhinstanceid"), ["1234"]);
    proxy.get("/ml/v1/foundation_model_specs?version=2024-01-01", &[]);
    assert_eq!(
        world.got().last().unwrap().target,
        "/ml/v1/foundation_model_specs?version=2024-01-01"
    );
    world.end(proxy);
}

#[test]
fn flags_instead_of_a_file() {
    let world = World::new();
    let url = world.simulator.platform_url();
    let arguments = [
        "serve",
        "--upstream",
        &url,
        "--username",
        "canary-user",
        "--api-key-file",
        "api-key",
        "--listen",
        "127.0.0.1:0",
        "--ca",
        "ca.crt",
        "--admin",
        "127.0.0.1:0",
    ];
    let proxy = Proxy::start(&arguments, world.folder.path(), world.secrets());
    assert_eq!(
        proxy
            .get("/ml/v1/foundation_model_specs?version=2025-02-01", &[])
            .status,
        200
    );
    world.end(proxy);
    assert!(
        command(&["serve", "--username", "u"], world.folder.path())
            .output()
            .unwrap()
            .status
            .code()
            == Some(2)
    );
}

#[test]
fn three_hundred_first_requests_cost_one_login() {
    let world = World::new();
    world
        .simulator
        .set_login_delay(std::time::Duration::from_millis(300));
    let proxy = world.usual();
    let address = proxy.address();
    let calls: Vec<_> = (0..300)
        .map(|_| {
            std::thread::spawn(move || {
                client::get(
                    address,
                    "/ml/v1/foundation_model_specs?version=2025-02-01",
                    &[],
                )
                .status
            })
        })
        .collect();
    let statuses: Vec<_> = calls.into_iter().map(|call| call.join().unwrap()).collect();
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(world.simulator.logins().authorize.attempts, 1);
    world.end(proxy);
}
