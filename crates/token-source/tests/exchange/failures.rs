//! Attempts that come to nothing: each way is told apart, and none is waited for without an end.

use std::{sync::Arc, time::Duration};

use token_source::{
    Kind, Location, Origin,
    connect::with_causes,
    credential::{Proof, Text},
    exchange::ExchangeError,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpSocket},
    time::sleep,
};

use crate::{
    authorize,
    server::{Server, answer, attempt, literal, read_request, secret_file, token},
};

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
    // Bound, so that nobody else is, and not listening.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
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
