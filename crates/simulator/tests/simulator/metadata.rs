//! The metadata service of a virtual server: two steps, two sets of paths.

use http::{Request, StatusCode, header};
use serde_json::{Value, json};
use simulator::{Outage, Simulator, TokenState};

use crate::client::*;

const OLD: (&str, &str) = (
    "/instance_identity/v1/token?version=2022-03-01",
    "/instance_identity/v1/iam_token?version=2022-03-01",
);
const NEW: (&str, &str) = (
    "/identity/v1/token?version=2025-08-26",
    "/identity/v1/iam_tokens?version=2025-08-26",
);

async fn put(simulator: &Simulator, target: &str, body: &Value) -> Reply {
    let request = Request::put(simulator.platform_url() + target)
        .header(header::CONTENT_TYPE, "application/json")
        .header("Metadata-Flavor", "ibm");
    send(simulator, with_body(request, body.to_string())).await
}

async fn exchange(simulator: &Simulator, target: &str, token: &str, body: &str) -> Reply {
    let request = post(simulator.platform_url() + target)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, bearer(token));
    send(simulator, with_body(request, body.to_owned())).await
}

fn token(reply: &Reply) -> String {
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply.json()["access_token"].as_str().unwrap().to_owned()
}

/// The code of a refusal, whose form is checked besides.
fn code(reply: &Reply) -> String {
    let body = reply.json();
    assert!(body["trace"].is_string(), "{body}");
    body["errors"][0]["code"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn two_steps_lead_to_a_token_of_the_profile() {
    let simulator = start();
    let profile = simulator.trusted_profile();
    for (first, second) in [OLD, NEW] {
        let reply = put(&simulator, first, &json!({ "expires_in": 300 })).await;
        let instance = token(&reply);
        assert_eq!(reply.json()["expires_in"], 300);
        assert!(reply.json()["expires_at"].as_str().unwrap().ends_with('Z'));
        for body in [
            String::new(),
            "{}".to_owned(),
            json!({ "trusted_profile": { "id": profile.id } }).to_string(),
            json!({ "trusted_profile": { "crn": profile.crn() } }).to_string(),
            json!({ "trusted_profile": { "name": profile.name } }).to_string(),
        ] {
            let reply = exchange(&simulator, second, &instance, &body).await;
            let token = token(&reply);
            assert_eq!(reply.json()["expires_in"], 3600);
            assert_eq!(claims(&token)["sub"], profile.id, "{body}");
            let reply = generate_as(&simulator, &bearer(&token)).await;
            assert_eq!(reply.status, StatusCode::OK);
        }
        // The instance's own token opens nothing.
        let reply = generate_as(&simulator, &bearer(&instance)).await;
        assert_eq!(reply.code(), "authentication_token_not_valid");
    }
    let logins = simulator.logins();
    assert_eq!(logins.instance_token.granted, 2);
    assert_eq!(logins.instance_iam_token.granted, 10);
}

#[tokio::test]
async fn the_version_decides_over_the_paths() {
    let simulator = start();
    for (target, status) in [
        ("/instance_identity/v1/token?version=2025-08-25", 200),
        ("/instance_identity/v1/token?version=2025-08-26", 400),
        ("/instance_identity/v1/token?version=2022-02-28", 400),
        ("/identity/v1/token?version=2026-01-01", 200),
        ("/identity/v1/token?version=2025-08-25", 400),
        ("/identity/v1/token?version=latest", 400),
        ("/identity/v1/token", 400),
        (
            "/identity/v1/token?version=2025-08-26&version=2025-08-26",
            400,
        ),
        ("/identity/v1/token?version=2025-08-26&more=1", 400),
    ] {
        let reply = put(&simulator, target, &json!({})).await;
        assert_eq!(reply.status, status, "{target}");
    }
}

#[tokio::test]
async fn the_first_step_wants_its_header_and_a_lifetime_within_bounds() {
    let simulator = start();
    let bare = Request::put(simulator.platform_url() + OLD.0)
        .header(header::CONTENT_TYPE, "application/json");
    let reply = send(&simulator, with_body(bare, "{}")).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    assert_eq!(code(&reply), "missing_header");
    for (body, right) in [
        (json!({ "expires_in": 5 }), true),
        (json!({ "expires_in": 3600 }), true),
        (json!({ "expires_in": 4 }), false),
        (json!({ "expires_in": 3601 }), false),
        (json!({ "expires_in": "300" }), false),
        (json!({ "lifetime": 300 }), false),
    ] {
        let reply = put(&simulator, OLD.0, &body).await;
        assert_eq!(reply.status == StatusCode::OK, right, "{body}");
    }
    let posted = post(simulator.platform_url() + OLD.0).header("Metadata-Flavor", "ibm");
    let reply = send(&simulator, with_body(posted, "{}")).await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn the_second_step_wants_the_first_ones_token_and_a_linked_profile() {
    let simulator = start();
    let instance = token(&put(&simulator, NEW.0, &json!({ "expires_in": 5 })).await);
    for body in [
        json!({ "trusted_profile": { "id": "Profile-unknown" } }),
        json!({ "trusted_profile": {} }),
        json!({ "trusted_profile": { "id": "x", "crn": "y" } }),
        json!({ "profile": "x" }),
    ] {
        let reply = exchange(&simulator, NEW.1, &instance, &body.to_string()).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{body}");
    }
    let reply = exchange(&simulator, NEW.1, "wrong", "").await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert_eq!(code(&reply), "invalid_token");
    simulator.set_clock_skew(6);
    let reply = exchange(&simulator, NEW.1, &instance, "").await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    let tokens: Vec<_> = simulator
        .requests()
        .into_iter()
        .flat_map(|request| request.tokens)
        .collect();
    let mut expected = vec![TokenState::Valid; 4];
    expected.extend([TokenState::Foreign, TokenState::Expired]);
    assert_eq!(tokens, expected);
}

#[tokio::test]
async fn the_controls_of_logins_reach_it() {
    let simulator = start();
    simulator.set_outage(Some(Outage::RateLimited));
    let reply = put(&simulator, NEW.0, &json!({})).await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(code(&reply), "too_many_requests");
    assert_eq!(simulator.logins().instance_token.attempts, 1);
}
