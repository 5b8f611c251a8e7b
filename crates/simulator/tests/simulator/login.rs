//! The login endpoints: what they take, what they hand out, what they refuse.

use http::{Request, StatusCode, header};
use serde_json::json;
use simulator::{Options, Simulator, Tally};

use crate::client::*;

fn authorize(simulator: &Simulator) -> String {
    simulator.platform_url() + "/icp4d-api/v1/authorize"
}

#[tokio::test]
async fn authorize_takes_one_right_secret_and_nothing_else() {
    let simulator = start();
    let (user, key, password) = (
        simulator.username(),
        simulator.api_key(),
        simulator.password(),
    );
    for (body, status) in [
        (json!({ "username": user, "api_key": key }), 200),
        (json!({ "username": user, "password": password }), 200),
        (
            json!({ "username": user, "password": null, "api_key": key }),
            200,
        ),
        (
            json!({ "username": user, "api_key": key, "account_id": "any" }),
            200,
        ),
        (
            json!({ "username": user, "api_key": key, "password": password }),
            400,
        ),
        (json!({ "username": user }), 400),
        (json!({ "api_key": key }), 400),
        (json!({ "username": user, "api_key": 1 }), 400),
        (json!({ "username": user, "api_key": "wrong" }), 401),
        (json!({ "username": user, "password": key }), 401),
        (json!({ "username": "other", "api_key": key }), 401),
    ] {
        let reply = send(&simulator, post_json(authorize(&simulator), &body)).await;
        assert_eq!(reply.status, status, "{body}");
        if status == 200 {
            let answer = reply.json();
            assert_eq!(answer["_messageCode_"], "200");
            assert_eq!(answer["message"], "Success");
            let claims = claims(answer["token"].as_str().unwrap());
            assert_eq!(claims["iss"], "KNOXSSO");
            assert_eq!(claims["aud"], "DSX");
            assert_eq!(claims["username"], user);
            let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
            assert_eq!(life, 12 * 60 * 60);
        } else {
            assert_eq!(reply.json()["_statusCode_"], status, "{body}");
        }
    }
    let expected = Tally {
        attempts: 11,
        granted: 4,
        refused: 7,
    };
    assert_eq!(simulator.logins().authorize, expected);
}

#[tokio::test]
async fn authorize_takes_only_posted_json() {
    let simulator = start();
    let body = json!({ "username": simulator.username(), "api_key": simulator.api_key() });
    let form = post(authorize(&simulator))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let reply = send(&simulator, with_body(form, body.to_string())).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);

    let broken = post(authorize(&simulator)).header(header::CONTENT_TYPE, "application/json");
    let reply = send(&simulator, with_body(broken, "{")).await;
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);

    let put = Request::put(authorize(&simulator)).header(header::CONTENT_TYPE, "application/json");
    let reply = send(&simulator, with_body(put, body.to_string())).await;
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(reply.headers[header::ALLOW], "POST");
}

#[tokio::test]
async fn a_multi_tenant_platform_wants_its_account() {
    let simulator = Simulator::start(Options {
        account_id: Some("1001".to_owned()),
        ..Options::default()
    })
    .unwrap();
    for (account, status) in [
        (json!("1001"), 200),
        (json!("1002"), 401),
        (json!(null), 401),
    ] {
        let body = json!({
            "username": simulator.username(),
            "api_key": simulator.api_key(),
            "account_id": account,
        });
        let reply = send(&simulator, post_json(authorize(&simulator), &body)).await;
        assert_eq!(reply.status, status, "{account}");
    }
}

async fn identity_token(simulator: &Simulator, form: &str) -> Reply {
    let request = post(simulator.platform_url() + "/idprovider/v1/auth/identitytoken").header(
        header::CONTENT_TYPE,
        "application/x-www-form-urlencoded;charset=UTF-8",
    );
    send(simulator, with_body(request, form.to_owned())).await
}

