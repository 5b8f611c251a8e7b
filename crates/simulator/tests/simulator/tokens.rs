//! What is known of tokens: which one is current, whose it is, and what those that arrive are worth.

use std::time::Duration;

use http::{StatusCode, header};
use simulator::{Options, Service, Simulator, TokenState, TokensSeen};

use crate::client::*;

#[tokio::test]
async fn the_current_token_can_be_voided_and_no_other() {
    let simulator = start();
    assert_eq!(simulator.revoke_current(), None);
    let (old, current) = (token(&simulator).await, token(&simulator).await);
    assert_eq!(simulator.revoke_current().as_ref(), Some(&current));
    let reply = generate_as(&simulator, &bearer(&current)).await;
    assert_eq!(reply.code(), "authentication_token_not_valid");
    let later = token(&simulator).await;
    for token in [old, later] {
        let reply = generate_as(&simulator, &bearer(&token)).await;
        assert_eq!(reply.status, StatusCode::OK);
    }
    assert!(!simulator.revoke("unknown"));
}

#[tokio::test]
async fn a_token_of_another_simulator_is_refused() {
    let (one, other) = (start(), start());
    let token = token(&other).await;
    let reply = generate_as(&one, &bearer(&token)).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert_eq!(one.tokens_seen().foreign, 1);
    let reply = generate_as(&other, &bearer(&token)).await;
    assert_eq!(reply.status, StatusCode::OK);
}

#[tokio::test]
async fn each_request_is_recorded_with_what_its_token_was_worth() {
    let simulator = start();
    simulator.set_token_lifetime(Duration::from_mins(1));
    let (first, second) = (token(&simulator).await, token(&simulator).await);
    simulator.clear_requests();
    generate_as(&simulator, &bearer(&first)).await;
    simulator.revoke(&second);
    generate_as(&simulator, &bearer(&second)).await;
    simulator.set_clock_skew(61);
    generate_as(&simulator, &bearer(&first)).await;
    generate_as(&simulator, "bearer x").await;
    generate_as(&simulator, &encoded("ZenApiKey", "user", "key")).await;
    let twice = get(simulator.platform_url())
        .header(header::AUTHORIZATION, bearer(&first))
        .header("IamToken", bearer("y"));
    send(&simulator, without_body(twice)).await;

    // The earlier ones are told as they were then, not as they are now.
    let tokens: Vec<_> = simulator
        .requests()
        .into_iter()
        .map(|request| request.tokens)
        .collect();
    assert_eq!(
        tokens,
        [
            vec![TokenState::Valid],
            vec![TokenState::Revoked],
            vec![TokenState::Expired],
            vec![TokenState::Foreign],
            vec![],
            vec![TokenState::Expired, TokenState::Foreign],
        ]
    );
    simulator.clear_requests();
    let seen = TokensSeen {
        valid: 1,
        expired: 2,
        revoked: 1,
        foreign: 2,
    };
    assert_eq!(simulator.tokens_seen(), seen);
}

#[tokio::test]
async fn a_platform_token_is_foreign_to_license_service_and_the_other_way_round() {
    let simulator = start();
    let token = token(&simulator).await;
    simulator.clear_requests();
    let products = simulator.license_url() + "/products";
    let by_url = format!("{products}?token={}", simulator.license_token());
    let account = bearer(&simulator.service_account_token());
    get_as(&simulator, &account, by_url.clone()).await;
    get_as(&simulator, &bearer(&token), products.clone()).await;
    send(&simulator, without_body(get(products + "?%74oken=wrong"))).await;
    generate_as(&simulator, &account).await;
    let tokens: Vec<_> = simulator
        .requests()
        .into_iter()
        .map(|request| request.tokens)
        .collect();
    assert_eq!(
        tokens,
        [
            vec![TokenState::Valid, TokenState::Valid],
            vec![TokenState::Foreign],
            vec![TokenState::Foreign],
            vec![TokenState::Foreign],
        ]
    );
}

#[tokio::test]
async fn the_watson_data_apis_may_have_a_host_of_their_own() {
    let options = Options::default();
    let simulator = Simulator::start(Options {
        data_platform_address: Some(options.platform_address),
        ..options
    })
    .unwrap();
    assert_ne!(simulator.data_platform_url(), simulator.platform_url());
    let token = bearer(&token(&simulator).await);
    let project = format!("/v2/projects/{PROJECT}");
    let version = "/ml/wml_services/v2/version";
    for (url, target, status) in [
        (simulator.data_platform_url(), project.as_str(), 200),
        (simulator.platform_url(), &project, 404),
        (simulator.data_platform_url(), version, 404),
        (simulator.platform_url(), version, 200),
        (
            simulator.data_platform_url(),
            "/icp4d-api/v1/authorize",
            404,
        ),
        (simulator.data_platform_url(), "/simulator/echo", 200),
    ] {
        let reply = get_as(&simulator, &token, url + target).await;
        assert_eq!(reply.status, status, "{target}");
    }
    let services: Vec<_> = simulator
        .requests()
        .iter()
        .skip(1)
        .map(|request| request.service)
        .collect();
    assert_eq!(services[..2], [Service::DataPlatform, Service::Platform]);
    assert_eq!(
        start().data_platform_url().len(),
        simulator.platform_url().len()
    );
}
