//! What each exchange sends and how it takes what comes back, against servers that speak raw bytes.

#![expect(clippy::unwrap_used, reason = "what goes wrong here is a failed test")]

mod cloud;
mod server;
mod steps;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use token_source::{
    Kind, Location, Origin, Redaction, Settings,
    connect::with_causes,
    credential::{Proof, Text},
    exchange::{self, ExchangeError, Grant, Record},
};
use tokio::{io::AsyncWriteExt as _, net::TcpListener, time::sleep};

use server::{
    SECRET, Server, answer, attempt, body_of, literal, read_request, secret_file, token, value,
};

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
    let (_file, password) = secret_file();
    let server = Server::start(vec![token(r#"{"message":"Success","token":"t1"}"#)]).await;
    let username = literal("user");
    let grant = attempt(Kind::Cp4dLdap {
        origin: server.origin(""),
        username,
        password,
    })
    .await
    .unwrap();
    assert_eq!(value(&grant), "t1");
    let request = &server.requests()[0];
    assert!(
        request.starts_with("POST /v1/preauth/signin HTTP/1.1\r\n"),
        "{request}"
    );
    assert_eq!(
        body_of(request),
        r#"{"username":"user","password":"c4nary-s3cret&=+%\""}"#
    );
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

#[tokio::test]
async fn what_is_not_a_token_is_told_apart() {
    use ExchangeError::{Broken, Garbage, Refused, Status, TooLarge};
    let login_page = answer(
        "200 OK",
        "content-type: text/html\r\n",
        "<html>Log in</html>",
    );
    assert!(matches!(authorize(login_page).await, Err(Garbage { .. })));
    assert!(matches!(
        authorize(token(r#"{"token":"a b"}"#)).await,
        Err(Garbage { .. })
    ));
    assert!(matches!(
        authorize(answer("204 No Content", "", "")).await,
        Err(Garbage { .. })
    ));
    assert!(matches!(
        authorize(answer("400 Bad Request", "", "{}")).await,
        Err(Refused { .. })
    ));
    assert!(matches!(
        authorize(answer("503 Service Unavailable", "", "<html>")).await,
        Err(Status { .. })
    ));
    assert!(matches!(
        authorize(b"SSH-2.0-OpenSSH_9.0\r\n".to_vec()).await,
        Err(Broken(_))
    ));
    assert!(matches!(authorize(Vec::new()).await, Err(Broken(_))));
    let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"token\"".to_vec();
    assert!(matches!(authorize(cut).await, Err(Broken(_))));
    let huge = token(&format!(
        r#"{{"token":"t","x":"{}"}}"#,
        "x".repeat(256 << 10)
    ));
    assert!(matches!(authorize(huge).await, Err(TooLarge)));
    let endless = [&b"HTTP/1.1 200 OK\r\n\r\n"[..], &vec![b' '; 1 << 20]].concat();
    assert!(matches!(authorize(endless).await, Err(TooLarge)));
}

#[tokio::test]
async fn redirects_are_not_followed_and_patience_is_asked_for() {
    let elsewhere = Server::start(vec![token(r#"{"token":"t"}"#)]).await;
    let location = format!("location: http://{}/\r\n", elsewhere.address);
    let error = authorize(answer("307 Temporary Redirect", &location, ""))
        .await
        .unwrap_err();
    assert!(matches!(error, ExchangeError::Status { .. }), "{error:?}");
    assert!(elsewhere.requests().is_empty());

    let error = authorize(answer("429 Too Many Requests", "retry-after: 17\r\n", ""))
        .await
        .unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(17)));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let (_file, secret) = secret_file();
    let error = attempt(Kind::Cp4d {
        origin: Origin::parse(&url, Arc::default()).unwrap(),
        username: literal("user"),
        proof: Proof::ApiKey(secret),
        account_id: None,
    })
    .await
    .unwrap_err();
    assert_eq!(error.told(), "the token endpoint cannot be reached");
}

#[tokio::test]
async fn a_missing_secret_contacts_nobody() {
    let server = Server::start(vec![token(r#"{"token":"t"}"#)]).await;
    let place = Location::File {
        path: "/no/such/file".into(),
        field: None,
    };
    let kind = Kind::Cp4d {
        origin: server.origin(""),
        username: literal("user"),
        proof: Proof::ApiKey(place),
        account_id: None,
    };
    assert!(matches!(
        attempt(kind).await,
        Err(ExchangeError::Secret { .. })
    ));
    assert!(server.requests().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_secret_written_in_place_of_its_place_is_not_told() {
    const SLIP: &str = "c4naryDEF0123456789";
    let cases = [
        (Location::Env(SLIP.into()), "environment variable"),
        (Location::Systemd(SLIP.into()), "systemd credential"),
        (
            Location::File {
                path: format!("/{SLIP}").into(),
                field: None,
            },
            "file /…",
        ),
    ];
    for (value, place) in cases {
        let error = attempt(Kind::Token { value }).await.unwrap_err();
        let told = format!("value: {place}: does not exist");
        assert_eq!(with_causes(&error), told);
    }
    let username = Text::Location(Location::Command(vec![SLIP.into()]));
    let secret = Location::Env(SLIP.into());
    let error = attempt(Kind::Basic { username, secret }).await.unwrap_err();
    let told = "username: command: cannot be started";
    assert_eq!(with_causes(&error), told);
}

#[tokio::test]
async fn an_answer_that_drips_is_given_up_after_30_s() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (_file, secret) = secret_file();
    let kind = Kind::Cp4d {
        origin: Origin::parse(&url, Arc::default()).unwrap(),
        username: literal("user"),
        proof: Proof::ApiKey(secret),
        account_id: None,
    };
    let attempt = tokio::spawn(attempt(kind));
    let (mut tcp, _) = listener.accept().await.unwrap();
    read_request(&mut tcp).await;
    tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    // From here on only timers matter: a byte a second, for ever.
    tokio::time::pause();
    let start = token_source::clock::now();
    while !attempt.is_finished() {
        assert!(start.elapsed() < Duration::from_secs(40));
        let _ = tcp.write_all(b" ").await;
        sleep(Duration::from_secs(1)).await;
    }
    assert!(matches!(
        attempt.await.unwrap(),
        Err(ExchangeError::Timeout)
    ));
}

#[tokio::test]
async fn a_record_tells_each_request_and_no_secret() {
    let now = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3600));
    let said = format!("no user svc with password {SECRET}, Canary-IAM-token and id 77777");
    let body = serde_json::json!({ "message": said }).to_string();
    let server = Server::start(vec![
        token(r#"{"access_token":"canary-iam-token"}"#),
        answer("403 Forbidden", &format!("date: {now}\r\n"), &body),
        token(r#"{"access_token":"canary-iam-token"}"#),
    ])
    .await;
    let (_file, password) = secret_file();
    let settings = Settings {
        name: "test".into(),
        kind: Kind::Cp4dIam {
            platform: server.origin("/base"),
            identity: server.origin(""),
            username: literal("svc"),
            password,
            account_id: None,
        },
        lifetime: None,
        wait_for_token: None,
        poll: Duration::from_secs(5),
    };
    let redaction = Arc::new(Redaction::default());
    redaction.add(&"77777".into());
    let record = Record::kept(redaction);
    let exchange = exchange::from_settings(&settings);
    exchange.exchange(&record).await.unwrap_err();
    let steps = record.steps();
    let [first, second] = steps.as_slice() else {
        panic!("{steps:?}")
    };
    assert_eq!(first.path, "/idprovider/v1/auth/identitytoken");
    assert_eq!(
        (first.status, &first.message),
        (Some(200.try_into().unwrap()), &None)
    );
    assert_eq!(first.clock_ahead, None);
    assert_eq!(second.server, format!("http://{}/base", server.address));
    assert_eq!(second.path, "/base/v1/preauth/validateAuth");
    assert_eq!(second.status, Some(403.try_into().unwrap()));
    let message = second.message.as_deref().unwrap();
    assert!(
        message.contains("no user svc with password") && message.contains("id ***"),
        "{message}"
    );
    let ahead = second.clock_ahead.unwrap();
    assert!((3500..=3600).contains(&ahead), "{ahead}");

    // The next attempt finds nobody at its second step.
    exchange.exchange(&record).await.unwrap_err();
    let steps = record.steps();
    assert_eq!(steps.len(), 4);
    assert_eq!((steps[3].status, &steps[3].message), (None, &None));
    let told = format!("{steps:?} {record:?}");
    for secret in [SECRET, "77777", "canary"] {
        assert!(!told.to_lowercase().contains(secret), "{told}");
    }
}

#[tokio::test]
async fn a_server_is_asked_with_a_query_that_nobody_repeats() {
    let server = Server::start(vec![answer(
        "401 Unauthorized",
        "",
        "<html><b>Unauthorized</b>: token=canary%2Btoken</html>",
    )])
    .await;
    let connector = token_source::Connector::new(server.origin("/base"));
    let redaction = Arc::new(Redaction::default());
    redaction.add(&"in-the-path".into());
    redaction.add(&"canary+token".into());
    let record = Record::kept(redaction);
    let target = "/in-the-path/products?token=canary%2Btoken";
    let target = target.parse().unwrap();
    let status = token_source::ask(&connector, target, http::HeaderMap::new(), &record)
        .await
        .unwrap();
    assert_eq!(status, 401);
    assert!(
        server.requests()[0]
            .starts_with("GET /base/in-the-path/products?token=canary%2Btoken HTTP/1.1\r\n")
    );
    let step = record.steps().remove(0);
    assert_eq!(step.path, "/base/***/products");
    assert_eq!(step.message.as_deref(), Some("Unauthorized : token=***"));
}

#[tokio::test]
async fn what_an_answer_held_is_not_repeated_by_a_later_step() {
    let server = Server::start(vec![
        token(r#"{"token":"canary-issued-token"}"#),
        answer("404 Not Found", "", "no /canary-issued-token here"),
    ])
    .await;
    let (_file, password) = secret_file();
    let settings = Settings {
        name: "test".into(),
        kind: Kind::Cp4dLdap {
            origin: server.origin(""),
            username: literal("svc"),
            password,
        },
        lifetime: None,
        wait_for_token: None,
        poll: Duration::from_secs(5),
    };
    let record = Record::kept(Arc::default());
    let exchange = exchange::from_settings(&settings);
    exchange.exchange(&record).await.unwrap();
    let connector = token_source::Connector::new(server.origin(""));
    let target = "/canary-issued-token".parse().unwrap();
    token_source::ask(&connector, target, http::HeaderMap::new(), &record)
        .await
        .unwrap();
    let step = record.steps().remove(1);
    assert_eq!(step.path, "/***");
    assert_eq!(step.message.as_deref(), Some("no /*** here"));
}
