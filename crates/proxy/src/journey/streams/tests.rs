use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    thread,
};

use http::{Request, StatusCode};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
    time::timeout,
};

use super::*;
use crate::{
    config::Protocol,
    journey::{
        forward::{
            forward,
            tests::{pool_of, with_pool},
        },
        upload::Upload,
    },
};

/// A server's end of the next connection, after the answer to one request.
fn answered_once(listener: &std::net::TcpListener) -> std::net::TcpStream {
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let mut payload = vec![0; usize::from(head[2])];
        stream.read_exact(&mut payload).unwrap();
        if head[3] == 1 {
            break;
        }
    }
    // HEADERS that end the head and the stream: `:status: 200`.
    let answer = [0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];
    stream.write_all(&answer).unwrap();
    stream
}

async fn post(pool: &Rc<Pool>) -> Result<StatusCode, Fault> {
    let (mut head, ()) = Request::post("/").body(()).unwrap().into_parts();
    head.headers.insert("host", "test".parse().unwrap());
    let ((head, _), _) = forward(pool, &head, Upload::empty(), false).await?;
    Ok(head.status)
}

/// The kernel knows of the end, and nobody has asked yet.
#[test]
fn a_request_that_cannot_be_sent_twice_does_not_meet_a_closed_connection() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = server.try_clone().unwrap();
    let next = move || {
        let listener = listener.try_clone().unwrap();
        thread::spawn(move || answered_once(&listener))
    };
    with_pool(&server, Protocol::Http2, async |pool| {
        let pool = Rc::clone(pool);
        // In a task, as every request is.
        let asking = spawn_local(async move {
            let first = next();
            assert_eq!(post(&pool).await, Ok(StatusCode::OK));
            let open = first.join().unwrap();
            open.shutdown(Shutdown::Write).unwrap();
            let second = next();
            assert_eq!(post(&pool).await, Ok(StatusCode::OK));
            second.join().unwrap();
        });
        asking.await.unwrap();
    });
}

/// Sends a request to a server that treats its connection by `script`; the answer, if one comes within `patience`,
/// and how long that took.
async fn ask(
    script: impl AsyncFnOnce(TcpStream) + 'static,
    patience: Duration,
) -> (Option<Result<(), h2::Error>>, Duration) {
    let asking = async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let pool = pool_of(listener.local_addr().unwrap(), Protocol::Http2, patience);
        spawn_local(async move { script(listener.accept().await.unwrap().0).await });
        let streams = pool.streams.as_ref().unwrap();
        let stream = streams.place(&pool, true).await.unwrap();
        let request = Request::get("http://test/").body(()).unwrap();
        let (answer, _) = stream.sender().send_request(request, true).unwrap();
        let began = Instant::now();
        let outcome = timeout(patience, answer).await;
        (
            outcome.ok().map(|answer| answer.map(|_| ())),
            began.elapsed(),
        )
    };
    LocalSet::new().run_until(asking).await
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_answers_no_ping_holds_no_request() {
    let says_nothing = async |mut stream: TcpStream| {
        // Settings, and then no more.
        stream
            .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
            .await
            .unwrap();
        std::future::pending::<()>().await;
    };
    let (outcome, took) = ask(says_nothing, Duration::from_secs(600)).await;
    assert!(outcome.unwrap().unwrap_err().is_io());
    let bounds = SILENCE + PONG_WITHIN..2 * SILENCE + PONG_WITHIN + Duration::from_secs(5);
    assert!(bounds.contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_is_no_dead_connection() {
    let answers_pings = async |stream: TcpStream| {
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut requests = Vec::new();
        while let Some(Ok(request)) = connection.accept().await {
            requests.push(request);
        }
    };
    let (outcome, _) = ask(answers_pings, Duration::from_secs(1800)).await;
    assert!(outcome.is_none(), "{outcome:?}");
}
