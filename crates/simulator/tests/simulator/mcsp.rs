//! The Multi-Cloud SaaS Platform: its four addresses, its scopes, and what a query puts into the token.

use http::{Request, StatusCode, header};
use serde_json::{Value, json};
use simulator::{Outage, Simulator};

use crate::client::*;

fn v2(simulator: &Simulator) -> String {
    format!("/api/2.0/{}/apikeys/token", simulator.mcsp_scope())
}

async fn ask(simulator: &Simulator, target: &str, body: &Value) -> Reply {
    send(
        simulator,
        post_json(simulator.platform_url() + target, body),
    )
    .await
}

fn token(reply: &Reply) -> String {
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    reply.json()["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_address_gives_a_token_that_opens_the_apis() {
    let simulator = start();
    let body = json!({ "apikey": simulator.mcsp_api_key() });
    for target in [
        "/siusermgr/api/1.0/apikeys/token",
        "/api/2.0/apikeys/token",
        "/api/rest/mcsp/apikeys/token",
        &v2(&simulator),
    ] {
        let reply = ask(&simulator, target, &body).await;
        let answer = reply.json();
        assert_eq!(answer["token_type"], "jwt");
        assert_eq!(answer["expires_in"], 12 * 60 * 60);
        let token = token(&reply);
        let said = claims(&token);
        // Only version 2 tells the instant as well.
        let expiration = (target == v2(&simulator)).then(|| said["exp"].clone());
        assert_eq!(answer.get("expiration"), expiration.as_ref(), "{target}");
        let reply = generate_as(&simulator, &bearer(&token)).await;
        assert_eq!(reply.status, StatusCode::OK, "{target}");
    }
    let logins = simulator.logins();
    for tally in [
        logins.mcsp_v1,
        logins.mcsp_v2,
        logins.mcsp_aws,
        logins.mcsp_gov,
    ] {
        assert_eq!((tally.attempts, tally.granted, tally.refused), (1, 1, 0));
    }
}

#[tokio::test]
async fn what_is_not_right_is_refused() {
    let simulator = start();
    let (v1, v2) = ("/siusermgr/api/1.0/apikeys/token", v2(&simulator));
    let key = simulator.mcsp_api_key();
    let right = json!({ "apikey": key });
    let elsewhere = "/api/2.0/accounts/other/apikeys/token";
    for (target, body, status) in [
        (v1, json!({ "apikey": "wrong" }), 401),
        (v1, json!({ "apikey": simulator.iam_api_key() }), 401),
        (v1, json!({ "apikey": key, "username": "u" }), 400),
        (v1, json!({ "apikey": key, "callerExtClaim": {} }), 400),
        (v1, json!({ "api_key": key }), 400),
        (v1, json!({}), 400),
        (v1, json!([key]), 400),
        (
            "/siusermgr/api/1.0/apikeys/token?includeRoles=true",
            right.clone(),
            400,
        ),
        (&v2.to_uppercase(), right.clone(), 404),
        (elsewhere, right.clone(), 404),
        (&format!("{v2}?includeRoles=yes"), right.clone(), 400),
        (&format!("{v2}?roles=true"), right.clone(), 400),
        (
            &format!("{v2}?includeRoles=true&includeRoles=true"),
            right,
            400,
        ),
    ] {
        let reply = ask(&simulator, target, &body).await;
        assert_eq!(reply.status, status, "{target} {body}");
        assert!(reply.json()["message"].is_string());
    }
    let twice = format!(r#"{{"apikey":"{key}","apikey":"{key}"}}"#);
    let post = |kind| post(simulator.platform_url() + v1).header(header::CONTENT_TYPE, kind);
    let reply = send(&simulator, with_body(post("application/json"), twice)).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    let reply = send(&simulator, with_body(post("text/plain"), "{}")).await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let get = Request::get(simulator.platform_url() + v1);
    let reply = send(&simulator, without_body(get)).await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(simulator.logins().mcsp_v1.granted, 0);
}

#[tokio::test]
async fn version_2_says_in_the_token_what_the_query_asked_for() {
    let simulator = start();
    let v2 = v2(&simulator);
    let key = simulator.mcsp_api_key();
    let plain = json!({ "apikey": key });
    let said = claims(&token(&ask(&simulator, &v2, &plain).await));
    assert_eq!(said["roles"], json!(["Viewer"]));
    assert!(said.get("actions").is_none() && said.get("callerExt").is_none());

    let all = format!(
        "{v2}?includeBuiltinActions=true&includeCustomActions=true&includeRoles=true\
         &prefixRolesWithDefinitionScope=true"
    );
    let body = json!({ "apikey": key, "callerExtClaim": { "productID": "p-1" } });
    let said = claims(&token(&ask(&simulator, &all, &body).await));
    assert_eq!(said["roles"], json!(["service:Viewer"]));
    assert_eq!(said["actions"].as_array().unwrap().len(), 2);
    assert_eq!(said["callerExt"], json!({ "productID": "p-1" }));

    let none = format!("{v2}?includeRoles=false");
    let said = claims(&token(&ask(&simulator, &none, &plain).await));
    assert!(said.get("roles").is_none());
    // A scope may come percent-encoded.
    let encoded = v2.replace("services", "s%65rvices");
    token(&ask(&simulator, &encoded, &plain).await);
}

#[tokio::test]
async fn the_controls_of_logins_reach_it() {
    let simulator = start();
    let body = json!({ "apikey": simulator.mcsp_api_key() });
    simulator.set_outage(Some(Outage::RateLimited));
    let reply = ask(&simulator, "/api/2.0/apikeys/token", &body).await;
    assert_eq!(reply.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(reply.json()["statusCode"], 429);
    simulator.set_outage(None);
    simulator.set_mcsp_api_key("rotated");
    let reply = ask(&simulator, "/api/2.0/apikeys/token", &body).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
}