#[tokio::test]
async fn the_identity_management_service_needs_two_steps() {
    let simulator = Simulator::start(Options {
        password: "p&ss +%w=rd".to_owned(),
        ..Options::default()
    })
    .unwrap();
    let form = "grant_type=password&username=svc-watsonx&password=p%26ss+%2B%25w%3Drd&scope=openid";
    let reply = identity_token(&simulator, form).await;
    assert_eq!(reply.status, StatusCode::OK);
    let identity = reply.json();
    assert_eq!(identity["token_type"], "Bearer");
    assert_eq!(identity["expires_in"], 12 * 60 * 60);
    let access_token = identity["access_token"].as_str().unwrap();

    let validate = simulator.platform_url() + "/v1/preauth/validateAuth";
    let request = get(&validate)
        .header("username", "svc-watsonx")
        .header("iam-token", access_token);
    let validated = send(&simulator, without_body(request)).await.json();
    assert_eq!(validated["_messageCode_"], "success");
    assert!(validated.get("token").is_none());
    let platform_token = validated["accessToken"].as_str().unwrap();
    assert_eq!(
        generate_as(&simulator, &bearer(platform_token))
            .await
            .status,
        StatusCode::OK
    );

    // Neither token of the first step opens the APIs.
    for token in [access_token, identity["id_token"].as_str().unwrap()] {
        let reply = generate_as(&simulator, &bearer(token)).await;
        assert_eq!(reply.code(), "authentication_token_not_valid");
    }
    for form in [
        "grant_type=password&username=svc-watsonx&password=wrong&scope=openid",
        "grant_type=password&username=svc-watsonx&password=p%26ss+%2B%25w%3Drd",
        "grant_type=client_credentials&username=svc-watsonx&scope=openid",
        "username=svc-watsonx&password=p&ss +%w=rd&grant_type=password&scope=openid",
    ] {
        let reply = identity_token(&simulator, form).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{form}");
        assert!(reply.json()["error_description"].is_string());
    }
}

#[tokio::test]
async fn validate_auth_takes_a_password_too() {
    let simulator = start();
    let validate = simulator.platform_url() + "/v1/preauth/validateAuth";
    let (user, password) = (simulator.username(), simulator.password());
    let basic = encoded("Basic", &user, &password);
    let cases = [
        (vec![("authorization", basic.as_str())], 200),
        (vec![("username", &user), ("password", &password)], 200),
        (vec![("username", &user), ("password", "wrong")], 401),
        (vec![("username", &user), ("iam-token", "unknown")], 401),
        (
            vec![
                ("username", &user),
                ("username", &user),
                ("password", &password),
            ],
            401,
        ),
        (vec![], 401),
    ];
    for (headers, status) in cases {
        let request = headers
            .iter()
            .fold(get(&validate), |request, (name, value)| {
                request.header(*name, *value)
            });
        let reply = send(&simulator, without_body(request)).await;
        assert_eq!(reply.status, status, "{headers:?}");
    }
}

#[tokio::test]
async fn signin_opens_a_session() {
    let simulator = start();
    let body = json!({ "username": simulator.username(), "password": simulator.password() });
    let request = post_json(simulator.platform_url() + "/v1/preauth/signin", &body);
    let reply = send(&simulator, request).await;
    assert_eq!(reply.status, StatusCode::OK);
    let cookie = reply.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.starts_with("ibm-private-cloud-session="));
    let answer = reply.json();
    let token = answer["token"].as_str().unwrap();
    assert!(claims(token)["session-id"].is_string());
    let issued = simulator.tokens_issued();
    assert!(issued.iter().any(|secret| secret == token));
    assert!(issued.iter().any(|secret| cookie.contains(secret.as_str())));
}

#[tokio::test]
async fn minting_an_api_key_voids_the_old_one_in_any_spelling() {
    let simulator = start();
    let token = token(&simulator).await;
    for spelling in [
        "/usermgmt/v1/user/apiKey",
        "/api/v1/usermgmt/v1/user/apiKey",
        "//UserMgmt/v1/x/../user/%61pikey;y",
    ] {
        let old = simulator.api_key();
        let url = simulator.platform_url() + spelling;
        let reply = get_as(&simulator, &bearer(&token), url).await;
        let minted = reply.json();
        assert_eq!(minted["_messageCode_"], "success", "{spelling}");
        assert_eq!(minted["apiKey"], simulator.api_key());
        let body = json!({ "username": simulator.username(), "api_key": old });
        let reply = send(&simulator, post_json(authorize(&simulator), &body)).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    }
    let url = simulator.platform_url() + "/usermgmt/v1/user/apiKey";
    let reply = send(&simulator, without_body(get(url))).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_user_can_read_its_own_account() {
    let simulator = start();
    let token = token(&simulator).await;
    let user = simulator.platform_url() + "/usermgmt/v1/user/";
    let info = get_as(
        &simulator,
        &bearer(&token),
        user.clone() + "currentUserInfo",
    )
    .await;
    assert_eq!(info.json()["username"], simulator.username());
    let expiry = get_as(&simulator, &bearer(&token), user + "tokenExpiry").await;
    assert_eq!(expiry.json()["exp"], claims(&token)["exp"]);
}
