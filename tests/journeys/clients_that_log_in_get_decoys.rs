//! A client that insists on logging in gets a token that is worth nothing, and works with it.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::Request;
use serde_json::Value;

use crate::{
    client::{self, connect, read_one},
    origin::{Origin, assert_credential},
    proxy::{Proxy, World},
    streams::{Http2, uri, within},
};

const FORM: &str = "Content-Type: application/x-www-form-urlencoded";
const JSON: &str = "Content-Type: application/json";

/// Logs in as IBM's clients do; the token.
fn log_in(proxy: &Proxy) -> String {
    let body = br#"{"username":"anybody","api_key":"anything"}"#;
    let lines = [JSON, "X-Request-Id: mine"];
    let answer = proxy.send("POST", "/icp4d-api/v1/authorize", &lines, body);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-request-id"), Some("mine"));
    answer.json()["token"].as_str().unwrap().to_owned()
}

/// The claims of a JWT.
fn claims(token: &str) -> Value {
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

#[test]
fn each_answer_has_the_fields_of_the_real_one() {
    let world = World::new();
    let route = |name: &str, more: &str| {
        format!(
            "[route.{name}]\npath = '/{name}'\nstrip_prefix = true\nupstream = 'platform'\n{more}\n"
        )
    };
    let proxy = world.start(&format!(
        "listener.local = {{ address = '127.0.0.1:0' }}\n{}{}",
        route("decoy", "attach = 'platform'"),
        route("real", "")
    ));
    proxy.ready();
    let simulator = &world.simulator;
    let (key, password) = (simulator.api_key(), simulator.password());
    let password_form: String =
        percent_encoding::utf8_percent_encode(&password, percent_encoding::NON_ALPHANUMERIC)
            .to_string();
    let mcsp = serde_json::json!({ "apikey": simulator.mcsp_api_key() }).to_string();
    let scope = simulator.mcsp_scope();
    let by_password = format!("password: {password}");
    let both: [&[&str]; 4] = [
        &[JSON],
        &[FORM],
        &["username: canary-user", &by_password],
        &[JSON, "Accept: application/json"],
    ];
    let [json, form, headers, accepting] = both;
    let calls = [
        (
            "POST",
            "/icp4d-api/v1/authorize".to_owned(),
            json,
            serde_json::json!({ "username": "canary-user", "api_key": key }).to_string(),
        ),
        (
            "POST",
            "/v1/preauth/signin".to_owned(),
            json,
            serde_json::json!({ "username": "canary-user", "password": password }).to_string(),
        ),
        (
            "POST",
            "/idprovider/v1/auth/identitytoken".to_owned(),
            form,
            format!(
                "grant_type=password&username=canary-user&password={password_form}&scope=openid"
            ),
        ),
        (
            "GET",
            "/v1/preauth/validateAuth".to_owned(),
            headers,
            String::new(),
        ),
        (
            "POST",
            "/identity/token".to_owned(),
            form,
            format!(
                "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&apikey={}&response_type=cloud_iam",
                simulator.iam_api_key()
            ),
        ),
        (
            "POST",
            "/siusermgr/api/1.0/apikeys/token".to_owned(),
            accepting,
            mcsp.clone(),
        ),
        (
            "POST",
            "/api/2.0/apikeys/token".to_owned(),
            accepting,
            mcsp.clone(),
        ),
        (
            "POST",
            "/api/rest/mcsp/apikeys/token".to_owned(),
            accepting,
            mcsp.clone(),
        ),
        (
            "POST",
            format!("/api/2.0/{scope}/apikeys/token?includeRoles=true"),
            accepting,
            mcsp,
        ),
    ];
    for (method, path, lines, body) in calls {
        let send = |route: &str| {
            client::send(
                proxy.address(),
                method,
                &format!("/{route}{path}"),
                lines,
                body.as_bytes(),
            )
        };
        let (real, decoy) = (send("real"), send("decoy"));
        assert_eq!(real.status, 200, "{path}: {}", real.text());
        assert_eq!(decoy.status, real.status, "{path}");
        assert_eq!(decoy.header("content-type"), Some("application/json"));
        assert_eq!(decoy.header("cache-control"), Some("no-store"));
        assert_eq!(
            decoy.header("proxy-status"),
            Some("watsonx-auth-proxy; details=\"decoy\"")
        );
        assert_eq!(decoy.all("set-cookie"), Vec::<&str>::new());
        let (real, decoy) = (real.json(), decoy.json());
        for (field, value) in real.as_object().unwrap() {
            // What IBM's platform says of itself besides, no client reads.
            if ["aud", "authenticator", "ims_user_id"].contains(&&**field) {
                continue;
            }
            let answered = &decoy[field];
            assert_eq!(
                std::mem::discriminant(value),
                std::mem::discriminant(answered),
                "{path} {field}: {value} {answered}"
            );
            if value
                .as_str()
                .is_some_and(|text| text.split('.').count() == 3)
            {
                let claims = claims(answered.as_str().unwrap());
                assert_eq!(claims["iss"], "watsonx-auth-proxy");
                let (iat, exp) = (
                    claims["iat"].as_u64().unwrap(),
                    claims["exp"].as_u64().unwrap(),
                );
                assert_eq!(exp - iat, 12 * 3600);
            }
        }
    }
    world.end(proxy);
}

#[test]
fn with_its_token_a_client_acts_as_any_other() {
    let (world, origin) = (World::new(), Origin::echoing());
    let proxy = origin.proxied(&world, "", "", "");
    let token = log_in(&proxy);
    for forged in [
        format!("Authorization: Bearer {token}"),
        format!("Authorization: ZenApiKey {}", "ZHVtbXk6ZHVtbXk="),
        "Authorization: Basic ZHVtbXk6ZHVtbXk=".to_owned(),
        format!("authorization:Bearer\t{token}"),
    ] {
        let answer = proxy.get("/ml/v1/x?y=z", &[&forged, "Content-Type: text/plain"]);
        assert_eq!(answer.text(), "GET /ml/v1/x?y=z HTTP/1.1");
    }
    let came = origin.take_whole();
    assert_eq!(came.len(), 4);
    for message in came {
        assert_credential(&message);
        let text = format!("{message:?}");
        assert!(
            !text.contains(&token) && !text.contains("ZHVtbXk6"),
            "{text}"
        );
    }
    world.end(proxy);
}

#[test]
fn while_the_platform_and_the_credential_are_away() {
    let world = World::new();
    let proxy = world.start_with(
        "admin = { address = '127.0.0.1:0' }\n[listener.local]\naddress = '127.0.0.1:0'\n\
         [upstream.away]\nurl = 'https://127.0.0.1:1'\n[credential.away.cp4d]\nupstream = 'away'\n\
         username = 'u'\napi_key = { file = 'api-key' }\n\
         [route.away]\npath = '/'\nupstream = 'away'\nattach = 'away'\npreset = 'watsonx'\nmax_in_flight = 1\n",
    );
    log_in(&proxy);
    world.end(proxy);
}

#[test]
fn the_key_that_a_client_sends_goes_nowhere() {
    let (world, origin) = (World::new(), Origin::echoing());
    let proxy = origin.proxied(&world, "keep_alive = '30s'", "", "");
    // In the body, by length and in chunks, and in the headers, on one connection.
    let key = world.simulator.api_key();
    let body = format!(r#"{{"username":"u","api_key":"{key}"}}"#);
    let mut stream = connect(proxy.address());
    let mut send = |head: &str, body: &str| {
        let head = format!("{head}\r\nHost: localhost\r\napikey: {key}\r\n");
        let whole = format!("{head}{body}");
        std::io::Write::write_all(&mut stream, whole.as_bytes()).unwrap();
        read_one(&mut stream)
    };
    let login = "POST /icp4d-api/v1/authorize HTTP/1.1";
    let by_length = format!("Content-Length: {}\r\n\r\n{body}", body.len());
    let in_chunks = format!(
        "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    assert_eq!(send(login, &by_length).status, 200);
    assert_eq!(send(login, &in_chunks).status, 200);
    assert_eq!(send(login, "\r\n").status, 200, "nobody looks at the body");
    let validate = "GET /v1/preauth/validateAuth HTTP/1.1";
    assert_eq!(
        send(validate, &format!("password: {key}\r\n\r\n")).status,
        200
    );
    assert!(origin.take_whole().is_empty());

    let answer = send("GET /after HTTP/1.1", "\r\n");
    assert_eq!(answer.text(), "GET /after HTTP/1.1");
    let lines: Vec<Value> = proxy
        .printed()
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| line["message"] == "request" && line["decoy"] == true)
        .collect();
    assert_eq!(lines.len(), 4);
    for line in lines {
        assert_eq!(
            (&line["status"], &line["code"]),
            (&200.into(), &Value::Null)
        );
        assert_eq!(line["route"], "raw");
    }
    world.end(proxy);
}

#[test]
fn a_body_without_an_end_is_not_read_to_its_end() {
    let (world, origin) = (World::new(), Origin::echoing());
    let proxy = origin.proxied(&world, "", "", "");
    let mut stream = connect(proxy.address());
    let head =
        "POST /identity/token HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n";
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    assert_eq!(
        read_one(&mut stream).status,
        200,
        "nobody waits for the body"
    );
    let piece = [b'x'; 64 << 10];
    let written = (0..4096)
        .take_while(|_| std::io::Write::write_all(&mut stream, &piece).is_ok())
        .count();
    assert!(written < 4096, "256 MiB were read");
    assert!(origin.take_whole().is_empty());
}

#[test]
fn who_may_not_call_gets_none() {
    let (world, origin) = (World::new(), Origin::echoing());
    let proxy = origin.proxied(&world, "origins = ['https://page.example']", "", "");
    let send = |lines: &[&str]| proxy.send("POST", "/icp4d-api/v1/authorize", lines, b"{}");
    for (line, rule) in [
        ("Host: rebound.example", "host"),
        ("Origin: https://evil.example", "origin"),
        ("Sec-Fetch-Site: cross-site", "origin"),
    ] {
        let answer = send(&[line]);
        assert_eq!(
            (answer.status, &*answer.code()),
            (403, "caller_not_allowed")
        );
        assert!(answer.header("proxy-status").unwrap().contains(rule));
    }
    let answer = send(&["Origin: https://page.example"]);
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://page.example")
    );
}

#[test]
fn also_one_that_was_given_no_more_than_the_address() {
    let (world, origin) = (World::new(), Origin::echoing());
    let proxy = origin.proxied(&world, "", "", "");
    let body = br#"{"username":"anybody","api_key":"anything"}"#;
    let answer = proxy.send("POST", "/v1/authorize", &[JSON], body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(claims(&token)["iss"], "watsonx-auth-proxy");
    assert!(origin.take_whole().is_empty());
}

#[test]
fn only_by_the_method_of_the_login() {
    let (world, origin) = (World::new(), Origin::echoing());
    let proxy = origin.proxied(&world, "", "", "");
    for (method, path) in [
        ("GET", "/v1/authorize"),
        ("POST", "/oidc/token"),
        ("PUT", "/instance_identity/v1/token"),
        ("GET", "/icp4d-api/v1/authorize"),
        ("HEAD", "/icp4d-api/v1/authorize"),
        ("PUT", "/icp4d-api/v1/authorize"),
        ("OPTIONS", "/icp4d-api/v1/authorize"),
        ("DELETE", "/identity/token"),
        ("POST", "/v1/preauth/validateAuth"),
        ("HEAD", "/v1/preauth/validateAuth"),
        ("GET", "/api/2.0/accounts/7/apikeys/token"),
        ("POST", "/api/2.0/others/7/apikeys/token"),
        ("POST", "/icp4d-api/v1/users"),
        ("POST", "/icp4d-api/v1/authorize/x"),
    ] {
        let answer = proxy.send(method, path, &[], b"");
        assert_eq!(answer.status, 403, "{method} {path}");
        let status = answer.header("proxy-status").unwrap();
        assert!(status.contains("token_endpoint_denied"), "{status}");
    }
    assert!(origin.take_whole().is_empty());
}

#[test]
fn by_default_only_where_this_machine_alone_can_call() {
    let (world, origin) = (World::new(), Origin::echoing());
    let proxy = world.start_with(&format!(
        "admin = {{ address = '127.0.0.1:0' }}\n\
         [listener.a-mine]\naddress = '127.0.0.1:0'\n\
         [listener.b-shared]\naddress = '0.0.0.0:0'\nanyone = true\nroutes = ['shared', 'said']\n\
         [upstream.raw]\nurl = 'http://{}'\nplain_http = true\n\
         [credential.raw.token]\nvalue = {{ file = 'license-token' }}\nupstream = 'raw'\n\
         [route.mine]\npath = '/mine'\nupstream = 'raw'\nattach = 'raw'\n\
         [route.shared]\npath = '/shared'\nupstream = 'raw'\nattach = 'raw'\npreset = 'watsonx'\n\
         [route.said]\npath = '/said'\nupstream = 'raw'\nattach = 'raw'\npreset = 'watsonx'\ntoken_endpoints = 'decoy'\n\
         [route.nothing]\npath = '/nothing'\nupstream = 'raw'\n",
        origin.address
    ));
    let [mine, shared] = proxy.listeners[..] else {
        panic!("{:?}", proxy.listeners)
    };
    let shared = std::net::SocketAddr::from(([127, 0, 0, 1], shared.port()));
    let status = |listener, route: &str| {
        let path = format!("/{route}/icp4d-api/v1/authorize");
        client::send(listener, "POST", &path, &[], b"{}").status
    };
    assert_eq!(status(mine, "mine"), 200);
    assert_eq!(status(mine, "shared"), 403, "others reach it too");
    assert_eq!(status(shared, "shared"), 403);
    assert_eq!(status(shared, "said"), 200);
    assert!(origin.take_whole().is_empty());
    assert_eq!(status(mine, "nothing"), 200);
    assert_eq!(
        origin.take_whole().len(),
        1,
        "the client's own login, and the upstream's answer"
    );
}

#[test]
fn without_a_file_too() {
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
    proxy.ready();
    let token = log_in(&proxy);
    let bearer = format!("Authorization: Bearer {token}");
    let answer = proxy.get(
        "/ml/v1/foundation_model_specs?version=2025-02-01",
        &[&bearer],
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(!format!("{:?}", world.got_one()).contains(&token));
    world.end(proxy);
}

#[tokio::test]
async fn over_http2_and_to_a_client_that_waits_for_leave() {
    let (world, origin) = (World::new(), Origin::echoing());
    let proxy = origin.proxied(&world, "", "", "");
    let client = Http2::connect(proxy.address()).await;
    for _ in 0..3 {
        let request = Request::post(uri("/icp4d-api/v1/authorize")).body(());
        let body = br#"{"username":"u","api_key":"k"}"#;
        let reply = within(client.send(request.unwrap(), Some(body)))
            .await
            .unwrap();
        assert_eq!(reply.status, 200);
        assert!(reply.text().contains("token"), "{}", reply.text());
    }
    let reply = within(client.get("/after")).await.unwrap();
    assert_eq!(reply.text(), "GET /after HTTP/1.1");

    let lines = ["Expect: 100-continue", "Content-Length: 30"];
    let answer = client::exchange(
        connect(proxy.address()),
        &client::request("POST", "/identity/token", &lines, b""),
    );
    assert_eq!(answer.status, 200, "the body is not asked for");
}
