//! What a record keeps of an attempt, for `doctor`: each request, and no secret.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use token_source::{
    Kind, Redaction, Settings,
    exchange::{self, Record},
};

use crate::server::{SECRET, Server, answer, literal, secret_file, token};

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
            account_id: None,
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
