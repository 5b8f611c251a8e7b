//! What each exchange sends and how it takes what comes back, against servers that speak raw bytes.

#![expect(clippy::unwrap_used, reason = "what goes wrong here is a failed test")]

mod cloud;
mod failures;
mod record;
mod server;
mod steps;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use token_source::{
    Kind,
    credential::Proof,
    exchange::{ExchangeError, Grant},
};

use server::{Server, answer, attempt, body_of, literal, secret_file, token, value};

/// A `cp4d` login by API key at a server that gives this answer.
async fn authorize(answer: Vec<u8>) -> Result<Grant, ExchangeError> {
    let server = Server::start(vec![answer]).await;
    let (_file, secret) = secret_file();
    let proof = Proof::ApiKey(secret);
    attempt(Kind::Cp4d {
        origin: server.origin(""),
        username: literal("user"),
        proof,
        account_id: None,
    })
    .await
}

#[tokio::test]
async fn cp4d_posts_a_key_or_a_password_to_authorize() {
    let (_file, secret) = secret_file();
    let good = || token(r#"{"_messageCode_":"200","message":"Success","token":"t1"}"#);
    let server = Server::start(vec![good(), good()]).await;
    let cp4d = |path, proof, account_id| Kind::Cp4d {
        origin: server.origin(path),
        username: literal("us\"er"),
        proof,
        account_id,
    };
    let before = token_source::clock::now();
    let grant = attempt(cp4d("", Proof::ApiKey(secret.clone()), None))
        .await
        .unwrap();
    assert_eq!(value(&grant), "t1");
    // An opaque token lives for ten minutes, counted from when it was asked for.
    let lifetime = Duration::from_secs(600);
    assert!(
        (before + lifetime..=token_source::clock::now() + lifetime)
            .contains(&grant.expires.unwrap())
    );
    attempt(cp4d(
        "/prefix",
        Proof::Password(secret),
        Some(literal("1000")),
    ))
    .await
    .unwrap();

    let requests = server.requests();
    assert!(
        requests[0].starts_with("POST /icp4d-api/v1/authorize HTTP/1.1\r\n"),
        "{}",
        requests[0]
    );
    assert!(requests[0].contains("\r\ncontent-type: application/json\r\n"));
    assert!(requests[0].contains(&format!("\r\nhost: {}\r\n", server.address)));
    assert_eq!(
        body_of(&requests[0]),
        r#"{"username":"us\"er","api_key":"c4nary-s3cret&=+%\""}"#
    );
    assert!(requests[1].starts_with("POST /prefix/icp4d-api/v1/authorize HTTP/1.1\r\n"));
    let expected = r#"{"username":"us\"er","password":"c4nary-s3cret&=+%\"","account_id":"1000"}"#;
    assert_eq!(body_of(&requests[1]), expected);
}

#[tokio::test]
async fn cp4d_ldap_posts_a_password_to_signin() {
    for (account_id, sent) in [(None, ""), (Some("1000"), r#","account_id":"1000""#)] {
        let (_file, password) = secret_file();
        let server = Server::start(vec![token(r#"{"message":"Success","token":"t1"}"#)]).await;
        let grant = attempt(Kind::Cp4dLdap {
            origin: server.origin(""),
            username: literal("user"),
            password,
            account_id: account_id.map(literal),
        })
        .await
        .unwrap();
        assert_eq!(value(&grant), "t1");
        let request = &server.requests()[0];
        assert!(
            request.starts_with("POST /v1/preauth/signin HTTP/1.1\r\n"),
            "{request}"
        );
        let expected = format!(r#"{{"username":"user","password":"c4nary-s3cret&=+%\""{sent}}}"#);
        assert_eq!(body_of(request), expected);
    }
}

#[tokio::test]
async fn cp4d_iam_takes_two_steps() {
    let (_file, password) = secret_file();
    let identity = Server::start(vec![token(
        r#"{"access_token":"iam1","refresh_token":"r","id_token":"i","expires_in":3600}"#,
    )])
    .await;
    let platform = Server::start(vec![token(
        r#"{"username":"u","accessToken":"zen1","message":"success"}"#,
    )])
    .await;
    let kind = Kind::Cp4dIam {
        platform: platform.origin(""),
        identity: identity.origin(""),
        username: literal("us er"),
        password,
        account_id: None,
    };
    let sent = token_source::clock::now();
    let grant = attempt(kind).await.unwrap();
    assert_eq!(value(&grant), "zen1");
    let lifetime = grant.expires.unwrap() - sent;
    assert!(
        lifetime <= Duration::from_secs(3601) && lifetime > Duration::from_secs(3000),
        "{lifetime:?}"
    );

    let request = &identity.requests()[0];
    assert!(
        request.starts_with("POST /idprovider/v1/auth/identitytoken HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("\r\ncontent-type: application/x-www-form-urlencoded;charset=UTF-8\r\n")
    );
    let form =
        "grant_type=password&username=us+er&password=c4nary-s3cret%26%3D%2B%25%22&scope=openid";
    assert_eq!(body_of(request), form);
    let request = &platform.requests()[0];
    assert!(
        request.starts_with("GET /v1/preauth/validateAuth HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("\r\nusername: us er\r\n") && request.contains("\r\niam-token: iam1\r\n"),
        "{request}"
    );
    assert_eq!(body_of(request), "");
}

#[tokio::test]
async fn either_step_of_cp4d_iam_can_fail() {
    let (_file, password) = secret_file();
    let kind = |identity: &Server, platform: &Server, username| Kind::Cp4dIam {
        platform: platform.origin(""),
        identity: identity.origin(""),
        username: literal(username),
        password: password.clone(),
        account_id: None,
    };
    let refused = || answer("401 Unauthorized", "", "");
    let iam = || token(r#"{"access_token":"iam1"}"#);

    let (identity, platform) = (
        Server::start(vec![refused()]).await,
        Server::start(vec![]).await,
    );
    let error = attempt(kind(&identity, &platform, "user"))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ExchangeError::Refused {
                step: "/idprovider/v1/auth/identitytoken",
                ..
            }
        ),
        "{error:?}"
    );

    let (identity, platform) = (
        Server::start(vec![iam()]).await,
        Server::start(vec![refused()]).await,
    );
    let error = attempt(kind(&identity, &platform, "user"))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            ExchangeError::Refused {
                step: "/v1/preauth/validateAuth",
                ..
            }
        ),
        "{error:?}"
    );

    // Nothing is sent for a name that would break the second request.
    let error = attempt(kind(&identity, &platform, "user\r\nx: y"))
        .await
        .unwrap_err();
    assert!(matches!(error, ExchangeError::Username), "{error:?}");
    assert_eq!(identity.requests().len(), 1);
}

#[tokio::test]
async fn a_jwt_lives_from_iat_to_exp_on_our_clock() {
    // Issued by a server whose clock is two hours behind.
    let iat = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        - 7200;
    let payload = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{iat},"exp":{}}}"#, iat + 3600));
    let sent = token_source::clock::now();
    let grant = authorize(token(&format!(r#"{{"token":"e30.{payload}.c2ln"}}"#)))
        .await
        .unwrap();
    // Less the second that a server may have rounded away.
    let lifetime = Duration::from_secs(3599);
    assert!(
        (sent + lifetime..=token_source::clock::now() + lifetime).contains(&grant.expires.unwrap())
    );
    assert!(grant.fixed_end);
}
