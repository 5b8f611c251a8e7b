//! The test controls: outages, garbage, revocation, time, the record of requests, and the aids.

use std::{pin::pin, time::Duration};

use http::{StatusCode, header};
use serde_json::json;
use simulator::{Garbage, Options, Outage, Service, Simulator, fingerprint};
use tokio::time::timeout;

use crate::client::*;

async fn try_login(simulator: &Simulator) -> std::io::Result<Reply> {
    let body = json!({ "username": simulator.username(), "api_key": simulator.api_key() });
    let url = simulator.platform_url() + "/icp4d-api/v1/authorize";
    try_send(simulator, post_json(url, &body)).await
}

#[tokio::test]
async fn an_outage_hits_logins_and_nothing_else() {
    let simulator = start();
    let token = bearer(&token(&simulator).await);
    simulator.set_retry_after(Some(Duration::from_secs(7)));

    simulator.set_outage(Some(Outage::Unavailable));
    let reply = try_login(&simulator).await.unwrap();
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(reply.text().contains("Application is not available"));
    assert_eq!(reply.headers[header::RETRY_AFTER], "7");

    simulator.set_outage(Some(Outage::RateLimited));
    let reply = try_login(&simulator).await.unwrap();
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(reply.headers[header::RETRY_AFTER], "7");

    simulator.set_outage(Some(Outage::Closed));
    assert!(try_login(&simulator).await.is_err());

    simulator.set_outage(Some(Outage::Hanging));
    let mut hanging = pin!(try_login(&simulator));
    while simulator.logins().authorize.attempts < 5 {
        let moment = Duration::from_millis(10);
        assert!(timeout(moment, &mut hanging).await.is_err());
    }
    assert!(timeout(Duration::from_millis(200), hanging).await.is_err());

    assert_eq!(generate_as(&simulator, &token).await.status, StatusCode::OK);
    let logins = simulator.logins().authorize;
    assert_eq!((logins.attempts, logins.granted, logins.refused), (5, 1, 0));

    simulator.set_outage(None);
    assert_eq!(try_login(&simulator).await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn garbage_comes_with_status_200() {
    let simulator = start();
    for (garbage, field) in [
        (Garbage::NoToken, None),
        (Garbage::NullToken, Some(json!(null))),
        (Garbage::EmptyToken, Some(json!(""))),
        (Garbage::NumberToken, Some(json!(42))),
    ] {
        simulator.set_garbage(Some(garbage));
        let reply = try_login(&simulator).await.unwrap();
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.json().get("token"), field.as_ref(), "{garbage:?}");
    }
    simulator.set_garbage(Some(Garbage::TokenWithNewline));
    let reply = try_login(&simulator).await.unwrap().json();
    assert!(reply["token"].as_str().unwrap().contains("\r\n"));
    simulator.set_garbage(Some(Garbage::Html));
    let reply = try_login(&simulator).await.unwrap();
    assert_eq!(reply.status, StatusCode::OK);
    assert!(reply.text().starts_with("<html>"));
}

#[tokio::test]
async fn tokens_end_by_revocation_and_by_the_platforms_clock() {
    let simulator = start();
    let old = bearer(&token(&simulator).await);
    simulator.revoke_all();
    let reply = generate_as(&simulator, &old).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert_eq!(reply.code(), "authentication_token_not_valid");

    simulator.set_token_lifetime(Duration::from_mins(6));
    let new = bearer(&token(&simulator).await);
    assert_eq!(generate_as(&simulator, &new).await.status, StatusCode::OK);
    simulator.set_clock_skew(7 * 60);
    let reply = generate_as(&simulator, &new).await;
    assert_eq!(reply.code(), "authentication_token_expired");
    let skewed = bearer(&token(&simulator).await);
    assert_eq!(
        generate_as(&simulator, &skewed).await.status,
        StatusCode::OK
    );
}

#[tokio::test]
async fn changed_secrets_hold_from_the_next_request_on() {
    let simulator = start();
    let query = format!("?token={}", simulator.license_token());
    simulator.set_license_token("fresh");
    simulator.set_service_account_token("fresh-account");
    let products = simulator.license_url() + "/products";
    let old = send(&simulator, without_body(get(products.clone() + &query))).await;
    assert_eq!(old.status, StatusCode::UNAUTHORIZED);
    let new = send(
        &simulator,
        without_body(get(products.clone() + "?token=fresh")),
    )
    .await;
    assert_eq!(new.status, StatusCode::OK);
    let account = get_as(&simulator, "Bearer fresh-account", products).await;
    assert_eq!(account.status, StatusCode::OK);

    simulator.set_api_key("fresh-key");
    assert_eq!(try_login(&simulator).await.unwrap().status, StatusCode::OK);
    assert_eq!(simulator.api_key(), "fresh-key");
}

#[tokio::test]
async fn requests_are_recorded_as_they_arrived() {
    let simulator = start();
    let request = post(simulator.license_url() + "/simulator/echo?a=%2F&b=1+2")
        .header("x-one", "1")
        .header("x-one", "2");
    send(&simulator, with_body(request, vec![b'x'; 100_000])).await;
    let requests = simulator.requests();
    assert_eq!(requests.len(), 1);
    let request = &requests[0];
    assert_eq!(request.service, Service::License);
    assert_eq!(request.target, "/simulator/echo?a=%2F&b=1+2");
    assert_eq!(request.header_values("x-one"), ["1", "2"]);
    assert_eq!(request.body_length, 100_000);
    assert_eq!(request.body.len(), 64 * 1024);
    assert!(request.complete);
    simulator.clear_requests();
    assert!(simulator.requests().is_empty());
}

#[tokio::test]
async fn aids_do_what_a_test_needs() {
    let simulator = Simulator::start(Options {
        tls: false,
        ..Options::default()
    })
    .unwrap();
    assert!(simulator.platform_url().starts_with("http://"));
    let aid = |path: &str| without_body(get(simulator.platform_url() + "/simulator/" + path));

    let redirect = send(
        &simulator,
        aid("redirect?to=https://elsewhere.example/%3Fx"),
    )
    .await;
    assert_eq!(redirect.status, StatusCode::FOUND);
    assert_eq!(
        redirect.headers[header::LOCATION],
        "https://elsewhere.example/?x"
    );
    assert_eq!(
        send(&simulator, aid("status/418")).await.status,
        StatusCode::IM_A_TEAPOT
    );
    assert_eq!(
        send(&simulator, aid("slow?ms=1")).await.status,
        StatusCode::OK
    );
    let cookies = send(&simulator, aid("cookie")).await;
    assert_eq!(
        cookies.headers.get_all(header::SET_COOKIE).iter().count(),
        2
    );
    let echo = send(&simulator, aid("echo?x")).await.json();
    assert_eq!(echo["target"], "/simulator/echo?x");

    let mirror = post(simulator.platform_url() + "/simulator/mirror");
    let large = vec![b'x'; 10 * 1024 * 1024];
    let mirrored = send(&simulator, with_body(mirror, large.clone())).await;
    assert!(mirrored.body == large, "the mirror changed the body");

    let leak = get(simulator.platform_url() + "/simulator/leak?token=canary")
        .header(header::AUTHORIZATION, "Bearer canary");
    let leak = send(&simulator, without_body(leak)).await;
    assert_eq!(
        leak.headers[header::LOCATION],
        "/simulator/leak?token=canary"
    );
    assert!(leak.text().contains("Bearer canary"));
}

#[tokio::test]
async fn connections_can_be_cut() {
    let simulator = start();
    simulator.set_outage(Some(Outage::Hanging));
    let cut = async {
        // The request is recorded once its connection is being served.
        while simulator.requests().is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        simulator.close_connections();
    };
    let (reply, ()) = timeout(Duration::from_secs(30), async {
        tokio::join!(try_login(&simulator), cut)
    })
    .await
    .unwrap();
    assert!(reply.is_err());
}

#[tokio::test]
async fn another_authority_is_not_trusted() {
    let (one, other) = (start(), start());
    let version = get(one.platform_url() + "/ml/wml_services/v2/version");
    assert!(try_send(&other, without_body(version)).await.is_err());
    assert_ne!(fingerprint(one.ca_pem()), fingerprint(other.ca_pem()));
    assert_ne!(fingerprint(one.leaf_pem()), fingerprint(one.ca_pem()));
}

#[tokio::test]
async fn a_dropped_simulator_stops_listening() {
    let simulator = start();
    let url = simulator.platform_url();
    let request = || without_body(get(url.clone() + "/ml/wml_services/v2/version"));
    assert!(try_send(&simulator, request()).await.is_ok());
    let other = start();
    drop(simulator);
    assert!(try_send(&other, request()).await.is_err());
}

#[test]
fn a_port_in_use_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let options = Options {
        license_address: taken.local_addr().unwrap(),
        ..Options::default()
    };
    let refused = Simulator::start(options).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
}

#[test]
fn nothing_secret_is_in_a_debug_text() {
    let simulator = start();
    let shown = format!("{simulator:?}");
    for secret in [
        simulator.api_key(),
        simulator.password(),
        simulator.license_token(),
    ] {
        assert!(!shown.contains(&secret), "{shown}");
    }
}
