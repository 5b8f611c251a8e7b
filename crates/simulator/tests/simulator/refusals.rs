//! 401 in every manner: on chosen paths, before the body, in chunks.

use std::time::Duration;

use http::{StatusCode, header};
use serde_json::json;
use simulator::{Options, Refusal, Simulator};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::client::*;

fn start_plain() -> Simulator {
    Simulator::start(Options {
        tls: false,
        ..Options::default()
    })
    .unwrap()
}

/// A connection on which a request is written by hand.
struct ByHand(TcpStream);

impl ByHand {
    /// Sends a head that promises a body of ten bytes, and none of them.
    async fn send_head(simulator: &Simulator, target: &str, authorization: &str) -> Self {
        let url = simulator.platform_url();
        let host = url.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(host).await.unwrap();
        let head = format!(
            "POST {target} HTTP/1.1\r\nhost: {host}\r\nauthorization: {authorization}\r\n\
             content-length: 10\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        Self(stream)
    }

    /// Reads on until `end` has come.
    async fn read_until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        let read = async {
            while !String::from_utf8_lossy(&text).contains(end) {
                assert_ne!(self.0.read_buf(&mut text).await.unwrap(), 0);
            }
        };
        timeout(Duration::from_secs(30), read).await.unwrap();
        String::from_utf8(text).unwrap()
    }
}

#[tokio::test]
async fn chosen_paths_refuse_even_a_good_token() {
    let simulator = start();
    let token = bearer(&token(&simulator).await);
    simulator.set_refused_paths(&["/ml/v1/text"]);
    let reply = generate_as(&simulator, &token).await;
    assert_eq!(reply.code(), "authentication_token_not_valid");
    let specs = simulator.platform_url() + "/ml/v1/foundation_model_specs?version=2026-01-15";
    let reply = get_as(&simulator, &token, specs).await;
    assert_eq!(reply.status, StatusCode::OK);
    // Logins go on, on whatever path.
    simulator.set_refused_paths(&["/"]);
    assert_eq!(
        generate_as(&simulator, &token).await.status,
        StatusCode::UNAUTHORIZED
    );
    crate::client::token(&simulator).await;
    simulator.set_refused_paths(&[]);
    assert_eq!(generate_as(&simulator, &token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_early_refusal_does_not_wait_for_the_body() {
    let simulator = start_plain();
    let good = token(&simulator).await;
    let old = simulator.revoke_current().unwrap();
    assert_eq!(good, old);
    simulator.set_refusal(Refusal::Early);
    let mut hand = ByHand::send_head(&simulator, GENERATION, &bearer(&old)).await;
    let answer = hand.read_until("\"status_code\":401").await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");

    // The body can still be sent, and the connection goes on.
    hand.0.write_all(b"0123456789").await.unwrap();
    let next = "GET /ml/wml_services/v2/version HTTP/1.1\r\nhost: localhost\r\n\r\n";
    hand.0.write_all(next.as_bytes()).await.unwrap();
    assert!(
        hand.read_until("20260115")
            .await
            .starts_with("HTTP/1.1 200")
    );
    let is_whole = async {
        // What is dropped is read beside everything else.
        while !simulator.requests().iter().rev().nth(1).unwrap().complete {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(30), is_whole).await.unwrap();
    let requests = simulator.requests();
    let [.., early, next] = requests.as_slice() else {
        panic!("two requests were sent");
    };
    assert_eq!(early.body_length, 10);
    assert_eq!(early.connection, next.connection);

    // A good token is asked for its body as always; a path that is refused is not.
    let good = token(&simulator).await;
    assert_eq!(
        generate_as(&simulator, &bearer(&good)).await.status,
        StatusCode::OK
    );
    simulator.set_refused_paths(&["/ml"]);
    let mut hand = ByHand::send_head(&simulator, GENERATION, &bearer(&good)).await;
    assert!(hand.read_until("401").await.starts_with("HTTP/1.1 401"));
    simulator.set_refused_paths(&[]);
    // What is open to everyone does not look at tokens.
    let version = simulator.platform_url() + "/ml/wml_services/v2/version";
    let reply = get_as(&simulator, &bearer(&old), version).await;
    assert_eq!(reply.status, StatusCode::OK);
}

#[tokio::test]
async fn an_early_refusal_of_a_large_body_is_found_by_a_client_that_writes_all_of_it() {
    let simulator = start();
    simulator.set_refusal(Refusal::Early);
    let request =
        post(simulator.platform_url() + GENERATION).header(header::AUTHORIZATION, "Bearer x.y.z");
    let reply = send(&simulator, with_body(request, vec![b'x'; 4 * 1024 * 1024])).await;
    assert_eq!(reply.code(), "authentication_token_not_valid");
}

#[tokio::test]
async fn a_refusal_in_chunks_says_the_same() {
    let simulator = start();
    simulator.set_frame_interval(Duration::from_millis(1));
    simulator.set_refusal(Refusal::Chunked);
    let reply = generate_as(&simulator, "Bearer x.y.z").await;
    assert_eq!(reply.code(), "authentication_token_not_valid");
    assert_eq!(reply.headers[header::TRANSFER_ENCODING], "chunked");
    assert!(!reply.headers.contains_key(header::CONTENT_LENGTH));
    let token = bearer(&token(&simulator).await);
    let reply = generate_as(&simulator, &token).await;
    assert_eq!(reply.status, StatusCode::OK);
    assert!(reply.headers.contains_key(header::CONTENT_LENGTH));
}

#[tokio::test]
async fn the_aids_refuse_likewise() {
    let simulator = start_plain();
    let mut hand = ByHand::send_head(&simulator, "/simulator/early/401", "x").await;
    let answer = hand.read_until("{\"status\":401}").await;
    assert!(answer.starts_with("HTTP/1.1 401"));
    let url = simulator.platform_url() + "/simulator/chunked/401";
    let reply = send(&simulator, post_json(url, &json!({}))).await;
    assert_eq!(reply.status, StatusCode::UNAUTHORIZED);
    assert_eq!(reply.headers[header::TRANSFER_ENCODING], "chunked");
    assert_eq!(reply.json(), json!({ "status": 401 }));
}
